/* rates: how fast something goes: counters looked at now and then, told over about the last second.
 * Pure; one thread. */
#ifndef CHORUS_SERVER_RATES_H
#define CHORUS_SERVER_RATES_H

#include <stdint.h>

#include "engine/engine_stats.h"

#define RATES_SAMPLES 16

struct rates_sample {
    int64_t at_ns;
    uint64_t tokens_in; /* computed: without those of the prefix cache */
    uint64_t tokens_out;
    uint64_t steps;
    uint64_t rows;
};

struct rates {
    struct rates_sample samples[RATES_SAMPLES]; /* a ring, zeroed at first */
    uint64_t count;
};

/* A second's. */
struct rates_now {
    double tokens_in;
    double tokens_out;
    double steps;
    double rows;
};

/* Keeps a look at the counters, unless the last one was a moment ago. To be called several times a
 * second. */
void rates_look(struct rates *r, int64_t now_ns, const struct engine_stats *s);
/* Since the oldest look that is not older than about a second; zeros where there is none. */
void rates_tell(const struct rates *r, int64_t now_ns, const struct engine_stats *s,
                struct rates_now *out);

#endif
