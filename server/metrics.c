#include "server/metrics.h"

#include "server/metrics_text.h"

static const char *const outcome_names[METRICS_OUTCOMES] = {
    [METRICS_OK] = "ok",
    [METRICS_CLIENT_ERROR] = "client_error",
    [METRICS_BUSY] = "busy",
    [METRICS_SERVER_ERROR] = "server_error",
    [METRICS_CANCELLED] = "cancelled",
};

void metrics_count(struct metrics *m, enum route_id route, int status)
{
    enum metrics_outcome o = METRICS_OK;
    if (status == 429)
        o = METRICS_BUSY;
    else if (status == 499)
        o = METRICS_CANCELLED;
    else if (status >= 500)
        o = METRICS_SERVER_ERROR;
    else if (status >= 400)
        o = METRICS_CLIENT_ERROR;
    m->requests[route][o]++;
}

void metrics_first_token(struct metrics *m, double seconds)
{
    histogram_add(&m->first_token, &histogram_request_s, seconds);
}

void metrics_duration(struct metrics *m, double seconds)
{
    histogram_add(&m->duration, &histogram_request_s, seconds);
}

/* All series from the start, zeros too: the first error of a route is an increase then. */
static void write_requests(const struct metrics *m, struct strbuf *b)
{
    metrics_text_head(b, "chorus_requests_total", "counter", "Requests by route and outcome.");
    for (int r = 0; r < ROUTE_COUNT; r++) {
        for (int o = 0; o < METRICS_OUTCOMES; o++)
            strbuf_printf(b, "chorus_requests_total{route=\"%s\",outcome=\"%s\"} %llu\n",
                          routes_label((enum route_id)r), outcome_names[o],
                          (unsigned long long)m->requests[r][o]);
    }
}

void metrics_write(const struct metrics *m, int connections, struct strbuf *out)
{
    write_requests(m, out);
    metrics_text_histogram(out, "chorus_first_token_seconds",
                           "From a request's headers to its first token.", &m->first_token,
                           &histogram_request_s);
    metrics_text_histogram(out, "chorus_request_seconds",
                           "From a generating request's headers to the end of its answer.",
                           &m->duration, &histogram_request_s);
    metrics_text_value(out, "chorus_connections", "gauge", "Open connections.", connections);
}

void metrics_engine_write(const struct engine_stats *s, struct strbuf *out)
{
    const struct {
        const char *name;
        const char *type;
        const char *help;
        double value;
    } rows[] = {
        {"chorus_requests_waiting", "gauge", "Requests that wait for the engine.", s->waiting},
        {"chorus_requests_running", "gauge", "Requests in the engine's batch.", s->running},
        {"chorus_kv_pages", "gauge", "KV pages in all.", s->kv_pages_total},
        {"chorus_kv_pages_used", "gauge", "KV pages held by running requests.", s->kv_pages_used},
        {"chorus_kv_pages_cached", "gauge", "KV pages held by the prefix cache only.",
         s->kv_pages_cached},
        {"chorus_engine_requests_accepted_total", "counter", "Sequences the engine took.",
         (double)s->requests_accepted},
        {"chorus_engine_requests_done_total", "counter", "Sequences that ended by themselves.",
         (double)s->requests_done},
        {"chorus_engine_requests_failed_total", "counter", "Sequences that failed.",
         (double)s->requests_failed},
        {"chorus_engine_requests_cancelled_total", "counter", "Sequences that were cancelled.",
         (double)s->requests_cancelled},
        {"chorus_tokens_in_total", "counter", "Prompt tokens.", (double)s->tokens_in},
        {"chorus_tokens_cached_total", "counter", "Prompt tokens found in the prefix cache.",
         (double)s->tokens_cached},
        {"chorus_prefix_hits_total", "counter", "Sequences that began with cached pages.",
         (double)s->prefix_hits},
        {"chorus_tokens_out_total", "counter", "Generated tokens.", (double)s->tokens_out},
        {"chorus_preemptions_total", "counter", "Sequences set back for lack of KV pages.",
         (double)s->preemptions},
        {"chorus_adapter_wait_steps_max", "gauge",
         "Most steps that a request lacked nothing but its adapters on the device.",
         s->slot_wait_steps_max},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        metrics_text_value(out, rows[i].name, rows[i].type, rows[i].help, rows[i].value);
    metrics_text_histogram(out, "chorus_step_seconds", "Time of an engine step.", &s->step_s,
                           &histogram_step_s);
    metrics_text_histogram(out, "chorus_step_rows", "Rows (tokens) computed in a step.",
                           &s->step_rows, &histogram_rows);
    metrics_text_histogram(out, "chorus_step_adapters", "Distinct adapters in a step.",
                           &s->step_adapters, &histogram_adapters);
    metrics_text_histogram(out, "chorus_inter_token_seconds",
                           "Between a sequence's tokens, in the engine.", &s->token_gap_s,
                           &histogram_step_s);
}
