/* unicode_class: the few character questions that tokenizer files ask, as Rust's `char` and its
 * regex crate answer them. Pure functions. */
#ifndef CHORUS_TEXT_UNICODE_CLASS_H
#define CHORUS_TEXT_UNICODE_CLASS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* White_Space. */
bool unicode_is_space(uint32_t cp);
/* \w: Alphabetic, marks, decimal numbers, connectors, join controls. */
bool unicode_is_word(uint32_t cp);
/* The last code point of s[0, n), which is valid UTF-8, n >= 1; *len is its bytes. */
uint32_t unicode_last(const char *s, size_t n, size_t *len);

#endif
