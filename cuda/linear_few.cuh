/* linear_few: the base product of k_linear for at most 8 rows.
 *
 * A warp has x of a window of groups in registers and a ring of weights in shared memory, filled
 * through cp.async: a stage is the window's groups of one tile, contiguous in memory. A chain of
 * products for each group of the window. Sums lie in shared memory between windows.
 */
#ifndef CHORUS_CUDA_LINEAR_FEW_CUH
#define CHORUS_CUDA_LINEAR_FEW_CUH

#include "cuda/linear_tile.cuh"

/* SMALL: for cards with 99 KB of shared memory a block. */
template <int FORMAT, bool SMALL> struct few_shape {
    static constexpr int tile_bytes = format_traits<FORMAT>::tile_bytes;
    static constexpr int window = FORMAT == WEIGHT_INT4 ? 3 : FORMAT == WEIGHT_INT8 ? 2 : 1;
    static constexpr int stages = SMALL ? 2 : 4;
    static constexpr int stage_bytes = window * tile_bytes;
    static constexpr int ring_bytes = LINEAR_WARPS * stages * stage_bytes;
    static constexpr int pass_tiles = FORMAT == WEIGHT_INT4 && !SMALL ? 8 : 4;
    static constexpr int expand_frags = SMALL ? 4 : 16; /* rank tiles of B under way a warp */
    static constexpr int expand_bytes = LINEAR_WARPS * expand_frags * 512;
    static constexpr int table = 32;
    static constexpr int u_room = SMALL ? 4 << 10 : 8 << 10;
    static constexpr int lora_bytes = table * PIECE_BYTES + u_room + expand_bytes;
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

/* What a warp fetches next: passes over tiles, in a pass windows, in a window tiles. */
struct few_cursor {
    int pass, tile, window; /* first tile of the pass, tile, first group of the window */
    int stage;
};

/* The warp's part of the block's work. */
struct few_range {
    int tile_end, pass_tiles;
    int group, group_end;
};

template <int FORMAT, bool SMALL>
PTX_INLINE void few_issue(struct few_cursor *c, uint8_t *ring, const struct linear_dev *p,
                          const struct few_range *r, int lane)
{
    using shape = few_shape<FORMAT, SMALL>;
    if (c->pass < r->tile_end && r->group < r->group_end) {
        const uint8_t *from =
            p->w + ((size_t)c->tile * p->groups + c->window) * shape::tile_bytes + lane * 16;
        uint8_t *to = ring + c->stage * shape::stage_bytes + lane * 16;
        const int bytes = min(shape::window, r->group_end - c->window) * shape::tile_bytes;
#pragma unroll
        for (int i = 0; i < shape::stage_bytes; i += 512)
            if (i + lane * 16 < bytes)
                ptx_cp_async16(to + i, from + i);
        if (++c->tile == min(c->pass + r->pass_tiles, r->tile_end)) {
            c->tile = c->pass;
            c->window += shape::window;
            if (c->window >= r->group_end) {
                c->window = r->group;
                c->pass += r->pass_tiles;
                c->tile = c->pass;
            }
        }
        if (++c->stage == shape::stages)
            c->stage = 0;
    }
    ptx_cp_async_commit();
}

/* acc += COUNT groups of a tile. `w`: this lane's bytes of the stage. */
template <int FORMAT, int COUNT, int WINDOW>
PTX_INLINE void few_tile(float acc[4], const uint8_t *w, const uint4 (&x)[WINDOW * 4],
                         const float (&centre)[WINDOW][2], const struct place *at)
{
    if (FORMAT == WEIGHT_BF16) {
#pragma unroll
        for (int i = 0; i < COUNT * 8; i++) {
            uint4 q = *(const uint4 *)(w + i * 512), v = x[i / 2];
            ptx_mma_bf16(acc, q.x, q.y, q.z, q.w, i % 2 ? v.z : v.x, i % 2 ? v.w : v.y);
        }
        return;
    }
    const int bytes = format_traits<FORMAT>::tile_bytes;
    float part[COUNT][4];
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        part[i][0] = part[i][1] = part[i][2] = part[i][3] = 0;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        uint4 low[COUNT], high[COUNT];
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            low[i] = *(const uint4 *)(w + i * bytes + h * 512);
            if (FORMAT == WEIGHT_INT8)
                high[i] = *(const uint4 *)(w + i * bytes + 1024 + h * 512);
        }
#pragma unroll
        for (int k = 0; k < 2; k++)
#pragma unroll
            for (int i = 0; i < COUNT; i++) {
                const uint4 v = x[i * 4 + h * 2 + k];
                block_mma<0>(part[i], k ? low[i].z : low[i].x, k ? low[i].w : low[i].y, v);
                if (FORMAT == WEIGHT_INT8)
                    block_mma<1>(part[i], k ? high[i].z : high[i].x, k ? high[i].w : high[i].y, v);
            }
    }
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        float low = 0, high = 0;
        if (FORMAT == WEIGHT_INT4) {
            const uint8_t *scales = w + i * bytes + 1024 - at->lane * 16;
            low = scale_at(scales, at->g);
            high = scale_at(scales, at->g + 8);
        }
        part_add<FORMAT>(acc, part[i], centre[i][0], centre[i][1], low, high);
    }
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
 * first window's, used up. `x_at`: this lane's x of the range's first group. */
template <int FORMAT, bool SMALL>
PTX_INLINE void few_pass(float *red, uint4 (&x)[few_shape<FORMAT, SMALL>::window * 4],
                         uint8_t *ring, struct few_cursor *cur, int *stage,
                         const struct linear_dev *p, const struct few_range *r, int tiles,
                         const uint8_t *x_at, const struct place *at)
{
    using shape = few_shape<FORMAT, SMALL>;
    const int W = shape::window, tile_floats = LINEAR_SLICES * 128;
    const uint32_t w = format_traits<FORMAT>::centre;
    if (r->group == r->group_end)
        for (int i = 0; i < tiles * 4; i++)
            red[i / 4 * tile_floats + i % 4 * 32] = 0;
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
            if (window != r->group)
#pragma unroll
                for (int c = 0; c < 4; c++)
                    acc[c] = to[c * 32];
            ptx_cp_async_wait<shape::stages - 2>();
            __syncwarp(); /* all lanes' copies; and the stage before is read */
            few_issue<FORMAT, SMALL>(cur, ring, p, r, at->lane);
            const uint8_t *from = ring + *stage * shape::stage_bytes + at->lane * 16;
            if (count == W)
                few_tile<FORMAT, W, W>(acc, from, x, centre, at);
            else if (W > 2 && count == 2)
                few_tile < FORMAT, W<2 ? W : 2, W>(acc, from, x, centre, at);
            else
                few_tile<FORMAT, 1, W>(acc, from, x, centre, at);
            if (++*stage == shape::stages)
                *stage = 0;
#pragma unroll
            for (int c = 0; c < 4; c++)
                to[c * 32] = acc[c];
        }
        if (window + W < r->group_end)
            few_x<W>(x, x_at + (window + W - r->group) * 256, r->group_end - window - W);
    }
}

#endif
