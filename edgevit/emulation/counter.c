/* A plugin for user-mode qemu: counts the A64 instructions between two marks, by class.
 *
 * A mark is the system call sched_get_priority_max with a policy that no kernel has (guest.py). When the second comes,
 * one JSON object goes to the file that the argument out= names. A translation block that a signal leaves early counts
 * whole, and threads count into the same numbers without a lock: meant for one busy thread.
 *
 * Written for version 1 of the plugin interface (tried with qemu 7.2), whose parts in use are declared here, since
 * distributions ship no header. Source: QEMU 7.2, include/qemu/qemu-plugin.h.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "classes.h"

#define EXPORTED __attribute__((visibility("default")))
#define SCHED_GET_PRIORITY_MAX 125
#define MARK_BEGIN 0x0ED6E001u
#define MARK_END 0x0ED6E002u
#define NO_REGISTERS 0

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int, void *);
void qemu_plugin_register_vcpu_syscall_cb(
    plugin_id, void (*)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                        uint64_t));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);

EXPORTED int qemu_plugin_version = 1;

struct block { uint32_t of_class[CLASS_COUNT]; };

static uint64_t counted[CLASS_COUNT];
static int is_counting;
static const char *target;

static void on_run(unsigned cpu, void *data)
{
    (void)cpu;
    if (!is_counting)
        return;
    const struct block *block = data;
    for (int k = 0; k < CLASS_COUNT; k++)
        counted[k] += block->of_class[k];
}

static void on_translation(plugin_id id, struct qemu_plugin_tb *translated)
{
    (void)id;
    struct block *block = calloc(1, sizeof *block); /* lives as long as the translation may: until the end */
    if (!block)
        abort();
    for (size_t k = 0; k < qemu_plugin_tb_n_insns(translated); k++) {
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(translated, k)), sizeof word);
        block->of_class[class_of(word)]++;
    }
    qemu_plugin_register_vcpu_tb_exec_cb(translated, on_run, NO_REGISTERS, block);
}

static void write_counts(void)
{
    FILE *file = fopen(target, "w");
    if (!file)
        return;
    for (int k = 0; k < CLASS_COUNT; k++)
        fprintf(file, "%s\"%s\": %" PRIu64, k ? ", " : "{", CLASS_NAMES[k], counted[k]);
    fprintf(file, "}\n");
    fclose(file);
}

static void on_call(plugin_id id, unsigned cpu, int64_t number, uint64_t policy, uint64_t a2, uint64_t a3, uint64_t a4,
                    uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    (void)id, (void)cpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != SCHED_GET_PRIORITY_MAX)
        return;
    if ((uint32_t)policy == MARK_BEGIN) {
        memset(counted, 0, sizeof counted);
        is_counting = 1;
    } else if ((uint32_t)policy == MARK_END && is_counting) {
        is_counting = 0;
        write_counts();
    }
}

EXPORTED int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) != 0 || !(target = strdup(argv[0] + 4)))
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_call);
    return 0;
}
