/* grammar: a compiled, context-free grammar over bytes. Immutable; shared by reference count.
 *
 * Made by grammar_build.h (in C), from text by gbnf.h and the schema compilers. What an answer has
 * matched so far is a grammar_state (grammar_state.h); which tokens may follow is grammar_mask.h.
 *
 * Threads: any; a grammar never changes.
 */
#ifndef CHORUS_GRAMMAR_GRAMMAR_H
#define CHORUS_GRAMMAR_GRAMMAR_H

#include <stddef.h>
#include <stdint.h>

struct grammar;

struct grammar *grammar_ref(struct grammar *g);
/* NULL is allowed. The last one frees. */
void grammar_unref(struct grammar *g);
/* Memory held. */
size_t grammar_bytes(const struct grammar *g);

#endif
