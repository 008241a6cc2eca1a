/* sse_reader: an event stream read the way the standard describes it, independently of the writer.
 * Included by tests. */
#ifndef CHORUS_TESTS_SSE_READER_H
#define CHORUS_TESTS_SSE_READER_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/mem.h"
#include "engine/base/strbuf.h"
#include "engine/base/utf8.h"

struct sse_reader {
    int events;
    int comments;
    bool done; /* [DONE] was read */
    /* Called for each JSON event; may be NULL. */
    void (*on_json)(void *ctx, const cJSON *v);
    void *ctx;
    const char *why; /* NULL: all is well */
};

static bool sse_reader_event(struct sse_reader *r, const struct strbuf *data)
{
    if (r->done)
        return r->why = "something after [DONE]", false;
    r->events++;
    if (strcmp(strbuf_str(data), "[DONE]") == 0) {
        r->done = true;
        return true;
    }
    cJSON *v = NULL;
    struct err e;
    if (json_parse(strbuf_str(data), data->len, &json_default_limits, &v, &e) != STATUS_OK)
        return r->why = "an event is no JSON", false;
    if (r->on_json)
        r->on_json(r->ctx, v);
    cJSON_Delete(v);
    return true;
}

/* Field lines gather, a blank line dispatches (WHATWG, server-sent events). */
static bool sse_reader_read(struct sse_reader *r, const char *s, size_t n)
{
    if (!utf8_is_valid(s, n))
        return r->why = "the stream is no UTF-8", false;
    struct strbuf data;
    strbuf_init(&data, n + 1);
    bool any = false;
    bool ok = true;
    while (ok && n > 0) {
        const char *lf = memchr(s, '\n', n);
        size_t len = lf ? (size_t)(lf - s) : n;
        if (!lf) {
            r->why = "the stream ends inside a line";
            ok = false;
        } else if (memchr(s, '\r', len) || memchr(s, '\0', len)) {
            r->why = "a line holds CR or NUL";
            ok = false;
        } else if (len == 0) {
            if (any)
                ok = sse_reader_event(r, &data);
            strbuf_clear(&data);
            any = false;
        } else if (s[0] == ':') {
            r->comments++;
        } else if (len >= 6 && memcmp(s, "data: ", 6) == 0) {
            if (any)
                strbuf_putc(&data, '\n');
            strbuf_append(&data, s + 6, len - 6);
            any = true;
        } else {
            r->why = "a line is neither data nor comment";
            ok = false;
        }
        s += len + 1;
        n -= lf ? len + 1 : len;
    }
    if (ok && any) {
        r->why = "the last event was not dispatched";
        ok = false;
    }
    strbuf_deinit(&data);
    return ok;
}

/* What must arrive of bytes that may not be UTF-8: each byte that fits nowhere is U+FFFD. */
static void sse_reader_sanitize(struct strbuf *out, const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t len = utf8_valid_len(s + i, n - i);
        if (len)
            strbuf_append(out, s + i, len);
        else
            strbuf_puts(out, "\xEF\xBF\xBD");
        i += len ? len : 1;
    }
}

#endif
