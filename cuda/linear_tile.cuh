/* linear_tile: the base product of k_linear: a warp's pair of tiles over its range of K.
 *
 * Weights come straight from memory into registers, one chunk (1 KB a tile) or two ahead; a
 * register is loaded again as soon as it is used up. x and the sums of x a group lie in shared
 * memory. Every output element goes through the same instructions in the same order whatever the
 * number of row tiles, tiles and warps a slice: k16 steps ascending into `part`, a group's part
 * onto `acc`, slices in a fixed tree.
 */
#ifndef CHORUS_CUDA_LINEAR_TILE_CUH
#define CHORUS_CUDA_LINEAR_TILE_CUH

#include "cuda/linear_dev.cuh"

/* What a warp reads next. The order is: passes over its pairs of tiles, row blocks, groups; a run
 * is the warp's range of K of one pair. */
struct weight_cursor {
    const uint8_t *p; /* this lane's bytes of the next chunk, first tile of the pair */
    uint32_t second;  /* bytes from there to the second tile */
    int left;         /* chunks left in the run; not above 0: nothing to read */
    int tile;         /* first of the pair */
    int blocks_left;  /* row blocks that still read this pair */
};

/* What the cursor goes by; the same for all of a warp's runs. */
struct weight_route {
    int group, groups; /* the warp's range */
    int tile_end, tile_step;
    int row_blocks;
    bool stop; /* at the end of a run wait for cursor_resume */
};

template <int FORMAT>
PTX_INLINE void cursor_run(struct weight_cursor *c, const struct linear_dev *p,
                           const struct weight_route *r)
{
    uint32_t tile = (uint32_t)p->groups * format_traits<FORMAT>::tile_bytes;
    c->second = c->tile + 1 < r->tile_end ? tile : 0;
    c->p = p->w + (size_t)c->tile * tile + (size_t)r->group * format_traits<FORMAT>::tile_bytes +
           threadIdx.x % 32 * 16;
    c->left = c->tile < r->tile_end ? r->groups * format_traits<FORMAT>::chunks : 0;
}

template <int FORMAT>
PTX_INLINE void cursor_resume(struct weight_cursor *c, const struct linear_dev *p,
                              const struct weight_route *r)
{
    if (--c->blocks_left <= 0) {
        c->blocks_left = r->row_blocks;
        c->tile += r->tile_step;
    }
    cursor_run<FORMAT>(c, p, r);
}

/* Steps past a chunk. sub: the chunk's place in its group. */
template <int FORMAT>
PTX_INLINE void cursor_next(struct weight_cursor *c, const struct linear_dev *p,
                            const struct weight_route *r, int sub)
{
    if (FORMAT == WEIGHT_INT4)
        c->p += TILE_BYTES_INT4;
    else if (FORMAT == WEIGHT_INT8)
        c->p += sub == 0 ? 512 : TILE_BYTES_INT8 - 512;
    else
        c->p += 1024;
    if (--c->left == 0 && !r->stop)
        cursor_resume<FORMAT>(c, p, r);
}

/* One chunk of a pair in registers. */
template <int FORMAT> struct chunk {
    uint4 q[2][PAIR];
    uint32_t scale[PAIR][2]; /* int4: bf16 bits of rows g and g + 8 */
};

template <int FORMAT>
PTX_INLINE void chunk_load(struct chunk<FORMAT> *c, const struct weight_cursor *cur, int part)
{
    if (cur->left <= 0)
        return;
#pragma unroll
    for (int m = 0; m < PAIR; m++)
        c->q[part][m] =
            ptx_load_stream(cur->p + (m ? cur->second : 0) + part * format_traits<FORMAT>::second);
}

template <int FORMAT>
PTX_INLINE void chunk_scales(struct chunk<FORMAT> *c, const struct weight_cursor *cur,
                             const struct place *at)
{
    if (FORMAT != WEIGHT_INT4 || cur->left <= 0)
        return;
    const uint8_t *p = cur->p + (1024 + at->g * 2 - at->lane * 16);
#pragma unroll
    for (int m = 0; m < PAIR; m++) {
        c->scale[m][0] = __ldg((const uint16_t *)p + m * (cur->second / 2));
        c->scale[m][1] = __ldg((const uint16_t *)p + m * (cur->second / 2) + 8);
    }
}

/* The first chunks of a run; what was in the registers is gone. */
template <int FORMAT, int BUFFERS>
PTX_INLINE void buffers_fill(struct chunk<FORMAT> *b, struct weight_cursor *cur,
                             const struct linear_dev *p, const struct weight_route *r,
                             const struct place *at)
{
#pragma unroll
    for (int i = 0; i < BUFFERS; i++) {
        b[i] = {};
        chunk_load<FORMAT>(&b[i], cur, 0);
        chunk_load<FORMAT>(&b[i], cur, 1);
        chunk_scales<FORMAT>(&b[i], cur, at);
        cursor_next<FORMAT>(cur, p, r, i % format_traits<FORMAT>::chunks);
    }
}

/* part[m][n] += half a chunk. x: this lane's place in row 0 of the group, for even and odd blocks.
 */
template <int FORMAT, int NT>
PTX_INLINE void chunk_mma(float part[PAIR][NT][4], const uint4 q[PAIR], int sub, int which,
                          const uint8_t *const x[2])
{
    if (FORMAT == WEIGHT_BF16) {
#pragma unroll
        for (int n = 0; n < NT; n++) {
            uint2 v = *(const uint2 *)(x[sub % 2] + sub / 2 * 128 + n * 2048 + which * 8);
#pragma unroll
            for (int m = 0; m < PAIR; m++)
                ptx_mma_bf16(part[m][n], q[m].x, q[m].y, q[m].z, q[m].w, v.x, v.y);
        }
        return;
    }
    const uint32_t magic = FORMAT == WEIGHT_INT8 && which == 1 ? MAGIC_2048 : MAGIC_128;
    const int block = FORMAT == WEIGHT_INT8 ? 2 * sub : 2 * which; /* first of two */
#pragma unroll
    for (int k = 0; k < 2; k++) {
        uint32_t f[PAIR][2][4];
#pragma unroll
        for (int m = 0; m < PAIR; m++) {
            nibbles(f[m][0], k ? q[m].z : q[m].x, magic);
            nibbles(f[m][1], k ? q[m].w : q[m].y, magic);
        }
#pragma unroll
        for (int n = 0; n < NT; n++) {
            uint4 v = *(const uint4 *)(x[k] + block / 2 * 128 + n * 2048);
#pragma unroll
            for (int m = 0; m < PAIR; m++)
                ptx_mma_bf16(part[m][n], f[m][0][0], f[m][0][1], f[m][0][2], f[m][0][3], v.x, v.y);
#pragma unroll
            for (int m = 0; m < PAIR; m++)
                ptx_mma_bf16(part[m][n], f[m][1][0], f[m][1][1], f[m][1][2], f[m][1][3], v.z, v.w);
        }
    }
}

/* acc += a group's part. sum: centre * sum of x of this group, [row]. */
template <int FORMAT, int NT>
PTX_INLINE void group_add(float acc[PAIR][NT][4], const float part[PAIR][NT][4],
                          const uint32_t scale[PAIR][2], const float *sum)
{
#pragma unroll
    for (int n = 0; n < NT; n++) {
        float2 centre = {0, 0};
        if (FORMAT != WEIGHT_BF16)
            centre = *(const float2 *)(sum + n * 8);
#pragma unroll
        for (int m = 0; m < PAIR; m++) {
#pragma unroll
            for (int c = 0; c < 4; c++) {
                if (FORMAT == WEIGHT_BF16) {
                    acc[m][n][c] = __fadd_rn(acc[m][n][c], part[m][n][c]);
                    continue;
                }
                float v = __fadd_rn(part[m][n][c], c % 2 ? centre.y : centre.x);
                acc[m][n][c] = FORMAT == WEIGHT_INT4
                                   ? __fmaf_rn(bf16_bits(scale[m][c / 2]), v, acc[m][n][c])
                                   : __fadd_rn(acc[m][n][c], v);
            }
        }
    }
}

/* One group of a pair. BUFFERS 2: int4 alternates by group (`buffer`), the others by chunk. */
template <int FORMAT, int NT, int BUFFERS>
PTX_INLINE void group_step(float acc[PAIR][NT][4], struct chunk<FORMAT> *buffers, int buffer,
                           struct weight_cursor *cur, const struct linear_dev *p,
                           const struct weight_route *route, const uint8_t *const x[2],
                           const float *sum, const struct place *at)
{
    const int chunks = format_traits<FORMAT>::chunks;
    float part[PAIR][NT][4];
#pragma unroll
    for (int i = 0; i < PAIR * NT * 4; i++)
        part[i / (NT * 4)][i / 4 % NT][i % 4] = 0;
#pragma unroll
    for (int sub = 0; sub < chunks; sub++) {
        struct chunk<FORMAT> *b = &buffers[BUFFERS == 1            ? 0
                                           : FORMAT == WEIGHT_INT4 ? buffer
                                                                   : sub % 2];
#pragma unroll
        for (int which = 0; which < 2; which++) {
            chunk_mma<FORMAT, NT>(part, b->q[which], sub, which, x);
            chunk_load<FORMAT>(b, cur, which);
        }
        if (sub == chunks - 1) {
            group_add<FORMAT, NT>(acc, part, b->scale, sum);
            chunk_scales<FORMAT>(b, cur, at);
        }
        cursor_next<FORMAT>(cur, p, route, (sub + BUFFERS) % chunks);
    }
}

/* Ends slice `j` of the warp: adds it into the tree that its slots hold, and clears it. `slot`: the
 * warp's first slot of the pair's first tile, at this lane; `tile_floats` to the second tile. */
template <int NT>
PTX_INLINE void slice_end(float acc[PAIR][NT][4], float *slot, int tile_floats, int j)
{
    int depth = __popc(j); /* partial sums kept by now */
    for (int bits = j; bits & 1; bits >>= 1) {
        depth--;
#pragma unroll
        for (int i = 0; i < PAIR * NT * 4; i++) {
            int m = i / (NT * 4), c = i % (NT * 4);
            acc[m][c / 4][c % 4] =
                __fadd_rn(slot[m * tile_floats + depth * NT * 128 + c * 32], acc[m][c / 4][c % 4]);
        }
    }
#pragma unroll
    for (int i = 0; i < PAIR * NT * 4; i++) {
        int m = i / (NT * 4), c = i % (NT * 4);
        slot[m * tile_floats + depth * NT * 128 + c * 32] = acc[m][c / 4][c % 4];
        acc[m][c / 4][c % 4] = 0;
    }
}

#endif
