/* jinja_sort: Python's stable sort by keys. */
#ifndef CHORUS_TEXT_JINJA_SORT_H
#define CHORUS_TEXT_JINJA_SORT_H

#include "engine/text/jinja_run.h"

/* order[]: the indices of keys[] from the least up (reverse: from the greatest down; equal keys
 * keep their order either way). Raises for keys that can't be compared. */
WARN_UNUSED bool jinja_sort_order(struct jinja_run *r, const struct jinja_value *keys, size_t count,
                                  bool reverse, size_t *order);

#endif
