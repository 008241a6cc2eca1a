#include "server/sse.h"

void sse_begin(struct strbuf *b)
{
    strbuf_puts(b, "data: ");
}

void sse_begin_event(struct strbuf *b, const char *name)
{
    strbuf_printf(b, "event: %s\ndata: ", name);
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
