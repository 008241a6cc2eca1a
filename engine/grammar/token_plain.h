/* token_plain: the tokens that are nothing but text: whole characters, none of them a control, a
 * quote or a backslash. Nineteen of twenty are. Grammars mostly take all characters of a kind alike
 * (letters, digits, what is not ASCII); where one does, the kinds of a token's characters and their
 * number decide whether it may come, and nobody has to walk to it.
 *
 * A part of a token_trie; its nodes know the kinds of the tokens beneath them.
 */
#ifndef CHORUS_GRAMMAR_TOKEN_PLAIN_H
#define CHORUS_GRAMMAR_TOKEN_PLAIN_H

#include <stdint.h>

#include "engine/base/status.h"

struct token_node;
struct token_trie;

enum {
    PLAIN_LOWER = 1,
    PLAIN_UPPER = 2,
    PLAIN_DIGIT = 4,
    PLAIN_SPACE = 8,
    PLAIN_PUNCT = 16, /* the rest of ASCII */
    PLAIN_WIDE = 32,  /* not ASCII */
    PLAIN_KINDS = 6,
    PLAIN_ALL = 63,
    PLAIN_NOT = 64 /* of a token that is not plain */
};

#define TOKEN_PLAIN_CHARS 32 /* longer ones are few, and not plain */

/* Characters of a kind as ranges of their bytes; UTF-8's are Unicode's table 3-7. */
#define TOKEN_PLAIN_FORMS 18
struct token_plain_form {
    uint8_t kind;
    uint8_t bytes;
    uint8_t first[4];
    uint8_t last[4];
};
extern const struct token_plain_form token_plain_forms[TOKEN_PLAIN_FORMS];

struct token_plain {
    int32_t *ids; /* owned: by the set of their kinds, then by their number of characters */
    /* Those of kinds k with n characters: ids[begin[k][n], begin[k][n + 1]). */
    uint32_t begin[PLAIN_ALL + 1][TOKEN_PLAIN_CHARS + 2];
    uint32_t count;
    int chars_max; /* of the longest one */
    /* What is asked for most, within a string, lies ready: */
    uint32_t *masks; /* owned, [chars_max + 1, mask_words]: those of up to so many characters */
    /* Owned: the nodes of kind PLAIN_NOT, laid out as all are; `parent` is the number there. */
    struct token_node *others;
    uint32_t other_count;
};

/* The trie is built but for this; tells its nodes their kinds. */
WARN_UNUSED enum status token_plain_init(struct token_plain *p, struct token_trie *t);
void token_plain_deinit(struct token_plain *p);

#endif
