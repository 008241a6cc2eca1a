#include "server/loop.h"

#include <signal.h>
#include <stdatomic.h>

#include <uv.h>

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/mem.h"

#define LONG_NS 500000 /* of a turn, or from a wake to its call: others' tokens wait so long */

struct loop {
    uv_loop_t uv;
    uv_signal_t signals[2];
    void (*signal_fn)(void *ctx);
    void *signal_ctx;
    int signal_count;
    uv_signal_t hangup;
    void (*hangup_fn)(void *ctx);
    void *hangup_ctx;
    uv_check_t turn;
    struct {
        int64_t ns; /* 0: not known */
        int64_t idle_ns, cpu_ns;
    } last; /* at the end of the last turn's wait, while the log wants to know */
};

/* Each handle begins with its uv part, so that one close callback frees them all. */
struct loop_timer {
    uv_timer_t uv;
    void (*fn)(void *ctx);
    void *ctx;
};

struct loop_waker {
    uv_async_t uv;
    _Atomic int64_t asked_ns; /* by the first who is not called yet; 0: nobody, or not known */
    void (*fn)(void *ctx);
    void *ctx;
};

struct loop_watch {
    uv_poll_t uv;
    enum loop_watch_kind kind;
    void (*fn)(void *ctx);
    void *ctx;
};

struct loop_dir {
    uv_fs_event_t uv;
    void (*fn)(void *ctx);
    void *ctx;
};

struct pool_item {
    uv_work_t uv;
    void (*work)(void *ctx);
    void (*done)(void *ctx);
    void *ctx;
};

static void free_handle(uv_handle_t *h)
{
    mem_free(h);
}

static void close_handle(void *handle)
{
    uv_handle_t *h = handle;
    if (!uv_is_closing(h))
        uv_close(h, free_handle);
}

/* Says of a turn that it took long, and how much of that the thread ran. */
static void on_turn(uv_check_t *h)
{
    struct loop *l = h->data;
    if (!log_enabled(LOG_LEVEL_DEBUG)) {
        l->last.ns = 0;
        return;
    }
    int64_t now = clock_now_ns(), cpu = clock_thread_cpu_ns();
    int64_t idle = (int64_t)uv_metrics_idle_time(&l->uv);
    int64_t busy = now - l->last.ns - (idle - l->last.idle_ns);
    if (l->last.ns && busy > LONG_NS)
        LOG_DEBUG(LOG_WHAT("a long turn of the loop"), LOG_INT("at_ns", now),
                  LOG_INT("us", busy / 1000), LOG_INT("cpu_us", (cpu - l->last.cpu_ns) / 1000));
    l->last.ns = now;
    l->last.idle_ns = idle;
    l->last.cpu_ns = cpu;
}

enum status loop_create(struct loop **out, struct err *e)
{
    struct loop *l = mem_calloc(1, sizeof *l);
    if (!l)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    int rc = uv_loop_init(&l->uv);
    if (rc != 0) {
        mem_free(l);
        return err_set(e, STATUS_IO, NULL, "cannot create an event loop: %s", uv_strerror(rc));
    }
    signal(SIGPIPE, SIG_IGN);
    (void)uv_loop_configure(&l->uv, UV_METRICS_IDLE_TIME); /* without it turns look longer */
    uv_check_init(&l->uv, &l->turn);
    l->turn.data = l;
    uv_check_start(&l->turn, on_turn);
    uv_unref((uv_handle_t *)&l->turn);
    *out = l;
    return STATUS_OK;
}

/* The handles that live inside struct loop must not be freed on their own. */
static void close_leftover(uv_handle_t *h, void *arg)
{
    struct loop *l = arg;
    if (uv_is_closing(h))
        return;
    bool inside = (char *)h >= (char *)l && (char *)h < (char *)(l + 1);
    uv_close(h, inside ? NULL : free_handle);
}

void loop_destroy(struct loop *l)
{
    if (!l)
        return;
    uv_walk(&l->uv, close_leftover, l);
    uv_run(&l->uv, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&l->uv) == 0);
    mem_free(l);
}

void loop_run(struct loop *l)
{
    uv_run(&l->uv, UV_RUN_DEFAULT);
}

void loop_stop(struct loop *l)
{
    uv_stop(&l->uv);
}

void loop_turn(struct loop *l)
{
    uv_run(&l->uv, UV_RUN_ONCE);
}

static enum status watch_signal(struct loop *l, uv_signal_t *h, uv_signal_cb fn, int number,
                                struct err *e)
{
    int rc = uv_signal_init(&l->uv, h);
    if (rc != 0)
        return err_set(e, STATUS_IO, NULL, "cannot watch signals: %s", uv_strerror(rc));
    h->data = l;
    rc = uv_signal_start(h, fn, number);
    if (rc != 0) {
        uv_close((uv_handle_t *)h, NULL);
        return err_set(e, STATUS_IO, NULL, "cannot watch signals: %s", uv_strerror(rc));
    }
    uv_unref((uv_handle_t *)h);
    return STATUS_OK;
}

static void on_signal(uv_signal_t *h, int signum)
{
    (void)signum;
    struct loop *l = h->data;
    l->signal_fn(l->signal_ctx);
}

enum status loop_on_stop_signal(struct loop *l, void (*fn)(void *ctx), void *ctx, struct err *e)
{
    static const int numbers[2] = {SIGINT, SIGTERM};
    l->signal_fn = fn;
    l->signal_ctx = ctx;
    enum status st = STATUS_OK;
    for (; st == STATUS_OK && l->signal_count < 2; l->signal_count++)
        st = watch_signal(l, &l->signals[l->signal_count], on_signal, numbers[l->signal_count], e);
    return st;
}

static void on_hangup(uv_signal_t *h, int signum)
{
    (void)signum;
    struct loop *l = h->data;
    l->hangup_fn(l->hangup_ctx);
}

enum status loop_on_hangup(struct loop *l, void (*fn)(void *ctx), void *ctx, struct err *e)
{
    l->hangup_fn = fn;
    l->hangup_ctx = ctx;
    return watch_signal(l, &l->hangup, on_hangup, SIGHUP, e);
}

static void on_timer(uv_timer_t *h)
{
    struct loop_timer *t = (struct loop_timer *)h;
    t->fn(t->ctx);
}

struct loop_timer *loop_timer_create(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
    struct loop_timer *t = mem_calloc(1, sizeof *t);
    if (!t)
        return NULL;
    uv_timer_init(&l->uv, &t->uv);
    t->fn = fn;
    t->ctx = ctx;
    return t;
}

void loop_timer_start(struct loop_timer *t, int after_ms, int repeat_ms)
{
    uv_update_time(t->uv.loop);
    uv_timer_start(&t->uv, on_timer, (uint64_t)after_ms, (uint64_t)repeat_ms);
}

void loop_timer_stop(struct loop_timer *t)
{
    uv_timer_stop(&t->uv);
}

void loop_timer_destroy(struct loop_timer *t)
{
    if (t)
        close_handle(t);
}

static void on_wake(uv_async_t *h)
{
    struct loop_waker *w = (struct loop_waker *)h;
    int64_t asked = atomic_exchange(&w->asked_ns, 0), now = asked ? clock_now_ns() : 0;
    if (now - asked > LONG_NS)
        LOG_DEBUG(LOG_WHAT("the loop was woken late"), LOG_INT("at_ns", now),
                  LOG_INT("us", (now - asked) / 1000));
    w->fn(w->ctx);
}

struct loop_waker *loop_waker_create(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
    struct loop_waker *w = mem_calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->fn = fn;
    w->ctx = ctx;
    if (uv_async_init(&l->uv, &w->uv, on_wake) != 0) {
        mem_free(w);
        return NULL;
    }
    return w;
}

void loop_wake(struct loop_waker *w)
{
    int64_t nobody = 0;
    if (log_enabled(LOG_LEVEL_DEBUG))
        (void)atomic_compare_exchange_strong(&w->asked_ns, &nobody, clock_now_ns());
    uv_async_send(&w->uv);
}

void loop_waker_destroy(struct loop_waker *w)
{
    if (w)
        close_handle(w);
}

static void on_poll(uv_poll_t *h, int status, int events)
{
    (void)status; /* a reset shows as an error here: it is a hang-up like any other */
    (void)events;
    struct loop_watch *w = (struct loop_watch *)h;
    if (w->kind == LOOP_HANGUP)
        uv_poll_stop(h);
    w->fn(w->ctx);
}

struct loop_watch *loop_watch_create(struct loop *l, int fd, enum loop_watch_kind kind,
                                     void (*fn)(void *ctx), void *ctx)
{
    struct loop_watch *w = mem_calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->kind = kind;
    w->fn = fn;
    w->ctx = ctx;
    if (uv_poll_init(&l->uv, &w->uv, fd) != 0) {
        mem_free(w);
        return NULL;
    }
    if (uv_poll_start(&w->uv, kind == LOOP_HANGUP ? UV_DISCONNECT : UV_READABLE, on_poll) != 0) {
        close_handle(w);
        return NULL;
    }
    return w;
}

void loop_watch_destroy(struct loop_watch *w)
{
    if (!w)
        return;
    uv_poll_stop(&w->uv); /* now: the descriptor may be closed and its number reused at once */
    close_handle(w);
}

static void on_dir(uv_fs_event_t *h, const char *name, int events, int status)
{
    (void)name;
    (void)events;
    (void)status; /* what cannot be read any more has changed too */
    struct loop_dir *d = (struct loop_dir *)h;
    d->fn(d->ctx);
}

struct loop_dir *loop_dir_create(struct loop *l, const char *path, void (*fn)(void *ctx), void *ctx)
{
    struct loop_dir *d = mem_calloc(1, sizeof *d);
    if (!d)
        return NULL;
    d->fn = fn;
    d->ctx = ctx;
    if (uv_fs_event_init(&l->uv, &d->uv) != 0) {
        mem_free(d);
        return NULL;
    }
    if (uv_fs_event_start(&d->uv, on_dir, path, 0) != 0) {
        close_handle(d);
        return NULL;
    }
    return d;
}

void loop_dir_destroy(struct loop_dir *d)
{
    if (d)
        close_handle(d);
}

static void on_pool_work(uv_work_t *uv)
{
    struct pool_item *p = (struct pool_item *)uv;
    p->work(p->ctx);
}

static void on_pool_done(uv_work_t *uv, int status)
{
    (void)status;
    struct pool_item *p = (struct pool_item *)uv;
    void (*done)(void *ctx) = p->done;
    void *ctx = p->ctx;
    mem_free(p);
    done(ctx);
}

bool loop_pool(struct loop *l, void (*work)(void *ctx), void (*done)(void *ctx), void *ctx)
{
    struct pool_item *p = mem_calloc(1, sizeof *p);
    if (!p)
        return false;
    p->work = work;
    p->done = done;
    p->ctx = ctx;
    if (uv_queue_work(&l->uv, &p->uv, on_pool_work, on_pool_done) != 0) {
        mem_free(p);
        return false;
    }
    return true;
}
