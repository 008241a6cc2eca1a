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

#endif
