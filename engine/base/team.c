#include "engine/base/team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include "engine/base/status.h"

#define NICENESS 10 /* a tenth of the time of a thread that is not nice */

struct team {
    void (*fn)(void *ctx, int part, int thread);
    void *ctx;
    int parts;
    atomic_int next;
};

struct member {
    struct team *team;
    pthread_t thread;
    int number;
};

int team_threads(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < 4 ? (n < 2 ? 1 : 2) : n > 2 * TEAM_THREADS_MAX ? TEAM_THREADS_MAX : n / 2;
}

void team_thread_begins(const char *name)
{
    pthread_setname_np(pthread_self(), name);
    if (getpriority(PRIO_PROCESS, 0) < NICENESS)
        (void)setpriority(PRIO_PROCESS, 0, NICENESS); /* of this thread alone, on Linux */
}

static void work(struct team *t, int number)
{
    for (int part; (part = atomic_fetch_add(&t->next, 1)) < t->parts;)
        t->fn(t->ctx, part, number);
}

static void *member_main(void *arg)
{
    struct member *m = arg;
    team_thread_begins("adapter-work");
    work(m->team, m->number);
    return NULL;
}

void team_run(int threads, int parts, void (*fn)(void *ctx, int part, int thread), void *ctx)
{
    struct team t = {.fn = fn, .ctx = ctx, .parts = parts};
    struct member members[TEAM_THREADS_MAX];
    int count = 0, most = threads < parts ? threads : parts;
    CHECK(threads >= 1 && threads <= TEAM_THREADS_MAX);
    for (; count + 1 < most; count++) {
        members[count] = (struct member){.team = &t, .number = count + 1};
        if (pthread_create(&members[count].thread, NULL, member_main, &members[count]) != 0)
            break;
    }
    work(&t, 0);
    for (int i = 0; i < count; i++)
        pthread_join(members[i].thread, NULL);
}
