/* cpu_weights: one base model in the CPU's layout. Owned by the backend, read-only after loading.
 *
 * Linear weights keep the type of the file (bf16 stays bf16: half the bytes of a decode step);
 * norms and biases are widened. A tied head is stored once, in panels, and the embedding is read
 * out of them.
 */
#ifndef CHORUS_CPU_CPU_WEIGHTS_H
#define CHORUS_CPU_CPU_WEIGHTS_H

#include "engine/base/arena.h"
#include "engine/cpu/cpu_matrix.h"
#include "engine/cpu/cpu_pool.h"
#include "engine/model/model.h"

struct cpu_layer {
    struct cpu_matrix linear[LINEAR_COUNT];
    const float *bias[LINEAR_COUNT]; /* [out] or NULL */
    const float *attn_norm;          /* [M] */
    const float *mlp_norm;           /* [M] */
    const float *q_norm;             /* [D] or NULL */
    const float *k_norm;             /* [D] or NULL */
};

struct cpu_weights {
    struct model_shape shape;
    struct cpu_layer *layers; /* [L] in vectors */
    struct cpu_matrix head;   /* [V, M] */
    struct tensor embed;      /* [V, M] owned copy; data NULL when tied */
    const float *final_norm;  /* [M] */
    const float *rope_cos;    /* [positions, D/2] */
    const float *rope_sin;
    struct arena vectors;
};

/* What loading an adapter needs of the backend. */
struct cpu_env {
    const struct cpu_weights *w;
    const struct cpu_kernels *kernels;
    struct cpu_pool *pool;
};

/* Bytes that cpu_weights_load will hold; false when they do not fit into size_t. */
bool cpu_weights_bytes(const struct model *m, int positions, size_t *out);
/* Packs with the threads of `pool`. `positions`: rows of the RoPE tables. On failure *w is empty.
 */
WARN_UNUSED enum status cpu_weights_load(struct cpu_weights *w, const struct model *m,
                                         int positions, struct cpu_pool *pool,
                                         const struct progress *progress, struct err *e);
void cpu_weights_deinit(struct cpu_weights *w);

/* The embedding of a token: out[M]. */
void cpu_weights_embed(const struct cpu_weights *w, int token, float *out);
/* The packed weights of a linear site or the head; NULL for SITE_EMBED. */
const struct cpu_matrix *cpu_weights_site(const struct cpu_weights *w, int site);

#endif
