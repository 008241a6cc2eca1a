/* k_quantise: rows of a checkpoint's matrix into the tile format of layout.h, on the device.
 * quantise_ref.h has the rule and does the same in plain C, bit for bit.
 */
#ifndef CHORUS_CUDA_K_QUANTISE_H
#define CHORUS_CUDA_K_QUANTISE_H

#include <cuda_runtime_api.h>

#include "cuda/layout.h"
#include "engine/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum source_type { SOURCE_F32, SOURCE_F16, SOURCE_BF16 };

struct quantise_args {
    const void *rows; /* device: [row_count, k] of source_type, row-major, tight */
    enum source_type type;
    int row_count; /* 0 allowed */
    int k;
    struct dev_matrix w; /* data (and row_scale) are written; zeroed beforehand, so that rows that
                            nobody writes are zero; each row is written once */
    int row_first;       /* row r goes to matrix row row_first + r, or, */
    int interleave; /* when not 0, to row_first + 16 * (r / 8) + r % 8: row_first is then 16 j for
                       gate rows from 8 j on, 16 j + 8 for up rows from 8 j on */
};

/* Calls on one stream may write the two halves of a tile. STATUS_INVALID: rows outside the matrix,
 * another k than the matrix has, interleaved rows that do not begin at a multiple of 8. */
WARN_UNUSED enum status cuda_quantise(const struct quantise_args *a, cudaStream_t s);

/* out[i] = bf16(in[i]), row-major as it was: the embedding. Both aligned to their types. */
WARN_UNUSED enum status cuda_quantise_plain(const void *in, enum source_type type, size_t count,
                                            void *out, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
