#include "engine/grammar/gbnf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "engine/base/vec.h"

#define TIMES_MAX 1000000000

struct reader {
    struct grammar_builder *b;
    const char *text;
    size_t at;
    size_t n;
    int *parts; /* owned: expressions of the sequences and alternatives under way */
    size_t part_count, part_cap;
    struct grammar_range *ranges; /* owned: of one class */
    size_t range_count, range_cap;
};

static int fail(struct reader *r, enum status code, const char *fmt, ...) PRINTF_LIKE(3, 4);

static int fail(struct reader *r, enum status code, const char *fmt, ...)
{
    char what[256];
    va_list args;
    int line = 1;
    struct err e;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    for (size_t i = 0; i < r->at && i < r->n; i++)
        line += r->text[i] == '\n';
    err_set(&e, code, NULL, "Grammar, line %d: %s.", line, what);
    return grammar_build_fail(r->b, &e);
}

static int no_memory(struct reader *r)
{
    struct err e;
    err_set(&e, STATUS_NO_MEMORY, NULL, "Out of memory for a grammar.");
    return grammar_build_fail(r->b, &e);
}

/* ---- signs ---- */

static int peek(const struct reader *r, size_t ahead)
{
    return r->at + ahead < r->n ? (uint8_t)r->text[r->at + ahead] : -1;
}

static bool is_name(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

/* White space and comments; `lines`: over the ends of lines too. */
static void skip(struct reader *r, bool lines)
{
    for (;;) {
        int c = peek(r, 0);
        if (c == '#')
            while (r->at < r->n && r->text[r->at] != '\n' && r->text[r->at] != '\r')
                r->at++;
        else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r')))
            r->at++;
        else
            return;
    }
}

static int hex_digit(int c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool read_hex(struct reader *r, int digits, uint32_t *cp)
{
    uint32_t v = 0;
    for (int i = 0; i < digits; i++) {
        int d = hex_digit(peek(r, (size_t)i));
        if (d < 0) {
            fail(r, STATUS_INVALID, "an escape needs %d hexadecimal digits", digits);
            return false;
        }
        v = v * 16 + (uint32_t)d;
    }
    if (v > 0x10FFFF || (v >= 0xD800 && v <= 0xDFFF)) {
        fail(r, STATUS_INVALID, "U+%04X is not a character", v);
        return false;
    }
    r->at += (size_t)digits;
    *cp = v;
    return true;
}

/* One character of a literal or a class, escapes resolved. */
static bool read_char(struct reader *r, uint32_t *cp)
{
    static const char from[] = "nrt\\\"[]-^'/";
    static const char to[] = "\n\r\t\\\"[]-^'/";
    if (peek(r, 0) != '\\') {
        size_t len = utf8_decode(r->text + r->at, r->n - r->at, cp);
        if (len == 0)
            fail(r, STATUS_INVALID, r->at < r->n ? "the text is not UTF-8" : "the text ends here");
        r->at += len;
        return len > 0;
    }
    int c = peek(r, 1);
    const char *known = c > 0 ? strchr(from, c) : NULL;
    r->at += 2;
    if (c == 'x')
        return read_hex(r, 2, cp);
    if (c == 'u')
        return read_hex(r, 4, cp);
    if (c == 'U')
        return read_hex(r, 8, cp);
    if (!known) {
        fail(r, STATUS_INVALID, "an unknown escape");
        return false;
    }
    *cp = (uint8_t)to[known - from];
    return true;
}

/* ---- terms ---- */

static int read_literal(struct reader *r)
{
    int expr = -1;
    size_t n = 0, cap = 0;
    char *bytes = NULL;
    for (r->at++; peek(r, 0) != '"';) {
        uint32_t cp;
        if (!read_char(r, &cp))
            goto done;
        if (!VEC_RESERVE(bytes, cap, n + 4)) {
            no_memory(r);
            goto done;
        }
        n += utf8_encode(cp, bytes + n);
    }
    r->at++;
    expr = grammar_build_literal(r->b, n > 0 ? bytes : "", n);
done:
    mem_free(bytes);
    return expr;
}

static int read_class(struct reader *r)
{
    bool negated = peek(r, 1) == '^';
    r->at += negated ? 2 : 1;
    r->range_count = 0;
    while (peek(r, 0) != ']') {
        struct grammar_range range;
        if (!read_char(r, &range.first))
            return -1;
        range.last = range.first;
        if (peek(r, 0) == '-' && peek(r, 1) != ']') {
            r->at++;
            if (!read_char(r, &range.last))
                return -1;
        }
        if (range.first > range.last)
            return fail(r, STATUS_INVALID, "a range ends before it begins");
        if (!VEC_RESERVE(r->ranges, r->range_cap, r->range_count + 1))
            return no_memory(r);
        r->ranges[r->range_count++] = range;
    }
    r->at++;
    return grammar_build_chars(r->b, r->ranges, r->range_count, negated);
}

static int read_name(struct reader *r)
{
    size_t from = r->at;
    while (is_name(peek(r, 0)))
        r->at++;
    return grammar_build_rule_named(r->b, r->text + from, r->at - from);
}

static int read_group(struct reader *r, int depth);

static int read_term(struct reader *r, int depth)
{
    int c = peek(r, 0);
    if (c == '"')
        return read_literal(r);
    if (c == '[')
        return read_class(r);
    if (c == '(')
        return read_group(r, depth);
    if (c == '.') {
        r->at++;
        return grammar_build_chars(r->b, NULL, 0, true);
    }
    return grammar_build_ref(r->b, read_name(r));
}

/* ---- repetition ---- */

static bool read_number(struct reader *r, int *out)
{
    int64_t v = 0;
    if (peek(r, 0) < '0' || peek(r, 0) > '9') {
        fail(r, STATUS_INVALID, "a repetition needs a number");
        return false;
    }
    for (; peek(r, 0) >= '0' && peek(r, 0) <= '9'; r->at++) {
        v = v * 10 + (peek(r, 0) - '0');
        if (v > TIMES_MAX) {
            fail(r, STATUS_LIMIT, "a repetition of more than %d times", TIMES_MAX);
            return false;
        }
    }
    skip(r, false);
    *out = (int)v;
    return true;
}

static bool read_times(struct reader *r, int *min, int *max)
{
    r->at++;
    skip(r, false);
    *min = 0;
    if (peek(r, 0) != ',' && !read_number(r, min))
        return false;
    *max = *min;
    if (peek(r, 0) == ',') {
        r->at++;
        skip(r, false);
        *max = GRAMMAR_NO_MAX;
        if (peek(r, 0) != '}' && !read_number(r, max))
            return false;
    }
    if (peek(r, 0) != '}' || (*max >= 0 && *max < *min)) {
        fail(r, STATUS_INVALID, "a repetition is {m}, {m,} or {m,n} with m <= n");
        return false;
    }
    r->at++;
    return true;
}

static int read_repeats(struct reader *r, int expr)
{
    int min, max;
    while (!grammar_build_failed(r->b)) {
        int c = peek(r, 0);
        min = c == '+';
        max = c == '?' ? 1 : GRAMMAR_NO_MAX;
        if (c == '{') {
            if (!read_times(r, &min, &max))
                return -1;
        } else if (c == '?' || c == '*' || c == '+') {
            r->at++;
        } else {
            return expr;
        }
        expr = grammar_build_repeat(r->b, expr, min, max);
        skip(r, false);
    }
    return -1;
}

/* ---- sequences, alternatives, rules ---- */

static bool push(struct reader *r, int expr)
{
    if (expr < 0)
        return false;
    if (!VEC_RESERVE(r->parts, r->part_cap, r->part_count + 1)) {
        no_memory(r);
        return false;
    }
    r->parts[r->part_count++] = expr;
    return true;
}

static bool begins_term(int c)
{
    return c == '"' || c == '[' || c == '(' || c == '.' || is_name(c);
}

static int read_sequence(struct reader *r, int depth)
{
    size_t base = r->part_count;
    skip(r, depth > 0);
    while (begins_term(peek(r, 0))) {
        int term = read_term(r, depth);
        skip(r, false);
        if (!push(r, read_repeats(r, term)))
            return -1;
        skip(r, depth > 0);
    }
    size_t count = r->part_count - base;
    int expr = grammar_build_seq(r->b, count > 0 ? r->parts + base : NULL, count);
    r->part_count = base;
    return expr;
}

/* Groups inside each other are at most LIMIT_GRAMMAR_DEPTH deep. */
static int read_alternatives(struct reader *r, int depth)
{
    size_t base = r->part_count;
    if (!push(r, read_sequence(r, depth)))
        return -1;
    while (peek(r, 0) == '|') {
        r->at++;
        skip(r, true);
        if (!push(r, read_sequence(r, depth)))
            return -1;
    }
    int expr = grammar_build_alt(r->b, r->parts + base, r->part_count - base);
    r->part_count = base;
    return expr;
}

static int read_group(struct reader *r, int depth)
{
    if (depth >= LIMIT_GRAMMAR_DEPTH)
        return fail(r, STATUS_LIMIT, "groups are nested more than %d deep", LIMIT_GRAMMAR_DEPTH);
    r->at++;
    int expr = read_alternatives(r, depth + 1);
    if (expr < 0)
        return -1;
    if (peek(r, 0) != ')')
        return fail(r, STATUS_INVALID, "a group is not closed");
    r->at++;
    return expr;
}

static bool read_rule(struct reader *r)
{
    if (!is_name(peek(r, 0)))
        return fail(r, STATUS_INVALID, "a rule begins with its name") == 0;
    int rule = read_name(r);
    skip(r, false);
    if (peek(r, 0) != ':' || peek(r, 1) != ':' || peek(r, 2) != '=')
        return fail(r, STATUS_INVALID, "::= is missing behind the name of a rule") == 0;
    r->at += 3;
    skip(r, true);
    int expr = read_alternatives(r, 0);
    if (expr < 0)
        return false;
    int c = peek(r, 0);
    if (c != '\n' && c != '\r' && c != -1)
        return fail(r, STATUS_INVALID, "'%c' does not belong here", c > ' ' && c < 127 ? c : '?') ==
               0;
    grammar_build_define(r->b, rule, expr);
    return !grammar_build_failed(r->b);
}

int gbnf_read(struct grammar_builder *b, const char *text, size_t n)
{
    struct reader r = {.b = b, .text = text, .n = n};
    if (n > LIMIT_GRAMMAR_TEXT_BYTES)
        fail(&r, STATUS_LIMIT, "the text has more than %d bytes", LIMIT_GRAMMAR_TEXT_BYTES);
    int root = grammar_build_rule_named(b, "root", 4);
    skip(&r, true);
    while (r.at < n && !grammar_build_failed(b) && read_rule(&r))
        skip(&r, true);
    mem_free(r.parts);
    mem_free(r.ranges);
    return grammar_build_failed(b) ? -1 : root;
}
