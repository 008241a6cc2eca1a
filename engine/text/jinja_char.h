/* jinja_char: what Python's str methods know about code points. Pure functions. */
#ifndef CHORUS_TEXT_JINJA_CHAR_H
#define CHORUS_TEXT_JINJA_CHAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool jinja_char_is_space(uint32_t cp);
bool jinja_char_is_alpha(uint32_t cp);
bool jinja_char_is_decimal(uint32_t cp); /* isdecimal: 0-9 of any script */
bool jinja_char_is_digit(uint32_t cp);   /* isdigit: and superscripts */
bool jinja_char_is_numeric(uint32_t cp); /* isnumeric: and fractions, CJK numbers */
bool jinja_char_is_alnum(uint32_t cp);
bool jinja_char_is_word(uint32_t cp); /* \w */
bool jinja_char_is_upper(uint32_t cp);
bool jinja_char_is_lower(uint32_t cp);
bool jinja_char_is_title(uint32_t cp);
bool jinja_char_is_cased(uint32_t cp);
bool jinja_char_is_case_ignorable(uint32_t cp);
bool jinja_char_is_printable(uint32_t cp);  /* repr shows it as it is */
bool jinja_char_is_line_break(uint32_t cp); /* splitlines */
/* Decimal value 0-9, or -1. */
int jinja_char_decimal(uint32_t cp);

/* Full mappings: one to three code points. */
size_t jinja_char_upper(uint32_t cp, uint32_t out[3]);
size_t jinja_char_lower(uint32_t cp, uint32_t out[3]); /* without the final sigma rule */
size_t jinja_char_title(uint32_t cp, uint32_t out[3]);

#endif
