/* api_chat: what only POST /v1/chat/completions has: messages and what a chat template sees. Any
 * thread. */
#ifndef CHORUS_SERVER_API_CHAT_H
#define CHORUS_SERVER_API_CHAT_H

#include "server/api_request.h"

/* Reads messages, logprobs, tools and template settings of `root` into r: r->vars, one prompt to be
 * rendered. */
WARN_UNUSED enum status api_chat_read(const cJSON *root, struct api_request *r, struct err *e);

#endif
