/* http: HTTP/1.1 over libmicrohttpd, driven by the loop. The only file that knows libmicrohttpd.
 *
 * It owns connections and exchanges (one request and its answer), enforces framing, limits and
 * absolute deadlines, and notices a client that left while its answer is still being made. It knows
 * no route and no JSON. Everything runs on the loop thread.
 *
 * Life of an exchange: on_headers -> on_request (only if on_headers did not answer) -> the handler
 * answers now or later, whole (http_answer) or as a stream (http_stream_*) -> on_end, always and
 * once; afterwards the exchange is gone. on_gone may come between: the client left or was cut, the
 * work for it should stop, what is written from then on is dropped.
 */
#ifndef CHORUS_SERVER_HTTP_H
#define CHORUS_SERVER_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/base/strbuf.h"
#include "server/listener.h"
#include "server/loop.h"

struct http_server;
struct http_exchange;

struct http_limits {
    size_t header_bytes;
    size_t body_bytes;
    size_t bodies_bytes; /* request bodies in memory, all connections together */
    size_t unsent_bytes; /* of one stream; the writer is to pause beyond it */
    int header_ms;       /* absolute, from the first byte */
    int body_ms;         /* absolute, from the end of the headers */
    int idle_ms;         /* between requests */
    int stall_ms;        /* an answer that makes no progress */
    int connections;
    int reserved; /* of those, kept for exchanges that http_is_reserved marks */
    int connections_peer;
};

struct http_end {
    int status;         /* 0: no answer was begun */
    size_t sent_bytes;  /* of the body, handed to the socket layer */
    bool complete;      /* the whole answer was handed over */
    bool before_answer; /* the client left first */
};

struct http_handlers {
    void *ctx;
    /* Headers are checked and complete. May answer (http_answer): then the body is not kept. */
    void (*on_headers)(void *ctx, struct http_exchange *x);
    void (*on_request)(void *ctx, struct http_exchange *x);
    /* A stream that was full (http_stream_is_full) has room again. */
    void (*on_room)(void *ctx, struct http_exchange *x);
    void (*on_gone)(void *ctx, struct http_exchange *x);
    /* Also called for exchanges that on_headers never saw because http refused them. */
    void (*on_end)(void *ctx, struct http_exchange *x, const struct http_end *end);
    /* Writes the body and content type of an answer that http itself gives (`e` tells why). */
    void (*write_error)(void *ctx, struct http_exchange *x, int status, const struct err *e);
};

/* Takes the listening descriptors over (`count` of them, 1 to LIMIT_LISTENERS). At most
 * `connections` descriptors are used beside them. */
WARN_UNUSED enum status http_start(struct loop *l, const struct listener *listeners, int count,
                                   const struct http_limits *limits,
                                   const struct http_handlers *handlers, struct http_server **out,
                                   struct err *e);
/* From now on; a request's body keeps the bound that it began with. What was made at the start
 * (header_bytes, unsent_bytes, connections, reserved) stays. */
void http_set_limits(struct http_server *h, const struct http_limits *limits);
/* Accepts no more, closes idle connections, closes each other one after its answer. */
void http_drain(struct http_server *h);
/* Ends every connection (on_gone and on_end are called) and frees the server. NULL is allowed. */
void http_stop(struct http_server *h);
int http_connection_count(const struct http_server *h);
/* Exchanges whose headers arrived and whose answer is not complete. */
int http_exchange_count(const struct http_server *h);

/* The request. Strings live until on_end. */
const char *http_method(const struct http_exchange *x);
/* The target up to '?', not decoded. */
const char *http_path(const struct http_exchange *x);
/* First value of a header (name in any case), NULL when absent. */
const char *http_header(const struct http_exchange *x, const char *name);
int http_header_count(const struct http_exchange *x, const char *name);
const char *http_body(const struct http_exchange *x, size_t *n);
/* Moves the body to the caller (strbuf_deinit): it may outlive the exchange. */
void http_take_body(struct http_exchange *x, struct strbuf *out);
/* Came in on a connection beyond the ordinary limit: only cheap, vital routes should be served. */
bool http_is_reserved(const struct http_exchange *x);
/* The client's address in text, without the port. */
void http_peer(const struct http_exchange *x, char out[64]);
void http_set_user(struct http_exchange *x, void *user);
void *http_user(const struct http_exchange *x);

/* The answer. Header values are copied; they must hold no control characters. At most
 * HTTP_ANSWER_HEADERS, more are dropped. */
#define HTTP_ANSWER_HEADERS 16
void http_add_header(struct http_exchange *x, const char *name, const char *value);
/* The same instead of the one of that name, if it was added. */
void http_set_header(struct http_exchange *x, const char *name, const char *value);
/* Whole answer; takes the text out of `body`. */
void http_answer(struct http_exchange *x, int status, const char *content_type,
                 struct strbuf *body);
bool http_is_answered(const struct http_exchange *x);

void http_stream_begin(struct http_exchange *x, int status, const char *content_type);
/* False: out of memory, the stream is cut. */
bool http_stream_write(struct http_exchange *x, const char *s, size_t n);
/* More than limits.unsent_bytes wait: the writer should pause until on_room. */
bool http_stream_is_full(struct http_exchange *x);
size_t http_stream_unsent(const struct http_exchange *x);
void http_stream_end(struct http_exchange *x);
/* Drops the connection; on_gone is not called, on_end is. */
void http_cut(struct http_exchange *x);

#endif
