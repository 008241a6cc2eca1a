/* emu_ptx: the functions of cuda/ptx.cuh on the CPU; what each one means is said there. */
#ifndef CHORUS_TESTS_EMU_PTX_H
#define CHORUS_TESTS_EMU_PTX_H

#define PTX_INLINE static inline __attribute__((unused))
#define PTX_REGISTERS(n)

/* The target is poisoned at once and filled at the wait. */
void emu_cp_async(void *smem, const void *gmem, int bytes, bool valid, const char *file, int line);
void emu_cp_async_commit();
void emu_cp_async_wait(int groups);

/* A 16-byte access of device memory. */
EMU_INLINE void emu_check_16(const void *p, const char *file, int line)
{
    if ((uintptr_t)p % 16)
        emu_wrong(file, line, "address %p is not 16-byte aligned", p);
}

PTX_INLINE void ptx_cp_async16(void *smem, const void *gmem, EMU_SITE)
{
    emu_cp_async(smem, gmem, 16, true, file, line);
}
PTX_INLINE void ptx_cp_async4(void *smem, const void *gmem, EMU_SITE)
{
    emu_cp_async(smem, gmem, 4, true, file, line);
}
PTX_INLINE void ptx_cp_async8(void *smem, const void *gmem, EMU_SITE)
{
    emu_cp_async(smem, gmem, 8, true, file, line);
}
PTX_INLINE void ptx_cp_async16_or_zero(void *smem, const void *gmem, bool valid, EMU_SITE)
{
    emu_cp_async(smem, gmem, 16, valid, file, line);
}
PTX_INLINE void ptx_cp_async_commit()
{
    emu_cp_async_commit();
}
template <int N> PTX_INLINE void ptx_cp_async_wait()
{
    emu_cp_async_wait(N);
}

struct emu_mma {
    float *c;
    uint32_t a[4], b[2];
};
emu_combine emu_combine_mma;
PTX_INLINE void ptx_mma_bf16(float c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                             uint32_t b0, uint32_t b1, EMU_SITE)
{
    struct emu_mma m = {c, {a0, a1, a2, a3}, {b0, b1}};
    emu_collective(EMU_ALL, emu_combine_mma, &m, file, line);
}

void emu_ldmatrix(uint32_t *r, const void *smem, int matrices, bool trans, const char *file,
                  int line);
PTX_INLINE void ptx_ldmatrix_x4(uint32_t r[4], const void *smem, EMU_SITE)
{
    emu_ldmatrix(r, smem, 4, false, file, line);
}
PTX_INLINE void ptx_ldmatrix_x4_trans(uint32_t r[4], const void *smem, EMU_SITE)
{
    emu_ldmatrix(r, smem, 4, true, file, line);
}
PTX_INLINE void ptx_ldmatrix_x2(uint32_t r[2], const void *smem, EMU_SITE)
{
    emu_ldmatrix(r, smem, 2, false, file, line);
}
PTX_INLINE void ptx_ldmatrix_x2_trans(uint32_t r[2], const void *smem, EMU_SITE)
{
    emu_ldmatrix(r, smem, 2, true, file, line);
}

PTX_INLINE uint4 ptx_load_stream(const void *gmem, EMU_SITE)
{
    emu_check_16(gmem, file, line);
    return *(const uint4 *)gmem;
}
PTX_INLINE uint4 ptx_load_l2(const void *gmem, EMU_SITE)
{
    emu_check_16(gmem, file, line);
    return *(const uint4 *)gmem;
}
PTX_INLINE void ptx_load_stream_8(uint32_t *low, uint32_t *high, const void *gmem, EMU_SITE)
{
    if ((uintptr_t)gmem % 8)
        emu_wrong(file, line, "address %p is not 8-byte aligned", gmem);
    *low = ((const uint32_t *)gmem)[0];
    *high = ((const uint32_t *)gmem)[1];
}
PTX_INLINE float ptx_load_l2_f32(const float *gmem)
{
    return *gmem;
}
PTX_INLINE uint32_t ptx_load_acquire_u32(const uint32_t *flag)
{
    emu_yield();
    return *flag;
}
PTX_INLINE void ptx_store_release(uint32_t *flag, uint32_t add)
{
    *flag += add;
}
PTX_INLINE void ptx_store_tagged(void *gmem, uint32_t v, uint32_t tag)
{
    ((uint32_t *)gmem)[0] = v;
    ((uint32_t *)gmem)[1] = tag;
}
PTX_INLINE uint4 ptx_load_tagged(const void *gmem)
{
    emu_yield();
    return *(const uint4 *)gmem;
}
PTX_INLINE void ptx_prefetch_l2(const void *) {}
PTX_INLINE void ptx_pdl_trigger() {}
void emu_pdl_wait();
PTX_INLINE void ptx_pdl_wait()
{
    emu_pdl_wait();
}
PTX_INLINE unsigned ptx_thread_anew()
{
    return threadIdx.x;
}
PTX_INLINE float ptx_exp2(float x)
{
    return x < -126 ? 0.0f : exp2f(x);
}
PTX_INLINE uint32_t ptx_and_or(uint32_t w, uint32_t mask, uint32_t magic)
{
    return (w & mask) | magic;
}
PTX_INLINE uint32_t ptx_fma_bf16x2(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t r = 0;
    for (int i = 0; i < 32; i += 16) {
        float v[3];
        const uint32_t bits[] = {a >> i << 16, b >> i << 16, c >> i << 16};
        memcpy(v, bits, sizeof v);
        r |= (uint32_t)__bfloat16_as_ushort(__double2bfloat16((double)v[0] * v[1] + v[2])) << i;
    }
    return r;
}

#endif
