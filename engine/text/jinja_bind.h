/* jinja_bind: names that a scope binds without a value from its begin. Private to the parser.
 *
 * jinja2 decides when it compiles where a name lives. A name whose first mention in a scope is an
 * assignment outside any if, and that no scope around it mentions, belongs to that scope from its
 * begin: a macro or loop inside that reads it early gets an undefined value, not the variable of
 * the render. The evaluator looks names up as it runs, so it must be told.
 */
#ifndef CHORUS_TEXT_JINJA_BIND_H
#define CHORUS_TEXT_JINJA_BIND_H

#include "engine/text/jinja_ast.h"

/* Fills the `unbound` lists of the template. False: out of memory. */
WARN_UNUSED bool jinja_bind_names(struct jinja_template *t);

#endif
