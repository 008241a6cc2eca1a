/* grammar_forms: grammars that need no text of their own: any JSON object, one of several strings.
 */
#ifndef CHORUS_GRAMMAR_GRAMMAR_FORMS_H
#define CHORUS_GRAMMAR_GRAMMAR_FORMS_H

#include <stddef.h>

#include "engine/grammar/grammar_build.h"

/* A rule: any JSON object, with little white space between its parts. Numbers have at most 16
 * digits before and behind the point, so that every reader takes them; escapes are characters. */
int grammar_forms_json_object(struct grammar_builder *b);
/* A rule: any of the strings, byte for byte. */
int grammar_forms_choice(struct grammar_builder *b, const char *const *strings, const size_t *lens,
                         size_t count);

#endif
