#include "engine/text/jinja_method.h"

#include <math.h>
#include <string.h>

#include "engine/text/jinja_dict.h"
#include "engine/text/jinja_iter.h"
#include "engine/text/jinja_ops.h"

static bool dict_get(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_value *v;
    if (!jinja_dict_get(r, c->self.dict, c->a[0], &v))
        return false;
    *out = v ? *v : c->a[1].type != JINJA_MISSING ? c->a[1] : jinja_none();
    return true;
}

static bool view(struct jinja_run *r, const struct jinja_call *c, enum jinja_view_kind kind,
                 struct jinja_value *out)
{
    struct jinja_view *v = jinja_alloc(r, 1, sizeof *v);
    if (!v)
        return false;
    *v = (struct jinja_view){.kind = kind, .dict = c->self.dict};
    *out = (struct jinja_value){.type = JINJA_VIEW, .view = v};
    return true;
}

static bool dict_keys(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return view(r, c, JINJA_VIEW_KEYS, out);
}

static bool dict_values(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return view(r, c, JINJA_VIEW_VALUES, out);
}

static bool dict_items(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return view(r, c, JINJA_VIEW_ITEMS, out);
}

/* Values do not change, so a copy is the value itself. */
static bool copy(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    *out = c->self;
    return true;
}

static bool seq_count(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    int64_t count = 0;
    for (size_t i = 0; i < c->self.seq->count; i++) {
        bool same;
        if (!jinja_charge(r, 1) || !jinja_eq(r, c->self.seq->items[i], c->a[0], &same))
            return false;
        count += same;
    }
    *out = jinja_int(count);
    return true;
}

static bool seq_index(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    int64_t len = (int64_t)c->self.seq->count;
    int64_t from;
    int64_t to;
    if (!jinja_arg_int(r, c, 1, 0, &from) || !jinja_arg_int(r, c, 2, len, &to))
        return false;
    from = from < -len ? 0 : from < 0 ? from + len : from;
    to = to < 0 ? to + len : to > len ? len : to;
    for (int64_t i = from; i < to; i++) {
        bool same;
        if (!jinja_charge(r, 1) || !jinja_eq(r, c->self.seq->items[i], c->a[0], &same))
            return false;
        if (same) {
            *out = jinja_int(i);
            return true;
        }
    }
    return jinja_raise(r, "value is not in list");
}

static bool range_has(struct jinja_run *r, const struct jinja_call *c, bool *has)
{
    return jinja_contains(r, c->a[0], c->self, has);
}

static bool range_count(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    bool has;
    if (!range_has(r, c, &has))
        return false;
    *out = jinja_int(has);
    return true;
}

static bool range_index(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    bool has;
    if (!range_has(r, c, &has))
        return false;
    if (!has)
        return jinja_raise(r, "value is not in range");
    *out =
        jinja_int(((int64_t)jinja_as_double(c->a[0]) - c->self.range->start) / c->self.range->step);
    return true;
}

static bool cycler_next(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    struct jinja_cycler *cycler = c->self.cycler;
    *out = cycler->items[cycler->pos];
    cycler->pos = (cycler->pos + 1) % cycler->count;
    return true;
}

static bool cycler_reset(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    c->self.cycler->pos = 0;
    *out = jinja_none();
    return true;
}

static bool loop_cycle(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    if (c->raw->kw_count)
        return jinja_raise(r, "cycle() takes no keyword arguments");
    if (c->raw->pos_count == 0)
        return jinja_raise(r, "no items for cycling given");
    *out = c->raw->pos[(size_t)c->self.loop->index0 % c->raw->pos_count];
    return true;
}

static bool loop_changed(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    struct jinja_loop *loop = c->self.loop;
    struct jinja_value args;
    bool same = false;
    if (c->raw->kw_count)
        return jinja_raise(r, "changed() takes no keyword arguments");
    if (!jinja_seq_value(r, JINJA_TUPLE, c->raw->pos, c->raw->pos_count, &args))
        return false;
    if (loop->changed.type != JINJA_MISSING && !jinja_eq(r, loop->changed, args, &same))
        return false;
    loop->changed = args;
    *out = jinja_bool(!same);
    return true;
}

static bool float_is_integer(struct jinja_run *r, const struct jinja_call *c,
                             struct jinja_value *out)
{
    (void)r;
    *out = jinja_bool(isfinite(c->self.f) && c->self.f == floor(c->self.f));
    return true;
}

/* dict.fromkeys(keys, value) of the global `dict`. */
static bool function_fromkeys(struct jinja_run *r, const struct jinja_call *c,
                              struct jinja_value *out)
{
    struct jinja_dict *d = jinja_dict_new(r);
    struct jinja_iter *it;
    struct jinja_value value = c->a[1].type == JINJA_MISSING ? jinja_none() : c->a[1];
    if (!d || !jinja_iter_of(r, c->a[0], &it))
        return false;
    for (;;) {
        struct jinja_value key;
        bool done;
        if (!jinja_iter_next(r, it, &key, &done))
            return false;
        if (done)
            break;
        if (!jinja_dict_put(r, d, key, value))
            return false;
    }
    *out = (struct jinja_value){.type = JINJA_DICT, .dict = d};
    return true;
}

static const struct jinja_builtin dict_methods[] = {
    {"get", "key default /", 1, dict_get}, {"items", "", 0, dict_items}, {"keys", "", 0, dict_keys},
    {"values", "", 0, dict_values},        {"copy", "", 0, copy},        {"fromkeys", "*", 0, NULL},
};
static const struct jinja_builtin list_methods[] = {
    {"count", "value /", 1, seq_count},
    {"index", "value start stop /", 1, seq_index},
    {"copy", "", 0, copy},
};
static const struct jinja_builtin range_methods[] = {
    {"count", "value /", 1, range_count},
    {"index", "value /", 1, range_index},
};
static const struct jinja_builtin cycler_methods[] = {
    {"next", "", 0, cycler_next},
    {"reset", "", 0, cycler_reset},
};
static const struct jinja_builtin loop_methods[] = {
    {"cycle", "*", 0, loop_cycle},
    {"changed", "*", 0, loop_changed},
};
static const struct jinja_builtin int_methods[] = {
    {"as_integer_ratio", "", 0, NULL}, {"bit_count", "", 0, NULL},   {"bit_length", "", 0, NULL},
    {"conjugate", "", 0, NULL},        {"from_bytes", "*", 0, NULL}, {"to_bytes", "*", 0, NULL},
};
static const struct jinja_builtin float_methods[] = {
    {"is_integer", "", 0, float_is_integer},
    {"as_integer_ratio", "", 0, NULL},
    {"conjugate", "", 0, NULL},
    {"fromhex", "*", 0, NULL},
    {"hex", "", 0, NULL},
};
static const struct jinja_builtin function_methods[] = {
    {"fromkeys", "iterable value /", 1, function_fromkeys},
};
static const struct jinja_builtin changing_methods[] = {
    {"append", "*", 0, NULL},  {"clear", "*", 0, NULL},      {"extend", "*", 0, NULL},
    {"insert", "*", 0, NULL},  {"pop", "*", 0, NULL},        {"remove", "*", 0, NULL},
    {"reverse", "*", 0, NULL}, {"sort", "*", 0, NULL},       {"popitem", "*", 0, NULL},
    {"update", "*", 0, NULL},  {"setdefault", "*", 0, NULL},
};

#define FIND(table, name) jinja_builtin_find(table, sizeof(table) / sizeof((table)[0]), name)

/* The methods that change a list are the first eight rows; those of dict are spread. */
static bool changes_value(struct jinja_value v, const struct jinja_builtin *fn)
{
    size_t row = (size_t)(fn - changing_methods);
    if (v.type == JINJA_LIST)
        return row < 8;
    return row == 1 || row == 4 || row >= 8;
}

const struct jinja_builtin *jinja_method_find(struct jinja_value v, const struct jinja_str *name,
                                              bool *changes)
{
    const struct jinja_builtin *fn = NULL;
    *changes = false;
    switch ((enum jinja_type)v.type) {
    case JINJA_STR:
        return jinja_builtin_find(jinja_str_methods, jinja_str_method_count, name);
    case JINJA_DICT:
    case JINJA_LIST:
        fn = FIND(changing_methods, name);
        if (fn && changes_value(v, fn)) {
            *changes = true;
            return fn;
        }
        return v.type == JINJA_DICT ? FIND(dict_methods, name) : FIND(list_methods, name);
    case JINJA_TUPLE:
        fn = FIND(list_methods, name);
        return fn && fn->fn != copy ? fn : NULL;
    case JINJA_RANGE:
        return FIND(range_methods, name);
    case JINJA_CYCLER:
        return FIND(cycler_methods, name);
    case JINJA_LOOP:
        return FIND(loop_methods, name);
    case JINJA_BOOL:
    case JINJA_INT:
        return FIND(int_methods, name);
    case JINJA_FLOAT:
        return FIND(float_methods, name);
    case JINJA_FUNCTION:
        return jinja_str_is(name, "fromkeys") && strcmp(v.function->name, "dict") == 0
                   ? FIND(function_methods, name)
                   : NULL;
    default:
        return NULL;
    }
}

bool jinja_method_is_internal(const struct jinja_str *name)
{
    static const char *const names[] = {
        "__class__",   "__delattr__", "__dir__",           "__doc__",          "__eq__",
        "__format__",  "__ge__",      "__getattribute__",  "__getstate__",     "__gt__",
        "__hash__",    "__init__",    "__init_subclass__", "__le__",           "__lt__",
        "__ne__",      "__new__",     "__reduce__",        "__reduce_ex__",    "__repr__",
        "__setattr__", "__sizeof__",  "__str__",           "__subclasshook__",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (jinja_str_is(name, names[i]))
            return true;
    }
    return false;
}
