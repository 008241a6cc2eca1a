/* k_sample against sample_logits: the same token and the same log-probabilities, row by row, over
 * seeded rows that mix everything a request can ask for. */
#include "tests/kernels/kernel_test.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/k_sample.h"
#include "cuda/sample_rows.h"

#define ROWS      8
#define TOKENS    300
#define BIASES    6
#define BANS      5
#define EDITS_MAX 4096
#define MASKS_MAX ROWS

/* What one request asks for, and its logits. */
struct ask {
    struct sample_params params;
    struct sample_row row;
    int32_t tokens[TOKENS];
    int32_t banned[BANS];
    struct logit_bias bias[BIASES];
    uint32_t *mask;
    float *logits;
};

struct batch {
    int vocab, stride, rows, grid;
    struct ask asks[ROWS];
    struct sample_stage stage;
    struct sample_result got[ROWS + 1], want[ROWS];
    int32_t next[ROWS + 1];
};

static void *memory(size_t n, size_t each)
{
    void *p = calloc(n ? n : 1, each);
    assert_non_null(p);
    return p;
}

static struct batch *batch_open(int vocab)
{
    struct batch *b = memory(1, sizeof *b);
    b->vocab = vocab;
    b->stride = (vocab + 3) / 4 * 4;
    for (int o = 0; o < ROWS; o++) {
        b->asks[o].logits = memory((size_t)vocab, sizeof(float));
        b->asks[o].mask = memory((size_t)vocab / 32 + 1, sizeof(uint32_t));
    }
    b->stage.rows = memory(ROWS, sizeof *b->stage.rows);
    b->stage.edits = memory(EDITS_MAX, sizeof *b->stage.edits);
    b->stage.edits_max = EDITS_MAX;
    b->stage.masks = memory((size_t)MASKS_MAX * ((size_t)vocab / 32 + 1), sizeof(uint32_t));
    b->stage.masks_max = MASKS_MAX;
    b->stage.places = memory((size_t)vocab, sizeof(int32_t));
    return b;
}

static void batch_close(struct batch *b)
{
    for (int o = 0; o < ROWS; o++) {
        free(b->asks[o].logits);
        free(b->asks[o].mask);
    }
    free(b->stage.rows);
    free(b->stage.edits);
    free(b->stage.masks);
    free(b->stage.places);
    free(b);
}

/* Runs the asks [first, first + count) as the rows of a step; results from index 0 on. */
static void run(struct batch *b, int first, int count)
{
    struct sample_row rows[ROWS];
    size_t words = ((size_t)b->vocab + 31) / 32, floats = (size_t)b->stride * (size_t)count;
    float *logits = memory(floats, sizeof *logits);
    memset(logits, 0xff, floats * sizeof *logits);
    for (int o = 0; o < count; o++) {
        rows[o] = b->asks[first + o].row;
        memcpy(logits + (size_t)o * (size_t)b->stride, b->asks[first + o].logits,
               (size_t)b->vocab * sizeof *logits);
    }
    struct sample_stage *s = &b->stage;
    sample_rows_fill(s, rows, count, b->vocab);
    for (int i = 0; i < b->vocab; i++)
        assert_int_equal(s->places[i], 0);
    struct step_head head = {.rows = {count, count}};
    struct step_dev step = {.head = kernel_test_upload(&head, sizeof head)};
    int grid = b->grid ? b->grid : count;
    size_t scratch = cuda_sample_scratch(b->vocab) * sizeof(float) * (size_t)grid;
    struct sample_args a = {
        .step = &step,
        .outs_max = grid,
        .logits = kernel_test_upload(logits, floats * sizeof *logits),
        .stride = b->stride,
        .vocab = b->vocab,
        .rows = kernel_test_upload(s->rows, (size_t)count * sizeof *s->rows),
        .edits = kernel_test_upload(s->edits, (size_t)s->edit_count * sizeof *s->edits),
        .masks = kernel_test_upload(s->masks, (size_t)s->mask_count * words * sizeof *s->masks),
        .scratch = kernel_test_alloc(scratch),
        .results = kernel_test_alloc((size_t)count * sizeof *b->got),
        .next_token = kernel_test_alloc((size_t)count * sizeof(int32_t)),
        .dependent = 1};
    for (int twice = 0; twice < 2; twice++) { /* the second time over the first one's scratch */
        struct sample_result before[ROWS];
        memcpy(before, b->got, sizeof before);
        assert_int_equal(cuda_sample(&a, kernel_test_stream()), STATUS_OK);
        kernel_test_read(b->got, a.results, (size_t)count * sizeof *b->got);
        kernel_test_read(b->next, a.next_token, (size_t)count * sizeof(int32_t));
        if (twice)
            kernel_test_equal("the second run", b->got, before, (size_t)count * sizeof *b->got);
    }
    kernel_test_free((void *)step.head);
    kernel_test_free((void *)a.logits);
    kernel_test_free((void *)a.rows);
    kernel_test_free((void *)a.edits);
    kernel_test_free((void *)a.masks);
    kernel_test_free(a.scratch);
    kernel_test_free(a.results);
    kernel_test_free(a.next_token);
    free(logits);
}

static void oracle(struct batch *b, int count)
{
    float *scratch = memory(sample_scratch_floats(b->vocab), sizeof *scratch);
    for (int o = 0; o < count; o++)
        sample_logits(b->asks[o].logits, b->vocab, &b->asks[o].row, scratch, &b->want[o]);
    free(scratch);
}

/* ---- rows ---- */

static bool one_in(uint64_t *seed, uint32_t n)
{
    return kernel_test_below(seed, n) == 0;
}

static float normal(uint64_t *seed)
{
    float sum = 0.0f;
    for (int i = 0; i < 12; i++)
        sum += kernel_test_uniform(seed, -0.5f, 0.5f);
    return sum;
}

enum shape {
    SHAPE_NORMAL,
    SHAPE_PEAKED,
    SHAPE_FLAT,
    SHAPE_STEPS,
    SHAPE_EQUAL,
    SHAPE_BROKEN,
    SHAPES
};

static void make_logits(struct ask *x, int vocab, enum shape shape, uint64_t *seed)
{
    float spread = kernel_test_uniform(seed, 0.5f, 4.5f);
    for (int i = 0; i < vocab; i++) {
        float v = spread * normal(seed);
        x->logits[i] = shape == SHAPE_FLAT    ? 0.01f * v
                       : shape == SHAPE_STEPS ? roundf(v)
                       : shape == SHAPE_EQUAL ? 3.5f
                                              : v;
    }
    if (shape == SHAPE_PEAKED) {
        for (int i = 0; i < 4; i++)
            x->logits[kernel_test_below(seed, (uint32_t)vocab)] = 18.0f + normal(seed);
    }
    static const float odd[] = {NAN, -NAN, INFINITY, -INFINITY, -0.0f, 0.0f, FLT_MAX, -FLT_MAX};
    int count = shape == SHAPE_BROKEN ? 1 + vocab / 50 : one_in(seed, 3) ? 2 : 0;
    for (int i = 0; i < count; i++)
        x->logits[kernel_test_below(seed, (uint32_t)vocab)] = odd[kernel_test_below(seed, 8)];
}

static void make_lists(struct ask *x, int vocab, uint64_t *seed)
{
    struct sample_params *p = &x->params;
    int words = (vocab + 31) / 32, some = vocab < 40 ? vocab + 3 : vocab;
    for (int i = 0; i < BIASES; i++)
        x->bias[i] = (struct logit_bias){(i * vocab + 3) / 7, 3.0f * normal(seed)};
    if (one_in(seed, 8))
        x->bias[0].bias = one_in(seed, 2) ? INFINITY : -INFINITY;
    for (int i = 0; i < TOKENS; i++) /* few and many; some are beyond the vocabulary or negative */
        x->tokens[i] = (int32_t)kernel_test_below(seed, one_in(seed, 2) ? 40 : (uint32_t)some) -
                       (one_in(seed, 50) ? 100 : 0);
    for (int i = 0; i < BANS; i++)
        x->banned[i] = (int32_t)kernel_test_below(seed, (uint32_t)vocab);
    for (int i = 0; i < words; i++)
        x->mask[i] = kernel_test_u32(seed) | kernel_test_u32(seed);
    if (one_in(seed, 20))
        memset(x->mask, 0, (size_t)words * sizeof *x->mask);
    p->bias = x->bias;
    p->bias_count = one_in(seed, 3) && vocab > 20 ? BIASES : 0;
    x->row.banned = x->banned;
    x->row.banned_count = one_in(seed, 3) && (vocab > 20 || one_in(seed, 9)) ? BANS : 0;
    x->row.mask = one_in(seed, 5) ? x->mask : NULL;
    x->row.tokens = x->tokens;
    x->row.token_count = (int)kernel_test_below(seed, TOKENS + 1);
    x->row.prompt_count = (int)kernel_test_below(seed, (uint32_t)x->row.token_count + 1);
}

static void make_ask(struct ask *x, int vocab, uint64_t *seed)
{
    static const float temperatures[] = {0.0f, 0.0f, 1e-30f, 0.01f, 0.3f,
                                         0.7f, 1.0f, 1.0f,   2.0f,  40.0f};
    struct sample_params *p = &x->params;
    make_logits(x, vocab, (enum shape)kernel_test_below(seed, SHAPES), seed);
    *p = (struct sample_params){
        .top_p = 1.0f, .typical_p = 1.0f, .repetition_penalty = 1.0f, .logprobs = -1};
    x->row = (struct sample_row){.params = p, .forced = -1};
    p->temperature = temperatures[kernel_test_below(seed, 10)];
    p->seed = (uint64_t)kernel_test_u32(seed) << 32 | kernel_test_u32(seed);
    if (one_in(seed, 2))
        p->top_k = one_in(seed, 2) ? 1 + (int)kernel_test_below(seed, 60)
                                   : (int)kernel_test_below(seed, (uint32_t)vocab + 5);
    if (one_in(seed, 2))
        p->top_p = one_in(seed, 2) ? kernel_test_uniform(seed, 0.05f, 0.99f) : 0.95f;
    if (one_in(seed, 3))
        p->min_p = one_in(seed, 2) ? 0.05f : kernel_test_uniform(seed, 0.0f, 1.0f);
    if (one_in(seed, 40))
        p->typical_p = 0.9f;
    if (one_in(seed, 3)) {
        p->repetition_penalty = one_in(seed, 2) ? 1.3f : 0.8f;
        p->presence_penalty = one_in(seed, 2) ? normal(seed) : 0.0f;
        p->frequency_penalty = one_in(seed, 2) ? 0.5f * normal(seed) : 0.0f;
    }
    if (one_in(seed, 2))
        p->logprobs = (int)kernel_test_below(seed, LIMIT_TOP_LOGPROBS + 1);
    make_lists(x, vocab, seed);
    if (one_in(seed, 10))
        x->row.forced = (int32_t)kernel_test_below(seed, (uint32_t)vocab + 2);
}

/* ---- comparison ---- */

/* The device's sum of weights differs from the CPU's by 1e-12 of it, its logarithm by as much and
 * by its own rounding; then the difference is rounded to float: to the same, or to a neighbour. */
static bool same_logprob(float got, float want)
{
    if (got == want)
        return true;
    return fabsf(got - want) <= fmaxf(nextafterf(fabsf(want), INFINITY) - fabsf(want), 2e-12f);
}

static void compare(const struct batch *b, int o, const struct sample_result *got, const char *what)
{
    const struct sample_result *want = &b->want[o];
    const struct sample_params *p = &b->asks[o].params;
    if (got->token != want->token)
        fail_msg(
            "%s, row %d of vocab %d: token %d instead of %d (T %g, top_k %d, top_p %g, min_p %g, "
            "forced %d, %d biases, %d bans, mask %d, repetition %g, presence %g, frequency %g)",
            what, o, b->vocab, got->token, want->token, (double)p->temperature, p->top_k,
            (double)p->top_p, (double)p->min_p, b->asks[o].row.forced, p->bias_count,
            b->asks[o].row.banned_count, b->asks[o].row.mask != NULL, (double)p->repetition_penalty,
            (double)p->presence_penalty, (double)p->frequency_penalty);
    if (!same_logprob(got->logprob, want->logprob))
        fail_msg("%s, row %d of vocab %d: log-probability %.9g instead of %.9g", what, o, b->vocab,
                 (double)got->logprob, (double)want->logprob);
    if (got->top_count != want->top_count)
        fail_msg("%s, row %d of vocab %d: %d alternatives instead of %d", what, o, b->vocab,
                 got->top_count, want->top_count);
    for (int i = 0; i < want->top_count; i++) {
        if (got->top[i].token != want->top[i].token ||
            !same_logprob(got->top[i].logprob, want->top[i].logprob))
            fail_msg("%s, row %d of vocab %d: place %d is %d, %.9g instead of %d, %.9g", what, o,
                     b->vocab, i, got->top[i].token, (double)got->top[i].logprob,
                     want->top[i].token, (double)want->top[i].logprob);
    }
}

/* Host rows are left as they were: 0xff. */
static int compare_all(const struct batch *b, int first, int count, const char *what)
{
    int host = 0;
    for (int o = 0; o < count; o++) {
        if (!b->stage.rows[o].host) {
            compare(b, first + o, &b->got[o], what);
            assert_int_equal(b->next[o], b->got[o].token);
            continue;
        }
        host++;
        assert_int_equal(b->got[o].token, -1);
        assert_int_equal(b->next[o], -1);
    }
    assert_int_equal(host, b->stage.host_count);
    return host;
}

static void check_vocab(int vocab, int rounds, uint64_t seed)
{
    struct batch *b = batch_open(vocab);
    int host = 0;
    for (int round = 0; round < rounds; round++) {
        char what[64];
        snprintf(what, sizeof what, "round %d, seed %llu", round, (unsigned long long)seed);
        for (int o = 0; o < ROWS; o++)
            make_ask(&b->asks[o], vocab, &seed);
        oracle(b, ROWS);
        b->grid = ROWS + round % 2; /* a grid may be larger than the step */
        run(b, 0, ROWS);
        host += compare_all(b, 0, ROWS, what);
        b->grid = 0;
        int o = (int)kernel_test_below(&seed, ROWS);
        struct sample_result company = b->got[o];
        run(b, o, 1);
        compare_all(b, o, 1, "alone");
        kernel_test_equal("alone", &b->got[0], &company, sizeof company);
    }
    printf("figure: vocab %d: %d rows, %d of them for the host\n", vocab, rounds * ROWS, host);
    assert_true(host < rounds * ROWS / 4);
    batch_close(b);
}

static void test_sample_small(void **state)
{
    (void)state;
    static const int vocabs[] = {1, 2, 3, 31, 33, 64};
    for (int i = 0; i < 6; i++)
        check_vocab(vocabs[i], kernel_test_on_card() ? 200 : 12, (uint64_t)i + 1);
}

static void test_sample_middle(void **state)
{
    (void)state;
    static const int vocabs[] = {1000, 2047, 2048, 2049, 20001};
    for (int i = 0; i < 5; i++)
        check_vocab(vocabs[i], kernel_test_on_card() ? 200 : 4, (uint64_t)i + 10);
}

static void test_sample_large(void **state)
{
    (void)state;
    check_vocab(128256, kernel_test_on_card() ? 60 : 1, 20);
    check_vocab(262208, kernel_test_on_card() ? 10 : 1, 21);
}

/* Thousands of ties across parts: the cut is an id, and bins weigh more than 32 bits hold. */
static void test_sample_ties(void **state)
{
    (void)state;
    struct batch *b = batch_open(20001);
    uint64_t seed = 30;
    for (int o = 0; o < ROWS; o++) {
        struct ask *x = &b->asks[o];
        make_ask(x, b->vocab, &seed);
        for (int i = 0; i < b->vocab; i++)
            x->logits[i] = i % 7 ? 1.0f : 1.5f;
        x->params = (struct sample_params){.temperature = 1.0f,
                                           .top_p = 0.3f + 0.08f * (float)o,
                                           .min_p = o % 2 ? 0.5f : 0.0f,
                                           .typical_p = 1.0f,
                                           .top_k = o == 3 ? 1000 : 0,
                                           .repetition_penalty = 1.0f,
                                           .seed = (uint64_t)o,
                                           .logprobs = 20};
        x->row = (struct sample_row){.params = &x->params, .forced = -1};
    }
    oracle(b, ROWS);
    run(b, 0, ROWS);
    assert_int_equal(compare_all(b, 0, ROWS, "ties"), 0);
    batch_close(b);
}

/* A nucleus of thousands, which no lists hold: with and without edits and masks, ended by min_p, by
 * one of many ties, or in a bin that holds nearly all. */
static void make_wide(struct ask *x, int vocab, int kind, uint64_t *seed)
{
    static const float temperatures[] = {0.4f, 0.6f, 1.0f, 1.5f, 2.0f, 60.0f};
    static const float shares[] = {0.05f, 0.3f, 0.7f, 0.97f};
    struct sample_params *p = &x->params;
    make_ask(x, vocab, seed);
    make_lists(x, vocab, seed);
    for (int i = 0; i < vocab; i++) {
        float v = 0.5f * normal(seed);
        x->logits[i] = kind % 4 == 3 ? roundf(v * 64.0f) / 64.0f : v;
    }
    for (int i = 0; i < 40 && kind % 7 == 4; i++)
        x->logits[kernel_test_below(seed, (uint32_t)vocab)] = i % 2 ? NAN : -INFINITY;
    p->temperature = temperatures[kernel_test_below(seed, 6)];
    p->top_p = kernel_test_uniform(seed, 0.3f, 0.999f);
    p->min_p = kind % 3 == 1 ? shares[kernel_test_below(seed, 4)] : 0.0f;
    p->top_k = 0;
    p->typical_p = 1.0f;
    x->row.forced = -1;
    x->row.mask = kind % 5 == 2 ? x->mask : NULL;
    if (kind % 2 == 0) {
        p->repetition_penalty = p->frequency_penalty = p->presence_penalty = 0.0f;
        p->repetition_penalty = 1.0f;
        p->bias_count = x->row.banned_count = 0;
    } else {
        p->repetition_penalty = 1.3f;
        x->row.token_count = TOKENS;
    }
}

static void test_sample_wide(void **state)
{
    (void)state;
    static const int vocabs[] = {5000, 40000, 128256};
    uint64_t seed = 40;
    for (int v = 0; v < 3; v++) {
        struct batch *b = batch_open(vocabs[v]);
        for (int round = 0; round < (kernel_test_on_card() ? 50 : 4 - v); round++) {
            for (int o = 0; o < ROWS; o++)
                make_wide(&b->asks[o], b->vocab, o + round, &seed);
            oracle(b, ROWS);
            run(b, 0, ROWS);
            compare_all(b, 0, ROWS, "wide");
        }
        batch_close(b);
    }
}

/* What does not fit, or cannot be done there, goes to the host, and the rows behind it do not. */
static void test_sample_rows_full(void **state)
{
    (void)state;
    enum { VOCAB = 64, COUNT = 8 };
    int32_t tokens[] = {3, 9, 3, 70, -1, 11}, places[VOCAB] = {0};
    struct logit_bias one = {5, 1.0f}, twice[] = {{5, 1.0f}, {6, 1.0f}, {5, 2.0f}};
    uint32_t mask[] = {7, 8}, masks[2];
    struct sample_edit edits[4];
    struct sample_dev dev[COUNT];
    struct sample_params p[COUNT];
    struct sample_row rows[COUNT];
    for (int o = 0; o < COUNT; o++) {
        p[o] = (struct sample_params){.temperature = 1.0f,
                                      .top_p = 1.0f,
                                      .typical_p = 1.0f,
                                      .repetition_penalty = 1.0f,
                                      .logprobs = -1};
        rows[o] = (struct sample_row){.params = &p[o], .forced = -1};
    }
    p[0].presence_penalty = 1.0f; /* 3 and 11 are in the output: two edits */
    rows[0].tokens = tokens;
    rows[0].prompt_count = 2;
    rows[0].token_count = 6;
    p[1].bias = twice; /* a bias of one token twice */
    p[1].bias_count = 3;
    p[2].repetition_penalty = 2.0f; /* 3, 9, 11 and two that are left: no room */
    rows[2].tokens = tokens;
    rows[2].token_count = 6;
    p[3].bias = &one;
    p[3].bias_count = 1;
    rows[4].mask = rows[5].mask = mask; /* one mask has room */
    p[6].typical_p = 0.5f;
    p[7] = p[6];
    rows[7].forced = 4;
    struct sample_stage s = {.rows = dev,
                             .edits = edits,
                             .edits_max = 4,
                             .masks = masks,
                             .masks_max = 1,
                             .places = places};
    for (int round = 0; round < 2; round++) {
        sample_rows_fill(&s, rows, COUNT, VOCAB);
        static const int host[COUNT] = {0, 1, 1, 0, 0, 1, 1, 0};
        for (int o = 0; o < COUNT; o++) {
            if (dev[o].host != host[o])
                fail_msg("row %d: host is %d", o, dev[o].host);
        }
        assert_int_equal(s.host_count, 4);
        assert_int_equal(s.edit_count, 3);
        assert_int_equal(s.mask_count, 1);
        assert_int_equal(dev[0].edit_count, 2);
        assert_int_equal(edits[0].token, 3);
        assert_int_equal(edits[0].count, 1);
        assert_int_equal(edits[1].token, 11);
        assert_int_equal(dev[3].edit_begin, 2);
        assert_int_equal(edits[2].token, 5);
        assert_int_equal(dev[4].mask, 0);
        assert_int_equal(dev[5].mask, -1);
        assert_int_equal(masks[1], 8);
        assert_int_equal(dev[7].forced, 4);
        for (int i = 0; i < VOCAB; i++)
            assert_int_equal(places[i], 0);
    }
}

/* What the launcher refuses. */
static void test_sample_refusals(void **state)
{
    (void)state;
    struct step_dev step = {0};
    float *room = kernel_test_alloc(4096);
    const struct sample_args good = {
        .step = &step, .outs_max = 1, .logits = room, .stride = 8, .vocab = 7, .scratch = room};
    struct sample_args a[6] = {good, good, good, good, good, good};
    a[0].stride = 6;
    a[1].stride = 4;
    a[2].logits = room + 1;
    a[3].scratch = room + 2;
    a[4].stride = a[4].vocab = SAMPLE_VOCAB_MAX + 4;
    a[5].outs_max = 65536;
    for (int i = 0; i < 6; i++) {
        enum status want = i < 4 ? STATUS_INVALID : STATUS_UNSUPPORTED;
        assert_int_equal(cuda_sample(&a[i], kernel_test_stream()), want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sample_small),    cmocka_unit_test(test_sample_middle),
        cmocka_unit_test(test_sample_large),    cmocka_unit_test(test_sample_ties),
        cmocka_unit_test(test_sample_wide),     cmocka_unit_test(test_sample_rows_full),
        cmocka_unit_test(test_sample_refusals),
    };
    return kernel_test_run("sample", tests, sizeof tests / sizeof *tests);
}
