/* stack_shape: the linears of a step as the device has them: which sites are one matrix, how many
 * tiles it has, where each part begins. Pure, any thread, no CUDA. */
#ifndef CHORUS_CUDA_STACK_SHAPE_H
#define CHORUS_CUDA_STACK_SHAPE_H

#include "cuda/layout.h"
#include "engine/model/model.h"

struct stack_shape {
    int modules;             /* sites of this matrix, 1..STACK_MODULES */
    int site[STACK_MODULES]; /* q, k, v; o; gate, up; down; the head */
    int rows[STACK_MODULES]; /* true output features of each */
    /* First output tile of each module as k_linear wants it: gate and up share all tiles and count
     * as one; `tiles` where there is none. */
    int module_tile[STACK_MODULES];
    bool interleaved; /* gate and up */
    int n;            /* as dev_matrix: padding between parts included */
    int k;
    int tiles;
    int groups;
};

/* `stack` is STACK_OF or STACK_HEAD. */
void stack_shape_init(const struct model_shape *s, int stack, struct stack_shape *out);
/* Row of the matrix that holds output feature `row` of module m. */
int stack_shape_row(const struct stack_shape *s, int m, int row);

#endif
