/* lora_device: adapters of a linear: shrink, u = A x of each piece, in the node in front of the
 * linear; lora_expand.cuh goes on inside the linear.
 *
 * A unit is one rank tile of one piece at this linear: 16 ranks x at most 8 rows over all of K.
 * Units are numbered by piece, then rank tile. A unit is always cut into the 8 slices of K and
 * summed in their order, then rounded to bf16. Who does it depends on how many there are and does
 * not show in the bits:
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

PTX_INLINE const struct lora_stack *piece_stack(const struct linear_dev *p, int slot)
{
    return p->table + (size_t)slot * p->table_stride + p->stack;
}

#endif
