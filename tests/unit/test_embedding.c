/* What becomes of a pooled vector on its way out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "server/embedding.h"

static void test_embedding_is_cut_before_it_is_normalised(void **state)
{
    (void)state;
    float v[4] = {3, 4, 100, -7};
    struct api_embedding form = {.dimensions = 2, .normalize = true};
    assert_true(embedding_finish(&form, v));
    assert_true(v[0] == 0.6f && v[1] == 0.8f && v[2] == 100 && v[3] == -7);
    form = (struct api_embedding){.dimensions = 4};
    assert_true(embedding_finish(&form, v));
    assert_true(v[0] == 0.6f && v[3] == -7);
}

static void test_embedding_that_has_no_direction(void **state)
{
    (void)state;
    struct api_embedding form = {.dimensions = 3, .normalize = true};
    float zeros[3] = {0, -0.0f, 0}, tiny[3] = {1e-40f, 0, 0}, huge[3] = {3e38f, 3e38f, 3e38f};
    assert_true(embedding_finish(&form, zeros));
    assert_true(zeros[0] == 0 && zeros[1] == 0);
    assert_true(embedding_finish(&form, tiny));
    assert_true(tiny[0] == 1);
    assert_true(embedding_finish(&form, huge));
    assert_true(fabsf(huge[0] - 0.57735f) < 1e-5f);
    float bad[3] = {0, 0, NAN};
    assert_false(embedding_finish(&form, bad));
    bad[2] = -INFINITY;
    assert_false(embedding_finish(&form, bad));
    form.dimensions = 2; /* what is cut off does not count */
    assert_true(embedding_finish(&form, bad));
}

/* Every float32 reads back as itself. */
static void test_embedding_numbers_lose_nothing(void **state)
{
    (void)state;
    uint32_t bits = 1;
    for (int i = 0; i < 20000; i++) {
        bits = bits * 1664525u + 1013904223u;
        float v, back;
        memcpy(&v, &bits, sizeof v);
        if (!isfinite(v))
            continue;
        struct strbuf b;
        strbuf_init(&b, 1 << 10);
        embedding_put(&b, (float[]){v, 1, v}, 3, false);
        back = strtof(strbuf_str(&b) + 1, NULL);
        if (memcmp(&back, &v, sizeof v) != 0)
            fail_msg("%.9g became %s", (double)v, strbuf_str(&b));
        assert_int_equal(b.data[b.len - 1], ']');
        strbuf_deinit(&b);
    }
}

/* Values by Python: base64.b64encode(struct.pack("<f", ...)). */
static void test_embedding_base64(void **state)
{
    (void)state;
    static const float v[4] = {1, -2.5f, 3e-5f, 65504};
    static const char *const want[] = {"\"\"", "\"AACAPw==\"", "\"AACAPwAAIMA=\"",
                                       "\"AACAPwAAIMCCqPs3\"", "\"AACAPwAAIMCCqPs3AOB/Rw==\""};
    for (int n = 0; n <= 4; n++) {
        struct strbuf b;
        strbuf_init(&b, 1 << 10);
        embedding_put(&b, v, n, true);
        assert_string_equal(strbuf_str(&b), want[n]);
        strbuf_deinit(&b);
        strbuf_init(&b, 8); /* no room */
        embedding_put(&b, v, n, true);
        assert_true(b.failed == (n > 0));
        strbuf_deinit(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embedding_is_cut_before_it_is_normalised),
        cmocka_unit_test(test_embedding_that_has_no_direction),
        cmocka_unit_test(test_embedding_numbers_lose_nothing),
        cmocka_unit_test(test_embedding_base64),
    };
    return cmocka_run_group_tests_name("embedding", tests, NULL, NULL);
}
