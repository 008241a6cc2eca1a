#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <fcntl.h>
#include <cmocka.h>

#include "config/journal.h"
#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/log.h"
#include "engine/base/utf8.h"

static char written[1 << 18];

/* stderr into a pipe, while `emit` runs. */
static const char *capture(void (*emit)(void *ctx), void *ctx)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    int old = dup(STDERR_FILENO);
    dup2(fds[1], STDERR_FILENO);
    close(fds[1]);
    emit(ctx);
    dup2(old, STDERR_FILENO);
    close(old);
    size_t n = 0;
    ssize_t got;
    while ((got = read(fds[0], written + n, sizeof written - 1 - n)) > 0)
        n += (size_t)got;
    written[n] = '\0';
    close(fds[0]);
    return written;
}

static const char *const hostile[] = {
    "plain",
    "",
    "two words",
    "a=b",
    "quote\"back\\slash",
    "line\nnext 10:00:00.000 info  forged",
    "\r\033[2J\033[31mred",
    "csi \xC2\x9B"
    "31m and raw \x9B"
    "31m",
    "bidi \xE2\x80\xAE"
    "gnp.exe \xE2\x81\xA6 \xE2\x80\xA8",
    "\xFF\xFE\x80",
    "caf\xC3\xA9 \xF0\x9F\x8E\xAD",
    "\x01\x02\x7F",
    "\",\"level\":\"error\",\"x\":\"",
    "{\"a\":1}",
    "\xEF\xBB\xBF",
};

static void emit_values(void *ctx)
{
    const char *s = ctx;
    LOG_INFO(LOG_WHAT("values"), LOG_STR("request_id", s), LOG_INT("n", -7), LOG_NUM("x", 1.5),
             LOG_NUM("nan", nan("")), LOG_NUM("inf", -INFINITY), LOG_STR("none", NULL),
             LOG_STR("adapter", s));
}

/* One line, printable, UTF-8. */
static void assert_is_line(const char *line, const char *of)
{
    size_t n = strlen(line);
    assert_true(n > 0 && n <= LIMIT_LOG_LINE_BYTES);
    if (line[n - 1] != '\n' || memchr(line, '\n', n - 1) || !utf8_is_valid(line, n))
        fail_msg("\"%s\" gave \"%s\"", of, line);
    for (size_t i = 0; i + 1 < n;) {
        uint32_t c;
        i += utf8_decode(line + i, n - i, &c);
        if (c < 0x20 || (c >= 0x7F && c <= 0x9F) || (c >= 0x2028 && c <= 0x202E) ||
            (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF)
            fail_msg("U+%04X in \"%s\"", (unsigned)c, line);
    }
}

static void test_log_json_is_json(void **state)
{
    (void)state;
    log_setup(LOG_LEVEL_INFO, true);
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        const char *line = capture(emit_values, (void *)(uintptr_t)hostile[i]);
        assert_is_line(line, hostile[i]);
        cJSON *v;
        struct err e = {0};
        if (json_parse(line, strlen(line), &json_default_limits, &v, &e) != STATUS_OK)
            fail_msg("%s: %s", line, e.msg);
        const cJSON *id = json_member(v, "request_id");
        bool valid = utf8_is_valid(hostile[i], strlen(hostile[i]));
        if (valid && strcmp(id->valuestring, hostile[i]) != 0)
            fail_msg("\"%s\" is \"%s\"", hostile[i], id->valuestring);
        assert_int_equal(cJSON_GetArraySize(v), 10);
        assert_true(cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(v, "nan")) &&
                    cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(v, "inf")));
        assert_string_equal(json_member(v, "level")->valuestring, "info");
        cJSON_Delete(v);
    }
}

/* key=value, told apart by blanks: a value with one stands in quotes. */
static void test_log_text_is_one_line(void **state)
{
    (void)state;
    log_setup(LOG_LEVEL_INFO, false);
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        const char *line = capture(emit_values, (void *)(uintptr_t)hostile[i]);
        assert_is_line(line, hostile[i]);
        const char *at = strstr(line, " info  values request_id=");
        assert_non_null(at);
        at += strlen(" info  values request_id=");
        if (*at == '"') {
            for (at++; *at != '"'; at++)
                at += *at == '\\';
            at++;
        } else {
            at += strcspn(at, " ");
        }
        if (strncmp(at, " n=-7 x=1.5 nan=null inf=null none=\"\" adapter=", 46) != 0)
            fail_msg("\"%s\" gave \"%s\"", hostile[i], line);
    }
}

static void emit_long(void *ctx)
{
    (void)ctx;
    static char text[5000];
    for (size_t i = 0; i < sizeof text - 1; i++)
        text[i] = i % 3 ? '\001' : 'x';
    const struct log_field fields[] = {
        LOG_WHAT("long"),    LOG_STR("a", text),  LOG_TEXT("t", text), LOG_TEXT("u", text),
        LOG_TEXT("v", text), LOG_TEXT("w", text), LOG_STR("z", text),  LOG_INT("n", 1)};
    log_emit(LOG_LEVEL_INFO, fields, sizeof fields / sizeof fields[0]);
}

/* Whatever the values, a line stays whole JSON within its bound; what had no room is said. */
static void test_log_bounds(void **state)
{
    (void)state;
    log_setup(LOG_LEVEL_INFO, true);
    const char *line = capture(emit_long, NULL);
    assert_is_line(line, "long");
    cJSON *v;
    struct err e = {0};
    assert_int_equal(json_parse(line, strlen(line), &json_default_limits, &v, &e), STATUS_OK);
    assert_true(cJSON_IsTrue(json_member(v, "cut")));
    assert_int_equal(json_member(v, "n")->valueint, 1);
    const char *a = json_member(v, "a")->valuestring;
    assert_string_equal(a + strlen(a) - 3, "...");
    assert_null(json_member(v, "w"));
    cJSON_Delete(v);
    const char *in_text = strstr(line, "\"a\":\"");
    assert_non_null(in_text);
    in_text += 5;
    size_t n = strcspn(in_text, "\"");
    if (n > LIMIT_LOG_VALUE_BYTES || n < LIMIT_LOG_VALUE_BYTES - 8)
        fail_msg("%zu bytes of a value", n);
}

/* ---- the journal ---- */

static const char *field_of(const char *datagram, size_t n, const char *name, size_t *len)
{
    size_t head = strlen(name);
    for (size_t i = 0; i < n;) {
        const char *line = datagram + i;
        size_t key = 0;
        while (i + key < n && line[key] != '=' && line[key] != '\n')
            key++;
        assert_true(i + key < n);
        const char *value = line + key + 1;
        size_t bytes = 0;
        if (line[key] == '=') {
            bytes = (size_t)((const char *)memchr(value, '\n', n - i - key - 1) - value);
        } else {
            for (int k = 7; k >= 0; k--)
                bytes = bytes << 8 | (unsigned char)value[k];
            value += 8;
            assert_true((size_t)(datagram + n - value) > bytes && value[bytes] == '\n');
        }
        if (key == head && memcmp(line, name, head) == 0) {
            *len = bytes;
            return value;
        }
        i = (size_t)(value - datagram) + bytes + 1;
    }
    return NULL;
}

static int fake_journal(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

static void assert_field(const char *datagram, size_t n, const char *name, const char *want)
{
    size_t len = 0;
    const char *value = field_of(datagram, n, name, &len);
    if (!value || len != strlen(want) || memcmp(value, want, len) != 0)
        fail_msg("%s is \"%.*s\", not \"%s\"", name, (int)len, value ? value : "", want);
}

static void test_log_journal_fields(void **state)
{
    (void)state;
    char dir[] = "/tmp/chorus-journal-XXXXXX";
    char path[64];
    static char got[1 << 16];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/socket", dir);
    int fd = fake_journal(path);
    log_setup_form(LOG_LEVEL_INFO, LOG_FORM_JOURNAL, true, path);
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        const char *rest = capture(emit_values, (void *)(uintptr_t)hostile[i]);
        assert_string_equal(rest, "");
        ssize_t n = recv(fd, got, sizeof got, MSG_DONTWAIT);
        assert_true(n > 0);
        assert_field(got, (size_t)n, "PRIORITY", "6");
        assert_field(got, (size_t)n, "SYSLOG_IDENTIFIER", "chorus");
        assert_field(got, (size_t)n, "CHORUS_REQUEST_ID", hostile[i]);
        assert_field(got, (size_t)n, "CHORUS_ADAPTER", hostile[i]);
        assert_field(got, (size_t)n, "CHORUS_N", "-7");
        size_t len;
        const char *message = field_of(got, (size_t)n, "MESSAGE", &len);
        assert_true(message && len > 20 && memcmp(message, "values request_id=", 18) == 0);
        assert_null(memchr(message, '\n', len));
        assert_null(memchr(message, '\033', len));
    }
    /* It starts again: the next line finds it. */
    close(fd);
    unlink(path);
    fd = fake_journal(path);
    capture(emit_values, (void *)(uintptr_t) "again");
    ssize_t n = recv(fd, got, sizeof got, MSG_DONTWAIT);
    assert_true(n > 0);
    assert_field(got, (size_t)n, "CHORUS_ADAPTER", "again");
    /* It is gone: stderr, with what it makes a priority of. */
    close(fd);
    unlink(path);
    const char *line = capture(emit_values, (void *)(uintptr_t) "gone");
    assert_int_equal(strncmp(line, "<6>", 3), 0);
    assert_non_null(strstr(line, "adapter=gone\n"));
    rmdir(dir);
    log_setup(LOG_LEVEL_INFO, false);
}

static void test_log_journal_stream(void **state)
{
    (void)state;
    struct stat st;
    char text[64];
    assert_int_equal(fstat(STDERR_FILENO, &st), 0);
    unsigned long long dev = st.st_dev;
    unsigned long long ino = st.st_ino;
    static const struct {
        const char *form;
        bool is;
    } cases[] = {{"%llu:%llu", true},   {"%llu:%llu ", false}, {"%llu:%llu1", false},
                 {"1%llu:%llu", false}, {"%llu:", false},      {"-%llu:%llu", false},
                 {"", false},           {":", false},          {"x", false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
        snprintf(text, sizeof text, cases[i].form, dev, ino);
#pragma GCC diagnostic pop
        setenv("JOURNAL_STREAM", text, 1);
        if (journal_is_stderr() != cases[i].is)
            fail_msg("JOURNAL_STREAM=\"%s\"", text);
    }
    unsetenv("JOURNAL_STREAM");
    assert_false(journal_is_stderr());
}

/* ---- a reader that does not read ---- */

static void emit_many(void *ctx)
{
    (void)ctx;
    static char text[900];
    memset(text, 'x', sizeof text - 1);
    for (int i = 0; i < 200; i++)
        LOG_INFO(LOG_WHAT("many"), LOG_TEXT("t", text));
}

/* 200 KB into a pipe of 64 KB: nobody waits, every line that got out is whole, and once somebody
 * reads the log says how many were lost. */
static void test_log_stuck_reader(void **state)
{
    (void)state;
    int fds[2];
    log_setup(LOG_LEVEL_INFO, false);
    assert_int_equal(pipe(fds), 0);
    int old = dup(STDERR_FILENO);
    dup2(fds[1], STDERR_FILENO);
    close(fds[1]);
    uint64_t before = log_dropped();
    emit_many(NULL);
    uint64_t lost = log_dropped() - before;
    ssize_t n = read(fds[0], written, sizeof written - 1);
    LOG_INFO(LOG_WHAT("read again"));
    dup2(old, STDERR_FILENO);
    close(old);
    if (lost <= 50 || lost >= 200 || n <= 30000)
        fail_msg("%llu lines lost, %zd bytes in the pipe", (unsigned long long)lost, n);
    size_t lines = 0;
    for (ssize_t i = 0; i < n; i++)
        lines += written[i] == '\n';
    assert_int_equal(lines, 200 - lost);
    n = read(fds[0], written, sizeof written - 1);
    written[n > 0 ? n : 0] = '\0';
    char want[64];
    snprintf(want, sizeof want, "lines of this log were lost: nobody read it lines=%llu\n",
             (unsigned long long)lost);
    if (!strstr(written, "read again\n") || !strstr(written, want))
        fail_msg("\"%s\" without \"%s\"", written, want);
    close(fds[0]);
}

static void emit_one(void *ctx)
{
    (void)ctx;
    LOG_INFO(LOG_WHAT("one"));
}

/* A full disk: counted, and nothing worse. */
static void test_log_full_disk(void **state)
{
    (void)state;
    int full = open("/dev/full", O_WRONLY);
    if (full < 0)
        skip();
    int old = dup(STDERR_FILENO);
    dup2(full, STDERR_FILENO);
    close(full);
    uint64_t before = log_dropped();
    emit_one(NULL);
    uint64_t lost = log_dropped() - before;
    dup2(old, STDERR_FILENO);
    close(old);
    assert_int_equal(lost, 1);
    assert_non_null(strstr(capture(emit_one, NULL), "were lost"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log_json_is_json),   cmocka_unit_test(test_log_text_is_one_line),
        cmocka_unit_test(test_log_bounds),         cmocka_unit_test(test_log_journal_fields),
        cmocka_unit_test(test_log_journal_stream), cmocka_unit_test(test_log_stuck_reader),
        cmocka_unit_test(test_log_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
