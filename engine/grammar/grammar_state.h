/* grammar_state: what one answer has matched of its grammar. Plain data of a few words; copying is
 * grammar_state_copy.
 *
 * Threads: all states of one grammar belong to one thread (the engine's), since they share what
 * was computed of it.
 */
#ifndef CHORUS_GRAMMAR_GRAMMAR_STATE_H
#define CHORUS_GRAMMAR_GRAMMAR_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/grammar/grammar.h"
#include "engine/grammar/token_trie.h"

struct grammar_machine;

struct grammar_state {
    struct grammar *grammar;         /* shared, one reference; NULL: not initialised */
    struct grammar_machine *machine; /* borrowed from the grammar */
    uint32_t set;
    struct grammar_state *prev;
    struct grammar_state *next;
};

/* At the beginning of an answer. STATUS_NO_MEMORY, STATUS_LIMIT (too ambiguous). */
WARN_UNUSED enum status grammar_state_init(struct grammar_state *s, struct grammar *g);
void grammar_state_copy(struct grammar_state *to, const struct grammar_state *from);
/* A state of zeros is allowed. */
void grammar_state_deinit(struct grammar_state *s);

/* STATUS_OK: `bytes` may come next, and the state is behind them. STATUS_INVALID: they may not, and
 * the state is as it was; so with STATUS_NO_MEMORY and STATUS_LIMIT. */
WARN_UNUSED enum status grammar_state_accept(struct grammar_state *s, const char *bytes, size_t n);
WARN_UNUSED enum status grammar_state_accept_token(struct grammar_state *s,
                                                   const struct token_trie *t, int32_t token);
/* Computes ahead, for a short while, what answers will ask for; before any state of `g` exists, on
 * any thread. Statuses of grammar_state_mask. */
WARN_UNUSED enum status grammar_state_warm(struct grammar *g, const struct token_trie *t);
/* The answer so far is a whole one. */
bool grammar_state_can_end(const struct grammar_state *s);
/* ... and nothing may follow. */
bool grammar_state_must_end(const struct grammar_state *s);

/* The tokens that may come next, one bit an id, [t->mask_words]; `*any`: is there one. One trie for
 * all calls with the same grammar. STATUS_LIMIT (the grammar is too ambiguous), STATUS_NO_MEMORY.
 */
WARN_UNUSED enum status grammar_state_mask(struct grammar_state *s, const struct token_trie *t,
                                           uint32_t *mask, bool *any);

#endif
