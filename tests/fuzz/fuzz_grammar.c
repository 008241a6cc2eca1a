/* A GBNF text, hostile, and an answer under its masks. Input: the text, a zero byte, what the
 * answer likes at each step.
 *
 * What does not compile says why. What does: a token is in the mask if and only if it is taken, an
 * answer that cannot go on can end, and bytes that were refused change nothing. Tokens are all
 * single bytes and some words. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/grammar/gbnf.h"
#include "engine/grammar/grammar_machine.h"
#include "engine/grammar/grammar_state.h"

enum { BYTES = 256, STEPS = 40, TRIED = 24, WORK = 300000 };

static const char *const words[] = {
    "ab",       "abc",      "aaaa",      "aaaaaaaaaaaaaaaa",
    "ba",       "\"a\"",    "\",\"",     "{\"",
    "\"}",      "]]",       "[[",        ", ",
    "\n\n",     "  ",       "12",        "0.5",
    "\xC3\xA9", "\xE2\x82", "\x82\xACx", "\xF0\x9F\x98\x80",
    "xyz",      "true",     "a b c",     "\\n",
    "\\u00",    "-1",       "a",         "ab",
};

enum { VOCAB = BYTES + sizeof words / sizeof words[0] };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static const char *token_bytes(const void *ctx, int32_t id, size_t *n)
{
    static char bytes[BYTES];
    (void)ctx;
    if (id < BYTES) {
        bytes[id] = (char)id;
        *n = 1;
        return &bytes[id];
    }
    *n = strlen(words[id - BYTES]);
    return words[id - BYTES];
}

static enum status compile(const char *text, size_t n, struct grammar **g, struct err *e)
{
    struct grammar_builder *b = NULL;
    require(grammar_builder_create(&b) == STATUS_OK);
    int root = gbnf_read(b, text, n);
    enum status st = grammar_build_finish(b, root, g, e);
    grammar_builder_destroy(b);
    return st;
}

static bool bit(const uint32_t *mask, int32_t id)
{
    return mask[id / 32] >> (id % 32) & 1u;
}

/* Tries tokens from `like` on; returns the first that is taken, -1: none was, or too much work. */
static int32_t try_tokens(struct grammar_state *s, const struct token_trie *t, const uint32_t *mask,
                          uint8_t like, bool *over)
{
    int32_t taken = -1;
    for (int32_t i = 0; i < VOCAB && !*over; i++) {
        int32_t id = (like * 7 + i) % VOCAB;
        struct grammar_state copy;
        if (i >= TRIED && !(taken < 0 && bit(mask, id)))
            continue;
        grammar_state_copy(&copy, s);
        enum status st = grammar_state_accept_token(&copy, t, id);
        grammar_state_deinit(&copy);
        *over = (st != STATUS_OK && st != STATUS_INVALID) || s->machine->work > WORK;
        require(*over || bit(mask, id) == (st == STATUS_OK));
        if (st == STATUS_OK && taken < 0)
            taken = id;
    }
    return taken;
}

static void answer(struct grammar *g, const struct token_trie *t, const uint8_t *likes, size_t n)
{
    struct grammar_state s = {0};
    uint32_t mask[VOCAB / 32 + 1];
    bool any, over = false;
    if (grammar_state_init(&s, g) != STATUS_OK)
        return;
    for (size_t i = 0; i < STEPS; i++) {
        if (grammar_state_mask(&s, t, mask, &any) != STATUS_OK || s.machine->work > WORK)
            break;
        require(any || grammar_state_can_end(&s));
        require(grammar_state_must_end(&s) == !any);
        int32_t id = any ? try_tokens(&s, t, mask, i < n ? likes[i] : 'a', &over) : -1;
        require(!any || over || id >= 0);
        if (id < 0 || over || grammar_state_accept_token(&s, t, id) != STATUS_OK)
            break;
    }
    grammar_state_deinit(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct grammar *g = NULL;
    struct token_trie *t = NULL;
    struct token_source from = {token_bytes, NULL};
    struct err e = {0};
    if (n > 4096)
        return 0;
    const uint8_t *end = n > 0 ? memchr(data, 0, n) : NULL;
    size_t len = end ? (size_t)(end - data) : n;
    const uint8_t *likes = end ? end + 1 : data + n;
    enum status st = compile((const char *)data, len, &g, &e);
    if (st != STATUS_OK) {
        require(e.msg[0] && !g && e.code == st);
        return 0;
    }
    require(token_trie_create(VOCAB, &from, &t) == STATUS_OK);
    answer(g, t, likes, (size_t)(data + n - likes));
    grammar_unref(g);
    token_trie_destroy(t);
    return 0;
}
