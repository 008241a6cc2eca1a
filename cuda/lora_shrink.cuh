/* lora_shrink: the node in front of a linear: u = A x of every piece, in the form of
 * lora_device.cuh.
 *
 * A slice's sum is two chains of products, of the even and the odd halves of its groups (64
 * columns), added at its end. So it is here, two blocks of 8 warps an SM, A through registers, the
 * next group's asked for early; and in lora_shrink_few.cuh.
 */
#ifndef CHORUS_CUDA_LORA_SHRINK_CUH
#define CHORUS_CUDA_LORA_SHRINK_CUH

#include "cuda/lora_device.cuh"

/* One slice of a unit as a warp works on it. */
struct shrink_work {
    const uint8_t *a; /* this lane's bytes of the slice's first group */
    const uint8_t *x; /* this lane's bytes of x there */
    int groups;
    int piece, rank_tile, unit, slice;
};

/* Unit numbers must not fall from call to call. */
PTX_INLINE struct shrink_work shrink_find(struct unit_scan *s, const struct linear_dev *p,
                                          int count, int unit, int slice, const struct place *at)
{
    int chunk;
    while (unit >= s->before + (chunk = __shfl_sync(~0u, s->incl, 31))) {
        s->before += chunk;
        s->first += 32;
        scan_load(s, p, count, at->lane);
    }
    int lane = __popc(__ballot_sync(~0u, s->before + s->incl <= unit));
    int begin = __shfl_sync(~0u, s->incl, lane ? lane - 1 : 0);
    struct shrink_work w;
    w.piece = s->first + lane;
    w.rank_tile = unit - s->before - (lane ? begin : 0);
    w.unit = unit;
    w.slice = slice;
    const struct lora_piece *piece = p->pieces + w.piece;
    int group = slice_begin(p->groups, slice);
    w.groups = slice_begin(p->groups, slice + 1) - group;
    w.a = piece_stack(p, piece->slot)->a +
          ((size_t)w.rank_tile * p->groups + group) * TILE_BYTES_BF16 + at->lane * 16;
    int row = piece->row + min(at->g, piece->rows - 1);
    if (p->x_row)
        row = p->x_row[row];
    w.x = p->x + (size_t)row * p->x_stride * 2 + (size_t)group * 256 + at->t * 16;
    return w;
}

/* Where fp32 sum (rank r, row j) of a unit lies among [lane][4]. */
PTX_INLINE int shrink_at(int r, int j)
{
    return (j * 4 + r % 8 / 2) * 4 + r / 8 * 2 + r % 2;
}

/* A warp's four sums to [lane][4] of its slice. */
PTX_INLINE void shrink_put(float *to, const float c[4], const struct place *at)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        to[shrink_at(at->g + i / 2 * 8, at->t * 2 + i % 2)] = c[i];
}

/* Item of a warp: fine: slices of units, block by block; coarse: a unit a block. -1: none left. */
template <int WARPS>
PTX_INLINE int shrink_unit(bool fine, int units, int item, int *slice, const struct place *at)
{
    constexpr int parts = LINEAR_SLICES / WARPS; /* slices of a unit that a warp does */
    int i = fine ? (int)blockIdx.x + (int)gridDim.x * (at->warp + item * WARPS)
                 : (int)blockIdx.x + (int)gridDim.x * (item / parts);
    *slice = fine ? i % LINEAR_SLICES : at->warp + item % parts * WARPS;
    i = fine ? i / LINEAR_SLICES : i;
    return i < units ? i : -1;
}

/* Coarse: u of a unit from the sums of its slices in `red`. All threads of the block. */
PTX_INLINE void shrink_sum(const float *red, const struct linear_dev *p,
                           const struct shrink_work *w)
{
    __syncthreads(); /* the slices' sums, before they are added */
    if (threadIdx.x < 64) {
        float v[2][LINEAR_SLICES];
#pragma unroll
        for (int i = 0; i < LINEAR_SLICES; i++) {
            v[0][i] = red[i * 128 + threadIdx.x * 2];
            v[1][i] = red[i * 128 + threadIdx.x * 2 + 1];
        }
        *(uint32_t *)(p->u + ((size_t)w->piece * RANK_TILES_MAX + w->rank_tile) * 256 +
                      threadIdx.x * 4) = pack_bf16(slices_tree(v[0]), slices_tree(v[1]));
    }
    __syncthreads(); /* the sums, before the next unit's */
}

/* c[half] += half a group: four k16 steps. x: two lots of 16 bytes. */
PTX_INLINE void shrink_half(float c[4], const uint4 a[4], const uint4 *x)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const uint4 v = x[i / 2];
        ptx_mma_bf16(c, a[i].x, a[i].y, a[i].z, a[i].w, i % 2 ? v.z : v.x, i % 2 ? v.w : v.y);
    }
}

/* Four lots of 16 bytes of x: this lane's share of a group. */
PTX_INLINE void shrink_x(uint4 x[4], const uint8_t *from)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        x[i] = ptx_load_l2(from + i * 64);
}

PTX_INLINE void half_load(uint4 a[4], const uint8_t *from)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        a[i] = ptx_load_stream(from + i * 512);
}

/* c = the slice's sums. `first`: A of its first group, loaded before. */
PTX_INLINE void shrink_slice(float c[4], const struct shrink_work *w, uint4 (&first)[2][4])
{
    uint4 x[4];
    float sum[2][4] = {};
    if (w->groups > 0)
        shrink_x(x, w->x);
    for (int g = 0; g < w->groups; g++) {
        uint4 now[4] = {x[0], x[1], x[2], x[3]};
        if (g + 1 < w->groups)
            shrink_x(x, w->x + (size_t)(g + 1) * 256);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            shrink_half(sum[h], first[h], now + h * 2);
            if (g + 1 < w->groups)
                half_load(first[h], w->a + (size_t)(g + 1) * TILE_BYTES_BF16 + h * 2048);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        c[i] = __fadd_rn(sum[0][i], sum[1][i]);
}

/* The first group of A into registers, the others asked into L2: a warp reads them one by one. */
PTX_INLINE void shrink_begin(const struct shrink_work *w, uint4 (&first)[2][4], int lane)
{
    if (w->groups == 0)
        return;
    half_load(first[0], w->a);
    half_load(first[1], w->a + 2048);
    const uint8_t *a = w->a - lane * 16;
    for (int i = TILE_BYTES_BF16 + lane * 128; i < w->groups * TILE_BYTES_BF16; i += 32 * 128)
        ptx_prefetch_l2(a + i);
}

/* Shared memory: [slice][lane][4] floats. */
__global__ __launch_bounds__(LINEAR_THREADS,
                             2) void k_shrink(const __grid_constant__ struct linear_dev p)
{
    ptx_pdl_trigger();
    DYN_SMEM(smem);
    float *red = (float *)smem;
    const struct place at = place_here();
    const int count = p.head->pieces[p.view].count;
    struct unit_scan scan;
    struct shrink_work w;
    uint4 loaded[2][4];
    int slice, unit = -1, units = 0;
    if (count > 0) {
        units = scan_init(&scan, &p, count, at.lane);
        unit = shrink_unit<LINEAR_WARPS>(false, units, 0, &slice, &at);
    }
    if (unit >= 0) {
        w = shrink_find(&scan, &p, count, unit, slice, &at);
        shrink_begin(&w, loaded, at.lane);
    }
    ptx_pdl_wait();
    for (int item = 1; unit >= 0; item++) {
        float c[4];
        shrink_slice(c, &w, loaded);
        const struct shrink_work done = w;
        unit = shrink_unit<LINEAR_WARPS>(false, units, item, &slice, &at);
        if (unit >= 0) {
            w = shrink_find(&scan, &p, count, unit, slice, &at);
            shrink_begin(&w, loaded, at.lane);
        }
        shrink_put(red + at.warp * 128, c, &at);
        shrink_sum(red, &p, &done);
    }
}

#endif
