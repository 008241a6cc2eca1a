/* k_attend_prefill: causal attention of prompt rows, many rows of a sequence at once, on the matrix
 * units. cuda_attend (k_attend.h) launches it for the pieces of its `split`, behind the node that
 * writes their keys, values and q'.
 *
 * q' and the softmax weights are rounded to bf16 (k_attend keeps twice the bits), so a row's bits
 * differ from k_attend's; they still depend on its own position and keys only, never on the other
 * rows, on how a prompt is cut into pieces, or on other sequences.
 */
#ifndef CHORUS_CUDA_K_ATTEND_PREFILL_H
#define CHORUS_CUDA_K_ATTEND_PREFILL_H

#include <stdbool.h>

#include "cuda/k_attend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Whether there is a kernel for this width: multiples of 8 from 8 to 256. */
bool cuda_attend_prefill_takes(int head_dim);

/* One node. Reads q' (times scale and log2 e) as bf16 from `out` and leaves the result in its
 * place.
 */
WARN_UNUSED enum status cuda_attend_prefill(const struct attend_args *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
