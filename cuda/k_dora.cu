/* k_dora: see k_dora.h.
 *
 * Grid: a block of 256 threads an output tile. Half h of the block (4 warps) has rows 8 h .. 8 h +
 * 7 of the tile, which may be another module's than those of the other half (gate, up); thread c of
 * a half has column c of each group in turn, of all its 8 rows. Per group: B A is summed over the
 * ranks in ascending order by fma, A a rank tile at a time through shared memory; then the squares
 * of W + scale B A are added to the thread's 8 sums, groups ascending. At the end the columns are
 * added: lanes 16 apart, 8, 4, 2, 1, then the 4 warps in order.
 * Shared memory: B of the tile as fp32 [16, ranks + 1], two tiles of A [16, 128], sums: at most 50
 * KB (rank 512). Work: 2 N K R flops on the fp32 units, about 10 ms for all linears of a 3B model
 * at rank 64. Tested by tests/kernels/test_dora.c. */
#include "cuda/k_dora.h"

#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"

#define HALF    128 /* threads of a side */
#define THREADS 256
#define ROWS    8 /* of a side */
#define ALL     0xffffffffu

#define FRAGMENT_BYTES 512

/* What one half works on. */
struct part {
    int module;     /* -1: not DoRA */
    int tiles;      /* rank tiles of A */
    int first_tile; /* of A in the stack */
};

/* B of the output tile: where, and rank tiles a row of fragments has. */
struct tile_b {
    uint8_t *data; /* NULL: none */
    int tiles;
};

PTX_INLINE int module_of(const struct dora_args &a, int tile, int side)
{
    if (a.interleaved)
        return side;
    int m = 0;
    while (m + 1 < STACK_MODULES && tile >= a.module_tile[m + 1])
        m++;
    return m;
}

PTX_INLINE int module_tiles(const struct dora_args &a, int m)
{
    return a.stack.module_tile[m + 1] - a.stack.module_tile[m];
}

PTX_INLINE struct part part_of(const struct dora_args &a, int tile, int side)
{
    int m = module_of(a, tile, side);
    if (!(a.modules >> m & 1))
        return {-1, 0, 0};
    return {m, module_tiles(a, m), a.stack.module_tile[m]};
}

PTX_INLINE struct tile_b b_of(const struct dora_args &a, int tile)
{
    int m = a.interleaved ? 0 : module_of(a, tile, 0);
    int tiles = module_tiles(a, m);
    if (a.interleaved)
        tiles = max(tiles, module_tiles(a, 1));
    size_t at = (size_t)(tile - (a.interleaved ? 0 : a.module_tile[m])) * (size_t)tiles;
    return {(uint8_t *)a.stack.b[m] + at * FRAGMENT_BYTES, tiles};
}

PTX_INLINE float low_of(uint32_t pair)
{
    return __uint_as_float(pair << 16);
}

PTX_INLINE float high_of(uint32_t pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

/* Fragments of B turned into b[16][stride] fp32. */
PTX_INLINE void load_b(struct tile_b from, float *b, int stride)
{
    for (int i = (int)threadIdx.x; i < from.tiles * 128; i += THREADS) {
        int tile = i / 128, lane = i % 128 / 4, reg = i % 4;
        uint32_t pair = ((const uint32_t *)from.data)[i];
        float *at = b + (lane / 4 + reg % 2 * 8) * stride + tile * 16 + lane % 4 * 2 + reg / 2 * 8;
        at[0] = low_of(pair);
        at[1] = high_of(pair);
    }
}

/* The half's rank tile of A at one group, turned into a[16][128] fp32. */
PTX_INLINE void load_a(const uint8_t *tile, float *a, int thread)
{
    for (int i = thread; i < TILE_BYTES_BF16 / 4; i += HALF) {
        int step = i / 128, lane = i % 128 / 4, reg = i % 4;
        int row = lane / 4 + reg % 2 * 8;
        int column = step / 2 * 32 + lane % 4 * 8 + step % 2 * 4 + reg / 2 * 2;
        uint32_t pair = ((const uint32_t *)tile)[i];
        a[row * TILE_K + column] = low_of(pair);
        a[row * TILE_K + column + 1] = high_of(pair);
    }
}

/* Element (row, column) of a tile of the base. */
PTX_INLINE float weight_at(const struct dev_matrix &w, const uint8_t *tile, int row, int column,
                           float row_scale)
{
    int e = column % 8, step = column / 32 * 2 + e / 4, lane = row % 8 * 4 + column % 32 / 8;
    int reg = row / 8 + e % 4 / 2 * 2;
    if (w.format == WEIGHT_BF16) {
        uint32_t pair = *(const uint32_t *)(tile + step * 512 + lane * 16 + reg * 4);
        return e % 2 ? high_of(pair) : low_of(pair);
    }
    int at = step / 4 * 512 + lane * 16 + step % 4 * 4, shift = 4 * (reg + 4 * (e % 2));
    int low = (int)(*(const uint32_t *)(tile + at) >> shift & 15);
    if (w.format == WEIGHT_INT4)
        return (float)(low - 8) *
               __uint_as_float((uint32_t)((const uint16_t *)(tile + 1024))[row] << 16);
    int high = (int)(*(const uint32_t *)(tile + 1024 + at) >> shift & 15);
    return (float)(16 * high + low - 128) * row_scale;
}

/* Squares of the half's rows in this thread's columns. All threads of the block come here together;
 * those of a half without DoRA only keep the barriers. */
PTX_INLINE void sum_squares(const struct dora_args &a, struct part p, int tile, int side,
                            int rank_tiles, const float *b, int stride, float *a_tile,
                            float sum[ROWS])
{
    int thread = (int)threadIdx.x % HALF;
    float scale = p.module < 0 ? 0.0f : a.stack.scale[p.module];
    for (int g = 0; g < a.w.groups; g++) {
        float delta[ROWS] = {0};
        for (int i = 0; i < rank_tiles; i++) {
            __syncthreads();
            size_t at = (size_t)(p.first_tile + i) * (size_t)a.w.groups + (size_t)g;
            if (i < p.tiles)
                load_a(a.stack.a + at * TILE_BYTES_BF16, a_tile, thread);
            __syncthreads();
            if (i >= p.tiles)
                continue;
            for (int r = 0; r < 16; r++) {
                float x = a_tile[r * TILE_K + thread];
                for (int j = 0; j < ROWS; j++)
                    delta[j] = __fmaf_rn(b[(side * 8 + j) * stride + i * 16 + r], x, delta[j]);
            }
        }
        if (p.module < 0)
            continue;
        const uint8_t *base =
            a.w.data + ((size_t)tile * (size_t)a.w.groups + (size_t)g) * tile_bytes(a.w.format);
        for (int j = 0; j < ROWS; j++) {
            int row = side * 8 + j;
            float row_scale = a.w.format == WEIGHT_INT8 ? a.w.row_scale[tile * TILE_N + row] : 0.0f;
            float v = __fmaf_rn(scale, delta[j], weight_at(a.w, base, row, thread, row_scale));
            sum[j] = __fmaf_rn(v, v, sum[j]);
        }
    }
}

/* g of row `row` from the warps' sums [8 warps][ROWS]; the gain replaces the magnitude. */
PTX_INLINE float finish_row(const struct dora_args &a, int tile, int row, const float *sums)
{
    float sum = 0.0f;
    for (int w = 0; w < HALF / 32; w++)
        sum = __fadd_rn(sum, sums[(row / 8 * 4 + w) * ROWS + row % 8]);
    float *gain = (float *)a.stack.gain + tile * TILE_N + row;
    float g = sum == 0.0f && *gain == 0.0f ? 1.0f : __fdiv_rn(*gain, __fsqrt_rn(sum));
    *gain = __fsub_rn(g, 1.0f);
    return g;
}

PTX_INLINE uint32_t bf16_pair(float low, float high)
{
    return (uint32_t)__bfloat16_as_ushort(__float2bfloat16_rn(low)) |
           (uint32_t)__bfloat16_as_ushort(__float2bfloat16_rn(high)) << 16;
}

__global__ void __launch_bounds__(THREADS) k_dora(struct dora_args a, int stride)
{
    DYN_SMEM(smem);
    float *b = (float *)smem, *a_tile = b + TILE_N * stride;
    float *sums = a_tile + 2 * 16 * TILE_K, *g = sums + 8 * ROWS;
    int tile = (int)blockIdx.x, side = (int)threadIdx.x / HALF;
    struct part p = part_of(a, tile, side), other = part_of(a, tile, 1 - side);
    if (p.module < 0 && other.module < 0)
        return;
    struct tile_b from = b_of(a, tile);
    load_b(from, b, stride);
    float sum[ROWS] = {0};
    sum_squares(a, p, tile, side, max(p.tiles, other.tiles), b, stride, a_tile + side * 16 * TILE_K,
                sum);
    for (int j = 0; j < ROWS; j++) {
        for (int apart = 16; apart > 0; apart /= 2)
            sum[j] = __fadd_rn(sum[j], __shfl_xor_sync(ALL, sum[j], apart));
        if (threadIdx.x % 32 == 0)
            sums[(int)threadIdx.x / 32 * ROWS + j] = sum[j];
    }
    __syncthreads();
    int row = (int)threadIdx.x;
    if (row < TILE_N)
        g[row] = part_of(a, tile, row / 8).module < 0 ? 1.0f : finish_row(a, tile, row, sums);
    __syncthreads();
    for (int i = (int)threadIdx.x; i < from.tiles * 128; i += THREADS) {
        uint32_t *at = (uint32_t *)from.data + i;
        float factor = g[i % 128 / 16 + i % 2 * 8];
        *at = bf16_pair(low_of(*at) * factor, high_of(*at) * factor);
    }
}

enum status cuda_dora(const struct dora_args *a, cudaStream_t s)
{
    if (a->modules == 0)
        return STATUS_OK;
    int widest = 0;
    for (int m = 0; m < STACK_MODULES; m++) {
        int tiles = a->stack.module_tile[m + 1] - a->stack.module_tile[m];
        widest = tiles > widest ? tiles : widest;
        if ((a->modules >> m & 1) && (tiles < 1 || !a->stack.b[a->interleaved ? 0 : m]))
            return STATUS_INVALID;
    }
    if (!a->stack.gain || !a->stack.a || a->modules >> STACK_MODULES)
        return STATUS_INVALID;
    int stride = widest * 16 + 1;
    size_t floats = (size_t)TILE_N * (size_t)stride + 2 * 16 * TILE_K + 8 * ROWS + TILE_N;
    struct launch_shape shape = {dim3((unsigned)a->w.tiles), THREADS, floats * sizeof(float),
                                 false};
    return launch(shape, s, k_dora, *a, stride);
}
