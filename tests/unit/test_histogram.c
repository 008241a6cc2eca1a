/* Histograms: where values fall, and that the tables are what histogram_add relies on. */
#include "engine/base/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct histogram_bounds *const tables[] = {&histogram_step_s, &histogram_request_s,
                                                        &histogram_rows, &histogram_adapters};

static void test_histogram_tables_ascend(void **state)
{
    (void)state;
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
        assert_in_range(tables[t]->count, 1, HISTOGRAM_BOUNDS_MAX);
        for (int i = 1; i < tables[t]->count; i++)
            assert_true(tables[t]->le[i] > tables[t]->le[i - 1]);
    }
}

/* At a bound, below and above it, for every bound. */
static void test_histogram_places(void **state)
{
    (void)state;
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
        const struct histogram_bounds *b = tables[t];
        struct histogram h = {0};
        double sum = 0;
        for (int i = 0; i < b->count; i++) {
            const double values[] = {b->le[i], b->le[i] + 1e-7, b->le[i] - 1e-7};
            for (size_t v = 0; v < 3; v++) {
                histogram_add(&h, b, values[v]);
                sum += values[v];
            }
        }
        assert_int_equal(h.counts[0], 2);
        for (int i = 1; i < b->count; i++)
            assert_int_equal(h.counts[i], 3);
        assert_int_equal(h.counts[b->count], 1);
        assert_true(h.sum == sum);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_histogram_tables_ascend),
        cmocka_unit_test(test_histogram_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
