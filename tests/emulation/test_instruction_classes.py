"""The classifier of the instruction counter, against words whose fields were put together by hand."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevit.emulation.report import InstructionCounts

ROOM = Path(__file__).resolve().parents[2] / "edgevit/emulation"
# Operands are V0 or X0, V1 or X1, V2 or X2 unless the text says otherwise. Source of the fields: Arm ARM, chapter C4.
WORDS = [
    (0x4E829420, "sdot v0.4s, v1.16b, v2.16b", "dot_products"),
    (0x6E829420, "udot v0.4s, v1.16b, v2.16b", "dot_products"),
    (0x4F82E020, "sdot v0.4s, v1.16b, v2.4b[0]", "dot_products"),
    (0x6FA2E820, "udot v0.4s, v1.16b, v2.4b[3]", "dot_products"),
    (0x4E829C20, "usdot v0.4s, v1.16b, v2.16b", "dot_products"),
    (0x4F02F020, "sudot v0.4s, v1.16b, v2.4b[0]", "dot_products"),
    (0x4F82F020, "usdot v0.4s, v1.16b, v2.4b[0]", "dot_products"),
    (0x4E82A420, "smmla v0.4s, v1.16b, v2.16b", "matrix_products"),
    (0x6E82A420, "ummla v0.4s, v1.16b, v2.16b", "matrix_products"),
    (0x4E82AC20, "usmmla v0.4s, v1.16b, v2.16b", "matrix_products"),
    (0x0E228020, "smlal v0.8h, v1.8b, v2.8b", "integer_products"),
    (0x2E22A020, "umlsl v0.8h, v1.8b, v2.8b", "integer_products"),
    (0x4E22C020, "smull2 v0.8h, v1.16b, v2.16b", "integer_products"),
    (0x4E629420, "mla v0.8h, v1.8h, v2.8h", "integer_products"),
    (0x4EA29C20, "mul v0.4s, v1.4s, v2.4s", "integer_products"),
    (0x0F422020, "smlal v0.4s, v1.4h, v2.h[0]", "integer_products"),
    (0x4F42A020, "smull2 v0.4s, v1.8h, v2.h[0]", "integer_products"),
    (0x2F420020, "mla v0.4h, v1.4h, v2.h[0]", "integer_products"),
    (0x4F428020, "mul v0.8h, v1.8h, v2.h[0]", "integer_products"),
    (0x4E22CC20, "fmla v0.4s, v1.4s, v2.4s", "float_products"),
    (0x4EA2CC20, "fmls v0.4s, v1.4s, v2.4s", "float_products"),
    (0x4E420C20, "fmla v0.8h, v1.8h, v2.8h", "float_products"),
    (0x4F821020, "fmla v0.4s, v1.4s, v2.s[0]", "float_products"),
    (0x4F021020, "fmla v0.8h, v1.8h, v2.h[0]", "float_products"),
    (0x5F821020, "fmla s0, s1, v2.s[0]", "float_products"),
    (0x1F020C20, "fmadd s0, s1, s2, s3", "float_products"),
    (0x4E22D420, "fadd v0.4s, v1.4s, v2.4s", "simd_other"),
    (0x6E22DC20, "fmul v0.4s, v1.4s, v2.4s", "simd_other"),
    (0x4EA28420, "add v0.4s, v1.4s, v2.4s", "simd_other"),
    (0x4E206820, "sadalp v0.8h, v1.16b", "simd_other"),
    (0x1E222820, "fadd s0, s1, s2", "simd_other"),
    (0x4F00E420, "movi v0.16b, #1", "simd_other"),
    (0x0E22E020, "pmull v0.8h, v1.8b, v2.8b", "simd_other"),
    (0x3DC00020, "ldr q0, [x1]", "simd_loads_stores"),
    (0xAD400420, "ldp q0, q1, [x1]", "simd_loads_stores"),
    (0x4C407820, "ld1 {v0.4s}, [x1]", "simd_loads_stores"),
    (0xF9400020, "ldr x0, [x1]", "loads_stores"),
    (0xA9BF7BFD, "stp x29, x30, [sp, #-16]!", "loads_stores"),
    (0xB8227820, "str w0, [x1, x2, lsl #2]", "loads_stores"),
    (0x14000001, "b #4", "branches"),
    (0xD65F03C0, "ret", "branches"),
    (0xD4000001, "svc #0", "branches"),
    (0xD53BD040, "mrs x0, tpidr_el0", "branches"),
    (0xD503201F, "nop", "branches"),
    (0x91000420, "add x0, x1, #1", "integer"),
    (0x8B020020, "add x0, x1, x2", "integer"),
    (0x9B027C20, "mul x0, x1, x2", "integer"),
    (0x00000000, "udf #0", "other"),
    (0x04220020, "add z0.b, z1.b, z2.b", "other"),
]


@pytest.fixture(scope="module")
def class_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], str]:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is missing: apt-get install gcc libc6-dev")
    library = tmp_path_factory.mktemp("classes") / "classes.so"
    source = '#include "classes.h"\nconst char *name_of(uint32_t word) { return CLASS_NAMES[class_of(word)]; }\n'
    words = [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-I", str(ROOM), "-o", str(library), "-x", "c", "-"]
    subprocess.run(words, input=source.encode(), check=True)
    name_of = ctypes.CDLL(str(library)).name_of
    name_of.argtypes, name_of.restype = [ctypes.c_uint32], ctypes.c_char_p

    def named(word: int) -> str:
        name: bytes = name_of(word)
        return name.decode()

    return named


@pytest.mark.parametrize(("word", "text", "expected"), WORDS, ids=[text for _, text, _ in WORDS])
def test_an_instruction_is_in_its_class(class_of: Callable[[int], str], word: int, text: str, expected: str) -> None:
    assert class_of(word) == expected


def test_the_report_has_the_classes_of_the_plugin() -> None:
    listed = re.search(r"CLASS_NAMES\[CLASS_COUNT\] = \{(.+?)\};", (ROOM / "classes.h").read_text(), re.DOTALL)
    assert listed is not None
    assert re.findall(r'"(\w+)"', listed[1]) == list(InstructionCounts.model_fields)


def test_guest_and_plugin_mean_the_same_marks() -> None:
    marks = r"MARK_(?:BEGIN|END) (0x[0-9A-F]+)u"
    python = re.search(r"MARK_BEGIN, MARK_END = (0x\w+), (0x\w+)", (ROOM / "guest.py").read_text())
    assert python is not None
    assert re.findall(marks, (ROOM / "counter.c").read_text()) == list(python.groups())
