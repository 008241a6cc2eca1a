/* sched is pure, so each case is a picture of a moment and the plan that it must give. The bound on
 * overtaking is also proved by a small simulation without any engine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/sched/sched.h"

#define MANY 1000 /* an outbox with room */

struct moment {
    struct sched_limits limits;
    struct sched_seq running[8];
    int running_count;
    struct sched_seq waiting[8];
    int waiting_count;
    struct sched_slot slots[4];
    int pages_free;
    bool frozen; /* nobody new */
};

static const struct sched_limits wide = {.rows_max = 100,
                                         .chunk_max = 100,
                                         .seqs_max = 8,
                                         .score_max = 4,
                                         .wait_bound_steps = 3,
                                         .slots_max = 2,
                                         .turn_steps = 1000,
                                         .room = SIZE_MAX};

static struct sched_plan plan;

static void make_plan(const struct moment *m)
{
    struct sched_in in = {.running = m->running,
                          .running_count = m->running_count,
                          .waiting = m->waiting,
                          .waiting_count = m->waiting_count,
                          .slots = m->slots,
                          .pages_free = m->pages_free,
                          .admit = !m->frozen};
    assert_int_equal(sched_plan_init(&plan, &m->limits, 8), STATUS_OK);
    sched_plan_step(&m->limits, &in, &plan);
}

static int rows_of(int seq)
{
    for (int i = 0; i < plan.run_count; i++)
        if (plan.run[i].seq == seq)
            return plan.run[i].rows;
    return 0;
}

static void end_plan(void)
{
    sched_plan_deinit(&plan);
}

static struct sched_seq decoding(uint64_t order, int tokens)
{
    return (struct sched_seq){.order = order,
                              .tokens = tokens,
                              .computed = tokens - 1,
                              .pages = sched_pages_for(tokens - 1),
                              .rows_cap = MANY};
}

static struct sched_seq waiting(uint64_t order, int tokens, uint64_t adapter)
{
    struct sched_seq q = {.order = order, .tokens = tokens, .rows_cap = MANY, .loadable = ~0u};
    q.adapter_count = adapter != 0;
    q.adapters[0] = adapter;
    return q;
}

static struct sched_seq prefilling(uint64_t order, int tokens, int computed)
{
    struct sched_seq q = waiting(order, tokens, 0);
    q.computed = computed;
    q.pages = sched_pages_for(tokens);
    return q;
}

static void test_sched_pages_for(void **state)
{
    (void)state;
    static const int cases[][2] = {{0, 0}, {1, 1}, {15, 1}, {16, 1}, {17, 2}, {32, 2}, {33, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(sched_pages_for(cases[i][0]), cases[i][1]);
}

static void test_sched_decode_comes_first(void **state)
{
    (void)state;
    struct moment m = {.limits = wide, .running_count = 3, .pages_free = 10};
    m.limits.rows_max = 10;
    m.limits.chunk_max = 6;
    m.running[0] = prefilling(1, 50, 10);
    m.running[1] = decoding(2, 20);
    m.running[2] = prefilling(3, 9, 0);
    make_plan(&m);
    assert_int_equal(plan.preempt, -1);
    assert_int_equal(rows_of(1), 1);
    assert_int_equal(rows_of(0), 5); /* half of the nine that are left */
    assert_int_equal(rows_of(2), 4);
    end_plan();

    m.limits.rows_max = 50;
    make_plan(&m);
    assert_int_equal(rows_of(0), 6); /* a chunk */
    assert_int_equal(rows_of(2), 6);
    end_plan();
}

/* A long prompt does not keep a short one waiting, and no row is left over that somebody could use.
 */
static void test_sched_shares_rows_between_prompts(void **state)
{
    (void)state;
    struct moment m = {.limits = wide, .running_count = 1, .waiting_count = 1, .pages_free = 1000};
    m.running[0] = prefilling(1, 5000, 100);
    m.waiting[0] = waiting(2, 8, 0);
    make_plan(&m);
    assert_int_equal(rows_of(0), 92);
    assert_int_equal(rows_of(1), 8);
    end_plan();
    m.waiting[0] = waiting(2, 5000, 0); /* as long itself */
    make_plan(&m);
    assert_int_equal(rows_of(0), 50);
    assert_int_equal(rows_of(1), 50);
    end_plan();
    m.pages_free = 3; /* it does not fit */
    make_plan(&m);
    assert_int_equal(rows_of(0), 100);
    end_plan();
}

/* A prompt that comes alone gets the whole step, whoever waits for something else than rows. */
static void test_sched_gives_a_lone_prompt_the_step(void **state)
{
    (void)state;
    static const struct {
        int tokens, computed, chunk, decoders, rows;
    } cases[] = {
        {2048, 0, 2048, 0, 2048},   {2048, 0, 4096, 0, 2048}, {5000, 0, 2048, 0, 2048},
        {5000, 4096, 2048, 0, 904}, {2048, 0, 512, 0, 512},   {2048, 0, 2048, 7, 2041},
        {2048, 2041, 2048, 7, 7},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int arriving = 0; arriving <= 1; arriving++) {
            struct moment m = {.limits = wide, .pages_free = 1000};
            struct sched_seq q = prefilling(9, cases[i].tokens, cases[i].computed);
            m.limits.rows_max = 2048;
            m.limits.chunk_max = cases[i].chunk;
            q.rows_cap = INT32_MAX;
            for (int k = 0; k < cases[i].decoders; k++)
                m.running[m.running_count++] = decoding((uint64_t)k + 1, 20);
            int at = m.running_count;
            if (arriving) {
                m.waiting[m.waiting_count++] = q;
                m.waiting[m.waiting_count++] = waiting(10, 100000, 0); /* no pages for it */
            } else {
                m.running[m.running_count++] = q;
            }
            make_plan(&m);
            assert_int_equal(rows_of(at), cases[i].rows);
            for (int k = 0; k < cases[i].decoders; k++)
                assert_int_equal(rows_of(k), 1);
            end_plan();
        }
}

static uint64_t random_state;

static int below(int n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (int)((random_state >> 33) % (uint64_t)n);
}

static struct moment random_moment(void)
{
    struct moment m = {.limits = wide, .running_count = below(9), .waiting_count = below(9)};
    m.limits.rows_max = 8 + below(60);
    m.limits.chunk_max = 1 + below(m.limits.rows_max);
    m.pages_free = below(40);
    for (int i = 0; i < m.running_count; i++) {
        int tokens = 2 + below(60);
        m.running[i] = below(2) ? decoding((uint64_t)i + 1, tokens)
                                : prefilling((uint64_t)i + 1, tokens, below(tokens - 1));
        m.running[i].rows_cap = below(4) ? MANY : below(5);
    }
    for (int i = 0; i < m.waiting_count; i++)
        m.waiting[i] = waiting((uint64_t)i + 20, 1 + below(60), 0);
    return m;
}

/* Whatever runs beside it, a stream has its row in every step, and no step is longer than it may
 * be; and whoever has fewer rows than it lacks is kept back by a bound, not by the policy: its
 * chunk, its outbox, or a step that is full. */
static void test_sched_bounds_steps_and_fills_them(void **state)
{
    (void)state;
    int streams = 0, cut = 0, full = 0;
    random_state = 7;
    for (int round = 0; round < 20000; round++) {
        struct moment m = random_moment();
        make_plan(&m);
        int rows = 0;
        for (int i = 0; i < plan.run_count; i++)
            rows += plan.run[i].rows;
        assert_in_range(rows, 0, m.limits.rows_max);
        bool planned = plan.preempt < 0;
        full += planned && rows == m.limits.rows_max;
        for (int i = 0; planned && i < m.running_count; i++) {
            const struct sched_seq *q = &m.running[i];
            int lacks = q->tokens - q->computed, has = rows_of(i);
            int most = lacks < q->rows_cap ? lacks : q->rows_cap;
            most = most < m.limits.chunk_max ? most : m.limits.chunk_max;
            assert_in_range(has, 0, most);
            if (lacks == 1 && most == 1)
                assert_int_equal(has, 1);
            else if (rows < m.limits.rows_max)
                assert_int_equal(has, most);
            streams += lacks == 1 && has == 1;
            cut += has < lacks;
        }
        for (int i = 0; planned && i < plan.admit_count; i++) {
            int w = plan.admit[i], lacks = m.waiting[w].tokens, has = rows_of(m.running_count + w);
            int most = lacks < m.limits.chunk_max ? lacks : m.limits.chunk_max;
            assert_in_range(has, 1, most);
            if (rows < m.limits.rows_max)
                assert_int_equal(has, most);
        }
        end_plan();
    }
    assert_true(streams > 10000 && cut > 10000 && full > 1000);
}

static void test_sched_leaves_paused_out(void **state)
{
    (void)state;
    struct moment m = {.limits = wide, .running_count = 3, .pages_free = 10};
    m.running[0] = decoding(1, 20);
    m.running[1] = decoding(2, 20);
    m.running[2] = prefilling(3, 40, 0);
    m.running[0].rows_cap = m.running[2].rows_cap = 0;
    make_plan(&m);
    assert_int_equal(plan.run_count, 1);
    assert_int_equal(rows_of(1), 1);
    end_plan();
}

/* Rows of a prompt that is scored are bounded by its outbox and by the logits of a step. */
static void test_sched_bounds_scored_rows(void **state)
{
    (void)state;
    struct moment m = {.limits = wide, .running_count = 3, .pages_free = 10};
    m.running[0] = prefilling(1, 50, 0);
    m.running[1] = prefilling(2, 50, 0);
    m.running[2] = prefilling(3, 50, 0);
    m.running[0].scores = m.running[1].scores = true;
    m.running[0].rows_cap = 3;
    make_plan(&m);
    assert_int_equal(rows_of(0), 3);
    assert_int_equal(rows_of(1), 1);
    assert_int_equal(rows_of(2), 50);
    end_plan();
}

static void test_sched_preempts_the_youngest_for_a_page(void **state)
{
    (void)state;
    struct moment m = {.limits = wide, .running_count = 3, .waiting_count = 1};
    m.running[0] = decoding(1, 33); /* needs a third page */
    m.running[1] = decoding(2, 20);
    m.running[2] = decoding(3, 20);
    m.waiting[0] = waiting(4, 5, 0);
    make_plan(&m);
    assert_int_equal(plan.preempt, 2);
    assert_int_equal(plan.run_count, 0);
    assert_int_equal(plan.admit_count, 0);
    end_plan();

    m.running[1].rows_cap = 0; /* paused: it goes first, though it is older */
    make_plan(&m);
    assert_int_equal(plan.preempt, 1);
    end_plan();

    m.running[1].rows_cap = MANY;
    m.pages_free = 1;
    make_plan(&m);
    assert_int_equal(plan.preempt, -1);
    assert_int_equal(rows_of(0), 1);
    end_plan();
}

/* It may be the youngest itself that lacks a page: then it goes. */
static void test_sched_preempts_who_asks_if_youngest(void **state)
{
    (void)state;
    struct moment m = {.limits = wide, .running_count = 2};
    m.running[0] = decoding(1, 20);
    m.running[1] = decoding(2, 33);
    make_plan(&m);
    assert_int_equal(plan.preempt, 1);
    end_plan();
}

static void test_sched_admits_in_order_while_it_fits(void **state)
{
    (void)state;
    struct moment m = {.limits = wide, .running_count = 1, .waiting_count = 4, .pages_free = 100};
    m.running[0] = decoding(1, 20);
    for (int i = 0; i < 4; i++)
        m.waiting[i] = waiting(2 + (uint64_t)i, 40, 0);
    make_plan(&m); /* of the 99 rows beside the first's: half, half of the rest ... */
    assert_int_equal(plan.admit_count, 4);
    assert_int_equal(rows_of(1), 40);
    assert_int_equal(rows_of(2), 30);
    assert_int_equal(rows_of(3), 15);
    assert_int_equal(rows_of(4), 14);
    end_plan();

    m.limits.seqs_max = 2;
    make_plan(&m);
    assert_int_equal(plan.admit_count, 1);
    assert_int_equal(plan.admit[0], 0);
    end_plan();

    m.frozen = true;
    make_plan(&m);
    assert_int_equal(plan.admit_count, 0);
    end_plan();
}

/* Pages for the whole prompt and one for each that runs; what the cache has and others hold is
 * free. */
static void test_sched_admission_leaves_pages_to_the_running(void **state)
{
    (void)state;
    struct moment m = {.limits = wide, .running_count = 2, .waiting_count = 1};
    m.running[0] = decoding(1, 20);
    m.running[1] = decoding(2, 20);
    m.waiting[0] = waiting(3, 64, 0);
    for (int pages = 0; pages < 10; pages++) {
        m.pages_free = pages;
        make_plan(&m);
        assert_int_equal(plan.admit_count, pages >= 4 + 2);
        end_plan();
    }
    m.waiting[0].computed = 48;
    m.waiting[0].pages = 3;
    m.pages_free = 3;
    make_plan(&m);
    assert_int_equal(plan.admit_count, 1);
    assert_int_equal(rows_of(2), 16);
    end_plan();
}

static void test_sched_overtakes_only_within_the_bound(void **state)
{
    (void)state;
    struct moment m = {.limits = wide, .waiting_count = 3, .pages_free = 4};
    m.slots[0] = (struct sched_slot){.adapter = 7, .refs = 1, .share = 1};
    m.waiting[0] = waiting(1, 90, 9); /* no pages for it */
    m.waiting[1] = waiting(2, 10, 7);
    m.waiting[2] = waiting(3, 10, 0);
    for (int passed = 0; passed < 6; passed++) {
        m.waiting[0].passed_steps = passed;
        make_plan(&m);
        bool may = passed < m.limits.wait_bound_steps;
        assert_int_equal(plan.admit_count, may ? 2 : 0);
        assert_int_equal(plan.overtaken[0], may);
        end_plan();
    }
}

/* Nobody else waits for a slot that one lacks; it gets one when its turn comes. */
static void test_sched_gives_turns(void **state)
{
    (void)state;
    struct moment m = {.limits = wide, .waiting_count = 4, .running_count = 2, .pages_free = 100};
    m.limits.turn_steps = 10;
    for (int s = 0; s < 2; s++) {
        m.slots[s] = (struct sched_slot){
            .adapter = 7 + (uint64_t)s, .refs = 1, .share = 3, .held_steps = 50 - (uint64_t)s};
        m.running[s] = decoding(1 + (uint64_t)s, 20);
    }
    m.waiting[0] = waiting(3, 10, 9);
    m.waiting[1] = waiting(4, 10, 7);
    m.waiting[2] = waiting(5, 10, 0);
    m.waiting[3] = waiting(6, 10, 8);
    m.waiting[0].passed_steps = 1000; /* of old */
    m.waiting[0].slot_steps = 9;
    make_plan(&m);
    assert_int_equal(plan.admit_count, 3);
    assert_true(plan.starved[0] && !plan.overtaken[0] && plan.close < 0);
    end_plan();
    m.waiting[0].slot_steps = 10;
    m.slots[0].worked_steps = 29;
    m.slots[1].worked_steps = 100;
    make_plan(&m); /* nobody joins the one that was filled first */
    assert_true(plan.close < 0 && !plan.taken[1] && plan.taken[2] && plan.taken[3]);
    end_plan();
    m.slots[0].worked_steps = 30;
    make_plan(&m);
    assert_int_equal(plan.close, 0);
    assert_int_equal(plan.admit_count + plan.run_count + plan.load_count, 0);
    end_plan();
    m.slots[0].refs = 0; /* its users have made way; none of them comes before */
    m.waiting[1] = waiting(1, 10, 7);
    make_plan(&m);
    assert_true(plan.close < 0 && plan.taken[0] && !plan.taken[1] && plan.taken[2]);
    assert_int_equal(plan.load_count, 1);
    assert_int_equal(plan.load[0].slot, 0);
    end_plan();
}

/* Two seats, and the first in line has another adapter than those that run: who shares goes first.
 */
static void test_sched_prefers_adapters_in_use(void **state)
{
    (void)state;
    struct moment m = {.limits = wide, .running_count = 1, .waiting_count = 3, .pages_free = 100};
    m.limits.seqs_max = 2;
    m.running[0] = decoding(1, 20);
    m.running[0].adapter_count = 1;
    m.running[0].adapters[0] = 7;
    m.slots[0] = (struct sched_slot){.adapter = 7, .refs = 1};
    m.waiting[0] = waiting(2, 10, 8);
    m.waiting[1] = waiting(3, 10, 0);
    m.waiting[2] = waiting(4, 10, 7);
    make_plan(&m);
    assert_int_equal(plan.admit_count, 1);
    assert_int_equal(plan.admit[0], 2);
    assert_true(plan.overtaken[0] && plan.overtaken[1]);
    end_plan();
    m.waiting[0].passed_steps = 3; /* long enough: its turn */
    make_plan(&m);
    assert_int_equal(plan.admit_count, 1);
    assert_int_equal(plan.admit[0], 0);
    end_plan();
}

static void test_sched_fills_slots(void **state)
{
    (void)state;
    struct moment m = {.limits = wide, .waiting_count = 1, .pages_free = 100};
    m.waiting[0] = waiting(1, 10, 9);
    m.slots[0] = (struct sched_slot){.adapter = 7, .used = 5};
    m.slots[1] = (struct sched_slot){.adapter = 8, .used = 4};
    make_plan(&m); /* the least recently used leaves */
    assert_int_equal(plan.load_count, 1);
    assert_int_equal(plan.load[0].slot, 1);
    end_plan();

    m.slots[1].refs = 1; /* unless somebody uses it */
    make_plan(&m);
    assert_int_equal(plan.load[0].slot, 0);
    end_plan();

    m.slots[0].adapter = 0;
    m.slots[1].refs = 0;
    make_plan(&m); /* an empty slot before any */
    assert_int_equal(plan.load[0].slot, 0);
    end_plan();

    m.slots[0].adapter = 9;
    make_plan(&m);
    assert_int_equal(plan.load_count, 0);
    assert_int_equal(plan.slots[0].refs, 1);
    end_plan();
}

/* A blend takes all its slots or none, and does not throw out its own. */
static void test_sched_books_blends_whole(void **state)
{
    (void)state;
    struct moment m = {.limits = wide, .waiting_count = 2, .pages_free = 100};
    m.waiting[0] = waiting(1, 10, 9);
    m.waiting[0].adapter_count = 2;
    m.waiting[0].adapters[1] = 7;
    m.waiting[1] = waiting(2, 10, 9);
    m.slots[0] = (struct sched_slot){.adapter = 7, .used = 1};
    m.slots[1] = (struct sched_slot){.adapter = 8, .used = 2};
    make_plan(&m);
    assert_int_equal(plan.admit_count, 2);
    assert_int_equal(plan.load_count, 1); /* the second finds what the first loads */
    assert_int_equal(plan.load[0].slot, 1);
    assert_int_equal(plan.slots[1].refs, 2);
    end_plan();

    m.slots[1].refs = 1;
    m.waiting_count = 1;
    make_plan(&m);
    assert_int_equal(plan.admit_count, 0);
    assert_int_equal(plan.slots[0].refs, 0);
    assert_int_equal(plan.slots[0].adapter, 7);
    end_plan();
}

static void test_sched_paused_gives_way_to_waiting(void **state)
{
    (void)state;
    struct moment m = {.limits = wide, .running_count = 3, .waiting_count = 1, .pages_free = 9};
    m.limits.seqs_max = 3;
    for (int i = 0; i < 3; i++)
        m.running[i] = decoding(1 + (uint64_t)i, 20);
    m.running[0].rows_cap = m.running[1].rows_cap = 0;
    m.waiting[0] = waiting(9, 10, 0);
    make_plan(&m);
    assert_int_equal(plan.preempt, 1);
    end_plan();
    m.limits.seqs_max = 4; /* a seat is free: nobody has to go */
    make_plan(&m);
    assert_int_equal(plan.preempt, -1);
    assert_int_equal(plan.admit_count, 1);
    end_plan();
}

/* A hostile stream of small requests with an adapter in use against one that needs most pages:
 * counted from outside, it is overtaken in at most wait_bound_steps steps. */
static void test_sched_nobody_starves(void **state)
{
    (void)state;
    srand(17);
    int all = 0;
    for (int round = 0; round < 200; round++) {
        struct moment m = {.limits = wide};
        int bound = rand() % 6, overtaken = 0, left[8];
        uint64_t order = 1;
        bool admitted = false;
        m.limits.wait_bound_steps = bound;
        m.waiting[m.waiting_count++] = waiting(order++, 90, 0);
        m.slots[0] = (struct sched_slot){.adapter = 7, .refs = 1, .share = 1};
        m.running[m.running_count] = decoding(order++, 20);
        left[m.running_count++] = 1 + rand() % 5;
        for (int step = 0; !admitted; step++) {
            assert_true(step < 100);
            while (m.waiting_count < 8)
                m.waiting[m.waiting_count++] = waiting(order++, 10, 7);
            m.pages_free = 8 - m.running_count;
            make_plan(&m);
            overtaken += plan.overtaken[0];
            m.waiting[0].passed_steps += m.waiting[0].passed_steps > 0;
            if (plan.overtaken[0] && m.waiting[0].passed_steps == 0)
                m.waiting[0].passed_steps = 1;
            admitted = plan.taken[0];
            for (int i = plan.admit_count - 1; i >= 0; i--) {
                int w = plan.admit[i];
                m.running[m.running_count] = m.waiting[w];
                m.running[m.running_count].computed = m.waiting[w].tokens - 1;
                m.running[m.running_count].pages = 1;
                left[m.running_count++] = 1 + rand() % 5;
                memmove(&m.waiting[w], &m.waiting[w + 1],
                        (size_t)(--m.waiting_count - w) * sizeof m.waiting[0]);
            }
            end_plan();
            for (int i = m.running_count - 1; i >= 0; i--) {
                if (--left[i] > 0)
                    continue;
                m.running_count--;
                for (int k = i; k < m.running_count; k++) {
                    m.running[k] = m.running[k + 1];
                    left[k] = left[k + 1];
                }
            }
        }
        if (overtaken > bound)
            fail_msg("round %d: overtaken in %d steps, bound %d", round, overtaken, bound);
        all += overtaken;
    }
    assert_true(all > 0);
}

static void test_sched_plans_without_allocating(void **state)
{
    (void)state;
    struct moment m = {.limits = wide, .running_count = 1, .waiting_count = 1, .pages_free = 10};
    m.running[0] = decoding(1, 20);
    m.waiting[0] = waiting(2, 10, 5);
    struct sched_in in = {.running = m.running,
                          .running_count = 1,
                          .waiting = m.waiting,
                          .waiting_count = 1,
                          .slots = m.slots,
                          .pages_free = 10,
                          .admit = true};
    assert_int_equal(sched_plan_init(&plan, &m.limits, 8), STATUS_OK);
    uint64_t before = mem_alloc_count();
    sched_plan_step(&m.limits, &in, &plan);
    assert_int_equal(mem_alloc_count(), before);
    end_plan();
    for (int k = 1; k <= 8; k++) {
        mem_fail_at(k);
        assert_int_equal(sched_plan_init(&plan, &m.limits, 8), STATUS_NO_MEMORY);
    }
    mem_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sched_pages_for),
        cmocka_unit_test(test_sched_decode_comes_first),
        cmocka_unit_test(test_sched_shares_rows_between_prompts),
        cmocka_unit_test(test_sched_gives_a_lone_prompt_the_step),
        cmocka_unit_test(test_sched_bounds_steps_and_fills_them),
        cmocka_unit_test(test_sched_leaves_paused_out),
        cmocka_unit_test(test_sched_bounds_scored_rows),
        cmocka_unit_test(test_sched_preempts_the_youngest_for_a_page),
        cmocka_unit_test(test_sched_preempts_who_asks_if_youngest),
        cmocka_unit_test(test_sched_admits_in_order_while_it_fits),
        cmocka_unit_test(test_sched_admission_leaves_pages_to_the_running),
        cmocka_unit_test(test_sched_overtakes_only_within_the_bound),
        cmocka_unit_test(test_sched_gives_turns),
        cmocka_unit_test(test_sched_prefers_adapters_in_use),
        cmocka_unit_test(test_sched_fills_slots),
        cmocka_unit_test(test_sched_books_blends_whole),
        cmocka_unit_test(test_sched_paused_gives_way_to_waiting),
        cmocka_unit_test(test_sched_nobody_starves),
        cmocka_unit_test(test_sched_plans_without_allocating),
    };
    return cmocka_run_group_tests_name("sched", tests, NULL, NULL);
}
