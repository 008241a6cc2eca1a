#include "engine/text/jinja_access.h"

#include <stdio.h>
#include <string.h>

#include "engine/text/jinja_ast.h"
#include "engine/text/jinja_dict.h"
#include "engine/text/jinja_iter.h"
#include "engine/text/jinja_macro.h"
#include "engine/text/jinja_method.h"
#include "engine/text/jinja_ops.h"

static bool hidden(struct jinja_run *r, struct jinja_value v, const struct jinja_str *name,
                   struct jinja_value *out)
{
    char *hint = jinja_alloc(r, 160, 1);
    if (!hint)
        return false;
    snprintf(hint, 160, "access to attribute '%.*s' of '%s' object is unsafe.",
             name->len < 64 ? (int)name->len : 64, name->data, jinja_type_name(v));
    return jinja_undefined(r, hint, v, jinja_of_str(name), out);
}

static bool loop_attribute(struct jinja_run *r, struct jinja_loop *l, const struct jinja_str *name,
                           bool *found, struct jinja_value *out)
{
    bool done;
    size_t length = 0;
    struct jinja_value none = {.type = JINJA_MISSING};
    *found = true;
    if (jinja_str_is(name, "index"))
        *out = jinja_int(l->index0 + 1);
    else if (jinja_str_is(name, "index0"))
        *out = jinja_int(l->index0);
    else if (jinja_str_is(name, "first"))
        *out = jinja_bool(l->index0 == 0);
    else if (jinja_str_is(name, "depth"))
        *out = jinja_int(l->depth0 + 1);
    else if (jinja_str_is(name, "depth0"))
        *out = jinja_int(l->depth0);
    else if (jinja_str_is(name, "previtem")) {
        *out = l->before;
        return l->index0 > 0 || jinja_undefined(r, "there is no previous item", none, none, out);
    } else if (jinja_str_is(name, "last") || jinja_str_is(name, "nextitem")) {
        if (!jinja_loop_peek(r, l, out, &done))
            return false;
        if (jinja_str_is(name, "last"))
            *out = jinja_bool(done);
        else if (done)
            return jinja_undefined(r, "there is no next item", none, none, out);
    } else if (jinja_str_is(name, "length") || jinja_str_is(name, "revindex") ||
               jinja_str_is(name, "revindex0")) {
        if (!jinja_loop_length(r, l, &length))
            return false;
        int64_t n = (int64_t)length;
        if (name->len == 8)
            n -= l->index0;
        else if (name->len == 9)
            n -= l->index0 + 1;
        *out = jinja_int(n);
    } else {
        *found = false;
    }
    return true;
}

static bool cycler_attribute(struct jinja_run *r, const struct jinja_cycler *c,
                             const struct jinja_str *name, bool *found, struct jinja_value *out)
{
    *found = true;
    if (jinja_str_is(name, "current"))
        *out = c->items[c->pos];
    else if (jinja_str_is(name, "pos"))
        *out = jinja_int((int64_t)c->pos);
    else if (jinja_str_is(name, "items"))
        return jinja_seq_value(r, JINJA_TUPLE, c->items, c->count, out);
    else
        *found = false;
    return true;
}

static bool joiner_attribute(const struct jinja_joiner *j, const struct jinja_str *name,
                             struct jinja_value *out)
{
    bool sep = jinja_str_is(name, "sep");
    if (!sep && !jinja_str_is(name, "used"))
        return false;
    *out = sep ? j->sep : jinja_bool(j->used);
    return true;
}

static bool seq_attribute(const struct jinja_seq *seq, const struct jinja_str *name,
                          struct jinja_value *out)
{
    if (!seq->group || (!jinja_str_is(name, "grouper") && !jinja_str_is(name, "list")))
        return false;
    *out = seq->items[name->len == 4];
    return true;
}

static bool range_attribute(const struct jinja_range *g, const struct jinja_str *name,
                            struct jinja_value *out)
{
    if (jinja_str_is(name, "start"))
        *out = jinja_int(g->start);
    else if (jinja_str_is(name, "step"))
        *out = jinja_int(g->step);
    else if (jinja_str_is(name, "stop"))
        *out = jinja_int(g->stop);
    else
        return false;
    return true;
}

static bool number_attribute(struct jinja_value v, const struct jinja_str *name,
                             struct jinja_value *out)
{
    struct jinja_value zero = v.type == JINJA_FLOAT ? jinja_float(0) : jinja_int(0);
    struct jinja_value whole = v.type == JINJA_BOOL ? jinja_int(v.b) : v;
    if (jinja_str_is(name, "real"))
        *out = whole;
    else if (jinja_str_is(name, "imag"))
        *out = zero;
    else if (v.type != JINJA_FLOAT && jinja_str_is(name, "numerator"))
        *out = whole;
    else if (v.type != JINJA_FLOAT && jinja_str_is(name, "denominator"))
        *out = jinja_int(1);
    else
        return false;
    return true;
}

/* Attributes that are values; methods follow in jinja_attribute. */
static bool plain_attribute(struct jinja_run *r, struct jinja_value v, const struct jinja_str *name,
                            bool *found, struct jinja_value *out)
{
    const struct jinja_value *value;
    *found = false;
    switch ((enum jinja_type)v.type) {
    case JINJA_NAMESPACE:
        value = jinja_dict_text(r, v.ns, name);
        *found = value != NULL;
        if (value)
            *out = *value;
        return !r->failed;
    case JINJA_LOOP:
        return loop_attribute(r, v.loop, name, found, out);
    case JINJA_MACRO:
        return jinja_macro_attribute(r, v.macro, name, found, out);
    case JINJA_CYCLER:
        return cycler_attribute(r, v.cycler, name, found, out);
    case JINJA_JOINER:
        *found = joiner_attribute(v.joiner, name, out);
        return true;
    case JINJA_TUPLE:
        *found = seq_attribute(v.seq, name, out);
        return true;
    case JINJA_RANGE:
        *found = range_attribute(v.range, name, out);
        return true;
    case JINJA_BOOL:
    case JINJA_INT:
    case JINJA_FLOAT:
        *found = number_attribute(v, name, out);
        return true;
    default:
        return true;
    }
}

bool jinja_attribute(struct jinja_run *r, struct jinja_value v, const struct jinja_str *name,
                     bool *found, struct jinja_value *out)
{
    if (!plain_attribute(r, v, name, found, out) || *found)
        return !r->failed;
    if (name->len > 2 && name->data[0] == '_' && name->data[1] == '_' &&
        jinja_method_is_internal(name)) {
        *found = true;
        return hidden(r, v, name, out);
    }
    bool changes = false;
    const struct jinja_builtin *fn = jinja_method_find(v, name, &changes);
    if (!fn)
        return true;
    *found = true;
    if (changes)
        return hidden(r, v, name, out);
    struct jinja_method *m = jinja_alloc(r, 1, sizeof *m);
    if (!m)
        return false;
    *m = (struct jinja_method){.fn = fn, .self = v};
    *out = (struct jinja_value){.type = JINJA_METHOD, .method = m};
    return true;
}

/* v[key] without falling back to attributes; *found false for Python's TypeError, LookupError. */
static bool subscript(struct jinja_run *r, struct jinja_value v, struct jinja_value key,
                      bool *found, struct jinja_value *out)
{
    *found = false;
    if (v.type == JINJA_DICT) {
        const struct jinja_value *value;
        if (key.type == JINJA_LIST || key.type == JINJA_DICT || key.type == JINJA_VIEW)
            return true;
        if (!jinja_dict_get(r, v.dict, key, &value))
            return false;
        *found = value != NULL;
        if (value)
            *out = *value;
        return true;
    }
    int64_t i;
    size_t count;
    if ((v.type != JINJA_STR && v.type != JINJA_LIST && v.type != JINJA_TUPLE &&
         v.type != JINJA_RANGE) ||
        !jinja_as_index(key, &i))
        return true;
    if (!jinja_len(r, v, &count))
        return false;
    if (i < 0)
        i += (int64_t)count;
    if (i < 0 || i >= (int64_t)count)
        return true;
    *found = true;
    if (v.type == JINJA_RANGE) {
        *out = jinja_int(v.range->start + i * v.range->step);
        return true;
    }
    if (v.type != JINJA_STR) {
        *out = v.seq->items[i];
        return true;
    }
    size_t from = jinja_str_offset(v.s, (size_t)i);
    size_t n;
    jinja_str_cp(v.s, from, &n);
    const struct jinja_str *c = jinja_str_sub(r, v.s, from, from + n);
    if (!c)
        return false;
    *out = jinja_of_str(c);
    return true;
}

bool jinja_getattr(struct jinja_run *r, struct jinja_value v, const struct jinja_str *name,
                   struct jinja_value *out)
{
    bool found;
    if (v.type == JINJA_UNDEFINED)
        return jinja_raise_undefined(r, v);
    if (!jinja_attribute(r, v, name, &found, out) || found)
        return !r->failed;
    if (!subscript(r, v, jinja_of_str(name), &found, out) || found)
        return !r->failed;
    return jinja_undefined(r, NULL, v, jinja_of_str(name), out);
}

bool jinja_getitem(struct jinja_run *r, struct jinja_value v, struct jinja_value key,
                   struct jinja_value *out)
{
    bool found;
    if (v.type == JINJA_UNDEFINED)
        return jinja_raise_undefined(r, v);
    if (!subscript(r, v, key, &found, out) || found)
        return !r->failed;
    if (key.type == JINJA_STR && (!jinja_attribute(r, v, key.s, &found, out) || found))
        return !r->failed;
    return jinja_undefined(r, NULL, v, key, out);
}

/* A part of a slice, clamped as Python's slice.indices does. */
static bool slice_part(struct jinja_run *r, struct jinja_value v, int64_t missing, int64_t low,
                       int64_t high, int64_t *out)
{
    *out = missing;
    if (v.type == JINJA_MISSING || v.type == JINJA_NONE)
        return true;
    int64_t i;
    if (!jinja_as_index(v, &i))
        return jinja_raise(r, "slice indices must be integers or None");
    int64_t count = low < 0 ? high + 1 : high;
    if (i < 0) {
        i += count;
        *out = i < low ? low : i;
    } else {
        *out = i > high ? high : i;
    }
    return true;
}

static bool slice_str(struct jinja_run *r, const struct jinja_str *s, int64_t start, int64_t step,
                      int64_t count, struct jinja_value *out)
{
    const struct jinja_str *result;
    if (!jinja_charge_bytes(r, s->len))
        return false;
    if (step == 1 || count == 0) {
        size_t from = count ? jinja_str_offset(s, (size_t)start) : 0;
        size_t to = count ? jinja_str_offset(s, (size_t)(start + count)) : 0;
        result = jinja_str_sub(r, s, from, to);
    } else {
        struct jinja_buf b;
        jinja_buf_init(&b, r);
        size_t at = jinja_str_offset(s, (size_t)start);
        for (int64_t k = 0; k < count; k++) {
            size_t n;
            jinja_str_cp(s, at, &n);
            jinja_buf_add(&b, s->data + at, n, jinja_str_mask_at(s, at));
            /* to the next one wanted, code point by code point */
            for (int64_t move = k + 1 < count ? step : 0; move != 0; move += move > 0 ? -1 : 1) {
                do
                    at = step > 0 ? at + 1 : at - 1;
                while (((unsigned char)s->data[at] & 0xC0) == 0x80);
            }
        }
        if (!jinja_buf_finish(&b, &result))
            return false;
        result = jinja_str_markup(r, result, s->markup);
    }
    if (!result)
        return false;
    *out = jinja_of_str(result);
    return true;
}

static bool slice_seq(struct jinja_run *r, struct jinja_value v, int64_t start, int64_t step,
                      int64_t count, struct jinja_value *out)
{
    const struct jinja_value *items = count ? v.seq->items + start : NULL;
    if (step != 1) {
        struct jinja_value *picked = jinja_alloc(r, (size_t)count, sizeof *picked);
        if (!picked || !jinja_charge(r, (uint64_t)count / 16))
            return false;
        for (int64_t k = 0; k < count; k++)
            picked[k] = v.seq->items[start + k * step];
        items = picked;
    }
    struct jinja_seq *seq = jinja_alloc(r, 1, sizeof *seq);
    if (!seq)
        return false;
    *seq = (struct jinja_seq){.items = items, .count = (size_t)count, .input = v.seq->input};
    *out = (struct jinja_value){.type = v.type, .seq = seq};
    return true;
}

static bool slice_range(struct jinja_run *r, const struct jinja_range *v, int64_t from, int64_t to,
                        int64_t by, int64_t count, struct jinja_value *out)
{
    struct jinja_range *g = jinja_alloc(r, 1, sizeof *g);
    if (!g)
        return false;
    int64_t start;
    int64_t stop;
    g->count = count;
    if (__builtin_mul_overflow(v->step, by, &g->step) ||
        __builtin_mul_overflow(v->step, from, &start) ||
        __builtin_mul_overflow(v->step, to, &stop) ||
        __builtin_add_overflow(v->start, start, &g->start) ||
        __builtin_add_overflow(v->start, stop, &g->stop))
        return jinja_raise(r, "integer beyond 64 bits");
    *out = (struct jinja_value){.type = JINJA_RANGE, .range = g};
    return true;
}

bool jinja_slice(struct jinja_run *r, struct jinja_value v, struct jinja_value start,
                 struct jinja_value stop, struct jinja_value step, struct jinja_value *out)
{
    size_t n;
    int64_t by = 1;
    int64_t from;
    int64_t to;
    if (v.type != JINJA_STR && v.type != JINJA_LIST && v.type != JINJA_TUPLE &&
        v.type != JINJA_RANGE)
        return jinja_raise_type(r, v, "'%s' object can't be sliced", jinja_type_name(v));
    if (!jinja_len(r, v, &n))
        return false;
    int64_t len = (int64_t)n;
    if (step.type != JINJA_MISSING && step.type != JINJA_NONE && !jinja_as_index(step, &by))
        return jinja_raise(r, "slice indices must be integers or None");
    if (by == 0)
        return jinja_raise(r, "slice step cannot be zero");
    if (by < -INT32_MAX)
        by = -INT32_MAX;
    if (by > INT32_MAX)
        by = INT32_MAX;
    int64_t low = by > 0 ? 0 : -1;
    int64_t high = by > 0 ? len : len - 1;
    if (!slice_part(r, start, by > 0 ? low : high, low, high, &from) ||
        !slice_part(r, stop, by > 0 ? high : low, low, high, &to))
        return false;
    int64_t count = 0;
    if (by > 0 && from < to)
        count = (to - from - 1) / by + 1;
    if (by < 0 && from > to)
        count = (from - to - 1) / -by + 1;
    if (v.type == JINJA_STR)
        return slice_str(r, v.s, from, by, count, out);
    if (v.type != JINJA_RANGE)
        return slice_seq(r, v, from, by, count, out);
    return slice_range(r, v.range, from, to, by, count, out);
}

/* One step of a path: digits are an index. */
static struct jinja_value path_part(const struct jinja_str *part)
{
    int64_t i = 0;
    bool digits = part->len > 0 && part->len < 18;
    for (size_t k = 0; digits && k < part->len; k++) {
        digits = part->data[k] >= '0' && part->data[k] <= '9';
        i = i * 10 + (part->data[k] - '0');
    }
    return digits ? jinja_int(i) : jinja_of_str(part);
}

bool jinja_getpath(struct jinja_run *r, struct jinja_value v, struct jinja_value path,
                   struct jinja_value missing, struct jinja_value *out)
{
    *out = v;
    if (path.type == JINJA_NONE || path.type == JINJA_MISSING)
        return true;
    size_t from = 0;
    for (;;) {
        struct jinja_value key = path;
        size_t to = 0;
        if (path.type == JINJA_STR) {
            const char *dot = memchr(path.s->data + from, '.', path.s->len - from);
            to = dot ? (size_t)(dot - path.s->data) : path.s->len;
            const struct jinja_str *part = jinja_str_sub(r, path.s, from, to);
            if (!part)
                return false;
            key = path_part(part);
        }
        if (!jinja_charge(r, 1) || !jinja_getitem(r, *out, key, out))
            return false;
        if (out->type == JINJA_UNDEFINED && missing.type != JINJA_MISSING &&
            missing.type != JINJA_NONE)
            *out = missing;
        if (path.type != JINJA_STR || to == path.s->len)
            return true;
        from = to + 1;
    }
}
