/* One pass over the pattern. After each atom (`atom` is where its output begins) a quantifier may
 * stand. Constructs are on an allow-list; the first that is not fails the pattern. */
#include "engine/text/regex_translate.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/limits.h"
#include "engine/base/utf8.h"
#include "engine/text/unicode_late.h"

#define GROUPS_MAX   100
#define APPEND_MAX   (64u << 10) /* no piece of output is longer: tells the cap from lost memory */
#define NAME_MAX_LEN 32
#define WORD_CLASS   "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
/* In Oniguruma a \w outside a character class also takes these. */
#define WORD_ODDITIES "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"
/* White_Space. As ranges it is faster than \p{White_Space}, and unlike \s it leaves out U+180E. */
#define SPACE_CLASS                                                                                \
    "\\x09-\\x0D\\x20\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"        \
    "\\x{205F}\\x{3000}"

struct translation {
    const char *p;
    size_t n;
    size_t i;
    struct strbuf *out;
    size_t atom; /* where the output of the last atom begins */
    bool has_atom;
    size_t groups[GROUPS_MAX]; /* where the output of each open group begins */
    bool caseless[GROUPS_MAX + 1];
    size_t depth;
    struct err *e;
};

static enum status refuse(const struct translation *t, size_t from)
{
    size_t n = t->n - from < 12 ? t->n - from : 12;
    n -= utf8_incomplete_tail(t->p + from, n);
    return err_set(t->e, STATUS_UNSUPPORTED, NULL, "regular expression construct at \"%.*s\"",
                   (int)n, t->p + from);
}

static enum status malformed(const struct translation *t, const char *why)
{
    return err_set(t->e, STATUS_BAD_FILE, NULL, "bad regular expression: %s at byte %zu", why,
                   t->i);
}

static void begin_atom(struct translation *t)
{
    t->atom = t->out->len;
    t->has_atom = true;
}

/* Categories with the long names of the database; the others are tried as scripts. */
static const char *const category_names[][2] = {
    {"letter", "L"},
    {"casedletter", "L&"},
    {"uppercaseletter", "Lu"},
    {"lowercaseletter", "Ll"},
    {"titlecaseletter", "Lt"},
    {"modifierletter", "Lm"},
    {"otherletter", "Lo"},
    {"mark", "M"},
    {"combiningmark", "M"},
    {"nonspacingmark", "Mn"},
    {"spacingmark", "Mc"},
    {"enclosingmark", "Me"},
    {"number", "N"},
    {"decimalnumber", "Nd"},
    {"letternumber", "Nl"},
    {"othernumber", "No"},
    {"punctuation", "P"},
    {"connectorpunctuation", "Pc"},
    {"dashpunctuation", "Pd"},
    {"openpunctuation", "Ps"},
    {"closepunctuation", "Pe"},
    {"initialpunctuation", "Pi"},
    {"finalpunctuation", "Pf"},
    {"otherpunctuation", "Po"},
    {"symbol", "S"},
    {"mathsymbol", "Sm"},
    {"currencysymbol", "Sc"},
    {"modifiersymbol", "Sk"},
    {"othersymbol", "So"},
    {"separator", "Z"},
    {"spaceseparator", "Zs"},
    {"lineseparator", "Zl"},
    {"paragraphseparator", "Zp"},
    {"other", "C"},
    {"control", "Cc"},
    {"format", "Cf"},
    {"privateuse", "Co"},
};

/* The category a property name means, canonical in out; false where it is none. */
static bool find_category(const char *name, char out[3])
{
    const char *hit = NULL;
    for (size_t k = 0; k < sizeof category_names / sizeof category_names[0]; k++) {
        const char *code = category_names[k][1];
        bool is_code = tolower((unsigned char)code[0]) == name[0] &&
                       tolower((unsigned char)code[1]) == name[1] &&
                       (code[1] == '\0' || name[2] == '\0');
        if (is_code || strcmp(name, category_names[k][0]) == 0)
            hit = code;
    }
    if (!hit && strcmp(name, "lc") == 0)
        hit = "L&";
    if (!hit)
        return false;
    memcpy(out, hit, strlen(hit) + 1);
    return true;
}

static bool late_in(const char *category, const char *late)
{
    if (category[1] == '\0')
        return category[0] == late[0];
    if (category[1] == '&')
        return late[0] == 'L' && strchr("ult", late[1]);
    return strcmp(category, late) == 0;
}

static void put_late(struct translation *t, const char *category)
{
    for (size_t k = 0; k < unicode_late_count; k++) {
        const struct unicode_late *u = &unicode_late[k];
        if (!late_in(category, u->category))
            continue;
        if (u->first == u->last)
            strbuf_printf(t->out, "\\x{%X}", u->first);
        else
            strbuf_printf(t->out, "\\x{%X}-\\x{%X}", u->first, u->last);
    }
}

/* At the character after \p or \P. */
static enum status put_property(struct translation *t, bool negated, bool in_class)
{
    size_t from = t->i;
    char name[NAME_MAX_LEN];
    size_t len = 0;
    if (t->i >= t->n || t->p[t->i] != '{')
        return refuse(t, from - 2);
    t->i++;
    if (t->i < t->n && t->p[t->i] == '^') {
        negated = !negated;
        t->i++;
    }
    for (; t->i < t->n && t->p[t->i] != '}'; t->i++) {
        char c = t->p[t->i];
        if (strchr(" _-", c))
            continue;
        if (!isalpha((unsigned char)c) || len + 1 >= sizeof name)
            return refuse(t, from - 2);
        name[len++] = (char)tolower((unsigned char)c);
    }
    if (t->i >= t->n || len == 0)
        return malformed(t, "unfinished property");
    t->i++;
    name[len] = '\0';

    char category[3] = "";
    char plain[NAME_MAX_LEN + 8];
    struct strbuf *out = t->out;
    bool alphabetic = strcmp(name, "alphabetic") == 0 || strcmp(name, "alpha") == 0;
    bool cased = find_category(name, category) && strchr("ult", category[1]) && category[0] == 'L';
    if (cased && category[1] && t->caseless[t->depth])
        return refuse(t, from - 2); /* there it takes letters of the other case too */
    if (category[0])
        snprintf(plain, sizeof plain, "%s", category);
    else if (alphabetic)
        snprintf(plain, sizeof plain, "Alphabetic");
    else if (strcmp(name, "whitespace") == 0 || strcmp(name, "space") == 0)
        snprintf(plain, sizeof plain, "White_Space");
    else
        snprintf(plain, sizeof plain, "sc:%s", name);
    const char *late = alphabetic ? "L" : category;
    if (in_class) {
        strbuf_printf(out, "\\%c{%s}", negated ? 'P' : 'p', plain);
        if (!negated)
            put_late(t, late);
        return STATUS_OK;
    }
    strbuf_printf(out, "[%s\\p{%s}", negated ? "^" : "", plain);
    put_late(t, late);
    strbuf_putc(out, ']');
    return STATUS_OK;
}

/* Sets that are written \s \S and so on. */
static enum status put_set(struct translation *t, char c, bool in_class)
{
    static const struct {
        char name;
        const char *members;
    } sets[] = {{'s', SPACE_CLASS}, {'w', WORD_CLASS}, {'h', "0-9A-Fa-f"}};
    bool negated = isupper((unsigned char)c);
    for (size_t k = 0; k < sizeof sets / sizeof sets[0]; k++) {
        if (sets[k].name != tolower((unsigned char)c))
            continue;
        if (in_class && negated) {
            if (c != 'S')
                return refuse(t, t->i - 2);
            strbuf_puts(t->out, "\\P{White_Space}");
            return STATUS_OK;
        }
        if (!in_class)
            strbuf_puts(t->out, negated ? "[^" : "[");
        strbuf_puts(t->out, sets[k].members);
        if (c == 'w' || c == 'W') {
            if (!in_class)
                strbuf_puts(t->out, WORD_ODDITIES);
            put_late(t, "L");
            put_late(t, "M");
            put_late(t, "Nd");
        }
        if (!in_class)
            strbuf_putc(t->out, ']');
    }
    return STATUS_OK;
}

static enum status put_boundary(struct translation *t, bool negated)
{
    struct strbuf word;
    strbuf_init(&word, 4096);
    struct translation inner = {.out = &word, .e = t->e};
    enum status st = put_set(&inner, 'w', false);
    const char *w = strbuf_str(&word);
    if (st == STATUS_OK && word.failed)
        st = err_set(t->e, STATUS_NO_MEMORY, NULL, "out of memory");
    if (st == STATUS_OK)
        strbuf_printf(
            t->out, negated ? "(?:(?<=%s)(?=%s)|(?<!%s)(?!%s))" : "(?:(?<=%s)(?!%s)|(?<!%s)(?=%s))",
            w, w, w, w);
    strbuf_deinit(&word);
    return st;
}

/* Hexadecimal digits from t->i: at least one, at most `max`. */
static bool take_hex(struct translation *t, size_t max, uint32_t *out)
{
    uint32_t v = 0;
    size_t from = t->i;
    while (t->i < t->n && t->i - from < max && isxdigit((unsigned char)t->p[t->i])) {
        char c = (char)tolower((unsigned char)t->p[t->i++]);
        v = v << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *out = v;
    return t->i > from;
}

/* At the character after \x or \u. */
static enum status put_code_point(struct translation *t, char kind)
{
    size_t from = t->i - 2;
    uint32_t cp = 0;
    if (kind == 'x' && t->i < t->n && t->p[t->i] == '{') {
        t->i++;
        if (!take_hex(t, 6, &cp) || t->i >= t->n || t->p[t->i] != '}')
            return refuse(t, from);
        t->i++;
    } else {
        size_t digits = t->i;
        if (!take_hex(t, kind == 'x' ? 2 : 4, &cp))
            return refuse(t, from);
        /* \xE4 is one raw byte there. */
        if ((kind == 'x' && cp >= 0x80) || (kind == 'u' && t->i - digits != 4))
            return refuse(t, from);
    }
    if (cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF))
        return malformed(t, "code point out of range");
    strbuf_printf(t->out, "\\x{%X}", cp);
    return STATUS_OK;
}

/* At a backslash. */
static enum status put_escape(struct translation *t, bool in_class)
{
    size_t from = t->i;
    if (from + 1 >= t->n)
        return malformed(t, "backslash at the end");
    char c = t->p[from + 1];
    t->i += 2;
    if (!in_class)
        begin_atom(t);
    if (strchr("sSwWhH", c))
        return put_set(t, c, in_class);
    if (c == 'd' || c == 'D') {
        strbuf_printf(t->out,
                      in_class   ? "\\%c{Nd}"
                      : c == 'd' ? "[\\%c{Nd}"
                                 : "[^\\%c{Nd}",
                      in_class && c == 'D' ? 'P' : 'p');
        if (!in_class || c == 'd')
            put_late(t, "Nd");
        if (!in_class)
            strbuf_putc(t->out, ']');
        return STATUS_OK;
    }
    if (c == 'p' || c == 'P')
        return put_property(t, c == 'P', in_class);
    if (c == 'x' || c == 'u')
        return put_code_point(t, c);
    if (strchr("tnrfae", c)) {
        strbuf_printf(t->out, "\\%c", c);
        return STATUS_OK;
    }
    if (c == 'v') {
        strbuf_puts(t->out, "\\x0B");
        return STATUS_OK;
    }
    if (!in_class && strchr("AzZ", c)) {
        t->has_atom = false;
        strbuf_printf(t->out, "\\%c", c);
        return STATUS_OK;
    }
    if (!in_class && (c == 'b' || c == 'B')) {
        t->has_atom = false;
        return put_boundary(t, c == 'B');
    }
    if (isalnum((unsigned char)c))
        return refuse(t, from);
    if ((unsigned char)c < 0x80) {
        strbuf_printf(t->out, "\\%c", c);
        return STATUS_OK;
    }
    t->i = from + 1;
    size_t len = utf8_valid_len(t->p + t->i, t->n - t->i);
    strbuf_append(t->out, t->p + t->i, len);
    t->i += len;
    return STATUS_OK;
}

/* At '['. */
static enum status put_class(struct translation *t)
{
    static const char posix_space[] = "[:space:]";
    begin_atom(t);
    strbuf_putc(t->out, '[');
    t->i++;
    if (t->i < t->n && t->p[t->i] == '^') {
        strbuf_putc(t->out, '^');
        t->i++;
    }
    size_t first = t->i;
    for (;;) {
        if (t->i >= t->n)
            return malformed(t, "unfinished character class");
        char c = t->p[t->i];
        if (c == ']' && t->i > first)
            break;
        if (c == '\\') {
            enum status st = put_escape(t, true);
            if (st != STATUS_OK)
                return st;
        } else if (c == '[') {
            size_t len = sizeof posix_space - 1;
            if (t->n - t->i < len || memcmp(t->p + t->i, posix_space, len) != 0)
                return refuse(t, t->i);
            strbuf_puts(t->out, SPACE_CLASS);
            t->i += len;
        } else if (c == '&' && t->i + 1 < t->n && t->p[t->i + 1] == '&') {
            return refuse(t, t->i);
        } else {
            if (c == ']')
                strbuf_putc(t->out, '\\');
            strbuf_putc(t->out, c);
            t->i++;
        }
    }
    strbuf_putc(t->out, ']');
    t->i++;
    return STATUS_OK;
}

/* At '('. */
static enum status put_group(struct translation *t)
{
    static const char *const kinds[] = {
        "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:"};
    if (t->depth == GROUPS_MAX)
        return err_set(t->e, STATUS_LIMIT, NULL, "regular expression nests more than %d groups",
                       GROUPS_MAX);
    size_t from = t->i;
    const char *open = "(?:";
    size_t len = 1;
    if (from + 1 < t->n && t->p[from + 1] == '?') {
        /* Later in a pattern it would change how alternatives group there. */
        if (from == 0 && t->n >= 4 && memcmp(t->p, "(?i)", 4) == 0) {
            strbuf_puts(t->out, "(?i)");
            t->caseless[0] = true;
            t->i += 4;
            return STATUS_OK;
        }
        open = NULL;
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0] && !open; k++) {
            len = strlen(kinds[k]);
            if (t->n - from >= len && memcmp(t->p + from, kinds[k], len) == 0)
                open = kinds[k];
        }
        if (!open)
            return refuse(t, from);
    } else if (from + 1 < t->n && t->p[from + 1] == '*') {
        return refuse(t, from);
    }
    t->groups[t->depth++] = t->out->len;
    t->caseless[t->depth] =
        strcmp(open, "(?i:") == 0 || (t->caseless[t->depth - 1] && strcmp(open, "(?-i:") != 0);
    strbuf_puts(t->out, open);
    t->i += len;
    t->has_atom = false;
    return STATUS_OK;
}

/* Bounds of {n}, {n,}, {,m} or {n,m} at t->i; *len is 0 where a brace is just a brace. */
static void read_interval(const struct translation *t, unsigned *min, unsigned *max, size_t *len)
{
    size_t i = t->i + 1;
    unsigned v[2] = {0, UINT32_MAX};
    bool given[2] = {false, false};
    bool comma = false;
    *len = 0;
    for (; i < t->n && t->p[i] != '}'; i++) {
        char c = t->p[i];
        if (c == ',' && !comma) {
            comma = true;
        } else if (c >= '0' && c <= '9' && (!given[comma] || v[comma] < 10000)) {
            v[comma] = (given[comma] ? v[comma] : 0) * 10 + (unsigned)(c - '0');
            given[comma] = true;
        } else {
            return;
        }
    }
    if (i >= t->n || (!given[0] && !given[1]))
        return;
    *min = v[0];
    *max = comma ? v[1] : v[0];
    *len = i + 1 - t->i;
}

static void wrap_atom(struct translation *t)
{
    static const char open[] = "(?:";
    size_t n = sizeof open - 1;
    if (!strbuf_reserve(t->out, n))
        return;
    memmove(t->out->data + t->atom + n, t->out->data + t->atom, t->out->len - t->atom);
    memcpy(t->out->data + t->atom, open, n);
    t->out->len += n;
    strbuf_putc(t->out, ')');
}

/* At * + ? or an interval of `len` bytes. */
static enum status put_quantifier(struct translation *t, unsigned min, unsigned max, size_t len)
{
    size_t from = t->i;
    if (!t->has_atom)
        return refuse(t, from);
    t->has_atom = false;
    char c = t->p[from];
    t->i += len;
    if (c != '{') {
        strbuf_putc(t->out, c);
    } else if (max < min) {
        return refuse(t, from);
    } else if (max == UINT32_MAX) {
        strbuf_printf(t->out, "{%u,}", min);
    } else {
        strbuf_printf(t->out, "{%u,%u}", min, max);
    }
    if (t->i >= t->n)
        return STATUS_OK;
    char next = t->p[t->i];
    if (next == '?') {
        if (c == '{' && min == max)
            return refuse(t, from); /* {n}? makes the whole optional there */
    } else if (next == '+' && c == '{') {
        wrap_atom(t); /* intervals have no possessive form there: it repeats the repetition */
    } else if (next != '+') {
        return STATUS_OK;
    }
    strbuf_putc(t->out, next);
    t->i++;
    return STATUS_OK;
}

static enum status put_next(struct translation *t)
{
    unsigned min = 0;
    unsigned max = 0;
    size_t len = 1;
    char c = t->p[t->i];
    switch (c) {
    case '\\':
        return put_escape(t, false);
    case '[':
        return put_class(t);
    case '(':
        return put_group(t);
    case ')':
        if (t->depth == 0)
            return malformed(t, "unmatched ')'");
        t->atom = t->groups[--t->depth];
        t->has_atom = true;
        strbuf_putc(t->out, c);
        t->i++;
        return STATUS_OK;
    case '*':
    case '+':
    case '?':
        return put_quantifier(t, min, max, len);
    case '{':
        read_interval(t, &min, &max, &len);
        if (len)
            return put_quantifier(t, min, max, len);
        begin_atom(t);
        strbuf_puts(t->out, "\\{");
        t->i++;
        return STATUS_OK;
    case '|':
    case '^':
    case '$':
        t->has_atom = false;
        strbuf_putc(t->out, c);
        t->i++;
        return STATUS_OK;
    default:
        begin_atom(t);
        len = utf8_valid_len(t->p + t->i, t->n - t->i);
        strbuf_append(t->out, t->p + t->i, len);
        t->i += len;
        return STATUS_OK;
    }
}

enum status regex_translate(const char *pattern, size_t n, struct strbuf *out, struct err *e)
{
    struct translation t = {.p = pattern, .n = n, .out = out, .e = e};
    if (n > LIMIT_PATTERN_BYTES)
        return err_set(e, STATUS_LIMIT, NULL, "regular expression longer than %u bytes",
                       LIMIT_PATTERN_BYTES);
    if (memchr(pattern, '\0', n) || !utf8_is_valid(pattern, n))
        return err_set(e, STATUS_BAD_FILE, NULL, "regular expression is not text");
    while (t.i < n) {
        enum status st = put_next(&t);
        if (st != STATUS_OK)
            return st;
    }
    if (t.depth > 0)
        return malformed(&t, "missing ')'");
    if (out->failed && out->max - out->len > APPEND_MAX)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    if (out->failed)
        return err_set(e, STATUS_LIMIT, NULL, "regular expression too large when written out");
    return STATUS_OK;
}
