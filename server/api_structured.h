/* api_structured: response_format and structured_outputs of a request, and their grammar. Any
 * thread; compiling is pool work.
 */
#ifndef CHORUS_SERVER_API_STRUCTURED_H
#define CHORUS_SERVER_API_STRUCTURED_H

#include <stdbool.h>
#include <stddef.h>

#include <cjson/cJSON.h>

#include "engine/base/status.h"
#include "engine/engine_grammar.h"

/* What one request asks of the form of its answer. */
struct api_structured {
    bool asked;
    struct engine_grammar_ask ask;
    char *text;        /* owned; ask.text points to it */
    const char *field; /* of the request, for errors */
};

/* STATUS_INVALID or _UNSUPPORTED with the field's name. The caller ends *out with
 * api_structured_deinit whatever comes back. */
WARN_UNUSED enum status api_structured_read(const cJSON *root, struct api_structured *out,
                                            struct err *e);
/* The compiled grammar, NULL where none was asked for; statuses of engine_grammar_compile, with
 * the field's name. */
WARN_UNUSED enum status api_structured_compile(const struct api_structured *s,
                                               struct engine *engine, struct grammar **out,
                                               struct err *e);
void api_structured_deinit(struct api_structured *s);

#endif
