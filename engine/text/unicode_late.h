/* unicode_late: letters, marks, numbers, punctuation and symbols younger than PCRE2's tables. */
#ifndef CHORUS_TEXT_UNICODE_LATE_H
#define CHORUS_TEXT_UNICODE_LATE_H

#include <stddef.h>
#include <stdint.h>

struct unicode_late {
    uint32_t first; /* code points [first, last], ascending over the table */
    uint32_t last;
    char category[3]; /* "Lu" */
};

extern const struct unicode_late unicode_late[];
extern const size_t unicode_late_count;

#endif
