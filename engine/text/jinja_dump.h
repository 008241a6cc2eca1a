/* jinja_dump: tojson, as json.dumps without HTML escaping. */
#ifndef CHORUS_TEXT_JINJA_DUMP_H
#define CHORUS_TEXT_JINJA_DUMP_H

#include "engine/text/jinja_run.h"

struct jinja_dump {
    const struct jinja_str *indent; /* of one level; NULL: one line */
    const struct jinja_str *item;   /* between items, ", " */
    const struct jinja_str *key;    /* between key and value, ": " */
    bool ascii;
    bool sort_keys;
};

/* All bytes of an input value count as input, its keys and punctuation too. */
WARN_UNUSED bool jinja_dump_value(struct jinja_run *r, const struct jinja_dump *how,
                                  struct jinja_value v, const struct jinja_str **out);

#endif
