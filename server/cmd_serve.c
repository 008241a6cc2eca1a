/* cmd_serve: the server from settings: what it prints at start, the port file, the exit code. */
#include "server/cmd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "config/options_reload.h"
#include "config/supervisor.h"
#include "engine/base/limits.h"
#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "server/engine_setup.h"
#include "server/server.h"

#define ENGINE_STALL_MS 5000
#define VOICES_SHOWN    12
#define URL_BYTES       400

struct serving {
    struct options *options;
    struct options next; /* read again, until it is known what holds */
    int argc;
    char **argv;
    struct supervisor supervisor;
    struct listener listeners[LIMIT_LISTENERS]; /* handed over; as many as supervisor says */
    struct service_progress progress;
    char state_dir[OPTION_PATH_BYTES];
};

static enum status open_engine(void *ctx, void (*notify)(void *notify_ctx), void *notify_ctx,
                               struct engine **out, struct err *e)
{
    struct serving *s = ctx;
    return engine_setup_open(s->options, notify, notify_ctx, &s->progress, out, e);
}

static void on_listening(void *ctx, int port)
{
    const struct serving *s = ctx;
    for (int i = 0; i < s->supervisor.socket_count; i++)
        LOG_INFO(LOG_WHAT("listening"), LOG_STR("socket", s->listeners[i].text),
                 LOG_STR("name", s->supervisor.socket_names[i]));
    if (s->supervisor.socket_count == 0)
        LOG_INFO(LOG_WHAT("listening"), LOG_STR("host", s->options->host), LOG_INT("port", port));
}

/* Written beside and renamed, so that a reader never sees half a number. */
static enum status write_port_file(const char *path, int port, struct err *e)
{
    char temp[4096];
    int n = snprintf(temp, sizeof temp, "%s.tmp", path);
    FILE *f = n > 0 && (size_t)n < sizeof temp ? fopen(temp, "we") : NULL;
    if (!f)
        return err_set(e, STATUS_IO, "port-file", "cannot write %s: %s", path, strerror(errno));
    bool ok = fprintf(f, "%d\n", port) > 0;
    ok = fclose(f) == 0 && ok;
    if (!ok || rename(temp, path) != 0)
        return err_set(e, STATUS_IO, "port-file", "cannot write %s: %s", path, strerror(errno));
    return STATUS_OK;
}

/* How this machine reaches the server: arguments of curl up to the path. */
static void write_url(const struct serving *s, int port, char url[URL_BYTES])
{
    static const char unix_prefix[] = "unix:";
    const char *host = s->options->host;
    if (s->supervisor.socket_count > 0) {
        const char *text = s->listeners[0].text;
        const char *path = text + sizeof unix_prefix - 1;
        if (strncmp(text, unix_prefix, sizeof unix_prefix - 1) != 0)
            snprintf(url, URL_BYTES, "http://%s", text);
        else if (*path == '@')
            snprintf(url, URL_BYTES, "--abstract-unix-socket '%s' http://localhost", path + 1);
        else
            snprintf(url, URL_BYTES, "--unix-socket '%s' http://localhost", path);
        return;
    }
    bool any = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    const char *name = any ? "127.0.0.1" : host;
    snprintf(url, URL_BYTES, strchr(name, ':') ? "http://[%s]:%d" : "http://%s:%d", name, port);
}

/* What to paste: the first voice, or the base when there is none. */
static void print_ready(const struct serving *s, int port, struct engine *engine, const char *model)
{
    char url[URL_BYTES];
    write_url(s, port, url);
    int count = engine_adapters(engine, NULL, 0);
    struct engine_adapter_info *list = count ? mem_calloc((size_t)count, sizeof *list) : NULL;
    if (!list)
        count = 0;
    int have = engine_adapters(engine, list, count);
    count = have < count ? have : count;
    printf("\nchorus serves %s on %s\n  voices: (base)", model, url);
    for (int i = 0; i < count && i < VOICES_SHOWN; i++)
        printf(", %s", list[i].name);
    if (count > VOICES_SHOWN)
        printf(" and %d more", count - VOICES_SHOWN);
    printf("\n\n  curl -N %s/v1/chat/completions -H 'Content-Type: application/json' -d '{", url);
    if (count)
        printf("\"adapter\": \"%s\", ", list[0].name);
    puts("\"stream\": true, \"messages\": [{\"role\": \"user\", \"content\": "
         "\"Tell me a story about a lantern.\"}]}'\n");
    fflush(stdout);
    mem_free(list);
}

static enum status on_ready(void *ctx, int port, struct engine *engine, const char *model,
                            struct err *e)
{
    const struct serving *s = ctx;
    print_ready(s, port, engine, model);
    LOG_INFO(LOG_WHAT("ready"), LOG_INT("port", port), LOG_STR("model", model));
    return *s->options->port_file ? write_port_file(s->options->port_file, port, e) : STATUS_OK;
}

static enum status read_again(void *ctx, struct server_options *next, struct err *e);
static void end_reading(void *ctx, bool adopt, struct server_options *now);

static struct server_options server_options_of(const struct options *o, struct serving *serving)
{
    size_t adapter_memory = 0; /* auto */
    if (!options_bytes(o->adapter_memory, &adapter_memory))
        adapter_memory = 0;
    return (struct server_options){
        .host = o->host,
        .port = (int)o->port,
        .listeners = serving->listeners,
        .listener_count = serving->supervisor.socket_count,
        .supervisor = &serving->supervisor,
        .progress = &serving->progress,
        .http =
            {
                .header_bytes = LIMIT_HTTP_HEADER_BYTES,
                .body_bytes = (size_t)o->max_body,
                .bodies_bytes = LIMIT_HTTP_BODIES_BYTES + (size_t)o->max_body,
                .unsent_bytes = LIMIT_HTTP_UNSENT_BYTES,
                .header_ms = (int)o->header_timeout,
                .body_ms = (int)o->body_timeout,
                .idle_ms = (int)o->idle_timeout,
                .stall_ms = (int)o->stall_timeout,
                .connections = (int)o->max_connections,
                .reserved = LIMIT_HTTP_RESERVED,
                .connections_peer = (int)o->max_connections_peer,
            },
        .hosts = (const char *const *)o->allow_host.items,
        .host_count = o->allow_host.count,
        .origins = (const char *const *)o->allow_origin.items,
        .origin_count = o->allow_origin.count,
        .api_key_file = o->api_key_file,
        .served_name = o->served_name,
        .default_adapter = o->default_adapter,
        .adapters =
            {
                .dirs = (const char *const *)o->adapters.items,
                .dir_count = o->adapters.count,
                .roots = (const char *const *)o->adapter_root.items,
                .root_count = o->adapter_root.count,
                .state_dir = serving->state_dir,
            },
        .adapter_slots = (int)o->adapter_slots,
        .seats = (int)o->max_seqs,
        .seats_reserve = engine_setup_reserve(o),
        .queue = (int)o->queue,
        .drain_ms = (int)o->drain_timeout,
        .ping_ms = LIMIT_HTTP_PING_MS,
        .adapter_memory = adapter_memory,
        .log_slow_ms = (int)o->log_slow_ms,
        .log_prompts = o->log_prompts,
        .stall_ms = ENGINE_STALL_MS,
        .open = open_engine,
        .reload = read_again,
        .reload_end = end_reading,
        .on_listening = on_listening,
        .on_ready = on_ready,
        .ctx = serving,
    };
}

/* What the service manager gives: sockets that listen already. */
static enum status take_over(struct serving *s, struct err *e)
{
    enum status st = supervisor_read(&s->supervisor, e);
    for (int i = 0; st == STATUS_OK && i < s->supervisor.socket_count; i++)
        st = listener_adopt(SUPERVISOR_FIRST_FD + i, s->supervisor.socket_names[i],
                            &s->listeners[i], e);
    return st;
}

/* ---- settings that are read again ---- */

static enum status read_again(void *ctx, struct server_options *next, struct err *e)
{
    struct serving *s = ctx;
    enum status st = options_load(OPTION_SERVE, s->argc, s->argv, &s->next, e);
    if (st == STATUS_OK)
        *next = server_options_of(&s->next, s);
    return st;
}

struct changes {
    int applied;
    int waiting;
};

static void tell_change(void *ctx, const struct option_change *change)
{
    struct changes *c = ctx;
    c->applied += change->applied;
    c->waiting += !change->applied;
    LOG_AT(change->applied ? LOG_LEVEL_INFO : LOG_LEVEL_WARN,
           LOG_WHAT(change->applied ? "setting applied" : "setting needs a restart"),
           LOG_STR("name", change->name), LOG_STR("was", change->was), LOG_STR("is", change->is));
}

/* The form of the log changes last, so that all of what is told stands in one. */
static void end_reading(void *ctx, bool adopt, struct server_options *now)
{
    struct serving *s = ctx;
    struct changes c = {0};
    if (adopt) {
        options_adopt(OPTION_SERVE, s->options, &s->next, tell_change, &c);
        LOG_INFO(LOG_WHAT("settings were read again"),
                 LOG_STR("file", *s->options->config ? s->options->config : "none"),
                 LOG_INT("applied", c.applied), LOG_INT("need_restart", c.waiting));
        engine_setup_log(s->options);
        *now = server_options_of(s->options, s);
    }
    options_deinit(&s->next);
}

static int serve(int argc, char **argv, struct options *o)
{
    struct err e = {0};
    if (!*o->model) {
        err_set(&e, STATUS_INVALID, "model", "--model DIR is needed");
        return cmd_fail("serve", &e);
    }
    engine_setup_log(o);
    struct serving serving = {.options = o, .argc = argc, .argv = argv};
    options_state_dir(o, serving.state_dir);
    if (take_over(&serving, &e) != STATUS_OK)
        return cmd_fail("serve", &e);
    struct server_options server = server_options_of(o, &serving);
    return server_run(&server, &e) == STATUS_OK ? CMD_EXIT_OK : cmd_fail("serve", &e);
}

int cmd_serve(int argc, char **argv)
{
    struct options o;
    int code;
    if (cmd_options(OPTION_SERVE, argc, argv, &o, &code))
        code = serve(argc, argv, &o);
    options_deinit(&o);
    return code;
}
