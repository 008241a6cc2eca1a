/* linear_few: the base product of k_linear for at most 8 rows.
 *
 * A warp has x of a window of groups in registers and a ring of weights in shared memory, filled
 * through cp.async: a stage is the window's groups of one tile, contiguous in memory. A chain of
 * products for each group of the window. Sums lie in shared memory between windows.
 */
#ifndef CHORUS_CUDA_LINEAR_FEW_CUH
#define CHORUS_CUDA_LINEAR_FEW_CUH

#include "cuda/linear_tile.cuh"

/* SMALL: for cards with 99 KB of shared memory a block. LORA: with room for k_shrink_few beside it
 * on its multiprocessor. */
template <int FORMAT, bool SMALL, bool LORA> struct few_shape {
    static constexpr int format = FORMAT;
    static constexpr int tile_bytes = format_traits<FORMAT>::tile_bytes;
    static constexpr bool tight = SMALL && LORA;
    static constexpr int window = FORMAT == WEIGHT_INT4             ? 3
                                  : FORMAT == WEIGHT_INT8 && !tight ? (SMALL || LORA ? 2 : 3)
                                                                    : 1;
    static constexpr int second = window < 2 ? window : 2; /* groups of a window cut short */
    static constexpr int stages = SMALL ? 2 : LORA || FORMAT == WEIGHT_INT8 ? 3 : 4;
    static constexpr int stage_bytes = window * tile_bytes;
    static constexpr int ring_bytes = LINEAR_WARPS * stages * stage_bytes;
    static constexpr int pass_tiles = FORMAT == WEIGHT_INT4 && !SMALL  ? 8
                                      : FORMAT == WEIGHT_BF16 && tight ? 2
                                                                       : 4;
    static constexpr int expand_frags = SMALL ? 4 : 8; /* rank tiles of B under way a warp */
    static constexpr int expand_bytes = LINEAR_WARPS * expand_frags * 512;
    static constexpr int table = 32;
    static constexpr int u_room = !SMALL ? 8 << 10 : 4 << 10;
    static_assert(u_room >= FINE_UNITS * 8 * 32, "u in the form for few units has room");
    static constexpr int park_bytes = 176; /* of a warp, see feed_park */
    static constexpr int lora_bytes =
        table * PIECE_BYTES + u_room + expand_bytes + LINEAR_WARPS * park_bytes;
    /* Of codes: chunks take half as much, and what else is kept while the block multiplies. */
    static constexpr int codes_frags = SMALL ? 4 : 6;
    static constexpr int codes_expand = LINEAR_WARPS * codes_frags * 512;
    static constexpr int rms_tiles = !SMALL ? 256 : FORMAT == WEIGHT_BF16 ? 64 : 192;
    static constexpr int codes_rms = 8 * rms_tiles * 4;
    static constexpr int codes_bytes =
        table * PIECE_BYTES + u_room + codes_expand + codes_rms + LINEAR_WARPS * park_bytes;
    /* A partition of an SM has 512 registers a lane: two warps of LORA's and one of k_shrink_few's
     * 96 are what it holds. */
    static constexpr int registers = LORA ? 208 : 255;
};

/* c += the products of one lane's words of two k16 steps (one 32-column block) with x. */
template <int PLANE>
PTX_INLINE void block_mma(float c[4], uint32_t even, uint32_t odd, const uint4 x)
{
    uint32_t f[4];
    nibbles(f, even, PLANE ? MAGIC_2048 : MAGIC_128);
    ptx_mma_bf16(c, f[0], f[1], f[2], f[3], x.x, x.y);
    nibbles(f, odd, PLANE ? MAGIC_2048 : MAGIC_128);
    ptx_mma_bf16(c, f[0], f[1], f[2], f[3], x.z, x.w);
}

/* The warp's part of the block's work. */
struct few_range {
    int tile_end, pass_tiles;
    int group, group_end;
    size_t tile_step; /* bytes from a tile of W to the next */
};

/* What a warp fetches next: passes over tiles, in a pass windows, in a window tiles. */
struct few_cursor {
    int pass, tile, window; /* first tile of the pass, tile, first group of the window */
    const uint8_t *from;    /* this lane's bytes there */
    uint8_t *to, *to_end;   /* this lane's bytes of the next stage, and behind the last */
};

template <int FORMAT>
PTX_INLINE const uint8_t *few_from(const struct few_cursor *c, const struct linear_dev *p, int lane)
{
    return p->w + ((size_t)c->tile * p->groups + c->window) * format_traits<FORMAT>::tile_bytes +
           lane * 16;
}

template <class S>
PTX_INLINE struct few_cursor few_begin(uint8_t *ring, const struct linear_dev *p,
                                       const struct few_range *r, int tile, int lane)
{
    struct few_cursor c = {tile,
                           tile,
                           r->group,
                           NULL,
                           ring + lane * 16,
                           ring + lane * 16 + S::stages * S::stage_bytes};
    c.from = few_from<S::format>(&c, p, lane);
    if (r->group == r->group_end)
        c.pass = r->tile_end;
    return c;
}

template <class S>
PTX_INLINE void few_issue(struct few_cursor *c, const struct linear_dev *p,
                          const struct few_range *r, int lane)
{
    if (c->pass < r->tile_end) {
        const int bytes = min(S::window, r->group_end - c->window) * S::tile_bytes;
#pragma unroll
        for (int i = 0; i < S::stage_bytes; i += 512)
            if (i + lane * 16 < bytes)
                ptx_cp_async16(c->to + i, c->from + i);
        c->to += S::stage_bytes;
        if (c->to == c->to_end)
            c->to -= S::stages * S::stage_bytes;
        c->from += r->tile_step;
        if (++c->tile == min(c->pass + r->pass_tiles, r->tile_end)) {
            c->window += S::window;
            if (c->window >= r->group_end) {
                c->window = r->group;
                c->pass += r->pass_tiles;
            }
            c->tile = c->pass;
            c->from = few_from<S::format>(c, p, lane);
        }
    }
    ptx_cp_async_commit();
}

/* COUNT groups of a tile in registers. */
template <int FORMAT, int COUNT> struct few_weights {
    static constexpr int vectors = format_traits<FORMAT>::tile_bytes / 512; /* without the scales */
    uint4 v[COUNT * vectors];
    float scale[FORMAT == WEIGHT_INT4 ? COUNT * 2 : 1]; /* of rows g and g + 8 */
};

/* `from`: this lane's bytes of the stage. */
template <int FORMAT, int COUNT>
PTX_INLINE void few_read(struct few_weights<FORMAT, COUNT> *w, const uint8_t *from,
                         const struct place *at)
{
    constexpr int bytes = format_traits<FORMAT>::tile_bytes;
    constexpr int vectors = few_weights<FORMAT, COUNT>::vectors;
#pragma unroll
    for (int i = 0; i < COUNT * vectors; i++)
        w->v[i] = *(const uint4 *)(from + i / vectors * bytes + i % vectors * 512);
#pragma unroll
    for (int i = 0; i < COUNT && FORMAT == WEIGHT_INT4; i++) {
        const uint8_t *scales = from + i * bytes + 1024 - at->lane * 16;
        w->scale[i * 2] = scale_at(scales, at->g);
        w->scale[i * 2 + 1] = scale_at(scales, at->g + 8);
    }
}

/* acc += the products with x. */
template <int FORMAT, int COUNT, int WINDOW>
PTX_INLINE void few_tile(float acc[4], const struct few_weights<FORMAT, COUNT> *w,
                         const uint4 (&x)[WINDOW * 4], const float (&centre)[WINDOW][2])
{
    constexpr int vectors = few_weights<FORMAT, COUNT>::vectors;
    if constexpr (FORMAT == WEIGHT_BF16) {
#pragma unroll
        for (int i = 0; i < COUNT * 8; i++) {
            const uint4 q = w->v[i], v = x[i / 2];
            ptx_mma_bf16(acc, q.x, q.y, q.z, q.w, i % 2 ? v.z : v.x, i % 2 ? v.w : v.y);
        }
    } else {
        float part[COUNT][4];
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            part[i][0] = part[i][1] = part[i][2] = part[i][3] = 0;
#pragma unroll
        for (int k = 0; k < 4; k++)
#pragma unroll
            for (int i = 0; i < COUNT; i++) {
                const uint4 v = x[i * 4 + k], low = w->v[i * vectors + k / 2];
                block_mma<0>(part[i], k % 2 ? low.z : low.x, k % 2 ? low.w : low.y, v);
                if (FORMAT == WEIGHT_INT8) {
                    const uint4 high = w->v[i * vectors + 2 + k / 2];
                    block_mma<1>(part[i], k % 2 ? high.z : high.x, k % 2 ? high.w : high.y, v);
                }
            }
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            part_add<FORMAT>(acc, part[i], centre[i][0], centre[i][1],
                             FORMAT == WEIGHT_INT4 ? w->scale[i * 2] : 0,
                             FORMAT == WEIGHT_INT4 ? w->scale[i * 2 + 1] : 0);
    }
}

/* COUNT groups of the next tile: read, the ring filled on while they come, multiplied. */
template <class S, int COUNT>
PTX_INLINE void few_step(float acc[4], const uint8_t *from, struct few_cursor *cur,
                         const struct linear_dev *p, const struct few_range *r,
                         const uint4 (&x)[S::window * 4], const float (&centre)[S::window][2],
                         const struct place *at)
{
    struct few_weights<S::format, COUNT> w;
    few_read<S::format, COUNT>(&w, from, at);
    few_issue<S>(cur, p, r, at->lane);
    few_tile<S::format, COUNT, S::window>(acc, &w, x, centre);
}

/* x of the window's groups; beyond them the last one again. */
template <int WINDOW> PTX_INLINE void few_x(uint4 (&x)[WINDOW * 4], const uint8_t *from, int groups)
{
#pragma unroll
    for (int i = 0; i < WINDOW; i++) {
        const uint8_t *group = from + max(min(i, groups - 1), 0) * 256;
#pragma unroll
        for (int k = 0; k < 4; k++)
            x[i * 4 + k] = ptx_load_l2(group + k * 64);
    }
}

/* All tiles of a pass over the warp's groups; sums to slot `red` (this lane's) of each tile. x: the
 * first window's, used up. `x_at`: this lane's x of the range's first group. `stage`: this lane's
 * bytes of the next stage. late(): called once, before the last tile. */
template <class S, class LATE>
PTX_INLINE void few_pass(float *red, uint4 (&x)[S::window * 4], const uint8_t **stage,
                         struct few_cursor *cur, const struct linear_dev *p,
                         const struct few_range *r, int tiles, const uint8_t *x_at,
                         const struct place *at, LATE late)
{
    const int W = S::window, tile_floats = LINEAR_SLICES * 128;
    const uint32_t w = format_traits<S::format>::centre;
    if (r->group == r->group_end) {
        for (int i = 0; i < tiles * 4; i++)
            red[i / 4 * tile_floats + i % 4 * 32] = 0;
        late();
    }
#pragma unroll 1
    for (int window = r->group; window < r->group_end; window += W) {
        const int count = min(W, r->group_end - window);
        float centre[W][2];
#pragma unroll
        for (int i = 0; i < W && w; i++) {
            float c[4] = {0, 0, 0, 0};
#pragma unroll
            for (int k = 0; k < 4; k++)
                centre_mma(c, w, x[i * 4 + k]);
            centre[i][0] = c[0];
            centre[i][1] = c[1];
        }
        float *to = red;
#pragma unroll 1
        for (int i = 0; i < tiles; i++, to += tile_floats) {
            float acc[4] = {0, 0, 0, 0};
            if (i == tiles - 1 && window + W >= r->group_end)
                late();
            if (window != r->group)
#pragma unroll
                for (int c = 0; c < 4; c++)
                    acc[c] = to[c * 32];
            ptx_cp_async_wait<S::stages - 2>();
            __syncwarp(); /* all lanes' copies; and the stage before is read */
            if (count == W)
                few_step<S, W>(acc, *stage, cur, p, r, x, centre, at);
            else if (W > 2 && count == 2)
                few_step<S, S::second>(acc, *stage, cur, p, r, x, centre, at);
            else
                few_step<S, 1>(acc, *stage, cur, p, r, x, centre, at);
            *stage += S::stage_bytes;
            if (*stage == cur->to_end)
                *stage -= S::stages * S::stage_bytes;
#pragma unroll
            for (int c = 0; c < 4; c++)
                to[c * 32] = acc[c];
        }
        if (window + W < r->group_end)
            few_x<W>(x, x_at + (window + W - r->group) * 256, r->group_end - window - W);
    }
}

#endif
