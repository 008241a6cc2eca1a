/* copy_bench: what this card's memory and matrix units do today, as one JSON line.
 *
 *   copy_gbps      1 GiB device to device, bytes read plus bytes written
 *   read_gbps      1 GiB read and summed
 *   matrix_tflops  bf16 8192^3 through cuBLAS; 0 where the library is not installed
 *
 * Random data (zeros run faster), median of 20. */
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define BYTES   ((size_t)1 << 30)
#define REPEAT  20
#define MATRIX  8192
#define THREADS 512

static void check(cudaError_t e, const char *what)
{
    if (e != cudaSuccess) {
        fprintf(stderr, "copy_bench: %s: %s\n", what, cudaGetErrorString(e));
        exit(1);
    }
}

/* bf16 pairs between -2 and 2: sign and low exponent bits are random. */
__global__ void k_fill(uint32_t *out, size_t count, uint32_t seed)
{
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x) {
        uint32_t x = (uint32_t)i * 2654435761u ^ seed;
        x ^= x >> 15;
        x *= 2246822519u;
        x ^= x >> 13;
        out[i] = (x & 0x80ff80ffu) | 0x3f003f00u;
    }
}

__global__ void k_read(const uint4 *in, size_t count, uint32_t *out)
{
    uint32_t sum = 0;
#pragma unroll 8
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x) {
        uint4 v = in[i];
        sum += v.x ^ v.y ^ v.z ^ v.w;
    }
    if (sum == 1)
        *out = sum; /* keeps the loads */
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

struct buffers {
    uint32_t *a, *b;
    int sms;
    void *blas;
    int (*gemm)(void *, int, int, int, int, int, const void *, const void *, int, int,
                const void *, int, int, const void *, void *, int, int, int, int);
};

static void copy(struct buffers *x)
{
    check(cudaMemcpyAsync(x->b, x->a, BYTES, cudaMemcpyDeviceToDevice), "copy");
}

static void read_all(struct buffers *x)
{
    k_read<<<x->sms * 4, THREADS>>>((const uint4 *)x->a, BYTES / 16, x->b);
}

/* C = A B, all bf16 (14), sums in fp32 (compute type 68). */
static void multiply(struct buffers *x)
{
    float one = 1.0f, zero = 0.0f;
    size_t each = (size_t)MATRIX * MATRIX / 2; /* words */
    if (x->gemm(x->blas, 0, 0, MATRIX, MATRIX, MATRIX, &one, x->a, 14, MATRIX, x->a + each, 14,
                MATRIX, &zero, x->b, 14, MATRIX, 68, -1) != 0) {
        fprintf(stderr, "copy_bench: cublasGemmEx failed\n");
        exit(1);
    }
}

static double median_ms(struct buffers *x, void (*run)(struct buffers *))
{
    float ms[REPEAT];
    cudaEvent_t from, to;
    check(cudaEventCreate(&from), "event");
    check(cudaEventCreate(&to), "event");
    for (int i = -3; i < REPEAT; i++) {
        check(cudaEventRecord(from), "record");
        run(x);
        check(cudaEventRecord(to), "record");
        check(cudaEventSynchronize(to), "run");
        check(cudaEventElapsedTime(&ms[i < 0 ? 0 : i], from, to), "time");
    }
    qsort(ms, REPEAT, sizeof *ms, compare);
    return ms[REPEAT / 2];
}

static void open_blas(struct buffers *x)
{
    static const char *const names[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so"};
    void *lib = NULL;
    for (int i = 0; i < 3 && !lib; i++)
        lib = dlopen(names[i], RTLD_NOW);
    if (!lib)
        return;
    int (*create)(void **) = (int (*)(void **))dlsym(lib, "cublasCreate_v2");
    x->gemm = (decltype(x->gemm))dlsym(lib, "cublasGemmEx");
    if (!create || create(&x->blas) != 0)
        x->gemm = NULL;
}

int main()
{
    struct buffers x = {};
    struct cudaDeviceProp p;
    check(cudaGetDeviceProperties(&p, 0), "no card");
    check(cudaMalloc(&x.a, BYTES), "memory");
    check(cudaMalloc(&x.b, BYTES), "memory");
    x.sms = p.multiProcessorCount;
    k_fill<<<x.sms * 4, THREADS>>>(x.a, BYTES / 4, 1);
    k_fill<<<x.sms * 4, THREADS>>>(x.b, BYTES / 4, 2);
    check(cudaDeviceSynchronize(), "fill");
    double copy_ms = median_ms(&x, copy), read_ms = median_ms(&x, read_all), flops = 0.0;
    open_blas(&x);
    if (x.gemm)
        flops = 2.0 * MATRIX * MATRIX * MATRIX / (median_ms(&x, multiply) * 1e9);
    check(cudaDeviceSynchronize(), "end");
    printf("{\"card\":\"%s\",\"sms\":%d,\"l2_mb\":%.1f,\"copy_gbps\":%.1f,\"read_gbps\":%.1f,"
           "\"matrix_tflops\":%.1f}\n",
           p.name, x.sms, p.l2CacheSize / 1048576.0, 2.0 * BYTES / (copy_ms * 1e6),
           (double)BYTES / (read_ms * 1e6), flops);
    return 0;
}
