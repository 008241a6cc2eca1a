#include "tests/kernels/kernel_test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kernels/k_selftest.h"

static float *random_floats(size_t n, uint64_t seed)
{
    float *x = malloc((n ? n : 1) * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = kernel_test_uniform(&seed, -1, 1);
    return x;
}

static void test_sum(void **state)
{
    (void)state;
    static const struct {
        int rows, n, threads;
    } cases[] = {{1, 1, 32}, {3, 31, 32}, {2, 1000, 256}, {70, 129, 128}, {1, 5000, 1024}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int rows = cases[c].rows, n = cases[c].n;
        float *x = random_floats((size_t)rows * (size_t)n, c + 1), got[70], want[70];
        for (int r = 0; r < rows; r++) {
            double sum = 0;
            for (int i = 0; i < n; i++)
                sum += (double)x[r * n + i];
            want[r] = (float)sum;
        }
        float *d_x = kernel_test_upload(x, (size_t)rows * (size_t)n * sizeof *x);
        float *d_out = kernel_test_alloc((size_t)rows * sizeof *d_out);
        assert_int_equal(STATUS_OK, cuda_selftest_sum(d_x, d_out, rows, n, cases[c].threads,
                                                      kernel_test_stream()));
        kernel_test_read(got, d_out, (size_t)rows * sizeof *got);
        /* n terms of at most 1, each sum off by half a unit in the last place of at most n */
        kernel_test_close("sum", got, want, (size_t)rows, 6e-8f * (float)n, 0);
        kernel_test_free(d_x);
        kernel_test_free(d_out);
        free(x);
    }
}

static void test_copy(void **state)
{
    (void)state;
    static const struct {
        int n, zeros;
    } cases[] = {{4, 0}, {512, 0}, {516, 4}, {5120, 0}, {5000, 2048}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        size_t n = (size_t)cases[c].n, zeros = (size_t)cases[c].zeros;
        float *x = random_floats(n, c + 1), *got = random_floats(n, 99);
        float *d_x = kernel_test_upload(x, n * sizeof *x);
        float *d_out = kernel_test_alloc(n * sizeof *x);
        assert_int_equal(STATUS_OK, cuda_selftest_copy(d_x, d_out, cases[c].n, cases[c].zeros,
                                                       kernel_test_stream()));
        kernel_test_read(got, d_out, n * sizeof *x);
        memset(x + n - zeros, 0, zeros * sizeof *x);
        kernel_test_equal("copy", got, x, n * sizeof *x);
        free(x);
        free(got);
    }
}

static void test_mma(void **state)
{
    (void)state;
    enum { M = 32, N = 24, K = 48 };
    for (int trans = 0; trans < 2; trans++) {
        uint16_t a[M * K], b[N * K];
        float want[M * N], got[M * N];
        uint64_t seed = 5;
        for (int i = 0; i < M * K; i++)
            a[i] = kernel_test_bf16(kernel_test_uniform(&seed, -1, 1));
        for (int i = 0; i < N * K; i++)
            b[i] = kernel_test_bf16(kernel_test_uniform(&seed, -1, 1));
        for (int r = 0; r < M; r++)
            for (int j = 0; j < N; j++) {
                double sum = 0;
                for (int k = 0; k < K; k++)
                    sum += (double)kernel_test_float(a[r * K + k]) *
                           (double)kernel_test_float(b[trans ? k * N + j : j * K + k]);
                want[r * N + j] = (float)sum;
            }
        uint16_t *d_a = kernel_test_upload(a, sizeof a), *d_b = kernel_test_upload(b, sizeof b);
        float *d_c = kernel_test_alloc(sizeof got);
        assert_int_equal(STATUS_OK,
                         cuda_selftest_mma(d_a, d_b, d_c, M, N, K, trans, kernel_test_stream()));
        kernel_test_read(got, d_c, sizeof got);
        /* the card's adder cuts each of K products of at most 1 to 24 bits of the largest */
        kernel_test_close("mma", got, want, M * N, 2.4e-7f * K, 0);
    }
}

static void test_chain(void **state)
{
    (void)state;
    enum { BLOCKS = 24 };
    uint32_t flags[BLOCKS + 1] = {1}, sum = 0;
    uint32_t *d_flags = kernel_test_upload(flags, sizeof flags);
    uint32_t *d_sum = kernel_test_upload(&sum, sizeof sum);
    assert_int_equal(STATUS_OK, cuda_selftest_chain(d_flags, d_sum, BLOCKS, kernel_test_stream()));
    kernel_test_read(&sum, d_sum, sizeof sum);
    assert_int_equal(BLOCKS * (BLOCKS - 1) / 2, sum);
}

static void test_votes(void **state)
{
    (void)state;
    uint32_t got[32][8];
    uint32_t *d_out = kernel_test_alloc(sizeof got);
    assert_int_equal(STATUS_OK, cuda_selftest_votes(d_out, kernel_test_stream()));
    kernel_test_read(got, d_out, sizeof got);
    for (uint32_t i = 0; i < 32; i++) {
        uint32_t match = 0;
        for (uint32_t j = 0; j < 32; j++)
            match |= (uint32_t)(i / 5 == j / 5) << j;
        uint32_t want[8] = {
            0x49249249, i % 8 < 2 ? i : i - 2, i % 16 > 12 ? i : i + 3, i / 8 * 8 + 5, match, 31,
            1,          i < 16 ? 120 : i ^ 1};
        for (int k = 0; k < 8; k++)
            if (got[i][k] != want[k])
                fail_msg("lane %u, value %d: got %08x, want %08x", i, k, got[i][k], want[k]);
    }
}

/* Copies, launches and memsets keep their order in a stream, captured or not. */
static void test_graph(void **state)
{
    (void)state;
    enum { N = 1000 };
    float got[N];
    cudaStream_t s = kernel_test_stream();
    for (int dependent = 0; dependent < 2; dependent++) {
        float *d_x = kernel_test_alloc(sizeof got);
        kernel_test_sync();
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        assert_int_equal(cudaSuccess, cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
        assert_int_equal(cudaSuccess, cudaMemsetAsync(d_x, 0, sizeof got, s));
        for (int i = 1; i <= 3; i++)
            assert_int_equal(STATUS_OK, cuda_selftest_add(d_x, N, (float)i, dependent, s));
        assert_int_equal(cudaSuccess, cudaStreamEndCapture(s, &graph));
        assert_int_equal(cudaSuccess, cudaGraphInstantiate(&exec, graph, 0));
        assert_int_equal(cudaSuccess, cudaGraphDestroy(graph));
        kernel_test_read(got, d_x, sizeof got);
        assert_true(isnan(got[0]));
        for (int run = 0; run < 2; run++) {
            assert_int_equal(cudaSuccess, cudaGraphLaunch(exec, s));
            assert_int_equal(STATUS_OK, cuda_selftest_add(d_x, N, (float)run, dependent, s));
            kernel_test_read(got, d_x, sizeof got);
            for (int i = 0; i < N; i++)
                if (got[i] != 6.0f + (float)run)
                    fail_msg("run %d, [%d]: got %g, want %g", run, i, (double)got[i], 6.0 + run);
        }
        assert_int_equal(cudaSuccess, cudaGraphExecDestroy(exec));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum),   cmocka_unit_test(test_copy),  cmocka_unit_test(test_mma),
        cmocka_unit_test(test_chain), cmocka_unit_test(test_votes), cmocka_unit_test(test_graph),
    };
    return kernel_test_run("selftest", tests, sizeof tests / sizeof *tests);
}
