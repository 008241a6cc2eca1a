/* added_tokens: finds the tokens that stand outside the BPE model (bos, chat markers, tools).
 *
 * Two sets, as the file marks them: tokens found in the raw text, and tokens found in the text
 * after normalization (their own spelling normalized too). At each place the longest token that may
 * match there wins. Filled while a file is opened, read by any thread afterwards.
 */
#ifndef CHORUS_TEXT_ADDED_TOKENS_H
#define CHORUS_TEXT_ADDED_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

struct added_token {
    int32_t id;
    bool special;
    bool lstrip;      /* takes the white space before it */
    bool rstrip;      /* and behind it */
    bool single_word; /* not next to a word character */
};

struct added_node {
    uint32_t child; /* first of its children, 0 for none */
    uint32_t next;  /* sibling */
    uint32_t token; /* index + 1 of the token that ends here, 0 for none */
    uint8_t byte;
};

struct added_set {
    struct added_token *tokens; /* owned */
    size_t count;
    size_t cap;
    struct added_node *nodes; /* owned; nodes[0] is the root */
    size_t node_count;
    size_t node_cap;
    uint32_t root[256]; /* children of the root by byte, 0 for none */
    bool has_special;
};

struct added_scan {
    const char *text;
    size_t n;
    const uint8_t *marks; /* NULL or n bytes: no special token over a byte that is not 0 */
    bool specials;        /* false: no special token at all */
    size_t at;            /* where to look next */
    size_t taken;         /* end of the last match with its white space */
    size_t spaces_from;   /* [from, to): white space seen last */
    size_t spaces_to;
};

struct added_match {
    const struct added_token *token;
    size_t from; /* with the white space that the token takes */
    size_t to;
};

void added_tokens_init(struct added_set *s);
void added_tokens_deinit(struct added_set *s);
/* `n` >= 1 bytes of pattern. A pattern that is there already keeps its first token. */
WARN_UNUSED enum status added_tokens_add(struct added_set *s, const char *pattern, size_t n,
                                         const struct added_token *token, struct err *e);

void added_tokens_start(struct added_scan *scan, const char *text, size_t n, const uint8_t *marks,
                        bool specials);
/* The next match in the text; false when there is none. */
bool added_tokens_next(const struct added_set *s, struct added_scan *scan, struct added_match *out);

#endif
