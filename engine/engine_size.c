/* engine_size: how large everything is. Planned once from options, model and memory; nothing grows
 * later. */
#include "engine/engine_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/checked.h"

/* Without an explicit kv_pages each sequence is given room for this many tokens at most; longer
 * ones share what is there. */
#define POOL_TOKENS_A_SEQ 8192
/* Rows a step whose logits are wanted beside each sequence's last: bounds the logits' memory. */
#define SCORE_ROWS 32
/* A context that nobody asked for is halved down to this where memory is short. */
#define CTX_LEAST 1024
/* A swap costs a load and the recomputation of a page; this many steps make that small. */
#define ADAPTER_TURN_STEPS 128

size_t engine_memory_available(void)
{
    static const char key[] = "MemAvailable:";
    char line[256];
    size_t bytes = 0;
    FILE *f = fopen("/proc/meminfo", "re");
    if (!f)
        return 0;
    while (bytes == 0 && fgets(line, sizeof line, f))
        if (strncmp(line, key, sizeof key - 1) == 0)
            bytes = (size_t)strtoull(line + sizeof key - 1, NULL, 10) << 10;
    fclose(f);
    return bytes;
}

static enum status bad_option(struct err *err, const char *name, int value, int min, int max)
{
    return err_set(err, STATUS_INVALID, name, "%s is %d, but must be %d to %d.", name, value, min,
                   max);
}

static enum status check_options(const struct engine_options *o, struct err *err)
{
    if (o->seqs_max < 1 || o->seqs_max > LIMIT_SEQS)
        return bad_option(err, "max-seqs", o->seqs_max, 1, LIMIT_SEQS);
    if (o->rows_max < o->seqs_max || o->rows_max > LIMIT_ROWS)
        return bad_option(err, "step-rows", o->rows_max, o->seqs_max, LIMIT_ROWS);
    if (o->chunk_max < 0 || o->chunk_max > LIMIT_ROWS)
        return bad_option(err, "prefill-chunk", o->chunk_max, 0, LIMIT_ROWS);
    if (o->slots_max < 1 || o->slots_max > LIMIT_ADAPTER_SLOTS)
        return bad_option(err, "adapter-slots", o->slots_max, 1, LIMIT_ADAPTER_SLOTS);
    if (o->queue_max < 1 || o->queue_max > LIMIT_QUEUE_MAX)
        return bad_option(err, "queue", o->queue_max, 1, LIMIT_QUEUE_MAX);
    if (o->wait_bound_steps < 0)
        return bad_option(err, "wait-bound", o->wait_bound_steps, 0, INT32_MAX);
    if (o->adapter_turn_steps < 0)
        return bad_option(err, "adapter-turn", o->adapter_turn_steps, 0, INT32_MAX);
    if (o->kv_pages < 0 || o->kv_pages > LIMIT_KV_PAGES)
        return bad_option(err, "kv-pages", o->kv_pages, 0, LIMIT_KV_PAGES);
    return STATUS_OK;
}

static void choose_rows(struct engine_options *o, const struct backend *b)
{
    if (o->rows_max != 0)
        return;
    o->rows_max = b->ops->rows_best ? b->ops->rows_best(b) : BACKEND_ROWS;
    int least = o->seqs_max + (o->seqs_max + 1) / 2; /* prompts come forward beside many streams */
    if (o->rows_max < least)
        o->rows_max = least;
}

static enum status choose_ctx(struct engine_options *o, int model_ctx, struct err *err)
{
    int most = model_ctx < LIMIT_CTX ? model_ctx : LIMIT_CTX;
    if (o->ctx_max < 0 || o->ctx_max > most)
        return bad_option(err, "ctx", o->ctx_max, 1, most);
    if (o->ctx_max == 0) {
        o->ctx_max = most;
        if (o->kv_pages > 0 && o->kv_pages < sched_pages_for(most))
            o->ctx_max = o->kv_pages * LIMIT_KV_PAGE_TOKENS;
    }
    return STATUS_OK;
}

/* Pages that half of the memory beside the weights holds. */
static enum status fit_machine(const struct engine *e, struct backend_plan *plan, int least,
                               struct err *err)
{
    size_t page = e->parts.backend->ops->page_bytes(e->parts.backend, &e->parts.model->shape);
    size_t memory = e->parts.memory_bytes, weights = e->parts.model->weight_bytes;
    if (memory > 0 && page > 0) {
        size_t fit = memory > weights ? (memory - weights) / 2 / page : 0;
        if (fit < (size_t)plan->pages)
            plan->pages = (int)fit;
    }
    if (plan->pages >= least)
        return STATUS_OK;
    return err_set(err, STATUS_NO_MEMORY, "ctx",
                   "The KV cache of one sequence of %d tokens takes %zu MiB; half of the free "
                   "memory is less.",
                   least * LIMIT_KV_PAGE_TOKENS, ((size_t)least * page) >> 20);
}

/* Pages for every sequence at once, as far as there is memory for them. */
static enum status choose_pages(struct engine *e, bool ctx_free, struct backend_plan *plan,
                                struct err *err)
{
    struct engine_options *o = &e->opt;
    struct backend *b = e->parts.backend;
    int a_seq = o->ctx_max < POOL_TOKENS_A_SEQ ? o->ctx_max : POOL_TOKENS_A_SEQ;
    int64_t want = (int64_t)o->seqs_max * sched_pages_for(a_seq);
    int one = sched_pages_for(o->ctx_max), least = ctx_free ? 1 : one;
    if (want < one)
        want = one;
    plan->pages = want > LIMIT_KV_PAGES ? LIMIT_KV_PAGES : (int)want;
    enum status st = b->ops->fit_pages ? b->ops->fit_pages(b, e->parts.model, plan, least, err)
                                       : fit_machine(e, plan, least, err);
    if (st != STATUS_OK)
        return st;
    o->kv_pages = plan->pages;
    if (o->kv_pages < one)
        o->ctx_max = o->kv_pages * LIMIT_KV_PAGE_TOKENS;
    plan->ctx_max = o->ctx_max;
    return STATUS_OK;
}

static struct backend_plan plan_of(const struct engine *e)
{
    const struct engine_options *o = &e->opt;
    return (struct backend_plan){
        .rows_max = o->rows_max,
        .seqs_max = o->seqs_max,
        .outs_max = o->seqs_max + (o->rows_max < SCORE_ROWS ? o->rows_max : SCORE_ROWS),
        .segments_max = o->seqs_max * LIMIT_ADAPTERS_PER_REQUEST,
        .slots_max = o->slots_max,
        .pages = o->kv_pages,
        .ctx_max = o->ctx_max,
    };
}

size_t engine_size_host_default(const struct engine *e)
{
    return e->parts.memory_bytes > 0 ? e->parts.memory_bytes / 4 : SIZE_MAX;
}

enum status engine_size(struct engine *e, struct backend_plan *plan, struct err *err)
{
    struct engine_options *o = &e->opt;
    bool ctx_free = o->ctx_max == 0;
    choose_rows(o, e->parts.backend);
    enum status st = check_options(o, err);
    if (st == STATUS_OK)
        st = choose_ctx(o, e->parts.model->shape.ctx_max, err);
    *plan = plan_of(e);
    if (st == STATUS_OK && o->kv_pages == 0) {
        st = choose_pages(e, ctx_free, plan, err);
        while (st == STATUS_NO_MEMORY && ctx_free && plan->ctx_max / 2 >= CTX_LEAST) {
            plan->ctx_max = o->ctx_max = plan->ctx_max / 2;
            st = choose_pages(e, ctx_free, plan, err);
        }
    }
    if (st != STATUS_OK)
        return st;
    if (o->chunk_max == 0 || o->chunk_max > o->rows_max)
        o->chunk_max = o->rows_max;
    e->live_max = o->seqs_max + o->queue_max;

    /* One token can make visible what was held back, its own text and the detokeniser's rest. */
    size_t text = LIMIT_STOP_BYTES + e->parts.detok.text_max + DETOK_END_BYTES;
    if (e->parts.detok.text_max > LIMIT_TOKEN_TEXT_BYTES ||
        outbox_events_for(text) > LIMIT_OUTBOX_EVENTS / 2)
        return err_set(err, STATUS_UNSUPPORTED, "tokenizer.json",
                       "A token of %zu bytes of text is too long.", e->parts.detok.text_max);
    e->text_bytes = (int)text;
    e->room_need = outbox_events_for(text);

    e->limits = (struct sched_limits){
        .rows_max = o->rows_max,
        .chunk_max = o->chunk_max,
        .seqs_max = o->seqs_max,
        .score_max = plan->outs_max - plan->seqs_max,
        .wait_bound_steps = o->wait_bound_steps,
        .slots_max = o->slots_max,
        .turn_steps = o->adapter_turn_steps > 0 ? o->adapter_turn_steps : ADAPTER_TURN_STEPS,
        .room = SIZE_MAX,
        .slow_loads = e->parts.backend->ops->adapter_pack != NULL,
    };
    if (o->host_adapter_bytes == 0)
        o->host_adapter_bytes = engine_size_host_default(e);
    return STATUS_OK;
}
