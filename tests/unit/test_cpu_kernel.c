/* Every kernel of every instruction set this machine has: products against the chain of fmaf that
 * they promise, to the bit; the others against formulas in double and to the bit against each
 * other. Outputs lie between guards, everything a kernel must not read is NaN. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/cpu/cpu_matrix.h"
#include "tests/unit/cpu_fixture.h"

static const struct cpu_kernels *isas[3];
static int isa_count;

static void find_isas(void)
{
    static const char *names[] = {"scalar", "avx2", "avx512"};
    for (int i = 0; i < 3; i++) {
        const struct cpu_kernels *k = cpu_kernels_find(names[i]);
        if (k)
            isas[isa_count++] = k;
        else
            printf("figure: no %s on this machine\n", names[i]);
    }
}

#define GUARD 64
#define MARK  (-7.25e30f)

/* `count` floats between guards, all marked. */
static float *guarded(size_t count)
{
    float *p = aligned_alloc(64, ((count + 2 * GUARD) * 4 + 63) / 64 * 64);
    assert_non_null(p);
    for (size_t i = 0; i < count + 2 * GUARD; i++)
        p[i] = MARK;
    return p + GUARD;
}

static void free_guarded(float *p, size_t count, const char *what)
{
    for (int i = 0; i < GUARD; i++) {
        if (p[i - GUARD] != MARK || p[count + (size_t)i] != MARK)
            fail_msg("%s wrote outside its output", what);
    }
    free(p - GUARD);
}

static float *poisoned(size_t count)
{
    float *p = aligned_alloc(64, (count * 4 + 127) / 64 * 64);
    assert_non_null(p);
    for (size_t i = 0; i < count; i++)
        p[i] = NAN;
    return p;
}

static bool same_bits(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

/* ---- gemm ---- */

struct gemm_case {
    int rows, n, k;
    enum dtype dtype;
    bool add;
};

static float chain(const float *x, const float *w, int k, float from)
{
    for (int i = 0; i < k; i++)
        from = fmaf(x[i], w[i], from);
    return from;
}

static void check_gemm(const struct gemm_case *t, struct fixture_rng *r)
{
    struct tensor wt = fixture_tensor(r, t->n, t->k, t->dtype, 0.0, 1.0);
    struct cpu_matrix w;
    assert_int_equal(cpu_matrix_init(&w, t->dtype, t->n, t->k), STATUS_OK);
    cpu_matrix_pack(&w, 0, &wt, NULL, 0, w.panels);
    float *wide = malloc((size_t)t->n * (size_t)t->k * sizeof *wide);
    tensor_read_f32(&wt, 0, tensor_count(&wt), wide);
    float *row = malloc((size_t)t->k * sizeof *row);
    for (int n = 0; n < t->n; n++) {
        cpu_matrix_row(&w, n, row);
        assert_memory_equal(row, wide + (size_t)n * (size_t)t->k, (size_t)t->k * sizeof *row);
    }
    size_t xs = (size_t)t->k + 3, ys = (size_t)w.panels * CPU_PANEL + 5;
    float *x = poisoned((size_t)t->rows * xs + 16);
    for (int i = 0; i < t->rows; i++) {
        for (int k = 0; k < t->k; k++)
            x[(size_t)i * xs + (size_t)k] = (float)fixture_normal(r);
    }
    int begin = w.panels > 2 ? 1 : 0;
    int end = w.panels > 4 ? w.panels - 1 : w.panels;
    size_t count = (size_t)t->rows * ys;
    for (int s = 0; s < isa_count; s++) {
        float *y = guarded(count);
        for (size_t i = 0; t->add && i < count; i++)
            y[i] = (float)i;
        struct cpu_gemm g = {.x = x,
                             .x_stride = xs,
                             .rows = t->rows,
                             .w = &w,
                             .panel_begin = begin,
                             .panel_end = end,
                             .y = y,
                             .y_stride = ys,
                             .add = t->add};
        isas[s]->gemm(&g);
        for (size_t i = 0; i < count; i++) {
            int c = (int)(i % ys), rr = (int)(i / ys);
            float from = t->add ? (float)i : 0.0f, want = t->add ? (float)i : MARK;
            if (c >= begin * CPU_PANEL && c < end * CPU_PANEL && c < t->n)
                want = chain(x + (size_t)rr * xs, wide + (size_t)c * (size_t)t->k, t->k, from);
            else if (c >= begin * CPU_PANEL && c < end * CPU_PANEL &&
                     c < (int)CPU_ROUND_LANES(t->n))
                want = from; /* a padded column: zero weights */
            if (!same_bits(y[i], want))
                fail_msg("%s %s rows %d n %d k %d add %d: y[%d, %d] = %a, want %a", isas[s]->name,
                         dtype_name(t->dtype), t->rows, t->n, t->k, t->add, rr, c, (double)y[i],
                         (double)want);
        }
        free_guarded(y, count, isas[s]->name);
    }
    free(x);
    free(row);
    free(wide);
    cpu_matrix_deinit(&w);
    fixture_tensor_free(&wt);
}

static void test_cpu_kernel_gemm_rows(void **state)
{
    (void)state;
    struct fixture_rng r = {1};
    for (int rows = 0; rows <= 30; rows++) {
        for (int d = DTYPE_F32; d <= DTYPE_BF16; d++) {
            struct gemm_case t = {rows, 70, 9, (enum dtype)d, rows % 2 == 1};
            check_gemm(&t, &r);
        }
    }
}

static void test_cpu_kernel_gemm_shapes(void **state)
{
    (void)state;
    static const int ns[] = {1, 16, 17, 31, 32, 33, 48, 49, 64, 65, 96, 161};
    static const int ks[] = {1, 2, 3, 255, 256, 257, 515};
    static const int rows[] = {1, 2, 5, 15, 29};
    struct fixture_rng r = {2};
    for (size_t n = 0; n < sizeof ns / sizeof *ns; n++) {
        for (size_t k = 0; k < sizeof ks / sizeof *ks; k++) {
            struct gemm_case t = {rows[(n + k) % 5], ns[n], ks[k], (enum dtype)((n + 2 * k) % 3),
                                  (n + k) % 3 == 0};
            check_gemm(&t, &r);
        }
    }
}

/* Rows of several tensors stacked, and rows scaled. */
static void test_cpu_kernel_matrix_stack(void **state)
{
    (void)state;
    struct fixture_rng r = {3};
    struct tensor a = fixture_tensor(&r, 40, 7, DTYPE_BF16, 0.0, 1.0);
    struct tensor b = fixture_tensor(&r, 5, 7, DTYPE_F16, 0.0, 1.0);
    float scale[40], got[7], want[7];
    struct cpu_matrix m;
    for (int i = 0; i < 40; i++)
        scale[i] = (float)fixture_normal(&r);
    assert_int_equal(cpu_matrix_init(&m, DTYPE_F32, 45, 7), STATUS_OK);
    cpu_matrix_pack(&m, 0, &a, scale, 0, m.panels);
    cpu_matrix_pack(&m, 40, &b, NULL, 0, 1);
    cpu_matrix_pack(&m, 40, &b, NULL, 1, m.panels);
    for (int n = 0; n < 45; n++) {
        cpu_matrix_row(&m, n, got);
        tensor_read_f32(n < 40 ? &a : &b, (size_t)(n < 40 ? n : n - 40) * 7, 7, want);
        for (int i = 0; i < 7; i++) {
            float w = n < 40 ? want[i] * scale[n] : want[i];
            if (!same_bits(got[i], w))
                fail_msg("row %d, %d: %a, want %a", n, i, (double)got[i], (double)w);
        }
    }
    cpu_matrix_deinit(&m);
    fixture_tensor_free(&a);
    fixture_tensor_free(&b);
}

/* ---- attention ---- */

struct attend_case {
    int heads, d, first, rows, window;
};

struct attend_data {
    float *q;       /* [rows, heads * d] */
    float *kv;      /* pages */
    int32_t *pages; /* of the context */
    float *k, *v;   /* [context, d] plain */
    size_t page_floats;
    int context;
};

static struct attend_data attend_data(const struct attend_case *t, struct fixture_rng *r)
{
    struct attend_data a = {.context = t->first + t->rows, .page_floats = CPU_KV_BLOCK(t->d) * 2};
    int pages = (a.context + CPU_PAGE - 1) / CPU_PAGE;
    size_t values = (size_t)a.context * (size_t)t->d;
    a.q = poisoned((size_t)t->rows * (size_t)(t->heads * t->d));
    a.k = malloc(values * sizeof *a.k);
    a.v = malloc(values * sizeof *a.v);
    a.pages = malloc((size_t)pages * sizeof *a.pages);
    a.kv = poisoned((size_t)pages * a.page_floats);
    for (size_t i = 0; i < (size_t)t->rows * (size_t)(t->heads * t->d); i++)
        a.q[i] = (float)(2.0 * fixture_normal(r));
    for (int p = 0; p < pages; p++)
        a.pages[p] = pages - 1 - p;
    for (int i = 0; i < a.context; i++) {
        float *block = a.kv + (size_t)a.pages[i / CPU_PAGE] * a.page_floats;
        for (int d = 0; d < t->d; d++) {
            size_t at = (size_t)i * (size_t)t->d + (size_t)d;
            a.k[at] = (float)fixture_normal(r);
            a.v[at] = (float)fixture_normal(r);
            block[d * CPU_PAGE + i % CPU_PAGE] = a.k[at];
            block[(size_t)t->d * CPU_PAGE + (size_t)(i % CPU_PAGE) * CPU_ROUND_LANES(t->d) +
                  (size_t)d] = a.v[at];
        }
        for (size_t d = (size_t)t->d; d < CPU_ROUND_LANES(t->d); d++)
            block[(size_t)t->d * CPU_PAGE + (size_t)(i % CPU_PAGE) * CPU_ROUND_LANES(t->d) + d] =
                0.0f;
    }
    return a;
}

static void free_attend_data(struct attend_data *a)
{
    free(a->q);
    free(a->kv);
    free(a->pages);
    free(a->k);
    free(a->v);
}

static void call_attend(const struct cpu_kernels *isa, const struct attend_case *t,
                        const struct attend_data *a, int row, int rows, int head, int heads,
                        float *out)
{
    size_t stride = (size_t)(t->heads * t->d);
    size_t scratch_floats = cpu_attend_scratch(isa->tile_rows, t->d);
    float *scratch = guarded(scratch_floats);
    for (size_t i = 0; i < scratch_floats; i++)
        scratch[i] = NAN;
    struct cpu_attend c = {.q = a->q + (size_t)row * stride + (size_t)(head * t->d),
                           .q_stride = stride,
                           .out = out + (size_t)row * stride + (size_t)(head * t->d),
                           .out_stride = stride,
                           .rows = rows,
                           .heads = heads,
                           .head_dim = t->d,
                           .position = t->first + row,
                           .window = t->window,
                           .scale = 0.3f,
                           .kv = a->kv,
                           .page_floats = a->page_floats,
                           .pages = a->pages,
                           .scratch = scratch};
    isa->attend(&c);
    free_guarded(scratch, scratch_floats, isa->name);
}

/* Formula in double: error of one output. The weights sum to 1 and |v| <= 4, so the result is good
 * to a few roundings of the scores (|s| <= 50 or so) times that. */
static double attend_error(const struct attend_case *t, const struct attend_data *a, int row,
                           int head, const float *out)
{
    int last = t->first + row,
        low = t->window > 0 && last + 1 > t->window ? last + 1 - t->window : 0;
    const float *q = a->q + (size_t)row * (size_t)(t->heads * t->d) + head * t->d;
    double *p = malloc((size_t)a->context * sizeof *p), most = -INFINITY, sum = 0.0, worst = 0.0;
    for (int i = low; i <= last; i++) {
        p[i] = 0.0;
        for (int d = 0; d < t->d; d++)
            p[i] += (double)q[d] * (double)a->k[i * t->d + d];
        p[i] *= 0.3;
        most = fmax(most, p[i]);
    }
    for (int i = low; i <= last; i++)
        sum += p[i] = exp(p[i] - most);
    for (int d = 0; d < t->d; d++) {
        double want = 0.0;
        for (int i = low; i <= last; i++)
            want += p[i] / sum * (double)a->v[i * t->d + d];
        worst = fmax(
            worst,
            fabs(want -
                 (double)out[(size_t)row * (size_t)(t->heads * t->d) + (size_t)(head * t->d + d)]));
    }
    free(p);
    return isnan(out[0]) ? INFINITY : worst;
}

static void check_attend(const struct attend_case *t, struct fixture_rng *r)
{
    struct attend_data a = attend_data(t, r);
    size_t count = (size_t)t->rows * (size_t)(t->heads * t->d);
    float *first = NULL;
    for (int s = 0; s < isa_count; s++) {
        int heads = t->heads < isas[s]->tile_rows ? t->heads : isas[s]->tile_rows;
        int rows = isas[s]->tile_rows / heads;
        float *tiled = guarded(count), *single = guarded(count);
        for (int head = 0; head < t->heads; head += heads) {
            int hs = t->heads - head < heads ? t->heads - head : heads;
            for (int row = 0; row < t->rows; row += rows)
                call_attend(isas[s], t, &a, row, t->rows - row < rows ? t->rows - row : rows, head,
                            hs, tiled);
        }
        for (int row = 0; row < t->rows; row++) {
            for (int head = 0; head < t->heads; head++)
                call_attend(isas[s], t, &a, row, 1, head, 1, single);
        }
        if (memcmp(tiled, single, count * sizeof *tiled) != 0)
            fail_msg("%s: a tile differs from its rows alone", isas[s]->name);
        for (int row = 0; row < t->rows; row += 3) {
            double e = attend_error(t, &a, row, row % t->heads, tiled);
            if (!(e < 2e-5))
                fail_msg("%s: d %d, position %d, window %d: off by %g", isas[s]->name, t->d,
                         t->first + row, t->window, e);
        }
        if (first && memcmp(first, tiled, count * sizeof *tiled) != 0)
            fail_msg("%s differs from %s", isas[s]->name, isas[0]->name);
        free_guarded(single, count, isas[s]->name);
        if (first)
            free_guarded(tiled, count, isas[s]->name);
        else
            first = tiled;
    }
    free_guarded(first, count, isas[0]->name);
    free_attend_data(&a);
}

static void test_cpu_kernel_attend(void **state)
{
    (void)state;
    static const struct attend_case cases[] = {
        {1, 16, 0, 1, 0},      {1, 16, 0, 40, 0},  {4, 32, 15, 3, 0},   {4, 32, 16, 20, 0},
        {8, 64, 250, 13, 0},   {3, 40, 255, 2, 0}, {2, 12, 256, 9, 0},  {16, 128, 517, 5, 0},
        {2, 16, 0, 50, 1},     {2, 16, 0, 60, 16}, {4, 34, 90, 40, 37}, {1, 64, 500, 40, 250},
        {5, 80, 700, 20, 300}, {7, 2, 33, 30, 5},
    };
    struct fixture_rng r = {4};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_attend(&cases[i], &r);
}

/* ---- rows ---- */

static void test_cpu_kernel_exp(void **state)
{
    (void)state;
    enum { N = 400001 };
    float *x = malloc(N * sizeof *x), *first = malloc(N * sizeof *first);
    double worst = 0.0;
    for (int i = 0; i < N; i++)
        x[i] = -86.5f + 174.5f * (float)i / (N - 1);
    for (int s = 0; s < isa_count; s++) {
        float *y = guarded(N);
        isas[s]->exp(x, y, N);
        for (int i = 0; s == 0 && i < N; i++)
            worst = fmax(worst, fabs((double)y[i] / exp((double)x[i]) - 1.0));
        if (s == 0)
            memcpy(first, y, N * sizeof *y);
        else if (memcmp(first, y, N * sizeof *y) != 0)
            fail_msg("%s differs from %s", isas[s]->name, isas[0]->name);
        free_guarded(y, N, "exp");
        const float edge[] = {-INFINITY, -87.0f, -86.51f, 0.0f, -0.0f, 200.0f, INFINITY, NAN};
        float got[8];
        isas[s]->exp(edge, got, 8);
        assert_true(got[0] == 0.0f && got[1] == 0.0f && got[2] == 0.0f);
        assert_true(got[3] == 1.0f && got[4] == 1.0f);
        assert_true(got[5] == got[6] && got[5] > 1e38f && isfinite(got[5]));
        assert_true(isnan(got[7]));
    }
    printf("figure: exp: largest relative error %.2e\n", worst);
    assert_true(worst < 2e-7);
    free(x);
    free(first);
}

static void check_rows(int n, struct fixture_rng *r)
{
    float *x = poisoned((size_t)n + 16), *w = poisoned((size_t)n + 16);
    float *first = malloc(3 * (size_t)n * sizeof *first);
    for (int i = 0; i < n; i++) {
        x[i] = (float)(3.0 * fixture_normal(r));
        w[i] = (float)fixture_normal(r);
    }
    double sum = 0.0;
    for (int i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    for (int s = 0; s < isa_count; s++) {
        float *y = guarded(3 * (size_t)n);
        isas[s]->norm(x, w, n, 1e-5f, y);
        memcpy(y + n, x, (size_t)n * sizeof *y);
        isas[s]->silu_mul(y + n, w, n);
        memcpy(y + 2 * n, x, (size_t)n * sizeof *y);
        isas[s]->add(y + 2 * n, w, n);
        for (int i = 0; i < n; i++) {
            double nx = (double)x[i] / sqrt(sum / n + (double)1e-5f) * (double)w[i];
            double h = (double)x[i] / (1.0 + exp(-(double)x[i])) * (double)w[i];
            if (!(fabs((double)y[i] - nx) <= 4e-7 * fabs(nx)) ||
                !(fabs((double)y[n + i] - h) <= 6e-7 * fabs(h)) || y[2 * n + i] != x[i] + w[i])
                fail_msg("%s, n %d, %d: norm %.9g (%.9g), silu %.9g (%.9g)", isas[s]->name, n, i,
                         (double)y[i], nx, (double)y[n + i], h);
        }
        if (s == 0)
            memcpy(first, y, 3 * (size_t)n * sizeof *y);
        else if (memcmp(first, y, 3 * (size_t)n * sizeof *y) != 0)
            fail_msg("%s differs from %s at n %d", isas[s]->name, isas[0]->name, n);
        free_guarded(y, 3 * (size_t)n, "a row kernel");
    }
    free(x);
    free(w);
    free(first);
}

static void test_cpu_kernel_rows(void **state)
{
    (void)state;
    struct fixture_rng r = {5};
    static const int ns[] = {1, 2, 15, 16, 17, 31, 33, 72, 320, 1001};
    for (size_t i = 0; i < sizeof ns / sizeof *ns; i++)
        check_rows(ns[i], &r);
}

static void test_cpu_kernel_rope(void **state)
{
    (void)state;
    struct fixture_rng r = {6};
    static const int ds[] = {2, 12, 32, 34, 64, 128};
    for (size_t c = 0; c < sizeof ds / sizeof *ds; c++) {
        int d = ds[c], half = d / 2;
        float cosine[64], sine[64], w[128], in[128], first[2][128];
        for (int i = 0; i < d; i++) {
            in[i] = (float)fixture_normal(&r);
            w[i] = (float)fixture_normal(&r);
        }
        double sum = 0.0;
        for (int i = 0; i < d; i++)
            sum += (double)in[i] * (double)in[i];
        for (int i = 0; i < half; i++) {
            double a = 3.0 * fixture_normal(&r);
            cosine[i] = (float)cos(a);
            sine[i] = (float)sin(a);
        }
        for (int s = 0; s < isa_count; s++) {
            for (int with_norm = 0; with_norm < 2; with_norm++) {
                float *h = guarded((size_t)d);
                memcpy(h, in, (size_t)d * sizeof *h);
                struct cpu_rope a = {cosine, sine, with_norm ? w : NULL, 1e-6f, d};
                isas[s]->rope(&a, h);
                double scale = with_norm ? 1.0 / sqrt(sum / d + (double)1e-6f) : 1.0;
                for (int i = 0; i < half; i++) {
                    double x = (double)in[i] * scale * (with_norm ? (double)w[i] : 1.0);
                    double y =
                        (double)in[half + i] * scale * (with_norm ? (double)w[half + i] : 1.0);
                    double co = (double)cosine[i], si = (double)sine[i];
                    double bound = 5e-7 * (fabs(x) + fabs(y));
                    if (!(fabs((double)h[i] - (x * co - y * si)) <= bound) ||
                        !(fabs((double)h[half + i] - (y * co + x * si)) <= bound))
                        fail_msg("%s: rope d %d, pair %d", isas[s]->name, d, i);
                }
                if (s == 0)
                    memcpy(first[with_norm], h, (size_t)d * sizeof *h);
                else if (memcmp(first[with_norm], h, (size_t)d * sizeof *h) != 0)
                    fail_msg("%s: rope differs at d %d", isas[s]->name, d);
                free_guarded(h, (size_t)d, "rope");
            }
        }
    }
}

static void test_cpu_kernel_find(void **state)
{
    (void)state;
    assert_non_null(cpu_kernels_find(NULL));
    assert_ptr_equal(cpu_kernels_find("auto"), cpu_kernels_find(NULL));
    assert_ptr_equal(cpu_kernels_find("scalar"), &cpu_kernels_scalar);
    assert_null(cpu_kernels_find("sse9"));
    assert_null(cpu_kernels_find(""));
}

int main(void)
{
    find_isas();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu_kernel_gemm_rows),
        cmocka_unit_test(test_cpu_kernel_gemm_shapes),
        cmocka_unit_test(test_cpu_kernel_matrix_stack),
        cmocka_unit_test(test_cpu_kernel_attend),
        cmocka_unit_test(test_cpu_kernel_exp),
        cmocka_unit_test(test_cpu_kernel_rows),
        cmocka_unit_test(test_cpu_kernel_rope),
        cmocka_unit_test(test_cpu_kernel_find),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
