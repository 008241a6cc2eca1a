/* regular_build: regular languages into a grammar, as themselves or inside JSON strings. */
#ifndef CHORUS_GRAMMAR_REGULAR_BUILD_H
#define CHORUS_GRAMMAR_REGULAR_BUILD_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/grammar/grammar_build.h"
#include "engine/grammar/regular.h"

/* How a character is written. */
enum regular_form {
    REGULAR_RAW,  /* UTF-8 */
    REGULAR_JSON, /* inside a JSON string: a quote, a backslash and controls as their shortest
                     escape, all others as themselves; so a text has one spelling */
};

/* The expression of the framed language `lang`, a rule for each state but those that are entered
 * from one place. `anything`: the expression of "any character" where the language takes all of
 * them and spelling does not matter, or -1. STATUS_LIMIT, STATUS_NO_MEMORY; failures of the builder
 * are its own (STATUS_OK here). */
WARN_UNUSED enum status regular_build(struct grammar_builder *b, struct regular *r, uint32_t lang,
                                      enum regular_form form, int anything, const char *name,
                                      int *out, struct err *e);

/* The expression of texts that the pattern matches as a whole (structured_outputs.regex). Errors
 * go to the builder. */
int regular_build_pattern(struct grammar_builder *b, const char *pattern, size_t n);

#endif
