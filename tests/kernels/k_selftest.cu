#include "tests/kernels/k_selftest.h"

#include "cuda/launch.cuh"

static __global__ void k_sum(const float *x, float *out, int n)
{
    DYN_SMEM(smem);
    float *part = (float *)smem;
    float sum = 0;
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x)
        sum += x[(size_t)blockIdx.x * n + i];
    for (int d = 16; d > 0; d /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, d);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = sum;
    __syncthreads(); /* part: written by each warp, read by the first thread */
    if (threadIdx.x == 0) {
        for (unsigned i = 1; i < blockDim.x / 32; i++)
            sum += part[i];
        out[blockIdx.x] = sum;
    }
}

enum status cuda_selftest_sum(const float *x, float *out, int rows, int n, int threads,
                              cudaStream_t s)
{
    return launch({dim3((unsigned)rows), threads, (size_t)threads / 32 * sizeof(float), false}, s,
                  k_sum, x, out, n);
}

#define STAGES       3
#define STAGE_FLOATS 512

static __global__ void k_copy(const float *in, float *out, int n, int zeros)
{
    DYN_SMEM(smem);
    float *ring = (float *)smem;
    int stages = (n + STAGE_FLOATS - 1) / STAGE_FLOATS, at = (int)threadIdx.x * 4;
    for (int i = 0; i < stages + STAGES - 1; i++) {
        int from = i * STAGE_FLOATS + at;
        if (i < stages && from < n)
            ptx_cp_async16_or_zero(ring + i % STAGES * STAGE_FLOATS + at, in + from,
                                   from < n - zeros);
        ptx_cp_async_commit();
        int ready = i - (STAGES - 1);
        ptx_cp_async_wait<STAGES - 1>();
        __syncthreads(); /* the stage: written by all, read by a neighbour below */
        int other = (int)(threadIdx.x ^ 37u) * 4, to = ready * STAGE_FLOATS + other;
        if (ready >= 0 && to < n)
            *(float4 *)(out + to) = *(const float4 *)(ring + ready % STAGES * STAGE_FLOATS + other);
        __syncthreads(); /* the stage: read above, written in the next round */
    }
}

enum status cuda_selftest_copy(const float *in, float *out, int n, int zeros, cudaStream_t s)
{
    return launch({dim3(1), 128, STAGES * STAGE_FLOATS * sizeof(float), false}, s, k_copy, in, out,
                  n, zeros);
}

/* One warp a tile of 16 x 8; rows of shared memory are padded to 48 bytes. */
#define PITCH 24

static __global__ void k_mma(const uint16_t *a, const uint16_t *b, float *c, int n, int k,
                             int trans)
{
    DYN_SMEM(smem);
    uint16_t *sa = (uint16_t *)smem, *sb = sa + 16 * PITCH;
    int lane = (int)threadIdx.x, row0 = (int)blockIdx.y * 16, col0 = (int)blockIdx.x * 8;
    float acc[4] = {0, 0, 0, 0};
    for (int k0 = 0; k0 < k; k0 += 16) {
        for (int i = lane; i < 16 * 16; i += 32)
            sa[i / 16 * PITCH + i % 16] = a[(size_t)(row0 + i / 16) * k + k0 + i % 16];
        for (int i = lane; i < 8 * 16; i += 32) {
            if (trans) /* sb[k, n] */
                sb[i / 8 * PITCH + i % 8] = b[(size_t)(k0 + i / 8) * n + col0 + i % 8];
            else /* sb[n, k] */
                sb[i / 16 * PITCH + i % 16] = b[(size_t)(col0 + i / 16) * k + k0 + i % 16];
        }
        __syncwarp(); /* tiles: written by all lanes, read by ldmatrix */
        uint32_t fa[4], fb[2];
        ptx_ldmatrix_x4(fa, sa + (lane % 16) * PITCH + lane / 16 * 8);
        if (trans)
            ptx_ldmatrix_x2_trans(fb, sb + lane % 16 * PITCH);
        else
            ptx_ldmatrix_x2(fb, sb + lane % 8 * PITCH + lane % 16 / 8 * 8);
        ptx_mma_bf16(acc, fa[0], fa[1], fa[2], fa[3], fb[0], fb[1]);
        __syncwarp(); /* tiles: read above, written in the next round */
    }
    float *to = c + (size_t)(row0 + lane / 4) * n + col0 + lane % 4 * 2;
    to[0] = acc[0];
    to[1] = acc[1];
    to[8 * (size_t)n] = acc[2];
    to[8 * (size_t)n + 1] = acc[3];
}

enum status cuda_selftest_mma(const uint16_t *a, const uint16_t *b, float *c, int m, int n, int k,
                              int trans, cudaStream_t s)
{
    return launch(
        {dim3((unsigned)n / 8, (unsigned)m / 16), 32, 32 * PITCH * sizeof(uint16_t), false}, s,
        k_mma, a, b, c, n, k, trans);
}

static __global__ void k_chain(uint32_t *flags, uint32_t *sum)
{
    if (threadIdx.x == 0) {
        while (ptx_load_acquire_u32(flags + blockIdx.x) == 0)
            ;
        *sum += blockIdx.x;
        ptx_store_release(flags + blockIdx.x + 1, 1);
    }
}

enum status cuda_selftest_chain(uint32_t *flags, uint32_t *sum, int blocks, cudaStream_t s)
{
    return launch({dim3((unsigned)blocks), 64, 0, false}, s, k_chain, flags, sum);
}

static __global__ void k_votes(uint32_t *out)
{
    const uint32_t all = 0xffffffffu;
    uint32_t lane = threadIdx.x, *to = out + lane * 8;
    to[0] = __ballot_sync(all, lane % 3 == 0);
    to[1] = __shfl_up_sync(all, lane, 2, 8);
    to[2] = __shfl_down_sync(all, lane, 3, 16);
    to[3] = __shfl_sync(all, lane, 5, 8);
    to[4] = __match_any_sync(all, lane / 5);
    to[5] = __reduce_max_sync(all, lane * 7 % 32);
    to[6] = (uint32_t)(__any_sync(all, lane == 9) + 2 * __all_sync(all, lane == 9));
    if (lane < 16)
        to[7] = __reduce_add_sync(0xffffu, lane);
    else
        to[7] = __shfl_xor_sync(0xffff0000u, lane, 1);
}

enum status cuda_selftest_votes(uint32_t *out, cudaStream_t s)
{
    return launch({dim3(1), 32, 0, false}, s, k_votes, out);
}

static __global__ void k_add(float *x, int n, float add)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    ptx_pdl_trigger();
    ptx_pdl_wait();
    if (i < n)
        x[i] += add;
}

enum status cuda_selftest_add(float *x, int n, float add, int dependent, cudaStream_t s)
{
    return launch({dim3((unsigned)(n + 63) / 64), 64, 0, dependent != 0}, s, k_add, x, n, add);
}

static __global__ void k_room(int bytes)
{
    DYN_SMEM(smem);
    for (int i = (int)threadIdx.x; i < bytes; i += (int)blockDim.x)
        smem[i] = (uint8_t)i;
}

enum status cuda_selftest_room(int bytes, cudaStream_t s)
{
    return launch({dim3(1), 256, (size_t)bytes, false}, s, k_room, bytes);
}

static __global__ void k_misaligned(uint8_t *x)
{
    uint4 v = ptx_load_l2(x + 4);
    ((uint4 *)x)[1] = v;
}

enum status cuda_selftest_misaligned(void *x, cudaStream_t s)
{
    return launch({dim3(1), 32, 0, false}, s, k_misaligned, (uint8_t *)x);
}
