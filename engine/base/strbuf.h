/* strbuf: a growing byte string with a cap. One owner.
 *
 * Failure is sticky: after an append that found no memory or went over the cap, `failed` stays true
 * and later appends do nothing, so a writer checks once at its end. `data` is always terminated
 * once anything was appended.
 */
#ifndef CHORUS_BASE_STRBUF_H
#define CHORUS_BASE_STRBUF_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/status.h"

struct strbuf {
    char *data; /* owned; NULL while empty */
    size_t len;
    size_t cap;
    size_t max; /* bytes; appends beyond fail */
    bool failed;
};

void strbuf_init(struct strbuf *b, size_t max_bytes);
void strbuf_deinit(struct strbuf *b);
/* Empties the buffer and clears `failed`; keeps the memory. */
void strbuf_clear(struct strbuf *b);

void strbuf_append(struct strbuf *b, const char *s, size_t n);
void strbuf_puts(struct strbuf *b, const char *s);
void strbuf_putc(struct strbuf *b, char c);
void strbuf_printf(struct strbuf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Room for n more bytes behind len, or NULL (and failed). The caller writes there and adds to len
 * itself. */
char *strbuf_reserve(struct strbuf *b, size_t n);

/* The text, "" while empty; valid until the next append. */
const char *strbuf_str(const struct strbuf *b);
/* Moves the heap string to the caller (mem_free); the buffer is empty again. NULL if failed. */
char *strbuf_take(struct strbuf *b);

/* Appends s as a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD. */
void strbuf_json_string(struct strbuf *b, const char *s, size_t n);

#endif
