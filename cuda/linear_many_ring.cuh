/* linear_many_ring: what linear_many.cuh multiplies, on its way into shared memory: a ring a warp,
 * a stage of half a group of all tiles of a pass and of x of all rows. Pointers run along: what is
 * computed for each copy anew costs more than the copy. */
#ifndef CHORUS_CUDA_LINEAR_MANY_RING_CUH
#define CHORUS_CUDA_LINEAR_MANY_RING_CUH

#include "cuda/linear_tile.cuh"

#define SMEM_MAX       (227 << 10)
#define SMEM_MAX_SMALL (99 << 10)
#define STATE_MAX      512 /* block_state */

/* LINEAR_SMALL: 99 KB of shared memory a block. LINEAR_ROOMY: a shallow ring, the rest is for u. */
enum linear_form { LINEAR_WHOLE, LINEAR_ROOMY, LINEAR_SMALL };

/* How a block works on tiles, and what fits. */
template <int FORMAT, int NT, enum linear_form FORM>
struct many_shape {
    static constexpr int format = FORMAT; static constexpr int nt = NT;
    static constexpr bool small = FORM == LINEAR_SMALL;
    static constexpr int half_bytes = FORMAT == WEIGHT_INT4   ? 544
                                      : FORMAT == WEIGHT_INT8 ? 1024
                                                              : 2048;
    static constexpr int tiles = small ? (FORMAT == WEIGHT_BF16 ? 1 : 2)
                                 : NT == 4 && FORMAT == WEIGHT_BF16 ? 2
                                                                    : 4; /* a pass */
    static constexpr int weight_bytes = tiles * half_bytes;
    static constexpr int stage_bytes = weight_bytes + NT * 1024;
    static constexpr int floats = NT * 128; /* sums of a tile and slice */
    static constexpr int red_bytes = tiles * LINEAR_SLICES * floats * 4;
    /* Rank tiles of B under way a warp: where the sums of slices 2 to 7 were, or in room of their
     * own where that would be too little. */
    static constexpr bool own_ring = small || (FORMAT == WEIGHT_INT4 && NT == 2);
    static constexpr int expand_frags = small      ? 4
                                        : own_ring ? 12
                                                   : tiles * NT * 3 / 4;
    static constexpr int expand_bytes = own_ring ? LINEAR_WARPS * expand_frags * 512 : 0;
    static constexpr int beside = red_bytes + STATE_MAX + expand_bytes;
    static constexpr int smem = small ? SMEM_MAX_SMALL : SMEM_MAX;
    static constexpr int fit = (smem - beside) / (LINEAR_WARPS * stage_bytes);
    static constexpr int stages_max = FORM == LINEAR_ROOMY ? 2 : 4;
    static constexpr int stages = fit < stages_max ? fit : stages_max;
    static constexpr int ring_bytes = LINEAR_WARPS * stages * stage_bytes;
    static constexpr int left = (smem - beside - ring_bytes) / 128 * 128;
    static constexpr int table = left < 64 * PIECE_BYTES ? 16 : 64;
    static constexpr int u_left = left - table * PIECE_BYTES;
    static constexpr int u_room = u_left < 24576 ? u_left : 24576;
    static constexpr int lora_bytes = table * PIECE_BYTES + u_room + expand_bytes;
    static_assert(u_room >= 0 && u_room % 16 == 0, "");
    static_assert(stages >= 2, "a stage to read and one to fill");
};

struct many_range {
    int tile_end, blocks, rows;
    int group, group_end;
    size_t tile_step; /* bytes from a tile of W to the next */
};

/* What a warp fetches next: passes over tiles, row blocks, groups, halves. Two of them run over the
 * same stages at first: weights need not wait for the node in front, x must. */
struct many_cursor {
    int tile, block, group, half;
    int stage; /* byte of the ring */
};

/* This lane's bytes of what it fetches next. */
template <class S> struct many_from {
    const uint8_t *w, *scales;
    const uint8_t *x[S::nt];
    int tiles;
    unsigned rows; /* bit n: x[n] is a row of the step */
};

/* At a pass's begin. */
template <class S>
PTX_INLINE void many_seek_w(struct many_from<S> *f, const struct many_cursor *c,
                            const struct linear_dev *p, const struct many_range *r, int lane)
{
    const uint8_t *from =
        p->w + c->tile * r->tile_step + (size_t)r->group * format_traits<S::format>::tile_bytes;
    f->tiles = min(S::tiles, r->tile_end - c->tile);
    f->w = from + lane * 16;
    f->scales = from + lane / 2 * r->tile_step + 1024 + lane % 2 * 16;
}

/* At a row block's begin. Rows beyond the last one are zeros: reading one in their place would have
 * every SM ask L2 for the same lines. */
template <class S>
PTX_INLINE void many_seek_x(struct many_from<S> *f, const struct many_cursor *c,
                            const struct linear_dev *p, const struct many_range *r,
                            const struct place *at)
{
    f->rows = 0;
#pragma unroll
    for (int n = 0; n < S::nt; n++) {
        int row = c->block * S::nt * 8 + n * 8 + at->g;
        f->rows |= (unsigned)(row < r->rows) << n;
        row = min(row, r->rows - 1);
        if (p->x_row)
            row = __ldg(p->x_row + row);
        f->x[n] = p->x + (size_t)row * p->x_stride * 2 + r->group * 256 + at->t * 16;
    }
}

PTX_INLINE bool many_more(const struct many_cursor *c, const struct many_range *r)
{
    return c->tile < r->tile_end && r->group < r->group_end;
}

/* Half a group of a pass's tiles. */
template <class S>
PTX_INLINE void many_weights(struct many_from<S> *f, const struct many_cursor *c, uint8_t *ring,
                             const struct many_range *r, int lane)
{
    const int tile_bytes = format_traits<S::format>::tile_bytes;
    uint8_t *to = ring + c->stage + lane * 16;
    const uint8_t *from = f->w;
#pragma unroll
    for (int i = 0; i < S::tiles; i++, from += r->tile_step) {
        if (i >= f->tiles)
            continue;
        if (S::format == WEIGHT_INT4) {
            ptx_cp_async16(to + i * 512, from);
        } else if (S::format == WEIGHT_INT8) {
            ptx_cp_async16(to + i * 1024, from);
            ptx_cp_async16(to + i * 1024 + 512, from + 1024);
        } else {
#pragma unroll
            for (int s = 0; s < 4; s++)
                ptx_cp_async16(to + i * 2048 + s * 512, from + s * 512);
        }
    }
    const int half_bytes = S::format == WEIGHT_BF16 ? 2048 : 512;
    f->w += c->half ? tile_bytes - half_bytes : half_bytes;
    if (S::format == WEIGHT_INT4 && c->half) {
        if (lane < f->tiles * 2)
            ptx_cp_async16(to + S::tiles * 512, f->scales);
        f->scales += tile_bytes;
    }
}

/* [row tile][block of the half][lane] 16 bytes. */
template <class S>
PTX_INLINE void many_x(struct many_from<S> *f, const struct many_cursor *c, uint8_t *ring, int lane)
{
    uint8_t *to = ring + c->stage + S::weight_bytes + lane * 16;
#pragma unroll
    for (int n = 0; n < S::nt; n++) {
        const bool on = f->rows >> n & 1;
        ptx_cp_async16_or_zero(to + n * 1024, f->x[n], on);
        ptx_cp_async16_or_zero(to + n * 1024 + 512, f->x[n] + 64, on);
        f->x[n] += 128;
    }
}

/* W, X: what `f` is used for. */
template <class S, bool W, bool X>
PTX_INLINE void many_next(struct many_from<S> *f, struct many_cursor *c, const struct linear_dev *p,
                          const struct many_range *r, const struct place *at)
{
    c->stage += S::stage_bytes;
    if (c->stage == S::stages * S::stage_bytes)
        c->stage = 0;
    c->half ^= 1;
    if (c->half || ++c->group < r->group_end)
        return;
    c->group = r->group;
    if (++c->block == r->blocks) {
        c->block = 0;
        c->tile += S::tiles;
        if (c->tile >= r->tile_end)
            return;
    }
    if (W)
        many_seek_w<S>(f, c, p, r, at->lane);
    if (X)
        many_seek_x<S>(f, c, p, r, at);
}

template <class S>
PTX_INLINE void many_issue(struct many_from<S> *f, struct many_cursor *c, uint8_t *ring,
                           const struct linear_dev *p, const struct many_range *r,
                           const struct place *at)
{
    if (many_more(c, r)) {
        many_weights<S>(f, c, ring, r, at->lane);
        many_x<S>(f, c, ring, at->lane);
        many_next<S, true, true>(f, c, p, r, at);
    }
    ptx_cp_async_commit();
}

#endif
