/* k_tail: an adapter's two matrices as plain bf16 rows, so that a library multiplies by them too.
 *
 * With u = A x behind x in the same row, and B behind W, one product makes W x + B u. B goes into
 * columns of W's scratch, with zeros where a rank belongs to another module; A becomes a matrix of
 * its own; rows of x that have another adapter, or none, get zeros in place of u.
 */
#ifndef CHORUS_CUDA_K_TAIL_H
#define CHORUS_CUDA_K_TAIL_H

#include <cuda_runtime_api.h>

#include "cuda/layout.h"
#include "engine/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct tail_args {
    struct lora_stack lora; /* host copy; 16 rank_tiles = R columns */
    int interleaved;        /* gate and up: b[0] holds both */
    int module_tile[STACK_MODULES];
    int groups; /* of 128 columns of x and A */
    void *a;    /* bf16 [R, groups * 128]; NULL: not now */
    void *w;    /* bf16 [16 tile_count, w_stride]: B of output tiles [tile_first, ...) */
    int w_stride;
    int tile_first;
    int tile_count;
    int column; /* first of the R columns in w and x, a multiple of 8 */
    void *x;    /* bf16 [x_rows, x_stride]: zeros outside of rows [row, row + rows) */
    int x_stride;
    int x_rows; /* 0: not now */
    int row;
    int rows;
};

/* STATUS_INVALID: strides that do not fit. */
WARN_UNUSED enum status cuda_tail(const struct tail_args *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
