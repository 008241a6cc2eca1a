/* lora_expand: adapters inside a linear: sums += weight scale B u, from the u of lora_device.cuh.
 *
 * Work is (piece, output tile) units over the warps, a round of pieces at a time; pieces of a round
 * never share a row, so each element of the sums has one writer between two barriers. Pieces are
 * looked up 32 at a time, one a lane. A warp has the B and u of its next ranks under way while it
 * multiplies the present ones.
 */
#ifndef CHORUS_CUDA_LORA_EXPAND_CUH
#define CHORUS_CUDA_LORA_EXPAND_CUH

#include "cuda/lora_device.cuh"

/* The B fragment of u of a rank tile; see above. exclusive: units before the piece (fine). */
PTX_INLINE uint2 u_fragment(const struct linear_dev *p, bool fine, int exclusive, int piece,
                            int rank_tile, int lane)
{
    if (!fine)
        return __ldcg(
            (const uint2 *)(p->u + ((size_t)piece * RANK_TILES_MAX + rank_tile) * 256 + lane * 8));
    const uint8_t *from = p->u + (size_t)(exclusive + rank_tile) * 4096 + lane * 16;
    float s[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < LINEAR_SLICES; i++) {
        uint4 v = ptx_load_l2(from + i * 512);
        s[0] = __fadd_rn(s[0], __uint_as_float(v.x));
        s[1] = __fadd_rn(s[1], __uint_as_float(v.y));
        s[2] = __fadd_rn(s[2], __uint_as_float(v.z));
        s[3] = __fadd_rn(s[3], __uint_as_float(v.w));
    }
    return make_uint2(pack_bf16(s[0], s[1]), pack_bf16(s[2], s[3]));
}

/* One piece at the tiles of one module, one piece a lane. gate_up: gate's rows take `tiles` rank
 * tiles of u from `first`, up's `tiles_up` from `first_up`, of one array of fragments. */
struct expand_piece {
    const uint8_t *b; /* fragments of the module's first tile; NULL: nothing to do */
    int count;        /* rank tiles of a tile in b */
    int first, tiles, first_up, tiles_up;
    int row, rows;         /* of the row block; the first may be negative */
    float scale, scale_up; /* with the piece's weight */
};

PTX_INLINE struct expand_piece expand_find(const struct linear_dev *p, int q, int end, int module,
                                           int first, int rows)
{
    struct expand_piece e = {};
    if (q >= end)
        return e;
    struct lora_piece piece = p->pieces[q];
    e.row = piece.row - first;
    e.rows = piece.rows;
    const struct lora_stack *s = piece_stack(p, piece.slot);
    if (s->rank_tiles == 0 || e.row >= rows || e.row + e.rows <= 0)
        return e;
    e.b = s->b[module];
    e.first = s->module_tile[module];
    e.tiles = s->module_tile[module + 1] - e.first;
    e.scale = e.scale_up = piece.weight * s->scale[module];
    if (p->out == LINEAR_SWIGLU) {
        e.first_up = s->module_tile[1];
        e.tiles_up = s->module_tile[2] - e.first_up;
        e.scale_up = piece.weight * s->scale[1];
    }
    e.count = max(e.tiles, e.tiles_up);
    return e;
}

/* Asks the pieces' B of tiles [tile, tile_end) into L2, a warp a piece. */
PTX_INLINE void expand_prefetch(const struct linear_dev *p, int pieces, int tile, int tile_end,
                                const struct place *at)
{
    for (int q = at->warp; q < pieces; q += LINEAR_WARPS)
        for (int m = 0; m < STACK_MODULES; m++) {
            const int low = max(tile, p->module_tile[m]);
            const int high =
                m + 1 < STACK_MODULES ? min(tile_end, p->module_tile[m + 1]) : tile_end;
            if (low >= high)
                continue;
            struct expand_piece e = expand_find(p, q, pieces, m, 0, 1 << 30);
            const int bytes = e.b ? (high - low) * e.count * 512 : 0;
            const uint8_t *b = e.b + (size_t)(low - p->module_tile[m]) * e.count * 512;
            for (int i = at->lane * 128; i < bytes; i += 32 * 128)
                ptx_prefetch_l2(b + i);
        }
}

#define EXPAND_STEP 2 /* rank tiles that a warp fetches at once */

/* A warp's way through its (piece, tile) units. */
struct expand_walk {
    int q, k; /* piece of the batch, tile of the segment */
    int c;    /* next rank tile; count: of this unit */
    int count;
};

struct expand_step {
    uint4 b[EXPAND_STEP];
    uint2 u[EXPAND_STEP], up[EXPAND_STEP];
    int q, k, c, count; /* count 0: the end */
};

/* What a walk goes over: pieces of a batch from `base`, tiles of a segment of one module. */
struct expand_field {
    int base, pieces, tiles;
    int local; /* segment's first tile within its module */
    bool fine;
};

PTX_INLINE void expand_fetch(struct expand_step *s, struct expand_walk *w,
                             const struct expand_piece *mine, const struct expand_field *f,
                             const struct linear_dev *p, const int *before, const struct place *at)
{
    while (w->c >= w->count) { /* the next unit that has ranks */
        w->k += LINEAR_WARPS;
        while (w->k >= f->tiles) {
            w->k -= f->tiles;
            w->q++;
        }
        w->c = 0;
        if (w->q >= f->pieces) {
            s->count = 0;
            w->q = f->pieces;
            w->count = 0;
            return;
        }
        w->count = __shfl_sync(~0u, mine->count, w->q);
    }
    const int q = w->q;
    s->q = q;
    s->k = w->k;
    s->c = w->c;
    s->count = w->count;
    const uint64_t base = __shfl_sync(~0u, (uint64_t)(uintptr_t)mine->b, q);
    const uint8_t *b = (const uint8_t *)(uintptr_t)base +
                       ((size_t)(f->local + w->k) * w->count + w->c) * 512 + at->lane * 16;
    const int first = __shfl_sync(~0u, mine->first, q), tiles = __shfl_sync(~0u, mine->tiles, q);
    const int exclusive = f->fine ? before[f->base + q] : 0;
#pragma unroll
    for (int i = 0; i < EXPAND_STEP; i++)
        if (w->c + i < w->count)
            s->b[i] = ptx_load_stream(b + i * 512);
#pragma unroll
    for (int i = 0; i < EXPAND_STEP; i++)
        if (w->c + i < tiles)
            s->u[i] = u_fragment(p, f->fine, exclusive, f->base + q, first + w->c + i, at->lane);
    if (p->out == LINEAR_SWIGLU) {
        const int first_up = __shfl_sync(~0u, mine->first_up, q);
        const int tiles_up = __shfl_sync(~0u, mine->tiles_up, q);
#pragma unroll
        for (int i = 0; i < EXPAND_STEP; i++)
            if (w->c + i < tiles_up)
                s->up[i] =
                    u_fragment(p, f->fine, exclusive, f->base + q, first_up + w->c + i, at->lane);
    }
    w->c += EXPAND_STEP;
}

/* c += a step's products; at a unit's end sum[row (r, t)] += weight scale c. sum: slot of the
 * segment's first tile; rows: of the row block. */
PTX_INLINE void expand_apply(float c[4], float *sum, int tile_floats, const struct expand_step *s,
                             const struct expand_piece *mine, const struct linear_dev *p, int rows,
                             const struct place *at)
{
    const int tiles = __shfl_sync(~0u, mine->tiles, s->q);
    const int tiles_up = __shfl_sync(~0u, mine->tiles_up, s->q);
#pragma unroll
    for (int i = 0; i < EXPAND_STEP; i++) {
        if (p->out != LINEAR_SWIGLU) {
            if (s->c + i < tiles)
                ptx_mma_bf16(c, s->b[i].x, s->b[i].y, s->b[i].z, s->b[i].w, s->u[i].x, s->u[i].y);
            continue;
        }
        if (s->c + i < tiles)
            ptx_mma_bf16(c, s->b[i].x, 0, s->b[i].z, 0, s->u[i].x, s->u[i].y);
        if (s->c + i < tiles_up)
            ptx_mma_bf16(c, 0, s->b[i].y, 0, s->b[i].w, s->up[i].x, s->up[i].y);
    }
    if (s->c + EXPAND_STEP < s->count)
        return;
    const int row = __shfl_sync(~0u, mine->row, s->q);
    const int piece_rows = __shfl_sync(~0u, mine->rows, s->q);
    const float scale = __shfl_sync(~0u, mine->scale, s->q);
    const float scale_up = __shfl_sync(~0u, mine->scale_up, s->q);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int j = at->t * 2 + i % 2, t = row + j;
        if (j < piece_rows && t >= 0 && t < rows) {
            float *to = sum + s->k * tile_floats + slot_at(at->g + i / 2 * 8, t);
            *to = __fmaf_rn(i < 2 ? scale : scale_up, c[i], *to);
        }
        c[i] = 0;
    }
}

/* All units of a batch of at most 32 pieces at a segment's tiles, the next one's loads under way
 * while one is worked on. */
PTX_INLINE void expand_batch(float *sum, int tile_floats, const struct expand_piece *mine,
                             const struct expand_field *f, const struct linear_dev *p,
                             const int *before, int rows, const struct place *at)
{
    struct expand_walk w = {0, at->warp - LINEAR_WARPS, 0, 0};
    struct expand_step a, b;
    float c[4] = {0, 0, 0, 0};
    expand_fetch(&a, &w, mine, f, p, before, at);
    while (a.count > 0) {
        expand_fetch(&b, &w, mine, f, p, before, at);
        expand_apply(c, sum, tile_floats, &a, mine, p, rows, at);
        if (b.count == 0)
            break;
        expand_fetch(&a, &w, mine, f, p, before, at);
        expand_apply(c, sum, tile_floats, &b, mine, p, rows, at);
    }
}

#endif
