#include "engine/text/jinja_lex.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/utf8.h"
#include "engine/text/jinja_char.h"

enum state { STATE_ROOT, STATE_BLOCK, STATE_PRINT };

static enum status fail(struct jinja_lexer *lx, int line, const char *what)
{
    return err_set(lx->err, STATUS_BAD_FILE, NULL, "chat template line %d: %s", line, what);
}

enum status jinja_lexer_init(struct jinja_lexer *lx, struct arena *arena, const char *source,
                             size_t n, struct err *e)
{
    *lx = (struct jinja_lexer){.arena = arena, .err = e, .line = 1, .line_starting = true};
    if (!utf8_is_valid(source, n))
        return err_set(e, STATUS_BAD_FILE, NULL, "chat template is not valid UTF-8");
    char *copy = arena_alloc(arena, n + 1, 1);
    if (!copy)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        char c = source[i];
        if (c == '\r') {
            c = '\n';
            if (i + 1 < n && source[i + 1] == '\n')
                i++;
        }
        copy[len++] = c;
    }
    if (len > 0 && copy[len - 1] == '\n')
        len--;
    lx->src = copy;
    lx->n = len;
    return STATUS_OK;
}

static bool at(const struct jinja_lexer *lx, size_t pos, const char *text)
{
    size_t k = strlen(text);
    return pos <= lx->n && lx->n - pos >= k && memcmp(lx->src + pos, text, k) == 0;
}

/* White space in Python's sense, as many code points as there are. */
static size_t skip_space(const struct jinja_lexer *lx, size_t pos)
{
    while (pos < lx->n) {
        uint32_t cp;
        size_t k = utf8_decode(lx->src + pos, lx->n - pos, &cp);
        if (k == 0 || !jinja_char_is_space(cp))
            break;
        pos += k;
    }
    return pos;
}

/* Moves to `to`, counting lines. */
static void advance(struct jinja_lexer *lx, size_t to)
{
    for (size_t i = lx->pos; i < to; i++)
        lx->line += lx->src[i] == '\n';
    if (to > lx->pos)
        lx->line_starting = lx->src[to - 1] == '\n';
    lx->pos = to;
}

/* End of text [from, to) once the white space before a tag with this sign is dropped. `tag`: not a
 * print tag, so that lstrip_blocks applies. */
static size_t strip_before(const struct jinja_lexer *lx, size_t from, size_t to, char sign,
                           bool tag)
{
    const char *s = lx->src;
    if (sign == '-') {
        while (to > from) {
            size_t k = to - 1;
            while (k > from && ((unsigned char)s[k] & 0xC0) == 0x80)
                k--;
            uint32_t cp;
            if (utf8_decode(s + k, to - k, &cp) == 0 || !jinja_char_is_space(cp))
                break;
            to = k;
        }
        return to;
    }
    if (sign == '+' || !tag)
        return to;
    size_t begin = to;
    while (begin > from && s[begin - 1] != '\n')
        begin--;
    if (begin == from && !lx->line_starting)
        return to;
    return skip_space(lx, begin) >= to ? begin : to;
}

static char sign_at(const struct jinja_lexer *lx, size_t pos)
{
    return pos < lx->n && (lx->src[pos] == '-' || lx->src[pos] == '+') ? lx->src[pos] : '\0';
}

/* End of a closing tag at pos ("%}" or "#}"): with its mark and the white space or newline that
 * goes with it. 0: not there. */
static size_t closing(const struct jinja_lexer *lx, size_t pos, const char *close)
{
    char sign = sign_at(lx, pos);
    size_t p = pos + (sign != '\0');
    if (!at(lx, p, close))
        return 0;
    p += 2;
    if (sign == '-')
        return skip_space(lx, p);
    return sign == '\0' && p < lx->n && lx->src[p] == '\n' ? p + 1 : p;
}

/* Length of a word of the tag at pos, after white space: "raw", "endraw". 0: another word. */
static size_t tag_word(const struct jinja_lexer *lx, size_t pos, const char *word)
{
    pos = skip_space(lx, pos);
    return at(lx, pos, word) ? skip_space(lx, pos + strlen(word)) : 0;
}

static void set_data(struct jinja_lexer *lx, struct jinja_token *out, size_t from, size_t to,
                     int line)
{
    *out = (struct jinja_token){
        .kind = JINJA_T_DATA, .line = line, .text = lx->src + from, .len = to - from};
}

/* Behind "{% raw %}": text up to "{% endraw %}". */
static enum status lex_raw(struct jinja_lexer *lx, struct jinja_token *out)
{
    size_t from = lx->pos;
    int line = lx->line;
    for (size_t p = from; p < lx->n; p++) {
        if (!at(lx, p, "{%"))
            continue;
        char sign = sign_at(lx, p + 2);
        size_t q = tag_word(lx, p + 2 + (sign != '\0'), "endraw");
        size_t end = q ? closing(lx, q, "%}") : 0;
        if (!end)
            continue;
        size_t stop = strip_before(lx, from, p, sign, true);
        advance(lx, end);
        set_data(lx, out, from, stop, line);
        return STATUS_OK;
    }
    return fail(lx, line, "Missing end of raw directive");
}

static enum status skip_comment(struct jinja_lexer *lx)
{
    for (size_t p = lx->pos; p < lx->n; p++) {
        size_t end = closing(lx, p, "#}");
        if (end) {
            advance(lx, end);
            return STATUS_OK;
        }
    }
    return fail(lx, lx->line, "Missing end of comment tag");
}

/* What begins at p, a "{" tag: end of "{% raw %}" or 0. */
static size_t raw_begin(const struct jinja_lexer *lx, size_t p, char sign)
{
    size_t q = tag_word(lx, p + 2 + (sign != '\0'), "raw");
    if (!q)
        return 0;
    if (at(lx, q, "-%}"))
        return skip_space(lx, q + 3);
    return at(lx, q, "%}") ? q + 2 : 0;
}

/* Text up to the next tag, or, when no text is left before it, the tag's BEGIN token. */
static enum status lex_root(struct jinja_lexer *lx, struct jinja_token *out)
{
    for (;;) {
        size_t from = lx->pos;
        size_t p = from;
        while (p < lx->n && !at(lx, p, "{%") && !at(lx, p, "{{") && !at(lx, p, "{#"))
            p++;
        if (p >= lx->n) {
            int line = lx->line;
            advance(lx, lx->n);
            set_data(lx, out, from, lx->n, line);
            if (from == lx->n)
                out->kind = JINJA_T_EOF;
            return STATUS_OK;
        }
        char kind = lx->src[p + 1];
        char sign = sign_at(lx, p + 2);
        size_t stop = strip_before(lx, from, p, sign, kind != '{');
        if (stop > from) {
            set_data(lx, out, from, stop, lx->line);
            advance(lx, p);
            return STATUS_OK;
        }
        advance(lx, p);
        size_t raw = kind == '%' ? raw_begin(lx, p, sign) : 0;
        if (raw) {
            advance(lx, raw);
            enum status st = lex_raw(lx, out);
            if (st != STATUS_OK || out->len > 0)
                return st;
            continue;
        }
        advance(lx, p + 2 + (sign != '\0'));
        if (kind == '#') {
            enum status st = skip_comment(lx);
            if (st != STATUS_OK)
                return st;
            continue;
        }
        lx->state = kind == '%' ? STATE_BLOCK : STATE_PRINT;
        *out = (struct jinja_token){.kind = kind == '%' ? JINJA_T_BLOCK_BEGIN : JINJA_T_PRINT_BEGIN,
                                    .line = lx->line};
        return STATUS_OK;
    }
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Digits that may be joined by single underscores, from pos on. */
static size_t skip_digits(const struct jinja_lexer *lx, size_t pos)
{
    while (pos < lx->n && (is_digit(lx->src[pos]) ||
                           (lx->src[pos] == '_' && pos + 1 < lx->n && is_digit(lx->src[pos + 1]))))
        pos++;
    return pos;
}

/* End of the float literal at pos, or 0. */
static size_t float_end(const struct jinja_lexer *lx, size_t pos)
{
    if (pos > 0 && lx->src[pos - 1] == '.')
        return 0;
    size_t p = skip_digits(lx, pos);
    bool point = false;
    if (p + 1 < lx->n && lx->src[p] == '.' && is_digit(lx->src[p + 1])) {
        p = skip_digits(lx, p + 1);
        point = true;
    }
    if (p < lx->n && (lx->src[p] == 'e' || lx->src[p] == 'E')) {
        size_t q = p + 1;
        if (q < lx->n && (lx->src[q] == '+' || lx->src[q] == '-'))
            q++;
        if (q < lx->n && is_digit(lx->src[q]))
            return skip_digits(lx, q);
    }
    return point ? p : 0;
}

static int digit_value(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return 99;
}

static enum status lex_int(struct jinja_lexer *lx, struct jinja_token *out)
{
    size_t p = lx->pos;
    int base = 10;
    if (lx->src[p] == '0' && p + 1 < lx->n) {
        char c = (char)(lx->src[p + 1] | 0x20);
        int wanted = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
        size_t q = p + 2;
        if (wanted != 10 && q < lx->n && lx->src[q] == '_')
            q++;
        if (wanted != 10 && q < lx->n && digit_value(lx->src[q]) < wanted) {
            base = wanted;
            p = q;
        }
    }
    bool zeros_only = base == 10 && lx->src[p] == '0';
    int64_t v = 0;
    while (p < lx->n) {
        char c = lx->src[p];
        if (c == '_' && p + 1 < lx->n && digit_value(lx->src[p + 1]) < base) {
            p++;
            continue;
        }
        int d = digit_value(c);
        if (d >= base || (zeros_only && d != 0))
            break;
        if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, d, &v))
            return fail(lx, lx->line, "integer beyond 64 bits");
        p++;
    }
    *out = (struct jinja_token){.kind = JINJA_T_INT, .line = lx->line, .i = v};
    advance(lx, p);
    return STATUS_OK;
}

static enum status lex_float(struct jinja_lexer *lx, size_t end, struct jinja_token *out)
{
    char text[400];
    size_t k = 0;
    for (size_t p = lx->pos; p < end; p++) {
        if (k + 1 >= sizeof text)
            return fail(lx, lx->line, "number is too long");
        if (lx->src[p] != '_')
            text[k++] = lx->src[p];
    }
    text[k] = '\0';
    *out = (struct jinja_token){.kind = JINJA_T_FLOAT, .line = lx->line, .f = strtod(text, NULL)};
    advance(lx, end);
    return STATUS_OK;
}

/* Hexadecimal digits of an escape: exactly `count`, or the string is refused. */
static bool hex_escape(const char *s, size_t n, size_t count, uint32_t *cp)
{
    *cp = 0;
    if (n < count)
        return false;
    for (size_t i = 0; i < count; i++) {
        int d = digit_value(s[i]);
        if (d >= 16)
            return false;
        *cp = *cp << 4 | (uint32_t)d;
    }
    return *cp <= 0x10FFFF && !(*cp >= 0xD800 && *cp <= 0xDFFF);
}

/* One escape at s (behind the backslash); writes its bytes, returns how many source bytes it took,
 * 0 when it is malformed. A backslash before any other character stays. */
static size_t unescape_one(const char *s, size_t n, char *out, size_t *k)
{
    static const char plain[] = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v";
    uint32_t cp;
    if (s[0] == '\n')
        return 1;
    for (size_t i = 0; i + 1 < sizeof plain - 1; i += 2) {
        if (s[0] == plain[i]) {
            out[(*k)++] = plain[i + 1];
            return 1;
        }
    }
    if (s[0] >= '0' && s[0] <= '7') {
        size_t p = 0;
        cp = 0;
        while (p < 3 && p < n && s[p] >= '0' && s[p] <= '7')
            cp = cp << 3 | (uint32_t)(s[p++] - '0');
        *k += utf8_encode(cp, out + *k);
        return p;
    }
    size_t digits = s[0] == 'x' ? 2 : s[0] == 'u' ? 4 : s[0] == 'U' ? 8 : 0;
    if (digits) {
        if (!hex_escape(s + 1, n - 1, digits, &cp))
            return 0;
        *k += utf8_encode(cp, out + *k);
        return digits + 1;
    }
    if (s[0] == 'N')
        return 0;
    out[(*k)++] = '\\';
    size_t len = utf8_decode(s, n, &cp);
    if (len > 1) {
        /* The reference implementation escapes the source to ASCII first, so a backslash before
         * such a character takes the first character of that escape. */
        char esc[12];
        int w = snprintf(esc, sizeof esc,
                         cp < 0x100     ? "x%02x"
                         : cp < 0x10000 ? "u%04x"
                                        : "U%08x",
                         cp);
        memcpy(out + *k, esc, (size_t)w);
        *k += (size_t)w;
        return len;
    }
    out[(*k)++] = s[0];
    return 1;
}

static enum status lex_string(struct jinja_lexer *lx, struct jinja_token *out)
{
    const char *s = lx->src;
    char quote = s[lx->pos];
    size_t from = lx->pos + 1;
    size_t end = from;
    bool escapes = false;
    while (end < lx->n && s[end] != quote) {
        if (s[end] == '\\') {
            escapes = true;
            end++;
        }
        end++;
    }
    if (end >= lx->n)
        return fail(lx, lx->line, quote == '"' ? "unexpected char '\"'" : "unexpected char \"'\"");
    *out = (struct jinja_token){
        .kind = JINJA_T_STRING, .line = lx->line, .text = s + from, .len = end - from};
    if (escapes) {
        /* at most 10 bytes come from 5: a backslash before a four-byte character */
        char *text = arena_alloc(lx->arena, out->len * 2 + 1, 1);
        if (!text)
            return err_set(lx->err, STATUS_NO_MEMORY, NULL, "out of memory");
        size_t k = 0;
        for (size_t p = from; p < end;) {
            if (s[p] != '\\') {
                text[k++] = s[p++];
                continue;
            }
            size_t took = unescape_one(s + p + 1, end - p - 1, text, &k);
            if (took == 0)
                return fail(lx, lx->line, "bad escape in string");
            p += 1 + took;
        }
        out->text = text;
        out->len = k;
    }
    advance(lx, end + 1);
    return STATUS_OK;
}

/* Word characters as a run; the parser's idea of a name needs a proper first character. */
static enum status lex_name(struct jinja_lexer *lx, size_t end, struct jinja_token *out)
{
    *out = (struct jinja_token){
        .kind = JINJA_T_NAME, .line = lx->line, .text = lx->src + lx->pos, .len = end - lx->pos};
    uint32_t cp;
    utf8_decode(out->text, out->len, &cp);
    if (!(cp == '_' || jinja_char_is_alpha(cp)))
        return fail(lx, lx->line, "Invalid character in identifier");
    advance(lx, end);
    return STATUS_OK;
}

static size_t name_end(const struct jinja_lexer *lx, size_t pos)
{
    while (pos < lx->n) {
        uint32_t cp;
        size_t k = utf8_decode(lx->src + pos, lx->n - pos, &cp);
        if (!jinja_char_is_word(cp))
            break;
        pos += k;
    }
    return pos;
}

static enum status track_bracket(struct jinja_lexer *lx, char c)
{
    if (c == '(' || c == '[' || c == '{') {
        if (lx->bracket_count == sizeof lx->brackets)
            return err_set(lx->err, STATUS_LIMIT, NULL,
                           "chat template line %d: nested more than %d deep", lx->line,
                           (int)sizeof lx->brackets);
        lx->brackets[lx->bracket_count++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (lx->bracket_count == 0 || lx->brackets[--lx->bracket_count] != c)
            return fail(lx, lx->line, "unexpected closing bracket");
    }
    return STATUS_OK;
}

static enum status lex_operator(struct jinja_lexer *lx, struct jinja_token *out)
{
    static const char pairs[] = "//**==!=>=<=";
    const char *s = lx->src + lx->pos;
    size_t left = lx->n - lx->pos;
    *out = (struct jinja_token){.kind = JINJA_T_OP, .line = lx->line};
    for (size_t i = 0; left >= 2 && i + 1 < sizeof pairs - 1; i += 2) {
        if (s[0] == pairs[i] && s[1] == pairs[i + 1]) {
            out->op = JINJA_OP2(s[0], s[1]);
            advance(lx, lx->pos + 2);
            return STATUS_OK;
        }
    }
    if (s[0] == '\0' || !strchr("+-/*%~[](){}><=.:|,;", s[0])) {
        char what[48];
        snprintf(what, sizeof what, "unexpected char '%.*s'", (int)utf8_valid_len(s, left), s);
        return fail(lx, lx->line, what);
    }
    out->op = s[0];
    advance(lx, lx->pos + 1);
    return track_bracket(lx, s[0]);
}

enum status jinja_lexer_next(struct jinja_lexer *lx, struct jinja_token *out)
{
    if (lx->state == STATE_ROOT)
        return lex_root(lx, out);
    bool block = lx->state == STATE_BLOCK;
    for (;;) {
        size_t pos = lx->pos;
        if (lx->bracket_count == 0) {
            /* a print tag knows no "+" and keeps the newline behind it */
            size_t end = 0;
            if (block)
                end = closing(lx, pos, "%}");
            else if (at(lx, pos, "-}}"))
                end = skip_space(lx, pos + 3);
            else if (at(lx, pos, "}}"))
                end = pos + 2;
            if (end) {
                *out = (struct jinja_token){.kind = block ? JINJA_T_BLOCK_END : JINJA_T_PRINT_END,
                                            .line = lx->line};
                advance(lx, end);
                lx->state = STATE_ROOT;
                return STATUS_OK;
            }
        }
        if (pos >= lx->n) {
            *out = (struct jinja_token){.kind = JINJA_T_EOF, .line = lx->line};
            return STATUS_OK;
        }
        size_t space = skip_space(lx, pos);
        if (space == pos)
            break;
        advance(lx, space);
    }
    if (is_digit(lx->src[lx->pos])) {
        size_t end = float_end(lx, lx->pos);
        return end ? lex_float(lx, end, out) : lex_int(lx, out);
    }
    size_t end = name_end(lx, lx->pos);
    if (end > lx->pos)
        return lex_name(lx, end, out);
    if (lx->src[lx->pos] == '"' || lx->src[lx->pos] == '\'')
        return lex_string(lx, out);
    return lex_operator(lx, out);
}

void jinja_token_describe(const struct jinja_token *t, char *out, size_t n)
{
    static const char *const names[] = {
        [JINJA_T_EOF] = "end of template", [JINJA_T_DATA] = "template text",
        [JINJA_T_BLOCK_BEGIN] = "{%",      [JINJA_T_BLOCK_END] = "end of statement block",
        [JINJA_T_PRINT_BEGIN] = "{{",      [JINJA_T_PRINT_END] = "end of print statement",
        [JINJA_T_STRING] = "string",       [JINJA_T_INT] = "integer",
        [JINJA_T_FLOAT] = "float",
    };
    if (t->kind == JINJA_T_NAME)
        snprintf(out, n, "%.*s", t->len < 64 ? (int)t->len : 64, t->text);
    else if (t->kind == JINJA_T_OP)
        snprintf(out, n, "%c%c", t->op & 0xFF, t->op >> 8);
    else
        snprintf(out, n, "%s", names[t->kind]);
}
