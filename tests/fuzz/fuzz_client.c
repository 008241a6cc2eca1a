/* Fuzz target: what a server may answer a command (client.h). The bytes come whole, and in two
 * pieces cut anywhere: both must be understood alike. An answer that ended well is no longer than
 * what was sent. */
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/status.h"
#include "server/client.h"

#define ANSWER_MAX 60000 /* fits a socket's buffer */

struct told {
    struct client c;
    struct strbuf events;
};

static void on_event(void *ctx, const char *data, size_t n)
{
    struct told *t = ctx;
    CHECK(strlen(data) <= n && data[n] == '\0' && !memchr(data, '\n', n));
    strbuf_append(&t->events, data, n);
    strbuf_putc(&t->events, '\n');
}

static void feed(struct told *t, int to, const uint8_t *data, size_t n)
{
    if (n > 0)
        CHECK(send(to, data, n, MSG_NOSIGNAL) == (ssize_t)n);
    for (size_t i = 0; i < n / 8192 + 2 && t->c.state != CLIENT_DONE; i++)
        client_step(&t->c);
}

static void hear(struct told *t, const uint8_t *data, size_t n, size_t cut)
{
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
    client_init(&t->c);
    strbuf_init(&t->events, ANSWER_MAX * 2);
    t->c.on_event = on_event;
    t->c.ctx = t;
    t->c.fd = pair[0];
    t->c.state = CLIENT_RECEIVING;
    feed(t, pair[1], data, cut);
    if (t->c.state != CLIENT_DONE)
        feed(t, pair[1], data + cut, n - cut);
    shutdown(pair[1], SHUT_WR);
    for (size_t i = 0; i < ANSWER_MAX && t->c.state != CLIENT_DONE; i++)
        client_step(&t->c);
    CHECK(t->c.state == CLIENT_DONE && t->c.fd == -1);
    close(pair[1]);
}

static void end(struct told *t)
{
    client_deinit(&t->c);
    strbuf_deinit(&t->events);
}

static bool same(const struct strbuf *a, const struct strbuf *b)
{
    return a->len == b->len && memcmp(strbuf_str(a), strbuf_str(b), a->len) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > ANSWER_MAX)
        return 0;
    size_t cut = (size_t)data[0] << 8 | data[1];
    data += 2;
    size -= 2;
    cut = size ? cut % (size + 1) : 0;
    struct told whole, parts;
    hear(&whole, data, size, 0);
    hear(&parts, data, size, cut);
    CHECK(whole.c.failure == parts.c.failure && whole.c.status == parts.c.status);
    CHECK((whole.c.failure == CLIENT_FINE) == (whole.c.why[0] == '\0'));
    if (whole.c.failure == CLIENT_FINE) {
        CHECK(whole.c.headers_done && whole.c.body.len <= size);
        CHECK(same(&whole.c.body, &parts.c.body) && same(&whole.events, &parts.events));
    }
    end(&whole);
    end(&parts);
    return 0;
}
