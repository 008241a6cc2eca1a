#include "engine/text/jinja_iter.h"

#include "engine/text/jinja_dict.h"
#include "engine/text/jinja_ops.h"

static bool next_seq(struct jinja_run *r, struct jinja_iter *it, struct jinja_value *out,
                     bool *done)
{
    (void)r;
    *done = it->pos == it->over.seq->count;
    if (!*done)
        *out = it->over.seq->items[it->pos++];
    return true;
}

static bool next_str(struct jinja_run *r, struct jinja_iter *it, struct jinja_value *out,
                     bool *done)
{
    const struct jinja_str *s = it->over.s;
    *done = it->pos == s->len;
    if (*done)
        return true;
    size_t n;
    jinja_str_cp(s, it->pos, &n);
    const struct jinja_str *c = jinja_str_sub(r, s, it->pos, it->pos + n);
    if (c)
        c = jinja_str_markup(r, c, false);
    if (!c)
        return false;
    *out = jinja_of_str(c);
    it->pos += n;
    return true;
}

static bool next_range(struct jinja_run *r, struct jinja_iter *it, struct jinja_value *out,
                       bool *done)
{
    (void)r;
    const struct jinja_range *g = it->over.range;
    *done = (int64_t)it->pos == g->count;
    if (!*done)
        *out = jinja_int(g->start + (int64_t)it->pos++ * g->step);
    return true;
}

/* A key, a value or a pair. */
static bool dict_item(struct jinja_run *r, const struct jinja_entry *e, enum jinja_view_kind kind,
                      struct jinja_value *out)
{
    *out = kind == JINJA_VIEW_VALUES ? e->value : e->key;
    if (kind != JINJA_VIEW_ITEMS)
        return true;
    struct jinja_value *pair = jinja_alloc(r, 2, sizeof *pair);
    if (!pair)
        return false;
    pair[0] = e->key;
    pair[1] = e->value;
    return jinja_seq_value(r, JINJA_TUPLE, pair, 2, out);
}

static bool next_dict(struct jinja_run *r, struct jinja_iter *it, struct jinja_value *out,
                      bool *done)
{
    bool view = it->over.type == JINJA_VIEW;
    const struct jinja_dict *d = view ? it->over.view->dict : it->over.dict;
    *done = it->pos >= d->count;
    return *done ||
           dict_item(r, &d->entries[it->pos++], view ? it->over.view->kind : JINJA_VIEW_KEYS, out);
}

static bool next_nothing(struct jinja_run *r, struct jinja_iter *it, struct jinja_value *out,
                         bool *done)
{
    (void)r;
    (void)it;
    (void)out;
    *done = true;
    return true;
}

/* Items from the last to the first; pos counts those already given. */
static bool next_reversed(struct jinja_run *r, struct jinja_iter *it, struct jinja_value *out,
                          bool *done)
{
    struct jinja_value v = it->over;
    size_t count;
    if (!jinja_len(r, v, &count))
        return false;
    *done = it->pos >= count;
    if (*done)
        return true;
    size_t at = count - 1 - it->pos++;
    if (v.type == JINJA_RANGE) {
        *out = jinja_int(v.range->start + (int64_t)at * v.range->step);
        return true;
    }
    if (v.type == JINJA_STR) {
        size_t from = jinja_str_offset(v.s, at);
        size_t n;
        jinja_str_cp(v.s, from, &n);
        const struct jinja_str *c = jinja_str_sub(r, v.s, from, from + n);
        *out = (struct jinja_value){.type = JINJA_STR, .s = c};
        return c != NULL;
    }
    if (v.type == JINJA_DICT)
        return dict_item(r, &v.dict->entries[at], JINJA_VIEW_KEYS, out);
    if (v.type == JINJA_VIEW)
        return dict_item(r, &v.view->dict->entries[at], v.view->kind, out);
    *out = v.seq->items[at];
    return true;
}

bool jinja_is_iterable(struct jinja_value v)
{
    switch ((enum jinja_type)v.type) {
    case JINJA_STR:
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_DICT:
    case JINJA_RANGE:
    case JINJA_VIEW:
    case JINJA_UNDEFINED:
    case JINJA_ITER:
    case JINJA_LOOP:
        return true;
    default:
        return false;
    }
}

bool jinja_iter_of(struct jinja_run *r, struct jinja_value v, struct jinja_iter **out)
{
    if (v.type == JINJA_ITER) {
        *out = v.iter;
        return true;
    }
    if (!jinja_is_iterable(v))
        return jinja_raise(r, "'%s' object is not iterable", jinja_type_name(v));
    if (v.type == JINJA_LOOP)
        return jinja_raise(r, "iterating over loop is not supported");
    struct jinja_iter *it = jinja_alloc(r, 1, sizeof *it);
    if (!it)
        return false;
    it->over = v;
    it->next = v.type == JINJA_STR                             ? next_str
               : v.type == JINJA_LIST || v.type == JINJA_TUPLE ? next_seq
               : v.type == JINJA_RANGE                         ? next_range
               : v.type == JINJA_UNDEFINED                     ? next_nothing
                                                               : next_dict;
    *out = it;
    return true;
}

bool jinja_iter_next(struct jinja_run *r, struct jinja_iter *it, struct jinja_value *out,
                     bool *done)
{
    *done = it->done;
    if (it->done)
        return true;
    if (!jinja_nest(r))
        return false;
    bool ok = it->next(r, it, out, done);
    r->nest--;
    it->done = *done || !ok;
    return ok;
}

bool jinja_iter_reversed(struct jinja_run *r, struct jinja_value v, bool *ok,
                         struct jinja_value *out)
{
    *ok = jinja_has_len(v);
    if (!*ok)
        return true;
    struct jinja_iter *it = jinja_alloc(r, 1, sizeof *it);
    if (!it)
        return false;
    it->over = v;
    it->next = next_reversed;
    it->reversed = true;
    *out = (struct jinja_value){.type = JINJA_ITER, .iter = it};
    return true;
}

bool jinja_generator(struct jinja_run *r,
                     bool (*next)(struct jinja_run *r, struct jinja_iter *it,
                                  struct jinja_value *out, bool *done),
                     struct jinja_value source, void *state, struct jinja_value *out)
{
    struct jinja_iter *it = jinja_alloc(r, 1, sizeof *it);
    if (!it)
        return false;
    it->next = next;
    it->over = source;
    it->state = state;
    *out = (struct jinja_value){.type = JINJA_ITER, .iter = it};
    return true;
}

bool jinja_iter_source(struct jinja_run *r, struct jinja_iter *it)
{
    return it->inner || jinja_iter_of(r, it->over, &it->inner);
}

bool jinja_collect(struct jinja_run *r, struct jinja_value v, const struct jinja_seq **out)
{
    if (v.type == JINJA_LIST || v.type == JINJA_TUPLE) {
        *out = v.seq;
        return true;
    }
    struct jinja_iter *it;
    struct jinja_items items = {.items = NULL};
    if (!jinja_iter_of(r, v, &it))
        return false;
    for (;;) {
        struct jinja_value item;
        bool done;
        if (!jinja_iter_next(r, it, &item, &done))
            return false;
        if (done)
            break;
        if (!jinja_items_add(r, &items, item))
            return false;
    }
    struct jinja_value list;
    if (!jinja_seq_value(r, JINJA_LIST, items.items, items.count, &list))
        return false;
    *out = list.seq;
    return true;
}

bool jinja_loop_peek(struct jinja_run *r, struct jinja_loop *l, struct jinja_value *out, bool *done)
{
    *done = false;
    if (l->after.type == JINJA_MISSING && !l->ended) {
        if (!jinja_iter_next(r, l->it, &l->after, &l->ended))
            return false;
        if (l->ended)
            l->after.type = JINJA_MISSING;
    }
    *done = l->ended;
    *out = l->after;
    return true;
}

bool jinja_loop_next(struct jinja_run *r, struct jinja_loop *l, struct jinja_value *out, bool *done)
{
    if (!jinja_loop_peek(r, l, out, done))
        return false;
    if (*done)
        return true;
    l->after.type = JINJA_MISSING;
    l->index0++;
    l->before = l->current;
    l->current = *out;
    return true;
}

bool jinja_loop_length(struct jinja_run *r, struct jinja_loop *l, size_t *out)
{
    if (!l->sized) {
        /* what is left becomes a list, so that the loop can go on over it */
        struct jinja_value rest = {.type = JINJA_ITER, .iter = l->it};
        const struct jinja_seq *seq;
        struct jinja_value list;
        if (!jinja_collect(r, rest, &seq) ||
            !jinja_seq_value(r, JINJA_LIST, seq->items, seq->count, &list) ||
            !jinja_iter_of(r, list, &l->it))
            return false;
        l->length = seq->count + (size_t)(l->index0 + 1) + (l->after.type != JINJA_MISSING);
        l->sized = true;
    }
    *out = l->length;
    return true;
}
