/* detokenize: token ids to text, one at a time, in whole UTF-8 characters.
 *
 * No heap, one owner. All pieces of a stream put together are the text that tokenizer_decode gives
 * for all its ids, with one exception: the library turns every byte of a run of <0xNN> tokens into
 * U+FFFD when the run as a whole is not UTF-8, and a stream has by then given out the characters
 * that were complete; it replaces only the bytes that belong to none.
 */
#ifndef CHORUS_TEXT_DETOKENIZE_H
#define CHORUS_TEXT_DETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/strbuf.h"
#include "engine/text/tokenizer.h"

struct detok {
    const struct tokenizer *t; /* borrowed */
    bool skip_special;
    bool started;      /* a token was seen (tokens that are skipped do not count) */
    bool in_bytes;     /* the bytes held back come from byte tokens */
    size_t strip_left; /* leading characters that may still be dropped */
    char held[4];      /* the beginning of a character */
    size_t held_len;
};

/* `prompt` NULL: the stream is a text of its own. Else the stream goes on behind these ids: where
 * a text's first token would lose its leading space, the stream's first token keeps it. */
void detok_init(struct detok *d, const struct tokenizer *t, bool skip_special,
                const int32_t *prompt, size_t prompt_count);
/* Appends what became complete; failures stick to `out`. Ids that do not exist are skipped. */
void detok_push(struct detok *d, int32_t id, struct strbuf *out);
/* The end of the stream: bytes still held back become U+FFFD. */
void detok_flush(struct detok *d, struct strbuf *out);

/* All ids at once, exactly as the library decodes them. */
void detok_whole(const struct tokenizer *t, const int32_t *ids, size_t count, bool skip_special,
                 struct strbuf *out);

#endif
