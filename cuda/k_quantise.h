/* k_quantise: rows of a checkpoint's matrix into the tile format of layout.h, on the device.
 *
 * int4: per row and group of 128 the scale with the least squared error of a fixed list of
 * candidates, rounded to bf16 before it is used; q = clamp(round_half_even(w / scale), -8, 7).
 * int8: per row scale = max |w| / 127, fp32; q = clamp(round_half_even(w / scale), -127, 127).
 * quantise_ref.h has the same rule in plain C, bit for bit.
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
    int row_count;
    int k;
    struct dev_matrix w; /* data (and row_scale) are written; zeroed beforehand */
    int row_first;       /* row r goes to matrix row row_first + row_step(r) */
    int interleave;      /* 0: matrix row = row_first + r; 1: 16 * (r / 8) + r % 8 + row_first */
};

enum status cuda_quantise(const struct quantise_args *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
