/* Work cut into parts, and a hash that follows what arrives. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/sha256_job.h"
#include "engine/base/team.h"

#define PARTS 5000

struct parts {
    int done[PARTS];
    atomic_int of_thread[TEAM_THREADS_MAX];
    atomic_int out_of_turn;
    int last[TEAM_THREADS_MAX];
};

static void do_part(void *ctx, int part, int thread)
{
    struct parts *p = ctx;
    p->done[part]++;
    p->of_thread[thread]++;
    p->out_of_turn += part <= p->last[thread];
    p->last[thread] = part;
}

static void test_team_does_each_part_once(void **state)
{
    (void)state;
    static struct parts p;
    for (int threads = 1; threads <= TEAM_THREADS_MAX; threads++) {
        int sum = 0;
        memset(&p, 0, sizeof p);
        memset(p.last, -1, sizeof p.last);
        team_run(threads, PARTS, do_part, &p);
        for (int i = 0; i < PARTS; i++)
            assert_int_equal(p.done[i], 1);
        for (int i = 0; i < TEAM_THREADS_MAX; i++) {
            sum += p.of_thread[i];
            assert_true(i < threads || p.of_thread[i] == 0);
        }
        assert_int_equal(sum, PARTS);
        assert_int_equal(p.out_of_turn, 0);
    }
    memset(&p, 0, sizeof p);
    team_run(2, 0, do_part, &p);
    assert_int_equal(p.of_thread[0] + p.of_thread[1], 0);
    assert_in_range(team_threads(), 1, TEAM_THREADS_MAX);
}

/* Its other threads are nice, the caller is as before. */
static atomic_int wait_for_two;
static int niceness[2];
static void note_niceness(void *ctx, int part, int thread)
{
    (void)ctx;
    (void)part;
    niceness[thread] = getpriority(PRIO_PROCESS, 0);
    wait_for_two++;
    while (wait_for_two < 2)
        sched_yield();
}

static void test_team_gives_way(void **state)
{
    (void)state;
    const int before = getpriority(PRIO_PROCESS, 0);
    team_run(2, 2, note_niceness, NULL);
    assert_int_equal(niceness[0], before);
    assert_int_equal(niceness[1], before > 10 ? before : 10);
    assert_int_equal(getpriority(PRIO_PROCESS, 0), before);
}

/* What has not arrived holds something else. */
static void test_sha256_job_follows(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 1000, 65536, 65537, 3000000, 9000001};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        uint8_t want[SHA256_BYTES], got[SHA256_BYTES];
        struct sha256 h;
        uint8_t *data = calloc(n + 1, 1), *source = malloc(n + 1);
        for (size_t k = 0; k < n; k++)
            source[k] = (uint8_t)(k * 31 + k / 257);
        sha256_init(&h);
        sha256_update(&h, "in front", 8);
        sha256_update(&h, source, n);
        sha256_final(&h, want);
        struct sha256_job *j = sha256_job_begin();
        assert_non_null(j);
        sha256_job_update(j, "in front", 8);
        sha256_job_follow(j, data, n);
        for (size_t at = 0, step; at < n; at += step) {
            step = n - at < 700001 ? n - at : 700001;
            memcpy(data + at, source + at, step);
            sha256_job_reached(j, at + step);
        }
        sha256_job_end(j, got);
        assert_memory_equal(got, want, sizeof want);
        free(data);
        free(source);
    }
}

/* A reading that failed: the data goes, whatever the thread was at. */
static void test_sha256_job_stops(void **state)
{
    (void)state;
    const size_t n = 4000000;
    for (int i = 0; i < 20; i++) {
        uint8_t *data = calloc(n, 1);
        struct sha256_job *j = sha256_job_begin();
        assert_non_null(j);
        sha256_job_follow(j, data, n);
        if (i % 3)
            sha256_job_reached(j, n / 3 * (size_t)(i % 3));
        if (i % 2) {
            sha256_job_stop(j);
            free(data);
            sha256_job_end(j, NULL);
        } else {
            sha256_job_end(j, NULL);
            free(data);
        }
    }
    mem_fail_at(1);
    struct sha256_job *none = sha256_job_begin();
    mem_fail_at(0);
    assert_null(none);
    sha256_job_end(sha256_job_begin(), NULL); /* never followed anything */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_team_does_each_part_once),
        cmocka_unit_test(test_team_gives_way),
        cmocka_unit_test(test_sha256_job_follows),
        cmocka_unit_test(test_sha256_job_stops),
    };
    return cmocka_run_group_tests_name("team", tests, NULL, NULL);
}
