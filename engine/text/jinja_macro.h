/* jinja_macro: macros and the bodies of call blocks. */
#ifndef CHORUS_TEXT_JINJA_MACRO_H
#define CHORUS_TEXT_JINJA_MACRO_H

#include "engine/text/jinja_args.h"
#include "engine/text/jinja_ast.h"

struct jinja_scope;

struct jinja_macro {
    const struct jinja_node *node; /* MACRO or CALL_BLOCK */
    struct jinja_scope *scope;     /* where it was defined */
};

/* Binds arguments, runs the body, returns its text. */
WARN_UNUSED bool jinja_macro_call(struct jinja_run *r, const struct jinja_macro *m,
                                  const struct jinja_args *args, struct jinja_value *out);
/* name, arguments, catch_kwargs ... */
WARN_UNUSED bool jinja_macro_attribute(struct jinja_run *r, const struct jinja_macro *m,
                                       const struct jinja_str *name, bool *found,
                                       struct jinja_value *out);

#endif
