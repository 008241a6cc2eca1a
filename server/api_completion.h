/* api_completion: what only POST /v1/completions has: prompts as text or ids, echo, logprobs 0-5.
 * Any thread. */
#ifndef CHORUS_SERVER_API_COMPLETION_H
#define CHORUS_SERVER_API_COMPLETION_H

#include "server/api_request.h"

/* Reads the prompts and completion-only fields of `root` into r. */
WARN_UNUSED enum status api_completion_read(const struct api_context *ctx, const cJSON *root,
                                            struct api_request *r, struct err *e);

#endif
