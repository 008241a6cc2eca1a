#include "server/rates.h"

#define LOOK_NS ((int64_t)90000000)
#define SPAN_NS ((int64_t)1100000000)

static struct rates_sample sample_of(int64_t now_ns, const struct engine_stats *s)
{
    return (struct rates_sample){
        .at_ns = now_ns,
        .tokens_in = s->tokens_in - s->tokens_cached,
        .tokens_out = s->tokens_out,
        .steps = s->steps,
        .rows = s->rows,
    };
}

void rates_look(struct rates *r, int64_t now_ns, const struct engine_stats *s)
{
    const struct rates_sample *last = &r->samples[(r->count + RATES_SAMPLES - 1) % RATES_SAMPLES];
    if (r->count > 0 && now_ns - last->at_ns < LOOK_NS)
        return;
    r->samples[r->count++ % RATES_SAMPLES] = sample_of(now_ns, s);
}

void rates_tell(const struct rates *r, int64_t now_ns, const struct engine_stats *s,
                struct rates_now *out)
{
    const struct rates_sample *old = NULL;
    uint64_t kept = r->count < RATES_SAMPLES ? r->count : RATES_SAMPLES;
    for (uint64_t i = r->count - kept; i < r->count && !old; i++) {
        const struct rates_sample *q = &r->samples[i % RATES_SAMPLES];
        if (now_ns - q->at_ns <= SPAN_NS && q->at_ns < now_ns)
            old = q;
    }
    *out = (struct rates_now){0};
    if (!old)
        return;
    struct rates_sample now = sample_of(now_ns, s);
    double span = (double)(now_ns - old->at_ns) / 1e9;
    if (span < 0.05)
        span = 0.05; /* one burst is no rate */
    out->tokens_in = (double)(now.tokens_in - old->tokens_in) / span;
    out->tokens_out = (double)(now.tokens_out - old->tokens_out) / span;
    out->steps = (double)(now.steps - old->steps) / span;
    out->rows = (double)(now.rows - old->rows) / span;
}
