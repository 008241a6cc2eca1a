/* bench_client: one HTTP/1.1 request over a non-blocking socket, as a state machine; understands
 * chunked bodies and server-sent events as far as timing needs. One thread. */
#ifndef CHORUS_SERVER_BENCH_CLIENT_H
#define CHORUS_SERVER_BENCH_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "engine/base/status.h"
#include "engine/base/strbuf.h"

/* Where requests go: "http://host[:port][/prefix]", resolved once. */
struct bench_target {
    struct sockaddr_storage addr;
    socklen_t addr_len;
    char host[256];   /* for the Host header, with the port */
    char prefix[256]; /* path before /v1/..., without a slash at its end */
};

WARN_UNUSED enum status bench_target_parse(const char *url, struct bench_target *out,
                                           struct err *e);

enum bench_state { BENCH_IDLE, BENCH_CONNECTING, BENCH_SENDING, BENCH_RECEIVING, BENCH_DONE };

struct bench_client {
    enum bench_state state;
    int fd;
    struct strbuf out; /* the request */
    size_t sent;
    struct strbuf in; /* bytes not yet understood; for a plain answer its whole body */
    bool headers_done;
    bool chunked;
    bool events;        /* text/event-stream */
    bool body_done;     /* the last chunk or Content-Length was reached */
    size_t chunk_left;  /* bytes of the current chunk */
    size_t length_left; /* Content-Length */
    struct strbuf body; /* decoded; events are cut out as they complete */
    int status;         /* HTTP status, 0 before it is known */
    bool failed;        /* transport error, or an error event in the stream */
    char why[160];
    int64_t start_ns;
    int64_t first_ns; /* first piece of text, 0 before */
    int64_t last_ns;  /* latest piece of text */
    int64_t end_ns;
    int pieces;            /* stream chunks with text */
    int completion_tokens; /* from usage, 0 when the server sends none */
    int prompt_tokens;
    /* Called for each piece after the first with the time since the piece before. May be NULL. */
    void (*on_gap)(void *ctx, int64_t gap_ns);
    void *on_gap_ctx;
};

void bench_client_init(struct bench_client *c);
void bench_client_deinit(struct bench_client *c);

/* Begins "METHOD prefix+path" with a JSON body (NULL: none). `key` is an API key or "". */
WARN_UNUSED enum status bench_client_start(struct bench_client *c, const struct bench_target *t,
                                           const char *method, const char *path, const char *body,
                                           const char *key, struct err *e);
/* poll() events this client waits for. */
short bench_client_wants(const struct bench_client *c);
/* Goes on after poll(); at the end the state is BENCH_DONE and the socket is closed. */
void bench_client_step(struct bench_client *c);
/* Ends it now with a reason, e.g. a timeout. */
void bench_client_abort(struct bench_client *c, const char *why);

#endif
