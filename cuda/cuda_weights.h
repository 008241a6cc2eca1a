/* cuda_weights: one base model in device memory, in the tile format of layout.h. Read-only after
 * loading; its bytes are one allocation of the backend's.
 *
 * Linears are packed and, when asked, quantised on the device, while the file is read; the
 * embedding stays bf16, row by row, for the lookup, also where it is the head too: the head then
 * lies beside it in tiles. It may lie in the host's memory instead, where kernels read it as well:
 * a step reads one row a token of it. Norms, biases and RoPE tables are float32.
 */
#ifndef CHORUS_CUDA_CUDA_WEIGHTS_H
#define CHORUS_CUDA_CUDA_WEIGHTS_H

#include <cuda_runtime_api.h>

#include "cuda/cuda_carve.h"
#include "cuda/layout.h"
#include "engine/base/arena.h"
#include "engine/model/model.h"

struct cuda_formats {
    enum weight_format layers;
    enum weight_format head;
};

/* Device pointers; biases lie in the order of the matrix's rows, zeros between parts. */
struct cuda_layer {
    struct dev_matrix linear[STACK_KINDS];
    float *bias[STACK_KINDS]; /* [tiles * 16]; NULL: none */
    float *attn_norm;         /* [PAD_K(M)] */
    float *mlp_norm;          /* [PAD_K(M)] */
    float *q_norm;            /* [D] or NULL */
    float *k_norm;            /* [D] or NULL */
};

struct cuda_weights {
    struct model_shape shape;
    struct cuda_formats formats;
    int positions;             /* rows of the RoPE tables */
    struct cuda_layer *layers; /* host, [L] in `host` */
    struct dev_matrix head;    /* [V, M] */
    uint16_t *embed;           /* bf16 [V, M]; the host may write it where host_embed */
    bool host_embed;
    float *final_norm; /* [PAD_K(M)] */
    float *rope_cos;   /* [positions, D/2] */
    float *rope_sin;
    struct arena host;
};

/* Bytes of each kind, for the printed plan. */
struct cuda_weights_sum {
    size_t layers; /* with norms and biases */
    size_t head;
    size_t embed;
    size_t rope; /* and the final norm */
};

/* Device bytes of a model in these formats, its embedding elsewhere with host_embed; false when
 * they do not fit into size_t. */
bool cuda_weights_bytes(const struct model_shape *s, struct cuda_formats f, int positions,
                        bool host_embed, struct cuda_weights_sum *out);
/* Bytes of the embedding. */
size_t cuda_weights_embed_bytes(const struct model_shape *s);

size_t cuda_weights_total(const struct cuda_weights_sum *s);

/* Fills `base` (cuda_weights_bytes long) from the model's files through pinned buffers, in order of
 * `stream`, and host_embed, pinned, where that is not NULL; returns when all is on the device.
 * STATUS_NO_MEMORY, STATUS_DEVICE_LOST. The host part is freed by cuda_weights_deinit in every
 * case. */
WARN_UNUSED enum status cuda_weights_load(struct cuda_weights *w, const struct model *m,
                                          struct cuda_formats f, int positions, void *base,
                                          void *host_embed, cudaStream_t stream,
                                          const struct progress *progress, struct err *e);
void cuda_weights_deinit(struct cuda_weights *w);

/* The matrix of a stack (STACK_OF or STACK_HEAD). */
const struct dev_matrix *cuda_weights_stack(const struct cuda_weights *w, int stack);

#endif
