/* k_linear: see k_linear.h for the formula.
 *
 * Shapes: W [N, K] in tiles of layout.h, x [T, PAD_K(K)] bf16, outputs as
 * linear_args. T <= 8, 16, 32 rows by the bucket; more are worked off in row
 * blocks of 32, one after the other.
 *
 * Grid: min(SMs, tiles) blocks of 256 threads; block b has tiles [tiles b /
 * grid, tiles (b + 1) / grid) with all of K. Its warps are ranges of K by pairs
 * of tiles (linear_dev.cuh).
 *
 * A block asks its weights into L2 and the first of them into registers, counts
 * the adapters' units and begins its first; waits for the node in front;
 * fetches x; does its shrink units (lora_device.cuh); multiplies
 * (linear_tile.cuh), a pass being the pairs of all warps; adds the warps' sums
 * up; waits for all shrink units of the grid; expands; writes.
 *
 * Shared memory, at most 99 KB: x of a window of groups for all slices (two
 * windows where K does not fit), sums [tile][slot][row], centre sums of x,
 * block_state.
 *
 * Bytes: W and the adapters' A and B once, x once a block and pass. 2 T N K
 * flops.
 *
 * Order of sums: 8 slices of K; in a slice groups ascending, in a group k16
 * steps ascending; slices as a fixed tree; pieces in order of their rounds. No
 * sum depends on T, the bucket or the company.
 *
 * All blocks must be resident together: they wait for each other's shrink
 * units. Registers are bounded so that two nodes fit on an SM; what spills is
 * state outside of the loops over groups of one row tile, with four row tiles
 * also some of that inside.
 *
 * Tests: tests/kernels/test_linear.c; bench: tests/gpu/linear_bench.c.
 */
#include "cuda/k_linear.h"

#include "cuda/launch.cuh"
#include "cuda/linear_tile.cuh"
#include "cuda/lora_expand.cuh"

/* Rows that a group of x takes in shared memory; one row tile: only those that
 * are there. */
template <int NT> PTX_INLINE int x_rows(int rows)
{
    return NT == 1 ? rows : NT * 8;
}

/* Groups of centre sums that fit beside x. */
#define SUM_BYTES(nt)  ((nt) == 1 ? 2048 : 1024)
#define SUM_GROUPS(nt) (SUM_BYTES(nt) / ((nt)*32))

#define X_BYTES_MAX 65536

/* A block's share of its weights in L2 ahead of their use. Without a dependent
 * launch there is nothing to bridge, and such cards may have as little as 6 MB
 * of L2. */
#define AHEAD_BYTES       (256u << 10)
#define AHEAD_BYTES_ALONE (32u << 10)

/* How x passes through shared memory. */
struct x_plan {
    int window;  /* groups of a warp's range at once */
    int windows; /* windows of the range */
    int stage_bytes;
    int rows; /* rows of a group */
};

template <int NT>
PTX_INLINE struct x_plan x_plan_make(const struct linear_dev *p, int rows, int blocks)
{
    struct x_plan x;
    x.rows = x_rows<NT>(rows);
    int range = (p->groups + p->slice_warps - 1) / p->slice_warps;
    int group = p->slice_warps * x.rows * 256;
    int whole = min(p->x_bytes / group, SUM_GROUPS(NT) / p->slice_warps);
    x.stage_bytes = p->x_bytes;
    x.window = range;
    x.windows = 1;
    if (range > whole || blocks > 1) {
        x.stage_bytes = p->x_bytes / 2;
        x.window = min(range, min(x.stage_bytes / group, SUM_GROUPS(NT) / p->slice_warps));
        x.windows = (range + x.window - 1) / x.window;
    }
    return x;
}

/* First group of the range of slice warp i. */
PTX_INLINE int range_begin(const struct linear_dev *p, int i)
{
    return slice_begin(p->groups, i * (LINEAR_SLICES / p->slice_warps));
}

/* Place of a slice warp's first group in a stage: resident x lies in the order
 * of the groups. */
PTX_INLINE int x_slot(const struct linear_dev *p, const struct x_plan *x, int slice_warp)
{
    return x->windows == 1 ? range_begin(p, slice_warp) : slice_warp * x->window;
}

/* Asks for `groups` groups of rows [first, first + rows): [group][row]. */
PTX_INLINE void x_copy(uint8_t *to, const struct linear_dev *p, int row_bytes, int group,
                       int groups, int first, int rows)
{
    const int shift = 32 - __clz(rows - 1); /* rows up to a power of two: no division */
    const int c = threadIdx.x % 16;
    for (int i = threadIdx.x / 16; i < groups << shift; i += LINEAR_THREADS / 16) {
        int row = i & ((1 << shift) - 1), g = i >> shift;
        if (row >= rows)
            continue;
        int from = p->x_row ? p->x_row[first + row] : first + row;
        ptx_cp_async16(to + g * row_bytes + x_block(row, c / 4) + c % 4 * 16,
                       p->x + ((size_t)from * p->x_stride + (group + g) * TILE_K) * 2 + c * 16);
    }
}

/* Asks for window `v` of those rows, for all slice warps. */
PTX_INLINE void x_fetch(uint8_t *to, const struct linear_dev *p, const struct x_plan *x, int v,
                        int first, int rows)
{
    if (x->windows == 1)
        x_copy(to, p, x->rows * 256, 0, p->groups, first, rows);
    for (int i = 0; i < p->slice_warps && x->windows > 1; i++) {
        int group = range_begin(p, i) + v * x->window;
        x_copy(to + i * x->window * x->rows * 256, p, x->rows * 256, group,
               min(x->window, range_begin(p, i + 1) - group), first, rows);
    }
    ptx_cp_async_commit();
}

/* sums[slot][row] = centre * sum of x over the group: the same instructions for
 * every row tile. Slots that hold no group give values that are not read. */
template <int FORMAT, int NT>
PTX_INLINE void x_sums(float *sums, const uint8_t *x_smem, const struct linear_dev *p,
                       const struct x_plan *x, int rows, const struct place *at)
{
    int total = (x->windows == 1 ? p->groups : p->slice_warps * x->window) * NT;
    for (int i = at->warp; i < total; i += LINEAR_WARPS) {
        int n = i % NT, slot = i / NT;
        int row = NT == 1 ? min(at->g, rows - 1) : n * 8 + at->g;
        const uint8_t *from = x_smem + slot * x->rows * 256 + at->t * 16;
        const uint32_t w = format_traits<FORMAT>::centre;
        float c[4] = {0, 0, 0, 0};
#pragma unroll
        for (int k = 0; k < 4; k++) {
            uint4 b = *(const uint4 *)(from + x_block(row, k));
            ptx_mma_bf16(c, w, w, w, w, b.x, b.y);
            ptx_mma_bf16(c, w, w, w, w, b.z, b.w);
        }
        if (at->g == 0) {
            float2 pair = {c[0], c[1]};
            *(float2 *)(sums + (slot * NT + n) * 8 + at->t * 2) = pair;
        }
    }
}

/* rinv[row] of a row block, a warp a row. */
PTX_INLINE void rms_rows(float *rinv, const struct linear_dev *p, int first, int rows,
                         const struct place *at)
{
    for (int row = at->warp; row < rows; row += LINEAR_WARPS) {
        float r = 1;
        if (p->ss) {
            int from = p->x_row ? p->x_row[first + row] : first + row;
            const float *ss = p->ss + (size_t)from * p->ss_tiles;
            float v = 0;
            for (int i = at->lane; i < p->ss_tiles; i += 32)
                v = __fadd_rn(v, __ldcg(ss + i));
#pragma unroll
            for (int d = 16; d; d /= 2)
                v = __fadd_rn(v, __shfl_xor_sync(~0u, v, d));
            r = rsqrtf(__fmaf_rn(v, p->k_inverse, p->eps));
        }
        if (at->lane == 0)
            rinv[row] = r;
    }
}

/* The eight slices' total of one element; slot: its place in slot 0. */
PTX_INLINE float slices_total(const float *slot, int slice_warps, int floats)
{
    float v[4];
    if (slice_warps == 2)
        return __fadd_rn(slot[0], slot[2 * floats]);
#pragma unroll
    for (int i = 0; i < 4; i++)
        v[i] = slice_warps == 4 ? slot[i * floats]
                                : __fadd_rn(slot[2 * i * floats], slot[(2 * i + 1) * floats]);
    return __fadd_rn(__fadd_rn(v[0], v[1]), __fadd_rn(v[2], v[3]));
}

/* 1 + sum of weight * gain over the pieces that hold the row. */
LINEAR_CALL float row_gain(const struct linear_dev *p, int count, int t, int n)
{
    float v = 1;
    for (int q = 0; q < count; q++) {
        struct lora_piece piece = p->pieces[q];
        if (t < piece.row || t >= piece.row + piece.rows)
            continue;
        const struct lora_stack *s = piece_stack(p, piece.slot);
        if (s->rank_tiles > 0 && s->gain)
            v = __fmaf_rn(piece.weight, s->gain[n], v);
    }
    return v;
}

/* What the epilogue of RESIDUAL reads for outputs (t, n) and (t, n + 8). */
struct residual_ahead {
    float y[2], norm[2];
};

PTX_INLINE void residual_load(struct residual_ahead *a, const struct linear_dev *p, int n, int t,
                              bool on)
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        bool there = on && n + 8 * i < p->n;
        a->y[i] = there ? __ldcg(p->y + (size_t)t * p->y_stride + n + 8 * i) : 0;
        a->norm[i] = there ? __ldg(p->norm + n + 8 * i) : 0;
    }
}

/* The epilogue of outputs (t, n0) and (t, n0 + 8) of a tile. Called by whole
 * warps: lane / 4 is the row r of the tile, so RESIDUAL can add the tile's
 * squares up. */
PTX_INLINE void finish(const struct linear_dev *p, int tile, int r, int t, bool on, float lo,
                       float hi, const struct residual_ahead *ahead)
{
    const int n = tile * TILE_N + r;
    if (p->bias && on) {
        lo += n < p->n ? p->bias[n] : 0;
        hi += n + 8 < p->n ? p->bias[n + 8] : 0;
    }
    if (p->out == LINEAR_SWIGLU) {
        if (on)
            p->h[(size_t)t * p->h_stride + tile * 8 + r] =
                __float2bfloat16(lo / (1.0f + __expf(-lo)) * hi);
        return;
    }
    float *y = p->y + (size_t)t * p->y_stride + n;
    const bool low = on && n < p->n, high = on && n + 8 < p->n;
    if (p->out == LINEAR_STORE) {
        if (low)
            y[0] = lo;
        if (high)
            y[8] = hi;
        return;
    }
    struct residual_ahead now;
    if (ahead)
        now = *ahead;
    else
        residual_load(&now, p, n, t, on);
    lo = low ? __fadd_rn(now.y[0], lo) : 0;
    hi = high ? __fadd_rn(now.y[1], hi) : 0;
    bf16 *xn = p->xn + (size_t)t * p->xn_stride + n;
    if (low) {
        y[0] = lo;
        xn[0] = __float2bfloat16(lo * now.norm[0]);
    }
    if (high) {
        y[8] = hi;
        xn[8] = __float2bfloat16(hi * now.norm[1]);
    }
    float ss = __fmaf_rn(lo, lo, __fmul_rn(hi, hi));
#pragma unroll
    for (int d = 4; d < 32; d *= 2)
        ss = __fadd_rn(ss, __shfl_xor_sync(~0u, ss, d));
    if (r == 0 && on)
        p->ss_out[(size_t)t * p->tiles + tile] = ss;
}

/* ---- the adapters' part of a block ---- */

/* In shared memory, the same for all warps. */
struct lora_state {
    int count; /* pieces */
    int units; /* of all pieces; 0: nothing to do */
    int fine;
    uint32_t target; /* of *done */
    int before[32];  /* fine: units before each piece */
};

/* Item of a warp: fine: slices of units, block by block; coarse: a unit a
 * block. -1: none left. */
PTX_INLINE int shrink_unit(const struct lora_state *l, int item, int *slice, const struct place *at)
{
    int i = l->fine ? (int)blockIdx.x + (int)gridDim.x * (at->warp + item * LINEAR_WARPS)
                    : (int)blockIdx.x + (int)gridDim.x * item;
    *slice = l->fine ? i % LINEAR_SLICES : at->warp;
    i = l->fine ? i / LINEAR_SLICES : i;
    return i < l->units ? i : -1;
}

PTX_INLINE void shrink_done(uint32_t *done)
{
    __threadfence();
    ptx_store_release(done, 1);
}

/* All of this block's shrink work; `w` and `loaded` hold the first item, begun.
 */
PTX_INLINE void shrink_all(float *red, const struct linear_dev *p, const struct lora_state *l,
                           struct unit_scan *scan, struct shrink_work w,
                           struct shrink_half loaded[2], const struct place *at)
{
    int slice, unit = shrink_unit(l, 0, &slice, at);
    for (int item = 1; unit >= 0; item++) {
        float c[4];
        shrink_slice(c, &w, loaded);
        struct shrink_work done = w;
        unit = shrink_unit(l, item, &slice, at);
        if (unit >= 0) {
            w = shrink_find(scan, p, l->count, unit, slice, at);
            shrink_begin(&w, loaded);
        }
        if (l->fine) {
            shrink_put((float *)(p->u + (size_t)done.unit * 4096 + done.slice * 512), c, at);
            __syncwarp();
            if (at->lane == 0)
                shrink_done(p->done);
            continue;
        }
        shrink_put(red + at->warp * 128, c, at);
        __syncthreads(); /* the slices' sums, before they are added */
        if (threadIdx.x < 64) {
            float v[2] = {0, 0};
#pragma unroll
            for (int i = 0; i < LINEAR_SLICES; i++) {
                v[0] = __fadd_rn(v[0], red[i * 128 + threadIdx.x * 2]);
                v[1] = __fadd_rn(v[1], red[i * 128 + threadIdx.x * 2 + 1]);
            }
            *(uint32_t *)(p->u + ((size_t)done.piece * RANK_TILES_MAX + done.rank_tile) * 256 +
                          threadIdx.x * 4) = pack_bf16(v[0], v[1]);
        }
        __syncthreads(); /* u before `done`, and the sums before the next unit's */
        if (threadIdx.x == 0)
            shrink_done(p->done);
    }
}

/* Adds all pieces to the sums in slot 1 of the pass's tiles. Rows [first, first
 * + rows). */
PTX_INLINE void expand_all(float *red, int tile_floats, const struct linear_dev *p,
                           const struct lora_state *l, int tile, int tiles, int first, int rows,
                           const struct place *at)
{
    int begin = 0;
    for (int round = 0; round < LORA_ROUNDS; round++) {
        int end = p->head->pieces[p->view].round_end[round];
        if (end <= begin)
            continue;
        for (int k = 0, next; k < tiles; k = next) { /* tiles of one module */
            int module = 0;
            next = tiles;
            if (p->out != LINEAR_SWIGLU) {
                while (module + 1 < STACK_MODULES && tile + k >= p->module_tile[module + 1])
                    module++;
                if (module + 1 < STACK_MODULES)
                    next = min(tiles, p->module_tile[module + 1] - tile);
            }
            for (int q = begin; q < end; q += 32) {
                struct expand_piece mine = expand_find(p, q + at->lane, end, module, first, rows);
                struct expand_field f = {q, min(32, end - q), next - k,
                                         tile + k - p->module_tile[module], l->fine != 0};
                expand_batch(red + k * tile_floats, tile_floats, &mine, &f, p, l->before, rows, at);
            }
        }
        begin = end;
        __syncthreads(); /* a round's sums before the next round adds to them, or
                            all are read */
    }
}

PTX_INLINE void wait_done(const struct linear_dev *p, uint32_t target)
{
    if (threadIdx.x == 0)
        while (ptx_load_acquire_u32(p->done) < target) {
        }
}

/* What an item of the epilogue is: outputs r and r + 8 of tile k of the pass,
 * row t. */
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
PTX_INLINE float2 item_total(const float *red, const struct item *e, const struct linear_dev *p,
                             int floats)
{
    float2 v = {slices_total(red + e->at, p->slice_warps, floats),
                slices_total(red + e->at + 64, p->slice_warps, floats)};
    if (p->row_scale) {
        v.x *= __ldg(p->row_scale + e->n);
        v.y *= __ldg(p->row_scale + e->n + 8);
    }
    return v;
}

/* Totals with all adapters, left in slot 0: base * (1 + gains) + expands. */
template <int NT>
LINEAR_CALL void lora_totals(float *red, const struct linear_dev *p, const struct lora_state *l,
                             int tile, int tiles, int first, int rows)
{
    const struct place at = place_here();
    const int floats = NT * 128, tile_floats = slot_count(p->slice_warps) * floats;
    const int items = tiles * NT * 64;
    for (int i = threadIdx.x; i < items; i += LINEAR_THREADS) {
        struct item e = item_of<NT>(i, tile, tile_floats);
        float2 v = item_total(red, &e, p, floats);
        red[e.at] = v.x;
        red[e.at + 64] = v.y;
        red[e.at + floats] = red[e.at + floats + 64] = 0;
    }
    wait_done(p, l->target);
    __syncthreads(); /* the totals and zeros above; others' u behind the counter
                      */
    expand_all(red + floats, tile_floats, p, l, tile, tiles, first, rows, &at);
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

/* All tiles of a pass, all rows of a row block: totals, adapters, epilogue.
 * ahead: NULL or of the pass's first item. */
template <int NT>
PTX_INLINE void pass_end(float *red, const float *rinv, const struct linear_dev *p, bool lora,
                         const struct residual_ahead *ahead, int tile, int tiles, int first,
                         int rows)
{
    const int floats = NT * 128, tile_floats = slot_count(p->slice_warps) * floats;
    const int items = tiles * NT * 64;
    for (int i = threadIdx.x; i < items; i += LINEAR_THREADS) {
        struct item e = item_of<NT>(i, tile, tile_floats);
        float2 v = {red[e.at], red[e.at + 64]};
        if (!lora)
            v = item_total(red, &e, p, floats);
        bool on = e.t < rows;
        float scale = on ? rinv[e.t] : 0;
        finish(p, tile + e.k, e.r, first + e.t, on, v.x * scale, v.y * scale,
               i < LINEAR_THREADS ? ahead : NULL);
    }
    __syncthreads(); /* the sums were read, the next pass may write them */
}

/* A pair's groups of one window. */
template <int FORMAT, int NT, int BUFFERS>
PTX_INLINE void window_run(float acc[PAIR][NT][4], struct chunk<FORMAT> *buffers, int *buffer,
                           struct weight_cursor *cur, const struct linear_dev *p,
                           const struct weight_route *route, int group, int group_end,
                           int slice_first, int *slice, float *slot, int tile_floats,
                           const uint8_t *x_even, const uint8_t *x_odd, int x_step,
                           const float *sums, const struct place *at)
{
    const int slices = LINEAR_SLICES / p->slice_warps;
    int end = slice_begin(p->groups, slice_first + *slice + 1);
    while (group < group_end) {
        const uint8_t *const x[2] = {x_even, x_odd};
        if (BUFFERS == 2 && FORMAT == WEIGHT_INT4 && *buffer) {
            group_step<FORMAT, NT, BUFFERS>(acc, buffers, 1, cur, p, route, x, sums, at);
            *buffer = 0;
        } else {
            group_step<FORMAT, NT, BUFFERS>(acc, buffers, 0, cur, p, route, x, sums, at);
            *buffer = 1;
        }
        x_even += x_step;
        x_odd += x_step;
        sums += NT * 8;
        group++;
        while (group == end && *slice < slices) {
            slice_end<NT>(acc, slot, tile_floats, (*slice)++);
            end = slice_begin(p->groups, slice_first + *slice + 1);
        }
    }
}

/* Behind the wait: asks for the first window of x, and 1 / rms of its rows. */
template <int NT>
PTX_INLINE void block_begin(uint8_t *smem, float *rinv, const struct linear_dev *p,
                            const struct x_plan *x, int rows_all, int blocks,
                            const struct place *at)
{
    x_fetch(smem, p, x, 0, 0, min(rows_all, NT * 8));
    if (blocks == 1)
        rms_rows(rinv, p, 0, rows_all, at);
}

/* The same for a step with adapters, with all that comes before the base
 * product: counts the units, begins this warp's first, waits, fetches, shrinks.
 */
template <int NT>
LINEAR_CALL void lora_begin(uint8_t *smem, float *rinv, float *red, struct lora_state *l,
                            const struct linear_dev *p, struct x_plan x, int rows_all, int blocks)
{
    const struct place at = place_here();
    struct unit_scan scan;
    struct shrink_work w;
    struct shrink_half loaded[2];
    const int count = p->head->pieces[p->view].count;
    const int units = scan_init(&scan, p, count, at.lane);
    if (at.warp == 0) {
        l->count = count;
        l->units = units;
        l->fine = units <= FINE_UNITS && count <= 32;
        l->target = units * (l->fine ? LINEAR_SLICES : 1);
        int left = __shfl_up_sync(~0u, scan.incl, 1);
        l->before[at.lane] = at.lane ? left : 0;
    }
    __syncthreads(); /* the state, before all read it */
    int slice, unit = shrink_unit(l, 0, &slice, &at);
    if (unit >= 0) {
        w = shrink_find(&scan, p, count, unit, slice, &at);
        shrink_begin(&w, loaded);
        shrink_prefetch(&w, at.lane);
    }
    ptx_pdl_wait();
    if (rows_all == 0)
        return;
    block_begin<NT>(smem, rinv, p, &x, rows_all, blocks, &at);
    if (unit >= 0)
        shrink_all(red, p, l, &scan, w, loaded, &at);
}

/* What a block keeps beside its large arrays. */
template <int NT> struct block_state {
    float rinv[NT * 8];
    struct x_plan x;
    struct lora_state lora;
    struct residual_ahead ahead[NT == 1 ? LINEAR_THREADS : 1]; /* of the first pass */
};

/* The kernel of steps with adapters and of those without: two bodies, so that
 * the latter's loops have all registers. */
template <int FORMAT, int NT, bool LORA>
PTX_INLINE void linear_body(uint8_t *smem, const struct linear_dev &p, const int rows_all)
{
    const int BUFFERS = NT == 4 || LORA ? 1 : 2; /* chunks ahead: registers decide */
    const struct place at = place_here();
    float *red = (float *)(smem + p.x_bytes);
    float *sums = (float *)(smem + p.x_bytes + p.red_bytes);
    struct block_state<NT> *state =
        (struct block_state<NT> *)(smem + p.x_bytes + p.red_bytes + SUM_BYTES(NT));

    const int tile0 = (int)((int64_t)p.tiles * blockIdx.x / gridDim.x);
    const int tile_end = (int)((int64_t)p.tiles * (blockIdx.x + 1) / gridDim.x);
    const int slice_warp = at.warp % p.slice_warps, pair = at.warp / p.slice_warps;
    const int pass_tiles = LINEAR_WARPS / p.slice_warps * PAIR;
    const int slices = LINEAR_SLICES / p.slice_warps, slice_first = slice_warp * slices;
    const int blocks = (rows_all + NT * 8 - 1) / (NT * 8);

    /* Weights do not depend on the node in front: the first chunks now, the
     * others into L2. */
    const int range = range_begin(&p, slice_warp), range_end = range_begin(&p, slice_warp + 1);
    const struct weight_route route = {range, range_end - range, tile_end, pass_tiles, blocks,
                                       LORA};
    struct weight_cursor cur;
    struct chunk<FORMAT> buffers[BUFFERS];
    cur.tile = tile0 + pair * PAIR;
    cur.blocks_left = blocks;
    cursor_run<FORMAT>(&cur, &p, &route);
    {
        const size_t tile_size = (size_t)p.groups * format_traits<FORMAT>::tile_bytes;
        const size_t own = min((tile_end - tile0) * tile_size, (size_t)p.ahead);
        for (size_t i = threadIdx.x * 128; i < own; i += LINEAR_THREADS * 128)
            ptx_prefetch_l2(p.w + tile0 * tile_size + i);
    }
    const struct x_plan xp = x_plan_make<NT>(&p, max(1, min(rows_all, NT * 8)), blocks);
    const bool resident = xp.windows == 1 && blocks == 1;
    if (LORA) { /* the first weights wait in L2 until the shrink is done */
        lora_begin<NT>(smem, state->rinv, red, &state->lora, &p, xp, rows_all, blocks);
        if (rows_all == 0)
            return;
    } else {
        buffers_fill<FORMAT, BUFFERS>(buffers, &cur, &p, &route, &at);
        ptx_pdl_wait();
        if (rows_all == 0)
            return;
        block_begin<NT>(smem, state->rinv, &p, &xp, rows_all, blocks, &at);
    }
    const bool early = NT == 1 && p.out == LINEAR_RESIDUAL;
    if (early) {
        struct item e = item_of<NT>(threadIdx.x, tile0, 0);
        residual_load(&state->ahead[threadIdx.x], &p, e.n, e.t,
                      e.t < rows_all && tile0 + e.k < tile_end);
    }
    if (LORA)
        buffers_fill<FORMAT, BUFFERS>(buffers, &cur, &p, &route, &at);

    int buffer = 0, stage = 0;
    bool fresh = true;
    const int floats = NT * 128, slots = slot_count(p.slice_warps), tile_floats = slots * floats;
    float *slot =
        red + pair * PAIR * tile_floats + slice_warp * (slots / p.slice_warps) * floats + at.lane;
    for (int tile = tile0; tile < tile_end; tile += pass_tiles) {
        const bool mine = tile + pair * PAIR < tile_end;
        for (int block = 0; block < blocks; block++) {
            const int first = block * NT * 8, rows = min(rows_all - first, NT * 8);
            if (blocks > 1)
                rms_rows(state->rinv, &p, first, rows, &at);
            float acc[PAIR][NT][4];
#pragma unroll
            for (int i = 0; i < PAIR * NT * 4; i++)
                acc[i / (NT * 4)][i / 4 % NT][i % 4] = 0;
            int slice = 0;
            while (mine && slice < slices &&
                   slice_begin(p.groups, slice_first + slice + 1) == range)
                slice_end<NT>(acc, slot, tile_floats, slice++);
            for (int v = 0; v < xp.windows; v++) {
                if (fresh) {
                    ptx_cp_async_wait<0>();
                    __syncthreads(); /* x of this window; the other stage is read no more
                                      */
                    bool more = v + 1 < xp.windows;
                    int next_first = more ? first : block + 1 < blocks ? first + NT * 8 : 0;
                    if (!resident && (more || block + 1 < blocks || tile + pass_tiles < tile_end))
                        x_fetch(smem + (stage ^ 1) * xp.stage_bytes, &p, &xp, more ? v + 1 : 0,
                                next_first, min(rows_all - next_first, NT * 8));
                    if (FORMAT != WEIGHT_BF16) {
                        x_sums<FORMAT, NT>(sums, smem + stage * xp.stage_bytes, &p, &xp, rows, &at);
                        __syncthreads(); /* the sums, before all warps read them */
                    }
                    fresh = !resident;
                }
                const int begin = range + v * xp.window;
                const int row = NT == 1 ? min(at.g, rows - 1) : at.g;
                const int x_at = x_slot(&p, &xp, slice_warp);
                const uint8_t *x = smem + stage * xp.stage_bytes + x_at * xp.rows * 256 + at.t * 16;
                if (mine)
                    window_run<FORMAT, NT, BUFFERS>(acc, buffers, &buffer, &cur, &p, &route, begin,
                                                    min(begin + xp.window, range_end), slice_first,
                                                    &slice, slot, tile_floats, x + x_block(row, 0),
                                                    x + x_block(row, 1), xp.rows * 256,
                                                    sums + x_at * NT * 8 + at.t * 2, &at);
                if (!resident)
                    stage ^= 1;
            }
            const int tiles = min(pass_tiles, tile_end - tile);
            __syncthreads(); /* the warps' sums, before others add them up */
            if (LORA) {
                lora_totals<NT>(red, &p, &state->lora, tile, tiles, first, rows);
                cursor_resume<FORMAT>(&cur, &p, &route);
                buffers_fill<FORMAT, BUFFERS>(buffers, &cur, &p, &route, &at);
                buffer = 0;
            }
            pass_end<NT>(red, state->rinv, &p, LORA,
                         early && tile == tile0 ? &state->ahead[threadIdx.x] : NULL, tile, tiles,
                         first, rows);
        }
    }
}

template <int FORMAT, int NT>
__global__ __launch_bounds__(LINEAR_THREADS,
                             NT == 4 ? 1
                                     : 2) void k_linear(const __grid_constant__ struct linear_dev p)
{
    ptx_pdl_trigger();
    DYN_SMEM(smem);
    const int rows_all = p.head->rows[p.view];
    if (p.table && p.head->pieces[p.view].count > 0)
        linear_body<FORMAT, NT, true>(smem, p, rows_all);
    else
        linear_body<FORMAT, NT, false>(smem, p, rows_all);
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
    if (!aligned16(a->w.data) || !aligned16(a->x) || (a->table && (!aligned16(a->u) || !a->done)))
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
    d->table = a->table;
    d->table_stride = a->table_stride;
    d->stack = a->stack;
    for (int m = 0; m < STACK_MODULES; m++)
        d->module_tile[m] = a->module_tile[m];
    d->u = (uint8_t *)a->u;
    d->done = a->done;
}

/* How warps share the work, and what that takes of shared memory. More tiles a
 * block: fewer ranges of K, so that x passes through shared memory once. */
static void dev_shape(struct linear_dev *d, int nt, int tiles_block, bool one_block)
{
    d->slice_warps = nt == 4 || (tiles_block > 2 && tiles_block <= 4) ? 4
                     : tiles_block <= 2                               ? 8
                                                                      : 2;
    int pass_tiles = LINEAR_WARPS / d->slice_warps * PAIR;
    int slots = d->slice_warps == 8 ? 8 : 4;
    d->red_bytes = pass_tiles * slots * nt * 512;
    int range = (d->groups + d->slice_warps - 1) / d->slice_warps;
    int whole = range * d->slice_warps * nt * 2048 * (one_block ? 1 : 2);
    d->x_bytes = whole < X_BYTES_MAX ? whole : X_BYTES_MAX;
}

template <int FORMAT>
static enum status launch_rows(const struct linear_dev *d, int nt, const struct launch_shape *shape,
                               cudaStream_t s)
{
    switch (nt) {
    case 1:
        return launch(*shape, s, k_linear<FORMAT, 1>, *d);
    case 2:
        return launch(*shape, s, k_linear<FORMAT, 2>, *d);
    default:
        return launch(*shape, s, k_linear<FORMAT, 4>, *d);
    }
}

static size_t state_bytes(int nt)
{
    return nt == 1   ? sizeof(struct block_state<1>)
           : nt == 2 ? sizeof(struct block_state<2>)
                     : sizeof(struct block_state<4>);
}

extern "C" enum status cuda_linear(const struct linear_args *a, cudaStream_t s)
{
    if (!args_good(a))
        return STATUS_INVALID;
    const int nt = a->rows_max <= 8 ? 1 : a->rows_max <= 16 ? 2 : 4;
    const int grid = a->sms < a->w.tiles ? a->sms : a->w.tiles;
    struct linear_dev d = {};
    dev_fill(&d, a);
    dev_shape(&d, nt, (a->w.tiles + grid - 1) / grid, a->rows_max <= nt * 8);
    d.ahead = a->dependent ? AHEAD_BYTES : AHEAD_BYTES_ALONE;
    const size_t smem = (size_t)d.x_bytes + d.red_bytes + SUM_BYTES(nt) + state_bytes(nt);
    const struct launch_shape shape = {dim3(grid), LINEAR_THREADS, smem, a->dependent != 0};
    switch (a->w.format) {
    case WEIGHT_INT4:
        return launch_rows<WEIGHT_INT4>(&d, nt, &shape, s);
    case WEIGHT_INT8:
        return launch_rows<WEIGHT_INT8>(&d, nt, &shape, s);
    default:
        return launch_rows<WEIGHT_BF16>(&d, nt, &shape, s);
    }
}
