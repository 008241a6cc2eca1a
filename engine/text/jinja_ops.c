#include "engine/text/jinja_ops.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/text/jinja_dict.h"
#include "engine/text/jinja_iter.h"
#include "engine/text/jinja_print.h"

const char *jinja_type_name(struct jinja_value v)
{
    static const char *const names[] = {
        [JINJA_MISSING] = "missing",
        [JINJA_UNDEFINED] = "Undefined",
        [JINJA_NONE] = "NoneType",
        [JINJA_BOOL] = "bool",
        [JINJA_INT] = "int",
        [JINJA_BIG] = "int",
        [JINJA_FLOAT] = "float",
        [JINJA_STR] = "str",
        [JINJA_LIST] = "list",
        [JINJA_TUPLE] = "tuple",
        [JINJA_DICT] = "dict",
        [JINJA_RANGE] = "range",
        [JINJA_ITER] = "generator",
        [JINJA_NAMESPACE] = "Namespace",
        [JINJA_MACRO] = "Macro",
        [JINJA_FUNCTION] = "function",
        [JINJA_METHOD] = "builtin_function_or_method",
        [JINJA_LOOP] = "LoopContext",
        [JINJA_CYCLER] = "Cycler",
        [JINJA_JOINER] = "Joiner",
    };
    static const char *const views[] = {"dict_keys", "dict_values", "dict_items"};
    if (v.type == JINJA_VIEW)
        return views[v.view->kind];
    return names[v.type];
}

bool jinja_undefined(struct jinja_run *r, const char *hint, struct jinja_value obj,
                     struct jinja_value name, struct jinja_value *out)
{
    struct jinja_undefined *u = jinja_alloc(r, 1, sizeof *u);
    if (!u)
        return false;
    u->hint = hint;
    u->obj = obj;
    u->index = name;
    *out = (struct jinja_value){.type = JINJA_UNDEFINED, .undefined = u};
    return true;
}

/* As the reference implementation shows an object in a message. */
static const char *object_words(struct jinja_value v)
{
    return v.type == JINJA_NONE ? "None" : v.type == JINJA_MISSING ? "" : jinja_type_name(v);
}

bool jinja_raise_undefined(struct jinja_run *r, struct jinja_value v)
{
    const struct jinja_undefined *u = v.undefined;
    if (u->hint)
        return jinja_raise(r, "%s", u->hint);
    const struct jinja_str *name;
    if (!jinja_repr(r, u->index, &name))
        return false;
    int n = name->len < 120 ? (int)name->len : 120;
    if (u->obj.type == JINJA_MISSING)
        return jinja_raise(r, "%.*s is undefined", n, name->data);
    const char *object = u->obj.type == JINJA_NONE ? "" : " object";
    if (u->index.type != JINJA_STR)
        return jinja_raise(r, "%s%s has no element %.*s", object_words(u->obj), object, n,
                           name->data);
    return jinja_raise(r, "'%s%s' has no attribute %.*s", object_words(u->obj), object, n,
                       name->data);
}

bool jinja_raise_type(struct jinja_run *r, struct jinja_value v, const char *fmt, ...)
{
    if (v.type == JINJA_UNDEFINED)
        return jinja_raise_undefined(r, v);
    char text[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return jinja_raise(r, "%s", text);
}

bool jinja_truth(struct jinja_value v)
{
    switch ((enum jinja_type)v.type) {
    case JINJA_MISSING:
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return false;
    case JINJA_BOOL:
        return v.b;
    case JINJA_INT:
        return v.i != 0;
    case JINJA_FLOAT:
        return v.f != 0;
    case JINJA_STR:
        return v.s->len > 0;
    case JINJA_LIST:
    case JINJA_TUPLE:
        return v.seq->count > 0;
    case JINJA_DICT:
        return v.dict->count > 0;
    case JINJA_RANGE:
        return v.range->count > 0;
    case JINJA_VIEW:
        return v.view->dict->count > 0;
    default:
        return true;
    }
}

bool jinja_is_number(struct jinja_value v)
{
    return v.type == JINJA_BOOL || v.type == JINJA_INT || v.type == JINJA_FLOAT;
}

bool jinja_as_index(struct jinja_value v, int64_t *out)
{
    if (v.type != JINJA_BOOL && v.type != JINJA_INT)
        return false;
    *out = v.type == JINJA_BOOL ? v.b : v.i;
    return true;
}

double jinja_as_double(struct jinja_value v)
{
    return v.type == JINJA_FLOAT ? v.f : v.type == JINJA_INT ? (double)v.i : v.b;
}

bool jinja_same(struct jinja_value a, struct jinja_value b)
{
    if (a.type != b.type)
        return false;
    switch ((enum jinja_type)a.type) {
    case JINJA_NONE:
        return true;
    case JINJA_BOOL:
        return a.b == b.b;
    case JINJA_INT:
        return a.i == b.i;
    case JINJA_FLOAT:
        return false;
    default:
        return a.ns == b.ns;
    }
}

/* long double holds every int64 exactly on the platforms we build for. */
static long double wide(struct jinja_value v)
{
    return v.type == JINJA_FLOAT ? (long double)v.f
           : v.type == JINJA_INT ? (long double)v.i
                                 : (long double)v.b;
}

static bool eq_seq(struct jinja_run *r, const struct jinja_seq *a, const struct jinja_seq *b,
                   bool *out)
{
    *out = a->count == b->count;
    for (size_t i = 0; *out && i < a->count; i++) {
        if (!jinja_eq(r, a->items[i], b->items[i], out))
            return false;
    }
    return true;
}

static bool eq_dict(struct jinja_run *r, const struct jinja_dict *a, const struct jinja_dict *b,
                    bool *out)
{
    *out = a->count == b->count;
    for (size_t i = 0; *out && i < a->count; i++) {
        const struct jinja_value *other;
        if (!jinja_dict_get(r, b, a->entries[i].key, &other))
            return false;
        *out = other != NULL;
        if (other && !jinja_eq(r, a->entries[i].value, *other, out))
            return false;
    }
    return true;
}

static bool eq_range(const struct jinja_range *a, const struct jinja_range *b)
{
    return a->count == b->count &&
           (a->count == 0 || (a->start == b->start && (a->count == 1 || a->step == b->step)));
}

bool jinja_eq(struct jinja_run *r, struct jinja_value a, struct jinja_value b, bool *out)
{
    if (jinja_is_number(a) && jinja_is_number(b)) {
        *out = wide(a) == wide(b);
        return true;
    }
    *out = false;
    if (a.type != b.type)
        return true;
    bool ok = true;
    switch ((enum jinja_type)a.type) {
    case JINJA_STR:
    case JINJA_BIG:
        *out = jinja_str_eq(a.s, b.s);
        return a.s->len != b.s->len || a.s->len < 1024 || jinja_charge_bytes(r, a.s->len);
    case JINJA_UNDEFINED:
        *out = true;
        return true;
    case JINJA_RANGE:
        *out = eq_range(a.range, b.range);
        return true;
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_DICT:
        if (a.ns == b.ns) {
            *out = true;
            return true;
        }
        if (!jinja_descend(r))
            return false;
        ok = a.type == JINJA_DICT ? eq_dict(r, a.dict, b.dict, out) : eq_seq(r, a.seq, b.seq, out);
        r->value_depth--;
        return ok;
    default:
        *out = jinja_same(a, b);
        return true;
    }
}

static bool order_result(enum jinja_op op, int c)
{
    return op == JINJA_LT ? c < 0 : op == JINJA_LE ? c <= 0 : op == JINJA_GT ? c > 0 : c >= 0;
}

/* The first pair that differs decides, else the lengths. */
static bool order_seq(struct jinja_run *r, enum jinja_op op, const struct jinja_seq *a,
                      const struct jinja_seq *b, bool *out)
{
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        bool same;
        if (!jinja_eq(r, a->items[i], b->items[i], &same))
            return false;
        if (!same)
            return jinja_order(r, op, a->items[i], b->items[i], out);
    }
    *out = order_result(op, a->count < b->count ? -1 : a->count > b->count);
    return true;
}

bool jinja_order(struct jinja_run *r, enum jinja_op op, struct jinja_value a, struct jinja_value b,
                 bool *out)
{
    static const char *const words[] = {
        [JINJA_LT] = "<", [JINJA_LE] = "<=", [JINJA_GT] = ">", [JINJA_GE] = ">="};
    if (jinja_is_number(a) && jinja_is_number(b)) {
        long double x = wide(a);
        long double y = wide(b);
        *out = op == JINJA_LT ? x < y : op == JINJA_LE ? x <= y : op == JINJA_GT ? x > y : x >= y;
        return true;
    }
    if (a.type == JINJA_STR && b.type == JINJA_STR) {
        *out = order_result(op, jinja_str_cmp(a.s, b.s));
        return jinja_charge_bytes(r, a.s->len < b.s->len ? a.s->len : b.s->len);
    }
    if (a.type == b.type && (a.type == JINJA_LIST || a.type == JINJA_TUPLE)) {
        if (!jinja_descend(r) || !order_seq(r, op, a.seq, b.seq, out))
            return false;
        r->value_depth--;
        return true;
    }
    if (a.type == JINJA_UNDEFINED)
        return jinja_raise_undefined(r, a);
    return jinja_raise_type(r, b, "'%s' not supported between instances of '%s' and '%s'",
                            words[op], jinja_type_name(a), jinja_type_name(b));
}

/* A member of a range is a number, equal to one of its values. */
static bool range_contains(const struct jinja_range *range, struct jinja_value item)
{
    if (!jinja_is_number(item) || range->count == 0)
        return false;
    double f = jinja_as_double(item);
    if (item.type == JINJA_FLOAT && (f != floor(f) || fabs(f) > 9.0e18))
        return false;
    int64_t v = item.type == JINJA_FLOAT ? (int64_t)f : item.type == JINJA_INT ? item.i : item.b;
    int64_t last = range->start + (range->count - 1) * range->step;
    int64_t low = range->step > 0 ? range->start : last;
    int64_t high = range->step > 0 ? last : range->start;
    return v >= low && v <= high && (v - range->start) % range->step == 0;
}

static bool iter_contains(struct jinja_run *r, struct jinja_value item, struct jinja_value seq,
                          bool *out)
{
    struct jinja_iter *it;
    *out = false;
    if (!jinja_iter_of(r, seq, &it))
        return false;
    while (!*out) {
        struct jinja_value v;
        bool done;
        if (!jinja_iter_next(r, it, &v, &done))
            return false;
        if (done)
            return true;
        if (!jinja_eq(r, v, item, out))
            return false;
    }
    return true;
}

bool jinja_contains(struct jinja_run *r, struct jinja_value item, struct jinja_value seq, bool *out)
{
    const struct jinja_value *found;
    switch ((enum jinja_type)seq.type) {
    case JINJA_STR:
        if (item.type != JINJA_STR)
            return jinja_raise(r, "'in <string>' requires string as left operand, not %s",
                               jinja_type_name(item));
        *out = jinja_str_find(seq.s, item.s, 0) >= 0;
        return jinja_charge_bytes(r, seq.s->len);
    case JINJA_DICT:
        if (!jinja_dict_get(r, seq.dict, item, &found))
            return false;
        *out = found != NULL;
        return true;
    case JINJA_RANGE:
        *out = range_contains(seq.range, item);
        return true;
    case JINJA_VIEW:
        if (seq.view->kind != JINJA_VIEW_KEYS)
            return iter_contains(r, item, seq, out);
        if (!jinja_dict_get(r, seq.view->dict, item, &found))
            return false;
        *out = found != NULL;
        return true;
    case JINJA_UNDEFINED:
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_ITER:
        return iter_contains(r, item, seq, out);
    default:
        return jinja_raise(r, "argument of type '%s' is not iterable", jinja_type_name(seq));
    }
}

bool jinja_compare(struct jinja_run *r, enum jinja_op op, struct jinja_value a,
                   struct jinja_value b, bool *out)
{
    switch (op) {
    case JINJA_EQ:
        return jinja_eq(r, a, b, out);
    case JINJA_NE:
        if (!jinja_eq(r, a, b, out))
            return false;
        *out = !*out;
        return true;
    case JINJA_IN:
        return jinja_contains(r, a, b, out);
    case JINJA_NOT_IN:
        if (!jinja_contains(r, a, b, out))
            return false;
        *out = !*out;
        return true;
    default:
        return jinja_order(r, op, a, b, out);
    }
}

bool jinja_has_len(struct jinja_value v)
{
    return v.type == JINJA_STR || v.type == JINJA_LIST || v.type == JINJA_TUPLE ||
           v.type == JINJA_DICT || v.type == JINJA_RANGE || v.type == JINJA_VIEW ||
           v.type == JINJA_UNDEFINED;
}

bool jinja_len(struct jinja_run *r, struct jinja_value v, size_t *out)
{
    switch ((enum jinja_type)v.type) {
    case JINJA_STR:
        *out = jinja_str_cps(v.s);
        return jinja_charge_bytes(r, v.s->len);
    case JINJA_LIST:
    case JINJA_TUPLE:
        *out = v.seq->count;
        return true;
    case JINJA_DICT:
        *out = v.dict->count;
        return true;
    case JINJA_VIEW:
        *out = v.view->dict->count;
        return true;
    case JINJA_RANGE:
        *out = (size_t)v.range->count;
        return true;
    case JINJA_UNDEFINED:
        *out = 0;
        return true;
    case JINJA_LOOP:
        return jinja_loop_length(r, v.loop, out);
    default:
        return jinja_raise(r, "object of type '%s' has no len()", jinja_type_name(v));
    }
}
