/* k_linear: see k_linear.h for the formula.
 *
 * Shapes: W [N, K] in tiles of layout.h, x [T, PAD_K(K)] bf16, outputs as linear_args. T <= 8, 16,
 * 32, 64 rows by the bucket; more are worked off in row blocks of 64, one after the other.
 *
 * Grid: min(SMs, tiles) blocks of 256 threads; block b has tiles [tiles b / grid, tiles (b + 1) /
 * grid) with all of K, its warps the 8 slices of K. A step with adapters has k_shrink or
 * k_shrink_few in front (lora_shrink.cuh).
 *
 * A warp asks for its first weights, waits for the node in front, asks for x, and multiplies
 * through a ring of its own in shared memory (linear_few.cuh, linear_many.cuh), a pass of some
 * tiles at a time; the block adds the warps' sums up, expands, writes. With few rows a node is
 * latency more than bytes: everything its end needs is asked for right behind the wait and read
 * where it is used, and code is kept short, because each node fetches it anew.
 *
 * Shared memory: a ring a warp, sums [tile][slice][row], with adapters sums of their own (few rows)
 * or slots of the warps' sums (many); block_state; at most 227 KB, few rows 110 to 155 KB.
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
#include "cuda/lora_shrink_few.cuh"

/* The eight slices' total of one element; slot: its place in slice 0. */
template <int NT> PTX_INLINE float slices_total(const float *slot)
{
    float v[LINEAR_SLICES];
#pragma unroll
    for (int i = 0; i < LINEAR_SLICES; i++)
        v[i] = slot[i * NT * 128];
    return slices_tree(v);
}

/* ---- adapters ---- */

/* What a kernel knows of: no adapters, those in bf16, or those of codes too. */
enum linear_lora { LINEAR_NO_LORA, LINEAR_LORA, LINEAR_CODES };

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

/* Totals into slot 0, zeros into slot 1: slots 2 to 7 are then the adapters' ring for B. */
template <int NT>
PTX_INLINE void totals_make_room(float *red, const struct linear_dev *p, int tile, int tiles)
{
    const int floats = NT * 128;
    for (int i = threadIdx.x; i < tiles * NT * 64; i += LINEAR_THREADS) {
        struct item e = item_of<NT>(i, tile, LINEAR_SLICES * floats);
        float2 v = item_total<NT>(red, &e, p);
        red[e.at] = v.x;
        red[e.at + 64] = v.y;
        red[e.at + floats] = red[e.at + floats + 64] = 0;
    }
    __syncthreads(); /* the totals and zeros above */
}

/* Where a pass's expands are, [tile][row tile][4][lane] floats; at NULL: there are none. */
struct added {
    float *at;
    int tile_floats;
};

/* All tiles of a pass, all rows of a row block: totals (done: they lie in slot 0), adapters,
 * epilogue. Leaves `more` at zero. ahead: of the pass's first item. */
template <int NT>
PTX_INLINE void pass_end(float *red, const float *rinv, const struct linear_dev *p,
                         const struct lora_state *l, struct added more, bool done,
                         struct residual_ahead ahead, int tile, int tiles, int first, int rows)
{
    const int floats = NT * 128, tile_floats = LINEAR_SLICES * floats;
    const int items = tiles * NT * 64;
    for (int i = threadIdx.x; i < items; i += LINEAR_THREADS) {
        struct item e = item_of<NT>(i, tile, tile_floats);
        float2 v = {red[e.at], red[e.at + 64]};
        if (!done)
            v = item_total<NT>(red, &e, p);
        const bool on = e.t < rows;
        if (more.at) {
            float *add = more.at + e.k * more.tile_floats + (e.at - e.k * tile_floats);
            if (l->any_gain && on) {
                v.x *= e.n < p->n ? row_gain(p, l->count, first + e.t, e.n) : 1;
                v.y *= e.n + 8 < p->n ? row_gain(p, l->count, first + e.t, e.n + 8) : 1;
            }
            v.x = __fadd_rn(v.x, add[0]);
            v.y = __fadd_rn(v.y, add[64]);
            add[0] = add[64] = 0;
        }
        const float scale = on ? rinv[e.t] : 0;
        finish(p, tile + e.k, e.r, first + e.t, on, v.x * scale, v.y * scale, ahead);
        ahead.here = false;
    }
    __syncthreads(); /* the sums were read, the next pass may write them */
}

/* What a block keeps beside its large arrays. */
template <int NT> struct block_state {
    float rinv[NT * 8];
    struct lora_state lora;
};

/* First and last but one tile of this block. */
PTX_INLINE int tile_begin(const struct linear_dev *p, int block)
{
    return (int)((int64_t)p->tiles * block / gridDim.x);
}

/* At most 8 rows. */
template <int FORMAT, bool SMALL, int LORA>
__global__
    PTX_REGISTERS((few_shape<FORMAT, SMALL, LORA != LINEAR_NO_LORA>::registers)) void k_linear_few(
        const __grid_constant__ struct linear_dev p)
{
    using shape = few_shape<FORMAT, SMALL, LORA != LINEAR_NO_LORA>;
    ptx_pdl_trigger();
    DYN_SMEM(smem);
    const struct place at = place_here();
    uint8_t *ring = smem + at.warp * shape::stages * shape::stage_bytes;
    float *red = (float *)(smem + shape::ring_bytes);
    const struct added more = {red + p.pass_tiles * LINEAR_SLICES * 128, 128};
    struct block_state<1> *state =
        (struct block_state<1> *)(more.at + (LORA ? p.pass_tiles * 128 : 0));
    const int tile0 = tile_begin(&p, blockIdx.x);
    const struct few_range r = {tile_begin(&p, blockIdx.x + 1), p.pass_tiles,
                                slice_begin(p.groups, at.warp), slice_begin(p.groups, at.warp + 1),
                                (size_t)p.groups * shape::tile_bytes};
    struct few_cursor cur = few_begin<shape>(ring, &p, &r, tile0, at.lane);
    const int rows = p.head->rows[p.view];
    int pieces = LORA ? p.head->pieces[p.view].count : 0;
#pragma unroll 1
    for (int i = 0; i < shape::stages - 1; i++)
        few_issue<shape>(&cur, &p, &r, at.lane);
    struct expand_range range = {&p, &state->lora, tile0, min(p.pass_tiles, r.tile_end - tile0),
                                 0,  rows};
    struct expand_feed feed;
    struct gather_ahead gather;
    constexpr bool CODES = LORA == LINEAR_CODES;
    constexpr int FRAGS = CODES ? shape::codes_frags : shape::expand_frags;
    const struct lora_room room = {(uint8_t *)(state + 1), shape::table, shape::u_room};
    uint8_t *const rings = room.at + shape::table * PIECE_BYTES + shape::u_room;
    uint8_t *const expand_ring = rings + at.warp * (FRAGS * RANK_TILE_BYTES);
    float *const rms_room = (float *)(rings + shape::codes_expand);
    struct expand_feed *const park = (struct expand_feed *)((uint8_t *)rms_room + shape::codes_rms +
                                                            at.warp * shape::park_bytes);
    static_assert(sizeof *park <= shape::park_bytes, "");
    if (pieces > 0) {
        for (int i = threadIdx.x; i < p.pass_tiles * 128; i += LINEAR_THREADS)
            more.at[i] = 0;
        lora_find<LORA == LINEAR_CODES>(&state->lora, room, &p, pieces, tile0, r.tile_end, &at);
        pieces = state->lora.count;
        if (pieces > 0) {
            if (LORA == LINEAR_CODES)
                expand_begin_codes<FRAGS>(park, &range, expand_ring);
            else
                expand_begin<FRAGS, false>(&feed, &range, 0, 0, expand_ring, &at);
            gather_find(&gather, &state->lora, &p);
        }
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
    struct rms_ahead rms;
    if (LORA == LINEAR_CODES)
        rms_copy<shape::rms_tiles>(rms_room, &p, rows, &at);
    else
        rms_ask(&rms, &p, rows, &at);
    struct residual_ahead residual = {};
    if (p.out == LINEAR_RESIDUAL) {
        struct item e = item_of<1>(threadIdx.x, tile0, 0);
        residual_load(&residual, &p, e.n, e.t, e.t < rows && tile0 + e.k < r.tile_end);
    }
    if (pieces > 0)
        gather_ask(&gather, &state->lora);
    const uint8_t *stage = ring + at.lane * 16;
    for (int tile = tile0; tile < r.tile_end; tile += p.pass_tiles) {
        const int tiles = min(p.pass_tiles, r.tile_end - tile);
        few_pass<shape>(red + at.warp * 128 + at.lane, x, &stage, &cur, &p, &r, tiles, x_at, &at);
        if (LORA == LINEAR_CODES && tile == tile0)
            rms_copied<shape::rms_tiles>(state->rinv, rms_room, &p, rows, &at);
        else if (tile == tile0)
            rms_finish(state->rinv, &rms, &p, rows, &at);
        if (pieces > 0 && tile == tile0) {
            gather_put(&gather, &state->lora);
            lora_gather(&state->lora, &p, gather_items(&state->lora));
        }
        __syncthreads(); /* the warps' sums, before others add them up; u */
        if (pieces > 0) {
            range.tile = tile;
            range.tiles = tiles;
            if (LORA == LINEAR_CODES)
                expand_all_codes<FRAGS>(more.at, more.tile_floats, park, tile == tile0, &range,
                                        expand_ring);
            else
                expand_all<FRAGS, false, false>(more.at, more.tile_floats, &feed, tile == tile0,
                                                &range, expand_ring, &at);
        }
        pass_end<1>(red, state->rinv, &p, &state->lora, pieces > 0 ? more : (struct added){NULL, 0},
                    false, residual, tile, tiles, 0, rows);
        residual.here = false;
        if (tile + p.pass_tiles < r.tile_end)
            few_x<shape::window>(x, x_at, r.group_end - r.group);
    }
    ptx_cp_async_wait<0>();
}

/* NT row tiles of 8 at a time. */
template <int FORMAT, int NT, bool SMALL, int LORA>
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
    const struct many_range r = {tile_begin(&p, blockIdx.x + 1),
                                 (rows_all + NT * 8 - 1) / (NT * 8),
                                 rows_all,
                                 slice_begin(p.groups, at.warp),
                                 slice_begin(p.groups, at.warp + 1),
                                 (size_t)p.groups * format_traits<FORMAT>::tile_bytes};
    struct many_cursor cur = {tile0, 0, r.group, 0, 0}, cur_x = cur;
    struct many_from<NT> from;
    many_seek_w<FORMAT, NT>(&from, &cur, &p, &r, at.lane);
#pragma unroll
    for (int i = 0; i < shape::stages - 1; i++)
        if (many_more<FORMAT, NT, SMALL>(&cur, &r)) {
            many_weights<FORMAT, NT, SMALL>(&from, &cur, ring, &r, at.lane);
            many_next<FORMAT, NT, SMALL, true, false>(&from, &cur, &p, &r, &at);
        }
    int pieces = LORA ? p.head->pieces[p.view].count : 0;
    uint8_t *expand_ring = NULL;
    if (pieces > 0) {
        const struct lora_room room = {(uint8_t *)(state + 1), shape::table, shape::u_room};
        expand_ring = SMALL ? room.at + shape::lora_bytes - shape::expand_bytes +
                                  at.warp * shape::expand_frags * RANK_TILE_BYTES
                            : (uint8_t *)red + shape::expand_at(at.warp);
        lora_find<LORA == LINEAR_CODES>(&state->lora, room, &p, pieces, tile0, r.tile_end, &at);
        pieces = state->lora.count;
    }
    ptx_pdl_wait();
    if (rows_all == 0) {
        ptx_cp_async_wait<0>();
        return;
    }
    many_seek_x<NT>(&from, &cur_x, &p, &r, &at);
#pragma unroll
    for (int i = 0; i < shape::stages - 1; i++) {
        if (many_more<FORMAT, NT, SMALL>(&cur_x, &r)) {
            many_x<FORMAT, NT, SMALL>(&from, &cur_x, ring, at.lane);
            many_next<FORMAT, NT, SMALL, false, true>(&from, &cur_x, &p, &r, &at);
        }
        ptx_cp_async_commit();
    }
    if (pieces > 0)
        lora_gather(&state->lora, &p, 0);
    int stage = 0;
    for (int tile = tile0; tile < r.tile_end; tile += TILES) {
        const int tiles = min(TILES, r.tile_end - tile);
        for (int block = 0; block < r.blocks; block++) {
            const int first = block * NT * 8, rows = min(rows_all - first, NT * 8);
            if (tile == tile0 || r.blocks > 1)
                rms_rows<NT>(state->rinv, &p, first, rows, &at);
            float acc[TILES][NT][4];
            many_pass<FORMAT, NT, SMALL, TILES>(acc, ring, &from, &cur, &stage, &p, &r, tiles, &at);
#pragma unroll
            for (int i = 0; i < TILES * NT * 4; i++)
                if (i / (NT * 4) < tiles)
                    red[(i / (NT * 4) * LINEAR_SLICES + at.warp) * FLOATS + i % (NT * 4) * 32 +
                        at.lane] = acc[i / (NT * 4)][i / 4 % NT][i % 4];
            __syncthreads(); /* the warps' sums, before others add them up */
            struct added more = {NULL, LINEAR_SLICES * FLOATS};
            if (pieces > 0) {
                const struct expand_range range = {&p, &state->lora, tile, tiles, first, rows};
                more.at = red + FLOATS;
                totals_make_room<NT>(red, &p, tile, tiles);
                struct expand_feed feed;
                expand_all<shape::expand_frags, true, LORA == LINEAR_CODES>(
                    more.at, more.tile_floats, &feed, false, &range, expand_ring, &at);
            }
            pass_end<NT>(red, state->rinv, &p, &state->lora, more, pieces > 0, {}, tile, tiles,
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
    d->codes = a->codes != 0;
}

template <int FORMAT, bool SMALL, int LORA>
static enum status launch_few(struct linear_dev *d, int grid, bool dependent, cudaStream_t s)
{
    using shape = few_shape<FORMAT, SMALL, LORA != LINEAR_NO_LORA>;
    const int tiles = (d->tiles + grid - 1) / grid;
    d->pass_tiles = tiles < shape::pass_tiles ? tiles : shape::pass_tiles;
    const size_t smem = (size_t)shape::ring_bytes + (size_t)d->pass_tiles * LINEAR_SLICES * 512 +
                        sizeof(struct block_state<1>) +
                        (!LORA ? 0
                               : d->pass_tiles * 512 + (LORA == LINEAR_CODES ? shape::codes_bytes
                                                                             : shape::lora_bytes));
    return launch({dim3(grid), LINEAR_THREADS, smem, dependent}, s,
                  k_linear_few<FORMAT, SMALL, LORA>, *d);
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
                  !d->table  ? k_linear_many<FORMAT, NT, SMALL, LINEAR_NO_LORA>
                  : d->codes ? k_linear_many<FORMAT, NT, SMALL, LINEAR_CODES>
                             : k_linear_many<FORMAT, NT, SMALL, LINEAR_LORA>,
                  *d);
}

template <int FORMAT, bool SMALL>
static enum status launch_few_of(struct linear_dev *d, int grid, bool dependent, cudaStream_t s)
{
    if (!d->table)
        return launch_few<FORMAT, SMALL, LINEAR_NO_LORA>(d, grid, dependent, s);
    return d->codes ? launch_few<FORMAT, SMALL, LINEAR_CODES>(d, grid, dependent, s)
                    : launch_few<FORMAT, SMALL, LINEAR_LORA>(d, grid, dependent, s);
}

template <int FORMAT>
static enum status launch_rows(struct linear_dev *d, int rows, int grid, bool dependent, bool small,
                               cudaStream_t s)
{
    if (small && rows <= 8)
        return launch_few_of<FORMAT, true>(d, grid, dependent, s);
    if (small)
        return launch_many<FORMAT, 2, true>(d, grid, dependent, s);
    if (rows <= 8)
        return launch_few_of<FORMAT, false>(d, grid, dependent, s);
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
        const bool dependent = a->dependent != 0;
        enum status st =
            d.fine ? launch({dim3(a->sms), SHRINK_FEW_WARPS * 32, SHRINK_FEW_BYTES, dependent}, s,
                            d.codes ? k_shrink_few<true> : k_shrink_few<false>, d)
                   : launch({dim3(2 * a->sms), LINEAR_THREADS, LINEAR_SLICES * 512, dependent}, s,
                            d.codes ? k_shrink<true> : k_shrink<false>, d);
        if (st != STATUS_OK)
            return st;
    }
    enum status st = launch_format(&d, a, a->small != 0, s);
    return st == STATUS_UNSUPPORTED && !a->small ? launch_format(&d, a, true, s) : st;
}
