/* linear_many: the base product of k_linear for more than 8 rows, NT row tiles of 8 at a time.
 *
 * A warp has a ring in shared memory, filled through cp.async (linear_many_ring.cuh): a stage is
 * half a group of all tiles of a pass, and of x of all rows. The tiles share a read of x, the row
 * tiles one of the weights; sums are in registers.
 */
#ifndef CHORUS_CUDA_LINEAR_MANY_CUH
#define CHORUS_CUDA_LINEAR_MANY_CUH

#include "cuda/linear_many_ring.cuh"

/* The offsets of two row tiles at once: here x is what weights are elsewhere, 16 rows of it; the
 * same products and sums as centre_mma's. */
PTX_INLINE void centre_pair(float c[4], uint32_t w, const uint4 x, const uint4 y)
{
    ptx_mma_bf16(c, x.x, y.x, x.y, y.y, w, w);
    ptx_mma_bf16(c, x.z, y.z, x.w, y.w, w, w);
}

/* part += half a group of TILES tiles; centre likewise. `stage`, `xs`: the warp's weights and x, at
 * this lane. */
template <int FORMAT, int NT, int TILES>
PTX_INLINE void many_half(float (&part)[TILES][NT][4], float (&centre)[NT / 2][4],
                          const uint8_t *stage, const uint8_t *xs)
{
    const uint32_t w = format_traits<FORMAT>::centre;
    uint4 low[TILES], high[FORMAT == WEIGHT_INT8 ? TILES : 1];
#pragma unroll
    for (int i = 0; i < TILES && FORMAT != WEIGHT_BF16; i++) {
        const uint8_t *from = stage + i * (FORMAT == WEIGHT_INT8 ? 1024 : 512);
        low[i] = *(const uint4 *)from;
        if (FORMAT == WEIGHT_INT8)
            high[i] = *(const uint4 *)(from + 512);
    }
#pragma unroll
    for (int k = 0; k < 2; k++) {
        uint4 x[NT];
#pragma unroll
        for (int n = 0; n < NT; n++)
            x[n] = *(const uint4 *)(xs + n * 1024 + k * 512);
#pragma unroll
        for (int n = 0; n < NT && w; n += 2)
            centre_pair(centre[n / 2], w, x[n], x[n + 1]);
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            uint32_t f[FORMAT == WEIGHT_INT8 ? 4 : 2][4];
            if (FORMAT == WEIGHT_BF16) {
#pragma unroll
                for (int s = 0; s < 2; s++) {
                    uint4 q = *(const uint4 *)(stage + i * 2048 + (k * 2 + s) * 512);
                    f[s][0] = q.x;
                    f[s][1] = q.y;
                    f[s][2] = q.z;
                    f[s][3] = q.w;
                }
            } else {
                nibbles(f[0], k ? low[i].z : low[i].x, MAGIC_128);
                nibbles(f[1], k ? low[i].w : low[i].y, MAGIC_128);
                if (FORMAT == WEIGHT_INT8) {
                    nibbles(f[2], k ? high[i].z : high[i].x, MAGIC_2048);
                    nibbles(f[3], k ? high[i].w : high[i].y, MAGIC_2048);
                }
            }
#pragma unroll
            for (int s = 0; s < (FORMAT == WEIGHT_INT8 ? 4 : 2); s++)
#pragma unroll
                for (int n = 0; n < NT; n++)
                    ptx_mma_bf16(part[i][n], f[s][0], f[s][1], f[s][2], f[s][3],
                                 s % 2 ? x[n].z : x[n].x, s % 2 ? x[n].w : x[n].y);
        }
    }
}

template <int TILES, int NT> PTX_INLINE void sums_clear(float (&v)[TILES][NT][4])
{
#pragma unroll
    for (int i = 0; i < TILES * NT * 4; i++)
        v[i / (NT * 4)][i / 4 % NT][i % 4] = 0;
}

/* acc += the parts of a group. `scales`: of tile 0. */
template <int FORMAT, int NT, int TILES>
PTX_INLINE void many_add(float (&acc)[TILES][NT][4], const float (&part)[TILES][NT][4],
                         const float (&centre)[NT / 2][4], const uint8_t *scales,
                         const struct place *at)
{
    float even[NT], odd[NT]; /* of rows 2 t and 2 t + 1: lanes 8 t and 8 t + 4 have them */
#pragma unroll
    for (int n = 0; n < NT; n++) {
        even[n] = __shfl_sync(~0u, centre[n / 2][n % 2 * 2], at->t * 8);
        odd[n] = __shfl_sync(~0u, centre[n / 2][n % 2 * 2], at->t * 8 + 4);
    }
#pragma unroll
    for (int i = 0; i < TILES; i++) {
        float low = 0, high = 0;
        if (FORMAT == WEIGHT_INT4) {
            low = scale_at(scales + i * 32, at->g);
            high = scale_at(scales + i * 32, at->g + 8);
        }
#pragma unroll
        for (int n = 0; n < NT; n++)
            part_add<FORMAT>(acc[i][n], part[i][n], even[n], odd[n], low, high);
    }
}

/* What a warp's passes have in common. */
template <class S> struct many_warp {
    const struct linear_dev *p;
    const struct many_range *r;
    const struct place *at;
    uint8_t *ring;
};

/* TILES tiles of a pass over the slice's groups, one row block: their sums to `to`. `stage`: byte
 * of the ring. */
template <class S, int TILES>
PTX_INLINE void many_pass(const struct sums *to, struct many_from<S> *f, struct many_cursor *cur,
                          int *stage, const struct many_warp<S> *w)
{
    constexpr int FORMAT = S::format, NT = S::nt;
    float acc[TILES][NT][4];
    sums_clear(acc);
    for (int group = w->r->group; group < w->r->group_end; group++) {
        float part[TILES][NT][4], centre[1][NT / 2][4];
        const uint8_t *from = w->ring;
        sums_clear(part);
        sums_clear(centre);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            ptx_cp_async_wait<S::stages - 2>();
            __syncwarp(); /* all lanes' copies; and the stage before is read */
            many_issue<S>(f, cur, w->ring, w->p, w->r, w->at);
            from = w->ring + *stage;
            many_half<FORMAT, NT, TILES>(FORMAT == WEIGHT_BF16 ? acc : part, centre[0],
                                         from + w->at->lane * 16,
                                         from + S::weight_bytes + w->at->lane * 16);
            *stage += S::stage_bytes;
            if (*stage == S::stages * S::stage_bytes)
                *stage = 0;
        }
        if (FORMAT != WEIGHT_BF16)
            many_add<FORMAT, NT, TILES>(acc, part, centre[0], from + S::tiles * 512, w->at);
    }
    float *out = to->at + w->at->warp * to->slice_floats + w->at->lane;
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int k = 0; k < NT * 4; k++)
            out[i * to->tile_floats + k * 32] = acc[i][k / 4][k % 4];
}

/* The same for 1 to TILES tiles: code of its own for each number, so that the tiles' instructions
 * mix. */
template <class S, int TILES>
PTX_INLINE void many_tiles(int tiles, const struct sums *to, struct many_from<S> *f,
                           struct many_cursor *cur, int *stage, const struct many_warp<S> *w)
{
    if constexpr (TILES > 1)
        if (tiles < TILES) {
            many_tiles<S, TILES - 1>(tiles, to, f, cur, stage, w);
            return;
        }
    many_pass<S, TILES>(to, f, cur, stage, w);
}

#endif
