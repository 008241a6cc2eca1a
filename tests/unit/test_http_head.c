#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "server/http_head.h"

/* Parses a raw head leniently, as a forgiving HTTP library would, into what http_head_check sees.
 */
struct lenient {
    char text[4096];
    struct http_head head;
};

static char *line_end(char *s)
{
    char *lf = strchr(s, '\n');
    assert_non_null(lf);
    return lf;
}

static void cut_line(char *from, char *lf)
{
    if (lf > from && lf[-1] == '\r')
        lf[-1] = '\0';
    *lf = '\0';
}

static void parse(struct lenient *l, const char *raw)
{
    size_t n = strlen(raw);
    assert_true(n < sizeof l->text);
    memcpy(l->text, raw, n + 1);
    l->head = (struct http_head){.read_bytes = n, .max_bytes = 4096};
    char *s = l->text;
    char *lf = line_end(s);
    cut_line(s, lf);
    l->head.method = s;
    char *target = strchr(s, ' ');
    *target++ = '\0';
    l->head.target = target + strspn(target, " ");
    char *version = strrchr(target, ' ');
    *version++ = '\0';
    l->head.version = version;
    for (s = lf + 1; *s != '\r' && *s != '\n' && *s; s = lf + 1) {
        lf = line_end(s);
        cut_line(s, lf);
        char *colon = strchr(s, ':');
        *colon = '\0';
        char *value = colon + 1 + strspn(colon + 1, " \t");
        l->head.fields[l->head.field_count++] = (struct http_field){s, value, value - (colon + 1)};
    }
}

struct head_case {
    const char *raw;
    int status;
};

static void test_http_head_table(void **state)
{
    (void)state;
    static const struct head_case cases[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0},
        {"GET / HTTP/1.0\r\nHost: a:80\r\n\r\n", 0},
        {"GET /a%20b?c=%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET /a%20b?c=%41../ HTTP/1.1\r\nHost:a\r\n\r\n", 0},
        {"GET /.. HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET /%2E HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET /a%2f%2e%2e%2fb HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET /... HTTP/1.1\r\nHost: a\r\n\r\n", 0},
        {"GET /a..b HTTP/1.1\r\nHost: a\r\n\r\n", 0},
        {"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505},
        {"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nX: \t \r\n\r\n", 0},
        {"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400},
        {"GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\n\n", 400},
        {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", 0},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 05\r\n\r\n", 0},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5x\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1234567890123456789\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 5\r\nContent-Length: 5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", 0},
        {"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
         400},
        {"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n", 0},
        {"POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", 417},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static struct lenient l;
        parse(&l, cases[i].raw);
        struct http_framing f;
        struct err e = {0};
        int got = http_head_check(&l.head, &f, &e);
        if (got != cases[i].status)
            fail_msg("%s-> %d, expected %d (%s)", cases[i].raw, got, cases[i].status, e.msg);
        if (got && !e.msg[0])
            fail_msg("%s-> %d without a reason", cases[i].raw, got);
    }
}

static void test_http_head_framing(void **state)
{
    (void)state;
    static struct lenient l;
    struct http_framing f;
    struct err e;
    parse(&l, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 123\r\nExpect: 100-continue\r\n\r\n");
    assert_int_equal(http_head_check(&l.head, &f, &e), 0);
    assert_true(f.content_length == 123 && !f.chunked && f.expect_continue);
    parse(&l, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_int_equal(http_head_check(&l.head, &f, &e), 0);
    assert_true(f.content_length == 0 && f.chunked && !f.expect_continue);
}

static void test_http_head_sizes(void **state)
{
    (void)state;
    static struct lenient l;
    struct http_framing f;
    struct err e;
    parse(&l, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    l.head.max_bytes = l.head.read_bytes - 1;
    assert_int_equal(http_head_check(&l.head, &f, &e), 431);
    l.head.max_bytes = l.head.read_bytes;
    assert_int_equal(http_head_check(&l.head, &f, &e), 0);
    l.head.too_many = true;
    assert_int_equal(http_head_check(&l.head, &f, &e), 431);
    /* A byte more than what is shown: a NUL cut a value short. */
    l.head.too_many = false;
    l.head.max_bytes++;
    l.head.read_bytes++;
    assert_int_equal(http_head_check(&l.head, &f, &e), 400);
}

static void test_http_head_hosts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int len; /* -1: refused */
    } cases[] = {
        {"a", 1},     {"a:1", 1},  {"a.b-c_d:65535", 7}, {"[::1]", 5}, {"[::1]:8080", 5},
        {"", -1},     {":80", -1}, {"a:", -1},           {"a:x", -1},  {"a:123456", -1},
        {"[::1", -1}, {"[]", -1},  {"[::1]x", -1},       {"::1", -1},  {"a b", -1},
        {"a/b", -1},  {"a@b", -1}, {"a:1:2", -1},        {"[g]", -1},  {"\xC3\xA4", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t len = 99;
        bool ok = http_head_split_host(cases[i].text, &len);
        if (ok != (cases[i].len >= 0) || (ok && (int)len != cases[i].len))
            fail_msg("%s: %d, length %zu", cases[i].text, ok, len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http_head_table),
        cmocka_unit_test(test_http_head_framing),
        cmocka_unit_test(test_http_head_sizes),
        cmocka_unit_test(test_http_head_hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
