/* lora_expand_codes: what a warp that multiplies with B knows of its run and of u, and runs of
 * codes; those of bf16 are in lora_expand.cuh. */
#ifndef CHORUS_CUDA_LORA_EXPAND_CODES_CUH
#define CHORUS_CUDA_LORA_EXPAND_CODES_CUH

#include "cuda/lora_runs.cuh"

/* A run as who multiplies needs it. */
struct expand_use {
    int k, k_step, tiles, count; /* tiles of the pass: k, k + k_step, ...; rank tiles of each */
    int row, rows;               /* of the piece in the row block */
    int ranks, ranks_up;         /* rank tiles of u */
    bool here;                   /* u is in shared memory; else where the shrink left it */
    int u, u_up, u_step;         /* byte of this lane's values there, to the next rank tile */
    int codes;                   /* enum lora_codes */
    float low, high;
};

/* The run of lane `i`. */
template <bool CODES>
PTX_INLINE struct expand_use expand_use_of(const struct expand_run *run, int i,
                                           const struct expand_range *r, const struct place *at)
{
    const uint32_t tiles = __shfl_sync(~0u, run->tiles, i), rows = __shfl_sync(~0u, run->rows, i);
    const uint32_t u = __shfl_sync(~0u, run->u, i);
    struct expand_use n;
    n.k = byte_of(tiles, 0);
    n.k_step = byte_of(tiles, 1);
    n.tiles = byte_of(tiles, 2);
    n.count = byte_of(tiles, 3);
    n.row = (int8_t)rows;
    n.rows = byte_of(rows, 1);
    n.ranks = byte_of(rows, 2);
    n.ranks_up = r->p->out == LINEAR_SWIGLU ? byte_of(rows, 3) : 0;
    const int row = min(at->g, n.rows - 1);
    n.here = r->l->u_rows >= 0;
    n.u = ((int)(u & 65535) + row) * 32 + at->t * 8;
    n.u_up = ((int)(u >> 16) + row) * 32 + at->t * 8;
    n.u_step = n.rows * 32;
    if (!n.here) { /* never in the form for few units: those have room */
        const uint32_t piece = __shfl_sync(~0u, run->piece, i);
        const int first = (int)(piece & 65535) * RANK_TILES_MAX, lane = row * 64 + at->t * 16;
        n.u = (first + byte_of(piece, 2)) * U_UNIT + lane;
        n.u_up = (first + byte_of(piece, 3)) * U_UNIT + lane;
        n.u_step = U_UNIT;
    }
    n.codes = CODES ? byte_of(__shfl_sync(~0u, run->codes, i), 0) : LORA_BF16;
    n.low = __shfl_sync(~0u, run->low, i);
    n.high = __shfl_sync(~0u, run->high, i);
    return n;
}

/* Rank tile c of u, or of up, of a run: this lane's row and ranks; zero where it has no more. */
PTX_INLINE uint2 expand_u(const struct expand_range *r, const struct expand_use *n, bool up, int c)
{
    const int from = (up ? n->u_up : n->u) + c * n->u_step;
    if (c >= (up ? n->ranks_up : n->ranks))
        return make_uint2(0, 0);
    return n->here ? *(const uint2 *)(r->u + from) : u_load(r->p->u + from);
}

/* c += a rank tile of gate and up: rows g with v, rows g + 8 with up. */
PTX_INLINE void expand_pair(float c[4], const uint4 b, const uint2 v, const uint2 up)
{
    ptx_mma_bf16(c, b.x, 0, b.z, 0, v.x, v.y);
    ptx_mma_bf16(c, 0, b.y, 0, b.w, up.x, up.y);
}

/* u times the scales of int4, rank tile k of a chunk. */
PTX_INLINE uint2 expand_scaled(const uint2 v, const uint8_t *scales, const struct place *at)
{
    const uint2 s = *(const uint2 *)(scales + at->t * 8);
    return make_uint2(codes_scaled(v.x, s.x), codes_scaled(v.y, s.y));
}

/* c += rank tile c0 + k of codes. slot: the warp's; b: its fragment. */
PTX_INLINE void expand_codes_tile(float c[4], const uint4 b, const uint8_t *slot, int c0, int k,
                                  const struct expand_range *r, const struct expand_use *n,
                                  const struct place *at)
{
    const bool pair = r->l->pair;
    const uint8_t *scales = slot + CODES_SCALES + k * (pair ? 64 : 32);
    uint2 v = expand_u(r, n, false, c0 + k);
    if (n->codes == LORA_INT4)
        v = expand_scaled(v, scales, at);
    if (!pair) {
        ptx_mma_bf16(c, b.x, b.y, b.z, b.w, v.x, v.y);
        return;
    }
    uint2 up = expand_u(r, n, true, c0 + k);
    if (n->codes == LORA_INT4)
        up = expand_scaled(up, scales + 32, at);
    expand_pair(c, b, v, up);
}

/* c += a chunk of codes, once it has come. */
template <int FRAGS, bool MANY>
PTX_INLINE void expand_chunk_codes(float c[4], const uint8_t *slot, int c0, int end,
                                   const struct expand_range *r, const struct expand_use *n,
                                   const struct place *at)
{
    ptx_cp_async_wait<expand_shape<FRAGS>::slots - 1>();
    __syncwarp(); /* the other lanes' copies of scales */
    if (MANY && end - c0 == CODES_CHUNK) {
        const uint4 low = *(const uint4 *)(slot + at->lane * 16);
        if (n->codes == LORA_INT4) {
#pragma unroll
            for (int k = 0; k < CODES_CHUNK; k++)
                expand_codes_tile(c, codes_step(&low, k, LORA_INT4), slot, c0, k, r, n, at);
            return;
        }
        const uint4 both[2] = {low, *(const uint4 *)(slot + 512 + at->lane * 16)};
#pragma unroll
        for (int k = 0; k < CODES_CHUNK; k++)
            expand_codes_tile(c, codes_step(both, k, LORA_INT8), slot, c0, k, r, n, at);
        return;
    }
#pragma unroll 1
    for (int k = 0; k < end - c0; k++) {
        const uint8_t *from = slot + lora_code_at(n->codes, end - c0, k, at->lane);
        expand_codes_tile(c, codes_fragment(from, n->codes), slot, c0, k, r, n, at);
    }
}

/* The tiles of a run of codes; as expand_plain. */
template <int FRAGS, bool MANY>
PTX_INLINE void expand_coded(float *to, int tile_floats, struct expand_feed *f,
                             const struct expand_range *r, uint8_t **from, uint8_t *ring,
                             const struct expand_use *n, const struct place *at)
{
#pragma unroll 1
    for (int i = 0; i < n->tiles; i++, to += n->k_step * tile_floats) {
        float c[4] = {0, 0, 0, 0};
#pragma unroll 1
        for (int c0 = 0; c0 < n->count; c0 += CODES_CHUNK) {
            const int end = min(c0 + CODES_CHUNK, n->count);
            expand_chunk_codes<FRAGS, MANY>(c, *from - at->lane * 16, c0, end, r, n, at);
            expand_issue<FRAGS, true>(f, r, *from, at);
            *from += expand_shape<FRAGS>::slot_bytes;
            if (*from == ring + FRAGS * RANK_TILE_BYTES)
                *from = ring;
        }
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int row = at->t * 2 + j, t = n->row + row;
            if (row >= n->rows || t < 0 || t >= r->rows)
                continue;
            float *sum = to + slot_at(at->g, t);
            sum[0] = __fmaf_rn(n->low, c[j], sum[0]);
            sum[64] = __fmaf_rn(n->high, c[j + 2], sum[64]);
        }
    }
}

#endif
