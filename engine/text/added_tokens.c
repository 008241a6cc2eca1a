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
    *scan = (struct added_scan){text, n, marks, specials, 0, 0};
}

/* The longest token that begins at `at` and may match there; *to is its end. */
static const struct added_token *longest(const struct added_set *s, const struct added_scan *scan,
                                         size_t at, size_t *to)
{
    const struct added_token *best = NULL;
    bool specials = scan->specials;
    uint32_t node = 0;
    for (size_t i = at; i < scan->n; i++) {
        node = find_child(s, node, (uint8_t)scan->text[i]);
        if (!node)
            break;
        if (scan->marks && scan->marks[i])
            specials = false;
        uint32_t k = s->nodes[node].token;
        if (k && (specials || !s->tokens[k - 1].special)) {
            best = &s->tokens[k - 1];
            *to = i + 1;
        }
    }
    return best;
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

static void take_spaces(const struct added_scan *scan, struct added_match *m)
{
    size_t len;
    uint32_t cp;
    while (m->token->lstrip && m->from > scan->taken &&
           unicode_is_space(unicode_last(scan->text, m->from, &len)))
        m->from -= len;
    while (m->token->rstrip && m->to < scan->n &&
           (len = utf8_decode(scan->text + m->to, scan->n - m->to, &cp)) > 0 &&
           unicode_is_space(cp))
        m->to += len;
}

/* Candidates are looked for behind the last match itself, not behind the white space it took: as in
 * the library, a token that lies in that white space matches once more, over nothing but itself. */
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
        size_t to = 0;
        const struct added_token *token = longest(s, scan, from, &to);
        if (!token) {
            scan->at++;
            continue;
        }
        scan->at = to;
        if (token->single_word && !stands_alone(scan, from, to))
            continue;
        struct added_match m = {token, from, to};
        take_spaces(scan, &m);
        scan->taken = m.to;
        *out = m;
        return true;
    }
    return false;
}
