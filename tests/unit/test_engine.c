/* The engine over the fake backend, one request or a few at a time: what each option of a request
 * does, and how each kind of trouble is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "engine/engine_internal.h"
#include "tests/sim/fake_backend.h"
#include "tests/sim/fake_text.h"
#include "tests/sim/oracle.h"

static struct model model;

struct rig {
    struct engine *e;
    struct fake_backend *f;
    int notified;
};

static void on_notify(void *ctx)
{
    ((struct rig *)ctx)->notified++;
}

static struct engine_options default_options(void)
{
    return (struct engine_options){.model_dir = "fake",
                                   .backend = "fake",
                                   .seqs_max = 4,
                                   .rows_max = 32,
                                   .chunk_max = 24,
                                   .kv_pages = 64,
                                   .slots_max = 3,
                                   .queue_max = 8,
                                   .wait_bound_steps = 8,
                                   .prefix_cache = true};
}

static void rig_open(struct rig *rig, struct engine_options opt)
{
    struct err err;
    fake_model_init(&model, 512);
    memset(rig, 0, sizeof *rig);
    rig->f = fake_backend_open(false);
    opt.notify = on_notify;
    opt.notify_ctx = rig;
    struct engine_parts parts = {.model = &model,
                                 .eos = fake_eos,
                                 .eos_count = FAKE_EOS_COUNT,
                                 .backend = &rig->f->base,
                                 .detok = fake_detok,
                                 .adapters = fake_adapters};
    assert_int_equal(engine_create(&opt, &parts, &rig->e, &err), STATUS_OK);
}

static void rig_close(struct rig *rig)
{
    engine_check(rig->e);
    engine_close(rig->e);
    assert_int_equal(fake_adapters_alive(), 0);
}

static int32_t prompt_tokens[512];

static struct engine_request request(int prompt_count, uint64_t seed, int max_tokens)
{
    for (int i = 0; i < 512; i++)
        prompt_tokens[i] = 3 + (i * 7 + i / 5) % (FAKE_VOCAB - 3);
    return (struct engine_request){
        .request_id = "test",
        .prompt = prompt_tokens,
        .prompt_count = prompt_count,
        .sampling = {.temperature = 1,
                     .top_p = 1,
                     .typical_p = 1,
                     .repetition_penalty = 1,
                     .seed = seed,
                     .logprobs = 3},
        .max_tokens = max_tokens,
        .cache_prompt = true,
    };
}

/* What a reader collected of one request. */
struct heard {
    struct sample_result tokens[512];
    int count;
    int prompt_count;
    struct engine_event last;
    char text[1 << 16];
    size_t text_len;
    bool ended;
};

static void hear(struct engine *e, uint64_t id, struct heard *h)
{
    struct engine_event ev;
    while (engine_read(e, id, &ev, 1) == 1) {
        assert_false(h->ended);
        memcpy(h->text + h->text_len, ev.text, (size_t)ev.text_len);
        h->text_len += (size_t)ev.text_len;
        if (ev.kind == ENGINE_EVENT_TOKEN) {
            struct sample_result *t = &h->tokens[h->count++];
            *t = (struct sample_result){
                .token = ev.token, .logprob = ev.logprob, .top_count = ev.top_count};
            memcpy(t->top, ev.top, sizeof t->top);
        }
        h->prompt_count += ev.kind == ENGINE_EVENT_PROMPT_TOKEN;
        h->last = ev;
        h->ended = ev.kind >= ENGINE_EVENT_DONE;
    }
}

static void run_until_ended(struct rig *rig, uint64_t id, struct heard *h)
{
    memset(h, 0, sizeof *h);
    for (int turns = 0; !h->ended; turns++) {
        assert_true(turns < 5000);
        engine_turn(rig->e);
        engine_check(rig->e);
        hear(rig->e, id, h);
    }
}

static uint64_t submit(struct rig *rig, const struct engine_request *r)
{
    struct err err = {0};
    uint64_t id = 0;
    enum status st = engine_submit(rig->e, r, &id, NULL, &err);
    if (st != STATUS_OK)
        print_message("%s\n", err.msg);
    assert_int_equal(st, STATUS_OK);
    return id;
}

static void expect_oracle(const struct engine_request *r, uint64_t identity, int max_new,
                          const struct heard *h)
{
    struct oracle o;
    oracle_answer(r, identity, max_new, &o);
    assert_int_equal(h->last.kind, ENGINE_EVENT_DONE);
    assert_int_equal(h->count, o.count);
    for (int i = 0; i < o.count; i++)
        assert_memory_equal(&h->tokens[i], &o.tokens[i], sizeof o.tokens[i]);
    assert_int_equal(h->text_len, o.text.len);
    if (o.text.len)
        assert_memory_equal(h->text, o.text.data, o.text.len);
    assert_int_equal(h->last.finish, o.finish);
    assert_int_equal(h->last.usage.completion_tokens, o.count);
    assert_int_equal(h->last.usage.prompt_tokens, r->prompt_count);
    assert_int_equal(h->prompt_count, r->prompt_logprobs ? r->prompt_count - 1 : 0);
    oracle_deinit(&o);
}

static struct heard heard;

/* ---- answers ---- */

static void test_engine_answers_like_the_oracle(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, default_options());
    for (int n = 1; n < 100; n += 7) {
        struct engine_request r = request(n, (uint64_t)n, 40);
        run_until_ended(&rig, submit(&rig, &r), &heard);
        expect_oracle(&r, 0, 40, &heard);
    }
    assert_true(rig.notified > 0);
    rig_close(&rig);
}

static void use_adapter(struct rig *rig, struct engine_request *r, const char *name,
                        const char *path, float weight)
{
    struct err err;
    uint64_t generation;
    if (path)
        assert_int_equal(engine_adapter_add(rig->e, name, path, &generation, &err), STATUS_OK);
    struct engine_adapter_use *u = &r->adapters[r->adapter_count++];
    memset(u, 0, sizeof *u);
    memcpy(u->name, name, strlen(name));
    u->weight = weight;
}

static void test_engine_ends_where_it_should(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, default_options());
    for (int seed = 1; seed < 200; seed++) {
        struct engine_request r = request(5, (uint64_t)seed, seed % 3 ? 60 : 0);
        r.ignore_eos = seed & 1;
        r.min_tokens = seed % 5 ? 0 : 30;
        r.keep_special = seed & 2;
        r.include_stop = seed & 4;
        r.prompt_logprobs = seed & 8;
        if (seed & 16)
            r.stop[r.stop_count++] = (struct engine_stop){"ab", 2};
        if (seed & 32)
            r.stop_tokens[r.stop_token_count++] = 30;
        run_until_ended(&rig, submit(&rig, &r), &heard);
        expect_oracle(&r, 0, seed % 3 ? 60 : 512 - 5, &heard);
        bool tokens_only = r.stop_count == 0;
        assert_true(heard.count >= r.min_tokens || !tokens_only);
    }
    rig_close(&rig);
}

static void test_engine_tells_the_usage(void **state)
{
    (void)state;
    struct rig rig;
    struct engine_stats st;
    rig_open(&rig, default_options());
    struct engine_request r = request(50, 3, 10);
    r.ignore_eos = true;
    run_until_ended(&rig, submit(&rig, &r), &heard);
    const struct engine_usage *u = &heard.last.usage;
    assert_int_equal(u->prompt_tokens, 50);
    assert_int_equal(u->completion_tokens, 10);
    assert_true(u->queue_ns >= 0 && u->prompt_ns > 0 && u->decode_ns > 0);
    engine_get_stats(rig.e, &st);
    assert_int_equal(st.requests_accepted, 1);
    assert_int_equal(st.requests_done, 1);
    assert_int_equal(st.tokens_in, 50);
    assert_int_equal(st.tokens_out, 10);
    assert_int_equal(st.rows, 59);     /* the last token is never computed */
    assert_int_equal(st.steps, 3 + 9); /* chunks of 24, 24 and 2; then a row each */
    assert_int_equal(st.kv_pages_used, 0);
    assert_true(st.kv_pages_cached == 3 && st.last_beat_ns > 0);
    rig_close(&rig);
}

/* ---- prefix cache ---- */

static int cached(struct rig *rig, const struct engine_request *r)
{
    run_until_ended(rig, submit(rig, r), &heard);
    assert_int_equal(heard.last.kind, ENGINE_EVENT_DONE);
    return heard.last.usage.cached_tokens;
}

/* The last prompt token is always computed: its logits are the answer. */
static void test_engine_caches_full_pages_before_the_last_token(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, default_options());
    static const int cases[][2] = {{16, 0}, {17, 16}, {31, 16}, {32, 16}, {33, 32}, {65, 64}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct engine_request r = request(cases[i][0], 1, 1);
        r.cache_salt = (const char[]){(char)('a' + i), '\0'};
        assert_int_equal(cached(&rig, &r), 0);
        assert_int_equal(cached(&rig, &r), cases[i][1]);
        expect_oracle(&r, 0, 1, &heard);
    }
    rig_close(&rig);
}

static void test_engine_caches_the_next_turn(void **state)
{
    (void)state;
    struct rig rig;
    int32_t longer[200];
    rig_open(&rig, default_options());
    struct engine_request r = request(40, 1, 60);
    r.ignore_eos = true;
    assert_int_equal(cached(&rig, &r), 0);
    memcpy(longer, prompt_tokens, 40 * sizeof *longer);
    for (int i = 0; i < 60; i++)
        longer[40 + i] = heard.tokens[i].token;
    longer[100] = 5;
    r.prompt = longer;
    r.prompt_count = 101;
    assert_int_equal(cached(&rig, &r), 96); /* 99 tokens were computed: six full pages */
    expect_oracle(&r, 0, 60, &heard);
    rig_close(&rig);
}

/* KV is found only by who would have computed the very same. */
static void test_engine_caches_nothing_across_identities(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, default_options());
    struct engine_request base = request(64, 1, 1), r = base;
    assert_int_equal(cached(&rig, &base), 0);

    r.cache_salt = "mine";
    assert_int_equal(cached(&rig, &r), 0);
    r.cache_salt = "yours";
    assert_int_equal(cached(&rig, &r), 0);

    r = base;
    use_adapter(&rig, &r, "elf", "bytes", 1.0f);
    assert_int_equal(cached(&rig, &r), 0);
    assert_int_equal(cached(&rig, &r), 48);
    r.adapters[0].weight = 0.5f;
    assert_int_equal(cached(&rig, &r), 0);

    r.adapter_count = 0; /* the same bytes under the same name again: another generation */
    use_adapter(&rig, &r, "elf", "bytes", 1.0f);
    assert_int_equal(cached(&rig, &r), 0);
    use_adapter(&rig, &r, "orc", "other", 1.0f);
    assert_int_equal(cached(&rig, &r), 0);
    assert_int_equal(cached(&rig, &r), 48);
    struct engine_adapter_use first = r.adapters[0]; /* the other order: other sums */
    r.adapters[0] = r.adapters[1];
    r.adapters[1] = first;
    assert_int_equal(cached(&rig, &r), 0);

    assert_int_equal(cached(&rig, &base), 48); /* and the base still has its own */
    rig_close(&rig);
}

/* Two prompts whose second pages hold the same tokens behind different first pages: other KV. */
static void test_engine_caches_a_page_only_behind_its_own(void **state)
{
    (void)state;
    struct rig rig;
    int32_t other[48];
    rig_open(&rig, default_options());
    struct engine_request r = request(48, 1, 8);
    assert_int_equal(cached(&rig, &r), 0);
    memcpy(other, prompt_tokens, sizeof other);
    other[3]++;
    r.prompt = other;
    r.prompt_count = 17;
    assert_int_equal(cached(&rig, &r), 0);
    r.prompt_count = 48; /* its first page is there, its second only behind another first */
    assert_int_equal(cached(&rig, &r), 16);
    expect_oracle(&r, 0, 8, &heard);
    assert_int_equal(cached(&rig, &r), 32);
    expect_oracle(&r, 0, 8, &heard);
    rig_close(&rig);
}

static void test_engine_cache_is_asked_for(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, default_options());
    struct engine_request r = request(64, 1, 1);
    r.cache_prompt = false; /* neither read nor left behind */
    assert_int_equal(cached(&rig, &r), 0);
    r.cache_prompt = true;
    assert_int_equal(cached(&rig, &r), 0);
    r.prompt_logprobs = true; /* every row is wanted */
    assert_int_equal(cached(&rig, &r), 0);
    expect_oracle(&r, 0, 1, &heard);
    r.prompt_logprobs = false;
    assert_int_equal(cached(&rig, &r), 48);
    rig_close(&rig);

    struct engine_options opt = default_options();
    opt.prefix_cache = false;
    rig_open(&rig, opt);
    assert_int_equal(cached(&rig, &r), 0);
    assert_int_equal(cached(&rig, &r), 0);
    rig_close(&rig);
}

/* ---- refusals ---- */

struct refusal {
    enum status status;
    const char *param;
    void (*spoil)(struct engine_request *r);
};

static int32_t foreign_token[] = {5, FAKE_VOCAB};
static struct logit_bias foreign_bias[] = {{-1, 1.0f}};

#define SPOIL(name, ...)                                                                           \
    static void spoil_##name(struct engine_request *r)                                             \
    {                                                                                              \
        __VA_ARGS__;                                                                               \
    }
SPOIL(empty, r->prompt_count = 0)
SPOIL(long_prompt, r->prompt_count = 512)
SPOIL(long_answer, r->max_tokens = 503)
SPOIL(pool, r->prompt_count = 200; r->max_tokens = 100)
SPOIL(negative, r->max_tokens = -1)
SPOIL(least, r->min_tokens = 11)
SPOIL(token, r->prompt = foreign_token; r->prompt_count = 2)
SPOIL(temperature, r->sampling.temperature = -0.1f)
SPOIL(nan, r->sampling.top_p = 0.0f / 0.0f)
SPOIL(top_k, r->sampling.top_k = -1)
SPOIL(penalty, r->sampling.repetition_penalty = 0)
SPOIL(logprobs, r->sampling.logprobs = LIMIT_TOP_LOGPROBS + 1)
SPOIL(bias, r->sampling.bias = foreign_bias; r->sampling.bias_count = 1)
SPOIL(empty_stop, r->stop_count = 1)
SPOIL(half_stop, r->stop[0] = (struct engine_stop){"\xc3", 1}; r->stop_count = 1)
SPOIL(many_stops, r->stop_count = LIMIT_STOP_STRINGS + 1)
SPOIL(stop_token, r->stop_tokens[0] = FAKE_VOCAB; r->stop_token_count = 1)
SPOIL(unknown, memcpy(r->adapters[0].name, "nobody", 7); r->adapters[0].weight = 1;
      r->adapter_count = 1)
SPOIL(twice, memcpy(r->adapters[0].name, "elf", 4); memcpy(r->adapters[1].name, "elf", 4);
      r->adapter_count = 2)
SPOIL(weight, memcpy(r->adapters[0].name, "elf", 4); r->adapters[0].weight = 1.0f / 0.0f;
      r->adapter_count = 1)
SPOIL(many_adapters, r->adapter_count = LIMIT_ADAPTERS_PER_REQUEST + 1)
SPOIL(slots, for (int i = 0; i < 4; i++) r->adapters[i].name[0] = (char)('a' + i);
      r->adapter_count = 4)

static char long_salt[LIMIT_SALT_BYTES + 2];
SPOIL(salt, memset(long_salt, 'x', sizeof long_salt - 1); r->cache_salt = long_salt)

static void test_engine_refuses_bad_requests(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        {STATUS_INVALID, "prompt", spoil_empty},
        {STATUS_CONTEXT_LENGTH, "prompt", spoil_long_prompt},
        {STATUS_CONTEXT_LENGTH, "max_tokens", spoil_long_answer},
        {STATUS_LIMIT, "max_tokens", spoil_pool},
        {STATUS_INVALID, "max_tokens", spoil_negative},
        {STATUS_INVALID, "min_tokens", spoil_least},
        {STATUS_INVALID, "prompt", spoil_token},
        {STATUS_INVALID, "temperature", spoil_temperature},
        {STATUS_INVALID, "top_p", spoil_nan},
        {STATUS_INVALID, "top_k", spoil_top_k},
        {STATUS_INVALID, "repetition_penalty", spoil_penalty},
        {STATUS_INVALID, "top_logprobs", spoil_logprobs},
        {STATUS_INVALID, "logit_bias", spoil_bias},
        {STATUS_INVALID, "stop", spoil_empty_stop},
        {STATUS_INVALID, "stop", spoil_half_stop},
        {STATUS_INVALID, "stop", spoil_many_stops},
        {STATUS_INVALID, "stop_token_ids", spoil_stop_token},
        {STATUS_ADAPTER_NOT_FOUND, "adapter", spoil_unknown},
        {STATUS_INVALID, "adapter", spoil_twice},
        {STATUS_INVALID, "adapter", spoil_weight},
        {STATUS_INVALID, "adapter", spoil_many_adapters},
        {STATUS_LIMIT, "adapter", spoil_slots},
        {STATUS_INVALID, "cache_salt", spoil_salt},
    };
    struct rig rig;
    struct engine_options opt = default_options();
    opt.ctx_max = 512;
    opt.kv_pages = 16;
    rig_open(&rig, opt);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct engine_request r = request(10, 1, 10);
        struct err err = {0};
        uint64_t id = 77;
        cases[i].spoil(&r);
        enum status st = engine_submit(rig.e, &r, &id, NULL, &err);
        if (st != cases[i].status || strcmp(err.param, cases[i].param) != 0)
            fail_msg("case %zu: %s param '%s', expected %s param '%s'", i, status_code(st),
                     err.param, status_code(cases[i].status), cases[i].param);
        assert_int_equal(id, 77);
        assert_true(err.msg[0]);
    }
    rig_close(&rig);
}

/* prompt + max_tokens may take the context to its last token, and not one more. */
static void test_engine_context_is_exact(void **state)
{
    (void)state;
    struct rig rig;
    struct err err;
    uint64_t id;
    rig_open(&rig, default_options());
    struct engine_request r = request(500, 1, 12);
    r.ignore_eos = true;
    run_until_ended(&rig, submit(&rig, &r), &heard);
    expect_oracle(&r, 0, 12, &heard);
    r.max_tokens = 13;
    assert_int_equal(engine_submit(rig.e, &r, &id, NULL, &err), STATUS_CONTEXT_LENGTH);
    assert_non_null(strstr(err.msg, "512"));
    assert_non_null(strstr(err.msg, "513"));
    rig_close(&rig);

    struct engine_options opt = default_options();
    opt.ctx_max = 512;
    opt.kv_pages = 2; /* 32 tokens of KV: 33 with the last one */
    rig_open(&rig, opt);
    r = request(20, 1, 13);
    r.ignore_eos = true;
    run_until_ended(&rig, submit(&rig, &r), &heard);
    expect_oracle(&r, 0, 13, &heard);
    r.max_tokens = 14;
    assert_int_equal(engine_submit(rig.e, &r, &id, NULL, &err), STATUS_LIMIT);
    r.max_tokens = 0; /* as many as there is room for */
    run_until_ended(&rig, submit(&rig, &r), &heard);
    expect_oracle(&r, 0, 13, &heard);
    rig_close(&rig);
}

static void test_engine_queue_has_an_end(void **state)
{
    (void)state;
    struct rig rig;
    struct err err;
    uint64_t ids[13], one_more;
    rig_open(&rig, default_options());
    struct engine_request r = request(10, 1, 5);
    for (int i = 0; i < 12; i++) /* 4 that run and 8 that wait */
        ids[i] = submit(&rig, &r);
    assert_int_equal(engine_submit(rig.e, &r, &one_more, NULL, &err), STATUS_BUSY);
    run_until_ended(&rig, ids[0], &heard);
    ids[12] = submit(&rig, &r);
    for (int i = 1; i < 13; i++)
        run_until_ended(&rig, ids[i], &heard);
    rig_close(&rig);
}

/* ---- company ---- */

static void test_engine_preempts_and_resumes_bit_equal(void **state)
{
    (void)state;
    struct rig rig;
    struct engine_options opt = default_options();
    struct engine_stats st;
    static struct heard all[4];
    struct engine_request r[4];
    uint64_t ids[4];
    bool ended = false;
    opt.kv_pages = 14; /* a fifth of what four want */
    opt.prefix_cache = false;
    rig_open(&rig, opt);
    memset(all, 0, sizeof all);
    for (int i = 0; i < 4; i++) {
        r[i] = request(20 + i, (uint64_t)i + 1, 150);
        r[i].ignore_eos = true;
        r[i].prompt_logprobs = i & 1;
        ids[i] = submit(&rig, &r[i]);
    }
    for (int turns = 0; !ended; turns++) {
        assert_true(turns < 5000);
        engine_turn(rig.e);
        engine_check(rig.e);
        ended = true;
        for (int i = 0; i < 4; i++) {
            hear(rig.e, ids[i], &all[i]);
            ended = ended && all[i].ended;
        }
    }
    for (int i = 0; i < 4; i++)
        expect_oracle(&r[i], 0, 150, &all[i]);
    engine_get_stats(rig.e, &st);
    assert_true(st.preemptions > 0);
    rig_close(&rig);
}

/* Nobody reads the first: it pauses, the second goes on a token a step; a read wakes the first. */
static void test_engine_pauses_who_is_not_read(void **state)
{
    (void)state;
    struct rig rig;
    struct engine_stats st;
    rig_open(&rig, default_options());
    struct engine_request r = request(8, 1, 200), other = request(9, 2, 200);
    r.ignore_eos = other.ignore_eos = true;
    uint64_t id = submit(&rig, &r), other_id = submit(&rig, &other);
    static struct heard quiet, loud;
    memset(&quiet, 0, sizeof quiet);
    memset(&loud, 0, sizeof loud);
    for (int turn = 0; turn < 150; turn++) {
        assert_true(engine_turn(rig.e));
        hear(rig.e, other_id, &loud);
        assert_int_equal(loud.count, turn + 1);
    }
    engine_get_stats(rig.e, &st);
    assert_int_equal(st.last_step_seqs, 1);
    assert_true(st.tokens_out < 150 + LIMIT_OUTBOX_EVENTS);
    run_until_ended(&rig, other_id, &heard);
    assert_false(engine_turn(rig.e)); /* idle, not spinning */
    rig.e->signal = false;
    hear(rig.e, id, &quiet);
    assert_true(rig.e->signal);
    while (!quiet.ended) {
        engine_turn(rig.e);
        hear(rig.e, id, &quiet);
    }
    expect_oracle(&r, 0, 200, &quiet);
    rig_close(&rig);
}

static void test_engine_ready_tells_each_once(void **state)
{
    (void)state;
    struct rig rig;
    uint64_t ready[8], ids[3];
    struct engine_event ev;
    rig_open(&rig, default_options());
    struct engine_request r = request(8, 1, 50);
    r.ignore_eos = true;
    for (int i = 0; i < 3; i++)
        ids[i] = submit(&rig, &r);
    assert_int_equal(engine_ready(rig.e, ready, 8), 0);
    engine_turn(rig.e);
    assert_int_equal(rig.notified, 1); /* one call for all */
    assert_int_equal(engine_ready(rig.e, ready, 2), 2);
    assert_int_equal(engine_ready(rig.e, ready + 2, 8), 1);
    for (int i = 0; i < 3; i++)
        assert_true(ready[i] == ids[i]);
    engine_turn(rig.e); /* nobody read: nothing became ready */
    assert_int_equal(rig.notified, 1);
    assert_int_equal(engine_ready(rig.e, ready, 8), 0);
    while (engine_read(rig.e, ids[1], &ev, 1) == 1)
        ;
    engine_turn(rig.e);
    assert_int_equal(rig.notified, 2);
    assert_int_equal(engine_ready(rig.e, ready, 8), 1);
    assert_true(ready[0] == ids[1]);
    assert_int_equal(engine_read(rig.e, 12345, &ev, 1), 0);
    for (int i = 0; i < 3; i++)
        run_until_ended(&rig, ids[i], &heard);
    rig_close(&rig);
}

/* ---- early ends ---- */

static void test_engine_cancels_within_one_step(void **state)
{
    (void)state;
    for (int at = 0; at < 8; at++) { /* waiting, in prefill, in decode */
        struct rig rig;
        struct engine_stats st;
        rig_open(&rig, default_options());
        struct engine_request r = request(60, 1, 100);
        r.ignore_eos = true;
        uint64_t id = submit(&rig, &r);
        for (int i = 0; i < at; i++)
            engine_turn(rig.e);
        engine_get_stats(rig.e, &st);
        uint64_t rows = st.rows;
        engine_cancel(rig.e, id);
        engine_cancel(rig.e, id);
        engine_turn(rig.e);
        memset(&heard, 0, sizeof heard);
        hear(rig.e, id, &heard);
        assert_true(heard.ended);
        assert_int_equal(heard.last.kind, ENGINE_EVENT_CANCELLED);
        assert_int_equal(heard.count, at < 3 ? 0 : at - 2);
        assert_int_equal(heard.last.usage.completion_tokens, heard.count);
        engine_get_stats(rig.e, &st);
        assert_int_equal(st.rows, rows); /* nothing more was computed */
        assert_int_equal(st.kv_pages_used, 0);
        assert_int_equal(st.requests_cancelled, 1);
        engine_cancel(rig.e, id); /* unknown by now */
        rig_close(&rig);
    }
}

static void test_engine_drain_lets_the_running_finish(void **state)
{
    (void)state;
    struct rig rig;
    struct err err;
    struct engine_options opt = default_options();
    opt.seqs_max = 1;
    rig_open(&rig, opt);
    struct engine_request r = request(10, 1, 20);
    r.ignore_eos = true;
    uint64_t running = submit(&rig, &r), waiting = submit(&rig, &r), id;
    engine_turn(rig.e);
    engine_drain(rig.e);
    assert_int_equal(engine_submit(rig.e, &r, &id, NULL, &err), STATUS_DRAINING);
    run_until_ended(&rig, waiting, &heard);
    assert_int_equal(heard.last.kind, ENGINE_EVENT_ERROR);
    assert_int_equal(heard.last.err.code, STATUS_DRAINING);
    run_until_ended(&rig, running, &heard);
    expect_oracle(&r, 0, 20, &heard);
    rig_close(&rig);
}

static void test_engine_close_ends_everything(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, default_options());
    struct engine_request r = request(10, 1, 0);
    use_adapter(&rig, &r, "elf", "bytes", 1.0f);
    for (int i = 0; i < 10; i++)
        submit(&rig, &r);
    for (int i = 0; i < 5; i++)
        engine_turn(rig.e);
    submit(&rig, &r);
    rig_close(&rig);
}

/* ---- trouble ---- */

static void test_engine_device_loss_is_told_to_all(void **state)
{
    (void)state;
    for (int fault = FAKE_FAULT_BEGIN; fault <= FAKE_FAULT_FINISH; fault++) {
        struct rig rig;
        struct err err;
        struct engine_stats st;
        uint64_t ids[6], id;
        rig_open(&rig, default_options());
        struct engine_request r = request(10, 1, 50);
        use_adapter(&rig, &r, "elf", "bytes", 1.0f);
        for (int i = 0; i < 6; i++)
            ids[i] = submit(&rig, &r);
        rig.f->fault = (enum fake_fault)fault;
        rig.f->fault_in = 4;
        rig.f->fault_status = fault & 1 ? STATUS_DEVICE_LOST : STATUS_NO_MEMORY;
        for (int i = 0; i < 6; i++) {
            run_until_ended(&rig, ids[i], &heard);
            assert_int_equal(heard.last.kind, ENGINE_EVENT_ERROR);
            assert_int_equal(heard.last.err.code, rig.f->fault_status);
            assert_true(heard.last.err.msg[0]);
        }
        assert_int_equal(engine_submit(rig.e, &r, &id, NULL, &err), STATUS_DEVICE_LOST);
        engine_get_stats(rig.e, &st);
        assert_int_equal(st.requests_failed, 6);
        assert_int_equal(st.kv_pages_used, 0);
        assert_int_equal(engine_adapter_remove(rig.e, "elf", &err), STATUS_OK);
        rig_close(&rig);
    }
}

/* An adapter that does not fit the device is the trouble of who asked for it. */
static void test_engine_adapter_load_failure_is_told_to_its_users(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, default_options());
    struct engine_request r = request(10, 1, 20), plain = r;
    use_adapter(&rig, &r, "elf", "bytes", 1.0f);
    rig.f->fault = FAKE_FAULT_LOAD;
    rig.f->fault_in = 1;
    rig.f->fault_status = STATUS_NO_MEMORY;
    uint64_t id = submit(&rig, &r), plain_id = submit(&rig, &plain);
    run_until_ended(&rig, id, &heard);
    assert_int_equal(heard.last.kind, ENGINE_EVENT_ERROR);
    assert_int_equal(heard.last.err.code, STATUS_NO_MEMORY);
    run_until_ended(&rig, plain_id, &heard);
    expect_oracle(&plain, 0, 20, &heard);
    run_until_ended(&rig, submit(&rig, &r), &heard); /* and it may be tried again */
    expect_oracle(&r, fake_identity_add(0, fake_identity_of("bytes"), 1.0f), 20, &heard);
    rig_close(&rig);
}

static void test_engine_submit_without_memory(void **state)
{
    (void)state;
    struct rig rig;
    struct engine_stats st;
    int refused = 0;
    rig_open(&rig, default_options());
    struct engine_request r = request(100, 1, 20);
    use_adapter(&rig, &r, "elf", "bytes", 1.0f);
    r.stop[r.stop_count++] = (struct engine_stop){"zz", 2};
    for (enum status got = STATUS_NO_MEMORY; got != STATUS_OK; refused++) {
        struct err err;
        uint64_t id;
        mem_fail_at(refused + 1);
        got = engine_submit(rig.e, &r, &id, NULL, &err);
        mem_fail_at(0);
        assert_true(got == STATUS_OK || got == STATUS_NO_MEMORY);
        if (got == STATUS_OK)
            run_until_ended(&rig, id, &heard);
    }
    assert_true(refused > 2);
    engine_get_stats(rig.e, &st);
    assert_int_equal(st.requests_accepted, 1);
    rig_close(&rig);
}

static void test_engine_create_without_memory(void **state)
{
    (void)state;
    struct engine_options opt = default_options();
    struct engine *e = NULL;
    int k = 1;
    fake_model_init(&model, 512);
    for (enum status got = STATUS_NO_MEMORY; got != STATUS_OK; k++) {
        struct err err = {0};
        struct fake_backend *f = fake_backend_open(false);
        struct engine_parts parts = {.model = &model,
                                     .eos = fake_eos,
                                     .eos_count = FAKE_EOS_COUNT,
                                     .backend = &f->base,
                                     .detok = fake_detok,
                                     .adapters = fake_adapters};
        mem_fail_at(k);
        got = engine_create(&opt, &parts, &e, &err);
        mem_fail_at(0);
        if (got != STATUS_OK) {
            assert_int_equal(got, STATUS_NO_MEMORY);
            assert_int_equal(err.code, STATUS_NO_MEMORY);
            f->base.ops->close(&f->base);
        }
    }
    assert_true(k > 20);
    engine_close(e);
}

/* A detokeniser that breaks its promise costs the request, not the server. */
static void test_engine_survives_too_much_text(void **state)
{
    (void)state;
    struct engine_options opt = default_options();
    struct rig rig = {0};
    struct err err;
    fake_model_init(&model, 512);
    rig.f = fake_backend_open(false);
    struct engine_parts parts = {.model = &model,
                                 .eos = fake_eos,
                                 .eos_count = FAKE_EOS_COUNT,
                                 .backend = &rig.f->base,
                                 .detok = fake_detok,
                                 .adapters = fake_adapters};
    parts.detok.text_max = 100;
    assert_int_equal(engine_create(&opt, &parts, &rig.e, &err), STATUS_OK);
    struct engine_request r = request(10, 1, 0);
    r.ignore_eos = true;
    run_until_ended(&rig, submit(&rig, &r), &heard);
    assert_int_equal(heard.last.kind, ENGINE_EVENT_ERROR);
    assert_int_equal(heard.last.err.code, STATUS_LIMIT);
    rig_close(&rig);
}

/* ---- adapters ---- */

static void test_engine_running_requests_keep_their_generation(void **state)
{
    (void)state;
    struct rig rig;
    struct err err;
    struct engine_adapter_use resolved[LIMIT_ADAPTERS_PER_REQUEST];
    struct engine_adapter_info info[4];
    uint64_t generation, id, next;
    struct engine_options opt = default_options();
    opt.slots_max = 1;
    rig_open(&rig, opt);
    struct engine_request r = request(10, 1, 60);
    r.ignore_eos = true;
    use_adapter(&rig, &r, "elf", "old", 1.0f);
    assert_int_equal(engine_submit(rig.e, &r, &id, resolved, &err), STATUS_OK);
    assert_int_equal(resolved[0].generation, 1);
    assert_string_equal(resolved[0].name, "elf");
    engine_turn(rig.e);
    assert_int_equal(engine_adapter_add(rig.e, "elf", "new", &generation, &err), STATUS_OK);
    assert_int_equal(generation, 2);
    next = submit(&rig, &r); /* waits: the only slot is the old one's */
    assert_int_equal(engine_adapters(rig.e, info, 4), 2);
    assert_int_equal(info[0].users, 1);
    assert_true(info[0].draining && info[0].resident && !info[1].resident);
    run_until_ended(&rig, id, &heard);
    expect_oracle(&r, fake_identity_add(0, fake_identity_of("old"), 1.0f), 60, &heard);
    run_until_ended(&rig, next, &heard);
    expect_oracle(&r, fake_identity_add(0, fake_identity_of("new"), 1.0f), 60, &heard);
    engine_turn(rig.e);
    assert_int_equal(engine_adapters(rig.e, info, 4), 1);
    assert_int_equal(engine_adapter_remove(rig.e, "elf", &err), STATUS_OK);
    engine_turn(rig.e);
    assert_int_equal(engine_adapters(rig.e, info, 4), 0);
    rig_close(&rig);
}

static void test_engine_shares_a_step_between_voices(void **state)
{
    (void)state;
    struct rig rig;
    struct engine_stats st;
    static struct heard all[4];
    struct engine_request r[4];
    uint64_t ids[4], identity[4];
    rig_open(&rig, default_options());
    memset(all, 0, sizeof all);
    for (int i = 0; i < 4; i++) {
        r[i] = request(5 + i, (uint64_t)i, 40);
        r[i].ignore_eos = true;
    }
    use_adapter(&rig, &r[1], "elf", "e", 1.0f);
    use_adapter(&rig, &r[2], "orc", "o", 1.0f);
    use_adapter(&rig, &r[3], "orc", NULL, 0.5f);
    use_adapter(&rig, &r[3], "elf", NULL, 0.25f);
    identity[0] = 0;
    identity[1] = fake_identity_add(0, fake_identity_of("e"), 1.0f);
    identity[2] = fake_identity_add(0, fake_identity_of("o"), 1.0f);
    identity[3] = fake_identity_add(fake_identity_add(0, fake_identity_of("o"), 0.5f),
                                    fake_identity_of("e"), 0.25f);
    for (int i = 0; i < 4; i++)
        ids[i] = submit(&rig, &r[i]);
    engine_turn(rig.e);
    engine_get_stats(rig.e, &st);
    assert_int_equal(st.last_step_seqs, 4);
    assert_int_equal(st.last_step_adapters, 2);
    assert_int_equal(st.last_step_rows, 5 + 6 + 7 + 8);
    for (int turn = 0; turn < 40; turn++) {
        for (int i = 0; i < 4; i++)
            hear(rig.e, ids[i], &all[i]);
        engine_turn(rig.e);
    }
    for (int i = 0; i < 4; i++) {
        hear(rig.e, ids[i], &all[i]);
        expect_oracle(&r[i], identity[i], 40, &all[i]);
    }
    rig_close(&rig);
}

/* ---- sizes ---- */

static enum status try_open(struct engine_options opt, size_t memory_bytes,
                            struct engine_info *info)
{
    struct err err;
    struct engine *e;
    fake_model_init(&model, 512);
    struct fake_backend *f = fake_backend_open(false);
    struct engine_parts parts = {.model = &model,
                                 .eos = fake_eos,
                                 .eos_count = FAKE_EOS_COUNT,
                                 .backend = &f->base,
                                 .detok = fake_detok,
                                 .adapters = fake_adapters,
                                 .memory_bytes = memory_bytes};
    enum status st = engine_create(&opt, &parts, &e, &err);
    if (st != STATUS_OK) {
        f->base.ops->close(&f->base);
        return st;
    }
    engine_get_info(e, info);
    engine_close(e);
    return st;
}

/* Admission, prompts, drawn tokens, ends and slots that change hands: all in memory that is there.
 */
static void test_engine_turns_allocate_nothing(void **state)
{
    (void)state;
    struct rig rig;
    static struct heard all[6];
    struct engine_request r[6];
    uint64_t ids[6], taken = 0;
    rig_open(&rig, default_options());
    memset(all, 0, sizeof all);
    for (int i = 0; i < 6; i++) {
        r[i] = request(5 + 7 * i, (uint64_t)i, 20 + i);
        r[i].ignore_eos = true;
    }
    use_adapter(&rig, &r[1], "elf", "e", 1.0f);
    use_adapter(&rig, &r[2], "orc", "o", 1.0f);
    use_adapter(&rig, &r[3], "orc", NULL, 0.5f);
    use_adapter(&rig, &r[3], "elf", NULL, 0.25f);
    for (int i = 0; i < 6; i++)
        ids[i] = submit(&rig, &r[i]);
    for (int turn = 0; turn < 100; turn++) {
        uint64_t before = mem_alloc_count();
        engine_turn(rig.e);
        taken += mem_alloc_count() - before;
        for (int i = 0; i < 6; i++)
            hear(rig.e, ids[i], &all[i]);
    }
    for (int i = 0; i < 6; i++)
        assert_int_equal(all[i].count, 20 + i);
    printf("figure: 100 turns over 6 requests took memory %llu times\n", (unsigned long long)taken);
    assert_int_equal(taken, 0);
    rig_close(&rig);
}

static void test_engine_sizes(void **state)
{
    (void)state;
    size_t page = LIMIT_KV_PAGE_TOKENS * sizeof(struct fake_cell), weights = 1 << 20;
    const struct {
        int ctx, pages, seqs;
        size_t memory; /* 0: unknown */
        int want_ctx, want_pages;
    } cases[] = {
        {0, 0, 4, 0, 512, 128},                      /* 4 sequences of 512 */
        {100, 0, 4, 0, 100, 28},                     /* 7 pages each */
        {0, 0, 4, weights + 2 * 50 * page, 512, 50}, /* half of what the weights leave */
        {0, 0, 4, weights + 2 * 10 * page, 160, 10}, /* less than one context: a shorter one */
        {0, 20, 4, 0, 320, 20},                      /* as asked for */
        {512, 20, 4, 0, 512, 20},                    /* both as asked for */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct engine_options opt = default_options();
        struct engine_info info = {0};
        opt.ctx_max = cases[i].ctx;
        opt.kv_pages = cases[i].pages;
        assert_int_equal(try_open(opt, cases[i].memory, &info), STATUS_OK);
        if (info.ctx_max != cases[i].want_ctx || info.kv_pages != cases[i].want_pages)
            fail_msg("case %zu: ctx %d, %d pages; expected %d, %d", i, info.ctx_max, info.kv_pages,
                     cases[i].want_ctx, cases[i].want_pages);
    }
    struct engine_options opt = default_options();
    struct engine_info info;
    opt.ctx_max = 512;
    opt.kv_pages = 0;
    assert_int_equal(try_open(opt, weights + 2 * 10 * page, &info), STATUS_NO_MEMORY);
    assert_int_equal(try_open(opt, 1000, &info), STATUS_NO_MEMORY);
    assert_true(engine_memory_available() > 1 << 20);
}

/* Rows of a step that nobody names are as many as a backend without a wish gets. */
static void test_engine_chooses_rows(void **state)
{
    (void)state;
    struct rig rig;
    struct engine_stats st;
    struct engine_options opt = default_options();
    opt.rows_max = opt.chunk_max = 0;
    rig_open(&rig, opt);
    struct engine_request r = request(400, 1, 4);
    submit(&rig, &r);
    engine_turn(rig.e);
    engine_get_stats(rig.e, &st);
    assert_int_equal(st.last_step_rows, 400);
    rig_close(&rig);
}

static void test_engine_refuses_bad_options(void **state)
{
    (void)state;
    struct engine_options bad[8];
    struct engine_info info;
    for (int i = 0; i < 8; i++)
        bad[i] = default_options();
    bad[0].seqs_max = 0;
    bad[1].seqs_max = LIMIT_SEQS + 1;
    bad[2].rows_max = 3;
    bad[3].slots_max = 0;
    bad[4].queue_max = 0;
    bad[5].ctx_max = 513;
    bad[6].wait_bound_steps = -1;
    bad[7].kv_pages = -1;
    for (int i = 0; i < 8; i++)
        assert_int_equal(try_open(bad[i], 0, &info), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engine_answers_like_the_oracle),
        cmocka_unit_test(test_engine_chooses_rows),
        cmocka_unit_test(test_engine_ends_where_it_should),
        cmocka_unit_test(test_engine_tells_the_usage),
        cmocka_unit_test(test_engine_caches_full_pages_before_the_last_token),
        cmocka_unit_test(test_engine_caches_the_next_turn),
        cmocka_unit_test(test_engine_caches_nothing_across_identities),
        cmocka_unit_test(test_engine_caches_a_page_only_behind_its_own),
        cmocka_unit_test(test_engine_cache_is_asked_for),
        cmocka_unit_test(test_engine_refuses_bad_requests),
        cmocka_unit_test(test_engine_context_is_exact),
        cmocka_unit_test(test_engine_queue_has_an_end),
        cmocka_unit_test(test_engine_preempts_and_resumes_bit_equal),
        cmocka_unit_test(test_engine_pauses_who_is_not_read),
        cmocka_unit_test(test_engine_ready_tells_each_once),
        cmocka_unit_test(test_engine_cancels_within_one_step),
        cmocka_unit_test(test_engine_drain_lets_the_running_finish),
        cmocka_unit_test(test_engine_close_ends_everything),
        cmocka_unit_test(test_engine_device_loss_is_told_to_all),
        cmocka_unit_test(test_engine_adapter_load_failure_is_told_to_its_users),
        cmocka_unit_test(test_engine_submit_without_memory),
        cmocka_unit_test(test_engine_create_without_memory),
        cmocka_unit_test(test_engine_survives_too_much_text),
        cmocka_unit_test(test_engine_running_requests_keep_their_generation),
        cmocka_unit_test(test_engine_shares_a_step_between_voices),
        cmocka_unit_test(test_engine_turns_allocate_nothing),
        cmocka_unit_test(test_engine_sizes),
        cmocka_unit_test(test_engine_refuses_bad_options),
    };
    log_setup(LOG_LEVEL_ERROR + 1, false);
    return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
