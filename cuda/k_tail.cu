/* k_tail: see k_tail.h.
 *
 * A warp a unit: a tile of A (16 ranks by a group), an output tile's 16 by 16 block of B, or 32
 * rows of x by 16 columns of zeros; 8 warps a block. Shared memory: none. Bytes: A and B once in
 * and out, B with its zeros. Tested by tests/kernels/test_base.c. */
#include "cuda/k_tail.h"

#include "cuda/launch.cuh"
#include "cuda/lora_codes.cuh"
#include "cuda/ptx.cuh"

#define WARPS 8

/* Two bf16 times a scale. */
PTX_INLINE uint32_t scaled(uint32_t pair, float scale)
{
    return __bfloat16_as_ushort(__float2bfloat16(codes_low(pair) * scale)) |
           (uint32_t)__bfloat16_as_ushort(__float2bfloat16(codes_high(pair) * scale)) << 16;
}

/* Fragment of k16 step i of a tile of codes, as values; from: this lane's 16 bytes. Of int8 they
 * have the scales of B, too. */
PTX_INLINE uint4 values_a(const struct tail_args &a, int tile, const uint8_t *from, int i, int lane)
{
    float low, high;
    uint4 v, w[2];
    if (a.lora.codes == LORA_INT4) {
        uint32_t s[2];
        w[0] = ptx_load_stream(from + i / 4 * 512);
        v = codes_step(w, i % 4, LORA_INT4);
        ptx_load_stream_8(&s[0], &s[1], from + 1024 + lane / 4 * 8 - lane * 16);
        low = codes_low(s[i / 4]);
        high = codes_high(s[i / 4]);
    } else {
        w[0] = w[1] = ptx_load_stream(from + i / 2 * 512);
        v = codes_step(w, i % 4, LORA_INT8);
        low = __ldg(a.lora.rank_scale + tile * TILE_N + lane / 4);
        high = __ldg(a.lora.rank_scale + tile * TILE_N + lane / 4 + 8);
    }
    return make_uint4(scaled(v.x, low), scaled(v.y, high), scaled(v.z, low), scaled(v.w, high));
}

/* Registers a, a + 2 of steps 2 s and 2 s + 1 are a row's columns in order. */
template <bool CODES> PTX_INLINE void unpack_a(const struct tail_args &a, int unit, int lane)
{
    const int tile = unit / a.groups, group = unit % a.groups;
    const uint8_t *from =
        a.lora.a + (size_t)unit * lora_group_bytes(CODES ? a.lora.codes : LORA_BF16) + lane * 16;
    uint16_t *to = (uint16_t *)a.a + ((size_t)tile * TILE_N + lane / 4) * a.groups * TILE_K +
                   (size_t)group * TILE_K + lane % 4 * 8;
#pragma unroll
    for (int s = 0; s < 4; s++) {
        const uint4 even =
            CODES ? values_a(a, tile, from, 2 * s, lane) : ptx_load_stream(from + 2 * s * 512);
        const uint4 odd = CODES ? values_a(a, tile, from, 2 * s + 1, lane)
                                : ptx_load_stream(from + (2 * s + 1) * 512);
        *(uint4 *)(to + s * 32) = make_uint4(even.x, even.z, odd.x, odd.z);
        *(uint4 *)(to + (size_t)8 * a.groups * TILE_K + s * 32) =
            make_uint4(even.y, even.w, odd.y, odd.w);
    }
}

/* Fragment of rank tile i of `wide` of a tile of B. */
template <bool CODES>
PTX_INLINE uint4 values_b(const struct tail_args &a, const uint8_t *b, int wide, int tile, int i,
                          int lane)
{
    if (!CODES)
        return ptx_load_stream(b + ((size_t)tile * wide + i) * 512 + lane * 16);
    const int codes = a.lora.codes;
    const bool pair = a.interleaved != 0;
    const uint4 v = codes_fragment(
        b + lora_b_at(codes, pair, wide, tile) + lora_code_at(codes, wide, i, lane), codes);
    if (codes != LORA_INT4)
        return v;
    const uint8_t *s = b + lora_b_scales_at(pair, wide, tile) + i * (pair ? 64 : 32) + lane % 4 * 8;
    const uint2 low = *(const uint2 *)s, high = *(const uint2 *)(pair ? s + 32 : s);
    return make_uint4(codes_scaled(v.x, low.x), codes_scaled(v.y, high.x), codes_scaled(v.z, low.y),
                      codes_scaled(v.w, high.y));
}

/* Fragment of B of an output tile for ranks [16 c, 16 c + 16) of the stack; zeros: another
 * module's.
 */
template <bool CODES>
PTX_INLINE uint4 fragment_b(const struct tail_args &a, int tile, int c, int lane)
{
    const int *first = a.lora.module_tile;
    int module = 0;
    uint4 v = make_uint4(0, 0, 0, 0);
    if (a.interleaved) {
        const int up = c >= first[1], i = c - first[up];
        const int wide = max(first[1] - first[0], first[2] - first[1]);
        const uint4 both = values_b<CODES>(a, a.lora.b[0], wide, tile, i, lane);
        return up ? make_uint4(0, both.y, 0, both.w) : make_uint4(both.x, 0, both.z, 0);
    }
    while (module + 1 < STACK_MODULES && tile >= a.module_tile[module + 1])
        module++;
    if (c < first[module] || c >= first[module + 1])
        return v;
    const int wide = first[module + 1] - first[module], i = c - first[module];
    return values_b<CODES>(a, a.lora.b[module], wide, tile - a.module_tile[module], i, lane);
}

template <bool CODES> PTX_INLINE void unpack_b(const struct tail_args &a, int unit, int lane)
{
    const int tile = unit / a.lora.rank_tiles, c = unit % a.lora.rank_tiles;
    const uint4 v = fragment_b<CODES>(a, a.tile_first + tile, c, lane);
    uint16_t *to = (uint16_t *)a.w + ((size_t)tile * TILE_N + lane / 4) * a.w_stride + a.column +
                   c * 16 + lane % 4 * 2;
    uint16_t *low = to + (size_t)8 * a.w_stride;
    *(uint32_t *)to = v.x;
    *(uint32_t *)(to + 8) = v.z;
    *(uint32_t *)low = v.y;
    *(uint32_t *)(low + 8) = v.w;
}

PTX_INLINE void clear_x(const struct tail_args &a, int unit, int lane)
{
    const int row = unit / a.lora.rank_tiles * 32 + lane, c = unit % a.lora.rank_tiles;
    if (row >= a.x_rows || (row >= a.row && row < a.row + a.rows))
        return;
    uint4 *x = (uint4 *)((uint16_t *)a.x + (size_t)row * a.x_stride + a.column + c * 16);
    x[0] = x[1] = make_uint4(0, 0, 0, 0);
}

template <bool CODES>
__global__ __launch_bounds__(WARPS * 32) void k_tail(const __grid_constant__ struct tail_args a,
                                                     int units_a, int units_b, int units_x)
{
    ptx_pdl_trigger();
    ptx_pdl_wait();
    const int lane = (int)threadIdx.x % 32;
    int unit = (int)blockIdx.x * WARPS + (int)threadIdx.x / 32;
    if (unit < units_a) {
        unpack_a<CODES>(a, unit, lane);
        return;
    }
    unit -= units_a;
    if (unit < units_b)
        unpack_b<CODES>(a, unit, lane);
    else if (unit - units_b < units_x)
        clear_x(a, unit - units_b, lane);
}

extern "C" enum status cuda_tail(const struct tail_args *a, cudaStream_t s)
{
    const int wide = a->lora.rank_tiles * 16;
    if (wide < 16 || a->column % 8 != 0 || a->column + wide > a->w_stride || a->w_stride % 8 != 0 ||
        (a->x_rows > 0 && (a->column + wide > a->x_stride || a->x_stride % 8 != 0)) ||
        a->tile_count < 1 || a->groups < 1)
        return STATUS_INVALID;
    const int units_a = a->a ? a->lora.rank_tiles * a->groups : 0;
    const int units_b = a->tile_count * a->lora.rank_tiles;
    const bool covered = a->row == 0 && a->rows >= a->x_rows;
    const int units_x = covered ? 0 : (a->x_rows + 31) / 32 * a->lora.rank_tiles;
    const int units = units_a + units_b + units_x;
    return launch({dim3((unsigned)((units + WARPS - 1) / WARPS)), WARPS * 32, 0, false}, s,
                  a->lora.codes ? k_tail<true> : k_tail<false>, *a, units_a, units_b, units_x);
}
