/* bench_sample: microseconds that k_sample takes for a step's rows on this card, 128,256 ids.
 *
 * A graph of 20 calls, one behind the other as in a step, median of 15 replays; the logits are in
 * L2 as the head leaves them. "peaked" looks like a language model's (normal, sigma 2.5, fifty ids
 * well above), "flat" like random weights' (sigma 0.5), "zipf" like a model's that is unsure (the
 * i-th likeliest weighs i^-1.1, in any order, with noise): in the last two top_p keeps thousands.
 */
#include "tests/kernels/kernel_test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/k_sample.h"
#include "cuda/sample_rows.h"

#define VOCAB    128256
#define ROWS_MAX 64
#define CALLS    20
#define REPLAYS  15
#define PENALTY  600 /* distinct tokens that the penalty rows have seen */

struct bench {
    struct step_head head;
    struct step_dev step;
    struct sample_args args;
    struct sample_stage stage;
    int32_t tokens[PENALTY];
};

static float normal(uint64_t *seed)
{
    float sum = 0.0f;
    for (int i = 0; i < 12; i++)
        sum += kernel_test_uniform(seed, -0.5f, 0.5f);
    return sum;
}

enum kind { PEAKED, FLAT, ZIPF, KINDS };

static float *make_logits(enum kind kind)
{
    static const float spread[KINDS] = {2.5f, 0.5f, 0.3f};
    uint64_t seed = 1;
    float *x = malloc(sizeof(float) * VOCAB * ROWS_MAX);
    assert_non_null(x);
    for (size_t i = 0; i < VOCAB; i++)
        x[i] = spread[kind] * normal(&seed);
    for (int i = 0; i < 50 && kind == PEAKED; i++)
        x[kernel_test_below(&seed, VOCAB)] += kernel_test_uniform(&seed, 2.0f, 12.0f);
    for (size_t i = 0; i < VOCAB && kind == ZIPF; i++)
        x[i] -= 1.1f * logf((float)i + 1.0f);
    for (uint32_t i = VOCAB; i > 1 && kind == ZIPF; i--) { /* in any order */
        uint32_t at = kernel_test_below(&seed, i);
        float last = x[i - 1];
        x[i - 1] = x[at];
        x[at] = last;
    }
    for (size_t o = 1; o < ROWS_MAX; o++) { /* the same, turned round */
        memcpy(x + o * VOCAB, x + o * 1001, (VOCAB - o * 1001) * sizeof *x);
        memcpy(x + o * VOCAB + VOCAB - o * 1001, x, o * 1001 * sizeof *x);
    }
    return x;
}

static void *memory(size_t bytes)
{
    void *p = calloc(1, bytes);
    assert_non_null(p);
    return p;
}

static void check(cudaError_t e)
{
    if (e != cudaSuccess)
        fail_msg("%s", cudaGetErrorString(e));
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Median microseconds of one call. */
static float time_calls(const struct sample_args *a)
{
    cudaStream_t s = kernel_test_stream();
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaEvent_t from, to;
    float us[REPLAYS];
    check(cudaEventCreate(&from));
    check(cudaEventCreate(&to));
    check(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < CALLS; i++)
        assert_int_equal(cuda_sample(a, s), STATUS_OK);
    check(cudaStreamEndCapture(s, &graph));
    check(cudaGraphInstantiate(&exec, graph, 0));
    for (int i = -2; i < REPLAYS; i++) {
        float ms;
        check(cudaEventRecord(from, s));
        check(cudaGraphLaunch(exec, s));
        check(cudaEventRecord(to, s));
        check(cudaEventSynchronize(to));
        check(cudaEventElapsedTime(&ms, from, to));
        if (i >= 0)
            us[i] = ms * 1000.0f / CALLS;
    }
    check(cudaGraphExecDestroy(exec));
    check(cudaGraphDestroy(graph));
    check(cudaEventDestroy(from));
    check(cudaEventDestroy(to));
    qsort(us, REPLAYS, sizeof *us, by_value);
    return us[REPLAYS / 2];
}

static float time_rows(struct bench *b, const struct sample_params *p, int count)
{
    struct sample_params own[ROWS_MAX];
    struct sample_row rows[ROWS_MAX];
    for (int o = 0; o < count; o++) {
        own[o] = *p;
        own[o].seed = (uint64_t)o;
        rows[o] = (struct sample_row){
            .params = &own[o], .tokens = b->tokens, .token_count = PENALTY, .forced = -1};
    }
    sample_rows_fill(&b->stage, rows, count, VOCAB);
    assert_int_equal(b->stage.host_count, 0);
    b->head.rows[VIEW_OUTS] = count;
    b->args.outs_max = count;
    kernel_test_write((void *)b->step.head, &b->head, sizeof b->head);
    kernel_test_write((void *)b->args.rows, b->stage.rows, (size_t)count * sizeof *b->stage.rows);
    kernel_test_write((void *)b->args.edits, b->stage.edits,
                      (size_t)b->stage.edit_count * sizeof *b->stage.edits);
    return time_calls(&b->args);
}

static void open_bench(struct bench *b)
{
    uint64_t seed = 2;
    for (int i = 0; i < PENALTY; i++)
        b->tokens[i] = (int32_t)kernel_test_below(&seed, VOCAB);
    b->stage.rows = memory(ROWS_MAX * sizeof *b->stage.rows);
    b->stage.edits_max = ROWS_MAX * PENALTY;
    b->stage.edits = memory((size_t)b->stage.edits_max * sizeof *b->stage.edits);
    b->stage.places = memory(VOCAB * sizeof *b->stage.places);
    b->step.head = kernel_test_alloc(sizeof b->head);
    b->args = (struct sample_args){
        .step = &b->step,
        .logits = kernel_test_alloc(sizeof(float) * VOCAB * ROWS_MAX),
        .stride = VOCAB,
        .vocab = VOCAB,
        .rows = kernel_test_alloc(ROWS_MAX * sizeof *b->stage.rows),
        .edits = kernel_test_alloc((size_t)b->stage.edits_max * sizeof *b->stage.edits),
        .scratch = kernel_test_alloc(cuda_sample_scratch(VOCAB) * sizeof(float) * ROWS_MAX),
        .results = kernel_test_alloc(ROWS_MAX * sizeof(struct sample_result)),
        .next_token = kernel_test_alloc(ROWS_MAX * sizeof(int32_t)),
        .dependent = 1};
}

static void bench_sample(void **state)
{
    (void)state;
    static const char *const kinds[KINDS] = {"peaked", "flat", "zipf"};
    static const struct {
        const char *name;
        float temperature, top_p, min_p;
        int top_k, logprobs;
        float repetition;
    } cases[] = {
        {"greedy", 0.0f, 1.0f, 0.0f, 0, -1, 1.0f},
        {"temperature 0.8", 0.8f, 1.0f, 0.0f, 0, -1, 1.0f},
        {"temperature 1, min_p 0.05", 1.0f, 1.0f, 0.05f, 0, -1, 1.0f},
        {"temperature 0.6, top_p 0.9", 0.6f, 0.9f, 0.0f, 0, -1, 1.0f},
        {"temperature 1.5, top_p 0.95", 1.5f, 0.95f, 0.0f, 0, -1, 1.0f},
        {"temperature 1.5, top_p 0.95, min_p 0.05", 1.5f, 0.95f, 0.05f, 0, -1, 1.0f},
        {"the same with repetition penalty", 1.5f, 0.95f, 0.05f, 0, -1, 1.2f},
        {"temperature 0.8, top_k 40, top_p 0.95", 0.8f, 0.95f, 0.0f, 40, -1, 1.0f},
        {"temperature 0.8, top_k 1000", 0.8f, 1.0f, 0.0f, 1000, -1, 1.0f},
        {"greedy, 5 log-probabilities", 0.0f, 1.0f, 0.0f, 0, 5, 1.0f},
        {"temperature 0.8, 20 log-probabilities", 0.8f, 1.0f, 0.0f, 0, 20, 1.0f},
        {"greedy, repetition penalty", 0.0f, 1.0f, 0.0f, 0, -1, 1.2f},
    };
    static const int counts[] = {1, 8, 32, 64};
    struct bench *b = memory(sizeof *b);
    if (!kernel_test_on_card()) {
        free(b);
        skip();
    }
    open_bench(b);
    for (int kind = 0; kind < KINDS; kind++) {
        float *logits = make_logits((enum kind)kind);
        kernel_test_write((void *)b->args.logits, logits, sizeof(float) * VOCAB * ROWS_MAX);
        free(logits);
        printf("figure: %s logits, us for 1, 8, 32, 64 rows\n", kinds[kind]);
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
            struct sample_params p = {.temperature = cases[c].temperature,
                                      .top_p = cases[c].top_p,
                                      .min_p = cases[c].min_p,
                                      .typical_p = 1.0f,
                                      .top_k = cases[c].top_k,
                                      .repetition_penalty = cases[c].repetition,
                                      .logprobs = cases[c].logprobs};
            printf("figure:   %-40s", cases[c].name);
            for (int i = 0; i < 4; i++)
                printf(" %8.1f", (double)time_rows(b, &p, counts[i]));
            printf("\n");
        }
    }
    free(b->stage.rows);
    free(b->stage.edits);
    free(b->stage.places);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bench_sample)};
    return kernel_test_run("bench_sample", tests, 1);
}
