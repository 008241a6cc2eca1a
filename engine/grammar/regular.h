/* regular: regular languages over Unicode text, closed under everything JSON Schema asks for
 * (pattern and length and format at once, "none of these names"). One owner, one thread.
 *
 * A language is a number: a node of a hash-consed expression, so equal expressions have equal
 * numbers. Words are stepped through by Brzozowski derivatives, which makes intersection and
 * complement as cheap as union; the automaton of a language is the set of its derivatives.
 *
 * Anchors: a text w is read as BEGIN w END, two marks beyond Unicode, so `^` and `$` are ordinary
 * characters anywhere in an expression. A language without marks becomes one with them by
 * regular_frame; regular_matches and regular_dfa want framed languages. AND, OR and NOT of framed
 * languages are framed (NOT only beside another one in an AND).
 *
 * Failure (memory, depth, size, time) is sticky: later calls return REGULAR_NONE, and
 * regular_status says why.
 */
#ifndef CHORUS_GRAMMAR_REGULAR_H
#define CHORUS_GRAMMAR_REGULAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

struct regular;

#define REGULAR_NONE   0u /* no word */
#define REGULAR_EMPTY  1u /* the empty word */
#define REGULAR_ALL    2u /* every word, marks included */
#define REGULAR_ANY    3u /* every single character (no surrogates) */
#define REGULAR_BEGIN  4u /* the mark before the text */
#define REGULAR_END    5u /* the mark behind it */
#define REGULAR_TEXT   6u /* every text: ANY{0,} */
#define REGULAR_NO_MAX (-1)

#define REGULAR_CODE_MAX 0x10FFFFu

struct regular_range {
    uint32_t lo, hi; /* code points, both inside */
};

struct regular_edge {
    uint32_t lo, hi; /* code points, both inside; never surrogates */
    uint32_t to;     /* state */
};

struct regular_state {
    uint32_t first, count; /* of edges, ascending, without overlap */
    bool accept;
};

/* Every state is reachable and reaches an accepting one. states[0] is the start; no state at all:
 * no word. */
struct regular_dfa {
    struct regular_state *states; /* owned */
    struct regular_edge *edges;   /* owned */
    size_t states_count, edges_count;
};

/* `deadline_cpu_ns`: on clock_thread_cpu_ns; work beyond it is STATUS_LIMIT. NULL: out of
 * memory. */
struct regular *regular_create(int64_t deadline_cpu_ns);
void regular_destroy(struct regular *r); /* NULL is allowed */
/* STATUS_OK, or what went wrong first. */
WARN_UNUSED enum status regular_status(const struct regular *r, struct err *e);

/* Any number of ranges in any order; `negate` takes the other characters. */
uint32_t regular_set(struct regular *r, const struct regular_range *ranges, size_t n, bool negate);
uint32_t regular_range(struct regular *r, uint32_t lo, uint32_t hi);
uint32_t regular_cat(struct regular *r, uint32_t a, uint32_t b);
uint32_t regular_or(struct regular *r, uint32_t a, uint32_t b);
uint32_t regular_and(struct regular *r, uint32_t a, uint32_t b);
uint32_t regular_not(struct regular *r, uint32_t a);
/* 0 <= min <= max, or max = REGULAR_NO_MAX. */
uint32_t regular_repeat(struct regular *r, uint32_t a, int32_t min, int32_t max);
/* Strings of decimal digits that, read behind a number with remainder `rest`, make a multiple of
 * `of` (1 .. 2^31): the empty one is inside when rest is 0. */
uint32_t regular_multiple(struct regular *r, uint32_t of, uint32_t rest);
/* The one word of these n bytes of UTF-8. */
uint32_t regular_literal(struct regular *r, const char *text, size_t n);
/* BEGIN a END. */
uint32_t regular_frame(struct regular *r, uint32_t a);

/* Whether the framed language a holds these n bytes of UTF-8. */
bool regular_matches(struct regular *r, uint32_t a, const char *text, size_t n);
/* The automaton of the framed language a; `states_max` states at most (STATUS_LIMIT). */
WARN_UNUSED enum status regular_dfa(struct regular *r, uint32_t a, size_t states_max,
                                    struct regular_dfa *out, struct err *e);
void regular_dfa_deinit(struct regular_dfa *d);

#endif
