#include "server/reload.h"

#include <string.h>

#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "server/server_state.h"

/* Preparing threads read the name that was there when they began. A change is a person's doing, so
 * the old ones are few and stay to the end. */
struct retired_name {
    struct retired_name *next;
    char name[LIMIT_NAME_BYTES + 1];
};

bool reload_set_default_adapter(struct server *s, const char *name)
{
    const char *now = s->api.default_adapter;
    if (!name || !*name) {
        s->api.default_adapter = NULL;
        return true;
    }
    if (now && strcmp(now, name) == 0)
        return true;
    struct retired_name *kept = mem_calloc(1, sizeof *kept);
    if (!kept)
        return false;
    size_t n = strnlen(name, LIMIT_NAME_BYTES);
    memcpy(kept->name, name, n);
    kept->next = s->reload.retired;
    s->reload.retired = kept;
    s->api.default_adapter = kept->name;
    return true;
}

void reload_deinit(struct reload *r)
{
    while (r->retired) {
        struct retired_name *next = r->retired->next;
        mem_free(r->retired);
        r->retired = next;
    }
    api_key_free(&r->keys);
}

/* Pool thread. */
static void read_again(void *ctx)
{
    struct server *s = ctx;
    struct reload *r = &s->reload;
    r->status = s->settings.reload(s->settings.ctx, &r->next, &r->err);
    if (r->status == STATUS_OK && r->next.api_key_file && *r->next.api_key_file)
        r->status = api_key_load(r->next.api_key_file, &r->keys, &r->err);
}

static void check_default_adapter(struct server *s)
{
    struct reload *r = &s->reload;
    const char *name = r->next.default_adapter;
    if (r->status != STATUS_OK || !name || !*name)
        return;
    r->status = engine_adapter_find(s->engine, name, NULL);
    if (r->status != STATUS_OK)
        err_set(&r->err, r->status, "default-adapter",
                "default-adapter: the adapter '%.64s' does not exist", name);
}

static void take_keys(struct server *s)
{
    struct api_keys *now = &s->keys;
    struct api_keys *next = &s->reload.keys;
    bool same = now->count == next->count &&
                (now->count == 0 ||
                 memcmp(now->digests, next->digests, now->count * sizeof *now->digests) == 0);
    if (!same)
        LOG_INFO(LOG_WHAT("API keys are others now"), LOG_INT("keys", next->count));
    struct api_keys old = *now;
    *now = *next;
    *next = old;
    api_key_free(next);
}

static void apply(struct server *s, const struct server_options *now)
{
    struct server_options *o = &s->settings;
    o->hosts = s->guard.hosts = now->hosts;
    o->host_count = s->guard.host_count = now->host_count;
    o->origins = s->guard.origins = now->origins;
    o->origin_count = s->guard.origin_count = now->origin_count;
    o->api_key_file = now->api_key_file;
    o->default_adapter = now->default_adapter;
    o->drain_ms = now->drain_ms;
    o->log_slow_ms = now->log_slow_ms;
    o->log_prompts = now->log_prompts;
    o->queue = s->fair.queue_max = now->queue;
    o->http = now->http;
    http_set_limits(s->http, &o->http);
    if (o->adapter_memory != now->adapter_memory)
        engine_adapter_memory(s->engine, now->adapter_memory);
    o->adapter_memory = now->adapter_memory;
    take_keys(s);
    if (!reload_set_default_adapter(s, now->default_adapter))
        LOG_ERROR(LOG_WHAT("out of memory: the default adapter stays"));
}

static void on_read(void *ctx)
{
    struct server *s = ctx;
    struct reload *r = &s->reload;
    struct server_options now;
    r->busy = false;
    if (s->phase == SERVER_ENDED || !s->engine)
        r->status = STATUS_CANCELLED;
    else
        check_default_adapter(s);
    if (r->status == STATUS_OK) {
        s->settings.reload_end(s->settings.ctx, true, &now);
        apply(s, &now);
    } else {
        if (r->status != STATUS_CANCELLED)
            LOG_ERROR(LOG_WHAT("settings were not read again, everything stays as it was"),
                      LOG_STR("why", r->err.msg));
        s->settings.reload_end(s->settings.ctx, false, NULL);
        api_key_free(&r->keys);
    }
    if (s->phase != SERVER_READY)
        return;
    service_ready(s->service);
    reload_ready(s);
}

void reload_ask(struct server *s)
{
    struct reload *r = &s->reload;
    if (!s->settings.reload || s->phase > SERVER_READY) {
        LOG_INFO(LOG_WHAT("settings are not read again now"));
        return;
    }
    if (r->busy || s->phase == SERVER_LOADING) {
        r->again = true;
        return;
    }
    service_reloading(s->service);
    r->busy = loop_pool(s->loop, read_again, on_read, s);
    if (!r->busy) {
        LOG_ERROR(LOG_WHAT("out of memory: settings were not read again"));
        service_ready(s->service);
    }
}

void reload_ready(struct server *s)
{
    bool again = s->reload.again;
    s->reload.again = false;
    if (again)
        reload_ask(s);
}
