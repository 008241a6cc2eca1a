/* lora_codes: adapters of 8 and 4 bits (lora_layout.h) as fragments of an mma, in registers.
 *
 * Codes become bf16 integers, exactly. Kernels that know of them (CODES) are instances of their
 * own: those of bf16 alone have none of this in them. Which width a piece has is asked where its
 * work begins; a warp never has two at once.
 */
#ifndef CHORUS_CUDA_LORA_CODES_CUH
#define CHORUS_CUDA_LORA_CODES_CUH

#include "cuda/lora_layout.h"
#include "cuda/ptx.cuh"

#define BF16_ONES 0x3f803f80u

/* Two sizes and signs of int8, in bits 0 - 6 and 15 of the halves: +-(128 + size) -+ 128. */
PTX_INLINE uint32_t codes_sized(uint32_t w)
{
    const uint32_t v = ptx_and_or(w, 0x807f807fu, 0x43004300u);
    return ptx_fma_bf16x2(v, BF16_ONES, (w & 0x80008000u) ^ 0xc300c300u);
}

PTX_INLINE uint4 codes_int8(uint32_t low, uint32_t high)
{
    return make_uint4(codes_sized(low), codes_sized(low >> 8 | low << 24), codes_sized(high),
                      codes_sized(high >> 8 | high << 24));
}

/* Nibbles of the halves: (128 + nibble) - 136. */
PTX_INLINE uint32_t codes_nibble(uint32_t w)
{
    return ptx_fma_bf16x2(ptx_and_or(w, 0x000f000fu, 0x43004300u), BF16_ONES, 0xc308c308u);
}

PTX_INLINE uint4 codes_int4(uint32_t w)
{
    return make_uint4(codes_nibble(w), codes_nibble(w >> 4), codes_nibble(w >> 8),
                      codes_nibble(w >> 12));
}

/* A lane's words at `from`. */
PTX_INLINE uint4 codes_fragment(const uint8_t *from, int codes)
{
    if (codes == LORA_INT4)
        return codes_int4(*(const uint32_t *)from);
    const uint2 v = *(const uint2 *)from;
    return codes_int8(v.x, v.y);
}

/* Two bf16 times two others. */
PTX_INLINE uint32_t codes_scaled(uint32_t v, uint32_t scale)
{
    return ptx_fma_bf16x2(v, scale, 0x80008000u);
}

PTX_INLINE float codes_low(uint32_t pair)
{
    return __uint_as_float(pair << 16);
}

PTX_INLINE float codes_high(uint32_t pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

/* ---- A: a half of a group, four k16 steps ---- */

/* Fragment of step i of what half_load (lora_shrink.cuh) brought. */
PTX_INLINE uint4 codes_step(const uint4 a[4], int i, int codes)
{
    if (codes == LORA_INT4)
        return codes_int4(i == 0 ? a[0].x : i == 1 ? a[0].y : i == 2 ? a[0].z : a[0].w);
    const uint4 v = a[i / 2];
    return i % 2 ? codes_int8(v.z, v.w) : codes_int8(v.x, v.y);
}

/* sum += what the steps made, rows g and g + 8 with the two scales. */
PTX_INLINE void codes_add(float sum[4], const float part[4], uint32_t scales)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        sum[i] = __fmaf_rn(part[i], i < 2 ? codes_low(scales) : codes_high(scales), sum[i]);
}

/* ---- B: rank tiles of an output tile ---- */

/* `n` rank tiles, at most 4, into a chunk of a ring. */
PTX_INLINE void codes_copy(uint8_t *to, const uint8_t *from, int n, int codes, int lane)
{
    const int bytes = n * (512 >> codes); /* of all lanes */
    int at = 0;
    for (; at + 512 <= bytes; at += 512)
        ptx_cp_async16(to + at + lane * 16, from + at + lane * 16);
    if (bytes & 256) {
        ptx_cp_async8(to + at + lane * 8, from + at + lane * 8);
        at += 256;
    }
    if (bytes & 128)
        ptx_cp_async4(to + at + lane * 4, from + at + lane * 4);
}

#endif
