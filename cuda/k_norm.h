/* k_norm: RMS norm of the residual for the next product, in steps of many rows.
 *
 *   xn[t] = bf16(y[t] * norm * rinv[t]), rinv[t] = 1 / sqrt(sum of y[t]^2 / hidden + eps)
 *
 * For a reader that takes rinv from `ss` (cuda_linear): xn[t] = bf16(y[t] * norm) and ss[t, tile] =
 * sum of y^2 over 16 columns.
 */
#ifndef CHORUS_CUDA_K_NORM_H
#define CHORUS_CUDA_K_NORM_H

#include <cuda_runtime_api.h>

#include "cuda/step_dev.h"
#include "engine/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct norm_args {
    const struct step_dev *step; /* host copy of device pointers, read at launch */
    int rows_max;
    int hidden;
    const float *y; /* [T, y_stride], y_stride = PAD_K(hidden), zeros behind hidden */
    int y_stride;
    const float *norm; /* [hidden] */
    float eps;
    void *xn; /* bf16 [T, xn_stride]; columns up to y_stride are written */
    int xn_stride;
    float *ss; /* [T, PAD_N(hidden) / 16] or NULL */
    int dependent;
};

/* STATUS_INVALID: strides that do not fit. */
WARN_UNUSED enum status cuda_norm(const struct norm_args *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
