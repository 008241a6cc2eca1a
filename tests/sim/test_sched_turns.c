/* Adapters taking turns, without any engine: the plan drives a small world of slots, bytes, loads
 * that take a while and requests that never end by themselves. After each step: whoever runs has
 * its adapters, nothing on its way leaves, the bytes fit, pinned ones stay, and nobody has waited
 * for a slot longer than sched.h says.
 *
 *   test_sched_turns [--rounds N]
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/sched/sched.h"
#include "tests/release.h"

#define SEQS     12
#define SLOTS    5
#define ADAPTERS 14
#define STEPS    1500
#define LOADING  3  /* steps a load takes at most */
#define PROMPT   10 /* and a prompt */

struct asker {
    bool there;
    bool runs;
    int slot_steps;
    int waited; /* steps in which it lacked nothing but its adapters, in one go */
    int others; /* most that waited like it meanwhile */
    uint64_t order;
    int count;
    int adapters[LIMIT_ADAPTERS_PER_REQUEST];
    int left;    /* steps to run */
    int prompt;  /* steps until it makes tokens, each time it is admitted */
    int running; /* steps since it was admitted */
};

struct world {
    struct sched_limits limits;
    struct asker askers[SEQS];
    struct sched_slot slots[SLOTS];
    int ready_in[SLOTS];
    uint64_t since[SLOTS];
    size_t bytes[ADAPTERS]; /* of adapter i, which is generation i + 1 */
    int share[ADAPTERS];
    bool pinned[ADAPTERS];
    int share_max;
    uint64_t order;
    uint64_t step;
    struct sched_seq running[SEQS];
    struct sched_seq waiting[SEQS];
    struct asker *run[SEQS];
    struct asker *wait[SEQS];
    int running_count;
    int waiting_count;
};

static struct sched_plan plan;
static int rounds;
static struct {
    uint64_t steps, loads, closes, evictions;
    int worst_percent; /* of the bound */
    int longest;
} seen;

static int below(int n)
{
    return rand() % n;
}

static void ask(struct world *w, struct asker *a)
{
    *a = (struct asker){.there = true, .order = ++w->order, .count = below(4)};
    a->count = a->count > w->limits.slots_max ? w->limits.slots_max : a->count;
    size_t left = w->limits.room;
    int count = 0;
    for (int i = 0; i < a->count; i++) {
        int adapter = below(ADAPTERS);
        bool twice = w->bytes[adapter] > left;
        for (int k = 0; k < count; k++)
            twice = twice || a->adapters[k] == adapter;
        if (twice)
            continue;
        a->adapters[count++] = adapter;
        left -= w->bytes[adapter];
    }
    a->count = count;
    a->prompt = below(PROMPT + 1);
    a->left = below(3) ? 1000000 : 1 + below(60);
}

static void begin(struct world *w)
{
    memset(w, 0, sizeof *w);
    bool bytes = below(2);
    w->limits = (struct sched_limits){.rows_max = 64,
                                      .chunk_max = 64,
                                      .seqs_max = 3 + below(SEQS - 3),
                                      .score_max = 1,
                                      .wait_bound_steps = below(20),
                                      .slots_max = 1 + below(SLOTS),
                                      .turn_steps = 1 + below(20),
                                      .room = bytes ? (size_t)(20 + below(40)) : SIZE_MAX,
                                      .slow_loads = below(2)};
    int pins = 0;
    for (int i = 0; i < ADAPTERS; i++) {
        w->bytes[i] = bytes ? (size_t)(1 + below(20)) : 0;
        w->share[i] = 1 + below(3);
        w->pinned[i] = below(8) == 0 && pins + 1 < w->limits.slots_max;
        pins += w->pinned[i];
        w->share_max = w->share[i] > w->share_max ? w->share[i] : w->share_max;
    }
    assert_int_equal(sched_plan_init(&plan, &w->limits, SEQS), STATUS_OK);
}

static int slot_of(const struct world *w, int adapter)
{
    for (int s = 0; s < w->limits.slots_max; s++)
        if (w->slots[s].adapter == (uint64_t)adapter + 1)
            return s;
    return -1;
}

static struct sched_seq seq_of(const struct world *w, const struct asker *a)
{
    struct sched_seq q = {.order = a->order,
                          .tokens = 8,
                          .computed = a->runs ? 7 : 0,
                          .pages = a->runs ? 1 : 0,
                          .rows_cap = 1000,
                          .slot_steps = a->slot_steps,
                          .adapter_count = a->count,
                          .loadable = ~0u};
    for (int i = 0; i < a->count; i++) {
        q.adapters[i] = (uint64_t)a->adapters[i] + 1;
        q.bytes[i] = w->bytes[a->adapters[i]];
    }
    return q;
}

static int by_order(const void *a, const void *b)
{
    const struct asker *const *x = a, *const *y = b;
    return (*x)->order < (*y)->order ? -1 : 1;
}

static void gather(struct world *w)
{
    w->running_count = w->waiting_count = 0;
    for (int s = 0; s < w->limits.slots_max; s++)
        w->slots[s].refs = 0;
    for (int i = 0; i < SEQS; i++) {
        struct asker *a = &w->askers[i];
        if (a->there && a->runs)
            w->run[w->running_count++] = a;
        else if (a->there)
            w->wait[w->waiting_count++] = a;
        for (int k = 0; a->runs && k < a->count; k++)
            w->slots[slot_of(w, a->adapters[k])].refs++;
    }
    qsort(w->run, (size_t)w->running_count, sizeof w->run[0], by_order);
    qsort(w->wait, (size_t)w->waiting_count, sizeof w->wait[0], by_order);
    for (int i = 0; i < w->running_count; i++)
        w->running[i] = seq_of(w, w->run[i]);
    for (int i = 0; i < w->waiting_count; i++)
        w->waiting[i] = seq_of(w, w->wait[i]);
    for (int s = 0; s < w->limits.slots_max; s++)
        w->slots[s].held_steps = w->slots[s].worked_steps = w->step - w->since[s];
    for (int i = 0; i < w->running_count; i++) {
        const struct asker *a = w->run[i];
        uint64_t worked = a->running > a->prompt ? (uint64_t)(a->running - a->prompt) : 0;
        for (int k = 0; k < a->count; k++) {
            struct sched_slot *slot = &w->slots[slot_of(w, a->adapters[k])];
            slot->worked_steps = worked < slot->worked_steps ? worked : slot->worked_steps;
        }
    }
}

static void empty(struct world *w, int s)
{
    assert_true(w->slots[s].refs == 0 && !w->slots[s].loading);
    seen.evictions += w->slots[s].adapter != 0;
    w->slots[s] = (struct sched_slot){.share = 1};
}

static void close_slot(struct world *w, int slot)
{
    seen.closes++;
    assert_true(slot >= 0 && w->slots[slot].refs > 0);
    for (int i = 0; i < w->running_count; i++) {
        struct asker *a = w->run[i];
        bool uses = false;
        for (int k = 0; k < a->count; k++)
            uses = uses || slot_of(w, a->adapters[k]) == slot;
        if (uses) {
            a->runs = false;
            assert_true(a->running >= a->prompt + w->limits.turn_steps); /* it moved forward */
            a->slot_steps = a->waited = 0;
        }
    }
}

static void carry_out_loads(struct world *w)
{
    for (int i = 0; i < plan.evict_count; i++)
        empty(w, plan.evict[i]);
    assert_true(!w->limits.slow_loads || plan.load_count <= 1);
    for (int i = 0; i < plan.load_count; i++) {
        const struct sched_load *l = &plan.load[i];
        int adapter = w->wait[l->seq]->adapters[l->adapter];
        empty(w, l->slot);
        w->slots[l->slot] = (struct sched_slot){.adapter = (uint64_t)adapter + 1,
                                                .bytes = w->bytes[adapter],
                                                .share = w->share[adapter],
                                                .pinned = w->pinned[adapter],
                                                .loading = w->limits.slow_loads};
        w->since[l->slot] = w->step;
        w->ready_in[l->slot] = 1 + below(LOADING);
        seen.loads++;
    }
    size_t left = w->limits.room;
    for (int s = 0; s < w->limits.slots_max; s++) {
        assert_true(w->slots[s].bytes <= left);
        left -= w->slots[s].bytes;
    }
}

/* `others` is the largest number that waited beside it. */
static void check_bound(struct world *w, struct asker *a, int waiting)
{
    const struct sched_limits *l = &w->limits;
    a->others = a->waited == 1 || waiting - 1 > a->others ? waiting - 1 : a->others;
    int loads = l->slow_loads ? LOADING * LIMIT_ADAPTERS_PER_REQUEST : 0;
    int bound = l->turn_steps + (1 + a->others) * (PROMPT + l->turn_steps * w->share_max + loads);
    int percent = 100 * a->waited / bound;
    seen.worst_percent = percent > seen.worst_percent ? percent : seen.worst_percent;
    seen.longest = a->waited > seen.longest ? a->waited : seen.longest;
    if (a->waited > bound)
        fail_msg("waited %d steps, bound %d: turn %d, slots %d, %d others wait", a->waited, bound,
                 l->turn_steps, l->slots_max, a->others);
}

static void one_step(struct world *w)
{
    struct sched_in in;
    for (int closes = 0;; closes++) {
        assert_true(closes <= SLOTS);
        gather(w);
        in = (struct sched_in){.running = w->running,
                               .running_count = w->running_count,
                               .waiting = w->waiting,
                               .waiting_count = w->waiting_count,
                               .slots = w->slots,
                               .pages_free = 1000,
                               .admit = true};
        sched_plan_step(&w->limits, &in, &plan);
        if (plan.close < 0)
            break;
        close_slot(w, plan.close);
    }
    carry_out_loads(w);
    for (int i = 0; i < w->waiting_count; i++) {
        struct asker *a = w->wait[i];
        a->slot_steps = plan.taken[i] ? 0 : a->slot_steps + (plan.starved[i] || plan.loading[i]);
        bool waits = plan.starved[i] || plan.loading[i];
        a->waited = waits ? a->waited + 1 : 0;
        if (waits)
            check_bound(w, a, w->waiting_count);
        if (!plan.taken[i])
            continue;
        a->runs = true;
        a->running = 0;
        for (int k = 0; k < a->count; k++) {
            int s = slot_of(w, a->adapters[k]);
            assert_true(s >= 0 && !w->slots[s].loading);
            w->slots[s].used = w->step;
        }
    }
    seen.steps++;
    w->step++;
}

static void test_sched_turns_bound_the_wait(void **state)
{
    (void)state;
    static struct world w;
    for (int round = 0; round < rounds; round++) {
        srand((unsigned)round);
        begin(&w);
        for (int step = 0; step < STEPS; step++) {
            for (int i = 0; i < SEQS; i++) {
                struct asker *a = &w.askers[i];
                if (!a->there && below(4) == 0)
                    ask(&w, a);
                else if (a->there && a->runs && ++a->running >= a->prompt && --a->left <= 0)
                    *a = (struct asker){0};
                else if (a->there && below(400) == 0)
                    *a = (struct asker){0}; /* gives up */
            }
            for (int s = 0; s < w.limits.slots_max; s++)
                if (w.slots[s].loading && --w.ready_in[s] <= 0)
                    w.slots[s].loading = false;
            one_step(&w);
        }
        sched_plan_deinit(&plan);
    }
    printf("figure: turns %d rounds, %llu steps, %llu loads, %llu evictions, %llu slots closed, "
           "longest wait %d, worst %d %% of its bound\n",
           rounds, (unsigned long long)seen.steps, (unsigned long long)seen.loads,
           (unsigned long long)seen.evictions, (unsigned long long)seen.closes, seen.longest,
           seen.worst_percent);
    assert_true(seen.closes > 0 && seen.evictions > 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sched_turns_bound_the_wait)};
    rounds = release_figure(400, 20000);
    if (argc == 3 && strcmp(argv[1], "--rounds") == 0)
        rounds = (int)strtol(argv[2], NULL, 10);
    return cmocka_run_group_tests_name("sched_turns", tests, NULL, NULL);
}
