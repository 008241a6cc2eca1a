#include "tests/sim/oracle.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine/grammar/grammar_state.h"
#include "engine/grammar/token_trie.h"
#include "tests/sim/fake_text.h"

/* Tests make allocations of the engine fail by number; the oracle's own are not among them. */
static void *must(void *p)
{
    CHECK(p);
    return p;
}

static bool in_list(const int32_t *list, int count, int32_t token)
{
    for (int i = 0; i < count; i++)
        if (list[i] == token)
            return true;
    return false;
}

/* Cuts the text at the stop string that is complete first, the longest of these. Looks at ends of
 * text beyond `seen` only, and at no byte before `from`. */
static bool cut(const struct engine_request *r, struct strbuf *text, size_t from, size_t seen)
{
    for (size_t end = seen + 1; end <= text->len; end++) {
        size_t longest = 0;
        for (int k = 0; k < r->stop_count; k++) {
            size_t n = r->stop[k].len;
            if (end >= from + n && n > longest &&
                memcmp(text->data + end - n, r->stop[k].text, n) == 0)
                longest = n;
        }
        if (longest > 0) {
            text->len = r->include_stop ? end : end - longest;
            return true;
        }
    }
    return false;
}

struct reader {
    const struct engine_request *r;
    int max_new;
    size_t from; /* text before is not searched */
    char detok[64];
    struct grammar_state matched;
};

static struct token_trie *the_trie;

static void make_trie(void)
{
    CHECK(token_trie_create(FAKE_VOCAB, &fake_tokens, &the_trie) == STATUS_OK);
}

static const struct token_trie *trie(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_trie);
    return the_trie;
}

static bool is_end(const struct engine_request *r, int32_t token)
{
    return in_list(r->stop_tokens, r->stop_token_count, token) ||
           (!r->ignore_eos && (token == FAKE_EOS || token == FAKE_EOS_2));
}

/* What the grammar allows next; false: no text does. */
static bool allowed(const struct reader *w, int made, bool *may)
{
    bool text = false, others = false;
    for (int32_t id = 0; id < FAKE_VOCAB; id++) {
        struct grammar_state copy;
        grammar_state_copy(&copy, &w->matched);
        may[id] = grammar_state_accept_token(&copy, trie(), id) == STATUS_OK;
        grammar_state_deinit(&copy);
        text = text || may[id];
        if (is_end(w->r, id) && trie()->node_of[id] == 0)
            may[id] = grammar_state_can_end(&w->matched);
        others = others || (may[id] && !is_end(w->r, id));
    }
    for (int32_t id = 0; id < FAKE_VOCAB && made < w->r->min_tokens && others; id++)
        may[id] = may[id] && !is_end(w->r, id);
    return text;
}

/* The newest token in the grammar. True: nothing may follow. */
static bool match(struct reader *w, int32_t token, bool full)
{
    bool may[FAKE_VOCAB];
    if (!w->r->grammar || is_end(w->r, token))
        return false;
    CHECK(grammar_state_accept_token(&w->matched, trie(), token) == STATUS_OK);
    return grammar_state_must_end(&w->matched) ||
           (!full && !allowed(w, 0, may) && grammar_state_can_end(&w->matched));
}

/* Reads the newest token. True: the answer is complete. */
static bool read_token(struct reader *w, struct oracle *o)
{
    const struct engine_request *r = w->r;
    int32_t token = o->tokens[o->count - 1].token;
    bool by_request = in_list(r->stop_tokens, r->stop_token_count, token);
    bool by_model = !r->ignore_eos && (token == FAKE_EOS || token == FAKE_EOS_2);
    bool full = o->count == w->max_new;
    bool ended = match(w, token, full) || by_request || by_model;
    size_t seen = o->text.len;
    if (by_request ? r->include_stop : by_model ? r->keep_special : true)
        fake_detok.push(NULL, w->detok, token, &o->text);
    if (o->count < r->min_tokens)
        seen = w->from = o->text.len;
    bool stopped = cut(r, &o->text, w->from, seen);
    if (!stopped && (ended || full)) {
        seen = o->text.len;
        fake_detok.end(NULL, w->detok, &o->text);
        stopped = cut(r, &o->text, w->from, seen);
    }
    o->finish = stopped || ended ? ENGINE_FINISH_STOP : ENGINE_FINISH_LENGTH;
    return stopped || ended || full;
}

int oracle_from(const struct engine_request *r, const int32_t *mark, int mark_count)
{
    for (int at = r->prompt_count - mark_count; mark_count > 0 && at >= 0; at--)
        if (memcmp(&r->prompt[at], mark, (size_t)mark_count * sizeof *mark) == 0)
            return at;
    return mark_count > 0 ? INT32_MAX : 0;
}

/* Of the token at `at`: who began to act first comes first, then the request's order. */
static uint64_t identity_at(const struct oracle_part *parts, int count, int at)
{
    uint64_t id = 0;
    for (int from = 0; from <= at; from++)
        for (int i = 0; i < count; i++)
            if (parts[i].from == from)
                id = fake_identity_add(id, parts[i].identity, parts[i].weight);
    return id;
}

static void answer(const struct engine_request *r, struct fake_history h,
                   const struct oracle_part *parts, int count, int max_new, struct oracle *o)
{
    int32_t banned[LIMIT_STOP_TOKENS + 2] = {0};
    int banned_count = r->stop_token_count;
    memcpy(banned, r->stop_tokens, (size_t)r->stop_token_count * sizeof *banned);
    if (!r->ignore_eos) {
        banned[banned_count++] = FAKE_EOS;
        banned[banned_count++] = FAKE_EOS_2;
    }
    memset(o, 0, sizeof *o);
    o->tokens = must(calloc((size_t)max_new, sizeof *o->tokens));
    o->prompt = must(calloc((size_t)r->prompt_count, sizeof *o->prompt));
    strbuf_init(&o->text, SIZE_MAX / 2);

    struct reader reader = {.r = r, .max_new = max_new};
    fake_detok.begin(NULL, reader.detok, r->keep_special, NULL, 0);
    struct sample_row row = {.params = &r->sampling, .banned = banned, .forced = -1};
    for (int i = 0; i < r->prompt_count; i++) {
        if (i > 0 && r->prompt_logprobs) {
            row.forced = r->prompt[i];
            fake_next(&h, &row, &o->prompt[i - 1]);
            row.forced = -1;
        }
        if (parts)
            h.identity = identity_at(parts, count, i);
        fake_history_add(&h, r->prompt[i]);
    }
    if (r->grammar)
        CHECK(grammar_state_init(&reader.matched, r->grammar) == STATUS_OK);
    do {
        uint32_t mask[FAKE_VOCAB / 32] = {0};
        bool may[FAKE_VOCAB];
        row.banned_count = o->count < r->min_tokens && !r->grammar ? banned_count : 0;
        if (r->grammar) {
            allowed(&reader, o->count, may);
            for (int32_t id = 0; id < FAKE_VOCAB; id++) {
                mask[id / 32] |= (uint32_t)may[id] << id % 32;
                o->masked = o->masked || !may[id];
            }
            row.mask = mask;
        }
        fake_next(&h, &row, &o->tokens[o->count]);
        fake_history_add(&h, o->tokens[o->count++].token);
    } while (!read_token(&reader, o));
    grammar_state_deinit(&reader.matched);
}

void oracle_answer(const struct engine_request *r, uint64_t identity, int max_new, struct oracle *o)
{
    answer(r, (struct fake_history){.identity = identity}, NULL, 0, max_new, o);
}

void oracle_answer_parts(const struct engine_request *r, const struct oracle_part *parts, int count,
                         int max_new, struct oracle *o)
{
    answer(r, (struct fake_history){.identity = 0}, parts, count, max_new, o);
}

void oracle_deinit(struct oracle *o)
{
    free(o->tokens);
    free(o->prompt);
    strbuf_deinit(&o->text);
}

static void embed(const struct engine_request *r, struct fake_history h,
                  const struct oracle_part *parts, int count, enum pooling_kind kind, float *out)
{
    double sum[FAKE_WIDTH] = {0}, weights = 0;
    for (int i = 0; i < r->prompt_count; i++) {
        float state[FAKE_WIDTH];
        if (parts)
            h.identity = identity_at(parts, count, i);
        fake_history_add(&h, r->prompt[i]);
        fake_state(&h, state);
        double weight = kind == POOLING_MEAN            ? 1
                        : kind == POOLING_WEIGHTED_MEAN ? i + 1
                                                        : i + 1 == r->prompt_count;
        weights += weight;
        for (int k = 0; k < FAKE_WIDTH; k++)
            sum[k] += weight * (double)state[k];
    }
    for (int k = 0; k < FAKE_WIDTH; k++)
        out[k] = (float)(sum[k] / weights);
}

void oracle_embed(const struct engine_request *r, uint64_t identity, enum pooling_kind kind,
                  float *out)
{
    embed(r, (struct fake_history){.identity = identity}, NULL, 0, kind, out);
}

void oracle_embed_parts(const struct engine_request *r, const struct oracle_part *parts, int count,
                        enum pooling_kind kind, float *out)
{
    embed(r, (struct fake_history){.identity = 0}, parts, count, kind, out);
}
