/* Expressions: one function a precedence level, from inline if down to primaries, as jinja2 has
 * them (which is not quite Python: ** groups to the left, ~ sits between + and *). */
#include "engine/text/jinja_parser.h"

#include <string.h>

#include "engine/text/jinja_filter.h"

static struct jinja_node *parse_or(struct jinja_parser *p);
static struct jinja_node *parse_unary(struct jinja_parser *p, bool with_filter);
static struct jinja_node *parse_primary(struct jinja_parser *p, bool with_ns);
static struct jinja_node *parse_postfix(struct jinja_parser *p, struct jinja_node *node);

/* A new node whose first child is given. */
static struct jinja_node *wrap(struct jinja_parser *p, enum jinja_kind kind, int line,
                               struct jinja_node *a)
{
    if (!a)
        return NULL;
    struct jinja_node *node = jinja_parser_node(p, kind, line);
    if (node)
        node->a = a;
    return node;
}

struct jinja_node *jinja_parse_expression(struct jinja_parser *p, bool condition)
{
    if (!jinja_parser_enter(p))
        return NULL;
    struct jinja_node *value = parse_or(p);
    bool more = condition;
    while (value && more) {
        int line = p->cur.line;
        if (!jinja_parser_skip_name(p, "if", &more))
            return NULL;
        if (!more)
            break;
        struct jinja_node *node = wrap(p, JINJA_N_COND, line, parse_or(p));
        bool otherwise;
        if (!node || !jinja_parser_skip_name(p, "else", &otherwise))
            return NULL;
        node->b = value;
        if (otherwise) {
            node->c = jinja_parse_expression(p, true);
            if (!node->c)
                return NULL;
        }
        value = jinja_parser_done(p, node);
    }
    jinja_parser_leave(p);
    return value;
}

/* "x op x op x" with one word as operator. */
static struct jinja_node *parse_words(struct jinja_parser *p, enum jinja_kind kind,
                                      const char *word,
                                      struct jinja_node *(*operand)(struct jinja_parser *p))
{
    int line = p->cur.line;
    struct jinja_node *first = operand(p);
    if (!first || !jinja_parser_is_name(p, word))
        return first;
    struct jinja_nodes list;
    jinja_nodes_init(&list);
    jinja_nodes_add(&list, first);
    bool more = true;
    while (more) {
        if (!jinja_parser_skip_name(p, word, &more))
            return NULL;
        if (!more)
            break;
        struct jinja_node *next = operand(p);
        if (!next)
            return NULL;
        jinja_nodes_add(&list, next);
    }
    return jinja_parser_done(p, wrap(p, kind, line, list.first));
}

/* Moves over the operator of a level if it is there and says which it is. */
static bool level_op(struct jinja_parser *p, const int *tokens, const enum jinja_op *ops, size_t n,
                     enum jinja_op *op, bool *found)
{
    *found = false;
    for (size_t i = 0; i < n && !*found; i++) {
        if (jinja_parser_is_op(p, tokens[i])) {
            *found = true;
            *op = ops[i];
            return jinja_parser_next(p);
        }
    }
    return true;
}

/* "x op x op x" with symbols as operators. */
static struct jinja_node *parse_level(struct jinja_parser *p, const int *tokens,
                                      const enum jinja_op *ops, size_t n,
                                      struct jinja_node *(*operand)(struct jinja_parser *p))
{
    int line = p->cur.line;
    struct jinja_node *first = operand(p);
    struct jinja_node *node = NULL;
    struct jinja_nodes steps;
    jinja_nodes_init(&steps);
    while (first) {
        enum jinja_op op = JINJA_ADD;
        bool found;
        int step_line = p->cur.line;
        if (!level_op(p, tokens, ops, n, &op, &found))
            return NULL;
        if (!found)
            break;
        struct jinja_node *step = wrap(p, JINJA_N_STEP, step_line, operand(p));
        if (!step)
            return NULL;
        step->op = (uint8_t)op;
        if (!jinja_parser_done(p, step))
            return NULL;
        jinja_nodes_add(&steps, step);
    }
    if (!first || !steps.first)
        return first;
    node = wrap(p, JINJA_N_ARITH, line, first);
    if (!node)
        return NULL;
    node->b = steps.first;
    return jinja_parser_done(p, node);
}

static struct jinja_node *parse_pow_operand(struct jinja_parser *p)
{
    return parse_unary(p, true);
}

static struct jinja_node *parse_pow(struct jinja_parser *p)
{
    static const int tokens[] = {JINJA_OP2('*', '*')};
    static const enum jinja_op ops[] = {JINJA_POW};
    return parse_level(p, tokens, ops, 1, parse_pow_operand);
}

static struct jinja_node *parse_product(struct jinja_parser *p)
{
    static const int tokens[] = {'*', '/', JINJA_OP2('/', '/'), '%'};
    static const enum jinja_op ops[] = {JINJA_MUL, JINJA_DIV, JINJA_FLOORDIV, JINJA_MOD};
    return parse_level(p, tokens, ops, 4, parse_pow);
}

static struct jinja_node *parse_concat(struct jinja_parser *p)
{
    int line = p->cur.line;
    struct jinja_node *first = parse_product(p);
    if (!first || !jinja_parser_is_op(p, '~'))
        return first;
    struct jinja_nodes list;
    jinja_nodes_init(&list);
    jinja_nodes_add(&list, first);
    while (jinja_parser_is_op(p, '~')) {
        struct jinja_node *next = jinja_parser_next(p) ? parse_product(p) : NULL;
        if (!next)
            return NULL;
        jinja_nodes_add(&list, next);
    }
    return jinja_parser_done(p, wrap(p, JINJA_N_CONCAT, line, list.first));
}

static struct jinja_node *parse_sum(struct jinja_parser *p)
{
    static const int tokens[] = {'+', '-'};
    static const enum jinja_op ops[] = {JINJA_ADD, JINJA_SUB};
    return parse_level(p, tokens, ops, 2, parse_concat);
}

/* A comparison operator, "in" or "not in", if it is there. */
static bool compare_op(struct jinja_parser *p, enum jinja_op *op, bool *found)
{
    static const int tokens[] = {
        JINJA_OP2('=', '='), JINJA_OP2('!', '='), '<', JINJA_OP2('<', '='), '>',
        JINJA_OP2('>', '=')};
    static const enum jinja_op ops[] = {JINJA_EQ, JINJA_NE, JINJA_LT, JINJA_LE, JINJA_GT, JINJA_GE};
    if (!level_op(p, tokens, ops, 6, op, found))
        return false;
    if (*found)
        return true;
    *op = JINJA_IN;
    if (!jinja_parser_skip_name(p, "in", found) || *found)
        return !p->failed;
    if (!jinja_parser_is_name(p, "not"))
        return true;
    if (!jinja_parser_look(p))
        return false;
    if (p->ahead.kind != JINJA_T_NAME || p->ahead.len != 2 || memcmp(p->ahead.text, "in", 2) != 0)
        return true;
    *op = JINJA_NOT_IN;
    *found = true;
    return jinja_parser_next(p) && jinja_parser_next(p);
}

static struct jinja_node *parse_compare(struct jinja_parser *p)
{
    int line = p->cur.line;
    struct jinja_node *first = parse_sum(p);
    struct jinja_nodes steps;
    jinja_nodes_init(&steps);
    while (first) {
        enum jinja_op op = JINJA_EQ;
        bool found;
        int step_line = p->cur.line;
        if (!compare_op(p, &op, &found))
            return NULL;
        if (!found)
            break;
        struct jinja_node *step = wrap(p, JINJA_N_STEP, step_line, parse_sum(p));
        if (!step)
            return NULL;
        step->op = (uint8_t)op;
        if (!jinja_parser_done(p, step))
            return NULL;
        jinja_nodes_add(&steps, step);
    }
    if (!first || !steps.first)
        return first;
    struct jinja_node *node = wrap(p, JINJA_N_COMPARE, line, first);
    if (!node)
        return NULL;
    node->b = steps.first;
    return jinja_parser_done(p, node);
}

static struct jinja_node *parse_not(struct jinja_parser *p)
{
    if (!jinja_parser_is_name(p, "not"))
        return parse_compare(p);
    int line = p->cur.line;
    if (!jinja_parser_next(p) || !jinja_parser_enter(p))
        return NULL;
    struct jinja_node *node = jinja_parser_done(p, wrap(p, JINJA_N_NOT, line, parse_not(p)));
    jinja_parser_leave(p);
    return node;
}

static struct jinja_node *parse_and(struct jinja_parser *p)
{
    return parse_words(p, JINJA_N_AND, "and", parse_not);
}

static struct jinja_node *parse_or(struct jinja_parser *p)
{
    return parse_words(p, JINJA_N_OR, "or", parse_and);
}

static bool bad_call(struct jinja_parser *p, int line)
{
    jinja_parser_fail(p, line, "invalid syntax for function call");
    return false;
}

/* One argument of a call into *out. `named`, `star`, `dstar`: what came before. */
static bool parse_argument(struct jinja_parser *p, bool *named, bool *star, bool *dstar,
                           struct jinja_node **out)
{
    int line = p->cur.line;
    enum jinja_kind kind = JINJA_N_CONST;
    const struct jinja_name *name = NULL;
    if (jinja_parser_is_op(p, '*')) {
        kind = JINJA_N_STAR;
        if (*star || *dstar)
            return bad_call(p, line);
        *star = true;
    } else if (jinja_parser_is_op(p, JINJA_OP2('*', '*'))) {
        kind = JINJA_N_DSTAR;
        if (*dstar)
            return bad_call(p, line);
        *dstar = true;
    } else if (p->cur.kind == JINJA_T_NAME) {
        if (!jinja_parser_look(p))
            return false;
        if (p->ahead.kind == JINJA_T_OP && p->ahead.op == '=') {
            kind = JINJA_N_KWARG;
            name = jinja_parser_name(p);
            if (!name || !jinja_parser_next(p))
                return false;
        }
    }
    if (kind != JINJA_N_CONST && !jinja_parser_next(p))
        return false;
    if ((kind == JINJA_N_KWARG && *dstar) || (kind == JINJA_N_CONST && (*named || *star || *dstar)))
        return bad_call(p, line);
    *named = *named || kind == JINJA_N_KWARG;
    struct jinja_node *value = jinja_parse_expression(p, true);
    if (value && kind != JINJA_N_CONST) {
        value = wrap(p, kind, line, value);
        if (value && name)
            value->attr = &name->str;
        value = jinja_parser_done(p, value);
    }
    *out = value;
    return value != NULL;
}

/* "(...)" into a list; the current token is the bracket. */
static bool parse_arguments(struct jinja_parser *p, struct jinja_node **out)
{
    struct jinja_nodes list;
    jinja_nodes_init(&list);
    bool named = false, star = false, dstar = false;
    if (!jinja_parser_expect_op(p, '('))
        return false;
    while (!jinja_parser_is_op(p, ')')) {
        if (list.first) {
            if (!jinja_parser_expect_op(p, ','))
                return false;
            if (jinja_parser_is_op(p, ')'))
                break;
        }
        struct jinja_node *arg = NULL;
        if (!parse_argument(p, &named, &star, &dstar, &arg))
            return false;
        for (const struct jinja_node *other = list.first; arg->kind == JINJA_N_KWARG && other;
             other = other->next) {
            if (other->kind == JINJA_N_KWARG && other->attr == arg->attr) {
                jinja_parser_fail(p, arg->line, "keyword argument repeated");
                return false;
            }
        }
        jinja_nodes_add(&list, arg);
    }
    *out = list.first;
    return jinja_parser_expect_op(p, ')');
}

static struct jinja_node *parse_call(struct jinja_parser *p, struct jinja_node *callee)
{
    struct jinja_node *node = wrap(p, JINJA_N_CALL, p->cur.line, callee);
    if (!node || !parse_arguments(p, &node->b))
        return NULL;
    return jinja_parser_done(p, node);
}

/* "a", "a:b", ":b:c" ... inside brackets. */
static struct jinja_node *parse_subscript_part(struct jinja_parser *p)
{
    int line = p->cur.line;
    struct jinja_node *start = NULL;
    if (!jinja_parser_is_op(p, ':')) {
        start = jinja_parse_expression(p, true);
        if (!start || !jinja_parser_is_op(p, ':'))
            return start;
    }
    struct jinja_node *node = jinja_parser_node(p, JINJA_N_SLICE, line);
    if (!node)
        return NULL;
    node->a = start;
    struct jinja_node **parts[] = {&node->b, &node->c};
    for (int i = 0; i < 2 && jinja_parser_is_op(p, ':'); i++) {
        if (!jinja_parser_next(p))
            return NULL;
        if (jinja_parser_is_op(p, ':') || jinja_parser_is_op(p, ']') || jinja_parser_is_op(p, ','))
            continue;
        *parts[i] = jinja_parse_expression(p, true);
        if (!*parts[i])
            return NULL;
    }
    return jinja_parser_done(p, node);
}

static struct jinja_node *parse_subscript(struct jinja_parser *p, struct jinja_node *object)
{
    int line = p->cur.line;
    bool dot = jinja_parser_is_op(p, '.');
    struct jinja_node *node = wrap(p, dot ? JINJA_N_ATTR : JINJA_N_ITEM, line, object);
    if (!node || !jinja_parser_next(p))
        return NULL;
    if (dot && p->cur.kind == JINJA_T_NAME) {
        const struct jinja_name *name = jinja_parser_expect_name(p);
        if (!name)
            return NULL;
        node->attr = &name->str;
        return jinja_parser_done(p, node);
    }
    if (dot) {
        if (p->cur.kind != JINJA_T_INT)
            return jinja_parser_unexpected(p, "name or number");
        node->kind = JINJA_N_ITEM;
        node->b = jinja_parser_node(p, JINJA_N_CONST, line);
        if (!node->b)
            return NULL;
        node->b->value = jinja_int(p->cur.i);
        return jinja_parser_next(p) ? jinja_parser_done(p, node) : NULL;
    }
    struct jinja_nodes list;
    jinja_nodes_init(&list);
    while (!jinja_parser_is_op(p, ']')) {
        if (list.first && !jinja_parser_expect_op(p, ','))
            return NULL;
        struct jinja_node *part = parse_subscript_part(p);
        if (!part)
            return NULL;
        jinja_nodes_add(&list, part);
    }
    node->b = list.first;
    if (!list.first || list.first->next) {
        for (const struct jinja_node *part = list.first; part; part = part->next) {
            if (part->kind == JINJA_N_SLICE)
                return jinja_parser_refuse(p, line, "a slice beside another index");
        }
        struct jinja_node *tuple = jinja_parser_node(p, JINJA_N_TUPLE, line);
        if (!tuple)
            return NULL;
        tuple->a = list.first;
        node->b = jinja_parser_done(p, tuple);
    }
    return jinja_parser_expect_op(p, ']') ? jinja_parser_done(p, node) : NULL;
}

static struct jinja_node *parse_postfix(struct jinja_parser *p, struct jinja_node *node)
{
    while (node && !p->failed) {
        if (jinja_parser_is_op(p, '.') || jinja_parser_is_op(p, '['))
            node = parse_subscript(p, node);
        else if (jinja_parser_is_op(p, '('))
            node = parse_call(p, node);
        else
            break;
    }
    return node;
}

/* "name(args)" of a filter or test into node; dotted names are one name. */
static bool parse_callable_name(struct jinja_parser *p, struct jinja_node *node)
{
    const struct jinja_name *name = jinja_parser_expect_name(p);
    if (!name)
        return false;
    node->attr = &name->str;
    while (jinja_parser_is_op(p, '.')) {
        name = jinja_parser_next(p) ? jinja_parser_expect_name(p) : NULL;
        if (!name)
            return false;
        size_t n = node->attr->len + 1 + name->str.len;
        char *joined = jinja_parser_text(p, n);
        if (!joined)
            return false;
        memcpy(joined, node->attr->data, node->attr->len);
        joined[node->attr->len] = '.';
        memcpy(joined + node->attr->len + 1, name->str.data, name->str.len);
        node->attr = jinja_parser_str(p, joined, n);
        if (!node->attr)
            return false;
    }
    return true;
}

static struct jinja_node *parse_filter(struct jinja_parser *p, struct jinja_node *input)
{
    struct jinja_node *node = jinja_parser_node(p, JINJA_N_FILTER, p->cur.line);
    if (!node || !parse_callable_name(p, node))
        return NULL;
    node->a = input;
    node->fn = jinja_filter_find(node->attr);
    if (jinja_parser_is_op(p, '(') && !parse_arguments(p, &node->b))
        return NULL;
    return jinja_parser_done(p, node);
}

bool jinja_parse_filters(struct jinja_parser *p, bool inline_first, struct jinja_node **out)
{
    struct jinja_node *node = NULL;
    while (inline_first || jinja_parser_is_op(p, '|')) {
        if (!inline_first && !jinja_parser_next(p))
            return false;
        inline_first = false;
        node = parse_filter(p, node);
        if (!node)
            return false;
    }
    *out = node;
    return true;
}

/* Whether the token begins the argument of a test written without brackets. */
static bool begins_argument(const struct jinja_parser *p)
{
    switch (p->cur.kind) {
    case JINJA_T_NAME:
        return !jinja_parser_is_name(p, "else") && !jinja_parser_is_name(p, "or") &&
               !jinja_parser_is_name(p, "and");
    case JINJA_T_STRING:
    case JINJA_T_INT:
    case JINJA_T_FLOAT:
        return true;
    default:
        return jinja_parser_is_op(p, '[') || jinja_parser_is_op(p, '{');
    }
}

static struct jinja_node *parse_test(struct jinja_parser *p, struct jinja_node *input)
{
    int line = p->cur.line;
    bool negated;
    if (!jinja_parser_next(p) || !jinja_parser_skip_name(p, "not", &negated))
        return NULL;
    struct jinja_node *node = wrap(p, JINJA_N_TEST, line, input);
    if (!node || !parse_callable_name(p, node))
        return NULL;
    node->fn = jinja_test_find(node->attr);
    if (jinja_parser_is_op(p, '(')) {
        if (!parse_arguments(p, &node->b))
            return NULL;
    } else if (begins_argument(p)) {
        if (jinja_parser_is_name(p, "is"))
            return jinja_parser_fail(p, line, "You cannot chain multiple tests with is");
        node->b = parse_postfix(p, parse_primary(p, false));
        if (!node->b)
            return NULL;
    }
    node = jinja_parser_done(p, node);
    return negated ? jinja_parser_done(p, wrap(p, JINJA_N_NOT, line, node)) : node;
}

static struct jinja_node *parse_unary(struct jinja_parser *p, bool with_filter)
{
    int line = p->cur.line;
    struct jinja_node *node;
    bool minus = jinja_parser_is_op(p, '-');
    if (minus || jinja_parser_is_op(p, '+')) {
        if (!jinja_parser_next(p) || !jinja_parser_enter(p))
            return NULL;
        node = jinja_parser_done(
            p, wrap(p, minus ? JINJA_N_NEG : JINJA_N_POS, line, parse_unary(p, false)));
        jinja_parser_leave(p);
    } else {
        node = parse_primary(p, false);
    }
    node = parse_postfix(p, node);
    while (node && with_filter && !p->failed) {
        if (jinja_parser_is_op(p, '|'))
            node = jinja_parser_next(p) ? parse_filter(p, node) : NULL;
        else if (jinja_parser_is_name(p, "is"))
            node = parse_test(p, node);
        else if (jinja_parser_is_op(p, '('))
            node = parse_call(p, node);
        else
            break;
    }
    return node;
}

/* "[a, b]" or "{k: v}". */
static struct jinja_node *parse_display(struct jinja_parser *p, int close)
{
    struct jinja_node *node =
        jinja_parser_node(p, close == ']' ? JINJA_N_LIST : JINJA_N_DICT, p->cur.line);
    struct jinja_nodes list;
    jinja_nodes_init(&list);
    if (!node || !jinja_parser_next(p))
        return NULL;
    while (!jinja_parser_is_op(p, close)) {
        if (list.first) {
            if (!jinja_parser_expect_op(p, ','))
                return NULL;
            if (jinja_parser_is_op(p, close))
                break;
        }
        struct jinja_node *item = jinja_parse_expression(p, true);
        if (!item)
            return NULL;
        jinja_nodes_add(&list, item);
        if (close == ']')
            continue;
        item = jinja_parser_expect_op(p, ':') ? jinja_parse_expression(p, true) : NULL;
        if (!item)
            return NULL;
        jinja_nodes_add(&list, item);
    }
    node->a = list.first;
    return jinja_parser_expect_op(p, close) ? jinja_parser_done(p, node) : NULL;
}

static void note_special_name(struct jinja_parser *p, const struct jinja_name *name)
{
    uint8_t uses = jinja_str_is(&name->str, "caller")    ? JINJA_USES_CALLER
                   : jinja_str_is(&name->str, "kwargs")  ? JINJA_USES_KWARGS
                   : jinja_str_is(&name->str, "varargs") ? JINJA_USES_VARARGS
                                                         : 0;
    for (struct jinja_callable *c = p->callable; c && uses; c = c->outer)
        c->uses |= uses;
}

static bool is_constant_name(const struct jinja_parser *p, struct jinja_value *value)
{
    if (jinja_parser_is_name(p, "true") || jinja_parser_is_name(p, "True"))
        *value = jinja_bool(true);
    else if (jinja_parser_is_name(p, "false") || jinja_parser_is_name(p, "False"))
        *value = jinja_bool(false);
    else if (jinja_parser_is_name(p, "none") || jinja_parser_is_name(p, "None"))
        *value = jinja_none();
    else
        return false;
    return true;
}

static struct jinja_node *parse_name(struct jinja_parser *p, bool with_ns)
{
    struct jinja_node *node = jinja_parser_node(p, JINJA_N_NAME, p->cur.line);
    if (!node)
        return NULL;
    if (is_constant_name(p, &node->value)) {
        node->kind = JINJA_N_CONST;
        return jinja_parser_next(p) ? jinja_parser_done(p, node) : NULL;
    }
    node->name = jinja_parser_expect_name(p);
    if (!node->name)
        return NULL;
    if (with_ns && jinja_parser_is_op(p, '.')) {
        const struct jinja_name *attr = jinja_parser_next(p) ? jinja_parser_expect_name(p) : NULL;
        if (!attr)
            return NULL;
        node->kind = JINJA_N_NS_ATTR;
        node->attr = &attr->str;
    } else {
        note_special_name(p, node->name);
        if (jinja_str_is(&node->name->str, "self"))
            return jinja_parser_refuse(p, node->line, "self");
    }
    return jinja_parser_done(p, node);
}

/* Adjacent strings are one. */
static struct jinja_node *parse_string(struct jinja_parser *p)
{
    struct jinja_node *node = jinja_parser_node(p, JINJA_N_CONST, p->cur.line);
    const char *text = p->cur.text;
    size_t len = p->cur.len;
    if (!node || !jinja_parser_next(p))
        return NULL;
    while (p->cur.kind == JINJA_T_STRING) {
        char *joined = jinja_parser_text(p, len + p->cur.len);
        if (!joined)
            return NULL;
        memcpy(joined, text, len);
        memcpy(joined + len, p->cur.text, p->cur.len);
        text = joined;
        len += p->cur.len;
        if (!jinja_parser_next(p))
            return NULL;
    }
    const struct jinja_str *s = jinja_parser_str(p, text, len);
    if (!s)
        return NULL;
    node->value = jinja_of_str(s);
    return jinja_parser_done(p, node);
}

static struct jinja_node *parse_primary(struct jinja_parser *p, bool with_ns)
{
    struct jinja_node *node = NULL;
    switch (p->cur.kind) {
    case JINJA_T_NAME:
        return parse_name(p, with_ns);
    case JINJA_T_STRING:
        return parse_string(p);
    case JINJA_T_INT:
    case JINJA_T_FLOAT:
        node = jinja_parser_node(p, JINJA_N_CONST, p->cur.line);
        if (!node)
            return NULL;
        node->value = p->cur.kind == JINJA_T_INT ? jinja_int(p->cur.i) : jinja_float(p->cur.f);
        return jinja_parser_next(p) ? jinja_parser_done(p, node) : NULL;
    default:
        break;
    }
    if (jinja_parser_is_op(p, '(')) {
        node = jinja_parser_next(p) ? jinja_parse_tuple(p, true, NULL, true) : NULL;
        return node && jinja_parser_expect_op(p, ')') ? node : NULL;
    }
    if (jinja_parser_is_op(p, '['))
        return parse_display(p, ']');
    if (jinja_parser_is_op(p, '{'))
        return parse_display(p, '}');
    return jinja_parser_unexpected(p, "an expression");
}

static bool tuple_ends(const struct jinja_parser *p, const char *end)
{
    return p->cur.kind == JINJA_T_PRINT_END || p->cur.kind == JINJA_T_BLOCK_END ||
           jinja_parser_is_op(p, ')') || (end && jinja_parser_is_name(p, end));
}

/* Items with commas between them. */
static struct jinja_node *parse_items(struct jinja_parser *p, bool simple, bool with_ns,
                                      bool condition, const char *end, bool parens)
{
    int line = p->cur.line;
    struct jinja_nodes list;
    jinja_nodes_init(&list);
    bool comma = false;
    while (!tuple_ends(p, end)) {
        struct jinja_node *item =
            simple ? parse_primary(p, with_ns) : jinja_parse_expression(p, condition);
        if (!item)
            return NULL;
        jinja_nodes_add(&list, item);
        if (!jinja_parser_is_op(p, ','))
            break;
        comma = true;
        if (!jinja_parser_next(p))
            return NULL;
    }
    if (!comma && list.first)
        return list.first;
    if (!comma && !parens)
        return jinja_parser_unexpected(p, "an expression");
    struct jinja_node *node = jinja_parser_node(p, JINJA_N_TUPLE, line);
    if (!node)
        return NULL;
    node->a = list.first;
    return jinja_parser_done(p, node);
}

struct jinja_node *jinja_parse_tuple(struct jinja_parser *p, bool condition, const char *end,
                                     bool parens)
{
    return parse_items(p, false, false, condition, end, parens);
}

bool jinja_parse_check_target(struct jinja_parser *p, const struct jinja_node *target)
{
    static const char *const reserved[] = {"true", "false", "none", "True", "False", "None"};
    if (target->kind == JINJA_N_TUPLE) {
        for (const struct jinja_node *item = target->a; item; item = item->next) {
            if (!jinja_parse_check_target(p, item))
                return false;
        }
        return true;
    }
    if (target->kind == JINJA_N_NS_ATTR)
        return true;
    if (!target->name) {
        jinja_parser_fail(p, target->line, "can't assign to an expression");
        return false;
    }
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++) {
        if (jinja_str_is(&target->name->str, reserved[i])) {
            jinja_parser_fail(p, target->line, "can't assign to '%s'", reserved[i]);
            return false;
        }
    }
    if (target->kind == JINJA_N_NAME && p->fors > 0 && jinja_str_is(&target->name->str, "loop")) {
        jinja_parser_fail(p, target->line, "can't assign to the loop variable of a for-loop");
        return false;
    }
    return true;
}

struct jinja_node *jinja_parse_target(struct jinja_parser *p, const char *end, bool with_ns)
{
    struct jinja_callable *callable = p->callable;
    p->callable = NULL; /* a target reads no name */
    struct jinja_node *target = parse_items(p, true, with_ns, false, end, false);
    p->callable = callable;
    return target && jinja_parse_check_target(p, target) ? target : NULL;
}
