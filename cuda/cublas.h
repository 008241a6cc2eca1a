/* cublas: the one library call of the backend: bf16 products for many rows.
 *
 * The library is opened at run time (libcublas.so of CUDA 13 or 12): a machine without it serves
 * all the same, through the kernels for few rows. Which of its kernels it picks, and so the order
 * of its sums, depends on the number of rows: results of a row may differ in the last bits with the
 * size of its chunk. Engine thread.
 */
#ifndef CHORUS_CUDA_CUBLAS_H
#define CHORUS_CUDA_CUBLAS_H

#include <cuda_runtime_api.h>
#include <stddef.h>

#include "engine/base/status.h"

struct cublas;

/* STATUS_UNSUPPORTED: the library is not there or too old; e says what was tried. Products run on
 * `stream`; `workspace` is device memory of the caller's, for as long as the handle lives. */
WARN_UNUSED enum status cublas_open(cudaStream_t stream, void *workspace, size_t workspace_bytes,
                                    struct cublas **out, struct err *e);
/* NULL is allowed. */
void cublas_close(struct cublas *c);

/* y[rows, n] fp32 = x[rows, k] W^T, W [n, k]; x and W bf16, all row-major; strides in elements. */
struct cublas_product {
    const void *x;
    int x_stride;
    const void *w;
    int w_stride;
    float *y;
    int y_stride;
    int rows;
    int n;
    int k;
};

WARN_UNUSED enum status cublas_multiply(struct cublas *c, const struct cublas_product *p);

#endif
