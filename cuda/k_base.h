/* k_base: everything behind a product x W^T that a library made: adapters, bias, and what becomes
 * of the sum. For steps of many rows; k_linear.h is the way for few.
 *
 *   out[t, n] = product[t, n] * row_scale[n] * (1 + sum_p weight gain[n]) + sum_p weight scale (B
 * u)[n] + bias[n], u[p] = A[p] x of the piece's rows, rounded to bf16
 */
#ifndef CHORUS_CUDA_K_BASE_H
#define CHORUS_CUDA_K_BASE_H

#include <cuda_runtime_api.h>

#include "cuda/step_dev.h"
#include "engine/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum base_out {
    BASE_STORE,  /* y[t, n] = out */
    BASE_ADD,    /* y[t, n] += out */
    BASE_SWIGLU, /* h[t, 8 tile + r] = bf16(silu(gate) * up), rows interleaved as layout.h says */
};

/* Pieces in these rows have their u and B in the product already. */
#define BASE_DONE_MAX 8

struct base_rows {
    int row;
    int rows;
};

struct base_args {
    const struct step_dev *step; /* host copy of device pointers, read at launch */
    int rows_max;                /* >= rows of the step */
    int tiles;                   /* of 16 output features; y and product have all their columns */
    int n;                       /* true output features, <= 16 tiles */
    const float *product;        /* [T, product_stride], 16-byte aligned; may be y for STORE */
    int product_stride;          /* multiples of 4, as y_stride and h_stride */
    const float *row_scale;      /* [16 tiles], times product; NULL: 1 */
    const float *bias;           /* [n] or NULL */
    enum base_out out;
    float *y; /* [T, y_stride] */
    int y_stride;
    void *h; /* bf16 [T, h_stride] (SWIGLU) */
    int h_stride;
    /* adapters; table NULL: nobody in the step has any here */
    const struct lora_stack *table; /* device, [slots, table_stride] */
    int table_stride;
    int codes;                      /* some adapters may be of int8 or int4 */
    int stack;                      /* index into a slot's stacks */
    int module_tile[STACK_MODULES]; /* first output tile of each module; `tiles` where none */
    const void *x;                  /* bf16 [T, x_stride], 16-byte aligned, what W was applied to */
    int x_stride;
    int groups;         /* of 128 columns of x */
    int pieces_max;     /* >= pieces of the step */
    int rank_tiles_max; /* >= rank tiles that any of them has at this stack */
    void *u;            /* [pieces_max][RANK_TILES_MAX][256 bytes] scratch */
    struct base_rows done[BASE_DONE_MAX];
    int done_count;
    int dependent; /* launch with programmatic dependence */
};

/* One node, with adapters two. STATUS_INVALID: pointers or sizes that do not fit. */
WARN_UNUSED enum status cuda_base(const struct base_args *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
