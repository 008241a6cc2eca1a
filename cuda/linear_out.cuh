/* linear_out: what becomes of a linear's sums: the rows' norm, the adapters' gains and the three
 * epilogues of k_linear.h, for every kernel that has them in tiles of 16 outputs. */
#ifndef CHORUS_CUDA_LINEAR_OUT_CUH
#define CHORUS_CUDA_LINEAR_OUT_CUH

#include "cuda/lora_device.cuh"

/* 1 / rms of the rows of a row block, four rows of a warp at a time, all loads of 192 tiles under
 * way at once. */
template <int NT>
PTX_INLINE void rms_rows(float *rinv, const struct linear_dev *p, int first, int rows,
                         const struct place *at)
{
    const int BATCH = NT == 1 ? 1 : NT == 2 ? 2 : 4, AHEAD = 6;
    if (!p->ss) {
        if (threadIdx.x < NT * 8)
            rinv[threadIdx.x] = 1;
        return;
    }
    for (int row = at->warp; row < rows; row += LINEAR_WARPS * BATCH) {
        const float *ss[BATCH];
        float v[BATCH];
#pragma unroll
        for (int b = 0; b < BATCH; b++) {
            int from = first + min(row + b * LINEAR_WARPS, rows - 1);
            ss[b] = p->ss + (size_t)(p->x_row ? p->x_row[from] : from) * p->ss_tiles;
            v[b] = 0;
        }
        for (int i = at->lane; i < p->ss_tiles; i += 32 * AHEAD) {
            float next[AHEAD][BATCH];
#pragma unroll
            for (int j = 0; j < AHEAD; j++)
#pragma unroll
                for (int b = 0; b < BATCH; b++)
                    next[j][b] = i + j * 32 < p->ss_tiles ? ptx_load_l2_f32(ss[b] + i + j * 32) : 0;
#pragma unroll
            for (int j = 0; j < AHEAD; j++)
#pragma unroll
                for (int b = 0; b < BATCH; b++)
                    v[b] = __fadd_rn(v[b], next[j][b]);
        }
#pragma unroll
        for (int b = 0; b < BATCH; b++) {
#pragma unroll
            for (int d = 16; d; d /= 2)
                v[b] = __fadd_rn(v[b], __shfl_xor_sync(~0u, v[b], d));
            if (at->lane == 0 && row + b * LINEAR_WARPS < rows)
                rinv[row + b * LINEAR_WARPS] = rsqrtf(__fmaf_rn(v[b], p->k_inverse, p->eps));
        }
    }
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

/* The same for at most 8 rows, a row a warp, in two parts: the loads are under way while the block
 * multiplies. Sums as in rms_rows. */
struct rms_ahead {
    static constexpr int room = 8;
    float v[room];
};

PTX_INLINE void rms_ask(struct rms_ahead *a, const struct linear_dev *p, int rows,
                        const struct place *at)
{
    const bool on = p->ss && at->warp < rows;
    const float *ss = p->ss;
    if (on)
        ss += (size_t)(p->x_row ? p->x_row[at->warp] : at->warp) * p->ss_tiles;
#pragma unroll
    for (int i = 0; i < rms_ahead::room; i++) {
        a->v[i] = 0;
        if (on && i * 32 + at->lane < p->ss_tiles)
            a->v[i] = ptx_load_l2_f32(ss + i * 32 + at->lane);
    }
}

PTX_INLINE void rms_finish(float *rinv, const struct rms_ahead *a, const struct linear_dev *p,
                           int rows, const struct place *at)
{
    if (!p->ss) {
        if (threadIdx.x < 8)
            rinv[threadIdx.x] = 1;
        return;
    }
    if (at->warp >= rows)
        return;
    const float *ss = p->ss + (size_t)(p->x_row ? p->x_row[at->warp] : at->warp) * p->ss_tiles;
    float v = 0;
#pragma unroll
    for (int i = 0; i < rms_ahead::room; i++)
        v = __fadd_rn(v, a->v[i]);
    for (int i = rms_ahead::room * 32 + at->lane; i < p->ss_tiles; i += 32)
        v = __fadd_rn(v, ptx_load_l2_f32(ss + i));
#pragma unroll
    for (int d = 16; d; d /= 2)
        v = __fadd_rn(v, __shfl_xor_sync(~0u, v, d));
    if (at->lane == 0)
        rinv[at->warp] = rsqrtf(__fmaf_rn(v, p->k_inverse, p->eps));
}

/* The same through shared memory, [row][ROOM] floats: adapters of codes need the registers. */
template <int ROOM>
PTX_INLINE void rms_copy(float *room, const struct linear_dev *p, int rows, const struct place *at)
{
    if (!p->ss || at->warp >= rows || p->ss_tiles % 4)
        return;
    const float *ss = p->ss + (size_t)(p->x_row ? p->x_row[at->warp] : at->warp) * p->ss_tiles;
    for (int i = at->lane * 4; i < min(ROOM, p->ss_tiles); i += 128)
        ptx_cp_async16(room + at->warp * ROOM + i, ss + i);
}

template <int ROOM>
PTX_INLINE void rms_copied(float *rinv, const float *room, const struct linear_dev *p, int rows,
                           const struct place *at)
{
    if (!p->ss || p->ss_tiles % 4) {
        rms_rows<1>(rinv, p, 0, rows, at);
        return;
    }
    if (at->warp >= rows)
        return;
    ptx_cp_async_commit(); /* a warp without groups has copied nothing behind them */
    ptx_cp_async_wait<0>();
    __syncwarp(); /* all lanes' copies */
    const float *ss = p->ss + (size_t)(p->x_row ? p->x_row[at->warp] : at->warp) * p->ss_tiles;
    float v = 0;
    for (int i = at->lane; i < p->ss_tiles; i += 32)
        v = __fadd_rn(v, i < ROOM ? room[at->warp * ROOM + i] : ptx_load_l2_f32(ss + i));
#pragma unroll
    for (int d = 16; d; d /= 2)
        v = __fadd_rn(v, __shfl_xor_sync(~0u, v, d));
    if (at->lane == 0)
        rinv[at->warp] = rsqrtf(__fmaf_rn(v, p->k_inverse, p->eps));
}

/* What the epilogue of RESIDUAL reads for outputs (t, n) and (t, n + 8). */
struct residual_ahead {
    bool here; /* else it is read where it is used */
    float y[2], norm[2];
};

PTX_INLINE void residual_load(struct residual_ahead *a, const struct linear_dev *p, int n, int t,
                              bool on)
{
    a->here = true;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        bool there = on && n + 8 * i < p->n;
        a->y[i] = there ? ptx_load_l2_f32(p->y + (size_t)t * p->y_stride + n + 8 * i) : 0;
        a->norm[i] = there ? ptx_load_l2_f32(p->norm + n + 8 * i) : 0;
    }
}

/* The epilogue of outputs (t, n0) and (t, n0 + 8) of a tile. Called by whole warps: lane / 4 is the
 * row r of the tile, so RESIDUAL can add the tile's squares up. */
PTX_INLINE void finish(const struct linear_dev *p, int tile, int r, int t, bool on, float lo,
                       float hi, struct residual_ahead ahead)
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
    if (!ahead.here)
        residual_load(&ahead, p, n, t, on);
    lo = low ? __fadd_rn(ahead.y[0], lo) : 0;
    hi = high ? __fadd_rn(ahead.y[1], hi) : 0;
    bf16 *xn = p->xn + (size_t)t * p->xn_stride + n;
    if (low) {
        y[0] = lo;
        xn[0] = __float2bfloat16(lo * ahead.norm[0]);
    }
    if (high) {
        y[8] = hi;
        xn[8] = __float2bfloat16(hi * ahead.norm[1]);
    }
    float ss = __fmaf_rn(lo, lo, __fmul_rn(hi, hi));
#pragma unroll
    for (int d = 4; d < 32; d *= 2)
        ss = __fadd_rn(ss, __shfl_xor_sync(~0u, ss, d));
    if (r == 0 && on)
        p->ss_out[(size_t)t * p->tiles + tile] = ss;
}

#endif
