#include "server/http_head.h"

#include <string.h>
#include <strings.h>

static bool is_token_char(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(const char *s)
{
    if (!*s)
        return false;
    for (; *s; s++) {
        if (!is_token_char((unsigned char)*s))
            return false;
    }
    return true;
}

static bool is_value(const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if ((c < 0x20 && c != '\t') || c == 0x7F)
            return false;
    }
    return true;
}

static bool is_method(const char *s)
{
    size_t n = 0;
    for (; s[n]; n++) {
        if (s[n] < 'A' || s[n] > 'Z')
            return false;
    }
    return n >= 1 && n <= 16;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Whether a path segment of `n` bytes, `dots` of them dots, is "." or "..". */
static bool is_dot_segment(size_t n, size_t dots)
{
    return n == dots && (n == 1 || n == 2);
}

/* An absolute path whose percent escapes are whole, hide no control character and, once decoded,
 * make no dot segment. */
static bool is_target(const char *s)
{
    if (*s != '/')
        return false;
    size_t seg = 0;
    size_t dots = 0;
    bool query = false;
    for (s++;; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '\0')
            break;
        if (c <= 0x20 || c >= 0x7F || c == '#' || c == '\\' || c == '"' || c == '<' || c == '>')
            return false;
        if (c == '?')
            query = true;
        if (c == '%') {
            int hi = hex_digit(s[1]);
            int lo = hi < 0 ? -1 : hex_digit(s[2]);
            if (lo < 0)
                return false;
            c = (unsigned char)(hi * 16 + lo);
            if (c < 0x20 || c == 0x7F || c == '\\')
                return false;
            s += 2;
        }
        if (query)
            continue;
        if (c == '/') {
            if (is_dot_segment(seg, dots))
                return false;
            seg = dots = 0;
        } else {
            seg++;
            dots += c == '.';
        }
    }
    return !is_dot_segment(seg, dots);
}

bool http_head_split_host(const char *s, size_t *host_len)
{
    size_t n = 0;
    if (s[0] == '[') {
        n = 1 + strspn(s + 1, "0123456789abcdefABCDEF:.");
        if (n < 3 || s[n] != ']')
            return false;
        n++;
    } else {
        n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._");
        if (n == 0)
            return false;
    }
    if (n > 255)
        return false;
    if (s[n] == ':') {
        size_t digits = strspn(s + n + 1, "0123456789");
        if (digits < 1 || digits > 5 || s[n + 1 + digits] != '\0')
            return false;
    } else if (s[n] != '\0') {
        return false;
    }
    *host_len = n;
    return true;
}

static int refuse(struct err *e, int status, const char *why)
{
    err_set(e, STATUS_INVALID, NULL, "%s", why);
    return status;
}

/* Every byte that was read must be one that was shown: see the head of the header. */
static bool adds_up(const struct http_head *h)
{
    size_t sum = strlen(h->method) + 1 + strlen(h->target) + 1 + strlen(h->version) + 2;
    for (int i = 0; i < h->field_count; i++) {
        const struct http_field *f = &h->fields[i];
        if (f->gap < 0 || (size_t)f->gap > h->read_bytes)
            return false;
        sum += strlen(f->name) + 1 + (size_t)f->gap + strlen(f->value) + 2;
    }
    return sum + 2 == h->read_bytes;
}

bool http_head_is_length(const char *s)
{
    size_t n = strlen(s);
    return n >= 1 && n <= 18 && strspn(s, "0123456789") == n;
}

static int check_length(const char *s, struct http_framing *out, struct err *e)
{
    if (!http_head_is_length(s))
        return refuse(e, 400, "Content-Length is not a decimal number");
    uint64_t v = 0;
    for (; *s; s++)
        v = v * 10 + (uint64_t)(*s - '0');
    out->content_length = v;
    return 0;
}

static int check_framing(const struct http_head *h, struct http_framing *out, struct err *e)
{
    const char *host = NULL;
    const char *length = NULL;
    const char *encoding = NULL;
    for (int i = 0; i < h->field_count; i++) {
        const char *name = h->fields[i].name;
        const char *value = h->fields[i].value;
        const char **single = strcasecmp(name, "host") == 0                ? &host
                              : strcasecmp(name, "content-length") == 0    ? &length
                              : strcasecmp(name, "transfer-encoding") == 0 ? &encoding
                                                                           : NULL;
        if (single && *single)
            return refuse(e, 400, "a header that must be single is repeated");
        if (single)
            *single = value;
        if (strcasecmp(name, "expect") == 0) {
            if (strcasecmp(value, "100-continue") != 0)
                return refuse(e, 417, "only Expect: 100-continue is known");
            out->expect_continue = true;
        }
    }
    size_t host_len;
    if (!host)
        return refuse(e, 400, "the Host header is missing");
    if (!http_head_split_host(host, &host_len))
        return refuse(e, 400, "the Host header is malformed");
    if (encoding && length)
        return refuse(e, 400, "Content-Length beside Transfer-Encoding");
    if (encoding && strcmp(h->version, "HTTP/1.1") != 0)
        return refuse(e, 400, "Transfer-Encoding before HTTP/1.1");
    if (encoding && strcasecmp(encoding, "chunked") != 0)
        return refuse(e, 501, "the only Transfer-Encoding known is chunked");
    out->chunked = encoding != NULL;
    return length ? check_length(length, out, e) : 0;
}

int http_head_check(const struct http_head *h, struct http_framing *out, struct err *e)
{
    struct http_framing f = {0};
    if (!is_method(h->method))
        return refuse(e, 400, "malformed method");
    if (strcmp(h->version, "HTTP/1.1") != 0 && strcmp(h->version, "HTTP/1.0") != 0)
        return refuse(e, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    if (h->too_many || h->read_bytes > h->max_bytes)
        return refuse(e, 431, "the request headers are too large");
    if (!is_target(h->target))
        return refuse(e, 400, "malformed request target");
    for (int i = 0; i < h->field_count; i++) {
        if (!is_token(h->fields[i].name) || !is_value(h->fields[i].value))
            return refuse(e, 400, "malformed header line");
    }
    if (h->read_bytes && !adds_up(h))
        return refuse(e, 400, "request lines must end in CRLF and hold no NUL or continuation");
    int status = check_framing(h, &f, e);
    if (status == 0)
        *out = f;
    return status;
}
