/* jinja_args: functions, filters, tests and methods written in C, and how arguments reach them.
 *
 * A table row names the parameters as Python does, so calls by position and by keyword bind as they
 * do there.
 */
#ifndef CHORUS_TEXT_JINJA_ARGS_H
#define CHORUS_TEXT_JINJA_ARGS_H

#include "engine/text/jinja_run.h"

#define JINJA_PARAMS_MAX 6

struct jinja_kwarg {
    const struct jinja_str *name;
    struct jinja_value value;
};

struct jinja_args {
    const struct jinja_value *pos; /* [pos_count] */
    size_t pos_count;
    const struct jinja_kwarg *kw; /* [kw_count] */
    size_t kw_count;
};

struct jinja_call {
    const struct jinja_builtin *fn;
    struct jinja_value self;                /* input of a filter or test, object of a method */
    struct jinja_value a[JINJA_PARAMS_MAX]; /* bound by position in `params`; MISSING: not given */
    const struct jinja_args *raw;
};

struct jinja_builtin {
    const char *name;
    const char *params; /* names; those before "/" only by position; "*": fn reads call->raw */
    int required;       /* how many must be given */
    bool (*fn)(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out);
};

/* Binds and calls. A row without fn raises that it is not supported. */
WARN_UNUSED bool jinja_call_builtin(struct jinja_run *r, const struct jinja_builtin *fn,
                                    struct jinja_value self, const struct jinja_args *args,
                                    struct jinja_value *out);
/* Row of that name, or NULL. */
const struct jinja_builtin *jinja_builtin_find(const struct jinja_builtin *table, size_t count,
                                               const struct jinja_str *name);

/* Bound argument i; the default when it is missing. Wrong types raise. */
WARN_UNUSED bool jinja_arg_int(struct jinja_run *r, const struct jinja_call *c, int i,
                               int64_t missing, int64_t *out);
WARN_UNUSED bool jinja_arg_str(struct jinja_run *r, const struct jinja_call *c, int i,
                               const struct jinja_str **out);
bool jinja_arg_truth(const struct jinja_call *c, int i, bool missing);
bool jinja_arg_given(const struct jinja_call *c, int i); /* and not none */

#endif
