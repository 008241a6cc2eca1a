#include "server/metrics.h"

static const double bounds_s[METRICS_BUCKETS] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                                 1,     2.5,  5,     10,   30,  60,   120};

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

void metrics_observe(struct metrics_histogram *h, double seconds)
{
    int i = 0;
    while (i < METRICS_BUCKETS && seconds > bounds_s[i])
        i++;
    h->counts[i]++;
    h->sum_s += seconds;
}

static void head(struct strbuf *b, const char *name, const char *type, const char *help)
{
    strbuf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void write_requests(const struct metrics *m, struct strbuf *b)
{
    head(b, "chorus_requests_total", "counter", "Requests by route and outcome.");
    for (int r = 0; r < ROUTE_COUNT; r++) {
        for (int o = 0; o < METRICS_OUTCOMES; o++) {
            if (m->requests[r][o])
                strbuf_printf(b, "chorus_requests_total{route=\"%s\",outcome=\"%s\"} %llu\n",
                              routes_label((enum route_id)r), outcome_names[o],
                              (unsigned long long)m->requests[r][o]);
        }
    }
}

static void write_histogram(const struct metrics_histogram *h, const char *name, const char *help,
                            struct strbuf *b)
{
    head(b, name, "histogram", help);
    uint64_t total = 0;
    for (int i = 0; i < METRICS_BUCKETS; i++) {
        total += h->counts[i];
        strbuf_printf(b, "%s_bucket{le=\"%g\"} %llu\n", name, bounds_s[i],
                      (unsigned long long)total);
    }
    total += h->counts[METRICS_BUCKETS];
    strbuf_printf(b, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.6f\n%s_count %llu\n", name,
                  (unsigned long long)total, name, h->sum_s, name, (unsigned long long)total);
}

static void write_engine(const struct engine_stats *s, struct strbuf *b)
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
        {"chorus_tokens_out_total", "counter", "Generated tokens.", (double)s->tokens_out},
        {"chorus_steps_total", "counter", "Engine steps.", (double)s->steps},
        {"chorus_rows_total", "counter", "Rows (tokens) computed in steps.", (double)s->rows},
        {"chorus_preemptions_total", "counter", "Sequences set back for lack of KV pages.",
         (double)s->preemptions},
        {"chorus_adapter_wait_steps_max", "gauge",
         "Most steps that a request lacked nothing but its adapters on the device.",
         s->slot_wait_steps_max},
        {"chorus_step_rows", "gauge", "Rows in the last step.", s->last_step_rows},
        {"chorus_step_sequences", "gauge", "Sequences in the last step.", s->last_step_seqs},
        {"chorus_step_adapters", "gauge", "Distinct adapters in the last step.",
         s->last_step_adapters},
        {"chorus_step_seconds", "gauge", "Time of the last step.", (double)s->last_step_ns / 1e9},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        head(b, rows[i].name, rows[i].type, rows[i].help);
        strbuf_printf(b, "%s %.17g\n", rows[i].name, rows[i].value);
    }
}

void metrics_write(const struct metrics *m, const struct engine_stats *stats, int connections,
                   struct strbuf *out)
{
    write_requests(m, out);
    write_histogram(&m->first_token, "chorus_first_token_seconds",
                    "From a request's headers to its first token.", out);
    write_histogram(&m->duration, "chorus_request_seconds",
                    "From a request's headers to the end of its answer.", out);
    head(out, "chorus_connections", "gauge", "Open connections.");
    strbuf_printf(out, "chorus_connections %d\n", connections);
    if (stats)
        write_engine(stats, out);
}
