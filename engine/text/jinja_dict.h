/* jinja_dict: dicts and sequences of one render, hashing, and JSON input as values. */
#ifndef CHORUS_TEXT_JINJA_DICT_H
#define CHORUS_TEXT_JINJA_DICT_H

#include "engine/text/jinja_run.h"

/* Raises for what Python can't hash. */
WARN_UNUSED bool jinja_hash(struct jinja_run *r, struct jinja_value v, uint64_t *out);

/* NULL: raised. */
struct jinja_dict *jinja_dict_new(struct jinja_run *r);
/* An equal key keeps its place and gets the new value. */
WARN_UNUSED bool jinja_dict_put(struct jinja_run *r, struct jinja_dict *d, struct jinja_value key,
                                struct jinja_value value);
/* *out: the value, or NULL. Raises for keys that can't be hashed. */
WARN_UNUSED bool jinja_dict_get(struct jinja_run *r, const struct jinja_dict *d,
                                struct jinja_value key, const struct jinja_value **out);
/* By a string key; NULL: absent. */
const struct jinja_value *jinja_dict_text(struct jinja_run *r, const struct jinja_dict *d,
                                          const struct jinja_str *key);

/* A list (or tuple) value over items, which it borrows. */
WARN_UNUSED bool jinja_seq_value(struct jinja_run *r, enum jinja_type type,
                                 const struct jinja_value *items, size_t count,
                                 struct jinja_value *out);

/* A growing array of values in the arena. */
struct jinja_items {
    struct jinja_value *items;
    size_t count;
    size_t cap;
};
WARN_UNUSED bool jinja_items_add(struct jinja_run *r, struct jinja_items *l, struct jinja_value v);

/* Input as values; strings are borrowed from `json` until the render ends. trusted: strings count
 * as template text. */
WARN_UNUSED bool jinja_from_json(struct jinja_run *r, const cJSON *json, bool trusted,
                                 struct jinja_value *out);

#endif
