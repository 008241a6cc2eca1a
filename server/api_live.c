#include "server/api_live.h"

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "server/api_error.h"
#include "server/listing.h"
#include "server/live_json.h"
#include "server/server_state.h"
#include "server/sse.h"

#define FRAME_MS        100
#define SILENCE_NS      ((int64_t)1000000000) /* a frame without steps after this */
#define STEPS_A_FRAME   32
#define STATUS_MAX      (64u << 20)
#define FRAME_BYTES_MAX (1u << 20)
#define UNSENT_MAX      (64u << 10) /* of a watcher: beyond it frames are left out */

static void answer_status(struct call *c, const struct strbuf *adapters)
{
    struct strbuf b;
    strbuf_init(&b, STATUS_MAX);
    if (live_json_status(c->server, clock_now_ns(), adapters, &b)) {
        server_answer_json(c, 200, &b);
        return;
    }
    struct err e;
    enum status st = err_set(&e, STATUS_NO_MEMORY, NULL, "out of memory");
    strbuf_deinit(&b);
    server_answer_error(c, api_error_of(st), &e);
}

static void write_adapters(struct listing *l)
{
    live_json_adapters(l->server, l->list, l->count, &l->body);
}

static void answer_listed(struct listing *l)
{
    answer_status(l->call, &l->body);
}

void api_live_status(struct call *c, const char *tail)
{
    static const struct listing_kind kind = {true, write_adapters, answer_listed};
    (void)tail;
    if (c->server->base_names[0])
        listing_begin(c, &kind);
    else
        answer_status(c, NULL);
}

/* One event with the steps from behind `since` to `until`; *last: the number of its last one. */
static bool make_frame(struct server *s, uint64_t since, uint64_t until, int64_t now_ns,
                       uint64_t *last, struct strbuf *b)
{
    struct engine_step *steps = mem_alloc(STEPS_A_FRAME, sizeof *steps);
    if (!steps)
        return false;
    int count = engine_steps(s->engine, since, steps, STEPS_A_FRAME);
    while (count > 0 && steps[count - 1].number > until)
        count--;
    *last = count ? steps[count - 1].number : since;
    strbuf_init(b, FRAME_BYTES_MAX);
    sse_begin(b);
    live_json_steps(s, now_ns, steps, count, b);
    sse_end(b);
    mem_free(steps);
    if (b->failed)
        strbuf_deinit(b);
    return !b->failed;
}

static void on_frame(void *ctx)
{
    struct server *s = ctx;
    struct live *l = &s->live;
    int64_t now = clock_now_ns();
    struct engine_stats stats;
    struct strbuf b;
    engine_get_stats(s->engine, &stats);
    if (stats.steps == l->step_told && now - l->written_ns < SILENCE_NS)
        return;
    if (!make_frame(s, l->step_told, UINT64_MAX, now, &l->step_told, &b))
        return; /* the next one tells more */
    l->written_ns = now;
    for (struct call *c = l->watchers, *next; c; c = next) {
        next = c->next_watcher;
        if (http_stream_unsent(c->x) < UNSENT_MAX)
            http_stream_write(c->x, b.data, b.len);
    }
    strbuf_deinit(&b);
}

static void watch(struct call *c)
{
    struct live *l = &c->server->live;
    c->watches = true;
    c->next_watcher = l->watchers;
    l->watchers = c;
    if (l->watcher_count++ == 0)
        loop_timer_start(l->timer, FRAME_MS, FRAME_MS);
}

/* The first frame comes at once, with the latest steps that fit one; where nobody watched before,
 * the others go on from there. */
void api_live_steps(struct call *c, const char *tail)
{
    (void)tail;
    struct server *s = c->server;
    struct live *l = &s->live;
    struct err e;
    struct strbuf b;
    if (l->watcher_count >= LIMIT_STEP_STREAMS) {
        enum status st =
            err_set(&e, STATUS_BUSY, NULL, "%d clients watch steps already", LIMIT_STEP_STREAMS);
        server_answer_error(c, api_error_of(st), &e);
        return;
    }
    struct engine_stats stats;
    engine_get_stats(s->engine, &stats);
    int64_t now = clock_now_ns();
    uint64_t end = l->watchers ? l->step_told : stats.steps, last;
    uint64_t since = end > STEPS_A_FRAME ? end - STEPS_A_FRAME : 0;
    if (!make_frame(s, since, l->watchers ? end : UINT64_MAX, now, &last, &b)) {
        enum status st = err_set(&e, STATUS_NO_MEMORY, NULL, "out of memory");
        server_answer_error(c, api_error_of(st), &e);
        return;
    }
    if (!l->watchers) {
        l->step_told = last;
        l->written_ns = now;
    }
    http_add_header(c->x, "X-Accel-Buffering", "no");
    http_stream_begin(c->x, 200, "text/event-stream; charset=utf-8");
    watch(c);
    http_stream_write(c->x, b.data, b.len);
    strbuf_deinit(&b);
}

bool api_live_init(struct server *s)
{
    s->live.started_ns = clock_now_ns();
    s->live.timer = loop_timer_create(s->loop, on_frame, s);
    return s->live.timer != NULL;
}

void api_live_deinit(struct server *s)
{
    loop_timer_destroy(s->live.timer);
}

void api_live_on_tick(struct server *s, int64_t now_ns)
{
    struct engine_stats stats;
    if (!s->engine)
        return;
    engine_get_stats(s->engine, &stats);
    rates_look(&s->live.rates, now_ns, &stats);
}

void api_live_on_end(struct call *c)
{
    struct live *l = &c->server->live;
    if (!c->watches)
        return;
    struct call **at = &l->watchers;
    while (*at != c)
        at = &(*at)->next_watcher;
    *at = c->next_watcher;
    if (--l->watcher_count == 0)
        loop_timer_stop(l->timer);
}

void api_live_drain(struct server *s)
{
    for (struct call *c = s->live.watchers; c; c = c->next_watcher)
        http_stream_end(c->x);
    loop_timer_stop(s->live.timer);
}
