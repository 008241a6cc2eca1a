#include "engine/grammar/token_plain.h"

#include <string.h>

#include "engine/base/mem.h"
#include "engine/grammar/token_trie.h"

const struct token_plain_form token_plain_forms[TOKEN_PLAIN_FORMS] = {
    {PLAIN_LOWER, 1, {'a'}, {'z'}},
    {PLAIN_UPPER, 1, {'A'}, {'Z'}},
    {PLAIN_DIGIT, 1, {'0'}, {'9'}},
    {PLAIN_SPACE, 1, {' '}, {' '}},
    {PLAIN_PUNCT, 1, {'!'}, {'!'}},
    {PLAIN_PUNCT, 1, {'#'}, {'/'}},
    {PLAIN_PUNCT, 1, {':'}, {'@'}},
    {PLAIN_PUNCT, 1, {'['}, {'['}},
    {PLAIN_PUNCT, 1, {']'}, {'`'}},
    {PLAIN_PUNCT, 1, {'{'}, {'~'}},
    {PLAIN_WIDE, 2, {0xC2, 0x80}, {0xDF, 0xBF}},
    {PLAIN_WIDE, 3, {0xE0, 0xA0, 0x80}, {0xE0, 0xBF, 0xBF}},
    {PLAIN_WIDE, 3, {0xE1, 0x80, 0x80}, {0xEC, 0xBF, 0xBF}},
    {PLAIN_WIDE, 3, {0xED, 0x80, 0x80}, {0xED, 0x9F, 0xBF}},
    {PLAIN_WIDE, 3, {0xEE, 0x80, 0x80}, {0xEF, 0xBF, 0xBF}},
    {PLAIN_WIDE, 4, {0xF0, 0x90, 0x80, 0x80}, {0xF0, 0xBF, 0xBF, 0xBF}},
    {PLAIN_WIDE, 4, {0xF1, 0x80, 0x80, 0x80}, {0xF3, 0xBF, 0xBF, 0xBF}},
    {PLAIN_WIDE, 4, {0xF4, 0x80, 0x80, 0x80}, {0xF4, 0x8F, 0xBF, 0xBF}},
};

/* The form of the character at s, NULL: it is not plain. */
static const struct token_plain_form *form_of(const uint8_t *s, size_t n)
{
    for (int f = 0; f < TOKEN_PLAIN_FORMS; f++) {
        const struct token_plain_form *form = &token_plain_forms[f];
        size_t i = 0;
        while (i < form->bytes && i < n && s[i] >= form->first[i] && s[i] <= form->last[i])
            i++;
        if (i == form->bytes)
            return form;
    }
    return NULL;
}

struct token_kind {
    uint8_t kinds; /* PLAIN_NOT: it is not plain */
    uint8_t chars;
};

/* Of the token that ends at a node. */
static struct token_kind kind_of(const struct token_trie *t, uint32_t node)
{
    uint8_t bytes[TOKEN_TRIE_DEPTH];
    size_t n = t->nodes[node].depth;
    struct token_kind k = {0, 0};
    for (size_t i = n; i > 0; i--, node = t->nodes[node].parent)
        bytes[i - 1] = t->nodes[node].byte;
    for (size_t at = 0; at < n; k.chars++) {
        const struct token_plain_form *form = form_of(bytes + at, n - at);
        if (!form || k.chars == TOKEN_PLAIN_CHARS)
            return (struct token_kind){PLAIN_NOT, 0};
        k.kinds |= form->kind;
        at += form->bytes;
    }
    return k;
}

/* Counts the lists, then fills them. */
static void sort_ids(struct token_plain *p, const struct token_trie *t,
                     const struct token_kind *kind)
{
    uint32_t at = 0;
    for (int32_t id = 0; id < t->vocab; id++) {
        const struct token_kind *k = &kind[t->node_of[id]];
        if (t->node_of[id] != 0 && k->kinds != PLAIN_NOT)
            p->begin[k->kinds][k->chars]++;
    }
    for (int k = 0; k <= PLAIN_ALL; k++)
        for (int n = 0; n < TOKEN_PLAIN_CHARS + 2; n++) {
            uint32_t count = p->begin[k][n];
            p->begin[k][n] = at;
            at += count;
        }
    for (int32_t id = 0; id < t->vocab; id++) {
        const struct token_kind *k = &kind[t->node_of[id]];
        if (t->node_of[id] != 0 && k->kinds != PLAIN_NOT)
            p->ids[p->begin[k->kinds][k->chars]++] = id;
    }
    /* Each list ends where the next one begins. */
    uint32_t *begin = &p->begin[0][0];
    const size_t lists = sizeof p->begin / sizeof *begin;
    memmove(begin + 1, begin, (lists - 1) * sizeof *begin);
    begin[0] = 0;
    p->count = at;
}

/* A token is in the mask of its number of characters and in all behind that. */
static enum status fill_masks(struct token_plain *p, const struct token_trie *t)
{
    const size_t words = t->mask_words;
    p->masks = mem_calloc((size_t)(p->chars_max + 1) * words + 1, sizeof *p->masks);
    if (!p->masks)
        return STATUS_NO_MEMORY;
    for (int n = 1; n <= p->chars_max; n++) {
        uint32_t *mask = p->masks + (size_t)n * words;
        memcpy(mask, mask - words, words * sizeof *mask);
        for (int k = 1; k <= PLAIN_ALL; k++)
            for (uint32_t i = p->begin[k][n]; i < p->begin[k][n + 1]; i++)
                mask[p->ids[i] / 32] |= 1u << (p->ids[i] % 32);
    }
    return STATUS_OK;
}

static enum status fill_others(struct token_plain *p, const struct token_trie *t)
{
    uint32_t path[TOKEN_TRIE_DEPTH + 1], count = 1;
    int depth = -1;
    for (uint32_t i = 1; i < t->node_count; i++)
        count += (t->nodes[i].kinds & PLAIN_NOT) != 0;
    p->others = mem_alloc(count, sizeof *p->others);
    if (!p->others)
        return STATUS_NO_MEMORY;
    for (uint32_t i = 0; i < t->node_count; i++) {
        const struct token_node *node = &t->nodes[i];
        if (i > 0 && !(node->kinds & PLAIN_NOT))
            continue;
        for (; depth >= node->depth; depth--)
            p->others[path[depth]].end = p->other_count;
        path[++depth] = p->other_count;
        p->others[p->other_count] = *node;
        p->others[p->other_count++].parent = i;
    }
    for (; depth >= 0; depth--)
        p->others[path[depth]].end = p->other_count;
    return STATUS_OK;
}

enum status token_plain_init(struct token_plain *p, struct token_trie *t)
{
    *p = (struct token_plain){0};
    struct token_kind *kind = mem_calloc(t->node_count, sizeof *kind);
    p->ids = mem_alloc((size_t)t->vocab + 1, sizeof *p->ids);
    enum status st = kind && p->ids ? STATUS_OK : STATUS_NO_MEMORY;
    for (uint32_t i = t->node_count; st == STATUS_OK && i-- > 1;) {
        struct token_node *node = &t->nodes[i];
        if (node->token >= 0) {
            kind[i] = kind_of(t, i);
            node->kinds |= kind[i].kinds;
            p->chars_max = kind[i].chars > p->chars_max ? kind[i].chars : p->chars_max;
        }
        t->nodes[node->parent].kinds |= node->kinds;
    }
    if (st == STATUS_OK) {
        sort_ids(p, t, kind);
        st = fill_masks(p, t);
    }
    if (st == STATUS_OK)
        st = fill_others(p, t);
    mem_free(kind);
    if (st != STATUS_OK)
        token_plain_deinit(p);
    return st;
}

void token_plain_deinit(struct token_plain *p)
{
    mem_free(p->ids);
    mem_free(p->masks);
    mem_free(p->others);
    *p = (struct token_plain){0};
}
