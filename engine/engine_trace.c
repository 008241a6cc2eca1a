#include "engine/engine_trace.h"

#include <string.h>

#include "engine/adapter/adapter_slots.h"
#include "engine/base/log.h"
#include "engine/engine_internal.h"

/* A gap is worth a line from here on: half of the demand on what adapters that load may add. */
#define LONGER_PERCENT 5
#define LONGER_NS      50000
#define MEAN_OF        32

void engine_trace_mark(struct engine *e, enum engine_phase phase)
{
    struct engine_trace *t = &e->trace;
    if (!log_enabled(LOG_LEVEL_DEBUG))
        return;
    int64_t now_ns = engine_now(e);
    if (t->mark_ns)
        t->phase_ns[phase] += now_ns - t->mark_ns;
    t->mark_ns = now_ns;
    t->turns += phase == ENGINE_PHASE_DRAIN;
}

void engine_trace_launch(struct engine *e)
{
    e->trace.behind += e->flight_count > 0;
    e->trace.emptied += e->flight_count == 0;
}

static void tell(struct engine *e, int64_t now_ns, int64_t gap_ns)
{
    const struct engine_trace *t = &e->trace;
    bool done, sending = adapter_slots_busy(&e->store, &done);
    LOG_DEBUG(LOG_WHAT("a long gap"), LOG_INT("at_ns", now_ns), LOG_INT("us", gap_ns / 1000),
              LOG_INT("usual_us", t->usual_ns / 1000),
              LOG_INT("drain_us", t->phase_ns[ENGINE_PHASE_DRAIN] / 1000),
              LOG_INT("schedule_us", t->phase_ns[ENGINE_PHASE_SCHEDULE] / 1000),
              LOG_INT("launch_us", t->phase_ns[ENGINE_PHASE_LAUNCH] / 1000),
              LOG_INT("wait_us", t->phase_ns[ENGINE_PHASE_WAIT] / 1000),
              LOG_INT("emit_us", t->phase_ns[ENGINE_PHASE_EMIT] / 1000),
              LOG_INT("rest_us", t->phase_ns[ENGINE_PHASE_REST] / 1000), LOG_INT("turns", t->turns),
              LOG_INT("behind", t->behind), LOG_INT("emptied", t->emptied),
              LOG_INT("placed", t->placed), LOG_INT("usable", t->usable), LOG_INT("gone", t->gone),
              LOG_INT("sending", sending));
}

static void begin_gap(struct engine_trace *t, int64_t now_ns)
{
    const int64_t usual_ns = t->usual_ns, mark_ns = t->mark_ns;
    *t = (struct engine_trace){.mark_ns = mark_ns, .told_ns = now_ns, .usual_ns = usual_ns};
}

void engine_trace_told(struct engine *e)
{
    struct engine_trace *t = &e->trace;
    if (!log_enabled(LOG_LEVEL_DEBUG))
        return;
    const int64_t now_ns = engine_now(e), gap_ns = now_ns - t->told_ns;
    if (t->told_ns == 0) {
        begin_gap(t, now_ns);
        return;
    }
    if (t->usual_ns == 0)
        t->usual_ns = gap_ns;
    if (gap_ns > t->usual_ns + t->usual_ns * LONGER_PERCENT / 100 + LONGER_NS)
        tell(e, now_ns, gap_ns);
    t->usual_ns += (gap_ns - t->usual_ns) / MEAN_OF;
    begin_gap(t, now_ns);
}

void engine_trace_idle(struct engine *e)
{
    begin_gap(&e->trace, 0);
    e->trace.mark_ns = 0;
}
