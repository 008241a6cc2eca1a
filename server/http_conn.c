#include "server/http_conn.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/mem.h"

/* The kernel doubles it; bounds what waits out of our sight. */
#define SOCKET_SEND_BYTES  (64 << 10)
#define RESERVED_HEADER_MS 1000
#define LINGER_MS          2000

static uint64_t bytes_received(int fd)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
        return 0;
    return info.tcpi_bytes_received;
}

void http_conn_set_phase(struct http_conn *c, enum http_phase phase)
{
    c->phase = phase;
    c->phase_ns = clock_now_ns();
    if (phase == HTTP_PHASE_IDLE)
        c->rx_bytes = bytes_received(c->fd);
}

void http_conn_resume(struct http_exchange *x)
{
    if (!x->suspended)
        return;
    x->suspended = false;
    MHD_resume_connection(x->conn->mhd);
    /* With an external loop nothing wakes the library's descriptor: it must be run. */
    x->conn->h->resumed = true;
    loop_timer_start(x->conn->h->again, 0, 0);
}

void http_conn_cut(struct http_conn *c, bool tell)
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
    http_conn_resume(x);
    if (tell && first && x->announced)
        c->h->to.on_gone(c->h->to.ctx, x);
}

static bool same_peer(const struct http_conn *a, const struct http_conn *b)
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
static bool evict(struct http_server *h, const struct http_conn *newest, const struct http_conn *of)
{
    struct http_conn *victim = NULL;
    for (struct http_conn *c = h->conns; c; c = c->next) {
        if (c == newest || c->cut || (of && !same_peer(c, of)))
            continue;
        if (c->phase != HTTP_PHASE_IDLE && c->phase != HTTP_PHASE_HEADERS)
            continue;
        if (!victim || c->phase_ns < victim->phase_ns)
            victim = c;
    }
    if (victim)
        http_conn_cut(victim, false);
    return victim != NULL;
}

static void admit(struct http_server *h, struct http_conn *c)
{
    int total = 0;
    int peers = 0;
    for (const struct http_conn *o = h->conns; o; o = o->next) {
        total += !o->cut;
        peers += !o->cut && same_peer(o, c);
    }
    if (peers > h->limits.connections_peer && !evict(h, c, c)) {
        http_conn_cut(c, false);
        return;
    }
    if (total <= h->limits.connections - h->limits.reserved || evict(h, c, NULL))
        return;
    if (total > h->limits.connections)
        http_conn_cut(c, false);
    else
        c->reserved = true;
}

void http_conn_add(struct http_server *h, struct MHD_Connection *mhd, void **socket_context)
{
    int fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    struct http_conn *c = mem_calloc(1, sizeof *c);
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
    http_conn_set_phase(c, HTTP_PHASE_HEADERS);
    c->next = h->conns;
    if (h->conns)
        h->conns->prev = c;
    h->conns = c;
    h->conn_count++;
    admit(h, c);
}

void http_conn_remove(struct http_conn *c)
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

struct http_conn *http_conn_of(struct MHD_Connection *mhd)
{
    return MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

bool http_conn_is_late(struct http_conn *c, int64_t now_ns)
{
    const struct http_limits *l = &c->h->limits;
    int64_t age_ms = (now_ns - c->phase_ns) / HTTP_NS_PER_MS;
    switch (c->phase) {
    case HTTP_PHASE_HEADERS:
        return age_ms > (c->reserved && l->header_ms > RESERVED_HEADER_MS ? RESERVED_HEADER_MS
                                                                          : l->header_ms);
    case HTTP_PHASE_BODY:
        return age_ms > l->body_ms;
    case HTTP_PHASE_IDLE:
        if (bytes_received(c->fd) > c->rx_bytes) {
            http_conn_set_phase(c, HTTP_PHASE_HEADERS); /* the next request began to arrive */
            return false;
        }
        return age_ms > l->idle_ms || c->h->draining;
    case HTTP_PHASE_SEND: {
        const struct http_exchange *x = c->x;
        bool waits_for_us = x && x->streams && !x->ended && http_stream_unsent(x) == 0;
        return x && !waits_for_us && (now_ns - x->progress_ns) / HTTP_NS_PER_MS > l->stall_ms;
    }
    case HTTP_PHASE_WORK:
        break;
    }
    return false;
}

/* ---- lingering sockets ---- */

void http_conn_linger_end(struct http_lingerer *g)
{
    for (int i = 0; i < HTTP_LINGER_MAX; i++) {
        if (g->h->lingering[i] == g)
            g->h->lingering[i] = NULL;
    }
    loop_watch_destroy(g->watch);
    close(g->fd);
    mem_free(g);
}

static void on_linger_readable(void *ctx)
{
    struct http_lingerer *g = ctx;
    char sink[16384];
    ssize_t n = recv(g->fd, sink, sizeof sink, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        http_conn_linger_end(g);
}

void http_conn_linger(struct http_server *h, int fd)
{
    int slot = 0;
    while (slot < HTTP_LINGER_MAX && h->lingering[slot])
        slot++;
    if (slot == HTTP_LINGER_MAX || h->stopping)
        return;
    struct http_lingerer *g = mem_calloc(1, sizeof *g);
    if (!g)
        return;
    g->h = h;
    g->fd = dup(fd);
    g->until_ns = clock_now_ns() + (int64_t)LINGER_MS * HTTP_NS_PER_MS;
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
