/* api_prompts: a member that is a text, a list of texts, a list of token ids or a list of those:
 * `prompt` of completions, `input` of embeddings. Pure; any thread. */
#ifndef CHORUS_SERVER_API_PROMPTS_H
#define CHORUS_SERVER_API_PROMPTS_H

#include <cjson/cJSON.h>

#include "server/api_request.h"

/* Fills r->prompts from the request's member `key`, at most `max` of them; e->param is the key. */
WARN_UNUSED enum status api_prompts_read(const struct api_context *ctx, const char *key, int max,
                                         struct api_request *r, struct err *e);

#endif
