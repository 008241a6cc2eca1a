#include "engine/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/utf8.h"

static const char *const codes[STATUS_COUNT] = {
#define X(name, code) [name] = code,
    STATUS_LIST(X)
#undef X
};

const char *status_code(enum status s)
{
    return (unsigned)s < STATUS_COUNT ? codes[s] : "internal_error";
}

/* snprintf cuts a UTF-8 sequence in two, at the end of the buffer or at the precision of a "%.64s"
 * in the middle of the message: drop what is left of it, so that every message is text. */
static void drop_cut_utf8(char *s)
{
    size_t n = strlen(s);
    size_t out = 0;
    for (size_t i = 0; i < n;) {
        size_t len = utf8_valid_len(s + i, n - i);
        memmove(s + out, s + i, len);
        out += len;
        i += len ? len : 1;
    }
    s[out] = '\0';
}

enum status err_set(struct err *e, enum status code, const char *param, const char *fmt, ...)
{
    if (!e)
        return code;
    e->code = code;
    snprintf(e->param, sizeof e->param, "%s", param ? param : "");
    drop_cut_utf8(e->param);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    drop_cut_utf8(e->msg);
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
    drop_cut_utf8(e->msg);
    return e->code;
}

void check_failed(const char *file, int line, const char *what)
{
    fprintf(stderr, "chorus: internal check failed at %s:%d: %s\n", file, line, what);
    abort();
}
