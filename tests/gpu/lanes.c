#include "tests/gpu/lanes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model/forward.h"
#include "engine/sched/sched.h"

uint64_t lanes_next(struct lanes_rng *r)
{
    uint64_t z = r->state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

int lanes_below(struct lanes_rng *r, int n)
{
    return (int)(lanes_next(r) % (uint64_t)n);
}

double lanes_unit(struct lanes_rng *r)
{
    return (double)(lanes_next(r) >> 11) * 0x1p-53;
}

void lanes_die(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    exit(2);
}

int lanes_number(const char *s, long least, long most, const char *usage, char **end)
{
    long v = strtol(s, end, 10);
    if (*end == s || v < least || v > most)
        lanes_die("\"%s\" is not a number that fits\n%s", s, usage);
    return (int)v;
}

void *lanes_alloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size ? size : 1);
    if (!p)
        lanes_die("no memory for %zu times %zu bytes", count, size);
    return p;
}

/* ---- sequences ---- */

static void choose_adapters(const struct lanes_setup *s, struct lanes_rng *r, int i,
                            struct lanes_seq *q)
{
    int kind = i % 5;
    if (s->adapters == 0 || kind == 0)
        return;
    q->slots[0] = i % s->adapters;
    q->weights[0] = 1.0f;
    q->adapter_count = 1;
    if (kind == 4 && s->adapters > 1) {
        q->slots[1] = (q->slots[0] + 1 + lanes_below(r, s->adapters - 1)) % s->adapters;
        q->weights[0] = 0.75f;
        q->weights[1] = 0.4f;
        q->adapter_count = 2;
    }
    if (i % 3 == 2)
        q->from[q->adapter_count - 1] = lanes_below(r, q->prompt_count);
}

static void choose_sampling(const struct lanes_setup *s, struct lanes_rng *r, int i,
                            struct lanes_seq *q)
{
    q->params = (struct sample_params){.top_p = 1.0f,
                                       .typical_p = 1.0f,
                                       .repetition_penalty = 1.0f,
                                       .seed = lanes_next(r),
                                       .logprobs = i % 4 ? 5 : -1};
    if (!s->sampled || i % 3 == 0)
        return;
    struct sample_params *p = &q->params;
    p->temperature = 0.5f + 0.25f * (float)lanes_below(r, 4);
    p->top_p = i % 2 ? 0.9f : 1.0f;
    p->top_k = i % 4 == 1 ? 40 : 0;
    p->min_p = i % 8 == 2 ? 0.05f : 0.0f;
    if (i % 6 == 5) {
        p->repetition_penalty = 1.1f;
        p->presence_penalty = 0.3f;
        p->frequency_penalty = 0.2f;
    }
    if (i % 7 == 3) {
        for (int k = 0; k < 4; k++)
            q->bias[k] = (struct logit_bias){lanes_below(r, s->vocab), 2.0f - (float)k};
        p->bias = q->bias;
        p->bias_count = 4;
        q->banned[0] = lanes_below(r, s->vocab);
        q->banned[1] = lanes_below(r, s->vocab);
        q->banned_count = 2;
    }
}

struct lanes_seq *lanes_make(const struct lanes_setup *s)
{
    struct lanes_rng r = {s->seed};
    struct lanes_seq *seqs = lanes_alloc((size_t)s->sequences, sizeof *seqs);
    for (int i = 0; i < s->sequences; i++) {
        struct lanes_seq *q = &seqs[i];
        /* Three of four prompts are short; the lengths around a page's end come often. */
        int limit = i % 4 == 3 || s->prompt_max < 48 ? s->prompt_max : 48;
        q->prompt_count = i % 8 == 1 && limit > 17 ? 15 + i / 8 % 3 : 1 + lanes_below(&r, limit);
        q->generate = 1 + lanes_below(&r, s->generate_max);
        q->score = i % 3 == 1;
        choose_adapters(s, &r, i, q);
        choose_sampling(s, &r, i, q);
        q->tokens = lanes_alloc((size_t)(q->prompt_count + q->generate), sizeof *q->tokens);
        for (int t = 0; t < q->prompt_count; t++)
            q->tokens[t] = lanes_below(&r, s->vocab);
        q->pages =
            lanes_alloc((size_t)sched_pages_for(q->prompt_count + q->generate), sizeof *q->pages);
    }
    return seqs;
}

void lanes_free(struct lanes_seq *seqs, int count)
{
    for (int i = 0; i < count; i++) {
        free(seqs[i].tokens);
        free(seqs[i].pages);
    }
    free(seqs);
}

/* ---- steps ---- */

struct run {
    struct lanes *l;
    const struct lanes_setup *s;
    struct lanes_seq *seqs;
    int count;
    int *going; /* owned, sequences in flight */
    int going_count;
    int next;
    bool given;
    struct lanes_rng r;
    int32_t *free_pages; /* owned */
    int free_count;
    struct batch_builder builder;
    struct batch_seq *part; /* owned, of this step */
    int *part_seq;          /* owned, index into seqs */
    int part_count;
    float *logits[LANES_MAX];                 /* owned, [V] */
    struct sample_result *results[LANES_MAX]; /* owned, [O] */
};

static void shuffle(struct lanes_rng *r, int32_t *v, int n)
{
    for (int i = n - 1; i > 0; i--) {
        int j = lanes_below(r, i + 1);
        int32_t t = v[i];
        v[i] = v[j];
        v[j] = t;
    }
}

/* Takes a page from a random place of the free list. */
static int32_t take_page(struct run *u)
{
    if (u->free_count == 0)
        lanes_die("the page pool of %d pages is too small for this run", u->l->plan.pages);
    int at = lanes_below(&u->r, u->free_count);
    int32_t page = u->free_pages[at];
    u->free_pages[at] = u->free_pages[--u->free_count];
    return page;
}

static void finish_seq(struct run *u, int g)
{
    struct lanes_seq *q = &u->seqs[u->going[g]];
    q->running = false;
    while (q->page_count > 0)
        u->free_pages[u->free_count++] = q->pages[--q->page_count];
    u->going[g] = u->going[--u->going_count];
}

static void admit(struct run *u, int in_flight)
{
    while (u->going_count < in_flight && u->next < u->count) {
        struct lanes_seq *q = &u->seqs[u->next];
        q->count = u->given ? q->prompt_count + q->generate : q->prompt_count;
        q->computed = 0;
        q->page_count = 0;
        q->running = true;
        u->going[u->going_count++] = u->next++;
    }
}

/* Tokens whose rows may be computed now: with given tokens those of the prompt, and after them one
 * at a time. */
static int visible(const struct run *u, const struct lanes_seq *q)
{
    if (!u->given)
        return q->count;
    return q->computed < q->prompt_count ? q->prompt_count : q->computed + 1;
}

/* The share of sequence i in this step; false: it sits this one out, or there is no room. */
static bool add_part(struct run *u, int i, int *rows_left, int *outs_left)
{
    struct lanes_seq *q = &u->seqs[i];
    int have = visible(u, q);
    int rows = have - q->computed;
    if (rows > 1)
        rows = 1 + lanes_below(&u->r, rows < u->s->chunk_max ? rows : u->s->chunk_max);
    if (rows > *rows_left)
        rows = *rows_left;
    if (rows > *outs_left)
        rows = *outs_left;
    if (rows == 0 || u->part_count == u->l->plan.seqs_max)
        return false;
    while (q->page_count < sched_pages_for(q->computed + rows))
        q->pages[q->page_count++] = take_page(u);
    struct batch_seq *p = &u->part[u->part_count];
    *p = (struct batch_seq){
        .tokens = q->tokens,
        .token_count = have,
        .prompt_count = q->prompt_count,
        .computed = q->computed,
        .rows = rows,
        .pages = q->pages,
        .page_count = q->page_count,
        .score_from = q->score ? 1 : q->prompt_count,
        .params = &q->params,
        .banned = q->banned,
        .banned_count = q->banned_count,
    };
    memcpy(p->slots, q->slots, sizeof p->slots);
    memcpy(p->weights, q->weights, sizeof p->weights);
    memcpy(p->from, q->from, sizeof p->from);
    while (p->adapter_count < q->adapter_count && q->from[p->adapter_count] < q->computed + rows)
        p->adapter_count++;
    u->part_seq[u->part_count++] = i;
    *rows_left -= rows;
    *outs_left -= rows;
    return true;
}

static void compute(struct run *u)
{
    const struct batch *b = &u->builder.batch;
    for (int i = 0; i < u->l->count; i++) {
        struct backend *back = u->l->b[i];
        struct err e = {0};
        if (back->ops->step_begin(back, b) != STATUS_OK)
            lanes_die("lane %d (%s): step_begin refused the step", i, back->ops->name);
        forward(back, u->s->layers);
        if (back->ops->step_launch(back) != STATUS_OK)
            lanes_die("lane %d (%s): step_launch failed", i, back->ops->name);
        if (back->ops->step_finish(back, u->results[i], &e) != STATUS_OK)
            lanes_die("lane %d (%s): %s", i, back->ops->name, e.msg);
    }
}

static void show_row(struct run *u, int o)
{
    const struct sample_result *results[LANES_MAX];
    for (int i = 0; i < u->l->count; i++) {
        struct backend *b = u->l->b[i];
        if (b->ops->read_logits(b, o, u->logits[i]) != STATUS_OK)
            lanes_die("lane %d (%s): no logits of output row %d", i, b->ops->name, o);
        results[i] = &u->results[i][o];
    }
    int part = u->builder.out_seq[o];
    int index = u->builder.out_index[o];
    const struct batch_seq *p = &u->part[part];
    u->l->on_row(u->l->ctx, &(struct lanes_row){.seq = u->part_seq[part],
                                                .index = index,
                                                .prefill = p->rows > 1,
                                                .row = &u->builder.batch.out[o],
                                                .logits = u->logits,
                                                .results = results});
}

static void take_results(struct run *u)
{
    const struct batch *b = &u->builder.batch;
    for (int o = 0; o < b->out_count; o++) {
        if (u->l->on_row)
            show_row(u, o);
        struct lanes_seq *q = &u->seqs[u->part_seq[u->builder.out_seq[o]]];
        if (b->out[o].forced < 0 && !u->given)
            q->tokens[q->count++] = u->results[0][o].token;
    }
    for (int i = 0; i < u->part_count; i++)
        u->seqs[u->part_seq[i]].computed += u->part[i].rows;
    for (int g = u->going_count - 1; g >= 0; g--) {
        const struct lanes_seq *q = &u->seqs[u->going[g]];
        /* The last token is drawn and never computed. */
        if (q->computed >= q->prompt_count + q->generate - 1)
            finish_seq(u, g);
    }
}

static void step(struct run *u)
{
    const struct backend_plan *p = &u->l->plan;
    int rows_left = p->rows_max, outs_left = p->outs_max;
    u->part_count = 0;
    shuffle(&u->r, u->going, u->going_count);
    for (int g = 0; g < u->going_count && rows_left > 0; g++) {
        bool rests = u->part_count > 0 && lanes_below(&u->r, 8) == 0;
        if (!rests)
            (void)add_part(u, u->going[g], &rows_left, &outs_left);
    }
    batch_build(&u->builder, u->part, u->part_count);
    compute(u);
    take_results(u);
}

static void run_init(struct run *u)
{
    const struct backend_plan *p = &u->l->plan;
    if (batch_init(&u->builder, p->rows_max, p->seqs_max, p->outs_max, p->ctx_max) != STATUS_OK)
        lanes_die("no memory for a batch");
    u->going = lanes_alloc((size_t)u->count, sizeof *u->going);
    u->part = lanes_alloc((size_t)p->seqs_max, sizeof *u->part);
    u->part_seq = lanes_alloc((size_t)p->seqs_max, sizeof *u->part_seq);
    u->free_pages = lanes_alloc((size_t)p->pages, sizeof *u->free_pages);
    for (int i = 0; i < p->pages; i++)
        u->free_pages[u->free_count++] = i;
    for (int i = 0; i < u->l->count; i++) {
        u->logits[i] = lanes_alloc((size_t)u->s->vocab, sizeof *u->logits[i]);
        u->results[i] = lanes_alloc((size_t)p->outs_max, sizeof *u->results[i]);
    }
}

static void run_deinit(struct run *u)
{
    batch_deinit(&u->builder);
    free(u->going);
    free(u->part);
    free(u->part_seq);
    free(u->free_pages);
    for (int i = 0; i < u->l->count; i++) {
        free(u->logits[i]);
        free(u->results[i]);
    }
}

int lanes_run(struct lanes *l, const struct lanes_setup *s, struct lanes_seq *seqs, int count,
              int in_flight, bool given)
{
    struct run u = {.l = l,
                    .s = s,
                    .seqs = seqs,
                    .count = count,
                    .given = given,
                    .r = {s->seed ^ (uint64_t)in_flight << 32}};
    int steps = 0;
    run_init(&u);
    admit(&u, in_flight);
    while (u.going_count > 0) {
        step(&u);
        steps++;
        admit(&u, in_flight);
    }
    run_deinit(&u);
    return steps;
}
