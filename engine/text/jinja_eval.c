#include "engine/text/jinja_eval.h"

#include <string.h>

#include "engine/text/jinja_access.h"
#include "engine/text/jinja_dict.h"
#include "engine/text/jinja_filter.h"
#include "engine/text/jinja_iter.h"
#include "engine/text/jinja_macro.h"
#include "engine/text/jinja_ops.h"
#include "engine/text/jinja_print.h"

struct jinja_scope *jinja_scope_new(struct jinja_run *r, struct jinja_scope *parent)
{
    struct jinja_scope *scope = jinja_alloc(r, 1, sizeof *scope);
    if (scope)
        scope->parent = parent;
    return scope;
}

bool jinja_scope_set(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_name *name,
                     struct jinja_value value)
{
    for (size_t i = 0; i < scope->count; i++) {
        if (scope->slots[i].name == name) {
            scope->slots[i].value = value;
            return true;
        }
    }
    if (scope->count == scope->cap) {
        size_t cap = scope->cap ? scope->cap * 2 : 4;
        struct jinja_slot *slots = jinja_alloc(r, cap, sizeof *slots);
        if (!slots)
            return false;
        if (scope->count)
            memcpy(slots, scope->slots, scope->count * sizeof *slots);
        scope->slots = slots;
        scope->cap = cap;
    }
    scope->slots[scope->count++] = (struct jinja_slot){.name = name, .value = value};
    return true;
}

bool jinja_scope_begin(struct jinja_run *r, struct jinja_scope *scope,
                       const struct jinja_unbound *unbound)
{
    struct jinja_value none = {.type = JINJA_MISSING};
    scope->count = 0;
    for (; unbound; unbound = unbound->next) {
        if (!jinja_scope_set(r, scope, unbound->name, none))
            return false;
    }
    return true;
}

/* Innermost binding, else the variable given to the render, else undefined. */
static bool eval_name(struct jinja_run *r, const struct jinja_scope *scope,
                      const struct jinja_name *name, struct jinja_value *out)
{
    bool bound = false;
    for (; scope && !bound; scope = scope->parent) {
        for (size_t i = 0; i < scope->count && !bound; i++) {
            if (scope->slots[i].name == name) {
                *out = scope->slots[i].value;
                bound = true;
            }
        }
    }
    if (!bound)
        *out = r->names[name->id];
    if (out->type != JINJA_MISSING)
        return true;
    struct jinja_value none = {.type = JINJA_MISSING};
    return jinja_undefined(r, NULL, none, jinja_of_str(&name->str), out);
}

static size_t list_count(const struct jinja_node *list)
{
    size_t n = 0;
    for (; list; list = list->next)
        n++;
    return n;
}

static bool eval_list(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *node,
                      struct jinja_value *out)
{
    size_t count = list_count(node->a);
    struct jinja_value *items = jinja_alloc(r, count, sizeof *items);
    if (!items)
        return false;
    size_t i = 0;
    for (const struct jinja_node *item = node->a; item; item = item->next) {
        if (!jinja_eval(r, scope, item, &items[i++]))
            return false;
    }
    return jinja_seq_value(r, node->kind == JINJA_N_LIST ? JINJA_LIST : JINJA_TUPLE, items, count,
                           out);
}

static bool eval_dict(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *node,
                      struct jinja_value *out)
{
    struct jinja_dict *d = jinja_dict_new(r);
    if (!d)
        return false;
    for (const struct jinja_node *key = node->a; key; key = key->next->next) {
        struct jinja_value k;
        struct jinja_value v;
        if (!jinja_eval(r, scope, key, &k) || !jinja_eval(r, scope, key->next, &v) ||
            !jinja_dict_put(r, d, k, v))
            return false;
    }
    *out = (struct jinja_value){.type = JINJA_DICT, .dict = d};
    return true;
}

/* Absent parts of a slice stay MISSING. */
static bool eval_slice(struct jinja_run *r, struct jinja_scope *scope, struct jinja_value object,
                       const struct jinja_node *slice, struct jinja_value *out)
{
    const struct jinja_node *nodes[] = {slice->a, slice->b, slice->c};
    struct jinja_value parts[3] = {{.type = JINJA_MISSING}};
    for (int i = 0; i < 3; i++) {
        if (nodes[i] && !jinja_eval(r, scope, nodes[i], &parts[i]))
            return false;
    }
    return jinja_slice(r, object, parts[0], parts[1], parts[2], out);
}

static bool eval_item(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *node,
                      struct jinja_value *out)
{
    struct jinja_value object;
    struct jinja_value key;
    if (!jinja_eval(r, scope, node->a, &object))
        return false;
    if (node->b->kind == JINJA_N_SLICE)
        return eval_slice(r, scope, object, node->b, out);
    return jinja_eval(r, scope, node->b, &key) && jinja_getitem(r, object, key, out);
}

struct arg_lists {
    struct jinja_items pos;
    struct jinja_kwarg *kw;
    size_t kw_count;
    size_t kw_cap;
};

static bool add_kwarg(struct jinja_run *r, struct arg_lists *l, const struct jinja_str *name,
                      struct jinja_value value)
{
    for (size_t i = 0; i < l->kw_count; i++) {
        if (jinja_str_eq(l->kw[i].name, name))
            return jinja_raise(r, "got multiple values for keyword argument '%.*s'",
                               (int)(name->len < 64 ? name->len : 64), name->data);
    }
    if (!jinja_charge(r, 1 + l->kw_count / 8))
        return false;
    if (l->kw_count == l->kw_cap) {
        size_t cap = l->kw_cap ? l->kw_cap * 2 : 4;
        struct jinja_kwarg *kw = jinja_alloc(r, cap, sizeof *kw);
        if (!kw)
            return false;
        if (l->kw_count)
            memcpy(kw, l->kw, l->kw_count * sizeof *kw);
        l->kw = kw;
        l->kw_cap = cap;
    }
    l->kw[l->kw_count++] = (struct jinja_kwarg){.name = name, .value = value};
    return true;
}

static bool spread_pos(struct jinja_run *r, struct arg_lists *l, struct jinja_value v)
{
    const struct jinja_seq *seq;
    if (!jinja_collect(r, v, &seq))
        return false;
    for (size_t i = 0; i < seq->count; i++) {
        if (!jinja_items_add(r, &l->pos, seq->items[i]))
            return false;
    }
    return jinja_charge(r, seq->count);
}

static bool spread_kw(struct jinja_run *r, struct arg_lists *l, struct jinja_value v)
{
    if (v.type != JINJA_DICT)
        return jinja_raise_type(r, v, "argument after ** must be a mapping, not %s",
                                jinja_type_name(v));
    for (size_t i = 0; i < v.dict->count; i++) {
        const struct jinja_entry *e = &v.dict->entries[i];
        if (e->key.type != JINJA_STR)
            return jinja_raise(r, "keywords must be strings");
        if (!add_kwarg(r, l, e->key.s, e->value))
            return false;
    }
    return true;
}

static bool eval_args(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *list,
                      struct arg_lists *l)
{
    for (const struct jinja_node *arg = list; arg; arg = arg->next) {
        struct jinja_value v;
        bool plain =
            arg->kind != JINJA_N_KWARG && arg->kind != JINJA_N_STAR && arg->kind != JINJA_N_DSTAR;
        bool ok = jinja_eval(r, scope, plain ? arg : arg->a, &v);
        if (ok && plain)
            ok = jinja_items_add(r, &l->pos, v);
        else if (ok && arg->kind == JINJA_N_KWARG)
            ok = add_kwarg(r, l, arg->attr, v);
        else if (ok && arg->kind == JINJA_N_STAR)
            ok = spread_pos(r, l, v);
        else if (ok)
            ok = spread_kw(r, l, v);
        if (!ok)
            return false;
    }
    return true;
}

static struct jinja_args args_of(const struct arg_lists *l)
{
    return (struct jinja_args){
        .pos = l->pos.items, .pos_count = l->pos.count, .kw = l->kw, .kw_count = l->kw_count};
}

/* loop(items) */
static bool call_loop(struct jinja_run *r, const struct jinja_loop *loop,
                      const struct jinja_args *args, struct jinja_value *out)
{
    if (!loop->node)
        return jinja_raise(r,
                           "The loop must have the 'recursive' marker to be called recursively.");
    if (args->pos_count != 1 || args->kw_count != 0)
        return jinja_raise(r, "loop() takes exactly one argument");
    return jinja_exec_recursive(r, loop, args->pos[0], out);
}

static bool call_joiner(struct jinja_run *r, struct jinja_joiner *j, struct jinja_value *out)
{
    *out = j->sep;
    if (j->used)
        return true;
    j->used = true;
    const struct jinja_str *empty = jinja_str_static(r, "");
    *out = (struct jinja_value){.type = JINJA_STR, .s = empty};
    return empty != NULL;
}

bool jinja_call_value(struct jinja_run *r, struct jinja_value callee, const struct jinja_args *args,
                      struct jinja_value *out)
{
    struct jinja_value none = {.type = JINJA_MISSING};
    switch ((enum jinja_type)callee.type) {
    case JINJA_MACRO:
        return jinja_macro_call(r, callee.macro, args, out);
    case JINJA_FUNCTION:
        return jinja_call_builtin(r, callee.function, none, args, out);
    case JINJA_METHOD:
        return jinja_call_builtin(r, callee.method->fn, callee.method->self, args, out);
    case JINJA_LOOP:
        return call_loop(r, callee.loop, args, out);
    case JINJA_JOINER:
        return call_joiner(r, callee.joiner, out);
    default:
        return jinja_raise_type(r, callee, "'%s' object is not callable", jinja_type_name(callee));
    }
}

static const struct jinja_str caller_name = {.data = "caller", .len = 6, .cps = 6};

bool jinja_eval_call(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *node,
                     const struct jinja_value *caller, struct jinja_value *out)
{
    struct jinja_value callee;
    struct arg_lists l = {.kw = NULL};
    if (!jinja_eval(r, scope, node->a, &callee) || !eval_args(r, scope, node->b, &l))
        return false;
    if (caller && !add_kwarg(r, &l, &caller_name, *caller))
        return false;
    struct jinja_args args = args_of(&l);
    r->line = node->line;
    return jinja_call_value(r, callee, &args, out);
}

/* A filter or test on an input that is there already. */
static bool apply(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *node,
                  struct jinja_value input, struct jinja_value *out)
{
    struct arg_lists l = {.kw = NULL};
    if (!node->fn)
        return jinja_raise(r, "no %s named '%.*s'",
                           node->kind == JINJA_N_FILTER ? "filter" : "test",
                           (int)(node->attr->len < 64 ? node->attr->len : 64), node->attr->data);
    if (!eval_args(r, scope, node->b, &l))
        return false;
    struct jinja_args args = args_of(&l);
    r->line = node->line;
    return jinja_call_builtin(r, node->fn, input, &args, out);
}

bool jinja_eval_filters(struct jinja_run *r, struct jinja_scope *scope,
                        const struct jinja_node *node, struct jinja_value input,
                        struct jinja_value *out)
{
    if (node->a) {
        if (!jinja_nest(r) || !jinja_eval_filters(r, scope, node->a, input, &input))
            return false;
        r->nest--;
    }
    return apply(r, scope, node, input, out);
}

/* and, or: the operand that decides. */
static bool eval_logic(struct jinja_run *r, struct jinja_scope *scope,
                       const struct jinja_node *node, struct jinja_value *out)
{
    for (const struct jinja_node *item = node->a; item; item = item->next) {
        if (!jinja_eval(r, scope, item, out))
            return false;
        if (jinja_truth(*out) == (node->kind == JINJA_N_OR))
            return true;
    }
    return true;
}

static bool eval_concat(struct jinja_run *r, struct jinja_scope *scope,
                        const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_buf b;
    jinja_buf_init(&b, r);
    for (const struct jinja_node *item = node->a; item; item = item->next) {
        struct jinja_value v;
        if (!jinja_eval(r, scope, item, &v) || !jinja_print_to(r, v, false, &b))
            return false;
    }
    const struct jinja_str *s;
    if (!jinja_buf_finish(&b, &s))
        return false;
    *out = jinja_of_str(s);
    return true;
}

static bool eval_arith(struct jinja_run *r, struct jinja_scope *scope,
                       const struct jinja_node *node, struct jinja_value *out)
{
    if (!jinja_eval(r, scope, node->a, out))
        return false;
    for (const struct jinja_node *step = node->b; step; step = step->next) {
        struct jinja_value right;
        if (!jinja_eval(r, scope, step->a, &right))
            return false;
        r->line = step->line;
        if (!jinja_arith(r, (enum jinja_op)step->op, *out, right, out))
            return false;
    }
    return true;
}

/* a < b < c: each operand once, until one comparison is false. */
static bool eval_compare(struct jinja_run *r, struct jinja_scope *scope,
                         const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value left;
    bool holds = true;
    if (!jinja_eval(r, scope, node->a, &left))
        return false;
    for (const struct jinja_node *step = node->b; step && holds; step = step->next) {
        struct jinja_value right;
        if (!jinja_eval(r, scope, step->a, &right))
            return false;
        r->line = step->line;
        if (!jinja_compare(r, (enum jinja_op)step->op, left, right, &holds))
            return false;
        left = right;
    }
    *out = jinja_bool(holds);
    return true;
}

static bool eval_cond(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *node,
                      struct jinja_value *out)
{
    struct jinja_value test;
    struct jinja_value none = {.type = JINJA_MISSING};
    if (!jinja_eval(r, scope, node->a, &test))
        return false;
    if (jinja_truth(test))
        return jinja_eval(r, scope, node->b, out);
    if (node->c)
        return jinja_eval(r, scope, node->c, out);
    return jinja_undefined(
        r, "the inline if-expression evaluated to false and no else section was defined.", none,
        none, out);
}

static bool eval_unary(struct jinja_run *r, struct jinja_scope *scope,
                       const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_value v;
    if (!jinja_eval(r, scope, node->a, &v))
        return false;
    if (node->kind == JINJA_N_NOT) {
        *out = jinja_bool(!jinja_truth(v));
        return true;
    }
    r->line = node->line;
    return jinja_negate(r, v, node->kind == JINJA_N_NEG, out);
}

static bool eval_node(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *node,
                      struct jinja_value *out)
{
    struct jinja_value v;
    switch ((enum jinja_kind)node->kind) {
    case JINJA_N_NAME:
        return eval_name(r, scope, node->name, out);
    case JINJA_N_LIST:
    case JINJA_N_TUPLE:
        return eval_list(r, scope, node, out);
    case JINJA_N_DICT:
        return eval_dict(r, scope, node, out);
    case JINJA_N_ATTR:
        return jinja_eval(r, scope, node->a, &v) && jinja_getattr(r, v, node->attr, out);
    case JINJA_N_ITEM:
        return eval_item(r, scope, node, out);
    case JINJA_N_CALL:
        return jinja_eval_call(r, scope, node, NULL, out);
    case JINJA_N_FILTER:
    case JINJA_N_TEST:
        return jinja_eval(r, scope, node->a, &v) && apply(r, scope, node, v, out);
    case JINJA_N_NOT:
    case JINJA_N_NEG:
    case JINJA_N_POS:
        return eval_unary(r, scope, node, out);
    case JINJA_N_AND:
    case JINJA_N_OR:
        return eval_logic(r, scope, node, out);
    case JINJA_N_CONCAT:
        return eval_concat(r, scope, node, out);
    case JINJA_N_ARITH:
        return eval_arith(r, scope, node, out);
    case JINJA_N_COMPARE:
        return eval_compare(r, scope, node, out);
    case JINJA_N_COND:
        return eval_cond(r, scope, node, out);
    default:
        CHECK(!"an expression");
        return false;
    }
}

bool jinja_eval(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *node,
                struct jinja_value *out)
{
    if (node->kind == JINJA_N_CONST) {
        *out = node->value;
        return true;
    }
    if (!jinja_nest(r))
        return false;
    r->line = node->line;
    bool ok = eval_node(r, scope, node, out);
    r->nest--;
    return ok;
}
