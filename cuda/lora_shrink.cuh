/* lora_shrink: the node in front of a linear: u = A x of every piece, in the form of
 * lora_device.cuh.
 *
 * A slice's sum is two chains of products, of the even and the odd halves of its groups (64
 * columns), added at its end. So it is here, two blocks of 8 warps an SM, A through registers, the
 * next group's asked for early; and in lora_shrink_few.cuh.
 */
#ifndef CHORUS_CUDA_LORA_SHRINK_CUH
#define CHORUS_CUDA_LORA_SHRINK_CUH

#include "cuda/lora_codes.cuh"
#include "cuda/lora_units.cuh"

/* Says that the node in front has ended, so that the linear behind may read x while u is made: an
 * entry a block. Its first thread is behind ptx_pdl_wait. */
PTX_INLINE void shrink_begun(const struct linear_dev *p)
{
    if (p->begun && threadIdx.x == 0)
        ptx_store_release(p->begun + blockIdx.x, 1);
}

/* The linear's part of it, a warp. The shrink has at least as many blocks, and this kernel has
 * begun because all of them have. */
PTX_INLINE void shrink_await(const struct linear_dev *p)
{
    while (ptx_load_acquire_u32(p->begun + blockIdx.x) == 0)
        continue;
    __syncwarp(); /* all lanes have seen it */
}

/* Takes it back for the next step, once all warps have seen it. */
PTX_INLINE void shrink_seen(const struct linear_dev *p)
{
    if (threadIdx.x == 0)
        p->begun[blockIdx.x] = 0;
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

/* The scales of int8, on the sums of a slice: the same on every path. */
template <bool CODES>
PTX_INLINE void shrink_scale(float c[4], const struct linear_dev *p, const struct shrink_work *w,
                             const struct place *at)
{
    if (!CODES || w->codes != LORA_INT8)
        return;
    const float *scale = piece_stack(p, p->pieces[w->piece].slot)->rank_scale;
#pragma unroll
    for (int i = 0; i < 4; i++)
        c[i] *= __ldg(scale + w->rank_tile * TILE_N + at->g + i / 2 * 8);
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

PTX_INLINE void shrink_step(float c[4], const uint4 a, const uint4 *x, int i)
{
    const uint4 v = x[i / 2];
    ptx_mma_bf16(c, a.x, a.y, a.z, a.w, i % 2 ? v.z : v.x, i % 2 ? v.w : v.y);
}

/* c[half] += half a group: four k16 steps. x: two lots of 16 bytes. */
PTX_INLINE void shrink_half(float c[4], const uint4 a[4], const uint4 *x)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        shrink_step(c, a[i], x, i);
}

/* The same of codes; scales: of int4. */
PTX_INLINE void shrink_half_codes(float c[4], const uint4 a[4], const uint4 *x, int codes,
                                  uint32_t scales)
{
    if (codes == LORA_INT8) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            shrink_step(c, codes_step(a, i, LORA_INT8), x, i);
        return;
    }
    float part[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < 4; i++)
        shrink_step(part, codes_step(a, i, LORA_INT4), x, i);
    codes_add(c, part, scales);
}

/* Four lots of 16 bytes of x: this lane's share of a group. */
PTX_INLINE void shrink_x(uint4 x[4], const uint8_t *from)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        x[i] = ptx_load_l2(from + i * 64);
}

/* A of a group: halves of 16 bytes four times; of codes twice or once. */
struct shrink_group {
    uint4 a[2][4];
    uint32_t scales[2]; /* of int4 */
};

template <bool CODES>
PTX_INLINE void half_load(struct shrink_group *to, int h, const uint8_t *group, int codes)
{
    const uint8_t *from = group + h * (2048 >> codes);
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (!CODES || i < 4 >> codes)
            to->a[h][i] = ptx_load_stream(from + i * 512);
}

/* group: at this lane's 16 bytes. */
template <bool CODES>
PTX_INLINE void scales_load(struct shrink_group *to, const uint8_t *group, int codes, int lane)
{
    if (CODES && codes == LORA_INT4)
        ptx_load_stream_8(&to->scales[0], &to->scales[1], group + 1024 + lane / 4 * 8 - lane * 16);
}

/* c = the slice's sums. `first`: A of its first group, loaded before. */
template <bool CODES>
PTX_INLINE void shrink_slice(float c[4], const struct shrink_work *w, struct shrink_group *first,
                             int lane)
{
    const int group_bytes = lora_group_bytes(CODES ? w->codes : LORA_BF16);
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
            if (CODES && w->codes)
                shrink_half_codes(sum[h], first->a[h], now + h * 2, w->codes, first->scales[h]);
            else
                shrink_half(sum[h], first->a[h], now + h * 2);
            if (g + 1 < w->groups)
                half_load<CODES>(first, h, w->a + (size_t)(g + 1) * group_bytes, w->codes);
        }
        if (g + 1 < w->groups)
            scales_load<CODES>(first, w->a + (size_t)(g + 1) * group_bytes, w->codes, lane);
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        c[i] = __fadd_rn(sum[0][i], sum[1][i]);
}

/* The first group of A into registers, the others asked into L2: a warp reads them one by one. */
template <bool CODES>
PTX_INLINE void shrink_begin(const struct shrink_work *w, struct shrink_group *first, int lane)
{
    const int group_bytes = lora_group_bytes(CODES ? w->codes : LORA_BF16);
    if (w->groups == 0)
        return;
    half_load<CODES>(first, 0, w->a, w->codes);
    half_load<CODES>(first, 1, w->a, w->codes);
    scales_load<CODES>(first, w->a, w->codes, lane);
    const uint8_t *a = w->a - lane * 16;
    for (int i = group_bytes + lane * 128; i < w->groups * group_bytes; i += 32 * 128)
        ptx_prefetch_l2(a + i);
}

/* Shared memory: [slice][lane][4] floats. */
template <bool CODES>
__global__ __launch_bounds__(LINEAR_THREADS,
                             2) void k_shrink(const __grid_constant__ struct linear_dev p)
{
    ptx_pdl_trigger();
    DYN_SMEM(smem);
    float *red = (float *)smem;
    const struct place at = place_here();
    const int count = __ldcg(&p.here->head.count), units = __ldcg(&p.here->head.units);
    struct unit_scan scan;
    struct shrink_work w;
    struct shrink_group loaded;
    scan_init<CODES>(&scan, &p, count, at.lane);
    int slice, unit = shrink_unit<LINEAR_WARPS>(false, units, 0, &slice, &at);
    if (unit >= 0) {
        w = shrink_find<CODES>(&scan, &p, count, unit, slice, &at);
        shrink_begin<CODES>(&w, &loaded, at.lane);
    }
    ptx_pdl_wait();
    for (int item = 1; unit >= 0; item++) {
        float c[4];
        shrink_slice<CODES>(c, &w, &loaded, at.lane);
        const struct shrink_work done = w;
        unit = shrink_unit<LINEAR_WARPS>(false, units, item, &slice, &at);
        if (unit >= 0) {
            w = shrink_find<CODES>(&scan, &p, count, unit, slice, &at);
            shrink_begin<CODES>(&w, &loaded, at.lane);
        }
        shrink_scale<CODES>(c, &p, &done, &at);
        shrink_put(red + at.warp * 128, c, &at);
        shrink_sum(red, &p, &done);
    }
}

#endif
