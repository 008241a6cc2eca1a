#include "tests/unit/cpu_drive.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/model/forward.h"

struct drive_seq drive_seq_of(const int32_t *prompt, int prompt_count, int generate)
{
    return (struct drive_seq){
        .prompt = prompt,
        .prompt_count = prompt_count,
        .generate = generate,
        .params = {.top_p = 1.0f, .typical_p = 1.0f, .repetition_penalty = 1.0f, .logprobs = 0}};
}

static void begin_seq(struct drive *d, struct drive_seq *s)
{
    int total = s->prompt_count + s->generate;
    int pages = (total + LIMIT_KV_PAGE_TOKENS - 1) / LIMIT_KV_PAGE_TOKENS;
    int kept = (s->keep_logits ? s->generate : 0) + (s->score ? s->prompt_count : 0);
    s->tokens = calloc((size_t)total, sizeof *s->tokens);
    s->pages = calloc((size_t)pages, sizeof *s->pages);
    s->logprobs = calloc((size_t)s->generate + 1, sizeof *s->logprobs);
    s->logits = calloc((size_t)kept * (size_t)d->vocab + 1, sizeof *s->logits);
    s->states =
        calloc((size_t)(s->embed ? s->prompt_count : 0) * (size_t)d->width + 1, sizeof *s->states);
    s->state_rows = 0;
    memcpy(s->tokens, s->prompt, (size_t)s->prompt_count * sizeof *s->tokens);
    s->count = s->prompt_count;
    s->cached = 0;
    s->logit_rows = 0;
    assert_true(d->pages_used + pages <= d->plan.pages);
    /* Every other page from the end, so that neighbours in a sequence are not neighbours in
     * memory. */
    for (int i = 0; i < pages; i++) {
        int p = d->pages_used++;
        int half = d->plan.pages / 2;
        s->pages[i] = p < half ? d->plan.pages - 1 - 2 * p : 2 * (p - half) + d->plan.pages % 2;
    }
}

static bool is_done(const struct drive_seq *s)
{
    return s->count == s->prompt_count + s->generate;
}

static bool same_adapters(const struct drive_seq *a, const struct drive_seq *b)
{
    return a->adapter_count == b->adapter_count &&
           memcmp(a->slot, b->slot, (size_t)a->adapter_count * sizeof *a->slot) == 0 &&
           memcmp(a->weight, b->weight, (size_t)a->adapter_count * sizeof *a->weight) == 0;
}

struct packer {
    struct drive *d;
    struct batch batch;
    struct sample_row *out;
    struct drive_seq **out_seq;
    struct drive_seq **seq;
};

static void *zalloc(size_t count, size_t size)
{
    void *p = calloc(count + 1, size);
    assert_non_null(p);
    return p;
}

static void packer_init(struct packer *k, struct drive *d)
{
    const struct backend_plan *p = &d->plan;
    size_t rows = (size_t)p->rows_max, seqs = (size_t)p->seqs_max;
    *k = (struct packer){.d = d};
    struct batch *b = &k->batch;
    b->page_stride = (p->ctx_max + LIMIT_KV_PAGE_TOKENS - 1) / LIMIT_KV_PAGE_TOKENS;
    b->token = zalloc(rows, sizeof *b->token);
    b->position = zalloc(rows, sizeof *b->position);
    b->seq_of_row = zalloc(rows, sizeof *b->seq_of_row);
    b->row_begin = zalloc(seqs + 1, sizeof *b->row_begin);
    b->kv_len = zalloc(seqs, sizeof *b->kv_len);
    b->page_table = zalloc(seqs * (size_t)b->page_stride, sizeof *b->page_table);
    b->segments = zalloc((size_t)p->segments_max, sizeof *b->segments);
    b->out_row = zalloc((size_t)p->outs_max, sizeof *b->out_row);
    b->out = zalloc((size_t)p->outs_max, sizeof *b->out);
    k->out_seq = zalloc((size_t)p->outs_max, sizeof *k->out_seq);
    k->seq = zalloc(seqs, sizeof *k->seq);
}

static void packer_deinit(struct packer *k)
{
    struct batch *b = &k->batch;
    free(b->token);
    free(b->position);
    free(b->seq_of_row);
    free(b->row_begin);
    free(b->kv_len);
    free(b->page_table);
    free(b->segments);
    free(b->out_row);
    free(b->out);
    free(k->out_seq);
    free(k->seq);
}

static void pack_out(struct packer *k, struct drive_seq *s, int row, int forced)
{
    struct batch *b = &k->batch;
    b->out_row[b->out_count] = row;
    b->out[b->out_count] = (struct sample_row){.params = &s->params,
                                               .tokens = s->tokens,
                                               .prompt_count = s->prompt_count,
                                               .token_count = s->count,
                                               .forced = forced,
                                               .hidden = s->embed};
    k->out_seq[b->out_count++] = s;
}

/* The sequence's adapters are added to the segments of the one before it where they are the same
 * and act on all rows of both. */
static void pack_segments(struct packer *k, struct drive_seq *s, int rows)
{
    struct batch *b = &k->batch;
    int n = s->adapter_count;
    const struct drive_seq *before = b->seqs > 0 ? k->seq[b->seqs - 1] : NULL;
    if (before && n > 0 && same_adapters(before, s) && s->from[n - 1] == 0 &&
        before->from[n - 1] == 0) {
        for (int i = b->segment_count - n; i < b->segment_count; i++)
            b->segments[i].row_end += rows;
        return;
    }
    for (int i = 0; i < n && s->from[i] < s->cached + rows; i++) {
        int first = s->from[i] > s->cached ? s->from[i] - s->cached : 0;
        b->segments[b->segment_count++] = (struct batch_segment){.slot = s->slot[i],
                                                                 .weight = s->weight[i],
                                                                 .row_begin = b->rows + first,
                                                                 .row_end = b->rows + rows};
    }
}

/* Adds the sequence's next rows, as far as the batch has room. */
static void pack_seq(struct packer *k, struct drive_seq *s)
{
    struct batch *b = &k->batch;
    int rows = s->count - s->cached;
    rows = rows < k->d->chunk ? rows : k->d->chunk;
    int room = k->d->plan.rows_max - b->rows;
    rows = rows < room ? rows : room;
    if (rows <= 0 || b->seqs >= k->d->plan.seqs_max)
        return;
    pack_segments(k, s, rows);
    for (int i = 0; i < rows; i++) {
        int r = b->rows + i;
        b->token[r] = s->tokens[s->cached + i];
        b->position[r] = s->cached + i;
        b->seq_of_row[r] = b->seqs;
        bool last = s->cached + i + 1 == s->count;
        if (last || s->score || s->embed)
            pack_out(k, s, r, last ? -1 : s->tokens[s->cached + i + 1]);
    }
    s->cached += rows;
    b->rows += rows;
    b->kv_len[b->seqs] = s->cached;
    int pages = (s->prompt_count + s->generate + LIMIT_KV_PAGE_TOKENS - 1) / LIMIT_KV_PAGE_TOKENS;
    memcpy(b->page_table + b->seqs * b->page_stride, s->pages, (size_t)pages * sizeof *s->pages);
    k->seq[b->seqs++] = s;
    b->row_begin[b->seqs] = b->rows;
}

static void take_result(struct packer *k, int o, const struct sample_result *r)
{
    struct drive_seq *s = k->out_seq[o];
    bool drawn = k->batch.out[o].forced < 0;
    if (s->embed) {
        float *to = s->states + (size_t)s->state_rows++ * (size_t)k->d->width;
        k->d->b->ops->read_hidden(k->d->b, o, to);
        if (drawn)
            s->tokens[s->count++] = 0;
        return;
    }
    if ((drawn && s->keep_logits) || s->score) {
        float *to = s->logits + (size_t)s->logit_rows++ * (size_t)k->d->vocab;
        assert_int_equal(k->d->b->ops->read_logits(k->d->b, o, to), STATUS_OK);
    }
    if (!drawn)
        return;
    s->last = *r;
    s->logprobs[s->count - s->prompt_count] = r->logprob;
    s->tokens[s->count++] = r->token;
}

static void step(struct packer *k, struct drive_seq *seqs, int count, struct sample_result *results)
{
    struct batch *b = &k->batch;
    b->rows = b->seqs = b->segment_count = b->out_count = 0;
    b->row_begin[0] = 0;
    for (int i = 0; i < count; i++) {
        if (!is_done(&seqs[i]))
            pack_seq(k, &seqs[i]);
    }
    const struct backend_ops *op = k->d->b->ops;
    struct err e = {0};
    assert_int_equal(op->step_begin(k->d->b, b), STATUS_OK);
    forward(k->d->b, k->d->layers);
    assert_int_equal(op->step_launch(k->d->b), STATUS_OK);
    assert_int_equal(op->step_finish(k->d->b, results, &e), STATUS_OK);
    for (int o = 0; o < b->out_count; o++)
        take_result(k, o, &results[o]);
}

void drive_run(struct drive *d, struct drive_seq *seqs, int count)
{
    struct packer k;
    packer_init(&k, d);
    struct sample_result *results = zalloc((size_t)d->plan.outs_max, sizeof *results);
    d->pages_used = 0;
    for (int i = 0; i < count; i++)
        begin_seq(d, &seqs[i]);
    for (bool busy = count > 0; busy;) {
        step(&k, seqs, count, results);
        busy = false;
        for (int i = 0; i < count; i++)
            busy = busy || !is_done(&seqs[i]);
    }
    free(results);
    packer_deinit(&k);
}

void drive_free(struct drive_seq *seqs, int count)
{
    for (int i = 0; i < count; i++) {
        free(seqs[i].tokens);
        free(seqs[i].pages);
        free(seqs[i].logprobs);
        free(seqs[i].logits);
        free(seqs[i].states);
    }
}

struct drive drive_open(const struct model *m, const struct backend_options *opt,
                        const struct backend_plan *plan)
{
    struct drive d = {
        .layers = m->shape.layers, .vocab = m->shape.vocab, .plan = *plan, .chunk = 1 << 20};
    d.width = m->shape.hidden;
    struct err e = {0};
    if (cpu_backend_open(opt, &d.b, &e) != STATUS_OK)
        fail_msg("backend: %s", e.msg);
    if (d.b->ops->model_load(d.b, m, plan, NULL, &e) != STATUS_OK)
        fail_msg("model: %s", e.msg);
    return d;
}

void drive_close(struct drive *d)
{
    d->b->ops->close(d->b);
}
