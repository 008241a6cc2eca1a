#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "server/id_map.h"

#define IDS 600

/* Against an array: random puts and removes, runs of neighbours and far ids. */
static void test_id_map_random(void **state)
{
    (void)state;
    struct id_map m = {0};
    static bool there[IDS];
    uint64_t rng = 42;
    size_t count = 0;
    for (int step = 0; step < 200000; step++) {
        rng = rng * 6364136223846793005u + 1442695040888963407u;
        size_t i = (size_t)(rng >> 33) % IDS;
        uint64_t id = i % 2 ? i + 1 : (uint64_t)i << 32 | 7;
        void *value = &there[i];
        if (there[i]) {
            assert_ptr_equal(id_map_get(&m, id), value);
            if (rng >> 60 < 9) {
                id_map_remove(&m, id);
                there[i] = false;
                count--;
            }
        } else {
            assert_null(id_map_get(&m, id));
            id_map_remove(&m, id); /* of what is not there: nothing */
            assert_true(id_map_reserve(&m));
            id_map_put(&m, id, value);
            there[i] = true;
            count++;
        }
        assert_int_equal(m.count, count);
    }
    for (size_t i = 0; i < IDS; i++) {
        uint64_t id = i % 2 ? i + 1 : (uint64_t)i << 32 | 7;
        assert_ptr_equal(id_map_get(&m, id), there[i] ? (void *)&there[i] : NULL);
    }
    id_map_deinit(&m);
}

static void test_id_map_no_memory(void **state)
{
    (void)state;
    struct id_map m = {0};
    mem_fail_at(1);
    assert_false(id_map_reserve(&m));
    mem_fail_at(0);
    assert_null(id_map_get(&m, 5));
    assert_true(id_map_reserve(&m));
    id_map_put(&m, 5, &m);
    assert_ptr_equal(id_map_get(&m, 5), &m);
    id_map_deinit(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_id_map_random),
        cmocka_unit_test(test_id_map_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
