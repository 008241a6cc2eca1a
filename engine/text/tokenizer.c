#include "engine/text/tokenizer.h"

#include <string.h>

#include "engine/base/file.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "engine/base/vec.h"
#include "engine/text/detokenize.h"
#include "engine/text/tokenizer_load.h"
#include "engine/text/tokenizer_parts.h"

/* From here on remembering words pays for clearing the memory. */
#define CACHE_TEXT_MIN 4096

static enum status no_memory(struct err *e)
{
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

enum status tokenizer_open_json(const char *json, size_t n, const char *config, size_t config_n,
                                struct tokenizer **out, struct err *e)
{
    if (n > LIMIT_TOKENIZER_JSON_BYTES)
        return err_set(e, STATUS_LIMIT, NULL, "tokenizer.json is larger than %u bytes",
                       LIMIT_TOKENIZER_JSON_BYTES);
    struct tokenizer *t = mem_calloc(1, sizeof *t);
    if (!t)
        return no_memory(e);
    bpe_init(&t->bpe, &t->vocab);
    for (int k = 0; k < ROLE_COUNT; k++)
        t->role_ids[k] = -1;
    enum status st = tokenizer_load(t, json, n, e);
    if (st == STATUS_OK && config)
        st = tokenizer_load_config(t, config, config_n, e);
    if (st != STATUS_OK) {
        tokenizer_close(t);
        return st;
    }
    *out = t;
    return STATUS_OK;
}

enum status tokenizer_open(const char *dir, struct tokenizer **out, struct err *e)
{
    struct file_root root;
    char *json = NULL;
    char *config = NULL;
    size_t n;
    size_t config_n = 0;
    enum status st = file_root_open(dir, false, &root, e);
    if (st != STATUS_OK)
        return st;
    st = file_read(&root, "tokenizer.json", LIMIT_TOKENIZER_JSON_BYTES, &json, &n, NULL, e);
    if (st == STATUS_OK && file_exists(&root, "tokenizer_config.json"))
        st = file_read(&root, "tokenizer_config.json", LIMIT_CONFIG_JSON_BYTES, &config, &config_n,
                       NULL, e);
    if (st == STATUS_OK) {
        struct err why = {0};
        st = tokenizer_open_json(json, n, config, config_n, out, &why);
        if (st != STATUS_OK)
            err_set(e, st, why.param, "%s/tokenizer.json: %s", dir, why.msg);
    }
    mem_free(json);
    mem_free(config);
    file_root_close(&root);
    return st;
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t)
        return;
    bpe_deinit(&t->bpe);
    normalize_close(&t->normalizer);
    pretokenize_close(&t->pretokenizer);
    added_tokens_deinit(&t->raw);
    added_tokens_deinit(&t->normalized);
    decoder_close(&t->decoder);
    for (int k = 0; k < ROLE_COUNT; k++)
        mem_free(t->roles[k]);
    vocab_deinit(&t->vocab);
    mem_free(t);
}

/* One call of tokenizer_encode. */
struct encoding {
    const struct tokenizer *t;
    bool specials;
    struct regex_scan scan;
    struct norm_scratch norm;
    struct pretokenize_scratch pre;
    struct bpe_scratch bpe;
    struct token_buf *out;
    struct err *e;
};

static enum status put_id(struct encoding *c, int32_t id)
{
    struct token_buf *out = c->out;
    if (!VEC_RESERVE(out->ids, out->cap, out->count + 1))
        return no_memory(c->e);
    out->ids[out->count++] = id;
    return STATUS_OK;
}

static enum status put_ids(struct encoding *c, const int32_t *ids, size_t count)
{
    enum status st = STATUS_OK;
    for (size_t k = 0; k < count && st == STATUS_OK; k++)
        st = put_id(c, ids[k]);
    return st;
}

/* Normalized text without added tokens. */
static enum status encode_words(struct encoding *c, const char *s, size_t n, bool first, bool plain)
{
    struct pre_result r;
    enum status st = pretokenize_run(&c->t->pretokenizer, &c->pre, s, n, first, &r, c->e);
    if (st != STATUS_OK)
        return st;
    for (size_t k = 0; k < r.count; k++) {
        const struct pre_word *w = &r.words[k];
        if (bpe_encode(&c->t->bpe, &c->bpe, r.text + w->at, w->len, plain, c->out) != STATUS_OK)
            return no_memory(c->e);
    }
    return STATUS_OK;
}

static bool any_marked(const uint8_t *marks, size_t n)
{
    size_t i = 0;
    while (marks && i < n && !marks[i])
        i++;
    return marks && i < n;
}

/* Text between the added tokens that were found in it as it came. */
static enum status encode_piece(struct encoding *c, const char *s, size_t n, const uint8_t *marks,
                                bool first)
{
    const struct tokenizer *t = c->t;
    bool plain = t->bpe.makes_special && (!c->specials || any_marked(marks, n));
    if (t->normalizer.count > 0) {
        const struct norm_text *text;
        enum status st = normalize_run(&t->normalizer, &c->norm, s, n,
                                       t->normalized.has_special ? marks : NULL, &text, c->e);
        if (st != STATUS_OK)
            return st;
        s = text->p;
        n = text->n;
        first = first && text->from_start;
        marks = text->has_marks ? text->marks : NULL;
    }
    struct added_scan scan;
    struct added_match m;
    size_t done = 0;
    enum status st = STATUS_OK;
    added_tokens_start(&scan, s, n, marks, c->specials);
    while (st == STATUS_OK && added_tokens_next(&t->normalized, &scan, &m)) {
        if (done < m.from)
            st = encode_words(c, s + done, m.from - done, first && done == 0, plain);
        if (st == STATUS_OK)
            st = put_id(c, m.token->id);
        done = m.to;
    }
    if (st == STATUS_OK && done < n)
        st = encode_words(c, s + done, n - done, first && done == 0, plain);
    return st;
}

static enum status encode_text(struct encoding *c, const char *s, size_t n, const uint8_t *marks)
{
    struct added_scan scan;
    struct added_match m;
    size_t done = 0;
    enum status st = STATUS_OK;
    added_tokens_start(&scan, s, n, marks, c->specials);
    while (st == STATUS_OK && added_tokens_next(&c->t->raw, &scan, &m)) {
        if (done < m.from)
            st = encode_piece(c, s + done, m.from - done, marks ? marks + done : NULL, done == 0);
        if (st == STATUS_OK)
            st = put_id(c, m.token->id);
        done = m.to;
    }
    if (st == STATUS_OK && done < n)
        st = encode_piece(c, s + done, n - done, marks ? marks + done : NULL, done == 0);
    return st;
}

enum status tokenizer_encode(const struct tokenizer *t, const char *text, size_t n,
                             const uint8_t *from_input, unsigned flags, struct token_buf *out,
                             struct err *e)
{
    if (n > LIMIT_ENCODE_BYTES)
        return err_set(e, STATUS_LIMIT, NULL, "text is longer than %u bytes", LIMIT_ENCODE_BYTES);
    if (!utf8_is_valid(text, n))
        return err_set(e, STATUS_INVALID, NULL, "text is not valid UTF-8");
    struct encoding c = {.t = t, .specials = flags & ENCODE_PARSE_SPECIAL, .out = out, .e = e};
    size_t before = out->count;
    regex_scan_init(&c.scan);
    normalize_scratch_init(&c.norm, &c.scan);
    pretokenize_scratch_init(&c.pre, &c.scan);
    bpe_scratch_init(&c.bpe);
    if (n >= CACHE_TEXT_MIN)
        bpe_scratch_use_cache(&c.bpe);
    enum status st = STATUS_OK;
    if (flags & ENCODE_ADD_SPECIAL)
        st = put_ids(&c, t->post.before, t->post.before_count);
    if (st == STATUS_OK)
        st = encode_text(&c, text, n, from_input);
    if (st == STATUS_OK && flags & ENCODE_ADD_SPECIAL)
        st = put_ids(&c, t->post.after, t->post.after_count);
    bpe_scratch_deinit(&c.bpe);
    pretokenize_scratch_deinit(&c.pre);
    normalize_scratch_deinit(&c.norm);
    regex_scan_deinit(&c.scan);
    if (st != STATUS_OK)
        out->count = before;
    return st;
}

enum status tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t count,
                             bool skip_special, struct strbuf *out, struct err *e)
{
    detok_whole(t, ids, count, skip_special, out);
    return out->failed ? no_memory(e) : STATUS_OK;
}

const char *tokenizer_token_bytes(const struct tokenizer *t, int32_t id, size_t *n)
{
    if (!vocab_has(&t->vocab, id, VOCAB_PRESENT))
        return NULL;
    return decoder_bytes(&t->decoder, id, false, n);
}

const char *tokenizer_token_content(const struct tokenizer *t, int32_t id, size_t *n)
{
    return vocab_has(&t->vocab, id, VOCAB_PRESENT) ? vocab_text(&t->vocab, id, n) : NULL;
}

bool tokenizer_is_special(const struct tokenizer *t, int32_t id)
{
    return vocab_has(&t->vocab, id, VOCAB_SPECIAL);
}

int32_t tokenizer_id_of(const struct tokenizer *t, const char *content)
{
    return vocab_find(&t->vocab, content, strlen(content));
}

size_t tokenizer_vocab_size(const struct tokenizer *t)
{
    return t->vocab.id_count;
}

const char *tokenizer_bos_token(const struct tokenizer *t)
{
    return t->roles[ROLE_BOS];
}

const char *tokenizer_eos_token(const struct tokenizer *t)
{
    return t->roles[ROLE_EOS];
}

const char *tokenizer_unk_token(const struct tokenizer *t)
{
    return t->roles[ROLE_UNK];
}

const char *tokenizer_pad_token(const struct tokenizer *t)
{
    return t->roles[ROLE_PAD];
}

int32_t tokenizer_bos_id(const struct tokenizer *t)
{
    return t->role_ids[ROLE_BOS];
}

int32_t tokenizer_eos_id(const struct tokenizer *t)
{
    return t->role_ids[ROLE_EOS];
}
