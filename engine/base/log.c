#include "engine/base/log.h"

#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/limits.h"
#include "engine/base/utf8.h"

#define WAIT_MS        20 /* for a reader that is behind, once; then lines are dropped at once */
#define TAIL_BYTES     24 /* room that is kept for the end of a line that was cut */
#define JOURNAL_BYTES  (2 * LIMIT_LOG_LINE_BYTES)
#define JOURNAL_PREFIX "CHORUS_"

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static const int priorities[] = {7, 6, 4, 3}; /* of syslog */

static atomic_int least_level = LOG_LEVEL_INFO;
static atomic_int line_form = LOG_FORM_TEXT;
static atomic_bool with_prefix;
static atomic_uint_fast64_t dropped;

/* One writer at a time: between the look whether there is room and the write nobody else takes it.
 * The lock covers what follows. */
static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;
static struct sockaddr_un journal;
static int journal_fd = -1;
static bool behind;         /* the last line found no room */
static bool torn;           /* the last line got out in part */
static uint64_t unreported; /* lines dropped that no line told of */

struct line {
    size_t len;
    size_t cap;
    char data[JOURNAL_BYTES];
};

void log_setup(enum log_level least, bool json)
{
    log_setup_form(least, json ? LOG_FORM_JSON : LOG_FORM_TEXT, false, NULL);
}

/* With the lock held, as what is below it. */
static void close_journal(void)
{
    if (journal_fd >= 0)
        close(journal_fd);
    journal_fd = -1;
}

static void open_journal(void)
{
    close_journal();
    if (!*journal.sun_path)
        return;
    journal_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (journal_fd >= 0 &&
        connect(journal_fd, (const struct sockaddr *)&journal, sizeof journal) != 0)
        close_journal();
}

void log_setup_form(enum log_level least, enum log_form form, bool prefix, const char *socket_path)
{
    pthread_mutex_lock(&writing);
    journal = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (form == LOG_FORM_JOURNAL && socket_path && strlen(socket_path) < sizeof journal.sun_path)
        memcpy(journal.sun_path, socket_path, strlen(socket_path));
    open_journal();
    atomic_store(&least_level, (int)least);
    atomic_store(&line_form, (int)form);
    atomic_store(&with_prefix, prefix);
    pthread_mutex_unlock(&writing);
}

bool log_enabled(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&least_level, memory_order_relaxed);
}

uint64_t log_dropped(void)
{
    return atomic_load(&dropped);
}

/* ---- text ---- */

static void put(struct line *l, const char *s, size_t n)
{
    if (n > l->cap - l->len)
        return;
    memcpy(l->data + l->len, s, n);
    l->len += n;
}

static void puts_to(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

/* What would move a cursor, end a line or turn the reading direction. */
static bool is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7F && c <= 0x9F) || c == 0x200E || c == 0x200F ||
           (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF;
}

/* One character of s as a quoted value has it -> bytes of `out`; *n bytes of s were taken. */
static size_t escape(const char *s, size_t left, char out[8], size_t *n)
{
    uint32_t c = 0xFFFD;
    *n = utf8_decode(s, left, &c);
    if (*n == 0)
        *n = 1;
    else if (c == '"' || c == '\\')
        return (size_t)snprintf(out, 8, "\\%c", (char)c);
    else if (is_control(c))
        return (size_t)snprintf(out, 8, "\\u%04x", (unsigned)c);
    return utf8_encode(c, out);
}

/* In quotes, `max` bytes between them at most. */
static void put_quoted(struct line *l, const char *s, size_t max)
{
    static const char cut[] = "...";
    size_t n = strnlen(s, max + 1);
    size_t used = 0;
    size_t last = 0; /* a length at which there is room for the dots */
    size_t from = l->len + 1;
    put(l, "\"", 1);
    while (n > 0) {
        char out[8];
        size_t took;
        size_t bytes = escape(s, n, out, &took);
        if (used + bytes > max) {
            l->len = from + last;
            puts_to(l, cut);
            break;
        }
        put(l, out, bytes);
        used += bytes;
        if (used + sizeof cut - 1 <= max)
            last = used;
        s += took;
        n -= took;
    }
    put(l, "\"", 1);
}

/* Stands for itself where fields are told apart by blanks. */
static bool is_plain(const char *s, size_t max)
{
    size_t n = strnlen(s, max + 1);
    if (n == 0 || n > max)
        return false;
    while (n > 0) {
        uint32_t c;
        size_t took = utf8_decode(s, n, &c);
        if (took == 0 || c == ' ' || c == '"' || c == '=' || c == '\\' || is_control(c))
            return false;
        s += took;
        n -= took;
    }
    return true;
}

static size_t max_of(const struct log_field *f)
{
    return f->max ? f->max : LIMIT_LOG_VALUE_BYTES;
}

static void put_value(struct line *l, const struct log_field *f, bool json)
{
    char number[32];
    const char *s = f->str ? f->str : "";
    if (f->kind == LOG_KIND_INT) {
        snprintf(number, sizeof number, "%lld", (long long)f->i);
        puts_to(l, number);
    } else if (f->kind == LOG_KIND_NUM) {
        snprintf(number, sizeof number, "%.6g", f->num);
        puts_to(l, isfinite(f->num) ? number : "null");
    } else if (json || !is_plain(s, max_of(f))) {
        put_quoted(l, s, max_of(f));
    } else {
        puts_to(l, s);
    }
}

/* The field whole, or not at all. */
static bool put_field(struct line *l, const struct log_field *f, bool json)
{
    struct line one = {.cap = LIMIT_LOG_LINE_BYTES};
    puts_to(&one, json ? ",\"" : " ");
    puts_to(&one, f->key);
    puts_to(&one, json ? "\":" : "=");
    put_value(&one, f, json);
    if (one.len > l->cap - l->len || l->cap - l->len - one.len < TAIL_BYTES)
        return false;
    put(l, one.data, one.len);
    return true;
}

static void put_fields(struct line *l, const struct log_field *fields, size_t count, bool json)
{
    bool whole = true;
    for (size_t i = 1; i < count; i++)
        whole = put_field(l, &fields[i], json) && whole;
    if (!whole)
        puts_to(l, json ? ",\"cut\":true" : " cut=true");
}

static void put_head(struct line *l, enum log_level level, const char *what, bool json)
{
    struct timespec ts;
    struct tm tm;
    char text[128];
    char stamp[32];
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    int ms = (int)(ts.tv_nsec / 1000000);
    strftime(stamp, sizeof stamp, json ? "%Y-%m-%dT%H:%M:%S" : "%H:%M:%S", &tm);
    if (json) {
        snprintf(text, sizeof text, "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",\"msg\":", stamp, ms,
                 level_names[level]);
        puts_to(l, text);
        put_quoted(l, what, LIMIT_LOG_VALUE_BYTES);
    } else {
        snprintf(text, sizeof text, "%s.%03d %-5s ", stamp, ms, level_names[level]);
        puts_to(l, text);
        puts_to(l, what);
    }
}

/* ---- the journal ---- */

/* NAME=value, or in the form with a length where the value has line ends. */
static void put_journal(struct line *l, const char *prefix, const char *key, const char *s,
                        size_t n)
{
    if (l->cap - l->len < strlen(prefix) + strlen(key) + n + 10)
        return;
    puts_to(l, prefix);
    for (const char *c = key; *c; c++) {
        char upper = (char)(*c >= 'a' && *c <= 'z' ? *c - 32 : *c);
        put(l, &upper, 1);
    }
    if (memchr(s, '\n', n)) {
        char size[8];
        for (int i = 0; i < 8; i++)
            size[i] = (char)((uint64_t)n >> (8 * i) & 0xFF);
        put(l, "\n", 1);
        put(l, size, sizeof size);
    } else {
        put(l, "=", 1);
    }
    put(l, s, n);
    put(l, "\n", 1);
}

static void put_journal_field(struct line *l, const struct log_field *f)
{
    struct line value = {.cap = LIMIT_LOG_LINE_BYTES};
    const char *s = f->str ? f->str : "";
    if (f->kind == LOG_KIND_STR)
        put(&value, s, strnlen(s, max_of(f)));
    else
        put_value(&value, f, false);
    put_journal(l, JOURNAL_PREFIX, f->key, value.data, value.len);
}

static void write_datagram(struct line *l, enum log_level level, const struct log_field *fields,
                           size_t count)
{
    struct line text = {.cap = LIMIT_LOG_LINE_BYTES};
    char priority = (char)('0' + priorities[level]);
    puts_to(&text, fields[0].str);
    put_fields(&text, fields, count, false);
    put_journal(l, "", "priority", &priority, 1);
    put_journal(l, "", "syslog_identifier", "chorus", 6);
    put_journal(l, "", "message", text.data, text.len);
    for (size_t i = 1; i < count; i++)
        put_journal_field(l, &fields[i]);
}

/* ---- out, with the lock held ---- */

static bool has_room(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    bool room = poll(&p, 1, behind ? 0 : WAIT_MS) == 1 && (p.revents & POLLOUT);
    behind = !room;
    return room;
}

static bool send_datagram(const struct line *l)
{
    return has_room(journal_fd) &&
           send(journal_fd, l->data, l->len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)l->len;
}

static bool write_line(const struct line *l)
{
    if (!has_room(STDERR_FILENO))
        return false;
    if (torn && write(STDERR_FILENO, "\n", 1) != 1)
        return false;
    ssize_t n = write(STDERR_FILENO, l->data, l->len);
    torn = n > 0 && (size_t)n < l->len;
    return n == (ssize_t)l->len;
}

static void format_line(struct line *l, enum log_form form, enum log_level level,
                        const struct log_field *fields, size_t count)
{
    bool json = form == LOG_FORM_JSON;
    if (atomic_load(&with_prefix) || form == LOG_FORM_JOURNAL) {
        char prefix[] = {'<', (char)('0' + priorities[level]), '>', '\0'};
        puts_to(l, prefix);
    }
    l->cap = LIMIT_LOG_LINE_BYTES - sizeof "}\n";
    put_head(l, level, fields[0].str, json);
    put_fields(l, fields, count, json);
    l->cap = LIMIT_LOG_LINE_BYTES;
    puts_to(l, json ? "}\n" : "\n");
}

static bool emit(enum log_level level, const struct log_field *fields, size_t count)
{
    enum log_form form = (enum log_form)atomic_load(&line_form);
    struct line l = {.cap = JOURNAL_BYTES};
    if (form == LOG_FORM_JOURNAL && journal_fd >= 0) {
        write_datagram(&l, level, fields, count);
        if (send_datagram(&l))
            return true;
        open_journal(); /* it may have been started again */
        if (journal_fd >= 0 && send_datagram(&l))
            return true;
        l.len = 0;
    }
    format_line(&l, form, level, fields, count);
    return write_line(&l);
}

void log_emit(enum log_level level, const struct log_field *fields, size_t count)
{
    pthread_mutex_lock(&writing);
    if (!emit(level, fields, count)) {
        atomic_fetch_add(&dropped, 1);
        unreported++;
    } else if (unreported > 0) {
        struct log_field lost[] = {LOG_WHAT("lines of this log were lost: nobody read it"),
                                   LOG_INT("lines", unreported)};
        if (emit(LOG_LEVEL_WARN, lost, 2))
            unreported = 0;
    }
    pthread_mutex_unlock(&writing);
}
