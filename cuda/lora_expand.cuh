/* lora_expand: adapters inside a linear: sums += weight scale B u, from the u of lora_device.cuh.
 *
 * A round of pieces at a time, by runs (lora_runs.cuh). B of many adapters is most of what such a
 * step reads; the loop over its chunks must be short, or it is not its bytes that take the time but
 * its instructions. So u of a run stays in registers where it has no more rank tiles than a chunk,
 * full chunks are asked for and multiplied without asking which of their rank tiles there are.
 */
#ifndef CHORUS_CUDA_LORA_EXPAND_CUH
#define CHORUS_CUDA_LORA_EXPAND_CUH

#include "cuda/lora_expand_codes.cuh"

/* Sums of outputs g and g + 8 of a tile += scale c. */
PTX_INLINE void expand_add(float *sum, float low, float high, const struct expand_use *n)
{
    sum[0] = __fmaf_rn(n->low, low, sum[0]);
    sum[64] = __fmaf_rn(n->high, high, sum[64]);
}

/* A tile of B times u, low; times the u of up, high: of gate and up outputs g are low's and g + 8
 * high's. Chains of their own, so that one need not wait for the other. Lane (g, t) has rows 2t and
 * 2t + 1 of the piece. */
struct expand_sums {
    float low[4], high[4];
};

/* Rank tiles [c0, c0 + CHUNK) of u from `at`, of which there are `ranks` from 0; zeros beyond. */
template <bool HERE, int CHUNK>
PTX_INLINE void expand_u_load(uint2 (&v)[CHUNK], const uint8_t *at, int step, int c0, int ranks)
{
#pragma unroll
    for (int k = 0; k < CHUNK; k++) {
        v[k] = make_uint2(0, 0);
        const uint8_t *from = at + (c0 + k) * step;
        if (c0 + k < ranks)
            v[k] = HERE ? *(const uint2 *)from : u_load(from);
    }
}

/* Rank tiles from c0 on of u of a run, and of up. */
template <int CHUNK>
PTX_INLINE void expand_u_chunk(uint2 (&v)[CHUNK], uint2 (&up)[CHUNK], const struct expand_range *r,
                               const struct expand_use *n, int c0)
{
    if (n->here) {
        expand_u_load<true>(v, r->u + n->u, n->u_step, c0, n->ranks);
        expand_u_load<true>(up, r->u + n->u_up, n->u_step, c0, n->ranks_up);
    } else {
        expand_u_load<false>(v, r->p->u + n->u, n->u_step, c0, n->ranks);
        expand_u_load<false>(up, r->p->u + n->u_up, n->u_step, c0, n->ranks_up);
    }
}

/* c += the products of rank tile k of a chunk. */
PTX_INLINE void expand_mma(struct expand_sums *c, const uint4 b, const uint2 v, const uint2 up,
                           bool pair)
{
    ptx_mma_bf16(c->low, b.x, b.y, b.z, b.w, v.x, v.y);
    if (pair)
        ptx_mma_bf16(c->high, b.x, b.y, b.z, b.w, up.x, up.y);
}

/* c += rank tiles [0, count) of a chunk, count > 0. from: this lane's bytes of its slot, which is
 * filled anew once they are read. */
template <int FRAGS, bool CODES>
PTX_INLINE void expand_chunk(struct expand_sums *c, uint8_t *from, int count, const uint2 *v,
                             const uint2 *up, struct expand_feed *f, const struct expand_range *r,
                             const struct place *at)
{
    constexpr int chunk = expand_shape<FRAGS>::chunk;
    const bool pair = r->p->out == LINEAR_SWIGLU;
    uint4 b[chunk];
    ptx_cp_async_wait<expand_shape<FRAGS>::slots - 1>();
#pragma unroll
    for (int k = 0; k < chunk; k++)
        if (!CODES || k < count) /* codes: other lanes' bytes may lie there */
            b[k] = *(const uint4 *)(from + k * RANK_TILE_BYTES);
    expand_issue<FRAGS, CODES>(f, r, from, at);
    if (count >= chunk && pair) {
#pragma unroll
        for (int k = 0; k < chunk; k++)
            expand_mma(c, b[k], v[k], up[k], true);
    } else if (count >= chunk) {
#pragma unroll
        for (int k = 0; k < chunk; k++)
            expand_mma(c, b[k], v[k], up[k], false);
    } else {
#pragma unroll
        for (int k = 0; k + 1 < chunk; k++)
            if (k < count)
                expand_mma(c, b[k], v[k], up[k], pair);
    }
}

/* The tiles of a run. sums: its first tile's; from: this lane's bytes of the next chunk's slot. */
template <int FRAGS, bool CODES>
PTX_INLINE void expand_plain(float *sums, int tile_floats, struct expand_feed *f,
                             const struct expand_range *r, uint8_t **from, uint8_t *ring,
                             const struct expand_use *n, const struct place *at)
{
    constexpr int chunk = expand_shape<FRAGS>::chunk;
    const bool pair = r->p->out == LINEAR_SWIGLU;
    const int t0 = n->row + at->t * 2, left = n->rows - at->t * 2;
    const bool on0 = left > 0 && t0 >= 0 && t0 < r->rows;
    const bool on1 = left > 1 && t0 + 1 >= 0 && t0 + 1 < r->rows;
    float *to0 = sums + slot_at(at->g, t0), *to1 = sums + slot_at(at->g, t0 + 1);
    uint2 v[chunk], up[chunk];
    struct expand_sums c = {};
    int c0 = 0, tiles = n->tiles;
    bool fresh = true;
#pragma unroll 1
    while (true) {
        if (fresh)
            expand_u_chunk(v, up, r, n, c0);
        fresh = n->count > chunk;
        expand_chunk<FRAGS, CODES>(&c, *from, n->count - c0, v, up, f, r, at);
        *from += expand_shape<FRAGS>::slot_bytes;
        if (*from == ring + FRAGS * RANK_TILE_BYTES)
            *from = ring;
        c0 += chunk;
        if (c0 >= n->count) {
            if (on0)
                expand_add(to0, c.low[0], pair ? c.high[2] : c.low[2], n);
            if (on1)
                expand_add(to1, c.low[1], pair ? c.high[3] : c.low[3], n);
            if (--tiles == 0)
                return;
            to0 += n->k_step * tile_floats;
            to1 += n->k_step * tile_floats;
            c = {};
            c0 = 0;
        }
    }
}

/* The runs of a list. */
template <int FRAGS, bool MANY, bool CODES>
PTX_INLINE void expand_runs(float *sums, int tile_floats, struct expand_feed *f,
                            const struct expand_range *r, uint8_t *ring, const struct place *at)
{
    uint8_t *const own = ring + at->lane * 16;
    uint8_t *from = own;
#pragma unroll 1
    for (unsigned runs = f->runs; runs; runs &= runs - 1) {
        const struct expand_use n = expand_use_of<CODES>(&f->run, __ffs((int)runs) - 1, r, at);
        float *to = sums + n.k * tile_floats;
        if (CODES && n.codes)
            expand_coded<FRAGS, MANY>(to, tile_floats, f, r, &from, own, &n, at);
        else
            expand_plain<FRAGS, CODES>(to, tile_floats, f, r, &from, own, &n, at);
    }
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
        const int end = l->head.round_end[round];
        if (end <= begin)
            continue;
#pragma unroll 1
        for (int batch = 0; batch * LIST_PIECES * LINEAR_WARPS < end - begin || batch == 0;
             batch++) {
            if (!begun || round > 0 || batch > 0)
                expand_begin<FRAGS, CODES>(f, r, round, batch, ring, at);
            expand_runs<FRAGS, MANY, CODES>(sums, tile_floats, f, r, ring, at);
        }
        begin = end;
        __syncthreads(); /* a round's sums before the next round adds to them, or all are read */
    }
}

#endif
