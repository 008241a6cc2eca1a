/* Plain C: the same sequence of roundings without vector instructions, for machines without AVX2
 * and as the reading version of the others. */
#include "engine/cpu/cpu_kernel.h"

#include <math.h>
#include <string.h>

struct vec {
    float f[CPU_LANES];
};

#define TARGET
#define INLINE static inline
#define EACH   for (int i = 0; i < CPU_LANES; i++)

INLINE uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

INLINE float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

INLINE struct vec v_set(float f)
{
    struct vec r;
    EACH r.f[i] = f;
    return r;
}

INLINE struct vec v_zero(void)
{
    return v_set(0.0f);
}

INLINE struct vec v_load(const float *p)
{
    struct vec r;
    memcpy(r.f, p, sizeof r.f);
    return r;
}

INLINE void v_store(float *p, struct vec a)
{
    memcpy(p, a.f, sizeof a.f);
}

INLINE struct vec v_fma(struct vec a, struct vec b, struct vec c)
{
    EACH c.f[i] = fmaf(a.f[i], b.f[i], c.f[i]);
    return c;
}

INLINE struct vec v_add(struct vec a, struct vec b)
{
    EACH a.f[i] += b.f[i];
    return a;
}

INLINE struct vec v_sub(struct vec a, struct vec b)
{
    EACH a.f[i] -= b.f[i];
    return a;
}

INLINE struct vec v_mul(struct vec a, struct vec b)
{
    EACH a.f[i] *= b.f[i];
    return a;
}

INLINE struct vec v_div(struct vec a, struct vec b)
{
    EACH a.f[i] /= b.f[i];
    return a;
}

INLINE struct vec v_max(struct vec a, struct vec b)
{
    EACH a.f[i] = a.f[i] > b.f[i] ? a.f[i] : b.f[i];
    return a;
}

INLINE struct vec v_min(struct vec a, struct vec b)
{
    EACH a.f[i] = a.f[i] < b.f[i] ? a.f[i] : b.f[i];
    return a;
}

/* a < b ? 0 : c */
INLINE struct vec v_zero_below(struct vec a, struct vec b, struct vec c)
{
    EACH c.f[i] = a.f[i] < b.f[i] ? 0.0f : c.f[i];
    return c;
}

/* p * 2^n, n the low bits of t's representation; see v_exp. */
INLINE struct vec v_scale(struct vec p, struct vec t)
{
    EACH p.f[i] = float_of(bits_of(p.f[i]) + (bits_of(t.f[i]) << 23));
    return p;
}

INLINE struct vec v_f16(const char *p)
{
    struct vec r;
    struct tensor t = {.data = p, .dtype = DTYPE_F16, .rows = 1, .cols = CPU_LANES};
    tensor_read_f32(&t, 0, CPU_LANES, r.f);
    return r;
}

/* The low and the high bf16 of 16 pairs. */
INLINE struct vec v_bf16_low(const char *p)
{
    uint32_t u[CPU_LANES];
    struct vec r;
    memcpy(u, p, sizeof u);
    EACH r.f[i] = float_of(u[i] << 16);
    return r;
}

INLINE struct vec v_bf16_high(const char *p)
{
    uint32_t u[CPU_LANES];
    struct vec r;
    memcpy(u, p, sizeof u);
    EACH r.f[i] = float_of(u[i] & 0xffff0000u);
    return r;
}

#define TILE_ROWS       4
#define TILE_LIST(X)    X(1, 1) X(2, 1) X(3, 1) X(4, 1)
#define TILE_WIDE(rows) 1
#define ATTEND_LIST(X)  X(1, 1, 1) X(2, 1, 1) X(3, 1, 1) X(4, 1, 1)
#define KERNELS         cpu_kernels_scalar
#define NAME            "scalar"

#include "engine/cpu/cpu_kernel.inc"
