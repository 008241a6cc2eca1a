/* The whole server in this process, on a fake engine: every allocation on the way of a request
 * fails once. The client sees an answer of the table or a closed connection, and the next request
 * is served. Under AddressSanitizer leaks show too. */
#include "tests/api/fake_engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/base/log.h"
#include "server/server.h"

static atomic_int port;
static atomic_int ready;
static pthread_t thread;

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

static const char *const roots[] = {"models/storyteller/adapters"};

static const struct server_options options = {
    .adapters = {.roots = roots, .root_count = 1},
    .host = "127.0.0.1",
    .http = {.header_bytes = 8192,
             .body_bytes = 1 << 20,
             .bodies_bytes = 4 << 20,
             .unsent_bytes = 65536,
             .header_ms = 5000,
             .body_ms = 5000,
             .idle_ms = 5000,
             .stall_ms = 5000,
             .connections = 32,
             .reserved = 4,
             .connections_peer = 32},
    .seats = 4,
    .queue = 32,
    .drain_ms = 2000,
    .ping_ms = 5000,
    .stall_ms = 5000,
    .open = open_fake,
    .on_listening = on_listening,
    .on_ready = on_ready,
};

static void *serve(void *arg)
{
    struct err e = {0};
    enum status st = server_run(&options, &e);
    if (st != STATUS_OK)
        fprintf(stderr, "server: %s\n", e.msg);
    *(enum status *)arg = st;
    return NULL;
}

static enum status result;

static int start_server(void **state)
{
    (void)state;
    log_setup(LOG_LEVEL_ERROR, false);
    fake_step_us = 0;
    assert_int_equal(pthread_create(&thread, NULL, serve, &result), 0);
    while (!atomic_load(&ready))
        usleep(1000);
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    kill(getpid(), SIGTERM);
    pthread_join(thread, NULL);
    return result == STATUS_OK ? 0 : 1;
}

/* Sends, reads until the server closes; the bytes read. */
static size_t exchange(const char *text, char *answer, size_t cap)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atomic_load(&port))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct timeval patience = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    ssize_t sent = send(fd, text, strlen(text), MSG_NOSIGNAL);
    size_t n = 0;
    while (sent > 0 && n + 1 < cap) {
        ssize_t got = recv(fd, answer + n, cap - 1 - n, 0);
        if (got < 0 && errno != ECONNRESET)
            fail_msg("no answer and no end: %s", strerror(errno));
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    close(fd);
    answer[n] = '\0';
    return n;
}

static void make_post(char *out, size_t cap, const char *path, const char *body)
{
    snprintf(out, cap,
             "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
             "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
             path, strlen(body), body);
}

static void check_alive(void)
{
    static char answer[65536];
    static char text[1024];
    make_post(text, sizeof text, "/v1/chat/completions",
              "{\"messages\":[{\"role\":\"user\",\"content\":\"alive\"}]}");
    exchange(text, answer, sizeof answer);
    if (!strstr(answer, "HTTP/1.1 200 ") || !strstr(answer, "\"content\":\"alive\""))
        fail_msg("the server does not answer any more: %s", answer);
}

/* Fails the k-th allocation for k = 1, 2, ... until a run went by without meeting it. */
static void fail_each(const char *text)
{
    static char answer[1 << 20];
    int closed = 0;
    int errors = 0;
    int64_t k = 1;
    for (; k < 5000; k++) {
        mem_fail_at(k);
        uint64_t before = mem_alloc_count();
        size_t n = exchange(text, answer, sizeof answer);
        uint64_t made = mem_alloc_count() - before;
        mem_fail_at(0);
        if (n == 0) {
            closed++;
        } else if (memcmp(answer, "HTTP/1.1 200", 12) != 0) {
            if (memcmp(answer, "HTTP/1.1 503", 12) != 0 &&
                !(memcmp(answer, "HTTP/1.1 529", 12) == 0 &&
                  strstr(answer, "\"overloaded_error\"")))
                fail_msg("allocation %lld: %s", (long long)k, answer);
            errors++;
        }
        if (k % 16 == 0)
            check_alive();
        if (made + 8 < (uint64_t)k)
            break;
    }
    check_alive();
    printf("figure: %lld allocations failed once each: %d closed, %d answered 503\n", (long long)k,
           closed, errors);
    assert_true(closed + errors > 5);
}

static void test_server_faults_chat(void **state)
{
    (void)state;
    static char text[1024];
    make_post(text, sizeof text, "/v1/chat/completions",
              "{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}],\"adapter\":\"elf\","
              "\"logprobs\":true,\"top_logprobs\":3,\"n\":2}");
    fail_each(text);
}

static void test_server_faults_stream(void **state)
{
    (void)state;
    static char text[1024];
    make_post(text, sizeof text, "/v1/completions",
              "{\"prompt\":[\"abc\",[100,101]],\"stream\":true,\"echo\":true,\"logprobs\":2,"
              "\"stream_options\":{\"include_usage\":true}}");
    fail_each(text);
}

/* More texts than stand in line at once. */
static void test_server_faults_embeddings(void **state)
{
    (void)state;
    static char text[2048];
    static const char *const forms[] = {"float", "base64"};
    for (size_t i = 0; i < 2; i++) {
        char body[1024];
        snprintf(body, sizeof body,
                 "{\"input\":[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\",\"i\",\"j\",\"k\","
                 "\"l\",\"m\",\"n\",\"o\",\"p\",\"q\",\"r\",\"s\",[5,6]],\"adapter\":\"elf\","
                 "\"encoding_format\":\"%s\"}",
                 forms[i]);
        make_post(text, sizeof text, "/v1/embeddings", body);
        static char answer[65536];
        exchange(text, answer, sizeof answer);
        if (!strstr(answer, "\"index\":19,"))
            fail_msg("no embeddings: %s", answer);
        fail_each(text);
    }
}

/* The fake engine says what it was told: calls of both kinds, whole and streamed. */
static void test_server_faults_tools(void **state)
{
    (void)state;
    static char text[2048];
    static const char *const ends[] = {"}", ",\"stream\":true}"};
    for (size_t i = 0; i < 2; i++) {
        char body[1024];
        snprintf(
            body, sizeof body,
            "{\"messages\":[{\"role\":\"user\",\"content\":\"so <tool_call>{\\\"name\\\":\\\"f\\\","
            "\\\"arguments\\\":{\\\"x\\\":1}}</tool_call><tool_call>{\\\"arguments\\\":{},"
            "\\\"name\\\":\\\"f\\\"}</tool_call>\"}],\"tools\":[{\"type\":\"function\","
            "\"function\":{\"name\":\"f\",\"parameters\":{}}}]%s",
            ends[i]);
        make_post(text, sizeof text, "/v1/chat/completions", body);
        static char answer[65536];
        exchange(text, answer, sizeof answer);
        if (!strstr(answer, "\"tool_calls\":[{") ||
            !strstr(answer, "\"finish_reason\":\"tool_calls\""))
            fail_msg("no calls: %s", answer);
        fail_each(text);
    }
}

/* A thought, a text and a call in the forms of items, of a request that has those of earlier turns.
 */
static void test_server_faults_items(void **state)
{
    (void)state;
    static const char said[] = "<think>hm</think>so <tool_call>{\\\"name\\\":\\\"f\\\","
                               "\\\"arguments\\\":{\\\"x\\\":1}}</tool_call>";
    static const struct {
        const char *path;
        const char *body; /* one %s: what is said */
        const char *wanted;
    } rows[] = {
        {"/v1/responses",
         "{\"input\":[{\"type\":\"reasoning\",\"content\":[{\"text\":\"t\"}]},{\"role\":"
         "\"assistant\","
         "\"content\":\"a\"},{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\","
         "\"arguments\":"
         "\"{}\"},{\"type\":\"function_call_output\",\"call_id\":\"c\",\"output\":\"o\"},{\"role\":"
         "\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"%s\"}]}],\"instructions\":"
         "\"i\","
         "\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"parameters\":{}}],\"top_logprobs\":1,"
         "\"metadata\":{\"a\":\"b\"}",
         "\"arguments\":\"{\\\"x\\\":1}\""},
        {"/v1/messages",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":"
         "["
         "{\"type\":\"thinking\",\"thinking\":\"t\"},{\"type\":\"tool_use\",\"id\":\"c\",\"name\":"
         "\"f\","
         "\"input\":{}}]},{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_"
         "id\":"
         "\"c\"},{\"type\":\"text\",\"text\":\"%s\"}]}],\"system\":\"s\",\"max_tokens\":500,"
         "\"tools\":["
         "{\"name\":\"f\",\"input_schema\":{}}],\"thinking\":{\"type\":\"enabled\"}",
         "\"tool_use\""},
    };
    static char body[2048], text[4096], answer[1 << 18];
    for (size_t i = 0; i < 4; i++) {
        int n = snprintf(body, sizeof body, rows[i / 2].body, said);
        snprintf(body + n, sizeof body - (size_t)n, i % 2 ? ",\"stream\":true}" : "}");
        make_post(text, sizeof text, rows[i / 2].path, body);
        exchange(text, answer, sizeof answer);
        if (!strstr(answer, rows[i / 2].wanted) ||
            !strstr(answer, i / 2 ? "\"thinking\"" : "\"reasoning_text\""))
            fail_msg("no call or no thought: %s", answer);
        fail_each(text);
    }
}

static void test_server_faults_lists(void **state)
{
    (void)state;
    fail_each("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    fail_each("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
}

static void test_server_faults_adapters(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        const char *body;
    } rows[] = {
        {"/v1/adapters", "{\"name\":\"new\",\"path\":\"villain\",\"pinned\":true}"},
        {"/v1/adapters", "{\"name\":\"mix\",\"blend\":[{\"name\":\"elf\",\"weight\":0.5}]}"},
        {"/v1/adapters/check", "{\"path\":\"villain\"}"},
        {"/v1/load_lora_adapter",
         "{\"lora_name\":\"v\",\"lora_path\":\"villain\",\"load_inplace\":true}"},
        {"/lora-adapters", "[{\"id\":0,\"scale\":0}]"},
    };
    static char text[1024];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        make_post(text, sizeof text, rows[i].path, rows[i].body);
        fail_each(text);
    }
    fail_each("GET /v1/adapters HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    fail_each("GET /v1/adapters/elf HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_server_faults_adapters),   cmocka_unit_test(test_server_faults_chat),
        cmocka_unit_test(test_server_faults_stream),     cmocka_unit_test(test_server_faults_tools),
        cmocka_unit_test(test_server_faults_items),      cmocka_unit_test(test_server_faults_lists),
        cmocka_unit_test(test_server_faults_embeddings),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
