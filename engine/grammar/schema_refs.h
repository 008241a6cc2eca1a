/* schema_refs: $ref inside one schema document, and what can be told of two schemas without
 * compiling them. Pure functions on trees of json_parse. */
#ifndef CHORUS_GRAMMAR_SCHEMA_REFS_H
#define CHORUS_GRAMMAR_SCHEMA_REFS_H

#include <stdbool.h>

#include <cjson/cJSON.h>

/* The schema at "#", "#/..." (a JSON pointer, percent-encoded or not), or NULL. */
const cJSON *schema_ref_find(const cJSON *root, const char *ref);

/* The types (TYPE_* of schema_parts.h) that `type`, `enum` and `const` of this schema leave. An
 * unknown type's name: -1. */
int schema_types(const cJSON *schema);
/* The type of a value. */
int schema_type_of(const cJSON *value);
/* Equal as JSON values: 1 is 1.0. */
bool schema_equal(const cJSON *a, const cJSON *b);
/* No value can satisfy both: different types, different constants, or objects that differ so in a
 * member that both require. False where that cannot be seen. */
bool schema_disjoint(const cJSON *root, const cJSON *a, const cJSON *b);

#endif
