#include "cuda/quantise_ref.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#define LANES 32
#define QUAD  (TILE_K / LANES)

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t magnitude_bits(float f)
{
    return bits_of(f) & 0x7fffffffu;
}

static float round_to_bf16(float f)
{
    uint32_t u = bits_of(f);
    if (magnitude_bits(f) > 0x7f800000u)
        return float_of(0x7fc00000u);
    return float_of((u + 0x7fffu + (u >> 16 & 1u)) & 0xffff0000u);
}

static float quantum(float w, float scale, float lo, float hi)
{
    return fminf(fmaxf(rintf(w / scale), lo), hi) + 0.0f; /* no -0: it is an integer on the card */
}

static float squared_error(const float w[TILE_K], float scale)
{
    float sum[LANES];
    for (int l = 0; l < LANES; l++) {
        sum[l] = 0.0f;
        for (int i = 0; i < QUAD; i++) {
            float v = w[l * QUAD + i];
            float d = v - quantum(v, scale, -8.0f, 7.0f) * scale;
            sum[l] += d * d;
        }
    }
    for (int apart = LANES / 2; apart > 0; apart /= 2) {
        for (int l = 0; l < apart; l++)
            sum[l] += sum[l + apart];
    }
    return sum[0];
}

/* The scale of a group; *all is false when every q is 0. */
static float group_scale(const float w[TILE_K], bool *all)
{
    uint32_t most = 0;
    bool negative = false;
    for (int i = 0; i < TILE_K; i++)
        most = magnitude_bits(w[i]) > most ? magnitude_bits(w[i]) : most;
    for (int i = 0; i < TILE_K; i++)
        negative |= bits_of(w[i]) == (most | 0x80000000u);
    *all = false;
    if (most >= 0x7f800000u)
        return float_of(0x7fc00000u);
    float extreme = float_of(most), best = 0.0f, best_error = INFINITY;
    for (int i = 0; i < QUANTISE_CANDIDATES; i++) {
        float scale = round_to_bf16((negative ? extreme : -extreme) / QUANTISE_DIVISOR(i));
        if (scale == 0.0f)
            break;
        float error = squared_error(w, scale);
        if (i == 0 || error < best_error) {
            best = scale;
            best_error = error;
        }
        *all = true;
    }
    return best;
}

static void row_int4(const float *in, int k, float *out)
{
    for (int c = 0; c < k; c += TILE_K) {
        float w[TILE_K] = {0};
        bool all;
        size_t count = (size_t)(k - c < TILE_K ? k - c : TILE_K);
        memcpy(w, in + c, count * sizeof *w);
        float scale = group_scale(w, &all);
        for (size_t i = 0; i < count; i++)
            out[(size_t)c + i] = (all ? quantum(w[i], scale, -8.0f, 7.0f) : 0.0f) * scale;
    }
}

static void row_int8(const float *in, int k, float *out)
{
    uint32_t most = 0;
    for (int c = 0; c < k; c++)
        most = magnitude_bits(in[c]) > most ? magnitude_bits(in[c]) : most;
    bool finite = most < 0x7f800000u;
    float scale = finite ? float_of(most) / 127.0f : float_of(0x7fc00000u);
    bool all = finite && scale != 0.0f;
    for (int c = 0; c < k; c++)
        out[c] = (all ? quantum(in[c], scale, -127.0f, 127.0f) : 0.0f) * scale;
}

enum status quantise_ref_row(enum weight_format f, const float *in, int k, float *out)
{
    if (k < 1)
        return STATUS_INVALID;
    switch (f) {
    case WEIGHT_BF16:
        for (int c = 0; c < k; c++)
            out[c] = round_to_bf16(in[c]);
        return STATUS_OK;
    case WEIGHT_INT8:
        row_int8(in, k, out);
        return STATUS_OK;
    case WEIGHT_INT4:
        row_int4(in, k, out);
        return STATUS_OK;
    default:
        return STATUS_INVALID;
    }
}
