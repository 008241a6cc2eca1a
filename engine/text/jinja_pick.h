/* jinja_pick: what filters take from each item: an attribute, a key to compare by. */
#ifndef CHORUS_TEXT_JINJA_PICK_H
#define CHORUS_TEXT_JINJA_PICK_H

#include "engine/text/jinja_run.h"

/* Strings in lower case, other values as they are. */
WARN_UNUSED bool jinja_ignore_case(struct jinja_run *r, struct jinja_value *v);
/* The value at `path` (MISSING or none: v itself), `missing` in place of absent ones. */
WARN_UNUSED bool jinja_pick_key(struct jinja_run *r, struct jinja_value v, struct jinja_value path,
                                struct jinja_value missing, bool ignore_case,
                                struct jinja_value *out);
/* As sort has it: "a,b" gives a list of keys. */
WARN_UNUSED bool jinja_pick_keys(struct jinja_run *r, struct jinja_value v, struct jinja_value path,
                                 bool ignore_case, struct jinja_value *out);
/* A generator of the values at `path` of the items. */
WARN_UNUSED bool jinja_map_path(struct jinja_run *r, struct jinja_value items,
                                struct jinja_value path, struct jinja_value *out);

#endif
