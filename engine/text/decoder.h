/* decoder: the `decoder` of a tokenizer.json, worked out per token when the file is opened.
 *
 * Every decoder that is accepted comes down to: fixed bytes for each token (another form for the
 * first token of a text), byte tokens whose bytes make up characters together, and some leading
 * characters that are dropped once. What would need later text to decide is refused.
 *
 * Does not change after it was opened; any thread.
 */
#ifndef CHORUS_TEXT_DECODER_H
#define CHORUS_TEXT_DECODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "engine/base/status.h"
#include "engine/text/vocab.h"

enum decoder_kind {
    DECODER_NONE,  /* no decoder: tokens stand apart, with a space between them */
    DECODER_BYTES, /* byte-level: all bytes of the text together are UTF-8, or repaired */
    DECODER_TEXT   /* tokens are text; runs of byte tokens are repaired by themselves */
};

struct decoder_span {
    uint32_t at;
    uint32_t len;
};

struct decoder {
    enum decoder_kind kind;
    char *pool; /* owned */
    size_t pool_len;
    size_t pool_cap;
    struct decoder_span *spans; /* owned, by id: the bytes of the token in running text */
    struct decoder_span *first; /* owned, by id, or NULL: at the beginning of a text */
    uint8_t *is_byte;           /* owned, by id: the span is one byte of a byte token */
    size_t id_count;
    char strip[4]; /* dropped up to strip_max times at the beginning of the text */
    size_t strip_len;
    size_t strip_max;
};

/* `config` NULL: DECODER_NONE. STATUS_UNSUPPORTED names the type; STATUS_BAD_FILE, STATUS_LIMIT,
 * STATUS_NO_MEMORY. All tokens are in the vocabulary by then. */
WARN_UNUSED enum status decoder_open(struct decoder *d, const struct vocab *v, const cJSON *config,
                                     struct err *e);
void decoder_close(struct decoder *d);

/* Bytes of a token that exists. */
static inline const char *decoder_bytes(const struct decoder *d, int32_t id, bool first, size_t *n)
{
    const struct decoder_span *s = first && d->first ? &d->first[id] : &d->spans[id];
    *n = s->len;
    return d->pool + s->at;
}

#endif
