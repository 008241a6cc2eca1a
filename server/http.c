/* The idea: libmicrohttpd parses and writes, and is run only from the loop (its epoll descriptor is
 * watched; MHD_get_timeout is honoured). A request whose answer is not there yet is suspended; then
 * libmicrohttpd looks at its socket no more, so a hang-up watch of our own does. Nothing closes a
 * socket but libmicrohttpd: cutting a connection is shutdown(2) and, when it sleeps, a resume.
 *
 * Invariants: an exchange is suspended only while x->suspended; a body reader returns 0 only right
 * after suspending; no callback of the handlers runs inside http_answer or http_stream_*.
 */
#include "server/http.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include <microhttpd.h>

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "server/http_head.h"

#define NS_PER_MS        1000000
#define POOL_SLACK_BYTES (32u << 10) /* of a connection's memory, beside its request head */
#define SOCKET_SEND_BYTES                                                                          \
    (64 << 10) /* the kernel doubles it; bounds what waits out of our sight                        \
                */
#define STREAM_BLOCK_BYTES (16u << 10)
#define WHOLE_MAX_BYTES    (64u << 10) /* larger answers go through the reader: progress is seen */
#define DISCARD_MAX_BYTES                                                                          \
    (64u << 10) /* a refused body up to this is read, so that the connection lives */
#define RESERVED_HEADER_MS 1000
#define LINGER_MS          2000
#define LINGER_MAX         64
#define CONNECTION_SLACK   64 /* accepted to be judged, beyond the limit */
#define TICK_MIN_MS        20
#define TICK_MAX_MS        250

enum phase { PHASE_HEADERS, PHASE_BODY, PHASE_WORK, PHASE_SEND, PHASE_IDLE };

enum exchange_state {
    EXCHANGE_NEW,    /* request line seen */
    EXCHANGE_BODY,   /* headers accepted */
    EXCHANGE_WORK,   /* the whole request is with the handler */
    EXCHANGE_QUEUED, /* the answer is with libmicrohttpd */
};

struct conn {
    struct http_server *h;
    struct conn *prev;
    struct conn *next;
    struct MHD_Connection *mhd;
    struct http_exchange *x; /* NULL between requests */
    int fd;                  /* libmicrohttpd's; valid until NOTIFY_CLOSED */
    struct sockaddr_storage peer;
    enum phase phase;
    int64_t phase_ns;  /* when the phase began */
    uint64_t rx_bytes; /* received when it became idle */
    bool reserved;
    bool cut;
};

struct answer_header {
    char *name;  /* owned */
    char *value; /* owned */
};

struct http_exchange {
    struct conn *conn;
    struct http_exchange *next_room;
    enum exchange_state state;
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
    struct answer_header headers[HTTP_ANSWER_HEADERS];
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
struct lingerer {
    struct http_server *h;
    struct loop_watch *watch;
    int fd; /* owned duplicate */
    int64_t until_ns;
};

struct http_server {
    struct loop *loop;
    struct http_limits limits;
    struct http_handlers to;
    struct MHD_Daemon *mhd;
    struct loop_watch *watch;
    struct loop_timer *again; /* libmicrohttpd has work left */
    struct loop_timer *tick;  /* deadlines */
    struct conn *conns;
    int conn_count;
    int exchange_count;
    size_t bodies_bytes;
    struct http_exchange *room; /* streams that have room again */
    struct lingerer *lingering[LINGER_MAX];
    bool strict_sum; /* this libmicrohttpd reports head lengths as http_head.h wants them */
    bool resumed;    /* a connection waits to be taken up again */
    bool draining;
    bool stopping;
};

/* ---- connections ---- */

static uint64_t bytes_received(int fd)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
        return 0;
    return info.tcpi_bytes_received;
}

static void set_phase(struct conn *c, enum phase phase)
{
    c->phase = phase;
    c->phase_ns = clock_now_ns();
    if (phase == PHASE_IDLE)
        c->rx_bytes = bytes_received(c->fd);
}

static void resume(struct http_exchange *x)
{
    if (!x->suspended)
        return;
    x->suspended = false;
    MHD_resume_connection(x->conn->mhd);
    /* With an external loop nothing wakes the library's descriptor: it must be run. */
    x->conn->h->resumed = true;
    loop_timer_start(x->conn->h->again, 0, 0);
}

static void cut(struct conn *c, bool tell)
{
    if (c->cut)
        return;
    c->cut = true;
    shutdown(c->fd, SHUT_RDWR);
    struct http_exchange *x = c->x;
    if (!x)
        return;
    bool first = !x->gone;
    x->gone = true;
    resume(x);
    if (tell && first && x->announced)
        c->h->to.on_gone(c->h->to.ctx, x);
}

static bool same_peer(const struct conn *a, const struct conn *b)
{
    if (a->peer.ss_family != b->peer.ss_family)
        return false;
    if (a->peer.ss_family == AF_INET)
        return ((const struct sockaddr_in *)&a->peer)->sin_addr.s_addr ==
               ((const struct sockaddr_in *)&b->peer)->sin_addr.s_addr;
    if (a->peer.ss_family == AF_INET6)
        return memcmp(&((const struct sockaddr_in6 *)&a->peer)->sin6_addr,
                      &((const struct sockaddr_in6 *)&b->peer)->sin6_addr,
                      sizeof(struct in6_addr)) == 0;
    return true;
}

/* Over a limit the connection that waited longest without a request makes room: a crowd of silent
 * or dripping clients drives out its own, not those that ask. `of` NULL: of any peer. */
static bool evict(struct http_server *h, const struct conn *newest, const struct conn *of)
{
    struct conn *victim = NULL;
    for (struct conn *c = h->conns; c; c = c->next) {
        if (c == newest || c->cut || (of && !same_peer(c, of)))
            continue;
        if (c->phase != PHASE_IDLE && c->phase != PHASE_HEADERS)
            continue;
        if (!victim || c->phase_ns < victim->phase_ns)
            victim = c;
    }
    if (victim)
        cut(victim, false);
    return victim != NULL;
}

static void admit(struct http_server *h, struct conn *c)
{
    int total = 0;
    int peers = 0;
    for (const struct conn *o = h->conns; o; o = o->next) {
        total += !o->cut;
        peers += !o->cut && same_peer(o, c);
    }
    if (peers > h->limits.connections_peer && !evict(h, c, c)) {
        cut(c, false);
        return;
    }
    if (total <= h->limits.connections - h->limits.reserved || evict(h, c, NULL))
        return;
    if (total > h->limits.connections)
        cut(c, false);
    else
        c->reserved = true;
}

static void add_conn(struct http_server *h, struct MHD_Connection *mhd, void **socket_context)
{
    int fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    struct conn *c = mem_calloc(1, sizeof *c);
    *socket_context = c;
    if (!c) {
        shutdown(fd, SHUT_RDWR);
        return;
    }
    c->h = h;
    c->mhd = mhd;
    c->fd = fd;
    socklen_t len = sizeof c->peer;
    if (getpeername(fd, (struct sockaddr *)&c->peer, &len) != 0)
        c->peer.ss_family = AF_UNSPEC;
    int bytes = SOCKET_SEND_BYTES;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    set_phase(c, PHASE_HEADERS);
    c->next = h->conns;
    if (h->conns)
        h->conns->prev = c;
    h->conns = c;
    h->conn_count++;
    admit(h, c);
}

static void remove_conn(struct conn *c)
{
    struct http_server *h = c->h;
    if (c->prev)
        c->prev->next = c->next;
    else
        h->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    h->conn_count--;
    mem_free(c);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        add_conn(cls, mhd, socket_context);
    else if (*socket_context)
        remove_conn(*socket_context);
}

static struct conn *conn_of(struct MHD_Connection *mhd)
{
    return MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

/* ---- lingering sockets ---- */

static void linger_end(struct lingerer *g)
{
    for (int i = 0; i < LINGER_MAX; i++) {
        if (g->h->lingering[i] == g)
            g->h->lingering[i] = NULL;
    }
    loop_watch_destroy(g->watch);
    close(g->fd);
    mem_free(g);
}

static void on_linger_readable(void *ctx)
{
    struct lingerer *g = ctx;
    char sink[16384];
    ssize_t n = recv(g->fd, sink, sizeof sink, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        linger_end(g);
}

static void linger_begin(struct http_server *h, int fd)
{
    int slot = 0;
    while (slot < LINGER_MAX && h->lingering[slot])
        slot++;
    if (slot == LINGER_MAX || h->stopping)
        return;
    struct lingerer *g = mem_calloc(1, sizeof *g);
    if (!g)
        return;
    g->h = h;
    g->fd = dup(fd);
    g->until_ns = clock_now_ns() + (int64_t)LINGER_MS * NS_PER_MS;
    if (g->fd >= 0)
        g->watch = loop_watch_create(h->loop, g->fd, LOOP_READABLE, on_linger_readable, g);
    if (!g->watch) {
        if (g->fd >= 0)
            close(g->fd);
        mem_free(g);
        return;
    }
    h->lingering[slot] = g;
}

/* ---- the request ---- */

static void free_exchange(struct http_exchange *x)
{
    for (int i = 0; i < x->header_count; i++) {
        mem_free(x->headers[i].name);
        mem_free(x->headers[i].value);
    }
    strbuf_deinit(&x->body);
    strbuf_deinit(&x->out);
    mem_free(x->target);
    mem_free(x->path);
    mem_free(x);
}

/* libmicrohttpd saw a request line. What is returned becomes the exchange's handle. */
static void *on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    struct http_server *h = cls;
    struct conn *c = conn_of(mhd);
    struct http_exchange *x = c ? mem_calloc(1, sizeof *x) : NULL;
    if (!x)
        return NULL;
    x->conn = c;
    x->target = mem_strdup(uri ? uri : "");
    x->path = mem_strndup(uri ? uri : "", strcspn(uri ? uri : "", "?"));
    strbuf_init(&x->body, h->limits.body_bytes);
    strbuf_init(&x->out, SIZE_MAX / 2);
    if (!x->target || !x->path) {
        free_exchange(x);
        return NULL;
    }
    if (c->phase != PHASE_HEADERS)
        set_phase(c, PHASE_HEADERS);
    c->x = x;
    h->exchange_count++;
    return x;
}

/* Paths are matched as they were sent. */
static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *s)
{
    (void)cls;
    (void)mhd;
    return strlen(s);
}

static enum MHD_Result take_field(void *cls, enum MHD_ValueKind kind, const char *name,
                                  const char *value)
{
    (void)kind;
    struct http_head *head = cls;
    if (head->field_count == HTTP_HEAD_FIELDS) {
        head->too_many = true;
        return MHD_NO;
    }
    if (!value)
        value = "";
    head->fields[head->field_count++] = (struct http_field){
        .name = name,
        .value = value,
        .gap = value - (name + strlen(name) + 1),
    };
    return MHD_YES;
}

static void answer_error(struct http_exchange *x, int status, const struct err *e)
{
    struct http_server *h = x->conn->h;
    h->to.write_error(h->to.ctx, x, status, e);
    if (!x->answered) {
        struct strbuf none;
        strbuf_init(&none, 0);
        http_answer(x, status, "text/plain", &none);
    }
}

/* Judges the head. What is wrong with the framing makes the rest of the connection unreadable, so
 * it ends with the answer. */
static void judge_head(struct http_exchange *x, const char *method, const char *version)
{
    struct http_server *h = x->conn->h;
    struct http_head head = {
        .method = method,
        .target = x->target,
        .version = version,
        .max_bytes = h->limits.header_bytes,
    };
    MHD_get_connection_values(x->conn->mhd, MHD_HEADER_KIND, take_field, &head);
    const union MHD_ConnectionInfo *size =
        MHD_get_connection_info(x->conn->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    if (h->strict_sum && size)
        head.read_bytes = size->header_size;
    struct err e = {0};
    int status = http_head_check(&head, &x->framing, &e);
    if (status == 0 && x->framing.content_length > h->limits.body_bytes) {
        status = 413;
        err_set(&e, STATUS_LIMIT, NULL, "the request body is larger than %zu bytes",
                h->limits.body_bytes);
    }
    if (status) {
        x->closes = x->lingers = true;
        answer_error(x, status, &e);
    }
}

static bool has_body(const struct http_exchange *x)
{
    return x->framing.chunked || x->framing.content_length > 0;
}

static enum MHD_Result queue_answer(struct http_exchange *x);

static enum MHD_Result take_head(struct http_exchange *x, const char *method, const char *version)
{
    struct http_server *h = x->conn->h;
    x->method = method;
    x->state = EXCHANGE_BODY;
    judge_head(x, method, version);
    if (!x->answered) {
        /* What follows an ambiguous body must never be read as a request. */
        x->closes = x->framing.chunked;
        x->announced = true;
        h->to.on_headers(h->to.ctx, x);
    }
    if (!x->answered) {
        set_phase(x->conn, has_body(x) ? PHASE_BODY : PHASE_WORK);
        return MHD_YES;
    }
    bool small = !x->framing.chunked && x->framing.content_length <= DISCARD_MAX_BYTES;
    if (!x->lingers && (!has_body(x) || (small && !x->framing.expect_continue))) {
        x->discards = true;
        set_phase(x->conn, PHASE_BODY);
        return MHD_YES;
    }
    x->closes = x->lingers = true;
    return queue_answer(x);
}

static void take_body(struct http_exchange *x, const char *data, size_t n)
{
    struct http_server *h = x->conn->h;
    if (x->discards)
        return;
    struct err e = {0};
    int status = 0;
    if (n > h->limits.body_bytes - x->body.len) {
        status = 413;
        err_set(&e, STATUS_LIMIT, NULL, "the request body is larger than %zu bytes",
                h->limits.body_bytes);
    } else if (n > h->limits.bodies_bytes - h->bodies_bytes) {
        status = 503;
        err_set(&e, STATUS_BUSY, NULL, "too many request bodies are in memory");
    } else {
        strbuf_append(&x->body, data, n);
        if (!x->body.failed) {
            x->body_counted += n;
            h->bodies_bytes += n;
            return;
        }
        status = 503;
        err_set(&e, STATUS_NO_MEMORY, NULL, "out of memory");
    }
    x->discards = true;
    x->closes = true;
    answer_error(x, status, &e);
}

static void on_hangup(void *ctx)
{
    struct http_exchange *x = ctx;
    cut(x->conn, true);
}

/* The whole request is here. Either the answer is there when the handler returns, or the connection
 * sleeps and is watched. */
static enum MHD_Result dispatch(struct http_exchange *x)
{
    struct http_server *h = x->conn->h;
    x->state = EXCHANGE_WORK;
    set_phase(x->conn, PHASE_WORK);
    if (!x->answered)
        h->to.on_request(h->to.ctx, x);
    if (x->gone)
        return MHD_NO;
    if (x->answered && !x->streams)
        return queue_answer(x);
    x->hangup = loop_watch_create(h->loop, x->conn->fd, LOOP_HANGUP, on_hangup, x);
    if (!x->hangup) {
        cut(x->conn, true); /* unwatched work could not be stopped */
        return MHD_NO;
    }
    if (x->answered)
        return queue_answer(x);
    x->suspended = true;
    MHD_suspend_connection(x->conn->mhd);
    return MHD_YES;
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *mhd, const char *url,
                                 const char *method, const char *version, const char *data,
                                 size_t *n, void **handle)
{
    (void)cls;
    (void)mhd;
    (void)url;
    struct http_exchange *x = *handle;
    if (!x || x->gone)
        return MHD_NO;
    switch (x->state) {
    case EXCHANGE_NEW:
        return take_head(x, method, version);
    case EXCHANGE_BODY:
        if (*n > 0) {
            take_body(x, data, *n);
            *n = 0;
            return MHD_YES;
        }
        return dispatch(x);
    case EXCHANGE_WORK:
        return x->answered ? queue_answer(x) : MHD_NO;
    case EXCHANGE_QUEUED:
        break;
    }
    return MHD_NO;
}

/* ---- the answer ---- */

static ssize_t read_out(void *cls, uint64_t pos, char *buf, size_t max)
{
    (void)pos;
    struct http_exchange *x = cls;
    if (x->gone)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    size_t n = x->out.len - x->out_begin;
    if (n == 0) {
        if (x->ended)
            return MHD_CONTENT_READER_END_OF_STREAM;
        x->suspended = true;
        MHD_suspend_connection(x->conn->mhd);
        return 0;
    }
    if (n > max)
        n = max;
    memcpy(buf, x->out.data + x->out_begin, n);
    x->out_begin += n;
    x->sent_bytes += n;
    x->progress_ns = clock_now_ns();
    if (x->out_begin == x->out.len) {
        strbuf_clear(&x->out);
        x->out_begin = 0;
    }
    struct http_server *h = x->conn->h;
    if (x->wants_room && http_stream_unsent(x) < h->limits.unsent_bytes / 2) {
        x->wants_room = false;
        x->next_room = h->room;
        h->room = x;
    }
    return (ssize_t)n;
}

static struct MHD_Response *make_response(struct http_exchange *x)
{
    if (x->streams)
        return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, read_out, x,
                                                 NULL);
    if (x->out.len > WHOLE_MAX_BYTES)
        return MHD_create_response_from_callback(x->out.len, STREAM_BLOCK_BYTES, read_out, x, NULL);
    x->sent_bytes = x->out.len;
    size_t n = x->out.len;
    char *text = strbuf_take(&x->out);
    if (!text)
        return NULL;
    struct MHD_Response *r = MHD_create_response_from_buffer_with_free_callback(n, text, mem_free);
    if (!r)
        mem_free(text);
    return r;
}

static enum MHD_Result queue_answer(struct http_exchange *x)
{
    struct http_server *h = x->conn->h;
    x->state = EXCHANGE_QUEUED;
    x->progress_ns = clock_now_ns();
    set_phase(x->conn, PHASE_SEND);
    struct MHD_Response *r = make_response(x);
    if (!r)
        return MHD_NO;
    bool ok = MHD_add_response_header(r, "Content-Type", x->content_type) == MHD_YES;
    for (int i = 0; i < x->header_count; i++)
        ok &= MHD_add_response_header(r, x->headers[i].name, x->headers[i].value) == MHD_YES;
    if (x->closes || h->draining)
        ok &= MHD_add_response_header(r, "Connection", "close") == MHD_YES;
    enum MHD_Result rc = ok ? MHD_queue_response(x->conn->mhd, (unsigned)x->status, r) : MHD_NO;
    MHD_destroy_response(r);
    return rc;
}

static void forget_room(struct http_server *h, const struct http_exchange *x)
{
    for (struct http_exchange **p = &h->room; *p; p = &(*p)->next_room) {
        if (*p == x) {
            *p = x->next_room;
            return;
        }
    }
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **handle,
                         enum MHD_RequestTerminationCode code)
{
    (void)mhd;
    struct http_server *h = cls;
    struct http_exchange *x = *handle;
    *handle = NULL;
    if (!x)
        return;
    loop_watch_destroy(x->hangup);
    forget_room(h, x);
    struct http_end end = {
        .status = x->state == EXCHANGE_QUEUED ? x->status : 0,
        .sent_bytes = x->sent_bytes,
        .complete = x->sent_raw || (code == MHD_REQUEST_TERMINATED_COMPLETED_OK && !x->gone),
        .before_answer = x->state != EXCHANGE_QUEUED,
    };
    h->bodies_bytes -= x->body_counted;
    h->exchange_count--;
    h->to.on_end(h->to.ctx, x, &end);
    if ((x->lingers && end.complete) || x->sent_raw)
        linger_begin(h, x->conn->fd);
    x->conn->x = NULL;
    set_phase(x->conn, PHASE_IDLE);
    free_exchange(x);
}

/* Writes a short whole answer past libmicrohttpd, which has not begun one. */
static void send_raw(struct http_exchange *x)
{
    struct strbuf b;
    strbuf_init(&b, SIZE_MAX / 2);
    strbuf_printf(&b, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\n", x->status,
                  MHD_get_reason_phrase_for((unsigned)x->status), x->content_type);
    for (int i = 0; i < x->header_count; i++)
        strbuf_printf(&b, "%s: %s\r\n", x->headers[i].name, x->headers[i].value);
    strbuf_printf(&b, "Connection: close\r\nContent-Length: %zu\r\n\r\n", x->out.len);
    strbuf_append(&b, strbuf_str(&x->out), x->out.len);
    ssize_t want = (ssize_t)b.len;
    x->sent_raw = !b.failed && send(x->conn->fd, b.data, b.len, MSG_NOSIGNAL) == want;
    x->state = EXCHANGE_QUEUED;
    strbuf_deinit(&b);
}

/* ---- running ---- */

static void pump(void *ctx)
{
    struct http_server *h = ctx;
    h->resumed = false;
    MHD_run(h->mhd);
    while (h->room) {
        struct http_exchange *x = h->room;
        h->room = x->next_room;
        x->next_room = NULL;
        if (!x->gone)
            h->to.on_room(h->to.ctx, x);
    }
    MHD_UNSIGNED_LONG_LONG ms = 0;
    if (h->resumed)
        loop_timer_start(h->again, 0, 0);
    else if (MHD_get_timeout(h->mhd, &ms) == MHD_YES)
        loop_timer_start(h->again, ms > 1000 ? 1000 : (int)ms, 0);
    else
        loop_timer_stop(h->again);
}

static bool is_late(struct conn *c, int64_t now)
{
    const struct http_limits *l = &c->h->limits;
    int64_t age_ms = (now - c->phase_ns) / NS_PER_MS;
    switch (c->phase) {
    case PHASE_HEADERS:
        return age_ms > (c->reserved && l->header_ms > RESERVED_HEADER_MS ? RESERVED_HEADER_MS
                                                                          : l->header_ms);
    case PHASE_BODY:
        return age_ms > l->body_ms;
    case PHASE_IDLE:
        if (bytes_received(c->fd) > c->rx_bytes) {
            set_phase(c, PHASE_HEADERS); /* the next request began to arrive */
            return false;
        }
        return age_ms > l->idle_ms || c->h->draining;
    case PHASE_SEND: {
        const struct http_exchange *x = c->x;
        bool waits_for_us = x && x->streams && !x->ended && http_stream_unsent(x) == 0;
        return x && !waits_for_us && (now - x->progress_ns) / NS_PER_MS > l->stall_ms;
    }
    case PHASE_WORK:
        break;
    }
    return false;
}

static void on_tick(void *ctx)
{
    struct http_server *h = ctx;
    int64_t now = clock_now_ns();
    for (struct conn *c = h->conns; c; c = c->next) {
        if (!c->cut && is_late(c, now))
            cut(c, true);
    }
    for (int i = 0; i < LINGER_MAX; i++) {
        if (h->lingering[i] && now > h->lingering[i]->until_ns)
            linger_end(h->lingering[i]);
    }
}

static int tick_ms(const struct http_limits *l)
{
    int least = l->header_ms;
    least = l->body_ms < least ? l->body_ms : least;
    least = l->idle_ms < least ? l->idle_ms : least;
    least = l->stall_ms < least ? l->stall_ms : least;
    least /= 8;
    return least < TICK_MIN_MS ? TICK_MIN_MS : least > TICK_MAX_MS ? TICK_MAX_MS : least;
}

/* libmicrohttpd answers a bad Content-Length itself, twice over (0.9.75), and tells only its log.
 * So the log is where we get in before it: our answer, then the socket is shut. */
static void answer_bad_lengths(struct http_server *h)
{
    for (struct conn *c = h->conns; c; c = c->next) {
        struct http_exchange *x = c->x;
        if (!x || x->state != EXCHANGE_NEW || c->cut)
            continue;
        const char *length = MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, "Content-Length");
        if (!length || http_head_is_length(length))
            continue;
        struct err e;
        err_set(&e, STATUS_INVALID, NULL, "Content-Length is not a decimal number");
        x->state = EXCHANGE_BODY;
        answer_error(x, 400, &e);
        send_raw(x);
        /* The library's own writes must fail, but the read side lingers. */
        shutdown(c->fd, SHUT_WR);
        c->cut = x->gone = true;
    }
}

static void log_mhd(void *cls, const char *fmt, va_list ap)
{
    struct http_server *h = cls;
    char line[256];
    vsnprintf(line, sizeof line, fmt, ap);
    line[strcspn(line, "\r\n")] = '\0';
    LOG_DEBUG(LOG_WHAT("http library"), LOG_STR("text", line));
    if (strstr(line, "Content-Length"))
        answer_bad_lengths(h);
}

static struct MHD_Daemon *start_daemon(struct http_server *h, int fd)
{
    const struct http_limits *l = &h->limits;
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_access, h,
        MHD_OPTION_EXTERNAL_LOGGER, log_mhd, h, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)(l->connections + CONNECTION_SLACK),
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, l->header_bytes + POOL_SLACK_BYTES,
        MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_STRICT_FOR_CLIENT, 0,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_URI_LOG_CALLBACK, on_uri, h,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, h, MHD_OPTION_NOTIFY_COMPLETED, on_completed, h, MHD_OPTION_END);
}

enum status http_start(struct loop *l, const struct listener *listener,
                       const struct http_limits *limits, const struct http_handlers *handlers,
                       struct http_server **out, struct err *e)
{
    struct http_server *h = mem_calloc(1, sizeof *h);
    if (!h)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    h->loop = l;
    h->limits = *limits;
    h->to = *handlers;
    h->strict_sum = strncmp(MHD_get_version(), "0.9.", 4) == 0;
    h->again = loop_timer_create(l, pump, h);
    h->tick = loop_timer_create(l, on_tick, h);
    if (!h->again || !h->tick)
        goto fail;
    h->mhd = start_daemon(h, listener->fd);
    if (!h->mhd)
        goto fail;
    int epoll_fd = MHD_get_daemon_info(h->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    h->watch = loop_watch_create(l, epoll_fd, LOOP_READABLE, pump, h);
    if (!h->watch)
        goto fail;
    loop_timer_start(h->tick, tick_ms(limits), tick_ms(limits));
    loop_timer_start(h->again, 0, 0);
    *out = h;
    return STATUS_OK;
fail:
    if (h->mhd) {
        int fd = MHD_quiesce_daemon(h->mhd); /* the descriptor stays the caller's */
        (void)fd;
        MHD_stop_daemon(h->mhd);
    }
    loop_timer_destroy(h->again);
    loop_timer_destroy(h->tick);
    mem_free(h);
    return err_set(e, STATUS_IO, NULL, "cannot start the HTTP server");
}

void http_drain(struct http_server *h)
{
    if (h->draining)
        return;
    h->draining = true;
    int fd = MHD_quiesce_daemon(h->mhd);
    if (fd >= 0)
        close(fd);
}

void http_stop(struct http_server *h)
{
    if (!h)
        return;
    h->stopping = true;
    http_drain(h);
    for (struct conn *c = h->conns; c; c = c->next)
        cut(c, true);
    MHD_run(h->mhd); /* takes the resumes in: stopping with a sleeper would abort */
    loop_watch_destroy(h->watch);
    MHD_stop_daemon(h->mhd);
    for (int i = 0; i < LINGER_MAX; i++) {
        if (h->lingering[i])
            linger_end(h->lingering[i]);
    }
    loop_timer_destroy(h->again);
    loop_timer_destroy(h->tick);
    mem_free(h);
}

int http_connection_count(const struct http_server *h)
{
    return h->conn_count;
}

int http_exchange_count(const struct http_server *h)
{
    return h->exchange_count;
}

/* ---- what handlers see ---- */

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
    struct answer_header *hd = &x->headers[x->header_count];
    hd->name = mem_strdup(name);
    hd->value = mem_strdup(value);
    if (hd->name && hd->value) {
        x->header_count++;
        return;
    }
    mem_free(hd->name);
    mem_free(hd->value);
    *hd = (struct answer_header){0};
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
    resume(x);
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
    resume(x);
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
    resume(x);
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
    resume(x);
}

void http_cut(struct http_exchange *x)
{
    cut(x->conn, false);
}
