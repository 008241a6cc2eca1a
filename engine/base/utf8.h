/* utf8: strict UTF-8 (no surrogates, no overlong forms, at most U+10FFFF). Pure functions. */
#ifndef CHORUS_BASE_UTF8_H
#define CHORUS_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Length 1-4 of the valid sequence at s, or 0 if the bytes there are not one (or n is 0). */
size_t utf8_valid_len(const char *s, size_t n);
/* As utf8_valid_len, and stores the code point. */
size_t utf8_decode(const char *s, size_t n, uint32_t *cp);
/* Writes 1-4 bytes, returns how many; cp must be a scalar value. */
size_t utf8_encode(uint32_t cp, char out[4]);
bool utf8_is_valid(const char *s, size_t n);
/* How many bytes at the end of s are the beginning of a sequence that more bytes could still
 * complete (0-3). */
size_t utf8_incomplete_tail(const char *s, size_t n);

#endif
