/* http_state: what http.c, http_conn.c and http_exchange.c share, and nobody else sees. Loop
 * thread.
 *
 * Invariants: an exchange is suspended only while x->suspended; nothing closes a socket but
 * libmicrohttpd: cutting a connection is shutdown(2) and, when it sleeps, a resume.
 */
#ifndef CHORUS_SERVER_HTTP_STATE_H
#define CHORUS_SERVER_HTTP_STATE_H

#include <sys/socket.h>

#include <microhttpd.h>

#include "engine/base/limits.h"
#include "server/http.h"
#include "server/http_head.h"

#define HTTP_NS_PER_MS  1000000
#define HTTP_LINGER_MAX 64

enum http_phase {
    HTTP_PHASE_HEADERS,
    HTTP_PHASE_BODY,
    HTTP_PHASE_WORK,
    HTTP_PHASE_SEND,
    HTTP_PHASE_IDLE
};

enum http_exchange_state {
    HTTP_EXCHANGE_NEW,    /* request line seen */
    HTTP_EXCHANGE_BODY,   /* headers accepted */
    HTTP_EXCHANGE_WORK,   /* the whole request is with the handler */
    HTTP_EXCHANGE_QUEUED, /* the answer is with libmicrohttpd */
};

struct http_conn {
    struct http_server *h;
    struct http_conn *prev;
    struct http_conn *next;
    struct MHD_Connection *mhd;
    struct http_exchange *x; /* NULL between requests */
    int fd;                  /* libmicrohttpd's; valid until NOTIFY_CLOSED */
    struct sockaddr_storage peer;
    enum http_phase phase;
    int64_t phase_ns;  /* when the phase began */
    uint64_t rx_bytes; /* received when it became idle */
    bool reserved;
    bool cut;
};

struct http_answer_header {
    char *name;  /* owned */
    char *value; /* owned */
};

struct http_exchange {
    struct http_conn *conn;
    struct http_exchange *next_room;
    enum http_exchange_state state;
    char *target; /* owned */
    char *path;   /* owned */
    const char *method;
    struct strbuf body;
    size_t body_counted; /* in h->bodies_bytes */
    struct http_framing framing;
    void *user;
    struct loop_watch *hangup;
    struct strbuf out; /* the answer: whole, or what a stream has not sent */
    size_t out_begin;
    size_t sent_bytes;
    int64_t progress_ns;
    int status;
    const char *content_type; /* static */
    struct http_answer_header headers[HTTP_ANSWER_HEADERS];
    int header_count;
    bool announced; /* the handler knows of it */
    bool discards;  /* answered before the body ended: the rest is dropped */
    bool closes;    /* the connection ends with this exchange */
    bool lingers;
    bool answered;
    bool streams;
    bool ended; /* nothing more is added to out */
    bool suspended;
    bool gone;
    bool wants_room;
    bool sent_raw; /* the whole answer went past libmicrohttpd */
};

/* A socket whose request body was not read: closing it at once would reset the connection and the
 * client would lose the answer. So the read side stays open for a moment. */
struct http_lingerer {
    struct http_server *h;
    struct loop_watch *watch;
    int fd; /* owned duplicate */
    int64_t until_ns;
};

/* libmicrohttpd accepts on one socket; on each further one we do. */
struct http_door {
    struct http_server *h;
    struct loop_watch *watch;
    int fd; /* owned */
};

struct http_server {
    struct loop *loop;
    struct http_limits limits;
    struct http_handlers to;
    struct MHD_Daemon *mhd;
    struct loop_watch *watch;
    struct http_door doors[LIMIT_LISTENERS - 1]; /* the other sockets */
    int door_count;
    struct loop_timer *again; /* libmicrohttpd has work left */
    struct loop_timer *tick;  /* deadlines */
    struct http_conn *conns;
    int conn_count;
    int exchange_count;
    size_t bodies_bytes;
    struct http_exchange *room; /* streams that have room again */
    struct http_lingerer *lingering[HTTP_LINGER_MAX];
    bool strict_sum; /* this libmicrohttpd reports head lengths as http_head.h wants them */
    bool resumed;    /* a connection waits to be taken up again */
    bool draining;
    bool stopping;
};

#endif
