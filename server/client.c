#include "server/client.h"

#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine/base/clock.h"

#define REQUEST_BYTES_MAX (16u << 20)
#define ANSWER_BYTES_MAX  (64u << 20)
#define HEAD_BYTES_MAX    (64u << 10)
#define SIZE_LINE_MAX     256 /* of a chunk, with its end */
#define READ_BYTES        16384
#define POLL_MS           50 /* so that an interrupt is seen soon */

/* ---- where ---- */

static enum status parse_unix(const char *path, struct client_target *out, struct err *e)
{
    struct client_target t = {.host = "localhost"};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof un.sun_path)
        return err_set(e, STATUS_INVALID, "url", "unix:%.64s is no path of a socket", path);
    memcpy(un.sun_path, path, n);
    if (*path == '@')
        un.sun_path[0] = '\0'; /* an abstract one, without the NUL at the end */
    t.addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (*path != '@'));
    memcpy(&t.addr, &un, sizeof un);
    snprintf(t.text, sizeof t.text, "unix:%s", path);
    *out = t;
    return STATUS_OK;
}

/* t.host as a name or number, and the port. */
static enum status resolve(struct client_target *t, struct err *e)
{
    char host[256];
    const char *port = "80";
    snprintf(host, sizeof host, "%s", t->host);
    char *colon = strrchr(host, ':');
    if (colon && !strchr(colon, ']')) {
        *colon = '\0';
        port = t->host + (colon - host) + 1;
    }
    char *end, *name = host;
    long number = strtol(port, &end, 10);
    if (!isdigit((unsigned char)*port) || *end != '\0' || number < 1 || number > 65535)
        return err_set(e, STATUS_INVALID, "url", "'%.64s' is no port", port);
    size_t len = strlen(host);
    if (len > 1 && host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = '\0';
        name++;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(name, port, &hints, &found);
    if (rc != 0)
        return err_set(e, STATUS_INVALID, "url", "%s: %s", t->host, gai_strerror(rc));
    memcpy(&t->addr, found->ai_addr, found->ai_addrlen);
    t->addr_len = found->ai_addrlen;
    freeaddrinfo(found);
    return STATUS_OK;
}

enum status client_target_parse(const char *url, struct client_target *out, struct err *e)
{
    if (strncmp(url, "unix:", 5) == 0)
        return parse_unix(url + 5, out, e);
    if (strncasecmp(url, "https://", 8) == 0)
        return err_set(e, STATUS_INVALID, "url",
                       "%.64s: https is not spoken here; put http:// or a Unix socket", url);
    const char *authority = strncmp(url, "http://", 7) == 0 ? url + 7 : url;
    if (strstr(authority, "://"))
        return err_set(e, STATUS_INVALID, "url", "%.64s does not begin with http:// or unix:", url);
    size_t n = strcspn(authority, "/");
    const char *path = authority + n;
    size_t path_len = strlen(path);
    while (path_len > 0 && path[path_len - 1] == '/')
        path_len--;
    /* People paste the SDK's base_url, which ends in /v1. */
    if (path_len >= 3 && memcmp(path + path_len - 3, "/v1", 3) == 0)
        path_len -= 3;
    struct client_target t = {0};
    if (n == 0 || n >= sizeof t.host - 7 || path_len >= sizeof t.prefix)
        return err_set(e, STATUS_INVALID, "url", "%.64s has no usable host", url);
    for (const char *s = authority; *s; s++) {
        if ((unsigned char)*s <= ' ' || *s == 0x7f || (*s == '@' && s < path))
            return err_set(e, STATUS_INVALID, "url", "the URL holds a character it cannot");
    }
    memcpy(t.host, authority, n);
    memcpy(t.prefix, path, path_len);
    snprintf(t.text, sizeof t.text, "http://%s%.48s", t.host, t.prefix);
    enum status st = resolve(&t, e);
    if (st == STATUS_OK)
        *out = t;
    return st;
}

/* ---- life ---- */

void client_init(struct client *c)
{
    *c = (struct client){.state = CLIENT_IDLE, .fd = -1};
    strbuf_init(&c->out, REQUEST_BYTES_MAX);
    strbuf_init(&c->in, ANSWER_BYTES_MAX);
    strbuf_init(&c->body, ANSWER_BYTES_MAX);
}

static void close_socket(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

void client_deinit(struct client *c)
{
    close_socket(c);
    strbuf_deinit(&c->out);
    strbuf_deinit(&c->in);
    strbuf_deinit(&c->body);
}

static void finish(struct client *c)
{
    close_socket(c);
    c->end_ns = clock_now_ns();
    c->state = CLIENT_DONE;
}

static void fail(struct client *c, enum client_failure failure, const char *why)
{
    if (c->state == CLIENT_DONE)
        return;
    c->failure = failure;
    snprintf(c->why, sizeof c->why, "%s", why);
    finish(c);
}

void client_abort(struct client *c, const char *why)
{
    fail(c, CLIENT_ABORTED, why);
}

static void write_request(struct client *c, const struct client_target *t, const char *method,
                          const char *path, const char *body, const char *key)
{
    strbuf_printf(&c->out, "%s %s%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", method,
                  t->prefix, path, t->host);
    if (*key)
        strbuf_printf(&c->out, "Authorization: Bearer %s\r\n", key);
    if (body)
        strbuf_printf(&c->out, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                      strlen(body));
    strbuf_puts(&c->out, "\r\n");
    if (body)
        strbuf_puts(&c->out, body);
}

enum status client_start(struct client *c, const struct client_target *t, const char *method,
                         const char *path, const char *body, const char *key, struct err *e)
{
    struct client old = *c;
    client_deinit(c);
    client_init(c);
    c->on_event = old.on_event;
    c->ctx = old.ctx;
    write_request(c, t, method, path, body, key);
    if (c->out.failed)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    c->start_ns = c->heard_ns = clock_now_ns();
    c->fd = socket(t->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        return err_set(e, STATUS_IO, NULL, "socket: %s", strerror(errno));
    int one = 1;
    if (t->addr.ss_family != AF_UNIX)
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->state = CLIENT_CONNECTING;
    if (connect(c->fd, (const struct sockaddr *)&t->addr, t->addr_len) == 0)
        c->state = CLIENT_SENDING;
    else if (errno != EINPROGRESS)
        fail(c, CLIENT_UNREACHED, strerror(errno));
    return STATUS_OK;
}

/* ---- sending ---- */

short client_wants(const struct client *c)
{
    return c->state == CLIENT_RECEIVING ? POLLIN : POLLOUT;
}

static void send_more(struct client *c)
{
    ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EPIPE) {
        c->state = CLIENT_RECEIVING; /* it may have said why before it closed */
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        fail(c, CLIENT_BROKEN, strerror(errno));
    } else if (n > 0) {
        c->heard_ns = clock_now_ns();
        c->sent += (size_t)n;
        if (c->sent == c->out.len)
            c->state = CLIENT_RECEIVING;
    }
}

/* ---- receiving ---- */

/* Cuts complete "data: ..." lines out of the decoded body. */
static void read_events(struct client *c)
{
    size_t at = 0;
    while (at < c->body.len) {
        char *line = c->body.data + at;
        char *end = memchr(line, '\n', c->body.len - at);
        if (!end)
            break;
        at = (size_t)(end - c->body.data) + 1;
        if (end > line && end[-1] == '\r')
            end--;
        *end = '\0';
        if (strncmp(line, "data:", 5) == 0) {
            line += 5 + (line[5] == ' ');
            if (c->on_event)
                c->on_event(c->ctx, line, (size_t)(end - line));
        }
    }
    if (at > 0)
        memmove(c->body.data, c->body.data + at, c->body.len - at);
    c->body.len -= at;
}

/* Field names are those of our own servers and of common ones; a field that is folded over lines is
 * not. */
static void read_fields(struct client *c, const char *head)
{
    for (const char *line = strstr(head, "\r\n"); line && line[2];
         line = strstr(line + 2, "\r\n")) {
        const char *h = line + 2;
        if (strncasecmp(h, "transfer-encoding:", 18) == 0)
            c->chunked = true;
        else if (strncasecmp(h, "content-length:", 15) == 0)
            c->length_left = strtoul(h + 15, NULL, 10);
        else if (strncasecmp(h, "content-type:", 13) == 0)
            c->events = strncmp(h + 13 + strspn(h + 13, " "), "text/event-stream", 17) == 0;
    }
}

/* True once the head is read and understood. */
static bool read_head(struct client *c)
{
    static const char begin[] = "HTTP/1.";
    size_t n = c->in.len < sizeof begin - 1 ? c->in.len : sizeof begin - 1;
    if (memcmp(c->in.data, begin, n) != 0) {
        fail(c, CLIENT_ALIEN, "it does not speak HTTP");
        return false;
    }
    char *end = strstr(c->in.data, "\r\n\r\n");
    size_t head = end ? (size_t)(end - c->in.data) : c->in.len; /* however it came in */
    if (head > HEAD_BYTES_MAX)
        fail(c, CLIENT_BROKEN, "the head of the answer has no end");
    if (!end || head > HEAD_BYTES_MAX)
        return false;
    end[2] = '\0';
    c->headers_done = true;
    c->length_left = SIZE_MAX;
    c->status = c->in.len > 12 ? (int)strtol(c->in.data + 9, NULL, 10) : 0;
    read_fields(c, c->in.data);
    c->events = c->events && c->status == 200;
    size_t used = (size_t)(end - c->in.data) + 4;
    memmove(c->in.data, c->in.data + used, c->in.len - used);
    c->in.len -= used;
    c->in.data[c->in.len] = '\0';
    return true;
}

/* A chunk's size line. False: not all of it is there, or it is none. */
static bool read_chunk_size(struct client *c, size_t *at)
{
    char *line = c->in.data + *at;
    size_t left = c->in.len - *at;
    char *end = memchr(line, '\n', left < SIZE_LINE_MAX ? left : SIZE_LINE_MAX);
    if (!end) {
        if (left >= SIZE_LINE_MAX)
            fail(c, CLIENT_BROKEN, "the answer's chunks have no sizes");
        return false;
    }
    *at += (size_t)(end - line) + 1;
    if (end - line <= 1)
        return true; /* the CRLF behind a chunk */
    if (!isxdigit((unsigned char)*line)) {
        fail(c, CLIENT_BROKEN, "the answer's chunks have no sizes");
        return false;
    }
    c->chunk_left = strtoul(line, NULL, 16);
    c->body_done = c->chunk_left == 0;
    return true;
}

/* Moves what is complete from `in` to `body`. */
static void decode_body(struct client *c)
{
    size_t at = 0;
    while (at < c->in.len && !c->body_done) {
        size_t left = c->in.len - at;
        size_t *budget = c->chunked ? &c->chunk_left : &c->length_left;
        if (c->chunked && c->chunk_left == 0) {
            if (!read_chunk_size(c, &at))
                break;
            continue;
        }
        size_t take = left < *budget ? left : *budget;
        strbuf_append(&c->body, c->in.data + at, take);
        *budget -= *budget == SIZE_MAX ? 0 : take;
        at += take;
        if (!c->chunked && *budget == 0)
            break;
    }
    if (!c->chunked && c->length_left == 0)
        c->body_done = true;
    memmove(c->in.data, c->in.data + at, c->in.len - at);
    c->in.len -= at;
}

static void receive_more(struct client *c)
{
    char *room = strbuf_reserve(&c->in, READ_BYTES);
    if (!room || c->body.failed) {
        fail(c, CLIENT_BROKEN, "the answer is too large");
        return;
    }
    ssize_t n = recv(c->fd, room, READ_BYTES, 0);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            fail(c, CLIENT_BROKEN, strerror(errno));
        return;
    }
    c->heard_ns = clock_now_ns();
    c->in.len += (size_t)n;
    c->in.data[c->in.len] = '\0';
    if (c->headers_done || (c->in.len > 0 && read_head(c))) {
        decode_body(c);
        if (c->events && c->state != CLIENT_DONE)
            read_events(c);
    }
    if (c->state == CLIENT_DONE)
        return;
    if (c->body_done || (n == 0 && c->headers_done && !c->chunked && c->length_left == SIZE_MAX))
        finish(c);
    else if (n == 0)
        fail(c, CLIENT_BROKEN,
             c->headers_done ? "connection closed in the middle of an answer"
                             : "connection closed before an answer");
}

void client_step(struct client *c)
{
    if (c->state == CLIENT_CONNECTING) {
        int error = 0;
        socklen_t len = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error) {
            fail(c, CLIENT_UNREACHED, strerror(error));
            return;
        }
        c->state = CLIENT_SENDING;
    }
    if (c->state == CLIENT_SENDING)
        send_more(c);
    else if (c->state == CLIENT_RECEIVING)
        receive_more(c);
}

void client_run(struct client *c, int quiet_ms, const volatile sig_atomic_t *stop)
{
    while (c->state != CLIENT_DONE) {
        struct pollfd p = {.fd = c->fd, .events = client_wants(c)};
        if (poll(&p, 1, POLL_MS) > 0)
            client_step(c);
        else if (stop && *stop)
            client_abort(c, "interrupted");
        else if (clock_now_ns() - c->heard_ns > (int64_t)quiet_ms * 1000000)
            fail(c, c->state == CLIENT_CONNECTING ? CLIENT_UNREACHED : CLIENT_ABORTED,
                 "no answer in time");
        if (stop && *stop && c->state != CLIENT_DONE)
            client_abort(c, "interrupted");
    }
}
