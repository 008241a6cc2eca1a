/* unicode_form: NFC, NFD, NFKC and NFKD, one segment at a time.
 *
 * A segment begins with a character that nothing before it can combine with or move past, so the
 * form of a text is the forms of its segments put together. Sorting of marks is stable and takes
 * linear time, whatever the text. Pure functions.
 */
#ifndef CHORUS_TEXT_UNICODE_FORM_H
#define CHORUS_TEXT_UNICODE_FORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* No byte of UTF-8 yields more than 6 code points (U+FDFA: 18 from 3 bytes). */
#define UNICODE_FORM_GROWTH 6

struct unicode_form {
    bool compose;
    bool compat;
};

/* Bytes of the first segment of s[0, n), valid UTF-8, n >= 1. */
size_t unicode_form_segment(const struct unicode_form *f, const char *s, size_t n);
/* True when a segment surely is its own form; a quick answer for most text. */
bool unicode_form_is_stable(const struct unicode_form *f, const char *s, size_t n);
/* The code points of a segment's form into out, which has room for 2 * n * UNICODE_FORM_GROWTH;
 * their count. */
size_t unicode_form_apply(const struct unicode_form *f, const char *s, size_t n, int32_t *out);

#endif
