/* byte_chars: the printable alphabet in which byte-level vocabularies are written.
 *
 * Each byte is one code point below 512: printable Latin-1 stands for itself, the other 68 bytes
 * are U+0100 upwards in order. Pure functions.
 */
#ifndef CHORUS_TEXT_BYTE_CHARS_H
#define CHORUS_TEXT_BYTE_CHARS_H

#include <stddef.h>
#include <stdint.h>

/* Code point of a byte. */
uint32_t byte_chars_of(uint8_t byte);
/* Byte of a code point, -1 if it stands for none. */
int byte_chars_byte(uint32_t cp);
/* UTF-8 of the code points of n bytes into out (room for 2 n bytes); bytes written. */
size_t byte_chars_write(const char *bytes, size_t n, char *out);

#endif
