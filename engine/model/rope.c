#include "engine/model/rope.h"

#include <math.h>

/* Turns per position of each pair of elements: theta^(-2i/D), stretched as the kind says. The
 * llama3 kind keeps short waves, divides long ones by `factor` and blends between. */
static double rope_frequency(const struct rope_params *r, int i, int head_dim)
{
    double f = pow(r->theta, -2.0 * i / head_dim);
    if (r->kind == ROPE_LINEAR)
        return f / r->factor;
    if (r->kind != ROPE_LLAMA3)
        return f;
    double turns = r->original_ctx * f / (2.0 * acos(-1.0));
    if (turns < r->low_freq_factor)
        return f / r->factor;
    if (turns > r->high_freq_factor)
        return f;
    double smooth = (turns - r->low_freq_factor) / (r->high_freq_factor - r->low_freq_factor);
    return (1.0 - smooth) * f / r->factor + smooth * f;
}

void rope_tables(const struct model_shape *s, int first, int count, float *cos_out, float *sin_out)
{
    int half = s->head_dim / 2;
    /* Frequency and angle are rounded to float32 as the reference implementation rounds them:
     * models are trained with those angles, and at long context exact ones differ visibly. */
    for (int i = 0; i < half; i++) {
        float f = (float)rope_frequency(&s->rope, i, s->head_dim);
        for (int p = 0; p < count; p++) {
            double angle = (double)((float)(first + p) * f);
            cos_out[(size_t)p * (size_t)half + (size_t)i] = (float)cos(angle);
            sin_out[(size_t)p * (size_t)half + (size_t)i] = (float)sin(angle);
        }
    }
}
