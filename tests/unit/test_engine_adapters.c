/* The engine's door for adapters: blends, draining, what is told of each, the dry run. Over the
 * fake backend but for the last, which looks at real directories. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "engine/engine.h"
#include "engine/adapter/adapter_check.h"
#include "engine/model/model.h"
#include "tests/sim/rig.h"

#define DEMO "models/storyteller"
#define BAD  "tests/golden/data/bad"

static struct rig_heard heard;

static uint64_t identity_of(const char *a, float wa, const char *b, float wb)
{
    uint64_t id = fake_identity_add(0, fake_identity_of(a), wa);
    return b ? fake_identity_add(id, fake_identity_of(b), wb) : id;
}

static enum status blend(struct rig *rig, const char *name, const char *a, float wa, const char *b,
                         float wb, struct err *err)
{
    struct engine_request parts = {.adapter_count = 0};
    uint64_t generation;
    rig_use(&parts, a, wa);
    if (b)
        rig_use(&parts, b, wb);
    return engine_adapter_blend(rig->e, name, parts.adapters, parts.adapter_count, &generation,
                                err);
}

/* A blend is what its parts give when a request names them, also together with others. */
static void test_engine_adapters_blend_is_its_parts(void **state)
{
    (void)state;
    struct rig rig;
    struct err err;
    struct engine_options opt = rig_options();
    struct engine_adapter_use resolved[LIMIT_ADAPTERS_PER_REQUEST];
    uint64_t id;
    rig_open(&rig, &opt);
    rig_add(&rig, "elf", "e");
    rig_add(&rig, "orc", "o");
    assert_int_equal(blend(&rig, "half", "elf", 0.5f, "orc", 0.25f, &err), STATUS_OK);
    struct engine_request r = rig_request(&rig, 40, 1, 20);
    rig_use(&r, "half", 1.0f);
    assert_int_equal(engine_submit(rig.e, &r, &id, resolved, &err), STATUS_OK);
    assert_string_equal(resolved[0].name, "half");
    assert_int_equal(resolved[0].generation, 3);
    rig_run(&rig, id, &heard);
    rig_expect(&r, identity_of("e", 0.5f, "o", 0.25f), &heard);

    r.adapters[0].weight = 2.0f; /* times its own weight, and the same part added up */
    rig_use(&r, "orc", 0.5f);
    rig_run(&rig, rig_submit(&rig, &r), &heard);
    rig_expect(&r, identity_of("e", 1.0f, "o", 1.0f), &heard);

    /* A part that is replaced is another voice from the next request on. */
    r = rig_request(&rig, 40, 1, 60);
    rig_use(&r, "half", 1.0f);
    id = rig_submit(&rig, &r);
    engine_turn(rig.e);
    rig_add(&rig, "elf", "e2");
    uint64_t next = rig_submit(&rig, &r);
    rig_run(&rig, id, &heard);
    rig_expect(&r, identity_of("e", 0.5f, "o", 0.25f), &heard);
    rig_run(&rig, next, &heard);
    rig_expect(&r, identity_of("e2", 0.5f, "o", 0.25f), &heard);
    assert_int_equal(heard.last.usage.cached_tokens, 0);
    rig_close(&rig);
}

static void test_engine_adapters_blend_refuses(void **state)
{
    (void)state;
    struct rig rig;
    struct err err;
    struct engine_options opt = rig_options();
    struct engine_request r;
    uint64_t id;
    rig_open(&rig, &opt);
    rig_add(&rig, "elf", "e");
    rig_add(&rig, "orc", "o");
    rig_add(&rig, "imp", "i");
    rig_add(&rig, "hag", "h");
    assert_int_equal(blend(&rig, "b", "elf", 1, "nobody", 1, &err), STATUS_ADAPTER_NOT_FOUND);
    assert_int_equal(blend(&rig, "b", "elf", 1, "elf", 1, &err), STATUS_INVALID);
    assert_int_equal(blend(&rig, "b", "elf", 1e9f, "orc", 1, &err), STATUS_INVALID);
    assert_int_equal(blend(&rig, "a/b", "elf", 1, "orc", 1, &err), STATUS_INVALID);
    assert_int_equal(blend(&rig, "elf", "elf", 1, "orc", 1, &err), STATUS_INVALID);
    assert_int_equal(engine_adapter_blend(rig.e, "b", NULL, 0, &id, &err), STATUS_INVALID);
    assert_int_equal(blend(&rig, "b", "elf", 1, "orc", 1, &err), STATUS_OK);
    assert_int_equal(blend(&rig, "c", "b", 1, "imp", 1, &err), STATUS_INVALID);

    r = rig_request(&rig, 5, 1, 5); /* three slots, four parts */
    rig_use(&r, "b", 1);
    rig_use(&r, "imp", 1);
    rig_use(&r, "hag", 1);
    assert_int_equal(engine_submit(rig.e, &r, &id, NULL, &err), STATUS_LIMIT);

    assert_int_equal(engine_adapter_remove(rig.e, "orc", &err), STATUS_OK);
    r.adapter_count = 1;
    assert_int_equal(engine_submit(rig.e, &r, &id, NULL, &err), STATUS_ADAPTER_NOT_FOUND);
    assert_non_null(strstr(err.msg, "'orc'"));
    assert_int_equal(rig_info(&rig, "elf").users, 0);
    rig_close(&rig);
}

static void test_engine_adapters_drain_says_who_is_left(void **state)
{
    (void)state;
    struct rig rig;
    struct err err;
    struct engine_options opt = rig_options();
    struct engine_adapter_left left;
    rig_open(&rig, &opt);
    rig_add(&rig, "elf", "e");
    rig_add(&rig, "orc", "o");
    assert_int_equal(blend(&rig, "b", "elf", 1, NULL, 0, &err), STATUS_OK);
    struct engine_request r = rig_request(&rig, 10, 1, 50);
    r.request_id = "first";
    rig_use(&r, "elf", 1);
    uint64_t a = rig_submit(&rig, &r);
    r.request_id = "second";
    r.adapters[0].name[0] = '\0';
    r.adapter_count = 0;
    rig_use(&r, "b", 1);
    uint64_t b = rig_submit(&rig, &r);
    engine_turn(rig.e);
    assert_int_equal(engine_adapter_drain(rig.e, "elf", 20, &left, &err), STATUS_OK);
    assert_int_equal(left.users, 2);
    assert_int_equal(left.told, 2);
    assert_int_equal(left.generation, 1);
    assert_string_equal(left.request_id[0], "first");
    assert_string_equal(left.request_id[1], "second");
    assert_int_equal(engine_adapter_drain(rig.e, "elf", 0, &left, &err), STATUS_ADAPTER_NOT_FOUND);
    rig_run(&rig, a, &heard);
    rig_expect(&r, identity_of("e", 1, NULL, 0), &heard);
    rig_run(&rig, b, &heard);
    rig_expect(&r, identity_of("e", 1, NULL, 0), &heard);
    assert_int_equal(engine_adapter_drain(rig.e, "b", 1000, &left, &err), STATUS_OK);
    assert_int_equal(left.users, 0);
    engine_turn(rig.e);
    assert_int_equal(engine_adapters(rig.e, NULL, 0), 1);
    rig_close(&rig);
}

static void test_engine_adapters_counts(void **state)
{
    (void)state;
    struct rig rig;
    struct engine_options opt = rig_options();
    rig_open(&rig, &opt);
    rig_add(&rig, "elf", "e");
    struct engine_request r = rig_request(&rig, 10, 1, 5);
    rig_use(&r, "elf", 1);
    for (int i = 0; i < 3; i++)
        rig_run(&rig, rig_submit(&rig, &r), &heard);
    struct engine_adapter_info info = rig_info(&rig, "elf");
    assert_int_equal(info.requests, 3);
    assert_int_equal(info.misses, 1);
    assert_int_equal(info.hits, 2);
    assert_int_equal(info.loads, 1);
    assert_int_equal(info.tokens_in, 30);
    assert_int_equal(info.tokens_out, 15);
    assert_true(info.first_token_s > 0 && info.queue_s >= 0 && info.tier == ENGINE_TIER_DEVICE);
    rig_add(&rig, "elf", "e2"); /* the counts are the name's */
    engine_turn(rig.e);
    info = rig_info(&rig, "elf");
    assert_int_equal(info.requests, 3);
    assert_int_equal(info.evictions, 1);
    assert_int_equal(info.tier, ENGINE_TIER_HOST);
    rig_close(&rig);
}

/* Steps that orc waited, three steps behind elf, for the one slot. */
static int wait_of_second(struct rig *rig)
{
    struct engine_stats stats;
    struct engine_request first = rig_request(rig, 10, 1, 60), second = first;
    first.ignore_eos = second.ignore_eos = true;
    rig_use(&first, "elf", 1);
    rig_use(&second, "orc", 1);
    uint64_t id = rig_submit(rig, &first);
    for (int i = 0; i < 3; i++)
        engine_turn(rig->e);
    engine_get_stats(rig->e, &stats);
    assert_int_equal(stats.slot_wait_steps_max, 0);
    rig_run(rig, rig_submit(rig, &second), &heard);
    rig_run(rig, id, &heard);
    engine_get_stats(rig->e, &stats);
    return (int)stats.slot_wait_steps_max;
}

/* One slot and two voices: the second waits a turn for it, and that is told. */
static void test_engine_adapters_longest_wait(void **state)
{
    (void)state;
    struct rig rig;
    struct engine_options opt = rig_options();
    opt.slots_max = 1;
    opt.adapter_turn_steps = 12;
    rig_open(&rig, &opt);
    rig_add(&rig, "elf", "e");
    rig_add(&rig, "orc", "o");
    assert_in_range(wait_of_second(&rig), 12, 12 + 2 * (1 + 12 + 1));
    rig_close(&rig);
}

static void test_engine_adapters_share_lengthens_its_turn(void **state)
{
    (void)state;
    struct rig rig;
    struct engine_options opt = rig_options();
    opt.slots_max = 1;
    opt.adapter_turn_steps = 12;
    rig_open(&rig, &opt);
    struct engine_adapter_spec elf = {.name = "elf", .path = "e", .share = 4};
    struct err e;
    uint64_t generation;
    assert_int_equal(engine_adapter_put(rig.e, &elf, &generation, &e), STATUS_OK);
    rig_add(&rig, "orc", "o");
    /* Until the others had four turns, less the steps before it came. */
    assert_in_range(wait_of_second(&rig), 4 * 12 - 4, 12 + 2 * (1 + 4 * 12 + 1));
    rig_close(&rig);
}

/* ---- the dry run ---- */

static const struct adapter_source files = {.open = lora_open_early,
                                            .open_beneath = lora_open_beneath_early,
                                            .identify = lora_identify,
                                            .free = lora_free};

static void test_engine_adapters_check_good(void **state)
{
    (void)state;
    struct engine_adapter_report r;
    struct model *m;
    struct err err = {0};
    assert_int_equal(model_open(DEMO, NULL, &m, &err), STATUS_OK);
    assert_int_equal(adapter_check(&files, m, DEMO "/adapters", "villain", &r, &err), STATUS_OK);
    assert_int_equal(r.status, STATUS_OK);
    assert_true(r.tensor_count > 0 && r.tensor_count == 2 * r.module_count);
    assert_int_equal(r.unmatched, 0);
    assert_int_equal(strlen(r.sha256), 64);
    assert_true(r.rank_max > 0 && r.bytes > 0 && r.scale_min > 0 && !r.no_op);
    for (int i = 0; i < r.tensor_count; i++) {
        if (r.tensors[i].why[0])
            fail_msg("%s", r.tensors[i].why);
        assert_true(r.tensors[i].shape[0] == '[' && r.tensors[i].dtype[0]);
    }
    engine_adapter_report_deinit(&r);
    assert_int_equal(adapter_check(&files, m, DEMO "/adapters", "../config.json", &r, &err),
                     STATUS_OK);
    assert_int_not_equal(r.status, STATUS_OK);
    assert_int_equal(r.tensor_count, 0);
    engine_adapter_report_deinit(&r);
    for (int k = 1, st = STATUS_NO_MEMORY; st != STATUS_OK; k++) {
        mem_fail_at(k);
        st = adapter_check(&files, m, NULL, DEMO "/adapters/villain", &r, &err);
        mem_fail_at(0);
        assert_true(st == STATUS_NO_MEMORY || st == STATUS_OK);
        if (st == STATUS_OK)
            st = r.status;
        engine_adapter_report_deinit(&r);
    }
    model_close(m);
}

/* Who an adapter is was hashed beside everything else, and is known whatever became of its bytes:
 * they are packed, kept as they are, or there is no room for them. */
static void test_engine_adapters_identity_is_waited_for(void **state)
{
    (void)state;
    struct model *m;
    struct lora *l = NULL;
    struct err err = {0};
    char want[2 * SHA256_BYTES + 1];
    assert_int_equal(model_open(DEMO, NULL, &m, &err), STATUS_OK);
    assert_int_equal(lora_open(DEMO "/adapters/villain", m, &l, &err), STATUS_OK);
    sha256_hex(l->sha256, want);
    lora_free(l);
    for (int way = 0; way < 3; way++) {
        struct adapter_store s;
        struct engine_adapter_info info;
        struct fake_backend *f = fake_backend_open(true);
        if (way == 0)
            fake_backend_set_room(f, SIZE_MAX, true);
        struct adapter_store_options opt = {.source = files,
                                            .base = m,
                                            .backend = &f->base,
                                            .slots_max = 1,
                                            .host_budget = way == 2 ? 0 : SIZE_MAX};
        struct engine_adapter_spec spec = {.name = "villain", .path = DEMO "/adapters/villain"};
        uint64_t generation;
        assert_int_equal(adapter_store_init(&s, &opt), STATUS_OK);
        assert_int_equal(adapter_store_put(&s, &spec, &generation, &err), STATUS_OK);
        assert_int_equal(adapter_store_list(&s, &info, 1), 1);
        assert_string_equal(info.sha256, want);
        adapter_store_deinit(&s);
        f->base.ops->close(&f->base);
    }
    model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engine_adapters_blend_is_its_parts),
        cmocka_unit_test(test_engine_adapters_blend_refuses),
        cmocka_unit_test(test_engine_adapters_drain_says_who_is_left),
        cmocka_unit_test(test_engine_adapters_counts),
        cmocka_unit_test(test_engine_adapters_longest_wait),
        cmocka_unit_test(test_engine_adapters_share_lengthens_its_turn),
        cmocka_unit_test(test_engine_adapters_check_good),
        cmocka_unit_test(test_engine_adapters_identity_is_waited_for),
    };
    log_setup(LOG_LEVEL_ERROR + 1, false);
    return cmocka_run_group_tests_name("engine_adapters", tests, NULL, NULL);
}
