/* The file is cut into the texts of its members first, since parts depend on each other in an order
 * that the file need not have: vocabulary, merges, added tokens, then all that refers to ids. Large
 * parts are read straight through json_reader, small ones as cJSON trees.
 *
 * `truncation` and `padding` are ignored: they are settings of a batch that was once encoded, and
 * loaders of language models reset them. */
#include "engine/text/tokenizer_load.h"

#include <string.h>

#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "engine/base/vec.h"
#include "engine/text/byte_chars.h"
#include "engine/text/json_reader.h"

struct file_parts {
    struct json_text added_tokens, normalizer, pre_tokenizer, post_processor, decoder, model;
    struct json_text type, dropout, unk_token, prefix, suffix, fuse_unk, byte_fallback,
        ignore_merges, vocab, merges;
};

struct member {
    const char *key;
    struct json_text *to;
};

static enum status bad_json(const struct json_reader *r, const char *what, struct err *e)
{
    if (strcmp(r->why, "out of memory") == 0)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    return err_set(e, STATUS_BAD_FILE, what, "%s: %s at byte %zu", what, r->why, r->i);
}

/* The texts of the members that are listed; others are stepped over. */
static enum status split_object(struct json_text text, const struct member *members, size_t count,
                                const char *what, struct err *e)
{
    struct json_reader r;
    json_reader_init(&r, text.p, text.n);
    bool first = true;
    if (json_reader_enter(&r, '{')) {
        while (json_reader_next(&r, '}', &first)) {
            struct json_text key;
            struct json_text value;
            if (!json_reader_key(&r, &key))
                break;
            struct json_text *to = NULL;
            for (size_t k = 0; k < count; k++) {
                if (json_text_equal(key, members[k].key))
                    to = members[k].to;
            }
            if (!json_reader_skip(&r, &value))
                break;
            if (to)
                *to = value;
        }
    }
    if (!r.why && json_reader_peek(&r) != 0)
        (void)json_reader_fail(&r, "text after the end of the value");
    enum status st = r.why ? bad_json(&r, what, e) : STATUS_OK;
    json_reader_deinit(&r);
    return st;
}

static bool is_absent(struct json_text v)
{
    return v.n == 0 || json_text_equal(v, "null");
}

/* A small part as a tree; NULL where it is absent. */
static enum status read_tree(struct json_text text, const char *what, cJSON **out, struct err *e)
{
    *out = NULL;
    if (is_absent(text))
        return STATUS_OK;
    enum status st = json_parse(text.p, text.n, &json_default_limits, out, e);
    if (st == STATUS_INVALID) {
        err_prefix(e, "%s", what);
        return err_set(e, STATUS_BAD_FILE, what, "%s: not JSON or too large", what);
    }
    return st;
}

static enum status read_flag(struct json_text text, const char *what, bool *out, struct err *e)
{
    if (!is_absent(text) && !json_text_equal(text, "true") && !json_text_equal(text, "false"))
        return err_set(e, STATUS_BAD_FILE, what, "model: '%s' is not true or false", what);
    *out = json_text_equal(text, "true");
    return STATUS_OK;
}

/* Refused unless null or "": the marks of words' beginnings and ends in old vocabularies. */
static enum status refuse_affix(struct json_text text, const char *what, struct err *e)
{
    if (is_absent(text) || json_text_equal(text, "\"\""))
        return STATUS_OK;
    return err_set(e, STATUS_UNSUPPORTED, what, "model: '%s' is not supported", what);
}

static enum status read_model_type(const struct file_parts *f, struct err *e)
{
    if (f->type.n > 0 && !json_text_equal(f->type, "\"BPE\""))
        return err_set(e, STATUS_UNSUPPORTED, "type", "model type %.*s is not supported, only BPE",
                       f->type.n > 64 ? 64 : (int)f->type.n, f->type.p);
    if (!is_absent(f->dropout) && !json_text_equal(f->dropout, "0") &&
        !json_text_equal(f->dropout, "0.0"))
        return err_set(e, STATUS_UNSUPPORTED, "dropout", "model: 'dropout' is not supported");
    enum status st = refuse_affix(f->prefix, "continuing_subword_prefix", e);
    return st != STATUS_OK ? st : refuse_affix(f->suffix, "end_of_word_suffix", e);
}

static enum status load_vocab(struct vocab *v, struct json_text text, struct err *e)
{
    struct json_reader r;
    json_reader_init(&r, text.p, text.n);
    bool first = true;
    enum status st = STATUS_OK;
    if (json_reader_enter(&r, '{')) {
        while (st == STATUS_OK && json_reader_next(&r, '}', &first)) {
            struct json_text key;
            uint32_t id;
            if (!json_reader_key(&r, &key) || !json_reader_uint(&r, UINT32_MAX, &id))
                break;
            st = vocab_add(v, key.p, key.n, id, VOCAB_MODEL, e);
        }
    }
    if (st == STATUS_OK && r.why)
        st = bad_json(&r, "vocab", e);
    json_reader_deinit(&r);
    return st;
}

static size_t count_members(struct json_text text)
{
    struct json_reader r;
    json_reader_init(&r, text.p, text.n);
    bool first = true;
    size_t count = 0;
    if (json_reader_enter(&r, '[')) {
        struct json_text value;
        while (json_reader_next(&r, ']', &first) && json_reader_skip(&r, &value))
            count++;
    }
    json_reader_deinit(&r);
    return count;
}

static enum status unknown_part(struct json_text s, uint32_t rank, struct err *e)
{
    return err_set(e, STATUS_BAD_FILE, "merges", "merge %u: \"%.*s\" is not in the vocabulary",
                   rank, s.n > 64 ? 64 : (int)s.n, s.p);
}

/* "a b" */
static enum status read_merge_string(const struct vocab *v, struct json_reader *r, uint32_t rank,
                                     int32_t pair[2], struct err *e)
{
    struct json_text s;
    if (!json_reader_string(r, &s))
        return STATUS_OK; /* the reader knows why */
    const char *space = memchr(s.p, ' ', s.n);
    size_t left = space ? (size_t)(space - s.p) : 0;
    if (!space || memchr(space + 1, ' ', s.n - left - 1))
        return err_set(e, STATUS_BAD_FILE, "merges", "merge %u is not two tokens", rank);
    struct json_text halves[2] = {{s.p, left}, {space + 1, s.n - left - 1}};
    for (int k = 0; k < 2; k++) {
        pair[k] = vocab_find_model(v, halves[k].p, halves[k].n);
        if (pair[k] < 0)
            return unknown_part(halves[k], rank, e);
    }
    return STATUS_OK;
}

/* ["a", "b"] */
static enum status read_merge_pair(const struct vocab *v, struct json_reader *r, uint32_t rank,
                                   int32_t pair[2], struct err *e)
{
    bool first = true;
    if (!json_reader_enter(r, '['))
        return STATUS_OK;
    for (int k = 0; k < 2; k++) {
        struct json_text s;
        if (!json_reader_next(r, ']', &first) || !json_reader_string(r, &s)) {
            (void)json_reader_fail(r, "a merge is not two tokens");
            return STATUS_OK;
        }
        pair[k] = vocab_find_model(v, s.p, s.n);
        if (pair[k] < 0)
            return unknown_part(s, rank, e);
    }
    if (json_reader_next(r, ']', &first))
        (void)json_reader_fail(r, "a merge is not two tokens");
    return STATUS_OK;
}

static enum status load_merges(struct bpe *b, struct json_text text, struct err *e)
{
    struct json_reader r;
    json_reader_init(&r, text.p, text.n);
    bool first = true;
    uint32_t rank = 0;
    enum status st = STATUS_OK;
    if (json_reader_enter(&r, '[')) {
        while (st == STATUS_OK && json_reader_next(&r, ']', &first)) {
            int32_t pair[2];
            bool is_string = json_reader_peek(&r) == '"';
            /* The first line of an old merges.txt. */
            if (is_string && rank == 0 && r.n - r.i > 9 && !memcmp(r.text + r.i, "\"#version", 9)) {
                struct json_text line;
                (void)json_reader_skip(&r, &line);
                continue;
            }
            st = is_string ? read_merge_string(b->vocab, &r, rank, pair, e)
                           : read_merge_pair(b->vocab, &r, rank, pair, e);
            if (r.why)
                break;
            if (st == STATUS_OK)
                st = bpe_add_merge(b, pair[0], pair[1], rank++, e);
        }
    }
    if (st == STATUS_OK && r.why)
        st = bad_json(&r, "merges", e);
    json_reader_deinit(&r);
    return st;
}

static enum status load_unk(struct tokenizer *t, struct json_text text, struct err *e)
{
    if (is_absent(text))
        return STATUS_OK;
    struct json_reader r;
    struct json_text s;
    json_reader_init(&r, text.p, text.n);
    enum status st = STATUS_OK;
    if (!json_reader_string(&r, &s)) {
        st = bad_json(&r, "unk_token", e);
    } else {
        t->bpe.unk_id = vocab_find_model(&t->vocab, s.p, s.n);
        if (t->bpe.unk_id < 0)
            st = err_set(e, STATUS_BAD_FILE, "unk_token", "unk_token is not in the vocabulary");
    }
    json_reader_deinit(&r);
    return st;
}

static enum status load_model(struct tokenizer *t, const struct file_parts *f, struct err *e)
{
    struct bpe *b = &t->bpe;
    if (f->vocab.n == 0 || f->merges.n == 0)
        return err_set(e, STATUS_BAD_FILE, "model", "model: no vocab or no merges");
    enum status st = load_vocab(&t->vocab, f->vocab, e);
    if (st == STATUS_OK)
        st = load_unk(t, f->unk_token, e);
    if (st == STATUS_OK)
        st = read_flag(f->fuse_unk, "fuse_unk", &b->fuse_unk, e);
    if (st == STATUS_OK)
        st = read_flag(f->byte_fallback, "byte_fallback", &b->byte_fallback, e);
    if (st == STATUS_OK)
        st = read_flag(f->ignore_merges, "ignore_merges", &b->ignore_merges, e);
    b->byte_level = t->pretokenizer.byte_level;
    if (st == STATUS_OK)
        st = bpe_prepare(b, count_members(f->merges), e);
    return st != STATUS_OK ? st : load_merges(b, f->merges, e);
}

struct added_entry {
    char *content; /* owned */
    size_t n;
    bool normalized;
    struct added_token token;
};

struct added_list {
    struct added_entry *items; /* owned */
    size_t count;
    size_t cap;
};

static bool read_added_member(struct json_reader *r, struct added_entry *a)
{
    const struct {
        const char *key;
        bool *to;
    } flags[] = {
        {"single_word", &a->token.single_word}, {"lstrip", &a->token.lstrip},
        {"rstrip", &a->token.rstrip},           {"normalized", &a->normalized},
        {"special", &a->token.special},
    };
    struct json_text key;
    struct json_text value;
    if (!json_reader_key(r, &key))
        return false;
    for (size_t k = 0; k < sizeof flags / sizeof flags[0]; k++) {
        if (json_text_equal(key, flags[k].key))
            return json_reader_bool(r, flags[k].to);
    }
    if (!json_text_equal(key, "content"))
        return json_reader_skip(r, &value);
    if (a->content)
        return json_reader_fail(r, "an added token with two contents");
    if (!json_reader_string(r, &value))
        return false;
    a->content = mem_strndup(value.p, value.n);
    a->n = value.n;
    return a->content || json_reader_fail(r, "out of memory");
}

static bool read_added(struct json_reader *r, struct added_list *list)
{
    bool first = true;
    if (!VEC_RESERVE(list->items, list->cap, list->count + 1))
        return json_reader_fail(r, "out of memory");
    struct added_entry *a = &list->items[list->count++];
    *a = (struct added_entry){.normalized = true};
    if (!json_reader_enter(r, '{'))
        return false;
    while (json_reader_next(r, '}', &first)) {
        if (!read_added_member(r, a))
            return false;
    }
    return !r->why && (a->content || json_reader_fail(r, "an added token without content"));
}

/* As in the library (0.22), tokens that the model lacks are numbered behind it in the order of the
 * file, whatever ids the file gives them. */
static enum status place_added(struct tokenizer *t, struct added_list *list, struct err *e)
{
    uint32_t next = (uint32_t)t->vocab.model_count;
    for (size_t k = 0; k < list->count; k++) {
        struct added_entry *a = &list->items[k];
        if (a->n == 0)
            continue;
        int32_t id = vocab_find(&t->vocab, a->content, a->n);
        if (id < 0) {
            id = (int32_t)next++;
            enum status st = vocab_add(&t->vocab, a->content, a->n, (uint32_t)id, 0, e);
            if (st != STATUS_OK)
                return st;
        }
        a->token.id = id;
        if (a->token.special)
            t->vocab.flags[id] |= VOCAB_SPECIAL;
    }
    return STATUS_OK;
}

/* Text from a message must never yield a special token, so none may be what a character or byte of
 * ordinary text is to the model. */
static enum status refuse_special_symbols(const struct tokenizer *t, struct err *e)
{
    const struct bpe *b = &t->bpe;
    for (size_t id = 0; id < t->vocab.id_count; id++) {
        size_t n;
        uint32_t cp;
        if (!vocab_has(&t->vocab, (int32_t)id, VOCAB_SPECIAL | VOCAB_MODEL) ||
            (int32_t)id == b->unk_id)
            continue;
        const char *s = vocab_text(&t->vocab, (int32_t)id, &n);
        bool symbol = n > 0 && n <= 4 && utf8_decode(s, n, &cp) == n &&
                      (!b->byte_level || byte_chars_byte(cp) >= 0);
        for (int k = 0; k < 256 && b->byte_fallback; k++)
            symbol |= b->byte_ids[k] == (int32_t)id;
        if (symbol)
            return err_set(e, STATUS_UNSUPPORTED, "added_tokens",
                           "special token \"%.64s\" is also a symbol of ordinary text", s);
    }
    return STATUS_OK;
}

/* Special tokens first: where two have one pattern, the first stays. */
static enum status fill_sets(struct tokenizer *t, struct added_list *list,
                             struct norm_scratch *scratch, struct err *e)
{
    for (size_t k = 0; k < list->count * 2; k++) {
        struct added_entry *a = &list->items[k % list->count];
        /* One that is listed twice is special if either says so. */
        a->token.special = a->n > 0 && vocab_has(&t->vocab, a->token.id, VOCAB_SPECIAL);
        if (a->n == 0 || a->token.special != (k < list->count))
            continue;
        struct added_set *set = a->normalized ? &t->normalized : &t->raw;
        const char *s = a->content;
        size_t n = a->n;
        enum status st = STATUS_OK;
        if (a->normalized) {
            const struct norm_text *text;
            st = normalize_run(&t->normalizer, scratch, s, n, NULL, &text, e);
            if (st != STATUS_OK)
                return st;
            s = text->p;
            n = text->n;
        }
        if (n > 0)
            st = added_tokens_add(set, s, n, &a->token, e);
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

static enum status load_added(struct tokenizer *t, struct json_text text, struct err *e)
{
    struct added_list list = {0};
    struct json_reader r;
    struct regex_scan scan;
    struct norm_scratch scratch;
    enum status st = STATUS_OK;
    regex_scan_init(&scan);
    normalize_scratch_init(&scratch, &scan);
    json_reader_init(&r, text.p, text.n);
    if (!is_absent(text)) {
        bool first = true;
        if (json_reader_enter(&r, '[')) {
            while (json_reader_next(&r, ']', &first) && read_added(&r, &list)) {
            }
        }
        if (r.why)
            st = bad_json(&r, "added_tokens", e);
    }
    if (st == STATUS_OK)
        st = place_added(t, &list, e);
    if (st == STATUS_OK)
        st = refuse_special_symbols(t, e);
    if (st == STATUS_OK)
        st = fill_sets(t, &list, &scratch, e);
    for (size_t k = 0; k < list.count; k++)
        mem_free(list.items[k].content);
    mem_free(list.items);
    json_reader_deinit(&r);
    normalize_scratch_deinit(&scratch);
    regex_scan_deinit(&scan);
    return st;
}

/* The parts that are trees, by what opens them. */
static enum status load_normalizer(struct tokenizer *t, const cJSON *v, struct err *e)
{
    return normalize_open(&t->normalizer, v, e);
}

static enum status load_pretokenizer(struct tokenizer *t, const cJSON *v, struct err *e)
{
    return pretokenize_open(&t->pretokenizer, v, e);
}

static enum status load_post(struct tokenizer *t, const cJSON *v, struct err *e)
{
    return post_process_open(&t->post, v, &t->vocab, e);
}

static enum status load_decoder(struct tokenizer *t, const cJSON *v, struct err *e)
{
    return decoder_open(&t->decoder, &t->vocab, v, e);
}

static enum status load_tree(struct tokenizer *t, struct json_text text, const char *what,
                             enum status (*open)(struct tokenizer *, const cJSON *, struct err *),
                             struct err *e)
{
    cJSON *tree;
    struct err why = {0};
    enum status st = read_tree(text, what, &tree, &why);
    if (st == STATUS_OK) {
        st = open(t, tree, &why);
        cJSON_Delete(tree);
        /* A getter's complaint about a value is one about the file here. */
        if (st == STATUS_INVALID)
            st = STATUS_BAD_FILE;
        if (st != STATUS_OK)
            err_prefix(&why, "%s", what);
    }
    return st == STATUS_OK ? st : err_set(e, st, what, "%s", why.msg);
}

enum status tokenizer_load(struct tokenizer *t, const char *json, size_t n, struct err *e)
{
    struct file_parts f = {0};
    const struct member top[] = {
        {"added_tokens", &f.added_tokens},
        {"normalizer", &f.normalizer},
        {"pre_tokenizer", &f.pre_tokenizer},
        {"post_processor", &f.post_processor},
        {"decoder", &f.decoder},
        {"model", &f.model},
    };
    const struct member model[] = {
        {"type", &f.type},
        {"dropout", &f.dropout},
        {"unk_token", &f.unk_token},
        {"continuing_subword_prefix", &f.prefix},
        {"end_of_word_suffix", &f.suffix},
        {"fuse_unk", &f.fuse_unk},
        {"byte_fallback", &f.byte_fallback},
        {"ignore_merges", &f.ignore_merges},
        {"vocab", &f.vocab},
        {"merges", &f.merges},
    };
    enum status st = split_object((struct json_text){json, n}, top, sizeof top / sizeof top[0],
                                  "tokenizer.json", e);
    if (st == STATUS_OK && f.model.n == 0)
        st = err_set(e, STATUS_BAD_FILE, "model", "there is no 'model'");
    if (st == STATUS_OK)
        st = split_object(f.model, model, sizeof model / sizeof model[0], "model", e);
    if (st == STATUS_OK)
        st = read_model_type(&f, e);
    if (st == STATUS_OK)
        st = load_tree(t, f.normalizer, "normalizer", load_normalizer, e);
    if (st == STATUS_OK)
        st = load_tree(t, f.pre_tokenizer, "pre_tokenizer", load_pretokenizer, e);
    if (st == STATUS_OK)
        st = load_model(t, &f, e);
    if (st == STATUS_OK)
        st = load_added(t, f.added_tokens, e);
    if (st == STATUS_OK)
        st = bpe_finish(&t->bpe, e);
    if (st == STATUS_OK)
        st = load_tree(t, f.post_processor, "post_processor", load_post, e);
    if (st == STATUS_OK)
        st = load_tree(t, f.decoder, "decoder", load_decoder, e);
    return st;
}

/* "<s>" or {"content": "<s>", ...}; *out stays NULL where it is null. */
static enum status read_role(struct json_text text, const char *what, char **out, struct err *e)
{
    struct json_text content = text;
    const struct member members[] = {{"content", &content}};
    if (is_absent(text))
        return STATUS_OK;
    if (text.p[0] == '{') {
        content = (struct json_text){0};
        enum status st = split_object(text, members, 1, what, e);
        if (st != STATUS_OK)
            return st;
    }
    struct json_reader r;
    struct json_text s;
    enum status st = STATUS_OK;
    json_reader_init(&r, content.p, content.n);
    if (!json_reader_string(&r, &s))
        st = bad_json(&r, what, e);
    else if (!(*out = mem_strndup(s.p, s.n)))
        st = err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    json_reader_deinit(&r);
    return st;
}

enum status tokenizer_load_config(struct tokenizer *t, const char *json, size_t n, struct err *e)
{
    static const char *const names[ROLE_COUNT] = {"bos_token", "eos_token", "unk_token",
                                                  "pad_token"};
    struct json_text roles[ROLE_COUNT] = {0};
    struct json_text add_bos = {0};
    struct json_text add_eos = {0};
    struct member members[ROLE_COUNT + 2] = {
        {"add_bos_token", &add_bos},
        {"add_eos_token", &add_eos},
    };
    for (int k = 0; k < ROLE_COUNT; k++)
        members[k + 2] = (struct member){names[k], &roles[k]};
    enum status st = split_object((struct json_text){json, n}, members, ROLE_COUNT + 2,
                                  "tokenizer_config.json", e);
    for (int k = 0; k < ROLE_COUNT && st == STATUS_OK; k++) {
        st = read_role(roles[k], names[k], &t->roles[k], e);
        if (st == STATUS_OK && t->roles[k])
            t->role_ids[k] = vocab_find(&t->vocab, t->roles[k], strlen(t->roles[k]));
    }
    bool wanted;
    if (st == STATUS_OK && !is_absent(add_bos) && t->role_ids[ROLE_BOS] >= 0) {
        st = read_flag(add_bos, "add_bos_token", &wanted, e);
        if (st == STATUS_OK)
            st = post_process_set_bos(&t->post, t->role_ids[ROLE_BOS], wanted, e);
    }
    if (st == STATUS_OK && !is_absent(add_eos) && t->role_ids[ROLE_EOS] >= 0) {
        st = read_flag(add_eos, "add_eos_token", &wanted, e);
        if (st == STATUS_OK)
            st = post_process_set_eos(&t->post, t->role_ids[ROLE_EOS], wanted, e);
    }
    return st;
}
