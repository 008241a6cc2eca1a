#include "server/server.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "engine/base/sha256.h"
#include "server/api_adapters.h"
#include "server/api_error.h"
#include "server/api_generate.h"
#include "server/api_text.h"
#include "server/listing.h"
#include "server/served.h"
#include "server/server_state.h"
#include "server/terminal.h"

#define TICK_MS          200
#define CUT_GRACE_MS     300  /* between cutting what is left and the end */
#define LOST_DRAIN_MS    2000 /* after a device error: time for the error events */
#define SCRATCH_BYTES    (64u << 20)
#define DESCRIPTORS_REST 48 /* beside connections: files, epoll, logs, model shards */
#define MS_TO_NS         1000000

/* Opens the engine while the loop already answers /health. */
struct loader {
    struct server *server;
    pthread_t thread;
    struct loop_waker *done;
    struct engine *engine;
    enum status status;
    struct err err;
};

/* ---- answers ---- */

void server_answer_json(struct call *c, int status, struct strbuf *body)
{
    http_answer(c->x, status, "application/json", body);
}

/* Whether the client expects Anthropic's forms: by the path, as some errors come before a route. */
static bool speaks_messages(const struct http_exchange *x)
{
    static const char path[] = "/v1/messages";
    const char *asked = http_path(x);
    size_t n = sizeof path - 1;
    return strncmp(asked, path, n) == 0 && (asked[n] == '\0' || asked[n] == '/');
}

void server_answer_error(struct call *c, const struct api_error_kind *k, const struct err *e)
{
    if (k->no_retry)
        http_add_header(c->x, "x-should-retry", "false");
    if (k->retry_after_s) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%d", k->retry_after_s);
        http_add_header(c->x, "Retry-After", seconds);
    }
    c->times.error = k->code;
    struct strbuf b;
    strbuf_init(&b, SCRATCH_BYTES);
    bool message = speaks_messages(c->x);
    if (message)
        api_error_write_message(&b, k, e, c->request_id);
    else
        api_error_write(&b, k, e);
    http_answer(c->x, message ? api_error_message_http(k) : k->http, "application/json", &b);
}

static void answer_http_error(struct call *c, int status, const char *param, const char *why)
{
    struct err e;
    err_set(&e, STATUS_INVALID, param, "%s", why);
    server_answer_error(c, api_error_of_http(status), &e);
}

/* ---- calls ---- */

static struct call *make_call(struct server *s, struct http_exchange *x)
{
    struct call *c = mem_calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->server = s;
    c->x = x;
    c->begin_ns = clock_now_ns();
    const char *id = http_header(x, "x-request-id");
    if (id && ident_is_request_id(id)) {
        snprintf(c->request_id, sizeof c->request_id, "%s", id);
    } else {
        char made[IDENT_BYTES];
        ident_make("req_", made);
        snprintf(c->request_id, sizeof c->request_id, "%s", made);
    }
    http_set_user(x, c);
    http_add_header(x, "x-request-id", c->request_id);
    if (speaks_messages(x))
        http_add_header(x, "request-id", c->request_id);
    http_add_header(x, "X-Content-Type-Options", "nosniff");
    http_add_header(x, "Cache-Control", "no-store");
    http_add_header(x, "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");
    http_add_header(x, "Cross-Origin-Resource-Policy", "same-origin");
    return c;
}

/* The origin was named, so its pages may read answers. False: it was the preflight, answered. */
static bool welcome_origin(struct call *c, const char *origin)
{
    http_add_header(c->x, "Access-Control-Allow-Origin", origin);
    http_add_header(c->x, "Access-Control-Expose-Headers", "x-request-id, Retry-After");
    http_add_header(c->x, "Vary", "Origin");
    if (strcmp(http_method(c->x), "OPTIONS") != 0)
        return true;
    http_add_header(c->x, "Access-Control-Allow-Methods", "GET, POST, DELETE");
    http_add_header(c->x, "Access-Control-Allow-Headers",
                    "Authorization, Content-Type, x-request-id, x-api-key, anthropic-version");
    http_add_header(c->x, "Access-Control-Max-Age", "600");
    struct strbuf none;
    strbuf_init(&none, 0);
    http_answer(c->x, 204, "text/plain", &none);
    return false;
}

static bool pass_guard(struct call *c)
{
    struct guard_request r = {
        .method = http_method(c->x),
        .host = http_header(c->x, "Host"),
        .origin = http_header(c->x, "Origin"),
        .origin_count = http_header_count(c->x, "Origin"),
        .fetch_site = http_header(c->x, "Sec-Fetch-Site"),
        .fetch_mode = http_header(c->x, "Sec-Fetch-Mode"),
        .fetch_dest = http_header(c->x, "Sec-Fetch-Dest"),
    };
    const char *origin;
    struct err e;
    int status = guard_check(&c->server->guard, &r, &origin, &e);
    if (status) {
        server_answer_error(c, api_error_of_http(status), &e);
        return false;
    }
    return !origin || welcome_origin(c, origin);
}

const char *server_key_of(const struct call *c)
{
    return api_key_of(http_header(c->x, "Authorization"), http_header(c->x, "x-api-key"));
}

static bool pass_route(struct call *c)
{
    struct server *s = c->server;
    const char *allow;
    c->route = routes_find(http_method(c->x), http_path(c->x), &c->tail, &allow);
    bool is_public = c->route && c->route->is_public;
    if (!is_public && !api_key_allows(&s->keys, server_key_of(c))) {
        http_add_header(c->x, "WWW-Authenticate", "Bearer");
        answer_http_error(c, 401, NULL, "a valid API key is needed (Authorization: Bearer ...)");
        return false;
    }
    if (!c->route && *allow) {
        http_add_header(c->x, "Allow", allow);
        answer_http_error(c, 405, NULL, "this path does not know this method");
        return false;
    }
    if (!c->route) {
        answer_http_error(c, 404, NULL, "there is nothing at this path");
        return false;
    }
    return true;
}

static void on_headers(void *ctx, struct http_exchange *x)
{
    struct server *s = ctx;
    struct call *c = make_call(s, x);
    if (!c) {
        http_cut(x);
        return;
    }
    if (!pass_guard(c) || !pass_route(c))
        return;
    if (http_is_reserved(x) && c->route->id != ROUTE_HEALTH) {
        answer_http_error(c, 503, NULL, "too many connections");
        return;
    }
    if (c->route->needs_engine && s->phase != SERVER_READY) {
        struct err e;
        err_set(&e, STATUS_DRAINING, NULL,
                s->phase == SERVER_LOADING ? "the model is loading" : "the server is ending");
        server_answer_error(c, api_error_of(e.code), &e);
        return;
    }
    if (strcmp(http_method(x), "POST") == 0 && !guard_is_json(http_header(x, "Content-Type")))
        answer_http_error(c, 415, NULL, "Content-Type must be application/json");
}

static void on_request(void *ctx, struct http_exchange *x)
{
    (void)ctx;
    struct call *c = http_user(x);
    c->route->handle(c, c->tail);
}

static void on_room(void *ctx, struct http_exchange *x)
{
    (void)ctx;
    api_generate_on_room(http_user(x));
}

static void on_gone(void *ctx, struct http_exchange *x)
{
    (void)ctx;
    if (http_user(x))
        api_generate_on_gone(http_user(x));
}

static void write_error(void *ctx, struct http_exchange *x, int status, const struct err *e)
{
    struct server *s = ctx;
    struct call *c = http_user(x) ? http_user(x) : make_call(s, x);
    if (c)
        server_answer_error(c, api_error_of_http(status), e);
}

static void on_end(void *ctx, struct http_exchange *x, const struct http_end *end)
{
    struct server *s = ctx;
    struct call *c = http_user(x);
    if (c) {
        int64_t now = clock_now_ns();
        int status = end->complete ? end->status : 499;
        metrics_count(&s->metrics, c->route ? c->route->id : ROUTE_NONE, status);
        if (c->first_token_ns)
            metrics_duration(&s->metrics, (double)(now - c->begin_ns) * 1e-9);
        access_log_end(c, status, now);
        api_generate_on_end(c);
        api_text_on_end(c);
        listing_on_end(c);
        api_adapters_on_end(c);
        api_live_on_end(c);
        mem_free(c);
    }
    server_check_drained(s);
}

/* ---- the end ---- */

void server_check_drained(struct server *s)
{
    if (s->phase == SERVER_DRAINING && !s->jobs && http_exchange_count(s->http) == 0) {
        s->phase = SERVER_ENDED;
        loop_stop(s->loop);
    }
}

static void on_drain_timeout(void *ctx)
{
    struct server *s = ctx;
    if (s->phase == SERVER_DRAINING && s->jobs) {
        LOG_WARN(LOG_WHAT("drain timeout: cutting what is left"));
        api_generate_cut_all(s);
        s->phase = SERVER_ENDED;
        loop_timer_start(s->drain_timer, CUT_GRACE_MS, 0);
        return;
    }
    s->phase = SERVER_ENDED;
    loop_stop(s->loop);
}

static void drain(struct server *s, int timeout_ms)
{
    s->phase = SERVER_DRAINING;
    service_stopping(s->service, timeout_ms);
    if (s->engine)
        engine_drain(s->engine);
    api_generate_drain(s);
    api_live_drain(s);
    http_drain(s->http);
    loop_timer_start(s->drain_timer, timeout_ms, 0);
    server_check_drained(s);
}

static void on_signal(void *ctx)
{
    struct server *s = ctx;
    if (s->phase == SERVER_LOADING || s->phase == SERVER_READY) {
        LOG_INFO(LOG_WHAT("stopping: running answers may finish"),
                 LOG_INT("drain_ms", s->opt->drain_ms));
        drain(s, s->opt->drain_ms);
    } else {
        LOG_INFO(LOG_WHAT("stopping at once"));
        s->phase = SERVER_ENDED;
        loop_stop(s->loop);
    }
}

/* Of an operator, or of a terminal that was closed. */
static void on_hangup(void *ctx)
{
    struct server *s = ctx;
    if (s->had_terminal && !terminal_is_here()) {
        LOG_INFO(LOG_WHAT("the terminal was closed"));
        on_signal(s);
    } else {
        reload_ask(s);
    }
}

void server_device_lost(struct server *s, const struct err *e)
{
    if (s->result == STATUS_DEVICE_LOST)
        return;
    s->result = STATUS_DEVICE_LOST;
    s->result_err = *e;
    LOG_ERROR(LOG_WHAT("the device failed, ending"), LOG_STR("why", e->msg));
    if (s->phase == SERVER_READY)
        drain(s, LOST_DRAIN_MS);
}

/* ---- the start ---- */

static void on_engine(void *ctx)
{
    struct server *s = ctx;
    if (s->engine)
        api_generate_on_engine(s);
}

static void notify(void *ctx)
{
    loop_wake(ctx);
}

static enum status has_adapter(void *ctx, const char *name)
{
    const struct server *s = ctx;
    return engine_adapter_find(s->engine, name, NULL);
}

static enum status adapter_at(void *ctx, int64_t index, char name[LIMIT_NAME_BYTES + 1])
{
    const struct server *s = ctx;
    struct engine_adapter_info *list;
    int count = served_list(s->engine, false, &list);
    if (count < 0)
        return STATUS_NO_MEMORY;
    bool found = index < count;
    if (found)
        memcpy(name, list[index].name, sizeof list[index].name);
    mem_free(list);
    return found ? STATUS_OK : STATUS_ADAPTER_NOT_FOUND;
}

static int default_uses(void *ctx, struct engine_adapter_use *uses)
{
    const struct server *s = ctx;
    return keeper_names_scales(keeper_names_of(s->keeper), uses);
}

static enum status profile_of(void *ctx, const char *name, struct profile **out,
                              uint64_t *generation)
{
    const struct server *s = ctx;
    return keeper_names_profile(keeper_names_of(s->keeper), name, out, generation);
}

static void add_base_name(struct server *s, const char *name)
{
    for (int i = 0; i < s->api.base_count; i++) {
        if (strcmp(s->base_names[i], name) == 0)
            return;
    }
    s->base_names[s->api.base_count++] = name;
}

/* The directory's name, and the one that was configured before it. A directory of the hub's cache
 * is named after a commit, so there the repository's names take its place. */
static enum status name_base(struct server *s, struct err *e)
{
    char commit[HUB_HASH_BYTES];
    const char *dir = s->info.model_dir;
    if (hub_snapshot_parse(dir, s->hub_name, commit))
        dir = s->hub_name;
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/')
        n--;
    size_t begin = n;
    while (begin > 0 && dir[begin - 1] != '/')
        begin--;
    s->base_name = mem_strndup(dir + begin, n - begin);
    if (!s->base_name)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    const char *served = s->opt->served_name;
    s->api.base_names = s->base_names;
    s->api.base_count = 0;
    if (served && *served)
        add_base_name(s, served);
    if (*s->hub_name)
        add_base_name(s, s->hub_name);
    add_base_name(s, s->base_name);
    return STATUS_OK;
}

static void make_fingerprint(struct server *s)
{
    char text[256];
    snprintf(text, sizeof text, "%s %s %s %lld %zu", s->base_name, s->info.arch, s->info.backend,
             (long long)s->info.parameters, s->info.weight_bytes);
    uint8_t digest[SHA256_BYTES];
    char hex[65];
    sha256_of(text, strlen(text), digest);
    sha256_hex(digest, hex);
    snprintf(s->fingerprint, sizeof s->fingerprint, "fp_%.12s", hex);
}

static enum status take_engine(struct server *s, struct engine *engine, struct err *e)
{
    s->engine = engine;
    s->text = engine_get_text(engine);
    engine_get_info(engine, &s->info);
    enum status st = name_base(s, e);
    if (st != STATUS_OK)
        return st;
    make_fingerprint(s);
    s->api.text = s->text;
    s->api.vocab = s->info.vocab;
    s->api.info = &s->info;
    s->api.defaults = s->info.defaults;
    if (!reload_set_default_adapter(s, s->opt->default_adapter))
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    s->api.has_adapter = has_adapter;
    s->api.adapter_at = adapter_at;
    s->api.default_uses = default_uses;
    s->api.profile_of = profile_of;
    s->api.ctx = s;
    if (s->api.default_adapter && has_adapter(s, s->api.default_adapter) != STATUS_OK)
        return err_set(e, STATUS_INVALID, "default-adapter",
                       "the default adapter '%s' does not exist", s->api.default_adapter);
    if (s->opt->on_ready)
        return s->opt->on_ready(s->opt->ctx, s->listeners[0].port, engine, s->base_names[0], e);
    return STATUS_OK;
}

static void on_loaded(void *ctx)
{
    struct loader *l = ctx;
    struct server *s = l->server;
    pthread_join(l->thread, NULL);
    enum status st = l->status;
    if (st == STATUS_OK && s->phase == SERVER_LOADING)
        st = take_engine(s, l->engine, &l->err);
    else
        s->engine = l->engine;
    if (st != STATUS_OK) {
        s->result = st;
        s->result_err = l->err;
        s->phase = SERVER_ENDED;
        loop_stop(s->loop);
    } else if (s->phase == SERVER_LOADING) {
        s->phase = SERVER_READY;
        keeper_start(s->keeper);
        service_ready(s->service);
        reload_ready(s);
    } else {
        server_check_drained(s);
    }
    loop_waker_destroy(l->done);
    s->loader = NULL;
    mem_free(l);
}

static void *load(void *arg)
{
    struct loader *l = arg;
    struct server *s = l->server;
    l->status = s->opt->open(s->opt->ctx, notify, s->engine_waker, &l->engine, &l->err);
    if (l->status == STATUS_OK)
        l->status = keeper_open(s->keeper, l->engine, &l->err);
    loop_wake(l->done);
    return NULL;
}

static enum status start_loader(struct server *s, struct err *e)
{
    struct loader *l = mem_calloc(1, sizeof *l);
    if (!l)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    l->server = s;
    l->done = loop_waker_create(s->loop, on_loaded, l);
    if (!l->done || pthread_create(&l->thread, NULL, load, l) != 0) {
        loop_waker_destroy(l->done);
        mem_free(l);
        return err_set(e, STATUS_NO_MEMORY, NULL, "cannot start a thread");
    }
    s->loader = l;
    return STATUS_OK;
}

static void on_tick(void *ctx)
{
    struct server *s = ctx;
    int64_t now = clock_now_ns();
    api_generate_on_tick(s, now);
    api_live_on_tick(s, now);
    server_check_drained(s);
}

bool server_is_stalled(const struct server *s, const struct engine_stats *stats)
{
    return stats->running + stats->waiting > 0 &&
           clock_now_ns() - stats->last_beat_ns > (int64_t)s->opt->stall_ms * MS_TO_NS;
}

/* As many connections as descriptors allow. */
static int fit_connections(int wanted)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return wanted;
    rlim_t need = (rlim_t)wanted * 2 + DESCRIPTORS_REST;
    if (r.rlim_cur < need) {
        struct rlimit raised = r;
        raised.rlim_cur = r.rlim_max < need ? r.rlim_max : need;
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
            r = raised;
    }
    if (r.rlim_cur >= need)
        return wanted;
    int fit = r.rlim_cur > DESCRIPTORS_REST ? (int)(r.rlim_cur - DESCRIPTORS_REST) / 2 : 0;
    fit = fit < 4 ? 4 : fit;
    LOG_WARN(LOG_WHAT("the limit of open files allows fewer connections"),
             LOG_INT("connections", fit), LOG_INT("wanted", wanted));
    return fit;
}

static enum status take_listeners(struct server *s, struct err *e)
{
    const struct server_options *o = s->opt;
    s->listener_count = o->listener_count > 0 ? o->listener_count : 1;
    if (o->listener_count == 0)
        return listener_open(o->host, o->port, s->listeners, e);
    CHECK(o->listener_count <= LIMIT_LISTENERS);
    memcpy(s->listeners, o->listeners, (size_t)o->listener_count * sizeof *s->listeners);
    return STATUS_OK;
}

/* Names of hosts are looked at where a page in a browser of this machine could get in by a name of
 * its own: through a loopback port; and where nobody but this machine comes. */
static bool wants_known_hosts(const struct server *s)
{
    bool all = true;
    for (int i = 0; i < s->listener_count; i++) {
        const struct listener *l = &s->listeners[i];
        if (l->loopback && l->port > 0)
            return true;
        all = all && l->loopback;
    }
    return all;
}

static enum status start_http(struct server *s, struct err *e)
{
    const struct server_options *o = s->opt;
    enum status st = take_listeners(s, e);
    if (st != STATUS_OK)
        return st;
    s->guard = (struct guard){
        .loopback = wants_known_hosts(s),
        .hosts = o->hosts,
        .host_count = o->host_count,
        .origins = o->origins,
        .origin_count = o->origin_count,
    };
    struct http_limits limits = o->http;
    limits.connections = fit_connections(limits.connections);
    if (limits.reserved > limits.connections / 4)
        limits.reserved = limits.connections / 4;
    struct http_handlers handlers = {
        .ctx = s,
        .on_headers = on_headers,
        .on_request = on_request,
        .on_room = on_room,
        .on_gone = on_gone,
        .on_end = on_end,
        .write_error = write_error,
    };
    st = http_start(s->loop, s->listeners, s->listener_count, &limits, &handlers, &s->http, e);
    for (int i = 0; st != STATUS_OK && i < s->listener_count; i++)
        close(s->listeners[i].fd);
    return st;
}

static enum status start(struct server *s, struct err *e)
{
    enum status st = STATUS_OK;
    if (s->opt->api_key_file && *s->opt->api_key_file)
        st = api_key_load(s->opt->api_key_file, &s->keys, e);
    if (st == STATUS_OK)
        st = loop_create(&s->loop, e);
    if (st != STATUS_OK)
        return st;
    s->tick = loop_timer_create(s->loop, on_tick, s);
    s->drain_timer = loop_timer_create(s->loop, on_drain_timeout, s);
    s->engine_waker = loop_waker_create(s->loop, on_engine, s);
    if (!s->tick || !s->drain_timer || !s->engine_waker || !api_live_init(s))
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    st = keeper_create(s->loop, &s->opt->adapters, &s->keeper, e);
    if (st == STATUS_OK)
        st = loop_on_stop_signal(s->loop, on_signal, s, e);
    if (st == STATUS_OK)
        st = loop_on_hangup(s->loop, on_hangup, s, e);
    if (st == STATUS_OK)
        st = start_http(s, e);
    if (st == STATUS_OK)
        st = service_create(s, &s->service, e);
    if (st == STATUS_OK)
        st = start_loader(s, e);
    if (st != STATUS_OK)
        return st;
    int tick_ms = s->opt->ping_ms / 4 < TICK_MS ? s->opt->ping_ms / 4 + 1 : TICK_MS;
    loop_timer_start(s->tick, tick_ms, tick_ms);
    if (s->opt->on_listening)
        s->opt->on_listening(s->opt->ctx, s->listeners[0].port);
    return STATUS_OK;
}

/* Pool work reads the engine's text, so it ends first; the engine calls the waker, so it ends
 * before the loop. */
static void stop(struct server *s)
{
    http_stop(s->http);
    keeper_stop(s->keeper);
    while (api_generate_release(s) || api_text_is_busy(s) || listing_is_busy(s) ||
           keeper_is_busy(s->keeper) || s->reload.busy)
        loop_turn(s->loop);
    api_adapters_release(s);
    keeper_destroy(s->keeper);
    if (s->engine)
        engine_close(s->engine);
    loop_waker_destroy(s->engine_waker);
    loop_timer_destroy(s->tick);
    loop_timer_destroy(s->drain_timer);
    service_destroy(s->service);
    api_live_deinit(s);
    loop_destroy(s->loop);
    id_map_deinit(&s->choices);
    fair_deinit(&s->fair);
    strbuf_deinit(&s->scratch);
    metrics_gateway_deinit(&s->gateway);
    api_key_free(&s->keys);
    reload_deinit(&s->reload);
    mem_free(s->base_name);
    mem_free(s);
}

enum status server_run(const struct server_options *opt, struct err *e)
{
    struct server *s = mem_calloc(1, sizeof *s);
    if (!s)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    s->settings = *opt;
    s->opt = &s->settings;
    s->had_terminal = terminal_is_here();
    s->started_unix_s = clock_unix_s();
    s->fair =
        (struct fair){.seats = opt->seats, .reserve = opt->seats_reserve, .queue_max = opt->queue};
    strbuf_init(&s->scratch, SCRATCH_BYTES);
    enum status st = start(s, e);
    if (st == STATUS_OK) {
        loop_run(s->loop);
        st = s->result;
        if (st != STATUS_OK && e)
            *e = s->result_err;
    }
    /* A loader cannot be stopped and still uses the server: leave both to the process's end. */
    if (s->loader)
        return st;
    stop(s);
    return st;
}
