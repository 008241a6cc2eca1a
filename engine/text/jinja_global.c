#include "engine/text/jinja_global.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine/base/clock.h"
#include "engine/text/jinja_dict.h"
#include "engine/text/jinja_iter.h"
#include "engine/text/jinja_ops.h"
#include "engine/text/jinja_print.h"

/* As the reference's sandbox. */
#define RANGE_MAX 100000

static bool global_range(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    int64_t v[3] = {0, 0, 1};
    int given = 0;
    for (int i = 0; i < 3; i++) {
        if (c->a[i].type == JINJA_MISSING)
            break;
        if (!jinja_arg_int(r, c, i, 0, &v[i]))
            return false;
        given++;
    }
    if (given == 1) {
        v[1] = v[0];
        v[0] = 0;
    }
    if (v[2] == 0)
        return jinja_raise(r, "range() arg 3 must not be zero");
    struct jinja_range *g = jinja_alloc(r, 1, sizeof *g);
    if (!g)
        return false;
    *g = (struct jinja_range){.start = v[0], .stop = v[1], .step = v[2]};
    /* the distance fits 64 bits without a sign */
    uint64_t distance = 0;
    uint64_t step = v[2] > 0 ? (uint64_t)v[2] : 0 - (uint64_t)v[2];
    if (v[2] > 0 && v[0] < v[1])
        distance = (uint64_t)v[1] - (uint64_t)v[0];
    if (v[2] < 0 && v[0] > v[1])
        distance = (uint64_t)v[0] - (uint64_t)v[1];
    uint64_t count = distance ? (distance - 1) / step + 1 : 0;
    if (count > RANGE_MAX)
        return jinja_raise(r, "Range too big. The sandbox blocks ranges larger than %d.",
                           RANGE_MAX);
    g->count = (int64_t)count;
    *out = (struct jinja_value){.type = JINJA_RANGE, .range = g};
    return true;
}

static bool copy_entries(struct jinja_run *r, const struct jinja_dict *from, struct jinja_dict *to)
{
    for (size_t i = 0; i < from->count; i++) {
        if (!jinja_charge(r, 1) ||
            !jinja_dict_put(r, to, from->entries[i].key, from->entries[i].value))
            return false;
    }
    return true;
}

/* An iterable of pairs. */
static bool put_pairs(struct jinja_run *r, struct jinja_value pairs, struct jinja_dict *to)
{
    struct jinja_iter *it;
    if (!jinja_iter_of(r, pairs, &it))
        return false;
    for (;;) {
        struct jinja_value pair;
        const struct jinja_seq *seq;
        bool done;
        if (!jinja_iter_next(r, it, &pair, &done))
            return false;
        if (done)
            return true;
        if (!jinja_collect(r, pair, &seq))
            return false;
        if (seq->count != 2)
            return jinja_raise(
                r, "dictionary update sequence element has length %zu; 2 is required", seq->count);
        if (!jinja_dict_put(r, to, seq->items[0], seq->items[1]))
            return false;
    }
}

/* dict(mapping or pairs, **names) */
static bool build_dict(struct jinja_run *r, const struct jinja_call *c, struct jinja_dict **out)
{
    const struct jinja_args *args = c->raw;
    struct jinja_dict *d = jinja_dict_new(r);
    if (!d)
        return false;
    if (args->pos_count > 1)
        return jinja_raise(r, "dict expected at most 1 argument, got %zu", args->pos_count);
    if (args->pos_count == 1) {
        struct jinja_value from = args->pos[0];
        if (from.type == JINJA_UNDEFINED)
            return jinja_raise_undefined(r, from);
        if (!(from.type == JINJA_DICT ? copy_entries(r, from.dict, d) : put_pairs(r, from, d)))
            return false;
    }
    for (size_t i = 0; i < args->kw_count; i++) {
        if (!jinja_dict_put(r, d, jinja_of_str(args->kw[i].name), args->kw[i].value))
            return false;
    }
    *out = d;
    return true;
}

static bool global_dict(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    struct jinja_dict *d;
    if (!build_dict(r, c, &d))
        return false;
    *out = (struct jinja_value){.type = JINJA_DICT, .dict = d};
    return true;
}

static bool global_namespace(struct jinja_run *r, const struct jinja_call *c,
                             struct jinja_value *out)
{
    struct jinja_dict *d;
    if (!build_dict(r, c, &d))
        return false;
    for (size_t i = 0; i < d->count; i++) {
        struct jinja_value key = d->entries[i].key;
        if (key.type == JINJA_STR && key.s->len > 0 && key.s->data[0] == '_')
            return jinja_raise(r, "underscore-prefixed attributes can't be stored on a namespace");
    }
    *out = (struct jinja_value){.type = JINJA_NAMESPACE, .ns = d};
    return true;
}

static bool global_cycler(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    struct jinja_cycler *cycler = jinja_alloc(r, 1, sizeof *cycler);
    if (!cycler)
        return false;
    if (c->raw->kw_count)
        return jinja_raise(r, "cycler() takes no keyword arguments");
    if (c->raw->pos_count == 0)
        return jinja_raise(r, "at least one item has to be provided");
    *cycler = (struct jinja_cycler){.items = c->raw->pos, .count = c->raw->pos_count};
    *out = (struct jinja_value){.type = JINJA_CYCLER, .cycler = cycler};
    return true;
}

static bool global_joiner(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    struct jinja_joiner *joiner = jinja_alloc(r, 1, sizeof *joiner);
    const struct jinja_str *comma = jinja_str_static(r, ", ");
    if (!joiner || !comma)
        return false;
    joiner->sep = c->a[0].type == JINJA_MISSING ? jinja_of_str(comma) : c->a[0];
    *out = (struct jinja_value){.type = JINJA_JOINER, .joiner = joiner};
    return true;
}

/* The message is the caller's: nothing is put before it. */
static bool global_raise_exception(struct jinja_run *r, const struct jinja_call *c,
                                   struct jinja_value *out)
{
    const struct jinja_str *s;
    (void)out;
    if (!jinja_to_str(r, c->a[0], &s))
        return false;
    int n = s->len < ERR_MSG_MAX ? (int)s->len : ERR_MSG_MAX;
    return jinja_fail(r, STATUS_INVALID, "%.*s", n, s->data);
}

static bool global_strftime_now(struct jinja_run *r, const struct jinja_call *c,
                                struct jinja_value *out)
{
    const struct jinja_str *format;
    char pattern[256];
    char text[1024];
    struct tm tm;
    time_t now = (time_t)clock_unix_s();
    if (!jinja_arg_str(r, c, 0, &format))
        return false;
    if (format->len >= sizeof pattern || memchr(format->data, '\0', format->len))
        return jinja_raise(r, "strftime_now: the format is too long");
    memcpy(pattern, format->data, format->len);
    pattern[format->len] = '\0';
    if (!localtime_r(&now, &tm))
        return jinja_raise(r, "strftime_now: there is no local time");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    size_t n = strftime(text, sizeof text, pattern, &tm);
#pragma GCC diagnostic pop
    struct jinja_buf b;
    const struct jinja_str *s;
    jinja_buf_init(&b, r);
    jinja_buf_add(&b, text, n,
                  format->mask == JINJA_FROM_TEMPLATE ? JINJA_FROM_TEMPLATE : JINJA_FROM_INPUT);
    if (!jinja_buf_finish(&b, &s))
        return false;
    *out = jinja_of_str(s);
    return true;
}

static const struct jinja_builtin globals[] = {
    {"namespace", "*", 0, global_namespace},
    {"range", "start stop step /", 1, global_range},
    {"raise_exception", "message", 1, global_raise_exception},
    {"strftime_now", "format", 1, global_strftime_now},
    {"dict", "*", 0, global_dict},
    {"cycler", "*", 0, global_cycler},
    {"joiner", "sep", 0, global_joiner},
    {"lipsum", "*", 0, NULL},
};

const struct jinja_builtin *jinja_global_find(const struct jinja_str *name)
{
    return jinja_builtin_find(globals, sizeof globals / sizeof globals[0], name);
}
