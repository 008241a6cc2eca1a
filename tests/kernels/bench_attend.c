/* bench_attend: what attention costs on this card, for the heads of Llama-3.2-3B (24 query, 8 kv,
 * 128 wide).
 *
 * A graph of calls one behind the other, as in a step, each with its own layer's pages (shuffled,
 * random values); L2 is swept before each replay; median of 15. Decoding: GB/s of keys and values;
 * prompts: TFLOP/s of the two causal products, 4 D H sum of positions. */
#include "tests/kernels/kernel_test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/k_attend.h"

enum { HEADS = 24, KV_HEADS = 8, DIM = 128, PAGE = 16, REPLAYS = 15 };
/* Of one layer: keys and values. */
#define TOKEN_BYTES(type) (2 * (size_t)KV_HEADS * attend_block_bytes(type, DIM) / PAGE)
#define KV_BYTES          ((size_t)3 << 29) /* all layers at most */
#define SWEEP_BYTES       ((size_t)160 << 20)
#define LAYERS_MAX        28

struct bench {
    uint8_t *kv;
    uint8_t *sweep;
};

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

/* Median microseconds of one layer's call; layer i has its pages at kv + i * layer_bytes. */
static float time_layers(const struct bench *b, const struct attend_args *args, int layers,
                         size_t layer_bytes)
{
    cudaStream_t s = kernel_test_stream();
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaEvent_t from, to;
    float us[REPLAYS];
    check(cudaEventCreate(&from));
    check(cudaEventCreate(&to));
    check(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < layers; i++) {
        struct attend_args a = *args;
        a.kv = b->kv + (size_t)i * layer_bytes;
        a.dependent = 1;
        assert_int_equal(cuda_attend(&a, s), STATUS_OK);
    }
    check(cudaStreamEndCapture(s, &graph));
    check(cudaGraphInstantiate(&exec, graph, 0));
    for (int i = -2; i < REPLAYS; i++) {
        float ms;
        check(cudaMemsetAsync(b->sweep, i, SWEEP_BYTES, s));
        check(cudaEventRecord(from, s));
        check(cudaGraphLaunch(exec, s));
        check(cudaEventRecord(to, s));
        check(cudaEventSynchronize(to));
        check(cudaEventElapsedTime(&ms, from, to));
        if (i >= 0)
            us[i] = ms * 1000.0f / (float)layers;
    }
    check(cudaGraphExecDestroy(exec));
    check(cudaGraphDestroy(graph));
    check(cudaEventDestroy(from));
    check(cudaEventDestroy(to));
    qsort(us, REPLAYS, sizeof *us, by_value);
    return us[REPLAYS / 2];
}

static void *memory(size_t bytes)
{
    void *p = calloc(1, bytes);
    assert_non_null(p);
    return p;
}

/* `seqs` sequences with `rows` rows each, the last ones of `context`. */
static void bench_case(const struct bench *b, enum kv_type type, int seqs, int rows, int context,
                       bool many)
{
    uint64_t seed = 3;
    int each = (context + PAGE - 1) / PAGE, total = seqs * each, t = seqs * rows;
    size_t layer_bytes = (size_t)total * PAGE * TOKEN_BYTES(type);
    size_t fit = KV_BYTES / layer_bytes;
    int layers = fit < LAYERS_MAX ? (int)fit : LAYERS_MAX, list = DIM / 2 * context;
    int32_t *pages = memory((size_t)total * 4), *begin = memory((size_t)seqs * 4);
    int32_t *position = memory((size_t)t * 4), *seq = memory((size_t)t * 4);
    struct attend_piece *piece = memory((size_t)seqs * sizeof *piece);
    int stride = (HEADS + 2 * KV_HEADS) * DIM;
    float *qkv = memory((size_t)t * (size_t)stride * 4), *angle = memory((size_t)list * 4);
    for (int i = 0; i < total; i++) {
        int j = (int)kernel_test_below(&seed, (uint32_t)i + 1);
        pages[i] = pages[j];
        pages[j] = i;
    }
    for (int i = 0; i < t; i++) {
        position[i] = context - rows + i % rows;
        seq[i] = i / rows;
    }
    for (int i = 0; i < seqs; i++) {
        begin[i] = i * each;
        piece[i] = (struct attend_piece){i * rows, rows};
    }
    for (size_t i = 0; i < (size_t)t * (size_t)stride; i++)
        qkv[i] = kernel_test_uniform(&seed, -1, 1);
    for (int i = 0; i < list; i++)
        angle[i] = kernel_test_uniform(&seed, -0.7f, 0.7f);
    struct step_head head = {.rows = {t, 0}, .seqs = seqs};
    struct attend_split split = {0, seqs};
    struct step_dev dev = {.head = kernel_test_upload(&head, sizeof head),
                           .position = kernel_test_upload(position, (size_t)t * 4),
                           .seq_of_row = kernel_test_upload(seq, (size_t)t * 4),
                           .page_begin = kernel_test_upload(begin, (size_t)seqs * 4),
                           .pages = kernel_test_upload(pages, (size_t)total * 4)};
    int chunks = (context + ATTEND_CHUNK - 1) / ATTEND_CHUNK, span = attend_span(chunks);
    size_t parts = (size_t)attend_parts(chunks, span, 0);
    uint32_t *zeros = memory((size_t)t * KV_HEADS * 4);
    float *d_angle = kernel_test_upload(angle, (size_t)list * 4);
    struct attend_args a = {
        .step = &dev,
        .rows_max = t,
        .chunks_max = chunks,
        .qkv = kernel_test_upload(qkv, (size_t)t * (size_t)stride * 4),
        .qkv_stride = stride,
        .k_at = HEADS * DIM,
        .v_at = (HEADS + KV_HEADS) * DIM,
        .heads = HEADS,
        .kv_heads = KV_HEADS,
        .head_dim = DIM,
        .scale = 0.088388f,
        .kv_type = type,
        .rope_cos = d_angle,
        .rope_sin = d_angle,
        .out = kernel_test_alloc((size_t)t * HEADS * DIM * 2),
        .out_stride = HEADS * DIM,
        .span = span,
        .partial = many ? NULL : kernel_test_alloc((size_t)t * HEADS * parts * (DIM + 2) * 4),
        .arrived = kernel_test_upload(zeros, (size_t)t * KV_HEADS * 4),
        .one_row_each = rows == 1};
    if (many) {
        a.chunks_max = 1;
        a.split = kernel_test_upload(&split, sizeof split);
        a.piece = kernel_test_upload(piece, (size_t)seqs * sizeof *piece);
        a.pieces_max = seqs;
    }
    float us = time_layers(b, &a, layers, layer_bytes);
    double bytes = (double)seqs * context * (double)TOKEN_BYTES(type);
    double tokens = 0.5 * rows * (2.0 * context - rows + 1) * seqs;
    double flops = 4.0 * DIM * HEADS * tokens;
    if (rows == 1)
        printf("figure: %s, decode %2d rows, context %5d: %8.2f us a layer, %7.0f GB/s\n",
               kv_type_name(type), seqs, context, (double)us, bytes / (double)us * 1e-3);
    else
        printf("figure: %s, %2d prompts of %4d rows, context %5d, %s: %8.2f us a layer, %6.1f "
               "TFLOP/s\n",
               kv_type_name(type), seqs, rows, context, many ? "prefill" : "by rows", (double)us,
               flops / (double)us * 1e-6);
    void *device[] = {(void *)dev.head,
                      (void *)dev.position,
                      (void *)dev.seq_of_row,
                      (void *)dev.page_begin,
                      (void *)dev.pages,
                      (void *)a.qkv,
                      a.out,
                      a.partial,
                      a.arrived,
                      (void *)a.split,
                      (void *)a.piece,
                      d_angle};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        kernel_test_free(device[i]);
    void *host[] = {pages, begin, position, seq, piece, qkv, angle, zeros};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        free(host[i]);
}

static void bench_type(const struct bench *b, enum kv_type type)
{
    static const int rows[] = {1, 8, 16, 32, 64};
    for (int c = 0; c < 2; c++) {
        for (int i = 0; i < 5; i++)
            bench_case(b, type, rows[i], 1, c ? 4096 : 150, false);
    }
    bench_case(b, type, 1, 1, 32768, false);
    bench_case(b, type, 1, 43, 43, true);
    bench_case(b, type, 1, 43, 43, false);
    bench_case(b, type, 16, 128, 128, true);
    bench_case(b, type, 1, 2048, 2048, true);
    bench_case(b, type, 1, 512, 8192, true);
    bench_case(b, type, 1, 256, 2048, false);
}

static void bench_attend(void **state)
{
    (void)state;
    if (!kernel_test_on_card())
        skip();
    struct bench b = {kernel_test_alloc(KV_BYTES), kernel_test_alloc(SWEEP_BYTES)};
    size_t block = (size_t)16 << 20;
    uint64_t seed = 1;
    uint16_t *random = memory(block);
    /* As bytes these are random too, and as scales small. */
    for (size_t i = 0; i < block / 2; i++)
        random[i] = kernel_test_bf16(kernel_test_uniform(&seed, -1, 1));
    for (size_t at = 0; at < KV_BYTES; at += block)
        kernel_test_write(b.kv + at, random, block);
    free(random);
    bench_type(&b, KV_BF16);
    bench_type(&b, KV_INT8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bench_attend)};
    return kernel_test_run("bench_attend", tests, 1);
}
