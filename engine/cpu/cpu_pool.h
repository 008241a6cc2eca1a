/* cpu_pool: a list of tasks run in order by a few persistent threads, each task cut into chunks.
 *
 * The owner (the engine thread) records tasks, starts them, and takes part when it joins. A task
 * begins when the one before it is complete. Which thread runs a chunk is decided while running, so
 * that a thread that is late or descheduled delays only its own chunk; a task must therefore
 * compute every unit in a way that does not depend on the chunk or the thread. Helpers spin for
 * some microseconds between lists and then sleep: an idle pool uses no processor time.
 */
#ifndef CHORUS_CPU_CPU_POOL_H
#define CHORUS_CPU_CPU_POOL_H

#include "engine/base/status.h"

struct cpu_pool;

/* Computes units [begin, end) on `thread` (0 .. threads - 1). */
struct cpu_job {
    void (*fn)(void *ctx, int arg, int begin, int end, int thread);
    void *ctx;
    int arg;
};

#define CPU_POOL_THREADS_MAX 256

/* `threads` counts the caller of cpu_pool_join; at least 1. `tasks_max` tasks fit into a list. */
WARN_UNUSED enum status cpu_pool_create(int threads, int tasks_max, struct cpu_pool **out,
                                        struct err *e);
/* NULL is allowed. No list is in flight. */
void cpu_pool_destroy(struct cpu_pool *p);
int cpu_pool_threads(const struct cpu_pool *p);

/* Appends a task of `units` units (below 16 million) to the list that is being recorded. Chunks are
 * multiples of `grain` (at least 1; the last one may be smaller) and begin at one. No units:
 * nothing is appended. */
void cpu_pool_add(struct cpu_pool *p, struct cpu_job job, int units, int grain);
/* Hands the recorded list to the helpers and returns at once. */
void cpu_pool_start(struct cpu_pool *p);
/* Takes part until every task is complete; what they wrote is visible afterwards. Clears the list.
 */
void cpu_pool_join(struct cpu_pool *p);
/* add, start, join of one task. */
void cpu_pool_run(struct cpu_pool *p, struct cpu_job job, int units, int grain);

/* Processors this process may use. */
int cpu_pool_default_threads(void);

#endif
