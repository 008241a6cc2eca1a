/* jinja_access: a.b, a[b], a[b:c] with the sandbox's rules: attributes of Python objects come
 * before keys for a.b and after them for a["b"]; what begins with "__" or would change an object is
 * an undefined value that says so. */
#ifndef CHORUS_TEXT_JINJA_ACCESS_H
#define CHORUS_TEXT_JINJA_ACCESS_H

#include "engine/text/jinja_run.h"

/* a.name: an undefined value where there is neither attribute nor key; raises for undefined a. */
WARN_UNUSED bool jinja_getattr(struct jinja_run *r, struct jinja_value v,
                               const struct jinja_str *name, struct jinja_value *out);
/* a[key] */
WARN_UNUSED bool jinja_getitem(struct jinja_run *r, struct jinja_value v, struct jinja_value key,
                               struct jinja_value *out);
/* Python's attribute alone; *found false where there is none. */
WARN_UNUSED bool jinja_attribute(struct jinja_run *r, struct jinja_value v,
                                 const struct jinja_str *name, bool *found,
                                 struct jinja_value *out);
/* a[start:stop:step]; MISSING or none parts are open. Raises as Python does. */
WARN_UNUSED bool jinja_slice(struct jinja_run *r, struct jinja_value v, struct jinja_value start,
                             struct jinja_value stop, struct jinja_value step,
                             struct jinja_value *out);

/* A path as filters take it: "a.b.0", or an integer; absent keys give undefined values. */
WARN_UNUSED bool jinja_getpath(struct jinja_run *r, struct jinja_value v, struct jinja_value path,
                               struct jinja_value missing, struct jinja_value *out);

#endif
