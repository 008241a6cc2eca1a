/* grammar_machine: what a grammar has matched, as a number that stands for a set.
 *
 * Matching is Earley's over the automata of grammar_code.h, made lazily deterministic. A set holds
 * everything that may come next: items (instruction, count, frame). A frame is one call that is
 * under way, made by the set in which the call began; it knows the items that go on when the call
 * returns, with frames of their own: all stacks at once, shared. Sets are found again by what they
 * were made of, so the same bytes in the same surroundings lead to the same number, and each step
 * is computed once.
 *
 * Two frames have no set: GRAMMAR_FRAME_ROOT, whose return is a match of the whole, and
 * GRAMMAR_FRAME_OPEN, whose return leads to surroundings that are not known. Sets over the latter
 * tell what holds for a token wherever its first item stands (grammar_mask.c).
 *
 * Frames nest at most LIMIT_GRAMMAR_DEPTH deep: what could only end deeper is not begun, so every
 * item always leads to an end. Work and memory are bounded; what goes over them is a status.
 *
 * One thread at a time: the engine's.
 */
#ifndef CHORUS_GRAMMAR_GRAMMAR_MACHINE_H
#define CHORUS_GRAMMAR_GRAMMAR_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/grammar/grammar_code.h"

#define GRAMMAR_FRAME_ROOT 0u
#define GRAMMAR_FRAME_OPEN 1u

#define GRAMMAR_SET_UNKNOWN 0u /* in `next`: not computed yet */
#define GRAMMAR_SET_DEAD    1u

struct grammar_item {
    uint32_t at; /* instruction */
    uint32_t count;
    uint32_t frame;
};

struct grammar_set {
    uint32_t hash;
    uint32_t kernel; /* items[kernel, + kernel_count), sorted: what it was made of */
    uint32_t kernel_count;
    uint32_t scan; /* items[scan, + scan_count): bytes that may come */
    uint32_t scan_count;
    uint32_t next;  /* nexts[next + class]: where a byte leads */
    uint32_t shape; /* of grammar_mask.c, plus 1; 0: not known */
    uint32_t plain; /* of grammar_plain.c, plus 1; 0: not asked yet */
    uint16_t depth; /* deepest frame of the kernel */
    uint16_t rise;  /* levels that its items need, from the top; UINT16_MAX: some were left out */
    bool accepts;   /* the whole may end here */
    bool escapes;   /* a call of unknown surroundings returned here */
};

struct grammar_frame {
    uint32_t returns; /* items[returns, + return_count) */
    uint32_t return_count;
    uint16_t depth;
};

struct grammar_masks; /* grammar_mask.c's */
struct grammar_plain;
struct grammar_state;

struct grammar_machine {
    const struct grammar *g; /* borrowed: its owner */
    struct grammar_item *items;
    size_t item_count, item_cap;
    struct grammar_set *sets;
    size_t set_count, set_cap;
    struct grammar_frame *frames;
    size_t frame_count, frame_cap;
    uint32_t *nexts;
    size_t next_count, next_cap;
    uint32_t *table; /* open addressing over sets */
    size_t table_slots;
    uint64_t work;                /* items looked at */
    uint64_t work_end;            /* where the operation under way gives up */
    struct grammar_state *first;  /* all states alive */
    struct grammar_masks *masks;  /* owned */
    struct grammar_plain *plains; /* owned, of sets: grammar_plain.h */
    size_t plain_count, plain_cap;

    /* scratch of one closure */
    struct grammar_item *list;
    size_t list_count, list_cap;
    uint32_t *seen; /* open addressing, index into list + 1; cleared by walking the list */
    size_t seen_slots;
    struct grammar_item *gone; /* returns in order of discovery */
    uint32_t *gone_frame;
    size_t gone_count, gone_cap, gone_frame_cap;
    struct grammar_item *kernel;
    size_t kernel_count, kernel_cap;
    uint32_t *frame_of; /* [code_count] frame that the set under way made for a call of this code */
    uint32_t *frame_of_set; /* [code_count] for which set that holds */
};

/* NULL when memory is out. */
WARN_UNUSED enum status grammar_machine_create(const struct grammar *g,
                                               struct grammar_machine **out);
/* NULL is allowed. */
void grammar_machine_destroy(struct grammar_machine *m);

/* The set before the first byte. */
WARN_UNUSED enum status grammar_machine_start(struct grammar_machine *m, uint32_t *set);
/* The set of these items (sorted here; duplicates go). */
WARN_UNUSED enum status grammar_machine_set(struct grammar_machine *m, struct grammar_item *items,
                                            size_t count, uint32_t *set);
/* After one more byte of class `c`; GRAMMAR_SET_DEAD: it may not come. */
WARN_UNUSED enum status grammar_machine_step(struct grammar_machine *m, uint32_t set, int c,
                                             uint32_t *next);
/* What `set` may go on with on its own level and on all levels that may end here: items of the
 * kernel and of returns, in m->list [m->list_count], without frames that are new. */
WARN_UNUSED enum status grammar_machine_level(struct grammar_machine *m, uint32_t set);
/* Begins an operation with a budget of work. Frees what no state needs when there is too much of
 * it; numbers of sets are then new, those of states are told. */
WARN_UNUSED enum status grammar_machine_begin(struct grammar_machine *m);
size_t grammar_machine_bytes(const struct grammar_machine *m);

#endif
