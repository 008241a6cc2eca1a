/* fake_cublas: the functions of cuBLAS that the backend calls, for the emulated card: plain loops
 * over its memory, which is the program's own. Products count from one corner, columns first, as
 * the library documents them; sums are float32 in blocks, so that they differ from the kernels'
 * in the last bits. */
#include "tests/emu/fake_cublas.h"

#include <cublas_v2.h>
#include <string.h>

int fake_cublas_products;

static bool missing;
static cudaStream_t stream;
static bool has_workspace;

/* cublasHandle_t is a pointer to what only the library knows. */
static int handle;

static cublasStatus_t create(cublasHandle_t *out)
{
    *out = (cublasHandle_t)(void *)&handle;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t destroy(cublasHandle_t h)
{
    return (void *)h == &handle ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_INITIALIZED;
}

static cublasStatus_t set_stream(cublasHandle_t, cudaStream_t s)
{
    stream = s;
    has_workspace = false;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t set_workspace(cublasHandle_t, void *workspace, size_t bytes)
{
    has_workspace = workspace && (uintptr_t)workspace % 256 == 0 && bytes > 0;
    return has_workspace ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

static float value(const void *p, size_t i)
{
    uint32_t bits = (uint32_t)((const uint16_t *)p)[i] << 16;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* Round to nearest even; NaN stays NaN. */
static uint16_t bf16(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    if (v != v)
        return 0x7fff;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float dot(const void *a, const void *b, int k)
{
    float sum = 0.0f;
    for (int from = 0; from < k; from += 64) {
        float part = 0.0f;
        for (int l = from; l < from + 64 && l < k; l++)
            part += value(a, (size_t)l) * value(b, (size_t)l);
        sum += part;
    }
    return sum;
}

/* C = alpha A^T B + beta C: A [k, m], B [k, n], C [m, n], columns first. */
static cublasStatus_t multiply(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m,
                               int n, int k, const void *alpha, const void *a, cudaDataType at,
                               int lda, const void *b, cudaDataType bt, int ldb, const void *beta,
                               void *c, cudaDataType ct, int ldc, cublasComputeType_t compute,
                               cublasGemmAlgo_t algo)
{
    bool known = (void *)h == &handle && ta == CUBLAS_OP_T && tb == CUBLAS_OP_N &&
                 at == CUDA_R_16BF && bt == CUDA_R_16BF &&
                 (ct == CUDA_R_32F || ct == CUDA_R_16BF) && compute == CUBLAS_COMPUTE_32F &&
                 algo == CUBLAS_GEMM_DEFAULT;
    bool sizes = m > 0 && n > 0 && k > 0 && lda >= k && ldb >= k && ldc >= m;
    /* What the library's fast kernels ask for. */
    bool aligned = (uintptr_t)a % 16 == 0 && (uintptr_t)b % 16 == 0 && (uintptr_t)c % 16 == 0 &&
                   lda % 8 == 0 && ldb % 8 == 0 && ldc % 8 == 0 && k % 8 == 0;
    if (!known || !sizes || !aligned || !has_workspace ||
        cudaStreamSynchronize(stream) != cudaSuccess)
        return CUBLAS_STATUS_INVALID_VALUE;
    const float factor = *(const float *)alpha, keep = *(const float *)beta;
    fake_cublas_products++;
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++) {
            float v = factor * dot((const uint16_t *)a + (size_t)i * (size_t)lda,
                                   (const uint16_t *)b + (size_t)j * (size_t)ldb, k);
            size_t to = (size_t)j * (size_t)ldc + (size_t)i;
            if (keep != 0.0f)
                v += keep * (ct == CUDA_R_32F ? ((float *)c)[to] : value(c, to));
            if (ct == CUDA_R_32F)
                ((float *)c)[to] = v;
            else
                ((uint16_t *)c)[to] = bf16(v);
        }
    return CUBLAS_STATUS_SUCCESS;
}

void fake_cublas_missing(bool on)
{
    missing = on;
}

void *fake_cublas_open(void)
{
    return missing ? NULL : &handle;
}

void *fake_cublas_find(const char *name)
{
    const struct {
        const char *name;
        void *function;
    } all[] = {{"cublasCreate_v2", (void *)create},
               {"cublasDestroy_v2", (void *)destroy},
               {"cublasSetStream_v2", (void *)set_stream},
               {"cublasSetWorkspace_v2", (void *)set_workspace},
               {"cublasGemmEx", (void *)multiply}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(all[i].name, name) == 0)
            return all[i].function;
    return NULL;
}
