/* Packed tiles back to rows, element by element against tile_ref. */
#include "tests/kernels/kernel_test.h"

#include <math.h>

#include "cuda/k_dequant.h"
#include "cuda/k_quantise.h"
#include "engine/base/mem.h"
#include "tests/kernels/tile_ref.h"

static struct dev_matrix random_matrix(uint64_t *seed, enum weight_format f, int n, int k)
{
    size_t count = (size_t)n * (size_t)k;
    float *rows = mem_alloc(count, sizeof *rows);
    assert_non_null(rows);
    for (size_t i = 0; i < count; i++)
        rows[i] = kernel_test_uniform(seed, -2.0f, 2.0f);
    struct dev_matrix w = tile_ref_alloc(f, n, k);
    struct quantise_args a = {.rows = kernel_test_upload(rows, count * sizeof *rows),
                              .type = SOURCE_F32,
                              .row_count = n,
                              .k = k,
                              .w = w};
    assert_int_equal(cuda_quantise(&a, kernel_test_stream()), STATUS_OK);
    mem_free(rows);
    return w;
}

static void check(struct dev_matrix w, int tile_first, int tile_count, int gap)
{
    int wide = w.groups * TILE_K, stride = wide + gap;
    size_t count = (size_t)tile_count * TILE_N * (size_t)stride;
    struct dequant_args a = {.w = w,
                             .tile_first = tile_first,
                             .tile_count = tile_count,
                             .out = kernel_test_alloc(count * 2),
                             .out_stride = stride};
    uint16_t *got = mem_alloc(count + 1, sizeof *got);
    assert_int_equal(cuda_dequant(&a, kernel_test_stream()), STATUS_OK);
    kernel_test_read(got, a.out, count * 2);
    struct dev_matrix host = tile_ref_read(&w);
    for (int r = 0; r < tile_count * TILE_N; r++)
        for (int c = 0; c < stride; c++) {
            uint16_t g = got[(size_t)r * (size_t)stride + (size_t)c], want = 0xFFFF;
            if (c < wide) {
                float v = tile_ref_at(&host, tile_first * TILE_N + r, c);
                float scale = w.format == WEIGHT_INT8 ? host.row_scale[tile_first * TILE_N + r] : 1;
                if (scale == 0) /* a row of padding: any integer, its scale makes it nothing */
                    want = isfinite(kernel_test_float(g)) ? g : 0;
                else
                    want = kernel_test_bf16(w.format == WEIGHT_INT8 ? rintf(v / scale) : v);
            }
            if (g != want && kernel_test_float(g) != kernel_test_float(want))
                fail_msg("format %d, row %d, column %d: %04x for %04x", w.format, r, c, g, want);
        }
    kernel_test_free(a.out);
    mem_free((void *)(uintptr_t)host.data);
    mem_free((void *)(uintptr_t)host.row_scale);
    mem_free(got);
}

static void test_dequant_every_format(void **state)
{
    (void)state;
    static const int shapes[][2] = {{1, 1}, {15, 127}, {16, 128}, {17, 129}, {40, 384}};
    uint64_t seed = 7;
    for (int f = 0; f < WEIGHT_FORMAT_COUNT; f++)
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            struct dev_matrix w =
                random_matrix(&seed, (enum weight_format)f, shapes[i][0], shapes[i][1]);
            check(w, 0, w.tiles, 0);
            check(w, w.tiles - 1, 1, 24);
            check(w, 0, 0, 8);
        }
}

static void test_dequant_refuses_other_tiles(void **state)
{
    (void)state;
    uint64_t seed = 8;
    struct dequant_args a = {.w = random_matrix(&seed, WEIGHT_INT4, 32, 128),
                             .out = kernel_test_alloc(8192)};
    static const int bad[][3] = {{-1, 1, 128}, {0, 3, 128}, {2, 1, 128},
                                 {0, -1, 128}, {0, 1, 120}, {0, 1, 132}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        a.tile_first = bad[i][0];
        a.tile_count = bad[i][1];
        a.out_stride = bad[i][2];
        assert_int_equal(cuda_dequant(&a, kernel_test_stream()), STATUS_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dequant_every_format),
        cmocka_unit_test(test_dequant_refuses_other_tiles),
    };
    return kernel_test_run("dequant", tests, sizeof tests / sizeof *tests);
}
