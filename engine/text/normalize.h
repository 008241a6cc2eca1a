/* normalize: the `normalizer` of a tokenizer.json as a list of steps.
 *
 * Does not change after it was opened; threads share it, each with a norm_scratch of its own.
 * Marks (see tokenizer_encode) travel with the text: what is made from a marked byte is marked.
 */
#ifndef CHORUS_TEXT_NORMALIZE_H
#define CHORUS_TEXT_NORMALIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "engine/base/status.h"
#include "engine/text/regex.h"

struct normalizer {
    struct norm_step *steps; /* owned */
    size_t count;
    size_t cap;
};

struct norm_text {
    char *p; /* owned */
    size_t n;
    size_t cap;
    uint8_t *marks; /* owned; n bytes when has_marks */
    size_t mark_cap;
    bool has_marks;
    bool from_start; /* its first character was made from the first one of the input */
};

/* Working memory of one thread. */
struct norm_scratch {
    struct norm_text text[2]; /* steps read one and write the other */
    int32_t *cps;             /* owned */
    size_t cp_cap;
    struct regex_scan *scan; /* borrowed for life */
};

/* `config` NULL is the empty list. STATUS_UNSUPPORTED names the type; STATUS_BAD_FILE,
 * STATUS_LIMIT, STATUS_NO_MEMORY. */
WARN_UNUSED enum status normalize_open(struct normalizer *z, const cJSON *config, struct err *e);
void normalize_close(struct normalizer *z);

void normalize_scratch_init(struct norm_scratch *s, struct regex_scan *scan);
void normalize_scratch_deinit(struct norm_scratch *s);
/* Normalizes s[0, n): valid UTF-8, marks NULL or n bytes. *out is lent by the scratch until its
 * next use. STATUS_LIMIT when the text grows too long or a pattern needs too many steps,
 * STATUS_NO_MEMORY. */
WARN_UNUSED enum status normalize_run(const struct normalizer *z, struct norm_scratch *scratch,
                                      const char *s, size_t n, const uint8_t *marks,
                                      const struct norm_text **out, struct err *e);

#endif
