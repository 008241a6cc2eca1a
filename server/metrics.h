/* metrics: what happened since the start, as Prometheus text. Loop thread. */
#ifndef CHORUS_SERVER_METRICS_H
#define CHORUS_SERVER_METRICS_H

#include <stdint.h>

#include "engine/base/histogram.h"
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

struct metrics {
    uint64_t requests[ROUTE_COUNT][METRICS_OUTCOMES];
    struct histogram first_token; /* of requests that generate, as `duration` */
    struct histogram duration;
};

void metrics_count(struct metrics *m, enum route_id route, int status);
/* Seconds from a request's headers to its first token, to the end of its answer. */
void metrics_first_token(struct metrics *m, double seconds);
void metrics_duration(struct metrics *m, double seconds);

/* What the server counts itself. */
void metrics_write(const struct metrics *m, int connections, struct strbuf *out);
void metrics_engine_write(const struct engine_stats *s, struct strbuf *out);

#endif
