/* attend_int8: a slot of pages whose keys and values are bytes with scales (KV_INT8). Device only.
 *
 * Both pages of a slot fit into the registers that one takes in bf16. Lanes have the same tokens
 * and columns as in attend_page.cuh, 8 bytes at once. The two bytes of a word that lie 16 bits
 * apart become a pair of bf16 at once; so q' has the columns of four in the order 0, 2, 1, 3.
 * Scales are multiplied in fp32, to a score and to a weight.
 */
#ifndef CHORUS_CUDA_ATTEND_INT8_CUH
#define CHORUS_CUDA_ATTEND_INT8_CUH

#include "cuda/attend_work.cuh"

/* Where q' has column i. */
static __device__ __forceinline__ int int8_place(int i)
{
    return (i & ~3) | (i & 1) << 1 | (i >> 1 & 1);
}

/* Of page i of a slot. k, v as load_k and load_v, but that tokens nobody sees repeat one that is
 * seen, and columns behind the head repeat its last: their weights are 0, q' is 0 there, and what
 * comes of them in V is not stored. The scales of tokens 2t, 2t + 1 and 2t + 8, 2t + 9 of keys and
 * of values, 0 of those that nobody sees. */
template <int NB> struct int8_page {
    uint2 k[2][NB], v[(NB + 1) / 2][4];
    uint32_t scale[2][2];
};

template <int NB> struct slot_pages<NB, true> {
    struct int8_page<NB> page[2];
};

template <int NB>
static __device__ __forceinline__ void load_int8(const struct attend_call &c,
                                                 const struct attend_work &w, int i,
                                                 struct int8_page<NB> &r)
{
    int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4, row = int8_row(c);
    int begin = token_begin(w, i), end = stored_end(w, i);
    const uint8_t *k = int8_at(c, w.page[i], 0, w.kv_head);
    const uint8_t *v = int8_at(c, w.page[i], 1, w.kv_head);
    bool any = begin < end;
#pragma unroll
    for (int n = 0; n < 2 * NB; n++) {
        int token = max(min(n / NB * 8 + g, end - 1), begin);
        int column = min(n % NB * 32 + 8 * t, row - 8);
        r.k[n / NB][n % NB] =
            any ? __ldcg((const uint2 *)(k + (unsigned)(token * row + column))) : make_uint2(0, 0);
    }
#pragma unroll
    for (int n = 0; n < (NB + 1) / 2 * 4; n++) {
        int token = max(min(v_token(n % 4, t), end - 1), begin);
        int column = min(n / 4 * 64 + 8 * g, row - 8);
        r.v[n / 4][n % 4] =
            any ? __ldcg((const uint2 *)(v + (unsigned)(token * row + column))) : make_uint2(0, 0);
    }
#pragma unroll
    for (int n = 0; n < 4; n++) {
        int token = v_token(n % 2 * 2, t);
        uint32_t mask = (token >= begin && token < end ? 0x0000ffffu : 0) |
                        (token + 1 >= begin && token + 1 < end ? 0xffff0000u : 0);
        const uint8_t *from = (n / 2 ? v : k) + PAGE * row + 2 * token;
        r.scale[n / 2][n % 2] = mask ? __ldcg((const uint32_t *)from) & mask : 0;
    }
}

template <int NB, bool WIDE, int NW>
static __device__ __forceinline__ void load_slot(const struct attend_call &c,
                                                 const struct attend_work &w, uint4 *,
                                                 struct slot_pages<NB, true> &r)
{
    load_int8<NB>(c, w, 0, r.page[0]);
    load_int8<NB>(c, w, 1, r.page[1]);
}

/* The scale of the lane's e-th token, v_token(e, t); `own` where that token is `mine`. */
static __device__ __forceinline__ float int8_scale(const uint32_t (&scale)[2], int e, int t,
                                                   int mine, const uint8_t *own)
{
    if (mine == v_token(e, t))
        return bf16_value(*(const uint16_t *)own);
    return bf16_value(e % 2 ? scale[e / 2] >> 16 : scale[e / 2] & 0xffff);
}

template <int NB, bool WIDE, int NW>
static __device__ __forceinline__ void score_slot(const struct attend_call &,
                                                  const struct attend_work &w, const uint8_t *smem,
                                                  const uint4 *, struct slot_pages<NB, true> &r,
                                                  float (&p)[2][4])
{
    using at = attend_smem<NB, WIDE, NW, true>;
    int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const uint4 *q_hi = (const uint4 *)(smem + at::Q_HI), *q_lo = (const uint4 *)(smem + at::Q_LO);
    const uint2 *k_new = (const uint2 *)(smem + at::K_NEW);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        p[i][0] = p[i][1] = p[i][2] = p[i][3] = -INFINITY;
        if (!sees(w, i))
            continue;
        int mine = w.own ? w.pos - page_base(w, i) : -1;
        float s[2][2][4] = {};
#pragma unroll
        for (int b = 0; b < NB; b++) {
            uint4 hi = q_hi[b * 32 + lane], lo = q_lo[b * 32 + lane];
#pragma unroll
            for (int j = 0; j < 2; j++) {
                uint2 k = r.page[i].k[j][b];
                if (mine == j * 8 + g)
                    k = k_new[b * 4 + t];
                ptx_mma_bf16(s[j][0], hi.x, lo.x, hi.y, lo.y, int8_pair(k.x), int8_pair(k.x >> 8));
                ptx_mma_bf16(s[j][1], hi.z, lo.z, hi.w, lo.w, int8_pair(k.y), int8_pair(k.y >> 8));
            }
        }
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int j = e / 2, h = e % 2, token = v_token(e, t);
            float sum = (s[j][0][h] + s[j][1][h]) + (s[j][0][h + 2] + s[j][1][h + 2]);
            float scale = int8_scale(r.page[i].scale[0], e, t, mine, smem + at::K_NEW + 32 * NB);
            bool seen = token >= token_begin(w, i) && token < token_end(w, i);
            p[i][e] = seen ? __fmul_rn(sum, scale) : -INFINITY;
        }
    }
}

template <int NB, bool WIDE, int NW>
static __device__ __forceinline__ void weigh_slot(const struct attend_call &,
                                                  const struct attend_work &w, int heads,
                                                  const uint8_t *smem, uint4 *stage,
                                                  struct slot_pages<NB, true> &r,
                                                  const float (&p)[2][4])
{
    using at = attend_smem<NB, WIDE, NW, true>;
    int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const uint2 *v_new = (const uint2 *)(smem + at::V_NEW);
    struct page_weights weights[2];
    int mine[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        mine[i] = w.own ? w.pos - page_base(w, i) : -1;
        float scaled[4];
#pragma unroll
        for (int e = 0; e < 4; e++)
            scaled[e] = __fmul_rn(p[i][e], int8_scale(r.page[i].scale[1], e, t, mine[i],
                                                      smem + at::V_NEW + 64 * at::NV));
        weights[i] = pack_weights(scaled);
    }
#pragma unroll
    for (int b = 0; b < at::NV; b++) {
        float o[4][4] = {};
#pragma unroll
        for (int i = 0; i < 2; i++) {
            if (!sees(w, i))
                continue;
            uint2 v[4];
#pragma unroll
            for (int n = 0; n < 4; n++)
                v[n] = mine[i] == v_token(n, t) ? v_new[b * 8 + g] : r.page[i].v[b][n];
#pragma unroll
            for (int n = 0; n < 4; n++) {
                uint32_t select = n % 2 ? 0x7632 : 0x5410;
                uint32_t a = __byte_perm(n / 2 ? v[0].y : v[0].x, n / 2 ? v[1].y : v[1].x, select);
                uint32_t z = __byte_perm(n / 2 ? v[2].y : v[2].x, n / 2 ? v[3].y : v[3].x, select);
                uint32_t a0 = int8_pair(a), a1 = int8_pair(a >> 8);
                uint32_t a2 = int8_pair(z), a3 = int8_pair(z >> 8);
                ptx_mma_bf16(o[n], a0, a1, a2, a3, weights[i].h0, weights[i].h1);
                ptx_mma_bf16(o[n], a0, a1, a2, a3, weights[i].l0, weights[i].l1);
            }
        }
        put_sums<NB>(o, heads, b, (float *)stage, at::ROW);
    }
}

#endif
