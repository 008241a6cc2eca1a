#include "server/sse.h"

void sse_begin(struct strbuf *b)
{
    strbuf_puts(b, "data: ");
}

void sse_end(struct strbuf *b)
{
    strbuf_puts(b, "\n\n");
}

void sse_done(struct strbuf *b)
{
    strbuf_puts(b, "data: [DONE]\n\n");
}

void sse_ping(struct strbuf *b)
{
    strbuf_puts(b, ": ping\n\n");
}
