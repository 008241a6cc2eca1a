/* ptx: the instructions that CUDA C++ has no word for, as thin inline functions.
 *
 * Each function is one PTX instruction (named in its comment). Under CHORUS_EMULATE the same names
 * come from tests/emu/emu_ptx.h and kernels run on the CPU, thread by thread; so kernels hold no
 * asm of their own, and no `__shared__` variable: all shared memory is DYN_SMEM, which a launch
 * sizes.
 */
#ifndef CHORUS_CUDA_PTX_CUH
#define CHORUS_CUDA_PTX_CUH

#include <stdint.h>

#ifdef CHORUS_EMULATE
#include "tests/emu/emu_device.h"
#include "tests/emu/emu_ptx.h"
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define PTX_INLINE       static __device__ __forceinline__
#define PTX_REGISTERS(n) __maxnreg__(n)

/* The block's shared memory as `name`, 128-byte aligned; its size is launch_shape.smem. */
#define DYN_SMEM(name)   extern __shared__ __align__(128) uint8_t name[]

PTX_INLINE uint32_t ptx_smem(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* cp.async.cg: 16 bytes, past L1, both sides 16-byte aligned. Seen by this thread after the wait
 * that covers its group, by others after a barrier behind that wait. */
PTX_INLINE void ptx_cp_async16(void *smem, const void *gmem)
{
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(ptx_smem(smem)),
                 "l"(gmem)
                 : "memory");
}

/* The same for 8 bytes. */
PTX_INLINE void ptx_cp_async8(void *smem, const void *gmem)
{
    asm volatile("cp.async.ca.shared.global.L2::128B [%0], [%1], 8;" ::"r"(ptx_smem(smem)),
                 "l"(gmem)
                 : "memory");
}

/* For 4 bytes. */
PTX_INLINE void ptx_cp_async4(void *smem, const void *gmem)
{
    asm volatile("cp.async.ca.shared.global.L2::128B [%0], [%1], 4;" ::"r"(ptx_smem(smem)),
                 "l"(gmem)
                 : "memory");
}

/* 16 bytes; stores zeros and reads nothing where !valid (gmem must still be a valid address). */
PTX_INLINE void ptx_cp_async16_or_zero(void *smem, const void *gmem, bool valid)
{
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(ptx_smem(smem)),
                 "l"(gmem), "r"(valid ? 16 : 0)
                 : "memory");
}

PTX_INLINE void ptx_cp_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most the N youngest groups are under way. */
template <int N> PTX_INLINE void ptx_cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* mma.sync m16n8k16, c[16, 8] += a[16, 16] b[16, 8]. Lane = 4 g + t: a0 (g, 2t..), a1 (g + 8,
 * 2t..), a2 (g, 2t + 8..), a3 (g + 8, 2t + 8..); b0 (2t.., g), b1 (2t + 8.., g); c[0..1] (g, 2t..),
 * c[2..3] (g + 8, 2t..). */
PTX_INLINE void ptx_mma_bf16(float c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                             uint32_t b0, uint32_t b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
        "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/* ldmatrix: four 8 x 8 matrices of 16-bit values; lane 8 i + j gives the address of row j of matrix
 * i. r[i] of lane 4 g + t: row g, columns 2t and 2t + 1 (_trans: rows 2t and 2t + 1, column g). */
#define PTX_LDMATRIX_X4(name, form)                                                                \
    PTX_INLINE void name(uint32_t r[4], const void *smem)                                          \
    {                                                                                              \
        asm volatile("ldmatrix.sync.aligned.m8n8.x4" form ".shared.b16 {%0,%1,%2,%3}, [%4];"       \
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])                              \
                     : "r"(ptx_smem(smem))                                                         \
                     : "memory");                                                                  \
    }
/* The same with two matrices; the addresses of lanes 16 to 31 are not used. */
#define PTX_LDMATRIX_X2(name, form)                                                                \
    PTX_INLINE void name(uint32_t r[2], const void *smem)                                          \
    {                                                                                              \
        asm volatile("ldmatrix.sync.aligned.m8n8.x2" form ".shared.b16 {%0,%1}, [%2];"             \
                     : "=r"(r[0]), "=r"(r[1])                                                      \
                     : "r"(ptx_smem(smem))                                                         \
                     : "memory");                                                                  \
    }
PTX_LDMATRIX_X4(ptx_ldmatrix_x4, "")
PTX_LDMATRIX_X4(ptx_ldmatrix_x4_trans, ".trans")
PTX_LDMATRIX_X2(ptx_ldmatrix_x2, "")
PTX_LDMATRIX_X2(ptx_ldmatrix_x2_trans, ".trans")

/* ld.global.nc, kept out of L1: weights, which are read once and which no kernel writes. */
PTX_INLINE uint4 ptx_load_stream(const void *gmem)
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(gmem));
    return v;
}

/* The same for 8 bytes. */
PTX_INLINE void ptx_load_stream_8(uint32_t *low, uint32_t *high, const void *gmem)
{
    asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0,%1}, [%2];"
                 : "=r"(*low), "=r"(*high)
                 : "l"(gmem));
}

/* ld.global.cg: from L2, for what an earlier kernel or another block wrote. */
PTX_INLINE uint4 ptx_load_l2(const void *gmem)
{
    uint4 v;
    asm volatile("ld.global.cg.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(gmem)
                 : "memory");
    return v;
}

/* The same for one float; it is asked for where it stands, not where it is used. */
PTX_INLINE float ptx_load_l2_f32(const float *gmem)
{
    float v;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(v) : "l"(gmem) : "memory");
    return v;
}

/* ld.acquire.gpu: reads a flag of another block; what that block wrote before its release is seen.
 */
PTX_INLINE uint32_t ptx_load_acquire_u32(const uint32_t *flag)
{
    uint32_t v;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(flag) : "memory");
    return v;
}

/* red.release.gpu.add: adds to a flag after this thread's writes (a barrier first covers those of
 * its block). */
PTX_INLINE void ptx_store_release(uint32_t *flag, uint32_t add)
{
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(flag), "r"(add) : "memory");
}

/* st.relaxed.gpu of 8 bytes at once: a value and what says that it has come. */
PTX_INLINE void ptx_store_tagged(void *gmem, uint32_t v, uint32_t tag)
{
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(gmem),
                 "l"((unsigned long long)tag << 32 | v)
                 : "memory");
}

/* ld.relaxed.gpu of two of them: value, tag, value, tag. */
PTX_INLINE uint4 ptx_load_tagged(const void *gmem)
{
    unsigned long long a, b;
    asm volatile("ld.relaxed.gpu.global.v2.u64 {%0,%1}, [%2];"
                 : "=l"(a), "=l"(b)
                 : "l"(gmem)
                 : "memory");
    return make_uint4((uint32_t)a, (uint32_t)(a >> 32), (uint32_t)b, (uint32_t)(b >> 32));
}

PTX_INLINE void ptx_prefetch_l2(const void *gmem)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(gmem));
}

/* griddepcontrol.launch_dependents: the next kernel of the stream may start, up to its own wait. */
PTX_INLINE void ptx_pdl_trigger()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* griddepcontrol.wait: the kernels before this one have ended and what they wrote is seen. */
PTX_INLINE void ptx_pdl_wait()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* %tid.x, read where it stands: what follows from it is not kept in registers from before. */
PTX_INLINE unsigned ptx_thread_anew()
{
    unsigned x;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(x));
    return x;
}

/* ex2.approx.ftz: 2^x within two units in the last place; results below 2^-126 are 0. */
PTX_INLINE float ptx_exp2(float x)
{
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

/* lop3: (w & mask) | magic. */
PTX_INLINE uint32_t ptx_and_or(uint32_t w, uint32_t mask, uint32_t magic)
{
    uint32_t r;
    asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(r) : "r"(w), "r"(mask), "r"(magic));
    return r;
}

/* fma.rn.bf16x2: a b + c of two pairs, rounded once. */
PTX_INLINE uint32_t ptx_fma_bf16x2(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t r;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
    return r;
}

#endif
/* Sum over the lanes up to this one. */
PTX_INLINE int ptx_lanes_sum(int v, int lane)
{
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
        const int left = __shfl_up_sync(~0u, v, d);
        v += lane >= d ? left : 0;
    }
    return v;
}

#endif
