/* What the engine tells of its steps and its memory, over the fake backend, turn by turn. */
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

#define PROMPT 40

static struct model model;
static int32_t prompt[PROMPT];

static struct engine *open_engine(int chunk)
{
    struct engine_options opt = {.model_dir = "fake",
                                 .backend = "fake",
                                 .seqs_max = 8,
                                 .rows_max = 32,
                                 .chunk_max = chunk,
                                 .kv_pages = 64,
                                 .slots_max = 4,
                                 .queue_max = 8,
                                 .wait_bound_steps = 8};
    struct fake_backend *f = fake_backend_open(false);
    struct engine_parts parts = {.model = &model,
                                 .eos = fake_eos,
                                 .eos_count = FAKE_EOS_COUNT,
                                 .backend = &f->base,
                                 .detok = fake_detok,
                                 .adapters = fake_adapters};
    struct engine *e;
    struct err err;
    uint64_t generation;
    fake_model_init(&model, 512);
    for (int i = 0; i < PROMPT; i++)
        prompt[i] = 3 + i * 7 % (FAKE_VOCAB - 3);
    assert_int_equal(engine_create(&opt, &parts, &e, &err), STATUS_OK);
    assert_int_equal(engine_adapter_add(e, "elf", "elf", &generation, &err), STATUS_OK);
    assert_int_equal(engine_adapter_add(e, "villain", "villain", &generation, &err), STATUS_OK);
    return e;
}

static uint64_t ask(struct engine *e, int tokens, int max_tokens, const char *first,
                    const char *second)
{
    struct engine_request r = {.request_id = "test",
                               .prompt = prompt,
                               .prompt_count = tokens,
                               .sampling = {.top_p = 1, .typical_p = 1, .repetition_penalty = 1},
                               .max_tokens = max_tokens,
                               .ignore_eos = true};
    struct err err;
    uint64_t id;
    const char *const names[] = {first, second};
    r.sampling.logprobs = -1;
    for (int i = 0; i < 2 && names[i]; i++) {
        strncpy(r.adapters[i].name, names[i], LIMIT_NAME_BYTES);
        r.adapters[i].weight = 1;
        r.adapter_count++;
    }
    assert_int_equal(engine_submit(e, &r, &id, NULL, &err), STATUS_OK);
    return id;
}

/* Reads answers away until nobody runs. */
static void finish(struct engine *e, const uint64_t *ids, int count)
{
    struct engine_event ev;
    for (int turn = 0; turn < 20000; turn++) {
        bool busy = engine_turn(e);
        for (int i = 0; i < count; i++)
            while (engine_read(e, ids[i], &ev, 1) == 1)
                ;
        if (!busy && e->running_count + e->waiting_count == 0)
            return;
    }
    fail_msg("requests without an end");
}

static struct engine_step *steps_since(struct engine *e, uint64_t since, int max, int *count)
{
    struct engine_step *steps = mem_calloc((size_t)max, sizeof *steps);
    assert_non_null(steps);
    *count = engine_steps(e, since, steps, max);
    return steps;
}

static int rows_of(const struct engine_step *s, const char *name)
{
    for (int i = 0; i < s->party_count; i++)
        if (strcmp(s->parties[i].name, name) == 0)
            return s->parties[i].rows;
    return 0;
}

static void test_engine_live_tells_who_shares_a_step(void **state)
{
    (void)state;
    struct engine *e = open_engine(32);
    uint64_t ids[] = {ask(e, 5, 3, NULL, NULL), ask(e, 6, 3, "elf", NULL),
                      ask(e, 7, 3, "villain", NULL), ask(e, 8, 3, "elf", "villain")};
    finish(e, ids, 4);
    int count;
    struct engine_step *s = steps_since(e, 0, 16, &count);
    assert_int_equal(count, 3);
    const struct {
        int rows, prefill, base, elf, villain, out;
    } wanted[] = {{26, 26, 5, 14, 15, 4}, {4, 0, 1, 2, 2, 4}, {4, 0, 1, 2, 2, 4}};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(s[i].number, i + 1);
        assert_int_equal(s[i].seqs, 4);
        assert_int_equal(s[i].rows, wanted[i].rows);
        assert_int_equal(s[i].prefill_rows, wanted[i].prefill);
        assert_int_equal(s[i].decode_rows, wanted[i].rows - wanted[i].prefill);
        assert_int_equal(s[i].base_rows, wanted[i].base);
        assert_int_equal(rows_of(&s[i], "elf"), wanted[i].elf);
        assert_int_equal(rows_of(&s[i], "villain"), wanted[i].villain);
        assert_int_equal(s[i].tokens_out, wanted[i].out);
        assert_int_equal(s[i].kv_pages_used, 4);
        assert_int_equal(s[i].more_parties, 0);
        assert_true(s[i].took_ns >= 0 && (i == 0 || s[i].end_ns >= s[i - 1].end_ns));
    }
    mem_free(s);
    engine_close(e);
}

/* A prompt in chunks: rows of it are prefill, the one that draws the first token too. */
static void test_engine_live_tells_prompts_from_answers(void **state)
{
    (void)state;
    struct engine *e = open_engine(16);
    uint64_t id = ask(e, PROMPT, 2, "elf", NULL);
    finish(e, &id, 1);
    int count;
    struct engine_step *s = steps_since(e, 0, 16, &count);
    assert_int_equal(count, 4);
    static const int rows[] = {16, 16, 8, 1}, out[] = {0, 0, 1, 1};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(s[i].rows, rows[i]);
        assert_int_equal(s[i].prefill_rows, i < 3 ? rows[i] : 0);
        assert_int_equal(s[i].tokens_out, out[i]);
    }
    mem_free(s);
    engine_close(e);
}

static void test_engine_live_keeps_the_latest(void **state)
{
    (void)state;
    struct engine *e = open_engine(32);
    uint64_t id = ask(e, 4, 400, NULL, NULL);
    int count;
    struct engine_step *s = steps_since(e, 0, 8, &count);
    assert_int_equal(count, 0);
    mem_free(s);
    finish(e, &id, 1);
    const struct {
        uint64_t since;
        int max, count;
        uint64_t first;
    } cases[] = {
        {400, 8, 0, 0},   {399, 8, 1, 400},   {392, 8, 8, 393},
        {391, 9, 9, 392}, {0, 256, 256, 145}, /* the oldest that is kept */
        {0, 8, 8, 176},                       /* one of 32 */
        {1000, 8, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        s = steps_since(e, cases[i].since, cases[i].max, &count);
        assert_int_equal(count, cases[i].count);
        if (count > 0) {
            assert_int_equal(s[0].number, cases[i].first);
            assert_int_equal(s[count - 1].number, 400);
        }
        for (int k = 1; k < count; k++)
            assert_true(s[k].number > s[k - 1].number);
        mem_free(s);
    }
    engine_close(e);
}

static void test_engine_live_tells_memory(void **state)
{
    (void)state;
    struct engine *e = open_engine(32);
    uint64_t id = ask(e, 4, 3, "elf", NULL);
    struct engine_live l;
    engine_get_live(e, &l);
    size_t before = l.memory[0].used;
    assert_string_equal(l.memory[0].name, "adapters");
    finish(e, &id, 1);
    engine_get_live(e, &l);
    assert_int_equal(l.part_count, 2); /* the fake backend has nothing to tell */
    assert_true(l.memory[0].used > before);
    assert_string_equal(l.memory[1].name, "adapters_on_host");
    assert_true(l.memory[1].on_host && l.memory[1].used > 0 &&
                l.memory[1].used <= l.memory[1].bytes);
    engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engine_live_tells_who_shares_a_step),
        cmocka_unit_test(test_engine_live_tells_prompts_from_answers),
        cmocka_unit_test(test_engine_live_keeps_the_latest),
        cmocka_unit_test(test_engine_live_tells_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
