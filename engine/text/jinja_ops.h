/* jinja_ops: operators, with Python's meaning and Python's errors. */
#ifndef CHORUS_TEXT_JINJA_OPS_H
#define CHORUS_TEXT_JINJA_OPS_H

#include "engine/text/jinja_ast.h"
#include "engine/text/jinja_run.h"

/* Python's name of the type: "str", "NoneType" ... */
const char *jinja_type_name(struct jinja_value v);
/* jinja_raise, except that an undefined value raises as such. */
bool jinja_raise_type(struct jinja_run *r, struct jinja_value v, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
/* "'x' is undefined" and the like. */
bool jinja_raise_undefined(struct jinja_run *r, struct jinja_value v);
/* An undefined value: with a hint, or for a missing `name` of `obj` (MISSING: a plain name). */
WARN_UNUSED bool jinja_undefined(struct jinja_run *r, const char *hint, struct jinja_value obj,
                                 struct jinja_value name, struct jinja_value *out);

bool jinja_truth(struct jinja_value v);
bool jinja_is_number(struct jinja_value v); /* bool, int, float */
/* bool or int. */
bool jinja_as_index(struct jinja_value v, int64_t *out);
double jinja_as_double(struct jinja_value v); /* of a number */
/* Identity (`sameas`, and a shortcut of equality). */
bool jinja_same(struct jinja_value a, struct jinja_value b);

WARN_UNUSED bool jinja_eq(struct jinja_run *r, struct jinja_value a, struct jinja_value b,
                          bool *out);
/* op: JINJA_LT, LE, GT, GE. */
WARN_UNUSED bool jinja_order(struct jinja_run *r, enum jinja_op op, struct jinja_value a,
                             struct jinja_value b, bool *out);
/* op: any comparison, in and not in. */
WARN_UNUSED bool jinja_compare(struct jinja_run *r, enum jinja_op op, struct jinja_value a,
                               struct jinja_value b, bool *out);
WARN_UNUSED bool jinja_contains(struct jinja_run *r, struct jinja_value item,
                                struct jinja_value seq, bool *out);
WARN_UNUSED bool jinja_arith(struct jinja_run *r, enum jinja_op op, struct jinja_value a,
                             struct jinja_value b, struct jinja_value *out);
/* Unary minus and plus. */
WARN_UNUSED bool jinja_negate(struct jinja_run *r, struct jinja_value v, bool minus,
                              struct jinja_value *out);
/* len(); raises where there is none. */
WARN_UNUSED bool jinja_len(struct jinja_run *r, struct jinja_value v, size_t *out);
/* Whether len() would work, without raising. */
bool jinja_has_len(struct jinja_value v);

#endif
