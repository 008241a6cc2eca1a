/* jinja_ast: a compiled template: tree, names, constants. Immutable after jinja_parse, so any
 * number of threads may run it at once.
 *
 * One node type for all kinds; what the fields mean is said beside each kind. Lists hang on `next`.
 * Operators of one precedence level form one flat node (a + b - c is one JINJA_N_ARITH), so the
 * depth of the tree follows the nesting of the source and is capped by LIMIT_TEMPLATE_DEPTH.
 */
#ifndef CHORUS_TEXT_JINJA_AST_H
#define CHORUS_TEXT_JINJA_AST_H

#include "engine/base/arena.h"
#include "engine/text/jinja_value.h"

enum jinja_kind {
    /* Statements. Bodies are lists of statements. */
    JINJA_N_TEXT,         /* value: template text */
    JINJA_N_PRINT,        /* a: expression */
    JINJA_N_IF,           /* a: list of JINJA_N_BRANCH */
    JINJA_N_BRANCH,       /* a: condition (NULL: else), b: body */
    JINJA_N_FOR,          /* a: target, b: iterable, c: condition or NULL, d: body, e: else; flag:
                             recursive */
    JINJA_N_SET,          /* a: target, b: expression */
    JINJA_N_SET_BLOCK,    /* a: target, b: filters applied to a NULL input or NULL, d: body */
    JINJA_N_MACRO,        /* name; a: list of JINJA_N_PARAM, d: body; uses */
    JINJA_N_CALL_BLOCK,   /* a: list of JINJA_N_PARAM, b: the JINJA_N_CALL, d: body; uses */
    JINJA_N_GENERATION,   /* d: body; a scope of its own, as a macro has */
    JINJA_N_FILTER_BLOCK, /* b: filters applied to a NULL input, d: body */
    JINJA_N_WITH,         /* a: list of JINJA_N_SET, d: body */
    JINJA_N_BREAK,
    JINJA_N_CONTINUE,
    /* Expressions. */
    JINJA_N_CONST,   /* value */
    JINJA_N_NAME,    /* name */
    JINJA_N_NS_ATTR, /* only a target: name . attr */
    JINJA_N_TUPLE,   /* a: list; also a target */
    JINJA_N_LIST,    /* a: list */
    JINJA_N_DICT,    /* a: list of key, value, key, value ... */
    JINJA_N_ATTR,    /* a: object, attr */
    JINJA_N_ITEM,    /* a: object, b: index (may be a JINJA_N_SLICE) */
    JINJA_N_SLICE,   /* a, b, c: start, stop, step or NULL */
    JINJA_N_CALL,    /* a: callee, b: arguments */
    JINJA_N_FILTER, /* a: input or NULL (the captured text), b: arguments, attr: its name, fn (NULL:
                       unknown, raises when run) */
    JINJA_N_TEST,   /* as JINJA_N_FILTER */
    JINJA_N_NOT,    /* a */
    JINJA_N_NEG,    /* a */
    JINJA_N_POS,    /* a */
    JINJA_N_AND,    /* a: list of operands */
    JINJA_N_OR,     /* a: list of operands */
    JINJA_N_CONCAT, /* a: list of operands of ~ */
    JINJA_N_ARITH,  /* a: first operand, b: list of JINJA_N_STEP */
    JINJA_N_COMPARE, /* a: first operand, b: list of JINJA_N_STEP */
    JINJA_N_STEP,    /* op, a: operand */
    JINJA_N_COND,    /* a: condition, b: value, c: else or NULL */
    /* Parts. */
    JINJA_N_PARAM, /* name, a: default or NULL */
    JINJA_N_KWARG, /* in arguments: attr = a */
    JINJA_N_STAR,  /* in arguments: *a */
    JINJA_N_DSTAR, /* in arguments: **a */
};

enum jinja_op {
    JINJA_ADD,
    JINJA_SUB,
    JINJA_MUL,
    JINJA_DIV,
    JINJA_FLOORDIV,
    JINJA_MOD,
    JINJA_POW,
    JINJA_EQ,
    JINJA_NE,
    JINJA_LT,
    JINJA_LE,
    JINJA_GT,
    JINJA_GE,
    JINJA_IN,
    JINJA_NOT_IN,
};

/* JINJA_N_MACRO, JINJA_N_CALL_BLOCK: which special names the body reads. */
#define JINJA_USES_CALLER  1u
#define JINJA_USES_KWARGS  2u
#define JINJA_USES_VARARGS 4u

/* An identifier; equal names are one object. */
struct jinja_name {
    struct jinja_str str;
    size_t id;               /* index in jinja_template.names and jinja_run.names */
    struct jinja_name *next; /* in its hash chain */
};

/* Names that a scope binds without a value from its begin (jinja_bind.h). */
struct jinja_unbound {
    const struct jinja_name *name;
    const struct jinja_unbound *next;
};

struct jinja_node {
    uint8_t kind; /* enum jinja_kind */
    uint8_t op;   /* enum jinja_op */
    uint8_t uses;
    bool flag;
    uint16_t depth; /* of the tree below */
    int line;
    struct jinja_node *next;
    struct jinja_node *a, *b, *c, *d, *e;
    const struct jinja_name *name;
    const struct jinja_str *attr;
    const struct jinja_builtin *fn;
    struct jinja_value value;
    const struct jinja_unbound *unbound;      /* of the scope that d is */
    const struct jinja_unbound *unbound_else; /* of the scope that e is */
};

struct jinja_template {
    struct arena arena; /* owns everything below */
    struct jinja_node *body;
    const struct jinja_unbound *unbound; /* of the outermost scope */
    struct jinja_name **names;           /* [name_count] */
    size_t name_count;
    /* Names with a meaning, NULL where the template has none of that name. */
    const struct jinja_name *loop, *caller, *kwargs, *varargs;
};

#endif
