/* json: strict parsing in front of cJSON, and typed getters behind it. Any thread; a tree has one
 * owner.
 *
 * cJSON 1.7.15 accepts what JSON forbids (trailing garbage, 01, bad UTF-8), cuts strings at \u0000,
 * keeps every number as a double and recurses. So the text is scanned first with a fixed stack:
 * UTF-8, grammar, depth, member count, no NUL in strings, no duplicate key when asked. Integers
 * beyond 2^53 and floats of integral value (1.0) keep their text in valuestring, for json_int64 and
 * json_is_float.
 */
#ifndef CHORUS_BASE_JSON_H
#define CHORUS_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "engine/base/status.h"

struct json_limits {
    int depth_max;         /* nested arrays and objects */
    size_t members_max;    /* values in the whole text */
    bool refuse_duplicate; /* two equal keys in one object are an error */
};

/* LIMIT_JSON_DEPTH, LIMIT_JSON_MEMBERS, duplicates allowed (last wins is not promised). */
extern const struct json_limits json_default_limits;

/* Parses n bytes that must be exactly one JSON value. The caller frees *out with cJSON_Delete.
 * STATUS_INVALID with the byte offset in the message; STATUS_NO_MEMORY. */
WARN_UNUSED enum status json_parse(const char *text, size_t n, const struct json_limits *limits,
                                   cJSON **out, struct err *e);

/* Getters: `key` absent or null leaves *out alone and is OK; a wrong type or range is
 * STATUS_INVALID with param = key. `obj` must be an object. Case matters. */
WARN_UNUSED enum status json_get_bool(const cJSON *obj, const char *key, bool *out, struct err *e);
WARN_UNUSED enum status json_get_int(const cJSON *obj, const char *key, int64_t min, int64_t max,
                                     int64_t *out, struct err *e);
/* Finite numbers in [min, max]. */
WARN_UNUSED enum status json_get_double(const cJSON *obj, const char *key, double min, double max,
                                        double *out, struct err *e);
/* Borrowed from obj. */
WARN_UNUSED enum status json_get_string(const cJSON *obj, const char *key, const char **out,
                                        struct err *e);
/* Member that is neither absent nor null, else NULL. */
const cJSON *json_member(const cJSON *obj, const char *key);

/* A number as an integer without losing digits: true when `v` is integral and fits int64. The tree
 * must come from json_parse (it keeps the digits of integers beyond 2^53). */
bool json_int64(const cJSON *v, int64_t *out);
/* A number that was written with a point or an exponent: 1.0 is one, 1 is not. */
bool json_is_float(const cJSON *v);

#endif
