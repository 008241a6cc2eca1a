/* Requests for embeddings over the fake backend: what they cost, what they may take from the prefix
 * cache, what they ignore, and that company does not change them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "tests/sim/oracle.h"
#include "tests/sim/rig.h"

static const enum pooling_kind kinds[] = {POOLING_LAST, POOLING_MEAN, POOLING_WEIGHTED_MEAN};

static void open_pooling(struct rig *rig, struct engine_options opt, enum pooling_kind kind)
{
    rig_open(rig, &opt);
    rig->model.pooling.kind = kind; /* read with every request */
}

static struct engine_request embed(struct rig *rig, int prompt_count)
{
    struct engine_request r = rig_request(rig, prompt_count, 1, 0);
    r.embed = true;
    return r;
}

static void expect(struct rig *rig, const struct engine_request *r, uint64_t identity,
                   struct rig_heard *h)
{
    float want[FAKE_WIDTH];
    oracle_embed(r, identity, rig->model.pooling.kind, want);
    assert_int_equal(h->last.kind, ENGINE_EVENT_DONE);
    assert_int_equal(h->count, 0);
    assert_non_null(h->last.embedding);
    assert_memory_equal(h->last.embedding, want, sizeof want);
    assert_int_equal(h->last.usage.prompt_tokens, r->prompt_count);
    assert_int_equal(h->last.usage.completion_tokens, 0);
    mem_free(h->last.embedding);
}

static struct rig_heard heard;

static int cached_of(struct rig *rig, const struct engine_request *r, uint64_t identity)
{
    rig_run(rig, rig_submit(rig, r), &heard);
    expect(rig, r, identity, &heard);
    return heard.last.usage.cached_tokens;
}

static void test_embed_makes_no_token(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        struct rig rig;
        struct engine_stats st;
        open_pooling(&rig, rig_options(), kinds[k]);
        struct engine_request r = embed(&rig, 50);
        rig_run(&rig, rig_submit(&rig, &r), &heard);
        expect(&rig, &r, 0, &heard);
        assert_true(heard.last.usage.prompt_ns > 0 && heard.last.usage.decode_ns == 0);
        engine_get_stats(rig.e, &st);
        assert_int_equal(st.tokens_in, 50);
        assert_int_equal(st.tokens_out, 0);
        assert_int_equal(st.rows, 50);
        assert_int_equal(st.steps, 3); /* of 24, 24 and 2 rows */
        assert_int_equal(st.requests_done, 1);
        rig_close(&rig);
    }
}

/* Sizes around a chunk, a page, and the rows whose states a step can hand out. */
static void test_embed_is_the_oracles_at_every_length(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        struct rig rig;
        struct engine_options opt = rig_options();
        opt.rows_max = opt.chunk_max = 64; /* of these 32 hand out their states */
        open_pooling(&rig, opt, kinds[k]);
        for (int n = 1; n <= 140; n += n < 70 ? 1 : 7) {
            struct engine_request r = embed(&rig, n);
            rig_run(&rig, rig_submit(&rig, &r), &heard);
            expect(&rig, &r, 0, &heard);
        }
        rig_close(&rig);
    }
}

/* The last token's state needs the last row only; a mean needs all rows. Either leaves its pages to
 * others of its identity. */
static void test_embed_and_the_prefix_cache(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        struct rig rig;
        bool all = pooling_takes_all(kinds[k]);
        open_pooling(&rig, rig_options(), kinds[k]);
        rig_add(&rig, "elf", "elf bytes");
        uint64_t elf = fake_identity_add(0, fake_identity_of("elf bytes"), 1);
        struct engine_request r = embed(&rig, 49), say = rig_request(&rig, 49, 1, 4);
        assert_int_equal(cached_of(&rig, &r, 0), 0);
        assert_int_equal(cached_of(&rig, &r, 0), all ? 0 : 48);
        rig_run(&rig, rig_submit(&rig, &say), &heard);
        rig_expect(&say, 0, &heard);
        assert_int_equal(heard.last.usage.cached_tokens, 48);
        rig_use(&r, "elf", 1);
        assert_int_equal(cached_of(&rig, &r, elf), 0);
        assert_int_equal(cached_of(&rig, &r, elf), all ? 0 : 48);
        r.cache_salt = "x";
        assert_int_equal(cached_of(&rig, &r, elf), 0);
        r.cache_prompt = false;
        assert_int_equal(cached_of(&rig, &r, elf), 0);
        rig_close(&rig);
    }
}

/* Nothing that says how to speak counts: bad values of it are no error either. */
static void test_embed_ignores_how_to_speak(void **state)
{
    (void)state;
    struct rig rig;
    struct logit_bias bias = {3, 1};
    open_pooling(&rig, rig_options(), POOLING_LAST);
    struct engine_request r = embed(&rig, 20);
    r.sampling = (struct sample_params){.temperature = -1, .logprobs = 99, .bias_count = 1};
    r.sampling.bias = &bias;
    r.max_tokens = 100000;
    r.min_tokens = 7;
    r.stop_count = 99;
    r.stop_token_count = -1;
    r.prompt_logprobs = true;
    rig_run(&rig, rig_submit(&rig, &r), &heard);
    expect(&rig, &r, 0, &heard);
    rig_close(&rig);
}

static void test_embed_context_is_exact(void **state)
{
    (void)state;
    struct rig rig;
    struct err err;
    uint64_t id;
    struct engine_options opt = rig_options();
    opt.ctx_max = 64;
    open_pooling(&rig, opt, POOLING_MEAN);
    struct engine_request r = embed(&rig, 64);
    rig_run(&rig, rig_submit(&rig, &r), &heard);
    expect(&rig, &r, 0, &heard);
    r.prompt_count = 65;
    assert_int_equal(engine_submit(rig.e, &r, &id, NULL, &err), STATUS_CONTEXT_LENGTH);
    assert_non_null(strstr(err.msg, "64"));
    assert_non_null(strstr(err.msg, "65"));
    r.prompt_count = 0;
    assert_int_equal(engine_submit(rig.e, &r, &id, NULL, &err), STATUS_INVALID);
    rig_close(&rig);

    opt.ctx_max = 512;
    opt.kv_pages = 2;
    open_pooling(&rig, opt, POOLING_LAST);
    r = embed(&rig, 32);
    rig_run(&rig, rig_submit(&rig, &r), &heard);
    expect(&rig, &r, 0, &heard);
    r.prompt_count = 33;
    assert_int_equal(engine_submit(rig.e, &r, &id, NULL, &err), STATUS_LIMIT);
    rig_close(&rig);
}

static void test_embed_where_the_model_makes_none(void **state)
{
    (void)state;
    struct rig rig;
    struct err err;
    struct engine_info info;
    uint64_t id;
    struct engine_options opt = rig_options();
    rig_open(&rig, &opt);
    engine_get_info(rig.e, &info);
    assert_int_equal(info.embed_width, FAKE_WIDTH);
    assert_true(info.embed_normalize);
    rig.e->info.embed_width = 0;
    rig.e->info.embed_why = "pooling by 'max' is not supported";
    struct engine_request r = embed(&rig, 20);
    assert_int_equal(engine_submit(rig.e, &r, &id, NULL, &err), STATUS_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "'max'"));
    rig_close(&rig);
}

/* Embeddings of several voices beside answers of others, with so few pages that some make way. */
static void test_embed_in_company(void **state)
{
    (void)state;
    static struct rig_heard all[12];
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        struct rig rig;
        struct engine_request r[12];
        uint64_t ids[12];
        struct engine_stats st;
        struct engine_options opt = rig_options();
        int left = 12, most = 0;
        opt.kv_pages = 18;
        opt.prefix_cache = false;
        open_pooling(&rig, opt, kinds[k]);
        rig_add(&rig, "elf", "elf bytes");
        uint64_t elf = fake_identity_add(0, fake_identity_of("elf bytes"), 0.5f);
        memset(all, 0, sizeof all);
        for (int i = 0; i < 12; i++) {
            r[i] = i % 3 == 0 ? rig_request(&rig, 30 + i, (uint64_t)i, 60) : embed(&rig, 60 + i);
            if (i % 2)
                rig_use(&r[i], "elf", 0.5f);
            ids[i] = rig_submit(&rig, &r[i]);
        }
        for (int turns = 0; left > 0; turns++) {
            assert_true(turns < 5000);
            engine_turn(rig.e);
            engine_check(rig.e);
            engine_get_stats(rig.e, &st);
            most = st.last_step_seqs > most ? st.last_step_seqs : most;
            for (int i = 0; i < 12; i++) {
                bool ended = all[i].ended;
                rig_hear(&rig, ids[i], &all[i]);
                left -= !ended && all[i].ended;
            }
        }
        for (int i = 0; i < 12; i++) {
            if (i % 3 == 0)
                rig_expect(&r[i], i % 2 ? elf : 0, &all[i]);
            else
                expect(&rig, &r[i], i % 2 ? elf : 0, &all[i]);
        }
        assert_true(st.preemptions > 0 && most > 2);
        rig_close(&rig);
    }
}

/* An answer's growth takes the pages of a younger prompt of which some states are pooled already.
 */
static void test_embed_goes_on_after_it_made_way(void **state)
{
    (void)state;
    static struct rig_heard answer;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        struct rig rig;
        struct engine_stats st;
        struct engine_options opt = rig_options();
        opt.kv_pages = 16;
        opt.chunk_max = 4;
        opt.prefix_cache = false;
        open_pooling(&rig, opt, kinds[k]);
        struct engine_request say = rig_request(&rig, 17, 1, 60), r = embed(&rig, 200);
        uint64_t said = rig_submit(&rig, &say), id = rig_submit(&rig, &r);
        rig_run(&rig, said, &answer);
        rig_expect(&say, 0, &answer);
        engine_get_stats(rig.e, &st);
        assert_int_equal(st.preemptions, 1);
        assert_true(st.rows > 17 + 60 + 50); /* some of the prompt's were computed before */
        rig_run(&rig, id, &heard);
        expect(&rig, &r, 0, &heard);
        rig_close(&rig);
    }
}

/* Cancelled at any turn it gives everything back; its vector, made or not, is freed
 * (a sanitizer would tell). */
static void test_embed_cancelled_at_any_turn(void **state)
{
    (void)state;
    for (int turn = 0; turn < 6; turn++) {
        struct rig rig;
        open_pooling(&rig, rig_options(), POOLING_MEAN);
        struct engine_request r = embed(&rig, 100);
        uint64_t id = rig_submit(&rig, &r);
        for (int i = 0; i < turn; i++)
            engine_turn(rig.e);
        engine_cancel(rig.e, id);
        rig_run(&rig, id, &heard);
        if (heard.last.kind == ENGINE_EVENT_DONE) {
            assert_true(turn >= 5);
            expect(&rig, &r, 0, &heard);
        } else {
            assert_int_equal(heard.last.kind, ENGINE_EVENT_CANCELLED);
            assert_null(heard.last.embedding);
        }
        id = rig_submit(&rig, &r); /* ended and never read */
        for (int i = 0; i < 10; i++)
            engine_turn(rig.e);
        rig_close(&rig);
    }
}

static void test_embed_without_memory(void **state)
{
    (void)state;
    struct rig rig;
    int refused = 0;
    open_pooling(&rig, rig_options(), POOLING_MEAN);
    struct engine_request r = embed(&rig, 100);
    for (enum status got = STATUS_NO_MEMORY; got != STATUS_OK; refused++) {
        struct err err;
        uint64_t id;
        mem_fail_at(refused + 1);
        got = engine_submit(rig.e, &r, &id, NULL, &err);
        mem_fail_at(0);
        assert_true(got == STATUS_OK || got == STATUS_NO_MEMORY);
        if (got == STATUS_OK)
            rig_run(&rig, id, &heard);
    }
    assert_true(refused > 1);
    expect(&rig, &r, 0, &heard);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed_makes_no_token),
        cmocka_unit_test(test_embed_is_the_oracles_at_every_length),
        cmocka_unit_test(test_embed_and_the_prefix_cache),
        cmocka_unit_test(test_embed_ignores_how_to_speak),
        cmocka_unit_test(test_embed_context_is_exact),
        cmocka_unit_test(test_embed_where_the_model_makes_none),
        cmocka_unit_test(test_embed_in_company),
        cmocka_unit_test(test_embed_goes_on_after_it_made_way),
        cmocka_unit_test(test_embed_cancelled_at_any_turn),
        cmocka_unit_test(test_embed_without_memory),
    };
    log_setup(LOG_LEVEL_ERROR + 1, false);
    return cmocka_run_group_tests_name("engine_embed", tests, NULL, NULL);
}
