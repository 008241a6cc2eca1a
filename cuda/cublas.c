#include "cuda/cublas.h"

#include <cublas_v2.h>
#include <stdbool.h>
#include <string.h>

#include "cuda/cublas_library.h"
#include "engine/base/mem.h"

/* The functions we call, by the names the library exports. */
#define CUBLAS_FUNCTIONS(X)                                                                        \
    X(create, cublasCreate_v2)                                                                     \
    X(destroy, cublasDestroy_v2)                                                                   \
    X(set_stream, cublasSetStream_v2)                                                              \
    X(set_workspace, cublasSetWorkspace_v2)                                                        \
    X(gemm, cublasGemmEx)

struct cublas {
    void *library; /* owned */
    cublasHandle_t handle;
#define X(field, name) __typeof__(name) *field;
    CUBLAS_FUNCTIONS(X)
#undef X
};

/* POSIX gives functions as object pointers; C11 forbids the cast, so their bytes are copied. */
static bool find(void *library, const char *name, void *function)
{
    void *symbol = cublas_library_find(library, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

enum status cublas_open(struct cublas **out, struct err *e)
{
    struct cublas *c = mem_calloc(1, sizeof *c);
    bool found = true;
    if (!c)
        return err_set(e, STATUS_NO_MEMORY, NULL, "Out of memory for cuBLAS.");
    c->library = cublas_library_open();
    if (!c->library) {
        err_set(e, STATUS_UNSUPPORTED, "cublas", "libcublas.so.13 and .12 are not installed.");
        goto free_it;
    }
#define X(field, name) found = find(c->library, #name, &c->field) && found;
    CUBLAS_FUNCTIONS(X)
#undef X
    if (!found) {
        err_set(e, STATUS_UNSUPPORTED, "cublas", "This libcublas lacks a function we need.");
        goto close_library;
    }
    if (c->create(&c->handle) != CUBLAS_STATUS_SUCCESS) {
        err_set(e, STATUS_UNSUPPORTED, "cublas", "libcublas does not work with this driver.");
        goto close_library;
    }
    *out = c;
    return STATUS_OK;

close_library:
    cublas_library_close(c->library);
free_it:
    mem_free(c);
    return STATUS_UNSUPPORTED;
}

/* In this order: setting the stream takes the workspace away. */
enum status cublas_place(struct cublas *c, cudaStream_t stream, void *workspace,
                         size_t workspace_bytes)
{
    bool placed = c->set_stream(c->handle, stream) == CUBLAS_STATUS_SUCCESS &&
                  c->set_workspace(c->handle, workspace, workspace_bytes) == CUBLAS_STATUS_SUCCESS;
    return placed ? STATUS_OK : STATUS_DEVICE_LOST;
}

void cublas_close(struct cublas *c)
{
    if (!c)
        return;
    (void)c->destroy(c->handle);
    cublas_library_close(c->library);
    mem_free(c);
}

/* cuBLAS counts columns first: our row-major y = x W^T is its y^T = W x^T. */
enum status cublas_multiply(struct cublas *c, const struct cublas_product *p)
{
    const float factor = p->factor, keep = p->add ? 1.0f : 0.0f;
    cublasStatus_t st = c->gemm(c->handle, CUBLAS_OP_T, CUBLAS_OP_N, p->n, p->rows, p->k, &factor,
                                p->w, CUDA_R_16BF, p->w_stride, p->x, CUDA_R_16BF, p->x_stride,
                                &keep, p->y, p->y_bf16 ? CUDA_R_16BF : CUDA_R_32F, p->y_stride,
                                CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    return st == CUBLAS_STATUS_SUCCESS ? STATUS_OK : STATUS_DEVICE_LOST;
}
