#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "engine/model/tensor.h"

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* The definition of IEEE 754 binary16, in double arithmetic. */
static double half_value(uint16_t h)
{
    int exponent = h >> 10 & 31;
    int mantissa = h & 1023;
    double v = exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, exponent - 25);
    return h & 0x8000 ? -v : v;
}

static void test_tensor_every_half(void **state)
{
    (void)state;
    static uint16_t h[65536];
    static float out[65536];
    for (int i = 0; i < 65536; i++)
        h[i] = (uint16_t)i;
    struct tensor t = {h, DTYPE_F16, 256, 256};
    tensor_read_f32(&t, 0, 65536, out);
    for (int i = 0; i < 65536; i++) {
        if ((i >> 10 & 31) == 31) {
            uint32_t want = (uint32_t)(i & 0x8000) << 16 | 0x7f800000u | (uint32_t)(i & 1023) << 13;
            if (bits_of(out[i]) != want)
                fail_msg("half %04x: %08x, expected %08x", (unsigned)i, bits_of(out[i]), want);
        } else if (bits_of(out[i]) != bits_of((float)half_value((uint16_t)i))) {
            fail_msg("half %04x: %a, expected %a", (unsigned)i, (double)out[i],
                     half_value((uint16_t)i));
        }
    }
}

static void test_tensor_bf16_and_offsets(void **state)
{
    (void)state;
    unsigned char raw[1 + 2 * 65536];
    for (int i = 0; i < 65536; i++) {
        raw[1 + 2 * i] = (unsigned char)(i & 255);
        raw[2 + 2 * i] = (unsigned char)(i >> 8);
    }
    struct tensor t = {raw + 1, DTYPE_BF16, 1, 65536}; /* unaligned on purpose */
    float out[3];
    for (size_t i = 0; i + 3 <= 65536; i += 3) {
        tensor_read_f32(&t, i, 3, out);
        for (size_t k = 0; k < 3; k++) {
            if (bits_of(out[k]) != (uint32_t)(i + k) << 16)
                fail_msg("bf16 %04zx: %08x", i + k, bits_of(out[k]));
        }
    }
}

static void test_tensor_finite_and_zero(void **state)
{
    (void)state;
    static float v[5000];
    struct tensor t = {v, DTYPE_F32, 50, 100};
    size_t at = 0;
    assert_true(tensor_is_finite(&t, &at));
    assert_true(tensor_is_zero(&t));
    v[17] = -0.0f;
    assert_true(tensor_is_zero(&t));
    const float bad[] = {NAN, INFINITY, -INFINITY};
    const size_t places[] = {0, 1023, 1024, 4999};
    for (size_t i = 0; i < 3; i++) {
        for (size_t k = 0; k < 4; k++) {
            float old = v[places[k]];
            v[places[k]] = bad[i];
            assert_false(tensor_is_finite(&t, &at));
            assert_int_equal(at, places[k]);
            assert_false(tensor_is_zero(&t));
            v[places[k]] = old;
        }
    }
    v[4999] = 1e-45f;
    assert_false(tensor_is_zero(&t));
}

static void test_tensor_equal_over_dtypes(void **state)
{
    (void)state;
    /* 1 + 2^-9 is exact in f16 and rounds to 1 in bf16. */
    const float f32[] = {1.001953125f, -0.0f, 65504.0f, 0x1p-24f, 3.0f};
    const uint16_t f16[] = {0x3c02, 0x0000, 0x7bff, 0x0001, 0x4200};
    const uint16_t bf16[] = {0x3f80, 0x8000, 0x4780, 0x3380, 0x4040};
    struct tensor a = {f32, DTYPE_F32, 1, 5};
    struct tensor b = {f16, DTYPE_F16, 1, 5};
    struct tensor c = {bf16, DTYPE_BF16, 1, 5};
    assert_true(tensor_equal(&a, &a));
    assert_true(tensor_equal(&a, &b));
    assert_true(tensor_equal(&b, &a));
    assert_true(tensor_equal(&a, &c));
    assert_true(tensor_equal(&c, &b));
    const uint16_t off[] = {0x3f81, 0x8000, 0x4780, 0x3380, 0x4040};
    struct tensor d = {off, DTYPE_BF16, 1, 5};
    assert_false(tensor_equal(&a, &d));
    assert_false(tensor_equal(&d, &b));
    struct tensor e = {f32, DTYPE_F32, 5, 1};
    assert_false(tensor_equal(&a, &e));
}

/* Ties in bf16 go to the even neighbour, on both sides, and up into the next power of two. */
static void test_tensor_rounding_to_bf16(void **state)
{
    (void)state;
    static const struct {
        float f;
        uint16_t bf16;
    } cases[] = {
        {1.0f + 0x1p-8f, 0x3f80},
        {1.0f + 0x1.8p-8f, 0x3f81},
        {1.0f + 0x1p-7f, 0x3f81},
        {1.0f + 0x1.8p-7f, 0x3f82},
        {-(1.0f + 0x1.8p-7f), 0xbf82},
        {2.0f - 0x1p-8f, 0x4000},
        {2.0f - 0x1.8p-8f, 0x3fff},
        {1.0f + 0x1p-8f + 0x1p-23f, 0x3f81},
        {1.0f + 0x1.8p-7f - 0x1p-23f, 0x3f81},
        {0x1p-133f, 0x0001},
        {0x1p-134f, 0x0000},
        {0x1.fffffep127f, 0x7f80},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint16_t other = (uint16_t)(cases[i].bf16 ^ 1);
        struct tensor a = {&cases[i].f, DTYPE_F32, 1, 1};
        struct tensor b = {&cases[i].bf16, DTYPE_BF16, 1, 1};
        struct tensor c = {&other, DTYPE_BF16, 1, 1};
        if (!tensor_equal(&a, &b) || tensor_equal(&a, &c))
            fail_msg("%a does not round to %04x alone", (double)cases[i].f, cases[i].bf16);
    }
}

/* Rounding is checked against the definition: nearest half by search. */
static void test_tensor_rounding_to_f16(void **state)
{
    (void)state;
    uint64_t seed = 20240607;
    for (int i = 0; i < 200000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint32_t u = (uint32_t)(seed >> 32);
        u = (u & 0x807fffffu) | ((u >> 23) % 44 + 100) << 23; /* 2^-27 .. 2^16 */
        float f;
        memcpy(&f, &u, sizeof f);
        int low = 0;
        int high = 0x7c00; /* half_value(0x7c00) is 65536, the value that would follow */
        while (high - low > 1) {
            int mid = (low + high) / 2;
            if (half_value((uint16_t)mid) <= fabs((double)f))
                low = mid;
            else
                high = mid;
        }
        double below = fabs((double)f) - half_value((uint16_t)low);
        double above = half_value((uint16_t)high) - fabs((double)f);
        int nearest = below < above || (below == above && low % 2 == 0) ? low : high;
        uint16_t want = (uint16_t)(nearest | (f < 0 ? 0x8000 : 0));
        uint16_t other = (uint16_t)(want ^ 1);
        struct tensor a = {&f, DTYPE_F32, 1, 1};
        struct tensor b = {&want, DTYPE_F16, 1, 1};
        struct tensor c = {&other, DTYPE_F16, 1, 1};
        if (!tensor_equal(&a, &b))
            fail_msg("%a does not round to %04x", (double)f, want);
        if (tensor_equal(&a, &c) && half_value(other) != (double)f)
            fail_msg("%a rounds to %04x, not to %04x", (double)f, other, want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensor_every_half),
        cmocka_unit_test(test_tensor_bf16_and_offsets),
        cmocka_unit_test(test_tensor_finite_and_zero),
        cmocka_unit_test(test_tensor_equal_over_dtypes),
        cmocka_unit_test(test_tensor_rounding_to_bf16),
        cmocka_unit_test(test_tensor_rounding_to_f16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
