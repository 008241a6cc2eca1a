/* json_reader: a pull reader for JSON files too large for a tree (vocabularies, merges).
 *
 * The caller asks for what it expects, member by member; nothing is built. Any mismatch sets `why`
 * and every later call fails, so one check at the end is enough. One owner, one thread.
 */
#ifndef CHORUS_TEXT_JSON_READER_H
#define CHORUS_TEXT_JSON_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_text {
    const char *p;
    size_t n;
};

struct json_reader {
    const char *text; /* borrowed until the end of reading */
    size_t n;
    size_t i;
    const char *why; /* NULL: fine so far */
    char *unescaped; /* owned */
    size_t unescaped_cap;
};

void json_reader_init(struct json_reader *r, const char *text, size_t n);
void json_reader_deinit(struct json_reader *r);

/* What the next value begins with ('{', '[', '"', 't', '-', ...), 0 at the end or after a
 * failure. */
char json_reader_peek(struct json_reader *r);
/* Steps into an array or object. */
bool json_reader_enter(struct json_reader *r, char open);
/* True when another member follows, false (and the bracket consumed) at the end or after a
 * failure. `*first` is true before the first call. */
bool json_reader_next(struct json_reader *r, char close, bool *first);
/* A string, unescaped and checked to be UTF-8; valid until the next call that reads one. It may
 * hold NUL bytes. */
bool json_reader_string(struct json_reader *r, struct json_text *out);
/* A string and its colon. */
bool json_reader_key(struct json_reader *r, struct json_text *out);
/* An integer in [0, max]. */
bool json_reader_uint(struct json_reader *r, uint32_t max, uint32_t *out);
/* true or false. */
bool json_reader_bool(struct json_reader *r, bool *out);
/* Any value, as the text it stands in; only its extent is checked, not its inside. */
bool json_reader_skip(struct json_reader *r, struct json_text *out);
/* Sets `why` unless it is set; returns false. */
bool json_reader_fail(struct json_reader *r, const char *why);

bool json_text_equal(struct json_text a, const char *b);

#endif
