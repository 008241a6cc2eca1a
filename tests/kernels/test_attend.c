/* Attention of single rows against double arithmetic, and to the bit against itself: decoded,
 * as row of a prefill, in company, in other buckets. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kernels/attend_world.h"

#define PIECE(seq, first, rows)                                                                    \
    {                                                                                              \
        seq, first, rows, false                                                                    \
    }
#define MANY(seq, first, rows)                                                                     \
    {                                                                                              \
        seq, first, rows, true                                                                     \
    }

static const int contexts[] = {1, 15, 16, 17, 255, 256, 257, 1000};
#define CONTEXTS ((int)(sizeof contexts / sizeof *contexts))

static const struct world_shape shapes[] = {
    {1, 1, 8, 0, false},    {2, 1, 8, 20, true},     {2, 1, 64, 0, true},   {3, 3, 64, 0, false},
    {6, 2, 80, 0, false},   {8, 1, 128, 0, true},    {6, 2, 128, 0, false}, {2, 1, 128, 17, false},
    {4, 2, 128, 300, true}, {10, 1, 64, 0, false},   {4, 4, 96, 1, false},  {2, 1, 256, 0, true},
    {3, 1, 160, 100, true}, {2, 1, 100, 0, true},    {2, 2, 2, 0, false},   {1, 1, 34, 40, false},
    {2, 1, 250, 0, false},  {17, 1, 32, 270, false},
};
#define SHAPES ((int)(sizeof shapes / sizeof *shapes))

/* Makes the world of a shape with the keys and values that the test's state says. */
static void begin(void **state, struct world *w, const struct world_shape *shape, int seqs, int ctx)
{
    world_init(w, shape, *state ? *(const enum kv_type *)*state : KV_BF16, seqs, ctx);
}

/* One row a sequence, contexts of all kinds in one step. */
static void test_decode(void **state)
{
    for (int i = 0; i < SHAPES; i++) {
        struct world w;
        begin(state, &w, &shapes[i], CONTEXTS, 1000);
        struct world_step st = {.pieces = CONTEXTS, .one_row_each = true};
        for (int c = 0; c < CONTEXTS; c++) {
            world_fill(&w, c, contexts[c] - 1);
            st.piece[c] = (struct world_piece)PIECE(c, contexts[c] - 1, 1);
        }
        world_run(&w, &st);
        world_check(&w, &st);
        for (int c = 0; c < CONTEXTS; c++)
            st.piece[c].first++;
        st.rows_max = 32; /* another bucket */
        st.chunks_max = 8;
        world_step_free(&st);
        world_run(&w, &st);
        world_check(&w, &st);
        world_step_free(&st);
        world_deinit(&w);
    }
}

/* Prompts from the start and from the middle, and decoding rows between them. */
static void test_mixed(void **state)
{
    static const int picks[] = {1, 2, 4, 6, 8, 9, 13};
    for (size_t i = 0; i < sizeof picks / sizeof *picks; i++) {
        struct world w;
        begin(state, &w, &shapes[picks[i]], 5, 300);
        struct world_step st = {.piece = {PIECE(0, 0, 18), PIECE(1, 40, 1), PIECE(2, 250, 9),
                                          PIECE(3, 0, 1), PIECE(4, 15, 2)},
                                .pieces = 5};
        for (int s = 0; s < 5; s++)
            world_fill(&w, st.piece[s].seq, st.piece[s].first);
        world_run(&w, &st);
        world_check(&w, &st);
        world_step_free(&st);
        world_deinit(&w);
    }
}

static void expect_row(const struct world *w, const struct world_step *got,
                       const struct world_step *want, int seq, int pos, const char *what)
{
    const uint16_t *a = world_row(w, got, seq, pos), *b = world_row(w, want, seq, pos);
    assert_non_null(a);
    assert_non_null(b);
    kernel_test_equal(what, a, b, (size_t)(w->shape.heads * w->shape.head_dim) * 2);
}

/* The last rows of two prompts, computed in one step of many rows; then each again in other ways.
 */
static void test_bits(void **state)
{
    static const struct world_shape some[] = {{6, 2, 128, 0, true},
                                              {2, 1, 64, 0, false},
                                              {10, 1, 80, 0, false},
                                              {2, 1, 128, 300, false},
                                              {3, 1, 36, 0, true}};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        struct world w;
        begin(state, &w, &some[i], 6, 560);
        struct world_step all = {.piece = {PIECE(0, 510, 6), PIECE(1, 120, 4), PIECE(2, 0, 3)},
                                 .pieces = 3,
                                 .one_row_each = false};
        for (int s = 0; s < 6; s++)
            world_fill(&w, s, s < 3 ? all.piece[s].first : 100 * s + 7);
        world_run(&w, &all);
        world_check(&w, &all);
        static const int last[] = {515, 123, 2};
        struct world_step again = {.piece = {PIECE(0, 515, 1), PIECE(1, 123, 1), PIECE(2, 2, 1)},
                                   .pieces = 3};
        for (int each = 0; each < 4; each++) {
            again.one_row_each = each % 2;
            again.chunks_max = each ? 8 : 0;
            again.rows_max = each == 1 ? 8 : each ? 32 : 0;
            again.partial_rows = each == 3 ? 2 : 0;
            world_run(&w, &again);
            for (int s = 0; s < 3; s++)
                expect_row(&w, &again, &all, s, last[s], each % 2 ? "decoded" : "other bucket");
            world_step_free(&again);
        }
        struct world_step company = {.piece = {PIECE(3, 307, 1), PIECE(0, 515, 1), PIECE(5, 507, 1),
                                               PIECE(1, 123, 1), PIECE(4, 407, 1), PIECE(2, 2, 1)},
                                     .pieces = 6,
                                     .one_row_each = true};
        world_run(&w, &company);
        for (int s = 0; s < 3; s++)
            expect_row(&w, &company, &all, s, last[s], "in company");
        for (int s = 0; s < 3; s++) {
            struct world_step alone = {.piece = {PIECE(s, last[s] - s % 2, 1 + s % 2)},
                                       .pieces = 1};
            alone.one_row_each = s % 2 == 0;
            world_run(&w, &alone);
            expect_row(&w, &alone, &all, s, last[s], "alone");
            world_step_free(&alone);
        }
        world_step_free(&company);
        world_step_free(&all);
        world_deinit(&w);
    }
}

/* Parts of several chunks, as for contexts of many thousand tokens: right, and the same bits alone
 * and in company, decoded and as rows of a prompt, in one launch and in several. */
static void test_long(void **state)
{
    static const struct world_shape some[] = {{6, 2, 128, 0, true},   {2, 1, 64, 300, false},
                                              {3, 1, 80, 700, false}, {2, 1, 256, 0, false},
                                              {2, 2, 36, 0, true},    {10, 1, 96, 0, false}};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        struct world w;
        begin(state, &w, &some[i], 4, 1300);
        static const int last[] = {1299, 1023, 511, 300};
        struct world_step all = {
            .piece = {PIECE(0, 1298, 2), PIECE(1, 1022, 2), PIECE(2, 510, 2), PIECE(3, 300, 1)},
            .pieces = 4,
            .chunks_max = 8,
            .span = 2 + 2 * (int)(i % 2)};
        for (int s = 0; s < 4; s++)
            world_fill(&w, s, all.piece[s].first);
        world_run(&w, &all);
        world_check(&w, &all);
        for (int s = 0; s < 5; s++) {
            struct world_step again = {.piece = {PIECE(s, last[s % 4], 1)},
                                       .pieces = 1,
                                       .one_row_each = true,
                                       .chunks_max = 8,
                                       .span = all.span,
                                       .partial_rows = 1};
            for (int k = 0; k < 4 && s == 4; k++)
                again.piece[again.pieces++ - 1] = (struct world_piece)PIECE(k, last[k], 1);
            again.pieces -= s == 4;
            world_run(&w, &again);
            for (int k = 0; k < again.pieces; k++)
                expect_row(&w, &again, &all, again.piece[k].seq, again.piece[k].first, "long");
            world_step_free(&again);
        }
        world_step_free(&all);
        world_deinit(&w);
    }
    int spans[] = {1, 32, 33, 64, 512};
    for (int i = 0; i < 5; i++) {
        int span = attend_span(spans[i]);
        assert_true(attend_parts(spans[i], span, 0) <= ATTEND_PARTS_MAX);
        assert_int_equal(span, i < 2 ? 1 : i < 4 ? 2 : 16);
    }
}

/* Pieces of prompts beside single rows, tiles that are full and not, windows that begin inside. */
static void test_prefill(void **state)
{
    static const struct world_shape some[] = {
        {6, 2, 128, 0, true},    {2, 1, 8, 0, false},  {4, 4, 64, 0, false}, {3, 1, 80, 100, true},
        {8, 1, 96, 0, false},    {2, 1, 256, 0, true}, {2, 1, 32, 33, true}, {1, 1, 160, 5, false},
        {3, 1, 128, 123, false}, {2, 1, 40, 64, false}};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        struct world w;
        begin(state, &w, &some[i], 6, 320);
        struct world_step st = {.piece = {MANY(0, 0, 65), PIECE(1, 40, 1), MANY(2, 186, 130),
                                          PIECE(3, 257, 1), MANY(4, 15, 2), MANY(5, 63, 1)},
                                .pieces = 6};
        for (int s = 0; s < 6; s++)
            world_fill(&w, st.piece[s].seq, st.piece[s].first);
        world_run(&w, &st);
        world_check(&w, &st);
        world_step_free(&st);
        world_deinit(&w);
    }
}

/* A prompt whole, cut in two, and in company: the same bits of every row. */
static void test_prefill_bits(void **state)
{
    static const struct world_shape some[] = {{6, 2, 128, 0, true}, {2, 1, 64, 70, false}};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        struct world w;
        begin(state, &w, &some[i], 3, 240);
        world_fill(&w, 0, 20);
        world_fill(&w, 1, 100);
        world_fill(&w, 2, 9);
        struct world_step whole = {.piece = {MANY(0, 20, 180)}, .pieces = 1};
        world_run(&w, &whole);
        struct world_step cut[] = {
            {.piece = {MANY(0, 20, 77)}, .pieces = 1},
            {.piece = {MANY(1, 100, 50), MANY(0, 97, 1), PIECE(2, 9, 1)}, .pieces = 3},
            {.piece = {PIECE(1, 150, 1), MANY(2, 10, 5), MANY(0, 98, 102)}, .pieces = 3}};
        for (size_t k = 0; k < sizeof cut / sizeof *cut; k++) {
            world_run(&w, &cut[k]);
            for (int p = 0; p < cut[k].pieces; p++) {
                const struct world_piece *piece = &cut[k].piece[p];
                for (int pos = piece->first; piece->seq == 0 && pos < piece->first + piece->rows;
                     pos++)
                    expect_row(&w, &cut[k], &whole, 0, pos, "cut prompt");
            }
            world_step_free(&cut[k]);
        }
        world_step_free(&whole);
        world_deinit(&w);
    }
}

/* An empty step writes nothing; what no kernel takes is refused before a launch. */
static void test_edges(void **state)
{
    struct world w;
    begin(state, &w, &shapes[2], 1, 32);
    struct world_step st = {.one_row_each = true, .rows_max = 4};
    world_run(&w, &st);
    world_step_free(&st);
    struct world_arrays u;
    struct attend_args good;
    world_upload(&w, &st, &u, &good);
    for (int i = 0; i < 7; i++) {
        struct attend_args a = good;
        a.head_dim = i == 0 ? 258 : i == 1 ? 63 : a.head_dim;
        a.heads = i == 2 ? 3 : a.heads;
        a.kv_heads = i == 2 ? 2 : a.kv_heads;
        a.rows_max = i == 3 ? 65536 : i == 4 ? 0 : a.rows_max;
        a.chunks_max = i == 5 ? 2 : a.chunks_max;
        a.partial = i == 5 ? NULL : a.partial;
        a.kv = i == 6 ? (uint8_t *)a.kv + 8 : a.kv;
        if (cuda_attend(&a, kernel_test_stream()) != STATUS_UNSUPPORTED)
            fail_msg("bad arguments %d were taken", i);
    }
    world_arrays_free(&u);
    world_deinit(&w);
}

int main(void)
{
    enum kv_type int8 = KV_INT8;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_mixed),
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_prefill),
        cmocka_unit_test(test_prefill_bits),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_long),
        {"test_decode_int8", test_decode, NULL, NULL, &int8},
        {"test_mixed_int8", test_mixed, NULL, NULL, &int8},
        {"test_bits_int8", test_bits, NULL, NULL, &int8},
        {"test_prefill_int8", test_prefill, NULL, NULL, &int8},
        {"test_prefill_bits_int8", test_prefill_bits, NULL, NULL, &int8},
        {"test_edges_int8", test_edges, NULL, NULL, &int8},
        {"test_long_int8", test_long, NULL, NULL, &int8},
    };
    return kernel_test_run("attend", tests, sizeof tests / sizeof *tests);
}
