/* linear_many: the base product of k_linear for more than 8 rows, NT row tiles of 8 at a time.
 *
 * A warp has a ring in shared memory, filled through cp.async: a stage is half a group of all tiles
 * of a pass, and of x of all rows, each lane copying the very x it reads. The tiles of a pass share
 * a read of x, the row tiles one of the weights; sums are in registers.
 */
#ifndef CHORUS_CUDA_LINEAR_MANY_CUH
#define CHORUS_CUDA_LINEAR_MANY_CUH

#include "cuda/linear_many_ring.cuh"

/* part += half a group of the pass's tiles; centre likewise. `stage`: at this lane. */
template <int FORMAT, int NT, bool SMALL, int TILES>
PTX_INLINE void many_half(float (&part)[TILES][NT][4], float (&centre)[NT][4], const uint8_t *stage,
                          int tiles)
{
    using shape = many_shape<FORMAT, NT, SMALL>;
    const uint8_t *xs = stage + TILES * shape::half_bytes;
    const uint32_t w = format_traits<FORMAT>::centre;
    uint4 low[TILES], high[FORMAT == WEIGHT_INT8 ? TILES : 1];
#pragma unroll
    for (int i = 0; i < TILES && FORMAT != WEIGHT_BF16; i++) {
        if (i >= tiles)
            break;
        const uint8_t *from = stage + i * (FORMAT == WEIGHT_INT8 ? 1024 : 512);
        low[i] = *(const uint4 *)from;
        if (FORMAT == WEIGHT_INT8)
            high[i] = *(const uint4 *)(from + 512);
    }
#pragma unroll
    for (int k = 0; k < 2; k++) {
        uint4 x[NT];
#pragma unroll
        for (int n = 0; n < NT; n++) {
            x[n] = *(const uint4 *)(xs + n * 1024 + k * 512);
            if (w)
                centre_mma(centre[n], w, x[n]);
        }
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            if (i >= tiles)
                break;
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

/* acc += the parts of a group. `stage`: the one of the group's second half. */
template <int FORMAT, int NT, int TILES>
PTX_INLINE void many_add(float (&acc)[TILES][NT][4], const float (&part)[TILES][NT][4],
                         const float (&centre)[NT][4], const uint8_t *stage, int tiles,
                         const struct place *at)
{
#pragma unroll
    for (int i = 0; i < TILES; i++) {
        if (i >= tiles)
            break;
        float low = 0, high = 0;
        if (FORMAT == WEIGHT_INT4) {
            const uint8_t *scales = stage + TILES * 512 + i * 32;
            low = scale_at(scales, at->g);
            high = scale_at(scales, at->g + 8);
        }
#pragma unroll
        for (int n = 0; n < NT; n++)
            part_add<FORMAT>(acc[i][n], part[i][n], centre[n][0], centre[n][1], low, high);
    }
}

/* The tiles of a pass over the warp's groups, one row block: acc, from zero. `stage`: byte of the
 * ring. */
template <int FORMAT, int NT, bool SMALL, int TILES>
PTX_INLINE void many_pass(float (&acc)[TILES][NT][4], uint8_t *ring, struct many_from<NT> *f,
                          struct many_cursor *cur, int *stage, const struct linear_dev *p,
                          const struct many_range *r, int tiles, const struct place *at)
{
    using shape = many_shape<FORMAT, NT, SMALL>;
    sums_clear(acc);
    for (int group = r->group; group < r->group_end; group++) {
        float part[TILES][NT][4], centre[1][NT][4];
        const uint8_t *from = ring;
        sums_clear(part);
        sums_clear(centre);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            ptx_cp_async_wait<shape::stages - 2>();
            __syncwarp(); /* all lanes' copies; and the stage before is read */
            many_issue<FORMAT, NT, SMALL>(f, cur, ring, p, r, at);
            from = ring + *stage;
            many_half<FORMAT, NT, SMALL, TILES>(FORMAT == WEIGHT_BF16 ? acc : part, centre[0],
                                                from + at->lane * 16, tiles);
            *stage += shape::stage_bytes;
            if (*stage == shape::stages * shape::stage_bytes)
                *stage = 0;
        }
        if (FORMAT != WEIGHT_BF16)
            many_add<FORMAT, NT, TILES>(acc, part, centre[0], from, tiles, at);
    }
}

#endif
