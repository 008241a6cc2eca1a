#include "tests/emu/faults.h"

#include "cuda/launch.cuh"

#define THREADS 256

static __global__ void k_fault(enum fault f, const float *in, float *out, uint32_t *flag)
{
    DYN_SMEM(smem);
    float *a = (float *)smem, *total = a + THREADS;
    const uint32_t all = 0xffffffffu;
    int t = (int)threadIdx.x, warp = t / 32, lane = t % 32;

    float early = f == FAULT_NO_PDL_WAIT ? in[t] : 0;
    ptx_pdl_wait();

    const float *from = in + t % 64 * 4;
    if (t < 64) {
        ptx_cp_async16(a + t * 4 + (f == FAULT_SHARED_COPY && t == 63 ? 2 * THREADS : 0), from);
        ptx_cp_async_commit();
    }
    if (f == FAULT_WAIT_TOO_FEW)
        ptx_cp_async_wait<1>();
    else if (f != FAULT_NO_WAIT)
        ptx_cp_async_wait<0>();
    __syncthreads(); /* a: copied by the first 64 threads, read by all */

    float v = f == FAULT_NO_PDL_WAIT ? early : a[t];
    if (f == FAULT_READ_BOUNDS && t == 0)
        v += in[THREADS];
    if (f == FAULT_UNINITIALISED)
        v += total[t];
    if (f == FAULT_MISALIGNED)
        v += __uint_as_float(ptx_load_l2(in + 1).x);
    if (f == FAULT_SHUFFLE_DIVERGES) {
        if (lane < 16)
            v += __shfl_xor_sync(all, v, 1);
        else
            v -= __shfl_xor_sync(all, v, 2);
    }
    if (f == FAULT_SHUFFLE_MASK && lane < 16)
        v += __shfl_sync(0xffffu, v, 20);
    if (f == FAULT_NOT_IN_MASK)
        v += __shfl_sync(0xffffu, v, 0);
    if (f == FAULT_BARRIER_DIVERGES) {
        if (warp == 0)
            __syncthreads();
        else
            __syncthreads();
    }
    if (f == FAULT_SPIN || (f == FAULT_BARRIER_SKIPPED && t == 0))
        while (ptx_load_acquire_u32(flag) == 0)
            ;
    if (f == FAULT_BARRIER_SKIPPED) {
        __syncthreads();
        if (t == 32)
            ptx_store_release(flag, 1);
    }
    if (f == FAULT_NO_WARP_BARRIER) {
        total[t] = v;
        v = total[t ^ 1];
        __syncwarp();
        total[t] = 0;
    }
    __syncthreads(); /* a: read above, written below */

    for (int d = 16; d > 0; d /= 2)
        v += __shfl_xor_sync(all, v, d);
    float sums = 8; /* what the first round takes away */
    for (int round = 0; round < 2; round++) {
        if (lane == 0)
            a[warp] = round ? v : -1;
        if (f != FAULT_NO_BARRIER)
            __syncthreads(); /* a: one value a warp, read by all */
        for (int i = 0; i < THREADS / 32; i++)
            sums += a[i];
        if (f != FAULT_NO_SECOND_BARRIER)
            __syncthreads(); /* a: read above, written in the next round */
    }
    out[t] = sums;
    if (f == FAULT_SHARED_BOUNDS)
        a[t + 2 * THREADS - 255] = 0;
    if (f == FAULT_WRITE_BOUNDS && t == 0)
        out[THREADS] = 0;
}

enum status cuda_fault(enum fault f, const float *in, float *out, uint32_t *flag, cudaStream_t s)
{
    return launch({dim3(1), THREADS, 2 * THREADS * sizeof(float), true}, s, k_fault, f, in, out,
                  flag);
}
