/* lora_expand: adapters inside a linear: sums += weight scale B u, from the u of lora_device.cuh.
 *
 * A round of pieces at a time, by runs (lora_runs.cuh). B of many adapters is most of what such a
 * step reads; the loop over its chunks must be short, or it is not its bytes that take the time but
 * its instructions. u of all pieces lies in shared memory where it has room.
 */
#ifndef CHORUS_CUDA_LORA_EXPAND_CUH
#define CHORUS_CUDA_LORA_EXPAND_CUH

#include "cuda/lora_runs.cuh"

/* A run as who multiplies needs it. */
struct expand_use {
    int q, row, rows; /* piece; its rows in the row block */
    int rank_tile, rank_tile_up, ranks, ranks_up;
    int u, u_up; /* bytes of row 0 in lora_state.u */
    int codes;   /* enum lora_codes */
    float low, high;
};

template <bool CODES>
PTX_INLINE struct expand_use expand_use_of(const struct expand_run *run,
                                           const struct expand_range *r)
{
    const bool pair = r->p->out == LINEAR_SWIGLU;
    struct piece_entry far;
    const struct piece_entry *e = piece_entry_at<CODES>(&far, r, run->q);
    const int m = run->module, low = e->module_tile[r->l->low];
    struct expand_use v;
    v.q = run->q;
    v.row = e->row - r->first;
    v.rows = e->rows;
    v.rank_tile = e->module_tile[m];
    v.ranks = e->module_tile[m + 1] - v.rank_tile;
    v.rank_tile_up = e->module_tile[1];
    v.ranks_up = e->module_tile[2] - v.rank_tile_up;
    v.u = (e->u_at + (v.rank_tile - low) * e->rows) * 32;
    v.u_up = (e->u_at + (v.rank_tile_up - low) * e->rows) * 32;
    v.codes = CODES ? e->codes : LORA_BF16;
    v.low = e->scale[m];
    v.high = pair ? e->scale[1] : v.low;
    return v;
}

/* Rank tile c of u of a run: this lane's row and ranks; zero from `ranks` on. */
template <bool HERE>
PTX_INLINE uint2 expand_u(const struct expand_range *r, const struct expand_use *n, int u_at,
                          int rank_tile, int ranks, int c, const struct place *at)
{
    const int row = min(at->g, n->rows - 1);
    if (c >= ranks)
        return make_uint2(0, 0);
    return HERE ? *(const uint2 *)(r->l->u + u_at + (c * n->rows + row) * 32 + at->t * 8)
                : u_load(r->p, r->l, n->q, rank_tile + c, row, at->t);
}

/* c += a rank tile of gate and up: rows g with v, rows g + 8 with up. */
PTX_INLINE void expand_pair(float c[4], const uint4 b, const uint2 v, const uint2 up)
{
    ptx_mma_bf16(c, b.x, 0, b.z, 0, v.x, v.y);
    ptx_mma_bf16(c, 0, b.y, 0, b.w, up.x, up.y);
}

/* c += rank tiles [c0, end) of a tile, at `from` in the ring once it has come. Few rows run through
 * this a few times a node: the shorter code is the faster. */
template <int FRAGS, bool HERE>
PTX_INLINE void expand_chunk_few(float c[4], const uint8_t *from, int c0, int end,
                                 const struct expand_range *r, const struct expand_use *n,
                                 const struct expand_feed *f, const struct place *at)
{
    const bool pair = r->p->out == LINEAR_SWIGLU;
    expand_wait<FRAGS>(f);
#pragma unroll 1
    for (int k = c0; k < end; k++, from += RANK_TILE_BYTES) {
        const uint4 b = *(const uint4 *)from;
        const uint2 v = expand_u<HERE>(r, n, n->u, n->rank_tile, n->ranks, k, at);
        if (pair)
            expand_pair(c, b, v,
                        expand_u<HERE>(r, n, n->u_up, n->rank_tile_up, n->ranks_up, k, at));
        else
            ptx_mma_bf16(c, b.x, b.y, b.z, b.w, v.x, v.y);
    }
}

/* The same with all reads under way at once. */
template <int FRAGS, bool HERE>
PTX_INLINE void expand_chunk_many(float c[4], const uint8_t *from, int c0, int end,
                                  const struct expand_range *r, const struct expand_use *n,
                                  const struct expand_feed *f, const struct place *at)
{
    constexpr int chunk = expand_shape<FRAGS>::chunk;
    uint4 b[chunk];
    uint2 v[chunk], up[chunk];
#pragma unroll
    for (int k = 0; k < chunk; k++)
        v[k] = expand_u<HERE>(r, n, n->u, n->rank_tile, n->ranks, c0 + k, at);
    expand_wait<FRAGS>(f);
#pragma unroll
    for (int k = 0; k < chunk; k++)
        if (c0 + k < end)
            b[k] = *(const uint4 *)(from + k * RANK_TILE_BYTES);
    if (r->p->out != LINEAR_SWIGLU) {
#pragma unroll
        for (int k = 0; k < chunk; k++)
            if (c0 + k < end)
                ptx_mma_bf16(c, b[k].x, b[k].y, b[k].z, b[k].w, v[k].x, v[k].y);
        return;
    }
#pragma unroll
    for (int k = 0; k < chunk; k++)
        up[k] = expand_u<HERE>(r, n, n->u_up, n->rank_tile_up, n->ranks_up, c0 + k, at);
#pragma unroll
    for (int k = 0; k < chunk; k++)
        if (c0 + k < end)
            expand_pair(c, b[k], v[k], up[k]);
}

/* u times the scales of int4, rank tile k of a chunk. */
PTX_INLINE uint2 expand_scaled(const uint2 v, const uint8_t *scales, const struct place *at)
{
    const uint2 s = *(const uint2 *)(scales + at->t * 8);
    return make_uint2(codes_scaled(v.x, s.x), codes_scaled(v.y, s.y));
}

/* c += rank tile c0 + k of codes. slot: the warp's; b: its fragment. */
template <bool HERE>
PTX_INLINE void expand_codes_tile(float c[4], const uint4 b, const uint8_t *slot, int c0, int k,
                                  const struct expand_range *r, const struct expand_use *n,
                                  const struct place *at)
{
    const bool pair = r->l->pair;
    const uint8_t *scales = slot + CODES_SCALES + k * (pair ? 64 : 32);
    uint2 v = expand_u<HERE>(r, n, n->u, n->rank_tile, n->ranks, c0 + k, at);
    if (n->codes == LORA_INT4)
        v = expand_scaled(v, scales, at);
    if (!pair) {
        ptx_mma_bf16(c, b.x, b.y, b.z, b.w, v.x, v.y);
        return;
    }
    uint2 up = expand_u<HERE>(r, n, n->u_up, n->rank_tile_up, n->ranks_up, c0 + k, at);
    if (n->codes == LORA_INT4)
        up = expand_scaled(up, scales + 32, at);
    expand_pair(c, b, v, up);
}

/* c += a chunk of codes, once it has come. */
template <int FRAGS, bool HERE, bool MANY>
PTX_INLINE void expand_chunk_codes(float c[4], const uint8_t *slot, int c0, int end,
                                   const struct expand_range *r, const struct expand_use *n,
                                   const struct expand_feed *f, const struct place *at)
{
    expand_wait<FRAGS>(f);
    __syncwarp(); /* the other lanes' copies of scales */
    if (MANY && end - c0 == CODES_CHUNK) {
        const uint4 low = *(const uint4 *)(slot + at->lane * 16);
        if (n->codes == LORA_INT4) {
#pragma unroll
            for (int k = 0; k < CODES_CHUNK; k++)
                expand_codes_tile<HERE>(c, codes_step(&low, k, LORA_INT4), slot, c0, k, r, n, at);
            return;
        }
        const uint4 both[2] = {low, *(const uint4 *)(slot + 512 + at->lane * 16)};
#pragma unroll
        for (int k = 0; k < CODES_CHUNK; k++)
            expand_codes_tile<HERE>(c, codes_step(both, k, LORA_INT8), slot, c0, k, r, n, at);
        return;
    }
#pragma unroll 1
    for (int k = 0; k < end - c0; k++) {
        const uint8_t *from = slot + lora_code_at(n->codes, end - c0, k, at->lane);
        expand_codes_tile<HERE>(c, codes_fragment(from, n->codes), slot, c0, k, r, n, at);
    }
}

/* sums of a tile += scale c, where lane (g, t) has rows 2t and 2t + 1 of the piece. */
PTX_INLINE void expand_add(float *to, const float c[4], const struct expand_use *n, int rows,
                           const struct place *at)
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int j = at->t * 2 + i, t = n->row + j;
        if (j < n->rows && t >= 0 && t < rows) {
            float *sum = to + slot_at(at->g, t);
            sum[0] = __fmaf_rn(n->low, c[i], sum[0]);
            sum[64] = __fmaf_rn(n->high, c[i + 2], sum[64]);
        }
    }
}

/* The runs of a list. HERE: u is in shared memory. */
template <int FRAGS, bool HERE, bool MANY, bool CODES>
PTX_INLINE void expand_runs(float *sums, int tile_floats, struct expand_feed *f,
                            const struct expand_range *r, uint8_t *ring, const struct place *at)
{
    constexpr int chunk = expand_shape<FRAGS>::chunk;
    int slot = 0;
#pragma unroll 1
    for (int i = 0; i < f->runs; i++) {
        const struct expand_run run = r->l->run[at->warp][i];
        const struct expand_use n = expand_use_of<CODES>(&run, r);
        float *to = sums + run.k * tile_floats;
        const int step = CODES && n.codes ? CODES_CHUNK : chunk;
        float c[4] = {0, 0, 0, 0};
        int c0 = 0;
#pragma unroll 1
        for (int tiles = run.tiles; tiles > 0;) {
            const uint8_t *begin = ring + slot * (chunk * RANK_TILE_BYTES);
            const uint8_t *from = begin + at->lane * 16;
            slot = slot + 1 == expand_shape<FRAGS>::slots ? 0 : slot + 1;
            const int end = min(c0 + step, (int)run.count);
            if (CODES && n.codes)
                expand_chunk_codes<FRAGS, HERE, MANY>(c, begin, c0, end, r, &n, f, at);
            else if (MANY)
                expand_chunk_many<FRAGS, HERE>(c, from, c0, end, r, &n, f, at);
            else
                expand_chunk_few<FRAGS, HERE>(c, from, c0, end, r, &n, f, at);
            f->pending--;
            expand_issue<FRAGS, CODES>(f, r, ring, at);
            c0 += step;
            if (c0 >= run.count) {
                expand_add(to, c, &n, r->rows, at);
                c[0] = c[1] = c[2] = c[3] = 0;
                c0 = 0;
                tiles--;
                to += run.k_step * tile_floats;
            }
        }
    }
}

/* Rare: more pieces or rows of u than there is room for. */
template <int FRAGS, bool CODES>
LINEAR_CALL void expand_runs_far(float *sums, int tile_floats, struct expand_feed *f,
                                 const struct expand_range *r, uint8_t *ring)
{
    const struct place at = place_here();
    expand_runs<FRAGS, false, false, CODES>(sums, tile_floats, f, r, ring, &at);
}

/* Adds all pieces to `sums`, slot of the pass's first tile. begun: the first list of the first
 * round is under way. Ends with a barrier. */
template <int FRAGS, bool MANY, bool CODES>
PTX_INLINE void expand_all(float *sums, int tile_floats, struct expand_feed *f, bool begun,
                           const struct expand_range *r, uint8_t *ring, const struct place *at)
{
    const struct lora_state *l = r->l;
    int begin = 0;
#pragma unroll 1
    for (int round = 0; round < LORA_ROUNDS; round++) {
        const int end = l->round_end[round];
        if (end <= begin)
            continue;
#pragma unroll 1
        for (int batch = 0; batch * 8 * LINEAR_WARPS < end - begin || batch == 0; batch++) {
            if (!begun || round > 0 || batch > 0)
                expand_begin<FRAGS, CODES>(f, r, round, batch, ring, at);
            if (l->u_rows >= 0) {
                expand_runs<FRAGS, true, MANY, CODES>(sums, tile_floats, f, r, ring, at);
            } else {
                struct expand_feed far = *f;
                expand_runs_far<FRAGS, CODES>(sums, tile_floats, &far, r, ring);
            }
            __syncwarp(); /* the list is read */
        }
        begin = end;
        __syncthreads(); /* a round's sums before the next round adds to them, or all are read */
    }
}

/* Codes and few rows go through calls: a kernel that is short of registers would give away those of
 * loads that are under way, and wait for them where they are asked for. */
template <int FRAGS>
LINEAR_CALL void expand_begin_codes(struct expand_feed *park, const struct expand_range *r,
                                    uint8_t *ring)
{
    const struct place at = place_here();
    struct expand_feed f;
    expand_begin<FRAGS, true>(&f, r, 0, 0, ring, &at);
    feed_park(park, &f, &at);
}

template <int FRAGS>
LINEAR_CALL void expand_all_codes(float *sums, int tile_floats, const struct expand_feed *park,
                                  bool begun, const struct expand_range *r, uint8_t *ring)
{
    const struct place at = place_here();
    struct expand_feed f;
    if (begun)
        feed_take(&f, park, &at);
    expand_all<FRAGS, false, true>(sums, tile_floats, &f, begun, r, ring, &at);
}

#endif
