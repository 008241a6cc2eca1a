/* jinja_iter: iteration, as lazy as Python's, and the `loop` object. */
#ifndef CHORUS_TEXT_JINJA_ITER_H
#define CHORUS_TEXT_JINJA_ITER_H

#include "engine/text/jinja_run.h"

struct jinja_scope;
struct jinja_node;
struct jinja_args;

/* An iterator: `next` stores the next item or sets *done. The other fields belong to `next`. */
struct jinja_iter {
    bool (*next)(struct jinja_run *r, struct jinja_iter *it, struct jinja_value *out, bool *done);
    struct jinja_value over;  /* what it runs over */
    struct jinja_iter *inner; /* what it draws from */
    void *state;              /* of generators */
    size_t pos;
    bool done;
    bool reversed; /* Python's reversed(): knows its length is gone, not a generator */
};

/* Raises where Python's iter() does. An iterator is its own. */
WARN_UNUSED bool jinja_iter_of(struct jinja_run *r, struct jinja_value v, struct jinja_iter **out);
bool jinja_is_iterable(struct jinja_value v);
WARN_UNUSED bool jinja_iter_next(struct jinja_run *r, struct jinja_iter *it,
                                 struct jinja_value *out, bool *done);
/* reversed(); *ok false where Python raises TypeError. */
WARN_UNUSED bool jinja_iter_reversed(struct jinja_run *r, struct jinja_value v, bool *ok,
                                     struct jinja_value *out);
/* A generator over `source` (iterated when first drawn from unless NULL). */
WARN_UNUSED bool jinja_generator(struct jinja_run *r,
                                 bool (*next)(struct jinja_run *r, struct jinja_iter *it,
                                              struct jinja_value *out, bool *done),
                                 struct jinja_value source, void *state, struct jinja_value *out);
/* The inner iterator of a generator over its source, made when it is first needed. */
WARN_UNUSED bool jinja_iter_source(struct jinja_run *r, struct jinja_iter *it);
/* list(v): shares the items of a list or tuple. */
WARN_UNUSED bool jinja_collect(struct jinja_run *r, struct jinja_value v,
                               const struct jinja_seq **out);

/* The `loop` variable, valid as long as the render. */
struct jinja_loop {
    struct jinja_iter *it;
    int64_t index0;
    int64_t depth0;
    bool sized; /* length is known */
    size_t length;
    struct jinja_value before;     /* MISSING: there is none */
    struct jinja_value current;    /* MISSING: not begun */
    struct jinja_value after;      /* looked at early; MISSING: not looked */
    bool ended;                    /* looked for the next and found none */
    struct jinja_value changed;    /* arguments of the last loop.changed(); MISSING: none */
    const struct jinja_node *node; /* a recursive for statement, else NULL */
    struct jinja_scope *scope;     /* around it */
};
/* Moves to the next item. */
WARN_UNUSED bool jinja_loop_next(struct jinja_run *r, struct jinja_loop *l, struct jinja_value *out,
                                 bool *done);
/* The next item without moving; *done: there is none. */
WARN_UNUSED bool jinja_loop_peek(struct jinja_run *r, struct jinja_loop *l, struct jinja_value *out,
                                 bool *done);
WARN_UNUSED bool jinja_loop_length(struct jinja_run *r, struct jinja_loop *l, size_t *out);

#endif
