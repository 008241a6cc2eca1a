/* The engine over the fake backend, one request or a few at a time: what each option of a request
 * does, and how each kind of trouble is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

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
    rig->f = fake_backend_open();
    opt.notify = on_notify;
    opt.notify_ctx = rig;
    struct engine_parts parts = {
        .model = &model, .backend = &rig->f->base, .detok = fake_detok, .adapters = fake_adapters};
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

static void test_engine_answers_like_the_oracle(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, default_options());
    for (int n = 1; n < 100; n += 7) {
        struct engine_request r = request(n, (uint64_t)n, 40);
        uint64_t id = submit(&rig, &r);
        run_until_ended(&rig, id, &heard);
        expect_oracle(&r, 0, 40, &heard);
    }
    assert_true(rig.notified > 0);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engine_answers_like_the_oracle),
    };
    return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
