/* api_tools: tools, tool_choice and parallel_tool_calls of a chat request. Any thread. */
#ifndef CHORUS_SERVER_API_TOOLS_H
#define CHORUS_SERVER_API_TOOLS_H

#include <stdbool.h>

#include <cjson/cJSON.h>

#include "engine/base/status.h"
#include "engine/engine_text.h"

struct api_tools {
    const cJSON *list; /* borrowed from the request; NULL: no tools, or the choice to call none */
    bool forced;       /* the answer must be calls */
    bool parallel;     /* of more than one */
    const char *named; /* forced: of this tool alone, borrowed; NULL: of any */
};

/* What the request says; the tools into vars, for the template. STATUS_INVALID with the field. */
WARN_UNUSED enum status api_tools_read(const cJSON *root, cJSON *vars, struct api_tools *out,
                                       struct err *e);
/* For forced calls: what the grammar is made from (tool_grammar.h), as text that the caller frees
 * with mem_free. */
WARN_UNUSED enum status api_tools_grammar(const struct api_tools *t, enum engine_tool_form form,
                                          char **out, struct err *e);

#endif
