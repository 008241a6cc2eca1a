/* jinja_global: functions that every template can call: range, namespace, raise_exception ... */
#ifndef CHORUS_TEXT_JINJA_GLOBAL_H
#define CHORUS_TEXT_JINJA_GLOBAL_H

#include "engine/text/jinja_args.h"

/* NULL: there is none of that name. */
const struct jinja_builtin *jinja_global_find(const struct jinja_str *name);

#endif
