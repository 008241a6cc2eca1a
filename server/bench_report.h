/* bench_report: figures of a load run: collected, reduced to percentiles, printed as a table, CSV
 * and JSON. One thread. */
#ifndef CHORUS_SERVER_BENCH_REPORT_H
#define CHORUS_SERVER_BENCH_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/strbuf.h"

struct bench_series {
    double *values; /* owned, milliseconds */
    size_t count;
    size_t cap;
};

/* What one adapter's requests came to; the base's too. */
struct bench_voice {
    const char *name; /* borrowed */
    int requests;
    int errors;
    int64_t tokens;
    struct bench_series first_token;
};

struct bench_report {
    /* What was asked. Borrowed strings. */
    const char *url;
    const char *dialect;
    const char *distribution;
    int adapters;
    int concurrency;
    double rate; /* 0: closed loop */
    int max_tokens;
    /* What happened. */
    int requests;
    int errors;
    char first_error[160];
    int64_t prompt_tokens;
    int64_t completion_tokens;
    double seconds;
    struct bench_series first_token; /* request sent to first text */
    struct bench_series gap;         /* between pieces of text */
    struct bench_series whole;       /* request sent to its end */
    struct bench_voice *voices;      /* owned, [voice_count] */
    int voice_count;
    bool interrupted; /* only what had ended by then is counted */
};

void bench_report_deinit(struct bench_report *r);
/* Values that find no memory are left out. */
void bench_series_add(struct bench_series *s, double value);
/* The p-th percentile (0..100) by nearest rank; 0 of an empty series. Sorts the series. */
double bench_series_percentile(struct bench_series *s, double p);

void bench_report_table(struct bench_report *r, struct strbuf *out);
void bench_report_json(struct bench_report *r, struct strbuf *out);
/* A row; with `heading` a line of column names before it. */
void bench_report_csv(struct bench_report *r, int heading, struct strbuf *out);

#endif
