/* grammar: a compiled, context-free grammar over bytes. Shared by reference count.
 *
 * Made by grammar_build.h (in C), from text by gbnf.h and the schema compilers. What an answer has
 * matched so far is a grammar_state (grammar_state.h); which tokens may follow is grammar_mask.h.
 *
 * Threads: any for what is here; its states belong to one (grammar_state.h).
 */
#ifndef CHORUS_GRAMMAR_GRAMMAR_H
#define CHORUS_GRAMMAR_GRAMMAR_H

#include <stddef.h>
#include <stdint.h>

struct grammar;

struct grammar *grammar_ref(struct grammar *g);
/* NULL is allowed. The last one frees. */
void grammar_unref(struct grammar *g);
/* Memory held, with what its use computed. */
size_t grammar_bytes(const struct grammar *g);

#endif
