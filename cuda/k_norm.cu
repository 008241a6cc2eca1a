/* k_norm: see k_norm.h.
 *
 * Grid: a block of 256 threads a row; a thread has 4 columns of each 1024, four threads a tile of
 * 16. The row is read twice, the second time from L1 or L2. Shared memory: a float a warp. Bytes: 4
 * in and 2 out a column.
 * Order of sums: a thread's columns ascending, lanes 1, 2, 4, 8, 16 apart, warps ascending; of ss:
 * the 4 columns, then lanes 1 apart, then 2. Tested by tests/kernels/test_base.c. */
#include "cuda/k_norm.h"

#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"

#define THREADS 256
#define QUAD    4
#define WARPS   (THREADS / 32)
#define ALL     0xffffffffu

PTX_INLINE float4 load_quad(const float *y)
{
    uint4 v = ptx_load_l2(y);
    return make_float4(__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z),
                       __uint_as_float(v.w));
}

PTX_INLINE float squares(float4 v)
{
    return __fmaf_rn(v.w, v.w, __fmaf_rn(v.z, v.z, __fmaf_rn(v.y, v.y, __fmul_rn(v.x, v.x))));
}

/* Sum over the block, the same in every thread. */
PTX_INLINE float block_sum(float v, float *smem)
{
#pragma unroll
    for (int d = 1; d < 32; d *= 2)
        v = __fadd_rn(v, __shfl_xor_sync(ALL, v, d));
    if (threadIdx.x % 32 == 0)
        smem[threadIdx.x / 32] = v;
    __syncthreads(); /* the warps' sums, before all read them */
    v = 0.0f;
#pragma unroll
    for (int i = 0; i < WARPS; i++)
        v = __fadd_rn(v, smem[i]);
    return v;
}

PTX_INLINE uint32_t pair_of(float low, float high)
{
    uint32_t l = __bfloat16_as_ushort(__float2bfloat16(low));
    return l | (uint32_t)__bfloat16_as_ushort(__float2bfloat16(high)) << 16;
}

static __global__ __launch_bounds__(THREADS) void k_norm(
    const __grid_constant__ struct norm_args a, const __grid_constant__ struct step_dev step)
{
    DYN_SMEM(smem);
    ptx_pdl_trigger();
    ptx_pdl_wait();
    const int row = (int)blockIdx.x;
    if (row >= step.head->rows[VIEW_ROWS])
        return;
    const float *y = a.y + (size_t)row * a.y_stride;
    uint16_t *xn = (uint16_t *)a.xn + (size_t)row * a.xn_stride;
    const int first = (int)threadIdx.x * QUAD, step_columns = THREADS * QUAD;
    float rinv = 1.0f;
    if (!a.ss) {
        float sum = 0.0f;
        for (int c = first; c < a.y_stride; c += step_columns)
            sum = __fadd_rn(sum, squares(load_quad(y + c)));
        rinv = rsqrtf(__fmaf_rn(block_sum(sum, (float *)smem), 1.0f / (float)a.hidden, a.eps));
    }
    /* Strides are multiples of 128: a warp is in or out of the row as a whole. */
    for (int c = first; c < a.y_stride; c += step_columns) {
        float4 v = load_quad(y + c);
        float w[QUAD];
#pragma unroll
        for (int i = 0; i < QUAD; i++)
            w[i] = c + i < a.hidden ? __ldg(a.norm + c + i) * rinv : 0.0f;
        *(uint2 *)(xn + c) =
            make_uint2(pair_of(v.x * w[0], v.y * w[1]), pair_of(v.z * w[2], v.w * w[3]));
        if (!a.ss)
            continue;
        float sum = squares(v);
        sum = __fadd_rn(sum, __shfl_xor_sync(ALL, sum, 1));
        sum = __fadd_rn(sum, __shfl_xor_sync(ALL, sum, 2));
        const int tiles = PAD_N(a.hidden) / TILE_N;
        if (threadIdx.x % 4 == 0 && c / TILE_N < tiles)
            a.ss[(size_t)row * tiles + c / TILE_N] = sum;
    }
}

extern "C" enum status cuda_norm(const struct norm_args *a, cudaStream_t s)
{
    if (a->rows_max < 1 || a->hidden < 1 || a->y_stride != PAD_K(a->hidden) ||
        a->xn_stride < a->y_stride || a->xn_stride % 4 != 0 || (uintptr_t)a->y % 16 != 0 ||
        (uintptr_t)a->xn % 8 != 0)
        return STATUS_INVALID;
    return launch({dim3((unsigned)a->rows_max), THREADS, WARPS * sizeof(float), a->dependent != 0},
                  s, k_norm, *a, *a->step);
}
