/* The statements of jinja_eval.h. */
#include "engine/text/jinja_eval.h"

#include "engine/text/jinja_dict.h"
#include "engine/text/jinja_iter.h"
#include "engine/text/jinja_macro.h"
#include "engine/text/jinja_ops.h"
#include "engine/text/jinja_print.h"

static bool assign_attr(struct jinja_run *r, struct jinja_scope *scope,
                        const struct jinja_node *target, struct jinja_value value)
{
    struct jinja_node name = {.kind = JINJA_N_NAME, .name = target->name, .line = target->line};
    struct jinja_value ns;
    if (!jinja_eval(r, scope, &name, &ns))
        return false;
    if (ns.type != JINJA_NAMESPACE)
        return jinja_raise(r, "cannot assign attribute on non-namespace object");
    if (target->attr->len > 0 && target->attr->data[0] == '_')
        return jinja_raise(r, "underscore-prefixed attributes can't be stored on a namespace");
    return jinja_dict_put(r, ns.ns, jinja_of_str(target->attr), value);
}

static bool assign(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *target,
                   struct jinja_value value)
{
    if (target->kind == JINJA_N_NAME)
        return jinja_scope_set(r, scope, target->name, value);
    if (target->kind == JINJA_N_NS_ATTR)
        return assign_attr(r, scope, target, value);
    const struct jinja_seq *seq;
    if (!jinja_nest(r) || !jinja_collect(r, value, &seq))
        return false;
    size_t i = 0;
    for (const struct jinja_node *item = target->a; item; item = item->next, i++) {
        if (i >= seq->count)
            return jinja_raise(r, "not enough values to unpack (got %zu)", seq->count);
        if (!assign(r, scope, item, seq->items[i]))
            return false;
    }
    if (i < seq->count)
        return jinja_raise(r, "too many values to unpack (expected %zu)", i);
    r->nest--;
    return true;
}

/* Every namespace of a target must be one before the value is computed. */
static bool check_namespaces(struct jinja_run *r, struct jinja_scope *scope,
                             const struct jinja_node *target)
{
    if (target->kind == JINJA_N_TUPLE) {
        for (const struct jinja_node *item = target->a; item; item = item->next) {
            if (!check_namespaces(r, scope, item))
                return false;
        }
    }
    if (target->kind != JINJA_N_NS_ATTR)
        return true;
    struct jinja_node name = {.kind = JINJA_N_NAME, .name = target->name, .line = target->line};
    struct jinja_value ns;
    if (!jinja_eval(r, scope, &name, &ns))
        return false;
    return ns.type == JINJA_NAMESPACE ||
           jinja_raise(r, "cannot assign attribute on non-namespace object");
}

static bool exec_set(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *node)
{
    struct jinja_value v;
    return check_namespaces(r, scope, node->a) && jinja_eval(r, scope, node->b, &v) &&
           assign(r, scope, node->a, v);
}

static bool exec_print(struct jinja_run *r, struct jinja_scope *scope,
                       const struct jinja_node *node)
{
    struct jinja_value v;
    const struct jinja_str *s;
    if (!jinja_eval(r, scope, node->a, &v))
        return false;
    if (v.type == JINJA_STR)
        return jinja_emit(r, v.s);
    if (v.type == JINJA_UNDEFINED)
        return true;
    return jinja_to_str(r, v, &s) && jinja_emit(r, s);
}

static bool exec_if(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *node,
                    enum jinja_flow *flow)
{
    for (const struct jinja_node *branch = node->a; branch; branch = branch->next) {
        struct jinja_value test = jinja_bool(true);
        if (branch->a && !jinja_eval(r, scope, branch->a, &test))
            return false;
        if (jinja_truth(test))
            return jinja_exec(r, scope, branch->b, flow);
    }
    return true;
}

/* for ... if: the condition is asked when an item is drawn, in a scope that has the targets only.
 */
struct filtered {
    const struct jinja_node *node;
    struct jinja_scope *scope;
};

static bool next_filtered(struct jinja_run *r, struct jinja_iter *it, struct jinja_value *out,
                          bool *done)
{
    const struct filtered *f = it->state;
    if (!jinja_iter_source(r, it))
        return false;
    for (;;) {
        struct jinja_value test;
        if (!jinja_iter_next(r, it->inner, out, done))
            return false;
        if (*done)
            return true;
        f->scope->count = 0;
        if (!assign(r, f->scope, f->node->a, *out) || !jinja_eval(r, f->scope, f->node->c, &test))
            return false;
        if (jinja_truth(test))
            return true;
    }
}

static bool start_loop(struct jinja_run *r, const struct jinja_node *node,
                       struct jinja_scope *scope, struct jinja_value items, struct jinja_loop *loop)
{
    loop->index0 = -1;
    loop->node = node->flag ? node : NULL;
    loop->scope = scope;
    if (node->c) {
        struct filtered *f = jinja_alloc(r, 1, sizeof *f);
        if (!f)
            return false;
        f->node = node;
        f->scope = jinja_scope_new(r, scope);
        if (!f->scope || !jinja_generator(r, next_filtered, items, f, &items))
            return false;
    }
    if (jinja_has_len(items)) {
        loop->sized = true;
        if (!jinja_len(r, items, &loop->length))
            return false;
    }
    return jinja_iter_of(r, items, &loop->it);
}

static bool run_for(struct jinja_run *r, const struct jinja_node *node, struct jinja_scope *outer,
                    struct jinja_value items, int64_t depth0, enum jinja_flow *flow)
{
    struct jinja_scope *scope = jinja_scope_new(r, outer);
    struct jinja_loop *loop = jinja_alloc(r, 1, sizeof *loop);
    if (!scope || !loop || !start_loop(r, node, outer, items, loop))
        return false;
    loop->depth0 = depth0;
    const struct jinja_name *name = r->template->loop;
    bool ran = false;
    bool broken = false;
    while (!broken) {
        struct jinja_value item;
        bool done;
        enum jinja_flow inner = JINJA_FLOW_NEXT;
        if (!jinja_charge(r, 1) || !jinja_loop_next(r, loop, &item, &done))
            return false;
        if (done)
            break;
        if (!jinja_scope_begin(r, scope, node->unbound))
            return false;
        if (name && !jinja_scope_set(r, scope, name,
                                     (struct jinja_value){.type = JINJA_LOOP, .loop = loop}))
            return false;
        if (!assign(r, scope, node->a, item) || !jinja_exec(r, scope, node->d, &inner))
            return false;
        /* the else branch asks whether a pass came to its end */
        ran = ran || inner == JINJA_FLOW_NEXT;
        broken = inner == JINJA_FLOW_BREAK;
    }
    if (ran || !node->e)
        return true;
    scope = jinja_scope_new(r, outer);
    return scope && jinja_scope_begin(r, scope, node->unbound_else) &&
           jinja_exec(r, scope, node->e, flow);
}

bool jinja_exec_recursive(struct jinja_run *r, const struct jinja_loop *loop,
                          struct jinja_value items, struct jinja_value *out)
{
    struct jinja_buf b;
    struct jinja_buf *outer = r->capture;
    enum jinja_flow flow = JINJA_FLOW_NEXT;
    const struct jinja_str *s;
    jinja_buf_init(&b, r);
    if (!jinja_call_enter(r))
        return false;
    r->capture = &b;
    bool ok = run_for(r, loop->node, loop->scope, items, loop->depth0 + 1, &flow);
    r->capture = outer;
    r->calls--;
    if (!ok || !jinja_buf_finish(&b, &s))
        return false;
    *out = jinja_of_str(s);
    return true;
}

static bool exec_for(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *node,
                     enum jinja_flow *flow)
{
    struct jinja_value items;
    if (!jinja_eval(r, scope, node->b, &items))
        return false;
    if (!node->flag)
        return run_for(r, node, scope, items, 0, flow);
    /* a recursive loop is a function: its text appears when it returns */
    struct jinja_loop first = {.node = node, .scope = scope, .depth0 = -1};
    struct jinja_value text;
    return jinja_exec_recursive(r, &first, items, &text) && jinja_emit(r, text.s);
}

bool jinja_exec_captured(struct jinja_run *r, struct jinja_scope *scope,
                         const struct jinja_node *body, enum jinja_flow *flow,
                         struct jinja_value *out)
{
    struct jinja_buf b;
    struct jinja_buf *outer = r->capture;
    const struct jinja_str *s;
    jinja_buf_init(&b, r);
    r->capture = &b;
    bool ok = jinja_exec(r, scope, body, flow);
    r->capture = outer;
    if (!ok || !jinja_buf_finish(&b, &s))
        return false;
    *out = jinja_of_str(s);
    return true;
}

/* What a filter or call block yields is joined to the output, so it must be text. */
static bool emit_text(struct jinja_run *r, struct jinja_value v)
{
    if (v.type == JINJA_STR)
        return jinja_emit(r, v.s);
    return jinja_raise(r, "expected str instance, %s found", jinja_type_name(v));
}

/* set and filter blocks: the text of the body through filters; a jump out of the body drops it. */
static bool exec_block(struct jinja_run *r, struct jinja_scope *scope,
                       const struct jinja_node *node, enum jinja_flow *flow)
{
    struct jinja_value v;
    struct jinja_scope *inner = jinja_scope_new(r, scope);
    if (!inner || !jinja_scope_begin(r, inner, node->unbound) ||
        !jinja_exec_captured(r, inner, node->d, flow, &v))
        return false;
    if (*flow != JINJA_FLOW_NEXT)
        return true;
    if (node->b && !jinja_eval_filters(r, inner, node->b, v, &v))
        return false;
    if (node->kind == JINJA_N_SET_BLOCK)
        return assign(r, scope, node->a, v);
    return emit_text(r, v);
}

static bool exec_with(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *node,
                      enum jinja_flow *flow)
{
    struct jinja_scope *inner = jinja_scope_new(r, scope);
    if (!inner || !jinja_scope_begin(r, inner, node->unbound))
        return false;
    for (const struct jinja_node *set = node->a; set; set = set->next) {
        struct jinja_value v;
        if (!jinja_eval(r, scope, set->b, &v) || !assign(r, inner, set->a, v))
            return false;
    }
    return jinja_exec(r, inner, node->d, flow);
}

static bool make_macro(struct jinja_run *r, struct jinja_scope *scope,
                       const struct jinja_node *node, struct jinja_value *out)
{
    struct jinja_macro *m = jinja_alloc(r, 1, sizeof *m);
    if (!m)
        return false;
    *m = (struct jinja_macro){.node = node, .scope = scope};
    *out = (struct jinja_value){.type = JINJA_MACRO, .macro = m};
    return true;
}

static bool exec_call_block(struct jinja_run *r, struct jinja_scope *scope,
                            const struct jinja_node *node)
{
    struct jinja_value caller;
    struct jinja_value v;
    return make_macro(r, scope, node, &caller) && jinja_eval_call(r, scope, node->b, &caller, &v) &&
           emit_text(r, v);
}

/* The body is called once, as a macro without parameters. */
static bool exec_generation(struct jinja_run *r, struct jinja_scope *scope,
                            const struct jinja_node *node)
{
    static const struct jinja_args none = {.pos_count = 0};
    struct jinja_value body;
    struct jinja_value text;
    return make_macro(r, scope, node, &body) && jinja_macro_call(r, body.macro, &none, &text) &&
           jinja_emit(r, text.s);
}

static bool exec_node(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *node,
                      enum jinja_flow *flow)
{
    struct jinja_value v;
    switch ((enum jinja_kind)node->kind) {
    case JINJA_N_TEXT:
        return jinja_emit(r, node->value.s);
    case JINJA_N_PRINT:
        return exec_print(r, scope, node);
    case JINJA_N_IF:
        return exec_if(r, scope, node, flow);
    case JINJA_N_FOR:
        return exec_for(r, scope, node, flow);
    case JINJA_N_SET:
        return exec_set(r, scope, node);
    case JINJA_N_SET_BLOCK:
    case JINJA_N_FILTER_BLOCK:
        return exec_block(r, scope, node, flow);
    case JINJA_N_WITH:
        return exec_with(r, scope, node, flow);
    case JINJA_N_MACRO:
        return make_macro(r, scope, node, &v) && jinja_scope_set(r, scope, node->name, v);
    case JINJA_N_CALL_BLOCK:
        return exec_call_block(r, scope, node);
    case JINJA_N_GENERATION:
        return exec_generation(r, scope, node);
    case JINJA_N_BREAK:
        *flow = JINJA_FLOW_BREAK;
        return true;
    case JINJA_N_CONTINUE:
        *flow = JINJA_FLOW_CONTINUE;
        return true;
    default:
        CHECK(!"a statement");
        return false;
    }
}

bool jinja_exec(struct jinja_run *r, struct jinja_scope *scope, const struct jinja_node *body,
                enum jinja_flow *flow)
{
    for (const struct jinja_node *node = body; node && *flow == JINJA_FLOW_NEXT;
         node = node->next) {
        if (!jinja_nest(r))
            return false;
        r->line = node->line;
        if (!exec_node(r, scope, node, flow))
            return false;
        r->nest--;
    }
    return true;
}
