/* jinja_eval: runs the tree. Recursion follows the tree (capped when it was parsed) and calls
 * (capped by jinja_call_enter), and jinja_nest counts both.
 */
#ifndef CHORUS_TEXT_JINJA_EVAL_H
#define CHORUS_TEXT_JINJA_EVAL_H

#include "engine/text/jinja_args.h"
#include "engine/text/jinja_ast.h"

struct jinja_slot {
    const struct jinja_name *name;
    struct jinja_value value; /* MISSING: bound here, without a value */
};

/* Names bound by one scope: the template, a pass of a loop, a macro call ... if has none. */
struct jinja_scope {
    struct jinja_scope *parent;
    struct jinja_slot *slots; /* [count] */
    size_t count;
    size_t cap;
};

/* NULL: raised. */
struct jinja_scope *jinja_scope_new(struct jinja_run *r, struct jinja_scope *parent);
/* Empties a scope and binds the names it has without a value. */
WARN_UNUSED bool jinja_scope_begin(struct jinja_run *r, struct jinja_scope *scope,
                                   const struct jinja_unbound *unbound);
WARN_UNUSED bool jinja_scope_set(struct jinja_run *r, struct jinja_scope *scope,
                                 const struct jinja_name *name, struct jinja_value value);

WARN_UNUSED bool jinja_eval(struct jinja_run *r, struct jinja_scope *scope,
                            const struct jinja_node *node, struct jinja_value *out);
/* Calls any value; raises for what is not callable. */
WARN_UNUSED bool jinja_call_value(struct jinja_run *r, struct jinja_value callee,
                                  const struct jinja_args *args, struct jinja_value *out);
/* A JINJA_N_CALL with one more keyword argument, caller. */
WARN_UNUSED bool jinja_eval_call(struct jinja_run *r, struct jinja_scope *scope,
                                 const struct jinja_node *node, const struct jinja_value *caller,
                                 struct jinja_value *out);
/* Applies filters whose innermost input is `input`. */
WARN_UNUSED bool jinja_eval_filters(struct jinja_run *r, struct jinja_scope *scope,
                                    const struct jinja_node *node, struct jinja_value input,
                                    struct jinja_value *out);

enum jinja_flow { JINJA_FLOW_NEXT, JINJA_FLOW_BREAK, JINJA_FLOW_CONTINUE };

/* Runs a list of statements. *flow: whether a break or continue ended it. */
WARN_UNUSED bool jinja_exec(struct jinja_run *r, struct jinja_scope *scope,
                            const struct jinja_node *body, enum jinja_flow *flow);
/* Runs a list of statements and collects what they write. */
WARN_UNUSED bool jinja_exec_captured(struct jinja_run *r, struct jinja_scope *scope,
                                     const struct jinja_node *body, enum jinja_flow *flow,
                                     struct jinja_value *out);
/* One level of a recursive loop over `items`, as text. */
WARN_UNUSED bool jinja_exec_recursive(struct jinja_run *r, const struct jinja_loop *loop,
                                      struct jinja_value items, struct jinja_value *out);

#endif
