/* lora_device: adapters inside a linear: shrink (u = A x of each piece) and expand (B u).
 *
 * A unit is one rank tile of one piece at this linear: 16 ranks x at most 8 rows over all of K.
 * Units are numbered by piece, then rank tile, and every block counts them itself. A unit is always
 * cut into the 8 slices of K and summed in their order, then rounded to bf16. Who does it depends
 * on how many there are and does not show in the bits:
 *   coarse: a block takes a unit, its warps the slices; it stores the rounded u as the B fragment
 *           of an mma: u[piece][rank tile][lane 32][2], 256 bytes; done += 1 a unit.
 *   fine:   at most FINE_UNITS units of at most 32 pieces; a warp takes a slice of a unit and
 *           stores its fp32 sums: u[unit][slice][lane 32][4], 512 bytes a slice; who expands adds
 *           the slices up; done += 1 a slice.
 * Lane (g, t) of either holds ranks 2t, 2t + 1, 2t + 8, 2t + 9 of row g of the piece.
 */
#ifndef CHORUS_CUDA_LORA_DEVICE_CUH
#define CHORUS_CUDA_LORA_DEVICE_CUH

#include "cuda/linear_dev.cuh"

#define FINE_UNITS (LINEAR_SCRATCH_MIN / 4096)

/* 32 pieces at a time, one a lane, with their running count of units. */
struct unit_scan {
    int first;  /* piece of lane 0 */
    int before; /* units of the pieces before it */
    int incl;   /* units of the pieces first .. first + lane */
};

PTX_INLINE const struct lora_stack *piece_stack(const struct linear_dev *p, int slot)
{
    return p->table + (size_t)slot * p->table_stride + p->stack;
}

PTX_INLINE void scan_load(struct unit_scan *s, const struct linear_dev *p, int count, int lane)
{
    int q = s->first + lane, v = 0;
    if (q < count)
        v = piece_stack(p, p->pieces[q].slot)->rank_tiles;
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
        int left = __shfl_up_sync(~0u, v, d);
        v += lane >= d ? left : 0;
    }
    s->incl = v;
}

/* Units of all pieces; the scan stands at its begin afterwards. */
PTX_INLINE int scan_init(struct unit_scan *s, const struct linear_dev *p, int count, int lane)
{
    int total = 0, first = 0;
    do {
        s->first = first;
        scan_load(s, p, count, lane);
        total += __shfl_sync(~0u, s->incl, 31);
        first += 32;
    } while (first < count);
    s->before = 0;
    if (s->first != 0) {
        s->first = 0;
        scan_load(s, p, count, lane);
    }
    return total;
}

/* One slice of a unit as a warp works on it. */
struct shrink_work {
    const uint8_t *a; /* this lane's bytes of the slice's first group */
    const uint8_t *x; /* this lane's bytes of x there */
    int groups;
    int piece, rank_tile, unit, slice;
};

/* Unit numbers must not fall from call to call. */
PTX_INLINE struct shrink_work shrink_find(struct unit_scan *s, const struct linear_dev *p,
                                          int count, int unit, int slice, const struct place *at)
{
    int chunk;
    while (unit >= s->before + (chunk = __shfl_sync(~0u, s->incl, 31))) {
        s->before += chunk;
        s->first += 32;
        scan_load(s, p, count, at->lane);
    }
    int lane = __popc(__ballot_sync(~0u, s->before + s->incl <= unit));
    int begin = __shfl_sync(~0u, s->incl, lane ? lane - 1 : 0);
    struct shrink_work w;
    w.piece = s->first + lane;
    w.rank_tile = unit - s->before - (lane ? begin : 0);
    w.unit = unit;
    w.slice = slice;
    const struct lora_piece *piece = p->pieces + w.piece;
    int group = slice_begin(p->groups, slice);
    w.groups = slice_begin(p->groups, slice + 1) - group;
    w.a = piece_stack(p, piece->slot)->a +
          ((size_t)w.rank_tile * p->groups + group) * TILE_BYTES_BF16 + at->lane * 16;
    int row = piece->row + min(at->g, piece->rows - 1);
    if (p->x_row)
        row = p->x_row[row];
    w.x = p->x + (size_t)row * p->x_stride * 2 + (size_t)group * 256 + at->t * 16;
    return w;
}

/* Half a group of A in registers: four k16 steps. */
struct shrink_half {
    uint4 a[4];
};

PTX_INLINE void half_load(struct shrink_half *h, const uint8_t *a)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        h->a[i] = ptx_load_stream(a + i * 512);
}

/* c = the slice's sums. `first`: its first group, loaded before. */
PTX_INLINE void shrink_slice(float c[4], const struct shrink_work *w, struct shrink_half first[2])
{
    c[0] = c[1] = c[2] = c[3] = 0;
    for (int g = 0; g < w->groups; g++) {
        uint4 x[4];
#pragma unroll
        for (int s = 0; s < 4; s++)
            x[s] = ptx_load_l2(w->x + (size_t)g * 256 + s * 64);
#pragma unroll
        for (int h = 0; h < 2; h++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                uint4 a = first[h].a[i], v = x[h * 2 + i / 2];
                ptx_mma_bf16(c, a.x, a.y, a.z, a.w, i % 2 ? v.z : v.x, i % 2 ? v.w : v.y);
            }
            if (g + 1 < w->groups)
                half_load(&first[h], w->a + (size_t)(g + 1) * TILE_BYTES_BF16 + h * 2048);
        }
    }
}

PTX_INLINE void shrink_begin(const struct shrink_work *w, struct shrink_half first[2])
{
    if (w->groups > 0) {
        half_load(&first[0], w->a);
        half_load(&first[1], w->a + 2048);
    }
}

/* Asks a slice's A into L2. */
PTX_INLINE void shrink_prefetch(const struct shrink_work *w, int lane)
{
    const uint8_t *a = w->a - lane * 16;
    for (int i = lane * 128; i < w->groups * TILE_BYTES_BF16; i += 32 * 128)
        ptx_prefetch_l2(a + i);
}

/* Where fp32 sum (rank r, row j) of a unit lies among [lane][4]. */
PTX_INLINE int shrink_at(int r, int j)
{
    return (j * 4 + r % 8 / 2) * 4 + r / 8 * 2 + r % 2;
}

/* A warp's four sums to [lane][4] of its slice. */
PTX_INLINE void shrink_put(float *to, const float c[4], const struct place *at)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        to[shrink_at(at->g + i / 2 * 8, at->t * 2 + i % 2)] = c[i];
}

/* ---- expand ---- */

/* The B fragment of u of a rank tile; see above. exclusive: units before the piece (fine). */
PTX_INLINE uint2 u_fragment(const struct linear_dev *p, bool fine, int exclusive, int piece,
                            int rank_tile, int lane)
{
    if (!fine)
        return __ldcg(
            (const uint2 *)(p->u + ((size_t)piece * RANK_TILES_MAX + rank_tile) * 256 + lane * 8));
    const uint8_t *from = p->u + (size_t)(exclusive + rank_tile) * 4096 + lane * 16;
    float s[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < LINEAR_SLICES; i++) {
        uint4 v = ptx_load_l2(from + i * 512);
        s[0] = __fadd_rn(s[0], __uint_as_float(v.x));
        s[1] = __fadd_rn(s[1], __uint_as_float(v.y));
        s[2] = __fadd_rn(s[2], __uint_as_float(v.z));
        s[3] = __fadd_rn(s[3], __uint_as_float(v.w));
    }
    return make_uint2(pack_bf16(s[0], s[1]), pack_bf16(s[2], s[3]));
}

/* The ranks of a piece that reach an output tile. gate_up: gate's rows take `tiles` rank tiles of
 * u from `first`, up's `tiles_up` from `first_up`, of one array of fragments. */
struct expand_work {
    const uint8_t *b; /* this lane's first fragment */
    int first, tiles, first_up, tiles_up, count;
    float scale, scale_up; /* with the piece's weight */
};

PTX_INLINE struct expand_work expand_find(const struct linear_dev *p, const struct lora_stack *s,
                                          float weight, int tile, int lane)
{
    struct expand_work w;
    int m = 0;
    if (p->out != LINEAR_SWIGLU)
        m = tile >= p->module_tile[2] ? 2 : tile >= p->module_tile[1] ? 1 : 0;
    w.first = s->module_tile[m];
    w.tiles = s->module_tile[m + 1] - w.first;
    w.scale = weight * s->scale[m];
    w.first_up = w.tiles_up = 0;
    w.scale_up = w.scale;
    if (p->out == LINEAR_SWIGLU) {
        w.first_up = s->module_tile[1];
        w.tiles_up = s->module_tile[2] - w.first_up;
        w.scale_up = weight * s->scale[1];
    }
    w.count = s->rank_tiles > 0 ? max(w.tiles, w.tiles_up) : 0;
    w.b = s->b[m] + (size_t)(tile - p->module_tile[m]) * w.count * 512 + lane * 16;
    return w;
}

/* sum[row (r, t)] += weight scale (B u) of one piece at one tile. sum: a slot; row: the piece's
 * first row within the row block of `rows` rows, may lie outside of it. */
PTX_INLINE void expand_tile(float *sum, const struct linear_dev *p, const struct expand_work *w,
                            bool fine, int exclusive, int piece, int row, int piece_rows, int rows,
                            const struct place *at)
{
    float c[4] = {0, 0, 0, 0};
    const bool pair = p->out == LINEAR_SWIGLU;
    for (int i0 = 0; i0 < w->count; i0 += 4) {
        uint4 b[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (i0 + i < w->count)
                b[i] = ptx_load_stream(w->b + (size_t)(i0 + i) * 512);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (i0 + i >= w->count)
                break;
            if (!pair) {
                uint2 u = u_fragment(p, fine, exclusive, piece, w->first + i0 + i, at->lane);
                ptx_mma_bf16(c, b[i].x, b[i].y, b[i].z, b[i].w, u.x, u.y);
                continue;
            }
            if (i0 + i < w->tiles) {
                uint2 u = u_fragment(p, fine, exclusive, piece, w->first + i0 + i, at->lane);
                ptx_mma_bf16(c, b[i].x, 0, b[i].z, 0, u.x, u.y);
            }
            if (i0 + i < w->tiles_up) {
                uint2 u = u_fragment(p, fine, exclusive, piece, w->first_up + i0 + i, at->lane);
                ptx_mma_bf16(c, 0, b[i].y, 0, b[i].w, u.x, u.y);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int j = at->t * 2 + i % 2, t = row + j;
        if (j >= piece_rows || t < 0 || t >= rows)
            continue;
        float *to = sum + slot_at(at->g + i / 2 * 8, t);
        *to = __fmaf_rn(i < 2 ? w->scale : w->scale_up, c[i], *to);
    }
}

#endif
