/* emu_device: the device side of CUDA C++ for kernels that g++ compiles with CHORUS_EMULATE.
 * Included by cuda/ptx.cuh only.
 *
 * The toolkit's own headers give the types and what works on the host; here is the rest: the
 * thread's indices, barriers, warp collectives, atomics, fast mathematics. All fibers of a launch
 * share one OS thread and change only inside the calls that say so, therefore atomics are plain
 * code.
 */
#ifndef CHORUS_TESTS_EMU_DEVICE_H
#define CHORUS_TESTS_EMU_DEVICE_H

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "tests/emu/emu.h"
#include "tests/emu/fake_cublas.h"

/* What the running fiber knows of its place. */
struct emu_place {
    uint3 thread, block;
    dim3 block_dim, grid_dim;
    uint8_t *smem;
    unsigned lane;
};
extern struct emu_place *emu_now;

#define threadIdx (emu_now->thread)
#define blockIdx  (emu_now->block)
#define blockDim  (emu_now->block_dim)
#define gridDim   (emu_now->grid_dim)
#define warpSize  32

#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __shared__
#define __shared__     static_assert(false, "shared memory is DYN_SMEM (cuda/ptx.cuh)");
#define DYN_SMEM(name) uint8_t *const name = emu_now->smem
#ifndef __grid_constant__
#define __grid_constant__
#endif

/* What cuda/launch.cuh calls; `body` is what one thread does. */
cudaError_t emu_launch(dim3 grid, dim3 block, size_t smem, cudaStream_t s, bool dependent,
                       const void *kernel, std::function<void()> body);

#define EMU_SITE   const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define EMU_ALL    0xffffffffu
#define EMU_INLINE static inline __attribute__((unused))

/* Says what is wrong with the kernel, with the fiber's place; does not return to the kernel. */
[[noreturn]] void emu_wrong(const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Lets the other fibers and blocks run: inside any loop that waits for another thread. */
void emu_yield();

/* All threads of the block (threads = 0) or the first `threads` that come to barrier `id`. The vote
 * counts threads with pred != 0. */
struct emu_vote {
    int count, of;
};
struct emu_vote emu_barrier(int id, int threads, bool wait, bool pred, const char *file, int line);

/* Waits until every living lane of `mask` is here with its own `io`; the last one runs `combine`
 * over all of them (io[lane] is NULL where the lane has ended or is not in the mask). */
typedef void emu_combine(void *const io[32], uint32_t mask);
void emu_collective(uint32_t mask, emu_combine *combine, void *io, const char *file, int line);

EMU_INLINE void __syncthreads(EMU_SITE)
{
    emu_barrier(0, 0, true, false, file, line);
}
EMU_INLINE int __syncthreads_or(int pred, EMU_SITE)
{
    return emu_barrier(0, 0, true, pred != 0, file, line).count != 0;
}
EMU_INLINE int __syncthreads_and(int pred, EMU_SITE)
{
    struct emu_vote v = emu_barrier(0, 0, true, pred != 0, file, line);
    return v.count == v.of;
}
EMU_INLINE int __syncthreads_count(int pred, EMU_SITE)
{
    return emu_barrier(0, 0, true, pred != 0, file, line).count;
}
EMU_INLINE void __syncwarp(uint32_t mask = EMU_ALL, EMU_SITE)
{
    emu_collective(mask, nullptr, nullptr, file, line);
}
EMU_INLINE void __threadfence() {}
EMU_INLINE void __threadfence_block() {}
EMU_INLINE void __threadfence_system() {}
EMU_INLINE void __nanosleep(unsigned)
{
    emu_yield();
}

struct emu_shuffle {
    uint64_t in, out;
    int from; /* lane */
    bool ok;
};
void emu_combine_shuffle(void *const io[32], uint32_t mask);

template <typename T>
static inline T emu_shuffle_from(uint32_t mask, T v, int from, const char *file, int line)
{
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    struct emu_shuffle s = {0, 0, from, false};
    memcpy(&s.in, &v, sizeof v);
    emu_collective(mask, emu_combine_shuffle, &s, file, line);
    if (!s.ok)
        emu_wrong(file, line, "shuffle reads lane %d, which does not take part", from);
    T r;
    memcpy((void *)&r, &s.out, sizeof r);
    return r;
}
template <typename T>
static inline T __shfl_sync(uint32_t mask, T v, int lane, int width = 32, EMU_SITE)
{
    int base = (int)emu_now->lane & ~(width - 1);
    return emu_shuffle_from(mask, v, base + (lane & (width - 1)), file, line);
}
template <typename T>
static inline T __shfl_up_sync(uint32_t mask, T v, unsigned delta, int width = 32, EMU_SITE)
{
    int lane = (int)emu_now->lane, from = lane - (int)delta;
    return emu_shuffle_from(mask, v, from < (lane & ~(width - 1)) ? lane : from, file, line);
}
template <typename T>
static inline T __shfl_down_sync(uint32_t mask, T v, unsigned delta, int width = 32, EMU_SITE)
{
    int lane = (int)emu_now->lane, from = lane + (int)delta;
    return emu_shuffle_from(mask, v, from > (lane | (width - 1)) ? lane : from, file, line);
}
template <typename T>
static inline T __shfl_xor_sync(uint32_t mask, T v, int bits, int width = 32, EMU_SITE)
{
    int lane = (int)emu_now->lane, from = lane ^ bits;
    return emu_shuffle_from(mask, v, from > (lane | (width - 1)) ? lane : from, file, line);
}

struct emu_ballot {
    uint64_t in;
    uint32_t out;
};
emu_combine emu_combine_ballot, emu_combine_match, emu_combine_add, emu_combine_min,
    emu_combine_max, emu_combine_imin, emu_combine_imax, emu_combine_and, emu_combine_or,
    emu_combine_xor;

EMU_INLINE uint32_t emu_vote_of(emu_combine *combine, uint32_t mask, uint64_t in, const char *file,
                                int line)
{
    struct emu_ballot b = {in, 0};
    emu_collective(mask, combine, &b, file, line);
    return b.out;
}
EMU_INLINE uint32_t __ballot_sync(uint32_t mask, int pred, EMU_SITE)
{
    return emu_vote_of(emu_combine_ballot, mask, pred != 0, file, line);
}
EMU_INLINE int __any_sync(uint32_t mask, int pred, EMU_SITE)
{
    return emu_vote_of(emu_combine_ballot, mask, pred != 0, file, line) != 0;
}
EMU_INLINE int __all_sync(uint32_t mask, int pred, EMU_SITE)
{
    return emu_vote_of(emu_combine_ballot, mask, pred == 0, file, line) == 0;
}
template <typename T> static inline uint32_t __match_any_sync(uint32_t mask, T v, EMU_SITE)
{
    uint64_t in = 0;
    memcpy(&in, &v, sizeof v);
    return emu_vote_of(emu_combine_match, mask, in, file, line);
}
#define EMU_REDUCE(name, T, combine)                                                               \
    EMU_INLINE T name(uint32_t mask, T v, EMU_SITE)                                                \
    {                                                                                              \
        return (T)emu_vote_of(combine, mask, (uint32_t)v, file, line);                             \
    }
EMU_REDUCE(__reduce_add_sync, unsigned, emu_combine_add)
EMU_REDUCE(__reduce_add_sync, int, emu_combine_add)
EMU_REDUCE(__reduce_min_sync, unsigned, emu_combine_min)
EMU_REDUCE(__reduce_min_sync, int, emu_combine_imin)
EMU_REDUCE(__reduce_max_sync, unsigned, emu_combine_max)
EMU_REDUCE(__reduce_max_sync, int, emu_combine_imax)
EMU_REDUCE(__reduce_and_sync, unsigned, emu_combine_and)
EMU_REDUCE(__reduce_or_sync, unsigned, emu_combine_or)
EMU_REDUCE(__reduce_xor_sync, unsigned, emu_combine_xor)

#define EMU_ATOMIC(name, becomes)                                                                  \
    template <typename T> static inline T name(T *p, std::common_type_t<T> v)                      \
    {                                                                                              \
        T old = *p;                                                                                \
        *p = becomes;                                                                              \
        return old;                                                                                \
    }
EMU_ATOMIC(atomicAdd, old + v)
EMU_ATOMIC(atomicSub, old - v)
EMU_ATOMIC(atomicMax, old > v ? old : v)
EMU_ATOMIC(atomicMin, old < v ? old : v)
EMU_ATOMIC(atomicAnd, old &v)
EMU_ATOMIC(atomicOr, old | v)
EMU_ATOMIC(atomicXor, old ^ v)
EMU_ATOMIC(atomicInc, old >= v ? 0 : old + 1)
template <typename T> static inline T atomicExch(T *p, std::common_type_t<T> v)
{
    emu_yield();
    T old = *p;
    *p = v;
    return old;
}
template <typename T>
static inline T atomicCAS(T *p, std::common_type_t<T> expected, std::common_type_t<T> v)
{
    emu_yield();
    T old = *p;
    if (old == expected)
        *p = v;
    return old;
}

#define EMU_LOAD(name)                                                                             \
    template <typename T> static inline T name(const T *p)                                         \
    {                                                                                              \
        return *p;                                                                                 \
    }
#define EMU_STORE(name)                                                                            \
    template <typename T> static inline void name(T *p, std::common_type_t<T> v)                   \
    {                                                                                              \
        *p = v;                                                                                    \
    }
EMU_LOAD(__ldg)
EMU_LOAD(__ldca)
EMU_LOAD(__ldcg)
EMU_LOAD(__ldcs)
EMU_LOAD(__ldcv)
EMU_LOAD(__ldlu)
EMU_STORE(__stcg)
EMU_STORE(__stcs)
EMU_STORE(__stwb)
EMU_STORE(__stwt)

/* libm declares some of these names itself, so they are macros. */
#define __expf(x)    expf(x)
#define __exp2f(x)   exp2f(x)
#define __exp10f(x)  exp10f(x)
#define __logf(x)    logf(x)
#define __log2f(x)   log2f(x)
#define __log10f(x)  log10f(x)
#define __powf(x, y) powf(x, y)
#define __sinf(x)    sinf(x)
#define __cosf(x)    cosf(x)
#define __tanhf(x)   tanhf(x)

#define EMU_FUNCTION(type, name, params, value)                                                    \
    EMU_INLINE type name params                                                                    \
    {                                                                                              \
        return value;                                                                              \
    }
EMU_FUNCTION(float, rsqrtf, (float x), 1.0f / sqrtf(x))
EMU_FUNCTION(float, __saturatef, (float x), x > 0 ? (x < 1 ? x : 1.0f) : 0.0f)
EMU_FUNCTION(float, __fdividef, (float a, float b), a / b)
EMU_FUNCTION(float, __fdiv_rn, (float a, float b), a / b)
EMU_FUNCTION(float, __frcp_rn, (float a), 1.0f / a)
EMU_FUNCTION(float, __fsqrt_rn, (float a), sqrtf(a))
EMU_FUNCTION(float, __fmul_rn, (float a, float b), a *b)
EMU_FUNCTION(float, __fadd_rn, (float a, float b), a + b)
EMU_FUNCTION(float, __fsub_rn, (float a, float b), a - b)
EMU_FUNCTION(float, __fmaf_rn, (float a, float b, float c), fmaf(a, b, c))
EMU_FUNCTION(int, __popc, (unsigned x), __builtin_popcount(x))
EMU_FUNCTION(int, __popcll, (unsigned long long x), __builtin_popcountll(x))
EMU_FUNCTION(int, __clz, (int x), x ? __builtin_clz((unsigned)x) : 32)
EMU_FUNCTION(int, __clzll, (long long x), x ? __builtin_clzll((unsigned long long)x) : 64)
EMU_FUNCTION(int, __ffs, (int x), __builtin_ffs(x))
EMU_FUNCTION(int, __ffsll, (long long x), __builtin_ffsll(x))
EMU_FUNCTION(int, __mul24, (int a, int b), a *b)
EMU_FUNCTION(unsigned, __umulhi, (unsigned a, unsigned b), (unsigned)((uint64_t)a *b >> 32))
EMU_FUNCTION(int, __mulhi, (int a, int b), (int)((int64_t)a *b >> 32))
EMU_FUNCTION(unsigned long long, __umul64hi, (unsigned long long a, unsigned long long b),
             (unsigned long long)((unsigned __int128)a *b >> 64))
EMU_FUNCTION(int, __float2int_rn, (float x), (int)nearbyintf(x))
EMU_FUNCTION(int, __float2int_rz, (float x), (int)x)
EMU_FUNCTION(int, __float2int_rd, (float x), (int)floorf(x))
EMU_FUNCTION(int, __float2int_ru, (float x), (int)ceilf(x))
EMU_FUNCTION(unsigned, __float2uint_rn, (float x), (unsigned)nearbyintf(x))
EMU_FUNCTION(unsigned, __float2uint_rz, (float x), (unsigned)x)
EMU_FUNCTION(float, __int2float_rn, (int x), (float)x)
EMU_FUNCTION(float, __uint2float_rn, (unsigned x), (float)x)
EMU_FUNCTION(float, __uint2float_rz, (unsigned x),
             (double)(float)x > x ? nextafterf((float)x, 0) : (float)x)
EMU_FUNCTION(float, __ull2float_rn, (unsigned long long x), (float)x)

template <typename To, typename From> static inline To emu_bits(From v)
{
    static_assert(sizeof(To) == sizeof(From), "");
    To r;
    memcpy(&r, &v, sizeof r);
    return r;
}
EMU_FUNCTION(int, __float_as_int, (float x), emu_bits<int>(x))
EMU_FUNCTION(unsigned, __float_as_uint, (float x), emu_bits<unsigned>(x))
EMU_FUNCTION(float, __int_as_float, (int x), emu_bits<float>(x))
EMU_FUNCTION(float, __uint_as_float, (unsigned x), emu_bits<float>(x))

EMU_INLINE unsigned __byte_perm(unsigned a, unsigned b, unsigned select)
{
    uint64_t both = (uint64_t)b << 32 | a;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) {
        unsigned s = select >> (4 * i);
        unsigned byte = both >> (8 * (s & 7)) & 0xff;
        r |= ((s & 8) ? (byte & 0x80 ? 0xff : 0) : byte) << (8 * i);
    }
    return r;
}
EMU_INLINE unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned shift)
{
    return (unsigned)(((uint64_t)hi << 32 | lo) >> (shift & 31));
}
EMU_INLINE unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned shift)
{
    return (unsigned)(((uint64_t)hi << 32 | lo) << (shift & 31) >> 32);
}
EMU_INLINE unsigned __brev(unsigned x)
{
    unsigned r = 0;
    for (int i = 0; i < 32; i++)
        r |= (x >> i & 1) << (31 - i);
    return r;
}
EMU_INLINE int __dp4a(int a, int b, int c)
{
    for (int i = 0; i < 4; i++)
        c += (int8_t)(a >> (8 * i)) * (int8_t)(b >> (8 * i));
    return c;
}
EMU_INLINE __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c)
{
    return __float2bfloat16(fmaf(__bfloat162float(a), __bfloat162float(b), __bfloat162float(c)));
}
EMU_INLINE __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c)
{
    return __nv_bfloat162(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));
}

#define EMU_MIN_MAX(T)                                                                             \
    EMU_FUNCTION(T, min, (T a, T b), a < b ? a : b)                                                \
    EMU_FUNCTION(T, max, (T a, T b), a > b ? a : b)
EMU_MIN_MAX(int)
EMU_MIN_MAX(unsigned)
EMU_MIN_MAX(long)
EMU_MIN_MAX(unsigned long)
EMU_MIN_MAX(long long)
EMU_MIN_MAX(unsigned long long)
EMU_FUNCTION(float, min, (float a, float b), fminf(a, b))
EMU_FUNCTION(float, max, (float a, float b), fmaxf(a, b))
EMU_FUNCTION(double, min, (double a, double b), fmin(a, b))
EMU_FUNCTION(double, max, (double a, double b), fmax(a, b))

#endif
