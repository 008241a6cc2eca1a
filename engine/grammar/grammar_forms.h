/* grammar_forms: expressions that have no language of their own: one of several strings, something
 * behind a thought. Errors go to the builder, -1. */
#ifndef CHORUS_GRAMMAR_GRAMMAR_FORMS_H
#define CHORUS_GRAMMAR_GRAMMAR_FORMS_H

#include <stddef.h>

#include "engine/grammar/grammar_build.h"

/* Any of the strings, byte for byte. */
int grammar_forms_choice(struct grammar_builder *b, const char *const *strings, const size_t *lens,
                         size_t count);
/* `expr` behind a thought: any text, the first `close` in it, white space, expr. `open` NULL: the
 * thought has begun; else it begins with `open`, or there is none and expr comes at once. */
int grammar_forms_behind_thought(struct grammar_builder *b, const char *open, const char *close,
                                 int expr);

#endif
