/* The manager's patience is asked for only with news: a load that hangs runs into the unit's own
 * time limit, an engine that hangs into its watchdog. A message that the manager cannot take now is
 * kept and sent at the next tick; a newer one replaces it. */
#include "server/service.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "server/notify.h"
#include "server/server_state.h"

#define TICK_MS        1000
#define TICK_MIN_MS    10
#define MESSAGE_BYTES  1024
#define STATUS_BYTES   512
#define LOAD_EXTEND_US 60000000LL /* from each sign of progress */
#define STOP_EXTEND_US                                                                             \
    10000000LL /* beside the drain timeout: adapters and the device are let go                     \
                */
#define US_PER_MS 1000LL

struct service {
    struct server *s;
    struct notify *notify;
    struct loop_timer *timer;
    bool watchdog;
    unsigned steps;             /* of the progress that was told */
    char status[STATUS_BYTES];  /* that was told */
    char unsent[MESSAGE_BYTES]; /* "": nothing waits */
};

void service_progress_set(struct service_progress *p, const char *what, int percent)
{
    atomic_store(&p->what, what);
    atomic_store(&p->percent, percent);
    atomic_fetch_add(&p->steps, 1);
}

static void tell(struct service *v, const char *message)
{
    if (!notify_send(v->notify, message))
        snprintf(v->unsent, sizeof v->unsent, "%s", message);
    else
        v->unsent[0] = '\0';
}

/* One line: names of models and adapters come from outside. */
static void flatten(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < ' ')
            *text = ' ';
    }
}

static void tell_loading(struct service *v)
{
    struct service_progress *p = v->s->opt->progress;
    unsigned steps = p ? atomic_load(&p->steps) : 0;
    const char *what = p ? atomic_load(&p->what) : NULL;
    if (steps == v->steps && v->status[0])
        return;
    v->steps = steps;
    if (what)
        snprintf(v->status, sizeof v->status, "loading: %s %d %%", what, atomic_load(&p->percent));
    else
        snprintf(v->status, sizeof v->status, "loading");
    char message[MESSAGE_BYTES];
    snprintf(message, sizeof message, "STATUS=%s\nEXTEND_TIMEOUT_USEC=%lld", v->status,
             LOAD_EXTEND_US);
    tell(v, message);
}

static void tell_serving(struct service *v, const struct engine_stats *stats, bool stalled)
{
    const struct server *s = v->s;
    char status[STATUS_BYTES];
    int adapters = engine_adapters(s->engine, NULL, 0);
    if (stalled)
        snprintf(status, sizeof status, "stalled: no step of the engine ends; %d running",
                 stats->running);
    else
        snprintf(status, sizeof status, "serving %.100s on %.100s, %d adapter%s, %d running",
                 s->base_names[0], s->listeners[0].text, adapters, adapters == 1 ? "" : "s",
                 stats->running);
    int waiting = stats->waiting + s->fair.waiting;
    size_t n = strlen(status);
    if (waiting > 0)
        snprintf(status + n, sizeof status - n, ", %d waiting", waiting);
    flatten(status);
    if (strcmp(status, v->status) == 0)
        return;
    snprintf(v->status, sizeof v->status, "%s", status);
    char message[MESSAGE_BYTES];
    snprintf(message, sizeof message, "STATUS=%s", status);
    tell(v, message);
}

static void on_tick(void *ctx)
{
    struct service *v = ctx;
    const struct server *s = v->s;
    if (v->unsent[0] && !notify_send(v->notify, v->unsent))
        return;
    v->unsent[0] = '\0';
    if (s->phase == SERVER_LOADING) {
        tell_loading(v);
        return;
    }
    if (!s->engine)
        return;
    struct engine_stats stats;
    engine_get_stats(s->engine, &stats);
    bool stalled = server_is_stalled(s, &stats);
    if (s->phase == SERVER_READY)
        tell_serving(v, &stats, stalled);
    if (v->watchdog && !stalled)
        notify_send(v->notify, "WATCHDOG=1");
}

enum status service_create(struct server *s, struct service **out, struct err *e)
{
    const struct supervisor *env = s->opt->supervisor;
    *out = NULL;
    if (!env || !env->notify[0])
        return STATUS_OK;
    struct service *v = mem_calloc(1, sizeof *v);
    if (!v)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    v->s = s;
    v->watchdog = env->watchdog_us > 0;
    enum status st = notify_open(env->notify, &v->notify, e);
    if (st != STATUS_OK)
        goto fail;
    v->timer = loop_timer_create(s->loop, on_tick, v);
    if (!v->timer) {
        st = err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
        goto fail;
    }
    /* Four times in the watchdog's time, so that one late turn of the loop is no alarm. */
    int64_t tick_ms = v->watchdog ? env->watchdog_us / US_PER_MS / 4 : TICK_MS;
    tick_ms = tick_ms < TICK_MIN_MS ? TICK_MIN_MS : tick_ms > TICK_MS ? TICK_MS : tick_ms;
    tell_loading(v);
    loop_timer_start(v->timer, (int)tick_ms, (int)tick_ms);
    *out = v;
    return STATUS_OK;
fail:
    notify_close(v->notify);
    mem_free(v);
    return st;
}

void service_destroy(struct service *v)
{
    if (!v)
        return;
    loop_timer_destroy(v->timer);
    notify_close(v->notify);
    mem_free(v);
}

void service_ready(struct service *v)
{
    if (!v)
        return;
    v->unsent[0] = '\0';
    tell(v, "READY=1");
    on_tick(v);
}

void service_reloading(struct service *v)
{
    if (!v)
        return;
    char message[MESSAGE_BYTES];
    snprintf(message, sizeof message, "RELOADING=1\nMONOTONIC_USEC=%lld",
             (long long)(clock_now_ns() / 1000));
    tell(v, message);
}

void service_stopping(struct service *v, int drain_ms)
{
    if (!v)
        return;
    char message[MESSAGE_BYTES];
    snprintf(message, sizeof message,
             "STOPPING=1\nSTATUS=stopping: running answers may finish\nEXTEND_TIMEOUT_USEC=%lld",
             drain_ms * US_PER_MS + STOP_EXTEND_US);
    tell(v, message);
}
