/* node_bench: where a decode step of the CUDA backend goes: each of its operations alone, as a
 * graph over all layers with the launches of the step, beside the whole step's graph.
 *
 *   node_bench [options] MODEL
 *
 * Every line is a JSON object: `us` of one call (its shrink node included), the bytes that it must
 * read, GB/s and the share of the device's copy bandwidth in the same run. A row of a step has a
 * sequence of its own with --context tokens and, with --adapters, an adapter of its own. */
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/cuda_state.h"
#include "cuda/stack_shape.h"
#include "engine/base/log.h"
#include "engine/model/forward.h"
#include "engine/sched/sched.h"
#include "tests/gpu/ask.h"
#include "tests/gpu/lanes.h"

#define BATCHES_MAX 8
#define REPLAYS     15
#define COPY_BYTES  ((size_t)1 << 30)

struct bench {
    const char *model_dir;
    const char *adapters; /* directory of adapters, or NULL */
    const char *quant;
    const char *kv_type;
    int rows[BATCHES_MAX];
    int count;
    int context;
    double copy; /* GB/s */
    struct model *model;
    struct backend *b;
    struct cuda_backend *c;
    int adapter_count;
};

static void check(cudaError_t e, const char *what)
{
    if (e != cudaSuccess)
        lanes_die("node_bench: %s: %s", what, cudaGetErrorString(e));
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Median microseconds of a graph's run. */
static double graph_us(cudaGraphExec_t exec, cudaStream_t s)
{
    cudaEvent_t from, to;
    float ms[REPLAYS];
    check(cudaEventCreate(&from), "an event");
    check(cudaEventCreate(&to), "an event");
    for (int i = -2; i < REPLAYS; i++) {
        check(cudaEventRecord(from, s), "an event");
        check(cudaGraphLaunch(exec, s), "a graph");
        check(cudaEventRecord(to, s), "an event");
        check(cudaEventSynchronize(to), "a graph");
        check(cudaEventElapsedTime(&ms[i < 0 ? 0 : i], from, to), "an event");
    }
    check(cudaEventDestroy(from), "an event");
    check(cudaEventDestroy(to), "an event");
    qsort(ms, REPLAYS, sizeof *ms, by_value);
    return 1000.0 * (double)ms[REPLAYS / 2];
}

static double copy_gbps(void)
{
    void *a, *b;
    cudaStream_t s;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    check(cudaMalloc(&a, COPY_BYTES), "memory");
    check(cudaMalloc(&b, COPY_BYTES), "memory");
    check(cudaStreamCreate(&s), "a stream");
    check(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal), "a graph");
    check(cudaMemcpyAsync(b, a, COPY_BYTES, cudaMemcpyDeviceToDevice, s), "copy");
    check(cudaStreamEndCapture(s, &graph), "a graph");
    check(cudaGraphInstantiate(&exec, graph, 0), "a graph");
    double us = graph_us(exec, s);
    check(cudaGraphExecDestroy(exec), "a graph");
    check(cudaGraphDestroy(graph), "a graph");
    check(cudaStreamDestroy(s), "a stream");
    check(cudaFree(a), "memory");
    check(cudaFree(b), "memory");
    return 2.0 * (double)COPY_BYTES / (us * 1e3);
}

/* ---- the step ---- */

static void open_backend(struct bench *b)
{
    struct backend_options opt = {.quant = b->quant, .kv_type = b->kv_type};
    struct err e = {0};
    int most = 0;
    for (int i = 0; i < b->count; i++)
        most = b->rows[i] > most ? b->rows[i] : most;
    struct backend_plan plan = {.rows_max = most,
                                .seqs_max = most,
                                .outs_max = most,
                                .segments_max = most,
                                .slots_max = most,
                                .pages = most * sched_pages_for(b->context),
                                .ctx_max = b->context};
    if (cuda_backend_open(&opt, &b->b, &e) != STATUS_OK ||
        b->b->ops->model_load(b->b, b->model, &plan, NULL, &e) != STATUS_OK)
        lanes_die("node_bench: %s", e.msg);
    b->c = cuda_backend_of(b->b);
    /* Any finite keys and values: bf16 of 0.5 and less. */
    check(cudaMemset(b->c->kv_mem, 0x3e, b->c->memory.kv), "pages");
    char **paths = NULL;
    int count = b->adapters ? ask_list(b->adapters, &paths) : 0;
    for (int i = 0; i < count; i++) {
        struct lora *lora = NULL;
        if (b->adapter_count < most) {
            if (lora_open(paths[i], b->model, &lora, &e) != STATUS_OK ||
                b->b->ops->adapter_load(b->b, b->adapter_count, lora, &e) != STATUS_OK)
                lanes_die("node_bench: %s: %s", paths[i], e.msg);
            b->adapter_count++;
        }
        lora_free(lora);
        free(paths[i]);
    }
    free(paths);
    check(cudaDeviceSynchronize(), "the model");
}

static const struct sample_params greedy = {
    .top_p = 1.0f, .typical_p = 1.0f, .repetition_penalty = 1.0f, .logprobs = -1};

/* `rows` sequences that decode their last token. */
static struct batch_seq *make_seqs(const struct bench *b, int rows)
{
    struct batch_seq *q = lanes_alloc((size_t)rows, sizeof *q);
    int pages = sched_pages_for(b->context);
    struct lanes_rng rng = {3};
    for (int s = 0; s < rows; s++) {
        int32_t *tokens = lanes_alloc((size_t)b->context, sizeof *tokens);
        int32_t *page = lanes_alloc((size_t)pages, sizeof *page);
        for (int t = 0; t < b->context; t++)
            tokens[t] = lanes_below(&rng, b->model->shape.vocab);
        for (int p = 0; p < pages; p++)
            page[p] = p * rows + s;
        q[s] = (struct batch_seq){.tokens = tokens,
                                  .token_count = b->context,
                                  .prompt_count = b->context,
                                  .computed = b->context - 1,
                                  .rows = 1,
                                  .score_from = b->context,
                                  .pages = page,
                                  .page_count = pages,
                                  .adapter_count = b->adapter_count > 0,
                                  .weights = {1.0f},
                                  .params = &greedy};
        q[s].slots[0] = b->adapter_count > 0 ? s % b->adapter_count : 0;
    }
    return q;
}

static void free_seqs(struct batch_seq *q, int rows)
{
    for (int s = 0; s < rows; s++) {
        free((int32_t *)q[s].tokens);
        free((int32_t *)q[s].pages);
    }
    free(q);
}

/* ---- bytes ---- */

/* A and B of the adapters that the step's rows have at a linear. */
static double adapter_bytes(const struct bench *b, int stack, int rows)
{
    struct stack_shape shape;
    stack_shape_init(&b->c->w.shape, stack, &shape);
    double sum = 0;
    int distinct = rows < b->adapter_count ? rows : b->adapter_count;
    for (int i = 0; i < distinct; i++) {
        const struct lora_stack *t =
            &b->c->slots.table[(size_t)i * (size_t)b->c->ws.table_stride + (size_t)stack];
        sum += (double)t->rank_tiles * shape.groups * TILE_BYTES_BF16;
        for (int m = 0; m < STACK_MODULES; m++) {
            int end = m + 1 < STACK_MODULES ? shape.module_tile[m + 1] : shape.tiles;
            int ranks = t->module_tile[m + 1] - t->module_tile[m];
            if (shape.interleaved && m == 0)
                end = shape.tiles;
            sum += (double)ranks * (end - shape.module_tile[m]) * 512;
        }
    }
    return sum;
}

static double linear_bytes(const struct bench *b, int stack, int rows)
{
    const struct dev_matrix *w = cuda_weights_stack(&b->c->w, stack);
    double bytes = (double)w->tiles * w->groups * (double)tile_bytes(w->format);
    return bytes + (w->row_scale ? w->tiles * TILE_N * 4.0 : 0.0) + adapter_bytes(b, stack, rows);
}

/* ---- parts ---- */

struct part {
    const char *name;
    void (*layer)(struct backend *b, int layer); /* or */
    void (*once)(struct backend *b);
    double bytes;
};

/* All layers of one operation as a graph; microseconds of a call. */
static double part_us(const struct bench *b, const struct part *p)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    int calls = p->layer ? b->model->shape.layers : 8;
    cudaStream_t s = b->c->stream;
    check(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal), p->name);
    for (int i = 0; i < calls; i++) {
        if (p->layer)
            p->layer(b->b, i);
        else
            p->once(b->b);
    }
    check(cudaStreamEndCapture(s, &graph), p->name);
    if (b->c->step.failed != STATUS_OK)
        lanes_die("node_bench: %s is not launched", p->name);
    check(cudaGraphInstantiate(&exec, graph, 0), p->name);
    double us = graph_us(exec, s);
    check(cudaGraphExecDestroy(exec), p->name);
    check(cudaGraphDestroy(graph), p->name);
    return us / calls;
}

static void line(const struct bench *b, int rows, const char *name, int calls, double us,
                 double bytes)
{
    double gbps = bytes / (us * 1e3);
    printf("{\"part\":\"node\",\"rows\":%d,\"context\":%d,\"adapters\":%d,\"name\":\"%s\","
           "\"calls\":%d,\"us\":%.2f,\"bytes\":%.0f,\"gbps\":%.0f,\"share\":%.2f}\n",
           rows, b->context, b->adapter_count, name, calls, us, bytes, gbps, gbps / b->copy);
}

static void bench_rows(const struct bench *b, int rows)
{
    const struct backend_ops *op = b->b->ops;
    const struct model_shape *m = &b->model->shape;
    struct batch_builder builder;
    struct batch_seq *q = make_seqs(b, rows);
    struct sample_result *results = lanes_alloc((size_t)rows, sizeof *results);
    struct err e = {0};
    double page = (double)op->page_bytes(b->b, m) / m->layers;
    double kv = page / LIMIT_KV_PAGE_TOKENS * rows * b->context;
    double logits = 4.0 * rows * m->vocab;
    struct part parts[] = {
        {"embed", NULL, op->embed, 0},
        {"attn_in", op->attn_in, NULL, linear_bytes(b, STACK_OF(0, STACK_QKV), rows)},
        {"attend", op->attend, NULL, kv},
        {"attn_out", op->attn_out, NULL, linear_bytes(b, STACK_OF(0, STACK_O), rows)},
        {"mlp_in", op->mlp_in, NULL, linear_bytes(b, STACK_OF(0, STACK_GATE_UP), rows)},
        {"mlp_out", op->mlp_out, NULL, linear_bytes(b, STACK_OF(0, STACK_DOWN), rows)},
        {"head", NULL, op->head, linear_bytes(b, STACK_HEAD(m->layers), rows)},
        {"sample", NULL, op->sample, logits}};
    if (batch_init(&builder, rows, rows, rows, b->context) != STATUS_OK)
        lanes_die("node_bench: no memory");
    batch_build(&builder, q, rows);
    if (op->step_begin(b->b, &builder.batch) != STATUS_OK || !b->c->step.graph)
        lanes_die("node_bench: no graph for %d rows", rows);
    double step = graph_us(b->c->step.graph, b->c->stream), us = 0, bytes = 0;
    b->c->step.graph = NULL; /* operations launch their nodes from here on */
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const struct part *p = &parts[i];
        int calls = p->layer ? m->layers : 1;
        double one = part_us(b, p);
        line(b, rows, p->name, calls, one, p->bytes);
        us += calls * one;
        bytes += calls * (p->once == op->sample ? 0 : p->bytes);
    }
    line(b, rows, "sum of parts", 1, us, bytes);
    line(b, rows, "step", 1, step, bytes);
    forward(b->b, m->layers); /* so that the step ends as it should */
    if (op->step_launch(b->b) != STATUS_OK || op->step_finish(b->b, results, &e) != STATUS_OK)
        lanes_die("node_bench: the step failed");
    batch_deinit(&builder);
    free(results);
    free_seqs(q, rows);
}

/* ---- options ---- */

static const char usage[] = "usage: node_bench [options] MODEL\n"
                            "  --adapters DIR  each row takes one of its sub-directories\n"
                            "  --rows A,B      default 1,8,32\n"
                            "  --context N     default 150\n"
                            "  --quant FORMAT  none, int8, int4; default int4\n"
                            "  --kv FORMAT     bf16, int8; default bf16\n";

static int number(const char *s, char **end)
{
    return lanes_number(s, 1, LIMIT_CTX, usage, end);
}

static void read_options(struct bench *b, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = argv[i + 1];
        char *end = "";
        if (strncmp(name, "--", 2) != 0) {
            b->model_dir = name;
            continue;
        }
        if (!value)
            lanes_die("%s", usage);
        if (strcmp(name, "--adapters") == 0)
            b->adapters = value;
        else if (strcmp(name, "--quant") == 0)
            b->quant = value;
        else if (strcmp(name, "--kv") == 0)
            b->kv_type = value;
        else if (strcmp(name, "--context") == 0)
            b->context = number(value, &end);
        else if (strcmp(name, "--rows") == 0) {
            b->count = 0;
            for (; *value && b->count < BATCHES_MAX; value = *end ? end + 1 : end) {
                b->rows[b->count] = number(value, &end);
                if (b->rows[b->count++] > BUCKET_ROWS_GRAPH)
                    lanes_die("node_bench: steps of more than %d rows have no graph\n",
                              BUCKET_ROWS_GRAPH);
            }
        } else
            lanes_die("%s: not known\n%s", name, usage);
        i++;
    }
    if (!b->model_dir || !b->count)
        lanes_die("%s", usage);
}

int main(int argc, char **argv)
{
    struct bench b = {.quant = "int4", .rows = {1, 8, 32}, .count = 3, .context = 150};
    struct err e = {0};
    setvbuf(stdout, NULL, _IOLBF, 0);
    log_setup(LOG_LEVEL_INFO, false);
    read_options(&b, argc, argv);
    if (model_open(b.model_dir, NULL, &b.model, &e) != STATUS_OK)
        lanes_die("%s: %s", b.model_dir, e.msg);
    open_backend(&b);
    b.copy = copy_gbps();
    printf("{\"part\":\"copy\",\"gbps\":%.0f}\n", b.copy);
    for (int i = 0; i < b.count; i++)
        bench_rows(&b, b.rows[i]);
    b.b->ops->close(b.b);
    model_close(b.model);
    return 0;
}
