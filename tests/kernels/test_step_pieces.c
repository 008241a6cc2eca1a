/* Pieces against what every row asks for, over random batches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "cuda/step_pieces.h"
#include "engine/base/mem.h"
#include "tests/unit/cpu_fixture.h"

#define SEQS   12
#define ROWS   160
#define CTX    64
#define SLOTS  5
#define PIECES (LORA_ROUNDS * ROWS)

static int32_t tokens[CTX];
static int32_t pages[CTX / LIMIT_KV_PAGE_TOKENS];
static const struct sample_params params;

static struct batch_seq random_seq(struct fixture_rng *r, int rows_left)
{
    struct batch_seq q = {.tokens = tokens,
                          .pages = pages,
                          .page_count = CTX / LIMIT_KV_PAGE_TOKENS,
                          .params = &params};
    int most = rows_left < 40 ? rows_left : 40;
    q.rows = fixture_below(r, 3) == 0 ? 1 + fixture_below(r, most) : 1;
    q.computed = fixture_below(r, 20);
    q.token_count = q.computed + q.rows + (fixture_below(r, 4) == 0);
    q.prompt_count = q.token_count;
    q.score_from = fixture_below(r, 3) == 0 ? fixture_below(r, q.token_count) : q.token_count;
    q.adapter_count = fixture_below(r, LIMIT_ADAPTERS_PER_REQUEST + 1);
    for (int i = 0; i < q.adapter_count; i++) {
        q.slots[i] = fixture_below(r, SLOTS); /* now and then one twice */
        q.weights[i] = fixture_below(r, 2) ? 1.0f : 0.5f;
        int before = i ? q.from[i - 1] : 0;
        if (fixture_below(r, 2) == 0)
            before += fixture_below(r, q.computed + q.rows - before);
        q.from[i] = before;
    }
    return q;
}

/* Collects what the pieces give to each row of the view, in rounds' order. */
static void check_view(const struct batch_builder *b, const struct batch_seq *seqs,
                       enum step_view view, uint64_t seed)
{
    static const uint8_t slot_gain[SLOTS] = {0, 0, 1, 0, 0};
    const struct batch *t = &b->batch;
    int rows = view == VIEW_OUTS ? t->out_count : t->rows;
    struct lora_piece pieces[PIECES + 1];
    memset(pieces, 0x5a, sizeof pieces);
    struct lora_pieces head;
    step_pieces_build(t, view, slot_gain, pieces, &head);
    int max = step_pieces_max(rows, t->seqs), begin = 0, any_gain = 0;
    if (head.count > max || head.round_end[LORA_ROUNDS - 1] != head.count)
        fail_msg("seed %llu: %d pieces, at most %d", (unsigned long long)seed, head.count, max);
    assert_int_equal(pieces[head.count].slot, 0x5a5a5a5a);
    struct lora_piece got[ROWS][LORA_ROUNDS];
    int count[ROWS] = {0};
    for (int round = 0; round < LORA_ROUNDS; round++) {
        assert_true(head.round_end[round] >= begin);
        for (int i = begin; i < head.round_end[round]; i++) {
            const struct lora_piece *p = &pieces[i];
            assert_in_range(p->rows, 1, PIECE_ROWS);
            assert_true(p->row >= 0 && p->row + p->rows <= rows);
            any_gain |= slot_gain[p->slot];
            for (int row = p->row; row < p->row + p->rows; row++) {
                if (count[row] != round)
                    fail_msg("seed %llu: row %d has %d pieces before round %d",
                             (unsigned long long)seed, row, count[row], round);
                got[row][count[row]++] = *p;
            }
        }
        begin = head.round_end[round];
    }
    assert_int_equal(head.any_gain, any_gain);
    for (int row = 0; row < rows; row++) {
        int from = view == VIEW_OUTS ? t->out_row[row] : row;
        const struct batch_seq *q = &seqs[b->order[t->seq_of_row[from]]];
        int acting = 0;
        while (acting < q->adapter_count && q->from[acting] <= t->position[from])
            acting++;
        assert_int_equal(count[row], acting);
        for (int i = 0; i < acting; i++) {
            assert_int_equal(got[row][i].slot, q->slots[i]);
            assert_true(got[row][i].weight == q->weights[i]);
        }
    }
}

static void test_step_pieces_give_each_row_its_list(void **state)
{
    (void)state;
    struct batch_builder b;
    assert_int_equal(batch_init(&b, ROWS, SEQS, ROWS, CTX), STATUS_OK);
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        struct fixture_rng r = {seed};
        struct batch_seq seqs[SEQS];
        int count = fixture_below(&r, SEQS + 1), left = ROWS;
        for (int i = 0; i < count; i++) {
            seqs[i] = random_seq(&r, left - (count - 1 - i));
            left -= seqs[i].rows;
        }
        batch_build(&b, seqs, count);
        check_view(&b, seqs, VIEW_ROWS, seed);
        check_view(&b, seqs, VIEW_OUTS, seed);
    }
    batch_deinit(&b);
}

/* Every sequence its own four adapters: as many pieces as the bound says. */
static void test_step_pieces_bound_is_reached(void **state)
{
    (void)state;
    static const int shapes[][2] = {{1, 1}, {12, 12}, {20, 12}, {12 + 8 * 9, 12}};
    struct batch_builder b;
    assert_int_equal(batch_init(&b, ROWS, SEQS, ROWS, 4 * CTX), STATUS_OK);
    static int32_t many_tokens[4 * CTX], many_pages[4 * CTX / LIMIT_KV_PAGE_TOKENS];
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        int rows = shapes[i][0], count = shapes[i][1];
        struct batch_seq seqs[SEQS];
        for (int s = 0; s < count; s++) {
            int own = s == 0 ? rows - count + 1 : 1;
            seqs[s] = (struct batch_seq){.tokens = many_tokens,
                                         .token_count = own,
                                         .prompt_count = own,
                                         .rows = own,
                                         .pages = many_pages,
                                         .page_count = 4 * CTX / LIMIT_KV_PAGE_TOKENS,
                                         .score_from = own,
                                         .params = &params,
                                         .adapter_count = LIMIT_ADAPTERS_PER_REQUEST,
                                         .slots = {s, s, s, s},
                                         .weights = {1.0f, 1.0f, 1.0f, 1.0f}};
        }
        batch_build(&b, seqs, count);
        struct lora_piece pieces[PIECES];
        struct lora_pieces head;
        step_pieces_build(&b.batch, VIEW_ROWS, NULL, pieces, &head);
        if (head.count != step_pieces_max(rows, count))
            fail_msg("%d rows of %d sequences: %d pieces, bound %d", rows, count, head.count,
                     step_pieces_max(rows, count));
        assert_int_equal(head.any_gain, 0);
    }
    batch_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step_pieces_give_each_row_its_list),
        cmocka_unit_test(test_step_pieces_bound_is_reached),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
