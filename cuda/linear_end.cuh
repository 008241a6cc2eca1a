/* linear_end: the end of a pass of k_linear: the slices' sums become totals, adapters and the
 * epilogue follow, item by item: an item is outputs r and r + 8 of a tile, of one row.
 */
#ifndef CHORUS_CUDA_LINEAR_END_CUH
#define CHORUS_CUDA_LINEAR_END_CUH

#include "cuda/linear_out.cuh"
#include "cuda/lora_expand.cuh"

/* What a kernel knows of: no adapters, those in bf16, or those of codes too. */
enum linear_lora { LINEAR_NO_LORA, LINEAR_LORA, LINEAR_CODES };

/* First and last but one tile of a block. */
PTX_INLINE int tile_begin(const struct linear_dev *p, int block)
{
    return (int)((int64_t)p->tiles * block / gridDim.x);
}

/* What a block keeps beside its large arrays. */
template <int NT> struct alignas(16) block_state {
    float rinv[NT * 8];
    struct lora_state lora;
};

struct item {
    int k, n, t, r; /* tile of the pass, output, row of the row block, output of the tile */
    int at;         /* of its sums, from tile k's */
};

template <int NT> PTX_INLINE struct item item_of(int i, int tile)
{
    struct item e;
    int c = i / 32 % 2, lane = i % 32;
    e.k = i / (NT * 64);
    e.t = i / 64 % NT * 8 + lane % 4 * 2 + c;
    e.r = lane / 4;
    e.n = (tile + e.k) * TILE_N + e.r;
    e.at = i / 64 % NT * 128 + c * 32 + lane;
    return e;
}

/* The rows' scale of int8. */
PTX_INLINE float2 item_scaled(float2 v, const struct item *e, const struct linear_dev *p)
{
    if (p->row_scale) {
        v.x *= __ldg(p->row_scale + e->n);
        v.y *= __ldg(p->row_scale + e->n + 8);
    }
    return v;
}

PTX_INLINE float slices_total(const float *slot, int slice_floats)
{
    float v[LINEAR_SLICES];
#pragma unroll
    for (int i = 0; i < LINEAR_SLICES; i++)
        v[i] = slot[i * slice_floats];
    return slices_tree(v);
}

/* The slices' totals of an item. */
PTX_INLINE float2 item_total(const struct sums *s, const struct item *e, const struct linear_dev *p)
{
    const float *slot = s->at + e->k * s->tile_floats + e->at;
    const float low = slices_total(slot, s->slice_floats);
    return item_scaled({low, slices_total(slot + 64, s->slice_floats)}, e, p);
}

/* Where a pass's expands are, tiles as those of the sums; at NULL: there are none. */
struct added {
    float *at;
    int tile_floats;
};

/* Some tiles of a pass, all rows of a row block: totals, adapters, epilogue. total(item): what the
 * weights give. Leaves `more` at zero. ahead: of the first item. */
template <int NT, class TOTAL>
PTX_INLINE void pass_end(TOTAL total, const float *rinv, const struct linear_dev *p,
                         const struct lora_state *l, struct added more, struct residual_ahead ahead,
                         int tile, int tiles, int first, int rows)
{
    for (int i = threadIdx.x; i < tiles * NT * 64; i += LINEAR_THREADS) {
        const struct item e = item_of<NT>(i, tile);
        float2 v = total(e);
        const bool on = e.t < rows;
        if (more.at) {
            float *add = more.at + e.k * more.tile_floats + e.at;
            if (l->head.any_gain && on) {
                v.x *= e.n < p->n ? row_gain(p, l->head.count, first + e.t, e.n) : 1;
                v.y *= e.n + 8 < p->n ? row_gain(p, l->head.count, first + e.t, e.n + 8) : 1;
            }
            v.x = __fadd_rn(v.x, add[0]);
            v.y = __fadd_rn(v.y, add[64]);
            add[0] = add[64] = 0;
        }
        const float scale = on ? rinv[e.t] : 0;
        finish(p, tile + e.k, e.r, first + e.t, on, v.x * scale, v.y * scale, ahead);
        ahead.here = false;
    }
    __syncthreads(); /* the sums were read, the next pass may write them */
}

#endif
