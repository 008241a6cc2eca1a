/* Filters that look into the items: map, select, groupby, unique ... */
#include "engine/text/jinja_filter_rows.h"

#include <string.h>

#include "engine/text/jinja_access.h"
#include "engine/text/jinja_dict.h"
#include "engine/text/jinja_filter.h"
#include "engine/text/jinja_iter.h"
#include "engine/text/jinja_ops.h"
#include "engine/text/jinja_pick.h"
#include "engine/text/jinja_sort.h"
#include "engine/text/jinja_text.h"

bool jinja_ignore_case(struct jinja_run *r, struct jinja_value *v)
{
    return v->type != JINJA_STR || jinja_text_case(r, v->s, JINJA_LOWER, &v->s);
}

bool jinja_pick_key(struct jinja_run *r, struct jinja_value v, struct jinja_value path,
                    struct jinja_value missing, bool ignore_case, struct jinja_value *out)
{
    return jinja_getpath(r, v, path, missing, out) && (!ignore_case || jinja_ignore_case(r, out));
}

bool jinja_pick_keys(struct jinja_run *r, struct jinja_value v, struct jinja_value path,
                     bool ignore_case, struct jinja_value *out)
{
    struct jinja_value none = {.type = JINJA_MISSING};
    struct jinja_items keys = {.items = NULL};
    const struct jinja_str *comma = jinja_str_static(r, ",");
    struct jinja_items parts = {.items = &path, .count = 1};
    if (!comma ||
        (path.type == JINJA_STR && !jinja_text_split(r, path.s, comma, -1, false, &parts)))
        return false;
    for (size_t i = 0; i < parts.count; i++) {
        struct jinja_value key;
        if (!jinja_pick_key(r, v, parts.items[i], none, ignore_case, &key) ||
            !jinja_items_add(r, &keys, key))
            return false;
    }
    return jinja_seq_value(r, JINJA_LIST, keys.items, keys.count, out);
}

/* State of map and select: what is done with each item. */
struct pick {
    bool started;
    bool reject;
    struct jinja_value path;    /* looked up in the item first; MISSING: the item */
    struct jinja_value missing; /* in place of absent values */
    struct jinja_value name;    /* of the filter or test; MISSING: none */
    struct jinja_args args;     /* for it */
};

/* The reference looks at its input only once the generator is drawn from, and not at all when the
 * input is false. */
static bool pick_start(struct jinja_run *r, struct jinja_iter *it, struct pick *p, bool *done)
{
    *done = !p->started && !jinja_truth(it->over);
    p->started = true;
    return *done || jinja_iter_source(r, it);
}

static bool next_mapped(struct jinja_run *r, struct jinja_iter *it, struct jinja_value *out,
                        bool *done)
{
    struct pick *p = it->state;
    struct jinja_value v;
    if (!pick_start(r, it, p, done))
        return false;
    if (*done)
        return true;
    if (p->name.type == JINJA_MISSING && p->path.type == JINJA_MISSING)
        return jinja_raise(r, "map requires a filter argument");
    if (!jinja_iter_next(r, it->inner, &v, done) || *done)
        return !r->failed;
    if (p->name.type == JINJA_MISSING)
        return jinja_getpath(r, v, p->path, p->missing, out);
    return jinja_filter_call(r, p->name, v, &p->args, out);
}

static bool next_selected(struct jinja_run *r, struct jinja_iter *it, struct jinja_value *out,
                          bool *done)
{
    struct pick *p = it->state;
    if (!pick_start(r, it, p, done))
        return false;
    while (!*done) {
        struct jinja_value v;
        bool holds;
        if (!jinja_iter_next(r, it->inner, out, done))
            return false;
        if (*done)
            break;
        if (!jinja_getpath(r, *out, p->path, p->missing, &v))
            return false;
        if (p->name.type == JINJA_MISSING)
            holds = jinja_truth(v);
        else if (!jinja_test_call(r, p->name, v, &p->args, &holds))
            return false;
        if (holds != p->reject)
            return true;
    }
    return true;
}

bool jinja_map_path(struct jinja_run *r, struct jinja_value items, struct jinja_value path,
                    struct jinja_value *out)
{
    struct pick *p = jinja_alloc(r, 1, sizeof *p);
    if (!p || !jinja_is_iterable(items))
        return p && jinja_raise(r, "'%s' object is not iterable", jinja_type_name(items));
    p->path = path;
    p->started = true;
    return jinja_generator(r, next_mapped, items, p, out);
}

/* Positional arguments from `skip` on and the keyword ones go to the filter or test. */
static void pass_args(struct pick *p, const struct jinja_args *raw, size_t skip)
{
    p->args = *raw;
    size_t n = raw->pos_count < skip ? raw->pos_count : skip;
    if (n > 0)
        p->args.pos = raw->pos + n;
    p->args.pos_count = raw->pos_count - n;
}

static bool filter_map(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    struct pick *p = jinja_alloc(r, 1, sizeof *p);
    if (!p)
        return false;
    for (size_t i = 0; c->raw->pos_count == 0 && i < c->raw->kw_count; i++) {
        const struct jinja_kwarg *k = &c->raw->kw[i];
        if (jinja_str_is(k->name, "attribute"))
            p->path = k->value;
        else if (jinja_str_is(k->name, "default"))
            p->missing = k->value;
        else
            return jinja_raise(r, "map() got an unexpected keyword argument");
    }
    if (c->raw->pos_count > 0)
        p->name = c->raw->pos[0];
    pass_args(p, c->raw, 1);
    return jinja_generator(r, next_mapped, c->self, p, out);
}

static bool select_items(struct jinja_run *r, const struct jinja_call *c, bool attribute,
                         bool reject, struct jinja_value *out)
{
    struct pick *p = jinja_alloc(r, 1, sizeof *p);
    size_t at = attribute;
    if (!p)
        return false;
    p->reject = reject;
    if (attribute) {
        if (c->raw->pos_count == 0)
            return jinja_raise(r, "Missing parameter for attribute name");
        p->path = c->raw->pos[0];
    }
    if (c->raw->pos_count > at)
        p->name = c->raw->pos[at];
    pass_args(p, c->raw, at + 1);
    return jinja_generator(r, next_selected, c->self, p, out);
}

static bool filter_select(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return select_items(r, c, false, false, out);
}

static bool filter_reject(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return select_items(r, c, false, true, out);
}

static bool filter_selectattr(struct jinja_run *r, const struct jinja_call *c,
                              struct jinja_value *out)
{
    return select_items(r, c, true, false, out);
}

static bool filter_rejectattr(struct jinja_run *r, const struct jinja_call *c,
                              struct jinja_value *out)
{
    return select_items(r, c, true, true, out);
}

/* State of unique: the keys seen so far. */
struct unique {
    bool ignore_case;
    struct jinja_value path;
    struct jinja_dict *seen;
};

static bool next_unique(struct jinja_run *r, struct jinja_iter *it, struct jinja_value *out,
                        bool *done)
{
    struct unique *u = it->state;
    struct jinja_value none = {.type = JINJA_MISSING};
    if (!jinja_iter_source(r, it))
        return false;
    for (;;) {
        struct jinja_value key;
        const struct jinja_value *seen;
        if (!jinja_iter_next(r, it->inner, out, done))
            return false;
        if (*done)
            return true;
        if (!jinja_pick_key(r, *out, u->path, none, u->ignore_case, &key) ||
            !jinja_dict_get(r, u->seen, key, &seen))
            return false;
        if (!seen)
            return jinja_dict_put(r, u->seen, key, jinja_none());
    }
}

static bool filter_unique(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    struct unique *u = jinja_alloc(r, 1, sizeof *u);
    if (!u)
        return false;
    u->ignore_case = !jinja_arg_truth(c, 0, false);
    u->path = c->a[1];
    u->seen = jinja_dict_new(r);
    return u->seen && jinja_generator(r, next_unique, c->self, u, out);
}

/* (key, list) as groupby gives it. */
static bool make_group(struct jinja_run *r, struct jinja_value key,
                       const struct jinja_items *members, struct jinja_value *out)
{
    struct jinja_value *pair = jinja_alloc(r, 2, sizeof *pair);
    struct jinja_seq *seq = jinja_alloc(r, 1, sizeof *seq);
    if (!pair || !seq || !jinja_seq_value(r, JINJA_LIST, members->items, members->count, &pair[1]))
        return false;
    pair[0] = key;
    *seq = (struct jinja_seq){.items = pair, .count = 2, .group = true};
    *out = (struct jinja_value){.type = JINJA_TUPLE, .seq = seq};
    return true;
}

/* Sorted by key, neighbours of equal keys together; a group is called by its first member's key. */
static bool filter_groupby(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_seq *seq;
    bool ignore_case = !jinja_arg_truth(c, 2, false);
    struct jinja_items groups = {.items = NULL};
    if (!jinja_collect(r, c->self, &seq))
        return false;
    struct jinja_value *keys = jinja_alloc(r, seq->count, sizeof *keys);
    size_t *order = jinja_alloc(r, seq->count, sizeof *order);
    for (size_t i = 0; keys && i < seq->count; i++) {
        if (!jinja_pick_key(r, seq->items[i], c->a[0], c->a[1], ignore_case, &keys[i]))
            return false;
    }
    if (!keys || !order || !jinja_sort_order(r, keys, seq->count, false, order))
        return false;
    for (size_t i = 0; i < seq->count;) {
        struct jinja_items members = {.items = NULL};
        struct jinja_value name;
        struct jinja_value group;
        bool same = true;
        size_t first = order[i];
        while (same) {
            if (!jinja_items_add(r, &members, seq->items[order[i++]]))
                return false;
            if (i == seq->count)
                break;
            if (!jinja_eq(r, keys[order[i]], keys[first], &same))
                return false;
        }
        if (!jinja_pick_key(r, seq->items[first], c->a[0], c->a[1], false, &name) ||
            !make_group(r, name, &members, &group) || !jinja_items_add(r, &groups, group))
            return false;
    }
    return jinja_seq_value(r, JINJA_LIST, groups.items, groups.count, out);
}

const struct jinja_builtin jinja_pick_filters[] = {
    {"map", "*", 0, filter_map},
    {"select", "*", 0, filter_select},
    {"reject", "*", 0, filter_reject},
    {"selectattr", "*", 0, filter_selectattr},
    {"rejectattr", "*", 0, filter_rejectattr},
    {"unique", "case_sensitive attribute", 0, filter_unique},
    {"groupby", "attribute default case_sensitive", 1, filter_groupby},
};
const size_t jinja_pick_filter_count = sizeof jinja_pick_filters / sizeof jinja_pick_filters[0];
