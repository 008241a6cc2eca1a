/* A head of keys or values as bytes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/model/kv_type.h"
#include "tests/unit/cpu_fixture.h"

#define WIDTH_MAX 256

static void check_head(const float *x, size_t d, const char *what)
{
    float most = 0, got[WIDTH_MAX], again[WIDTH_MAX];
    for (size_t i = 0; i < d; i++)
        most = fmaxf(most, fabsf(x[i]));
    float scale = kv_int8_scale(most);
    uint32_t bits;
    memcpy(&bits, &scale, sizeof bits);
    if (bits & 0xffff)
        fail_msg("%s: the scale %a is no bf16", what, (double)scale);
    /* At least so much that 127 reach the largest, at most one bf16 more. */
    double least = fmax((double)most / 127, 0x1p-100);
    if (!((double)scale >= least * (1 - 0x1p-23) && (double)scale <= least * (1 + 0x1p-7)))
        fail_msg("%s: scale %a of %a", what, (double)scale, (double)most);
    memcpy(got, x, d * sizeof *x);
    kv_int8_round(got, d);
    for (size_t i = 0; i < d; i++) {
        double byte = (double)got[i] / (double)scale;
        if (byte != rint(byte) || fabs(byte) > KV_INT8_MOST)
            fail_msg("%s: [%zu] is %g steps", what, i, byte);
        if (fabs((double)got[i] - (double)x[i]) > (double)scale * (0.5 + 127 * 0x1p-22))
            fail_msg("%s: [%zu] %a became %a, a step is %a", what, i, (double)x[i], (double)got[i],
                     (double)scale);
    }
    memcpy(again, got, d * sizeof *got);
    kv_int8_round(again, d);
    for (size_t i = 0; i < d; i++)
        if (fabs((double)again[i] - (double)got[i]) > (double)scale * 0.51)
            fail_msg("%s: [%zu] moves on from %a to %a", what, i, (double)got[i], (double)again[i]);
}

static void test_kv_type_round(void **state)
{
    (void)state;
    static const size_t widths[] = {2, 34, 64, 128, 256};
    static const float sizes[] = {0, 0x1p-140f, 0x1p-101f, 0x1p-20f, 1, 127, 300, 0x1p100f};
    struct fixture_rng r = {4};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
            for (int n = 0; n < 40; n++) {
                char what[64];
                float x[WIDTH_MAX];
                for (size_t i = 0; i < widths[w]; i++)
                    x[i] = sizes[k] * (float)(fixture_below(&r, 2001) - 1000) * 1e-3f;
                if (n % 2) /* one value far from the others */
                    x[fixture_below(&r, (int)widths[w])] = -sizes[k];
                snprintf(what, sizeof what, "%zu values up to %g", widths[w], (double)sizes[k]);
                check_head(x, widths[w], what);
            }
}

/* Neither sign is favoured, the largest keeps its place, ties go to even. */
static void test_kv_type_values(void **state)
{
    (void)state;
    float x[6] = {127, -127, 0.5f, -0.5f, 1.5f, 62.499f};
    static const float want[6] = {127, -127, 0, 0, 2, 62};
    kv_int8_round(x, 6);
    for (int i = 0; i < 6; i++)
        if (x[i] != want[i])
            fail_msg("[%d] %g, want %g", i, (double)x[i], (double)want[i]);
}

static void test_kv_type_names(void **state)
{
    (void)state;
    enum kv_type t = KV_INT8;
    assert_true(kv_type_find(NULL, &t) && t == KV_BF16);
    assert_true(kv_type_find("int8", &t) && t == KV_INT8);
    assert_true(kv_type_find("bf16", &t) && t == KV_BF16);
    assert_false(kv_type_find("fp8", &t));
    assert_string_equal(kv_type_name(KV_INT8), "int8");
    assert_string_equal(kv_type_name(KV_BF16), "bf16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_type_round),
        cmocka_unit_test(test_kv_type_values),
        cmocka_unit_test(test_kv_type_names),
    };
    return cmocka_run_group_tests_name("kv_type", tests, NULL, NULL);
}
