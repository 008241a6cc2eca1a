#include "engine/text/decoder.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/strbuf.h"
#include "engine/base/utf8.h"
#include "engine/base/vec.h"
#include "engine/text/byte_chars.h"
#include "engine/text/config_steps.h"

enum dec_kind { DEC_REPLACE, DEC_STRIP, DEC_METASPACE };

/* A rewriting of one token's text. */
struct dec_step {
    enum dec_kind kind;
    struct regex pattern; /* DEC_REPLACE */
    const char *content;  /* DEC_REPLACE; borrowed from the file's tree */
    char mark[4];         /* DEC_STRIP, DEC_METASPACE */
    size_t mark_len;
    size_t start; /* DEC_STRIP: at most so many at the ends */
    size_t stop;
    bool drop_first; /* DEC_METASPACE: no spaces in the first token */
};

/* What is known while the list is read and the tokens are worked out. */
struct dec_build {
    struct decoder *d;
    struct dec_step steps[LIMIT_TOKENIZER_STEPS];
    size_t count;
    bool byte_fallback;
    bool fused; /* the tokens are one text from here on */
    bool byte_level;
    struct regex_scan scan;
    struct strbuf text[2];
};

static enum status refuse_order(const char *type, const char *after, struct err *e)
{
    return err_set(e, STATUS_UNSUPPORTED, NULL, "decoder \"%s\" behind \"%s\"", type, after);
}

static enum status add_replace(struct dec_build *b, const cJSON *config, struct err *e)
{
    struct dec_step *s = &b->steps[b->count++];
    *s = (struct dec_step){.kind = DEC_REPLACE};
    enum status st = config_string(config, "content", &s->content, e);
    return st != STATUS_OK ? st : config_pattern(config, &s->pattern, e);
}

static enum status add_strip(struct dec_build *b, const cJSON *config, struct err *e)
{
    struct dec_step s = {.kind = DEC_STRIP};
    int64_t start = 0;
    int64_t stop = 0;
    enum status st = config_char(config, "content", s.mark, &s.mark_len, e);
    if (st == STATUS_OK)
        st = json_get_int(config, "start", 0, LIMIT_TOKEN_BYTES, &start, e);
    if (st == STATUS_OK)
        st = json_get_int(config, "stop", 0, LIMIT_TOKEN_BYTES, &stop, e);
    if (st != STATUS_OK)
        return st;
    s.start = (size_t)start;
    s.stop = (size_t)stop;
    if (!b->fused) {
        b->steps[b->count++] = s;
        return STATUS_OK;
    }
    if (stop > 0 || b->d->strip_max > 0)
        return err_set(e, STATUS_UNSUPPORTED, NULL, "decoder \"Strip\" at the end of the text");
    memcpy(b->d->strip, s.mark, s.mark_len);
    b->d->strip_len = s.mark_len;
    b->d->strip_max = s.start;
    return STATUS_OK;
}

static enum status add_metaspace(struct dec_build *b, const cJSON *config, struct err *e)
{
    struct dec_step *s = &b->steps[b->count++];
    *s = (struct dec_step){.kind = DEC_METASPACE};
    bool prefix = true;
    const char *scheme = "always";
    enum status st = config_char(config, "replacement", s->mark, &s->mark_len, e);
    if (st == STATUS_OK)
        st = json_get_bool(config, "add_prefix_space", &prefix, e);
    if (st == STATUS_OK)
        st = json_get_string(config, "prepend_scheme", &scheme, e);
    if (st == STATUS_OK)
        s->drop_first = prefix && strcmp(scheme, "never") != 0;
    return st;
}

static enum status add_step(struct dec_build *b, const cJSON *config, const char *type,
                            struct err *e)
{
    if (strcmp(type, "Fuse") == 0) {
        b->fused = true;
        return STATUS_OK;
    }
    if (b->byte_level)
        return refuse_order(type, "ByteLevel", e);
    if (strcmp(type, "Strip") == 0 && (b->fused || !b->byte_fallback))
        return add_strip(b, config, e);
    if (b->fused)
        return refuse_order(type, "Fuse", e);
    if (b->byte_fallback)
        return refuse_order(type, "ByteFallback", e);
    if (strcmp(type, "ByteFallback") == 0) {
        b->byte_fallback = true;
        return STATUS_OK;
    }
    if (strcmp(type, "ByteLevel") == 0) {
        if (b->count > 0)
            return refuse_order(type, "another", e);
        b->byte_level = true;
        return STATUS_OK;
    }
    if (strcmp(type, "Replace") == 0)
        return add_replace(b, config, e);
    if (strcmp(type, "Metaspace") == 0)
        return add_metaspace(b, config, e);
    return config_refuse("decoder", type, e);
}

static enum status run_replace(const struct dec_step *step, struct regex_scan *scan,
                               const struct strbuf *in, struct strbuf *out, struct err *e)
{
    const char *s = strbuf_str(in);
    size_t done = 0;
    regex_scan_start(scan, s, in->len);
    for (;;) {
        bool found;
        size_t from;
        size_t to;
        enum status st = regex_next(&step->pattern, scan, &found, &from, &to, e);
        if (st != STATUS_OK)
            return st;
        if (!found)
            break;
        strbuf_append(out, s + done, from - done);
        strbuf_puts(out, step->content);
        done = to;
    }
    strbuf_append(out, s + done, in->len - done);
    return STATUS_OK;
}

static void run_strip(const struct dec_step *step, const struct strbuf *in, struct strbuf *out)
{
    const char *s = strbuf_str(in);
    size_t from = 0;
    size_t to = in->len;
    size_t n = step->mark_len;
    for (size_t k = 0; k < step->start && to - from >= n && !memcmp(s + from, step->mark, n); k++)
        from += n;
    for (size_t k = 0; k < step->stop && to - from >= n && !memcmp(s + to - n, step->mark, n); k++)
        to -= n;
    strbuf_append(out, s + from, to - from);
}

static void run_metaspace(const struct dec_step *step, bool first, const struct strbuf *in,
                          struct strbuf *out)
{
    const char *s = strbuf_str(in);
    size_t i = 0;
    while (i < in->len) {
        if (in->len - i >= step->mark_len && memcmp(s + i, step->mark, step->mark_len) == 0) {
            if (!first || !step->drop_first)
                strbuf_putc(out, ' ');
            i += step->mark_len;
        } else {
            strbuf_putc(out, s[i++]);
        }
    }
}

/* The token's text after all steps, in *out. */
static enum status run_steps(struct dec_build *b, const char *s, size_t n, bool first,
                             const struct strbuf **out, struct err *e)
{
    struct strbuf *in = &b->text[0];
    struct strbuf *to = &b->text[1];
    strbuf_clear(in);
    strbuf_append(in, s, n);
    enum status st = STATUS_OK;
    for (size_t k = 0; k < b->count && st == STATUS_OK; k++) {
        const struct dec_step *step = &b->steps[k];
        strbuf_clear(to);
        if (step->kind == DEC_REPLACE)
            st = run_replace(step, &b->scan, in, to, e);
        else if (step->kind == DEC_STRIP)
            run_strip(step, in, to);
        else
            run_metaspace(step, first, in, to);
        if (st == STATUS_OK && (in->failed || to->failed))
            st = err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
        struct strbuf *swap = in;
        in = to;
        to = swap;
    }
    if (st == STATUS_OK && in->failed)
        st = err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    *out = in;
    return st;
}

static enum status store(struct decoder *d, const char *s, size_t n, struct decoder_span *out,
                         struct err *e)
{
    if (d->pool_len + n >= UINT32_MAX)
        return err_set(e, STATUS_LIMIT, NULL, "decoded tokens too large");
    if (!VEC_RESERVE(d->pool, d->pool_cap, d->pool_len + n + 1))
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    if (n)
        memcpy(d->pool + d->pool_len, s, n);
    *out = (struct decoder_span){(uint32_t)d->pool_len, (uint32_t)n};
    d->pool_len += n;
    return STATUS_OK;
}

/* "<0xNN>" -> NN, else -1. */
static int byte_token(const char *s, size_t n)
{
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>')
        return -1;
    int v = 0;
    for (int k = 3; k < 5; k++) {
        int c = s[k];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                       : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

/* Byte characters to bytes; text that holds any other character stands for itself. */
static enum status store_byte_level(struct decoder *d, const char *s, size_t n,
                                    struct decoder_span *out, struct err *e)
{
    enum status st = store(d, s, n, out, e); /* never shorter than its bytes */
    if (st != STATUS_OK)
        return st;
    char *to = d->pool + out->at;
    size_t len = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        size_t step = utf8_decode(s + i, n - i, &cp);
        int byte = byte_chars_byte(cp);
        if (step == 0 || byte < 0) {
            memcpy(to, s, n);
            return STATUS_OK;
        }
        to[len++] = (char)byte;
        i += step;
    }
    out->len = (uint32_t)len;
    d->pool_len = out->at + len;
    return STATUS_OK;
}

static enum status build_token(struct dec_build *b, const struct vocab *v, int32_t id,
                               struct err *e)
{
    struct decoder *d = b->d;
    size_t n;
    const char *s = vocab_text(v, id, &n);
    if (d->kind == DECODER_BYTES)
        return store_byte_level(d, s, n, &d->spans[id], e);
    const struct strbuf *text;
    enum status st = run_steps(b, s, n, false, &text, e);
    if (st != STATUS_OK)
        return st;
    int byte = b->byte_fallback ? byte_token(strbuf_str(text), text->len) : -1;
    if (byte >= 0) {
        char c = (char)byte;
        d->is_byte[id] = 1;
        st = store(d, &c, 1, &d->spans[id], e);
    } else {
        st = store(d, strbuf_str(text), text->len, &d->spans[id], e);
    }
    if (st != STATUS_OK || !d->first)
        return st;
    st = run_steps(b, s, n, true, &text, e);
    if (st == STATUS_OK && byte < 0)
        st = store(d, strbuf_str(text), text->len, &d->first[id], e);
    else
        d->first[id] = d->spans[id];
    return st;
}

static enum status build(struct dec_build *b, const struct vocab *v, struct err *e)
{
    struct decoder *d = b->d;
    bool two_forms = false;
    for (size_t k = 0; k < b->count; k++)
        two_forms |= b->steps[k].drop_first;
    d->id_count = v->id_count;
    d->spans = mem_calloc(v->id_count, sizeof *d->spans);
    d->is_byte = mem_calloc(v->id_count, 1);
    d->first = two_forms ? mem_calloc(v->id_count, sizeof *d->first) : NULL;
    if (!d->spans || !d->is_byte || (two_forms && !d->first) ||
        !VEC_RESERVE(d->pool, d->pool_cap, v->pool_len + 1))
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    enum status st = STATUS_OK;
    for (size_t id = 0; id < v->id_count && st == STATUS_OK; id++) {
        if (vocab_has(v, (int32_t)id, VOCAB_PRESENT))
            st = build_token(b, v, (int32_t)id, e);
    }
    return st;
}

enum status decoder_open(struct decoder *d, const struct vocab *v, const cJSON *config,
                         struct err *e)
{
    *d = (struct decoder){0};
    struct dec_build *b = mem_calloc(1, sizeof *b);
    if (!b)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    b->d = d;
    regex_scan_init(&b->scan);
    strbuf_init(&b->text[0], LIMIT_ENCODE_BYTES);
    strbuf_init(&b->text[1], LIMIT_ENCODE_BYTES);
    struct config_steps walk;
    config_steps_init(&walk, config, "decoders");
    enum status st;
    for (;;) {
        const cJSON *step;
        const char *type;
        st = config_steps_next(&walk, &step, &type, e);
        if (st == STATUS_OK && step)
            st = add_step(b, step, type, e);
        if (st != STATUS_OK || !step)
            break;
    }
    bool none = !config || cJSON_IsNull(config);
    d->kind = none ? DECODER_NONE : b->byte_level ? DECODER_BYTES : DECODER_TEXT;
    if (st == STATUS_OK)
        st = build(b, v, e);
    for (size_t k = 0; k < b->count; k++)
        regex_close(&b->steps[k].pattern);
    regex_scan_deinit(&b->scan);
    strbuf_deinit(&b->text[0]);
    strbuf_deinit(&b->text[1]);
    mem_free(b);
    if (st != STATUS_OK)
        decoder_close(d);
    return st;
}

void decoder_close(struct decoder *d)
{
    mem_free(d->pool);
    mem_free(d->spans);
    mem_free(d->first);
    mem_free(d->is_byte);
    *d = (struct decoder){0};
}
