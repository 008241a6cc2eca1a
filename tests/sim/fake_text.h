/* fake_text: a vocabulary of FAKE_VOCAB tokens with everything that makes streaming hard: single
 * bytes of characters, empty and very long tokens, specials. */
#ifndef CHORUS_TESTS_SIM_FAKE_TEXT_H
#define CHORUS_TESTS_SIM_FAKE_TEXT_H

#include "engine/engine_parts.h"

extern const struct engine_detok fake_detok;
/* The same tokens for grammars: all but the specials. */
extern const struct token_source fake_tokens;

#endif
