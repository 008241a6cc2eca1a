/* jinja_print: str() and repr() of values, floats, HTML escaping. */
#ifndef CHORUS_TEXT_JINJA_PRINT_H
#define CHORUS_TEXT_JINJA_PRINT_H

#include "engine/text/jinja_run.h"

#define JINJA_FLOAT_MAX 40 /* bytes that a float's text takes at most */

/* Shortest text that reads back as f, as Python's repr; returns its length. */
size_t jinja_float_text(double f, char out[JINJA_FLOAT_MAX]);

WARN_UNUSED bool jinja_to_str(struct jinja_run *r, struct jinja_value v,
                              const struct jinja_str **out);
WARN_UNUSED bool jinja_repr(struct jinja_run *r, struct jinja_value v,
                            const struct jinja_str **out);
/* str() or repr() appended. */
WARN_UNUSED bool jinja_print_to(struct jinja_run *r, struct jinja_value v, bool repr,
                                struct jinja_buf *b);
/* & < > " ' as HTML entities, as markup; text that is markup already is returned as it is unless
 * `force`. */
WARN_UNUSED bool jinja_escape(struct jinja_run *r, const struct jinja_str *s,
                              const struct jinja_str **out);
WARN_UNUSED bool jinja_escape_force(struct jinja_run *r, const struct jinja_str *s,
                                    const struct jinja_str **out);

#endif
