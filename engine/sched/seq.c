#include "engine/sched/seq.h"

#include <string.h>

#include "engine/base/mem.h"
#include "engine/sched/sched.h"

/* Bounds the memory of one request; the longest context needs a few megabytes. */
#define SEQ_ARENA_BYTES ((size_t)1 << 30)

static enum status copy_stops(struct seq *s, const struct seq_setup *setup)
{
    const struct engine_request *r = setup->request;
    int eos = r->ignore_eos ? 0 : setup->eos_count;
    s->ends = arena_alloc(&s->arena, (size_t)(r->stop_token_count + eos), sizeof *s->ends);
    if (!s->ends)
        return STATUS_NO_MEMORY;
    s->stop_token_count = r->stop_token_count;
    s->end_count = r->stop_token_count + eos;
    memcpy(s->ends, r->stop_tokens, (size_t)r->stop_token_count * sizeof *s->ends);
    if (eos > 0)
        memcpy(s->ends + r->stop_token_count, setup->eos, (size_t)eos * sizeof *s->ends);

    stop_init(&s->stop, r->include_stop);
    for (int i = 0; i < r->stop_count; i++) {
        enum status st = stop_add(&s->stop, &s->arena, r->stop[i].text, r->stop[i].len);
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

static enum status copy_request(struct seq *s, const struct seq_setup *setup)
{
    const struct engine_request *r = setup->request;
    const char *request_id = r->request_id ? r->request_id : "";
    s->request_id = arena_strndup(&s->arena, request_id, strlen(request_id));
    s->prompt_count = r->prompt_count;
    s->count = r->prompt_count;
    s->max_new = setup->max_new;
    s->min_new = r->min_tokens;
    s->keep_special = r->keep_special;
    s->include_stop = r->include_stop;
    s->pooled.kind = r->embed ? setup->pooled.kind : POOLING_NONE;
    s->pooled.width = setup->pooled.width;
    s->prompt_logprobs = r->prompt_logprobs;
    s->cache_write = setup->prefix_cache && r->cache_prompt;
    s->cache_read = s->cache_write && !r->prompt_logprobs && !pooling_takes_all(s->pooled.kind);
    s->scored = 1;

    s->sampling = r->sampling;
    struct logit_bias *bias = arena_alloc(&s->arena, (size_t)r->sampling.bias_count, sizeof *bias);
    s->sampling.bias = bias;
    if (!s->request_id || !bias)
        return STATUS_NO_MEMORY;
    if (r->sampling.bias_count > 0)
        memcpy(bias, r->sampling.bias, (size_t)r->sampling.bias_count * sizeof *bias);
    return copy_stops(s, setup);
}

static enum status make_pool(struct pooled *p, struct arena *a)
{
    p->sum = arena_alloc(a, (size_t)p->width, sizeof *p->sum);
    p->out = mem_alloc((size_t)p->width, sizeof *p->out); /* goes to the reader */
    return p->sum && p->out ? STATUS_OK : STATUS_NO_MEMORY;
}

static enum status make_room(struct seq *s, const struct seq_setup *setup)
{
    int total = s->prompt_count + s->max_new;
    s->pages_max = sched_pages_for(total);
    s->tokens = arena_alloc(&s->arena, (size_t)total, sizeof *s->tokens);
    s->pages = arena_alloc(&s->arena, (size_t)s->pages_max, sizeof *s->pages);
    s->keys = arena_alloc(&s->arena, s->cache_write ? (size_t)s->pages_max : 0, sizeof *s->keys);
    s->detok = arena_alloc(&s->arena, setup->detok_bytes, 1);
    s->text = arena_alloc(&s->arena, setup->text_bytes, 1);
    s->mask =
        arena_alloc(&s->arena, setup->request->grammar ? setup->mask_words : 0, sizeof *s->mask);
    if (!s->tokens || !s->pages || !s->keys || !s->detok || !s->text || !s->mask)
        return STATUS_NO_MEMORY;
    if (s->pooled.kind != POOLING_NONE && make_pool(&s->pooled, &s->arena) != STATUS_OK)
        return STATUS_NO_MEMORY;
    if (setup->request->grammar)
        s->grammar = grammar_ref(setup->request->grammar);
    memcpy(s->tokens, setup->request->prompt, (size_t)s->prompt_count * sizeof *s->tokens);
    int top_max = s->sampling.logprobs > 0 ? s->sampling.logprobs : 0;
    return outbox_init(&s->outbox, &s->arena, top_max);
}

enum status seq_create(const struct seq_setup *setup, struct seq **out)
{
    struct arena arena;
    arena_init(&arena, SEQ_ARENA_BYTES);
    struct seq *s = arena_alloc(&arena, 1, sizeof *s);
    if (!s) {
        arena_deinit(&arena);
        return STATUS_NO_MEMORY;
    }
    s->arena = arena;
    s->state = SEQ_WAITING;
    enum status st = copy_request(s, setup);
    if (st == STATUS_OK)
        st = make_room(s, setup);
    if (st != STATUS_OK) {
        seq_destroy(s);
        return st;
    }
    *out = s;
    return STATUS_OK;
}

void seq_drop_grammar(struct seq *s)
{
    grammar_state_deinit(&s->matched);
    grammar_unref(s->grammar);
    s->grammar = NULL;
}

void seq_destroy(struct seq *s)
{
    mem_free(s->pooled.out);       /* nobody read it */
    grammar_unref(s->grammar);     /* the engine thread never saw it */
    struct arena arena = s->arena; /* s lives in it */
    arena_deinit(&arena);
}

/* Identities of the adapters that begin to act on tokens [begin, end). */
static int identities(const struct seq *s, int begin, int end, struct prefix_identity *out)
{
    int n = 0;
    for (int i = 0; i < s->adapter_count; i++) {
        const struct seq_adapter *a = &s->adapters[i];
        if (a->from >= begin && a->from < end)
            out[n++] = (struct prefix_identity){.sha256 = a->adapter->facts.sha256,
                                                .generation = a->adapter->generation,
                                                .weight = a->weight,
                                                .from = a->from};
    }
    return n;
}

void seq_seed(struct seq *s, const char *salt)
{
    struct prefix_identity identity[LIMIT_ADAPTERS_PER_REQUEST];
    prefix_seed(salt, identity, identities(s, 0, 1, identity), &s->seed);
    seq_extend_keys(s, s->prompt_count);
}

void seq_extend_keys(struct seq *s, int tokens)
{
    int full = tokens / LIMIT_KV_PAGE_TOKENS;
    for (; s->cache_write && s->key_count < full; s->key_count++) {
        struct prefix_identity identity[LIMIT_ADAPTERS_PER_REQUEST];
        int i = s->key_count, begin = i * LIMIT_KV_PAGE_TOKENS;
        struct prefix_key parent = i > 0 ? s->keys[i - 1] : s->seed;
        int joining = identities(s, i > 0 ? begin : 1, begin + LIMIT_KV_PAGE_TOKENS, identity);
        if (joining > 0)
            prefix_join(&parent, identity, joining, &parent);
        prefix_next(&parent, &s->tokens[begin], &s->keys[i]);
    }
}

int seq_cacheable_pages(const struct seq *s)
{
    int full = (s->count - 1) / LIMIT_KV_PAGE_TOKENS;
    return !s->cache_read ? 0 : full < s->key_count ? full : s->key_count;
}

int seq_made(const struct seq *s)
{
    return s->count - s->prompt_count;
}

bool seq_scores(const struct seq *s)
{
    return (s->prompt_logprobs || pooling_takes_all(s->pooled.kind)) && s->scored < s->prompt_count;
}

int seq_banned_count(const struct seq *s, int made)
{
    return made < s->min_new ? s->end_count : 0;
}

bool seq_is_end(const struct seq *s, int32_t token, bool *show)
{
    for (int i = 0; i < s->end_count; i++) {
        if (s->ends[i] != token)
            continue;
        *show = i < s->stop_token_count ? s->include_stop : s->keep_special;
        return true;
    }
    *show = true;
    return false;
}

void seq_usage(const struct seq *s, struct engine_usage *out)
{
    memset(out, 0, sizeof *out);
    out->prompt_tokens = s->prompt_count;
    out->cached_tokens = s->cached_tokens;
    out->completion_tokens = seq_made(s);
    out->stop_number = s->stop.found;
    if (s->scheduled_ns) {
        out->queue_ns = s->scheduled_ns - s->submitted_ns;
        out->adapter_ns = s->lacked_ns;
    }
    if (s->first_token_ns) {
        out->prompt_ns = s->first_token_ns - s->scheduled_ns;
        out->decode_ns = s->last_token_ns - s->first_token_ns;
    }
}
