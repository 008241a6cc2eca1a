/* token_trie: the bytes of all tokens of a vocabulary as a tree, laid out so that walking it in
 * order is walking an array: a node's first child stands behind it, `end` behind its last
 * descendant.
 *
 * Built once for a tokenizer; read by any thread afterwards. Tokens without bytes, longer than
 * TOKEN_TRIE_DEPTH or not given (special ones) are not in it: no grammar allows them.
 */
#ifndef CHORUS_GRAMMAR_TOKEN_TRIE_H
#define CHORUS_GRAMMAR_TOKEN_TRIE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/grammar/token_plain.h"

#define TOKEN_TRIE_DEPTH 255

struct token_node {
    uint32_t end;    /* index behind the last descendant */
    uint32_t parent; /* index; of the root 0 */
    int32_t token;   /* that ends here, -1: none; same[token] is the next one with these bytes */
    uint8_t byte;
    uint8_t depth;     /* bytes from the root */
    uint8_t more : 1;  /* bool: same[token] is another token */
    uint8_t kinds : 7; /* PLAIN_ of the tokens here and beneath, all together */
    uint8_t deepest;   /* depth of the deepest descendant */
};

struct token_trie {
    struct token_node *nodes; /* owned; nodes[0] is the root */
    uint32_t node_count;
    int32_t *same;     /* owned, [vocab]; -1: no further token */
    uint32_t *node_of; /* owned, [vocab]; 0: not in the tree */
    int vocab;         /* ids are 0 .. vocab - 1 */
    size_t mask_words; /* 32-bit words of a mask: ceil(vocab / 32) */
    int depth_max;
    struct token_plain plain;
};

/* Where the bytes come from: those of token `id`, NULL or *n 0: leave it out. */
struct token_source {
    const char *(*bytes)(const void *ctx, int32_t id, size_t *n);
    const void *ctx;
};

WARN_UNUSED enum status token_trie_create(int vocab, const struct token_source *from,
                                          struct token_trie **out);
/* NULL is allowed. */
void token_trie_destroy(struct token_trie *t);

#endif
