/* k_linear: see k_linear.h for the formula.
 *
 * Shapes: W [N, K] in tiles of layout.h, x [T, PAD_K(K)] bf16, outputs as linear_args. T <= 8, 16,
 * 32 rows by the bucket; more are worked off in row blocks of 32, one after the other.
 *
 * Grid: at most min(SMs, tiles) blocks of 256 threads, see grid_of; block b has tiles [tiles b /
 * grid, tiles (b + 1) / grid) with all of K, its warps the 8 slices of K. Of adapters, looked up in
 * the records of k_pieces.h, u is made first: of few rows by k_shrink_few in front, while x is read
 * already (linear_args.begun), of more by the blocks themselves (lora_device.cuh).
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
 * Bytes: W and the adapters' A and B once (W once a row block of 32), x once a block and pass.
 * 2 T N K flops.
 *
 * Order of sums: 8 slices of K; in a slice groups ascending, in a group k16 steps ascending; slices
 * as a fixed tree; pieces in order of their rounds. No sum depends on T, the bucket or the company.
 *
 * Tests: tests/kernels/test_linear.c; bench: tests/gpu/linear_bench.c.
 */
#include "cuda/k_linear.h"

#include "cuda/k_linear_many.cuh"
#include "cuda/linear_few.cuh"
#include "cuda/lora_expand_few.cuh"
#include "cuda/lora_shrink_few.cuh"

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
    struct lora_ahead ahead = {};
    if (LORA)
        lora_ask(&ahead, &p);
    const bool early = LORA && p.begun; /* x comes before what the node in front makes */
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
    const int pieces = ahead.count;
#pragma unroll 1
    for (int i = 0; i < shape::stages - 1; i++)
        few_issue<shape>(&cur, &p, &r, at.lane);
    int row = max(min(at.g, rows - 1), 0); /* what the others compute is not read */
    if (p.x_row)
        row = p.x_row[row];
    const uint8_t *x_at = p.x + (size_t)row * p.x_stride * 2 + (size_t)r.group * 256 + at.t * 16;
    struct gather_ahead gather;
    constexpr bool CODES = LORA == LINEAR_CODES;
    constexpr int FRAGS = CODES ? shape::codes_frags : shape::expand_frags;
    const struct lora_room room = {(uint8_t *)(state + 1), shape::table, shape::u_room};
    struct expand_range range = expand_range_of(&p, &state->lora, &room, tile0,
                                                min(p.pass_tiles, r.tile_end - tile0), 0, rows);
    uint8_t *const rings = room.at + shape::table * PIECE_BYTES + shape::u_room;
    uint8_t *const expand_ring = rings + at.warp * (FRAGS * RANK_TILE_BYTES);
    uint8_t *const parks = rings + LINEAR_WARPS * FRAGS * RANK_TILE_BYTES;
    struct feed_parked *const park = (struct feed_parked *)(parks + at.warp * shape::park_bytes);
    float *const rms_room = (float *)(parks + LINEAR_WARPS * shape::park_bytes);
    static_assert(sizeof *park <= shape::park_bytes, "");
    if (pieces > 0) {
        for (int i = threadIdx.x; i < p.pass_tiles * 128; i += LINEAR_THREADS)
            more.at[i] = 0;
        lora_find(&state->lora, room, &p, &ahead, tile0, r.tile_end);
        if (LORA == LINEAR_CODES)
            expand_begin_codes<FRAGS>(park, &range, expand_ring);
        else
            expand_begin_few<FRAGS>(park, &range, expand_ring, &at);
        gather_find(&gather, &state->lora, &p);
    }
    if (early)
        shrink_await(&p);
    else
        ptx_pdl_wait();
    if (rows == 0) {
        if (early) {
            ptx_pdl_wait();
            __syncthreads(); /* all have seen that it has begun */
            shrink_seen(&p);
        }
        ptx_cp_async_wait<0>();
        return;
    }
    uint4 x[shape::window * 4];
    few_x<shape::window>(x, x_at, r.group_end - r.group);
    struct rms_ahead rms;
    if (LORA == LINEAR_CODES)
        rms_copy<shape::rms_tiles>(rms_room, &p, rows, &at);
    else
        rms_ask(&rms, &p, rows, &at);
    struct residual_ahead residual = {};
    if (p.out == LINEAR_RESIDUAL) {
        struct item e = item_of<1>(threadIdx.x, tile0);
        residual_load(&residual, &p, e.n, e.t, e.t < rows && tile0 + e.k < r.tile_end);
    }
    if (pieces > 0 && !early)
        gather_ask(&gather, &state->lora);
    const uint8_t *stage = ring + at.lane * 16;
    for (int tile = tile0; tile < r.tile_end; tile += p.pass_tiles) {
        const int tiles = min(p.pass_tiles, r.tile_end - tile);
        few_pass<shape>(red + at.warp * 128 + at.lane, x, &stage, &cur, &p, &r, tiles, x_at, &at,
                        [&] {
                            if (early && tile == tile0) {
                                ptx_pdl_wait(); /* u */
                                if (pieces > 0)
                                    gather_ask(&gather, &state->lora);
                            }
                        });
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
                expand_all_few<FRAGS>(more.at, more.tile_floats, park, tile == tile0, &range,
                                      expand_ring, &at);
        }
        const struct sums sums = {red, 128, LINEAR_SLICES * 128};
        pass_end<1>([&](const struct item &e) { return item_total(&sums, &e, &p); }, state->rinv,
                    &p, &state->lora, pieces > 0 ? more : (struct added){NULL, 0}, residual, tile,
                    tiles, 0, rows);
        residual = {}; /* of no more use, or expand would keep registers for them */
        rms = {};
        gather = {};
        if (tile + p.pass_tiles < r.tile_end)
            few_x<shape::window>(x, x_at, r.group_end - r.group);
    }
    if (early)
        shrink_seen(&p);
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
    if (a->table && !a->no_pieces && !a->pieces)
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
    d->here = d->table ? a->pieces + a->stack : NULL;
    for (int m = 0; m < STACK_MODULES; m++)
        d->module_tile[m] = a->module_tile[m];
    d->u = (uint8_t *)a->u;
    d->begun = a->dependent && a->rows_max <= 8 && a->sms <= LINEAR_BEGUN ? a->begun : NULL;
    d->codes = a->codes != 0;
}

/* Bytes of shared memory of a block of k_linear_few. */
template <class S, int LORA> static constexpr size_t few_smem(int pass_tiles)
{
    return (size_t)S::ring_bytes + (size_t)pass_tiles * LINEAR_SLICES * 512 +
           sizeof(struct block_state<1>) +
           (!LORA ? 0
                  : (size_t)pass_tiles * 512 +
                        (size_t)(LORA == LINEAR_CODES ? S::codes_bytes : S::lora_bytes));
}

template <int FORMAT, bool SMALL, int LORA>
static enum status launch_few(struct linear_dev *d, int grid, bool dependent, cudaStream_t s)
{
    using shape = few_shape<FORMAT, SMALL, LORA != LINEAR_NO_LORA>;
    const int tiles = (d->tiles + grid - 1) / grid;
    d->pass_tiles = tiles < shape::pass_tiles ? tiles : shape::pass_tiles;
    const size_t smem = few_smem<shape, LORA>(d->pass_tiles);
    static_assert(few_smem<shape, LORA>(shape::pass_tiles) <= (SMALL ? SMEM_MAX_SMALL : SMEM_MAX),
                  "what the card gives a block");
    return launch({dim3(grid), LINEAR_THREADS, smem, dependent}, s,
                  k_linear_few<FORMAT, SMALL, LORA>, *d);
}

template <int FORMAT, bool SMALL>
static enum status launch_few_of(struct linear_dev *d, int grid, bool dependent, cudaStream_t s)
{
    if (!d->table)
        return launch_few<FORMAT, SMALL, LINEAR_NO_LORA>(d, grid, dependent, s);
    return d->codes ? launch_few<FORMAT, SMALL, LINEAR_CODES>(d, grid, dependent, s)
                    : launch_few<FORMAT, SMALL, LINEAR_LORA>(d, grid, dependent, s);
}

/* Every block takes as many tiles as the one with the most, so that there are fewer of them: then
 * nodes beside it begin on the multiprocessors that are left. */
static int grid_of(const struct linear_args *a, const struct linear_dev *d)
{
    const int blocks = a->sms < a->w.tiles ? a->sms : a->w.tiles;
    const bool few = a->rows_max <= 8, adapters = d->table != NULL;
    /* Measured: of few rows only what has a node beside it gains; of more, adapters lose. */
    const bool fewer = few ? adapters || a->leave > 0 : !adapters;
    if (!fewer)
        return blocks;
    int each = (a->w.tiles + blocks - 1) / blocks;
    const int room = a->sms - (a->leave < a->sms / 4 ? a->leave : a->sms / 4);
    const int wider = (a->w.tiles + room - 1) / room;
    each = wider == each + 1 ? wider : each;
    return (a->w.tiles + each - 1) / each;
}

template <int FORMAT>
static enum status launch_rows(struct linear_dev *d, int rows, int grid, bool dependent, bool small,
                               cudaStream_t s)
{
    if (small && rows <= 8)
        return launch_few_of<FORMAT, true>(d, grid, dependent, s);
    if (small)
        return launch_many<struct many_shape<FORMAT, 2, LINEAR_SMALL>>(d, grid, dependent, s);
    if (rows <= 8)
        return launch_few_of<FORMAT, false>(d, grid, dependent, s);
    if (rows <= 16)
        return launch_many<struct many_shape<FORMAT, 2, LINEAR_WHOLE>>(d, grid, dependent, s);
    if (rows <= 32 || !d->table)
        return launch_many<struct many_shape<FORMAT, 4, LINEAR_WHOLE>>(d, grid, dependent, s);
    return launch_many<struct many_shape<FORMAT, 4, LINEAR_ROOMY>>(d, grid, dependent, s);
}

static enum status launch_format(struct linear_dev *d, const struct linear_args *a, bool small,
                                 cudaStream_t s)
{
    const int grid = grid_of(a, d);
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
    if (d.table && d.fine) {
        enum status st =
            launch({dim3(a->sms), SHRINK_FEW_WARPS * 32, SHRINK_FEW_BYTES, a->dependent != 0}, s,
                   d.codes ? k_shrink_few<true> : k_shrink_few<false>, d);
        if (st != STATUS_OK)
            return st;
    }
    enum status st = launch_format(&d, a, a->small != 0, s);
    return st == STATUS_UNSUPPORTED && !a->small ? launch_format(&d, a, true, s) : st;
}

extern "C" int cuda_linear_arch(void)
{
    cudaFuncAttributes attr;
    const void *kernel = (const void *)k_linear_few<WEIGHT_INT4, false, LINEAR_NO_LORA>;
    return cudaFuncGetAttributes(&attr, kernel) == cudaSuccess ? attr.ptxVersion : 0;
}
