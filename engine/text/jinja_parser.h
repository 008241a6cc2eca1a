/* jinja_parser: state shared by the two halves of the parser (jinja_parse.c: statements,
 * jinja_parse_expr.c: expressions). Private to them.
 *
 * A function that returns a node returns NULL after it filled the error. Recursion is bounded by
 * `nest`, the depth of the tree by jinja_parser_done.
 */
#ifndef CHORUS_TEXT_JINJA_PARSER_H
#define CHORUS_TEXT_JINJA_PARSER_H

#include "engine/text/jinja_ast.h"
#include "engine/text/jinja_lex.h"

#define JINJA_PARSER_NEST_MAX (LIMIT_TEMPLATE_DEPTH * 2)
#define JINJA_NAME_BUCKETS    256

/* A body that is called (macro, call block, generation): what special names it reads. */
struct jinja_callable {
    struct jinja_callable *outer;
    uint8_t uses;
};

struct jinja_parser {
    struct jinja_template *t;
    struct jinja_lexer lx;
    struct err *err;
    struct jinja_token cur;
    struct jinja_token ahead;
    bool have_ahead;
    bool failed;
    int nest;
    int fors;  /* enclosing for statements */
    int loops; /* those that a break here would leave */
    struct jinja_callable *callable;
    size_t name_cap;
    struct jinja_name *buckets[JINJA_NAME_BUCKETS];
};

/* A list under construction. */
struct jinja_nodes {
    struct jinja_node *first;
    struct jinja_node **tail;
};

struct jinja_node *jinja_parser_fail(struct jinja_parser *p, int line, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
struct jinja_node *jinja_parser_refuse(struct jinja_parser *p, int line, const char *what);
struct jinja_node *jinja_parser_unexpected(struct jinja_parser *p, const char *wanted);

WARN_UNUSED bool jinja_parser_next(struct jinja_parser *p);
/* The token behind the current one. */
WARN_UNUSED bool jinja_parser_look(struct jinja_parser *p);
bool jinja_parser_is_op(const struct jinja_parser *p, int op);
bool jinja_parser_is_name(const struct jinja_parser *p, const char *name);
/* Skips the token if it is there; *skipped tells. False: failed. */
WARN_UNUSED bool jinja_parser_skip_op(struct jinja_parser *p, int op, bool *skipped);
WARN_UNUSED bool jinja_parser_skip_name(struct jinja_parser *p, const char *name, bool *skipped);
WARN_UNUSED bool jinja_parser_expect_op(struct jinja_parser *p, int op);
/* The name token's text, interned, and moves on. */
const struct jinja_name *jinja_parser_expect_name(struct jinja_parser *p);
/* The interned name of the current (name) token. */
const struct jinja_name *jinja_parser_name(struct jinja_parser *p);

struct jinja_node *jinja_parser_node(struct jinja_parser *p, enum jinja_kind kind, int line);
/* Seals a node: its depth is known and within the limit. Returns it, or NULL. */
struct jinja_node *jinja_parser_done(struct jinja_parser *p, struct jinja_node *node);
void jinja_nodes_init(struct jinja_nodes *l);
void jinja_nodes_add(struct jinja_nodes *l, struct jinja_node *node);
WARN_UNUSED bool jinja_parser_enter(struct jinja_parser *p);
void jinja_parser_leave(struct jinja_parser *p);

/* n bytes of the template's arena. */
char *jinja_parser_text(struct jinja_parser *p, size_t n);
/* A constant of the template: owned by its arena, measured. */
const struct jinja_str *jinja_parser_str(struct jinja_parser *p, const char *s, size_t n);

/* Expressions. `condition`: inline if is part of it. */
struct jinja_node *jinja_parse_expression(struct jinja_parser *p, bool condition);
/* Expressions with commas are a tuple; `end`: a name that ends it, or NULL; `parens`: an empty one
 * is a tuple. */
struct jinja_node *jinja_parse_tuple(struct jinja_parser *p, bool condition, const char *end,
                                     bool parens);
/* What stands left of "=" or between "for" and "in"; with_ns: name.attr is one. */
struct jinja_node *jinja_parse_target(struct jinja_parser *p, const char *end, bool with_ns);
/* Filters behind a NULL input: "| f | g", or with `inline_first` "f | g". *out NULL: there is none.
 */
WARN_UNUSED bool jinja_parse_filters(struct jinja_parser *p, bool inline_first,
                                     struct jinja_node **out);
/* Names that a target binds: fails for what can't be assigned. */
WARN_UNUSED bool jinja_parse_check_target(struct jinja_parser *p, const struct jinja_node *target);

#endif
