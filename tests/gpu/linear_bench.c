/* linear_bench: the linears of the 3B shape (28 layers, int4) as a chain of dependent nodes in one
 * CUDA graph, and each kind of node by itself, against a copy measured in the same run.
 *
 *   linear_bench [bf16|int8|int4] [T ...]     width of adapters, default bf16; T 1 8 32 64
 *
 * Per T: without adapters, and with one rank-64 adapter a row on all seven linears; with and
 * without programmatic dependent launch. Random data, median of 30. Attention is left out. */
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/k_linear.h"
#include "cuda/lora_layout.h"

#define LAYERS     28
#define HIDDEN     3072
#define FFN        8192
#define RANK_TILES 4
#define ROWS_MAX   64
#define U_BYTES    ((size_t)ROWS_MAX * LINEAR_PIECE_U)
#define REPEAT     30
#define KINDS      STACK_KINDS

static const struct kind {
    const char *name;
    int n, k, modules;
    enum linear_out out;
} kinds[KINDS] = {{"qkv", 5120, HIDDEN, 3, LINEAR_STORE},
                  {"o", HIDDEN, HIDDEN, 1, LINEAR_RESIDUAL},
                  {"gate_up", 2 * FFN, HIDDEN, 2, LINEAR_SWIGLU},
                  {"down", HIDDEN, FFN, 1, LINEAR_RESIDUAL}};

struct bench {
    cudaStream_t stream;
    int sms;
    double copy; /* bytes a second */
    uint8_t *weights[KINDS];
    size_t weight_bytes[KINDS]; /* of one layer */
    uint8_t *arena;             /* adapters */
    size_t slot_bytes[KINDS];   /* of one adapter in one layer: A, then B */
    struct lora_stack *table;
    struct step_dev step;
    float *y, *qkv, *ss, *norm;
    void *x, *xn, *h, *u;
    uint32_t *begun;
    struct stack_pieces *records;
    int rows;
    enum lora_codes codes;
    bool adapters;
};

static void check(cudaError_t e, const char *what)
{
    if (e == cudaSuccess)
        return;
    fprintf(stderr, "linear_bench: %s: %s\n", what, cudaGetErrorString(e));
    exit(1);
}

static void *device(size_t bytes)
{
    void *p;
    check(cudaMalloc(&p, bytes), "cudaMalloc");
    check(cudaMemset(p, 0, bytes), "cudaMemset");
    return p;
}

static uint64_t state = 1;

static uint32_t draw(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    return (uint32_t)((z ^ z >> 31) >> 16);
}

/* Random words (v & mask) | set, repeated through `bytes`; scales: of int4 tiles. */
static void fill(void *d, size_t bytes, uint32_t mask, uint32_t set, bool scales)
{
    size_t unit = (size_t)TILE_BYTES_INT4 * 4096, have = bytes < unit ? bytes : unit;
    uint32_t *host = calloc(unit, 1);
    if (!host)
        exit(1);
    for (size_t i = 0; i < have / 4; i++)
        host[i] = (draw() & mask) | set;
    for (size_t i = 0; scales && i < 4096; i++)
        for (int j = 0; j < 8; j++)
            host[i * (TILE_BYTES_INT4 / 4) + 256 + (size_t)j] = 0x3b003b00u;
    check(cudaMemcpy(d, host, have, cudaMemcpyHostToDevice), "fill");
    for (; have < bytes; have *= 2)
        check(cudaMemcpy((uint8_t *)d + have, d, have < bytes - have ? have : bytes - have,
                         cudaMemcpyDeviceToDevice),
              "fill");
    free(host);
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double copy_speed(void)
{
    size_t bytes = (size_t)1 << 30;
    void *a = device(bytes), *b = device(bytes);
    fill(a, bytes, 0xffffffffu, 0, false);
    cudaEvent_t from, to;
    float ms[REPEAT];
    check(cudaEventCreate(&from), "event");
    check(cudaEventCreate(&to), "event");
    for (int i = -3; i < REPEAT; i++) {
        check(cudaEventRecord(from, NULL), "record");
        check(cudaMemcpyAsync(b, a, bytes, cudaMemcpyDeviceToDevice, NULL), "copy");
        check(cudaEventRecord(to, NULL), "record");
        check(cudaEventSynchronize(to), "copy");
        check(cudaEventElapsedTime(&ms[i < 0 ? 0 : i], from, to), "elapsed");
    }
    qsort(ms, REPEAT, sizeof *ms, compare);
    check(cudaFree(a), "free");
    check(cudaFree(b), "free");
    return 2.0 * (double)bytes / ((double)ms[REPEAT / 2] * 1e-3);
}

static size_t a_bytes(const struct bench *b, const struct kind *k)
{
    return (size_t)(k->modules * RANK_TILES * (k->k / TILE_K)) * (size_t)lora_group_bytes(b->codes);
}

/* slot s of layer l and kind i lies at ((s * LAYERS + l) * sum of kinds) of the arena. */
static void adapters_init(struct bench *b)
{
    size_t layer = 0;
    for (int i = 0; i < KINDS; i++) {
        const struct kind *k = &kinds[i];
        b->slot_bytes[i] =
            (a_bytes(b, k) + 255) / 256 * 256 +
            lora_b_bytes(b->codes, k->out == LINEAR_SWIGLU, RANK_TILES, k->n / TILE_N);
        layer += b->slot_bytes[i];
    }
    size_t entries = (size_t)ROWS_MAX * STACK_COUNT(LAYERS);
    struct lora_stack *table = calloc(entries, sizeof *table);
    b->arena = device(layer * LAYERS * ROWS_MAX);
    if (b->codes) /* any codes; scales below 1 */
        fill(b->arena, layer * LAYERS * ROWS_MAX, 0x3f7f3f7fu, 0, false);
    else
        fill(b->arena, layer * LAYERS * ROWS_MAX, 0x80ff80ffu, 0x3c003c00u, false);
    float scales[STACK_MODULES * RANK_TILES * TILE_N];
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++)
        scales[i] = 0.001f;
    float *rank_scale = device(sizeof scales);
    check(cudaMemcpy(rank_scale, scales, sizeof scales, cudaMemcpyHostToDevice), "scales");
    uint8_t *p = b->arena;
    for (int s = 0; table && s < ROWS_MAX; s++)
        for (int l = 0; l < LAYERS; l++)
            for (int i = 0; i < KINDS; i++) {
                const struct kind *k = &kinds[i];
                struct lora_stack *t =
                    &table[(size_t)s * STACK_COUNT(LAYERS) + (size_t)STACK_OF(l, i)];
                t->a = p;
                t->rank_tiles = k->modules * RANK_TILES;
                t->codes = b->codes;
                t->rank_scale = b->codes == LORA_INT8 ? rank_scale : NULL;
                const uint8_t *bp = p + (a_bytes(b, k) + 255) / 256 * 256;
                int first[STACK_MODULES + 1] = {0, 192, 256, 320};
                for (int m = 0; m < STACK_MODULES; m++) {
                    t->scale[m] = 1;
                    t->module_tile[m + 1] = (m < k->modules ? m + 1 : k->modules) * RANK_TILES;
                    t->b[m] =
                        bp +
                        (i == STACK_QKV ? lora_b_bytes(b->codes, false, RANK_TILES, first[m]) : 0);
                }
                p += b->slot_bytes[i];
            }
    b->table = device(entries * sizeof *table);
    check(cudaMemcpy(b->table, table, entries * sizeof *table, cudaMemcpyHostToDevice), "table");
    free(table);
}

static void bench_init(struct bench *b)
{
    struct cudaDeviceProp prop;
    check(cudaGetDeviceProperties(&prop, 0), "properties");
    b->sms = prop.multiProcessorCount;
    b->copy = copy_speed();
    printf("%s, %d SMs, copy %.0f GB/s\n", prop.name, b->sms, b->copy / 1e9);
    check(cudaStreamCreateWithFlags(&b->stream, cudaStreamNonBlocking), "stream");
    for (int i = 0; i < KINDS; i++) {
        b->weight_bytes[i] =
            (size_t)(kinds[i].n / TILE_N) * (size_t)(kinds[i].k / TILE_K) * TILE_BYTES_INT4;
        b->weights[i] = device(b->weight_bytes[i] * LAYERS);
        fill(b->weights[i], b->weight_bytes[i] * LAYERS, 0xffffffffu, 0, true);
    }
    adapters_init(b);
    b->y = device(ROWS_MAX * HIDDEN * 4);
    b->qkv = device(ROWS_MAX * 5120 * 4);
    b->ss = device(ROWS_MAX * HIDDEN / 16 * 4);
    b->norm = device(HIDDEN * 4);
    b->x = device(ROWS_MAX * HIDDEN * 2);
    b->xn = device(ROWS_MAX * HIDDEN * 2);
    b->h = device(ROWS_MAX * FFN * 2);
    b->u = device(U_BYTES);
    check(cudaMemset(b->u, 0, U_BYTES), "memset");
    const size_t begun_bytes = (size_t)STACK_COUNT(LAYERS) * LINEAR_BEGUN * sizeof *b->begun;
    b->begun = device(begun_bytes);
    b->records = device((size_t)STACK_COUNT(LAYERS) * sizeof *b->records);
    check(cudaMemset(b->begun, 0, begun_bytes), "memset");
    check(cudaMemset(b->records, 0, (size_t)STACK_COUNT(LAYERS) * sizeof *b->records), "memset");
    fill(b->norm, HIDDEN * 4, 0x007fffffu, 0x3f000000u, false);
    fill(b->x, ROWS_MAX * HIDDEN * 2, 0x80ff80ffu, 0x3e003e00u, false);
    fill(b->xn, ROWS_MAX * HIDDEN * 2, 0x80ff80ffu, 0x3e003e00u, false);
    fill(b->h, ROWS_MAX * FFN * 2, 0x80ff80ffu, 0x3e003e00u, false);
    fill(b->ss, ROWS_MAX * HIDDEN / 16 * 4, 0x007fffffu, 0x3f000000u, false);
}

static void step_init(struct bench *b, int rows, bool adapters)
{
    struct step_head head = {.rows = {rows, rows}};
    struct lora_piece pieces[ROWS_MAX];
    for (int t = 0; t < rows; t++)
        pieces[t] = (struct lora_piece){t, 1, t, 1};
    head.pieces[VIEW_ROWS].count = adapters ? rows : 0;
    for (int i = 0; i < LORA_ROUNDS; i++)
        head.pieces[VIEW_ROWS].round_end[i] = adapters ? rows : 0;
    b->rows = rows;
    b->adapters = adapters;
    if (!b->step.head) {
        b->step.head = device(sizeof head);
        b->step.pieces[VIEW_ROWS] = device(sizeof pieces);
    }
    check(cudaMemcpy((void *)b->step.head, &head, sizeof head, cudaMemcpyHostToDevice), "head");
    check(cudaMemcpy((void *)b->step.pieces[VIEW_ROWS], pieces, (size_t)rows * sizeof *pieces,
                     cudaMemcpyHostToDevice),
          "pieces");
    const struct pieces_args a = {.step = &b->step,
                                  .table = b->table,
                                  .table_stride = STACK_COUNT(LAYERS),
                                  .stacks = STACK_HEAD(LAYERS),
                                  .out_stack = STACK_HEAD(LAYERS),
                                  .out = b->records,
                                  .u = b->u,
                                  .u_bytes = U_BYTES};
    if (cuda_pieces(&a, b->stream) != STATUS_OK) {
        fprintf(stderr, "linear_bench: the pieces were refused\n");
        exit(1);
    }
}

static void node(struct bench *b, int layer, int kind, bool dependent)
{
    const struct kind *k = &kinds[kind];
    struct linear_args a = {.w = {.data = b->weights[kind] + (size_t)layer * b->weight_bytes[kind],
                                  .format = WEIGHT_INT4,
                                  .n = k->n,
                                  .k = k->k,
                                  .tiles = k->n / TILE_N,
                                  .groups = k->k / TILE_K},
                            .step = &b->step,
                            .view = VIEW_ROWS,
                            .rows_max = b->rows <= 8    ? 8
                                        : b->rows <= 16 ? 16
                                        : b->rows <= 32 ? 32
                                                        : 64,
                            .x = kind == STACK_O      ? b->x
                                 : kind == STACK_DOWN ? b->h
                                                      : b->xn,
                            .x_stride = k->k,
                            .ss = kind == STACK_QKV || kind == STACK_GATE_UP ? b->ss : NULL,
                            .ss_tiles = HIDDEN / 16,
                            .eps = 1e-5f,
                            .out = k->out,
                            .y = kind == STACK_QKV ? b->qkv : b->y,
                            .y_stride = kind == STACK_QKV ? 5120 : HIDDEN,
                            .norm = b->norm,
                            .xn = b->xn,
                            .xn_stride = HIDDEN,
                            .ss_out = b->ss,
                            .h = b->h,
                            .h_stride = FFN,
                            .table = b->table,
                            .table_stride = STACK_COUNT(LAYERS),
                            .codes = b->codes != LORA_BF16,
                            .stack = STACK_OF(layer, kind),
                            .module_tile = {0, kind == STACK_QKV ? 192 : k->n / TILE_N,
                                            kind == STACK_QKV ? 256 : k->n / TILE_N},
                            .pieces = b->records,
                            .u = b->u,
                            .begun = b->begun + (size_t)STACK_OF(layer, kind) * LINEAR_BEGUN,
                            .no_pieces = !b->adapters,
                            .sms = b->sms,
                            .dependent = dependent};
    if (cuda_linear(&a, b->stream) != STATUS_OK) {
        fprintf(stderr, "linear_bench: %s was refused\n", k->name);
        exit(1);
    }
}

/* Milliseconds of a graph with the kinds of `mask`, all layers. */
static double time_graph(struct bench *b, unsigned mask, bool dependent)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    check(cudaStreamBeginCapture(b->stream, cudaStreamCaptureModeThreadLocal), "capture");
    for (int l = 0; l < LAYERS; l++)
        for (int i = 0; i < KINDS; i++)
            if (mask >> i & 1)
                node(b, l, i, dependent);
    check(cudaStreamEndCapture(b->stream, &graph), "capture");
    check(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
    cudaEvent_t from, to;
    float ms[REPEAT];
    check(cudaEventCreate(&from), "event");
    check(cudaEventCreate(&to), "event");
    for (int i = -5; i < REPEAT; i++) {
        check(cudaEventRecord(from, b->stream), "record");
        check(cudaGraphLaunch(exec, b->stream), "launch");
        check(cudaEventRecord(to, b->stream), "record");
        check(cudaEventSynchronize(to), "replay");
        check(cudaEventElapsedTime(&ms[i < 0 ? 0 : i], from, to), "elapsed");
    }
    qsort(ms, REPEAT, sizeof *ms, compare);
    check(cudaGraphExecDestroy(exec), "destroy");
    check(cudaGraphDestroy(graph), "destroy");
    return (double)ms[REPEAT / 2];
}

static void report(struct bench *b, bool adapters)
{
    double all = 0, bytes[KINDS];
    for (int i = 0; i < KINDS; i++) {
        bytes[i] = (double)b->weight_bytes[i] + (adapters ? b->rows * (double)b->slot_bytes[i] : 0);
        all += bytes[i] * LAYERS;
    }
    for (int dependent = 1; dependent >= 0; dependent--) {
        double ms = time_graph(b, 15, dependent);
        printf("T=%-2d %-9s dependent=%d: %7.3f ms  %6.2f GB  %5.0f GB/s  %.3f of copy\n", b->rows,
               adapters ? "all seven" : "none", dependent, ms, all / 1e9, all / ms / 1e6,
               all / ms * 1e3 / b->copy);
    }
    for (int i = 0; i < KINDS; i++) {
        double us = time_graph(b, 1u << i, true) * 1e3 / LAYERS;
        printf("    %-8s %7.2f us  %7.2f MB  %.3f of copy\n", kinds[i].name, us, bytes[i] / 1e6,
               bytes[i] / us * 1e6 / b->copy);
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const int usual[] = {1, 8, 32, 64};
    struct bench b = {0};
    int cards = 0;
    if (cudaGetDeviceCount(&cards) != cudaSuccess || cards == 0) {
        fprintf(stderr, "linear_bench: no card\n");
        return 1;
    }
    static const char *const widths[] = {"bf16", "int8", "int4"};
    for (int i = 0; argc > 1 && i < 3; i++)
        if (strcmp(argv[1], widths[i]) == 0) {
            b.codes = (enum lora_codes)i;
            argc--;
            argv++;
            break;
        }
    printf("adapters of %s\n", widths[b.codes]);
    bench_init(&b);
    for (int i = 0; i < (argc > 1 ? argc - 1 : 4); i++) {
        long rows = argc > 1 ? strtol(argv[i + 1], NULL, 10) : usual[i];
        if (rows < 1 || rows > ROWS_MAX)
            return 1;
        for (int adapters = 0; adapters < 2; adapters++) {
            step_init(&b, (int)rows, adapters);
            report(&b, adapters);
        }
    }
    return 0;
}
