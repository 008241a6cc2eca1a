/* grammar_mask: which tokens may follow a set of a machine.
 *
 * Most tokens are decided by the innermost rules alone: they stay inside them, or they fail there.
 * That part depends only on which instructions a set may go on with, its shape, not on what calls
 * surround them; so it is computed once for a shape, over surroundings that are open, and kept as a
 * mask. Tokens that leave the innermost rules and go on behind them (`",` in a string) are kept as
 * a list of subtrees of the trie, which are walked in the real surroundings each time.
 *
 * One thread at a time, as the machine.
 */
#ifndef CHORUS_GRAMMAR_GRAMMAR_MASK_H
#define CHORUS_GRAMMAR_GRAMMAR_MASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/grammar/token_trie.h"

struct grammar_machine;
struct grammar_masks;

/* Fills mask [t->mask_words]. Within an operation that grammar_machine_begin began. */
WARN_UNUSED enum status grammar_mask(struct grammar_machine *m, const struct token_trie *t,
                                     uint32_t set, uint32_t *mask, bool *any);
/* NULL is allowed. */
void grammar_masks_destroy(struct grammar_masks *k);
size_t grammar_masks_bytes(const struct grammar_masks *k); /* NULL: 0 */

#endif
