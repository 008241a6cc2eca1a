/* lora_device: adapters of a linear. u = A x of all pieces is made first: of at most 8 rows by a
 * node in front (lora_shrink_few.cuh), of more by the linear's own blocks, each its share
 * (lora_shrink.cuh), which multiply with W then and read behind that what the others made: all
 * blocks of a grid lie on the card at once, so none waits for one that cannot come.
 * lora_pieces.cuh reads u, lora_expand.cuh goes on.
 *
 * A unit is one rank tile of one piece at this linear: 16 ranks x at most 8 rows over all of K.
 * Units are numbered by piece, then rank tile. A unit is always cut into the 8 slices of K and
 * summed in their order, then rounded to bf16. Who does it depends on how many there are and does
 * not show in the bits:
 *   coarse: a block takes a unit, its warps the slices; it stores the rounded u as the B fragment
 *           of an mma: u[piece][rank tile][lane 32][2], 2 ranks each.
 *   fine:   at most FINE_UNITS units of at most 32 pieces; a warp takes a slice of a unit and
 *           stores its fp32 sums: u[unit][slice][2][lane 32][2], a rank each; who expands adds the
 *           slices up.
 * Lane (g, t) of either holds ranks 2t, 2t + 1, 2t + 8, 2t + 9 of row g of the piece.
 *
 * Each of these values is 4 bytes with 4 bytes of tag behind them, written at once: who reads it
 * looks again until the tag is this step's and linear's (piece_head.tag). So there is no flag to
 * wait for before the value can be asked for, and nothing to take back. Who has waited for the node
 * in front need not look.
 */
#ifndef CHORUS_CUDA_LORA_DEVICE_CUH
#define CHORUS_CUDA_LORA_DEVICE_CUH

#include "cuda/linear_dev.cuh"

/* Few units must be spread over the card; with more, adding the slices up at every tile costs more.
 */
#define FINE_UNITS  16
#define FINE_PIECES 32

#define U_SLICE (2 * 32 * 16) /* bytes of a slice, fine */
#define U_UNIT  (32 * 16)     /* of a unit, coarse */

PTX_INLINE bool shrink_fine(const struct linear_dev *p, int units, int count)
{
    return p->fine && units <= FINE_UNITS && count <= FINE_PIECES;
}

/* Two values of u, at `from` of linear_dev.u. */
PTX_INLINE bool u_here(const uint4 v, uint32_t tag)
{
    return v.y == tag && v.w == tag;
}

/* Of which it is known that they have come. */
PTX_INLINE uint2 u_load(const uint8_t *from)
{
    const uint4 v = ptx_load_l2(from);
    return make_uint2(v.x, v.z);
}

PTX_INLINE uint2 u_await(const uint8_t *from, uint32_t tag)
{
    uint4 v = ptx_load_tagged(from);
    while (!u_here(v, tag))
        v = ptx_load_tagged(from);
    return make_uint2(v.x, v.z);
}

PTX_INLINE const struct lora_stack *piece_stack(const struct linear_dev *p, int slot)
{
    return p->table + (size_t)slot * p->table_stride + p->stack;
}

#endif
