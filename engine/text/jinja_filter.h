/* jinja_filter: filters and tests by name. */
#ifndef CHORUS_TEXT_JINJA_FILTER_H
#define CHORUS_TEXT_JINJA_FILTER_H

#include "engine/text/jinja_args.h"

/* NULL: there is none of that name. A row without fn is known to Python's jinja2 and refused here.
 */
const struct jinja_builtin *jinja_filter_find(const struct jinja_str *name);
const struct jinja_builtin *jinja_test_find(const struct jinja_str *name);

/* By a name that only the run knows (map, select ...). */
WARN_UNUSED bool jinja_filter_call(struct jinja_run *r, struct jinja_value name,
                                   struct jinja_value input, const struct jinja_args *args,
                                   struct jinja_value *out);
WARN_UNUSED bool jinja_test_call(struct jinja_run *r, struct jinja_value name,
                                 struct jinja_value input, const struct jinja_args *args,
                                 bool *out);

#endif
