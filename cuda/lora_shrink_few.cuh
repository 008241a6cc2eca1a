/* lora_shrink_few: the shrink of at most 8 rows, a node of its own in front of the linear.
 *
 * Such nodes are latency, not bytes: inside the linear (BENCHMARKS.md) its way to its work and u
 * from block to block took longer. A block of 4 warps, small enough to lie beside the linear in
 * front (few_shape), finds its work and asks for its A while that one multiplies, and the linear
 * behind asks for its weights while it multiplies itself.
 */
#ifndef CHORUS_CUDA_LORA_SHRINK_FEW_CUH
#define CHORUS_CUDA_LORA_SHRINK_FEW_CUH

#include "cuda/lora_shrink.cuh"

#define SHRINK_FEW_WARPS  4
#define SHRINK_FEW_STAGES 4 /* groups of A under way a warp */
#define SHRINK_FEW_RING   (SHRINK_FEW_STAGES * TILE_BYTES_BF16)
#define SHRINK_FEW_BYTES  (SHRINK_FEW_WARPS * SHRINK_FEW_RING + LINEAR_SLICES * 512)
#define SHRINK_FEW_X      3 /* groups of x in registers */

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

/* Item of a warp: fine: slices of units, block by block; coarse: a unit a block. -1: none left. */
PTX_INLINE int shrink_unit(bool fine, int units, int item, int *slice, const struct place *at)
{
    constexpr int parts = LINEAR_SLICES / SHRINK_FEW_WARPS; /* slices of a unit that a warp does */
    int i = fine ? (int)blockIdx.x + (int)gridDim.x * (at->warp + item * SHRINK_FEW_WARPS)
                 : (int)blockIdx.x + (int)gridDim.x * (item / parts);
    *slice = fine ? i % LINEAR_SLICES : at->warp + item % parts * SHRINK_FEW_WARPS;
    i = fine ? i / LINEAR_SLICES : i;
    return i < units ? i : -1;
}

/* What a warp asks for next: groups of the item it works on, then of the one behind that. */
struct shrink_feed {
    int incl;                /* units of the pieces up to this lane's; the last lane's: of all */
    struct shrink_work work; /* unit < 0: nothing left */
    int item, group, slot;
    int pending;      /* groups of A under way or not yet read */
    bool fine, ahead; /* ahead: at the item behind */
};

/* Registers are short here: a lane keeps one number of its piece, the rest is loaded again. */
template <bool CODES>
PTX_INLINE struct shrink_work feed_find(const struct linear_dev *p, int incl, int unit, int slice,
                                        const struct place *at)
{
    const int q = __popc(__ballot_sync(~0u, incl <= unit));
    const int begin = __shfl_sync(~0u, incl, q ? q - 1 : 0);
    return shrink_work_of<CODES>(p, piece_kept<CODES>(p, q), q, unit - (q ? begin : 0), unit, slice,
                                 at);
}

template <bool CODES>
PTX_INLINE void feed_next(struct shrink_feed *f, const struct linear_dev *p, const struct place *at)
{
    int slice;
    const int units = __shfl_sync(~0u, f->incl, 31);
    const int unit = shrink_unit(f->fine, units, ++f->item, &slice, at);
    f->group = 0;
    if (unit >= 0) {
        f->work = feed_find<CODES>(p, f->incl, unit, slice, at);
    } else {
        f->work.unit = -1;
        f->work.groups = 0;
    }
}

/* One group into the ring. Each lane copies the very bytes it reads. */
template <bool CODES>
PTX_INLINE void feed_issue(struct shrink_feed *f, uint8_t *ring, const struct linear_dev *p,
                           const struct place *at)
{
    if (f->group == f->work.groups && !f->ahead && f->work.unit >= 0) {
        feed_next<CODES>(f, p, at);
        f->ahead = true;
    }
    if (f->group == f->work.groups)
        return;
    uint8_t *to = ring + f->slot * TILE_BYTES_BF16;
    const int codes = CODES ? f->work.codes : LORA_BF16;
    const uint8_t *from = f->work.a + (size_t)f->group * lora_group_bytes(codes);
#pragma unroll
    for (int i = 0; i < TILE_BYTES_BF16; i += 512)
        if (!CODES || i < TILE_BYTES_BF16 >> codes)
            ptx_cp_async16(to + i, from + i);
    if (CODES && codes == LORA_INT4) /* scales, for each lane its own */
        ptx_cp_async8(to + 1024 - at->lane * 8, from + 1024 + at->g * 8 - at->lane * 16);
    ptx_cp_async_commit();
    f->group++;
    f->slot = (f->slot + 1) % SHRINK_FEW_STAGES;
    f->pending++;
}

/* As much as the ring holds. */
template <bool CODES>
PTX_INLINE void feed_fill(struct shrink_feed *f, uint8_t *ring, const struct linear_dev *p,
                          const struct place *at)
{
#pragma unroll 1
    for (int i = f->pending; i < SHRINK_FEW_STAGES; i++)
        feed_issue<CODES>(f, ring, p, at);
}

/* Until the oldest group has come. */
PTX_INLINE void feed_wait(const struct shrink_feed *f)
{
    static_assert(SHRINK_FEW_STAGES == 4, "the waits below");
    if (f->pending == 4)
        ptx_cp_async_wait<3>();
    else if (f->pending == 3)
        ptx_cp_async_wait<2>();
    else if (f->pending == 2)
        ptx_cp_async_wait<1>();
    else
        ptx_cp_async_wait<0>();
}

/* c += a group of codes at `from` in the ring, at this lane's 16 bytes. Word by word: registers are
 * short here. */
PTX_INLINE void few_codes(float (&c)[2][4], const uint8_t *from, const uint4 x[4], int codes,
                          int lane)
{
    if (codes == LORA_INT8) {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const uint2 w = *(const uint2 *)(from + i / 2 * 512 + i % 2 * 8);
            shrink_step(c[i / 4], codes_int8(w.x, w.y), x + i / 4 * 2, i % 4);
        }
        return;
    }
    const uint2 scales = *(const uint2 *)(from + 1024 - lane * 8);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float part[4] = {0, 0, 0, 0};
#pragma unroll
        for (int i = 0; i < 4; i++)
            shrink_step(part, codes_int4(*(const uint32_t *)(from + h * 512 + i * 4)), x + h * 2,
                        i);
        codes_add(c[h], part, h ? scales.y : scales.x);
    }
}

/* A warp's four sums of a slice, fine. The linear waits for this node: there is no tag. */
PTX_INLINE void shrink_store(uint8_t *to, const float c[4], const struct place *at)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int lane = (at->t * 2 + i % 2) * 4 + at->g / 2;
        *(float *)(to + i / 2 * (U_SLICE / 2) + lane * 16 + at->g % 2 * 8) = c[i];
    }
}

/* Shared memory: a ring a warp, then [slice][lane][4] floats. */
template <bool CODES>
__global__ __launch_bounds__(SHRINK_FEW_WARPS * 32,
                             5) void k_shrink_few(const __grid_constant__ struct linear_dev p)
{
    ptx_pdl_trigger();
    DYN_SMEM(smem);
    const struct place at = place_here();
    uint8_t *ring = smem + at.warp * SHRINK_FEW_RING + at.lane * 16;
    float *red = (float *)(smem + SHRINK_FEW_WARPS * SHRINK_FEW_RING);
    struct shrink_feed feed = {};
    feed.item = -1;
    static_assert(8 * LORA_ROUNDS <= 32, "of 8 rows, a piece a lane");
    const int count = __ldcg(&p.here->head.count),
              units = piece_kept<CODES>(&p, at.lane).rank_tiles;
    feed.incl = ptx_lanes_sum(at.lane < count ? units : 0, at.lane);
    feed.fine = shrink_fine(&p, __shfl_sync(~0u, feed.incl, 31), count);
    feed_next<CODES>(&feed, &p, &at);
    struct shrink_work w = feed.work;
    feed_fill<CODES>(&feed, ring, &p, &at);
    ptx_pdl_wait();
    shrink_begun(&p);
    int slot = 0;
#pragma unroll 1
    while (w.unit >= 0) {
        float c[2][4] = {};
        uint4 x[SHRINK_FEW_X][4];
#pragma unroll
        for (int i = 0; i < SHRINK_FEW_X; i++)
            if (i < w.groups)
                shrink_x(x[i], w.x + (size_t)i * 256);
#pragma unroll 1
        for (int g = 0; g < w.groups; g += SHRINK_FEW_X) {
#pragma unroll
            for (int i = 0; i < SHRINK_FEW_X; i++) {
                if (g + i >= w.groups)
                    break;
                feed_wait(&feed);
                const uint8_t *from = ring + slot * TILE_BYTES_BF16;
                if (CODES && w.codes) {
                    few_codes(c, from, x[i], w.codes, at.lane);
                } else {
#pragma unroll
                    for (int h = 0; h < 2; h++) {
                        uint4 a[4];
#pragma unroll
                        for (int k = 0; k < 4; k++)
                            a[k] = *(const uint4 *)(from + h * 2048 + k * 512);
                        shrink_half(c[h], a, x[i] + h * 2);
                    }
                }
                if (g + i + SHRINK_FEW_X < w.groups)
                    shrink_x(x[i], w.x + (size_t)(g + i + SHRINK_FEW_X) * 256);
                slot = (slot + 1) % SHRINK_FEW_STAGES;
                feed.pending--;
            }
            feed_fill<CODES>(&feed, ring, &p, &at);
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
            c[0][i] = __fadd_rn(c[0][i], c[1][i]);
        shrink_scale<CODES>(c[0], &p, &w, &at);
        if (feed.fine) {
            shrink_store(p.u + ((size_t)w.unit * LINEAR_SLICES + w.slice) * U_SLICE, c[0], &at);
        } else {
            shrink_put(red + w.slice * 128, c[0], &at);
            if (w.slice >= LINEAR_SLICES - SHRINK_FEW_WARPS)
                shrink_sum(red, &p, 0, &w);
        }
        if (!feed.ahead)
            feed_next<CODES>(&feed, &p, &at);
        feed.ahead = false;
        w = feed.work;
        if (w.unit >= 0)
            feed_fill<CODES>(&feed, ring, &p, &at);
    }
}

#endif
