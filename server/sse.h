/* sse: frames of text/event-stream. Pure; appends to a strbuf. */
#ifndef CHORUS_SERVER_SSE_H
#define CHORUS_SERVER_SSE_H

#include "engine/base/strbuf.h"

/* Around one JSON value, which must hold no line break (strbuf_json_string escapes them). */
void sse_begin(struct strbuf *b);
void sse_end(struct strbuf *b);
/* The same with a name. */
void sse_begin_event(struct strbuf *b, const char *name);
/* "data: [DONE]": nothing follows. */
void sse_done(struct strbuf *b);
/* A comment: keeps idle connections open, means nothing to a client. */
void sse_ping(struct strbuf *b);

#endif
