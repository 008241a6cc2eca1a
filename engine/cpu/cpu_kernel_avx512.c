/* AVX-512F: a logical vector is one register; 14 rows x 32 columns hold 28 of the 32 registers. */
#include "engine/cpu/cpu_kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx2,fma,f16c")))

struct vec {
    __m512 v;
};

#define INLINE TARGET static inline __attribute__((always_inline))

INLINE struct vec v_zero(void)
{
    return (struct vec){_mm512_setzero_ps()};
}

INLINE struct vec v_set(float f)
{
    return (struct vec){_mm512_set1_ps(f)};
}

INLINE struct vec v_load(const float *p)
{
    return (struct vec){_mm512_loadu_ps(p)};
}

INLINE void v_store(float *p, struct vec a)
{
    _mm512_storeu_ps(p, a.v);
}

INLINE struct vec v_fma(struct vec a, struct vec b, struct vec c)
{
    return (struct vec){_mm512_fmadd_ps(a.v, b.v, c.v)};
}

INLINE struct vec v_add(struct vec a, struct vec b)
{
    return (struct vec){_mm512_add_ps(a.v, b.v)};
}

INLINE struct vec v_sub(struct vec a, struct vec b)
{
    return (struct vec){_mm512_sub_ps(a.v, b.v)};
}

INLINE struct vec v_mul(struct vec a, struct vec b)
{
    return (struct vec){_mm512_mul_ps(a.v, b.v)};
}

INLINE struct vec v_div(struct vec a, struct vec b)
{
    return (struct vec){_mm512_div_ps(a.v, b.v)};
}

/* a > b ? a : b */
INLINE struct vec v_max(struct vec a, struct vec b)
{
    return (struct vec){_mm512_max_ps(a.v, b.v)};
}

/* a < b ? a : b */
INLINE struct vec v_min(struct vec a, struct vec b)
{
    return (struct vec){_mm512_min_ps(a.v, b.v)};
}

/* a < b ? 0 : c */
INLINE struct vec v_zero_below(struct vec a, struct vec b, struct vec c)
{
    __mmask16 keep = _mm512_cmp_ps_mask(a.v, b.v, _CMP_NLT_UQ);
    return (struct vec){_mm512_maskz_mov_ps(keep, c.v)};
}

/* p * 2^n, n the low bits of t's representation; see v_exp. */
INLINE struct vec v_scale(struct vec p, struct vec t)
{
    __m512i n = _mm512_slli_epi32(_mm512_castps_si512(t.v), 23);
    return (struct vec){_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p.v), n))};
}

INLINE struct vec v_f16(const char *p)
{
    return (struct vec){_mm512_cvtph_ps(_mm256_load_si256((const __m256i *)p))};
}

/* The low and the high bf16 of 16 pairs. */
INLINE struct vec v_bf16_low(const char *p)
{
    return (struct vec){_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_load_si512(p), 16))};
}

INLINE struct vec v_bf16_high(const char *p)
{
    __m512i mask = _mm512_set1_epi32((int)0xffff0000u);
    return (struct vec){_mm512_castsi512_ps(_mm512_and_si512(_mm512_load_si512(p), mask))};
}

#define TILE_ROWS 14
/* clang-format off */
/* X(rows, vectors): register tiles; more vectors where few rows leave the multipliers waiting. */
#define TILE_LIST(X)                                                                               \
    X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(3, 1) X(3, 2) X(3, 3)        \
    X(3, 4) X(4, 1) X(4, 2) X(5, 1) X(5, 2) X(6, 1) X(6, 2) X(7, 1) X(7, 2) X(8, 1) X(8, 2)        \
    X(9, 1) X(9, 2) X(10, 1) X(10, 2) X(11, 1) X(11, 2) X(12, 1) X(12, 2) X(13, 1) X(13, 2)        \
    X(14, 1) X(14, 2)
/* Attention tiles: X(rows, pages scored at once, vectors of V at once). */
#define ATTEND_LIST(X)                                                                             \
    X(1, 4, 4) X(2, 4, 4) X(3, 4, 4) X(4, 2, 4) X(5, 2, 4) X(6, 2, 4) X(7, 2, 2) X(8, 2, 2)        \
    X(9, 2, 2) X(10, 2, 2) X(11, 2, 2) X(12, 2, 2) X(13, 2, 2) X(14, 2, 2)
/* clang-format on */
#define TILE_WIDE(rows) ((rows) <= 3 ? 4 : 2)
#define KERNELS         cpu_kernels_avx512
#define NAME            "avx512"

#include "engine/cpu/cpu_kernel.inc"
#endif
