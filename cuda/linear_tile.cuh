/* linear_tile: what both forms of the base product of k_linear share.
 *
 * Every output goes through the same instructions in the same order on both: k16 steps ascending
 * into a group's `part`; with the constant `centre` as weights, into a sum that takes the offsets
 * of integer weights back; both onto `acc` at the group's end. bf16 goes straight into `acc`.
 */
#ifndef CHORUS_CUDA_LINEAR_TILE_CUH
#define CHORUS_CUDA_LINEAR_TILE_CUH

#include "cuda/linear_dev.cuh"

PTX_INLINE void centre_mma(float c[4], uint32_t w, const uint4 x)
{
    ptx_mma_bf16(c, w, w, w, w, x.x, x.y);
    ptx_mma_bf16(c, w, w, w, w, x.z, x.w);
}

/* acc += a group's part. Lanes of `scale`: bf16 of rows g and g + 8 (int4). */
template <int FORMAT>
PTX_INLINE void part_add(float acc[4], const float part[4], float centre_even, float centre_odd,
                         float scale_low, float scale_high)
{
#pragma unroll
    for (int c = 0; c < 4; c++) {
        float v = __fadd_rn(part[c], c % 2 ? centre_odd : centre_even);
        acc[c] = FORMAT == WEIGHT_INT4 ? __fmaf_rn(c < 2 ? scale_low : scale_high, v, acc[c])
                                       : __fadd_rn(acc[c], v);
    }
}

PTX_INLINE float scale_at(const uint8_t *scales, int row)
{
    return bf16_bits(((const uint16_t *)scales)[row]);
}

#endif
