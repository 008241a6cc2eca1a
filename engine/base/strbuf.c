#include "engine/base/strbuf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/checked.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"

void strbuf_init(struct strbuf *b, size_t max_bytes)
{
    *b = (struct strbuf){.max = max_bytes};
}

void strbuf_deinit(struct strbuf *b)
{
    mem_free(b->data);
    b->data = NULL;
    b->len = b->cap = 0;
}

void strbuf_clear(struct strbuf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data)
        b->data[0] = '\0';
}

char *strbuf_reserve(struct strbuf *b, size_t n)
{
    size_t need;
    if (b->failed || !checked_add(b->len, n, &need) || need > b->max ||
        !checked_add(need, 1, &need)) {
        b->failed = true;
        return NULL;
    }
    if (need > b->cap) {
        size_t cap = b->cap ? b->cap : 64;
        while (cap < need)
            cap = cap > SIZE_MAX / 2 ? need : cap * 2;
        char *data = mem_realloc(b->data, cap, 1);
        if (!data) {
            b->failed = true;
            return NULL;
        }
        b->data = data;
        b->cap = cap;
    }
    return b->data + b->len;
}

void strbuf_append(struct strbuf *b, const char *s, size_t n)
{
    char *dst = strbuf_reserve(b, n);
    if (!dst)
        return;
    if (n)
        memcpy(dst, s, n);
    b->len += n;
    b->data[b->len] = '\0';
}

void strbuf_puts(struct strbuf *b, const char *s)
{
    strbuf_append(b, s, strlen(s));
}

void strbuf_putc(struct strbuf *b, char c)
{
    strbuf_append(b, &c, 1);
}

void strbuf_printf(struct strbuf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *dst = n >= 0 ? strbuf_reserve(b, (size_t)n) : NULL;
    if (dst) {
        vsnprintf(dst, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    } else {
        b->failed = true;
    }
    va_end(again);
}

const char *strbuf_str(const struct strbuf *b)
{
    return b->data ? b->data : "";
}

char *strbuf_take(struct strbuf *b)
{
    if (b->failed)
        return NULL;
    char *out = b->data ? b->data : mem_strdup("");
    b->data = NULL;
    b->len = b->cap = 0;
    return out;
}

void strbuf_json_string(struct strbuf *b, const char *s, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    strbuf_putc(b, '"');
    size_t i = 0;
    size_t plain = 0; /* start of the run that needs no escape */
    while (i < n) {
        unsigned char c = (unsigned char)s[i];
        size_t len = c < 0x80 ? 1 : utf8_valid_len(s + i, n - i);
        bool special = c < 0x20 || c == '"' || c == '\\' || c == 0x7F || len == 0;
        if (!special) {
            i += len;
            continue;
        }
        strbuf_append(b, s + plain, i - plain);
        if (len == 0) {
            strbuf_puts(b, "\xEF\xBF\xBD");
        } else if (c == '"' || c == '\\') {
            strbuf_putc(b, '\\');
            strbuf_putc(b, (char)c);
        } else if (c == '\n') {
            strbuf_puts(b, "\\n");
        } else if (c == '\t') {
            strbuf_puts(b, "\\t");
        } else if (c == '\r') {
            strbuf_puts(b, "\\r");
        } else {
            char u[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
            strbuf_append(b, u, sizeof u);
        }
        i++;
        plain = i;
    }
    strbuf_append(b, s + plain, n - plain);
    strbuf_putc(b, '"');
}
