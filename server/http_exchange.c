/* What handlers see of a request and how they answer it. */
#include "server/http_conn.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "engine/base/clock.h"
#include "engine/base/mem.h"

const char *http_method(const struct http_exchange *x)
{
    return x->method ? x->method : "";
}

const char *http_path(const struct http_exchange *x)
{
    return x->path;
}

const char *http_header(const struct http_exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->conn->mhd, MHD_HEADER_KIND, name);
}

struct name_count {
    const char *name;
    int count;
};

static enum MHD_Result count_field(void *cls, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    (void)kind;
    (void)value;
    struct name_count *nc = cls;
    nc->count += strcasecmp(name, nc->name) == 0;
    return MHD_YES;
}

int http_header_count(const struct http_exchange *x, const char *name)
{
    struct name_count nc = {.name = name};
    MHD_get_connection_values(x->conn->mhd, MHD_HEADER_KIND, count_field, &nc);
    return nc.count;
}

const char *http_body(const struct http_exchange *x, size_t *n)
{
    *n = x->body.len;
    return strbuf_str(&x->body);
}

void http_take_body(struct http_exchange *x, struct strbuf *out)
{
    *out = x->body;
    strbuf_init(&x->body, 0);
}

bool http_is_reserved(const struct http_exchange *x)
{
    return x->conn->reserved;
}

void http_peer(const struct http_exchange *x, char out[64])
{
    const struct sockaddr *a = (const struct sockaddr *)&x->conn->peer;
    if (getnameinfo(a, sizeof x->conn->peer, out, 64, NULL, 0, NI_NUMERICHOST) != 0)
        snprintf(out, 64, "-");
}

void http_set_user(struct http_exchange *x, void *user)
{
    x->user = user;
}

void *http_user(const struct http_exchange *x)
{
    return x->user;
}

void http_add_header(struct http_exchange *x, const char *name, const char *value)
{
    if (x->header_count == HTTP_ANSWER_HEADERS)
        return;
    struct http_answer_header *hd = &x->headers[x->header_count];
    hd->name = mem_strdup(name);
    hd->value = mem_strdup(value);
    if (hd->name && hd->value) {
        x->header_count++;
        return;
    }
    mem_free(hd->name);
    mem_free(hd->value);
    *hd = (struct http_answer_header){0};
}

void http_set_header(struct http_exchange *x, const char *name, const char *value)
{
    for (int i = 0; i < x->header_count; i++) {
        struct http_answer_header *hd = &x->headers[i];
        if (strcasecmp(hd->name, name) != 0)
            continue;
        char *text = mem_strdup(value);
        if (!text)
            return;
        mem_free(hd->value);
        hd->value = text;
        return;
    }
    http_add_header(x, name, value);
}

void http_answer(struct http_exchange *x, int status, const char *content_type, struct strbuf *body)
{
    CHECK(!x->answered);
    if (body->failed) {
        strbuf_deinit(body);
        http_cut(x);
        return;
    }
    x->status = status;
    x->content_type = content_type;
    x->out = *body;
    *body = (struct strbuf){.max = body->max};
    x->answered = true;
    x->ended = true;
    http_conn_resume(x);
}

bool http_is_answered(const struct http_exchange *x)
{
    return x->answered;
}

void http_stream_begin(struct http_exchange *x, int status, const char *content_type)
{
    CHECK(!x->answered);
    x->status = status;
    x->content_type = content_type;
    x->answered = true;
    x->streams = true;
    http_conn_resume(x);
}

bool http_stream_write(struct http_exchange *x, const char *s, size_t n)
{
    if (x->gone)
        return true;
    if (x->out_begin > 0 && x->out_begin >= x->out.len / 2) {
        memmove(x->out.data, x->out.data + x->out_begin, x->out.len - x->out_begin);
        x->out.len -= x->out_begin;
        x->out_begin = 0;
    }
    if (x->out.len == 0)
        x->progress_ns = clock_now_ns(); /* the client's time starts with something to send */
    strbuf_append(&x->out, s, n);
    if (x->out.failed) {
        http_cut(x);
        return false;
    }
    http_conn_resume(x);
    return true;
}

size_t http_stream_unsent(const struct http_exchange *x)
{
    return x->out.len - x->out_begin;
}

bool http_stream_is_full(struct http_exchange *x)
{
    bool full = http_stream_unsent(x) >= x->conn->h->limits.unsent_bytes;
    if (full)
        x->wants_room = true;
    return full;
}

void http_stream_end(struct http_exchange *x)
{
    x->ended = true;
    http_conn_resume(x);
}

void http_cut(struct http_exchange *x)
{
    http_conn_cut(x->conn, false);
}
