/* lora_codes: fragments of adapters, in bf16 or as 8-bit codes.
 *
 * Codes lie in the order of bf16 values, a byte for each: what a lane reads are 8 bytes in place of
 * 16, and every byte offset is half as large (`codes`: 1). They become bf16 in registers, exactly;
 * the scales, one a rank for A and B together, are multiplied into A x (layout.h).
 */
#ifndef CHORUS_CUDA_LORA_CODES_CUH
#define CHORUS_CUDA_LORA_CODES_CUH

#include "cuda/layout.h"
#include "cuda/ptx.cuh"

/* Two codes to two bf16. code + 128 in the low byte of 2^23 is a float that is that much larger;
 * integers up to 128 have no bits beyond a float's upper codes. */
PTX_INLINE uint32_t codes_pair(uint32_t word, int low, int high)
{
    const float a = __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7440 | low)) - 8388736.0f;
    const float b = __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7440 | high)) - 8388736.0f;
    return __byte_perm(__float_as_uint(a), __float_as_uint(b), 0x7632);
}

PTX_INLINE uint4 codes_fragment(uint2 v)
{
    v.x ^= 0x80808080u;
    v.y ^= 0x80808080u;
    return make_uint4(codes_pair(v.x, 0, 1), codes_pair(v.x, 2, 3), codes_pair(v.y, 0, 1),
                      codes_pair(v.y, 2, 3));
}

/* A lane's part of a fragment from device memory. */
template <bool CODES> PTX_INLINE uint4 fragment_load(const uint8_t *from, int codes)
{
    if (!CODES || !codes)
        return ptx_load_stream(from);
    uint2 v;
    ptx_load_stream_8(&v.x, &v.y, from);
    return codes_fragment(v);
}

/* The same in two steps, by way of 16 bytes of shared memory of this lane's own. */
template <bool CODES> PTX_INLINE void fragment_copy(uint8_t *to, const uint8_t *from, int codes)
{
    if (CODES && codes)
        ptx_cp_async8(to, from);
    else
        ptx_cp_async16(to, from);
}

template <bool CODES> PTX_INLINE uint4 fragment_read(const uint8_t *at, int codes)
{
    if (CODES && codes)
        return codes_fragment(*(const uint2 *)at);
    return *(const uint4 *)at;
}

#endif
