/* How a prompt comes into steps: whole where nobody else needs them, and beside streams so that
 * each of these has its token in every step. Over the fake backend. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "engine/backend.h"
#include "engine/base/log.h"
#include "engine/engine_internal.h"
#include "tests/sim/fake_backend.h"
#include "tests/sim/fake_text.h"

#define CTX     4200
#define STREAMS 3

static struct model model;
static int32_t prompt[CTX];

static int likes_2048(const struct backend *b)
{
    (void)b;
    return 2048;
}

/* Fewer than the sequences that may run, which are 8. */
static int likes_4(const struct backend *b)
{
    (void)b;
    return 4;
}

/* rows, chunk: 0 as where nobody names them. */
static struct engine *open_engine(bool ahead, int (*wish)(const struct backend *), int rows,
                                  int chunk)
{
    struct engine_options opt = {.model_dir = "fake",
                                 .backend = "fake",
                                 .seqs_max = 8,
                                 .rows_max = rows,
                                 .chunk_max = chunk,
                                 .kv_pages = 400,
                                 .slots_max = 1,
                                 .queue_max = 8,
                                 .wait_bound_steps = 8,
                                 .prefix_cache = true};
    struct engine *e;
    struct err err = {0};
    fake_model_init(&model, CTX);
    struct fake_backend *f = fake_backend_open(ahead);
    f->ops.rows_best = wish;
    struct engine_parts parts = {.model = &model,
                                 .eos = fake_eos,
                                 .eos_count = FAKE_EOS_COUNT,
                                 .backend = &f->base,
                                 .detok = fake_detok,
                                 .adapters = fake_adapters};
    if (engine_create(&opt, &parts, &e, &err) != STATUS_OK)
        fail_msg("%s", err.msg);
    return e;
}

/* The first token is the number's own, so that nothing is found in the prefix cache. */
static uint64_t submit(struct engine *e, int number, int tokens, int max_tokens)
{
    for (int i = 0; i < tokens; i++)
        prompt[i] = 3 + (number + i * 7 + i / 5) % (FAKE_VOCAB - 3);
    struct engine_request r = {
        .request_id = "rows",
        .prompt = prompt,
        .prompt_count = tokens,
        .sampling = {.top_p = 1, .typical_p = 1, .repetition_penalty = 1, .logprobs = -1},
        .max_tokens = max_tokens,
        .ignore_eos = true};
    struct err err = {0};
    uint64_t id = 0;
    if (engine_submit(e, &r, &id, NULL, &err) != STATUS_OK)
        fail_msg("%s", err.msg);
    return id;
}

/* Tokens that came; *ended is set with the last one. */
static int hear(struct engine *e, uint64_t id, bool *ended)
{
    struct engine_event ev;
    int tokens = 0;
    while (engine_read(e, id, &ev, 1) == 1) {
        assert_int_not_equal(ev.kind, ENGINE_EVENT_ERROR);
        tokens += ev.kind == ENGINE_EVENT_TOKEN;
        *ended = *ended || ev.kind == ENGINE_EVENT_DONE;
    }
    return tokens;
}

static struct engine_stats stats_of(struct engine *e)
{
    struct engine_stats st;
    engine_get_stats(e, &st);
    return st;
}

static void test_rows_of_an_idle_prompt(void **state)
{
    (void)state;
    static const struct {
        int (*wish)(const struct backend *);
        int rows, chunk, tokens, steps;
    } cases[] = {
        {likes_2048, 0, 0, 1, 1},       {likes_2048, 0, 0, 2047, 1},
        {likes_2048, 0, 0, 2048, 1},    {likes_2048, 0, 0, 2049, 2},
        {likes_2048, 0, 0, 4096, 2},    {likes_2048, 1024, 0, 2048, 2},
        {likes_2048, 0, 1000, 2048, 3}, {NULL, 0, 0, BACKEND_ROWS, 1},
        {NULL, 0, 0, 2048, 4},          {NULL, 2048, 0, 2048, 1},
        {likes_4, 0, 0, 12, 1},         {likes_4, 0, 0, 13, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int ahead = 0; ahead <= 1; ahead++) {
            struct engine *e = open_engine(ahead, cases[i].wish, cases[i].rows, cases[i].chunk);
            bool ended = false;
            uint64_t id = submit(e, 0, cases[i].tokens, 1);
            for (int turns = 0; !ended; turns++) {
                assert_true(turns < 20);
                engine_turn(e);
                (void)hear(e, id, &ended);
            }
            assert_int_equal(stats_of(e).steps, cases[i].steps);
            engine_check(e);
            engine_close(e);
        }
}

/* Streams that speak have a token of every step that a prompt shares, and the prompt brings no more
 * rows into it than a step, or a chunk, has. */
static void test_rows_beside_streams(void **state)
{
    (void)state;
    static const struct {
        int chunk, most, steps;
    } cases[] = {{0, 2048, 2}, {512, 512 + STREAMS, 8}, {100, 100 + STREAMS, 40}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int ahead = 0; ahead <= 1; ahead++) {
            struct engine *e = open_engine(ahead, likes_2048, 0, cases[i].chunk);
            uint64_t ids[STREAMS], id = 0;
            int told[STREAMS] = {0};
            bool ended = false, over = false;
            for (int k = 0; k < STREAMS; k++)
                ids[k] = submit(e, k + 1, 5, 100);
            uint64_t before = 0;
            for (int turns = 0; !ended; turns++) {
                assert_true(turns < 100);
                engine_turn(e);
                struct engine_stats st = stats_of(e);
                for (int k = 0; k < STREAMS; k++) {
                    told[k] += hear(e, ids[k], &over);
                    assert_int_equal(told[k], st.steps);
                }
                assert_in_range(st.last_step_rows, 0, cases[i].most);
                if (st.steps == 4 && !id) {
                    id = submit(e, 9, 4000, 1);
                    before = st.rows;
                }
                if (id)
                    (void)hear(e, id, &ended);
            }
            struct engine_stats st = stats_of(e);
            uint64_t mine = st.rows - before - 4000;
            /* With a step ahead, the one that flew when the prompt came is not of these. */
            assert_int_equal(mine, STREAMS * (cases[i].steps + ahead));
            engine_check(e);
            engine_close(e);
        }
}

int main(void)
{
    log_setup(LOG_LEVEL_ERROR, false);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_of_an_idle_prompt),
        cmocka_unit_test(test_rows_beside_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
