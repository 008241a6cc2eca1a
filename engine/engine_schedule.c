#include "engine/engine_schedule.h"

#include "engine/adapter/adapter_slots.h"
#include "engine/engine_internal.h"
#include "engine/engine_seqs.h"

/* ---- plan: what the policy is shown, and asked ---- */

/* Rows that the outbox has room for; a row of a prompt that is scored makes an event of its own. */
static int rows_cap(const struct engine *e, const struct seq *s)
{
    if (s->room < e->room_need * (1 + s->pending))
        return 0;
    if (s->pending > 0 && seq_made(s) + s->pending >= s->max_new)
        return 0;
    if (s->flying_rows > 0 && seq_scores(s))
        return 0;
    return s->prompt_logprobs && seq_scores(s) ? s->room - e->room_need + 1 : INT32_MAX;
}

static void summarise(const struct engine *e, const struct seq *s, struct sched_seq *q)
{
    *q = (struct sched_seq){
        .order = s->order,
        .tokens = s->count + s->pending,
        .computed = s->computed + s->flying_rows,
        .pages = s->page_count,
        .rows_cap = rows_cap(e, s),
        .passed_steps = s->passed_steps,
        .slot_steps = s->slot_steps,
        .loadable = s->loadable,
        .scores = seq_scores(s),
        .adapter_count = s->adapter_count,
    };
    for (int i = 0; i < s->adapter_count; i++) {
        q->adapters[i] = s->adapters[i].adapter->generation;
        q->bytes[i] = s->adapters[i].adapter->facts.device_bytes;
    }
}

/* The oldest waiting sequences that could run now, with what the prefix cache has for them. */
static void fill_window(struct engine *e)
{
    e->window_count = 0;
    for (int i = 0; i < e->waiting_count && e->window_count < LIMIT_SCHED_WINDOW; i++) {
        struct seq *s = e->waiting[i];
        if (s->room < e->room_need || !s->at_hand)
            continue;
        struct sched_seq *q = &e->sched_waiting[e->window_count];
        summarise(e, s, q);
        q->computed =
            LIMIT_KV_PAGE_TOKENS * prefix_cache_find(&e->prefix, s->keys, s->tokens,
                                                     seq_cacheable_pages(s), e->found, &q->pages);
        e->window[e->window_count++] = s;
    }
}

static bool somebody_paused(const struct engine *e)
{
    for (int i = 0; i < e->running_count; i++)
        if (e->running[i]->room < e->room_need)
            return true;
    return false;
}

static void summarise_slot(struct engine *e, int i)
{
    const struct adapter_slot *slot = &e->store.slots[i];
    const struct adapter *a = slot->adapter;
    e->sched_slots[i] = (struct sched_slot){.refs = slot->refs, .used = slot->used, .share = 1};
    if (!a)
        return;
    e->sched_slots[i].adapter = a->generation;
    e->sched_slots[i].bytes = a->facts.device_bytes;
    e->sched_slots[i].held_steps = e->now.steps - slot->since;
    e->sched_slots[i].worked_steps = e->now.steps - slot->since;
    e->sched_slots[i].share = a->share;
    e->sched_slots[i].pinned = a->pinned && a->named;
    e->sched_slots[i].loading = slot->loading;
}

/* The slowest user counts. */
static void summarise_work(struct engine *e, const struct seq *s)
{
    uint64_t worked = s->turn_step > 0 ? e->now.steps - s->turn_step : 0;
    for (int i = 0; i < s->adapter_count; i++) {
        struct sched_slot *slot = &e->sched_slots[s->adapters[i].slot];
        slot->worked_steps = worked < slot->worked_steps ? worked : slot->worked_steps;
    }
}

static void plan(struct engine *e, bool admit)
{
    e->window_count = 0;
    for (int i = 0; i < e->running_count; i++)
        summarise(e, e->running[i], &e->sched_running[i]);
    if (admit && (e->running_count < e->opt.seqs_max || somebody_paused(e)))
        fill_window(e);
    for (int i = 0; i < e->opt.slots_max; i++)
        summarise_slot(e, i);
    for (int i = 0; i < e->running_count; i++)
        summarise_work(e, e->running[i]);
    struct sched_in in = {
        .running = e->sched_running,
        .running_count = e->running_count,
        .waiting = e->sched_waiting,
        .waiting_count = e->window_count,
        .slots = e->sched_slots,
        .pages_free = e->pool.free_count + e->pool.cached_count,
        .admit = admit,
    };
    sched_plan_step(&e->limits, &in, &e->plan);
}

/* ---- carry out: who leaves, what is loaded, who comes ---- */

static void preempt(struct engine *e, struct seq *s)
{
    engine_seqs_remove(e->running, &e->running_count, s);
    engine_seqs_give_back(e, s);
    s->state = SEQ_PREEMPTED;
    s->at_hand =
        true; /* they are still in their slots; what leaves is asked for in the next turn */
    s->loadable = 0;
    engine_seqs_insert(e->waiting, &e->waiting_count, s);
    e->now.preemptions++;
}

/* Everybody who uses the slot makes way for somebody who has waited for one. */
static void close_slot(struct engine *e, int slot)
{
    for (int i = e->running_count - 1; i >= 0; i--) {
        struct seq *s = e->running[i];
        bool uses = false;
        for (int k = 0; k < s->adapter_count; k++)
            uses = uses || s->adapters[k].slot == slot;
        if (uses)
            preempt(e, s);
    }
    CHECK(e->store.slots[slot].refs == 0);
}

static enum status load(struct engine *e, struct adapter *a, int slot, struct err *err)
{
    if (e->limits.slow_loads)
        return adapter_slots_begin(&e->store, a, slot, e->now.steps, err);
    return adapter_slots_load(&e->store, a, slot, e->now.steps, err);
}

/* Loads the adapters that the plan wants, or begins to. False: somebody's could not be loaded and
 * it was told so; plan again. */
static bool bring_in_adapters(struct engine *e)
{
    e->trace.gone += e->plan.evict_count;
    e->trace.placed += e->plan.load_count;
    for (int i = 0; i < e->plan.evict_count; i++)
        adapter_slots_evict(&e->store, e->plan.evict[i]);
    for (int i = 0; i < e->plan.load_count; i++) {
        const struct sched_load *l = &e->plan.load[i];
        struct seq *s = e->window[l->seq];
        struct adapter *a = s->adapters[l->adapter].adapter;
        struct err err = {0};
        enum status st = load(e, a, l->slot, &err);
        if (st == STATUS_OK)
            continue;
        if (st == STATUS_DEVICE_LOST) {
            engine_seqs_lose(e, st, "adapter_load", &err);
        } else {
            if (err.code != st)
                err_set(&err, st, "adapter", "Adapter '%s' could not be loaded.", a->name);
            engine_seqs_error(e, s, &err);
        }
        return false;
    }
    return true;
}

/* Steps since a waiting sequence was first overtaken. */
static void count_overtaken(struct engine *e)
{
    if (e->plan.run_count == 0)
        return;
    for (int i = 0; i < e->waiting_count; i++)
        e->waiting[i]->passed_steps += e->waiting[i]->passed_steps > 0;
    for (int i = 0; i < e->window_count; i++)
        if (e->plan.taken[i])
            e->window[i]->passed_steps = 0;
        else if (e->plan.overtaken[i] && e->window[i]->passed_steps == 0)
            e->window[i]->passed_steps = 1;
    for (int i = 0; i < e->window_count; i++) {
        bool waits = e->plan.starved[i] || e->plan.loading[i];
        int steps = e->window[i]->slot_steps + waits;
        if (steps > e->now.slot_wait_steps_max)
            e->now.slot_wait_steps_max = steps;
        e->window[i]->slot_steps = e->plan.taken[i] ? 0 : steps;
    }
}

/* How long each who was never scheduled has waited for adapters only: to be read from disk, for a
 * slot, for a load that is on its way. */
static void time_lacks(struct engine *e, int64_t now_ns)
{
    for (int i = 0; i < e->waiting_count; i++)
        e->waiting[i]->lacks = !e->waiting[i]->at_hand;
    for (int i = 0; i < e->window_count; i++)
        e->window[i]->lacks = e->plan.starved[i] || e->plan.loading[i];
    for (int i = 0; i < e->waiting_count; i++) {
        struct seq *s = e->waiting[i];
        if (s->lacks_since_ns && !s->lacks) {
            s->lacked_ns += now_ns - s->lacks_since_ns;
            s->lacks_since_ns = 0;
        } else if (!s->lacks_since_ns && s->lacks && !s->scheduled_ns) {
            s->lacks_since_ns = now_ns;
        }
    }
}

/* The pages that the cache has are pinned for all who are admitted before any page is taken for
 * somebody: otherwise one's new page could be another's hit. */
static void pin_cached_pages(struct engine *e)
{
    for (int i = 0; i < e->plan.admit_count; i++) {
        struct seq *s = e->window[e->plan.admit[i]];
        int held;
        s->page_count = prefix_cache_find(&e->prefix, s->keys, s->tokens, seq_cacheable_pages(s),
                                          s->pages, &held);
        for (int k = 0; k < s->page_count; k++)
            kv_pool_ref(&e->pool, s->pages[k]);
        s->computed = s->page_count * LIMIT_KV_PAGE_TOKENS;
        CHECK(s->computed == e->sched_waiting[e->plan.admit[i]].computed);
    }
}

static void admit(struct engine *e, struct seq *s, int64_t now_ns)
{
    engine_seqs_remove(e->waiting, &e->waiting_count, s);
    engine_seqs_insert(e->running, &e->running_count, s);
    s->state = SEQ_RUNNING;
    s->turn_step = 0;
    for (int i = 0; i < s->adapter_count; i++) {
        s->adapters[i].slot =
            adapter_slots_use(&e->store, s->adapters[i].adapter, e->now.steps + 1);
        CHECK(s->adapters[i].slot >= 0);
    }
    if (s->scheduled_ns)
        return; /* it was preempted and comes back */
    s->scheduled_ns = now_ns;
    s->cached_tokens = s->computed;
    e->now.tokens_in += (uint64_t)s->prompt_count;
    e->now.tokens_cached += (uint64_t)s->computed;
    e->now.prefix_hits += s->computed > 0;
}

static void carry_out(struct engine *e, struct engine_flight *f)
{
    f->count = e->plan.run_count;
    for (int i = 0; i < f->count; i++) {
        int k = e->plan.run[i].seq;
        f->seqs[i] = k < e->running_count ? e->running[k] : e->window[k - e->running_count];
    }
    pin_cached_pages(e);
    for (int i = 0; i < f->count; i++) {
        struct seq *s = f->seqs[i];
        int need = sched_pages_for(s->count + s->pending);
        for (; s->page_count < need; s->page_count++) {
            int page = prefix_cache_page(&e->prefix);
            CHECK(page >= 0);
            s->pages[s->page_count] = page;
        }
    }
    for (int i = 0; i < e->plan.admit_count; i++)
        admit(e, e->window[e->plan.admit[i]], f->begin_ns);
}

bool engine_schedule(struct engine *e, struct engine_flight *f)
{
    bool admit_new = true, settled = false;
    f->begin_ns = engine_now(e);
    f->count = 0;
    while (!settled && e->lost == STATUS_OK) {
        plan(e, admit_new);
        bool needs_idle = e->plan.preempt >= 0 || e->plan.close >= 0;
        if (needs_idle && e->flight_count > 0) {
            e->now.emptied++;
            return false;
        }
        if (e->plan.preempt >= 0) {
            preempt(e, e->running[e->plan.preempt]);
            admit_new = false;
        } else if (e->plan.close >= 0) {
            close_slot(e, e->plan.close);
        } else {
            settled = bring_in_adapters(e);
        }
    }
    if (e->lost == STATUS_OK) {
        time_lacks(e, f->begin_ns);
        count_overtaken(e);
        carry_out(e, f);
    }
    return !admit_new;
}
