#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/sched/batch.h"

#define ROWS 64
#define SEQS 8
#define OUTS 24
#define CTX  64

static const int32_t tokens[CTX] = {10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
                                    23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35};
static const int32_t pages[4] = {7, 3, 5, 1};
static const int32_t ends[2] = {0, 1};
static const struct sample_params params;

static struct batch_seq sequence(int token_count, int computed, int rows)
{
    return (struct batch_seq){.tokens = tokens,
                              .token_count = token_count,
                              .prompt_count = token_count,
                              .computed = computed,
                              .rows = rows,
                              .pages = pages,
                              .page_count = 4,
                              .score_from = token_count,
                              .params = &params,
                              .banned = ends,
                              .banned_count = 2};
}

static struct batch_seq with_adapters(int count, int first_slot, float first_weight,
                                      int second_slot)
{
    struct batch_seq q = sequence(20, 19, 1);
    q.adapter_count = count;
    q.slots[0] = first_slot;
    q.weights[0] = first_weight;
    q.slots[1] = second_slot;
    q.weights[1] = 1.0f;
    return q;
}

static void test_batch_lays_out_rows(void **state)
{
    (void)state;
    struct batch_builder b;
    assert_int_equal(batch_init(&b, ROWS, SEQS, OUTS, CTX), STATUS_OK);
    const struct batch *t = &b.batch;
    struct batch_seq seqs[] = {sequence(20, 19, 1), sequence(26, 14, 5), sequence(18, 0, 18)};
    batch_build(&b, seqs, 3);
    assert_int_equal(t->rows, 24);
    assert_int_equal(t->seqs, 3);
    assert_int_equal(t->page_stride, CTX / LIMIT_KV_PAGE_TOKENS);
    static const int begin[] = {0, 1, 6, 24}, kv_len[] = {20, 19, 18}, first[] = {19, 14, 0};
    for (int s = 0; s < 3; s++) {
        assert_int_equal(t->row_begin[s], begin[s]);
        assert_int_equal(t->kv_len[s], kv_len[s]);
        for (int r = begin[s]; r < begin[s + 1]; r++) {
            int at = first[s] + r - begin[s];
            assert_int_equal(t->seq_of_row[r], s);
            assert_int_equal(t->position[r], at);
            assert_int_equal(t->token[r], tokens[at]);
        }
        assert_memory_equal(&t->page_table[s * t->page_stride], pages, 2 * sizeof *pages);
    }
    assert_int_equal(t->segment_count, 0);
    /* The first and the last reach their newest token, the second is a chunk. */
    assert_int_equal(t->out_count, 2);
    assert_int_equal(t->out_row[0], 0);
    assert_int_equal(t->out_row[1], 23);
    assert_int_equal(b.out_seq[1], 2);
    assert_int_equal(b.out_index[1], 18);
    assert_int_equal(t->out[1].forced, -1);
    assert_int_equal(t->out[1].token_count, 18);
    assert_int_equal(t->out[1].banned_count, 2);
    batch_deinit(&b);
}

static void test_batch_scores_prompt_rows(void **state)
{
    (void)state;
    struct batch_builder b;
    assert_int_equal(batch_init(&b, ROWS, SEQS, OUTS, CTX), STATUS_OK);
    const struct batch *t = &b.batch;
    struct batch_seq q = sequence(10, 0, 10);
    q.score_from = 4; /* tokens 1 .. 3 were scored before a preemption */
    batch_build(&b, &q, 1);
    assert_int_equal(t->out_count, 7);
    for (int o = 0; o < 7; o++) {
        int index = 4 + o;
        assert_int_equal(t->out_row[o], index - 1);
        assert_int_equal(b.out_index[o], index);
        assert_int_equal(t->out[o].token_count, index);
        assert_int_equal(t->out[o].prompt_count, index);
        assert_int_equal(t->out[o].forced, index < 10 ? tokens[index] : -1);
        assert_int_equal(t->out[o].banned_count, index < 10 ? 0 : 2);
    }
    /* Output tokens that are computed again are not scored. */
    q = sequence(15, 0, 15);
    q.prompt_count = 10;
    q.score_from = 8;
    batch_build(&b, &q, 1);
    assert_int_equal(t->out_count, 3);
    assert_int_equal(b.out_index[1], 9);
    assert_int_equal(b.out_index[2], 15);
    assert_int_equal(t->out[2].prompt_count, 10);
    batch_deinit(&b);
}

static void expect_segment(const struct batch *t, int i, int slot, float weight, int begin, int end)
{
    const struct batch_segment *g = &t->segments[i];
    assert_true(i < t->segment_count);
    if (g->slot != slot || g->weight != weight || g->row_begin != begin || g->row_end != end)
        fail_msg("segment %d is slot %d x %g rows %d..%d, expected %d x %g rows %d..%d", i, g->slot,
                 (double)g->weight, g->row_begin, g->row_end, slot, (double)weight, begin, end);
}

static void test_batch_joins_equal_adapters(void **state)
{
    (void)state;
    struct batch_builder b;
    assert_int_equal(batch_init(&b, ROWS, SEQS, OUTS, CTX), STATUS_OK);
    struct batch_seq seqs[] = {
        with_adapters(1, 2, 1.0f, 0), with_adapters(0, 0, 0, 0),    with_adapters(1, 1, 1.0f, 0),
        with_adapters(1, 2, 1.0f, 0), with_adapters(1, 2, 0.5f, 0), with_adapters(0, 0, 0, 0),
    };
    batch_build(&b, seqs, 6);
    assert_int_equal(b.batch.segment_count, 3);
    expect_segment(&b.batch, 0, 1, 1.0f, 2, 3);
    expect_segment(&b.batch, 1, 2, 0.5f, 3, 4);
    expect_segment(&b.batch, 2, 2, 1.0f, 4, 6);
    /* Equal ones keep the order they were given in. */
    static const int order[] = {1, 5, 2, 4, 0, 3};
    for (int s = 0; s < 6; s++)
        assert_int_equal(b.order[s], order[s]);
    batch_deinit(&b);
}

/* Adapters of a blend are added in the request's own order, whatever its neighbours are. */
static void test_batch_keeps_the_order_of_blends(void **state)
{
    (void)state;
    struct batch_builder b;
    assert_int_equal(batch_init(&b, ROWS, SEQS, OUTS, CTX), STATUS_OK);
    struct batch_seq seqs[] = {
        with_adapters(2, 3, 1.0f, 1), /* 3 then 1 */
        with_adapters(2, 0, 1.0f, 1), /* 0 then 1: the 1 must not join the other's */
        with_adapters(1, 3, 1.0f, 0), /* 3 alone joins the blend's 3 */
        with_adapters(2, 3, 1.0f, 1),
    };
    batch_build(&b, seqs, 4);
    const struct batch *t = &b.batch;
    assert_int_equal(t->segment_count, 4);
    expect_segment(t, 0, 0, 1.0f, 0, 1);
    expect_segment(t, 1, 1, 1.0f, 0, 1);
    expect_segment(t, 2, 3, 1.0f, 1, 4);
    expect_segment(t, 3, 1, 1.0f, 2, 4);
    batch_deinit(&b);
}

/* An activated LoRA acts from its token on: in the middle of a chunk, or of what goes on. */
static void test_batch_begins_segments_within_rows(void **state)
{
    (void)state;
    struct batch_builder b;
    assert_int_equal(batch_init(&b, ROWS, SEQS, OUTS, CTX), STATUS_OK);
    struct batch_seq seqs[] = {with_adapters(1, 2, 1.0f, 0), with_adapters(2, 2, 1.0f, 1),
                               with_adapters(2, 2, 1.0f, 1)};
    seqs[0].computed = 10;
    seqs[0].rows = 8;
    seqs[0].from[0] = 13;
    seqs[1].from[1] = 5; /* long ago */
    seqs[2].computed = 4;
    seqs[2].rows = 9;
    seqs[2].from[1] = 12;
    batch_build(&b, seqs, 3);
    const struct batch *t = &b.batch;
    assert_int_equal(t->segment_count, 3);
    expect_segment(t, 0, 2, 1.0f, 3, 18);
    expect_segment(t, 1, 1, 1.0f, 8, 9);
    expect_segment(t, 2, 1, 1.0f, 17, 18);
    batch_deinit(&b);
}

/* Random blends: read row by row, the segments give each request its own list back. */
static void test_batch_segments_give_each_row_its_list(void **state)
{
    (void)state;
    struct batch_builder b;
    assert_int_equal(batch_init(&b, ROWS, SEQS, OUTS, CTX), STATUS_OK);
    srand(23);
    for (int round = 0; round < 3000; round++) {
        struct batch_seq seqs[SEQS];
        int count = 1 + rand() % SEQS;
        for (int s = 0; s < count; s++) {
            seqs[s] = sequence(20, 20 - 1 - rand() % 5, 1);
            seqs[s].rows = 1 + rand() % (20 - seqs[s].computed);
            seqs[s].adapter_count = rand() % (LIMIT_ADAPTERS_PER_REQUEST + 1);
            for (int k = 0; k < seqs[s].adapter_count; k++) {
                seqs[s].slots[k] = (rand() % 2 + k) % 5;
                seqs[s].weights[k] = rand() % 3 ? 1.0f : 0.5f;
                int end = seqs[s].computed + seqs[s].rows, before = k ? seqs[s].from[k - 1] : 0;
                seqs[s].from[k] = rand() % 2 ? before : before + rand() % (end - before);
            }
        }
        batch_build(&b, seqs, count);
        const struct batch *t = &b.batch;
        for (int r = 0; r < t->rows; r++) {
            const struct batch_seq *q = &seqs[b.order[t->seq_of_row[r]]];
            int n = 0;
            for (int i = 0; i < t->segment_count; i++) {
                const struct batch_segment *g = &t->segments[i];
                assert_true(i == 0 || t->segments[i - 1].row_begin <= g->row_begin);
                if (r < g->row_begin || r >= g->row_end)
                    continue;
                assert_true(n < q->adapter_count && q->from[n] <= t->position[r]);
                assert_int_equal(g->slot, q->slots[n]);
                assert_true(g->weight == q->weights[n]);
                n++;
            }
            assert_true(n == q->adapter_count || q->from[n] > t->position[r]);
        }
    }
    batch_deinit(&b);
}

static void test_batch_init_without_memory(void **state)
{
    (void)state;
    struct batch_builder b;
    for (int k = 1; k <= 13; k++) {
        mem_fail_at(k);
        assert_int_equal(batch_init(&b, ROWS, SEQS, OUTS, CTX), STATUS_NO_MEMORY);
    }
    mem_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_lays_out_rows),
        cmocka_unit_test(test_batch_scores_prompt_rows),
        cmocka_unit_test(test_batch_joins_equal_adapters),
        cmocka_unit_test(test_batch_keeps_the_order_of_blends),
        cmocka_unit_test(test_batch_begins_segments_within_rows),
        cmocka_unit_test(test_batch_segments_give_each_row_its_list),
        cmocka_unit_test(test_batch_init_without_memory),
    };
    return cmocka_run_group_tests_name("batch", tests, NULL, NULL);
}
