#include "engine/text/json_reader.h"

#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "engine/base/vec.h"

void json_reader_init(struct json_reader *r, const char *text, size_t n)
{
    *r = (struct json_reader){.text = text, .n = n};
}

void json_reader_deinit(struct json_reader *r)
{
    mem_free(r->unescaped);
    r->unescaped = NULL;
}

bool json_reader_fail(struct json_reader *r, const char *why)
{
    if (!r->why)
        r->why = why;
    return false;
}

static void skip_space(struct json_reader *r)
{
    while (r->i < r->n) {
        char c = r->text[r->i];
        if (c != ' ' && c != '\n' && c != '\t' && c != '\r')
            return;
        r->i++;
    }
}

char json_reader_peek(struct json_reader *r)
{
    if (r->why)
        return 0;
    skip_space(r);
    return r->i < r->n ? r->text[r->i] : '\0';
}

bool json_reader_enter(struct json_reader *r, char open)
{
    if (json_reader_peek(r) != open)
        return json_reader_fail(r, open == '{' ? "expected an object" : "expected an array");
    r->i++;
    return true;
}

bool json_reader_next(struct json_reader *r, char close, bool *first)
{
    char c = json_reader_peek(r);
    if (c == close) {
        r->i++;
        return false;
    }
    if (*first) {
        *first = false;
        return c != 0 || json_reader_fail(r, "unexpected end");
    }
    if (c != ',')
        return json_reader_fail(r, "expected ',' or a closing bracket");
    r->i++;
    return true;
}

static int hex4(const struct json_reader *r, size_t at)
{
    int v = 0;
    if (at + 4 > r->n)
        return -1;
    for (size_t k = at; k < at + 4; k++) {
        char c = r->text[k];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0)
            return -1;
        v = v << 4 | d;
    }
    return v;
}

/* At \u; moves behind it, and behind its second half where it is a pair. */
static size_t unescape_unicode(struct json_reader *r, char out[4])
{
    int v = hex4(r, r->i + 2);
    if (v < 0)
        return json_reader_fail(r, "bad \\u escape in string");
    r->i += 6;
    uint32_t cp = (uint32_t)v;
    if (v >= 0xD800 && v <= 0xDFFF) {
        bool pair =
            v <= 0xDBFF && r->i + 1 < r->n && r->text[r->i] == '\\' && r->text[r->i + 1] == 'u';
        int low = pair ? hex4(r, r->i + 2) : -1;
        if (low < 0xDC00 || low > 0xDFFF)
            return json_reader_fail(r, "lone surrogate in string");
        r->i += 6;
        cp = 0x10000 + ((uint32_t)(v - 0xD800) << 10) + (uint32_t)(low - 0xDC00);
    }
    return utf8_encode(cp, out);
}

/* At a backslash. Bytes written, 0 after a failure. */
static size_t unescape(struct json_reader *r, char out[4])
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    if (r->i + 1 >= r->n)
        return json_reader_fail(r, "unterminated string");
    char c = r->text[r->i + 1];
    if (c == 'u')
        return unescape_unicode(r, out);
    const char *hit = c ? strchr(from, c) : NULL;
    if (!hit)
        return json_reader_fail(r, "bad escape in string");
    out[0] = to[hit - from];
    r->i += 2;
    return 1;
}

/* Moves over bytes that stand for themselves. */
static bool plain_run(struct json_reader *r)
{
    while (r->i < r->n) {
        unsigned char c = (unsigned char)r->text[r->i];
        if (c == '"' || c == '\\')
            return true;
        if (c < 0x20)
            return json_reader_fail(r, "control character in string");
        size_t len = c < 0x80 ? 1 : utf8_valid_len(r->text + r->i, r->n - r->i);
        if (len == 0)
            return json_reader_fail(r, "invalid UTF-8");
        r->i += len;
    }
    return json_reader_fail(r, "unterminated string");
}

static bool append(struct json_reader *r, size_t *len, const char *s, size_t n)
{
    if (!VEC_RESERVE(r->unescaped, r->unescaped_cap, *len + n + 1))
        return json_reader_fail(r, "out of memory");
    memcpy(r->unescaped + *len, s, n);
    *len += n;
    return true;
}

bool json_reader_string(struct json_reader *r, struct json_text *out)
{
    if (json_reader_peek(r) != '"')
        return json_reader_fail(r, "expected a string");
    size_t from = ++r->i;
    if (!plain_run(r))
        return false;
    if (r->text[r->i] == '"') {
        *out = (struct json_text){r->text + from, r->i - from};
        r->i++;
        return true;
    }
    size_t len = 0;
    for (;;) {
        if (!append(r, &len, r->text + from, r->i - from))
            return false;
        if (r->text[r->i] == '"')
            break;
        char raw[4];
        size_t n = unescape(r, raw);
        if (n == 0 || !append(r, &len, raw, n))
            return false;
        from = r->i;
        if (!plain_run(r))
            return false;
    }
    r->i++;
    *out = (struct json_text){r->unescaped, len};
    return true;
}

bool json_reader_key(struct json_reader *r, struct json_text *out)
{
    if (!json_reader_string(r, out))
        return false;
    if (json_reader_peek(r) != ':')
        return json_reader_fail(r, "expected ':'");
    r->i++;
    return true;
}

bool json_reader_uint(struct json_reader *r, uint32_t max, uint32_t *out)
{
    char c = json_reader_peek(r);
    if (c < '0' || c > '9')
        return json_reader_fail(r, "expected a whole number");
    uint64_t v = 0;
    size_t from = r->i;
    while (r->i < r->n && r->text[r->i] >= '0' && r->text[r->i] <= '9') {
        v = v * 10 + (uint64_t)(r->text[r->i++] - '0');
        if (v > max)
            return json_reader_fail(r, "number out of range");
    }
    if ((c == '0' && r->i - from > 1) || (r->i < r->n && strchr(".eE", r->text[r->i])))
        return json_reader_fail(r, "expected a whole number");
    *out = (uint32_t)v;
    return true;
}

/* At the quote; moves behind the closing one. */
static bool skip_string(struct json_reader *r)
{
    for (r->i++; r->i < r->n; r->i++) {
        if (r->text[r->i] == '"') {
            r->i++;
            return true;
        }
        if (r->text[r->i] == '\\')
            r->i++;
    }
    return json_reader_fail(r, "unterminated string");
}

static bool ends_scalar(char c)
{
    return c == ',' || c == '}' || c == ']' || c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

bool json_reader_skip(struct json_reader *r, struct json_text *out)
{
    if (json_reader_peek(r) == 0)
        return json_reader_fail(r, "unexpected end");
    size_t from = r->i;
    size_t depth = 0;
    do {
        if (r->i >= r->n)
            return json_reader_fail(r, "unexpected end");
        char c = r->text[r->i];
        if (c == '"') {
            if (!skip_string(r))
                return false;
        } else if (c == '{' || c == '[') {
            depth++;
            r->i++;
        } else if (depth > 0) {
            depth -= c == '}' || c == ']';
            r->i++;
        } else {
            while (r->i < r->n && !ends_scalar(r->text[r->i]))
                r->i++;
        }
    } while (depth > 0);
    if (r->i == from)
        return json_reader_fail(r, "unexpected character");
    *out = (struct json_text){r->text + from, r->i - from};
    return true;
}

bool json_reader_bool(struct json_reader *r, bool *out)
{
    struct json_text v;
    if (!json_reader_skip(r, &v))
        return false;
    *out = json_text_equal(v, "true");
    return *out || json_text_equal(v, "false") || json_reader_fail(r, "expected true or false");
}

bool json_text_equal(struct json_text a, const char *b)
{
    return a.n == strlen(b) && memcmp(a.p, b, a.n) == 0;
}
