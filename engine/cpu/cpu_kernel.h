/* cpu_kernel: the inner loops of the CPU backend, built once for each instruction set.
 *
 * The rule behind all of them: every number is computed by one fixed sequence of roundings that
 * depends on nothing but its own inputs. A dot product is one chain of fused multiply-adds in
 * ascending k, from zero (or from the value in y), vectorised across outputs and never along k; a
 * sum over a row is 16 interleaved lanes folded in a fixed tree. So a row gives the same bits alone
 * and in any batch, on any number of threads, and with AVX-512, AVX2 or plain C.
 *
 * Pure functions; arrays are 64-byte aligned where a comment says so.
 */
#ifndef CHORUS_CPU_CPU_KERNEL_H
#define CHORUS_CPU_CPU_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/limits.h"
#include "engine/model/tensor.h"

#define CPU_LANES 16 /* floats of the logical vector */
#define CPU_PANEL 32 /* output columns of a weight panel */
#define CPU_PAGE  LIMIT_KV_PAGE_TOKENS

/* Weights [n, k] in panels of 32 outputs, each panel contiguous, the last one padded with zeros:
 *   f32  [k][32] float     f16  [k][32] half     bf16 [ceil(k/2)][32] pairs, even k in the low half
 */
struct cpu_matrix {
    enum dtype dtype;
    int n;
    int k;
    int panels;
    size_t panel_bytes; /* multiple of 64 */
    char *data;         /* owned, 64-byte aligned; NULL: absent */
};

/* y[r, c] = sum_k x[r, k] * w[c, k], or y += with `add`. Of a half-empty last panel whole vectors
 * of 16 columns are written. */
struct cpu_gemm {
    const float *x; /* [rows, k] */
    size_t x_stride;
    int rows;
    const struct cpu_matrix *w;
    int panel_begin;
    int panel_end;
    float *y; /* [rows, panels * 32] */
    size_t y_stride;
    bool add;
};

/* Floats of one (page, kv head): K [D][16], then V [16][Dp], Dp = D rounded up to 16. */
#define CPU_KV_BLOCK(d)    ((size_t)(d)*CPU_PAGE + (size_t)CPU_PAGE * CPU_ROUND_LANES(d))
#define CPU_ROUND_LANES(n) (((size_t)(n) + CPU_LANES - 1) / CPU_LANES * CPU_LANES)

/* Tokens whose scores are held at once; blocks begin at multiples of it. */
#define CPU_ATTEND_BLOCK 256

/* Attention of `rows` neighbouring rows of one sequence and `heads` query heads that share a kv
 * head. rows * heads <= cpu_kernels.tile_rows. */
struct cpu_attend {
    const float *q; /* first row, first head; heads are D apart */
    size_t q_stride;
    float *out; /* as q */
    size_t out_stride;
    int rows;
    int heads;
    int head_dim;
    int position;       /* of the first row */
    int window;         /* 0: none */
    float scale;        /* of the scores */
    const float *kv;    /* block of (page 0, this kv head) of this layer, 64-byte aligned */
    size_t page_floats; /* from a page to the next */
    const int32_t *pages;
    float *scratch; /* cpu_attend_scratch floats, 64-byte aligned */
};

/* RoPE and its norm on one head, in place: h[D]. */
struct cpu_rope {
    const float *cos; /* [D/2] of the position */
    const float *sin;
    const float *norm; /* [D] or NULL */
    float eps;
    int head_dim;
};

struct cpu_kernels {
    const char *name;
    int tile_rows;
    void (*gemm)(const struct cpu_gemm *g);
    void (*attend)(const struct cpu_attend *a);
    /* y[m] = x[m] / rms(x) * w[m] */
    void (*norm)(const float *x, const float *w, int m, float eps, float *y);
    void (*rope)(const struct cpu_rope *a, float *h);
    /* g[n] = silu(g[n]) * u[n] */
    void (*silu_mul)(float *g, const float *u, int n);
    /* y[n] += x[n] */
    void (*add)(float *y, const float *x, int n);
    /* y[n] = exp(x[n]): relative error below 2e-7 for x in [-86.5, 88], 0 below, e^88 above. */
    void (*exp)(const float *x, float *y, int n);
};

extern const struct cpu_kernels cpu_kernels_scalar;
#if defined(__x86_64__)
extern const struct cpu_kernels cpu_kernels_avx2;
extern const struct cpu_kernels cpu_kernels_avx512;
#endif

/* "auto" (NULL too), "avx512", "avx2" or "scalar"; NULL when unknown or not on this machine. */
const struct cpu_kernels *cpu_kernels_find(const char *isa);

/* Floats of scratch for one call of attend. */
size_t cpu_attend_scratch(int tile_rows, int head_dim);

#endif
