/* lora_shrink: u = A x of every piece, in the form of lora_device.cuh, in the blocks of
 * k_linear_many; for few rows see lora_shrink_few.cuh.
 *
 * A slice's sum is two chains of products, of the even and the odd halves of its groups (64
 * columns), added at its end. A block takes a unit, its warps the slices. A goes through registers,
 * a window of some groups: as they are multiplied the next window's are asked for, of the same unit
 * or of the block's next.
 */
#ifndef CHORUS_CUDA_LORA_SHRINK_CUH
#define CHORUS_CUDA_LORA_SHRINK_CUH

#include "cuda/lora_codes.cuh"
#include "cuda/lora_units.cuh"

#define SHRINK_MANY_WINDOW 3

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

/* Coarse: u of a unit from the sums of its slices in `red`. All threads of the block. */
PTX_INLINE void shrink_sum(const float *red, const struct linear_dev *p, uint32_t tag,
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
        ptx_store_tagged(p->u + ((size_t)w->piece * RANK_TILES_MAX + w->rank_tile) * U_UNIT +
                             threadIdx.x * 8,
                         pack_bf16(slices_tree(v[0]), slices_tree(v[1])), tag);
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
PTX_INLINE void group_load(struct shrink_group *to, const uint8_t *group, int codes, int lane)
{
    half_load<CODES>(to, 0, group, codes);
    half_load<CODES>(to, 1, group, codes);
    if (CODES && codes == LORA_INT4)
        ptx_load_stream_8(&to->scales[0], &to->scales[1], group + 1024 + lane / 4 * 8 - lane * 16);
}

/* sum[half] += a group times x. */
template <bool CODES>
PTX_INLINE void shrink_group_mma(float (&sum)[2][4], const struct shrink_group *a, const uint4 *x,
                                 int codes)
{
#pragma unroll
    for (int h = 0; h < 2; h++)
        if (CODES && codes)
            shrink_half_codes(sum[h], a->a[h], x + h * 2, codes, a->scales[h]);
        else
            shrink_half(sum[h], a->a[h], x + h * 2);
}

/* c = the slice's sum. */
template <bool CODES>
PTX_INLINE void shrink_total(float c[4], const float (&sum)[2][4], const struct linear_dev *p,
                             const struct shrink_work *w, const struct place *at)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        c[i] = __fadd_rn(sum[0][i], sum[1][i]);
    shrink_scale<CODES>(c, p, w, at);
}

/* What a warp of k_linear_many has of its first unit before the wait for the node in front. */
struct shrink_ahead {
    struct unit_scan scan;
    struct shrink_work work;
    struct shrink_group a[SHRINK_MANY_WINDOW];
};

template <bool CODES>
PTX_INLINE void shrink_next(struct shrink_ahead *s, const struct linear_dev *p,
                            const struct piece_head *head, int unit, const struct place *at)
{
    s->work.unit = -1;
    s->work.groups = 0;
    s->work.codes = LORA_BF16;
    if (unit < head->units)
        s->work = shrink_find<CODES>(&s->scan, p, head->count, unit, at->warp, at);
}

template <bool CODES>
PTX_INLINE void shrink_begin(struct shrink_ahead *s, const struct linear_dev *p,
                             const struct piece_head *head, const struct place *at)
{
    scan_init<CODES>(&s->scan, p, head->count, at->lane);
    shrink_next<CODES>(s, p, head, (int)blockIdx.x, at);
    const int group_bytes = lora_group_bytes(CODES ? s->work.codes : LORA_BF16);
#pragma unroll
    for (int i = 0; i < SHRINK_MANY_WINDOW; i++)
        if (i < s->work.groups)
            group_load<CODES>(&s->a[i], s->work.a + (size_t)i * group_bytes, s->work.codes,
                              at->lane);
}

/* The block's units. red: [slice][lane][4] floats of shared memory. */
template <bool CODES>
PTX_INLINE void shrink_all(struct shrink_ahead *s, float *red, const struct linear_dev *p,
                           const struct piece_head *head, const struct place *at)
{
    constexpr int W = SHRINK_MANY_WINDOW;
    uint4 x[W][4];
#pragma unroll
    for (int i = 0; i < W; i++)
        if (i < s->work.groups)
            shrink_x(x[i], s->work.x + (size_t)i * 256);
    float sum[2][4] = {};
    int first = 0;
#pragma unroll 1
    while (s->work.unit >= 0) {
        const struct shrink_work now = s->work;
        const int begin = first;
        const bool last = first + W >= now.groups;
        first += W;
        if (last) {
            first = 0;
            shrink_next<CODES>(s, p, head, now.unit + (int)gridDim.x, at);
        }
        const int group_bytes = lora_group_bytes(CODES ? s->work.codes : LORA_BF16);
#pragma unroll
        for (int i = 0; i < W; i++) {
            if (begin + i < now.groups)
                shrink_group_mma<CODES>(sum, &s->a[i], x[i], now.codes);
            if (first + i < s->work.groups) {
                group_load<CODES>(&s->a[i], s->work.a + (size_t)(first + i) * group_bytes,
                                  s->work.codes, at->lane);
                shrink_x(x[i], s->work.x + (size_t)(first + i) * 256);
            }
        }
        if (!last)
            continue;
        float c[4];
        shrink_total<CODES>(c, sum, p, &now, at);
        shrink_put(red + at->warp * 128, c, at);
        shrink_sum(red, p, head->tag, &now);
#pragma unroll
        for (int i = 0; i < 8; i++)
            sum[i / 4][i % 4] = 0;
    }
}

#endif
