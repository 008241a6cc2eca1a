#include "server/sse.h"

#include <string.h>

void sse_data(struct strbuf *b, const char *json, size_t n)
{
    strbuf_puts(b, "data: ");
    for (;;) {
        const char *lf = memchr(json, '\n', n);
        if (!lf)
            break;
        size_t line = (size_t)(lf - json);
        strbuf_append(b, json, line);
        strbuf_puts(b, "\ndata: ");
        json += line + 1;
        n -= line + 1;
    }
    strbuf_append(b, json, n);
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
