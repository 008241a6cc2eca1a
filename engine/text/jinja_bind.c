#include "engine/text/jinja_bind.h"

struct binder {
    struct jinja_template *t;
    bool *mentioned; /* [name_count] by an open scope */
    bool failed;
};

/* A scope under analysis. */
struct frame {
    struct binder *b;
    const struct jinja_unbound *unbound; /* newest first */
    const struct jinja_unbound *own;     /* names to forget when the scope ends */
};

static void add(struct frame *f, const struct jinja_unbound **list, const struct jinja_name *name)
{
    struct jinja_unbound *u = arena_alloc(&f->b->t->arena, 1, sizeof *u);
    if (!u) {
        f->b->failed = true;
        return;
    }
    u->name = name;
    u->next = *list;
    *list = u;
}

/* `unbound`: this mention makes it a name without a value. */
static void mention(struct frame *f, const struct jinja_name *name, bool unbound)
{
    if (f->b->failed || f->b->mentioned[name->id])
        return;
    f->b->mentioned[name->id] = true;
    add(f, &f->own, name);
    if (unbound)
        add(f, &f->unbound, name);
}

/* Names that an expression reads. */
static void read_names(struct frame *f, const struct jinja_node *list)
{
    for (const struct jinja_node *n = list; n; n = n->next) {
        if (n->kind == JINJA_N_NAME)
            mention(f, n->name, false);
        read_names(f, n->a);
        read_names(f, n->b);
        read_names(f, n->c);
    }
}

/* Names that a target binds. */
static void store_names(struct frame *f, const struct jinja_node *list, bool unbound)
{
    for (const struct jinja_node *n = list; n; n = n->next) {
        if (n->kind == JINJA_N_TUPLE)
            store_names(f, n->a, unbound);
        else
            mention(f, n->name, unbound && n->kind != JINJA_N_NS_ATTR);
    }
}

/* Mentions of a scope's own statements, in the order jinja2 visits them; bodies that are scopes of
 * their own do not count. */
static void visit_statements(struct frame *f, const struct jinja_node *list, bool branch)
{
    for (const struct jinja_node *n = list; n; n = n->next) {
        switch ((enum jinja_kind)n->kind) {
        case JINJA_N_IF:
            for (const struct jinja_node *part = n->a; part; part = part->next) {
                read_names(f, part->a);
                visit_statements(f, part->b, true);
            }
            break;
        case JINJA_N_PRINT:
            read_names(f, n->a);
            break;
        case JINJA_N_SET:
            read_names(f, n->b);
            store_names(f, n->a, !branch);
            break;
        case JINJA_N_SET_BLOCK:
            store_names(f, n->a, !branch);
            break;
        case JINJA_N_MACRO:
            mention(f, n->name, !branch);
            break;
        case JINJA_N_FOR:
        case JINJA_N_CALL_BLOCK:
        case JINJA_N_FILTER_BLOCK:
            read_names(f, n->b);
            break;
        case JINJA_N_WITH:
            for (const struct jinja_node *set = n->a; set; set = set->next)
                read_names(f, set->b);
            break;
        default:
            break;
        }
    }
}

static void bind_inner(struct frame *f, struct jinja_node *list);

/* One scope: its parameters, its statements, then the scopes inside. */
static const struct jinja_unbound *bind_scope(struct binder *b, const struct jinja_node *params,
                                              struct jinja_node *body)
{
    struct frame f = {.b = b};
    for (const struct jinja_node *p = params; p; p = p->next) {
        if (p->kind == JINJA_N_PARAM)
            mention(&f, p->name, false);
        else
            store_names(&f, p->kind == JINJA_N_SET ? p->a : p, false);
        if (p->kind != JINJA_N_PARAM && p->kind != JINJA_N_SET)
            break; /* the target of a loop: what follows on `next` is not a parameter */
    }
    for (const struct jinja_node *p = params; p && p->kind == JINJA_N_PARAM; p = p->next)
        read_names(&f, p->a);
    visit_statements(&f, body, false);
    bind_inner(&f, body);
    for (const struct jinja_unbound *u = f.own; u; u = u->next)
        b->mentioned[u->name->id] = false;
    return f.unbound;
}

static void bind_inner(struct frame *f, struct jinja_node *list)
{
    for (struct jinja_node *n = list; n && !f->b->failed; n = n->next) {
        switch ((enum jinja_kind)n->kind) {
        case JINJA_N_IF:
            for (struct jinja_node *part = n->a; part; part = part->next)
                bind_inner(f, part->b);
            break;
        case JINJA_N_FOR:
            n->unbound = bind_scope(f->b, n->a, n->d);
            n->unbound_else = bind_scope(f->b, NULL, n->e);
            break;
        case JINJA_N_MACRO:
        case JINJA_N_CALL_BLOCK:
        case JINJA_N_WITH:
            n->unbound = bind_scope(f->b, n->a, n->d);
            break;
        case JINJA_N_SET_BLOCK:
        case JINJA_N_FILTER_BLOCK:
        case JINJA_N_GENERATION:
            n->unbound = bind_scope(f->b, NULL, n->d);
            break;
        default:
            break;
        }
    }
}

bool jinja_bind_names(struct jinja_template *t)
{
    struct binder b = {.t = t, .mentioned = arena_alloc(&t->arena, t->name_count + 1, 1)};
    if (!b.mentioned)
        return false;
    t->unbound = bind_scope(&b, NULL, t->body);
    return !b.failed;
}
