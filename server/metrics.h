/* metrics: what happened since the start, as Prometheus text. Loop thread. */
#ifndef CHORUS_SERVER_METRICS_H
#define CHORUS_SERVER_METRICS_H

#include <stdint.h>

#include "engine/base/strbuf.h"
#include "engine/engine_stats.h"
#include "server/routes.h"

enum metrics_outcome {
    METRICS_OK,
    METRICS_CLIENT_ERROR,
    METRICS_SERVER_ERROR,
    METRICS_BUSY,      /* 429 */
    METRICS_CANCELLED, /* the client left before the end */
    METRICS_OUTCOMES
};

#define METRICS_BUCKETS 14

struct metrics_histogram {
    uint64_t counts[METRICS_BUCKETS + 1]; /* the last one is +Inf */
    double sum_s;
};

struct metrics {
    uint64_t requests[ROUTE_COUNT][METRICS_OUTCOMES];
    struct metrics_histogram first_token;
    struct metrics_histogram duration; /* of requests that generate */
};

void metrics_count(struct metrics *m, enum route_id route, int status);
void metrics_observe(struct metrics_histogram *h, double seconds);

/* `stats` NULL: no engine yet. */
void metrics_write(const struct metrics *m, const struct engine_stats *stats, int connections,
                   struct strbuf *out);

#endif
