/* fake_server: the real server on a fake engine (fake_engine.h), for tests that need its timing in
 * their hands. Options as "name=value"; prints "listening PORT" and "ready" on stdout. */
#include "tests/api/fake_engine.h"

#include <stdlib.h>

#include "config/supervisor.h"
#include "engine/base/limits.h"
#include "engine/base/log.h"
#include "server/server.h"

#define NAMES_MAX 8

static int load_ms;
static int load_parts; /* of which it tells; 0: of nothing */
static struct service_progress progress;
static int seqs = 64;
static int queue = 256;
static const char *adapter_names[NAMES_MAX] = {"wood-elf", "villain", "marketing", "summary",
                                               "image-prompt"};

static enum status open_fake(void *ctx, void (*notify)(void *), void *notify_ctx,
                             struct engine **out, struct err *e)
{
    (void)ctx;
    int parts = load_parts > 0 ? load_parts : 1;
    int ms = load_ms / parts;
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    for (int i = 1; i <= parts; i++) {
        nanosleep(&ts, NULL);
        if (load_parts > 0)
            service_progress_set(&progress, "weights", i * 100 / parts);
    }
    struct engine_options opt = {
        .model_dir = "/models/fake",
        .seqs_max = seqs,
        .queue_max = queue,
        .notify = notify,
        .notify_ctx = notify_ctx,
    };
    enum status st = engine_open(&opt, out, e);
    uint64_t generation;
    for (int i = 0; i < NAMES_MAX && adapter_names[i] && st == STATUS_OK; i++)
        st = engine_adapter_add(*out, adapter_names[i], "/", &generation, e);
    return st;
}

static void on_listening(void *ctx, int port)
{
    (void)ctx;
    printf("listening %d\n", port);
    fflush(stdout);
}

static enum status on_ready(void *ctx, int port, struct engine *engine, const char *model,
                            struct err *e)
{
    (void)ctx;
    (void)port;
    (void)engine;
    (void)model;
    (void)e;
    puts("ready");
    fflush(stdout);
    return STATUS_OK;
}

struct setting {
    const char *name;
    int *to;
};

int main(int argc, char **argv)
{
    const char *hosts[NAMES_MAX];
    const char *origins[NAMES_MAX];
    const char *dirs[NAMES_MAX];
    const char *roots[NAMES_MAX];
    int max_body = LIMIT_HTTP_BODY_BYTES;
    int unsent = LIMIT_HTTP_UNSENT_BYTES;
    struct server_options o = {
        .host = "127.0.0.1",
        .hosts = hosts,
        .origins = origins,
        .adapters = {.dirs = dirs, .roots = roots},
        .http =
            {
                .header_bytes = LIMIT_HTTP_HEADER_BYTES,
                .bodies_bytes = 256u << 20,
                .header_ms = LIMIT_HTTP_HEADER_MS,
                .body_ms = LIMIT_HTTP_BODY_MS,
                .idle_ms = LIMIT_HTTP_IDLE_MS,
                .stall_ms = LIMIT_HTTP_STALL_MS,
                .connections = LIMIT_HTTP_CONNECTIONS,
                .reserved = LIMIT_HTTP_RESERVED,
                .connections_peer = LIMIT_HTTP_CONNECTIONS_PEER,
            },
        .drain_ms = 5000,
        .ping_ms = LIMIT_HTTP_PING_MS,
        .stall_ms = 5000,
        .open = open_fake,
        .on_listening = on_listening,
        .on_ready = on_ready,
    };
    const struct setting settings[] = {
        {"port", &o.port},
        {"header_ms", &o.http.header_ms},
        {"body_ms", &o.http.body_ms},
        {"idle_ms", &o.http.idle_ms},
        {"send_ms", &o.http.stall_ms},
        {"connections", &o.http.connections},
        {"reserved", &o.http.reserved},
        {"peer", &o.http.connections_peer},
        {"max_body", &max_body},
        {"unsent", &unsent},
        {"drain_ms", &o.drain_ms},
        {"ping_ms", &o.ping_ms},
        {"beat_ms", &o.stall_ms},
        {"step_us", &fake_step_us},
        {"stall_ms", &fake_stall_ms},
        {"ctx", &fake_ctx},
        {"prepare_us", &fake_prepare_us},
        {"load_ms", &load_ms},
        {"load_parts", &load_parts},
        {"seqs", &seqs},
        {"seats", &o.seats},
        {"reserve", &o.seats_reserve},
        {"line", &o.queue},
        {"queue", &queue},
    };
    for (int i = 1; i < argc; i++) {
        char *eq = strchr(argv[i], '=');
        if (!eq)
            return 2;
        *eq = '\0';
        if (strcmp(argv[i], "host") == 0)
            o.host = eq + 1;
        else if (strcmp(argv[i], "keys") == 0)
            o.api_key_file = eq + 1;
        else if (strcmp(argv[i], "served") == 0)
            o.served_name = eq + 1;
        else if (strcmp(argv[i], "default") == 0)
            o.default_adapter = eq + 1;
        else if (strcmp(argv[i], "adapters") == 0)
            dirs[o.adapters.dir_count++ % NAMES_MAX] = eq + 1;
        else if (strcmp(argv[i], "root") == 0)
            roots[o.adapters.root_count++ % NAMES_MAX] = eq + 1;
        else if (strcmp(argv[i], "allow_host") == 0 && o.host_count < NAMES_MAX)
            hosts[o.host_count++] = eq + 1;
        else if (strcmp(argv[i], "origin") == 0 && o.origin_count < NAMES_MAX)
            origins[o.origin_count++] = eq + 1;
        for (size_t k = 0; k < sizeof settings / sizeof settings[0]; k++) {
            if (strcmp(settings[k].name, argv[i]) == 0)
                *settings[k].to = (int)strtol(eq + 1, NULL, 10);
        }
    }
    o.http.body_bytes = (size_t)max_body;
    o.http.unsent_bytes = (size_t)unsent;
    struct err e = {0};
    struct supervisor supervisor = {0};
    o.supervisor = &supervisor;
    o.progress = &progress;
    enum status st = supervisor_read(&supervisor, &e);
    if (st == STATUS_OK)
        st = server_run(&o, &e);
    if (st != STATUS_OK)
        fprintf(stderr, "fake_server: %s\n", e.msg);
    return st == STATUS_OK ? 0 : 1;
}
