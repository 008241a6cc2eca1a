#include "engine/text/added_tokens.h"

#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "engine/base/vec.h"
#include "engine/text/unicode_class.h"

void added_tokens_init(struct added_set *s)
{
    *s = (struct added_set){0};
}

void added_tokens_deinit(struct added_set *s)
{
    mem_free(s->tokens);
    mem_free(s->nodes);
    added_tokens_init(s);
}

/* Child of `node` (0 is the root) for a byte, 0 if there is none. */
static uint32_t find_child(const struct added_set *s, uint32_t node, uint8_t byte)
{
    if (node == 0)
        return s->root[byte];
    uint32_t c = s->nodes[node].child;
    while (c && s->nodes[c].byte != byte)
        c = s->nodes[c].next;
    return c;
}

static uint32_t add_child(struct added_set *s, uint32_t node, uint8_t byte)
{
    uint32_t made = (uint32_t)s->node_count++;
    s->nodes[made] = (struct added_node){.byte = byte};
    if (node == 0) {
        s->root[byte] = made;
    } else {
        s->nodes[made].next = s->nodes[node].child;
        s->nodes[node].child = made;
    }
    return made;
}

enum status added_tokens_add(struct added_set *s, const char *pattern, size_t n,
                             const struct added_token *token, struct err *e)
{
    CHECK(n >= 1);
    if (!VEC_RESERVE(s->tokens, s->cap, s->count + 1) ||
        !VEC_RESERVE(s->nodes, s->node_cap, s->node_count + n + 1))
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    if (s->node_count == 0)
        s->nodes[s->node_count++] = (struct added_node){0};
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t next = find_child(s, node, (uint8_t)pattern[i]);
        node = next ? next : add_child(s, node, (uint8_t)pattern[i]);
    }
    if (s->nodes[node].token)
        return STATUS_OK;
    s->tokens[s->count++] = *token;
    s->nodes[node].token = (uint32_t)s->count;
    s->has_special |= token->special;
    return STATUS_OK;
}

void added_tokens_start(struct added_scan *scan, const char *text, size_t n, const uint8_t *marks,
                        bool specials)
{
    *scan = (struct added_scan){.text = text, .n = n, .marks = marks, .specials = specials};
}

/* Candidates that begin at one place. */
struct candidates {
    const struct added_token *best; /* the longest that may match, NULL for none */
    size_t best_to;
    size_t barred_to; /* end of a longer special token that lies in marked text alone, 0 for none */
};

static struct candidates find_at(const struct added_set *s, const struct added_scan *scan,
                                 size_t at)
{
    struct candidates c = {0};
    bool marked = !scan->specials; /* some byte so far */
    bool unmarked = scan->specials && !scan->marks;
    uint32_t node = 0;
    for (size_t i = at; i < scan->n; i++) {
        node = find_child(s, node, (uint8_t)scan->text[i]);
        if (!node)
            break;
        if (scan->specials && scan->marks) {
            marked |= scan->marks[i] != 0;
            unmarked |= scan->marks[i] == 0;
        }
        uint32_t k = s->nodes[node].token;
        if (k && !(marked && s->tokens[k - 1].special)) {
            c.best = &s->tokens[k - 1];
            c.best_to = i + 1;
            c.barred_to = 0;
        } else if (k) {
            c.barred_to = unmarked ? 0 : i + 1;
        }
    }
    return c;
}

static bool stands_alone(const struct added_scan *scan, size_t from, size_t to)
{
    size_t len;
    uint32_t cp;
    if (from > 0 && unicode_is_word(unicode_last(scan->text, from, &len)))
        return false;
    return to == scan->n || utf8_decode(scan->text + to, scan->n - to, &cp) == 0 ||
           !unicode_is_word(cp);
}

/* Remembers the run of white space it saw last, so that many matches inside one run stay linear. */
static size_t end_of_spaces(struct added_scan *scan, size_t at)
{
    size_t len;
    uint32_t cp;
    size_t to = at;
    if (at >= scan->spaces_from && at < scan->spaces_to)
        return scan->spaces_to;
    while (to < scan->n && (len = utf8_decode(scan->text + to, scan->n - to, &cp)) > 0 &&
           unicode_is_space(cp))
        to += len;
    scan->spaces_from = at;
    scan->spaces_to = to;
    return to;
}

static size_t begin_of_spaces(const struct added_scan *scan, size_t at)
{
    size_t len;
    if (at <= scan->taken)
        return scan->taken;
    while (at > scan->taken && unicode_is_space(unicode_last(scan->text, at, &len)))
        at -= len;
    return at;
}

/* A special token that is written out in marked text is stepped over as a whole, as the library
 * does when special tokens are off. Where its range also holds unmarked bytes only the token itself
 * is barred, so that no input can hide a special token of the text around it.
 *
 * Candidates are looked for behind the last match itself, not behind the white space it took: as in
 * the library, a token that lies in that white space matches once more, over nothing but itself,
 * unless it takes white space before it and none is left. */
bool added_tokens_next(const struct added_set *s, struct added_scan *scan, struct added_match *out)
{
    if (s->count == 0)
        return false;
    while (scan->at < scan->n) {
        size_t from = scan->at;
        if (!s->root[(uint8_t)scan->text[from]]) {
            scan->at++;
            continue;
        }
        struct candidates c = find_at(s, scan, from);
        const struct added_token *token = c.best;
        size_t to = c.best_to;
        if (c.barred_to > 0 || !token) {
            scan->at = c.barred_to > 0 ? c.barred_to : from + 1;
            continue;
        }
        scan->at = to;
        if (token->single_word && !stands_alone(scan, from, to))
            continue;
        if (token->lstrip)
            from = begin_of_spaces(scan, from);
        if (token->rstrip)
            to = end_of_spaces(scan, to);
        scan->taken = to;
        if (from >= to)
            continue;
        *out = (struct added_match){token, from, to};
        return true;
    }
    return false;
}
