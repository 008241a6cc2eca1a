/* fuzz_http: any bytes on a connection of the real server (fake engine, loopback, own thread). The
 * answers are well-formed HTTP with a status of the table, none is a 500, and the server stays
 * alive. Input: a byte of switches (1: end our side, as a client that leaves; 2: in two pieces),
 * then what is sent. */
#include "tests/api/fake_engine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "engine/base/log.h"
#include "server/server.h"

#define ANSWER_BYTES 65536
#define HEALTH_EVERY 512

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static atomic_int port;
static atomic_int ready;

static enum status open_fake(void *ctx, void (*notify)(void *), void *notify_ctx,
                             struct engine **out, struct err *e)
{
    (void)ctx;
    struct engine_options opt = {.model_dir = "/models/fake",
                                 .seqs_max = 8,
                                 .queue_max = 8,
                                 .notify = notify,
                                 .notify_ctx = notify_ctx};
    uint64_t generation;
    enum status st = engine_open(&opt, out, e);
    return st == STATUS_OK ? engine_adapter_add(*out, "elf", "/", &generation, e) : st;
}

static void on_listening(void *ctx, int p)
{
    (void)ctx;
    atomic_store(&port, p);
}

static enum status on_ready(void *ctx, int p, struct engine *engine, const char *model,
                            struct err *e)
{
    (void)ctx;
    (void)p;
    (void)engine;
    (void)model;
    (void)e;
    atomic_store(&ready, 1);
    return STATUS_OK;
}

static void *serve(void *arg)
{
    (void)arg;
    static const struct server_options o = {
        .host = "127.0.0.1",
        .http = {.header_bytes = 4096,
                 .body_bytes = 65536,
                 .bodies_bytes = 1 << 20,
                 .unsent_bytes = 8192,
                 .header_ms = 40,
                 .body_ms = 40,
                 .idle_ms = 40,
                 .stall_ms = 1000,
                 .connections = 64,
                 .reserved = 4,
                 .connections_peer = 64},
        .drain_ms = 100,
        .ping_ms = 1000,
        .stall_ms = 5000,
        .open = open_fake,
        .on_listening = on_listening,
        .on_ready = on_ready,
    };
    struct err e;
    CHECK(server_run(&o, &e) == STATUS_OK);
    return NULL;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    log_setup(LOG_LEVEL_ERROR, false);
    fake_step_us = 0;
    fake_ctx = 300;
    fake_stall_ms = 1;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, serve, NULL) == 0);
    pthread_detach(thread);
    while (!atomic_load(&ready))
        usleep(1000);
    return 0;
}

static size_t exchange(const uint8_t *data, size_t size, int how, char *answer)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atomic_load(&port))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct timeval patience = {.tv_sec = 5};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    CHECK(connect(fd, (const struct sockaddr *)&to, sizeof to) == 0);
    size_t first = how & 8 ? size / 2 : size;
    ssize_t sent = send(fd, data, first, MSG_NOSIGNAL);
    if (sent == (ssize_t)first && first < size) {
        usleep(50);
        sent = send(fd, data + first, size - first, MSG_NOSIGNAL);
    }
    if ((how & 7) != 7)
        shutdown(fd, SHUT_WR);
    size_t n = 0;
    for (;;) {
        ssize_t got = recv(fd, answer + n, ANSWER_BYTES - n, 0);
        if (got < 0 && errno == EINTR) /* libFuzzer's alarm */
            continue;
        CHECK(got >= 0 || errno == ECONNRESET); /* a timeout: the deadlines did not end it */
        if (got <= 0 || (n += (size_t)got) == ANSWER_BYTES)
            break;
    }
    close(fd);
    return n;
}

static void check_status(const char *s, size_t n)
{
    static const char *const known[] = {"100", "200", "204", "400", "401", "403",
                                        "404", "405", "413", "414", "415", "417",
                                        "429", "431", "501", "503", "505"};
    CHECK(n >= 13 && memcmp(s, "HTTP/1.1 ", 9) == 0 && s[12] == ' ');
    bool found = false;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        found |= memcmp(s + 9, known[i], 3) == 0;
    if (!found) {
        fprintf(stderr, "answer: %.200s\n", s);
        abort();
    }
}

/* Walks over answers with a Content-Length; a stream (chunked, or up to the end in HTTP/1.0) ends
 * the walk. */
static void check_answers(const char *s, size_t n)
{
    while (n > 0) {
        check_status(s, n);
        const char *end = memmem(s, n, "\r\n\r\n", 4);
        if (!end)
            return; /* cut off */
        size_t head = (size_t)(end - s) + 4;
        CHECK(!memchr(s, '\0', head));
        const char *length = memmem(s, head, "Content-Length: ", 16);
        bool stream = memmem(s, head, "text/event-stream", 17) != NULL;
        size_t body = length ? strtoul(length + 16, NULL, 10) : 0;
        if (stream || head + body > n)
            return;
        s += head + body;
        n -= head + body;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char answer[ANSWER_BYTES + 1];
    static unsigned runs;
    if (size < 2)
        return 0;
    size_t n = exchange(data + 1, size - 1, data[0], answer);
    answer[n] = '\0';
    check_answers(answer, n);
    if (++runs % HEALTH_EVERY == 0) {
        static const char ask[] =
            "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        n = exchange((const uint8_t *)ask, sizeof ask - 1, 7, answer);
        CHECK(n > 12 && memcmp(answer, "HTTP/1.1 200", 12) == 0);
    }
    return 0;
}
