/* engine_bench: how fast the engine and the backend are without HTTP.
 *
 *   engine_bench [options] MODEL
 *
 * engine   A closed loop of C clients over engine.h, one adapter each: what HTTP adds is the
 *          difference to `chorus bench` with the same work.
 * backend  C sequences that decode side by side over backend.h, nothing else running: the time of a
 *          step and of each of its phases on the host. Where the backend can follow, once more with
 *          the next step launched before the last one is finished.
 * prefill  One prompt of --long tokens over backend.h, in steps of --rows; through the engine:
 *          prefill_bench.
 *
 * Every line is a JSON object. Prompts are random ids; nothing ends early.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/model/forward.h"
#include "engine/sched/sched.h"
#include "tests/gpu/ask.h"
#include "tests/gpu/lanes.h"

#define STREAMS_MAX 16

struct bench {
    const char *model_dir;
    const char *backend;
    const char *dirs[8];
    int dir_count;
    int streams[STREAMS_MAX];
    int streams_count;
    int prompt;
    int generate;
    int rounds;
    int rows; /* 0: what the backend likes, as the server's engine takes */
    int long_prompt;
    int threads;
    const char *quant; /* "auto", "none", "int8", "int4" */
    const char *kv_type;
    bool plain_launches;
    const char *label;
    struct lanes_rng r;
};

/* ---- figures ---- */

struct series {
    double *values; /* owned */
    int count;
    int cap;
};

static void series_add(struct series *s, double value)
{
    if (s->count == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 4096;
        s->values = realloc(s->values, (size_t)s->cap * sizeof *s->values);
        if (!s->values)
            lanes_die("no memory");
    }
    s->values[s->count++] = value;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Nearest rank; 0 of nothing. */
static double percentile(struct series *s, int p)
{
    if (s->count == 0)
        return 0.0;
    qsort(s->values, (size_t)s->count, sizeof *s->values, compare);
    int rank = (s->count * p + 99) / 100;
    return s->values[rank > 0 ? rank - 1 : 0];
}

static void series_free(struct series *s)
{
    free(s->values);
    *s = (struct series){0};
}

static void begin_line(const struct bench *b, const char *part, int streams, int adapters)
{
    printf("{\"part\":\"%s\",\"label\":\"%s\",\"backend\":\"%s\",\"streams\":%d,\"adapters\":%d",
           part, b->label, b->backend, streams, adapters);
}

/* ---- the engine ---- */

struct clients {
    struct ask *ask;
    int64_t *last_ns; /* owned, by job; 0 before its first token */
    struct series first, gap;
    long tokens;
};

static void on_event(void *ctx, int job, const struct engine_event *ev)
{
    struct clients *c = ctx;
    if (ev->kind != ENGINE_EVENT_TOKEN)
        return;
    int64_t now = clock_now_ns();
    if (c->last_ns[job])
        series_add(&c->gap, (double)(now - c->last_ns[job]) / 1e6);
    else
        series_add(&c->first, (double)(now - ask_submitted_ns(c->ask, job)) / 1e6);
    c->last_ns[job] = now;
    c->tokens++;
}

static struct ask_job *make_jobs(struct bench *b, int count, int streams, int adapters, int vocab)
{
    struct ask_job *jobs = lanes_alloc((size_t)count, sizeof *jobs);
    for (int i = 0; i < count; i++) {
        int32_t *prompt = lanes_alloc((size_t)b->prompt, sizeof *prompt);
        for (int t = 0; t < b->prompt; t++)
            prompt[t] = lanes_below(&b->r, vocab);
        jobs[i] = (struct ask_job){
            .prompt = prompt,
            .prompt_count = b->prompt,
            .max_tokens = b->generate,
            .adapter_count = adapters > 0,
            .adapters = {adapters ? i % streams % adapters : 0},
            .weights = {1.0f},
            .params = {.top_p = 1.0f,
                       .typical_p = 1.0f,
                       .repetition_penalty = 1.0f,
                       .logprobs = -1,
                       .seed = lanes_next(&b->r)},
        };
    }
    return jobs;
}

static void free_jobs(struct ask_job *jobs, int count)
{
    for (int i = 0; i < count; i++)
        free((int32_t *)jobs[i].prompt);
    free(jobs);
}

static void run_clients(struct bench *b, struct ask *a, int streams, int adapters, bool warm)
{
    struct engine_info info;
    struct engine_stats before, after;
    int count = warm ? streams : streams * b->rounds;
    engine_get_info(ask_engine(a), &info);
    struct ask_job *jobs = make_jobs(b, count, streams, adapters, info.vocab);
    struct clients c = {.ask = a, .last_ns = lanes_alloc((size_t)count, sizeof(int64_t))};
    engine_get_stats(ask_engine(a), &before);
    int64_t begin = clock_now_ns();
    ask_run(a, jobs, count, streams, on_event, &c);
    double s = (double)(clock_now_ns() - begin) / 1e9;
    engine_get_stats(ask_engine(a), &after);
    if (!warm) {
        double steps = (double)(after.steps - before.steps);
        begin_line(b, "engine", streams, adapters < streams ? adapters : streams);
        printf(",\"prompt\":%d,\"generate\":%d,\"requests\":%d,\"seconds\":%.4f,"
               "\"tokens_per_s\":%.1f,\"steps_per_s\":%.1f,\"step_ms\":%.4f,"
               "\"first_token_p50_ms\":%.3f,\"first_token_p99_ms\":%.3f,\"gap_p50_ms\":%.3f,"
               "\"gap_p99_ms\":%.3f}\n",
               b->prompt, b->generate, count, s, (double)c.tokens / s, steps / s, 1e3 * s / steps,
               percentile(&c.first, 50), percentile(&c.first, 99), percentile(&c.gap, 50),
               percentile(&c.gap, 99));
    }
    series_free(&c.first);
    series_free(&c.gap);
    free(c.last_ns);
    free_jobs(jobs, count);
}

static int most_streams(const struct bench *b)
{
    int most = 1;
    for (int i = 0; i < b->streams_count; i++)
        most = b->streams[i] > most ? b->streams[i] : most;
    return most;
}

static void bench_engine(struct bench *b)
{
    int most = most_streams(b);
    struct engine_options opt = {
        .model_dir = b->model_dir,
        .backend = b->backend,
        .isa = "auto",
        .threads = b->threads,
        .ctx_max = b->prompt + b->generate,
        .seqs_max = most,
        .rows_max = b->rows,
        .slots_max = most < LIMIT_ADAPTER_SLOTS ? most : LIMIT_ADAPTER_SLOTS,
        .queue_max = LIMIT_QUEUE,
        .wait_bound_steps = 64,
    };
    opt.quant = b->quant;
    opt.kv_type = b->kv_type;
    opt.plain_launches = b->plain_launches;
    struct ask *a = ask_open(&opt);
    int adapters = 0;
    for (int d = 0; d < b->dir_count; d++)
        adapters = ask_add(a, b->dirs[d], opt.slots_max);
    for (int i = 0; i < b->streams_count; i++) {
        run_clients(b, a, b->streams[i], adapters, true);
        run_clients(b, a, b->streams[i], adapters, false);
    }
    ask_close(a);
}

/* ---- the backend ---- */

struct load {
    struct backend *b; /* owned */
    struct model *model;
    struct backend_plan plan;
    int adapters;
};

static void load_open(struct load *l, struct bench *b)
{
    struct backend_options opt = {.threads = b->threads};
    opt.quant = b->quant;
    opt.kv_type = b->kv_type;
    opt.plain_launches = b->plain_launches;
    struct err e = {0};
    *l = (struct load){0};
    if (model_open(b->model_dir, NULL, &l->model, &e) != STATUS_OK)
        lanes_die("%s: %s", b->model_dir, e.msg);
    enum status st = STATUS_UNSUPPORTED;
    if (strcmp(b->backend, "cpu") == 0)
        st = cpu_backend_open(&opt, &l->b, &e);
#ifdef CHORUS_CUDA
    else if (strcmp(b->backend, "cuda") == 0)
        st = cuda_backend_open(&opt, &l->b, &e);
#endif
    else
        lanes_die("no backend \"%s\" in this build", b->backend);
    int most = most_streams(b);
    if (b->rows == 0)
        b->rows = l->b->ops->rows_best ? l->b->ops->rows_best(l->b) : BACKEND_ROWS;
    int longest = b->prompt + b->generate;
    longest = b->long_prompt > longest ? b->long_prompt : longest;
    l->plan = (struct backend_plan){
        .rows_max = b->rows,
        .seqs_max = most,
        .outs_max = most,
        .segments_max = most * LIMIT_ADAPTERS_PER_REQUEST,
        .slots_max = most < LIMIT_ADAPTER_SLOTS ? most : LIMIT_ADAPTER_SLOTS,
        .pages = most * sched_pages_for(b->prompt + b->generate) + sched_pages_for(longest),
        .ctx_max = longest,
    };
    if (st == STATUS_OK)
        st = l->b->ops->model_load(l->b, l->model, &l->plan, NULL, &e);
    if (st != STATUS_OK)
        lanes_die("backend %s: %s", b->backend, e.msg);
    for (int d = 0; d < b->dir_count; d++) {
        char **paths;
        int count = ask_list(b->dirs[d], &paths);
        for (int i = 0; i < count; i++) {
            struct lora *lora = NULL;
            if (l->adapters < l->plan.slots_max) {
                if (lora_open(paths[i], l->model, &lora, &e) != STATUS_OK ||
                    l->b->ops->adapter_load(l->b, l->adapters, lora, &e) != STATUS_OK)
                    lanes_die("%s: %s", paths[i], e.msg);
                lora_free(lora);
                l->adapters++;
            }
            free(paths[i]);
        }
        free(paths);
    }
}

static void load_close(struct load *l)
{
    l->b->ops->close(l->b);
    model_close(l->model);
}

enum phase { PHASE_BUILD, PHASE_BEGIN, PHASE_PASS, PHASE_LAUNCH, PHASE_FINISH, PHASE_COUNT };
static const char *const phase_names[] = {"build", "begin", "pass", "launch", "finish"};

/* Steps and the time of their phases. */
struct stepper {
    struct load *l;
    int layers;
    struct batch_builder builder[BACKEND_FLIGHTS];
    int next;                      /* builder of the next step */
    struct sample_result *results; /* owned, [O] */
    double ns[PHASE_COUNT];
    long steps;
};

static void stepper_init(struct stepper *s, struct load *l)
{
    const struct backend_plan *p = &l->plan;
    *s = (struct stepper){.l = l, .layers = l->model->shape.layers};
    for (int i = 0; i < BACKEND_FLIGHTS; i++) {
        if (batch_init(&s->builder[i], p->rows_max, p->seqs_max, p->outs_max, p->ctx_max) !=
            STATUS_OK)
            lanes_die("no memory for a batch");
    }
    s->results = lanes_alloc((size_t)p->outs_max, sizeof *s->results);
}

static void stepper_deinit(struct stepper *s)
{
    for (int i = 0; i < BACKEND_FLIGHTS; i++)
        batch_deinit(&s->builder[i]);
    free(s->results);
}

static void clock_phase(struct stepper *s, enum phase p, int64_t *since)
{
    int64_t now = clock_now_ns();
    s->ns[p] += (double)(now - *since);
    *since = now;
}

/* Builds and launches a step; `follow`: each sequence's row takes what its output of the step
 * before draws. */
static void launch(struct stepper *s, const struct batch_seq *seqs, int count, bool follow)
{
    struct backend *b = s->l->b;
    int64_t at = clock_now_ns();
    struct batch_builder *builder = &s->builder[s->next];
    s->next = (s->next + 1) % BACKEND_FLIGHTS;
    batch_build(builder, seqs, count);
    for (int r = 0; follow && r < builder->batch.rows; r++)
        builder->batch.token[r] = -1 - r; /* one row and one output each, in the same order */
    clock_phase(s, PHASE_BUILD, &at);
    if (b->ops->step_begin(b, &builder->batch) != STATUS_OK)
        lanes_die("step_begin refused a step");
    clock_phase(s, PHASE_BEGIN, &at);
    forward(b, s->layers);
    clock_phase(s, PHASE_PASS, &at);
    if (b->ops->step_launch(b) != STATUS_OK)
        lanes_die("step_launch failed");
    clock_phase(s, PHASE_LAUNCH, &at);
}

static void finish(struct stepper *s)
{
    struct err e = {0};
    int64_t at = clock_now_ns();
    if (s->l->b->ops->step_finish(s->l->b, s->results, &e) != STATUS_OK)
        lanes_die("step: %s", e.msg);
    clock_phase(s, PHASE_FINISH, &at);
    s->steps++;
}

static const struct sample_params greedy = {
    .top_p = 1.0f, .typical_p = 1.0f, .repetition_penalty = 1.0f, .logprobs = -1};

/* Sequence i of a load, with random tokens all the way: what is drawn is not looked at. */
static struct batch_seq make_seq(struct bench *b, const struct load *l, int i, int length,
                                 int first_page, bool adapted)
{
    int32_t *tokens = lanes_alloc((size_t)length, sizeof *tokens);
    int pages = sched_pages_for(length);
    int32_t *page = lanes_alloc((size_t)pages, sizeof *page);
    for (int t = 0; t < length; t++)
        tokens[t] = lanes_below(&b->r, l->model->shape.vocab);
    for (int p = 0; p < pages; p++)
        page[p] = first_page + p;
    return (struct batch_seq){.tokens = tokens,
                              .prompt_count = length,
                              .score_from = length,
                              .pages = page,
                              .page_count = pages,
                              .adapter_count = adapted && l->adapters > 0,
                              .slots = {l->adapters ? i % l->adapters : 0},
                              .weights = {1.0f},
                              .params = &greedy};
}

static void free_seq(struct batch_seq *s)
{
    free((int32_t *)s->tokens);
    free((int32_t *)s->pages);
}

/* The first `count` tokens of a sequence, in steps of at most `rows`. */
static void prefill(struct stepper *s, struct batch_seq *q, int count, int rows)
{
    while (q->computed < count) {
        int left = count - q->computed;
        q->rows = left < rows ? left : rows;
        q->token_count = q->computed + q->rows;
        launch(s, q, 1, false);
        finish(s);
        q->computed += q->rows;
    }
}

static void decode(struct stepper *s, struct batch_seq *seqs, int streams, int steps, bool ahead)
{
    for (int n = 0; n < steps; n++) {
        for (int i = 0; i < streams; i++) {
            seqs[i].rows = 1;
            seqs[i].token_count = seqs[i].computed + 1;
        }
        launch(s, seqs, streams, ahead && n > 0);
        if (!ahead || n > 0)
            finish(s);
        for (int i = 0; i < streams; i++)
            seqs[i].computed++;
    }
    if (ahead)
        finish(s);
}

static void decode_line(struct bench *b, struct load *l, int streams, bool ahead)
{
    struct stepper s;
    struct batch_seq *seqs = lanes_alloc((size_t)streams, sizeof *seqs);
    int length = b->prompt + b->generate, pages = sched_pages_for(length), warm = 3;
    stepper_init(&s, l);
    for (int i = 0; i < streams; i++) {
        seqs[i] = make_seq(b, l, i, length, i * pages, true);
        prefill(&s, &seqs[i], b->prompt, b->rows);
    }
    decode(&s, seqs, streams, warm, ahead);
    memset(s.ns, 0, sizeof s.ns);
    s.steps = 0;
    int64_t begin = clock_now_ns();
    decode(&s, seqs, streams, b->generate - warm, ahead);
    double ns = (double)(clock_now_ns() - begin);
    int adapters = l->adapters < streams ? l->adapters : streams;
    begin_line(b, ahead ? "backend-ahead" : "backend", streams, adapters);
    printf(",\"prompt\":%d,\"steps\":%ld,\"step_ms\":%.4f,\"tokens_per_s\":%.1f", b->prompt,
           s.steps, ns / 1e6 / (double)s.steps, (double)(s.steps * streams) / (ns / 1e9));
    for (int p = 0; p < PHASE_COUNT; p++)
        printf(",\"%s_us\":%.2f", phase_names[p], s.ns[p] / 1e3 / (double)s.steps);
    printf("}\n");
    for (int i = 0; i < streams; i++)
        free_seq(&seqs[i]);
    free(seqs);
    stepper_deinit(&s);
}

static void prefill_line(struct bench *b, struct load *l, bool adapted)
{
    struct stepper s;
    stepper_init(&s, l);
    double best = 1e30;
    for (int i = 0; i < b->rounds; i++) {
        struct batch_seq q = make_seq(b, l, i, b->long_prompt, 0, adapted);
        int64_t begin = clock_now_ns();
        prefill(&s, &q, b->long_prompt, b->rows);
        double ns = (double)(clock_now_ns() - begin);
        best = ns < best ? ns : best;
        free_seq(&q);
    }
    begin_line(b, "prefill", 1, adapted && l->adapters > 0);
    printf(",\"prompt\":%d,\"rows\":%d,\"ms\":%.3f,\"tokens_per_s\":%.1f}\n", b->long_prompt,
           b->rows, best / 1e6, b->long_prompt / (best / 1e9));
    stepper_deinit(&s);
}

static void bench_backend(struct bench *b)
{
    struct load l;
    load_open(&l, b);
    for (int i = 0; i < b->streams_count; i++) {
        decode_line(b, &l, b->streams[i], false);
        if (l.b->ops->step_draw)
            decode_line(b, &l, b->streams[i], true);
    }
    if (b->long_prompt > 0) {
        prefill_line(b, &l, false);
        if (l.adapters > 0)
            prefill_line(b, &l, true);
    }
    load_close(&l);
}

/* ---- options ---- */

static const char usage[] =
    "usage: engine_bench [options] MODEL\n"
    "  --backend NAME    default cuda\n"
    "  --adapters DIR    every sub-directory is an adapter, one a stream; may be repeated\n"
    "  --streams A,B,..  default 1,8,32,64\n"
    "  --prompt N        tokens, default 43\n"
    "  --generate N      tokens, default 100\n"
    "  --rounds N        requests a client, default 3\n"
    "  --rows N          rows of a step, default as many as the backend likes\n"
    "  --long N          tokens of the prefill part, default 2048; 0: left out\n"
    "  --quant FORMAT    none, int8, int4; default auto\n"
    "  --kv FORMAT       bf16, int8; default bf16\n"
    "  --launches HOW    plain: no dependent launches, as cards before sm_90\n"
    "  --threads N       of the CPU backend\n"
    "  --label TEXT      copied into each line\n"
    "  --part NAME       engine or backend; default both\n";

static int number(const char *s, char **end)
{
    return lanes_number(s, 0, 1000000, usage, end);
}

static void read_streams(struct bench *b, const char *s)
{
    b->streams_count = 0;
    for (char *end; *s; s = *end ? end + 1 : end) {
        if (b->streams_count == STREAMS_MAX)
            lanes_die("more than %d values in --streams", STREAMS_MAX);
        int v = number(s, &end);
        if (v < 1 || v > LIMIT_SEQS || (*end && *end != ','))
            lanes_die("--streams: 1 to %d, with commas", LIMIT_SEQS);
        b->streams[b->streams_count++] = v;
    }
}

int main(int argc, char **argv)
{
    struct bench b = {.backend = "cuda",
                      .streams = {1, 8, 32, 64},
                      .streams_count = 4,
                      .prompt = 43,
                      .generate = 100,
                      .rounds = 3,
                      .long_prompt = 2048,
                      .quant = "auto",
                      .label = "",
                      .r = {1}};
    const struct {
        const char *name;
        int *value;
    } numbers[] = {{"--prompt", &b.prompt}, {"--generate", &b.generate}, {"--rounds", &b.rounds},
                   {"--rows", &b.rows},     {"--long", &b.long_prompt},  {"--threads", &b.threads}};
    const char *part = "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    log_setup(LOG_LEVEL_WARN, false);
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = argv[i + 1];
        if (strncmp(name, "--", 2) != 0) {
            b.model_dir = name;
            continue;
        }
        size_t k = 0;
        while (k < sizeof numbers / sizeof *numbers && strcmp(numbers[k].name, name) != 0)
            k++;
        char *end = "";
        if (!value)
            lanes_die("%s", usage);
        else if (k < sizeof numbers / sizeof *numbers)
            *numbers[k].value = number(value, &end);
        else if (strcmp(name, "--backend") == 0)
            b.backend = value;
        else if (strcmp(name, "--adapters") == 0 && b.dir_count < 8)
            b.dirs[b.dir_count++] = value;
        else if (strcmp(name, "--streams") == 0)
            read_streams(&b, value);
        else if (strcmp(name, "--quant") == 0)
            b.quant = value;
        else if (strcmp(name, "--kv") == 0)
            b.kv_type = value;
        else if (strcmp(name, "--launches") == 0)
            b.plain_launches = strcmp(value, "plain") == 0;
        else if (strcmp(name, "--label") == 0)
            b.label = value;
        else if (strcmp(name, "--part") == 0)
            part = value;
        else
            lanes_die("%s: not known\n%s", name, usage);
        i++;
    }
    if (!b.model_dir || b.prompt < 1 || b.generate < 8 || b.rounds < 1 ||
        (b.rows > 0 && b.rows < most_streams(&b)))
        lanes_die("%s", usage);
    if (strcmp(part, "backend") != 0)
        bench_engine(&b);
    if (strcmp(part, "engine") != 0)
        bench_backend(&b);
    return 0;
}
