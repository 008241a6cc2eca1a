#include "engine/text/jinja_macro.h"

#include "engine/text/jinja_dict.h"
#include "engine/text/jinja_eval.h"
#include "engine/text/jinja_ops.h"

/* Keyword arguments while parameters take theirs. */
struct kwargs {
    const struct jinja_args *args;
    bool *taken; /* [args->kw_count] */
};

static struct jinja_value take(struct kwargs *kw, const struct jinja_str *name)
{
    for (size_t i = 0; i < kw->args->kw_count; i++) {
        if (!kw->taken[i] && jinja_str_eq(kw->args->kw[i].name, name)) {
            kw->taken[i] = true;
            return kw->args->kw[i].value;
        }
    }
    return (struct jinja_value){.type = JINJA_MISSING};
}

static const char *macro_name(const struct jinja_node *node, int *n)
{
    *n = node->name ? (int)(node->name->str.len < 64 ? node->name->str.len : 64) : 6;
    return node->name ? node->name->str.data : "caller";
}

/* Parameters by position, then by name; what is left stays MISSING. */
static bool bind_params(struct jinja_run *r, const struct jinja_node *node,
                        struct jinja_scope *scope, struct kwargs *kw, size_t *param_count,
                        bool *found_caller)
{
    size_t i = 0;
    for (const struct jinja_node *p = node->a; p; p = p->next, i++) {
        bool positional = i < kw->args->pos_count;
        struct jinja_value v = positional ? kw->args->pos[i] : take(kw, &p->name->str);
        *found_caller = *found_caller || jinja_str_is(&p->name->str, "caller");
        if (!jinja_scope_set(r, scope, p->name, v))
            return false;
    }
    *param_count = i;
    return true;
}

static bool bind_caller(struct jinja_run *r, struct jinja_scope *scope, struct kwargs *kw)
{
    const struct jinja_name *name = r->template->caller;
    struct jinja_value none = {.type = JINJA_MISSING};
    struct jinja_value v = take(kw, &name->str);
    if ((v.type == JINJA_MISSING || v.type == JINJA_NONE) &&
        !jinja_undefined(r, "No caller defined", none, none, &v))
        return false;
    return jinja_scope_set(r, scope, name, v);
}

static bool bind_kwargs(struct jinja_run *r, const struct jinja_node *node,
                        struct jinja_scope *scope, const struct kwargs *kw)
{
    bool keep = node->uses & JINJA_USES_KWARGS;
    struct jinja_dict *d = keep ? jinja_dict_new(r) : NULL;
    if (keep && !d)
        return false;
    for (size_t i = 0; i < kw->args->kw_count; i++) {
        const struct jinja_kwarg *k = &kw->args->kw[i];
        int n;
        const char *name = macro_name(node, &n);
        if (kw->taken[i])
            continue;
        if (!keep)
            return jinja_raise(r, "macro '%.*s' takes no keyword argument '%.*s'", n, name,
                               (int)(k->name->len < 64 ? k->name->len : 64), k->name->data);
        if (!jinja_dict_put(r, d, jinja_of_str(k->name), k->value))
            return false;
    }
    return !keep || jinja_scope_set(r, scope, r->template->kwargs,
                                    (struct jinja_value){.type = JINJA_DICT, .dict = d});
}

static bool bind_varargs(struct jinja_run *r, const struct jinja_node *node,
                         struct jinja_scope *scope, const struct jinja_args *args,
                         size_t param_count)
{
    size_t extra = args->pos_count > param_count ? args->pos_count - param_count : 0;
    struct jinja_value v;
    if (node->uses & JINJA_USES_VARARGS)
        return jinja_seq_value(r, JINJA_TUPLE, extra ? args->pos + param_count : NULL, extra, &v) &&
               jinja_scope_set(r, scope, r->template->varargs, v);
    int n;
    const char *name = macro_name(node, &n);
    return extra == 0 ||
           jinja_raise(r, "macro '%.*s' takes not more than %zu argument(s)", n, name, param_count);
}

/* Defaults are computed inside, in order, and see the parameters. */
static bool fill_defaults(struct jinja_run *r, const struct jinja_node *node,
                          struct jinja_scope *scope)
{
    size_t i = 0;
    for (const struct jinja_node *p = node->a; p; p = p->next, i++) {
        struct jinja_value none = {.type = JINJA_MISSING};
        struct jinja_value v;
        if (scope->slots[i].value.type != JINJA_MISSING)
            continue;
        bool ok = p->a ? jinja_eval(r, scope, p->a, &v)
                       : jinja_undefined(r, "a parameter was not provided", none,
                                         jinja_of_str(&p->name->str), &v);
        if (!ok)
            return false;
        scope->slots[i].value = v;
    }
    return true;
}

static bool bind_unbound(struct jinja_run *r, const struct jinja_node *node,
                         struct jinja_scope *scope)
{
    struct jinja_value none = {.type = JINJA_MISSING};
    for (const struct jinja_unbound *u = node->unbound; u; u = u->next) {
        if (!jinja_scope_set(r, scope, u->name, none))
            return false;
    }
    return true;
}

bool jinja_macro_call(struct jinja_run *r, const struct jinja_macro *m,
                      const struct jinja_args *args, struct jinja_value *out)
{
    const struct jinja_node *node = m->node;
    struct jinja_scope *scope = jinja_scope_new(r, m->scope);
    struct kwargs kw = {.args = args, .taken = jinja_alloc(r, args->kw_count, 1)};
    size_t param_count;
    bool found_caller = false;
    enum jinja_flow flow = JINJA_FLOW_NEXT;
    if (!scope || !kw.taken || !jinja_call_enter(r) ||
        !bind_params(r, node, scope, &kw, &param_count, &found_caller))
        return false;
    if ((node->uses & JINJA_USES_CALLER) && !found_caller && !bind_caller(r, scope, &kw))
        return false;
    if (!bind_kwargs(r, node, scope, &kw) || !bind_varargs(r, node, scope, args, param_count) ||
        !fill_defaults(r, node, scope) || !bind_unbound(r, node, scope) ||
        !jinja_exec_captured(r, scope, node->d, &flow, out))
        return false;
    r->calls--;
    return true;
}

bool jinja_macro_attribute(struct jinja_run *r, const struct jinja_macro *m,
                           const struct jinja_str *name, bool *found, struct jinja_value *out)
{
    *found = true;
    if (jinja_str_is(name, "name")) {
        *out = m->node->name ? jinja_of_str(&m->node->name->str) : jinja_none();
    } else if (jinja_str_is(name, "catch_kwargs")) {
        *out = jinja_bool(m->node->uses & JINJA_USES_KWARGS);
    } else if (jinja_str_is(name, "catch_varargs")) {
        *out = jinja_bool(m->node->uses & JINJA_USES_VARARGS);
    } else if (jinja_str_is(name, "caller")) {
        *out = jinja_bool(m->node->uses & JINJA_USES_CALLER);
    } else if (jinja_str_is(name, "arguments")) {
        struct jinja_items items = {.items = NULL};
        for (const struct jinja_node *p = m->node->a; p; p = p->next) {
            if (!jinja_items_add(r, &items, jinja_of_str(&p->name->str)))
                return false;
        }
        return jinja_seq_value(r, JINJA_TUPLE, items.items, items.count, out);
    } else {
        *found = false;
    }
    return true;
}
