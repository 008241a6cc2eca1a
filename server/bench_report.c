#include "server/bench_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/vec.h"

void bench_report_deinit(struct bench_report *r)
{
    mem_free(r->first_token.values);
    mem_free(r->gap.values);
    mem_free(r->whole.values);
    r->first_token = r->gap = r->whole = (struct bench_series){0};
}

void bench_series_add(struct bench_series *s, double value)
{
    if (VEC_RESERVE(s->values, s->cap, s->count + 1))
        s->values[s->count++] = value;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_series_percentile(struct bench_series *s, double p)
{
    if (s->count == 0)
        return 0;
    qsort(s->values, s->count, sizeof *s->values, compare);
    size_t rank = (size_t)ceil(p / 100 * (double)s->count);
    return s->values[rank > 0 ? rank - 1 : 0];
}

/* One figure of a report: its column name and value, in the order of all three forms. */
struct figure {
    const char *name;
    double value;
};
#define FIGURE_COUNT 18

static void figures(struct bench_report *r, struct figure out[FIGURE_COUNT])
{
    double s = r->seconds > 0 ? r->seconds : 1e-9;
    const struct figure all[FIGURE_COUNT] = {
        {"adapters", r->adapters},
        {"concurrency", r->concurrency},
        {"rate_per_s", r->rate},
        {"max_tokens", r->max_tokens},
        {"requests", r->requests},
        {"errors", r->errors},
        {"prompt_tokens", (double)r->prompt_tokens},
        {"completion_tokens", (double)r->completion_tokens},
        {"seconds", r->seconds},
        {"tokens_per_s", (double)r->completion_tokens / s},
        {"requests_per_s", r->requests / s},
        {"first_token_p50_ms", bench_series_percentile(&r->first_token, 50)},
        {"first_token_p90_ms", bench_series_percentile(&r->first_token, 90)},
        {"first_token_p99_ms", bench_series_percentile(&r->first_token, 99)},
        {"gap_p50_ms", bench_series_percentile(&r->gap, 50)},
        {"gap_p99_ms", bench_series_percentile(&r->gap, 99)},
        {"request_p50_ms", bench_series_percentile(&r->whole, 50)},
        {"request_p99_ms", bench_series_percentile(&r->whole, 99)},
    };
    memcpy(out, all, sizeof all);
}

void bench_report_table(struct bench_report *r, struct strbuf *out)
{
    struct figure f[FIGURE_COUNT];
    figures(r, f);
    strbuf_printf(out, "%-20s %s\n%-20s %s\n%-20s %s\n", "url", r->url, "dialect", r->dialect,
                  "distribution", r->distribution);
    for (int i = 0; i < FIGURE_COUNT; i++)
        strbuf_printf(out, "%-20s %.*f\n", f[i].name, f[i].value == floor(f[i].value) ? 0 : 2,
                      f[i].value);
    if (r->errors)
        strbuf_printf(out, "%-20s %s\n", "first error", r->first_error);
}

void bench_report_json(struct bench_report *r, struct strbuf *out)
{
    struct figure f[FIGURE_COUNT];
    figures(r, f);
    strbuf_puts(out, "{\"url\":");
    strbuf_json_string(out, r->url, strlen(r->url));
    strbuf_printf(out, ",\"dialect\":\"%s\",\"distribution\":\"%s\"", r->dialect, r->distribution);
    for (int i = 0; i < FIGURE_COUNT; i++)
        strbuf_printf(out, ",\"%s\":%.10g", f[i].name, f[i].value);
    strbuf_puts(out, ",\"first_error\":");
    strbuf_json_string(out, r->first_error, strlen(r->first_error));
    strbuf_puts(out, "}\n");
}

void bench_report_csv(struct bench_report *r, int heading, struct strbuf *out)
{
    struct figure f[FIGURE_COUNT];
    figures(r, f);
    if (heading) {
        strbuf_puts(out, "url,dialect,distribution");
        for (int i = 0; i < FIGURE_COUNT; i++)
            strbuf_printf(out, ",%s", f[i].name);
        strbuf_putc(out, '\n');
    }
    strbuf_printf(out, "%s,%s,%s", r->url, r->dialect, r->distribution);
    for (int i = 0; i < FIGURE_COUNT; i++)
        strbuf_printf(out, ",%.10g", f[i].value);
    strbuf_putc(out, '\n');
}
