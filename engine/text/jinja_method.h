/* jinja_method: methods of Python's types. */
#ifndef CHORUS_TEXT_JINJA_METHOD_H
#define CHORUS_TEXT_JINJA_METHOD_H

#include "engine/text/jinja_args.h"

/* The method that v has by that name, or NULL. *changes: it would change v, which the sandbox
 * forbids. A row without fn is one that Python has and this implementation refuses when called. */
const struct jinja_builtin *jinja_method_find(struct jinja_value v, const struct jinja_str *name,
                                              bool *changes);
/* A name like __class__ that every Python object has. */
bool jinja_method_is_internal(const struct jinja_str *name);

/* Rows of str, in jinja_method_str.c. */
extern const struct jinja_builtin jinja_str_methods[];
extern const size_t jinja_str_method_count;

#endif
