#include "server/tool_python.h"

#include <ctype.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "engine/base/vec.h"

struct reader {
    const char *s;
    size_t n, i;
    struct strbuf *out;
    struct strbuf scratch; /* one string, read */
};

static char peek(struct reader *r)
{
    while (r->i < r->n && isspace((unsigned char)r->s[r->i]))
        r->i++;
    return r->i < r->n ? r->s[r->i] : '\0';
}

static bool eat(struct reader *r, char c)
{
    if (peek(r) != c)
        return false;
    r->i++;
    return true;
}

static bool word(struct reader *r, const char **s, size_t *n)
{
    peek(r);
    size_t from = r->i;
    while (r->i < r->n && (isalnum((unsigned char)r->s[r->i]) || strchr("_.-", r->s[r->i])))
        r->i++;
    *s = r->s + from;
    *n = r->i - from;
    return *n > 0;
}

static bool hex_escape(struct reader *r, size_t digits)
{
    uint32_t cp = 0;
    char utf8[4];
    for (size_t k = 0; k < digits; k++, r->i++) {
        char c = r->i < r->n ? r->s[r->i] : 'x';
        if (!isxdigit((unsigned char)c))
            return false;
        cp = cp * 16 + (uint32_t)(isdigit((unsigned char)c) ? c - '0' : (c | 32) - 'a' + 10);
    }
    if (cp == 0 || cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000))
        return false;
    strbuf_append(&r->scratch, utf8, utf8_encode(cp, utf8));
    return true;
}

static bool string(struct reader *r)
{
    char quote = peek(r);
    strbuf_clear(&r->scratch);
    if (quote != '"' && quote != '\'')
        return false;
    for (r->i++; r->i < r->n && r->s[r->i] != quote;) {
        char c = r->s[r->i++];
        if (c != '\\') {
            strbuf_putc(&r->scratch, c);
            continue;
        }
        static const char from[] = "nrtbf0\\'\"\n", to[] = "\n\r\t\b\f\0\\'\"";
        c = r->i < r->n ? r->s[r->i++] : '\0';
        const char *at = c ? strchr(from, c) : NULL;
        if (c == 'x' || c == 'u' || c == 'U') {
            if (!hex_escape(r, c == 'x' ? 2 : c == 'u' ? 4 : 8))
                return false;
        } else if (at && c != '\n' && c != '0') {
            strbuf_putc(&r->scratch, to[at - from]);
        } else if (c != '\n') { /* Python keeps a backslash before what it does not know */
            strbuf_putc(&r->scratch, '\\');
            strbuf_putc(&r->scratch, c);
        }
    }
    if (r->i >= r->n)
        return false;
    r->i++;
    strbuf_json_string(r->out, strbuf_str(&r->scratch), r->scratch.len);
    return true;
}

static bool scalar(struct reader *r)
{
    static const struct {
        const char *python, *json;
    } words[] = {{"True", "true"}, {"False", "false"}, {"None", "null"},
                 {"true", "true"}, {"false", "false"}, {"null", "null"}};
    char c = peek(r);
    if (c == '"' || c == '\'')
        return string(r);
    size_t from = r->i;
    while (r->i < r->n && (isalnum((unsigned char)r->s[r->i]) || strchr("+-._", r->s[r->i])))
        r->i++;
    size_t n = r->i - from;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i].python) == n && !memcmp(r->s + from, words[i].python, n)) {
            strbuf_puts(r->out, words[i].json);
            return true;
        }
    /* A number, if JSON says so. */
    cJSON *number = NULL;
    bool fine = n > 0 && (c == '-' || isdigit((unsigned char)c)) &&
                json_parse(r->s + from, n, &json_default_limits, &number, NULL) == STATUS_OK;
    cJSON_Delete(number);
    if (fine)
        strbuf_append(r->out, r->s + from, n);
    return fine;
}

/* Recursion to LIMIT_JSON_DEPTH. */
static bool value(struct reader *r, int depth)
{
    char open = peek(r), close = open == '[' ? ']' : open == '(' ? ')' : '}';
    if (open != '[' && open != '{' && open != '(')
        return scalar(r);
    if (depth >= LIMIT_JSON_DEPTH)
        return false;
    r->i++;
    strbuf_putc(r->out, open == '{' ? '{' : '[');
    for (bool first = true; !eat(r, close); first = false) {
        if (!first && (!eat(r, ',') || eat(r, close)))
            return r->i > 0 && r->s[r->i - 1] == close &&
                   (strbuf_putc(r->out, open == '{' ? '}' : ']'), true);
        if (!first)
            strbuf_puts(r->out, ", ");
        if (open == '{') {
            if (!string(r) || !eat(r, ':'))
                return false;
            strbuf_puts(r->out, ": ");
        }
        if (!value(r, depth + 1))
            return false;
    }
    strbuf_putc(r->out, open == '{' ? '}' : ']');
    return true;
}

static bool call(struct reader *r, struct tool_python *p)
{
    struct tool_python_call c = {.args_at = r->out->len};
    const char *key;
    size_t key_len;
    if (!word(r, &c.name, &c.name_len) || !eat(r, '('))
        return false;
    strbuf_putc(r->out, '{');
    for (bool first = true; !eat(r, ')'); first = false) {
        if (!first) {
            if (!eat(r, ','))
                return false;
            strbuf_puts(r->out, ", ");
        }
        if (!word(r, &key, &key_len) || !eat(r, '='))
            return false;
        strbuf_json_string(r->out, key, key_len);
        strbuf_puts(r->out, ": ");
        if (!value(r, 1))
            return false;
    }
    strbuf_putc(r->out, '}');
    c.args_len = r->out->len - c.args_at;
    if (!VEC_RESERVE(p->calls, p->cap, p->count + 1)) {
        r->out->failed = true;
        return false;
    }
    p->calls[p->count++] = c;
    return true;
}

enum status tool_python_read(const char *s, size_t n, struct tool_python *out)
{
    struct tool_python p = {0};
    struct reader r = {.s = s, .n = n, .out = &p.text};
    strbuf_init(&p.text, SIZE_MAX / 2);
    strbuf_init(&r.scratch, SIZE_MAX / 2);
    bool fine = eat(&r, '[');
    bool more = fine && !eat(&r, ']');
    while (fine && more) {
        fine = call(&r, &p);
        more = fine && eat(&r, ',');
        if (fine && !more)
            fine = eat(&r, ']');
    }
    fine = fine && peek(&r) == '\0' && r.i == n && p.count > 0;
    bool memory = !p.text.failed && !r.scratch.failed;
    strbuf_deinit(&r.scratch);
    if (fine && memory) {
        *out = p;
        return STATUS_OK;
    }
    tool_python_deinit(&p);
    return memory ? STATUS_INVALID : STATUS_NO_MEMORY;
}

void tool_python_deinit(struct tool_python *p)
{
    mem_free(p->calls);
    strbuf_deinit(&p->text);
}
