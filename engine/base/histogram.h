/* histogram: counts of values by fixed bounds, in Prometheus' sense: bound i counts what is at most
 * le[i], the place behind the last one everything above. Plain data; its owner's thread. */
#ifndef CHORUS_BASE_HISTOGRAM_H
#define CHORUS_BASE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BOUNDS_MAX 16

struct histogram_bounds {
    int count;
    double le[HISTOGRAM_BOUNDS_MAX]; /* ascending */
};

/* Seconds of steps and between tokens; of whole requests; rows; distinct adapters. */
extern const struct histogram_bounds histogram_step_s;
extern const struct histogram_bounds histogram_request_s;
extern const struct histogram_bounds histogram_rows;
extern const struct histogram_bounds histogram_adapters;

struct histogram {
    uint64_t counts[HISTOGRAM_BOUNDS_MAX + 1]; /* each value once; [bounds->count] is above all */
    double sum;
};

void histogram_add(struct histogram *h, const struct histogram_bounds *b, double value);

#endif
