/* api_responses: what POST /v1/responses has of its own, read as the chat that it means. Nothing is
 * stored between requests: what refers to earlier answers is refused. Any thread. */
#ifndef CHORUS_SERVER_API_RESPONSES_H
#define CHORUS_SERVER_API_RESPONSES_H

#include <cjson/cJSON.h>

#include "engine/base/status.h"

/* The chat request that `root` means, and the members of the answer that repeat the request, as
 * JSON text. Both are the caller's (cJSON_Delete, mem_free) on STATUS_OK; `root` loses members. */
WARN_UNUSED enum status api_responses_to_chat(cJSON *root, cJSON **chat, char **repeated,
                                              struct err *e);
/* An error of the chat in the client's own words. */
void api_responses_rename(struct err *e);

#endif
