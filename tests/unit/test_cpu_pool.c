/* cpu_pool: every unit of every task runs exactly once, tasks in order, results visible; an idle
 * pool sleeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/cpu/cpu_pool.h"
#include "tests/unit/cpu_fixture.h"

#define UNITS 97
#define TASKS 12

struct board {
    int cell[TASKS][UNITS]; /* plain: the pool's ordering alone must make them visible */
    int want[TASKS];        /* units of each task */
    int threads;
    atomic_int wrong;
};

/* Task t adds to its cells what all cells of task t - 1 hold: 1 if those are complete. */
static void fill(void *ctx, int t, int begin, int end, int thread)
{
    struct board *b = ctx;
    if (thread < 0 || thread >= b->threads)
        atomic_fetch_add(&b->wrong, 1);
    for (int i = 0; t > 0 && i < b->want[t - 1]; i++) {
        if (b->cell[t - 1][i] != 1)
            atomic_fetch_add(&b->wrong, 1);
    }
    for (int i = begin; i < end; i++)
        b->cell[t][i]++;
}

static void check_threads(int threads, int lists)
{
    struct cpu_pool *p;
    struct fixture_rng r = {(uint64_t)threads};
    static struct board b;
    assert_int_equal(cpu_pool_create(threads, TASKS, &p, NULL), STATUS_OK);
    assert_int_equal(cpu_pool_threads(p), threads);
    for (int l = 0; l < lists; l++) {
        memset(&b, 0, sizeof b);
        b.threads = threads;
        int tasks = 1 + fixture_below(&r, TASKS);
        for (int t = 0; t < tasks; t++) {
            b.want[t] = 1 + fixture_below(&r, UNITS);
            cpu_pool_add(p, (struct cpu_job){.fn = fill, .ctx = &b, .arg = t}, b.want[t],
                         fixture_below(&r, 9));
        }
        cpu_pool_start(p);
        cpu_pool_join(p);
        for (int t = 0; t < tasks; t++) {
            for (int i = 0; i < UNITS; i++) {
                if (b.cell[t][i] != (i < b.want[t]))
                    fail_msg("%d threads, list %d: unit %d of task %d ran %d times", threads, l, i,
                             t, b.cell[t][i]);
            }
        }
        assert_int_equal(atomic_load(&b.wrong), 0);
        if (l % 64 == 0)
            usleep(200); /* lets helpers fall asleep */
    }
    cpu_pool_destroy(p);
}

static void test_cpu_pool_runs_each_unit_once(void **state)
{
    (void)state;
    static const int threads[] = {1, 2, 3, 4, 7};
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++)
        check_threads(threads[i], 2000);
}

static void test_cpu_pool_empty_list(void **state)
{
    (void)state;
    struct cpu_pool *p;
    assert_int_equal(cpu_pool_create(2, 1, &p, NULL), STATUS_OK);
    cpu_pool_start(p);
    cpu_pool_join(p);
    cpu_pool_add(p, (struct cpu_job){.fn = fill}, 0, 1);
    cpu_pool_start(p);
    cpu_pool_join(p);
    cpu_pool_destroy(p);
}

static void count_units(void *ctx, int arg, int begin, int end, int thread)
{
    (void)arg;
    (void)thread;
    atomic_fetch_add((atomic_int *)ctx, end - begin);
}

static void test_cpu_pool_many_units(void **state)
{
    (void)state;
    struct cpu_pool *p;
    atomic_int sum = 0;
    assert_int_equal(cpu_pool_create(2, 1, &p, NULL), STATUS_OK);
    cpu_pool_run(p, (struct cpu_job){.fn = count_units, .ctx = &sum}, 5000000, 1);
    assert_int_equal(atomic_load(&sum), 5000000);
    cpu_pool_destroy(p);
}

static double processor_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void test_cpu_pool_sleeps_when_idle(void **state)
{
    (void)state;
    struct cpu_pool *p;
    atomic_int sum = 0;
    assert_int_equal(cpu_pool_create(4, 1, &p, NULL), STATUS_OK);
    cpu_pool_run(p, (struct cpu_job){.fn = count_units, .ctx = &sum}, 100, 1);
    usleep(20000);
    double before = processor_seconds();
    usleep(200000);
    double used = processor_seconds() - before;
    if (used > 0.01)
        fail_msg("an idle pool used %.4f s of processor time in 0.2 s", used);
    cpu_pool_run(p, (struct cpu_job){.fn = count_units, .ctx = &sum}, 100, 1);
    assert_int_equal(atomic_load(&sum), 200);
    cpu_pool_destroy(p);
}

static void test_cpu_pool_out_of_memory(void **state)
{
    (void)state;
    for (int k = 1; k <= 3; k++) {
        struct cpu_pool *p = NULL;
        struct err e = {0};
        mem_fail_at(k);
        assert_int_equal(cpu_pool_create(2, 4, &p, &e), STATUS_NO_MEMORY);
        mem_fail_at(0);
        assert_null(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu_pool_runs_each_unit_once),
        cmocka_unit_test(test_cpu_pool_empty_list),
        cmocka_unit_test(test_cpu_pool_many_units),
        cmocka_unit_test(test_cpu_pool_sleeps_when_idle),
        cmocka_unit_test(test_cpu_pool_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
