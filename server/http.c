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
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "server/http_conn.h"

#define POOL_SLACK_BYTES   (32u << 10) /* of a connection's memory, beside its request head */
#define STREAM_BLOCK_BYTES (16u << 10)
#define WHOLE_MAX_BYTES    (64u << 10) /* larger answers go through the reader: progress is seen */
#define DISCARD_MAX_BYTES                                                                          \
    (64u << 10) /* a refused body up to this is read, so that the connection lives */
#define ACCEPTS_A_TURN   32
#define CONNECTION_SLACK 64 /* accepted to be judged, beyond the limit */
#define TICK_MIN_MS      20
#define TICK_MAX_MS      250

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
    struct http_conn *c = http_conn_of(mhd);
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
    if (c->phase != HTTP_PHASE_HEADERS)
        http_conn_set_phase(c, HTTP_PHASE_HEADERS);
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
    if (status == 0 && x->framing.content_length > x->body.max) {
        status = 413;
        err_set(&e, STATUS_LIMIT, NULL, "the request body is larger than %zu bytes", x->body.max);
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
    x->state = HTTP_EXCHANGE_BODY;
    judge_head(x, method, version);
    if (!x->answered) {
        /* What follows an ambiguous body must never be read as a request. */
        x->closes = x->framing.chunked;
        x->announced = true;
        h->to.on_headers(h->to.ctx, x);
    }
    if (!x->answered) {
        http_conn_set_phase(x->conn, has_body(x) ? HTTP_PHASE_BODY : HTTP_PHASE_WORK);
        return MHD_YES;
    }
    bool small = !x->framing.chunked && x->framing.content_length <= DISCARD_MAX_BYTES;
    if (!x->lingers && (!has_body(x) || (small && !x->framing.expect_continue))) {
        x->discards = true;
        http_conn_set_phase(x->conn, HTTP_PHASE_BODY);
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
    if (n > x->body.max - x->body.len) {
        status = 413;
        err_set(&e, STATUS_LIMIT, NULL, "the request body is larger than %zu bytes", x->body.max);
    } else if (h->bodies_bytes + n > h->limits.bodies_bytes) {
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
    http_conn_cut(x->conn, true);
}

/* The whole request is here. Either the answer is there when the handler returns, or the connection
 * sleeps and is watched. */
static enum MHD_Result dispatch(struct http_exchange *x)
{
    struct http_server *h = x->conn->h;
    x->state = HTTP_EXCHANGE_WORK;
    http_conn_set_phase(x->conn, HTTP_PHASE_WORK);
    if (!x->answered)
        h->to.on_request(h->to.ctx, x);
    if (x->gone)
        return MHD_NO;
    if (x->answered && !x->streams)
        return queue_answer(x);
    x->hangup = loop_watch_create(h->loop, x->conn->fd, LOOP_HANGUP, on_hangup, x);
    if (!x->hangup) {
        http_conn_cut(x->conn, true); /* unwatched work could not be stopped */
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
    case HTTP_EXCHANGE_NEW:
        return take_head(x, method, version);
    case HTTP_EXCHANGE_BODY:
        if (*n > 0) {
            take_body(x, data, *n);
            *n = 0;
            return MHD_YES;
        }
        return dispatch(x);
    case HTTP_EXCHANGE_WORK:
        return x->answered ? queue_answer(x) : MHD_NO;
    case HTTP_EXCHANGE_QUEUED:
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
    x->state = HTTP_EXCHANGE_QUEUED;
    x->progress_ns = clock_now_ns();
    http_conn_set_phase(x->conn, HTTP_PHASE_SEND);
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
        .status = x->state == HTTP_EXCHANGE_QUEUED ? x->status : 0,
        .sent_bytes = x->sent_bytes,
        .complete = x->sent_raw || (code == MHD_REQUEST_TERMINATED_COMPLETED_OK && !x->gone),
        .before_answer = x->state != HTTP_EXCHANGE_QUEUED,
    };
    h->bodies_bytes -= x->body_counted;
    h->exchange_count--;
    h->to.on_end(h->to.ctx, x, &end);
    if ((x->lingers && end.complete) || x->sent_raw)
        http_conn_linger(h, x->conn->fd);
    x->conn->x = NULL;
    http_conn_set_phase(x->conn, HTTP_PHASE_IDLE);
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
    x->state = HTTP_EXCHANGE_QUEUED;
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

static void on_knock(void *ctx);

static bool watch_door(struct http_door *door)
{
    if (!door->watch)
        door->watch = loop_watch_create(door->h->loop, door->fd, LOOP_READABLE, on_knock, door);
    return door->watch != NULL;
}

static void on_tick(void *ctx)
{
    struct http_server *h = ctx;
    int64_t now = clock_now_ns();
    for (int i = 0; i < h->door_count; i++)
        watch_door(&h->doors[i]);
    for (struct http_conn *c = h->conns; c; c = c->next) {
        if (!c->cut && http_conn_is_late(c, now))
            http_conn_cut(c, true);
    }
    for (int i = 0; i < HTTP_LINGER_MAX; i++) {
        if (h->lingering[i] && now > h->lingering[i]->until_ns)
            http_conn_linger_end(h->lingering[i]);
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
    for (struct http_conn *c = h->conns; c; c = c->next) {
        struct http_exchange *x = c->x;
        if (!x || x->state != HTTP_EXCHANGE_NEW || c->cut)
            continue;
        const char *length = MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, "Content-Length");
        if (!length || http_head_is_length(length))
            continue;
        struct err e;
        err_set(&e, STATUS_INVALID, NULL, "Content-Length is not a decimal number");
        x->state = HTTP_EXCHANGE_BODY;
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

static void on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        http_conn_add(cls, mhd, socket_context);
    else if (*socket_context)
        http_conn_remove(*socket_context);
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

/* libmicrohttpd closes what it refuses. */
static void on_knock(void *ctx)
{
    struct http_door *door = ctx;
    struct sockaddr_storage from = {0};
    socklen_t len = sizeof from;
    for (int i = 0; i < ACCEPTS_A_TURN; i++, len = sizeof from) {
        int fd = accept4(door->fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
            loop_watch_destroy(door->watch);
            door->watch = NULL; /* until the next tick: the socket stays readable */
        }
        if (fd < 0)
            break;
        MHD_add_connection(door->h->mhd, fd, (struct sockaddr *)&from, len);
    }
    pump(door->h);
}

static bool open_doors(struct http_server *h, const struct listener *listeners, int count)
{
    for (; h->door_count < count; h->door_count++) {
        struct http_door *door = &h->doors[h->door_count];
        *door = (struct http_door){.h = h, .fd = listeners[h->door_count].fd};
        if (!watch_door(door))
            return false;
    }
    return true;
}

static void close_doors(struct http_server *h, bool take)
{
    for (int i = 0; i < h->door_count; i++) {
        loop_watch_destroy(h->doors[i].watch);
        if (take)
            close(h->doors[i].fd);
    }
    h->door_count = 0;
}

void http_set_limits(struct http_server *h, const struct http_limits *limits)
{
    struct http_limits *l = &h->limits;
    l->body_bytes = limits->body_bytes;
    l->bodies_bytes = limits->bodies_bytes;
    l->header_ms = limits->header_ms;
    l->body_ms = limits->body_ms;
    l->idle_ms = limits->idle_ms;
    l->stall_ms = limits->stall_ms;
    l->connections_peer = limits->connections_peer;
    loop_timer_start(h->tick, tick_ms(l), tick_ms(l));
}

enum status http_start(struct loop *l, const struct listener *listeners, int count,
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
    h->mhd = start_daemon(h, listeners[0].fd);
    if (!h->mhd)
        goto fail;
    int epoll_fd = MHD_get_daemon_info(h->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    h->watch = loop_watch_create(l, epoll_fd, LOOP_READABLE, pump, h);
    if (!h->watch || !open_doors(h, listeners + 1, count - 1))
        goto fail;
    loop_timer_start(h->tick, tick_ms(limits), tick_ms(limits));
    loop_timer_start(h->again, 0, 0);
    *out = h;
    return STATUS_OK;
fail:
    close_doors(h, false);
    loop_watch_destroy(h->watch);
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
    close_doors(h, true);
}

void http_stop(struct http_server *h)
{
    if (!h)
        return;
    h->stopping = true;
    http_drain(h);
    for (struct http_conn *c = h->conns; c; c = c->next)
        http_conn_cut(c, true);
    MHD_run(h->mhd); /* takes the resumes in: stopping with a sleeper would abort */
    loop_watch_destroy(h->watch);
    MHD_stop_daemon(h->mhd);
    for (int i = 0; i < HTTP_LINGER_MAX; i++) {
        if (h->lingering[i])
            http_conn_linger_end(h->lingering[i]);
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
