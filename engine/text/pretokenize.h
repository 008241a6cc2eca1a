/* pretokenize: the `pre_tokenizer` of a tokenizer.json as a list of steps that cut text into words.
 *
 * Does not change after it was opened; threads share it, each with a pretokenize_scratch of its
 * own.
 */
#ifndef CHORUS_TEXT_PRETOKENIZE_H
#define CHORUS_TEXT_PRETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "engine/base/status.h"
#include "engine/text/regex.h"

struct pretokenizer {
    struct pre_step *steps; /* owned */
    size_t count;
    size_t cap;
    bool byte_level; /* words are bytes, not characters, to the model */
};

struct pre_word {
    uint32_t at; /* in the text of the result */
    uint32_t len;
    bool first; /* at the very beginning of the whole input */
};

struct pre_words {
    struct pre_word *items; /* owned */
    size_t count;
    size_t cap;
};

struct pre_text {
    char *p; /* owned */
    size_t n;
    size_t cap;
};

/* Working memory of one thread. */
struct pretokenize_scratch {
    struct pre_words words[2]; /* steps read one and write the other */
    struct pre_text text[2];
    struct regex_scan *scan; /* borrowed for life */
};

struct pre_result {
    const char *text; /* lent by the scratch, or the input itself */
    const struct pre_word *words;
    size_t count;
};

/* `config` NULL is the empty list. STATUS_UNSUPPORTED names the type; STATUS_BAD_FILE,
 * STATUS_LIMIT, STATUS_NO_MEMORY. */
WARN_UNUSED enum status pretokenize_open(struct pretokenizer *p, const cJSON *config,
                                         struct err *e);
void pretokenize_close(struct pretokenizer *p);

void pretokenize_scratch_init(struct pretokenize_scratch *s, struct regex_scan *scan);
void pretokenize_scratch_deinit(struct pretokenize_scratch *s);
/* Cuts s[0, n), valid UTF-8. No word is empty. STATUS_LIMIT, STATUS_NO_MEMORY. */
WARN_UNUSED enum status pretokenize_run(const struct pretokenizer *p,
                                        struct pretokenize_scratch *scratch, const char *s,
                                        size_t n, bool first, struct pre_result *out,
                                        struct err *e);

#endif
