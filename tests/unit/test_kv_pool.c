#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/sched/kv_pool.h"

static void test_kv_pool_gives_each_page_once(void **state)
{
    (void)state;
    struct kv_pool p;
    bool given[5] = {false};
    assert_int_equal(kv_pool_init(&p, 5), STATUS_OK);
    for (int i = 0; i < 5; i++) {
        int page = kv_pool_take(&p);
        assert_in_range(page, 0, 4);
        assert_false(given[page]);
        given[page] = true;
        kv_pool_check(&p);
        assert_int_equal(kv_pool_held(&p), i + 1);
    }
    assert_int_equal(kv_pool_take(&p), -1);
    kv_pool_unref(&p, 3);
    assert_int_equal(kv_pool_take(&p), 3);
    kv_pool_deinit(&p);
}

static void test_kv_pool_holds_a_page_until_its_last_holder_leaves(void **state)
{
    (void)state;
    struct kv_pool p;
    assert_int_equal(kv_pool_init(&p, 2), STATUS_OK);
    int page = kv_pool_take(&p);
    kv_pool_ref(&p, page);
    kv_pool_unref(&p, page);
    assert_int_equal(kv_pool_held(&p), 1);
    kv_pool_unref(&p, page);
    assert_int_equal(kv_pool_held(&p), 0);
    assert_int_equal(p.free_count, 2);
    kv_pool_deinit(&p);
}

static void test_kv_pool_keeps_cached_pages_in_order_of_last_use(void **state)
{
    (void)state;
    struct kv_pool p;
    assert_int_equal(kv_pool_init(&p, 4), STATUS_OK);
    int page[3];
    for (int i = 0; i < 3; i++) {
        page[i] = kv_pool_take(&p);
        kv_pool_keep(&p, page[i]);
    }
    assert_int_equal(kv_pool_oldest(&p), -1);
    kv_pool_unref(&p, page[1]);
    kv_pool_unref(&p, page[0]);
    kv_pool_unref(&p, page[2]);
    assert_int_equal(p.cached_count, 3);
    assert_int_equal(kv_pool_oldest(&p), page[1]);
    /* Used again and left again: the youngest now. */
    kv_pool_ref(&p, page[1]);
    kv_pool_check(&p);
    assert_int_equal(kv_pool_oldest(&p), page[0]);
    kv_pool_unref(&p, page[1]);
    kv_pool_forget(&p, page[0]);
    assert_int_equal(kv_pool_oldest(&p), page[2]);
    assert_int_equal(p.free_count, 2);
    /* Forgotten while held: free when the holder leaves. */
    kv_pool_ref(&p, page[2]);
    kv_pool_forget(&p, page[2]);
    kv_pool_unref(&p, page[2]);
    assert_int_equal(p.free_count, 3);
    kv_pool_check(&p);
    kv_pool_deinit(&p);
}

static void test_kv_pool_counts_add_up_after_any_history(void **state)
{
    (void)state;
    enum { PAGES = 16, STEPS = 20000 };
    struct kv_pool p;
    int holders[PAGES] = {0};
    assert_int_equal(kv_pool_init(&p, PAGES), STATUS_OK);
    srand(7);
    for (int i = 0; i < STEPS; i++) {
        int page = rand() % PAGES;
        switch (rand() % 5) {
        case 0:
            page = kv_pool_take(&p);
            if (page >= 0)
                holders[page]++;
            break;
        case 1:
            if (holders[page] > 0 || p.kept[page]) {
                kv_pool_ref(&p, page);
                holders[page]++;
            }
            break;
        case 2:
            if (holders[page] > 0) {
                kv_pool_unref(&p, page);
                holders[page]--;
            }
            break;
        case 3:
            if (holders[page] > 0 && !p.kept[page])
                kv_pool_keep(&p, page);
            break;
        default:
            if (p.kept[page])
                kv_pool_forget(&p, page);
        }
        kv_pool_check(&p);
        for (int k = 0; k < PAGES; k++)
            assert_int_equal(p.refs[k], holders[k]);
    }
    kv_pool_deinit(&p);
}

static void test_kv_pool_init_without_memory(void **state)
{
    (void)state;
    struct kv_pool p;
    for (int k = 1; k <= 4; k++) {
        mem_fail_at(k);
        assert_int_equal(kv_pool_init(&p, 8), STATUS_NO_MEMORY);
    }
    mem_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_pool_gives_each_page_once),
        cmocka_unit_test(test_kv_pool_holds_a_page_until_its_last_holder_leaves),
        cmocka_unit_test(test_kv_pool_keeps_cached_pages_in_order_of_last_use),
        cmocka_unit_test(test_kv_pool_counts_add_up_after_any_history),
        cmocka_unit_test(test_kv_pool_init_without_memory),
    };
    return cmocka_run_group_tests_name("kv_pool", tests, NULL, NULL);
}
