/* k_dequant: packed tiles back into a row-major bf16 matrix, for products of many rows.
 *
 *   bf16: the weights; int4: bf16((nibble - 8) * scale); int8: the integers, which are exact,
 * without row_scale: that is for the product (base_args.row_scale).
 */
#ifndef CHORUS_CUDA_K_DEQUANT_H
#define CHORUS_CUDA_K_DEQUANT_H

#include <cuda_runtime_api.h>

#include "cuda/layout.h"
#include "engine/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct dequant_args {
    struct dev_matrix w;
    int tile_first; /* tiles [tile_first, tile_first + tile_count) */
    int tile_count;
    void *out;      /* bf16 [tile_count * 16, out_stride], 16-byte aligned; rows in matrix order */
    int out_stride; /* >= w.groups * 128, a multiple of 8 */
};

/* STATUS_INVALID for tiles that the matrix does not have, and for a stride that does not fit. */
enum status cuda_dequant(const struct dequant_args *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
