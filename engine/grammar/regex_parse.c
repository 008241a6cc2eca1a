#include "engine/grammar/regex_parse.h"

#include <string.h>

#include <utf8proc.h>

#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "engine/base/vec.h"

#define GROUPS_MAX 100   /* inside each other: the parser's own recursion */
#define COUNT_MAX  65535 /* of {m,n} */
/* Beside an atom: it is a lookahead, what follows must be in that language too. */
#define LOOK (UINT32_C(1) << 31)

struct parser {
    struct regular *r;
    const char *s;
    size_t n, i;
    uint32_t *atoms; /* of sequences that are being read, the innermost last */
    size_t atoms_count, atoms_cap;
    struct regular_range *ranges; /* of the class that is being read */
    size_t ranges_count, ranges_cap;
    uint32_t after; /* what follows the pattern in the text */
    bool begun;     /* in a lookahead right behind ^: another ^ holds there */
    enum status failed;
    struct err *e;
};

static const struct regular_range digits[] = {{'0', '9'}};
static const struct regular_range word[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
static const struct regular_range space[] = {
    {'\t', '\r'},     {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
    {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
static const struct regular_range breaks[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

#define COUNT(a) (sizeof(a) / sizeof *(a))

static uint32_t bad(struct parser *p, enum status code, const char *what)
{
    if (p->failed == STATUS_OK)
        p->failed = err_set(p->e, code, NULL, "%s at byte %zu of the pattern", what, p->i);
    return REGULAR_NONE;
}

static uint32_t refuse(struct parser *p, const char *what)
{
    if (p->failed == STATUS_OK)
        p->failed = err_set(p->e, STATUS_UNSUPPORTED, NULL,
                            "%s is not supported (byte %zu of the pattern)", what, p->i);
    return REGULAR_NONE;
}

static bool at(const struct parser *p, const char *text)
{
    size_t len = strlen(text);
    return p->n - p->i >= len && !memcmp(p->s + p->i, text, len);
}

static bool eat(struct parser *p, const char *text)
{
    if (!at(p, text))
        return false;
    p->i += strlen(text);
    return true;
}

static bool more(const struct parser *p)
{
    return p->failed == STATUS_OK && p->i < p->n;
}

static bool add_range(struct parser *p, uint32_t lo, uint32_t hi)
{
    if (!VEC_RESERVE(p->ranges, p->ranges_cap, p->ranges_count + 1)) {
        p->failed = err_set(p->e, STATUS_NO_MEMORY, NULL, "out of memory");
        return false;
    }
    p->ranges[p->ranges_count++] = (struct regular_range){lo, hi};
    return true;
}

/* The ranges, or those between them. */
static void add_ranges(struct parser *p, const struct regular_range *x, size_t n, bool negate)
{
    uint32_t from = 0;
    for (size_t i = 0; i < n; i++) {
        if (!negate) {
            if (!add_range(p, x[i].lo, x[i].hi))
                return;
        } else if (x[i].lo > from && !add_range(p, from, x[i].lo - 1)) {
            return;
        }
        from = x[i].hi + 1;
    }
    if (negate)
        (void)add_range(p, from, REGULAR_CODE_MAX);
}

static uint32_t set_of(struct parser *p, const struct regular_range *x, size_t n, bool negate)
{
    return regular_set(p->r, x, n, negate);
}

/* n hex digits. */
static bool hex(struct parser *p, size_t n, uint32_t *out)
{
    uint32_t v = 0;
    if (p->n - p->i < n)
        return false;
    for (size_t k = 0; k < n; k++) {
        char c = p->s[p->i + k];
        uint32_t d = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                     : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                     : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                            : 99;
        if (d > 15)
            return false;
        v = v * 16 + d;
    }
    p->i += n;
    *out = v;
    return true;
}

static uint32_t unicode_escape(struct parser *p)
{
    uint32_t v = 0, low;
    if (eat(p, "{")) {
        size_t from = p->i;
        while (p->i < p->n && p->s[p->i] != '}')
            p->i++;
        size_t len = p->i - from;
        p->i = from;
        if (len < 1 || len > 8 || !hex(p, len, &v) || !eat(p, "}") || v > REGULAR_CODE_MAX)
            bad(p, STATUS_INVALID, "a broken \\u escape");
        return v;
    }
    if (!hex(p, 4, &v))
        bad(p, STATUS_INVALID, "a broken \\u escape");
    size_t back = p->i;
    if (v >= 0xD800 && v < 0xDC00 && eat(p, "\\u")) {
        if (hex(p, 4, &low) && low >= 0xDC00 && low < 0xE000)
            return 0x10000 + ((v - 0xD800) << 10) + (low - 0xDC00);
        p->i = back;
    }
    return v;
}

/* \p{Lu}: the characters whose general category begins so. */
static void add_category(struct parser *p, bool negate)
{
    size_t from = p->i;
    while (p->i < p->n && p->s[p->i] != '}')
        p->i++;
    size_t len = p->i - from;
    const char *name = p->s + from;
    if (!eat(p, "}") || len < 1 || len > 2 || !memchr("LMNPSZC", name[0], 7)) {
        refuse(p, "\\p{...} beyond general categories (L, Lu, Nd, ...)");
        return;
    }
    bool known = false;
    uint32_t start = 0, cp = 0;
    bool inside = false;
    for (; cp <= REGULAR_CODE_MAX && p->failed == STATUS_OK; cp++) {
        bool in = !strncmp(utf8proc_category_string((utf8proc_int32_t)cp), name, len);
        known |= in;
        in ^= negate;
        if (in && !inside)
            start = cp;
        if (!in && inside && !add_range(p, start, cp - 1))
            return;
        inside = in;
    }
    if (inside)
        (void)add_range(p, start, REGULAR_CODE_MAX);
    if (!known)
        refuse(p, "\\p{...} beyond general categories (L, Lu, Nd, ...)");
}

/* Behind a backslash: one character in *cp and true, or false with a class added to the ranges. */
static bool escape(struct parser *p, bool in_class, uint32_t *cp)
{
    static const char from[] = "tnrfv0", to[] = "\t\n\r\f\v\0";
    if (p->i >= p->n) {
        bad(p, STATUS_INVALID, "a backslash without a character");
        return true;
    }
    char c = p->s[p->i++];
    const char *simple = c ? strchr(from, c) : NULL;
    *cp = (uint8_t)c;
    switch (c) {
    case 'd':
    case 'D':
        add_ranges(p, digits, COUNT(digits), c == 'D');
        return false;
    case 'w':
    case 'W':
        add_ranges(p, word, COUNT(word), c == 'W');
        return false;
    case 's':
    case 'S':
        add_ranges(p, space, COUNT(space), c == 'S');
        return false;
    case 'p':
    case 'P':
        if (!eat(p, "{"))
            refuse(p, "\\p without {...}");
        else
            add_category(p, c == 'P');
        return false;
    case 'u':
        *cp = unicode_escape(p);
        return true;
    case 'x':
        if (!hex(p, 2, cp))
            bad(p, STATUS_INVALID, "a broken \\x escape");
        return true;
    case 'c':
        if (p->i < p->n && ((p->s[p->i] | 32) >= 'a' && (p->s[p->i] | 32) <= 'z'))
            *cp = (uint8_t)p->s[p->i++] & 31;
        else
            bad(p, STATUS_INVALID, "a broken \\c escape");
        return true;
    default:
        break;
    }
    if (c == 'b' && in_class) {
        *cp = '\b';
        return true;
    }
    if (c == 'b' || c == 'B')
        refuse(p, "a word boundary (\\b, \\B)");
    else if ((c >= '1' && c <= '9') || c == 'k')
        refuse(p, "a backreference");
    else if (simple && !(c == '0' && p->i < p->n && p->s[p->i] >= '0' && p->s[p->i] <= '9'))
        *cp = (uint8_t)to[simple - from];
    else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '0')
        refuse(p, "this escape");
    else if ((uint8_t)c >= 0x80) {
        p->i--;
        p->i += utf8_decode(p->s + p->i, p->n - p->i, cp);
    }
    return true;
}

static uint32_t plain_char(struct parser *p)
{
    uint32_t cp = 0;
    p->i += utf8_decode(p->s + p->i, p->n - p->i, &cp);
    return cp;
}

/* Behind '['. */
static uint32_t class(struct parser *p)
{
    bool negate = eat(p, "^");
    p->ranges_count = 0;
    while (more(p) && !at(p, "]")) {
        uint32_t lo, hi;
        if (at(p, "[:"))
            return refuse(p, "a POSIX class");
        bool single = eat(p, "\\") ? escape(p, true, &lo) : (lo = plain_char(p), true);
        if (!single || !at(p, "-") || p->i + 1 >= p->n || p->s[p->i + 1] == ']') {
            if (single && !add_range(p, lo, lo))
                return REGULAR_NONE;
            continue;
        }
        p->i++;
        if (!(eat(p, "\\") ? escape(p, true, &hi) : (hi = plain_char(p), true)))
            return bad(p, STATUS_INVALID, "a range that ends in a class");
        if (hi < lo)
            return bad(p, STATUS_INVALID, "a range that runs backwards");
        if (!add_range(p, lo, hi))
            return REGULAR_NONE;
    }
    if (!eat(p, "]"))
        return bad(p, STATUS_INVALID, "a class without its end");
    return set_of(p, p->ranges, p->ranges_count, negate);
}

static uint32_t alternatives(struct parser *p, int depth);

/* Behind '('. */
static uint32_t group(struct parser *p, int depth)
{
    if (depth >= GROUPS_MAX)
        return bad(p, STATUS_LIMIT, "groups too deep in each other");
    if (eat(p, "?")) {
        if (at(p, "=") || at(p, "!"))
            return refuse(p, "a lookahead inside a group");
        if (at(p, "<=") || at(p, "<!"))
            return refuse(p, "a lookbehind");
        if (at(p, "P=") || at(p, "P>"))
            return refuse(p, "a backreference");
        if (eat(p, "<") || eat(p, "P<")) {
            while (p->i < p->n && p->s[p->i] != '>')
                p->i++;
            if (!eat(p, ">"))
                return bad(p, STATUS_INVALID, "a group's name without its end");
        } else if (!eat(p, ":")) {
            return refuse(p, "this kind of group or flag");
        }
    }
    uint32_t inside = alternatives(p, depth + 1);
    if (p->failed == STATUS_OK && !eat(p, ")"))
        return bad(p, STATUS_INVALID, "a group without its end");
    return inside;
}

static uint32_t atom(struct parser *p, int depth)
{
    uint32_t cp = 0;
    if (eat(p, "("))
        return group(p, depth);
    if (eat(p, "["))
        return class(p);
    if (eat(p, "."))
        return set_of(p, breaks, COUNT(breaks), true);
    if (eat(p, "^"))
        return p->begun ? REGULAR_EMPTY : REGULAR_BEGIN;
    if (eat(p, "$"))
        return REGULAR_END;
    if (at(p, "*") || at(p, "+") || at(p, "?"))
        return bad(p, STATUS_INVALID, "nothing to repeat");
    if (eat(p, "\\")) {
        if (at(p, "A") || at(p, "Z") || at(p, "z")) {
            p->i++;
            return p->s[p->i - 1] == 'A' ? REGULAR_BEGIN : REGULAR_END;
        }
        p->ranges_count = 0;
        if (!escape(p, false, &cp))
            return p->failed ? REGULAR_NONE : set_of(p, p->ranges, p->ranges_count, false);
    } else {
        cp = plain_char(p);
    }
    return p->failed ? REGULAR_NONE : regular_range(p->r, cp, cp);
}

static bool number(struct parser *p, int32_t *out)
{
    size_t from = p->i;
    int32_t v = 0;
    while (p->i < p->n && p->s[p->i] >= '0' && p->s[p->i] <= '9') {
        v = v > COUNT_MAX ? v : v * 10 + (p->s[p->i] - '0');
        p->i++;
    }
    *out = v;
    return p->i > from;
}

/* {m}, {m,} or {m,n}; anything else in braces is text. */
static bool counts(struct parser *p, int32_t *min, int32_t *max)
{
    size_t back = p->i;
    if (eat(p, "{") && number(p, min)) {
        *max = *min;
        if (eat(p, ",") && !number(p, max))
            *max = REGULAR_NO_MAX;
        if (eat(p, "}"))
            return true;
    }
    p->i = back;
    return false;
}

static uint32_t quantified(struct parser *p, int depth)
{
    uint32_t a = atom(p, depth);
    while (more(p)) {
        int32_t min = 0, max = REGULAR_NO_MAX;
        if (eat(p, "+"))
            min = 1;
        else if (eat(p, "?"))
            max = 1;
        else if (!eat(p, "*") && !counts(p, &min, &max))
            break;
        if (min > COUNT_MAX || max > COUNT_MAX)
            return bad(p, STATUS_LIMIT, "a count above 65535");
        if (max != REGULAR_NO_MAX && min > max)
            return bad(p, STATUS_INVALID, "counts that run backwards");
        if (!eat(p, "?") && at(p, "+"))
            return refuse(p, "a possessive quantifier");
        /* A mark that is repeated is still one mark. */
        a = a == REGULAR_BEGIN || a == REGULAR_END ? regular_repeat(p->r, a, min ? 1 : 0, 1)
                                                   : regular_repeat(p->r, a, min, max);
    }
    return a;
}

/* (?=...) or (?!...) outside of groups: all that follows must, or must not, begin so. */
static uint32_t lookahead(struct parser *p, size_t base)
{
    bool negative = p->s[p->i + 2] == '!', outer = p->begun;
    p->i += 3;
    p->begun = p->atoms_count > base;
    for (size_t i = base; i < p->atoms_count; i++)
        p->begun = p->begun && (p->atoms[i] == REGULAR_BEGIN || (p->atoms[i] & LOOK));
    uint32_t inside = alternatives(p, 1);
    p->begun = outer;
    if (p->failed == STATUS_OK && !eat(p, ")"))
        return bad(p, STATUS_INVALID, "a group without its end");
    if (at(p, "*") || at(p, "+") || at(p, "?") || at(p, "{"))
        return refuse(p, "a lookahead that is repeated");
    inside = regular_cat(p->r, inside, REGULAR_ALL);
    return (negative ? regular_not(p->r, inside) : inside) | LOOK;
}

/* Outside of groups the pattern's own end belongs to it, since a lookahead reads on there. */
static uint32_t sequence(struct parser *p, int depth)
{
    size_t base = p->atoms_count;
    uint32_t out = depth ? REGULAR_EMPTY : p->after;
    while (more(p) && !at(p, "|") && !at(p, ")")) {
        bool look = depth == 0 && (at(p, "(?=") || at(p, "(?!"));
        uint32_t a = look ? lookahead(p, base) : quantified(p, depth);
        if (!VEC_RESERVE(p->atoms, p->atoms_cap, p->atoms_count + 1)) {
            p->failed = err_set(p->e, STATUS_NO_MEMORY, NULL, "out of memory");
            return REGULAR_NONE;
        }
        p->atoms[p->atoms_count++] = a;
    }
    while (p->atoms_count > base) {
        uint32_t a = p->atoms[--p->atoms_count];
        out = a & LOOK ? regular_and(p->r, a & ~LOOK, out) : regular_cat(p->r, a, out);
    }
    return out;
}

static uint32_t alternatives(struct parser *p, int depth)
{
    uint32_t out = sequence(p, depth);
    while (more(p) && eat(p, "|"))
        out = regular_or(p->r, out, sequence(p, depth));
    return out;
}

enum status regex_parse(struct regular *r, const char *pattern, size_t n, bool whole, uint32_t *out,
                        struct err *e)
{
    struct parser p = {.r = r, .s = pattern, .n = n, .e = e};
    if (n > LIMIT_PATTERN_BYTES)
        return err_set(e, STATUS_LIMIT, NULL, "a pattern of more than %u bytes",
                       LIMIT_PATTERN_BYTES);
    if (!utf8_is_valid(pattern, n))
        return err_set(e, STATUS_INVALID, NULL, "the pattern is not UTF-8");
    /* The text around a match, with its mark unless the pattern took it. */
    uint32_t text = whole ? REGULAR_EMPTY : REGULAR_TEXT;
    uint32_t before = regular_or(r, REGULAR_EMPTY, regular_cat(r, REGULAR_BEGIN, text));
    p.after = regular_or(r, REGULAR_EMPTY, regular_cat(r, text, REGULAR_END));
    uint32_t body = alternatives(&p, 0);
    if (p.failed == STATUS_OK && p.i < n)
        bad(&p, STATUS_INVALID, "a ) without its group");
    mem_free(p.atoms);
    mem_free(p.ranges);
    if (p.failed != STATUS_OK)
        return p.failed;
    uint32_t all = regular_cat(r, before, body);
    enum status s = regular_status(r, e);
    if (s == STATUS_OK)
        *out = all;
    return s;
}
