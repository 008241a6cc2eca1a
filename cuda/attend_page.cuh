/* attend_page: what a warp does with one page of 16 tokens: loads, scores, weighted sums. The
 * operands of the mma instructions are described in k_attend.cu. Device only. */
#ifndef CHORUS_CUDA_ATTEND_PAGE_CUH
#define CHORUS_CUDA_ATTEND_PAGE_CUH

#include "cuda/attend_heads.cuh"

/* 8 values of a row of K or V, zeros where !ok or beyond the head; `left` columns remain. */
template <bool WIDE>
static __device__ __forceinline__ uint4 load_8(const uint16_t *p, int left, bool ok)
{
    uint4 r = make_uint4(0, 0, 0, 0);
    if (WIDE) {
        if (ok && left > 0)
            r = ptx_load_l2(p);
    } else if (ok) {
        const uint32_t *w = (const uint32_t *)p;
        r.x = left > 0 ? __ldcg(w) : 0;
        r.y = left > 2 ? __ldcg(w + 1) : 0;
        r.z = left > 4 ? __ldcg(w + 2) : 0;
        r.w = left > 6 ? __ldcg(w + 3) : 0;
    }
    return r;
}

/* Token of a lane's i-th row of V, i < 4. */
static __device__ __forceinline__ int v_token(int i, int t)
{
    return 2 * t + i % 2 + 8 * (i / 2);
}

/* Tokens [begin, end) of the page; others are zeros. */
template <int NB, bool WIDE>
static __device__ __forceinline__ void load_k(uint4 (&k)[2][NB], const uint16_t *page, int d,
                                              int begin, int end, int lane)
{
    int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int j = 0; j < 2; j++) {
        int token = 8 * j + g;
        bool ok = token >= begin && token < end;
#pragma unroll
        for (int s = 0; s < NB; s++) {
            int column = 32 * s + 8 * t;
            k[j][s] = load_8<WIDE>(page + token * d + column, d - column, ok);
        }
    }
}

/* The same of V, 64 columns from 64 b on. */
template <bool WIDE>
static __device__ __forceinline__ void load_v(uint4 (&v)[4], const uint16_t *page, int d, int b,
                                              int begin, int end, int lane)
{
    int column = 64 * b + 8 * (lane / 4);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int token = v_token(i, lane % 4);
        bool ok = token >= begin && token < end;
        v[i] = load_8<WIDE>(page + token * d + column, d - column, ok);
    }
}

/* The same two on their way to shared memory: [piece][lane] 16 bytes. */
template <int NB, int NV>
static __device__ __forceinline__ void copy_page(uint4 *stage, const uint16_t *k, const uint16_t *v,
                                                 int d, int begin, int end, int lane)
{
    int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int i = 0; i < 2 * NB; i++) {
        int token = 8 * (i / NB) + g, column = 32 * (i % NB) + 8 * t;
        bool ok = token >= begin && token < end && column < d;
        ptx_cp_async16_or_zero(stage + i * 32 + lane, ok ? k + token * d + column : k, ok);
    }
#pragma unroll
    for (int i = 0; i < 4 * NV; i++) {
        int token = v_token(i % 4, t), column = 64 * (i / 4) + 8 * g;
        bool ok = token >= begin && token < end && column < d;
        ptx_cp_async16_or_zero(stage + (2 * NB + i) * 32 + lane, ok ? v + token * d + column : v,
                               ok);
    }
}

/* Scores of the page's 16 tokens for head g: s[0..3] of tokens 2t, 2t + 1, 2t + 8, 2t + 9; -inf
 * outside [begin, end). */
template <int NB>
static __device__ __forceinline__ void score(float s[4], const uint4 (&k)[2][NB], const uint4 *q_hi,
                                             const uint4 *q_lo, int begin, int end, int lane)
{
    float c[2][2][4] = {};
#pragma unroll
    for (int b = 0; b < NB; b++) {
        uint4 hi = q_hi[b * 32 + lane], lo = q_lo[b * 32 + lane];
#pragma unroll
        for (int j = 0; j < 2; j++) {
            ptx_mma_bf16(c[j][0], hi.x, lo.x, hi.y, lo.y, k[j][b].x, k[j][b].y);
            ptx_mma_bf16(c[j][1], hi.z, lo.z, hi.w, lo.w, k[j][b].z, k[j][b].w);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int j = i / 2, e = i % 2, token = v_token(i, lane % 4);
        float sum = (c[j][0][e] + c[j][1][e]) + (c[j][0][e + 2] + c[j][1][e + 2]);
        s[i] = token >= begin && token < end ? sum : -INFINITY;
    }
}

static __device__ __forceinline__ uint32_t word(const uint4 &v, int i)
{
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* Weights of the page's tokens as n8 operand: rounded to bf16, and what the rounding left. */
struct page_weights {
    uint32_t h0, h1, l0, l1;
};

static __device__ __forceinline__ struct page_weights pack_weights(const float p[4])
{
    uint32_t hi[4], lo[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        hi[i] = bf16_bits(p[i]);
        lo[i] = bf16_bits(p[i] - bf16_value(hi[i]));
    }
    return {hi[0] | hi[1] << 16, hi[2] | hi[3] << 16, lo[0] | lo[1] << 16, lo[2] | lo[3] << 16};
}

/* o += V^T p for the 64 columns of v: o[i] holds columns 8 g + 2 i (c0, c1) and one further (c2,
 * c3) of heads 2t and 2t + 1. */
static __device__ __forceinline__ void weigh(float (&o)[4][4], const uint4 (&v)[4],
                                             const struct page_weights &p)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t w0 = word(v[0], i), w1 = word(v[1], i), w2 = word(v[2], i), w3 = word(v[3], i);
        uint32_t a0 = __byte_perm(w0, w1, 0x5410), a1 = __byte_perm(w0, w1, 0x7632);
        uint32_t a2 = __byte_perm(w2, w3, 0x5410), a3 = __byte_perm(w2, w3, 0x7632);
        ptx_mma_bf16(o[i], a0, a1, a2, a3, p.h0, p.h1);
        ptx_mma_bf16(o[i], a0, a1, a2, a3, p.l0, p.l1);
    }
}

/* What weigh left of columns 64 b .. of a slot, to its sums [head][row]. */
template <int NB>
static __device__ __forceinline__ void put_sums(const float (&o)[4][4], int heads, int b,
                                                float *sums, int row)
{
    int lane = (int)threadIdx.x % 32, column = 64 * b + 8 * (lane / 4);
#pragma unroll
    for (int e = 0; e < 2; e++) {
        int h = 2 * (lane % 4) + e;
        if (h < heads && column < 32 * NB) {
            float4 *to = (float4 *)(sums + h * row + column);
            to[0] = make_float4(o[0][e], o[0][e + 2], o[1][e], o[1][e + 2]);
            to[1] = make_float4(o[2][e], o[2][e + 2], o[3][e], o[3][e + 2]);
        }
    }
}

/* Asks the page's K and V of a kv head into L2. */
template <bool INT8>
static __device__ __forceinline__ void ask_page(const struct attend_call &c, int page, int kv_head,
                                                int lane)
{
    int bytes = INT8 ? PAGE * (int8_row(c) + 2) : PAGE * c.a.head_dim * 2;
    const uint8_t *k =
        INT8 ? int8_at(c, page, 0, kv_head) : (const uint8_t *)kv_at(c, page, 0, kv_head);
    const uint8_t *v =
        INT8 ? int8_at(c, page, 1, kv_head) : (const uint8_t *)kv_at(c, page, 1, kv_head);
    for (int i = lane * 128; i < bytes; i += 32 * 128) {
        ptx_prefetch_l2(k + i);
        ptx_prefetch_l2(v + i);
    }
}

#endif
