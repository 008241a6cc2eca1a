/* schema_combine: one set of schemas that apply to one value as an expression: references and
 * allOf opened, anyOf and oneOf multiplied out, types and enums of the plain rest. */
#ifndef CHORUS_GRAMMAR_SCHEMA_COMBINE_H
#define CHORUS_GRAMMAR_SCHEMA_COMBINE_H

#include "engine/grammar/schema_parts.h"

/* The expression of set number `set`; errors go to the builder, -1. */
int schema_combine(struct schema_ctx *c, size_t set);

#endif
