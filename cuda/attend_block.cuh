/* attend_block: the q', k' and v of a block's row, and the scores and sums of a slot of pages; the
 * mapping is described in k_attend.cu. Device only. */
#ifndef CHORUS_CUDA_ATTEND_BLOCK_CUH
#define CHORUS_CUDA_ATTEND_BLOCK_CUH

#include "cuda/attend_int8.cuh"

/* ---- the row's heads ---- */

/* q' of the block's heads, and k', v of the row where the block has it; warps take them in turn.
 * qkv has been written. */
template <int NB, bool WIDE, int NW, bool INT8>
static __device__ __forceinline__ void make_heads(const struct attend_call &c,
                                                  const struct attend_place &p, int pos, bool own,
                                                  int own_page,
                                                  const struct head_pairs<(NB + 1) / 2> &cs,
                                                  uint8_t *smem)
{
    using at = attend_smem<NB, WIDE, NW, INT8>;
    constexpr int PAIRS = at::NV;
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, d = c.a.head_dim;
    int pairs = d / 2, items = p.heads + (own ? 2 : 0);
    uint16_t *q_hi = (uint16_t *)(smem + at::Q_HI), *q_lo = (uint16_t *)(smem + at::Q_LO);
    float scale = c.a.scale * LOG2E;
    struct head_pairs<PAIRS> r[at::ITEMS], norm[at::ITEMS];
#pragma unroll
    for (int n = 0; n < at::ITEMS; n++) {
        int i = warp + n * NW;
        if (i >= items)
            continue;
        load_head(item_at(c, p.row, p.kv_head, p.head_begin, p.heads, i), pairs, lane, &r[n]);
        load_norm(i < p.heads ? c.a.q_norm : c.a.k_norm, pairs, lane, &norm[n]);
    }
#pragma unroll
    for (int n = 0; n < at::ITEMS; n++) {
        int i = warp + n * NW, side = i - p.heads; /* 0: the key, 1: the value */
        if (i >= items)
            continue;
        if (side != 1)
            turn(c, (side < 0 ? c.a.q_norm : c.a.k_norm) != NULL, norm[n], cs, &r[n]);
        if (side >= 0 && INT8) {
            uint8_t *to = smem + (side ? at::V_NEW : at::K_NEW);
            put_int8(r[n], pairs, lane, to, (uint16_t *)(to + (side ? 64 * at::NV : 32 * NB)),
                     p.head_begin == 0 ? int8_at(c, own_page, side, p.kv_head) : NULL, pos % PAGE,
                     int8_row(c));
            continue;
        }
        if (side >= 0) {
            uint16_t *page = kv_at(c, own_page, side, p.kv_head) + pos % PAGE * d;
            put_pairs(r[n], pairs, lane, (uint16_t *)(smem + (side ? at::V_NEW : at::K_NEW)),
                      p.head_begin == 0 ? page : NULL);
            continue;
        }
#pragma unroll
        for (int j = 0; j < 2 * PAIRS; j++) {
            int column = lane + 32 * (j / 2);
            if (column >= pairs)
                continue;
            column += j % 2 ? pairs : 0;
            float x = j % 2 ? r[n].y[j / 2] : r[n].x[j / 2];
            uint32_t hi = bf16_bits(__fmul_rn(x, scale));
            int at_q = column / 32 * 256 + i * 32 + (INT8 ? int8_place(column) : column) % 32;
            q_hi[at_q] = (uint16_t)hi;
            q_lo[at_q] = (uint16_t)bf16_bits(fmaf(x, scale, -bf16_value(hi)));
        }
    }
}

/* ---- a slot ---- */

/* Asks the chunk's pages that this warp loads later into L2. */
template <int NB, bool WIDE, int NW, bool INT8>
static __device__ __forceinline__ void ask_slots(const struct attend_call &c, int warp, int lane,
                                                 struct attend_work *w)
{
    constexpr int FIRST = attend_smem<NB, WIDE, NW, INT8>::STAGED ? SLOTS : INT8 ? NW : 0;
#pragma unroll
    for (int n = FIRST; n < SLOTS; n += NW) {
        take_slot(n + warp, w);
        bool first = INT8 || n > 0;
        if (first && sees(*w, 0))
            ask_page<INT8>(c, w->page[0], w->kv_head, lane);
        if (sees(*w, 1))
            ask_page<INT8>(c, w->page[1], w->kv_head, lane);
    }
}

/* Scores of the slot's pages: p[i] as of `score`. k holds the first page, then the second. */
template <int NB, bool WIDE, int NW>
static __device__ __forceinline__ void score_slot(const struct attend_call &c,
                                                  const struct attend_work &w, const uint8_t *smem,
                                                  const uint4 *stage,
                                                  struct slot_pages<NB, false> &r, float (&p)[2][4])
{
    uint4(&k)[2][NB] = r.k;
    using at = attend_smem<NB, WIDE, NW>;
    int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const uint4 *k_new = (const uint4 *)(smem + at::K_NEW);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        p[i][0] = p[i][1] = p[i][2] = p[i][3] = -INFINITY;
        if (!sees(w, i))
            continue;
        if (i == 1 && at::STAGED) {
            ptx_cp_async_wait<0>();
#pragma unroll
            for (int n = 0; n < 2 * NB; n++)
                k[n / NB][n % NB] = stage[n * 32 + lane];
        } else if (i == 1) {
            load_k<NB, WIDE>(k, kv_at(c, w.page[1], 0, w.kv_head), c.a.head_dim, token_begin(w, 1),
                             stored_end(w, 1), lane);
        }
        int mine = w.own ? w.pos - page_base(w, i) : -1;
#pragma unroll
        for (int n = 0; n < 2 * NB; n++) {
            if (mine == n / NB * 8 + g)
                k[n / NB][n % NB] = k_new[n % NB * 4 + t];
        }
        score<NB>(p[i], k, (const uint4 *)(smem + at::Q_HI), (const uint4 *)(smem + at::Q_LO),
                  token_begin(w, i), token_end(w, i), lane);
    }
}

/* Scores to weights against the slot's largest score; leaves that and the sum to the block. */
template <int NB, bool WIDE, int NW>
static __device__ __forceinline__ void soften(float (&p)[2][4], int slot, uint8_t *smem)
{
    using at = attend_smem<NB, WIDE, NW>;
    int lane = (int)threadIdx.x % 32;
    float most = -INFINITY, sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++)
        most = fmaxf(most, p[i / 4][i % 4]);
    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
#pragma unroll
    for (int i = 0; i < 8; i++) {
        p[i / 4][i % 4] = p[i / 4][i % 4] == -INFINITY ? 0.0f : ptx_exp2(p[i / 4][i % 4] - most);
        sum += p[i / 4][i % 4];
    }
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if (lane % 4 == 0) {
        ((float *)(smem + at::MOST))[slot * GROUP + lane / 4] = most;
        ((float *)(smem + at::SUM))[slot * GROUP + lane / 4] = sum;
    }
}

/* 64 columns of the slot's second page of V. */
template <int NB, bool WIDE, int NW>
static __device__ __forceinline__ void load_second(const struct attend_call &c,
                                                   const struct attend_work &w, const uint4 *stage,
                                                   int b, uint4 (&v)[4])
{
    int lane = (int)threadIdx.x % 32;
    if (attend_smem<NB, WIDE, NW>::STAGED) {
#pragma unroll
        for (int n = 0; n < 4; n++)
            v[n] = stage[(2 * NB + 4 * b + n) * 32 + lane];
    } else {
        load_v<WIDE>(v, kv_at(c, w.page[1], 1, w.kv_head), c.a.head_dim, b, token_begin(w, 1),
                     stored_end(w, 1), lane);
    }
}

/* The slot's weighted sums, to its part of shared memory. v: its first page. */
template <int NB, bool WIDE, int NW>
static __device__ __forceinline__ void weigh_slot(const struct attend_call &c,
                                                  const struct attend_work &w, int heads,
                                                  const uint8_t *smem, uint4 *stage,
                                                  struct slot_pages<NB, false> &r,
                                                  const float (&p)[2][4])
{
    uint4(&v)[(NB + 1) / 2][4] = r.v;
    using at = attend_smem<NB, WIDE, NW>;
    int lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const uint4 *v_new = (const uint4 *)(smem + at::V_NEW);
    struct page_weights weights[2] = {pack_weights(p[0]), pack_weights(p[1])};
    float *sums = (float *)stage;
#pragma unroll
    for (int b = 0; b < at::NV; b++) {
        float o[4][4] = {};
#pragma unroll
        for (int i = 0; i < 2; i++) {
            if (!sees(w, i))
                continue;
            if (i == 1)
                load_second<NB, WIDE, NW>(c, w, stage, b, v[b]);
            int mine = w.own ? w.pos - page_base(w, i) : -1;
#pragma unroll
            for (int n = 0; n < 4; n++) {
                if (mine == v_token(n, t))
                    v[b][n] = v_new[b * 8 + g];
            }
            weigh(o, v[b], weights[i]);
        }
        if (b == 0)
            __syncwarp(); /* lanes have read K and these columns of V in `stage`, where sums go */
        put_sums<NB>(o, heads, b, sums, at::ROW);
    }
}

#endif
