/* k_embed: see k_embed.h.
 *
 * Grid: (rows_max, blocks of 512 columns up to xn_stride) of 128 threads; a thread has 4 columns,
 * four threads a tile of 16. Rows beyond the step's end at once. Latency only: 2 hidden bytes in, 6
 * hidden bytes out a row.
 * Adapters: the block looks for its row in all pieces, at most one a round, and keeps what it found
 * in shared memory; then round by round d = sum over r ascending of B[n, r] A[token, r],
 * y += (weight scale) d.
 * What other nodes may have written is read past L1 (__ldcg).
 * ss: the 4 columns in order, then lanes 1 apart, then 2. Tested by tests/kernels/test_embed.c. */
#include "cuda/k_embed.h"

#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"

#define THREADS 128
#define QUAD    4
#define COLUMNS (THREADS * QUAD)
#define ALL     0xffffffffu

/* Four columns of a row of the embedding, in one load where rows are aligned for that: it may come
 * from the host's memory. */
PTX_INLINE void load_row(const uint16_t *e, int hidden, int column, float y[QUAD])
{
    if (hidden % QUAD == 0) {
        uint2 w = column < hidden ? *(const uint2 *)(e + column) : make_uint2(0, 0);
        y[0] = __uint_as_float(w.x << 16);
        y[1] = __uint_as_float(w.x & 0xffff0000u);
        y[2] = __uint_as_float(w.y << 16);
        y[3] = __uint_as_float(w.y & 0xffff0000u);
        return;
    }
    for (int i = 0; i < QUAD; i++)
        y[i] = column + i < hidden ? __uint_as_float((uint32_t)e[column + i] << 16) : 0.0f;
}

/* Finds the row's piece of each round; -1: none. All threads. */
PTX_INLINE void find_pieces(const struct embed_args &a, const struct step_dev &step, int row,
                            int *found)
{
    if (threadIdx.x < LORA_ROUNDS)
        found[threadIdx.x] = -1;
    __syncthreads();
    const struct lora_pieces *p = &step.head->pieces[VIEW_ROWS];
    int count = __ldcg(&p->count);
    for (int i = (int)threadIdx.x; i < count; i += THREADS) {
        const struct lora_piece *piece = &step.pieces[VIEW_ROWS][i];
        int first = __ldcg(&piece->row);
        if (row < first || row >= first + __ldcg(&piece->rows))
            continue;
        int round = 0;
        while (i >= __ldcg(&p->round_end[round]))
            round++;
        if (a.table[__ldcg(&piece->slot)].rank > 0)
            found[round] = i;
    }
    __syncthreads();
}

PTX_INLINE void add_adapters(const struct embed_args &a, const struct step_dev &step, int token,
                             int column, const int *found, float y[QUAD])
{
    for (int round = 0; round < LORA_ROUNDS; round++) {
        if (found[round] < 0)
            continue;
        const struct lora_piece *piece = &step.pieces[VIEW_ROWS][found[round]];
        const struct lora_embed *l = &a.table[__ldcg(&piece->slot)];
        const float *u = l->a + (size_t)token * (size_t)l->rank;
        float factor = __fmul_rn(__ldcg(&piece->weight), l->scale);
        for (int i = 0; i < QUAD && column + i < a.hidden; i++) {
            const float *b = l->b + (size_t)(column + i) * (size_t)l->rank;
            float d = 0.0f;
            for (int r = 0; r < l->rank; r++)
                d = __fmaf_rn(b[r], u[r], d);
            y[i] = __fmaf_rn(factor, d, y[i]);
        }
    }
}

PTX_INLINE void clear_counters(const struct embed_args &a)
{
    int blocks = (int)(gridDim.x * gridDim.y);
    int block = (int)(blockIdx.y * gridDim.x + blockIdx.x);
    for (int i = block * THREADS + (int)threadIdx.x; i < a.counter_count; i += blocks * THREADS)
        a.counters[i] = 0;
}

PTX_INLINE void store_row(const struct embed_args &a, int row, int column, const float y[QUAD])
{
    float *to = a.y + (size_t)row * (size_t)a.y_stride;
    uint32_t pair[2];
    float sum = 0.0f;
    for (int i = 0; i < QUAD; i += 2) {
        float low = column + i < a.hidden ? y[i] * a.norm[column + i] : 0.0f;
        float high = column + i + 1 < a.hidden ? y[i + 1] * a.norm[column + i + 1] : 0.0f;
        pair[i / 2] = (uint32_t)__bfloat16_as_ushort(__float2bfloat16_rn(low)) |
                      (uint32_t)__bfloat16_as_ushort(__float2bfloat16_rn(high)) << 16;
    }
    for (int i = 0; i < QUAD; i++) {
        sum = __fmaf_rn(y[i], y[i], sum);
        if (column + i < a.y_stride)
            to[column + i] = y[i];
    }
    if (column < a.xn_stride) {
        uint16_t *xn = (uint16_t *)a.xn + (size_t)row * (size_t)a.xn_stride + column;
        *(uint2 *)xn = make_uint2(pair[0], pair[1]);
    }
    sum = __fadd_rn(sum, __shfl_xor_sync(ALL, sum, 1));
    sum = __fadd_rn(sum, __shfl_xor_sync(ALL, sum, 2));
    int tiles = PAD_N(a.hidden) / TILE_N;
    if (threadIdx.x % 4 == 0 && column / TILE_N < tiles)
        a.ss[(size_t)row * (size_t)tiles + (size_t)(column / TILE_N)] = sum;
}

__global__ void __launch_bounds__(THREADS) k_embed(struct embed_args a, struct step_dev step)
{
    DYN_SMEM(smem);
    int *found = (int *)smem;
    ptx_pdl_trigger();
    ptx_pdl_wait();
    clear_counters(a);
    int row = (int)blockIdx.x;
    if (row >= __ldcg(&step.head->rows[VIEW_ROWS]))
        return;
    int column = (int)blockIdx.y * COLUMNS + (int)threadIdx.x * QUAD;
    int token = __ldcg(&step.token[row]);
    if (token < 0)
        token = __ldcg(&a.drawn[-1 - token]);
    const uint16_t *e = (const uint16_t *)a.embed + (size_t)token * (size_t)a.hidden;
    float y[QUAD];
    load_row(e, a.hidden, column, y);
    if (a.table && __ldcg(&step.head->pieces[VIEW_ROWS].count) > 0) {
        find_pieces(a, step, row, found);
        add_adapters(a, step, token, column, found, y);
    }
    store_row(a, row, column, y);
}

enum status cuda_embed(const struct embed_args *a, cudaStream_t s)
{
    if (a->rows_max < 1 || a->hidden < 1 || a->y_stride < a->hidden ||
        a->xn_stride < PAD_K(a->hidden) || a->xn_stride % TILE_K != 0)
        return STATUS_INVALID;
    int widest = a->xn_stride > a->y_stride ? a->xn_stride : a->y_stride;
    dim3 grid((unsigned)a->rows_max, (unsigned)((widest + COLUMNS - 1) / COLUMNS));
    struct launch_shape shape = {grid, THREADS, LORA_ROUNDS * sizeof(int), a->dependent != 0};
    return launch(shape, s, k_embed, *a, *a->step);
}
