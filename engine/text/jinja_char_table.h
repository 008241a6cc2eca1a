/* jinja_char_table: generated tables behind jinja_char. Private to it. */
#ifndef CHORUS_TEXT_JINJA_CHAR_TABLE_H
#define CHORUS_TEXT_JINJA_CHAR_TABLE_H

#include <stddef.h>
#include <stdint.h>

/* Ranges, both ends included, in order. */
extern const uint32_t jinja_digit_only[][2];
extern const size_t jinja_digit_only_count;
extern const uint32_t jinja_numeric_only[][2];
extern const size_t jinja_numeric_only_count;
extern const uint32_t jinja_other_lower[][2];
extern const size_t jinja_other_lower_count;
extern const uint32_t jinja_other_upper[][2];
extern const size_t jinja_other_upper_count;
/* A code point and what it becomes, ended by 0, in order. */
extern const uint32_t jinja_upper_long[][4];
extern const size_t jinja_upper_long_count;
extern const uint32_t jinja_lower_long[][4];
extern const size_t jinja_lower_long_count;
extern const uint32_t jinja_title_long[][4];
extern const size_t jinja_title_long_count;

#endif
