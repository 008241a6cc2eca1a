/* regex: the patterns of a tokenizer.json, written for Oniguruma and run by PCRE2.
 *
 * A pattern is translated piece by piece so that every construct means what it means there: white
 * space, word characters, properties of Unicode 16, possessive intervals, \h, \v, line anchors.
 * What has no known equal is refused by name. A literal is searched without PCRE2.
 *
 * A regex does not change after it was opened; threads share it, each with a regex_scan of its own.
 */
#ifndef CHORUS_TEXT_REGEX_H
#define CHORUS_TEXT_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/status.h"

struct regex {
    void *code;    /* owned pcre2_code, NULL for a literal */
    char *literal; /* owned */
    size_t literal_len;
};

/* Working memory of searches in one thread; serves any number of regexes. */
struct regex_scan {
    void *match;   /* owned pcre2_match_data, made by the first search */
    void *context; /* owned pcre2_match_context */
    void *stack;   /* owned pcre2_jit_stack, made when the machine stack does not suffice */
    const char *text;
    size_t n;
    size_t at;   /* where the next search begins */
    size_t last; /* end of the last match, SIZE_MAX before the first */
};

/* STATUS_UNSUPPORTED names the construct, STATUS_BAD_FILE is a malformed pattern, STATUS_LIMIT,
 * STATUS_NO_MEMORY. */
WARN_UNUSED enum status regex_open(struct regex *r, const char *pattern, size_t n, struct err *e);
/* n >= 1. */
WARN_UNUSED enum status regex_open_literal(struct regex *r, const char *s, size_t n, struct err *e);
void regex_close(struct regex *r);

void regex_scan_init(struct regex_scan *s);
void regex_scan_deinit(struct regex_scan *s);
/* Begins with a new text, which must be valid UTF-8 and outlive the scan. */
void regex_scan_start(struct regex_scan *s, const char *text, size_t n);
/* The next match [*from, *to) of successive, non-overlapping ones; *found false when there is none.
 * An empty match is not taken where the last match ended. STATUS_LIMIT when the pattern needs too
 * many steps, STATUS_NO_MEMORY. */
WARN_UNUSED enum status regex_next(const struct regex *r, struct regex_scan *s, bool *found,
                                   size_t *from, size_t *to, struct err *e);

#endif
