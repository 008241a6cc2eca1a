#include "server/bench_report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/vec.h"
#include "server/text_table.h"

#define VOICES_SHOWN 20

void bench_report_deinit(struct bench_report *r)
{
    mem_free(r->first_token.values);
    mem_free(r->gap.values);
    mem_free(r->whole.values);
    for (int i = 0; i < r->voice_count; i++)
        mem_free(r->voices[i].first_token.values);
    mem_free(r->voices);
    r->voices = NULL;
    r->voice_count = 0;
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

/* ---- for people ---- */

static void percentile_cell(struct text_table *t, struct bench_series *s, double p)
{
    char cell[32];
    double ms = bench_series_percentile(s, p);
    snprintf(cell, sizeof cell, ms < 10 ? "%.2f ms" : ms < 1000 ? "%.1f ms" : "%.0f ms", ms);
    text_table_cell(t, s->count > 0 ? cell : "-");
}

static void percentile_row(struct text_table *t, const char *name, struct bench_series *s)
{
    text_table_cell(t, name);
    percentile_cell(t, s, 50);
    percentile_cell(t, s, 90);
    percentile_cell(t, s, 99);
}

static void print_times(struct bench_report *r, struct strbuf *out)
{
    static const char *const heads[] = {"", "P50", "P90", "P99"};
    struct text_table t;
    text_table_init(&t, 4, 14);
    for (int i = 0; i < 4; i++)
        text_table_cell(&t, heads[i]);
    percentile_row(&t, "first token", &r->first_token);
    percentile_row(&t, "between tokens", &r->gap);
    percentile_row(&t, "whole answer", &r->whole);
    strbuf_putc(out, '\n');
    if (!text_table_print(&t, "", out))
        out->failed = true;
    text_table_deinit(&t);
}

static void number_cell(struct text_table *t, long long n)
{
    char cell[32];
    snprintf(cell, sizeof cell, "%lld", n);
    text_table_cell(t, cell);
}

/* Who asked for nothing is left out. */
static void print_voices(struct bench_report *r, struct strbuf *out)
{
    static const char *const heads[] = {"VOICE",  "REQUESTS",  "ERRORS",
                                        "TOKENS", "FIRST P50", "P99"};
    struct text_table t;
    int shown = 0, more = 0;
    text_table_init(&t, 6, 62);
    for (int i = 0; i < 6; i++)
        text_table_cell(&t, heads[i]);
    for (int i = 0; i < r->voice_count; i++) {
        struct bench_voice *v = &r->voices[i];
        more += v->requests > 0 && shown == VOICES_SHOWN;
        if (v->requests == 0 || shown == VOICES_SHOWN)
            continue;
        shown++;
        text_table_cell(&t, v->name);
        number_cell(&t, v->requests);
        number_cell(&t, v->errors);
        number_cell(&t, v->tokens);
        percentile_cell(&t, &v->first_token, 50);
        percentile_cell(&t, &v->first_token, 99);
    }
    if (shown > 1) {
        strbuf_putc(out, '\n');
        if (!text_table_print(&t, "", out))
            out->failed = true;
        if (more > 0)
            strbuf_printf(out, "and %d more\n", more);
    }
    text_table_deinit(&t);
}

void bench_report_table(struct bench_report *r, struct strbuf *out)
{
    double s = r->seconds > 0 ? r->seconds : 1e-9;
    strbuf_printf(out, "server       %s\n", r->url);
    if (r->adapters > 0)
        strbuf_printf(out, "voices       %d, %s, asked for as %s does\n", r->adapters,
                      r->distribution, r->dialect);
    if (r->rate > 0)
        strbuf_printf(out, "load         %g requests a second", r->rate);
    else
        strbuf_printf(out, "load         %d clients", r->concurrency);
    strbuf_printf(out, ", %d tokens an answer at most\n", r->max_tokens);
    strbuf_printf(out, "requests     %d in %.2f s, %d errors%s\n", r->requests, r->seconds,
                  r->errors, r->interrupted ? " (interrupted)" : "");
    strbuf_printf(out, "tokens       %lld out, %lld in\n", (long long)r->completion_tokens,
                  (long long)r->prompt_tokens);
    strbuf_printf(out, "throughput   %.1f tokens/s, %.2f requests/s\n",
                  (double)r->completion_tokens / s, r->requests / s);
    print_times(r, out);
    print_voices(r, out);
    if (r->errors)
        strbuf_printf(out, "\nfirst error: %s\n", r->first_error);
}

static void put_voices(struct bench_report *r, struct strbuf *out)
{
    strbuf_puts(out, ",\"voices\":[");
    for (int i = 0; i < r->voice_count; i++) {
        struct bench_voice *v = &r->voices[i];
        strbuf_puts(out, i ? ",{\"name\":" : "{\"name\":");
        strbuf_json_string(out, v->name, strlen(v->name));
        strbuf_printf(out,
                      ",\"requests\":%d,\"errors\":%d,\"completion_tokens\":%lld,"
                      "\"first_token_p50_ms\":%.10g,\"first_token_p99_ms\":%.10g}",
                      v->requests, v->errors, (long long)v->tokens,
                      bench_series_percentile(&v->first_token, 50),
                      bench_series_percentile(&v->first_token, 99));
    }
    strbuf_putc(out, ']');
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
    put_voices(r, out);
    strbuf_printf(out, ",\"interrupted\":%s,\"first_error\":", r->interrupted ? "true" : "false");
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
