#include "server/bench_client.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/json.h"

#define REQUEST_BYTES_MAX (16u << 20)
#define ANSWER_BYTES_MAX  (64u << 20)
#define READ_BYTES        16384

enum status bench_target_parse(const char *url, struct bench_target *out, struct err *e)
{
    if (strncmp(url, "http://", 7) != 0)
        return err_set(e, STATUS_INVALID, "url", "--url must begin with http://");
    const char *authority = url + 7;
    size_t n = strcspn(authority, "/");
    const char *path = authority + n;
    size_t path_len = strlen(path);
    while (path_len > 0 && path[path_len - 1] == '/')
        path_len--;
    /* People paste the SDK's base_url, which ends in /v1. */
    if (path_len >= 3 && memcmp(path + path_len - 3, "/v1", 3) == 0)
        path_len -= 3;
    struct bench_target t = {0};
    if (n == 0 || n >= sizeof t.host || path_len >= sizeof t.prefix)
        return err_set(e, STATUS_INVALID, "url", "--url %.64s has no usable host", url);
    memcpy(t.host, authority, n);
    memcpy(t.prefix, path, path_len);
    char host[256];
    char port[16] = "80";
    char *colon = strrchr(t.host, ':');
    if (colon && !strchr(colon, ']')) {
        snprintf(port, sizeof port, "%s", colon + 1);
        snprintf(host, sizeof host, "%.*s", (int)(colon - t.host), t.host);
    } else {
        snprintf(host, sizeof host, "%s", t.host);
    }
    size_t len = strlen(host);
    char *name = host;
    if (len > 1 && host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = '\0';
        name++;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(name, port, &hints, &found);
    if (rc != 0)
        return err_set(e, STATUS_INVALID, "url", "%s: %s", t.host, gai_strerror(rc));
    memcpy(&t.addr, found->ai_addr, found->ai_addrlen);
    t.addr_len = found->ai_addrlen;
    freeaddrinfo(found);
    *out = t;
    return STATUS_OK;
}

void bench_client_init(struct bench_client *c)
{
    *c = (struct bench_client){.state = BENCH_IDLE, .fd = -1};
    strbuf_init(&c->out, REQUEST_BYTES_MAX);
    strbuf_init(&c->in, ANSWER_BYTES_MAX);
    strbuf_init(&c->body, ANSWER_BYTES_MAX);
}

static void close_socket(struct bench_client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

void bench_client_deinit(struct bench_client *c)
{
    close_socket(c);
    strbuf_deinit(&c->out);
    strbuf_deinit(&c->in);
    strbuf_deinit(&c->body);
}

static void finish(struct bench_client *c)
{
    close_socket(c);
    c->end_ns = clock_now_ns();
    c->state = BENCH_DONE;
}

void bench_client_abort(struct bench_client *c, const char *why)
{
    c->failed = true;
    snprintf(c->why, sizeof c->why, "%s", why);
    finish(c);
}

enum status bench_client_start(struct bench_client *c, const struct bench_target *t,
                               const char *method, const char *path, const char *body,
                               const char *key, struct err *e)
{
    bench_client_deinit(c);
    void (*on_gap)(void *, int64_t) = c->on_gap;
    void *ctx = c->on_gap_ctx;
    bench_client_init(c);
    c->on_gap = on_gap;
    c->on_gap_ctx = ctx;
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
    if (c->out.failed)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    c->start_ns = clock_now_ns();
    c->fd = socket(t->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        return err_set(e, STATUS_IO, NULL, "socket: %s", strerror(errno));
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->state = BENCH_CONNECTING;
    if (connect(c->fd, (const struct sockaddr *)&t->addr, t->addr_len) == 0)
        c->state = BENCH_SENDING;
    else if (errno != EINPROGRESS)
        bench_client_abort(c, strerror(errno));
    return STATUS_OK;
}

short bench_client_wants(const struct bench_client *c)
{
    return c->state == BENCH_RECEIVING ? POLLIN : POLLOUT;
}

static void send_more(struct bench_client *c)
{
    ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) {
        bench_client_abort(c, strerror(errno));
    } else if (n > 0) {
        c->sent += (size_t)n;
        if (c->sent == c->out.len)
            c->state = BENCH_RECEIVING;
    }
}

static void read_usage(struct bench_client *c, const char *data, size_t n)
{
    cJSON *v = NULL;
    if (json_parse(data, n, &json_default_limits, &v, NULL) != STATUS_OK)
        return;
    const cJSON *usage = json_member(v, "usage");
    int64_t value;
    if (cJSON_IsObject(usage)) {
        if (json_int64(json_member(usage, "completion_tokens"), &value))
            c->completion_tokens = (int)value;
        if (json_int64(json_member(usage, "prompt_tokens"), &value))
            c->prompt_tokens = (int)value;
    }
    cJSON_Delete(v);
}

/* True when the chunk's delta carries text. A full parse of each chunk would make the client the
 * bottleneck, so this looks for a non-empty "content" or "text" member by its spelling. */
static bool has_text(const char *data)
{
    static const char *const keys[] = {"\"content\":", "\"text\":", "\"reasoning_content\":"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *at = strstr(data, keys[i]);
        if (!at)
            continue;
        at += strlen(keys[i]);
        at += *at == ' ';
        if (at[0] == '"' && at[1] != '"')
            return true;
    }
    return false;
}

static void on_event(struct bench_client *c, const char *data, size_t n)
{
    if (n == 6 && memcmp(data, "[DONE]", 6) == 0)
        return;
    int64_t now = clock_now_ns();
    if (strncmp(data, "{\"error\"", 8) == 0) {
        c->failed = true;
        snprintf(c->why, sizeof c->why, "%.150s", data);
    }
    if (strstr(data, "\"usage\":{") || strstr(data, "\"usage\": {"))
        read_usage(c, data, n);
    if (!has_text(data))
        return;
    if (c->pieces > 0 && c->on_gap)
        c->on_gap(c->on_gap_ctx, now - c->last_ns);
    if (c->pieces == 0)
        c->first_ns = now;
    c->last_ns = now;
    c->pieces++;
}

/* Cuts complete "data: ..." lines out of the decoded body. */
static void read_events(struct bench_client *c)
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
            on_event(c, line, (size_t)(end - line));
        }
    }
    memmove(c->body.data, c->body.data + at, c->body.len - at);
    c->body.len -= at;
}

static bool read_headers(struct bench_client *c)
{
    char *end = strstr(c->in.data, "\r\n\r\n");
    if (!end)
        return false;
    end[2] = '\0';
    c->headers_done = true;
    c->length_left = SIZE_MAX; /* until the connection closes */
    if (strncmp(c->in.data, "HTTP/1.", 7) == 0 && c->in.len > 12)
        c->status = (int)strtol(c->in.data + 9, NULL, 10);
    for (char *line = strstr(c->in.data, "\r\n"); line && line[2];
         line = strstr(line + 2, "\r\n")) {
        const char *h = line + 2;
        if (strncasecmp(h, "transfer-encoding:", 18) == 0)
            c->chunked = true;
        else if (strncasecmp(h, "content-length:", 15) == 0)
            c->length_left = strtoul(h + 15, NULL, 10);
        else if (strncasecmp(h, "content-type:", 13) == 0)
            c->events = strncmp(h + 13 + strspn(h + 13, " "), "text/event-stream", 17) == 0;
    }
    size_t used = (size_t)(end - c->in.data) + 4;
    memmove(c->in.data, c->in.data + used, c->in.len - used);
    c->in.len -= used;
    c->in.data[c->in.len] = '\0';
    return true;
}

/* Moves what is complete from `in` to `body`. */
static void decode_body(struct bench_client *c)
{
    size_t at = 0;
    while (at < c->in.len && !c->body_done) {
        size_t left = c->in.len - at;
        size_t *budget = c->chunked ? &c->chunk_left : &c->length_left;
        if (c->chunked && c->chunk_left == 0) {
            char *line = c->in.data + at;
            char *end = memchr(line, '\n', left);
            if (!end)
                break;
            at += (size_t)(end - line) + 1;
            if (end - line <= 1)
                continue; /* the CRLF behind a chunk */
            c->chunk_left = strtoul(line, NULL, 16);
            c->body_done = c->chunk_left == 0;
            continue;
        }
        size_t take = left < *budget ? left : *budget;
        strbuf_append(&c->body, c->in.data + at, take);
        *budget -= *budget == SIZE_MAX ? 0 : take;
        at += take;
    }
    if (!c->chunked && c->length_left == 0)
        c->body_done = true;
    memmove(c->in.data, c->in.data + at, c->in.len - at);
    c->in.len -= at;
}

static void receive_more(struct bench_client *c)
{
    char *room = strbuf_reserve(&c->in, READ_BYTES);
    if (!room) {
        bench_client_abort(c, "out of memory");
        return;
    }
    ssize_t n = recv(c->fd, room, READ_BYTES, 0);
    if (n < 0) {
        if (errno != EAGAIN)
            bench_client_abort(c, strerror(errno));
        return;
    }
    c->in.len += (size_t)n;
    c->in.data[c->in.len] = '\0';
    if (c->headers_done || read_headers(c)) {
        decode_body(c);
        if (c->events)
            read_events(c);
    }
    if (c->body_done) {
        finish(c);
    } else if (n == 0) {
        if (!c->headers_done || c->chunked || c->length_left != SIZE_MAX)
            bench_client_abort(c, "connection closed in the middle of an answer");
        else
            finish(c);
    }
}

void bench_client_step(struct bench_client *c)
{
    if (c->state == BENCH_CONNECTING) {
        int error = 0;
        socklen_t len = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error) {
            bench_client_abort(c, strerror(error));
            return;
        }
        c->state = BENCH_SENDING;
    }
    if (c->state == BENCH_SENDING)
        send_more(c);
    else if (c->state == BENCH_RECEIVING)
        receive_more(c);
}
