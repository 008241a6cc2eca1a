/* k_linear: y = W x for few rows, with the LoRA pieces of any mix of adapters.
 *
 *   acc[t, n] = sum_k W[n, k] x[t, k];  u[p] = A[p] x of the piece's rows
 *   out[t, n] = rinv[t] * (acc * (1 + sum_p weight gain[n]) + sum_p weight scale (B u)[n]) +
 * bias[n] rinv[t] = 1 / sqrt(sum of ss[t] / K + eps), or 1 without a norm
 *
 * One graph node; with adapters two: u comes from a node in front. The order of every sum depends
 * on K and N alone: 8 slices of K (one a warp), added in order; a row's bits are the same at any T,
 * in any company, on every path of this file.
 */
#ifndef CHORUS_CUDA_K_LINEAR_H
#define CHORUS_CUDA_K_LINEAR_H

#include <cuda_runtime_api.h>

#include "cuda/k_pieces.h"
#include "engine/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum linear_out {
    LINEAR_STORE,    /* y[t, n] fp32 = out */
    LINEAR_RESIDUAL, /* y[t, n] += out; xn[t, n] = bf16(y * norm[n]); ss_out[t, tile] = sum of y^2
                      */
    LINEAR_SWIGLU, /* h[t, 8 tile + r] = bf16(silu(gate) * up), rows interleaved as layout.h says */
};

/* Bytes of linear_args.u: of a piece, and at least, whatever the number of pieces. */
#define LINEAR_PIECE_U (RANK_TILES_MAX * 512)
#define LINEAR_U_MIN   (256 << 10)

/* Entries of linear_args.begun: more than any card has multiprocessors. */
#define LINEAR_BEGUN 256

struct linear_args {
    struct dev_matrix w;
    const struct step_dev *step; /* host copy of device pointers, read at launch */
    enum step_view view;         /* which rows, which pieces */
    int rows_max;  /* bucket: 8, 16, 32, 64 or a multiple of 64; >= rows of the step */
    const void *x; /* bf16 [T, x_stride], x_stride = PAD_K(w.k) */
    int x_stride;
    const int32_t *x_row; /* device: x and ss of row t are those of row x_row[t]; NULL: t */
    const float *ss;      /* [T, ss_tiles] partial sums of squares; NULL: no norm */
    int ss_tiles;
    float eps;
    enum linear_out out;
    const float *bias; /* [n] or NULL */
    float *y;          /* [T, y_stride] */
    int y_stride;
    const float *norm; /* [n], weight of the next norm (RESIDUAL) */
    void *xn;          /* bf16 [T, xn_stride] (RESIDUAL) */
    int xn_stride;
    float *ss_out; /* [T, w.tiles] (RESIDUAL) */
    void *h;       /* bf16 [T, h_stride] (SWIGLU) */
    int h_stride;
    /* adapters; table NULL: the model runs without any */
    const struct lora_stack *table; /* device, [slots, table_stride] */
    int table_stride;
    int stack;                         /* index into a slot's stacks */
    int module_tile[STACK_MODULES];    /* first output tile of each module; w.tiles where none */
    const struct stack_pieces *pieces; /* device, [stacks]: made of this step's pieces */
    void *u; /* device, between the blocks: [pieces_max][LINEAR_PIECE_U], LINEAR_U_MIN at least. For
                linears alone, zeros before the first; tags (k_pieces.h) tell what is in it */
    uint32_t *begun; /* device [LINEAR_BEGUN] of this node alone, 0 between steps: with at most 8
                        rows the shrink in front says that it runs, and x is read before it ends;
                        NULL: x waits */
    int codes;       /* some adapters may be of int8 or int4 */
    int no_pieces;   /* the step has none, whatever the table */
    int leave;       /* multiprocessors that a node beside it could use; 0: nobody would */
    int sms;   /* multiprocessors of the card, or fewer. The blocks of a grid wait for each other:
                  where   another such grid can hold some of them for as long as it waits (processes
                  under   MPS), neither ends */
    int small; /* use at most 99 KB of shared memory, as where a card has no more */
    int dependent; /* launch with programmatic dependence */
};

enum status cuda_linear(const struct linear_args *a, cudaStream_t s);

/* The virtual architecture that this card's kernels were compiled for, as 90; 0: there are none. A
 * newer card may run code for an older one, which has no dependent launches. */
int cuda_linear_arch(void);

#ifdef __cplusplus
}
#endif
#endif
