#include "engine/engine_seqs.h"

#include <string.h>

#include "engine/adapter/adapter_slots.h"
#include "engine/base/log.h"

/* ---- lists ---- */

void engine_seqs_insert(struct seq **list, int *count, struct seq *s)
{
    int at = *count;
    for (; at > 0 && list[at - 1]->order > s->order; at--)
        list[at] = list[at - 1];
    list[at] = s;
    ++*count;
}

void engine_seqs_remove(struct seq **list, int *count, const struct seq *s)
{
    int at = 0;
    while (list[at] != s)
        at++;
    memmove(&list[at], &list[at + 1], (size_t)(*count - at - 1) * sizeof(struct seq *));
    --*count;
}

static void leave_lists(struct engine *e, struct seq *s)
{
    if (s->state == SEQ_RUNNING)
        engine_seqs_remove(e->running, &e->running_count, s);
    else
        engine_seqs_remove(e->waiting, &e->waiting_count, s);
}

/* ---- endings ---- */

void engine_seqs_ready(struct engine *e, struct seq *s, int before)
{
    if (before > 0 || s->ready)
        return;
    s->ready = true;
    s->ready_next = NULL;
    if (e->ready_tail)
        e->ready_tail->ready_next = s;
    else
        e->ready_head = s;
    e->ready_tail = s;
    e->notify = true;
}

/* Last page first, so that the cache gives up the end of a chain before its beginning. */
void engine_seqs_give_back(struct engine *e, struct seq *s)
{
    while (s->page_count > 0)
        kv_pool_unref(&e->pool, s->pages[--s->page_count]);
    s->computed = 0;
    for (int i = 0; i < s->adapter_count; i++)
        if (s->adapters[i].slot >= 0) {
            adapter_slots_unuse(&e->store, s->adapters[i].slot);
            s->adapters[i].slot = -1;
        }
}

/* Output rows of number k in the step are nobody's any more: what they point to goes with its
 * sequence, while the backend may still look at the batch. */
static void forget_outs(struct engine_flight *f, int k)
{
    static const struct sample_params nothing = {.logprobs = -1};
    for (int o = 0; o < f->batch.batch.out_count; o++)
        if (f->batch.out_seq[o] == k)
            f->batch.batch.out[o] = (struct sample_row){.params = &nothing, .forced = 0};
}

static void forget(struct engine *e, const struct seq *s)
{
    for (int i = 0; i < e->flight_count; i++) {
        struct engine_flight *f = engine_flight_at(e, i);
        for (int k = 0; k < f->count; k++) {
            if (f->seqs[k] != s)
                continue;
            f->seqs[k] = NULL;
            forget_outs(f, k);
        }
    }
}

static void release_adapters(struct engine *e, const struct seq *s, const struct engine_usage *u)
{
    struct adapter_counts did = {.queue_ns = u->queue_ns};
    if (s->scheduled_ns) {
        did.scheduled = 1;
        did.tokens_in = (uint64_t)u->prompt_tokens;
        did.tokens_out = (uint64_t)u->completion_tokens;
    }
    if (s->first_token_ns) {
        did.first_tokens = 1;
        did.first_token_ns = s->first_token_ns - s->submitted_ns;
    }
    adapter_store_release(&e->store, &s->set, &did);
}

void engine_seqs_end(struct engine *e, struct seq *s, enum engine_event_kind kind,
                     enum engine_finish finish, const struct err *err)
{
    struct engine_usage usage;
    leave_lists(e, s);
    forget(e, s);
    engine_seqs_give_back(e, s);
    seq_usage(s, &usage);
    release_adapters(e, s, &usage);
    seq_drop_grammar(s);
    s->state = SEQ_ENDED;
    e->now.requests_done += kind == ENGINE_EVENT_DONE;
    e->now.requests_failed += kind == ENGINE_EVENT_ERROR;
    e->now.requests_cancelled += kind == ENGINE_EVENT_CANCELLED;

    pthread_mutex_lock(&e->lock);
    int before = s->outbox.count;
    outbox_push_end(&s->outbox, kind, finish, &usage, err);
    engine_seqs_ready(e, s, before);
    e->live--;
    pthread_mutex_unlock(&e->lock);
}

void engine_seqs_error(struct engine *e, struct seq *s, const struct err *err)
{
    LOG_WARN(LOG_WHAT("request failed"), LOG_STR("request", s->request_id),
             LOG_STR("code", status_code(err->code)), LOG_STR("why", err->msg));
    engine_seqs_end(e, s, ENGINE_EVENT_ERROR, ENGINE_FINISH_STOP, err);
}

void engine_seqs_fail_all(struct engine *e, const struct err *err)
{
    while (e->running_count > 0)
        engine_seqs_error(e, e->running[e->running_count - 1], err);
    while (e->waiting_count > 0)
        engine_seqs_error(e, e->waiting[e->waiting_count - 1], err);
}

void engine_seqs_lose(struct engine *e, enum status st, const char *phase, const struct err *why)
{
    const char *msg = why->code == st && why->msg[0] ? why->msg : status_code(st);
    e->lost = st;
    err_set(&e->lost_err, st, NULL, "%s (%s)", msg, phase);
    LOG_ERROR(LOG_WHAT("device lost"), LOG_STR("phase", phase), LOG_STR("why", msg));
    adapter_slots_lost(&e->store);
    pthread_mutex_lock(&e->lock);
    e->refuse_lost = true;
    pthread_mutex_unlock(&e->lock);
    engine_seqs_fail_all(e, &e->lost_err);
    e->flight_count = 0;
}
