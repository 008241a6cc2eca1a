/* k_dora: the gains of one linear's DoRA modules, computed once when an adapter is loaded, against
 * the weights that the card serves (quantised or not) and the adapter as it is stored there (bf16).
 *
 *   g[n] = m[n] / || W_n + scale (B A)_n ||;  gain[n] = g - 1;  B_n becomes bf16(g B_n)
 *
 * The magnitudes m come in the place of the gains, as cuda_adapter_pack puts them. Where the norm
 * and the magnitude are both 0 (rows of padding) g is 1.
 */
#ifndef CHORUS_CUDA_K_DORA_H
#define CHORUS_CUDA_K_DORA_H

#include <cuda_runtime_api.h>

#include "cuda/layout.h"
#include "engine/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct dora_args {
    struct dev_matrix w;            /* the base linear */
    struct lora_stack stack;        /* the adapter's entry for it; gain and b are written */
    int module_tile[STACK_MODULES]; /* first output tile of each module, as linear_args */
    int interleaved;                /* gate and up */
    unsigned modules;               /* cuda_adapter_dora: gains and B of others stay */
};

/* STATUS_INVALID: a module without A, or no gain. Once only for each image. */
WARN_UNUSED enum status cuda_dora(const struct dora_args *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
