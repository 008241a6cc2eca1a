#include "engine/text/jinja_parse.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/text/jinja_args.h"
#include "engine/text/jinja_bind.h"
#include "engine/text/jinja_parser.h"

struct jinja_node *jinja_parser_fail(struct jinja_parser *p, int line, const char *fmt, ...)
{
    if (p->failed)
        return NULL;
    p->failed = true;
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(p->err, STATUS_BAD_FILE, NULL, "chat template line %d: %s", line, text);
    return NULL;
}

struct jinja_node *jinja_parser_refuse(struct jinja_parser *p, int line, const char *what)
{
    if (!p->failed)
        err_set(p->err, STATUS_UNSUPPORTED, NULL, "chat template line %d: %s is not supported",
                line, what);
    p->failed = true;
    return NULL;
}

static void no_memory(struct jinja_parser *p, size_t bytes)
{
    if (p->failed)
        return;
    p->failed = true;
    /* the arena rounds up */
    if (bytes + 16 > p->t->arena.cap_bytes - p->t->arena.used_bytes)
        err_set(p->err, STATUS_LIMIT, NULL, "chat template needs more than %u MiB to compile",
                LIMIT_TEMPLATE_MEMORY_BYTES >> 20);
    else
        err_set(p->err, STATUS_NO_MEMORY, NULL, "out of memory compiling the chat template");
}

/* Zeroed memory of the template; NULL: failed. The products are small: source bytes times a node.
 */
static void *take(struct jinja_parser *p, size_t count, size_t size)
{
    void *memory = p->failed ? NULL : arena_alloc(&p->t->arena, count, size);
    if (!memory)
        no_memory(p, count * size);
    return memory;
}

struct jinja_node *jinja_parser_unexpected(struct jinja_parser *p, const char *wanted)
{
    char got[80];
    jinja_token_describe(&p->cur, got, sizeof got);
    return jinja_parser_fail(p, p->cur.line, "expected %s, got '%s'", wanted, got);
}

bool jinja_parser_next(struct jinja_parser *p)
{
    if (p->have_ahead) {
        p->cur = p->ahead;
        p->have_ahead = false;
        return true;
    }
    if (!p->failed && jinja_lexer_next(&p->lx, &p->cur) != STATUS_OK)
        p->failed = true;
    return !p->failed;
}

bool jinja_parser_look(struct jinja_parser *p)
{
    if (p->have_ahead)
        return true;
    if (!p->failed && jinja_lexer_next(&p->lx, &p->ahead) != STATUS_OK)
        p->failed = true;
    p->have_ahead = !p->failed;
    return p->have_ahead;
}

bool jinja_parser_is_op(const struct jinja_parser *p, int op)
{
    return p->cur.kind == JINJA_T_OP && p->cur.op == op;
}

static bool token_is_name(const struct jinja_token *t, const char *name)
{
    return t->kind == JINJA_T_NAME && strlen(name) == t->len && memcmp(name, t->text, t->len) == 0;
}

bool jinja_parser_is_name(const struct jinja_parser *p, const char *name)
{
    return token_is_name(&p->cur, name);
}

bool jinja_parser_skip_op(struct jinja_parser *p, int op, bool *skipped)
{
    *skipped = jinja_parser_is_op(p, op);
    return !*skipped || jinja_parser_next(p);
}

bool jinja_parser_skip_name(struct jinja_parser *p, const char *name, bool *skipped)
{
    *skipped = jinja_parser_is_name(p, name);
    return !*skipped || jinja_parser_next(p);
}

bool jinja_parser_expect_op(struct jinja_parser *p, int op)
{
    if (jinja_parser_is_op(p, op))
        return jinja_parser_next(p);
    char wanted[8];
    snprintf(wanted, sizeof wanted, "'%c'", op & 0xFF);
    jinja_parser_unexpected(p, wanted);
    return false;
}

static bool expect_kind(struct jinja_parser *p, enum jinja_token_kind kind, const char *wanted)
{
    if (p->cur.kind == kind)
        return jinja_parser_next(p);
    jinja_parser_unexpected(p, wanted);
    return false;
}

static size_t measure(const char *s, size_t n)
{
    size_t cps = 0;
    for (size_t i = 0; i < n; i++)
        cps += ((unsigned char)s[i] & 0xC0) != 0x80;
    return cps;
}

char *jinja_parser_text(struct jinja_parser *p, size_t n)
{
    return take(p, n, 1);
}

const struct jinja_str *jinja_parser_str(struct jinja_parser *p, const char *s, size_t n)
{
    struct jinja_str *str = take(p, 1, sizeof *str);
    if (str)
        *str = (struct jinja_str){.data = s, .len = n, .cps = measure(s, n)};
    return str;
}

static bool keep_name(struct jinja_parser *p, struct jinja_name *name)
{
    struct jinja_template *t = p->t;
    if (t->name_count == p->name_cap) {
        size_t cap = p->name_cap ? p->name_cap * 2 : 32;
        struct jinja_name **names = take(p, cap, sizeof *names);
        if (!names)
            return false;
        if (t->name_count)
            memcpy(names, t->names, t->name_count * sizeof *names);
        t->names = names;
        p->name_cap = cap;
    }
    name->id = t->name_count;
    t->names[t->name_count++] = name;
    return true;
}

const struct jinja_name *jinja_parser_name(struct jinja_parser *p)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < p->cur.len; i++)
        h = (h ^ (unsigned char)p->cur.text[i]) * 16777619u;
    struct jinja_name **bucket = &p->buckets[h % JINJA_NAME_BUCKETS];
    for (struct jinja_name *name = *bucket; name; name = name->next) {
        if (name->str.len == p->cur.len && memcmp(name->str.data, p->cur.text, p->cur.len) == 0)
            return name;
    }
    struct jinja_name *name = take(p, 1, sizeof *name);
    if (!name || !keep_name(p, name))
        return NULL;
    name->str = (struct jinja_str){
        .data = p->cur.text, .len = p->cur.len, .cps = measure(p->cur.text, p->cur.len)};
    name->next = *bucket;
    *bucket = name;
    return name;
}

const struct jinja_name *jinja_parser_expect_name(struct jinja_parser *p)
{
    if (p->cur.kind != JINJA_T_NAME) {
        jinja_parser_unexpected(p, "a name");
        return NULL;
    }
    const struct jinja_name *name = jinja_parser_name(p);
    return name && jinja_parser_next(p) ? name : NULL;
}

struct jinja_node *jinja_parser_node(struct jinja_parser *p, enum jinja_kind kind, int line)
{
    struct jinja_node *node = take(p, 1, sizeof *node);
    if (!node)
        return NULL;
    node->kind = (uint8_t)kind;
    node->line = line;
    return node;
}

static uint16_t list_depth(const struct jinja_node *list)
{
    uint16_t depth = 0;
    for (; list; list = list->next)
        depth = list->depth > depth ? list->depth : depth;
    return depth;
}

struct jinja_node *jinja_parser_done(struct jinja_parser *p, struct jinja_node *node)
{
    if (!node || p->failed)
        return NULL;
    const struct jinja_node *children[] = {node->a, node->b, node->c, node->d, node->e};
    uint16_t depth = 0;
    for (size_t i = 0; i < sizeof children / sizeof children[0]; i++) {
        uint16_t d = list_depth(children[i]);
        depth = d > depth ? d : depth;
    }
    if (depth >= LIMIT_TEMPLATE_DEPTH) {
        p->failed = true;
        err_set(p->err, STATUS_LIMIT, NULL, "chat template line %d: nested more than %d deep",
                node->line, LIMIT_TEMPLATE_DEPTH);
        return NULL;
    }
    node->depth = (uint16_t)(depth + 1);
    return node;
}

void jinja_nodes_init(struct jinja_nodes *l)
{
    l->first = NULL;
    l->tail = &l->first;
}

void jinja_nodes_add(struct jinja_nodes *l, struct jinja_node *node)
{
    *l->tail = node;
    l->tail = &node->next;
}

bool jinja_parser_enter(struct jinja_parser *p)
{
    if (p->failed)
        return false;
    if (++p->nest <= JINJA_PARSER_NEST_MAX)
        return true;
    p->failed = true;
    err_set(p->err, STATUS_LIMIT, NULL, "chat template line %d: nested more than %d deep",
            p->cur.line, JINJA_PARSER_NEST_MAX);
    return false;
}

void jinja_parser_leave(struct jinja_parser *p)
{
    p->nest--;
}

static struct jinja_node *parse_statement(struct jinja_parser *p);

/* Up to two names end a body; a third is asked for by if. */
struct ends {
    const char *names[3];
};

static bool at_end(const struct jinja_parser *p, const struct ends *ends)
{
    for (size_t i = 0; i < 3 && ends->names[i]; i++) {
        if (jinja_parser_is_name(p, ends->names[i]))
            return true;
    }
    return false;
}

/* Statements until one of the end tags (the current token then is its name), or the end of the
 * template where there are none. */
static bool parse_body(struct jinja_parser *p, const struct ends *ends, struct jinja_node **out)
{
    struct jinja_nodes body;
    jinja_nodes_init(&body);
    while (!p->failed) {
        struct jinja_node *node = NULL;
        int line = p->cur.line;
        if (p->cur.kind == JINJA_T_EOF) {
            if (ends) {
                jinja_parser_fail(p, line, "unexpected end of template, expected '%s'",
                                  ends->names[0]);
                return false;
            }
            break;
        }
        if (p->cur.kind == JINJA_T_DATA) {
            const struct jinja_str *s = jinja_parser_str(p, p->cur.text, p->cur.len);
            node = s ? jinja_parser_node(p, JINJA_N_TEXT, line) : NULL;
            if (!node || !jinja_parser_next(p))
                return false;
            node->value = jinja_of_str(s);
            node->depth = 1;
        } else if (p->cur.kind == JINJA_T_PRINT_BEGIN) {
            if (!jinja_parser_next(p))
                return false;
            struct jinja_node *value = jinja_parse_tuple(p, true, NULL, false);
            node = value ? jinja_parser_node(p, JINJA_N_PRINT, line) : NULL;
            if (!node || !expect_kind(p, JINJA_T_PRINT_END, "end of print statement"))
                return false;
            node->a = value;
            if (!jinja_parser_done(p, node))
                return false;
        } else {
            if (!jinja_parser_next(p))
                return false;
            if (ends && at_end(p, ends))
                break;
            node = parse_statement(p);
            if (!node || !expect_kind(p, JINJA_T_BLOCK_END, "end of statement block"))
                return false;
        }
        jinja_nodes_add(&body, node);
    }
    *out = body.first;
    return !p->failed;
}

/* From behind a tag's head: its "%}", the body, up to the name of the end tag. */
static bool parse_block(struct jinja_parser *p, const struct ends *ends, struct jinja_node **out)
{
    bool colon;
    if (!jinja_parser_skip_op(p, ':', &colon) ||
        !expect_kind(p, JINJA_T_BLOCK_END, "end of statement block"))
        return false;
    if (!jinja_parser_enter(p))
        return false;
    bool ok = parse_body(p, ends, out);
    jinja_parser_leave(p);
    return ok;
}

/* parse_block for a single end tag, which is skipped. */
static bool parse_block_to(struct jinja_parser *p, const char *end, struct jinja_node **out)
{
    struct ends ends = {{end}};
    return parse_block(p, &ends, out) && jinja_parser_next(p);
}

/* As parse_block_to, for a body that is called: a break in it does not reach the loops around. */
static bool parse_called(struct jinja_parser *p, const char *end, struct jinja_node *node)
{
    struct jinja_callable self = {.outer = p->callable};
    int loops = p->loops;
    p->loops = 0;
    p->callable = &self;
    bool ok = parse_block_to(p, end, &node->d);
    p->callable = self.outer;
    p->loops = loops;
    node->uses = self.uses;
    return ok;
}

static struct jinja_node *parse_if(struct jinja_parser *p, int line)
{
    static const struct ends ends = {{"endif", "elif", "else"}};
    struct jinja_node *node = jinja_parser_node(p, JINJA_N_IF, line);
    if (!node)
        return NULL;
    struct jinja_nodes branches;
    jinja_nodes_init(&branches);
    bool more = true;
    while (more && !p->failed) {
        struct jinja_node *branch = jinja_parser_node(p, JINJA_N_BRANCH, p->cur.line);
        if (!branch)
            return NULL;
        branch->a = jinja_parse_tuple(p, false, NULL, false);
        if (!branch->a || !parse_block(p, &ends, &branch->b))
            return NULL;
        jinja_nodes_add(&branches, branch);
        more = jinja_parser_is_name(p, "elif");
        bool otherwise = jinja_parser_is_name(p, "else");
        if (!jinja_parser_done(p, branch) || !jinja_parser_next(p))
            return NULL;
        if (otherwise) {
            branch = jinja_parser_node(p, JINJA_N_BRANCH, p->cur.line);
            if (!branch || !parse_block_to(p, "endif", &branch->b) || !jinja_parser_done(p, branch))
                return NULL;
            jinja_nodes_add(&branches, branch);
        }
    }
    node->a = branches.first;
    return jinja_parser_done(p, node);
}

static struct jinja_node *parse_for(struct jinja_parser *p, int line)
{
    static const struct ends ends = {{"endfor", "else"}};
    struct jinja_node *node = jinja_parser_node(p, JINJA_N_FOR, line);
    if (!node)
        return NULL;
    p->fors++;
    node->a = jinja_parse_target(p, "in", false);
    bool skipped;
    if (!node->a || !jinja_parser_skip_name(p, "in", &skipped))
        return NULL;
    if (!skipped)
        return jinja_parser_unexpected(p, "'in'");
    node->b = jinja_parse_tuple(p, false, "recursive", false);
    if (!node->b || !jinja_parser_skip_name(p, "if", &skipped))
        return NULL;
    if (skipped) {
        node->c = jinja_parse_expression(p, true);
        if (!node->c)
            return NULL;
    }
    if (!jinja_parser_skip_name(p, "recursive", &node->flag))
        return NULL;
    p->loops++;
    bool ok = parse_block(p, &ends, &node->d);
    p->loops--;
    if (!ok)
        return NULL;
    bool otherwise = jinja_parser_is_name(p, "else");
    if (!jinja_parser_next(p) || (otherwise && !parse_block_to(p, "endfor", &node->e)))
        return NULL;
    p->fors--;
    return jinja_parser_done(p, node);
}

static struct jinja_node *parse_set(struct jinja_parser *p, int line)
{
    struct jinja_node *node = jinja_parser_node(p, JINJA_N_SET, line);
    if (!node)
        return NULL;
    node->a = jinja_parse_target(p, NULL, true);
    bool assign;
    if (!node->a || !jinja_parser_skip_op(p, '=', &assign))
        return NULL;
    if (assign) {
        node->b = jinja_parse_tuple(p, true, NULL, false);
        return node->b ? jinja_parser_done(p, node) : NULL;
    }
    node->kind = JINJA_N_SET_BLOCK;
    if (!jinja_parse_filters(p, false, &node->b) || !parse_block_to(p, "endset", &node->d))
        return NULL;
    return jinja_parser_done(p, node);
}

/* "(a, b=1)" into node->a. */
static bool parse_signature(struct jinja_parser *p, struct jinja_node *node)
{
    struct jinja_nodes params;
    jinja_nodes_init(&params);
    bool defaults = false;
    if (!jinja_parser_expect_op(p, '('))
        return false;
    while (!jinja_parser_is_op(p, ')')) {
        if (params.first && !jinja_parser_expect_op(p, ','))
            return false;
        struct jinja_node *param = jinja_parser_node(p, JINJA_N_PARAM, p->cur.line);
        if (!param)
            return false;
        param->name = jinja_parser_expect_name(p);
        if (!param->name || !jinja_parse_check_target(p, param))
            return false;
        for (const struct jinja_node *other = params.first; other; other = other->next) {
            if (other->name == param->name) {
                jinja_parser_fail(p, param->line, "duplicate argument in macro definition");
                return false;
            }
        }
        bool has_default;
        if (!jinja_parser_skip_op(p, '=', &has_default))
            return false;
        if (has_default) {
            param->a = jinja_parse_expression(p, true);
            defaults = true;
        } else if (defaults) {
            jinja_parser_fail(p, param->line, "non-default argument follows default argument");
            return false;
        }
        if (!jinja_parser_done(p, param))
            return false;
        jinja_nodes_add(&params, param);
    }
    node->a = params.first;
    return jinja_parser_expect_op(p, ')');
}

/* Whether every filter and test is known. In a branch of if an unknown one only raises when it is
 * run, as in the reference implementation; scopes of their own end that leniency. */
static bool check_known(struct jinja_parser *p, const struct jinja_node *list, bool soft)
{
    for (const struct jinja_node *n = list; n; n = n->next) {
        bool filter = n->kind == JINJA_N_FILTER;
        if ((filter || n->kind == JINJA_N_TEST) && !(n->fn && n->fn->fn) && !soft) {
            char what[96];
            snprintf(what, sizeof what, "%s '%.*s'", filter ? "filter" : "test",
                     n->attr->len < 64 ? (int)n->attr->len : 64, n->attr->data);
            if (n->fn)
                jinja_parser_refuse(p, n->line, what);
            else
                jinja_parser_fail(p, n->line, "no %s", what);
            return false;
        }
        bool branch = n->kind == JINJA_N_BRANCH || n->kind == JINJA_N_COND;
        bool called = n->kind == JINJA_N_MACRO || n->kind == JINJA_N_CALL_BLOCK;
        bool captured = n->kind == JINJA_N_SET_BLOCK || n->kind == JINJA_N_FILTER_BLOCK;
        if (!check_known(p, n->a, branch || (soft && !called)) ||
            !check_known(p, n->b, branch || (soft && !captured)) ||
            !check_known(p, n->c, branch || (soft && n->kind != JINJA_N_FOR)) ||
            !check_known(p, n->d, false) || !check_known(p, n->e, false))
            return false;
    }
    return true;
}

/* Special names that are ordinary parameters are not special. */
static bool settle_uses(struct jinja_parser *p, struct jinja_node *node)
{
    for (const struct jinja_node *param = node->a; param; param = param->next) {
        if (jinja_str_is(&param->name->str, "kwargs"))
            node->uses &= (uint8_t)~JINJA_USES_KWARGS;
        if (jinja_str_is(&param->name->str, "varargs"))
            node->uses &= (uint8_t)~JINJA_USES_VARARGS;
        if (jinja_str_is(&param->name->str, "caller") && (node->uses & JINJA_USES_CALLER) &&
            !param->a) {
            jinja_parser_fail(p, node->line, "the argument \"caller\" needs a default");
            return false;
        }
    }
    return true;
}

static struct jinja_node *parse_macro(struct jinja_parser *p, int line)
{
    struct jinja_node *node = jinja_parser_node(p, JINJA_N_MACRO, line);
    if (!node)
        return NULL;
    node->name = jinja_parser_expect_name(p);
    if (!node->name || !jinja_parse_check_target(p, node) || !parse_signature(p, node) ||
        !parse_called(p, "endmacro", node) || !settle_uses(p, node))
        return NULL;
    return jinja_parser_done(p, node);
}

static struct jinja_node *parse_call_block(struct jinja_parser *p, int line)
{
    struct jinja_node *node = jinja_parser_node(p, JINJA_N_CALL_BLOCK, line);
    if (!node || (jinja_parser_is_op(p, '(') && !parse_signature(p, node)))
        return NULL;
    node->b = jinja_parse_expression(p, true);
    if (!node->b)
        return NULL;
    if (node->b->kind != JINJA_N_CALL)
        return jinja_parser_fail(p, line, "expected call");
    if (!parse_called(p, "endcall", node) || !settle_uses(p, node))
        return NULL;
    return jinja_parser_done(p, node);
}

static struct jinja_node *parse_filter_block(struct jinja_parser *p, int line)
{
    struct jinja_node *node = jinja_parser_node(p, JINJA_N_FILTER_BLOCK, line);
    if (!node || !jinja_parse_filters(p, true, &node->b) ||
        !parse_block_to(p, "endfilter", &node->d))
        return NULL;
    return jinja_parser_done(p, node);
}

static struct jinja_node *parse_with(struct jinja_parser *p, int line)
{
    struct jinja_node *node = jinja_parser_node(p, JINJA_N_WITH, line);
    if (!node)
        return NULL;
    struct jinja_nodes sets;
    jinja_nodes_init(&sets);
    while (p->cur.kind != JINJA_T_BLOCK_END) {
        if (sets.first && !jinja_parser_expect_op(p, ','))
            return NULL;
        struct jinja_node *set = jinja_parser_node(p, JINJA_N_SET, p->cur.line);
        if (!set)
            return NULL;
        set->a = jinja_parse_target(p, NULL, false);
        if (!set->a || !jinja_parser_expect_op(p, '='))
            return NULL;
        set->b = jinja_parse_expression(p, true);
        if (!set->b || !jinja_parser_done(p, set))
            return NULL;
        jinja_nodes_add(&sets, set);
    }
    node->a = sets.first;
    return parse_block_to(p, "endwith", &node->d) ? jinja_parser_done(p, node) : NULL;
}

static struct jinja_node *parse_generation(struct jinja_parser *p, int line)
{
    struct jinja_node *node = jinja_parser_node(p, JINJA_N_GENERATION, line);
    return node && parse_called(p, "endgeneration", node) ? jinja_parser_done(p, node) : NULL;
}

static struct jinja_node *parse_print(struct jinja_parser *p, int line)
{
    struct jinja_nodes values;
    jinja_nodes_init(&values);
    /* a list of prints is the body of a branch without a condition */
    struct jinja_node *node = jinja_parser_node(p, JINJA_N_IF, line);
    struct jinja_node *branch = jinja_parser_node(p, JINJA_N_BRANCH, line);
    while (node && branch && p->cur.kind != JINJA_T_BLOCK_END) {
        if (values.first && !jinja_parser_expect_op(p, ','))
            return NULL;
        struct jinja_node *print = jinja_parser_node(p, JINJA_N_PRINT, line);
        if (!print)
            return NULL;
        print->a = jinja_parse_expression(p, true);
        if (!print->a || !jinja_parser_done(p, print))
            return NULL;
        jinja_nodes_add(&values, print);
    }
    if (!node || !branch)
        return NULL;
    branch->b = values.first;
    node->a = jinja_parser_done(p, branch);
    return jinja_parser_done(p, node);
}

static struct jinja_node *parse_jump(struct jinja_parser *p, enum jinja_kind kind, int line)
{
    if (p->loops == 0)
        return jinja_parser_fail(p, line, "'%s' outside loop",
                                 kind == JINJA_N_BREAK ? "break" : "continue");
    return jinja_parser_done(p, jinja_parser_node(p, kind, line));
}

static struct jinja_node *parse_named(struct jinja_parser *p, const struct jinja_token *tag)
{
    static const struct {
        const char *name;
        struct jinja_node *(*parse)(struct jinja_parser *p, int line);
    } statements[] = {
        {"if", parse_if},
        {"for", parse_for},
        {"set", parse_set},
        {"macro", parse_macro},
        {"with", parse_with},
        {"call", parse_call_block},
        {"print", parse_print},
        {"filter", parse_filter_block},
        {"generation", parse_generation},
    };
    static const char *const refused[] = {"include", "import", "from",
                                          "extends", "block",  "autoescape"};
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        if (token_is_name(tag, statements[i].name))
            return statements[i].parse(p, tag->line);
    }
    if (token_is_name(tag, "break"))
        return parse_jump(p, JINJA_N_BREAK, tag->line);
    if (token_is_name(tag, "continue"))
        return parse_jump(p, JINJA_N_CONTINUE, tag->line);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (token_is_name(tag, refused[i]))
            return jinja_parser_refuse(p, tag->line, refused[i]);
    }
    char text[80];
    jinja_token_describe(tag, text, sizeof text);
    return jinja_parser_fail(p, tag->line, "unknown tag '%s'", text);
}

static struct jinja_node *parse_statement(struct jinja_parser *p)
{
    struct jinja_token tag = p->cur;
    if (tag.kind != JINJA_T_NAME)
        return jinja_parser_unexpected(p, "a tag name");
    if (!jinja_parser_next(p) || !jinja_parser_enter(p))
        return NULL;
    struct jinja_node *node = parse_named(p, &tag);
    jinja_parser_leave(p);
    return node;
}

static void find_special(struct jinja_template *t)
{
    static const char *const words[] = {"loop", "caller", "kwargs", "varargs"};
    const struct jinja_name **fields[] = {&t->loop, &t->caller, &t->kwargs, &t->varargs};
    for (size_t i = 0; i < t->name_count; i++) {
        for (size_t k = 0; k < 4; k++) {
            if (jinja_str_is(&t->names[i]->str, words[k]))
                *fields[k] = t->names[i];
        }
    }
}

enum status jinja_parse(const char *source, size_t n, struct jinja_template *t, struct err *e)
{
    struct err local;
    *t = (struct jinja_template){.body = NULL};
    arena_init(&t->arena, LIMIT_TEMPLATE_MEMORY_BYTES);
    if (n > LIMIT_TEMPLATE_SOURCE_BYTES)
        return err_set(e, STATUS_LIMIT, NULL, "chat template is longer than %u bytes",
                       LIMIT_TEMPLATE_SOURCE_BYTES);
    struct jinja_parser p = {.t = t, .err = e ? e : &local};
    enum status st = jinja_lexer_init(&p.lx, &t->arena, source, n, p.err);
    if (st != STATUS_OK)
        return st;
    if (!jinja_parser_next(&p) || !parse_body(&p, NULL, &t->body) ||
        !check_known(&p, t->body, false))
        return p.err->code;
    find_special(t);
    if (!jinja_bind_names(t)) {
        no_memory(&p, t->name_count + 4096);
        return p.err->code;
    }
    return STATUS_OK;
}

void jinja_template_deinit(struct jinja_template *t)
{
    arena_deinit(&t->arena);
}
