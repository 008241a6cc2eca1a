/* lora_device: adapters of a linear: shrink, u = A x of each piece, in the node in front of the
 * linear; lora_expand.cuh goes on inside the linear.
 *
 * A unit is one rank tile of one piece at this linear: 16 ranks x at most 8 rows over all of K.
 * Units are numbered by piece, then rank tile, and every block counts them itself. A unit is always
 * cut into the 8 slices of K and summed in their order, then rounded to bf16. Who does it depends
 * on how many there are and does not show in the bits:
 *   coarse: a block takes a unit, its warps the slices; it stores the rounded u as the B fragment
 *           of an mma: u[piece][rank tile][lane 32][2], 256 bytes.
 *   fine:   at most FINE_UNITS units of at most 32 pieces; a warp takes a slice of a unit and
 *           stores its fp32 sums: u[unit][slice][lane 32][4], 512 bytes a slice; who expands adds
 *           the slices up.
 * Lane (g, t) of either holds ranks 2t, 2t + 1, 2t + 8, 2t + 9 of row g of the piece.
 */
#ifndef CHORUS_CUDA_LORA_DEVICE_CUH
#define CHORUS_CUDA_LORA_DEVICE_CUH

#include "cuda/linear_dev.cuh"

/* Few units must be spread over the card; with more, adding the slices up at every tile costs more.
 */
#define FINE_UNITS  16
#define FINE_PIECES 32

PTX_INLINE bool shrink_fine(const struct linear_dev *p, int units, int count)
{
    return p->fine && units <= FINE_UNITS && count <= FINE_PIECES;
}

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

/* Four lots of 16 bytes of x: this lane's share of a group. */
PTX_INLINE void shrink_x(uint4 x[4], const uint8_t *from)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        x[i] = ptx_load_l2(from + i * 64);
}

/* c = the slice's sums. `first`: A of its first group, loaded before. */
PTX_INLINE void shrink_slice(float c[4], const struct shrink_work *w, struct shrink_half first[2])
{
    uint4 x[4];
    c[0] = c[1] = c[2] = c[3] = 0;
    if (w->groups > 0)
        shrink_x(x, w->x);
    for (int g = 0; g < w->groups; g++) {
        uint4 now[4] = {x[0], x[1], x[2], x[3]};
        if (g + 1 < w->groups)
            shrink_x(x, w->x + (size_t)(g + 1) * 256);
#pragma unroll
        for (int h = 0; h < 2; h++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                uint4 a = first[h].a[i], v = now[h * 2 + i / 2];
                ptx_mma_bf16(c, a.x, a.y, a.z, a.w, i % 2 ? v.z : v.x, i % 2 ? v.w : v.y);
            }
            if (g + 1 < w->groups)
                half_load(&first[h], w->a + (size_t)(g + 1) * TILE_BYTES_BF16 + h * 2048);
        }
    }
}

/* The first group of A into registers, the others asked into L2: a warp reads them one by one. */
PTX_INLINE void shrink_begin(const struct shrink_work *w, struct shrink_half first[2], int lane)
{
    if (w->groups == 0)
        return;
    half_load(&first[0], w->a);
    half_load(&first[1], w->a + 2048);
    const uint8_t *a = w->a - lane * 16;
    for (int i = TILE_BYTES_BF16 + lane * 128; i < w->groups * TILE_BYTES_BF16; i += 32 * 128)
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

#endif
