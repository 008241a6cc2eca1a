/* piece_of: what k_pieces.h keeps of a piece at a linear, from the adapter's stack there: for the
 * node that makes the records, and for pieces that have no room in them. */
#ifndef CHORUS_CUDA_PIECE_OF_CUH
#define CHORUS_CUDA_PIECE_OF_CUH

#include "cuda/k_pieces.h"
#include "cuda/ptx.cuh"

/* Without what the pieces before it decide. */
PTX_INLINE struct piece_entry piece_entry_of(const struct lora_stack *stack,
                                             const struct lora_piece &piece)
{
    struct piece_entry e = {};
    if (stack->rank_tiles == 0)
        return e;
    e.row = (int16_t)piece.row;
    e.rows = (int16_t)piece.rows;
    e.codes = stack->codes;
#pragma unroll
    for (int m = 0; m < STACK_MODULES; m++) {
        e.b[m] = stack->b[m];
        e.scale[m] = piece.weight * stack->scale[m];
    }
#pragma unroll
    for (int m = 0; m <= STACK_MODULES; m++)
        e.module_tile[m] = (int16_t)stack->module_tile[m];
    return e;
}

PTX_INLINE struct piece_shrink piece_shrink_of(const struct lora_stack *stack,
                                               const struct lora_piece &piece)
{
    if (stack->rank_tiles == 0)
        return {};
    return {stack->a, (int16_t)piece.row, (uint8_t)piece.rows, (uint8_t)stack->rank_tiles,
            stack->codes};
}

#endif
