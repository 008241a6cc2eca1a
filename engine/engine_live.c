/* The ring is under the engine's lock: the engine thread takes it for each token anyway, so that a
 * record costs a copy of some hundred bytes a step, whether somebody asks or not. */
#include "engine/engine_live.h"

#include <string.h>

#include "engine/engine_internal.h"
#include "engine/engine_live_step.h"

/* ---- steps ---- */

/* A share's last row draws a new token once the prompt is behind it; its other rows are prompt, or
 * are computed again after a preemption. */
static void count_rows(const struct engine_flight *f, struct engine_step *step)
{
    for (int i = 0; i < f->count; i++) {
        const struct batch_seq *q = &f->shares[i];
        bool newest = q->token_count > q->prompt_count && q->computed + q->rows == q->token_count;
        step->decode_rows += newest;
        step->prefill_rows += q->rows - newest;
    }
}

/* Segments come in order of their first rows, so what none covers lies between them. */
static void count_parties(const struct engine *e, const struct batch *b, struct engine_step *step)
{
    int rows[LIMIT_ADAPTER_SLOTS] = {0};
    int covered = 0, end = 0;
    for (int i = 0; i < b->segment_count; i++) {
        const struct batch_segment *s = &b->segments[i];
        int from = s->row_begin > end ? s->row_begin : end;
        if (s->row_end > from) {
            covered += s->row_end - from;
            end = s->row_end;
        }
        rows[s->slot] += s->row_end - s->row_begin;
    }
    step->base_rows = b->rows - covered;
    for (int i = 0; i < e->store.slots_max; i++) {
        const struct adapter *a = e->store.slots[i].adapter;
        if (rows[i] == 0 || !a)
            continue;
        if (step->party_count == LIMIT_STEP_PARTIES) {
            step->more_parties++;
            continue;
        }
        struct engine_step_party *p = &step->parties[step->party_count++];
        memcpy(p->name, a->name, sizeof p->name);
        p->generation = a->generation;
        p->rows = rows[i];
    }
}

static size_t bytes_of(const struct engine_step *step)
{
    return offsetof(struct engine_step, parties) +
           (size_t)step->party_count * sizeof step->parties[0];
}

/* Here, as a slot may have another adapter before the step ends. */
void engine_live_begin(struct engine *e, struct engine_flight *f)
{
    const struct batch *b = &f->batch.batch;
    struct engine_step *step = &f->told; /* filled as far as bytes_of says */
    memset(step, 0, offsetof(struct engine_step, parties));
    step->seqs = b->seqs;
    step->rows = b->rows;
    count_rows(f, step);
    count_parties(e, b, step);
}

void engine_live_record(struct engine *e, struct engine_flight *f, int pages, int tokens_out)
{
    struct engine_step *step = &f->told;
    step->number = e->now.steps;
    step->end_ns = engine_now(e);
    step->tokens_out = tokens_out;
    step->kv_pages_used = pages;
    step->waiting = e->waiting_count;
    pthread_mutex_lock(&e->lock);
    int64_t before = e->ring[e->ring_last % LIMIT_STEPS_KEPT].end_ns;
    step->took_ns = step->end_ns - (before > f->begin_ns ? before : f->begin_ns);
    memcpy(&e->ring[step->number % LIMIT_STEPS_KEPT], step, bytes_of(step));
    e->ring_last = step->number;
    pthread_mutex_unlock(&e->lock);
}

int engine_steps(struct engine *e, uint64_t since, struct engine_step *out, int max)
{
    int count = 0;
    pthread_mutex_lock(&e->lock);
    uint64_t last = e->ring_last;
    uint64_t kept = last > LIMIT_STEPS_KEPT ? last - LIMIT_STEPS_KEPT : 0;
    uint64_t first = since > kept ? since : kept; /* the step before the first one */
    uint64_t there = last > first ? last - first : 0;
    uint64_t want = there < (uint64_t)max ? there : (uint64_t)max;
    for (uint64_t i = 1; i <= want; i++) {
        const struct engine_step *s = &e->ring[(first + i * there / want) % LIMIT_STEPS_KEPT];
        memcpy(&out[count++], s, bytes_of(s));
    }
    pthread_mutex_unlock(&e->lock);
    return count;
}

/* ---- memory ---- */

static void add_part(struct engine_live *l, const char *name, bool on_host, size_t bytes,
                     size_t used)
{
    l->memory[l->part_count++] = (struct engine_memory_part){name, on_host, bytes, used};
}

/* Bytes of adapters in slots, and of all in host memory with its budget. */
static void sum_adapters(struct adapter_store *s, size_t *slots, size_t *host, size_t *budget)
{
    *slots = 0;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->count; i++) {
        const struct adapter *a = s->list[i];
        if (a->slot >= 0)
            *slots += a->facts.device_bytes ? a->facts.device_bytes : a->facts.host_bytes;
    }
    *host = s->host_used;
    *budget = s->host_budget;
    pthread_mutex_unlock(&s->lock);
}

void engine_get_live(struct engine *e, struct engine_live *out)
{
    const struct backend *b = e->parts.backend;
    struct engine_stats stats;
    size_t slots, host, budget;
    bool arena = false;
    memset(out, 0, sizeof *out);
    if (b->ops->facts)
        b->ops->facts(b, &out->facts);
    engine_get_stats(e, &stats);
    sum_adapters(&e->store, &slots, &host, &budget);
    for (int i = 0; i < out->facts.part_count; i++) {
        const struct backend_part *p = &out->facts.parts[i];
        size_t used = p->bytes;
        if (strcmp(p->name, "kv") == 0 && stats.kv_pages_total > 0)
            used = p->bytes / (size_t)stats.kv_pages_total *
                   (size_t)(stats.kv_pages_used + stats.kv_pages_cached);
        if (strcmp(p->name, "adapters") == 0) {
            used = slots;
            arena = true;
        }
        add_part(out, p->name, p->on_host, p->bytes, used);
        out->total_bytes += p->on_host ? 0 : p->bytes;
    }
    if (!arena)
        add_part(out, "adapters", false, slots, slots);
    add_part(out, "adapters_on_host", true, budget, host);
}
