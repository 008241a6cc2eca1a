#include "engine/base/log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/limits.h"
#include "engine/base/strbuf.h"

static const char *const level_names[] = {"debug", "info", "warn", "error"};

static enum log_level least_level = LOG_LEVEL_INFO;
static bool as_json;
static atomic_uint_fast64_t dropped;

void log_setup(enum log_level least, bool json)
{
    least_level = least;
    as_json = json;
}

bool log_enabled(enum log_level level)
{
    return level >= least_level;
}

uint64_t log_dropped(void)
{
    return atomic_load(&dropped);
}

static bool is_plain(const char *s)
{
    if (!*s)
        return false;
    for (; *s; s++) {
        if ((unsigned char)*s <= ' ' || *s == '"' || *s == '=' || *s == '\\' || *s == 0x7F)
            return false;
    }
    return true;
}

static void append_value(struct strbuf *b, const struct log_field *f)
{
    if (f->kind == LOG_KIND_INT) {
        strbuf_printf(b, "%lld", (long long)f->i);
    } else if (f->kind == LOG_KIND_NUM) {
        strbuf_printf(b, "%.6g", f->num);
    } else {
        const char *s = f->str ? f->str : "";
        size_t n = strnlen(s, LIMIT_LOG_VALUE_BYTES);
        if (as_json || !is_plain(s))
            strbuf_json_string(b, s, n);
        else
            strbuf_append(b, s, n);
    }
}

static void append_head(struct strbuf *b, enum log_level level, const char *what)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    struct tm tm;
    gmtime_r(&ts.tv_sec, &tm);
    char stamp[32];
    int ms = (int)(ts.tv_nsec / 1000000);
    if (as_json) {
        strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &tm);
        strbuf_printf(b, "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",\"msg\":", stamp, ms,
                      level_names[level]);
        strbuf_json_string(b, what, strlen(what));
    } else {
        strftime(stamp, sizeof stamp, "%H:%M:%S", &tm);
        strbuf_printf(b, "%s.%03d %-5s %s", stamp, ms, level_names[level], what);
    }
}

void log_emit(enum log_level level, const struct log_field *fields, size_t count)
{
    struct strbuf b;
    strbuf_init(&b, LIMIT_LOG_LINE_BYTES);
    append_head(&b, level, fields[0].str);
    for (size_t i = 1; i < count; i++) {
        if (as_json) {
            strbuf_printf(&b, ",\"%s\":", fields[i].key);
        } else {
            strbuf_printf(&b, " %s=", fields[i].key);
        }
        append_value(&b, &fields[i]);
    }
    strbuf_puts(&b, as_json ? "}\n" : "\n");
    if (b.failed || write(STDERR_FILENO, b.data, b.len) != (ssize_t)b.len)
        atomic_fetch_add(&dropped, 1);
    strbuf_deinit(&b);
}
