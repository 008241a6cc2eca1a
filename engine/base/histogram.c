#include "engine/base/histogram.h"

/* A card makes a step in 1 to 10 ms, a CPU in 3 to 300: where most fall, bounds are close. */
const struct histogram_bounds histogram_step_s = {16,
                                                  {0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005,
                                                   0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5,
                                                   1, 5}};
const struct histogram_bounds histogram_request_s = {
    16, {0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300}};
const struct histogram_bounds histogram_rows = {
    13, {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096}};
const struct histogram_bounds histogram_adapters = {8, {0, 1, 2, 4, 8, 16, 32, 64}};

void histogram_add(struct histogram *h, const struct histogram_bounds *b, double value)
{
    int i = 0;
    while (i < b->count && value > b->le[i])
        i++;
    h->counts[i]++;
    h->sum += value;
}
