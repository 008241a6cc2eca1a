/* tool_grammar: answers that are calls of tools and nothing else, their arguments by each tool's
 * schema. What tool_choice "required" or a named one is held to. */
#ifndef CHORUS_GRAMMAR_TOOL_GRAMMAR_H
#define CHORUS_GRAMMAR_TOOL_GRAMMAR_H

#include <cjson/cJSON.h>

#include "engine/grammar/grammar_build.h"

/* The expression of one call, or with "many" of up to LIMIT_TOOL_CALLS, of
 * {"form": "tags" | "object" | "list", "many": bool, "compact": bool,
 *  "tools": [{"name", "parameters": schema, "strict": bool}, ...]}:
 *   tags    <tool_call>\n{"name": "f", "arguments": {...}}\n</tool_call>, joined by a line break
 *   object  {"name": "f", "parameters": {...}}, joined by "; "
 *   list    [{"name": "f", "arguments": {...}}, ...]
 * Errors go to the builder, -1; those of a schema say which tool's. */
int tool_grammar_build(struct grammar_builder *b, const cJSON *ask);

#endif
