/* Filters on sequences and mappings as a whole. */
#include "engine/text/jinja_filter_rows.h"

#include <math.h>

#include "engine/text/jinja_access.h"
#include "engine/text/jinja_dict.h"
#include "engine/text/jinja_iter.h"
#include "engine/text/jinja_ops.h"
#include "engine/text/jinja_pick.h"
#include "engine/text/jinja_sort.h"

static bool filter_first(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    struct jinja_iter *it;
    struct jinja_value none = {.type = JINJA_MISSING};
    bool done;
    return jinja_iter_of(r, c->self, &it) && jinja_iter_next(r, it, out, &done) &&
           (!done || jinja_undefined(r, "No first item, sequence was empty.", none, none, out));
}

static bool filter_last(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    struct jinja_value none = {.type = JINJA_MISSING};
    struct jinja_value it;
    bool ok;
    bool done;
    if (!jinja_iter_reversed(r, c->self, &ok, &it))
        return false;
    if (!ok)
        return jinja_raise(r, "'%s' object is not reversible", jinja_type_name(c->self));
    return jinja_iter_next(r, it.iter, out, &done) &&
           (!done || jinja_undefined(r, "No last item, sequence was empty.", none, none, out));
}

static bool filter_list(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_seq *seq;
    if (!jinja_collect(r, c->self, &seq))
        return false;
    *out = (struct jinja_value){.type = JINJA_LIST, .seq = seq};
    return true;
}

/* A reversed string, else a reversed iterator, else a reversed list. */
static bool filter_reverse(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    struct jinja_value none = {.type = JINJA_MISSING};
    bool ok;
    if (c->self.type == JINJA_STR)
        return jinja_slice(r, c->self, none, none, jinja_int(-1), out);
    if (!jinja_iter_reversed(r, c->self, &ok, out))
        return false;
    if (ok)
        return true;
    if (!jinja_is_iterable(c->self))
        return jinja_raise(r, "argument must be iterable");
    return filter_list(r, c, out) && jinja_slice(r, *out, none, none, jinja_int(-1), out);
}

static bool next_pair(struct jinja_run *r, struct jinja_iter *it, struct jinja_value *out,
                      bool *done)
{
    if (it->over.type == JINJA_UNDEFINED) {
        *done = true;
        return true;
    }
    if (it->over.type != JINJA_DICT)
        return jinja_raise(r, "Can only get item pairs from a mapping.");
    if (!it->inner) {
        struct jinja_view *view = jinja_alloc(r, 1, sizeof *view);
        if (!view)
            return false;
        *view = (struct jinja_view){.kind = JINJA_VIEW_ITEMS, .dict = it->over.dict};
        it->over = (struct jinja_value){.type = JINJA_VIEW, .view = view};
        if (!jinja_iter_source(r, it))
            return false;
        it->over = (struct jinja_value){.type = JINJA_DICT, .dict = view->dict};
    }
    return jinja_iter_next(r, it->inner, out, done);
}

static bool filter_items(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return jinja_generator(r, next_pair, c->self, NULL, out);
}

/* Items of seq in the order of keys. */
static bool reorder(struct jinja_run *r, const struct jinja_seq *seq,
                    const struct jinja_value *keys, bool reverse, struct jinja_value *out)
{
    size_t *order = jinja_alloc(r, seq->count, sizeof *order);
    struct jinja_value *items = jinja_alloc(r, seq->count, sizeof *items);
    if (!order || !items || !jinja_sort_order(r, keys, seq->count, reverse, order))
        return false;
    for (size_t i = 0; i < seq->count; i++)
        items[i] = seq->items[order[i]];
    return jinja_seq_value(r, JINJA_LIST, items, seq->count, out);
}

static bool filter_sort(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_seq *seq;
    bool sensitive = jinja_arg_truth(c, 1, false);
    if (!jinja_collect(r, c->self, &seq))
        return false;
    struct jinja_value *keys = jinja_alloc(r, seq->count, sizeof *keys);
    for (size_t i = 0; keys && i < seq->count; i++) {
        if (!jinja_pick_keys(r, seq->items[i], c->a[2], !sensitive, &keys[i]))
            return false;
    }
    return keys && reorder(r, seq, keys, jinja_arg_truth(c, 0, false), out);
}

static bool filter_dictsort(struct jinja_run *r, const struct jinja_call *c,
                            struct jinja_value *out)
{
    bool sensitive = jinja_arg_truth(c, 0, false);
    const struct jinja_str *by = jinja_str_static(r, "key");
    if (!by || (c->a[1].type != JINJA_MISSING && !jinja_arg_str(r, c, 1, &by)))
        return false;
    bool value = jinja_str_is(by, "value");
    if (!value && !jinja_str_is(by, "key"))
        return jinja_raise(r, "You can only sort by either \"key\" or \"value\"");
    if (c->self.type != JINJA_DICT)
        return jinja_raise_type(r, c->self, "'%s' object has no attribute 'items'",
                                jinja_type_name(c->self));
    struct jinja_view view = {.kind = JINJA_VIEW_ITEMS, .dict = c->self.dict};
    struct jinja_value items = {.type = JINJA_VIEW, .view = &view};
    const struct jinja_seq *seq;
    if (!jinja_collect(r, items, &seq))
        return false;
    struct jinja_value *keys = jinja_alloc(r, seq->count, sizeof *keys);
    for (size_t i = 0; keys && i < seq->count; i++) {
        keys[i] = seq->items[i].seq->items[value];
        if (!sensitive && !jinja_ignore_case(r, &keys[i]))
            return false;
    }
    return keys && reorder(r, seq, keys, jinja_arg_truth(c, 2, false), out);
}

static bool filter_sum(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    struct jinja_value items = c->self;
    struct jinja_iter *it;
    *out = c->a[1].type == JINJA_MISSING ? jinja_int(0) : c->a[1];
    if (jinja_arg_given(c, 0) && !jinja_map_path(r, items, c->a[0], &items))
        return false;
    if (!jinja_iter_of(r, items, &it))
        return false;
    if (out->type == JINJA_STR)
        return jinja_raise(r, "sum() can't sum strings [use ''.join(seq) instead]");
    for (;;) {
        struct jinja_value v;
        bool done;
        if (!jinja_iter_next(r, it, &v, &done))
            return false;
        if (done)
            return true;
        if (!jinja_arith(r, JINJA_ADD, *out, v, out))
            return false;
    }
}

/* The least or greatest item by key; the first of equal ones. */
static bool extreme(struct jinja_run *r, const struct jinja_call *c, bool greatest,
                    struct jinja_value *out)
{
    bool sensitive = jinja_arg_truth(c, 0, false);
    struct jinja_value none = {.type = JINJA_MISSING};
    struct jinja_value best = none;
    struct jinja_iter *it;
    if (!jinja_iter_of(r, c->self, &it))
        return false;
    for (;;) {
        struct jinja_value v;
        struct jinja_value key;
        bool done;
        bool better = best.type == JINJA_MISSING;
        if (!jinja_iter_next(r, it, &v, &done))
            return false;
        if (done)
            break;
        if (!jinja_pick_key(r, v, c->a[1], none, !sensitive, &key))
            return false;
        if (!better && !jinja_order(r, greatest ? JINJA_GT : JINJA_LT, key, best, &better))
            return false;
        if (better) {
            best = key;
            *out = v;
        }
    }
    return best.type != JINJA_MISSING ||
           jinja_undefined(r, "No aggregated item, sequence was empty.", none, none, out);
}

static bool filter_min(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return extreme(r, c, false, out);
}

static bool filter_max(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return extreme(r, c, true, out);
}

/* State of batch. As the reference, a list is given once the item behind it was drawn. */
struct batch {
    int64_t size;
    struct jinja_value fill;
    struct jinja_value drawn; /* belongs to the next list; MISSING: none */
};

static bool next_batch(struct jinja_run *r, struct jinja_iter *it, struct jinja_value *out,
                       bool *done)
{
    struct batch *b = it->state;
    struct jinja_items items = {.items = NULL};
    bool end = false;
    if (!jinja_iter_source(r, it))
        return false;
    if (b->drawn.type != JINJA_MISSING && !jinja_items_add(r, &items, b->drawn))
        return false;
    b->drawn.type = JINJA_MISSING;
    for (;;) {
        struct jinja_value v;
        if (!jinja_iter_next(r, it->inner, &v, &end))
            return false;
        if (end)
            break;
        if ((int64_t)items.count == b->size) {
            b->drawn = v;
            break;
        }
        if (!jinja_items_add(r, &items, v))
            return false;
    }
    *done = end && items.count == 0;
    while (end && !*done && b->fill.type != JINJA_NONE && (int64_t)items.count < b->size) {
        if (!jinja_charge(r, 1) || !jinja_items_add(r, &items, b->fill))
            return false;
    }
    return *done || jinja_seq_value(r, JINJA_LIST, items.items, items.count, out);
}

static bool filter_batch(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    struct batch *b = jinja_alloc(r, 1, sizeof *b);
    if (!b)
        return false;
    /* the reference compares lengths with it: what equals none of them never closes a list */
    bool number = jinja_is_number(c->a[0]);
    double size = number ? jinja_as_double(c->a[0]) : -1;
    b->size = size == floor(size) && fabs(size) < 1e15 ? (int64_t)size : -1;
    if (!number && jinja_arg_given(c, 1))
        return jinja_raise_type(r, c->a[0], "batch() needs an integer, not '%s'",
                                jinja_type_name(c->a[0]));
    b->fill = jinja_arg_given(c, 1) ? c->a[1] : jinja_none();
    return jinja_generator(r, next_batch, c->self, b, out);
}

/* slice: the sequence cut into so many lists, the first ones one longer. */
static bool filter_slice(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_seq *seq;
    struct jinja_items lists = {.items = NULL};
    int64_t slices;
    struct jinja_value list;
    if (!jinja_arg_int(r, c, 0, 0, &slices) || !jinja_collect(r, c->self, &seq))
        return false;
    if (slices == 0)
        return jinja_raise(r, "integer division or modulo by zero");
    size_t at = 0;
    for (int64_t i = 0; i < slices; i++) {
        size_t extra = i < (int64_t)(seq->count % (size_t)slices);
        size_t count = seq->count / (size_t)slices + extra;
        struct jinja_items part = {.items = NULL};
        for (size_t k = 0; k < count; k++) {
            if (!jinja_items_add(r, &part, seq->items[at++]))
                return false;
        }
        if (!extra && jinja_arg_given(c, 1) && !jinja_items_add(r, &part, c->a[1]))
            return false;
        if (!jinja_charge(r, 1 + count) ||
            !jinja_seq_value(r, JINJA_LIST, part.items, part.count, &list) ||
            !jinja_items_add(r, &lists, list))
            return false;
    }
    /* a generator, as the reference gives */
    struct jinja_iter *it;
    if (!jinja_seq_value(r, JINJA_LIST, lists.items, lists.count, &list) ||
        !jinja_iter_of(r, list, &it))
        return false;
    *out = (struct jinja_value){.type = JINJA_ITER, .iter = it};
    return true;
}

const struct jinja_builtin jinja_seq_filters[] = {
    {"first", "", 0, filter_first},
    {"last", "", 0, filter_last},
    {"list", "", 0, filter_list},
    {"items", "", 0, filter_items},
    {"reverse", "", 0, filter_reverse},
    {"sort", "reverse case_sensitive attribute", 0, filter_sort},
    {"dictsort", "case_sensitive by reverse", 0, filter_dictsort},
    {"sum", "attribute start", 0, filter_sum},
    {"min", "case_sensitive attribute", 0, filter_min},
    {"max", "case_sensitive attribute", 0, filter_max},
    {"batch", "linecount fill_with", 1, filter_batch},
    {"slice", "slices fill_with", 1, filter_slice},
    {"random", "", 0, NULL},
};
const size_t jinja_seq_filter_count = sizeof jinja_seq_filters / sizeof jinja_seq_filters[0];
