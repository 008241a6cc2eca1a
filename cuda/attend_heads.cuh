/* attend_heads: q/k norm and RoPE of a head, and where keys and values lie. Device only.
 *
 * A warp has one head, a lane the pairs (i, i + D/2) of i = lane + 32 j. */
#ifndef CHORUS_CUDA_ATTEND_HEADS_CUH
#define CHORUS_CUDA_ATTEND_HEADS_CUH

#include "cuda/k_attend.h"
#include "cuda/ptx.cuh"

#define PAGE      16
#define LOG2E     1.4426950408889634f
#define PAIRS_MAX 4 /* pairs of a lane: head_dim <= 256 */

struct attend_call {
    struct attend_args a;
    struct step_dev s;
    int group;        /* query heads of a kv head */
    int head_groups;  /* blocks that share them */
    int parts_max;    /* attend_parts */
    int begin;        /* of the rows attended one by one, the first of this launch */
    int stage_stride; /* bytes of a slot's part of shared memory */
};

static __device__ __forceinline__ uint32_t bf16_bits(float x)
{
    return __bfloat16_as_ushort(__float2bfloat16_rn(x));
}

static __device__ __forceinline__ float bf16_value(uint32_t bits)
{
    return __uint_as_float(bits << 16);
}

static __device__ __forceinline__ float warp_sum(float x)
{
    for (int bit = 16; bit > 0; bit >>= 1)
        x += __shfl_xor_sync(0xffffffffu, x, bit);
    return x;
}

static __device__ __forceinline__ uint16_t *kv_at(const struct attend_call &c, int page, int side,
                                                  int kv_head)
{
    size_t block = ((size_t)page * 2 + (size_t)side) * (size_t)c.a.kv_heads + (size_t)kv_head;
    return (uint16_t *)c.a.kv + block * PAGE * (size_t)c.a.head_dim;
}

/* The same of KV_INT8: bytes, and behind them the scales. */
static __device__ __forceinline__ int int8_row(const struct attend_call &c)
{
    return (c.a.head_dim + 15) / 16 * 16;
}

static __device__ __forceinline__ uint8_t *int8_at(const struct attend_call &c, int page, int side,
                                                   int kv_head)
{
    size_t block = ((size_t)page * 2 + (size_t)side) * (size_t)c.a.kv_heads + (size_t)kv_head;
    return (uint8_t *)c.a.kv + block * PAGE * (size_t)(int8_row(c) + 2);
}

/* Bytes 0 and 2 of w as a pair of bf16, exactly: the low seven bits below 0x43 are 128 + them, the
 * sign bit below 0x43 is 128 or 256, and the difference is the byte. */
static __device__ __forceinline__ uint32_t int8_pair(uint32_t w)
{
    union {
        uint32_t bits;
        __nv_bfloat162 pair;
    } low, sign, minus, r;
    low.bits = ptx_and_or(w, 0x007f007f, 0x43004300);
    sign.bits = ptx_and_or(w, 0x00800080, 0x43004300);
    minus.bits = 0xbf80bf80; /* -1 */
    r.pair = __hfma2(sign.pair, minus.pair, low.pair);
    return r.bits;
}

template <int PAIRS> struct head_pairs {
    float x[PAIRS], y[PAIRS];
};

/* Cosines and sines of a position, or two halves of a norm's weights (NULL: ones). */
template <int PAIRS>
static __device__ __forceinline__ void load_angles(const struct attend_call &c, int pos, int lane,
                                                   struct head_pairs<PAIRS> *cs)
{
    int pairs = c.a.head_dim / 2;
#pragma unroll
    for (int j = 0; j < PAIRS; j++) {
        int i = lane + 32 * j;
        bool ok = i < pairs;
        cs->x[j] = ok ? c.a.rope_cos[(size_t)pos * pairs + i] : 0.0f;
        cs->y[j] = ok ? c.a.rope_sin[(size_t)pos * pairs + i] : 0.0f;
    }
}

template <int PAIRS>
static __device__ __forceinline__ void load_norm(const float *norm, int pairs, int lane,
                                                 struct head_pairs<PAIRS> *w)
{
#pragma unroll
    for (int j = 0; j < PAIRS; j++) {
        int i = lane + 32 * j;
        bool ok = norm && i < pairs;
        w->x[j] = ok ? norm[i] : 1.0f;
        w->y[j] = ok ? norm[pairs + i] : 1.0f;
    }
}

/* A head of qkv, which the node in front wrote. */
template <int PAIRS>
static __device__ __forceinline__ void load_head(const float *h, int pairs, int lane,
                                                 struct head_pairs<PAIRS> *r)
{
#pragma unroll
    for (int j = 0; j < PAIRS; j++) {
        int i = lane + 32 * j;
        r->x[j] = i < pairs ? __ldcg(h + i) : 0.0f;
        r->y[j] = i < pairs ? __ldcg(h + pairs + i) : 0.0f;
    }
}

/* r = rope(norm(r)). Every product that is added is a written fma: the same bits in every kernel.
 */
template <int PAIRS>
static __device__ __forceinline__ void turn(const struct attend_call &c, bool normed,
                                            const struct head_pairs<PAIRS> &w,
                                            const struct head_pairs<PAIRS> &cs,
                                            struct head_pairs<PAIRS> *r)
{
    float inv = 1.0f;
    if (normed) {
        float sum = 0.0f;
#pragma unroll
        for (int j = 0; j < PAIRS; j++)
            sum = fmaf(r->y[j], r->y[j], fmaf(r->x[j], r->x[j], sum));
        inv = 1.0f / sqrtf(warp_sum(sum) / (float)c.a.head_dim + c.a.eps);
    }
#pragma unroll
    for (int j = 0; j < PAIRS; j++) {
        float x = r->x[j] * inv * w.x[j], y = r->y[j] * inv * w.y[j];
        r->x[j] = fmaf(x, cs.x[j], -__fmul_rn(y, cs.y[j]));
        r->y[j] = fmaf(y, cs.x[j], __fmul_rn(x, cs.y[j]));
    }
}

/* bf16 of a head to up to two places, either may be NULL. */
template <int PAIRS>
static __device__ __forceinline__ void put_pairs(const struct head_pairs<PAIRS> &r, int pairs,
                                                 int lane, uint16_t *to, uint16_t *also)
{
#pragma unroll
    for (int j = 0; j < PAIRS; j++) {
        int i = lane + 32 * j;
        if (i >= pairs)
            continue;
        uint16_t x = (uint16_t)bf16_bits(r.x[j]), y = (uint16_t)bf16_bits(r.y[j]);
        if (to) {
            to[i] = x;
            to[pairs + i] = y;
        }
        if (also) {
            also[i] = x;
            also[pairs + i] = y;
        }
    }
}

/* A head as bytes and its scale (kv_int8_round) to `to` and `to_scale`, and to a place in a block
 * whose first token's byte is `also`, NULL: to nowhere else. All lanes. */
template <int PAIRS>
static __device__ __forceinline__ void put_int8(const struct head_pairs<PAIRS> &r, int pairs,
                                                int lane, uint8_t *to, uint16_t *to_scale,
                                                uint8_t *block, int token, int row)
{
    float most = 0.0f;
#pragma unroll
    for (int j = 0; j < PAIRS; j++)
        most = fmaxf(most, fmaxf(fabsf(r.x[j]), fabsf(r.y[j])));
    for (int bit = 16; bit > 0; bit >>= 1)
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, bit));
    float scale = fmaxf(__fmul_rn(most, 1.0f / KV_INT8_MOST), KV_SCALE_LEAST);
    uint32_t bits = (__float_as_uint(scale) + 0xffffu) >> 16;
    float inverse = __fdiv_rn(1.0f, bf16_value(bits));
#pragma unroll
    for (int j = 0; j < PAIRS; j++) {
        int i = lane + 32 * j;
        if (i >= pairs)
            continue;
        uint8_t x = (uint8_t)__float2int_rn(__fmul_rn(r.x[j], inverse));
        uint8_t y = (uint8_t)__float2int_rn(__fmul_rn(r.y[j], inverse));
        if (to) {
            to[i] = x;
            to[pairs + i] = y;
        }
        if (block) {
            block[token * row + i] = x;
            block[token * row + pairs + i] = y;
        }
    }
    if (block && 2 * pairs + lane < row)
        block[token * row + 2 * pairs + lane] = 0;
    if (lane == 0 && to)
        *to_scale = (uint16_t)bits;
    if (lane == 0 && block)
        ((uint16_t *)(block + PAGE * row))[token] = (uint16_t)bits;
}

/* Item i of a row at one kv head: its query heads from head_begin on, then its key, its value. */
static __device__ __forceinline__ const float *item_at(const struct attend_call &c, int row,
                                                       int kv_head, int head_begin, int heads,
                                                       int i)
{
    const float *q = c.a.qkv + (size_t)row * c.a.qkv_stride;
    int d = c.a.head_dim;
    if (i < heads)
        return q + (size_t)(kv_head * c.group + head_begin + i) * d;
    return q + (i == heads ? c.a.k_at : c.a.v_at) + (size_t)kv_head * d;
}

#endif
