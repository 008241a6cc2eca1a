/* copy_bench: what this card's memory and matrix units do today, as one JSON line.
 *
 *   copy_gbps      1 GiB device to device, bytes read plus bytes written
 *   matrix_tflops  bf16 8192^3 through cuBLAS; 0 where the library is not installed
 *
 * Random data (zeros run faster), median of 20. */
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gpu/lanes.h"

#define BYTES      ((size_t)1 << 30)
#define FILL_BYTES ((size_t)1 << 24) /* drawn once, repeated */
#define REPEAT     20
#define MATRIX     8192

/* cublasGemmEx, with its enums as ints: 14 is bf16, 68 sums in fp32, -1 the library's choice. */
typedef int gemm_fn(void *handle, int ta, int tb, int m, int n, int k, const void *alpha,
                    const void *a, int a_type, int lda, const void *b, int b_type, int ldb,
                    const void *beta, void *c, int c_type, int ldc, int sums, int algorithm);

struct card {
    uint8_t *a; /* device, owned, [BYTES] */
    uint8_t *b;
    void *blas;
    gemm_fn *gemm; /* NULL: not installed */
};

static void check(cudaError_t e, const char *what)
{
    if (e != cudaSuccess)
        lanes_die("copy_bench: %s: %s", what, cudaGetErrorString(e));
}

/* bf16 pairs between -2 and 2, of any sign and significand. */
static void fill(struct card *x)
{
    struct lanes_rng r = {1};
    uint32_t *host = lanes_alloc(FILL_BYTES, 1);
    for (size_t i = 0; i < FILL_BYTES / 4; i++)
        host[i] = ((uint32_t)lanes_next(&r) & 0x80ff80ffu) | 0x3f003f00u;
    check(cudaMemcpy(x->a, host, FILL_BYTES, cudaMemcpyHostToDevice), "fill");
    for (size_t have = FILL_BYTES; have < BYTES; have *= 2)
        check(cudaMemcpy(x->a + have, x->a, have, cudaMemcpyDeviceToDevice), "fill");
    check(cudaMemcpy(x->b, x->a, BYTES, cudaMemcpyDeviceToDevice), "fill");
    free(host);
}

static void copy(struct card *x)
{
    check(cudaMemcpyAsync(x->b, x->a, BYTES, cudaMemcpyDeviceToDevice, NULL), "copy");
}

static void multiply(struct card *x)
{
    float one = 1.0f, zero = 0.0f;
    uint8_t *second = x->a + (size_t)MATRIX * MATRIX * 2;
    if (x->gemm(x->blas, 0, 0, MATRIX, MATRIX, MATRIX, &one, x->a, 14, MATRIX, second, 14, MATRIX,
                &zero, x->b, 14, MATRIX, 68, -1) != 0)
        lanes_die("copy_bench: cublasGemmEx failed");
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double median_ms(struct card *x, void (*run)(struct card *))
{
    float ms[REPEAT];
    cudaEvent_t from, to;
    check(cudaEventCreate(&from), "event");
    check(cudaEventCreate(&to), "event");
    for (int i = -3; i < REPEAT; i++) {
        check(cudaEventRecord(from, NULL), "record");
        run(x);
        check(cudaEventRecord(to, NULL), "record");
        check(cudaEventSynchronize(to), "run");
        check(cudaEventElapsedTime(&ms[i < 0 ? 0 : i], from, to), "time");
    }
    qsort(ms, REPEAT, sizeof *ms, compare);
    return (double)ms[REPEAT / 2];
}

static void open_blas(struct card *x)
{
    static const char *const names[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so"};
    void *lib = NULL;
    for (int i = 0; i < 3 && !lib; i++)
        lib = dlopen(names[i], RTLD_NOW);
    if (!lib)
        return;
    int (*create)(void **);
    void *f = dlsym(lib, "cublasCreate_v2"), *g = dlsym(lib, "cublasGemmEx");
    if (!f || !g)
        return;
    memcpy(&create, &f, sizeof f);
    if (create(&x->blas) == 0)
        memcpy(&x->gemm, &g, sizeof g);
}

int main(void)
{
    struct card x = {0};
    struct cudaDeviceProp p;
    double flops = 0.0;
    check(cudaGetDeviceProperties(&p, 0), "no card");
    check(cudaMalloc((void **)&x.a, BYTES), "memory");
    check(cudaMalloc((void **)&x.b, BYTES), "memory");
    fill(&x);
    double copy_ms = median_ms(&x, copy);
    open_blas(&x);
    if (x.gemm)
        flops = 2.0 * MATRIX * MATRIX * MATRIX / (median_ms(&x, multiply) * 1e9);
    printf(
        "{\"card\":\"%s\",\"sms\":%d,\"l2_mb\":%.1f,\"copy_gbps\":%.1f,\"matrix_tflops\":%.1f}\n",
        p.name, p.multiProcessorCount, p.l2CacheSize / 1048576.0,
        2.0 * (double)BYTES / (copy_ms * 1e6), flops);
    check(cudaFree(x.a), "free");
    check(cudaFree(x.b), "free");
    return 0;
}
