#include "engine/grammar/regular_build.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/vec.h"
#include "engine/grammar/regex_parse.h"

#define STATES_MAX   8000 /* of one language: below LIMIT_GRAMMAR_RULES */
#define INLINE_DEPTH 16   /* states inside each other before one becomes a rule */

/* A set of characters that is a rule: edges of the automaton and what came of them. */
struct set {
    uint32_t first, count; /* in dfa.edges */
    int ref;               /* -1: empty slot */
};

#define SETS       64
#define SETS_EDGES 3 /* fewer ranges are as small as a reference */

struct work {
    struct grammar_builder *b;
    struct regular_dfa dfa;
    enum regular_form form;
    int anything;
    const char *name;
    int *expr;       /* state -> expression that stands for it, -1 until there is one */
    int *rule;       /* state -> rule, -1: none */
    uint32_t *enter; /* state -> states that lead to it, itself left out; 2 for "more" */
    uint32_t *depth; /* of expressions of states inside each other */
    struct grammar_range *ranges;
    size_t ranges_cap;
    int *parts;
    size_t parts_cap;
    struct set *sets; /* [SETS] rules of sets of several ranges, by hash; the last one stays */
};

static bool out_of_memory(struct work *w)
{
    struct err e;
    err_set(&e, STATUS_NO_MEMORY, NULL, "out of memory");
    grammar_build_fail(w->b, &e);
    return false;
}

static bool special(uint32_t cp)
{
    return cp < 0x20 || cp == '"' || cp == '\\';
}

/* The escapes of special characters among the edges, or -1 and *any false. */
static int escapes(struct work *w, const struct regular_edge *x, size_t n, bool *any)
{
    static const char names[] = "\"\\bfnrt", codes[] = "\"\\\b\f\n\r\t";
    struct grammar_range letters[sizeof names];
    size_t letters_count = 0, longs_count = 0;
    int longs[32];
    for (size_t i = 0; i < n; i++)
        for (uint32_t c = x[i].lo; c <= x[i].hi && c <= '\\'; c++) {
            const char *at = c ? strchr(codes, (int)c) : NULL;
            if (!special(c))
                continue;
            if (at) {
                uint32_t letter = (uint8_t)names[at - codes];
                letters[letters_count++] = (struct grammar_range){letter, letter};
            } else {
                char digits[] = {'u', '0', '0', (char)('0' + (c >> 4)), "0123456789abcdef"[c & 15]};
                longs[longs_count++] = grammar_build_literal(w->b, digits, sizeof digits);
            }
        }
    *any = letters_count || longs_count;
    if (!*any)
        return -1;
    int forms[2];
    size_t count = 0;
    if (letters_count)
        forms[count++] = grammar_build_chars(w->b, letters, letters_count, false);
    if (longs_count)
        forms[count++] = grammar_build_alt(w->b, longs, longs_count);
    return grammar_build_seq2(w->b, grammar_build_text(w->b, "\\"),
                              grammar_build_alt(w->b, forms, count));
}

/* One character out of these edges. */
static int spell(struct work *w, const struct regular_edge *x, size_t n)
{
    bool full = n == 2 && x[0].lo == 0 && x[0].hi == 0xD7FF && x[1].lo == 0xE000 &&
                x[1].hi == REGULAR_CODE_MAX;
    if (full && w->anything >= 0)
        return w->anything;
    size_t count = 0;
    if (!VEC_RESERVE(w->ranges, w->ranges_cap, n * 4)) {
        out_of_memory(w);
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t lo = x[i].lo, hi = x[i].hi;
        if (w->form == REGULAR_RAW) {
            w->ranges[count++] = (struct grammar_range){lo, hi};
            continue;
        }
        static const uint32_t cuts[][2] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, REGULAR_CODE_MAX}};
        for (size_t k = 0; k < 3; k++) {
            uint32_t from = lo > cuts[k][0] ? lo : cuts[k][0];
            uint32_t to = hi < cuts[k][1] ? hi : cuts[k][1];
            if (from <= to)
                w->ranges[count++] = (struct grammar_range){from, to};
        }
    }
    bool any = false;
    int escaped = w->form == REGULAR_JSON ? escapes(w, x, n, &any) : -1;
    if (!any)
        return grammar_build_chars(w->b, w->ranges, count, false);
    if (!count)
        return escaped;
    return grammar_build_alt2(w->b, grammar_build_chars(w->b, w->ranges, count, false), escaped);
}

/* As spell; sets of many ranges, which the states of a counted class have in common, become a rule
 * once. `first`: where the edges lie in the automaton. */
static int characters(struct work *w, const struct regular_edge *x, size_t n, uint32_t first)
{
    if (n < SETS_EDGES)
        return spell(w, x, n);
    uint32_t h = (uint32_t)n;
    for (size_t i = 0; i < n; i++)
        h = (h ^ x[i].lo ^ (x[i].hi << 8)) * 0x9E3779B1u;
    struct set *s = &w->sets[h >> 26];
    bool same = s->ref >= 0 && s->count == n;
    for (size_t i = 0; i < n && same; i++)
        same = w->dfa.edges[s->first + i].lo == x[i].lo && w->dfa.edges[s->first + i].hi == x[i].hi;
    if (!same)
        *s = (struct set){first, (uint32_t)n, grammar_build_as_rule(w->b, w->name, spell(w, x, n))};
    return s->ref;
}

static int compare_edges(const void *a, const void *b)
{
    const struct regular_edge *x = a, *y = b;
    if (x->to != y->to)
        return x->to < y->to ? -1 : 1;
    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

/* What stands for state t where an edge leads there. */
static int follow(struct work *w, uint32_t t)
{
    if (w->expr[t] >= 0)
        return w->expr[t];
    if (w->rule[t] < 0)
        w->rule[t] = grammar_build_rule(w->b, w->name);
    return grammar_build_ref(w->b, w->rule[t]);
}

/* The expression of state s: its own loop, then an edge or the end. States behind it are done. */
static bool build_state(struct work *w, uint32_t s)
{
    struct regular_state x = w->dfa.states[s];
    struct regular_edge *edges = x.count ? w->dfa.edges + x.first : NULL;
    if (!VEC_RESERVE(w->parts, w->parts_cap, x.count + 1))
        return out_of_memory(w);
    if (x.count)
        qsort(edges, x.count, sizeof *edges, compare_edges);
    size_t parts = 0;
    int loop = -1;
    bool loops = false;
    uint32_t depth = 0;
    if (x.accept)
        w->parts[parts++] = grammar_build_empty(w->b);
    for (size_t i = 0, k; i < x.count; i = k) {
        uint32_t to = edges[i].to;
        for (k = i; k < x.count && edges[k].to == to; k++)
            ;
        int chars = characters(w, edges + i, k - i, x.first + (uint32_t)i);
        if (to == s) {
            loop = chars;
            loops = true;
            continue;
        }
        if (w->expr[to] >= 0 && w->rule[to] < 0)
            depth = w->depth[to] > depth ? w->depth[to] : depth;
        w->parts[parts++] = grammar_build_seq2(w->b, chars, follow(w, to));
    }
    int expr = grammar_build_alt(w->b, w->parts, parts);
    if (loops)
        expr = grammar_build_seq2(w->b, grammar_build_repeat(w->b, loop, 0, GRAMMAR_NO_MAX), expr);
    w->depth[s] = depth + 1;
    if (s && w->enter[s] == 1 && w->rule[s] < 0 && depth < INLINE_DEPTH) {
        w->expr[s] = expr;
        return true;
    }
    if (w->rule[s] < 0)
        w->rule[s] = grammar_build_rule(w->b, w->name);
    grammar_build_define(w->b, w->rule[s], expr);
    w->expr[s] = grammar_build_ref(w->b, w->rule[s]);
    return !grammar_build_failed(w->b);
}

static void count_entries(struct work *w)
{
    for (size_t s = 0; s < w->dfa.states_count; s++) {
        struct regular_state x = w->dfa.states[s];
        for (uint32_t i = 0; i < x.count; i++) {
            uint32_t to = w->dfa.edges[x.first + i].to;
            bool again = false;
            for (uint32_t k = 0; k < i && !again; k++)
                again = w->dfa.edges[x.first + k].to == to;
            if (to != s && !again && w->enter[to] < 2)
                w->enter[to]++;
        }
    }
}

static bool build_states(struct work *w)
{
    size_t n = w->dfa.states_count;
    w->expr = mem_alloc(n, sizeof *w->expr);
    w->rule = mem_alloc(n, sizeof *w->rule);
    w->enter = mem_calloc(n, sizeof *w->enter);
    w->depth = mem_calloc(n, sizeof *w->depth);
    w->sets = mem_alloc(SETS, sizeof *w->sets);
    if (!w->sets || !w->expr || !w->rule || !w->enter || !w->depth)
        return out_of_memory(w);
    for (size_t s = 0; s < n; s++)
        w->expr[s] = w->rule[s] = -1;
    for (size_t i = 0; i < SETS; i++)
        w->sets[i].ref = -1;
    count_entries(w);
    for (size_t s = n; s-- > 0;)
        if (!build_state(w, (uint32_t)s))
            return false;
    return true;
}

enum status regular_build(struct grammar_builder *b, struct regular *r, uint32_t lang,
                          enum regular_form form, int anything, const char *name, int *out,
                          struct err *e)
{
    struct work w = {.b = b, .form = form, .anything = anything, .name = name};
    enum status s = regular_dfa(r, lang, STATES_MAX, &w.dfa, e);
    if (s != STATUS_OK)
        return s;
    int expr = -1;
    if (!w.dfa.states_count)
        expr = grammar_build_never(b);
    else if (build_states(&w))
        expr = w.expr[0];
    mem_free(w.expr);
    mem_free(w.rule);
    mem_free(w.enter);
    mem_free(w.depth);
    mem_free(w.ranges);
    mem_free(w.parts);
    mem_free(w.sets);
    regular_dfa_deinit(&w.dfa);
    *out = expr;
    return STATUS_OK;
}

int regular_build_pattern(struct grammar_builder *b, const char *pattern, size_t n)
{
    struct regular *r =
        regular_create(clock_thread_cpu_ns() + LIMIT_GRAMMAR_COMPILE_MS * INT64_C(1000000));
    struct err e;
    uint32_t lang;
    int out = -1;
    if (!r) {
        err_set(&e, STATUS_NO_MEMORY, NULL, "out of memory");
        return grammar_build_fail(b, &e);
    }
    enum status s = regex_parse(r, pattern, n, true, &lang, &e);
    if (s == STATUS_OK)
        s = regular_build(b, r, lang, REGULAR_RAW, -1, "regex", &out, &e);
    regular_destroy(r);
    return s == STATUS_OK ? out : grammar_build_fail(b, &e);
}
