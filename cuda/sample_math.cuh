/* sample_math: the arithmetic of k_sample, bit by bit that of engine/sample/sample.c. Device only.
 */
#ifndef CHORUS_CUDA_SAMPLE_MATH_CUH
#define CHORUS_CUDA_SAMPLE_MATH_CUH

#include <float.h>
#include <math.h>
#include <string.h>

#include "cuda/k_sample.h"
#include "cuda/ptx.cuh"

/* Larger floats have larger keys; -0 and 0 have the same. Key 0 belongs to no number but NaN. */
static __device__ __forceinline__ uint32_t order_key(float x)
{
    uint32_t u = __float_as_uint(__fadd_rn(x, 0.0f));
    return u >> 31 ? ~u : u | 0x80000000u;
}

static __device__ __forceinline__ float order_value(uint32_t key)
{
    return __uint_as_float(key >> 31 ? key & 0x7fffffffu : ~key);
}

/* NaN counts as -inf, +inf as the largest float. */
static __device__ __forceinline__ float clean(float x)
{
    return x != x ? -INFINITY : x > FLT_MAX ? FLT_MAX : x;
}

#define EXP_LEAST (-86.5f)

/* exp(x), x <= 0, with products and sums rounded one by one; 0 below EXP_LEAST and for NaN. */
static __device__ __forceinline__ float exp_of(float x)
{
    float t = __fadd_rn(__fmul_rn(x, 0x1.715476p0f), 0x1.8p23f);
    float n = __fsub_rn(t, 0x1.8p23f);
    float r = __fsub_rn(__fsub_rn(x, __fmul_rn(n, 0x1.62e4p-1f)), __fmul_rn(n, 0x1.7f7d1cp-20f));
    float p = __fadd_rn(__fmul_rn(r, 1.0f / 5040), 1.0f / 720);
    p = __fadd_rn(__fmul_rn(p, r), 1.0f / 120);
    p = __fadd_rn(__fmul_rn(p, r), 1.0f / 24);
    p = __fadd_rn(__fmul_rn(p, r), 1.0f / 6);
    p = __fadd_rn(__fmul_rn(p, r), 0.5f);
    p = __fadd_rn(__fmul_rn(p, r), 1.0f);
    p = __fadd_rn(__fmul_rn(p, r), 1.0f);
    uint32_t bits = __float_as_uint(p) + (__float_as_uint(t) << 23);
    return x >= EXP_LEAST ? __uint_as_float(bits) : 0.0f;
}

/* A sum in two floats, for cards whose double units are few: error-free addition (Knuth), the
 * errors added up beside it. After n additions of weights the relative error is below n^2 2^-49
 * (1.2e-13 for the 8 of a thread). */
struct sum2 {
    float high, low;
};

static __device__ __forceinline__ void sum2_add(struct sum2 *s, float w)
{
    float sum = __fadd_rn(s->high, w);
    float part = __fsub_rn(sum, s->high);
    float error = __fadd_rn(__fsub_rn(s->high, __fsub_rn(sum, part)), __fsub_rn(w, part));
    s->high = sum;
    s->low = __fadd_rn(s->low, error);
}

static __device__ __forceinline__ double sum2_value(struct sum2 s)
{
    return (double)s.high + (double)s.low;
}

/* 2^exponent for exponents of a double. */
static __device__ __forceinline__ double power_of_two(int exponent)
{
    uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

/* z of a token that an edit touches, from its cleaned (and masked) logit. */
static __device__ __forceinline__ float edited(float z, const struct sample_edit *e,
                                               const struct sample_dev *r)
{
    z = clean(__fadd_rn(z, e->bias));
    if (e->flags & SAMPLE_BANNED)
        z = -INFINITY;
    if ((e->flags & SAMPLE_SEEN) && r->repetition != 1.0f)
        z = clean(z > 0.0f ? z / r->repetition : __fmul_rn(z, r->repetition));
    if (e->count > 0)
        z = __fsub_rn(z, __fadd_rn(__fmul_rn(r->frequency, (float)e->count), r->presence));
    return z;
}

/* Bins of x = -s >= 0: 32 a power of two from 2^-5 on, 16 a unit between 2 and 16, 32 a power of
 * two again behind that; what is smaller is in bin 0. */
#define NEAR_KEY   0x3d000000u /* bits of 2^-5 */
#define NEAR_TWO   0x40000000u
#define NEAR_FAR   0x41800000u /* of 16 */
#define NEAR_SHIFT 18
#define NEAR_BINS2 192 /* below 2 */
#define NEAR_BINS3 416 /* below 16 */

static __device__ __forceinline__ uint32_t near_bin(float x)
{
    uint32_t u = __float_as_uint(x);
    if (u >= NEAR_FAR)
        return NEAR_BINS3 + ((u - NEAR_FAR) >> NEAR_SHIFT);
    if (u >= NEAR_TWO)
        return NEAR_BINS2 - 32 + (uint32_t)(x * 16.0f);
    return u < NEAR_KEY ? 0 : (u - NEAR_KEY) >> NEAR_SHIFT;
}

/* Bits of the least x of a bin. */
static __device__ __forceinline__ uint32_t near_begin(uint32_t bin)
{
    if (bin >= NEAR_BINS3)
        return NEAR_FAR + ((bin - NEAR_BINS3) << NEAR_SHIFT);
    if (bin >= NEAR_BINS2)
        return __float_as_uint((float)(bin - NEAR_BINS2 + 32) * 0.0625f);
    return bin == 0 ? 0 : NEAR_KEY + (bin << NEAR_SHIFT);
}

#endif
