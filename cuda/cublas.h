/* cublas: the one library call of the backend: bf16 products for many rows.
 *
 * The library is opened at run time (libcublas.so of CUDA 13 or 12, where the loader finds it:
 * LD_LIBRARY_PATH steers it): a machine without it serves all the same, through the kernels for few
 * rows. Which of its kernels it picks, and so the order of its sums, depends on the number of rows:
 * results of a row may differ in the last bits with the size of its step. Engine thread.
 */
#ifndef CHORUS_CUDA_CUBLAS_H
#define CHORUS_CUDA_CUBLAS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>

#include "engine/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cublas;

/* What its kernels for our largest products ask for. */
#define CUBLAS_WORKSPACE_BYTES ((size_t)32 << 20)

/* STATUS_UNSUPPORTED: the library is not there or too old; e says what was tried. */
WARN_UNUSED enum status cublas_open(struct cublas **out, struct err *e);
/* Before the first product: they run on `stream`; `workspace` is device memory of the caller's, for
 * as long as products are made. */
WARN_UNUSED enum status cublas_place(struct cublas *c, cudaStream_t stream, void *workspace,
                                     size_t workspace_bytes);
/* NULL is allowed. */
void cublas_close(struct cublas *c);

/* y[rows, n] = factor x[rows, k] W^T, or y += it; W [n, k]. x and W bf16, y fp32 or bf16, all
 * row-major, 16-byte aligned; strides in elements. Sums are fp32. */
struct cublas_product {
    const void *x;
    int x_stride;
    const void *w;
    int w_stride;
    void *y;
    int y_stride;
    bool y_bf16;
    bool add;
    float factor;
    int rows;
    int n;
    int k;
};

WARN_UNUSED enum status cublas_multiply(struct cublas *c, const struct cublas_product *p);

#ifdef __cplusplus
}
#endif
#endif
