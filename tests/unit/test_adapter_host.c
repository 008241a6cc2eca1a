/* The host tier by itself: which adapters stay in memory, which go, and which is read first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "engine/adapter/adapter_host.h"
#include "tests/sim/fake_backend.h"

#define NAMES 6

/* Files of the same size. */
static size_t each;
static char paths[NAMES][8];

static int find_paths(void **state)
{
    (void)state;
    int n = 0;
    each = fake_bytes_of("p0");
    for (int i = 0; n < NAMES; i++) {
        snprintf(paths[n], sizeof paths[n], "p%d", i);
        n += fake_bytes_of(paths[n]) == each;
    }
    return 0;
}

struct rig {
    struct model model;
    struct fake_backend *f;
    struct adapter_store s;
    struct adapter_set sets[NAMES]; /* of each adapter; it has this user */
    uint64_t order;
    struct err err;
};

/* Adds a, b, ... f to memory for `room` of them; those whose letter is in `pinned` are. */
static void rig_init(struct rig *r, size_t room, const char *pinned)
{
    struct backend_plan plan = {.rows_max = 4,
                                .seqs_max = 4,
                                .outs_max = 4,
                                .segments_max = 4,
                                .slots_max = 1,
                                .pages = 4,
                                .ctx_max = 64};
    *r = (struct rig){0};
    fake_model_init(&r->model, 64);
    r->f = fake_backend_open(false);
    assert_non_null(r->f);
    assert_int_equal(r->f->base.ops->model_load(&r->f->base, &r->model, &plan, NULL, &r->err),
                     STATUS_OK);
    struct adapter_store_options opt = {.source = fake_adapters,
                                        .base = &r->model,
                                        .backend = &r->f->base,
                                        .slots_max = 1,
                                        .host_budget = room * each};
    assert_int_equal(adapter_store_init(&r->s, &opt), STATUS_OK);
    for (int i = 0; i < NAMES; i++) {
        char name[2] = {(char)('a' + i), '\0'};
        struct engine_adapter_spec spec = {
            .name = name, .path = paths[i], .pinned = strchr(pinned, name[0]) != NULL};
        struct engine_adapter_use use = {.weight = 1};
        uint64_t generation;
        memcpy(use.name, name, sizeof name);
        assert_int_equal(adapter_store_put(&r->s, &spec, &generation, &r->err), STATUS_OK);
        assert_int_equal(adapter_store_acquire(&r->s, &use, 1, &r->sets[i], &generation, &r->err),
                         STATUS_OK);
    }
}

static void rig_deinit(struct rig *r)
{
    adapter_host_check(&r->s);
    for (int i = 0; i < NAMES; i++)
        adapter_store_release(&r->s, &r->sets[i], NULL);
    adapter_store_deinit(&r->s);
    r->f->base.ops->close(&r->f->base);
    assert_int_equal(fake_adapters_alive(), 0);
}

/* The adapters in host memory, as "ace". */
static void expect_in_memory(struct rig *r, const char *wanted, const char *when)
{
    struct engine_adapter_info info[NAMES];
    char got[NAMES + 1] = "";
    size_t n = 0;
    assert_int_equal(adapter_store_list(&r->s, info, NAMES), NAMES);
    for (int i = 0; i < NAMES; i++)
        if (info[i].tier == ENGINE_TIER_HOST)
            got[n++] = info[i].name[0];
    got[n] = '\0';
    if (strcmp(got, wanted) != 0)
        fail_msg("%s: '%s' in memory instead of '%s'", when, got, wanted);
    assert_int_equal(r->s.host_used, n * each);
}

/* One turn: requests for each of these, in this order. */
static void ask(struct rig *r, const char *letters)
{
    unsigned loadable;
    adapter_host_begin(&r->s);
    for (const char *at = letters; *at; at++)
        assert_int_not_equal(adapter_host_ask(&r->s, &r->sets[*at - 'a'], ++r->order, &loadable),
                             ADAPTER_FAILED);
    adapter_host_end(&r->s);
}

static void read_all(struct rig *r)
{
    while (adapter_host_read_one(&r->s)) {
    }
}

static void test_adapter_host_keeps_to_its_budget(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 3, "");
    expect_in_memory(&r, "abc", "added");
    for (int i = 0; i < 40; i++) {
        char one[2] = {(char)('a' + i * 5 % NAMES), '\0'};
        ask(&r, one);
        read_all(&r);
        assert_in_range(r.s.host_used, each, 3 * each);
    }
    /* What is wanted at once stays within it too; the first request's comes however large. */
    ask(&r, "fedcba");
    read_all(&r);
    expect_in_memory(&r, "def", "six wanted");
    adapter_store_set_budget(&r.s, each / 2);
    ask(&r, "ab");
    read_all(&r);
    expect_in_memory(&r, "a", "none fits");
    ask(&r, "");
    read_all(&r);
    expect_in_memory(&r, "", "nothing is wanted");
    rig_deinit(&r);
}

static void test_adapter_host_drops_the_least_recently_used(void **state)
{
    (void)state;
    static const struct {
        const char *asked; /* one after the other */
        const char *left;
    } steps[] = {{"d", "bcd"}, {"b", "bcd"}, {"e", "bde"},
                 {"d", "bde"}, {"a", "ade"}, {"f", "adf"}};
    struct rig r;
    rig_init(&r, 3, "");
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        ask(&r, steps[i].asked);
        read_all(&r);
        expect_in_memory(&r, steps[i].left, steps[i].asked);
    }
    rig_deinit(&r);
}

static void test_adapter_host_pinned_ones_stay(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 3, "af");
    /* Pinned ones are kept beyond the budget when they are added. */
    expect_in_memory(&r, "abcf", "added");
    static const char *const asked[] = {"d", "e", "b", "c", "d"};
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        char wanted[4];
        ask(&r, asked[i]);
        read_all(&r);
        snprintf(wanted, sizeof wanted, "a%cf", asked[i][0]);
        expect_in_memory(&r, wanted, asked[i]);
    }
    adapter_store_set_budget(&r.s, 0);
    ask(&r, "");
    read_all(&r);
    expect_in_memory(&r, "af", "no memory at all");
    rig_deinit(&r);
}

/* Whoever came first gets its adapter first, whatever the adapter is called. */
static void test_adapter_host_reads_for_the_oldest_first(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 3, "");
    ask(&r, "fde");
    static const char *const left[] = {"bcf", "cdf", "def"};
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        assert_true(adapter_host_read_one(&r.s));
        expect_in_memory(&r, left[i], left[i]);
    }
    assert_false(adapter_host_read_one(&r.s));
    rig_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adapter_host_keeps_to_its_budget),
        cmocka_unit_test(test_adapter_host_drops_the_least_recently_used),
        cmocka_unit_test(test_adapter_host_pinned_ones_stay),
        cmocka_unit_test(test_adapter_host_reads_for_the_oldest_first),
    };
    return cmocka_run_group_tests_name("adapter_host", tests, find_paths, NULL);
}
