/* k_dequant: see k_dequant.h.
 *
 * Grid: a warp a (tile, group), 8 warps a block. Lane (g, t) of the tile format holds, for each
 * block s of 32 columns, the 8 consecutive columns 32 s + 8 t of rows g and g + 8: two 16-byte
 * stores. Shared memory: none. Bytes: the tiles once, the matrix once; no sums. Tested by
 * tests/kernels/test_dequant.c. */
#include "cuda/k_dequant.h"

#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"

#include <cuda_bf16.h>

#define WARPS 8

/* Two bf16 of one register: (low, high) halves. */
PTX_INLINE uint32_t pair_of(float low, float high)
{
    uint32_t l = __bfloat16_as_ushort(__float2bfloat16(low));
    return l | (uint32_t)__bfloat16_as_ushort(__float2bfloat16(high)) << 16;
}

/* Element e of lane's words: register a = 2 * (e % 4 / 2) (+ 1 for row g + 8), nibble a + 4 * (e %
 * 2) of word e / 4. */
PTX_INLINE int nibble(const uint32_t word[2], int high_row, int e)
{
    int a = high_row + 2 * (e % 4 / 2);
    return word[e / 4] >> (4 * (a + 4 * (e % 2))) & 15;
}

/* The 8 columns of block s of row g (high_row 0) or g + 8. */
PTX_INLINE uint4 block_int4(const uint8_t *tile, int s, int high_row, int lane)
{
    const uint32_t *words = (const uint32_t *)(tile + s / 2 * 512 + lane * 16) + s % 2 * 2;
    const __nv_bfloat16 *scales = (const __nv_bfloat16 *)(tile + 1024);
    float scale = __bfloat162float(scales[lane / 4 + 8 * high_row]);
    uint32_t word[2] = {words[0], words[1]}, out[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        out[i] = pair_of((float)(nibble(word, high_row, 2 * i) - 8) * scale,
                         (float)(nibble(word, high_row, 2 * i + 1) - 8) * scale);
    return make_uint4(out[0], out[1], out[2], out[3]);
}

PTX_INLINE uint4 block_int8(const uint8_t *tile, int s, int high_row, int lane)
{
    const uint32_t *low = (const uint32_t *)(tile + s / 2 * 512 + lane * 16) + s % 2 * 2;
    const uint32_t *high = low + 256;
    uint32_t l[2] = {low[0], low[1]}, h[2] = {high[0], high[1]}, out[4];
    float v[8];
#pragma unroll
    for (int e = 0; e < 8; e++)
        v[e] = (float)(16 * nibble(h, high_row, e) + nibble(l, high_row, e) - 128);
#pragma unroll
    for (int i = 0; i < 4; i++)
        out[i] = pair_of(v[2 * i], v[2 * i + 1]);
    return make_uint4(out[0], out[1], out[2], out[3]);
}

/* Registers a, a + 2 of steps 2 s and 2 s + 1 are the row's columns in order. */
PTX_INLINE uint4 block_bf16(const uint8_t *tile, int s, int high_row, int lane)
{
    const uint32_t *even = (const uint32_t *)(tile + 2 * s * 512 + lane * 16);
    const uint32_t *odd = even + 128;
    return make_uint4(even[high_row], even[high_row + 2], odd[high_row], odd[high_row + 2]);
}

static __global__ void __launch_bounds__(WARPS * 32) k_dequant(const struct dequant_args a)
{
    ptx_pdl_trigger();
    ptx_pdl_wait();
    const int lane = threadIdx.x % 32;
    const long long unit = (long long)blockIdx.x * WARPS + threadIdx.x / 32;
    const long long units = (long long)a.tile_count * a.w.groups;
    if (unit >= units)
        return;
    const int tile = (int)(unit / a.w.groups), group = (int)(unit % a.w.groups);
    const size_t bytes = tile_bytes(a.w.format), stride = (size_t)a.out_stride;
    const uint8_t *from = a.w.data + ((size_t)(a.tile_first + tile) * a.w.groups + group) * bytes;
    __nv_bfloat16 *to = (__nv_bfloat16 *)a.out + (size_t)tile * TILE_N * stride +
                        (size_t)group * TILE_K + lane % 4 * 8;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        int s = i / 2, high = i % 2;
        uint4 v = a.w.format == WEIGHT_INT4   ? block_int4(from, s, high, lane)
                  : a.w.format == WEIGHT_INT8 ? block_int8(from, s, high, lane)
                                              : block_bf16(from, s, high, lane);
        *(uint4 *)(to + (size_t)(lane / 4 + 8 * high) * stride + s * 32) = v;
    }
}

enum status cuda_dequant(const struct dequant_args *a, cudaStream_t s)
{
    if (a->tile_first < 0 || a->tile_count < 0 || a->tile_count > a->w.tiles - a->tile_first ||
        a->out_stride < a->w.groups * TILE_K || a->out_stride % 8 != 0)
        return STATUS_INVALID;
    if (a->tile_count == 0)
        return STATUS_OK;
    size_t blocks = ((size_t)a->tile_count * (size_t)a->w.groups + WARPS - 1) / WARPS;
    return launch({dim3((unsigned)blocks), WARPS * 32, 0, false}, s, k_dequant, *a);
}
