/* chat_local: a model of our own answers. One turn: render and tokenise the conversation, submit,
 * hand text events on as they come. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/engine.h"
#include "engine/engine_text.h"
#include "server/chat.h"
#include "server/engine_setup.h"

#define EVENTS_AT_ONCE 8
#define WAIT_NS        50000000 /* so that an interrupt is seen soon */

struct chat_local {
    struct chat_link link; /* first */
    struct engine *engine; /* owned */
    pthread_mutex_t lock;  /* guards `news` */
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

static enum status tokenise(struct chat_local *c, const cJSON *messages, struct token_buf *prompt,
                            struct err *e)
{
    cJSON *vars = cJSON_CreateObject();
    cJSON *copy = cJSON_Duplicate(messages, true);
    enum status st = STATUS_OK;
    if (!vars || !copy || !cJSON_AddItemToObject(vars, "messages", copy) ||
        !cJSON_AddTrueToObject(vars, "add_generation_prompt"))
        st = err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    if (st == STATUS_OK)
        st = engine_text_chat(engine_get_text(c->engine), vars, prompt, e);
    cJSON_Delete(vars);
    return st;
}

static enum status submit(struct chat_local *c, const struct chat_ask *ask,
                          const struct token_buf *prompt, uint64_t *id, struct err *e)
{
    struct engine_info info;
    engine_get_info(c->engine, &info);
    struct engine_request r = {
        .request_id = "run",
        .prompt = prompt->ids,
        .prompt_count = (int)prompt->count,
        .sampling = info.defaults,
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
    enum status st = tokenise(c, ask->messages, &prompt, e);
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
    st = engine_setup_directories(o, c->engine, e);
    if (st != STATUS_OK) {
        close_link(&c->link);
        return st;
    }
    snprintf(c->link.name, sizeof c->link.name, "%.400s", o->model);
    *out = &c->link;
    return STATUS_OK;
}
