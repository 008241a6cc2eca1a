/* jinja_run: one render: its memory, its budgets, its error, its output. One thread.
 *
 * Every function of the interpreter that can fail returns bool; false means that run->err is filled
 * (once: the first error wins) and the render is over. Budgets (engine/base/limits.h):
 *   steps   each node, loop item, element and each started KiB of text handled costs one;
 *   time    CPU time of this thread, looked at every 256 steps;
 *   depth   nested macro calls, and nested nodes at once (16 times that);
 *   memory  the arena's cap;  output  the cap of the caller's buffer or the limit.
 */
#ifndef CHORUS_TEXT_JINJA_RUN_H
#define CHORUS_TEXT_JINJA_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/arena.h"
#include "engine/base/limits.h"
#include "engine/base/strbuf.h"
#include "engine/text/jinja_value.h"

struct jinja_template;

/* Nested nodes of the program, items of nested values: what the C stack holds. */
#define JINJA_NEST_MAX (LIMIT_TEMPLATE_DEPTH * 16)
/* Nested containers in one value (compare, print, tojson). */
#define JINJA_VALUE_DEPTH_MAX (LIMIT_TEMPLATE_DEPTH * 4)

struct jinja_run {
    struct arena arena;
    const struct jinja_template *template; /* borrowed; NULL in tests of values alone */
    struct jinja_value *names;             /* [template names] variables of the outermost scope */
    bool track;                            /* masks are wanted */
    uint64_t hash_seed;
    uint64_t steps;
    uint64_t next_clock; /* steps at which the clock is read again */
    int64_t deadline_ns;
    int nest;
    int value_depth;
    int calls;
    int line;                  /* of the node being run */
    struct jinja_buf *capture; /* where output goes; NULL: to out */
    struct strbuf *out;
    struct strbuf *from_input; /* or NULL */
    struct err *err;
    bool failed;
};

/* Empty run with full budgets; out and from_input borrowed. */
void jinja_run_init(struct jinja_run *r, struct strbuf *out, struct strbuf *from_input,
                    struct err *err);
void jinja_run_deinit(struct jinja_run *r);

/* Fill the error and return false. jinja_raise: an error of the program, "line N: ...". */
bool jinja_raise(struct jinja_run *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool jinja_fail(struct jinja_run *r, enum status code, const char *fmt, ...) PRINTF_LIKE(3, 4);

WARN_UNUSED bool jinja_charge(struct jinja_run *r, uint64_t steps);
/* One step for each started KiB. */
WARN_UNUSED bool jinja_charge_bytes(struct jinja_run *r, size_t bytes);
/* Pairs around anything that recurses: over nodes; over values; over calls. */
WARN_UNUSED bool jinja_nest(struct jinja_run *r);
WARN_UNUSED bool jinja_descend(struct jinja_run *r);
WARN_UNUSED bool jinja_call_enter(struct jinja_run *r);

/* Zeroed; NULL: raised. */
void *jinja_alloc(struct jinja_run *r, size_t count, size_t size)
    __attribute__((warn_unused_result));
/* Raises unless `bytes` more fit the memory budget. */
WARN_UNUSED bool jinja_room(struct jinja_run *r, size_t count, size_t size);

/* Output of the program: to the innermost capture or to the caller. */
WARN_UNUSED bool jinja_emit(struct jinja_run *r, const struct jinja_str *s);

#endif
