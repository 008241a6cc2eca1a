/* engine_step: one turn of the engine thread, a phase a function. Start reading at engine_turn, at
 * the end. Who takes part in a step is engine_schedule.c.
 *
 * Invariants between phases: a sequence is in exactly one of the inbox, `waiting` and `running`,
 * both in order of arrival; only running ones hold pages and slots. A sequence whose terminal event
 * was pushed belongs to its reader and is not touched again.
 *
 * One step ahead: where the backend can, the next step is launched before the last one is finished,
 * so that the device never waits for us. The token that a row needs may then be unknown here: it is
 * named by the output that draws it. Where more than the token depends on it (a mask, penalties),
 * the step is late: only its pass is launched, and what it draws waits until the last one is told
 * of; the device works on the pass meanwhile. A sequence that turns out to have ended has been
 * given a row too many, whose result is forgotten; its pages may be given away at once, since steps
 * run in order. For the same reason adapters come and go without waiting. Preemption alone, and a
 * slot that is closed by it, needs what flies to be told first.
 */
#include "engine/engine_internal.h"

#include <string.h>

#include "engine/adapter/adapter_host.h"
#include "engine/adapter/adapter_slots.h"
#include "engine/engine_live_step.h"
#include "engine/engine_schedule.h"
#include "engine/engine_seqs.h"
#include "engine/model/forward.h"

/* ---- drain: what happened outside since the last turn ---- */

/* With the lock held. */
static void look_at(struct engine *e, struct seq *s)
{
    s->cancel_seen = s->cancelled;
    s->room = outbox_room(&s->outbox);
    s->paused = s->room < e->room_need;
}

static void end_cancelled(struct engine *e, struct seq **list, const int *count)
{
    for (int i = *count - 1; i >= 0; i--)
        if (list[i]->cancel_seen)
            engine_seqs_end(e, list[i], ENGINE_EVENT_CANCELLED, ENGINE_FINISH_STOP, NULL);
}

/* Draining refuses who has not begun; a preempted sequence has. */
static void refuse_waiting(struct engine *e)
{
    struct err err;
    err_set(&err, STATUS_DRAINING, NULL, "The server is shutting down.");
    for (int i = e->waiting_count - 1; i >= 0; i--)
        if (e->waiting[i]->state == SEQ_WAITING)
            engine_seqs_error(e, e->waiting[i], &err);
}

/* Who comes with a grammar gets its first mask, before a step asks for it. */
static void begin_grammars(struct engine *e)
{
    for (int i = e->waiting_count - 1; i >= 0; i--) {
        struct seq *s = e->waiting[i];
        struct err err = {0};
        if (s->grammar && !s->matched.grammar && engine_grammar_begin(e, s, &err) != STATUS_OK)
            engine_seqs_error(e, s, &err);
    }
}

/* Whose adapter could not be loaded is told so; the next request for it tries again. */
static void end_unloadable(struct engine *e)
{
    if (!engine_load_ask(e))
        return;
    for (int i = e->waiting_count - 1; i >= 0; i--) {
        struct seq *s = e->waiting[i];
        struct err err = {0};
        if (!s->unloadable)
            continue;
        adapter_host_error(&e->store, &s->set, &err);
        engine_seqs_error(e, s, &err);
    }
    adapter_host_forgive(&e->store);
}

/* What the loader has sent can be used from now on. */
static void finish_upload(struct engine *e)
{
    struct err err = {0};
    bool done;
    if (e->lost != STATUS_OK || !adapter_slots_busy(&e->store, &done) || !done)
        return;
    enum status st = adapter_slots_finish(&e->store, &err);
    e->trace.usable++;
    if (st == STATUS_DEVICE_LOST)
        engine_seqs_lose(e, st, "adapter_load", &err);
}

static void drain(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->signal = false;
    for (struct seq *s = e->inbox_head; s; s = s->inbox_next)
        e->waiting[e->waiting_count++] = s;
    e->inbox_head = e->inbox_tail = NULL;
    e->inbox_count = 0;
    for (int i = 0; i < e->waiting_count; i++)
        look_at(e, e->waiting[i]);
    for (int i = 0; i < e->running_count; i++)
        look_at(e, e->running[i]);
    bool draining = e->draining, closing = e->closing;
    pthread_mutex_unlock(&e->lock);

    end_cancelled(e, e->waiting, &e->waiting_count);
    end_cancelled(e, e->running, &e->running_count);
    if (draining)
        refuse_waiting(e);
    begin_grammars(e);
    if (closing) {
        struct err err;
        err_set(&err, STATUS_DRAINING, NULL, "The server has shut down.");
        engine_seqs_fail_all(e, &err);
        e->closed = true;
    }
    finish_upload(e);
    if (e->lost != STATUS_OK)
        engine_seqs_fail_all(e, &e->lost_err);
    end_unloadable(e);
    e->trace.gone += adapter_slots_sweep(&e->store);
}

/* ---- pack, launch, finish: the step on the device ---- */

/* What the sequence will be once the step in flight is finished; `rows` of it in this step. */
static void fill_share(struct seq *s, int rows, struct batch_seq *q)
{
    CHECK(s->pending <= 1);
    if (s->pending > 0)
        s->tokens[s->count] = -1 - s->pending_out;
    *q = (struct batch_seq){
        .tokens = s->tokens,
        .token_count = s->count + s->pending,
        .prompt_count = s->prompt_count,
        .computed = s->computed + s->flying_rows,
        .rows = rows,
        .pages = s->pages,
        .page_count = s->page_count,
        .score_from = seq_scores(s) ? s->scored : s->prompt_count,
        .params = &s->sampling,
        .banned = s->ends,
        .banned_count = s->grammar ? 0 : seq_banned_count(s, seq_made(s) + s->pending),
        .mask = s->grammar ? s->mask : NULL,
        .hidden = s->pooled.kind != POOLING_NONE,
    };
    int end = q->computed + rows;
    for (int k = 0; k < s->adapter_count && s->adapters[k].from < end; k++) {
        q->slots[k] = s->adapters[k].slot;
        q->weights[k] = s->adapters[k].weight;
        q->from[k] = s->adapters[k].from;
        q->adapter_count++;
    }
}

/* While its newest token is still being drawn: does the next draw depend on more than that one? */
static bool is_late(const struct seq *s)
{
    return s->pending > 0 && (s->grammar || !sample_is_blind(&s->sampling));
}

static void pack(struct engine *e, struct engine_flight *f)
{
    bool late = false;
    for (int i = 0; i < f->count; i++) {
        fill_share(f->seqs[i], e->plan.run[i].rows, &f->shares[i]);
        late = late || is_late(f->seqs[i]);
    }
    batch_build(&f->batch, f->shares, f->count);
    f->batch.batch.late = late;
    for (int i = 0; i < f->count; i++)
        f->seqs[i]->flying_rows += f->shares[i].rows;
    for (int o = 0; o < f->batch.batch.out_count; o++) {
        int i = f->batch.out_seq[o];
        if (f->batch.out_index[o] < f->shares[i].token_count)
            continue;
        f->seqs[i]->pending++;
        f->seqs[i]->pending_out = o;
    }
    engine_live_begin(e, f);
}

static void launch(struct engine *e, struct engine_flight *f)
{
    struct backend *b = e->parts.backend;
    struct err none = {0};
    enum status st = b->ops->step_begin(b, &f->batch.batch);
    if (st != STATUS_OK) {
        engine_seqs_lose(e, st, "step_begin", &none);
        return;
    }
    forward(b, e->parts.model->shape.layers);
    st = b->ops->step_launch(b);
    if (st == STATUS_OK)
        e->flight_count++;
    else
        engine_seqs_lose(e, st, "step_launch", &none);
}

/* What the draws of the newest step waited for was told: tokens and masks are in their places. */
static void draw(struct engine *e)
{
    struct backend *b = e->parts.backend;
    struct err none = {0};
    enum status st = b->ops->step_draw(b);
    if (st != STATUS_OK)
        engine_seqs_lose(e, st, "step_draw", &none);
}

static void finish(struct engine *e)
{
    struct backend *b = e->parts.backend;
    struct err err = {0};
    enum status st = b->ops->step_finish(b, e->results, &err);
    if (st != STATUS_OK)
        engine_seqs_lose(e, st, "step_finish", &err);
}

/* ---- emit: tokens to text to events ---- */

/* Makes n bytes of text visible, but for what could become a stop string. True: a stop string is
 * complete. */
static bool show_text(struct seq *s, const char *text, size_t n)
{
    size_t shown = n;
    bool stopped = false;
    if (seq_made(s) >= s->min_new)
        stopped = stop_push(&s->stop, text, n, s->text + s->text_len, &shown);
    else
        memcpy(s->text + s->text_len, text, n);
    s->text_len += shown;
    return stopped;
}

/* Adds a token to the sequence and its text to s->text. True: the answer ends with it. *err: it
 * cannot go on. */
static bool take_token(struct engine *e, struct seq *s, int32_t token, enum engine_finish *why,
                       struct err *err)
{
    const struct engine_detok *d = &e->parts.detok;
    s->tokens[s->count++] = token;
    s->text_len = 0;
    int64_t now = engine_now(e);
    if (s->first_token_ns)
        histogram_add(&e->now.token_gap_s, &histogram_step_s,
                      (double)(now - s->last_token_ns) * 1e-9);
    s->last_token_ns = now;
    if (s->turn_step == 0)
        s->turn_step = e->now.steps + 1;
    if (!s->first_token_ns)
        s->first_token_ns = s->last_token_ns;
    e->now.tokens_out++;

    bool show, stopped = false;
    bool ended = seq_is_end(s, token, &show);
    if (s->grammar && !ended && engine_grammar_take(e, s, token, &ended, err) != STATUS_OK)
        return true;
    if (show) {
        strbuf_clear(&e->piece);
        d->push(d->ctx, s->detok, token, &e->piece);
        s->text_lost |= e->piece.failed;
        stopped = show_text(s, strbuf_str(&e->piece), e->piece.len);
    }
    bool full = seq_made(s) == s->max_new;
    if (!stopped && (ended || full)) {
        strbuf_clear(&e->piece);
        d->end(d->ctx, s->detok, &e->piece);
        stopped = show_text(s, strbuf_str(&e->piece), e->piece.len);
        if (!stopped)
            s->text_len += stop_flush(&s->stop, s->text + s->text_len);
    }
    *why = stopped || ended ? ENGINE_FINISH_STOP : ENGINE_FINISH_LENGTH;
    return stopped || ended || full;
}

static void push_token(struct engine *e, struct seq *s, enum engine_event_kind kind,
                       const struct sample_result *r, const char *text, size_t text_len)
{
    pthread_mutex_lock(&e->lock);
    int before = s->outbox.count;
    seq_usage(s, &s->outbox.usage);
    outbox_push_token(&s->outbox, kind, r, s->sampling.logprobs >= 0, text, text_len);
    engine_seqs_ready(e, s, before);
    pthread_mutex_unlock(&e->lock);
}

/* The step's rows are in the cache now; full pages can be found by others from here on. */
static void account_rows(struct engine *e, struct seq *s, int rows)
{
    int full = s->computed / LIMIT_KV_PAGE_TOKENS;
    s->computed += rows;
    s->flying_rows -= rows;
    if (!s->cache_write)
        return;
    seq_extend_keys(s, s->computed);
    for (; full < s->computed / LIMIT_KV_PAGE_TOKENS; full++)
        prefix_cache_publish(&e->prefix, s->pages[full], &s->keys[full],
                             &s->tokens[full * LIMIT_KV_PAGE_TOKENS]);
}

/* Output row o holds the state of token index - 1. With the last one the embedding is complete, and
 * the sequence is not ours any more. */
static void emit_state(struct engine *e, struct seq *s, int index, int o)
{
    struct backend *b = e->parts.backend;
    b->ops->read_hidden(b, o, e->state);
    pooling_add(&s->pooled, index - 1, e->state);
    s->scored = index + 1;
    if (index < s->count)
        return;
    pooling_end(&s->pooled, s->count);
    s->first_token_ns = s->last_token_ns = engine_now(e);
    engine_seqs_end(e, s, ENGINE_EVENT_DONE, ENGINE_FINISH_STOP, NULL);
}

/* The sequence may end, and is not ours any more then. */
static void emit_result(struct engine *e, struct seq *s, int index, const struct sample_result *r)
{
    enum engine_finish why = ENGINE_FINISH_STOP;
    if (index < s->count) {
        push_token(e, s, ENGINE_EVENT_PROMPT_TOKEN, r, NULL, 0);
        s->scored = index + 1;
        return;
    }
    s->pending--;
    struct err err = {0};
    bool ended = take_token(e, s, r->token, &why, &err);
    if (s->text_lost && err.code == STATUS_OK)
        err_set(&err, STATUS_LIMIT, NULL, "The text of token %d is too long.", r->token);
    if (err.code != STATUS_OK) {
        engine_seqs_error(e, s, &err);
        return;
    }
    push_token(e, s, ENGINE_EVENT_TOKEN, r, s->text, s->text_len);
    if (ended)
        engine_seqs_end(e, s, ENGINE_EVENT_DONE, why, NULL);
}

/* The step is still counted as in flight: whoever ends is forgotten in it too. */
static void emit(struct engine *e, struct engine_flight *f)
{
    pthread_mutex_lock(&e->lock);
    for (int i = 0; i < f->count; i++)
        if (f->seqs[i])
            f->seqs[i]->cancel_seen = f->seqs[i]->cancelled;
    pthread_mutex_unlock(&e->lock);
    for (int i = 0; i < f->count; i++) {
        struct seq *s = f->seqs[i];
        if (!s)
            continue;
        account_rows(e, s, f->shares[i].rows);
        if (s->cancel_seen)
            engine_seqs_end(e, s, ENGINE_EVENT_CANCELLED, ENGINE_FINISH_STOP, NULL);
    }
    for (int o = 0; o < f->batch.batch.out_count; o++) {
        int i = f->batch.out_seq[o];
        if (f->seqs[i] && f->seqs[i]->pooled.kind != POOLING_NONE)
            emit_state(e, f->seqs[i], f->batch.out_index[o], o);
        else if (f->seqs[i])
            emit_result(e, f->seqs[i], f->batch.out_index[o], &e->results[o]);
    }
}

/* ---- check: what must hold between turns, and what the world is told ---- */

static int count_adapters(const struct batch *b)
{
    uint64_t seen = 0;
    for (int i = 0; i < b->segment_count; i++)
        seen |= (uint64_t)1 << b->segments[i].slot;
    return __builtin_popcountll(seen);
}

static void account_step(struct engine *e, const struct engine_flight *f)
{
    const struct batch *b = &f->batch.batch;
    e->now.steps++;
    e->now.rows += (uint64_t)b->rows;
    e->now.last_step_rows = b->rows;
    e->now.last_step_seqs = b->seqs;
    e->now.last_step_adapters = count_adapters(b);
    e->now.last_step_ns = engine_now(e) - f->begin_ns;
    histogram_add(&e->now.step_s, &histogram_step_s, (double)e->now.last_step_ns * 1e-9);
    histogram_add(&e->now.step_rows, &histogram_rows, b->rows);
    histogram_add(&e->now.step_adapters, &histogram_adapters, e->now.last_step_adapters);
}

/* Waits for the oldest step in flight and tells its results. */
static void settle(struct engine *e)
{
    struct engine_flight *f = engine_flight_at(e, 0);
    uint64_t told = e->now.tokens_out;
    int pages = kv_pool_held(&e->pool);
    finish(e);
    engine_trace_mark(e, ENGINE_PHASE_WAIT);
    if (e->lost == STATUS_OK)
        emit(e, f);
    engine_trace_mark(e, ENGINE_PHASE_EMIT);
    engine_trace_told(e);
    account_step(e, f);
    engine_live_record(e, f, pages, (int)(e->now.tokens_out - told));
    if (e->flight_count > 0) {
        e->flight_oldest = (e->flight_oldest + 1) % e->flight_max;
        e->flight_count--;
    }
}

static void check(struct engine *e)
{
    CHECK(e->running_count > 0 || kv_pool_held(&e->pool) == 0);
    e->now.waiting = e->waiting_count;
    e->now.running = e->running_count;
    e->now.kv_pages_used = kv_pool_held(&e->pool);
    e->now.kv_pages_cached = e->pool.cached_count;
    e->now.last_beat_ns = engine_now(e);
    pthread_mutex_lock(&e->lock);
    e->stats = e->now;
    bool notify = e->notify;
    e->notify = false;
    pthread_mutex_unlock(&e->lock);
    if (notify && e->opt.notify)
        e->opt.notify(e->opt.notify_ctx);
}

bool engine_turn(struct engine *e)
{
    if (!e->parts.threaded && !e->parts.loads_by_hand)
        (void)engine_load_turn(e);
    engine_trace_mark(e, ENGINE_PHASE_REST);
    drain(e);
    engine_trace_mark(e, ENGINE_PHASE_DRAIN);
    struct engine_flight *f = engine_flight_at(e, e->flight_count);
    bool again = engine_schedule(e, f), step = f->count > 0;
    engine_trace_mark(e, ENGINE_PHASE_SCHEDULE);
    if (step) {
        engine_trace_launch(e);
        pack(e, f);
        launch(e, f);
        engine_trace_mark(e, ENGINE_PHASE_LAUNCH);
    }
    bool settled = false;
    while (e->flight_count > (step ? e->flight_max - 1 : 0)) {
        settle(e);
        settled = true;
    }
    if (step && f->batch.batch.late && e->lost == STATUS_OK)
        draw(e);
    check(e);
    if (!step && !again && !settled)
        engine_trace_idle(e);
    return step || again || settled;
}

void engine_check(struct engine *e)
{
    kv_pool_check(&e->pool);
    adapter_host_check(&e->store);
    int refs = 0, held = 0;
    for (int i = 0; i < e->pool.total; i++)
        refs += e->pool.refs[i];
    for (int i = 0; i < e->running_count; i++) {
        const struct seq *s = e->running[i];
        held += s->page_count;
        CHECK(s->state == SEQ_RUNNING && (i == 0 || e->running[i - 1]->order < s->order));
        CHECK(s->computed < s->count && s->page_count >= sched_pages_for(s->computed));
        for (int k = 0; k < s->adapter_count; k++)
            CHECK(e->store.slots[s->adapters[k].slot].adapter == s->adapters[k].adapter);
    }
    CHECK(refs == held);
    for (int i = 0; i < e->waiting_count; i++)
        CHECK(e->waiting[i]->state != SEQ_RUNNING && e->waiting[i]->page_count == 0 &&
              (i == 0 || e->waiting[i - 1]->order < e->waiting[i]->order));
    for (int i = 0; i < e->store.slots_max; i++) {
        int users = 0;
        for (int k = 0; k < e->running_count; k++)
            for (int a = 0; a < e->running[k]->adapter_count; a++)
                users += e->running[k]->adapters[a].slot == i;
        CHECK(users == e->store.slots[i].refs);
    }
}
