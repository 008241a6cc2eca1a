/* client: one HTTP/1.1 request over a non-blocking socket, as a state machine; understands chunked
 * bodies and server-sent events. For the commands, over loopback, a local network or a Unix socket:
 * no TLS, no redirects. One thread.
 *
 * What answers is not trusted: heads, bodies and lines are bounded, and what is no HTTP/1 is told
 * apart from an answer.
 */
#ifndef CHORUS_SERVER_CLIENT_H
#define CHORUS_SERVER_CLIENT_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "engine/base/status.h"
#include "engine/base/strbuf.h"

/* Where requests go, resolved once. */
struct client_target {
    struct sockaddr_storage addr;
    socklen_t addr_len;
    char host[256];   /* for the Host header, with the port */
    char prefix[256]; /* path before /v1/..., without a slash at its end */
    char text[320];   /* for people: the URL */
};

/* "http://host[:port][/prefix]", "host:port" or "unix:/path"; a "/v1" at its end, as SDKs have it,
 * is left out. STATUS_INVALID. */
WARN_UNUSED enum status client_target_parse(const char *url, struct client_target *out,
                                            struct err *e);

enum client_state { CLIENT_IDLE, CLIENT_CONNECTING, CLIENT_SENDING, CLIENT_RECEIVING, CLIENT_DONE };

/* How it failed. */
enum client_failure {
    CLIENT_FINE,
    CLIENT_UNREACHED, /* nobody took the connection */
    CLIENT_ALIEN,     /* what answers does not speak HTTP/1 */
    CLIENT_BROKEN,    /* the answer ended early, or its framing is wrong */
    CLIENT_ABORTED    /* client_abort */
};

struct client {
    enum client_state state;
    int fd;
    struct strbuf out; /* the request */
    size_t sent;
    struct strbuf in;   /* bytes not yet understood */
    struct strbuf body; /* decoded; events are cut out as they complete */
    bool headers_done;
    bool chunked;
    bool events; /* text/event-stream */
    bool body_done;
    size_t chunk_left;
    size_t length_left; /* SIZE_MAX: until the connection ends */
    int status;         /* HTTP status, 0 before it is known */
    enum client_failure failure;
    char why[160];
    int64_t start_ns;
    int64_t heard_ns; /* last byte sent or received */
    int64_t end_ns;
    /* The data of each event of a stream with status 200, [n] and a NUL; one line of it. May be
     * NULL. */
    void (*on_event)(void *ctx, const char *data, size_t n);
    void *ctx;
};

void client_init(struct client *c);
void client_deinit(struct client *c);

/* Begins "METHOD prefix+path" with a JSON body (NULL: none); what was before is forgotten, but for
 * on_event. `key` is an API key or "". */
WARN_UNUSED enum status client_start(struct client *c, const struct client_target *t,
                                     const char *method, const char *path, const char *body,
                                     const char *key, struct err *e);
/* poll() events this client waits for. */
short client_wants(const struct client *c);
/* Goes on after poll(); at the end the state is CLIENT_DONE and the socket is closed. */
void client_step(struct client *c);
/* Ends it now with a reason, e.g. a timeout. */
void client_abort(struct client *c, const char *why);
/* Drives it to its end; aborts after quiet_ms without a byte, or once *stop (NULL: never). */
void client_run(struct client *c, int quiet_ms, const volatile sig_atomic_t *stop);

#endif
