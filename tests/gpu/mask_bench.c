/* mask_bench: what grammars cost a step.
 *
 *   mask_bench [options] MODEL
 *
 * STREAMS answers decode side by side over engine.h, none of which ends early: once without
 * grammars, then held to schemas, expressions and choices, each answer to one of its own, and with
 * half of them held to schemas. One JSON object a kind: the time between two tokens of an answer,
 * which is the step's where each answer has a row in every step, and its ratio to that of the
 * answers without grammars in the same rounds. Kinds take turns in each round, so that what changes
 * with time is the same for all.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/engine_grammar.h"
#include "tests/gpu/ask.h"
#include "tests/gpu/lanes.h"

#define ROUNDS_MAX 64

enum kind { KIND_NONE, KIND_SCHEMA, KIND_REGEX, KIND_CHOICE, KIND_HALF, KIND_COUNT };
static const char *const kind_names[] = {"none", "schema", "regex", "choice", "half"};

struct bench {
    const char *model_dir;
    const char *backend;
    const char *quant;
    int streams;
    int prompt;
    int generate;
    int rounds;
    int threads;
    struct ask *ask;
    struct grammar *grammars[KIND_COUNT][LIMIT_SEQS]; /* of each answer; NULL: none */
    struct ask_job *jobs;                             /* owned, [streams] */
    int64_t *last_ns;                                 /* owned, [streams] */
    double *gaps;                                     /* owned, [streams * generate] ms */
    int gap_count;
};

/* A text of its own for each answer, long enough that nothing ends: a token is 16 bytes on average
 * at most. */
static struct engine_grammar_ask ask_of(struct bench *b, enum kind kind, int i, char **text)
{
    const size_t room = 4096 + (size_t)b->generate * 80;
    char *at = *text = lanes_alloc(room, 1);
    struct engine_grammar_ask ask = {.text = at};
    if (kind == KIND_SCHEMA || kind == KIND_HALF) {
        ask.kind = ENGINE_GRAMMAR_JSON_SCHEMA;
        snprintf(
            at, room,
            "{\"type\":\"array\",\"minItems\":%d,\"items\":{\"type\":\"object\",\"properties\":{"
            "\"name_%d\":{\"type\":\"string\",\"maxLength\":80},\"count\":{\"type\":"
            "\"integer\"},\"kind\":{\"enum\":[\"a\",\"b\"]}},\"required\":[\"name_%d\","
            "\"count\",\"kind\"],\"additionalProperties\":false}}",
            b->generate, i, i);
    } else if (kind == KIND_REGEX) {
        ask.kind = ENGINE_GRAMMAR_REGEX;
        snprintf(at, room, "([a-z]{1,%d}[,.]? ?)*[0-9]{%d,}", 9 + i, 16 * b->generate);
    } else {
        ask.kind = ENGINE_GRAMMAR_CHOICE;
        size_t n = 0;
        for (int c = 0; c < 4; c++) {
            n += (size_t)snprintf(at + n, room - n, "%s\"%c", c ? "," : "[", 'a' + c);
            for (int k = 0; k < b->generate; k++)
                n += (size_t)snprintf(at + n, room - n, " word %d of %d;", k, i);
            n += (size_t)snprintf(at + n, room - n, "\"");
        }
        snprintf(at + n, room - n, "]");
    }
    ask.text_len = strlen(at);
    return ask;
}

static void compile(struct bench *b)
{
    int64_t begin = clock_now_ns(), slowest = 0;
    for (int k = KIND_SCHEMA; k < KIND_COUNT; k++)
        for (int i = 0; i < b->streams; i += k == KIND_HALF ? 2 : 1) {
            char *text;
            struct err e = {0};
            int64_t at = clock_now_ns();
            struct engine_grammar_ask ask = ask_of(b, (enum kind)k, i, &text);
            if (engine_grammar_compile(ask_engine(b->ask), &ask, &b->grammars[k][i], &e) !=
                STATUS_OK)
                lanes_die("%s: %s", kind_names[k], e.msg);
            slowest = clock_now_ns() - at > slowest ? clock_now_ns() - at : slowest;
            free(text);
        }
    fprintf(stderr, "grammars compiled in %.0f ms, the slowest in %.0f\n",
            (double)(clock_now_ns() - begin) / 1e6, (double)slowest / 1e6);
}

static void on_event(void *ctx, int job, const struct engine_event *ev)
{
    struct bench *b = ctx;
    int64_t now = clock_now_ns();
    if (ev->kind == ENGINE_EVENT_DONE && ev->finish != ENGINE_FINISH_LENGTH)
        lanes_die("answer %d ended early", job);
    if (ev->kind != ENGINE_EVENT_TOKEN)
        return;
    if (b->last_ns[job])
        b->gaps[b->gap_count++] = (double)(now - b->last_ns[job]) / 1e6;
    b->last_ns[job] = now;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct figures {
    double gap_ms;  /* median */
    double step_ms; /* all of the run over its steps */
    double p99_ms;
    double steps; /* of the run */
};

static struct figures run(struct bench *b, enum kind kind)
{
    struct engine_stats before, after;
    b->gap_count = 0;
    memset(b->last_ns, 0, (size_t)b->streams * sizeof *b->last_ns);
    for (int i = 0; i < b->streams; i++)
        b->jobs[i].grammar = b->grammars[kind][i];
    engine_get_stats(ask_engine(b->ask), &before);
    int64_t begin = clock_now_ns();
    ask_run(b->ask, b->jobs, b->streams, b->streams, on_event, b);
    double ms = (double)(clock_now_ns() - begin) / 1e6;
    engine_get_stats(ask_engine(b->ask), &after);
    qsort(b->gaps, (size_t)b->gap_count, sizeof *b->gaps, compare);
    double steps = (double)(after.steps - before.steps);
    return (struct figures){.gap_ms = b->gaps[b->gap_count / 2],
                            .steps = steps,
                            .step_ms = ms / steps,
                            .p99_ms = b->gaps[b->gap_count * 99 / 100]};
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static void measure(struct bench *b)
{
    static struct figures all[KIND_COUNT][ROUNDS_MAX];
    for (int r = -1; r < b->rounds; r++)
        for (int k = 0; k < KIND_COUNT; k++) {
            struct figures f = run(b, (enum kind)k);
            if (r >= 0) /* the first is to warm up */
                all[k][r] = f;
        }
    for (int k = 0; k < KIND_COUNT; k++) {
        double gap[ROUNDS_MAX], step[ROUNDS_MAX], ratio[ROUNDS_MAX], p99[ROUNDS_MAX];
        double steps[ROUNDS_MAX];
        for (int r = 0; r < b->rounds; r++) {
            gap[r] = all[k][r].gap_ms;
            step[r] = all[k][r].step_ms;
            p99[r] = all[k][r].p99_ms;
            steps[r] = all[k][r].steps;
            ratio[r] = gap[r] / all[KIND_NONE][r].gap_ms;
        }
        printf("{\"part\":\"masks\",\"kind\":\"%s\",\"backend\":\"%s\",\"streams\":%d,"
               "\"steps\":%.0f,\"gap_ms\":%.4f,\"gap_p99_ms\":%.4f,\"step_ms\":%.4f,"
               "\"ratio\":%.4f}\n",
               kind_names[k], b->backend, b->streams, median(steps, b->rounds),
               median(gap, b->rounds), median(p99, b->rounds), median(step, b->rounds),
               median(ratio, b->rounds));
    }
}

static void make_jobs(struct bench *b)
{
    struct engine_info info;
    struct lanes_rng r = {1};
    engine_get_info(ask_engine(b->ask), &info);
    b->jobs = lanes_alloc((size_t)b->streams, sizeof *b->jobs);
    b->last_ns = lanes_alloc((size_t)b->streams, sizeof *b->last_ns);
    b->gaps = lanes_alloc((size_t)b->streams * (size_t)b->generate, sizeof *b->gaps);
    for (int i = 0; i < b->streams; i++) {
        int32_t *prompt = lanes_alloc((size_t)b->prompt, sizeof *prompt);
        for (int t = 0; t < b->prompt; t++)
            prompt[t] = lanes_below(&r, info.vocab);
        b->jobs[i] = (struct ask_job){.prompt = prompt,
                                      .prompt_count = b->prompt,
                                      .max_tokens = b->generate,
                                      .params = {.temperature = 1.0f,
                                                 .top_p = 1.0f,
                                                 .typical_p = 1.0f,
                                                 .repetition_penalty = 1.0f,
                                                 .logprobs = -1,
                                                 .seed = lanes_next(&r)}};
    }
}

static void bench(struct bench *b)
{
    struct engine_options opt = {
        .model_dir = b->model_dir,
        .backend = b->backend,
        .isa = "auto",
        .threads = b->threads,
        .ctx_max = b->prompt + b->generate,
        .seqs_max = b->streams,
        .rows_max = 512,
        .slots_max = 1,
        .queue_max = LIMIT_QUEUE,
        .wait_bound_steps = 64,
    };
    opt.quant = b->quant;
    b->ask = ask_open(&opt);
    make_jobs(b);
    compile(b);
    measure(b);
    for (int k = 0; k < KIND_COUNT; k++)
        for (int i = 0; i < b->streams; i++)
            engine_grammar_release(b->grammars[k][i]);
    for (int i = 0; i < b->streams; i++)
        free((int32_t *)b->jobs[i].prompt);
    free(b->jobs);
    free(b->last_ns);
    free(b->gaps);
    ask_close(b->ask);
}

static const char usage[] = "usage: mask_bench [options] MODEL\n"
                            "  --backend NAME    default cuda\n"
                            "  --streams N       default 16\n"
                            "  --prompt N        tokens, default 43\n"
                            "  --generate N      tokens, default 200\n"
                            "  --rounds N        default 5\n"
                            "  --quant FORMAT    none, int8, int4; default auto\n"
                            "  --threads N       of the CPU backend\n";

int main(int argc, char **argv)
{
    static struct bench b = {.backend = "cuda",
                             .quant = "auto",
                             .streams = 16,
                             .prompt = 43,
                             .generate = 200,
                             .rounds = 5};
    const struct {
        const char *name;
        int *value;
    } numbers[] = {{"--streams", &b.streams},
                   {"--prompt", &b.prompt},
                   {"--generate", &b.generate},
                   {"--rounds", &b.rounds},
                   {"--threads", &b.threads}};
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
            *numbers[k].value = lanes_number(value, 0, 100000, usage, &end);
        else if (strcmp(name, "--backend") == 0)
            b.backend = value;
        else if (strcmp(name, "--quant") == 0)
            b.quant = value;
        else
            lanes_die("%s: not known\n%s", name, usage);
        i++;
    }
    if (!b.model_dir || b.streams < 1 || b.streams > LIMIT_SEQS || b.prompt < 1 || b.generate < 8 ||
        b.rounds < 1 || b.rounds > ROUNDS_MAX)
        lanes_die("%s", usage);
    bench(&b);
    return 0;
}
