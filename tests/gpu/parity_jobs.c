#include "tests/gpu/parity.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine_grammar.h"
#include "tests/gpu/ask.h"

#define JOB_PROMPT_MAX 120
#define JOB_ANSWER_MAX 32
#define JOB_TOP        5
#define JOB_ADAPTERS   7

/* Plain data without padding, so that equality is memcmp. */
struct answer {
    int32_t count;
    uint32_t embedding; /* a hash of its bits; 0: an answer */
    int32_t ids[JOB_ANSWER_MAX];
    float logprobs[JOB_ANSWER_MAX];
    int32_t top_ids[JOB_ANSWER_MAX][JOB_TOP];
    float top_logprobs[JOB_ANSWER_MAX][JOB_TOP];
};

struct ask_set {
    struct ask_job *jobs; /* owned */
    int32_t *prompts;     /* owned, [count, JOB_PROMPT_MAX] */
    int count;
    int width;          /* of an embedding */
    struct answer *got; /* borrowed, of the round */
};

static void make_jobs(struct ask_set *s, int vocab, int adapters, uint64_t seed)
{
    struct lanes_rng r = {seed};
    s->jobs = lanes_alloc((size_t)s->count, sizeof *s->jobs);
    s->prompts = lanes_alloc((size_t)s->count * JOB_PROMPT_MAX, sizeof *s->prompts);
    for (int i = 0; i < s->count; i++) {
        struct ask_job *j = &s->jobs[i];
        int32_t *prompt = s->prompts + (size_t)i * JOB_PROMPT_MAX;
        int voice = i % (adapters + 1); /* the last is the base */
        *j = (struct ask_job){
            .prompt = prompt,
            .prompt_count = 1 + lanes_below(&r, i % 4 == 3 ? JOB_PROMPT_MAX : 24),
            .max_tokens = 1 + lanes_below(&r, JOB_ANSWER_MAX),
            .adapter_count = voice < adapters,
            .adapters = {voice},
            .weights = {1.0f},
            .params = {.top_p = 1.0f,
                       .typical_p = 1.0f,
                       .repetition_penalty = 1.0f,
                       .logprobs = JOB_TOP,
                       .seed = lanes_next(&r)},
        };
        for (int t = 0; t < JOB_PROMPT_MAX; t++)
            prompt[t] = lanes_below(&r, vocab);
        if (i % 5 == 4 && voice < adapters && adapters > 1) {
            j->adapter_count = 2;
            j->adapters[1] = (voice + 1) % adapters;
            j->weights[0] = 0.7f;
            j->weights[1] = 0.5f;
        }
        j->embed = i % 6 == 5;
        if (i / (adapters + 1) % 2) {
            j->params.temperature = 0.8f;
            j->params.top_p = 0.95f;
        }
        if (i % 7 == 3)
            j->params.repetition_penalty = 1.3f;
    }
}

/* FNV-1a over values; never 0. */
static uint32_t hash_of(const float *v, int count)
{
    uint32_t h = 2166136261u;
    for (int i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &v[i], sizeof bits);
        h = (h ^ bits) * 16777619u;
    }
    return h ? h : 1;
}

static void on_event(void *ctx, int job, const struct engine_event *ev)
{
    struct ask_set *s = ctx;
    struct answer *a = &s->got[job];
    if (ev->kind == ENGINE_EVENT_DONE && s->jobs[job].embed)
        a->embedding = hash_of(ev->embedding, s->width);
    if (ev->kind != ENGINE_EVENT_TOKEN)
        return;
    if (a->count == JOB_ANSWER_MAX || ev->top_count > JOB_TOP)
        lanes_die("job %d: more tokens or alternatives than were asked for", job);
    a->ids[a->count] = ev->token;
    a->logprobs[a->count] = ev->logprob;
    for (int k = 0; k < ev->top_count; k++) {
        a->top_ids[a->count][k] = ev->top[k].token;
        a->top_logprobs[a->count][k] = ev->top[k].logprob;
    }
    a->count++;
}

struct difference {
    int jobs;
    int first_tokens; /* jobs whose first token already differs, which is prefill's */
    int paths;        /* jobs that took another path */
    double largest;   /* log-probability, while on the same path */
};

static void compare_answers(const struct answer *want, const struct answer *got,
                            struct difference *d)
{
    if (memcmp(want, got, sizeof *want) == 0)
        return;
    d->jobs++;
    d->first_tokens += want->ids[0] != got->ids[0] || want->logprobs[0] != got->logprobs[0];
    for (int i = 0; i < want->count; i++) {
        if (want->ids[i] != got->ids[i]) {
            d->paths++;
            return;
        }
        d->largest = fmax(d->largest, fabs((double)want->logprobs[i] - (double)got->logprobs[i]));
    }
}

static struct ask *open_engine(const struct parity *p, int in_flight, int *adapters)
{
    struct engine_options opt = {
        .model_dir = p->model_dir,
        .backend = p->device,
        .isa = "auto",
        .threads = p->threads,
        .ctx_max = JOB_PROMPT_MAX + JOB_ANSWER_MAX,
        .seqs_max = in_flight,
        .rows_max = 128,
        .slots_max = JOB_ADAPTERS,
        .queue_max = LIMIT_QUEUE,
        .wait_bound_steps = 64,
    };
    opt.quant = parity_formats[p->linears];
    opt.head_quant = parity_formats[p->head];
    opt.kv_type = p->kv_type;
    opt.adapter_quant = p->adapter_quant;
    opt.plain_launches = p->plain_launches;
    opt.deterministic = true;
    struct ask *a = ask_open(&opt);
    *adapters = 0;
    for (int d = 0; d < p->dir_count; d++)
        *adapters = ask_add(a, p->dirs[d], JOB_ADAPTERS);
    return a;
}

/* Every third answer is held to a grammar: its draws wait for its tokens. */
static struct grammar *hold(struct ask_set *s, struct ask *a)
{
    static const char text[] = "([a-z]{1,6}[ ,.])*[0-9]+";
    struct engine_grammar_ask ask = {
        .kind = ENGINE_GRAMMAR_REGEX, .text = text, .text_len = sizeof text - 1};
    struct grammar *g = NULL;
    struct err e = {0};
    if (engine_grammar_compile(ask_engine(a), &ask, &g, &e) != STATUS_OK)
        lanes_die("grammar: %s", e.msg);
    for (int i = 0; i < s->count; i++)
        s->jobs[i].grammar = i % 3 == 1 ? g : NULL;
    return g;
}

bool parity_jobs(const struct parity *p)
{
    static const int in_flight[] = {1, 8, 32};
    struct ask_set s = {.count = p->jobs};
    struct answer *want = lanes_alloc((size_t)s.count, sizeof *want);
    struct answer *got = lanes_alloc((size_t)s.count, sizeof *got);
    if (strcmp(p->device, "noisy") == 0) {
        printf("jobs: the engine has no backend \"noisy\": left out\n");
        free(want);
        free(got);
        return true;
    }
    struct difference d = {0};
    long tokens = 0, embeddings = 0;
    int adapters = 0;
    for (int round = 0; round < 3; round++) {
        struct ask *a = open_engine(p, in_flight[round], &adapters);
        if (round == 0) {
            struct engine_info info;
            engine_get_info(ask_engine(a), &info);
            s.width = info.embed_width;
            make_jobs(&s, info.vocab, adapters, p->seed);
        }
        s.got = round == 0 ? want : got;
        memset(got, 0, (size_t)s.count * sizeof *got);
        struct grammar *g = hold(&s, a);
        ask_run(a, s.jobs, s.count, in_flight[round], on_event, &s);
        engine_grammar_release(g);
        ask_close(a);
        for (int i = 0; i < s.count; i++) {
            tokens += s.got[i].count;
            embeddings += s.got[i].embedding != 0;
            if (round > 0)
                compare_answers(&want[i], &got[i], &d);
        }
    }
    bool ok = d.jobs == 0 && tokens > 0 && embeddings >= s.count / 6 * 3;
    printf("jobs %s: %s, linears %s, head %s, %d jobs over the base and %d adapters alone, then 8 "
           "and 32 in flight, %ld "
           "tokens and %ld embeddings: %d of %d differ (%d from their first token on, %d took "
           "another path; "
           "log-probabilities by %.3g at most): %s\n",
           p->model_dir, p->device, parity_formats[p->linears], parity_formats[p->head], s.count,
           adapters, tokens, embeddings, d.jobs, 2 * s.count, d.first_tokens, d.paths, d.largest,
           ok ? "held" : "NOT HELD");
    free(s.jobs);
    free(s.prompts);
    free(want);
    free(got);
    return ok;
}
