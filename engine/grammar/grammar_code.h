/* grammar_code: the compiled form of a grammar. Inside engine/grammar only.
 *
 * Every rule, and every body of a counted repetition, is a small nondeterministic automaton of
 * instructions that ends in the one CODE_RETURN (index 0). A call in tail position is a plain jump,
 * so right recursion takes no room while matching. Targets never are jumps.
 *
 * need: levels of calls that finishing from here takes at least; GRAMMAR_NEED_NEVER: it cannot be
 * finished. Whoever follows only instructions with need <= levels left always gets to an end.
 */
#ifndef CHORUS_GRAMMAR_GRAMMAR_CODE_H
#define CHORUS_GRAMMAR_GRAMMAR_CODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/grammar/grammar.h"

enum code_op {
    CODE_RETURN,
    CODE_NEVER,
    CODE_BYTE,  /* first .. last, then next */
    CODE_SPLIT, /* targets[arg .. arg + next) */
    CODE_CALL,  /* the automaton at arg, then next */
    CODE_COUNT, /* counts[arg].body counts[arg].min .. max times, then next */
    CODE_JUMP   /* next; only while compiling */
};

#define GRAMMAR_NEED_NEVER UINT16_MAX
#define GRAMMAR_RETURN     0u /* where CODE_RETURN and CODE_NEVER stand */
#define GRAMMAR_NEVER      1u

struct code {
    uint8_t op;
    uint8_t first;
    uint8_t last;
    uint8_t empty; /* bool: the end can be reached from here without a byte */
    uint32_t next;
    uint32_t arg;
};

/* The body matches at least one byte each time: what may be empty has min 0. */
struct code_count {
    uint32_t body;
    uint32_t min;
    uint32_t max; /* bytes are fewer than UINT32_MAX: no bound needed */
};

struct grammar_machine;

struct grammar {
    atomic_int refs;
    uint32_t start;
    struct code *code; /* owned */
    uint16_t *need;    /* owned, [code_count] */
    size_t code_count;
    size_t code_cap;
    uint32_t *targets; /* owned */
    size_t target_count;
    size_t target_cap;
    struct code_count *counts; /* owned */
    size_t count_count;
    size_t count_cap;
    /* Bytes that no instruction tells apart are one class. */
    uint8_t class_of[256];
    uint8_t class_byte[256]; /* one byte of each class */
    int class_count;
    atomic_size_t machine_bytes; /* of the machine, as it was at its last operation */
    /* The engine thread's; owned. NULL until the first state. */
    struct grammar_machine *machine;
};

/* Jumps, emptiness, need, classes. STATUS_INVALID: nothing matches; STATUS_LIMIT: only by more than
 * LIMIT_GRAMMAR_DEPTH levels. */
WARN_UNUSED enum status grammar_code_finish(struct grammar *g, struct err *e);

#endif
