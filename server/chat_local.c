/* chat_local: a model of our own answers. One turn: render and tokenise the conversation, submit,
 * hand text events on as they come. A voice that is one adapter speaks by its profile, as it would
 * in the server. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "engine/base/vec.h"
#include "engine/engine.h"
#include "engine/engine_text.h"
#include "server/chat.h"
#include "server/engine_setup.h"
#include "server/profile.h"

#define EVENTS_AT_ONCE 8
#define WAIT_NS        50000000 /* so that an interrupt is seen soon */

struct manners {
    char name[LIMIT_NAME_BYTES + 1];
    struct profile *profile; /* owned */
};

struct chat_local {
    struct chat_link link;   /* first */
    struct engine *engine;   /* owned */
    struct manners *manners; /* owned, [count]: of adapters that have a profile */
    size_t count;
    size_t cap;
    pthread_mutex_t lock; /* guards `news` */
    pthread_cond_t woken;
    bool news;
};

static void on_notify(void *ctx)
{
    struct chat_local *c = ctx;
    pthread_mutex_lock(&c->lock);
    c->news = true;
    pthread_cond_signal(&c->woken);
    pthread_mutex_unlock(&c->lock);
}

static void wait_news(struct chat_local *c)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += WAIT_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&c->lock);
    if (!c->news)
        pthread_cond_timedwait(&c->woken, &c->lock, &until);
    c->news = false;
    pthread_mutex_unlock(&c->lock);
}

/* ---- profiles ---- */

static const struct profile *profile_of(const struct chat_local *c, const char *name)
{
    for (size_t i = 0; i < c->count; i++) {
        if (strcmp(c->manners[i].name, name) == 0)
            return c->manners[i].profile;
    }
    return NULL;
}

/* A blend has nobody's manners. */
static const struct profile *profile_of_voice(const struct chat_local *c,
                                              const struct chat_voice *v)
{
    return v->count == 1 ? profile_of(c, v->uses[0].name) : NULL;
}

static enum status read_profile(struct chat_local *c, const struct engine_adapter_info *a,
                                struct err *e)
{
    struct engine_info info;
    struct profile *p;
    engine_get_info(c->engine, &info);
    enum status st =
        profile_load(a->path, ".", NULL, engine_get_text(c->engine), &info.defaults, &p, e);
    if (st != STATUS_OK || !p)
        return st == STATUS_OK ? st : err_prefix(e, "adapter %s", a->name);
    if (!VEC_RESERVE(c->manners, c->cap, c->count + 1)) {
        profile_unref(p);
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    }
    struct manners *m = &c->manners[c->count++];
    memcpy(m->name, a->name, sizeof m->name);
    m->profile = p;
    return STATUS_OK;
}

/* Of the adapters that are there. One whose profile is refused is the caller's error, but `leave`
 * leaves it out, with a line in the log. */
static enum status read_profiles(struct chat_local *c, bool leave, struct err *e)
{
    int count = engine_adapters(c->engine, NULL, 0);
    struct engine_adapter_info *list = count ? mem_calloc((size_t)count, sizeof *list) : NULL;
    if (count > 0 && !list)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    engine_adapters(c->engine, list, count);
    enum status st = STATUS_OK;
    for (int i = 0; st == STATUS_OK && i < count; i++) {
        if (profile_of(c, list[i].name))
            continue;
        st = read_profile(c, &list[i], e);
        if (st == STATUS_OK || st == STATUS_NO_MEMORY || !leave)
            continue;
        LOG_ERROR(LOG_WHAT("adapter refused"), LOG_STR("adapter", list[i].name),
                  LOG_STR("path", list[i].path), LOG_STR("why", e->msg));
        st = engine_adapter_remove(c->engine, list[i].name, e);
    }
    mem_free(list);
    return st;
}

/* ---- a turn ---- */

static bool begins_with_system(const cJSON *messages)
{
    const cJSON *role = cJSON_GetObjectItemCaseSensitive(messages->child, "role");
    return cJSON_IsString(role) && strcmp(role->valuestring, "system") == 0;
}

static bool add_system(cJSON *messages, const char *text)
{
    cJSON *m = cJSON_CreateObject();
    if (m && cJSON_AddStringToObject(m, "role", "system") &&
        cJSON_AddStringToObject(m, "content", text) && cJSON_InsertItemInArray(messages, 0, m))
        return true;
    cJSON_Delete(m);
    return false;
}

static enum status tokenise(struct chat_local *c, const struct chat_ask *ask,
                            struct token_buf *prompt, struct err *e)
{
    const struct profile *p = profile_of_voice(c, &ask->voice);
    cJSON *vars = cJSON_CreateObject();
    cJSON *copy = cJSON_Duplicate(ask->messages, true);
    enum status st = STATUS_OK;
    if (!vars || !copy || !cJSON_AddItemToObject(vars, "messages", copy) ||
        !cJSON_AddTrueToObject(vars, "add_generation_prompt") ||
        (p && p->system && !begins_with_system(copy) && !add_system(copy, p->system)))
        st = err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    if (st == STATUS_OK)
        st = engine_text_chat(p && p->text ? p->text : engine_get_text(c->engine), vars, prompt, e);
    cJSON_Delete(vars);
    return st;
}

static enum status submit(struct chat_local *c, const struct chat_ask *ask,
                          const struct token_buf *prompt, uint64_t *id, struct err *e)
{
    struct engine_info info;
    engine_get_info(c->engine, &info);
    const struct profile *p = profile_of_voice(c, &ask->voice);
    struct engine_request r = {
        .request_id = "run",
        .prompt = prompt->ids,
        .prompt_count = (int)prompt->count,
        .sampling = p && p->has_sampling ? p->sampling : info.defaults,
        .max_tokens = (int)ask->max_tokens,
        .cache_prompt = true,
        .adapter_count = ask->voice.count,
    };
    if (ask->temperature >= 0)
        r.sampling.temperature = (float)ask->temperature;
    if (ask->top_p > 0)
        r.sampling.top_p = (float)ask->top_p;
    r.sampling.seed = ask->seed >= 0 ? (uint64_t)ask->seed : (uint64_t)clock_now_ns();
    r.sampling.logprobs = -1;
    memcpy(r.adapters, ask->voice.uses, sizeof r.adapters);
    /* A long conversation leaves less room than --max-tokens. */
    int room = info.ctx_max - r.prompt_count;
    if (room > 0 && r.max_tokens > room)
        r.max_tokens = room;
    return engine_submit(c->engine, &r, id, NULL, e);
}

static enum status hear(struct chat_local *c, uint64_t id, const struct chat_ask *ask,
                        struct chat_answer *answer, struct err *e)
{
    struct engine_event *events = mem_alloc(EVENTS_AT_ONCE, sizeof *events);
    enum status st = STATUS_OK;
    struct engine_usage usage = {0};
    if (!events) {
        engine_cancel(c->engine, id);
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    }
    for (bool ended = false; !ended;) {
        if (!answer->cut && *ask->stop) {
            engine_cancel(c->engine, id);
            answer->cut = true;
        }
        uint64_t ready[4];
        engine_ready(c->engine, ready, 4);
        int n = engine_read(c->engine, id, events, EVENTS_AT_ONCE);
        for (int i = 0; i < n; i++) {
            const struct engine_event *v = &events[i];
            if (v->text_len > 0) {
                strbuf_append(&answer->text, v->text, (size_t)v->text_len);
                ask->show(ask->ctx, v->text, (size_t)v->text_len, false);
            }
            ended = v->kind == ENGINE_EVENT_DONE || v->kind == ENGINE_EVENT_ERROR ||
                    v->kind == ENGINE_EVENT_CANCELLED;
            if (ended)
                usage = v->usage;
            if (v->kind == ENGINE_EVENT_ERROR)
                st = err_set(e, v->err.code, v->err.param, "%s", v->err.msg);
        }
        if (n == 0)
            wait_news(c);
    }
    mem_free(events);
    double s = (double)usage.decode_ns / 1e9;
    answer->tokens = usage.completion_tokens;
    answer->tokens_per_s = s > 0 ? (usage.completion_tokens - 1) / s : 0;
    answer->first_ms = (double)(usage.queue_ns + usage.prompt_ns) / 1e6;
    return st;
}

static enum status say(struct chat_link *l, const struct chat_ask *ask, struct chat_answer *answer,
                       struct err *e)
{
    struct chat_local *c = (struct chat_local *)l;
    struct token_buf prompt = {0};
    uint64_t id;
    enum status st = tokenise(c, ask, &prompt, e);
    if (st == STATUS_OK)
        st = submit(c, ask, &prompt, &id, e);
    if (st == STATUS_OK)
        st = hear(c, id, ask, answer, e);
    token_buf_deinit(&prompt);
    return st;
}

static enum status voices(struct chat_link *l, struct strbuf *names, struct err *e)
{
    struct chat_local *c = (struct chat_local *)l;
    int count = engine_adapters(c->engine, NULL, 0);
    struct engine_adapter_info *list = count ? mem_calloc((size_t)count, sizeof *list) : NULL;
    if (count > 0 && !list)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    int n = engine_adapters(c->engine, list, count);
    for (int i = 0; i < n && i < count; i++)
        strbuf_printf(names, "%s\n", list[i].name);
    mem_free(list);
    return STATUS_OK;
}

static void free_local(struct chat_local *c)
{
    pthread_cond_destroy(&c->woken);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
}

static void close_link(struct chat_link *l)
{
    struct chat_local *c = (struct chat_local *)l;
    for (size_t i = 0; i < c->count; i++)
        profile_unref(c->manners[i].profile);
    mem_free(c->manners);
    engine_close(c->engine);
    free_local(c);
}

enum status chat_local_open(const struct options *o, struct chat_link **out, struct err *e)
{
    static const struct chat_link_ops ops = {say, voices, close_link};
    struct chat_local *c = mem_calloc(1, sizeof *c);
    if (!c)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    c->link.ops = &ops;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->woken, NULL);
    enum status st = engine_setup_open(o, on_notify, c, NULL, &c->engine, e);
    if (st != STATUS_OK) {
        free_local(c);
        return st;
    }
    st = read_profiles(c, false, e);
    if (st == STATUS_OK)
        st = engine_setup_directories(o, c->engine, e);
    if (st == STATUS_OK)
        st = read_profiles(c, true, e);
    if (st != STATUS_OK) {
        close_link(&c->link);
        return st;
    }
    snprintf(c->link.name, sizeof c->link.name, "%.400s", o->model);
    *out = &c->link;
    return STATUS_OK;
}
