/* jinja_parse: template source to a compiled template. Any thread.
 *
 * Accepts what Python's jinja2 accepts with the extensions of chat templates (generation blocks,
 * break, continue). Refused, by name: include, import, from, extends, block, autoescape, `self` and
 * rare filters; they need other templates or mean nothing here.
 */
#ifndef CHORUS_TEXT_JINJA_PARSE_H
#define CHORUS_TEXT_JINJA_PARSE_H

#include "engine/base/status.h"
#include "engine/text/jinja_ast.h"

/* Fills *t, whatever the result: the caller calls jinja_template_deinit either way. STATUS_BAD_FILE
 * with the line for source that is not a template, STATUS_LIMIT for source over a limit,
 * STATUS_UNSUPPORTED for what is refused, STATUS_NO_MEMORY. */
WARN_UNUSED enum status jinja_parse(const char *source, size_t n, struct jinja_template *t,
                                    struct err *e);
void jinja_template_deinit(struct jinja_template *t);

#endif
