#include "engine/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const codes[STATUS_COUNT] = {
#define X(name, code) [name] = code,
    STATUS_LIST(X)
#undef X
};

const char *status_code(enum status s)
{
    return (unsigned)s < STATUS_COUNT ? codes[s] : "internal_error";
}

/* snprintf may cut a UTF-8 sequence in two; drop the incomplete tail. */
static void trim_utf8_tail(char *s)
{
    size_t n = strlen(s);
    size_t back = 0;
    while (back < n && back < 4 && ((unsigned char)s[n - 1 - back] & 0xC0) == 0x80)
        back++;
    if (back == n)
        return;
    unsigned char lead = (unsigned char)s[n - 1 - back];
    size_t need = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
    if (back < need)
        s[n - 1 - back] = '\0';
}

enum status err_set(struct err *e, enum status code, const char *param, const char *fmt, ...)
{
    if (!e)
        return code;
    e->code = code;
    snprintf(e->param, sizeof e->param, "%s", param ? param : "");
    trim_utf8_tail(e->param);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    trim_utf8_tail(e->msg);
    return code;
}

enum status err_prefix(struct err *e, const char *fmt, ...)
{
    if (!e)
        return STATUS_INTERNAL;
    char head[ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(head, sizeof head, fmt, ap);
    va_end(ap);
    char tail[ERR_MSG_MAX];
    memcpy(tail, e->msg, sizeof tail);
    size_t n = strlen(head);
    if (n > sizeof e->msg - 3)
        n = sizeof e->msg - 3;
    memcpy(e->msg, head, n);
    memcpy(e->msg + n, ": ", 3);
    snprintf(e->msg + n + 2, sizeof e->msg - n - 2, "%s", tail);
    trim_utf8_tail(e->msg);
    return e->code;
}

void check_failed(const char *file, int line, const char *what)
{
    fprintf(stderr, "chorus: internal check failed at %s:%d: %s\n", file, line, what);
    abort();
}
