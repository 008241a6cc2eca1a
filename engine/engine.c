/* engine: building an engine from its parts, its thread, and its end. The loop's phases are in
 * engine_step.c. */
#include "engine/engine.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "engine/engine_internal.h"

/* An idle engine shows that it lives at least this often. */
#define BEAT_S 1

int64_t engine_now(const struct engine *e)
{
    return e->parts.now_ns ? e->parts.now_ns(e->parts.now_ctx) : clock_now_ns();
}

void engine_signal_locked(struct engine *e)
{
    e->signal = true;
    pthread_cond_signal(&e->wake);
}

void engine_signal(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    engine_signal_locked(e);
    pthread_mutex_unlock(&e->lock);
}

/* Sleeps until something happens, for a beat at most. */
static void wait_for_work(struct engine *e)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += BEAT_S;
    pthread_mutex_lock(&e->lock);
    while (!e->signal && pthread_cond_timedwait(&e->wake, &e->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&e->lock);
}

static void *thread_main(void *arg)
{
    struct engine *e = arg;
    pthread_setname_np(pthread_self(), "engine");
    while (!e->closed)
        if (!engine_turn(e) && !e->closed)
            wait_for_work(e);
    return NULL;
}

static double known_or(double v, double fallback)
{
    return isnan(v) || v < 0 ? fallback : v;
}

static void fill_info(struct engine *e)
{
    static const char *const arch[ARCH_COUNT] = {"llama", "mistral", "qwen2", "qwen3"};
    const struct model *m = e->parts.model;
    const struct model_defaults *d = &m->defaults;
    bool embeds = m->pooling.kind != POOLING_NONE;
    e->info = (struct engine_info){
        .model_dir = e->model_dir,
        .arch = arch[m->shape.arch],
        .backend = e->parts.backend->ops->name,
        .parameters = m->parameters,
        .weight_bytes = m->weight_bytes,
        .vocab = m->shape.vocab,
        .ctx_max = e->opt.ctx_max,
        .seqs_max = e->opt.seqs_max,
        .kv_pages = e->opt.kv_pages,
        .embed_width = embeds ? m->shape.hidden : 0,
        .embed_why = m->pooling.why.msg,
        .embed_normalize = m->pooling.normalize,
        .defaults = {.temperature = (float)known_or(d->temperature, 1),
                     .top_p = (float)known_or(d->top_p, 1),
                     .min_p = (float)known_or(d->min_p, 0),
                     .typical_p = 1,
                     .top_k = d->top_k > 0 ? d->top_k : 0,
                     .repetition_penalty = (float)known_or(d->repetition_penalty, 1),
                     .logprobs = -1},
    };
}

/* Everything the step path touches; freed by free_all whether or not it came to be. */
static enum status allocate(struct engine *e, const struct backend_plan *plan)
{
    size_t seqs = (size_t)e->opt.seqs_max, live = (size_t)e->live_max;
    e->slot_count = 2 * e->live_max;
    e->waiting = mem_calloc(live, sizeof(struct seq *));
    e->running = mem_calloc(seqs, sizeof(struct seq *));
    e->sched_running = mem_calloc(seqs, sizeof *e->sched_running);
    e->sched_waiting = mem_calloc(LIMIT_SCHED_WINDOW, sizeof *e->sched_waiting);
    e->window = mem_calloc(LIMIT_SCHED_WINDOW, sizeof(struct seq *));
    e->found = mem_calloc((size_t)sched_pages_for(e->opt.ctx_max), sizeof *e->found);
    e->results = mem_calloc((size_t)plan->outs_max, sizeof *e->results);
    e->state = mem_calloc((size_t)e->parts.model->shape.hidden, sizeof *e->state);
    e->slots = mem_calloc((size_t)e->slot_count, sizeof *e->slots);
    e->ring = mem_calloc(LIMIT_STEPS_KEPT, sizeof *e->ring);
    strbuf_init(&e->piece, e->parts.detok.text_max + DETOK_END_BYTES);
    bool piece = strbuf_reserve(&e->piece, e->piece.max) != NULL;
    if (!e->waiting || !e->running || !e->sched_running || !e->sched_waiting || !e->window ||
        !e->found || !e->results || !e->state || !e->slots || !e->ring || !piece)
        return STATUS_NO_MEMORY;
    for (int i = 0; i < e->slot_count; i++)
        e->slots[i].next_free = i + 1 < e->slot_count ? i + 1 : -1;
    enum status st = kv_pool_init(&e->pool, e->opt.kv_pages);
    if (st == STATUS_OK)
        st = prefix_cache_init(&e->prefix, &e->pool);
    if (st == STATUS_OK)
        st = sched_plan_init(&e->plan, &e->limits, LIMIT_SCHED_WINDOW);
    if (st == STATUS_OK && e->parts.tokens.bytes)
        st = token_trie_create(e->parts.model->shape.vocab, &e->parts.tokens, &e->trie);
    e->flight_max = e->parts.backend->ops->step_draw ? BACKEND_FLIGHTS : 1;
    for (int i = 0; i < e->flight_max && st == STATUS_OK; i++) {
        struct engine_flight *f = &e->flights[i];
        f->seqs = mem_calloc(seqs, sizeof(struct seq *));
        f->shares = mem_calloc(seqs, sizeof *f->shares);
        st = f->seqs && f->shares ? batch_init(&f->batch, plan->rows_max, plan->seqs_max,
                                               plan->outs_max, plan->ctx_max)
                                  : STATUS_NO_MEMORY;
    }
    return st;
}

static void free_arrays(struct engine *e)
{
    for (int i = 0; i < BACKEND_FLIGHTS; i++) {
        batch_deinit(&e->flights[i].batch);
        mem_free(e->flights[i].shares);
        mem_free(e->flights[i].seqs);
    }
    sched_plan_deinit(&e->plan);
    prefix_cache_deinit(&e->prefix);
    kv_pool_deinit(&e->pool);
    strbuf_deinit(&e->piece);
    mem_free(e->ring);
    mem_free(e->slots);
    mem_free(e->results);
    mem_free(e->state);
    mem_free(e->found);
    mem_free(e->window);
    mem_free(e->sched_waiting);
    mem_free(e->sched_running);
    mem_free(e->running);
    mem_free(e->waiting);
    mem_free(e->model_dir);
    token_trie_destroy(e->trie);
    grammar_cache_deinit(&e->grammars);
}

static bool init_locks(struct engine *e)
{
    pthread_condattr_t attr;
    if (!grammar_cache_init(&e->grammars, LIMIT_GRAMMAR_CACHE_BYTES))
        return false;
    if (pthread_mutex_init(&e->lock, NULL) != 0)
        goto deinit_cache;
    if (pthread_condattr_init(&attr) != 0)
        goto destroy_lock;
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int bad = pthread_cond_init(&e->wake, &attr);
    pthread_condattr_destroy(&attr);
    if (!bad)
        return true;
destroy_lock:
    pthread_mutex_destroy(&e->lock);
deinit_cache:
    grammar_cache_deinit(&e->grammars);
    return false;
}

static enum status out_of_memory(struct err *err)
{
    return err_set(err, STATUS_NO_MEMORY, NULL, "Out of memory for the engine.");
}

static void adapters_changed(void *ctx)
{
    engine_signal(ctx);
}

/* The backend is loaded: it knows its room. */
static enum status open_store(struct engine *e)
{
    const struct engine_parts *p = &e->parts;
    struct adapter_store_options opt = {
        .source = p->adapters,
        .base = p->model,
        .backend = p->backend,
        .slots_max = e->opt.slots_max,
        .host_budget = e->opt.host_adapter_bytes,
        .quant = e->opt.adapter_quant,
        .changed = adapters_changed,
        .changed_ctx = e,
    };
    if (p->backend->ops->adapter_room)
        e->limits.room = p->backend->ops->adapter_room(p->backend);
    enum status st = adapter_store_init(&e->store, &opt);
    if (st != STATUS_OK || !p->threaded)
        return st;
    st = adapter_loader_start(&e->loader, &e->store);
    if (st != STATUS_OK)
        adapter_store_deinit(&e->store);
    return st;
}

static void log_opened(const struct engine *e)
{
    const struct engine_options *o = &e->opt;
    LOG_INFO(LOG_WHAT("model loaded"), LOG_STR("dir", e->model_dir), LOG_STR("arch", e->info.arch),
             LOG_INT("parameters", e->info.parameters), LOG_STR("backend", e->info.backend),
             LOG_INT("ctx", o->ctx_max), LOG_INT("max_seqs", o->seqs_max),
             LOG_INT("kv_pages", o->kv_pages), LOG_INT("adapter_slots", o->slots_max));
}

enum status engine_create(const struct engine_options *opt, const struct engine_parts *parts,
                          struct engine **out, struct err *err)
{
    struct backend_plan plan;
    struct progress progress = {.fn = opt->progress, .ctx = opt->progress_ctx};
    enum status st = STATUS_NO_MEMORY;
    struct engine *e = mem_calloc(1, sizeof *e);
    if (!e)
        return out_of_memory(err);
    e->opt = *opt;
    e->parts = *parts;
    e->slot_free = 0;
    if (!init_locks(e)) {
        mem_free(e);
        return out_of_memory(err);
    }
    e->model_dir = mem_strdup(opt->model_dir ? opt->model_dir : "");
    if (!e->model_dir) {
        out_of_memory(err);
        goto free_engine;
    }
    st = engine_size(e, &plan, err);
    if (st != STATUS_OK)
        goto free_engine;
    st = allocate(e, &plan);
    if (st != STATUS_OK) {
        out_of_memory(err);
        goto free_engine;
    }
    st = parts->backend->ops->model_load(parts->backend, parts->model, &plan, &progress, err);
    if (st != STATUS_OK)
        goto free_engine;
    st = open_store(e);
    if (st != STATUS_OK) {
        out_of_memory(err);
        goto free_engine;
    }
    fill_info(e);
    e->now.kv_pages_total = e->opt.kv_pages;
    e->stats = e->now;
    e->stats.last_beat_ns = engine_now(e);
    if (parts->threaded && pthread_create(&e->thread, NULL, thread_main, e) != 0) {
        st = err_set(err, STATUS_NO_MEMORY, NULL, "Cannot start the engine thread.");
        goto deinit_store;
    }
    e->thread_started = parts->threaded;
    log_opened(e);
    *out = e;
    return STATUS_OK;

deinit_store:
    adapter_loader_stop(&e->loader);
    adapter_store_deinit(&e->store);
free_engine:
    free_arrays(e);
    pthread_cond_destroy(&e->wake);
    pthread_mutex_destroy(&e->lock);
    mem_free(e);
    return st;
}

void engine_drain(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->draining = true;
    engine_signal_locked(e);
    pthread_mutex_unlock(&e->lock);
}

void engine_close(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->draining = true;
    e->closing = true;
    engine_signal_locked(e);
    pthread_mutex_unlock(&e->lock);
    if (e->thread_started)
        pthread_join(e->thread, NULL);
    else
        engine_turn(e);
    /* The last turn ended every sequence; what is left in the table has unread events only. */
    for (int i = 0; i < e->slot_count; i++)
        if (e->slots[i].seq)
            seq_destroy(e->slots[i].seq);
    CHECK(kv_pool_held(&e->pool) == 0);
    kv_pool_check(&e->pool);
    adapter_loader_stop(&e->loader);
    adapter_store_deinit(&e->store);
    e->parts.backend->ops->close(e->parts.backend);
    if (e->parts.release)
        e->parts.release(e->parts.release_ctx);
    free_arrays(e);
    pthread_cond_destroy(&e->wake);
    pthread_mutex_destroy(&e->lock);
    mem_free(e);
}

void engine_get_info(const struct engine *e, struct engine_info *out)
{
    *out = e->info;
}

void engine_get_stats(struct engine *e, struct engine_stats *out)
{
    pthread_mutex_lock(&e->lock);
    *out = e->stats;
    out->waiting += e->inbox_count;
    out->requests_accepted = e->serial;
    pthread_mutex_unlock(&e->lock);
}

const struct engine_text *engine_get_text(const struct engine *e)
{
    return e->parts.text;
}
