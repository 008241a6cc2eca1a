/* api_messages: a request in Anthropic's form, read as the chat that it means. Any thread. */
#ifndef CHORUS_SERVER_API_MESSAGES_H
#define CHORUS_SERVER_API_MESSAGES_H

#include <stdbool.h>

#include <cjson/cJSON.h>

#include "engine/base/status.h"

/* The chat request that `root` means, the caller's (cJSON_Delete) on STATUS_OK; `root` loses
 * members. `generates`: max_tokens must be there; else only what makes up the prompt is asked for
 * (count_tokens). */
WARN_UNUSED enum status api_messages_to_chat(cJSON *root, bool generates, cJSON **chat,
                                             struct err *e);
/* An error of the chat in the client's own words. */
void api_messages_rename(struct err *e);

#endif
