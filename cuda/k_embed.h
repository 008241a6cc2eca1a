/* k_embed: the residual of every row from the embedding, and what the first linear needs of it.
 *
 *   y[t] = E[token[t]] + sum_p weight scale B A[:, token[t]]
 *   xn[t] = bf16(y * norm), ss[t, tile] = sum of y^2 over 16 columns
 *
 * token[t] = -1 - o means drawn[o]: what output o of the step before drew.
 *
 * Columns behind hidden, up to the strides, become zero. Also sets the step's counters (k_attend's
 * arrivals) to zero: it is the first node.
 *
 * A row's bits depend on its token and its own adapters in their order, on nothing else.
 */
#ifndef CHORUS_CUDA_K_EMBED_H
#define CHORUS_CUDA_K_EMBED_H

#include <cuda_runtime_api.h>

#include "cuda/step_dev.h"
#include "engine/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct embed_args {
    const struct step_dev *step; /* host copy of device pointers, read at launch */
    int rows_max;
    const int32_t *drawn; /* device [O]: next_token of the step before (k_sample.h) */
    const void *embed;    /* bf16 [V, hidden], row-major */
    int hidden;
    const float *norm; /* [hidden] */
    float *y;          /* [T, y_stride], y_stride >= hidden */
    int y_stride;
    void *xn; /* bf16 [T, xn_stride], xn_stride >= PAD_K(hidden), a multiple of TILE_K */
    int xn_stride;
    float *ss;                      /* [T, PAD_N(hidden) / 16] */
    const struct lora_embed *table; /* device, [slots]; NULL: no adapters */
    uint32_t *counters;             /* set to zero */
    int counter_count;
    int dependent;
};

/* STATUS_INVALID: strides too small. */
WARN_UNUSED enum status cuda_embed(const struct embed_args *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
