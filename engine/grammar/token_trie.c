#include "engine/grammar/token_trie.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/vec.h"

struct word {
    const char *bytes; /* borrowed */
    size_t n;
    int32_t id;
};

static int by_bytes(const void *x, const void *y)
{
    const struct word *a = x, *b = y;
    int order = memcmp(a->bytes, b->bytes, a->n < b->n ? a->n : b->n);
    if (order != 0)
        return order;
    if (a->n != b->n)
        return a->n < b->n ? -1 : 1;
    return a->id < b->id ? -1 : a->id > b->id;
}

static size_t common(const struct word *a, const struct word *b)
{
    size_t n = 0, end = a->n < b->n ? a->n : b->n;
    while (n < end && a->bytes[n] == b->bytes[n])
        n++;
    return n;
}

/* Adds the words in order; path[d] is the node at depth d that new nodes hang from. */
static enum status add_words(struct token_trie *t, const struct word *words, size_t count)
{
    uint32_t path[TOKEN_TRIE_DEPTH + 1] = {0};
    size_t cap = 0, depth = 0;
    if (!VEC_RESERVE(t->nodes, cap, 1))
        return STATUS_NO_MEMORY;
    t->nodes[0] = (struct token_node){.token = -1};
    t->node_count = 1;
    for (size_t i = 0; i < count; i++) {
        const struct word *w = &words[i];
        size_t keep = i > 0 ? common(w, w - 1) : 0;
        for (; depth > keep; depth--)
            t->nodes[path[depth]].end = t->node_count;
        if (!VEC_RESERVE(t->nodes, cap, t->node_count + w->n - depth))
            return STATUS_NO_MEMORY;
        for (; depth < w->n; depth++) {
            path[depth + 1] = t->node_count;
            t->nodes[t->node_count++] = (struct token_node){.parent = path[depth],
                                                            .token = -1,
                                                            .byte = (uint8_t)w->bytes[depth],
                                                            .depth = (uint8_t)(depth + 1)};
        }
        struct token_node *node = &t->nodes[path[depth]];
        t->same[w->id] = node->token;
        node->more = node->token >= 0;
        node->token = w->id;
        t->node_of[w->id] = path[depth];
        if (depth > (size_t)t->depth_max)
            t->depth_max = (int)depth;
    }
    for (; depth > 0; depth--)
        t->nodes[path[depth]].end = t->node_count;
    t->nodes[0].end = t->node_count;
    for (uint32_t i = t->node_count; i-- > 0;) {
        struct token_node *node = &t->nodes[i], *parent = &t->nodes[node->parent];
        node->deepest = node->deepest > node->depth ? node->deepest : node->depth;
        parent->deepest = parent->deepest > node->deepest ? parent->deepest : node->deepest;
    }
    return STATUS_OK;
}

enum status token_trie_create(int vocab, const struct token_source *from, struct token_trie **out)
{
    struct token_trie *t = mem_calloc(1, sizeof *t);
    struct word *words = mem_alloc((size_t)vocab + 1, sizeof *words);
    size_t count = 0;
    enum status st = t && words ? STATUS_OK : STATUS_NO_MEMORY;
    if (st == STATUS_OK) {
        t->vocab = vocab;
        t->mask_words = ((size_t)vocab + 31) / 32;
        t->same = mem_alloc((size_t)vocab + 1, sizeof *t->same);
        t->node_of = mem_calloc((size_t)vocab + 1, sizeof *t->node_of);
        st = t->same && t->node_of ? STATUS_OK : STATUS_NO_MEMORY;
    }
    for (int32_t id = 0; st == STATUS_OK && id < vocab; id++) {
        struct word w = {.id = id};
        w.bytes = from->bytes(from->ctx, id, &w.n);
        t->same[id] = -1;
        if (w.bytes && w.n > 0 && w.n <= TOKEN_TRIE_DEPTH)
            words[count++] = w;
    }
    if (st == STATUS_OK) {
        qsort(words, count, sizeof *words, by_bytes);
        st = add_words(t, words, count);
    }
    if (st == STATUS_OK)
        st = token_plain_init(&t->plain, t);
    mem_free(words);
    if (st != STATUS_OK) {
        token_trie_destroy(t);
        return st;
    }
    *out = t;
    return STATUS_OK;
}

void token_trie_destroy(struct token_trie *t)
{
    if (!t)
        return;
    token_plain_deinit(&t->plain);
    mem_free(t->nodes);
    mem_free(t->same);
    mem_free(t->node_of);
    mem_free(t);
}
