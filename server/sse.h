/* sse: frames of text/event-stream. Pure; appends to a strbuf. */
#ifndef CHORUS_SERVER_SSE_H
#define CHORUS_SERVER_SSE_H

#include <stddef.h>

#include "engine/base/strbuf.h"

/* "data: " + json + blank line. A line break inside (our JSON has none) would begin a new data
 * line, as the format wants it. */
void sse_data(struct strbuf *b, const char *json, size_t n);
/* "data: [DONE]": nothing follows. */
void sse_done(struct strbuf *b);
/* A comment: keeps idle connections open, means nothing to a client. */
void sse_ping(struct strbuf *b);

#endif
