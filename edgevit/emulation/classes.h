/* Classes of A64 instructions, by what they do for an inference. Each instruction is in exactly one.
 *
 * Source: Arm Architecture Reference Manual for A-profile (DDI 0487), chapter C4, "A64 instruction set encoding". A
 * pattern names the bits that are fixed (mask) and their values; the first that fits counts.
 */
#include <stddef.h>
#include <stdint.h>

enum { DOT_PRODUCT, MATRIX_PRODUCT, INTEGER_PRODUCT, FLOAT_PRODUCT, SIMD_OTHER, SIMD_MEMORY, MEMORY, BRANCH, INTEGER, OTHER,
       CLASS_COUNT };

static const char *const CLASS_NAMES[CLASS_COUNT] = {
    "dot_products", "matrix_products", "integer_products", "float_products", "simd_other",
    "simd_loads_stores", "loads_stores", "branches", "integer", "other",
};

struct pattern { uint32_t mask, value; int class; };

static const struct pattern PATTERNS[] = {
    { 0x9FE0FC00, 0x0E809400, DOT_PRODUCT },     /* SDOT, UDOT: vectors */
    { 0x9FC0F400, 0x0F80E000, DOT_PRODUCT },     /* SDOT, UDOT: by element */
    { 0xBFE0FC00, 0x0E809C00, DOT_PRODUCT },     /* USDOT: vectors */
    { 0xBF40F400, 0x0F00F000, DOT_PRODUCT },     /* SUDOT, USDOT: by element */
    { 0xDFE0FC00, 0x4E80A400, MATRIX_PRODUCT },  /* SMMLA, UMMLA */
    { 0xFFE0FC00, 0x4E80AC00, MATRIX_PRODUCT },  /* USMMLA */
    { 0x9F20DC00, 0x0E208000, INTEGER_PRODUCT }, /* SMLAL, SMLSL, UMLAL, UMLSL */
    { 0x9F20FC00, 0x0E20C000, INTEGER_PRODUCT }, /* SMULL, UMULL */
    { 0x9F20FC00, 0x0E209400, INTEGER_PRODUCT }, /* MLA, MLS */
    { 0xBF20FC00, 0x0E209C00, INTEGER_PRODUCT }, /* MUL */
    { 0x9F00B400, 0x0F002000, INTEGER_PRODUCT }, /* SMLAL, SMLSL, UMLAL, UMLSL: by element */
    { 0x9F00F400, 0x0F00A000, INTEGER_PRODUCT }, /* SMULL, UMULL: by element */
    { 0xBF00B400, 0x2F000000, INTEGER_PRODUCT }, /* MLA, MLS: by element */
    { 0xBF00F400, 0x0F008000, INTEGER_PRODUCT }, /* MUL: by element */
    { 0xBF20FC00, 0x0E20CC00, FLOAT_PRODUCT },   /* FMLA, FMLS: vectors */
    { 0xBF60FC00, 0x0E400C00, FLOAT_PRODUCT },   /* FMLA, FMLS: vectors of half precision */
    { 0xBF80B400, 0x0F801000, FLOAT_PRODUCT },   /* FMLA, FMLS: by element */
    { 0xBFC0B400, 0x0F001000, FLOAT_PRODUCT },   /* FMLA, FMLS: by element, half precision */
    { 0xFF80B400, 0x5F801000, FLOAT_PRODUCT },   /* FMLA, FMLS: one number, by element */
    { 0xFFC0B400, 0x5F001000, FLOAT_PRODUCT },   /* FMLA, FMLS: one number, by element, half precision */
    { 0xFF000000, 0x1F000000, FLOAT_PRODUCT },   /* FMADD, FMSUB, FNMADD, FNMSUB */
    { 0x0E000000, 0x0E000000, SIMD_OTHER },      /* the rest of SIMD and floating point */
    { 0x0E000000, 0x0C000000, SIMD_MEMORY },     /* loads and stores of vectors and floats */
    { 0x0A000000, 0x08000000, MEMORY },          /* the rest of loads and stores */
    { 0x1C000000, 0x14000000, BRANCH },          /* branches, exceptions, system */
    { 0x1C000000, 0x10000000, INTEGER },         /* data processing, immediate */
    { 0x0E000000, 0x0A000000, INTEGER },         /* data processing, register */
};

static int class_of(uint32_t word)
{
    for (size_t k = 0; k < sizeof PATTERNS / sizeof PATTERNS[0]; k++)
        if ((word & PATTERNS[k].mask) == PATTERNS[k].value)
            return PATTERNS[k].class;
    return OTHER;
}
