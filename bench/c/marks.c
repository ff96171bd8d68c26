/* A QEMU plugin that says when the guest executes given instructions, and counts instructions up to there.
 *
 *   -plugin marks.so,mark=NAME:HEX,mark=NAME:HEX,...[,count=on]
 *
 * HEX is the machine code at a place in the guest, such as a program's entry point. Each time a translation block that
 * begins with it is executed, and under the name `start` before the guest's very first, one line goes to standard output:
 * `mark NAME NANOSECONDS PROCESSOR TRANSLATED EXECUTED`, the first by the host's monotonic clock, the second the processor time that QEMU has taken, in ns too, and then instructions:
 * those that QEMU has translated so far, again if it had to do so again, and with `count=on` those that the guest has executed.
 * Without it nothing that is executed is instrumented, so a boot runs as fast as without the plugin.
 *
 * Both counts are exact on one virtual processor; several would race for the counters.
 *
 * The declarations below are of the plugin interface's version 1, that of QEMU 6.0 to 8.2, which Debian installs without
 * its header. Source: "QEMU TCG Plugins" in QEMU's manual.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_info;

extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int flags, void *);
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int operation, void *, uint64_t);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);

enum { CALLBACK_READS_NO_REGISTERS = 0, ADD_U64 = 0 };
enum { MAX_MARKS = 8, MAX_CODE = 64, MAX_NAME = 32 };

EXPORT int qemu_plugin_version = 1;

struct mark {
    char name[MAX_NAME];
    uint8_t code[MAX_CODE];
    size_t length;
};

static struct mark marks[MAX_MARKS];
static struct mark start = {.name = "start"};
static size_t mark_count;
static bool counting;
static uint64_t instructions;
static uint64_t translations;

static uint64_t nanoseconds(const struct timespec *time)
{
    return (uint64_t)time->tv_sec * 1000000000u + (uint64_t)time->tv_nsec;
}

static void reached(unsigned vcpu, void *data)
{
    const struct mark *mark = data;
    struct timespec now, processor;
    char line[128];
    (void)vcpu;
    clock_gettime(CLOCK_MONOTONIC, &now);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &processor);
    int length = snprintf(line, sizeof line, "mark %s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", mark->name,
                          nanoseconds(&now), nanoseconds(&processor), translations, instructions);
    if (write(STDOUT_FILENO, line, (size_t)length) < 0)
        return; /* Nobody reads: there is nobody to tell either. */
}

/* The block's machine code, as far as a mark may reach. */
static size_t code_of(const struct qemu_plugin_tb *block, uint8_t *code)
{
    size_t length = 0;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); i++) {
        const struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        size_t size = qemu_plugin_insn_size(instruction);
        if (length + size > MAX_CODE)
            break;
        memcpy(code + length, qemu_plugin_insn_data(instruction), size);
        length += size;
    }
    return length;
}

static void translated(plugin_id id, struct qemu_plugin_tb *block)
{
    uint8_t code[MAX_CODE];
    size_t length = code_of(block, code);
    (void)id;
    if (translations == 0)
        reached(0, &start);
    translations += qemu_plugin_tb_n_insns(block);
    for (size_t i = 0; i < mark_count; i++)
        if (length >= marks[i].length && memcmp(code, marks[i].code, marks[i].length) == 0)
            qemu_plugin_register_vcpu_tb_exec_cb(block, reached, CALLBACK_READS_NO_REGISTERS, &marks[i]);
    for (size_t i = 0; counting && i < qemu_plugin_tb_n_insns(block); i++)
        qemu_plugin_register_vcpu_insn_exec_inline(qemu_plugin_tb_get_insn(block, i), ADD_U64, &instructions, 1);
}

/* Reads NAME:HEX. */
static bool add_mark(const char *text)
{
    const char *hex = strchr(text, ':');
    if (!hex || mark_count == MAX_MARKS || (size_t)(hex - text) >= MAX_NAME)
        return false;
    struct mark *mark = &marks[mark_count++];
    memcpy(mark->name, text, (size_t)(hex - text));
    unsigned byte;
    for (hex++; mark->length < MAX_CODE && sscanf(hex, "%2x", &byte) == 1; hex += 2)
        mark->code[mark->length++] = (uint8_t)byte;
    return *hex == '\0' && mark->length > 0;
}

EXPORT int qemu_plugin_install(plugin_id id, const struct qemu_plugin_info *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "count=on") == 0) {
            counting = true;
        } else if (strncmp(argv[i], "mark=", 5) != 0 || !add_mark(argv[i] + 5)) {
            fprintf(stderr, "marks: cannot understand the argument %s\n", argv[i]);
            return -1;
        }
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
