#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "engine/adapter/adapter_slots.h"
#include "engine/adapter/adapter_store.h"
#include "engine/base/mem.h"
#include "tests/sim/fake_backend.h"

struct rig {
    struct model model;
    struct fake_backend *f;
    struct adapter_store s;
    struct err err;
};

static void rig_init(struct rig *r, int slots)
{
    struct backend_plan plan = {.rows_max = 4,
                                .seqs_max = 4,
                                .outs_max = 4,
                                .segments_max = 4,
                                .slots_max = slots,
                                .pages = 4,
                                .ctx_max = 64};
    fake_model_init(&r->model, 64);
    r->f = fake_backend_open(false);
    assert_non_null(r->f);
    assert_int_equal(r->f->base.ops->model_load(&r->f->base, &r->model, &plan, NULL, &r->err),
                     STATUS_OK);
    struct adapter_store_options opt = {.source = fake_adapters,
                                        .base = &r->model,
                                        .backend = &r->f->base,
                                        .slots_max = slots,
                                        .host_budget = SIZE_MAX};
    assert_int_equal(adapter_store_init(&r->s, &opt), STATUS_OK);
}

static void rig_deinit(struct rig *r)
{
    adapter_store_deinit(&r->s);
    r->f->base.ops->close(&r->f->base);
    assert_int_equal(fake_adapters_alive(), 0);
}

static enum status put(struct rig *r, const char *name, const char *path, uint64_t *generation)
{
    struct engine_adapter_spec spec = {.name = name, .path = path};
    return adapter_store_put(&r->s, &spec, generation, &r->err);
}

static uint64_t add(struct rig *r, const char *name, const char *path)
{
    uint64_t generation = 0;
    assert_int_equal(put(r, name, path, &generation), STATUS_OK);
    return generation;
}

static enum status removed(struct rig *r, const char *name)
{
    uint64_t generation;
    return adapter_store_remove(&r->s, name, &generation, &r->err);
}

static enum status acquire_named(struct rig *r, const char *name, struct adapter_set *out)
{
    struct engine_adapter_use use = {.weight = 1};
    uint64_t generation;
    snprintf(use.name, sizeof use.name, "%s", name);
    return adapter_store_acquire(&r->s, &use, 1, out, &generation, &r->err);
}

static struct adapter *acquire(struct rig *r, const char *name)
{
    struct adapter_set set;
    assert_int_equal(acquire_named(r, name, &set), STATUS_OK);
    assert_int_equal(set.count, 1);
    return set.parts[0];
}

static void release(struct rig *r, struct adapter *a)
{
    struct adapter_set set = {.parts = {a}, .count = 1};
    adapter_store_release(&r->s, &set, NULL);
}

static void test_adapter_store_names(void **state)
{
    (void)state;
    char longest[LIMIT_NAME_BYTES + 2];
    memset(longest, 'a', sizeof longest);
    longest[LIMIT_NAME_BYTES] = '\0';
    assert_true(adapter_store_name_ok(longest));
    longest[LIMIT_NAME_BYTES] = 'a';
    longest[LIMIT_NAME_BYTES + 1] = '\0';
    assert_false(adapter_store_name_ok(longest));
    static const char *const good[] = {"a", "wood-elf", "A.b_c-9", "..."};
    static const char *const bad[] = {"", "a b", "a/b", "ä", "a\n", "a:b", "a\\"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(adapter_store_name_ok(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct rig r;
        uint64_t generation = 7;
        rig_init(&r, 1);
        assert_int_equal(put(&r, bad[i], "x", &generation), STATUS_INVALID);
        assert_string_equal(r.err.param, "name");
        assert_int_equal(generation, 7);
        rig_deinit(&r);
    }
}

static void test_adapter_store_replaces_by_generation(void **state)
{
    (void)state;
    struct rig r;
    struct engine_adapter_info info[4];
    rig_init(&r, 1);
    uint64_t g1 = add(&r, "elf", "one");
    struct adapter *old = acquire(&r, "elf");
    uint64_t g2 = add(&r, "elf", "two");
    struct adapter *now = acquire(&r, "elf");
    assert_true(g2 > g1);
    assert_ptr_not_equal(old, now);
    assert_int_equal(old->generation, g1);
    assert_int_equal(fake_adapters_alive(), 2);

    assert_int_equal(adapter_store_list(&r.s, info, 4), 2);
    assert_true(info[0].draining && !info[1].draining);
    assert_int_equal(info[0].users, 1);
    assert_string_equal(info[0].path, "one");
    assert_string_not_equal(info[0].sha256, info[1].sha256);
    assert_true(info[0].last_used_unix_s > 0);

    release(&r, old); /* the last user: it goes */
    assert_int_equal(fake_adapters_alive(), 1);
    assert_int_equal(adapter_store_list(&r.s, info, 4), 1);
    release(&r, now);
    assert_int_equal(fake_adapters_alive(), 1); /* the name holds it */
    rig_deinit(&r);
}

static void test_adapter_store_remove_drains(void **state)
{
    (void)state;
    struct rig r;
    struct adapter_set set;
    rig_init(&r, 1);
    add(&r, "elf", "one");
    struct adapter *user = acquire(&r, "elf");
    assert_int_equal(removed(&r, "elf"), STATUS_OK);
    assert_int_equal(acquire_named(&r, "elf", &set), STATUS_ADAPTER_NOT_FOUND);
    assert_int_equal(removed(&r, "elf"), STATUS_ADAPTER_NOT_FOUND);
    assert_int_equal(fake_adapters_alive(), 1);
    release(&r, user);
    assert_int_equal(fake_adapters_alive(), 0);
    /* A name that comes back never gets an old number. */
    uint64_t g = add(&r, "elf", "one");
    assert_int_equal(g, 2);
    rig_deinit(&r);
}

static void test_adapter_store_slots(void **state)
{
    (void)state;
    struct rig r;
    struct engine_adapter_info info[4];
    rig_init(&r, 2);
    add(&r, "a", "a");
    add(&r, "b", "b");
    struct adapter *a = acquire(&r, "a"), *b = acquire(&r, "b");
    assert_int_equal(adapter_slots_use(&r.s, a, 1), -1);
    assert_int_equal(adapter_slots_load(&r.s, a, 0, 1, &r.err), STATUS_OK);
    assert_int_equal(adapter_slots_use(&r.s, a, 5), 0);
    assert_int_equal(r.s.slots[0].refs, 1);
    assert_int_equal(r.s.slots[0].used, 5);
    assert_int_equal(adapter_store_list(&r.s, info, 4), 2);
    assert_true(info[0].resident && !info[1].resident);
    adapter_slots_unuse(&r.s, 0);
    assert_int_equal(adapter_slots_load(&r.s, b, 0, 1, &r.err), STATUS_OK); /* a leaves */
    assert_int_equal(a->slot, -1);
    assert_int_equal(b->slot, 0);
    assert_true(r.f->slots[0] == fake_identity_of("b"));

    /* Replaced and unused, but in a slot: the engine thread's sweep frees it. */
    release(&r, b);
    add(&r, "b", "b2");
    assert_int_equal(fake_adapters_alive(), 3);
    adapter_slots_sweep(&r.s);
    assert_int_equal(fake_adapters_alive(), 2);
    assert_true(r.f->slots[0] == 0);
    release(&r, a);
    rig_deinit(&r);
}

/* What leaves its slot after its name and users went is freed there and then. */
static void test_adapter_store_evicts_a_dead_generation(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 1);
    add(&r, "a", "a");
    add(&r, "b", "b");
    struct adapter *a = acquire(&r, "a"), *b = acquire(&r, "b");
    assert_int_equal(adapter_slots_load(&r.s, a, 0, 1, &r.err), STATUS_OK);
    assert_int_equal(removed(&r, "a"), STATUS_OK);
    release(&r, a);
    assert_int_equal(fake_adapters_alive(), 2);
    assert_int_equal(adapter_slots_load(&r.s, b, 0, 1, &r.err), STATUS_OK);
    assert_int_equal(fake_adapters_alive(), 1);
    adapter_slots_sweep(&r.s);
    release(&r, b);
    rig_deinit(&r);
}

static void test_adapter_store_load_failure_leaves_the_slot_empty(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 1);
    add(&r, "a", "a");
    struct adapter *a = acquire(&r, "a");
    r.f->fault = FAKE_FAULT_LOAD;
    r.f->fault_in = 1;
    r.f->fault_status = STATUS_NO_MEMORY;
    assert_int_equal(adapter_slots_load(&r.s, a, 0, 1, &r.err), STATUS_NO_MEMORY);
    assert_null(r.s.slots[0].adapter);
    assert_int_equal(a->slot, -1);
    assert_int_equal(adapter_slots_load(&r.s, a, 0, 1, &r.err), STATUS_OK);
    release(&r, a);
    rig_deinit(&r);
}

static void test_adapter_store_add_without_memory(void **state)
{
    (void)state;
    struct rig r;
    rig_init(&r, 1);
    add(&r, "a", "one");
    for (int k = 1;; k++) {
        uint64_t generation = 0;
        mem_fail_at(k);
        enum status st = put(&r, "a", "two", &generation);
        mem_fail_at(0);
        struct adapter *a = acquire(&r, "a");
        bool two = strcmp(a->path, "two") == 0;
        release(&r, a);
        assert_int_equal(two, st == STATUS_OK);
        assert_int_equal(fake_adapters_alive(), 1);
        if (st == STATUS_OK)
            break;
        assert_int_equal(st, STATUS_NO_MEMORY);
        assert_int_equal(generation, 0);
    }
    rig_deinit(&r);
}

static void test_adapter_store_refuses_a_bad_file(void **state)
{
    (void)state;
    struct rig r;
    struct adapter_set set;
    uint64_t generation;
    rig_init(&r, 1);
    assert_int_equal(put(&r, "a", "bad", &generation), STATUS_BAD_FILE);
    assert_int_equal(acquire_named(&r, "a", &set), STATUS_ADAPTER_NOT_FOUND);
    rig_deinit(&r);
}

static void test_adapter_store_has_a_cap(void **state)
{
    (void)state;
    static struct rig r;
    uint64_t generation;
    char name[32];
    rig_init(&r, 1);
    for (int i = 0; i < LIMIT_ADAPTERS; i++) {
        snprintf(name, sizeof name, "n%d", i);
        add(&r, name, "x");
    }
    assert_int_equal(put(&r, "one-more", "x", &generation), STATUS_LIMIT);
    assert_int_equal(fake_adapters_alive(), LIMIT_ADAPTERS);
    assert_int_equal(removed(&r, "n7"), STATUS_OK);
    add(&r, "one-more", "x");
    rig_deinit(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adapter_store_names),
        cmocka_unit_test(test_adapter_store_replaces_by_generation),
        cmocka_unit_test(test_adapter_store_remove_drains),
        cmocka_unit_test(test_adapter_store_slots),
        cmocka_unit_test(test_adapter_store_evicts_a_dead_generation),
        cmocka_unit_test(test_adapter_store_load_failure_leaves_the_slot_empty),
        cmocka_unit_test(test_adapter_store_add_without_memory),
        cmocka_unit_test(test_adapter_store_refuses_a_bad_file),
        cmocka_unit_test(test_adapter_store_has_a_cap),
    };
    return cmocka_run_group_tests_name("adapter_store", tests, NULL, NULL);
}
