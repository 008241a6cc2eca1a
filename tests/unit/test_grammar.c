/* Grammars from their text or their builder to the bytes they take and the tokens they allow.
 *
 * Random grammars are held against a slow recogniser of their expressions (all strings up to a
 * length), and masks against trying every token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/strbuf.h"
#include "engine/grammar/gbnf.h"
#include "engine/grammar/grammar_cache.h"
#include "engine/grammar/grammar_forms.h"
#include "engine/grammar/grammar_machine.h"
#include "engine/grammar/grammar_state.h"
#include "engine/grammar/schema.h"

static uint64_t seed_now;

static uint32_t draw(uint32_t below)
{
    seed_now = seed_now * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed_now >> 33) % below;
}

static enum status compile(const char *text, size_t n, struct grammar **g, struct err *e)
{
    struct grammar_builder *b = NULL;
    assert_int_equal(grammar_builder_create(&b), STATUS_OK);
    int root = gbnf_read(b, text, n);
    enum status st = grammar_build_finish(b, root, g, e);
    grammar_builder_destroy(b);
    return st;
}

static struct grammar *compiled(const char *text)
{
    struct grammar *g = NULL;
    struct err e = {0};
    if (compile(text, strlen(text), &g, &e) != STATUS_OK)
        fail_msg("%s: %s", text, e.msg);
    return g;
}

/* 2: a whole answer, 1: the beginning of one, 0: neither. */
static int verdict(struct grammar *g, const char *bytes, size_t n)
{
    struct grammar_state s;
    assert_int_equal(grammar_state_init(&s, g), STATUS_OK);
    enum status st = grammar_state_accept(&s, bytes, n);
    assert_true(st == STATUS_OK || st == STATUS_INVALID);
    int v = st != STATUS_OK ? 0 : grammar_state_can_end(&s) ? 2 : 1;
    grammar_state_deinit(&s);
    return v;
}

/* ---- GBNF by table ---- */

struct text_case {
    const char *grammar;
    const char *whole[6];
    const char *begun[6];
    const char *wrong[6];
};

static const struct text_case texts[] = {
    {"root ::= \"ab\" | \"ac\"", {"ab", "ac"}, {"", "a"}, {"b", "abc", "ad"}},
    {"root ::= [a-c]+ \"!\"?", {"a", "abc", "cab!"}, {""}, {"d", "a!!", "!"}},
    {"root ::= [^a-c]",
     {"d", "\xC3\xA9", "\xF0\x9F\x98\x80"},
     {"\xC3", "\xF0\x9F"},
     {"a", "\x80", "\xC3x", "\xED\xA0", "\xF4\x90"}},
    {"root ::= .{2}",
     {"ab", "\xE2\x82\xAC"
            "x"},
     {"a", "\xE2\x82"},
     {"abc", "\xC0"}},
    {"root ::= a b # comment\na ::= \"x\" # other\n\nb ::= \"y\"\n", {"xy"}, {"x"}, {"y", "xx"}},
    {"root ::= (\"a\"\n | \"b\"\n)*", {"", "a", "bab"}, {NULL}, {"c", "ac"}},
    {"root ::= \"a\" |\n  \"b\"\n", {"a", "b"}, {""}, {"c"}},
    {"root ::= \"a\"{2,3} [0-9]{2}",
     {"aa12", "aaa12"},
     {"a", "aa", "aaa1"},
     {"a1", "aaaa", "aa123"}},
    {"root ::= \"a\"{3,}", {"aaa", "aaaaaaa"}, {"aa"}, {"b", "aab"}},
    {"root ::= \"ab\"{200,201}", {NULL}, {"ab", "aba"}, {"b", "abb"}},
    {"root ::= \"\\x41\\u00e9\\U0001F600\\n\\t\\\\\\\"\"",
     {"A\xC3\xA9\xF0\x9F\x98\x80\n\t\\\""},
     {"A"},
     {"a"}},
    {"root ::= [\\]\\[\\-x]", {"]", "[", "-", "x"}, {""}, {"\\", "y"}},
    {"root ::= [a-]", {"a", "-"}, {""}, {"b"}},
    {"root ::= root \"a\" | \"b\"", {"b", "ba", "baaaa"}, {""}, {"a", "bb"}},
    {"root ::= \"(\" root \")\" root | \"\"",
     {"", "()", "(())()", "()()()"},
     {"((", "(()"},
     {")", "())"}},
    {"root ::= e\ne ::= e \"+\" t | t\nt ::= t \"*\" f | f\nf ::= \"(\" e \")\" | \"n\"",
     {"n", "n+n*n", "(n+n)*n"},
     {"(", "n+"},
     {"n+*", "+n", "nn"}},
    {"root ::= x x\nx ::= \"a\"?", {"", "a", "aa"}, {NULL}, {"aaa"}},
    {"root ::= x* \"b\"\nx ::= \"a\"?", {"b", "aab"}, {"a"}, {"ba"}},
    {"root ::= ws \"x\"\nws ::= | \" \" ws", {"x", "   x"}, {" "}, {"y", "x "}},
    {"root ::= \"a\" x | \"ab\"\nx ::= x \"c\"", {"ab"}, {"a"}, {"ac", "b"}}, /* x never ends */
    {"root ::= (\"a\" | \"aa\"){10,12}",
     {"aaaaaaaaaa", "aaaaaaaaaaaaaaaaaaaaaaaa"},
     {"aaaaaaaaa"},
     {"aaaaaaaaaaaaaaaaaaaaaaaaa"}},
    {"root ::= [\\u00e0-\\U00010010]",
     {"\xC3\xA0", "\xDF\xBF", "\xE2\x82\xAC", "\xF0\x90\x80\x90"},
     {"\xF0\x90\x80"},
     {"\xC3\x9F", "\xF0\x90\x80\x91", "\xED\xA0"}},
};

static void check_verdicts(struct grammar *g, const char *const *strings, int expected,
                           const char *grammar)
{
    for (int i = 0; i < 6 && strings[i]; i++) {
        int v = verdict(g, strings[i], strlen(strings[i]));
        if (v != expected)
            fail_msg("%s: '%s' is %d, not %d", grammar, strings[i], v, expected);
    }
}

static void test_gbnf_takes_what_it_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct grammar *g = compiled(texts[i].grammar);
        check_verdicts(g, texts[i].whole, 2, texts[i].grammar);
        check_verdicts(g, texts[i].begun, 1, texts[i].grammar);
        check_verdicts(g, texts[i].wrong, 0, texts[i].grammar);
        grammar_unref(g);
    }
}

struct bad_case {
    const char *grammar;
    enum status status;
    const char *says;
};

static const struct bad_case bad[] = {
    {"", STATUS_INVALID, "'root' is not defined"},
    {"foo ::= \"a\"", STATUS_INVALID, "'root' is not defined"},
    {"root ::= foo", STATUS_INVALID, "'foo' is not defined"},
    {"root ::= \"a\"\nroot ::= \"b\"", STATUS_INVALID, "'root' is defined twice"},
    {"root ::= \"a", STATUS_INVALID, "line 1"},
    {"root ::= \"a\"\n\nx = \"b\"", STATUS_INVALID, "line 3"},
    {"root ::= (\"a\"", STATUS_INVALID, "not closed"},
    {"root ::= \"a\")", STATUS_INVALID, "')'"},
    {"root ::= [z-a]", STATUS_INVALID, "before it begins"},
    {"root ::= [a", STATUS_INVALID, "ends here"},
    {"root ::= \"\\q\"", STATUS_INVALID, "unknown escape"},
    {"root ::= \"\\ud800\"", STATUS_INVALID, "not a character"},
    {"root ::= \"\\u12\"", STATUS_INVALID, "hexadecimal"},
    {"root ::= \"\xFF\"", STATUS_INVALID, "not UTF-8"},
    {"root ::= \"a\"{3,2}", STATUS_INVALID, "m <= n"},
    {"root ::= \"a\"{x}", STATUS_INVALID, "number"},
    {"root ::= \"a\"{9999999999}", STATUS_LIMIT, "more than"},
    {"root ::= \"a\" root", STATUS_INVALID, "never come to an end"},
    {"root ::= root", STATUS_INVALID, "never come to an end"},
    {"root ::= []", STATUS_INVALID, "never come to an end"},
};

static void test_gbnf_says_what_is_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct grammar *g = NULL;
        struct err e = {0};
        enum status st = compile(bad[i].grammar, strlen(bad[i].grammar), &g, &e);
        if (st != bad[i].status || !strstr(e.msg, bad[i].says))
            fail_msg("%s: %d '%s', not %d '%s'", bad[i].grammar, st, e.msg, bad[i].status,
                     bad[i].says);
    }
}

/* ---- random grammars ---- */

enum { RULES = 4, NODES = 40, LENGTH = 7, LETTERS = 2 };

enum node_kind { NODE_TEXT, NODE_SEQ, NODE_ALT, NODE_REPEAT, NODE_REF };

struct node {
    enum node_kind kind;
    char text[3];
    int parts[3];
    int count;
    int min, max;
    int rule;
};

struct world {
    struct node nodes[NODES];
    int node_count;
    int rules[RULES];
    /* ends[node][i]: bit k: the node may match from i to k */
    uint32_t ends[NODES][LENGTH + 1];
};

static int random_node(struct world *w, int depth)
{
    if (w->node_count >= NODES)
        return draw((uint32_t)w->node_count) % (uint32_t)w->node_count;
    int at = w->node_count++;
    struct node n = {.kind = NODE_TEXT};
    uint32_t kind = depth > 3 ? draw(3) : draw(12);
    if (kind < 3) {
        n.count = kind == 0 && draw(4) == 0 ? 0 : 1 + (int)draw(2);
        for (int i = 0; i < n.count; i++)
            n.text[i] = (char)('a' + draw(LETTERS));
    } else if (kind < 8) {
        n.kind = kind < 6 ? NODE_SEQ : NODE_ALT;
        n.count = 2 + (int)draw(2);
    } else if (kind < 10) {
        n.kind = NODE_REPEAT;
        n.count = 1;
        n.min = (int)draw(3);
        n.max = draw(3) == 0 ? GRAMMAR_NO_MAX : n.min + (int)draw(3);
        if (draw(2) == 0 && n.max >= 0)
            n.max += 100; /* counted, not copied */
    } else {
        n.kind = NODE_REF;
        n.rule = (int)draw(RULES);
    }
    /* Parts come later in the array, so that expressions have no circles. */
    for (int i = 0; n.kind != NODE_TEXT && i < n.count; i++) {
        n.parts[i] = w->node_count < NODES ? random_node(w, depth + 1) : -1;
        if (n.parts[i] < 0 || n.parts[i] <= at)
            n.count = i;
    }
    w->nodes[at] = n;
    return at;
}

static void random_world(struct world *w)
{
    memset(w, 0, sizeof *w);
    for (int r = 0; r < RULES; r++)
        w->rules[r] = w->node_count < NODES - 6 ? random_node(w, 0) : w->rules[0];
}

static int build_node(struct grammar_builder *b, const struct world *w, int at, const int *rules)
{
    const struct node *n = &w->nodes[at];
    int parts[3];
    if (n->kind == NODE_REF)
        return grammar_build_ref(b, rules[n->rule]);
    if (n->kind == NODE_TEXT)
        return grammar_build_literal(b, n->text, (size_t)n->count);
    for (int i = 0; i < n->count; i++)
        parts[i] = build_node(b, w, n->parts[i], rules);
    if (n->kind == NODE_REPEAT)
        return n->count == 0 ? grammar_build_empty(b)
                             : grammar_build_repeat(b, parts[0], n->min, n->max);
    return n->kind == NODE_SEQ ? grammar_build_seq(b, parts, (size_t)n->count)
                               : grammar_build_alt(b, parts, (size_t)n->count);
}

static enum status build_world(const struct world *w, struct grammar **g, struct err *e)
{
    struct grammar_builder *b = NULL;
    int rules[RULES];
    assert_int_equal(grammar_builder_create(&b), STATUS_OK);
    for (int r = 0; r < RULES; r++)
        rules[r] = grammar_build_rule(b, "r");
    for (int r = 0; r < RULES; r++)
        grammar_build_define(b, rules[r], build_node(b, w, w->rules[r], rules));
    enum status st = grammar_build_finish(b, rules[0], g, e);
    grammar_builder_destroy(b);
    return st;
}

/* Ends of `part` from every end in `from`. */
static uint32_t after(const struct world *w, int part, uint32_t from)
{
    uint32_t ends = 0;
    for (int i = 0; i <= LENGTH; i++)
        if (from >> i & 1)
            ends |= w->ends[part][i];
    return ends;
}

static uint32_t repeat_ends(const struct world *w, const struct node *n, int i)
{
    uint32_t now = 1u << i, ends = n->min == 0 ? now : 0;
    int times = n->max >= 0 ? n->max : n->min + LENGTH + 1;
    for (int t = 1; t <= times; t++) {
        now = after(w, n->parts[0], now);
        if (t >= n->min)
            ends |= now;
    }
    return ends;
}

static uint32_t node_ends(const struct world *w, const struct node *n, const char *s, int len,
                          int i)
{
    uint32_t ends = n->kind == NODE_SEQ || (n->kind == NODE_REPEAT && n->count == 0) ? 1u << i : 0;
    if (n->kind == NODE_REF)
        return w->ends[w->rules[n->rule]][i];
    if (n->kind == NODE_TEXT)
        return i + n->count <= len && memcmp(s + i, n->text, (size_t)n->count) == 0
                   ? 1u << (i + n->count)
                   : 0;
    if (n->kind == NODE_REPEAT && n->count > 0)
        return repeat_ends(w, n, i);
    for (int k = 0; k < n->count; k++)
        ends = n->kind == NODE_SEQ ? after(w, n->parts[k], ends) : ends | w->ends[n->parts[k]][i];
    return ends;
}

static bool matches(struct world *w, const char *s, int len)
{
    bool changed = true;
    memset(w->ends, 0, sizeof w->ends);
    while (changed) {
        changed = false;
        for (int at = w->node_count - 1; at >= 0; at--)
            for (int i = 0; i <= len; i++) {
                uint32_t ends = node_ends(w, &w->nodes[at], s, len, i);
                changed |= ends != w->ends[at][i];
                w->ends[at][i] = ends;
            }
    }
    return w->ends[w->rules[0]][0] >> len & 1;
}

static const char *letters(int code, int len, char *s)
{
    for (int i = 0; i < len; i++, code /= LETTERS)
        s[i] = (char)('a' + code % LETTERS);
    s[len] = '\0';
    return s;
}

static void check_world(struct world *w, uint64_t seed)
{
    struct grammar *g = NULL;
    struct err e = {0};
    char s[LENGTH + 1];
    enum status st = build_world(w, &g, &e);
    assert_true(st == STATUS_OK || st == STATUS_INVALID);
    for (int len = 0, count = 1; len <= LENGTH; len++, count *= LETTERS)
        for (int code = 0; code < count; code++) {
            bool expected = matches(w, letters(code, len, s), len);
            bool got = g && verdict(g, s, (size_t)len) == 2;
            if (got != expected)
                fail_msg("seed %llu: '%s' is %d, not %d", (unsigned long long)seed, s, got,
                         expected);
        }
    grammar_unref(g);
}

static void test_grammar_equals_a_slow_recogniser(void **state)
{
    (void)state;
    static struct world w;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        seed_now = seed;
        random_world(&w);
        check_world(&w, seed);
    }
}

/* ---- masks ---- */

enum { VOCAB = 300 };

struct words {
    char text[VOCAB][64];
};

static const char *word_bytes(const void *ctx, int32_t id, size_t *n)
{
    const struct words *w = ctx;
    *n = strlen(w->text[id]);
    return *n > 0 ? w->text[id] : NULL;
}

static enum status words_trie(const struct words *w, struct token_trie **t)
{
    struct token_source from = {word_bytes, w};
    return token_trie_create(VOCAB, &from, t);
}

static void random_words(struct words *w, const char *alphabet, uint32_t letter_count,
                         uint32_t bytes_max)
{
    for (int id = 0; id < VOCAB; id++) {
        uint32_t n = id < (int)letter_count ? 1 : draw(bytes_max + 1);
        for (uint32_t i = 0; i < n; i++)
            w->text[id][i] = id < (int)letter_count ? alphabet[id] : alphabet[draw(letter_count)];
        w->text[id][n] = '\0';
    }
}

static bool bit(const uint32_t *mask, int id)
{
    return mask[id / 32] >> (id % 32) & 1;
}

/* Every token of the mask is tried, then one that is allowed is taken; until nothing may follow.
 * Returns the steps made. */
static int walk_masks(struct grammar *g, const struct token_trie *t, const struct words *w,
                      int steps, uint64_t seed)
{
    struct grammar_state s;
    uint32_t mask[VOCAB / 32 + 1];
    int made = 0;
    assert_int_equal(grammar_state_init(&s, g), STATUS_OK);
    for (; made < steps; made++) {
        bool any, found = false;
        int32_t allowed[VOCAB];
        uint32_t count = 0;
        enum status masked = grammar_state_mask(&s, t, mask, &any);
        if (masked == STATUS_LIMIT) /* too ambiguous */
            break;
        assert_int_equal(masked, STATUS_OK);
        for (int32_t id = 0; id < VOCAB; id++) {
            struct grammar_state copy;
            grammar_state_copy(&copy, &s);
            enum status st = grammar_state_accept_token(&copy, t, id);
            bool takes = st == STATUS_OK;
            grammar_state_deinit(&copy);
            if (st == STATUS_LIMIT) { /* a token decided by its rule alone may lead too far */
                grammar_state_deinit(&s);
                return made;
            }
            if (takes != bit(mask, id))
                fail_msg("seed %llu: token '%s' is %d, by trying %d", (unsigned long long)seed,
                         w->text[id], bit(mask, id), takes);
            if (takes)
                allowed[count++] = id;
            found |= takes;
        }
        assert_int_equal(found, any);
        /* All single letters are tokens: what is not at its end can go on. */
        assert_true(any || grammar_state_can_end(&s));
        assert_int_equal(grammar_state_must_end(&s), !any);
        if (!any)
            break;
        assert_int_equal(grammar_state_accept_token(&s, t, allowed[draw(count)]), STATUS_OK);
    }
    grammar_state_deinit(&s);
    return made;
}

static void test_mask_equals_trying_every_token(void **state)
{
    (void)state;
    static struct world w;
    struct words words;
    int made = 0;
    for (uint64_t seed = 1; seed <= 80; seed++) {
        struct grammar *g = NULL;
        struct token_trie *t = NULL;
        struct err e;
        seed_now = seed;
        random_words(&words, "ab", LETTERS, 10);
        random_world(&w);
        assert_int_equal(words_trie(&words, &t), STATUS_OK);
        if (build_world(&w, &g, &e) == STATUS_OK)
            for (int i = 0; i < 4; i++)
                made += walk_masks(g, t, &words, 12, seed);
        grammar_unref(g);
        token_trie_destroy(t);
    }
    print_message("%d masks\n", made);
    assert_true(made > 1000);
}

static enum status build_json(struct grammar_builder *b, struct grammar **g)
{
    struct err e;
    int root = grammar_build_rule(b, "root");
    grammar_build_define(b, root, schema_build_object(b, false));
    return grammar_build_finish(b, root, g, &e);
}

static struct grammar *json_object(void)
{
    struct grammar_builder *b = NULL;
    struct grammar *g = NULL;
    assert_int_equal(grammar_builder_create(&b), STATUS_OK);
    assert_int_equal(build_json(b, &g), STATUS_OK);
    grammar_builder_destroy(b);
    return g;
}

static void test_mask_of_json(void **state)
{
    (void)state;
    struct words words;
    struct token_trie *t = NULL;
    seed_now = 7;
    random_words(&words, "{}[]\",:ab\\u01-.e \n\xC3\xA9", 20, 10);
    assert_int_equal(words_trie(&words, &t), STATUS_OK);
    struct grammar *g = json_object();
    int made = 0;
    for (int i = 0; i < 60; i++)
        made += walk_masks(g, t, &words, 40, (uint64_t)i);
    assert_true(made > 500);
    grammar_unref(g);
    token_trie_destroy(t);
}

/* Near the end of a counted repetition, long tokens go first; the rest is taken over from masks
 * that were made before. */
static void test_mask_of_counts(void **state)
{
    (void)state;
    static const char *const texts_counted[] = {
        "root ::= [ab]{3,60} \"y\"",
        "root ::= \"y\" ([ab] | \"y\" [ab]){40,60}",
        "root ::= (word \"y\"){2,5}\nword ::= [ab]{1,50}",
        "root ::= [ab]{0,70} (\"y\" [ab]{0,70}){0,2}",
    };
    struct words words;
    struct token_trie *t = NULL;
    int made = 0;
    seed_now = 13;
    random_words(&words, "aby", 3, 30);
    for (int id = 3; id < VOCAB; id++)
        for (char *c = words.text[id]; *c; c++)
            *c = *c == 'y' && draw(8) ? 'a' : *c;
    assert_int_equal(words_trie(&words, &t), STATUS_OK);
    for (size_t i = 0; i < sizeof texts_counted / sizeof texts_counted[0]; i++) {
        struct grammar *g = compiled(texts_counted[i]);
        for (int k = 0; k < 30; k++)
            made += walk_masks(g, t, &words, 90, i);
        grammar_unref(g);
    }
    print_message("%d masks\n", made);
    assert_true(made > 500);
    token_trie_destroy(t);
}

/* Words of all kinds of characters, whole ones and parts, short and long. */
static void random_plain_words(struct words *w)
{
    static const char *const pieces[] = {
        "a",
        "b",
        "z",
        "Q",
        "7",
        "0",
        " ",
        ".",
        "_",
        "!",
        "\"",
        "\\",
        "\n",
        "\xC3",
        "\xA9",
        "\xE2",
        "\x82",
        "\xAC",
        "\xF0",
        "\x9F",
        "\x98",
        "\x80",
        "\xED",
        "\xC2",
        "\xC3\xA9",
        "\xE2\x82\xAC",
        "\xF0\x9F\x98\x80",
    };
    enum { PIECES = sizeof pieces / sizeof pieces[0], LETTERS_FIRST = 9 };
    for (int id = 0; id < VOCAB; id++) {
        uint32_t n = id < PIECES ? 1 : id % 16 == 0 ? 24 + draw(16) : 1 + draw(7);
        uint32_t kinds = draw(3) ? 2 + draw(PIECES - 1) : 1 + draw(LETTERS_FIRST);
        size_t len = 0;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t k = id < PIECES ? (uint32_t)id
                         : id % 3    ? draw(id % 3 == 1 ? 3 : 5)
                         : draw(5)   ? draw(kinds < LETTERS_FIRST ? kinds : LETTERS_FIRST)
                                     : draw(kinds);
            size_t bytes = strlen(pieces[k]);
            if (len + bytes >= sizeof w->text[id])
                break;
            memcpy(w->text[id] + len, pieces[k], bytes);
            len += bytes;
        }
        w->text[id][len] = '\0';
    }
}

/* Tokens that are nothing but text are decided by the kinds of their characters. */
static void test_mask_of_plain_tokens(void **state)
{
    (void)state;
    static const char *const texts_plain[] = {
        "root ::= \"\\\"\" [^\"\\\\\\n]{0,40} \"\\\"\"",
        "root ::= \"\\\"\" ([^\"\\\\\\n] | \"\\\\\" [\"\\\\n])* \"\\\"\"",
        "root ::= [^\"\\\\\\n]{30,34} [a-z]*",
        "root ::= [a-zA-Z ]{3,30} \".\" [0-9]{0,9}",
        "root ::= (line \"\\n\")+\nline ::= [^\\n]*",
        "root ::= (line \"\\n\")+\nline ::= [a-z ]*",
        "root ::= word (\" \" word)*\nword ::= [a-z]+ | [0-9]{1,4}",
        "root ::= word (\" \" word)*\nword ::= [^ \"]{1,6}",
        "root ::= [a-z0-9\\u00e9\\u20ac]{2,20} \"!\"",
        "root ::= ([^\"]{1,5} \"\\\"\"){1,8}",
        "root ::= name (\"!\" name)*\nname ::= [a-zA-Z_] [a-zA-Z0-9_]{0,12}",
        "root ::= ([a-z]{1,3} | [a-zA-Z]{2,5} \" \")*",
        "root ::= (word [0-9]{1,3})+\nword ::= [a-z ]+",
        "root ::= (word num)+\nword ::= [a-z] [a-z] [a-z]+\nnum ::= [0-9]{2,3}",
        "root ::= ([a-zA-Z] [a-z]* \"!\")+",
        "root ::= [a-zA-Z] [a-z]* [a-z0-9 ]*",
        "root ::= [^\\x00-\\x1F\"]{2,3} root | [a-z]{5}",
        "root ::= quoted*\nquoted ::= \"\\\"\" text \"\\\"\"\ntext ::= [a-zA-Z0-9 ._!]*",
    };
    struct words words;
    int made = 0;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct token_trie *t = NULL;
        seed_now = 100 + seed;
        random_plain_words(&words);
        assert_int_equal(words_trie(&words, &t), STATUS_OK);
        assert_true(t->plain.count > VOCAB / 4 && t->plain.chars_max > 20);
        for (size_t i = 0; i < sizeof texts_plain / sizeof texts_plain[0]; i++) {
            struct grammar *g = compiled(texts_plain[i]);
            for (int k = 0; k < 4; k++)
                made += walk_masks(g, t, &words, 40, 100 * seed + i);
            grammar_unref(g);
        }
        token_trie_destroy(t);
    }
    print_message("%d masks\n", made);
    assert_true(made > 3000);
}

static void test_counts_are_exact(void **state)
{
    (void)state;
    char text[100];
    struct grammar *g = compiled("root ::= \"ab\"{30,35}");
    memset(text, 'a', sizeof text);
    for (size_t i = 1; i < sizeof text; i += 2)
        text[i] = 'b';
    for (size_t n = 0; n <= 80; n++) {
        int expected = n > 70 ? 0 : n >= 60 && n % 2 == 0 ? 2 : 1;
        int v = verdict(g, text, n);
        if (v != expected)
            fail_msg("%zu bytes are %d, not %d", n, v, expected);
    }
    grammar_unref(g);
}

/* As deep as frames may go, masks still equal trying. */
static void test_mask_at_the_greatest_depth(void **state)
{
    (void)state;
    struct words words;
    struct token_trie *t = NULL;
    struct grammar_state s;
    uint32_t mask[VOCAB / 32 + 1];
    bool any;
    seed_now = 8;
    random_words(&words, "[]1", 3, 10);
    assert_int_equal(words_trie(&words, &t), STATUS_OK);
    struct grammar *g = compiled("root ::= \"[\" root* \"]\" | \"1\"");
    assert_int_equal(grammar_state_init(&s, g), STATUS_OK);
    int depth = 0;
    while (grammar_state_accept(&s, "[", 1) == STATUS_OK) {
        depth++;
        assert_int_equal(grammar_state_mask(&s, t, mask, &any), STATUS_OK);
        assert_true(any);
        for (int32_t id = 0; id < VOCAB; id++) {
            struct grammar_state copy;
            grammar_state_copy(&copy, &s);
            bool takes = grammar_state_accept_token(&copy, t, id) == STATUS_OK;
            grammar_state_deinit(&copy);
            if (takes != bit(mask, id))
                fail_msg("depth %d: token '%s' is %d, by trying %d", depth, words.text[id],
                         bit(mask, id), takes);
        }
    }
    print_message("%d deep\n", depth);
    assert_true(depth > LIMIT_GRAMMAR_DEPTH - 3 && depth <= LIMIT_GRAMMAR_DEPTH + 1);
    for (; depth > 0; depth--)
        assert_int_equal(grammar_state_accept(&s, "]", 1), STATUS_OK);
    assert_true(grammar_state_must_end(&s));
    grammar_state_deinit(&s);
    grammar_unref(g);
    token_trie_destroy(t);
}

/* ---- forms ---- */

static struct grammar *thinking(const char *open)
{
    struct grammar_builder *b = NULL;
    struct grammar *g = NULL;
    struct err e = {0};
    const char *words[] = {"yes", "no", "not at all"};
    const size_t lens[] = {3, 2, 10};
    assert_int_equal(grammar_builder_create(&b), STATUS_OK);
    int root = grammar_build_rule(b, "root");
    int choice = grammar_forms_choice(b, words, lens, 3);
    grammar_build_define(b, root, grammar_forms_behind_thought(b, open, "<<t>", choice));
    assert_int_equal(grammar_build_finish(b, root, &g, &e), STATUS_OK);
    grammar_builder_destroy(b);
    return g;
}

static void test_forms_behind_a_thought(void **state)
{
    (void)state;
    const char *const whole[6] = {"<<t>yes", "hm < << <t> \xC3\xA9<<<<t>\n\nno",
                                  "yes<<t>not at all"};
    const char *const begun[6] = {"", "yes", "<<", "<<t>", "<<t>no"};
    const char *const wrong[6] = {"<<t>maybe", "a<<t><<t>yes", "<<t>yes "};
    struct grammar *g = thinking(NULL);
    check_verdicts(g, whole, 2, "thinking");
    check_verdicts(g, (const char *const[6]){"", "yes", "<<", "<<t>", "<<t>n"}, 1, "thinking");
    check_verdicts(g, wrong, 0, "thinking");
    assert_int_equal(verdict(g, begun[4], strlen(begun[4])), 2);
    grammar_unref(g);
    g = thinking("<t>");
    check_verdicts(g, (const char *const[6]){"yes", "no", "<t>mm<<t>yes"}, 2, "may think");
    check_verdicts(g, (const char *const[6]){"", "<t>yes", "not at"}, 1, "may think");
    check_verdicts(g, (const char *const[6]){"mm", "mm<<t>yes"}, 0, "may think");
    grammar_unref(g);
}

/* ---- cache ---- */

static void test_cache_gives_up_the_oldest(void **state)
{
    (void)state;
    struct grammar_cache c;
    struct grammar *g[3];
    uint8_t key[3][SHA256_BYTES] = {{1}, {2}, {3}};
    for (int i = 0; i < 3; i++)
        g[i] = compiled("root ::= \"a\"");
    size_t one = grammar_bytes(g[0]);
    assert_true(grammar_cache_init(&c, 2 * one));
    grammar_cache_put(&c, key[0], g[0]);
    grammar_cache_put(&c, key[1], g[1]);
    grammar_unref(grammar_cache_find(&c, key[0])); /* now the other one is the oldest */
    grammar_cache_put(&c, key[2], g[2]);
    struct grammar *found[3];
    for (int i = 0; i < 3; i++)
        found[i] = grammar_cache_find(&c, key[i]);
    assert_ptr_equal(found[0], g[0]);
    assert_null(found[1]);
    assert_ptr_equal(found[2], g[2]);
    for (int i = 0; i < 3; i++) {
        grammar_unref(found[i]);
        grammar_unref(g[i]);
    }
    grammar_cache_deinit(&c);
    assert_true(grammar_cache_init(&c, one - 1));
    g[0] = compiled("root ::= \"a\"");
    grammar_cache_put(&c, key[0], g[0]);
    assert_null(grammar_cache_find(&c, key[0])); /* too large for it */
    grammar_unref(g[0]);
    grammar_cache_deinit(&c);
}

/* ---- hostile grammars ---- */

static void repeat_text(struct strbuf *b, const char *text, int times)
{
    for (int i = 0; i < times; i++)
        strbuf_puts(b, text);
}

static void test_deep_groups_are_refused(void **state)
{
    (void)state;
    for (int depth = LIMIT_GRAMMAR_DEPTH; depth <= 100000; depth += 99744) {
        struct strbuf b;
        struct grammar *g = NULL;
        struct err e = {0};
        strbuf_init(&b, 1 << 20);
        strbuf_puts(&b, "root ::= ");
        repeat_text(&b, "(", depth);
        strbuf_puts(&b, "\"a\"");
        repeat_text(&b, ")", depth);
        enum status st = compile(strbuf_str(&b), b.len, &g, &e);
        assert_int_equal(st, depth == LIMIT_GRAMMAR_DEPTH ? STATUS_OK : STATUS_LIMIT);
        grammar_unref(g);
        strbuf_deinit(&b);
    }
}

static void test_many_rules_are_refused(void **state)
{
    (void)state;
    struct strbuf b;
    struct grammar *g = NULL;
    struct err e = {0};
    strbuf_init(&b, 1 << 20);
    strbuf_puts(&b, "root ::= \"a\"\n");
    for (int i = 0; i <= LIMIT_GRAMMAR_RULES; i++)
        strbuf_printf(&b, "r%d ::= r%d \"b\"\n", i, i + 1);
    assert_int_equal(compile(strbuf_str(&b), b.len, &g, &e), STATUS_LIMIT);
    strbuf_deinit(&b);
}

/* A chain of calls that are not the last of their rule, deeper than an answer may be. */
static void test_deep_calls_are_refused(void **state)
{
    (void)state;
    for (int depth = 200; depth <= 2000; depth += 1800) {
        struct strbuf b;
        struct grammar *g = NULL;
        struct err e = {0};
        strbuf_init(&b, 1 << 20);
        strbuf_puts(&b, "root ::= r0\n");
        for (int i = 0; i < depth; i++)
            strbuf_printf(&b, "r%d ::= r%d \"b\"\n", i, i + 1);
        strbuf_printf(&b, "r%d ::= \"a\"\n", depth);
        enum status st = compile(strbuf_str(&b), b.len, &g, &e);
        assert_int_equal(st, depth == 200 ? STATUS_OK : STATUS_LIMIT);
        grammar_unref(g);
        strbuf_deinit(&b);
    }
}

static const char *const heavy[] = {
    "root ::= (((((\"a\"{1000}){1000}){1000}){1000}){1000}){1000}",
    "root ::= ((((\"a\"?){999}){999}){999}){999}",
    "root ::= ((((((\"a\"*)*)*)*)*)*)*",
    "root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"a\" root \"d\" | \"\"",
    "root ::= root root root | \"a\" | \"\"",
    "root ::= (\"a\" | \"aa\" | \"aaa\"){0,999999999} \"x\"",
    "root ::= [ab]* \"a\" [ab]{300} \"x\"",
    "root ::= a a a a a a a a\na ::= b b b b b b b b\nb ::= c c c c c c c c\nc ::= \"a\"?",
    "root ::= (root \"a\")* root (\"a\" root)* | \"a\" | \"aa\"",
};

/* Taking 300 bytes and making a mask after each either works or is refused, soon. */
static void test_heavy_grammars_are_bounded(void **state)
{
    (void)state;
    struct words words;
    struct token_trie *t = NULL;
    seed_now = 9;
    random_words(&words, "abcdx", 5, 10);
    assert_int_equal(words_trie(&words, &t), STATUS_OK);
    for (size_t i = 0; i < sizeof heavy / sizeof heavy[0]; i++) {
        struct grammar *g = compiled(heavy[i]);
        struct grammar_state s;
        uint32_t mask[VOCAB / 32 + 1];
        bool any;
        int64_t begin = clock_now_ns(), worst = 0;
        int taken = 0;
        enum status st = grammar_state_init(&s, g);
        assert_int_equal(st, STATUS_OK);
        for (; st == STATUS_OK && taken < 300; taken++) {
            int64_t at = clock_now_ns();
            st = grammar_state_mask(&s, t, mask, &any);
            if (st == STATUS_OK)
                st = grammar_state_accept(&s, "a", 1);
            int64_t took = clock_now_ns() - at;
            worst = took > worst ? took : worst;
        }
        print_message("%-60.60s %3d bytes, status %d, %.0f ms, worst %.1f ms\n", heavy[i], taken,
                      st, 1e-6 * (double)(clock_now_ns() - begin), 1e-6 * (double)worst);
        assert_true(st == STATUS_OK || st == STATUS_LIMIT || st == STATUS_INVALID);
        grammar_state_deinit(&s);
        grammar_unref(g);
    }
    token_trie_destroy(t);
}

/* ---- memory ---- */

enum { BACK = 300, LONG = 6000 };

/* What was remembered is given up when it grows too large, under the feet of two answers: each goes
 * on as if nothing had happened. 'x' may come where an 'a' stood BACK letters before the last. */
static void test_states_outlive_what_is_given_up(void **state)
{
    (void)state;
    static char text[2][LONG];
    struct grammar *g = compiled("root ::= outer \"?\"\nouter ::= inner \"!\"\n"
                                 "inner ::= [ab]* \"a\" [ab]{300} \"x\"");
    struct grammar_state s[2], copy;
    int given_up = 0;
    seed_now = 11;
    for (int k = 0; k < 2; k++)
        assert_int_equal(grammar_state_init(&s[k], g), STATUS_OK);
    for (int i = 0; i < LONG; i++)
        for (int k = 0; k < 2; k++) {
            size_t sets = g->machine->set_count;
            text[k][i] = "ab"[draw(2)];
            assert_int_equal(grammar_state_accept(&s[k], &text[k][i], 1), STATUS_OK);
            grammar_state_copy(&copy, &s[k]);
            bool takes = grammar_state_accept(&copy, "x!?", 3) == STATUS_OK;
            grammar_state_deinit(&copy);
            bool expected = i >= BACK && text[k][i - BACK] == 'a';
            if (takes != expected)
                fail_msg("byte %d of answer %d: %d, not %d", i, k, takes, expected);
            given_up += g->machine->set_count < sets;
        }
    print_message("given up %d times\n", given_up);
    assert_true(given_up >= 2);
    for (int k = 0; k < 2; k++)
        grammar_state_deinit(&s[k]);
    grammar_unref(g);
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    struct words words;
    seed_now = 3;
    random_words(&words, "{}[]\",:ab1 ", 11, 10);
    bool ended = false;
    for (int64_t k = 1; !ended; k++) {
        struct grammar_builder *b = NULL;
        struct grammar *g = NULL;
        struct token_trie *t = NULL;
        struct grammar_state s = {0};
        uint32_t mask[VOCAB / 32 + 1];
        bool any;
        mem_fail_at(k);
        enum status st = grammar_builder_create(&b);
        if (st == STATUS_OK)
            st = build_json(b, &g);
        if (st == STATUS_OK)
            st = words_trie(&words, &t);
        if (st == STATUS_OK)
            st = grammar_state_init(&s, g);
        for (const char *c = "{\"a\": [1"; st == STATUS_OK && *c; c++) {
            st = grammar_state_mask(&s, t, mask, &any);
            if (st == STATUS_OK)
                st = grammar_state_accept(&s, c, 1);
        }
        mem_fail_at(0);
        assert_true(st == STATUS_OK || st == STATUS_NO_MEMORY);
        ended = st == STATUS_OK;
        grammar_state_deinit(&s);
        grammar_unref(g);
        token_trie_destroy(t);
        grammar_builder_destroy(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gbnf_takes_what_it_says),
        cmocka_unit_test(test_gbnf_says_what_is_wrong),
        cmocka_unit_test(test_grammar_equals_a_slow_recogniser),
        cmocka_unit_test(test_mask_equals_trying_every_token),
        cmocka_unit_test(test_mask_of_json),
        cmocka_unit_test(test_mask_of_counts),
        cmocka_unit_test(test_mask_of_plain_tokens),
        cmocka_unit_test(test_counts_are_exact),
        cmocka_unit_test(test_mask_at_the_greatest_depth),
        cmocka_unit_test(test_forms_behind_a_thought),
        cmocka_unit_test(test_cache_gives_up_the_oldest),
        cmocka_unit_test(test_deep_groups_are_refused),
        cmocka_unit_test(test_many_rules_are_refused),
        cmocka_unit_test(test_deep_calls_are_refused),
        cmocka_unit_test(test_heavy_grammars_are_bounded),
        cmocka_unit_test(test_states_outlive_what_is_given_up),
        cmocka_unit_test(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
