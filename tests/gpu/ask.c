#include "tests/gpu/ask.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "tests/gpu/lanes.h"

#define WAIT_S     120 /* no event for this long: the engine hangs */
#define EVENTS_MAX 32

struct ask {
    struct engine *engine; /* owned */
    pthread_mutex_t lock;  /* guards ready */
    pthread_cond_t wake;
    bool ready;
    char names[ASK_ADAPTERS_MAX][LIMIT_NAME_BYTES + 1];
    int adapters;
    /* of the run */
    const struct ask_job *jobs;
    uint64_t *ids; /* owned, by job */
    int64_t *submitted_ns;
    int *flying; /* owned, jobs in flight */
    int flying_count;
    struct engine_event events[EVENTS_MAX];
};

static void on_notify(void *ctx)
{
    struct ask *a = ctx;
    pthread_mutex_lock(&a->lock);
    a->ready = true;
    pthread_cond_signal(&a->wake);
    pthread_mutex_unlock(&a->lock);
}

static void wait_ready(struct ask *a)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    pthread_mutex_lock(&a->lock);
    int rc = 0;
    while (!a->ready && rc == 0)
        rc = pthread_cond_timedwait(&a->wake, &a->lock, &until);
    bool ready = a->ready;
    a->ready = false;
    pthread_mutex_unlock(&a->lock);
    if (!ready)
        lanes_die("the engine said nothing for %d s", WAIT_S);
}

struct ask *ask_open(const struct engine_options *opt)
{
    struct ask *a = lanes_alloc(1, sizeof *a);
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->wake, NULL);
    struct engine_options o = *opt;
    o.notify = on_notify;
    o.notify_ctx = a;
    struct err e = {0};
    if (engine_open(&o, &a->engine, &e) != STATUS_OK)
        lanes_die("%s: %s", opt->model_dir, e.msg);
    return a;
}

void ask_close(struct ask *a)
{
    engine_close(a->engine);
    pthread_cond_destroy(&a->wake);
    pthread_mutex_destroy(&a->lock);
    free(a->ids);
    free(a->submitted_ns);
    free(a->flying);
    free(a);
}

struct engine *ask_engine(struct ask *a)
{
    return a->engine;
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int ask_list(const char *dir, char ***out)
{
    DIR *d = opendir(dir);
    if (!d)
        lanes_die("%s: cannot read this directory", dir);
    char **list = lanes_alloc(LIMIT_ADAPTERS, sizeof *list);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(d)) && count < LIMIT_ADAPTERS;) {
        char path[4096];
        struct stat info;
        snprintf(path, sizeof path, "%s/%s/adapter_config.json", dir, entry->d_name);
        if (entry->d_name[0] == '.' || stat(path, &info) != 0)
            continue;
        list[count] = lanes_alloc(sizeof path, 1);
        snprintf(list[count++], sizeof path, "%s/%s", dir, entry->d_name);
    }
    closedir(d);
    qsort(list, (size_t)count, sizeof *list, compare_paths);
    *out = list;
    return count;
}

int ask_add(struct ask *a, const char *dir, int most)
{
    char **paths;
    int count = ask_list(dir, &paths);
    for (int i = 0; i < count; i++) {
        if (a->adapters < most && a->adapters < ASK_ADAPTERS_MAX) {
            char *name = a->names[a->adapters++];
            struct err e = {0};
            uint64_t generation;
            snprintf(name, sizeof a->names[0], "%s", strrchr(paths[i], '/') + 1);
            if (engine_adapter_add(a->engine, name, paths[i], &generation, &e) != STATUS_OK)
                lanes_die("%s: %s", paths[i], e.msg);
        }
        free(paths[i]);
    }
    free(paths);
    return a->adapters;
}

static void submit(struct ask *a, int job)
{
    const struct ask_job *j = &a->jobs[job];
    struct engine_request r = {.request_id = "ask",
                               .prompt = j->prompt,
                               .prompt_count = j->prompt_count,
                               .adapter_count = j->adapter_count,
                               .max_tokens = j->max_tokens,
                               .embed = j->embed,
                               .ignore_eos = true,
                               .cache_prompt = true,
                               .sampling = j->params,
                               .grammar = j->grammar};
    for (int i = 0; i < j->adapter_count; i++) {
        snprintf(r.adapters[i].name, sizeof r.adapters[i].name, "%s", a->names[j->adapters[i]]);
        r.adapters[i].weight = j->weights[i];
    }
    struct err e = {0};
    a->submitted_ns[job] = clock_now_ns();
    if (engine_submit(a->engine, &r, &a->ids[job], NULL, &e) != STATUS_OK)
        lanes_die("job %d was refused: %s", job, e.msg);
    a->flying[a->flying_count++] = job;
}

/* Reads what is there; true once the job has ended. */
static bool drain(struct ask *a, int job,
                  void (*on_event)(void *ctx, int job, const struct engine_event *ev), void *ctx)
{
    for (;;) {
        int n = engine_read(a->engine, a->ids[job], a->events, EVENTS_MAX);
        for (int i = 0; i < n; i++) {
            const struct engine_event *ev = &a->events[i];
            if (ev->kind == ENGINE_EVENT_ERROR || ev->kind == ENGINE_EVENT_CANCELLED)
                lanes_die("job %d ended early: %s", job, ev->err.msg);
            if (on_event)
                on_event(ctx, job, ev);
            mem_free(ev->embedding);
            if (ev->kind == ENGINE_EVENT_DONE)
                return true;
        }
        if (n < EVENTS_MAX)
            return false;
    }
}

static int find_flying(const struct ask *a, uint64_t id)
{
    int f = a->flying_count - 1;
    while (f >= 0 && a->ids[a->flying[f]] != id)
        f--;
    return f;
}

void ask_run(struct ask *a, const struct ask_job *jobs, int count, int in_flight,
             void (*on_event)(void *ctx, int job, const struct engine_event *ev), void *ctx)
{
    free(a->ids);
    free(a->submitted_ns);
    free(a->flying);
    a->jobs = jobs;
    a->ids = lanes_alloc((size_t)count, sizeof *a->ids);
    a->submitted_ns = lanes_alloc((size_t)count, sizeof *a->submitted_ns);
    a->flying = lanes_alloc((size_t)in_flight, sizeof *a->flying);
    a->flying_count = 0;
    int sent = 0;
    while (sent < count || a->flying_count > 0) {
        while (sent < count && a->flying_count < in_flight)
            submit(a, sent++);
        wait_ready(a);
        uint64_t ready[64];
        int n;
        while ((n = engine_ready(a->engine, ready, 64)) > 0) {
            for (int i = 0; i < n; i++) {
                int f = find_flying(a, ready[i]);
                if (f >= 0 && drain(a, a->flying[f], on_event, ctx))
                    a->flying[f] = a->flying[--a->flying_count];
            }
        }
    }
}

int64_t ask_submitted_ns(const struct ask *a, int job)
{
    return a->submitted_ns[job];
}
