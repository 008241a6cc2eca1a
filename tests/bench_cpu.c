/* Bench of the CPU backend, for people: `make build/tests/bench_cpu && build/tests/bench_cpu`.
 *
 *   gemm     GFLOP/s of cpu_kernels.gemm by instruction set, type and threads, beside OpenBLAS
 * where libopenblas.so.0 is installed (looked up while running; nothing depends on it) order    how
 * many bits of a row OpenBLAS changes when the row is computed in company model    steps of a model
 * in the shape of the demo model: one stream, 16 streams, prefill sample   one row of 128k logits
 *
 * Each figure is the best of several runs, because the machine is shared.
 */
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "engine/base/log.h"
#include "engine/cpu/cpu_matrix.h"
#include "engine/cpu/cpu_pool.h"
#include "tests/unit/cpu_drive.h"
#include "tests/unit/cpu_fixture.h"

#define REPEAT 9

/* With one thread its processor time, so that a busy machine does not count; else the wall's. */
static bool one_thread;

static double now(void)
{
    struct timespec t;
    clock_gettime(one_thread ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- gemm ---- */

typedef void (*sgemm_fn)(int order, int ta, int tb, int m, int n, int k, float alpha,
                         const float *a, int lda, const float *b, int ldb, float beta, float *c,
                         int ldc);
static sgemm_fn sgemm;
static void (*blas_threads)(int);

static void find_blas(void)
{
    /* OpenBLAS 0.3.21 does not know newer processors and would fall back to SSE on them. */
    const char *core = cpu_kernels_find("avx512") ? "SkylakeX" : "Haswell";
    setenv("OPENBLAS_CORETYPE", core, 0);
    void *lib = dlopen("libopenblas.so.0", RTLD_NOW);
    if (!lib)
        return;
    void *f = dlsym(lib, "cblas_sgemm");
    void *t = dlsym(lib, "openblas_set_num_threads");
    memcpy(&sgemm, &f, sizeof f);
    memcpy(&blas_threads, &t, sizeof t);
}

struct product {
    const struct cpu_kernels *kernels;
    struct cpu_gemm g;
};

static void product_job(void *ctx, int arg, int begin, int end, int thread)
{
    (void)arg;
    (void)thread;
    struct product *p = ctx;
    struct cpu_gemm g = p->g;
    g.panel_begin = begin;
    g.panel_end = end;
    p->kernels->gemm(&g);
}

static float *floats(size_t count, uint64_t seed)
{
    struct fixture_rng r = {seed};
    float *f = aligned_alloc(64, (count * 4 + 127) / 64 * 64);
    for (size_t i = 0; i < count; i++)
        f[i] = (float)fixture_normal(&r);
    return f;
}

static double best_blas(int m, int n, int k, int threads, const float *x, const float *w, float *y)
{
    if (!sgemm)
        return 0.0;
    blas_threads(threads);
    double best = 1e9;
    for (int i = 0; i < REPEAT; i++) {
        double t = now();
        sgemm(101, 111, 112, m, n, k, 1.0f, x, k, w, k, 0.0f, y, n);
        best = fmin(best, now() - t);
    }
    return 2e-9 * m * n * k / best;
}

static double best_own(const struct cpu_kernels *kernels, struct cpu_pool *pool, int m, int n,
                       int k, const struct cpu_matrix *w, const float *x, float *y)
{
    size_t stride = (size_t)w->panels * CPU_PANEL + CPU_LANES;
    struct product p = {
        kernels,
        {.x = x, .x_stride = (size_t)k + CPU_LANES, .rows = m, .w = w, .y = y, .y_stride = stride}};
    int grain = w->panels / (4 * cpu_pool_threads(pool));
    double best = 1e9;
    for (int i = 0; i < REPEAT; i++) {
        double t = now();
        cpu_pool_run(pool, (struct cpu_job){.fn = product_job, .ctx = &p}, w->panels,
                     grain < 2 ? 2 : grain);
        best = fmin(best, now() - t);
    }
    return 2e-9 * m * n * k / best;
}

static void bench_gemm(int m, int k, int n)
{
    static const char *isa[] = {"avx512", "avx2", "scalar"};
    float *x = floats((size_t)m * (size_t)(k + CPU_LANES), 1);
    float *y = floats((size_t)m * (size_t)(n + CPU_PANEL + CPU_LANES), 2);
    for (int threads = 1; threads <= 2; threads++) {
        struct cpu_pool *pool;
        one_thread = threads == 1;
        assert_int_equal(cpu_pool_create(threads, 8, &pool, NULL), STATUS_OK);
        struct fixture_rng r = {3};
        struct tensor wf = fixture_tensor(&r, n, k, DTYPE_F32, 0.0, 1.0);
        printf("gemm,%d,%d,%d,%d,openblas,f32,%.1f\n", m, k, n, threads,
               best_blas(m, n, k, threads, x, wf.data, y));
        for (int d = DTYPE_F32; d <= DTYPE_BF16; d++) {
            struct tensor t = fixture_tensor(&r, n, k, (enum dtype)d, 0.0, 1.0);
            struct cpu_matrix w;
            assert_int_equal(cpu_matrix_init(&w, (enum dtype)d, n, k), STATUS_OK);
            cpu_matrix_pack(&w, 0, &t, NULL, 0, w.panels);
            for (int i = 0; i < (m * (double)n * k > 1e8 ? 2 : 3); i++) {
                const struct cpu_kernels *kernels = cpu_kernels_find(isa[i]);
                if (kernels)
                    printf("gemm,%d,%d,%d,%d,%s,%s,%.1f\n", m, k, n, threads, isa[i],
                           dtype_name((enum dtype)d), best_own(kernels, pool, m, n, k, &w, x, y));
            }
            cpu_matrix_deinit(&w);
            fixture_tensor_free(&t);
        }
        fixture_tensor_free(&wf);
        cpu_pool_destroy(pool);
    }
    free(x);
    free(y);
}

/* Row 0 alone and as one of 32, through OpenBLAS. */
static void bench_order(int k, int n)
{
    if (!sgemm)
        return;
    float *x = floats((size_t)32 * (size_t)k, 4), *w = floats((size_t)n * (size_t)k, 5);
    float *alone = floats((size_t)n, 6), *company = floats((size_t)32 * (size_t)n, 7);
    blas_threads(1);
    sgemm(101, 111, 112, 1, n, k, 1.0f, x, k, w, k, 0.0f, alone, n);
    sgemm(101, 111, 112, 32, n, k, 1.0f, x, k, w, k, 0.0f, company, n);
    int differ = 0;
    double worst = 0.0;
    for (int i = 0; i < n; i++) {
        differ += memcmp(&alone[i], &company[i], 4) != 0;
        worst = fmax(worst, fabs((double)alone[i] - (double)company[i]));
    }
    printf("order,openblas,k=%d,n=%d: %d of %d outputs of a row differ alone and in 32 rows, by up "
           "to %.1e\n",
           k, n, differ, n, worst);
    free(x);
    free(w);
    free(alone);
    free(company);
}

/* ---- model ---- */

static double time_run(struct drive *d, const struct drive_seq *seqs, int count)
{
    double best = 1e9;
    for (int i = 0; i < REPEAT; i++) {
        struct drive_seq s[64];
        memcpy(s, seqs, (size_t)count * sizeof *s);
        double t = now();
        drive_run(d, s, count);
        best = fmin(best, now() - t);
        drive_free(s, count);
    }
    return best;
}

static void bench_model(const char *isa, int threads, int prompt, int generate)
{
    one_thread = threads == 1;
    struct model_shape shape = fixture_demo_shape();
    struct model *m = fixture_model(&shape, DTYPE_BF16, 11);
    struct backend_options opt = {.threads = threads, .isa = isa};
    struct backend_plan plan = {.rows_max = 512,
                                .seqs_max = 64,
                                .outs_max = 64,
                                .segments_max = 256,
                                .slots_max = 8,
                                .pages = 2048,
                                .ctx_max = 2304};
    struct drive d = drive_open(m, &opt, &plan);
    struct fixture_lora f = {
        .rank = 16, .attention = true, .mlp = true, .dtype = DTYPE_F32, .strength = 0.1};
    for (int i = 0; i < 5; i++) {
        struct lora *l = fixture_lora(&shape, &f, 100 + (uint64_t)i);
        assert_int_equal(d.b->ops->adapter_load(d.b, i, l, NULL), STATUS_OK);
        fixture_lora_free(l);
    }
    static int32_t ids[2048];
    for (int i = 0; i < 2048; i++)
        ids[i] = i * 7 % shape.vocab;
    struct drive_seq s[16];
    for (int i = 0; i < 16; i++) {
        s[i] = drive_seq_of(ids + i, prompt, generate);
        s[i].params.logprobs = -1;
    }
    double prefill = 0.0, one = 0.0, many = 0.0, lora = 0.0, first;
    struct drive_seq only = s[0];
    only.generate = 1;
    first = time_run(&d, &only, 1);
    one = time_run(&d, s, 1);
    many = time_run(&d, s, 16);
    for (int i = 0; i < 16; i++) {
        s[i].adapter_count = 1;
        s[i].slot[0] = i * 5 / 16;
        s[i].weight[0] = 1.0f;
    }
    double lora_one = time_run(&d, s, 1);
    lora = time_run(&d, s, 16);
    only.prompt_count = 2000;
    prefill = time_run(&d, &only, 1);
    printf(
        "model,%s,threads=%d: first token of %d: %.2f ms; one stream %.0f tok/s, with an adapter "
        "%.0f; 16 streams %.0f tok/s, over 5 adapters %.0f; prefill of 2000: %.0f ms\n",
        d.b->ops->name ? isa : "", threads, prompt, first * 1e3, (generate - 1) / (one - first),
        (generate - 1) / (lora_one - first), 16 * generate / many, 16 * generate / lora,
        prefill * 1e3);
    drive_close(&d);
    fixture_model_free(m);
}

/* ---- sample ---- */

static void bench_sample(void)
{
    const int vocab = 128256;
    float *logits = floats((size_t)vocab, 9), *scratch = floats(sample_scratch_floats(vocab), 10);
    for (int i = 0; i < vocab; i++)
        logits[i] *= 3.0f;
    static const struct {
        const char *name;
        struct sample_params p;
    } cases[] = {
        {"greedy", {.top_p = 1, .typical_p = 1, .repetition_penalty = 1, .logprobs = -1}},
        {"greedy, 20 logprobs",
         {.top_p = 1, .typical_p = 1, .repetition_penalty = 1, .logprobs = 20}},
        {"temperature 1",
         {.temperature = 1, .top_p = 1, .typical_p = 1, .repetition_penalty = 1, .logprobs = -1}},
        {"top_p 0.9",
         {.temperature = 1,
          .top_p = 0.9f,
          .typical_p = 1,
          .repetition_penalty = 1,
          .logprobs = -1}},
        {"top_k 40, top_p 0.9",
         {.temperature = 1,
          .top_p = 0.9f,
          .top_k = 40,
          .typical_p = 1,
          .repetition_penalty = 1,
          .logprobs = -1}},
        {"typical_p 0.9",
         {.temperature = 1,
          .top_p = 1,
          .typical_p = 0.9f,
          .repetition_penalty = 1,
          .logprobs = -1}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct sample_row row = {.params = &cases[c].p, .forced = -1};
        struct sample_result out;
        double best = 1e9;
        for (int i = 0; i < 20; i++) {
            double t = now();
            sample_logits(logits, vocab, &row, scratch, &out);
            best = fmin(best, now() - t);
        }
        printf("sample,%d,%s: %.0f us\n", vocab, cases[c].name, best * 1e6);
    }
    free(logits);
    free(scratch);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    log_setup(LOG_LEVEL_WARN, false);
    find_blas();
    if (!*what || strcmp(what, "order") == 0) {
        bench_order(320, 1024);
        bench_order(1024, 3072);
        bench_order(4096, 4096);
    }
    if (!*what || strcmp(what, "gemm") == 0) {
        printf("gemm,rows,k,n,threads,who,type,GFLOP/s\n");
        bench_gemm(1, 256, 768);
        bench_gemm(1, 1024, 3072);
        bench_gemm(4, 1024, 3072);
        bench_gemm(16, 1024, 3072);
        bench_gemm(43, 256, 768);
        bench_gemm(512, 1024, 3072);
        bench_gemm(512, 4096, 4096);
    }
    if (!*what || strcmp(what, "model") == 0) {
        bench_model("auto", 2, 43, 100);
        bench_model("auto", 1, 43, 100);
        bench_model("avx2", 2, 43, 100);
    }
    if (!*what || strcmp(what, "sample") == 0)
        bench_sample();
    return 0;
}
