/* prefill_bench: prompts through the CUDA backend, nothing else running, against the card's matrix
 * peak in the same run.
 *
 *   prefill_bench [options] MODEL
 *
 * Each line is a JSON object:
 *   peak     bf16 8192^3 by the library that the backend uses
 *   prompt   one prompt in steps of --rows: median ms of --rounds, TFLOP/s (products of the layers
 *            and causal attention), share of the peak; with and without the first adapter, and
 *            deterministic
 *   mixed    one step of a prompt of 43 tokens beside 31 sequences that decode, each with its own
 *            of the adapters as far as there are any
 *   part     ms of one operation over all layers of a step of --rows rows, one kind after the other
 *   engine   one prompt through an engine that has nothing else to do, in steps of the size that
 *            the server takes where nobody names one: median ms from its submission to its first
 *            token, in how many steps, share of the peak
 *   company  the longest prompt, again and again, beside COMPANY_SEQS streams: its first token, and
 *            the time between the streams' tokens meanwhile
 */
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/cuda_state.h"
#include "cuda/k_dequant.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/model/forward.h"
#include "engine/sched/sched.h"
#include "tests/gpu/ask.h"
#include "tests/gpu/lanes.h"

#define TOKENS_MAX   8
#define MIXED_SEQS   32
#define MIXED_NEW    43
#define MIXED_OLD    64 /* tokens of those that decode */
#define COMPANY_SEQS 8
#define COMPANY_NEW  400 /* tokens of each stream: more than there are while the prompts come */
#define ROUNDS_MAX   64
#define MATRIX       8192

struct bench {
    const char *model_dir;
    const char *adapters; /* directory of adapters, or NULL */
    const char *quant;
    const char *kv_type;
    int tokens[TOKENS_MAX];
    int tokens_count;
    int rows;
    int rounds;
    bool parts;
    bool mixed;
    bool measure_peak;
    bool engine;
    double peak; /* TFLOP/s; 0 without the library */
    struct lanes_rng r;
};

struct load {
    struct backend *b; /* owned */
    struct model *model;
    struct backend_plan plan;
    struct batch_builder builder;
    struct sample_result results[MIXED_SEQS];
    int adapters;
};

static void check(cudaError_t e, const char *what)
{
    if (e != cudaSuccess)
        lanes_die("prefill_bench: %s: %s", what, cudaGetErrorString(e));
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *ms, int count)
{
    qsort(ms, (size_t)count, sizeof *ms, compare);
    return ms[count / 2];
}

static double since_ms(int64_t begin)
{
    return (double)(clock_now_ns() - begin) / 1e6;
}

/* ---- the peak ---- */

static void fill(void *device, size_t bytes)
{
    struct lanes_rng r = {1};
    size_t unit = (size_t)1 << 24, have = bytes < unit ? bytes : unit;
    uint32_t *host = lanes_alloc(unit, 1);
    for (size_t i = 0; i < have / 4; i++)
        host[i] = ((uint32_t)lanes_next(&r) & 0x80ff80ffu) | 0x3f003f00u;
    check(cudaMemcpy(device, host, have, cudaMemcpyHostToDevice), "fill");
    for (; have < bytes; have *= 2)
        check(cudaMemcpy((char *)device + have, device, have < bytes - have ? have : bytes - have,
                         cudaMemcpyDeviceToDevice),
              "fill");
    free(host);
}

static double product_ms(struct cublas *blas, const struct cublas_product *p, int rounds)
{
    double ms[ROUNDS_MAX];
    for (int i = -2; i < rounds; i++) {
        check(cudaDeviceSynchronize(), "product");
        int64_t begin = clock_now_ns();
        if (cublas_multiply(blas, p) != STATUS_OK)
            lanes_die("prefill_bench: the library refuses a product");
        check(cudaDeviceSynchronize(), "product");
        ms[i < 0 ? 0 : i] = since_ms(begin);
    }
    return median(ms, rounds);
}

static void measure_peak(struct bench *b)
{
    size_t bytes = (size_t)MATRIX * MATRIX * 2;
    struct cublas *blas;
    struct err e = {0};
    void *x, *w, *y, *work;
    if (cublas_open(&blas, &e) != STATUS_OK) {
        printf("{\"part\":\"peak\",\"tflops\":0,\"why\":\"%s\"}\n", e.msg);
        return;
    }
    check(cudaMalloc(&x, bytes), "memory");
    check(cudaMalloc(&w, bytes), "memory");
    check(cudaMalloc(&y, bytes), "memory");
    check(cudaMalloc(&work, CUBLAS_WORKSPACE_BYTES), "memory");
    fill(x, bytes);
    fill(w, bytes);
    if (cublas_place(blas, NULL, work, CUBLAS_WORKSPACE_BYTES) != STATUS_OK)
        lanes_die("prefill_bench: the library refuses its workspace");
    struct cublas_product p = {.x = x,
                               .x_stride = MATRIX,
                               .w = w,
                               .w_stride = MATRIX,
                               .y = y,
                               .y_stride = MATRIX,
                               .y_bf16 = true,
                               .factor = 1.0f,
                               .rows = MATRIX,
                               .n = MATRIX,
                               .k = MATRIX};
    b->peak = 2.0 * MATRIX * MATRIX * MATRIX / (product_ms(blas, &p, 20) * 1e9);
    printf("{\"part\":\"peak\",\"tflops\":%.1f}\n", b->peak);
    cublas_close(blas);
    check(cudaFree(x), "free");
    check(cudaFree(w), "free");
    check(cudaFree(y), "free");
    check(cudaFree(work), "free");
}

/* ---- the backend ---- */

/* With the first `most` adapters. */
static void load_open(struct load *l, const struct bench *b, const struct model *m,
                      bool deterministic, int most)
{
    struct backend_options opt = {
        .quant = b->quant, .kv_type = b->kv_type, .deterministic = deterministic};
    struct err e = {0};
    int longest = MIXED_OLD;
    for (int i = 0; i < b->tokens_count; i++)
        longest = b->tokens[i] > longest ? b->tokens[i] : longest;
    *l = (struct load){
        .plan = {.rows_max = b->rows,
                 .seqs_max = MIXED_SEQS,
                 .outs_max = MIXED_SEQS,
                 .segments_max = MIXED_SEQS,
                 .slots_max = MIXED_SEQS,
                 .pages = sched_pages_for(longest) + MIXED_SEQS * sched_pages_for(MIXED_OLD),
                 .ctx_max = longest}};
    if (cuda_backend_open(&opt, &l->b, &e) != STATUS_OK ||
        l->b->ops->model_load(l->b, m, &l->plan, NULL, &e) != STATUS_OK)
        lanes_die("prefill_bench: %s", e.msg);
    if (batch_init(&l->builder, b->rows, MIXED_SEQS, MIXED_SEQS, longest) != STATUS_OK)
        lanes_die("prefill_bench: no memory");
    char **paths = NULL;
    int count = b->adapters ? ask_list(b->adapters, &paths) : 0;
    for (int i = 0; i < count; i++) {
        struct lora *lora = NULL;
        if (i < most && (lora_open(paths[i], m, &lora, &e) != STATUS_OK ||
                         l->b->ops->adapter_load(l->b, i, lora, &e) != STATUS_OK))
            lanes_die("prefill_bench: %s: %s", paths[i], e.msg);
        lora_free(lora);
        free(paths[i]);
    }
    free(paths);
    l->adapters = count < most ? count : most;
}

static void load_close(struct load *l)
{
    batch_deinit(&l->builder);
    l->b->ops->close(l->b);
}

static const struct sample_params greedy = {
    .top_p = 1.0f, .typical_p = 1.0f, .repetition_penalty = 1.0f, .logprobs = -1};

/* On pages from first_page on; slot < 0: no adapter. */
static struct batch_seq make_seq(struct bench *b, const struct model *m, int length, int first_page,
                                 int slot)
{
    int32_t *tokens = lanes_alloc((size_t)length, sizeof *tokens);
    int pages = sched_pages_for(length);
    int32_t *page = lanes_alloc((size_t)pages, sizeof *page);
    for (int t = 0; t < length; t++)
        tokens[t] = lanes_below(&b->r, m->shape.vocab);
    for (int p = 0; p < pages; p++)
        page[p] = first_page + p;
    return (struct batch_seq){.tokens = tokens,
                              .prompt_count = length,
                              .score_from = length,
                              .pages = page,
                              .page_count = pages,
                              .adapter_count = slot >= 0,
                              .slots = {slot > 0 ? slot : 0},
                              .weights = {1.0f},
                              .params = &greedy};
}

static void free_seq(struct batch_seq *q)
{
    free((int32_t *)q->tokens);
    free((int32_t *)q->pages);
}

static void begin_step(struct load *l, struct batch_seq *q, int rows)
{
    int left = q->prompt_count - q->computed;
    q->rows = left < rows ? left : rows;
    q->token_count = q->computed + q->rows;
    batch_build(&l->builder, q, 1);
    if (l->b->ops->step_begin(l->b, &l->builder.batch) != STATUS_OK)
        lanes_die("prefill_bench: step_begin");
}

static void end_step(struct load *l)
{
    struct err e = {0};
    if (l->b->ops->step_launch(l->b) != STATUS_OK ||
        l->b->ops->step_finish(l->b, l->results, &e) != STATUS_OK)
        lanes_die("prefill_bench: a step failed");
}

/* Products of the layers and causal attention. */
static double flops_of(const struct model_shape *s, int tokens)
{
    double a = (double)s->heads * s->head_dim, kv = (double)s->kv_heads * s->head_dim;
    double m = s->hidden, t = tokens;
    double linears = m * (a + 2.0 * kv) + a * m + 3.0 * m * s->ffn;
    return s->layers * (2.0 * t * linears + 2.0 * t * (t + 1.0) * a);
}

static double share_of_peak(const struct bench *b, double tflops)
{
    return b->peak > 0 ? tflops / b->peak : 0.0;
}

static void prompt_line(struct bench *b, struct load *l, const struct model *m, int tokens,
                        bool adapted, const char *how)
{
    double ms[ROUNDS_MAX];
    for (int i = -1; i < b->rounds; i++) {
        struct batch_seq q = make_seq(b, m, tokens, 0, adapted ? 0 : -1);
        int64_t begin = clock_now_ns();
        while (q.computed < tokens) {
            begin_step(l, &q, b->rows);
            forward(l->b, m->shape.layers);
            end_step(l);
            q.computed += q.rows;
        }
        ms[i < 0 ? 0 : i] = since_ms(begin);
        free_seq(&q);
    }
    double at = median(ms, b->rounds), tflops = flops_of(&m->shape, tokens) / (at * 1e9);
    printf("{\"part\":\"prompt\",\"how\":\"%s\",\"adapter\":%d,\"tokens\":%d,\"rows\":%d,"
           "\"ms\":%.3f,\"best_ms\":%.3f,\"tflops\":%.1f,\"share\":%.3f}\n",
           how, adapted, tokens, b->rows, at, ms[0], tflops, share_of_peak(b, tflops));
}

/* A prompt beside sequences that decode. Their keys are whatever the pages hold. */
static void mixed_line(struct bench *b, struct load *l, const struct model *m, bool adapted)
{
    struct batch_seq q[MIXED_SEQS];
    double ms[ROUNDS_MAX];
    const int pages = sched_pages_for(MIXED_OLD);
    for (int i = 0; i < MIXED_SEQS; i++) {
        q[i] = make_seq(b, m, i ? MIXED_OLD : MIXED_NEW, i * pages, adapted ? i % l->adapters : -1);
        q[i].computed = i ? MIXED_OLD - 1 : 0;
        q[i].rows = i ? 1 : MIXED_NEW;
        q[i].token_count = q[i].computed + q[i].rows;
    }
    for (int i = -2; i < b->rounds; i++) {
        int64_t begin = clock_now_ns();
        batch_build(&l->builder, q, MIXED_SEQS);
        if (l->b->ops->step_begin(l->b, &l->builder.batch) != STATUS_OK)
            lanes_die("prefill_bench: step_begin");
        forward(l->b, m->shape.layers);
        end_step(l);
        ms[i < 0 ? 0 : i] = since_ms(begin);
    }
    printf("{\"part\":\"mixed\",\"adapters\":%d,\"rows\":%d,\"ms\":%.3f}\n",
           adapted ? l->adapters : 0, MIXED_NEW + MIXED_SEQS - 1, median(ms, b->rounds));
    for (int i = 0; i < MIXED_SEQS; i++)
        free_seq(&q[i]);
}

/* ---- parts ---- */

static void part_line(const char *name, double ms, double bytes, double flops)
{
    printf("{\"part\":\"part\",\"name\":\"%s\",\"ms\":%.3f", name, ms);
    if (bytes > 0)
        printf(",\"gbps\":%.0f", bytes / (ms * 1e6));
    if (flops > 0)
        printf(",\"tflops\":%.1f", flops / (ms * 1e9));
    printf("}\n");
}

/* An operation of all layers, one behind the other, the second time. */
static void operation(struct load *l, int layers, const char *name,
                      void (*op)(struct backend *b, int layer))
{
    double ms = 0;
    for (int i = 0; i < 2; i++) {
        check(cudaDeviceSynchronize(), name);
        int64_t begin = clock_now_ns();
        for (int layer = 0; layer < layers; layer++)
            op(l->b, layer);
        check(cudaDeviceSynchronize(), name);
        ms = since_ms(begin);
    }
    part_line(name, ms, 0, 0);
}

/* The unpacking and the products alone, by kind of linear. */
static void library_parts(struct load *l, int rows)
{
    static const char *const names[] = {"qkv", "o", "gate_up", "down"};
    struct cuda_backend *c = cuda_backend_of(l->b);
    const int layers = c->w.shape.layers;
    for (int kind = 0; kind < STACK_KINDS; kind++) {
        const struct dev_matrix *w = cuda_weights_stack(&c->w, STACK_OF(0, kind));
        const int k = w->groups * TILE_K, n = w->tiles * TILE_N;
        struct cublas_product p = {.x = kind == STACK_DOWN ? c->ws.many_h : c->ws.many_xn,
                                   .x_stride = k,
                                   .w = c->ws.dequant,
                                   .w_stride = k,
                                   .y = c->ws.product,
                                   .y_stride = c->ws.product_stride,
                                   .factor = 1.0f,
                                   .rows = rows,
                                   .n = n,
                                   .k = k};
        char name[64];
        double flops = 2.0 * n * k * (double)rows * layers;
        double bytes = (double)n * k * 2 + (double)w->tiles * w->groups * tile_bytes(w->format);
        if ((size_t)n * (size_t)k * 2 > c->ws.dequant_bytes)
            continue;
        for (int i = 0; i < 2; i++) {
            check(cudaDeviceSynchronize(), "dequant");
            int64_t begin = clock_now_ns();
            for (int layer = 0; layer < layers; layer++) {
                w = cuda_weights_stack(&c->w, STACK_OF(layer, kind));
                struct dequant_args d = {
                    .w = *w, .tile_count = w->tiles, .out = c->ws.dequant, .out_stride = k};
                if (cuda_dequant(&d, c->stream) != STATUS_OK)
                    lanes_die("prefill_bench: dequant");
            }
            check(cudaDeviceSynchronize(), "dequant");
            snprintf(name, sizeof name, "dequant %s", names[kind]);
            if (i)
                part_line(name, since_ms(begin), bytes * layers, 0);
        }
        for (int bf16 = 0; bf16 < 2; bf16++) {
            p.y_bf16 = bf16;
            check(cudaDeviceSynchronize(), "product");
            int64_t begin = clock_now_ns();
            for (int layer = -2; layer < layers; layer++) {
                if (layer == 0) {
                    check(cudaDeviceSynchronize(), "product");
                    begin = clock_now_ns();
                }
                if (cublas_multiply(c->many.cublas, &p) != STATUS_OK)
                    lanes_die("prefill_bench: product");
            }
            check(cudaDeviceSynchronize(), "product");
            snprintf(name, sizeof name, "product %s%s", names[kind], bf16 ? " in bf16" : "");
            part_line(name, since_ms(begin), 0, flops);
        }
    }
}

static void parts(struct bench *b, struct load *l, const struct model *m, bool adapted)
{
    const struct backend_ops *op = l->b->ops;
    int tokens = b->tokens[0] < b->rows ? b->tokens[0] : b->rows;
    struct batch_seq q = make_seq(b, m, tokens, 0, adapted ? 0 : -1);
    const int layers = m->shape.layers;
    printf("{\"part\":\"parts\",\"tokens\":%d,\"adapter\":%d}\n", tokens, adapted);
    begin_step(l, &q, b->rows);
    operation(l, layers, "attn_in", op->attn_in);
    operation(l, layers, "attend", op->attend);
    operation(l, layers, "attn_out", op->attn_out);
    operation(l, layers, "mlp_in", op->mlp_in);
    operation(l, layers, "mlp_out", op->mlp_out);
    int64_t begin = clock_now_ns();
    op->head(l->b);
    op->sample(l->b);
    check(cudaDeviceSynchronize(), "head");
    part_line("head and sample", since_ms(begin), 0, 0);
    if (!adapted && cuda_backend_of(l->b)->ws.library)
        library_parts(l, tokens);
    /* A whole pass again, so that the step ends as it should. */
    forward(l->b, layers);
    end_step(l);
    free_seq(&q);
}

/* ---- through the engine ---- */

static struct ask *engine_of(const struct bench *b, int longest)
{
    struct engine_options opt = {.model_dir = b->model_dir,
                                 .backend = "cuda",
                                 .quant = b->quant,
                                 .kv_type = b->kv_type,
                                 .ctx_max = longest + COMPANY_NEW,
                                 .seqs_max = MIXED_SEQS,
                                 .slots_max = 1,
                                 .queue_max = LIMIT_QUEUE,
                                 .wait_bound_steps = 64};
    return ask_open(&opt);
}

static struct ask_job make_job(struct bench *b, int vocab, int tokens, int max_tokens, bool adapted)
{
    int32_t *prompt = lanes_alloc((size_t)tokens, sizeof *prompt);
    for (int t = 0; t < tokens; t++)
        prompt[t] = lanes_below(&b->r, vocab);
    return (struct ask_job){.prompt = prompt,
                            .prompt_count = tokens,
                            .max_tokens = max_tokens,
                            .adapter_count = adapted,
                            .weights = {1.0f},
                            .params = greedy};
}

static void free_jobs(struct ask_job *jobs, int count)
{
    for (int i = 0; i < count; i++)
        free((int32_t *)jobs[i].prompt);
    free(jobs);
}

static void on_first(void *ctx, int job, const struct engine_event *ev)
{
    (void)job;
    if (ev->kind == ENGINE_EVENT_TOKEN)
        *(int64_t *)ctx = clock_now_ns();
}

static void engine_line(struct bench *b, struct ask *a, const struct model *m, int tokens,
                        bool adapted)
{
    double ms[ROUNDS_MAX];
    struct engine_stats before, after;
    engine_get_stats(ask_engine(a), &before);
    for (int i = -1; i < b->rounds; i++) {
        struct ask_job *job = lanes_alloc(1, sizeof *job);
        int64_t first_ns = 0;
        *job = make_job(b, m->shape.vocab, tokens, 1, adapted);
        ask_run(a, job, 1, 1, on_first, &first_ns);
        ms[i < 0 ? 0 : i] = (double)(first_ns - ask_submitted_ns(a, 0)) / 1e6;
        free_jobs(job, 1);
    }
    engine_get_stats(ask_engine(a), &after);
    double at = median(ms, b->rounds), tflops = flops_of(&m->shape, tokens) / (at * 1e9);
    printf("{\"part\":\"engine\",\"adapter\":%d,\"tokens\":%d,\"steps\":%.2f,\"ms\":%.3f,"
           "\"best_ms\":%.3f,\"tflops\":%.1f,\"share\":%.3f}\n",
           adapted, tokens, (double)(after.steps - before.steps) / (b->rounds + 1), at, ms[0],
           tflops, share_of_peak(b, tflops));
}

/* Jobs: the streams, one that lets them begin, the prompts one after the other. */
struct company {
    struct ask *ask;
    int64_t last_ns[COMPANY_SEQS];
    double first_ms[ROUNDS_MAX];
    double gap_ms[COMPANY_SEQS * COMPANY_NEW];
    int prompts;
    int gaps;
    bool over; /* the last prompt has its token */
};

static void on_company(void *ctx, int job, const struct engine_event *ev)
{
    struct company *c = ctx;
    const int first = COMPANY_SEQS + 1;
    int64_t now = clock_now_ns();
    if (ev->kind != ENGINE_EVENT_TOKEN)
        return;
    if (job >= first) {
        c->first_ms[job - first] = (double)(now - ask_submitted_ns(c->ask, job)) / 1e6;
        c->over = job == first + c->prompts - 1;
    } else if (job < COMPANY_SEQS) {
        if (!c->over && c->last_ns[job] && ask_submitted_ns(c->ask, first))
            c->gap_ms[c->gaps++] = (double)(now - c->last_ns[job]) / 1e6;
        c->last_ns[job] = now;
    }
}

static void company_line(struct bench *b, struct ask *a, const struct model *m, int tokens,
                         bool adapted)
{
    struct company *c = lanes_alloc(1, sizeof *c);
    int count = COMPANY_SEQS + 1 + b->rounds;
    struct ask_job *jobs = lanes_alloc((size_t)count, sizeof *jobs);
    for (int i = 0; i < count; i++)
        jobs[i] = i <= COMPANY_SEQS
                      ? make_job(b, m->shape.vocab, MIXED_NEW,
                                 i < COMPANY_SEQS ? COMPANY_NEW : COMPANY_NEW / 8, adapted)
                      : make_job(b, m->shape.vocab, tokens, 1, adapted);
    *c = (struct company){.ask = a, .prompts = b->rounds};
    ask_run(a, jobs, count, COMPANY_SEQS + 1, on_company, c);
    double first = median(c->first_ms, b->rounds), half = median(c->gap_ms, c->gaps);
    printf("{\"part\":\"company\",\"adapter\":%d,\"streams\":%d,\"tokens\":%d,"
           "\"first_ms\":%.3f,\"gap_p50_ms\":%.3f,\"gap_worst_ms\":%.3f}\n",
           adapted, COMPANY_SEQS, tokens, first, half, c->gap_ms[c->gaps > 0 ? c->gaps - 1 : 0]);
    free_jobs(jobs, count);
    free(c);
}

static void engine_lines(struct bench *b, const struct model *m)
{
    int longest = 0;
    for (int i = 0; i < b->tokens_count; i++)
        longest = b->tokens[i] > longest ? b->tokens[i] : longest;
    struct ask *a = engine_of(b, longest);
    int adapters = b->adapters ? ask_add(a, b->adapters, 1) : 0;
    for (int adapted = 0; adapted <= (adapters > 0); adapted++) {
        for (int i = 0; i < b->tokens_count; i++)
            engine_line(b, a, m, b->tokens[i], adapted);
        company_line(b, a, m, longest, adapted);
    }
    ask_close(a);
}

/* ---- options ---- */

static const char usage[] = "usage: prefill_bench [options] MODEL\n"
                            "  --adapters DIR  its first sub-directory is the adapter\n"
                            "  --tokens A,B    default 2048,1024,512,128,65,43\n"
                            "  --rows N        of a step, default 2048\n"
                            "  --rounds N      default 7\n"
                            "  --quant FORMAT  none, int8, int4; default int4\n"
                            "  --kv FORMAT     bf16, int8; default bf16\n"
                            "  --parts 0       only prompts\n"
                            "  --mixed 0       no mixed steps, only the first adapter is loaded\n"
                            "  --engine 0      nothing through the engine\n"
                            "  --peak 0        not measured\n";

static int number(const char *s, char **end)
{
    return lanes_number(s, 0, 100000, usage, end);
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
        else if (strcmp(name, "--rows") == 0)
            b->rows = number(value, &end);
        else if (strcmp(name, "--rounds") == 0)
            b->rounds = number(value, &end);
        else if (strcmp(name, "--parts") == 0)
            b->parts = number(value, &end) != 0;
        else if (strcmp(name, "--mixed") == 0)
            b->mixed = number(value, &end) != 0;
        else if (strcmp(name, "--engine") == 0)
            b->engine = number(value, &end) != 0;
        else if (strcmp(name, "--peak") == 0)
            b->measure_peak = number(value, &end) != 0;
        else if (strcmp(name, "--tokens") == 0) {
            b->tokens_count = 0;
            for (; *value && b->tokens_count < TOKENS_MAX; value = *end ? end + 1 : end)
                b->tokens[b->tokens_count++] = number(value, &end);
        } else
            lanes_die("%s: not known\n%s", name, usage);
        i++;
    }
    if (!b->model_dir || b->rows < 8 || b->rounds < 1 || b->rounds > ROUNDS_MAX || !b->tokens_count)
        lanes_die("%s", usage);
}

int main(int argc, char **argv)
{
    struct bench b = {.quant = "int4",
                      .tokens = {2048, 1024, 512, 128, 65, 43},
                      .tokens_count = 6,
                      .rows = 2048,
                      .rounds = 7,
                      .parts = true,
                      .mixed = true,
                      .measure_peak = true,
                      .engine = true,
                      .r = {1}};
    struct model *m;
    struct load l;
    struct err e = {0};
    setvbuf(stdout, NULL, _IOLBF, 0);
    log_setup(LOG_LEVEL_INFO, false);
    read_options(&b, argc, argv);
    if (model_open(b.model_dir, NULL, &m, &e) != STATUS_OK)
        lanes_die("%s: %s", b.model_dir, e.msg);
    if (b.measure_peak)
        measure_peak(&b);
    load_open(&l, &b, m, false, b.mixed ? MIXED_SEQS : 1);
    for (int adapted = 0; adapted <= (l.adapters > 0); adapted++) {
        for (int i = 0; i < b.tokens_count; i++)
            prompt_line(&b, &l, m, b.tokens[i], adapted, "default");
        if (b.mixed && b.rows >= MIXED_NEW + MIXED_SEQS)
            mixed_line(&b, &l, m, adapted);
        if (b.parts)
            parts(&b, &l, m, adapted);
    }
    load_close(&l);
    if (b.engine)
        engine_lines(&b, m);
    b.rounds = 1;
    load_open(&l, &b, m, true, 1);
    for (int adapted = 0; adapted <= (l.adapters > 0); adapted++)
        prompt_line(&b, &l, m, b.tokens[0], adapted, "deterministic");
    load_close(&l);
    model_close(m);
    return 0;
}
