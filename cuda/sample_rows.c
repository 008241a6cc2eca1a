#include "cuda/sample_rows.h"

#include <string.h>

bool sample_rows_on_device(const struct sample_params *p)
{
    return p->typical_p >= 1.0f || p->temperature == 0.0f;
}

/* The row's edit of a token, a new one where there is none yet; NULL: no room. */
static struct sample_edit *edit_of(struct sample_stage *s, int32_t token)
{
    if (s->places[token] > 0)
        return &s->edits[s->places[token] - 1];
    if (s->edit_count >= s->edits_max)
        return NULL;
    struct sample_edit *e = &s->edits[s->edit_count++];
    *e = (struct sample_edit){.token = token};
    s->places[token] = s->edit_count;
    return e;
}

static bool in_vocab(int32_t token, int vocab)
{
    return token >= 0 && token < vocab;
}

/* False: no room, or two biases for one token, whose sum is rounded twice in sample.c. */
static bool add_biases(struct sample_stage *s, const struct sample_row *r, int vocab)
{
    for (int i = 0; i < r->params->bias_count; i++) {
        const struct logit_bias *b = &r->params->bias[i];
        if (!in_vocab(b->token, vocab))
            continue;
        int before = s->edit_count;
        struct sample_edit *e = edit_of(s, b->token);
        if (!e || s->edit_count == before)
            return false;
        e->bias = b->bias;
    }
    return true;
}

static bool add_bans(struct sample_stage *s, const struct sample_row *r, int vocab)
{
    for (int i = 0; i < r->banned_count; i++) {
        if (!in_vocab(r->banned[i], vocab))
            continue;
        struct sample_edit *e = edit_of(s, r->banned[i]);
        if (!e)
            return false;
        e->flags |= SAMPLE_BANNED;
    }
    return true;
}

static bool add_tokens(struct sample_stage *s, const struct sample_row *r, int vocab)
{
    bool seen = r->params->repetition_penalty != 1.0f;
    for (int i = seen ? 0 : r->prompt_count; i < r->token_count; i++) {
        if (!in_vocab(r->tokens[i], vocab))
            continue;
        struct sample_edit *e = edit_of(s, r->tokens[i]);
        if (!e)
            return false;
        e->flags |= seen ? SAMPLE_SEEN : 0;
        e->count += i >= r->prompt_count;
    }
    return true;
}

static bool add_edits(struct sample_stage *s, const struct sample_row *r, struct sample_dev *d,
                      int vocab)
{
    d->edit_begin = s->edit_count;
    bool fits = add_biases(s, r, vocab) && add_bans(s, r, vocab) &&
                (sample_is_blind(r->params) || add_tokens(s, r, vocab));
    d->edit_count = s->edit_count - d->edit_begin;
    for (int i = d->edit_begin; i < s->edit_count; i++)
        s->places[s->edits[i].token] = 0;
    return fits;
}

static bool add_mask(struct sample_stage *s, const struct sample_row *r, struct sample_dev *d,
                     int vocab)
{
    size_t words = ((size_t)vocab + 31) / 32;
    if (!r->mask)
        return true;
    if (s->mask_count >= s->masks_max)
        return false;
    d->mask = (int32_t)((size_t)s->mask_count++ * words);
    memcpy(s->masks + d->mask, r->mask, words * sizeof *s->masks);
    return true;
}

static struct sample_dev plain_row(const struct sample_row *r, int vocab)
{
    const struct sample_params *p = r->params;
    int top_k = p->top_k < LIMIT_TOP_K ? p->top_k : LIMIT_TOP_K;
    return (struct sample_dev){.temperature = p->temperature,
                               .top_p = p->top_p,
                               .min_p = p->min_p,
                               .top_k = top_k > 0 && top_k < vocab ? top_k : 0,
                               .repetition = p->repetition_penalty,
                               .presence = p->presence_penalty,
                               .frequency = p->frequency_penalty,
                               .uniform = sample_uniform(p->seed, (uint64_t)r->token_count),
                               .forced = in_vocab(r->forced, vocab) ? r->forced : -1,
                               .logprobs = p->logprobs < LIMIT_TOP_LOGPROBS ? p->logprobs
                                                                            : LIMIT_TOP_LOGPROBS,
                               .mask = -1};
}

void sample_rows_fill(struct sample_stage *s, const struct sample_row *rows, int count, int vocab)
{
    s->edit_count = s->mask_count = s->host_count = 0;
    for (int o = 0; o < count; o++) {
        const struct sample_row *r = &rows[o];
        struct sample_dev *d = &s->rows[o];
        *d = plain_row(r, vocab);
        if (d->forced >= 0) /* log-probabilities are those of the raw logits */
            continue;
        d->plain = r->params->bias_count == 0 && r->banned_count == 0 && !r->mask &&
                   sample_is_blind(r->params);
        int edits = s->edit_count, masks = s->mask_count;
        d->host = !sample_rows_on_device(r->params) || !add_edits(s, r, d, vocab) ||
                  !add_mask(s, r, d, vocab);
        if (!d->host)
            continue;
        s->edit_count = edits;
        s->mask_count = masks;
        s->host_count++;
        d->edit_count = 0;
        d->mask = -1;
    }
}
