/* api_embeddings: the body of POST /v1/embeddings as plain data. Pure; any thread. */
#ifndef CHORUS_SERVER_API_EMBEDDINGS_H
#define CHORUS_SERVER_API_EMBEDDINGS_H

#include "server/api_request.h"

/* Reads what is left of r->root once its voice is known. */
WARN_UNUSED enum status api_embeddings_read(const struct api_context *ctx, struct api_request *r,
                                            struct err *e);
/* The inputs are tokens now: each of them fits the context, or the first that does not is named. */
WARN_UNUSED enum status api_embeddings_check(const struct api_context *ctx,
                                             const struct api_request *r, struct err *e);

#endif
