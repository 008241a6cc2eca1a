#include "engine/text/jinja_args.h"

#include <string.h>

#include "engine/text/jinja_ops.h"

const struct jinja_builtin *jinja_builtin_find(const struct jinja_builtin *table, size_t count,
                                               const struct jinja_str *name)
{
    for (size_t i = 0; i < count; i++) {
        if (jinja_str_is(name, table[i].name))
            return &table[i];
    }
    return NULL;
}

/* The word of `params` at *at, moving *at behind it; its length, 0 at the end. */
static size_t next_word(const char **at)
{
    while (**at == ' ')
        (*at)++;
    size_t n = strcspn(*at, " ");
    *at += n;
    return n;
}

/* How many parameters there are, and how many of them go by position only. */
static size_t count_params(const char *params, size_t *positional)
{
    size_t count = 0;
    *positional = 0;
    const char *at = params;
    for (size_t n; (n = next_word(&at)) > 0;) {
        if (n == 1 && at[-1] == '/')
            *positional = count;
        else
            count++;
    }
    return count;
}

/* Index of the parameter called `name`, or -1. */
static int param_index(const char *params, const struct jinja_str *name)
{
    const char *at = params;
    int index = 0;
    for (size_t n; (n = next_word(&at)) > 0;) {
        if (n == name->len && memcmp(at - n, name->data, n) == 0)
            return index;
        if (!(n == 1 && at[-1] == '/'))
            index++;
    }
    return -1;
}

static bool bind(struct jinja_run *r, struct jinja_call *c)
{
    const struct jinja_builtin *fn = c->fn;
    const struct jinja_args *args = c->raw;
    size_t positional;
    size_t count = count_params(fn->params, &positional);
    if (args->pos_count > count)
        return jinja_raise(r, "%s() takes at most %zu arguments (%zu given)", fn->name, count,
                           args->pos_count);
    for (size_t i = 0; i < args->pos_count; i++)
        c->a[i] = args->pos[i];
    for (size_t i = 0; i < args->kw_count; i++) {
        const struct jinja_str *name = args->kw[i].name;
        int at = param_index(fn->params, name);
        if (at < 0 || (size_t)at < positional)
            return jinja_raise(r, "%s() got an unexpected keyword argument '%.*s'", fn->name,
                               (int)(name->len < 64 ? name->len : 64), name->data);
        if (c->a[at].type != JINJA_MISSING)
            return jinja_raise(r, "%s() got multiple values for argument '%.*s'", fn->name,
                               (int)(name->len < 64 ? name->len : 64), name->data);
        c->a[at] = args->kw[i].value;
    }
    for (int i = 0; i < fn->required; i++) {
        if (c->a[i].type == JINJA_MISSING)
            return jinja_raise(r, "%s() misses a required argument", fn->name);
    }
    return true;
}

bool jinja_call_builtin(struct jinja_run *r, const struct jinja_builtin *fn,
                        struct jinja_value self, const struct jinja_args *args,
                        struct jinja_value *out)
{
    struct jinja_call c = {.fn = fn, .self = self, .raw = args};
    if (!jinja_charge(r, 1))
        return false;
    if (!fn->fn)
        return jinja_raise(r, "%s is not supported", fn->name);
    if (strcmp(fn->params, "*") != 0 && !bind(r, &c))
        return false;
    return fn->fn(r, &c, out);
}

bool jinja_arg_given(const struct jinja_call *c, int i)
{
    return c->a[i].type != JINJA_MISSING && c->a[i].type != JINJA_NONE;
}

bool jinja_arg_truth(const struct jinja_call *c, int i, bool missing)
{
    return c->a[i].type == JINJA_MISSING ? missing : jinja_truth(c->a[i]);
}

bool jinja_arg_int(struct jinja_run *r, const struct jinja_call *c, int i, int64_t missing,
                   int64_t *out)
{
    if (c->a[i].type == JINJA_MISSING) {
        *out = missing;
        return true;
    }
    if (jinja_as_index(c->a[i], out))
        return true;
    return jinja_raise_type(r, c->a[i], "%s() needs an integer, not '%s'", c->fn->name,
                            jinja_type_name(c->a[i]));
}

bool jinja_arg_str(struct jinja_run *r, const struct jinja_call *c, int i,
                   const struct jinja_str **out)
{
    if (c->a[i].type == JINJA_STR) {
        *out = c->a[i].s;
        return true;
    }
    return jinja_raise_type(r, c->a[i], "%s() needs a string, not '%s'", c->fn->name,
                            jinja_type_name(c->a[i]));
}
