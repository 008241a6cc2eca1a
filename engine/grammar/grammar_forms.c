#include "engine/grammar/grammar_forms.h"

#include <string.h>

#include "engine/base/mem.h"

static int no_memory(struct grammar_builder *b)
{
    struct err e;
    err_set(&e, STATUS_NO_MEMORY, NULL, "Out of memory for a grammar.");
    return grammar_build_fail(b, &e);
}

int grammar_forms_choice(struct grammar_builder *b, const char *const *strings, const size_t *lens,
                         size_t count)
{
    int *parts = mem_alloc(count + 1, sizeof *parts);
    if (!parts)
        return no_memory(b);
    for (size_t i = 0; i < count; i++)
        parts[i] = grammar_build_literal(b, strings[i], lens[i]);
    int expr = grammar_build_alt(b, parts, count);
    mem_free(parts);
    return expr;
}

/* How much of `tag` the text ends with, once `c` comes behind its first `have` bytes. */
static size_t matched(const char *tag, size_t have, char c)
{
    for (size_t n = have + 1; n > 0; n--)
        if (tag[n - 1] == c && memcmp(tag, tag + have - (n - 1), n - 1) == 0)
            return n;
    return 0;
}

enum { TAG_MAX = 64, CHARS_MAX = TAG_MAX + 1 };

/* What may come where the text ends with the first `have` characters of the tag: one of the tag's
 * characters, or any other; each leads to a rule for what it then ends with. */
static int behind(struct grammar_builder *b, const char *tag, size_t have, const int *rules)
{
    size_t n = strlen(tag), count = 0;
    int parts[CHARS_MAX];
    struct grammar_range known[TAG_MAX];
    for (size_t i = 0; i < n; i++) {
        if (memchr(tag, tag[i], i))
            continue;
        known[count].first = known[count].last = (uint8_t)tag[i];
        int next = grammar_build_ref(b, rules[matched(tag, have, tag[i])]);
        parts[count++] = grammar_build_seq2(b, grammar_build_literal(b, &tag[i], 1), next);
    }
    parts[count] = grammar_build_seq2(b, grammar_build_chars(b, known, count, true),
                                      grammar_build_ref(b, rules[0]));
    return grammar_build_alt(b, parts, count + 1);
}

int grammar_forms_behind_thought(struct grammar_builder *b, const char *open, const char *close,
                                 int expr)
{
    static const struct grammar_range blank[] = {{' ', ' '}, {'\t', '\n'}, {'\r', '\r'}};
    size_t n = strlen(close);
    int rules[TAG_MAX + 1];
    bool ascii = n > 0 && n <= TAG_MAX;
    for (size_t i = 0; i < n && ascii; i++)
        ascii = (uint8_t)close[i] < 0x80;
    if (!ascii) /* no tag of today */
        return expr;
    int answer = grammar_build_as_rule(b, NULL, expr);
    for (size_t i = 0; i <= n; i++)
        rules[i] = grammar_build_rule(b, NULL);
    for (size_t i = 0; i < n && !grammar_build_failed(b); i++)
        grammar_build_define(b, rules[i], behind(b, close, i, rules));
    int gap = grammar_build_repeat(b, grammar_build_chars(b, blank, 3, false), 0, 4);
    grammar_build_define(b, rules[n], grammar_build_seq2(b, gap, answer));
    int thought = grammar_build_ref(b, rules[0]);
    if (!open)
        return thought;
    return grammar_build_alt2(b, grammar_build_seq2(b, grammar_build_text(b, open), thought),
                              answer);
}
