/* Packed weights against quantise_ref, bit by bit; and the rule against plain rounding. */
#include "tests/kernels/kernel_test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/k_quantise.h"
#include "cuda/quantise_ref.h"
#include "engine/base/mem.h"
#include "engine/model/tensor.h"
#include "tests/kernels/tile_ref.h"

static const struct {
    enum dtype dtype;
    enum source_type type;
} sources[] = {{DTYPE_F32, SOURCE_F32}, {DTYPE_F16, SOURCE_F16}, {DTYPE_BF16, SOURCE_BF16}};

/* Normal numbers, some groups of which are all zero, tiny, huge or not finite. */
static uint32_t random_bits(uint64_t *seed, enum dtype d, uint32_t kind)
{
    uint32_t sign = kernel_test_u32(seed) & 1, mantissa = kernel_test_u32(seed);
    uint32_t low = 0;
    while (low < 6 && kernel_test_below(seed, 2))
        low++;
    bool zero = kind == 0, special = kind == 1 && kernel_test_below(seed, 64) == 0;
    if (d == DTYPE_F16) {
        uint32_t exponent = kind == 2 ? kernel_test_below(seed, 2) : kind == 3 ? 30 : 14 - low;
        uint32_t v = special ? 0x7c00u | (mantissa & 1) : exponent << 10 | (mantissa & 0x3ffu);
        return zero ? sign << 15 : sign << 15 | v;
    }
    uint32_t exponent = kind == 2 ? kernel_test_below(seed, 3) : kind == 3 ? 254 : 120 - low;
    uint32_t v =
        special ? 0x7f800000u | (mantissa & 0x10000u) : exponent << 23 | (mantissa & 0x7fffffu);
    v = zero ? sign << 31 : sign << 31 | v;
    return d == DTYPE_F32 ? v : v >> 16;
}

static void *random_rows(uint64_t *seed, enum dtype d, int rows, int k)
{
    uint8_t *out = mem_alloc((size_t)rows * (size_t)k, dtype_bytes(d));
    assert_non_null(out);
    uint8_t *at = out;
    for (int r = 0; r < rows; r++) {
        uint32_t kind = 4;
        for (int c = 0; c < k; c++, at += dtype_bytes(d)) {
            if (c % TILE_K == 0)
                kind = kernel_test_below(seed, 12);
            uint32_t v = random_bits(seed, d, kind);
            memcpy(at, &v, dtype_bytes(d));
        }
    }
    return out;
}

static bool same(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0 || (a != a && b != b);
}

/* Rows of `from` must stand in `w` at row_of(r); marks them as seen. */
static void check_rows(const struct dev_matrix *w, const struct tensor *from, int first,
                       int interleave, bool *seen)
{
    int k = w->k;
    float *row = mem_alloc((size_t)k, sizeof *row);
    for (int r = 0; r < (int)from->rows; r++) {
        int at = first + (interleave ? 16 * (r / 8) + r % 8 : r);
        tensor_read_f32(from, (size_t)r * (size_t)k, (size_t)k, row);
        assert_int_equal(quantise_ref_row(w->format, row, k, row), STATUS_OK);
        for (int c = 0; c < w->groups * TILE_K; c++) {
            float got = tile_ref_at(w, at, c), wanted = c < k ? row[c] : 0.0f;
            bool nan_group =
                c >= k && got != got; /* 0 times the scale of a row that is not finite */
            if (!same(got, wanted) && !(c >= k && got == 0.0f) && !nan_group)
                fail_msg("format %d, row %d, column %d of %d: %.9g, reference %.9g", w->format, r,
                         c, k, (double)got, (double)wanted);
        }
        seen[at] = true;
    }
    mem_free(row);
}

static void check_rest(const struct dev_matrix *w, const bool *seen)
{
    for (int r = 0; r < w->tiles * TILE_N; r++) {
        for (int c = 0; c < w->groups * TILE_K && !seen[r]; c++) {
            if (tile_ref_at(w, r, c) != 0.0f)
                fail_msg("row %d of padding is %g at %d", r, (double)tile_ref_at(w, r, c), c);
        }
    }
}

static void upload_rows(const struct tensor *t, enum source_type type, int begin, int count,
                        const struct dev_matrix *w, int first, int interleave)
{
    size_t row_bytes = (size_t)t->cols * dtype_bytes(t->dtype);
    void *d = kernel_test_upload((const uint8_t *)t->data + (size_t)begin * row_bytes,
                                 (size_t)count * row_bytes);
    struct quantise_args a = {.rows = d,
                              .type = type,
                              .row_count = count,
                              .k = (int)t->cols,
                              .w = *w,
                              .row_first = first,
                              .interleave = interleave};
    assert_int_equal(cuda_quantise(&a, kernel_test_stream()), STATUS_OK);
    kernel_test_sync();
    kernel_test_free(d);
}

/* Parts one below the other, each padded to a tile, or two interleaved; in chunks of `chunk` rows.
 */
static void check_matrix(enum weight_format f, size_t source, const int *parts, int count, int k,
                         int interleave, int chunk, uint64_t seed)
{
    int n = 0;
    struct tensor t[3];
    for (int p = 0; p < count; p++) {
        t[p] = (struct tensor){.data = random_rows(&seed, sources[source].dtype, parts[p], k),
                               .dtype = sources[source].dtype,
                               .rows = parts[p],
                               .cols = k};
        n = interleave ? (parts[p] + 7) / 8 * 16 : n + PAD_N(parts[p]);
    }
    struct dev_matrix w = tile_ref_alloc(f, n, k);
    for (int p = 0, first = 0; p < count; p++) {
        for (int r = 0; r < parts[p]; r += chunk) {
            int rows = parts[p] - r < chunk ? parts[p] - r : chunk;
            upload_rows(&t[p], sources[source].type, r, rows, &w,
                        interleave ? 8 * p + 2 * r : first + r, interleave);
        }
        first += PAD_N(parts[p]);
    }
    struct dev_matrix h = tile_ref_read(&w);
    bool *seen = mem_calloc((size_t)w.tiles * TILE_N, sizeof *seen);
    for (int p = 0, first = 0; p < count; p++) {
        check_rows(&h, &t[p], interleave ? 8 * p : first, interleave, seen);
        first += PAD_N(parts[p]);
        mem_free((void *)(uintptr_t)t[p].data);
    }
    check_rest(&h, seen);
    mem_free(seen);
    mem_free((void *)(uintptr_t)h.data);
    mem_free((void *)(uintptr_t)h.row_scale);
    kernel_test_free((void *)(uintptr_t)w.data);
    kernel_test_free((void *)(uintptr_t)w.row_scale);
}

static void test_quantise_equals_reference(void **state)
{
    (void)state;
    static const int shapes[][2] = {{1, 1},    {1, 128},  {15, 127}, {16, 128},
                                    {17, 129}, {33, 300}, {5, 1100}};
    uint64_t seed = 1;
    for (int f = 0; f < WEIGHT_FORMAT_COUNT; f++) {
        for (size_t s = 0; s < 3; s++) {
            for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
                check_matrix((enum weight_format)f, s, &shapes[i][0], 1, shapes[i][1], 0, 1 << 20,
                             seed++);
        }
    }
}

static void test_quantise_places_rows(void **state)
{
    (void)state;
    static const int qkv[] = {24, 8, 9}, gate_up[] = {20, 20};
    for (int f = 0; f < WEIGHT_FORMAT_COUNT; f++) {
        check_matrix((enum weight_format)f, 2, qkv, 3, 130, 0, 1 << 20, 7);
        check_matrix((enum weight_format)f, 2, qkv, 3, 130, 0, 5, 7);
        check_matrix((enum weight_format)f, 0, gate_up, 2, 130, 1, 1 << 20, 9);
        check_matrix((enum weight_format)f, 0, gate_up, 2, 130, 1, 8, 9);
    }
}

static double error_of(const float *w, const float *q, int n)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++)
        sum += ((double)w[i] - (double)q[i]) * ((double)w[i] - (double)q[i]);
    return sum;
}

static void plain_int4(const float *w, float *out)
{
    float most = 0.0f;
    for (int i = 0; i < TILE_K; i++)
        most = fmaxf(most, fabsf(w[i]));
    float scale = kernel_test_float(kernel_test_bf16(most / 7.0f));
    for (int i = 0; i < TILE_K; i++)
        out[i] = scale == 0.0f ? 0.0f : fminf(fmaxf(rintf(w[i] / scale), -7.0f), 7.0f) * scale;
}

/* Never worse than rounding by the largest magnitude, and by a third better on normal values. */
static void test_quantise_int4_beats_plain_rounding(void **state)
{
    (void)state;
    uint64_t seed = 3;
    double sum = 0.0, plain_sum = 0.0;
    for (int g = 0; g < 2000; g++) {
        float w[TILE_K], plain[TILE_K], got[TILE_K];
        for (int i = 0; i < TILE_K; i++) {
            double x = 0.0;
            for (int j = 0; j < 12; j++)
                x += (double)kernel_test_uniform(&seed, -0.5f, 0.5f);
            w[i] = (float)(x * (g % 7 == 0 && i == g % TILE_K ? 8.0 : 0.02));
        }
        plain_int4(w, plain);
        assert_int_equal(quantise_ref_row(WEIGHT_INT4, w, TILE_K, got), STATUS_OK);
        double e = error_of(w, got, TILE_K), p = error_of(w, plain, TILE_K);
        if (e > p * (1.0 + 1e-5))
            fail_msg("group %d: error %g, plain rounding %g", g, e, p);
        sum += g % 7 ? e : 0.0;
        plain_sum += g % 7 ? p : 0.0;
    }
    printf("figure: squared error of int4 against plain rounding %.3f\n", sum / plain_sum);
    assert_true(sum < 0.70 * plain_sum);
}

static void test_quantise_int8_is_within_half_a_step(void **state)
{
    (void)state;
    uint64_t seed = 4;
    float w[500], got[500], most = 0.0f;
    for (int i = 0; i < 500; i++)
        most = fmaxf(most, fabsf(w[i] = kernel_test_uniform(&seed, -3.0f, 3.0f)));
    assert_int_equal(quantise_ref_row(WEIGHT_INT8, w, 500, got), STATUS_OK);
    for (int i = 0; i < 500; i++)
        assert_true(fabsf(w[i] - got[i]) <= most / 127.0f * 0.50001f);
    assert_int_equal(quantise_ref_row(WEIGHT_INT8, w, 0, got), STATUS_INVALID);
    assert_int_equal(quantise_ref_row(WEIGHT_FORMAT_COUNT, w, 1, got), STATUS_INVALID);
}

static void test_quantise_refuses_what_does_not_fit(void **state)
{
    (void)state;
    struct dev_matrix w = tile_ref_alloc(WEIGHT_INT4, 32, 128);
    struct quantise_args a = {.rows = w.data, .type = SOURCE_F32, .k = 128, .w = w};
    assert_int_equal(cuda_quantise(&a, kernel_test_stream()), STATUS_OK); /* no rows */
    a.row_count = 33;
    assert_int_equal(cuda_quantise(&a, kernel_test_stream()), STATUS_INVALID);
    a.row_count = 17;
    a.interleave = 1;
    assert_int_equal(cuda_quantise(&a, kernel_test_stream()), STATUS_INVALID);
    a.row_count = 1;
    a.row_first = 4;
    assert_int_equal(cuda_quantise(&a, kernel_test_stream()), STATUS_INVALID);
    a.row_first = 0;
    a.k = 127;
    assert_int_equal(cuda_quantise(&a, kernel_test_stream()), STATUS_INVALID);
    kernel_test_sync();
}

static void test_quantise_plain_rounds_each_value(void **state)
{
    (void)state;
    uint64_t seed = 8;
    for (size_t s = 0; s < 3; s++) {
        enum { N = 3000 };
        void *rows = random_rows(&seed, sources[s].dtype, 1, N);
        struct tensor t = {.data = rows, .dtype = sources[s].dtype, .rows = 1, .cols = N};
        float wide[N];
        uint16_t got[N];
        tensor_read_f32(&t, 0, N, wide);
        void *d_in = kernel_test_upload(rows, tensor_bytes(&t)), *d_out = kernel_test_alloc(N * 2);
        assert_int_equal(cuda_quantise_plain(d_in, sources[s].type, N, d_out, kernel_test_stream()),
                         STATUS_OK);
        kernel_test_read(got, d_out, sizeof got);
        for (int i = 0; i < N; i++) {
            if (!same(kernel_test_float(got[i]), kernel_test_float(kernel_test_bf16(wide[i]))))
                fail_msg("%.9g became %.9g", (double)wide[i], (double)kernel_test_float(got[i]));
        }
        mem_free(rows);
        kernel_test_free(d_in);
        kernel_test_free(d_out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantise_equals_reference),
        cmocka_unit_test(test_quantise_places_rows),
        cmocka_unit_test(test_quantise_int4_beats_plain_rounding),
        cmocka_unit_test(test_quantise_int8_is_within_half_a_step),
        cmocka_unit_test(test_quantise_refuses_what_does_not_fit),
        cmocka_unit_test(test_quantise_plain_rounds_each_value),
    };
    return kernel_test_run("quantise", tests, sizeof tests / sizeof tests[0]);
}
