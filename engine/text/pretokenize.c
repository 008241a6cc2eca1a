/* Breadth first: each step turns the list of words into the next one. A step either cuts words
 * (PRE_SPLIT) or rewrites them into a new text (PRE_SPACE, PRE_METASPACE). */
#include "engine/text/pretokenize.h"

#include <string.h>

#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/vec.h"
#include "engine/text/config_steps.h"

enum pre_kind {
    PRE_SPLIT,
    PRE_SPACE,    /* a space before a word that does not begin with one */
    PRE_METASPACE /* spaces become `mark`, which is also put before words as `prepend` says */
};

enum pre_behavior { PRE_ISOLATED, PRE_REMOVED, PRE_PREVIOUS, PRE_NEXT, PRE_CONTIGUOUS };
enum pre_prepend { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS };

struct pre_step {
    enum pre_kind kind;
    struct regex pattern; /* PRE_SPLIT */
    enum pre_behavior behavior;
    bool invert;
    enum pre_prepend prepend; /* PRE_METASPACE */
    char mark[4];
    size_t mark_len;
};

/* GPT-2's words. */
#define GPT2_PATTERN                                                                               \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define WORD_CHARS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\u200C\\u200D"

static struct pre_step *add_step(struct pretokenizer *p, enum pre_kind kind)
{
    if (!VEC_RESERVE(p->steps, p->cap, p->count + 1))
        return NULL;
    p->steps[p->count] = (struct pre_step){.kind = kind};
    return &p->steps[p->count++];
}

static enum status no_memory(struct err *e)
{
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

static enum status add_split(struct pretokenizer *p, const char *pattern,
                             enum pre_behavior behavior, bool invert, struct err *e)
{
    struct pre_step *s = add_step(p, PRE_SPLIT);
    if (!s)
        return no_memory(e);
    s->behavior = behavior;
    s->invert = invert;
    return regex_open(&s->pattern, pattern, strlen(pattern), e);
}

static enum status read_behavior(const cJSON *config, enum pre_behavior *out, struct err *e)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const char *s;
    enum status st = config_string(config, "behavior", &s, e);
    if (st != STATUS_OK)
        return st;
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        if (strcmp(s, names[k]) == 0) {
            *out = (enum pre_behavior)k;
            return STATUS_OK;
        }
    }
    return err_set(e, STATUS_UNSUPPORTED, NULL, "split behavior \"%.32s\"", s);
}

static enum status open_split(struct pretokenizer *p, const cJSON *config, struct err *e)
{
    struct pre_step *s = add_step(p, PRE_SPLIT);
    if (!s)
        return no_memory(e);
    enum status st = config_pattern(config, &s->pattern, e);
    if (st == STATUS_OK)
        st = json_get_bool(config, "invert", &s->invert, e);
    return st != STATUS_OK ? st : read_behavior(config, &s->behavior, e);
}

static enum status open_byte_level(struct pretokenizer *p, const cJSON *config, struct err *e)
{
    bool prefix = true;
    bool cut = true;
    enum status st = json_get_bool(config, "add_prefix_space", &prefix, e);
    if (st == STATUS_OK)
        st = json_get_bool(config, "use_regex", &cut, e);
    if (st == STATUS_OK && prefix && !add_step(p, PRE_SPACE))
        st = no_memory(e);
    if (st == STATUS_OK && cut)
        st = add_split(p, GPT2_PATTERN, PRE_ISOLATED, false, e);
    p->byte_level = true;
    return st;
}

static enum status open_metaspace(struct pretokenizer *p, const cJSON *config, struct err *e)
{
    static const char *const schemes[] = {"never", "first", "always"};
    struct pre_step *s = add_step(p, PRE_METASPACE);
    if (!s)
        return no_memory(e);
    bool cut = true;
    bool prefix = true;
    const char *scheme = "always";
    enum status st = config_char(config, "replacement", s->mark, &s->mark_len, e);
    if (st == STATUS_OK)
        st = json_get_bool(config, "split", &cut, e);
    if (st == STATUS_OK)
        st = json_get_bool(config, "add_prefix_space", &prefix, e);
    if (st == STATUS_OK)
        st = json_get_string(config, "prepend_scheme", &scheme, e);
    if (st != STATUS_OK)
        return st;
    size_t k = 0;
    while (k < 3 && strcmp(schemes[k], scheme) != 0)
        k++;
    if (k == 3)
        return err_set(e, STATUS_UNSUPPORTED, NULL, "prepend_scheme \"%.32s\"", scheme);
    s->prepend = prefix ? (enum pre_prepend)k : PREPEND_NEVER;
    if (!cut)
        return STATUS_OK;
    char mark[4];
    size_t mark_len = s->mark_len;
    memcpy(mark, s->mark, sizeof mark);
    s = add_step(p, PRE_SPLIT);
    if (!s)
        return no_memory(e);
    s->behavior = PRE_NEXT;
    return regex_open_literal(&s->pattern, mark, mark_len, e);
}

static enum status open_digits(struct pretokenizer *p, const cJSON *config, struct err *e)
{
    bool individual = false;
    enum status st = json_get_bool(config, "individual_digits", &individual, e);
    if (st != STATUS_OK)
        return st;
    return add_split(p, "\\p{N}", individual ? PRE_ISOLATED : PRE_CONTIGUOUS, false, e);
}

static enum status open_punctuation(struct pretokenizer *p, const cJSON *config, struct err *e)
{
    enum pre_behavior behavior = PRE_ISOLATED;
    if (json_member(config, "behavior")) {
        enum status st = read_behavior(config, &behavior, e);
        if (st != STATUS_OK)
            return st;
    }
    return add_split(p, "[\\p{P}$+<=>^`|~]", behavior, false, e);
}

static enum status open_step(struct pretokenizer *p, const cJSON *config, const char *type,
                             struct err *e)
{
    /* The model's vocabulary is spelled in byte characters from there on; no real file cuts those
     * again. */
    if (p->byte_level)
        return err_set(e, STATUS_UNSUPPORTED, NULL, "pre-tokenizer \"%.64s\" behind ByteLevel",
                       type);
    if (strcmp(type, "Split") == 0)
        return open_split(p, config, e);
    if (strcmp(type, "ByteLevel") == 0)
        return open_byte_level(p, config, e);
    if (strcmp(type, "Metaspace") == 0)
        return open_metaspace(p, config, e);
    if (strcmp(type, "Digits") == 0)
        return open_digits(p, config, e);
    if (strcmp(type, "Punctuation") == 0)
        return open_punctuation(p, config, e);
    if (strcmp(type, "Whitespace") == 0)
        return add_split(p, "[" WORD_CHARS "]+|[^\\s" WORD_CHARS "]+", PRE_REMOVED, true, e);
    if (strcmp(type, "WhitespaceSplit") == 0)
        return add_split(p, "\\s", PRE_REMOVED, false, e);
    return config_refuse("pre-tokenizer", type, e);
}

enum status pretokenize_open(struct pretokenizer *p, const cJSON *config, struct err *e)
{
    *p = (struct pretokenizer){0};
    struct config_steps walk;
    config_steps_init(&walk, config, "pretokenizers");
    for (;;) {
        const cJSON *step;
        const char *type;
        enum status st = config_steps_next(&walk, &step, &type, e);
        if (st == STATUS_OK && !step)
            return STATUS_OK;
        if (st == STATUS_OK)
            st = open_step(p, step, type, e);
        if (st != STATUS_OK) {
            pretokenize_close(p);
            return st;
        }
    }
}

void pretokenize_close(struct pretokenizer *p)
{
    for (size_t k = 0; k < p->count; k++)
        regex_close(&p->steps[k].pattern);
    mem_free(p->steps);
    *p = (struct pretokenizer){0};
}

void pretokenize_scratch_init(struct pretokenize_scratch *s, struct regex_scan *scan)
{
    *s = (struct pretokenize_scratch){.scan = scan};
}

void pretokenize_scratch_deinit(struct pretokenize_scratch *s)
{
    for (int k = 0; k < 2; k++) {
        mem_free(s->words[k].items);
        mem_free(s->text[k].p);
    }
    pretokenize_scratch_init(s, NULL);
}

/* Turns the alternation of text and matches in one word into words. */
struct cutter {
    const struct pre_step *step;
    struct pre_words *out;
    uint32_t base; /* of the word in the text */
    bool first;
    bool last_was_match;
    bool open; /* the last word of out is of this word and may still grow */
};

static bool push(struct cutter *c, size_t from, size_t to)
{
    struct pre_words *w = c->out;
    if (!VEC_RESERVE(w->items, w->cap, w->count + 1))
        return false;
    w->items[w->count++] =
        (struct pre_word){c->base + (uint32_t)from, (uint32_t)(to - from), c->first && from == 0};
    c->open = true;
    return true;
}

static bool feed(struct cutter *c, size_t from, size_t to, bool match)
{
    bool join = false;
    switch (c->step->behavior) {
    case PRE_ISOLATED:
        break;
    case PRE_REMOVED:
        if (match)
            return true;
        break;
    case PRE_PREVIOUS:
        join = match && !c->last_was_match;
        break;
    case PRE_NEXT:
        join = !match && c->last_was_match;
        break;
    case PRE_CONTIGUOUS:
        join = match == c->last_was_match;
        break;
    }
    c->last_was_match = match;
    if (!join || !c->open)
        return push(c, from, to);
    c->out->items[c->out->count - 1].len += (uint32_t)(to - from);
    return true;
}

static enum status cut_word(const struct pre_step *step, struct regex_scan *scan, const char *text,
                            const struct pre_word *word, struct pre_words *out, struct err *e)
{
    struct cutter c = {.step = step, .out = out, .base = word->at, .first = word->first};
    size_t done = 0;
    regex_scan_start(scan, text + word->at, word->len);
    for (;;) {
        bool found;
        size_t from;
        size_t to;
        enum status st = regex_next(&step->pattern, scan, &found, &from, &to, e);
        if (st != STATUS_OK)
            return st;
        if (!found)
            break;
        if ((from > done && !feed(&c, done, from, step->invert)) ||
            !feed(&c, from, to, !step->invert))
            return no_memory(e);
        done = to;
    }
    if (done < word->len && !feed(&c, done, word->len, step->invert))
        return no_memory(e);
    return STATUS_OK;
}

static void drop_empty(struct pre_words *w)
{
    size_t kept = 0;
    for (size_t k = 0; k < w->count; k++) {
        if (w->items[k].len > 0)
            w->items[kept++] = w->items[k];
    }
    w->count = kept;
}

static enum status run_split(const struct pre_step *step, struct regex_scan *scan, const char *text,
                             const struct pre_words *in, struct pre_words *out, struct err *e)
{
    out->count = 0;
    for (size_t k = 0; k < in->count; k++) {
        enum status st = cut_word(step, scan, text, &in->items[k], out, e);
        if (st != STATUS_OK)
            return st;
    }
    drop_empty(out);
    return STATUS_OK;
}

static bool put(struct pre_text *t, const char *s, size_t n)
{
    if (!VEC_RESERVE(t->p, t->cap, t->n + n + 1))
        return false;
    memcpy(t->p + t->n, s, n);
    t->n += n;
    return true;
}

static bool put_marked(const struct pre_step *step, struct pre_text *t, const char *s, size_t n)
{
    bool ok = true;
    size_t from = 0;
    for (size_t i = 0; i < n && ok; i++) {
        if (s[i] != ' ')
            continue;
        ok = put(t, s + from, i - from) && put(t, step->mark, step->mark_len);
        from = i + 1;
    }
    return ok && put(t, s + from, n - from);
}

static bool wants_mark(const struct pre_step *step, const char *s, const struct pre_word *w)
{
    if (step->prepend == PREPEND_NEVER || (step->prepend == PREPEND_FIRST && !w->first))
        return false;
    return s[0] != ' ' && (w->len < step->mark_len || memcmp(s, step->mark, step->mark_len) != 0);
}

/* Words keep their number and order and move to the new text. */
static enum status run_rewrite(const struct pre_step *step, const char *text,
                               struct pre_words *words, struct pre_text *out, struct err *e)
{
    out->n = 0;
    for (size_t k = 0; k < words->count; k++) {
        struct pre_word *w = &words->items[k];
        const char *s = text + w->at;
        size_t from = out->n;
        bool ok;
        if (step->kind == PRE_SPACE)
            ok = (s[0] == ' ' || put(out, " ", 1)) && put(out, s, w->len);
        else
            ok = (!wants_mark(step, s, w) || put(out, step->mark, step->mark_len)) &&
                 put_marked(step, out, s, w->len);
        if (!ok)
            return no_memory(e);
        /* Each step adds at most the mark to a byte: far below what uint32_t holds. */
        if (out->n > (size_t)LIMIT_ENCODE_BYTES * 4)
            return err_set(e, STATUS_LIMIT, NULL, "text grows beyond %u bytes in pre-tokenizing",
                           LIMIT_ENCODE_BYTES * 4);
        w->at = (uint32_t)from;
        w->len = (uint32_t)(out->n - from);
    }
    return STATUS_OK;
}

enum status pretokenize_run(const struct pretokenizer *p, struct pretokenize_scratch *scratch,
                            const char *s, size_t n, bool first, struct pre_result *out,
                            struct err *e)
{
    struct pre_words *w = scratch->words;
    int at = 0;
    int text_at = 0;
    const char *text = s;
    if (!VEC_RESERVE(w[0].items, w[0].cap, 1))
        return no_memory(e);
    w[0].count = n > 0;
    w[0].items[0] = (struct pre_word){0, (uint32_t)n, first};
    for (size_t k = 0; k < p->count; k++) {
        const struct pre_step *step = &p->steps[k];
        enum status st;
        if (step->kind == PRE_SPLIT) {
            st = run_split(step, scratch->scan, text, &w[at], &w[1 - at], e);
            at = 1 - at;
        } else {
            st = run_rewrite(step, text, &w[at], &scratch->text[text_at], e);
            text = scratch->text[text_at].p;
            text_at = 1 - text_at;
        }
        if (st != STATUS_OK)
            return st;
    }
    *out = (struct pre_result){text, w[at].items, w[at].count};
    return STATUS_OK;
}
