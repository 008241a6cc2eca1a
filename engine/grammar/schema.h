/* schema: JSON Schema (draft 2020-12, and what older drafts write for the same) as a grammar of
 * the JSON texts that it accepts.
 *
 * Sound: what the grammar accepts validates, but for these readings, which generation needs. A
 * schema without `type` whose keywords speak of one type (properties, items, pattern, minimum)
 * means that type. Declared properties come in the schema's order; optional ones may be left out.
 * A declared key never comes twice; one that additionalProperties lets in may.
 *
 * Spelling: no white space but, unless `compact`, one space or a line break with up to 32 spaces
 * behind { [ , and before } ], and one space behind a colon. Strings that a keyword looks into are
 * spelled with the fewest escapes; others may use all of them. Integers have up to 20 digits.
 *
 * A keyword that cannot be expressed is STATUS_UNSUPPORTED and named with its JSON pointer;
 * annotations and unknown keywords are ignored, as the standard has it.
 */
#ifndef CHORUS_GRAMMAR_SCHEMA_H
#define CHORUS_GRAMMAR_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>

#include <cjson/cJSON.h>

#include "engine/base/status.h"
#include "engine/grammar/grammar.h"
#include "engine/grammar/grammar_build.h"

struct schema_options {
    bool strict;  /* as OpenAI: every object says "additionalProperties": false */
    bool compact; /* no white space at all */
};

/* The expression of the texts that `schema` (a tree of json_parse, needed only during the call)
 * accepts; errors go to the builder, -1. */
int schema_build(struct grammar_builder *b, const cJSON *schema, const struct schema_options *o);
/* Of any JSON object: response_format json_object. */
int schema_build_object(struct grammar_builder *b, bool compact);

/* All at once, from text: schema NULL means any object. STATUS_INVALID (the schema is none, or
 * nothing satisfies it), STATUS_UNSUPPORTED, STATUS_LIMIT, STATUS_NO_MEMORY; e->param is "". */
WARN_UNUSED enum status schema_compile(const char *schema, size_t n, const struct schema_options *o,
                                       struct grammar **out, struct err *e);

#endif
