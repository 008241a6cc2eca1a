#include "engine/text/detokenize.h"

#include <string.h>

#include "engine/base/utf8.h"
#include "engine/text/tokenizer_parts.h"

#define REPLACEMENT "\xEF\xBF\xBD"

void detok_init(struct detok *d, const struct tokenizer *t, bool skip_special,
                const int32_t *prompt, size_t prompt_count)
{
    bool goes_on = prompt && prompt_count > 0;
    *d = (struct detok){
        .t = t,
        .skip_special = skip_special,
        .started = goes_on,
        .strip_left = goes_on ? 0 : t->decoder.strip_max,
    };
}

/* Whole characters. */
static void emit(struct detok *d, const char *s, size_t n, struct strbuf *out)
{
    const struct decoder *c = &d->t->decoder;
    while (d->strip_left > 0 && n > 0) {
        if (n < c->strip_len || memcmp(s, c->strip, c->strip_len) != 0) {
            d->strip_left = 0;
            break;
        }
        s += c->strip_len;
        n -= c->strip_len;
        d->strip_left--;
    }
    strbuf_append(out, s, n);
}

/* `n` bytes that make up no character: one U+FFFD for the longest beginning of a character in
 * byte-level text, one for each byte of byte tokens. */
static void emit_broken(struct detok *d, size_t n, struct strbuf *out)
{
    size_t count = d->in_bytes ? n : 1;
    while (count-- > 0)
        emit(d, REPLACEMENT, sizeof REPLACEMENT - 1, out);
}

static void drop_held(struct detok *d, struct strbuf *out)
{
    if (d->held_len > 0)
        emit_broken(d, d->held_len, out);
    d->held_len = 0;
}

static bool begins_character(const char *s, size_t n)
{
    return utf8_valid_len(s, n) == n || utf8_incomplete_tail(s, n) == n;
}

/* The bytes held back are always the beginning of some character. */
static void push_byte(struct detok *d, char byte, struct strbuf *out)
{
    d->held[d->held_len] = byte;
    if (!begins_character(d->held, d->held_len + 1))
        drop_held(d, out);
    d->held[d->held_len++] = byte;
    if (utf8_valid_len(d->held, d->held_len) == d->held_len) {
        emit(d, d->held, d->held_len, out);
        d->held_len = 0;
    } else if (!begins_character(d->held, d->held_len)) {
        drop_held(d, out);
    }
}

static void push_bytes(struct detok *d, const char *s, size_t n, struct strbuf *out)
{
    size_t i = 0;
    while (i < n) {
        size_t from = i;
        while (d->held_len == 0 && i < n && (unsigned char)s[i] < 0x80)
            i++;
        if (i > from)
            emit(d, s + from, i - from, out);
        if (i < n)
            push_byte(d, s[i++], out);
    }
}

static bool is_seen(const struct detok *d, int32_t id)
{
    if (!vocab_has(&d->t->vocab, id, VOCAB_PRESENT))
        return false;
    return !d->skip_special || !vocab_has(&d->t->vocab, id, VOCAB_SPECIAL);
}

void detok_push(struct detok *d, int32_t id, struct strbuf *out)
{
    const struct decoder *c = &d->t->decoder;
    if (!is_seen(d, id))
        return;
    size_t n;
    const char *s = decoder_bytes(c, id, !d->started, &n);
    bool in_bytes = c->is_byte[id];
    if (c->kind == DECODER_NONE && d->started)
        emit(d, " ", 1, out);
    d->started = true;
    if (c->kind == DECODER_BYTES || in_bytes) {
        d->in_bytes = in_bytes;
        push_bytes(d, s, n, out);
        return;
    }
    drop_held(d, out);
    emit(d, s, n, out);
}

void detok_flush(struct detok *d, struct strbuf *out)
{
    drop_held(d, out);
}

/* A run of byte tokens, whose bytes were appended behind `from`: valid as a whole or not at all. */
static void settle_run(struct detok *d, size_t from, struct strbuf *out)
{
    size_t n = out->len - from;
    if (out->failed || n == 0)
        return;
    bool valid = utf8_is_valid(out->data + from, n);
    if (!valid) {
        out->len = from;
        while (n-- > 0)
            emit(d, REPLACEMENT, sizeof REPLACEMENT - 1, out);
        return;
    }
    size_t dropped = 0;
    size_t len = d->t->decoder.strip_len;
    while (d->strip_left > 0 && n - dropped >= len &&
           memcmp(out->data + from + dropped, d->t->decoder.strip, len) == 0) {
        dropped += len;
        d->strip_left--;
    }
    if (dropped < n)
        d->strip_left = 0;
    memmove(out->data + from, out->data + from + dropped, n - dropped);
    out->len -= dropped;
    out->data[out->len] = '\0';
}

void detok_whole(const struct tokenizer *t, const int32_t *ids, size_t count, bool skip_special,
                 struct strbuf *out)
{
    struct detok d;
    detok_init(&d, t, skip_special, NULL, 0);
    size_t run = out->len;
    bool in_run = false;
    for (size_t i = 0; i < count; i++) {
        if (!is_seen(&d, ids[i]))
            continue;
        bool is_byte = t->decoder.is_byte[ids[i]];
        if (in_run && !is_byte)
            settle_run(&d, run, out);
        if (!in_run && is_byte)
            run = out->len;
        in_run = is_byte;
        if (is_byte) {
            size_t n;
            const char *s = decoder_bytes(&t->decoder, ids[i], !d.started, &n);
            strbuf_append(out, s, n);
            d.started = true;
        } else {
            detok_push(&d, ids[i], out);
        }
    }
    if (in_run)
        settle_run(&d, run, out);
    detok_flush(&d, out);
}
