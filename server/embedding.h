/* embedding: a pooled vector as a client wants it, and the answer of POST /v1/embeddings. Pure: any
 * thread. */
#ifndef CHORUS_SERVER_EMBEDDING_H
#define CHORUS_SERVER_EMBEDDING_H

#include <stdbool.h>

#include "engine/base/strbuf.h"
#include "server/api_request.h"

/* Cuts v to form->dimensions values and gives what is left length 1 where the model's embeddings
 * have that; a vector of zeros stays. False: a value is no number. */
WARN_UNUSED bool embedding_finish(const struct api_embedding *form, float *v);

/* The first `count` values: a list of numbers that read back as the same float32, or a string of
 * their bytes, lowest first, in base64. */
void embedding_put(struct strbuf *b, const float *v, int count, bool base64);

#endif
