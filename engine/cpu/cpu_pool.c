#include "engine/cpu/cpu_pool.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/mem.h"

/* One word says where the pool stands: which list (epoch), which task of it, which unit is next. A
 * chunk is claimed by a compare-and-swap that adds its units. A thread that was descheduled between
 * reading the word and the swap fails the swap, because the epoch moved on; so nobody ever waits
 * for a thread that holds no chunk.
 *
 *   state = epoch << 36 | task << 24 | unit,   task = TASK_IDLE: no list in flight
 *
 * Chunks shrink: a claim takes a share of what is left, so that few swaps are made (each moves a
 * cache line between cores) and yet threads finish together.
 *
 * Ordering: start's release store publishes the list; a chunk's results are released by its
 * increment of `done`; the thread that completes a task has acquired all of them and releases them
 * with the store that opens the next task.
 */
#define UNIT_BITS 24
#define TASK_BITS 12
#define TASK_IDLE ((1u << TASK_BITS) - 1)
#define UNITS_MAX ((1 << UNIT_BITS) - 1)

#define SPIN_IDLE_NS    50000 /* between lists, before sleeping: about one gap between two steps */
#define SPIN_BUSY_COUNT 512   /* pauses inside a list before offering the processor to others */

struct task {
    struct cpu_job job;
    /* Atomic: a late thread may look at them while the next list is recorded. */
    atomic_int units;
    atomic_int grain;
};

struct helper {
    struct cpu_pool *pool;
    pthread_t thread;
    int idx;
};

struct cpu_pool {
    int threads;
    int started; /* helpers running */
    int tasks_max;
    int count;      /* tasks recorded */
    uint64_t epoch; /* owner only */
    struct task *tasks;
    struct helper *helpers;
    pthread_mutex_t mutex; /* sleeping, stop, and the store that starts a list */
    pthread_cond_t wake;
    int sleeping;
    atomic_bool stop;
    _Alignas(64) atomic_uint_fast64_t state;
    _Alignas(64) atomic_int done; /* units of the current task */
};

static uint64_t state_of(uint64_t epoch, unsigned task)
{
    return epoch << (UNIT_BITS + TASK_BITS) | (uint64_t)task << UNIT_BITS;
}

static unsigned state_task(uint64_t s)
{
    return (unsigned)(s >> UNIT_BITS) & TASK_IDLE;
}

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int relaxed(const atomic_int *a)
{
    return atomic_load_explicit(a, memory_order_relaxed);
}

/* After the last unit of a task: opens the next one, or ends the list. Tasks of a single chunk are
 * run at once by this thread, which has everything before them in view: no other thread need know.
 */
static void advance(struct cpu_pool *p, uint64_t s, int thread)
{
    unsigned next = state_task(s) + 1;
    uint64_t epoch = s >> (UNIT_BITS + TASK_BITS);
    for (; next < (unsigned)p->count; next++) {
        const struct task *t = &p->tasks[next];
        int units = relaxed(&t->units);
        if (p->threads > 1 && units > relaxed(&t->grain))
            break;
        t->job.fn(t->job.ctx, t->job.arg, 0, units, thread);
    }
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    atomic_store_explicit(&p->state, state_of(epoch, next < (unsigned)p->count ? next : TASK_IDLE),
                          memory_order_release);
}

/* Units to claim when `left` are left: a share, in whole grains. */
static int claim(const struct cpu_pool *p, int left, int grain)
{
    int share = p->threads == 1 ? left : left / (2 * p->threads);
    int size = (share + grain - 1) / grain * grain;
    size = size < grain ? grain : size;
    return size < left ? size : left;
}

/* Tries to claim and run one chunk of the task that `s` shows. False: nothing left to claim. */
static bool work(struct cpu_pool *p, uint64_t s, int thread)
{
    struct task *t = &p->tasks[state_task(s)];
    int units = relaxed(&t->units);
    int begin = (int)(s & UNITS_MAX);
    if (begin >= units)
        return false;
    int size = claim(p, units - begin, relaxed(&t->grain));
    uint_fast64_t seen = s;
    if (!atomic_compare_exchange_strong_explicit(&p->state, &seen, s + (uint64_t)size,
                                                 memory_order_acq_rel, memory_order_relaxed))
        return true;
    t->job.fn(t->job.ctx, t->job.arg, begin, begin + size, thread);
    if (atomic_fetch_add_explicit(&p->done, size, memory_order_acq_rel) + size == units)
        advance(p, s, thread);
    return true;
}

/* Runs chunks until no list is in flight. */
static void drain(struct cpu_pool *p, int thread)
{
    int spins = 0;
    for (;;) {
        uint64_t s = atomic_load_explicit(&p->state, memory_order_acquire);
        if (state_task(s) == TASK_IDLE)
            return;
        if (work(p, s, thread)) {
            spins = 0;
        } else if (++spins < SPIN_BUSY_COUNT) {
            relax();
        } else {
            sched_yield();
        }
    }
}

static bool is_idle(struct cpu_pool *p)
{
    return state_task(atomic_load_explicit(&p->state, memory_order_acquire)) == TASK_IDLE;
}

static bool is_stopped(struct cpu_pool *p)
{
    return atomic_load_explicit(&p->stop, memory_order_relaxed);
}

static void wait_for_list(struct cpu_pool *p)
{
    int64_t until = clock_now_ns() + SPIN_IDLE_NS;
    while (is_idle(p) && !is_stopped(p)) {
        for (int i = 0; i < 16 && is_idle(p); i++)
            relax();
        if (clock_now_ns() < until)
            continue;
        pthread_mutex_lock(&p->mutex);
        p->sleeping++;
        while (is_idle(p) && !is_stopped(p))
            pthread_cond_wait(&p->wake, &p->mutex);
        p->sleeping--;
        pthread_mutex_unlock(&p->mutex);
        return;
    }
}

static void *helper_main(void *arg)
{
    struct helper *h = arg;
    while (!is_stopped(h->pool)) {
        wait_for_list(h->pool);
        drain(h->pool, h->idx);
    }
    return NULL;
}

static enum status start_helpers(struct cpu_pool *p, struct err *e)
{
    for (int i = 1; i < p->threads; i++) {
        struct helper *h = &p->helpers[i];
        *h = (struct helper){.pool = p, .idx = i};
        if (pthread_create(&h->thread, NULL, helper_main, h) != 0)
            return err_set(e, STATUS_NO_MEMORY, "threads", "cannot start thread %d of %d", i + 1,
                           p->threads);
        p->started = i;
    }
    return STATUS_OK;
}

enum status cpu_pool_create(int threads, int tasks_max, struct cpu_pool **out, struct err *e)
{
    CHECK(threads >= 1 && threads <= CPU_POOL_THREADS_MAX);
    CHECK(tasks_max >= 1 && tasks_max < (int)TASK_IDLE);
    struct cpu_pool *p = mem_alloc_aligned(sizeof *p);
    if (!p)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory for the thread pool");
    *p = (struct cpu_pool){.threads = threads, .tasks_max = tasks_max};
    atomic_store(&p->state, state_of(0, TASK_IDLE));
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->tasks = mem_calloc((size_t)tasks_max, sizeof *p->tasks);
    p->helpers = mem_calloc((size_t)threads, sizeof *p->helpers);
    enum status st = STATUS_OK;
    if (!p->tasks || !p->helpers)
        st = err_set(e, STATUS_NO_MEMORY, NULL, "out of memory for the thread pool");
    if (st == STATUS_OK)
        st = start_helpers(p, e);
    if (st != STATUS_OK) {
        cpu_pool_destroy(p);
        return st;
    }
    *out = p;
    return STATUS_OK;
}

void cpu_pool_destroy(struct cpu_pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->mutex);
    atomic_store(&p->stop, true);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
    for (int i = 1; i <= p->started; i++)
        pthread_join(p->helpers[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->mutex);
    mem_free(p->tasks);
    mem_free(p->helpers);
    mem_free(p);
}

int cpu_pool_threads(const struct cpu_pool *p)
{
    return p->threads;
}

void cpu_pool_add(struct cpu_pool *p, struct cpu_job job, int units, int grain)
{
    if (units <= 0)
        return;
    CHECK(p->count < p->tasks_max && units < UNITS_MAX);
    struct task *t = &p->tasks[p->count++];
    t->job = job;
    atomic_store_explicit(&t->units, units, memory_order_relaxed);
    atomic_store_explicit(&t->grain, grain < 1 ? 1 : grain, memory_order_relaxed);
}

void cpu_pool_start(struct cpu_pool *p)
{
    if (p->count == 0)
        return;
    p->epoch++;
    pthread_mutex_lock(&p->mutex);
    atomic_store_explicit(&p->state, state_of(p->epoch, 0), memory_order_release);
    if (p->sleeping > 0)
        pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
}

void cpu_pool_join(struct cpu_pool *p)
{
    drain(p, 0);
    p->count = 0;
}

void cpu_pool_run(struct cpu_pool *p, struct cpu_job job, int units, int grain)
{
    cpu_pool_add(p, job, units, grain);
    cpu_pool_start(p);
    cpu_pool_join(p);
}

int cpu_pool_default_threads(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < 1 ? 1 : n > CPU_POOL_THREADS_MAX ? CPU_POOL_THREADS_MAX : n;
}
