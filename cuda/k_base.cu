/* k_base: see k_base.h.
 *
 * Without adapters k_base_plain: a block of 256 threads has 4 rows, a thread 4 outputs of each.
 * Bytes: 4 a product, and 4 (STORE), 8 (ADD) or 1 (SWIGLU: 2 an output) beside it.
 *
 * With adapters k_base_shrink first: a block a (piece, rank tile), its 8 warps take groups of 128
 * columns in turn and their sums are added in order; u is stored as the B fragment of an mma:
 * u[piece][rank tile][lane 32][2], 256 bytes. Then k_base_lora: a warp has 16 rows and 2 tiles of
 * outputs to itself, in shared memory: the product, and what adapters add to it. It goes through
 * the pieces in their order, so rounds need no barrier; a lane looks a piece up for all of them.
 * Shared memory: 18 KB a block of 4 warps.
 *
 * A and B are read once a piece of 8 rows, mostly from L2. Tested by tests/kernels/test_base.c.
 */
#include "cuda/k_base.h"

#include "cuda/launch.cuh"
#include "cuda/lora_codes.cuh"
#include "cuda/ptx.cuh"

#define ALL 0xffffffffu

struct base_call {
    struct base_args a;
    const struct step_head *head;
    const struct lora_piece *pieces;
};

PTX_INLINE float4 load_quad(const float *p)
{
    uint4 v = ptx_load_l2(p);
    return make_float4(__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z),
                       __uint_as_float(v.w));
}

PTX_INLINE uint32_t pair_of(float low, float high)
{
    uint32_t l = __bfloat16_as_ushort(__float2bfloat16(low));
    return l | (uint32_t)__bfloat16_as_ushort(__float2bfloat16(high)) << 16;
}

PTX_INLINE float4 add4(float4 a, float4 b)
{
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

PTX_INLINE float4 bias_at(const struct base_args &a, int n)
{
    float v[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        v[i] = a.bias && n + i < a.n ? __ldg(a.bias + n + i) : 0.0f;
    return make_float4(v[0], v[1], v[2], v[3]);
}

PTX_INLINE float swiglu(float gate, float up)
{
    return gate / (1.0f + __expf(-gate)) * up;
}

/* First column of outputs 4 q .. 4 q + 3 of a row: of the gate for SWIGLU, whose up is 8 further.
 */
template <int OUT> PTX_INLINE int quad_column(int q)
{
    return OUT == BASE_SWIGLU ? q / 2 * TILE_N + q % 2 * 4 : q * 4;
}

template <int OUT>
PTX_INLINE void finish(const struct base_args &a, int row, int q, float4 v, float4 up)
{
    if (OUT == BASE_SWIGLU) {
        uint16_t *h = (uint16_t *)a.h + (size_t)row * a.h_stride + q * 4;
        *(uint2 *)h = make_uint2(pair_of(swiglu(v.x, up.x), swiglu(v.y, up.y)),
                                 pair_of(swiglu(v.z, up.z), swiglu(v.w, up.w)));
        return;
    }
    float4 *y = (float4 *)(a.y + (size_t)row * a.y_stride + q * 4);
    *y = OUT == BASE_ADD ? add4(load_quad((const float *)y), v) : v;
}

/* Four columns of the product from n on. */
PTX_INLINE float4 product_quad(const struct base_args &a, const float *from, int n)
{
    float4 v = load_quad(from);
    if (a.row_scale) {
        v.x *= __ldg(a.row_scale + n);
        v.y *= __ldg(a.row_scale + n + 1);
        v.z *= __ldg(a.row_scale + n + 2);
        v.w *= __ldg(a.row_scale + n + 3);
    }
    return v;
}

/* ---- without adapters ---- */

#define PLAIN_THREADS 256
#define PLAIN_ROWS    4

template <int OUT>
__global__ __launch_bounds__(PLAIN_THREADS) void k_base_plain(
    const __grid_constant__ struct base_call c)
{
    ptx_pdl_trigger();
    ptx_pdl_wait();
    const struct base_args &a = c.a;
    const int quads = a.tiles * (OUT == BASE_SWIGLU ? 2 : 4);
    const int q = (int)(blockIdx.x * PLAIN_THREADS + threadIdx.x);
    const int first = (int)blockIdx.y * PLAIN_ROWS;
    const int rows = min(c.head->rows[VIEW_ROWS] - first, PLAIN_ROWS);
    if (q >= quads)
        return;
    const int n = quad_column<OUT>(q);
    float4 v[PLAIN_ROWS], up[PLAIN_ROWS];
#pragma unroll
    for (int i = 0; i < PLAIN_ROWS; i++) {
        const float *from = a.product + (size_t)(first + i) * a.product_stride + n;
        if (i < rows)
            v[i] = product_quad(a, from, n);
        if (OUT == BASE_SWIGLU && i < rows)
            up[i] = product_quad(a, from + 8, n + 8);
    }
    const float4 bias = bias_at(a, n), bias_up = bias_at(a, n + 8);
#pragma unroll
    for (int i = 0; i < PLAIN_ROWS; i++)
        if (i < rows)
            finish<OUT>(a, first + i, q, add4(v[i], bias),
                        OUT == BASE_SWIGLU ? add4(up[i], bias_up) : v[i]);
}

/* ---- with adapters ---- */

PTX_INLINE const struct lora_stack *stack_of(const struct base_args &a, int slot)
{
    return a.table + (size_t)slot * a.table_stride + a.stack;
}

PTX_INLINE bool is_done(const struct base_args &a, int row)
{
    bool done = false;
    for (int i = 0; i < a.done_count; i++)
        done = done || (row >= a.done[i].row && row < a.done[i].row + a.done[i].rows);
    return done;
}

#define SHRINK_WARPS 8

/* c += a group's part: 16 ranks by the 8 rows of `x`, this lane's bytes of both. */
PTX_INLINE void shrink_group(float c[4], const uint8_t *a, const uint8_t *x)
{
    uint4 f[8], v[4];
#pragma unroll
    for (int i = 0; i < 8; i++)
        f[i] = ptx_load_stream(a + i * 512);
#pragma unroll
    for (int i = 0; i < 4; i++)
        v[i] = ptx_load_l2(x + i * 64);
#pragma unroll
    for (int i = 0; i < 8; i++)
        ptx_mma_bf16(c, f[i].x, f[i].y, f[i].z, f[i].w, i % 2 ? v[i / 2].z : v[i / 2].x,
                     i % 2 ? v[i / 2].w : v[i / 2].y);
}

/* The same of codes; int8 without its scales. */
PTX_INLINE void shrink_group_codes(float c[4], const uint8_t *a, const uint8_t *x, int codes,
                                   int lane)
{
    uint4 f[2][2], v[4];
    uint32_t scales[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (codes == LORA_INT8 || i % 2 == 0)
            f[i / 2][i % 2] = ptx_load_stream(a + (i * 1024 >> codes));
    if (codes == LORA_INT4)
        ptx_load_stream_8(&scales[0], &scales[1], a + 1024 + lane / 4 * 8 - lane * 16);
#pragma unroll
    for (int i = 0; i < 4; i++)
        v[i] = ptx_load_l2(x + i * 64);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float part[4] = {0, 0, 0, 0};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint4 w = codes == LORA_INT4 ? codes_step(f[h], i, LORA_INT4)
                                               : codes_step(f[h], i, LORA_INT8);
            const uint4 at = v[h * 2 + i / 2];
            ptx_mma_bf16(part, w.x, w.y, w.z, w.w, i % 2 ? at.z : at.x, i % 2 ? at.w : at.y);
        }
        codes_add(c, part, codes == LORA_INT4 ? scales[h] : BF16_ONES);
    }
}

template <bool CODES>
__global__ __launch_bounds__(SHRINK_WARPS *
                             32) void k_base_shrink(const __grid_constant__ struct base_call c)
{
    DYN_SMEM(smem);
    ptx_pdl_trigger();
    ptx_pdl_wait();
    const struct base_args &a = c.a;
    const int index = (int)blockIdx.x, rank_tile = (int)blockIdx.y;
    if (index >= c.head->pieces[VIEW_ROWS].count)
        return;
    const struct lora_piece piece = c.pieces[index];
    const struct lora_stack *stack = stack_of(a, piece.slot);
    if (rank_tile >= stack->rank_tiles || is_done(a, piece.row))
        return;
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, g = lane / 4,
              t = lane % 4;
    const int row = piece.row + min(g, piece.rows - 1); /* what the others compute is not read */
    const uint8_t *x = (const uint8_t *)a.x + (size_t)row * a.x_stride * 2 + t * 16;
    const int codes = CODES ? stack->codes : LORA_BF16;
    const size_t bytes = (size_t)lora_group_bytes(codes);
    const uint8_t *from = stack->a + rank_tile * a.groups * bytes + lane * 16;
    float sum[4] = {0, 0, 0, 0};
    for (int i = warp; i < a.groups; i += SHRINK_WARPS) {
        if (CODES && codes)
            shrink_group_codes(sum, from + i * bytes, x + (size_t)i * 256, codes, lane);
        else
            shrink_group(sum, from + i * bytes, x + (size_t)i * 256);
    }
    if (CODES && codes == LORA_INT8)
#pragma unroll
        for (int i = 0; i < 4; i++)
            sum[i] *= __ldg(stack->rank_scale + rank_tile * TILE_N + g + i / 2 * 8);
    float *red = (float *)smem; /* [warp][rank 16][row 8] */
#pragma unroll
    for (int i = 0; i < 4; i++)
        red[warp * 128 + (g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
    __syncthreads(); /* the warps' sums, before they are added */
    if (threadIdx.x >= 64)
        return;
    /* Ranks 2t, 2t + 1 (and 8 further: upper half of the threads) of row g. */
    const int at = (2 * t + warp * 8) * 8 + g;
    float v[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < SHRINK_WARPS; i++) {
        v[0] = __fadd_rn(v[0], red[i * 128 + at]);
        v[1] = __fadd_rn(v[1], red[i * 128 + at + 8]);
    }
    uint32_t *u = (uint32_t *)((uint8_t *)a.u + ((size_t)index * RANK_TILES_MAX + rank_tile) * 256 +
                               lane * 8);
    u[warp] = pair_of(v[0], v[1]);
}

#define LORA_WARPS 4
#define LORA_ROWS  16
#define LORA_TILES 2
#define PITCH      (LORA_TILES * TILE_N + 4)
#define RANK_STEP  4 /* rank tiles whose B and u are under way at once */

/* A warp's share of the outputs. */
struct lora_part {
    float *base;  /* [LORA_ROWS][PITCH] */
    float *extra; /* the same */
    int tile, tiles;
    int first, rows;
};

/* A piece at the warp's tiles, one piece a lane. Index k: the tile; with gate and up 0 is gate and
 * 1 is up, and b has both. */
struct lora_share {
    int row, rows; /* of the part; the first may be negative */
    const uint8_t *b[LORA_TILES];
    const uint8_t *scales[LORA_TILES];        /* int4 */
    int first[LORA_TILES], count[LORA_TILES]; /* rank tiles of u */
    float scale[LORA_TILES];                  /* with the piece's weight */
    const float *gain;
    float weight;
    int codes; /* enum lora_codes */
};

/* B of tile k of the warp's: `tile` of its module, `count` rank tiles. */
template <bool CODES>
PTX_INLINE void share_b(struct lora_share *e, int k, const uint8_t *b, bool pair, int count,
                        int tile)
{
    const int codes = CODES ? e->codes : LORA_BF16;
    e->b[k] = b + lora_b_at(codes, pair, count, tile);
    if (CODES && codes == LORA_INT4)
        e->scales[k] = b + lora_b_scales_at(pair, count, tile);
}

template <int OUT, bool CODES>
PTX_INLINE struct lora_share share_of(const struct base_args &a, const struct lora_part &w,
                                      const struct lora_piece &piece)
{
    struct lora_share e = {};
    const struct lora_stack *s = stack_of(a, piece.slot);
    e.row = piece.row - w.first;
    e.rows = s->rank_tiles > 0 ? piece.rows : 0;
    e.gain = s->gain;
    e.weight = piece.weight;
    e.codes = CODES ? s->codes : LORA_BF16;
#pragma unroll
    for (int k = 0; k < LORA_TILES; k++) {
        int module = OUT == BASE_SWIGLU ? k : 0;
        while (OUT != BASE_SWIGLU && module + 1 < STACK_MODULES &&
               w.tile + k >= a.module_tile[module + 1])
            module++;
        e.first[k] = s->module_tile[module];
        e.count[k] = s->module_tile[module + 1] - e.first[k];
        e.scale[k] = piece.weight * s->scale[module];
        if (OUT != BASE_SWIGLU)
            share_b<CODES>(&e, k, s->b[module], false, e.count[k],
                           w.tile + k - a.module_tile[module]);
    }
    if (OUT == BASE_SWIGLU)
#pragma unroll
        for (int k = 0; k < LORA_TILES; k++)
            share_b<CODES>(&e, k, s->b[0], true, max(e.count[0], e.count[1]), w.tile + k);
    return e;
}

PTX_INLINE const void *pointer_of(const void *p, int lane)
{
    return (const void *)(uintptr_t)__shfl_sync(ALL, (uint64_t)(uintptr_t)p, lane);
}

/* Lane q's share, in all lanes. */
template <bool CODES> PTX_INLINE struct lora_share share_from(const struct lora_share &mine, int q)
{
    struct lora_share e;
    e.row = __shfl_sync(ALL, mine.row, q);
    e.rows = __shfl_sync(ALL, mine.rows, q);
#pragma unroll
    for (int k = 0; k < LORA_TILES; k++) {
        e.b[k] = (const uint8_t *)pointer_of(mine.b[k], q);
        if (CODES)
            e.scales[k] = (const uint8_t *)pointer_of(mine.scales[k], q);
        e.first[k] = __shfl_sync(ALL, mine.first[k], q);
        e.count[k] = __shfl_sync(ALL, mine.count[k], q);
        e.scale[k] = __shfl_sync(ALL, mine.scale[k], q);
    }
    e.gain = (const float *)pointer_of(mine.gain, q);
    e.weight = __shfl_sync(ALL, mine.weight, q);
    e.codes = CODES ? __shfl_sync(ALL, mine.codes, q) : LORA_BF16;
    return e;
}

/* Fragment of rank tile i of `count`. */
template <bool CODES>
PTX_INLINE uint4 fragment_of(const struct lora_share &e, const uint8_t *b, int count, int i,
                             int lane)
{
    if (!CODES || !e.codes)
        return ptx_load_stream(b + i * 512 + lane * 16);
    return codes_fragment(b + lora_code_at(e.codes, count, i, lane), e.codes);
}

/* u with the scales at byte `at` of those of tile k. */
template <bool CODES>
PTX_INLINE uint2 u_scaled(const struct lora_share &e, int k, const uint2 v, int at, int lane)
{
    if (!CODES || e.codes != LORA_INT4)
        return v;
    const uint2 s = *(const uint2 *)(e.scales[k] + at + lane % 4 * 8);
    return make_uint2(codes_scaled(v.x, s.x), codes_scaled(v.y, s.y));
}

/* c[k] += (B u) of tile k for rank tiles [i, i + RANK_STEP): c0, c1 of row g, c2, c3 of row g + 8,
 * piece rows 2t and 2t + 1. u: this lane's fragments of the piece. */
template <int OUT, bool CODES>
PTX_INLINE void expand(float c[LORA_TILES][4], const struct lora_share &e, int tiles,
                       const uint8_t *u, int i, int lane)
{
    uint4 b[LORA_TILES][RANK_STEP];
    uint2 v[LORA_TILES][RANK_STEP];
#pragma unroll
    for (int k = 0; k < LORA_TILES; k++)
#pragma unroll
        for (int n = 0; n < RANK_STEP; n++) {
            const int end = OUT == BASE_SWIGLU ? max(e.count[0], e.count[1]) : e.count[k];
            if (k < tiles && i + n < end)
                b[k][n] = fragment_of<CODES>(e, e.b[k], end, i + n, lane);
            if (i + n < e.count[k])
                v[k][n] = __ldcg((const uint2 *)(u + (e.first[k] + i + n) * 256));
        }
#pragma unroll
    for (int k = 0; k < LORA_TILES; k++)
#pragma unroll
        for (int n = 0; n < RANK_STEP; n++) {
            if (k >= tiles)
                continue;
            /* a module without rank tiles here has no scales either */
            if (OUT != BASE_SWIGLU) {
                if (i + n >= e.count[k])
                    continue;
                const uint2 s = u_scaled<CODES>(e, k, v[k][n], (i + n) * 32, lane);
                ptx_mma_bf16(c[k], b[k][n].x, b[k][n].y, b[k][n].z, b[k][n].w, s.x, s.y);
                continue;
            }
            if (i + n < e.count[0]) {
                const uint2 gate = u_scaled<CODES>(e, k, v[0][n], (i + n) * 64, lane);
                ptx_mma_bf16(c[k], b[k][n].x, 0, b[k][n].z, 0, gate.x, gate.y);
            }
            if (i + n < e.count[1]) {
                const uint2 up = u_scaled<CODES>(e, k, v[1][n], (i + n) * 64 + 32, lane);
                ptx_mma_bf16(c[k], 0, b[k][n].y, 0, b[k][n].w, up.x, up.y);
            }
        }
}

PTX_INLINE void add_gain(const struct base_args &a, const struct lora_part &w,
                         const struct lora_share &e, int lane)
{
    const int n = w.tile * TILE_N + lane;
    if (n >= a.n || lane >= w.tiles * TILE_N)
        return;
    const float gain = e.weight * e.gain[n];
    for (int i = max(e.row, 0); i < min(e.row + e.rows, w.rows); i++)
        w.extra[i * PITCH + lane] =
            __fmaf_rn(w.base[i * PITCH + lane], gain, w.extra[i * PITCH + lane]);
}

/* Adds one piece to `extra`. All lanes. */
template <int OUT, bool CODES>
PTX_INLINE void add_piece(const struct base_args &a, const struct lora_part &w, int index,
                          const struct lora_share &e, int lane)
{
    const uint8_t *u = (const uint8_t *)a.u + (size_t)index * RANK_TILES_MAX * 256 + lane * 8;
    float c[LORA_TILES][4] = {};
    for (int i = 0; i < max(e.count[0], e.count[1]); i += RANK_STEP)
        expand<OUT, CODES>(c, e, w.tiles, u, i, lane);
    if (e.gain)
        add_gain(a, w, e, lane);
    __syncwarp(); /* the gains, before other lanes add to the same places */
#pragma unroll
    for (int k = 0; k < LORA_TILES; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int j = lane % 4 * 2 + i % 2, to = e.row + j;
            if (k >= w.tiles || j >= e.rows || to < 0 || to >= w.rows)
                continue;
            float *at = w.extra + to * PITCH + k * TILE_N + lane / 4 + i / 2 * 8;
            *at = __fmaf_rn(e.scale[OUT == BASE_SWIGLU ? i / 2 : k], c[k][i], *at);
        }
    __syncwarp(); /* this piece's sums, before the next piece's */
}

template <int OUT, bool CODES>
PTX_INLINE void add_pieces(const struct base_call &c, const struct lora_part &w, int lane)
{
    const int count = c.head->pieces[VIEW_ROWS].count;
    for (int from = 0; from < count; from += 32) {
        struct lora_piece piece = {};
        if (from + lane < count)
            piece = c.pieces[from + lane];
        const bool here = from + lane < count && piece.row < w.first + w.rows &&
                          piece.row + piece.rows > w.first && !is_done(c.a, piece.row);
        struct lora_share mine = {};
        if (here)
            mine = share_of<OUT, CODES>(c.a, w, piece);
        uint32_t left = __ballot_sync(ALL, mine.rows > 0);
        for (; left; left &= left - 1) {
            const int q = __ffs((int)left) - 1;
            add_piece<OUT, CODES>(c.a, w, from + q, share_from<CODES>(mine, q), lane);
        }
    }
}

/* The warp's products to shared memory, and zeros beside them. */
PTX_INLINE void part_load(const struct base_args &a, const struct lora_part &w, int lane)
{
    const int column = lane % 8 * 4;
    const bool on = column < w.tiles * TILE_N;
#pragma unroll
    for (int i = 0; i < LORA_ROWS / 4; i++) {
        const int t = i * 4 + lane / 8;
        const float *from =
            a.product + (size_t)(w.first + t) * a.product_stride + w.tile * TILE_N + column;
        const float4 zero = make_float4(0, 0, 0, 0);
        *(float4 *)(w.base + t * PITCH + column) =
            on && t < w.rows ? product_quad(a, from, w.tile * TILE_N + column) : zero;
        *(float4 *)(w.extra + t * PITCH + column) = zero;
    }
}

PTX_INLINE float4 part_sum(const struct base_args &a, const struct lora_part &w, int t, int column)
{
    const float4 v = add4(*(const float4 *)(w.base + t * PITCH + column),
                          *(const float4 *)(w.extra + t * PITCH + column));
    return add4(v, bias_at(a, w.tile * TILE_N + column));
}

template <int OUT, bool CODES>
__global__ __launch_bounds__(LORA_WARPS *
                             32) void k_base_lora(const __grid_constant__ struct base_call c)
{
    DYN_SMEM(smem);
    ptx_pdl_trigger();
    ptx_pdl_wait();
    const struct base_args &a = c.a;
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    struct lora_part w;
    w.base = (float *)smem + warp * 2 * LORA_ROWS * PITCH;
    w.extra = w.base + LORA_ROWS * PITCH;
    w.tile = ((int)blockIdx.x * LORA_WARPS + warp) * LORA_TILES;
    w.tiles = min(a.tiles - w.tile, LORA_TILES);
    w.first = (int)blockIdx.y * LORA_ROWS;
    w.rows = min(c.head->rows[VIEW_ROWS] - w.first, LORA_ROWS);
    if (w.tiles <= 0 || w.rows <= 0)
        return;
    part_load(a, w, lane);
    __syncwarp(); /* products and zeros, before other lanes read them */
    add_pieces<OUT, CODES>(c, w, lane);
    __syncwarp(); /* what adapters add, also where there are none */
    constexpr int ACROSS = OUT == BASE_SWIGLU ? LORA_TILES * 2 : LORA_TILES * 4;
    for (int i = lane; i < w.rows * ACROSS; i += 32) {
        const int t = i / ACROSS, q = i % ACROSS, column = quad_column<OUT>(q);
        if (column >= w.tiles * TILE_N)
            continue;
        const float4 v = part_sum(a, w, t, column);
        const float4 up = OUT == BASE_SWIGLU ? part_sum(a, w, t, column + 8) : v;
        finish<OUT>(a, w.first + t, w.tile * (OUT == BASE_SWIGLU ? 2 : 4) + q, v, up);
    }
}

/* ---- launch ---- */

static bool fits(const struct base_args *a)
{
    const bool sizes = a->rows_max > 0 && a->tiles > 0 && a->n <= a->tiles * TILE_N &&
                       a->product_stride >= a->tiles * TILE_N && a->product_stride % 4 == 0;
    const bool out = a->out == BASE_SWIGLU
                         ? a->h && a->h_stride >= a->tiles * 8 && a->h_stride % 4 == 0
                         : a->y && a->y_stride >= a->tiles * TILE_N && a->y_stride % 4 == 0;
    const bool lora = !a->table || (a->u && a->x && a->x_stride >= a->groups * TILE_K &&
                                    a->x_stride % 8 == 0 && a->pieces_max > 0 &&
                                    a->rank_tiles_max > 0 && a->rank_tiles_max <= RANK_TILES_MAX);
    return sizes && out && lora && a->done_count >= 0 && a->done_count <= BASE_DONE_MAX &&
           a->step && a->product && (uintptr_t)a->product % 16 == 0 && (uintptr_t)a->y % 16 == 0 &&
           (uintptr_t)a->h % 8 == 0 && (uintptr_t)a->x % 16 == 0 && (uintptr_t)a->u % 16 == 0;
}

template <int OUT> static enum status launch_out(const struct base_call &c, cudaStream_t s)
{
    const struct base_args &a = c.a;
    const bool dependent = a.dependent != 0;
    if (!a.table) {
        const int quads = a.tiles * (OUT == BASE_SWIGLU ? 2 : 4);
        const dim3 grid((unsigned)((quads + PLAIN_THREADS - 1) / PLAIN_THREADS),
                        (unsigned)((a.rows_max + PLAIN_ROWS - 1) / PLAIN_ROWS));
        return launch({grid, PLAIN_THREADS, 0, dependent}, s, k_base_plain<OUT>, c);
    }
    enum status st = launch({dim3((unsigned)a.pieces_max, (unsigned)a.rank_tiles_max),
                             SHRINK_WARPS * 32, SHRINK_WARPS * 512, dependent},
                            s, a.codes ? k_base_shrink<true> : k_base_shrink<false>, c);
    if (st != STATUS_OK)
        return st;
    const int across = LORA_WARPS * LORA_TILES;
    const dim3 grid((unsigned)((a.tiles + across - 1) / across),
                    (unsigned)((a.rows_max + LORA_ROWS - 1) / LORA_ROWS));
    return launch({grid, LORA_WARPS * 32, LORA_WARPS * 2 * LORA_ROWS * PITCH * 4, dependent}, s,
                  a.codes ? k_base_lora<OUT, true> : k_base_lora<OUT, false>, c);
}

extern "C" enum status cuda_base(const struct base_args *a, cudaStream_t s)
{
    if (!fits(a))
        return STATUS_INVALID;
    struct base_call c = {};
    c.a = *a;
    c.head = a->step->head;
    c.pieces = a->step->pieces[VIEW_ROWS];
    switch (a->out) {
    case BASE_STORE:
        return launch_out<BASE_STORE>(c, s);
    case BASE_ADD:
        return launch_out<BASE_ADD>(c, s);
    case BASE_SWIGLU:
        return launch_out<BASE_SWIGLU>(c, s);
    }
    return STATUS_INVALID;
}
