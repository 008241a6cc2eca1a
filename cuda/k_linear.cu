/* k_linear: see k_linear.h for the formula.
 *
 * Shapes: W [N, K] in tiles of layout.h, x [T, PAD_K(K)] bf16, outputs as linear_args. T <= 8, 16,
 * 32, 64 rows by the bucket; more are worked off in row blocks of 64, one after the other.
 *
 * Grid: min(SMs, tiles) blocks of 256 threads; block b has tiles [tiles b / grid, tiles (b + 1) /
 * grid) with all of K, its warps the 8 slices of K. A step with adapters has k_shrink in front.
 *
 * A warp asks for its first weights, waits for the node in front, asks for x, and multiplies
 * through a ring of its own in shared memory (linear_few.cuh, linear_many.cuh), a pass of some
 * tiles at a time; the block adds the warps' sums up, expands, writes.
 *
 * Shared memory: a ring a warp, sums [tile][slice][row], block_state; at most 227 KB, few rows
 * about 110 KB.
 *
 * Bytes: W and the adapters' A and B once (W once a row block of 64), x once a block and pass.
 * 2 T N K flops.
 *
 * Order of sums: 8 slices of K; in a slice groups ascending, in a group k16 steps ascending; slices
 * as a fixed tree; pieces in order of their rounds. No sum depends on T, the bucket or the company.
 *
 * Tests: tests/kernels/test_linear.c; bench: tests/gpu/linear_bench.c.
 */
#include "cuda/k_linear.h"

#include "cuda/launch.cuh"
#include "cuda/linear_few.cuh"
#include "cuda/linear_many.cuh"
#include "cuda/linear_out.cuh"
#include "cuda/lora_expand.cuh"

/* The eight slices' total of one element; slot: its place in slice 0. */
template <int NT> PTX_INLINE float slices_total(const float *slot)
{
    float v[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        v[i] = __fadd_rn(slot[2 * i * NT * 128], slot[(2 * i + 1) * NT * 128]);
    return __fadd_rn(__fadd_rn(v[0], v[1]), __fadd_rn(v[2], v[3]));
}

/* ---- adapters ---- */

/* Item of a warp: fine: slices of units, block by block; coarse: a unit a block. -1: none left. */
PTX_INLINE int shrink_unit(bool fine, int units, int item, int *slice, const struct place *at)
{
    int i = fine ? (int)blockIdx.x + (int)gridDim.x * (at->warp + item * LINEAR_WARPS)
                 : (int)blockIdx.x + (int)gridDim.x * item;
    *slice = fine ? i % LINEAR_SLICES : at->warp;
    i = fine ? i / LINEAR_SLICES : i;
    return i < units ? i : -1;
}

/* u of all pieces: see lora_device.cuh. Shared memory: [slice][lane][4] floats. */
__global__ __launch_bounds__(LINEAR_THREADS,
                             2) void k_shrink(const __grid_constant__ struct linear_dev p)
{
    ptx_pdl_trigger();
    DYN_SMEM(smem);
    float *red = (float *)smem;
    const struct place at = place_here();
    const int count = p.head->pieces[p.view].count;
    struct unit_scan scan;
    struct shrink_work w;
    struct shrink_half loaded[2];
    int slice, unit = -1, units = 0;
    if (count > 0) {
        units = scan_init(&scan, &p, count, at.lane);
        unit = shrink_unit(shrink_fine(&p, units, count), units, 0, &slice, &at);
    }
    const bool fine = shrink_fine(&p, units, count);
    if (unit >= 0) {
        w = shrink_find(&scan, &p, count, unit, slice, &at);
        shrink_begin(&w, loaded, at.lane);
    }
    ptx_pdl_wait();
    for (int item = 1; unit >= 0; item++) {
        float c[4];
        shrink_slice(c, &w, loaded);
        const struct shrink_work done = w;
        unit = shrink_unit(fine, units, item, &slice, &at);
        if (unit >= 0) {
            w = shrink_find(&scan, &p, count, unit, slice, &at);
            shrink_begin(&w, loaded, at.lane);
        }
        if (fine) {
            shrink_put((float *)(p.u + (size_t)done.unit * 4096 + done.slice * 512), c, &at);
            continue;
        }
        shrink_put(red + at.warp * 128, c, &at);
        __syncthreads(); /* the slices' sums, before they are added */
        if (threadIdx.x < 64) {
            float v[2] = {0, 0};
#pragma unroll
            for (int i = 0; i < LINEAR_SLICES; i++) {
                v[0] = __fadd_rn(v[0], red[i * 128 + threadIdx.x * 2]);
                v[1] = __fadd_rn(v[1], red[i * 128 + threadIdx.x * 2 + 1]);
            }
            *(uint32_t *)(p.u + ((size_t)done.piece * RANK_TILES_MAX + done.rank_tile) * 256 +
                          threadIdx.x * 4) = pack_bf16(v[0], v[1]);
        }
        __syncthreads(); /* the sums, before the next unit's */
    }
}

/* What an item of the epilogue is: outputs r and r + 8 of tile k of the pass, row t. */
struct item {
    int k, n, t, r;
    int at; /* of its sums */
};

template <int NT> PTX_INLINE struct item item_of(int i, int tile, int tile_floats)
{
    struct item e;
    int c = i / 32 % 2, lane = i % 32;
    e.k = i / (NT * 64);
    e.t = i / 64 % NT * 8 + lane % 4 * 2 + c;
    e.r = lane / 4;
    e.n = (tile + e.k) * TILE_N + e.r;
    e.at = e.k * tile_floats + i / 64 % NT * 128 + c * 32 + lane;
    return e;
}

/* The slices' totals of an item, with the rows' scale of int8. */
template <int NT>
PTX_INLINE float2 item_total(const float *red, const struct item *e, const struct linear_dev *p)
{
    float2 v = {slices_total<NT>(red + e->at), slices_total<NT>(red + e->at + 64)};
    if (p->row_scale) {
        v.x *= __ldg(p->row_scale + e->n);
        v.y *= __ldg(p->row_scale + e->n + 8);
    }
    return v;
}

/* What a block needs to add adapters. */
struct lora_use {
    struct lora_state *state;
    uint8_t *ring;           /* this warp's, for B */
    struct expand_feed feed; /* blend < 0: nothing of this pass is under way */
};

/* Totals with all adapters, left in slot 0: base * (1 + gains) + expands. */
template <int NT, int FRAGS>
LINEAR_CALL void lora_totals(float *red, const struct linear_dev *p, struct lora_use use, int tile,
                             int tiles, int first, int rows)
{
    const struct place at = place_here();
    struct lora_state *const l = use.state;
    const struct expand_range range = {p, l, tile, tiles, first, rows};
    const int floats = NT * 128, tile_floats = LINEAR_SLICES * floats;
    const int items = tiles * NT * 64;
    for (int i = threadIdx.x; i < items; i += LINEAR_THREADS) {
        struct item e = item_of<NT>(i, tile, tile_floats);
        float2 v = item_total<NT>(red, &e, p);
        red[e.at] = v.x;
        red[e.at + 64] = v.y;
        red[e.at + floats] = red[e.at + floats + 64] = 0;
    }
    __syncthreads(); /* the totals and zeros above */
    if (use.feed.blend < 0)
        expand_begin<FRAGS>(&use.feed, &range, use.ring, &at);
    expand_all<FRAGS>(red + floats, tile_floats, &use.feed, &range, use.ring, &at);
    const bool any_gain = p->head->pieces[p->view].any_gain != 0;
    for (int i = threadIdx.x; i < items; i += LINEAR_THREADS) {
        struct item e = item_of<NT>(i, tile, tile_floats);
        float lo = red[e.at], hi = red[e.at + 64];
        if (any_gain && e.t < rows) {
            lo *= e.n < p->n ? row_gain(p, l->count, first + e.t, e.n) : 1;
            hi *= e.n + 8 < p->n ? row_gain(p, l->count, first + e.t, e.n + 8) : 1;
        }
        red[e.at] = __fadd_rn(lo, red[e.at + floats]);
        red[e.at + 64] = __fadd_rn(hi, red[e.at + floats + 64]);
    }
}

/* ---- the kernel ---- */

/* All tiles of a pass, all rows of a row block: totals, adapters, epilogue. ahead: NULL or of the
 * pass's first item. */
template <int NT>
PTX_INLINE void pass_end(float *red, const float *rinv, const struct linear_dev *p, bool lora,
                         const struct residual_ahead *ahead, int tile, int tiles, int first,
                         int rows)
{
    const int floats = NT * 128, tile_floats = LINEAR_SLICES * floats;
    const int items = tiles * NT * 64;
    for (int i = threadIdx.x; i < items; i += LINEAR_THREADS) {
        struct item e = item_of<NT>(i, tile, tile_floats);
        float2 v = {red[e.at], red[e.at + 64]};
        if (!lora)
            v = item_total<NT>(red, &e, p);
        bool on = e.t < rows;
        float scale = on ? rinv[e.t] : 0;
        finish(p, tile + e.k, e.r, first + e.t, on, v.x * scale, v.y * scale,
               i < LINEAR_THREADS ? ahead : NULL);
    }
    __syncthreads(); /* the sums were read, the next pass may write them */
}

/* What a block keeps beside its large arrays. */
template <int NT> struct block_state {
    float rinv[NT * 8];
    struct residual_ahead ahead[NT == 1 ? LINEAR_THREADS : 1]; /* of the first pass */
    struct lora_state lora;
};

/* First and last but one tile of this block. */
PTX_INLINE int tile_begin(const struct linear_dev *p, int block)
{
    return (int)((int64_t)p->tiles * block / gridDim.x);
}

template <int NT, int FRAGS>
PTX_INLINE void block_end(float *red, struct block_state<NT> *state, const struct linear_dev *p,
                          int pieces, const struct lora_use *use,
                          const struct residual_ahead *ahead, int tile, int tiles, int first,
                          int rows)
{
    __syncthreads(); /* the warps' sums, before others add them up */
    if (pieces > 0)
        lora_totals<NT, FRAGS>(red, p, *use, tile, tiles, first, rows);
    pass_end<NT>(red, state->rinv, p, pieces > 0, ahead, tile, tiles, first, rows);
}

/* At most 8 rows. */
template <int FORMAT, bool SMALL, bool LORA>
__global__ __launch_bounds__(LINEAR_THREADS,
                             1) void k_linear_few(const __grid_constant__ struct linear_dev p)
{
    using shape = few_shape<FORMAT, SMALL>;
    ptx_pdl_trigger();
    DYN_SMEM(smem);
    const struct place at = place_here();
    uint8_t *ring = smem + at.warp * shape::stages * shape::stage_bytes;
    float *red = (float *)(smem + shape::ring_bytes);
    struct block_state<1> *state =
        (struct block_state<1> *)(red + p.pass_tiles * LINEAR_SLICES * 128);
    const int tile0 = tile_begin(&p, blockIdx.x);
    const struct few_range r = {tile_begin(&p, blockIdx.x + 1), p.pass_tiles,
                                slice_begin(p.groups, at.warp), slice_begin(p.groups, at.warp + 1)};
    struct few_cursor cur = {tile0, tile0, r.group, 0};
    const int rows = p.head->rows[p.view];
    int pieces = LORA ? p.head->pieces[p.view].count : 0;
    struct lora_use use = {&state->lora, NULL, {}};
#pragma unroll
    for (int i = 0; i < shape::stages - 1; i++)
        few_issue<FORMAT, SMALL>(&cur, ring, &p, &r, at.lane);
    if (pieces > 0) {
        const struct lora_room room = {(uint8_t *)(state + 1), shape::table, shape::u_room};
        use.ring = room.at + shape::lora_bytes - shape::expand_bytes +
                   at.warp * shape::expand_frags * RANK_TILE_BYTES;
        lora_find(use.state, room, &p, pieces, tile0, r.tile_end, &at);
        pieces = use.state->count;
        const struct expand_range range = {
            &p, use.state, tile0, min(p.pass_tiles, r.tile_end - tile0), 0, rows};
        if (pieces > 0)
            expand_begin<shape::expand_frags>(&use.feed, &range, use.ring, &at);
    }
    ptx_pdl_wait();
    if (rows == 0) {
        ptx_cp_async_wait<0>();
        return;
    }
    int row = min(at.g, rows - 1); /* what the others compute is not read */
    if (p.x_row)
        row = p.x_row[row];
    const uint8_t *x_at = p.x + (size_t)row * p.x_stride * 2 + (size_t)r.group * 256 + at.t * 16;
    uint4 x[shape::window * 4];
    few_x<shape::window>(x, x_at, r.group_end - r.group);
    const bool early = p.out == LINEAR_RESIDUAL;
    if (early) {
        struct item e = item_of<1>(threadIdx.x, tile0, 0);
        residual_load(&state->ahead[threadIdx.x], &p, e.n, e.t,
                      e.t < rows && tile0 + e.k < r.tile_end);
    }
    rms_rows<1>(state->rinv, &p, 0, rows, &at);
    if (pieces > 0)
        lora_gather(use.state, &p);
    int stage = 0;
    for (int tile = tile0; tile < r.tile_end; tile += p.pass_tiles) {
        const int tiles = min(p.pass_tiles, r.tile_end - tile);
        few_pass<FORMAT, SMALL>(red + at.warp * 128 + at.lane, x, ring, &cur, &stage, &p, &r, tiles,
                                x_at, &at);
        block_end<1, shape::expand_frags>(
            red, state, &p, pieces, &use,
            early && tile == tile0 ? &state->ahead[threadIdx.x] : NULL, tile, tiles, 0, rows);
        use.feed.blend = -1;
        if (tile + p.pass_tiles < r.tile_end)
            few_x<shape::window>(x, x_at, r.group_end - r.group);
    }
    ptx_cp_async_wait<0>();
}

/* NT row tiles of 8 at a time. */
template <int FORMAT, int NT, bool SMALL, bool LORA>
__global__ __launch_bounds__(LINEAR_THREADS,
                             1) void k_linear_many(const __grid_constant__ struct linear_dev p)
{
    using shape = many_shape<FORMAT, NT, SMALL>;
    constexpr int TILES = shape::pass_tiles, FLOATS = NT * 128;
    ptx_pdl_trigger();
    DYN_SMEM(smem);
    const struct place at = place_here();
    uint8_t *ring = smem + at.warp * shape::stages * shape::stage_bytes;
    float *red = (float *)(smem + shape::ring_bytes);
    struct block_state<NT> *state =
        (struct block_state<NT> *)(smem + shape::ring_bytes + shape::red_bytes);
    const int tile0 = tile_begin(&p, blockIdx.x), rows_all = p.head->rows[p.view];
    const struct many_range r = {tile_begin(&p, blockIdx.x + 1), (rows_all + NT * 8 - 1) / (NT * 8),
                                 rows_all, slice_begin(p.groups, at.warp),
                                 slice_begin(p.groups, at.warp + 1)};
    struct many_cursor cur = {tile0, 0, r.group, 0, 0};
#pragma unroll
    for (int i = 0; i < shape::stages - 1; i++)
        if (many_more<FORMAT, NT, SMALL>(&cur, &r)) {
            many_weights<FORMAT, NT, SMALL>(&cur, ring, &p, &r, at.lane);
            many_next<FORMAT, NT, SMALL>(&cur, &r);
        }
    int pieces = LORA ? p.head->pieces[p.view].count : 0;
    struct lora_use use = {&state->lora, NULL, {}};
    use.feed.blend = -1;
    if (pieces > 0) {
        const struct lora_room room = {(uint8_t *)(state + 1), shape::table, shape::u_room};
        use.ring = SMALL ? room.at + shape::lora_bytes - shape::expand_bytes +
                               at.warp * shape::expand_frags * RANK_TILE_BYTES
                         : (uint8_t *)red + shape::expand_at(at.warp);
        lora_find(use.state, room, &p, pieces, tile0, r.tile_end, &at);
        pieces = use.state->count;
    }
    ptx_pdl_wait();
    if (rows_all == 0) {
        ptx_cp_async_wait<0>();
        return;
    }
    cur = {tile0, 0, r.group, 0, 0};
#pragma unroll
    for (int i = 0; i < shape::stages - 1; i++) {
        if (many_more<FORMAT, NT, SMALL>(&cur, &r)) {
            many_x<FORMAT, NT, SMALL>(&cur, ring, &p, &r, &at);
            many_next<FORMAT, NT, SMALL>(&cur, &r);
        }
        ptx_cp_async_commit();
    }
    if (pieces > 0)
        lora_gather(use.state, &p);
    int stage = 0;
    for (int tile = tile0; tile < r.tile_end; tile += TILES) {
        const int tiles = min(TILES, r.tile_end - tile);
        for (int block = 0; block < r.blocks; block++) {
            const int first = block * NT * 8, rows = min(rows_all - first, NT * 8);
            if (tile == tile0 || r.blocks > 1)
                rms_rows<NT>(state->rinv, &p, first, rows, &at);
            float acc[TILES][NT][4];
            many_pass<FORMAT, NT, SMALL, TILES>(acc, ring, &cur, &stage, &p, &r, tiles, &at);
#pragma unroll
            for (int i = 0; i < TILES * NT * 4; i++)
                if (i / (NT * 4) < tiles)
                    red[(i / (NT * 4) * LINEAR_SLICES + at.warp) * FLOATS + i % (NT * 4) * 32 +
                        at.lane] = acc[i / (NT * 4)][i / 4 % NT][i % 4];
            block_end<NT, shape::expand_frags>(red, state, &p, pieces, &use, NULL, tile, tiles,
                                               first, rows);
        }
    }
    ptx_cp_async_wait<0>();
}

/* ---- the launcher ---- */

static bool aligned16(const void *p)
{
    return ((uintptr_t)p & 15) == 0;
}

static bool args_good(const struct linear_args *a)
{
    if (a->w.tiles < 1 || a->w.groups < 1 || a->sms < 1 || a->rows_max < 1 || !a->w.data || !a->x)
        return false;
    if (a->w.format < 0 || a->w.format >= WEIGHT_FORMAT_COUNT || a->x_stride != PAD_K(a->w.k) ||
        a->w.groups * TILE_K != a->x_stride || a->w.n > a->w.tiles * TILE_N)
        return false;
    if (!aligned16(a->w.data) || !aligned16(a->x) || (a->table && (!a->u || !aligned16(a->u))))
        return false;
    if ((a->w.format == WEIGHT_INT8) != (a->w.row_scale != NULL))
        return false;
    switch (a->out) {
    case LINEAR_STORE:
        return a->y != NULL;
    case LINEAR_RESIDUAL:
        return a->y && a->norm && a->xn && a->ss_out;
    case LINEAR_SWIGLU:
        return a->h != NULL;
    }
    return false;
}

static void dev_fill(struct linear_dev *d, const struct linear_args *a)
{
    d->w = a->w.data;
    d->row_scale = a->w.row_scale;
    d->tiles = a->w.tiles;
    d->groups = a->w.groups;
    d->n = a->w.n;
    d->k = a->w.k;
    d->head = a->step->head;
    d->pieces = a->step->pieces[a->view];
    d->view = a->view;
    d->x = (const uint8_t *)a->x;
    d->x_stride = a->x_stride;
    d->x_row = a->x_row;
    d->ss = a->ss;
    d->ss_tiles = a->ss_tiles;
    d->eps = a->eps;
    d->k_inverse = 1.0f / (float)a->w.k;
    d->out = a->out;
    d->bias = a->bias;
    d->y = a->y;
    d->y_stride = a->y_stride;
    d->norm = a->norm;
    d->xn = (bf16 *)a->xn;
    d->xn_stride = a->xn_stride;
    d->ss_out = a->ss_out;
    d->h = (bf16 *)a->h;
    d->h_stride = a->h_stride;
    d->table = a->no_pieces ? NULL : a->table;
    d->table_stride = a->table_stride;
    d->stack = a->stack;
    for (int m = 0; m < STACK_MODULES; m++)
        d->module_tile[m] = a->module_tile[m];
    d->u = (uint8_t *)a->u;
}

template <int FORMAT, bool SMALL>
static enum status launch_few(struct linear_dev *d, int grid, bool dependent, cudaStream_t s)
{
    using shape = few_shape<FORMAT, SMALL>;
    const int tiles = (d->tiles + grid - 1) / grid;
    d->pass_tiles = tiles < shape::pass_tiles ? tiles : shape::pass_tiles;
    const size_t smem = (size_t)shape::ring_bytes + (size_t)d->pass_tiles * LINEAR_SLICES * 512 +
                        sizeof(struct block_state<1>) + (d->table ? shape::lora_bytes : 0);
    return launch({dim3(grid), LINEAR_THREADS, smem, dependent}, s,
                  d->table ? k_linear_few<FORMAT, SMALL, true> : k_linear_few<FORMAT, SMALL, false>,
                  *d);
}

template <int FORMAT, int NT, bool SMALL>
static enum status launch_many(const struct linear_dev *d, int grid, bool dependent, cudaStream_t s)
{
    using shape = many_shape<FORMAT, NT, SMALL>;
    const size_t smem = shape::ring_bytes + shape::red_bytes + sizeof(struct block_state<NT>) +
                        (d->table ? shape::lora_bytes : 0);
    static_assert(shape::stages >= 2, "a stage to read and one to fill");
    static_assert(sizeof(struct block_state<NT>) <= STATE_MAX, "it must fit beside the ring");
    return launch({dim3(grid), LINEAR_THREADS, smem, dependent}, s,
                  d->table ? k_linear_many<FORMAT, NT, SMALL, true>
                           : k_linear_many<FORMAT, NT, SMALL, false>,
                  *d);
}

template <int FORMAT>
static enum status launch_rows(struct linear_dev *d, int rows, int grid, bool dependent, bool small,
                               cudaStream_t s)
{
    if (small)
        return rows <= 8 ? launch_few<FORMAT, true>(d, grid, dependent, s)
                         : launch_many<FORMAT, 2, true>(d, grid, dependent, s);
    if (rows <= 8)
        return launch_few<FORMAT, false>(d, grid, dependent, s);
    if (rows <= 16)
        return launch_many<FORMAT, 2, false>(d, grid, dependent, s);
    if (rows <= 32)
        return launch_many<FORMAT, 4, false>(d, grid, dependent, s);
    return launch_many<FORMAT, 8, false>(d, grid, dependent, s);
}

static enum status launch_format(struct linear_dev *d, const struct linear_args *a, bool small,
                                 cudaStream_t s)
{
    const int grid = a->sms < a->w.tiles ? a->sms : a->w.tiles;
    const bool dependent = a->dependent != 0;
    switch (a->w.format) {
    case WEIGHT_INT4:
        return launch_rows<WEIGHT_INT4>(d, a->rows_max, grid, dependent, small, s);
    case WEIGHT_INT8:
        return launch_rows<WEIGHT_INT8>(d, a->rows_max, grid, dependent, small, s);
    default:
        return launch_rows<WEIGHT_BF16>(d, a->rows_max, grid, dependent, small, s);
    }
}

extern "C" enum status cuda_linear(const struct linear_args *a, cudaStream_t s)
{
    if (!args_good(a))
        return STATUS_INVALID;
    struct linear_dev d = {};
    dev_fill(&d, a);
    d.fine = a->rows_max <= 8;
    if (d.table) {
        const int blocks = a->rows_max <= 8 ? a->sms : 2 * a->sms;
        enum status st = launch(
            {dim3(blocks), LINEAR_THREADS, LINEAR_SLICES * 512, a->dependent != 0}, s, k_shrink, d);
        if (st != STATUS_OK)
            return st;
    }
    enum status st = launch_format(&d, a, a->small != 0, s);
    return st == STATUS_UNSUPPORTED && !a->small ? launch_format(&d, a, true, s) : st;
}
