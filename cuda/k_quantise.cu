/* k_quantise: see k_quantise.h and, for the arithmetic, quantise_ref.h.
 *
 * Grid: a block of 8 warps a row; its warps take the row's groups in turn. Lane l has the columns
 * 4 l .. 4 l + 3 of a group: these are one k16 step's pair of registers of one tile lane, which is
 * one word of an int4 plane (with the 4 nibbles of row r + 8 between ours, hence the atomic or).
 * Shared memory: 32 bytes, the warps' maxima (int8). Bytes: rows once (int8: twice), tiles once.
 * Every operation that rounds is an _rn intrinsic, so that no contraction changes a bit.
 * Tested by tests/kernels/test_quantise.c. */
#include "cuda/k_quantise.h"

#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"
#include "cuda/quantise_ref.h"

#define WARPS    8
#define QUAD     4 /* columns of a lane */
#define ALL      0xffffffffu
#define NAN_BITS 0x7fc00000u

PTX_INLINE uint32_t bf16_bits(float f)
{
    uint32_t u = __float_as_uint(f);
    return (u & 0x7fffffffu) > 0x7f800000u ? NAN_BITS >> 16 : (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
}

PTX_INLINE float source_value(const void *in, enum source_type type, size_t at)
{
    switch (type) {
    case SOURCE_F16:
        return __half2float(((const __half *)in)[at]);
    case SOURCE_BF16:
        return __uint_as_float((uint32_t)((const uint16_t *)in)[at] << 16);
    default:
        return ((const float *)in)[at];
    }
}

/* The lane's columns of a group; zeros behind the row's end. */
PTX_INLINE void load_quad(const struct quantise_args &a, int row, int group, int lane,
                          float w[QUAD])
{
    int c = group * TILE_K + lane * QUAD;
    for (int i = 0; i < QUAD; i++)
        w[i] = c + i < a.k
                   ? source_value(a.rows, a.type, (size_t)row * (size_t)a.k + (size_t)(c + i))
                   : 0.0f;
}

PTX_INLINE uint32_t quad_most(const float w[QUAD])
{
    uint32_t most = 0;
    for (int i = 0; i < QUAD; i++)
        most = max(most, __float_as_uint(w[i]) & 0x7fffffffu);
    return most;
}

PTX_INLINE uint32_t warp_most(uint32_t most)
{
    for (int apart = 16; apart > 0; apart /= 2)
        most = max(most, __shfl_xor_sync(ALL, most, apart));
    return most;
}

PTX_INLINE float quantum(float w, float scale, float lo, float hi)
{
    return fminf(fmaxf(rintf(__fdiv_rn(w, scale)), lo), hi);
}

PTX_INLINE float squared_error(const float w[QUAD], float scale)
{
    float sum = 0.0f;
    for (int i = 0; i < QUAD; i++) {
        float d = __fsub_rn(w[i], __fmul_rn(quantum(w[i], scale, -8.0f, 7.0f), scale));
        sum = __fadd_rn(sum, __fmul_rn(d, d));
    }
    for (int apart = 16; apart > 0; apart /= 2)
        sum = __fadd_rn(sum, __shfl_xor_sync(ALL, sum, apart));
    return sum;
}

/* The same in all lanes; *all is false when every q is 0. */
PTX_INLINE float group_scale(const float w[QUAD], bool *all)
{
    uint32_t most = warp_most(quad_most(w));
    bool mine = false;
    for (int i = 0; i < QUAD; i++)
        mine |= __float_as_uint(w[i]) == (most | 0x80000000u);
    bool negative = __any_sync(ALL, mine);
    *all = false;
    if (most >= 0x7f800000u)
        return __uint_as_float(NAN_BITS);
    float extreme = __uint_as_float(negative ? most : most | 0x80000000u);
    float best = 0.0f, best_error = 0.0f;
    for (int i = 0; i < QUANTISE_CANDIDATES; i++) {
        float scale = __uint_as_float(bf16_bits(__fdiv_rn(extreme, QUANTISE_DIVISOR(i))) << 16);
        if (scale == 0.0f)
            break;
        float error = squared_error(w, scale);
        if (i == 0 || error < best_error) {
            best = scale;
            best_error = error;
        }
        *all = true;
    }
    return best;
}

/* Place of a lane's quad in a tile: k16 step 2 s + e / 4 and the tile lane of its row and t. */
struct quad_place {
    int step;
    int lane;
    int upper; /* row is 8..15 of the tile */
};

PTX_INLINE struct quad_place place_of(int row, int lane)
{
    return {lane / 8 * 2 + lane % 2, row % 8 * 4 + lane % 8 / 2, row % TILE_N / 8};
}

PTX_INLINE void store_bf16(uint8_t *tile, int row, int lane, const float w[QUAD])
{
    struct quad_place p = place_of(row, lane);
    uint32_t *at = (uint32_t *)(tile + p.step * 512 + p.lane * 16) + p.upper;
    at[0] = bf16_bits(w[0]) | bf16_bits(w[1]) << 16;
    at[2] = bf16_bits(w[2]) | bf16_bits(w[3]) << 16;
}

/* n[i]: the nibble of column i, register upper + 2 * (i / 2), low or high half by i % 2. */
PTX_INLINE void or_nibbles(uint8_t *plane, int row, int lane, const uint32_t n[QUAD])
{
    struct quad_place p = place_of(row, lane);
    uint32_t *at = (uint32_t *)(plane + p.step / 4 * 512 + p.lane * 16) + p.step % 4;
    atomicOr(at, (n[0] | n[1] << 16 | n[2] << 8 | n[3] << 24) << 4 * p.upper);
}

PTX_INLINE void store_int4(uint8_t *tile, int row, int lane, const float w[QUAD])
{
    bool all;
    float scale = group_scale(w, &all);
    uint32_t n[QUAD];
    for (int i = 0; i < QUAD; i++)
        n[i] = all ? (uint32_t)((int)quantum(w[i], scale, -8.0f, 7.0f) + 8) : 8u;
    or_nibbles(tile, row, lane, n);
    if (lane == 0)
        ((uint16_t *)(tile + 1024))[row % TILE_N] = (uint16_t)(__float_as_uint(scale) >> 16);
}

PTX_INLINE void store_int8(uint8_t *tile, int row, int lane, const float w[QUAD], float scale,
                           bool all)
{
    uint32_t low[QUAD], high[QUAD];
    for (int i = 0; i < QUAD; i++) {
        uint32_t q = all ? (uint32_t)((int)quantum(w[i], scale, -127.0f, 127.0f) + 128) : 128u;
        low[i] = q & 15;
        high[i] = q >> 4;
    }
    or_nibbles(tile, row, lane, low);
    or_nibbles(tile + 1024, row, lane, high);
}

/* Scale of the block's row, in all threads. */
PTX_INLINE float row_scale(const struct quantise_args &a, int row, int warp, int lane, bool *all)
{
    DYN_SMEM(smem);
    uint32_t *mosts = (uint32_t *)smem;
    uint32_t most = 0;
    for (int g = warp; g < a.w.groups; g += WARPS) {
        float w[QUAD];
        load_quad(a, row, g, lane, w);
        most = max(most, quad_most(w));
    }
    most = warp_most(most);
    if (lane == 0)
        mosts[warp] = most;
    __syncthreads();
    for (int i = 0; i < WARPS; i++)
        most = max(most, mosts[i]);
    bool finite = most < 0x7f800000u;
    float scale = finite ? __fdiv_rn(__uint_as_float(most), 127.0f) : __uint_as_float(NAN_BITS);
    *all = finite && scale != 0.0f;
    return scale;
}

template <enum weight_format F>
__global__ void __launch_bounds__(WARPS * 32) k_quantise(struct quantise_args a)
{
    int from = (int)blockIdx.x, warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    int row = a.row_first + (a.interleave ? from / 8 * TILE_N + from % 8 : from);
    uint8_t *tiles =
        (uint8_t *)a.w.data + (size_t)(row / TILE_N) * (size_t)a.w.groups * tile_bytes(F);
    float scale = 0.0f;
    bool all = false;
    if (F == WEIGHT_INT8) {
        scale = row_scale(a, from, warp, lane, &all);
        if (threadIdx.x == 0)
            ((float *)a.w.row_scale)[row] = scale;
    }
    for (int g = warp; g < a.w.groups; g += WARPS) {
        float w[QUAD];
        load_quad(a, from, g, lane, w);
        uint8_t *tile = tiles + (size_t)g * tile_bytes(F);
        if (F == WEIGHT_BF16)
            store_bf16(tile, row, lane, w);
        else if (F == WEIGHT_INT4)
            store_int4(tile, row, lane, w);
        else
            store_int8(tile, row, lane, w, scale, all);
    }
}

struct plain_args {
    const void *in;
    enum source_type type;
    size_t count;
    uint16_t *out;
};

__global__ void __launch_bounds__(256) k_quantise_plain(struct plain_args a)
{
    size_t step = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < a.count; i += step)
        a.out[i] = (uint16_t)bf16_bits(source_value(a.in, a.type, i));
}

enum status cuda_quantise(const struct quantise_args *a, cudaStream_t s)
{
    int last = a->row_count - 1;
    if (a->row_count < 0 || a->row_first < 0 || a->k < 1 || a->k != a->w.k ||
        a->w.groups != PAD_K(a->k) / TILE_K || (a->interleave && a->row_first % 8 != 0))
        return STATUS_INVALID;
    if (a->row_count == 0)
        return STATUS_OK;
    if (a->row_first + (a->interleave ? last / 8 * TILE_N + last % 8 : last) >= a->w.tiles * TILE_N)
        return STATUS_INVALID;
    struct launch_shape shape = {dim3((unsigned)a->row_count), WARPS * 32, WARPS * 4, false};
    switch (a->w.format) {
    case WEIGHT_BF16:
        return launch(shape, s, k_quantise<WEIGHT_BF16>, *a);
    case WEIGHT_INT8:
        return launch(shape, s, k_quantise<WEIGHT_INT8>, *a);
    case WEIGHT_INT4:
        return launch(shape, s, k_quantise<WEIGHT_INT4>, *a);
    default:
        return STATUS_INVALID;
    }
}

enum status cuda_quantise_plain(const void *in, enum source_type type, size_t count, void *out,
                                cudaStream_t s)
{
    if (count == 0)
        return STATUS_OK;
    size_t blocks = (count + 1023) / 1024;
    struct launch_shape shape = {dim3((unsigned)(blocks < 8192 ? blocks : 8192)), 256, 0, false};
    struct plain_args a = {in, type, count, (uint16_t *)out};
    return launch(shape, s, k_quantise_plain, a);
}
