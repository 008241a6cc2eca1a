/* AVX2 with FMA and F16C: a logical vector is two registers; 6 rows x 16 columns hold 12 of 16. */
#include "engine/cpu/cpu_kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,f16c")))

struct vec {
    __m256 a; /* lanes 0..7 */
    __m256 b; /* lanes 8..15 */
};

#define INLINE TARGET static inline __attribute__((always_inline))

INLINE struct vec v_zero(void)
{
    return (struct vec){_mm256_setzero_ps(), _mm256_setzero_ps()};
}

INLINE struct vec v_set(float f)
{
    __m256 v = _mm256_set1_ps(f);
    return (struct vec){v, v};
}

INLINE struct vec v_load(const float *p)
{
    return (struct vec){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

INLINE void v_store(float *p, struct vec x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}

INLINE struct vec v_fma(struct vec x, struct vec y, struct vec z)
{
    return (struct vec){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}

INLINE struct vec v_add(struct vec x, struct vec y)
{
    return (struct vec){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}

INLINE struct vec v_sub(struct vec x, struct vec y)
{
    return (struct vec){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}

INLINE struct vec v_mul(struct vec x, struct vec y)
{
    return (struct vec){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}

INLINE struct vec v_div(struct vec x, struct vec y)
{
    return (struct vec){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}

/* x > y ? x : y */
INLINE struct vec v_max(struct vec x, struct vec y)
{
    return (struct vec){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}

/* x < y ? x : y */
INLINE struct vec v_min(struct vec x, struct vec y)
{
    return (struct vec){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)};
}

/* x < y ? 0 : z */
INLINE struct vec v_zero_below(struct vec x, struct vec y, struct vec z)
{
    return (struct vec){_mm256_andnot_ps(_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), z.a),
                        _mm256_andnot_ps(_mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ), z.b)};
}

INLINE __m256 scale_half(__m256 p, __m256 t)
{
    __m256i n = _mm256_slli_epi32(_mm256_castps_si256(t), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), n));
}

/* p * 2^n, n the low bits of t's representation; see v_exp. */
INLINE struct vec v_scale(struct vec p, struct vec t)
{
    return (struct vec){scale_half(p.a, t.a), scale_half(p.b, t.b)};
}

INLINE struct vec v_f16(const char *p)
{
    const __m128i *h = (const __m128i *)p;
    return (struct vec){_mm256_cvtph_ps(_mm_load_si128(h)), _mm256_cvtph_ps(_mm_load_si128(h + 1))};
}

/* The low and the high bf16 of 16 pairs. */
INLINE struct vec v_bf16_low(const char *p)
{
    const __m256i *u = (const __m256i *)p;
    return (struct vec){_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_load_si256(u), 16)),
                        _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_load_si256(u + 1), 16))};
}

INLINE struct vec v_bf16_high(const char *p)
{
    __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32((int)0xffff0000u));
    const float *u = (const float *)p;
    return (struct vec){_mm256_and_ps(_mm256_load_ps(u), mask),
                        _mm256_and_ps(_mm256_load_ps(u + 8), mask)};
}

#define TILE_ROWS 6
/* X(rows, vectors): register tiles; more vectors where few rows leave the multipliers waiting. */
/* clang-format off */
#define TILE_LIST(X)                                                                               \
    X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(2, 1) X(2, 2) X(3, 1) X(3, 2) X(4, 1) X(5, 1) X(6, 1)
/* clang-format on */
#define TILE_WIDE(rows) ((rows) == 1 ? 4 : (rows) <= 3 ? 2 : 1)
/* Attention tiles: X(rows, pages scored at once, vectors of V at once). */
#define ATTEND_LIST(X) X(1, 4, 4) X(2, 2, 2) X(3, 2, 2) X(4, 1, 1) X(5, 1, 1) X(6, 1, 1)
#define KERNELS        cpu_kernels_avx2
#define NAME           "avx2"

#include "engine/cpu/cpu_kernel.inc"
#endif
