/* team: some threads for one large piece of work, as loading an adapter is: they begin with it and
 * end with it. They give way to threads that compute answers. Any thread. */
#ifndef CHORUS_BASE_TEAM_H
#define CHORUS_BASE_TEAM_H

#define TEAM_THREADS_MAX 4

/* How many threads such work may use here: half of the processors, 2 of two or three, at most
 * TEAM_THREADS_MAX. */
int team_threads(void);
/* fn(ctx, part, thread) for each part in [0, parts), begun in this order, on the calling thread (0)
 * and up to threads - 1 others; returns when all are done. Threads that cannot be had are done
 * without. What fn wrote is visible afterwards. */
void team_run(int threads, int parts, void (*fn)(void *ctx, int part, int thread), void *ctx);
/* For threads of work like this: names the calling thread and makes it give way to others. */
void team_thread_begins(const char *name);

#endif
