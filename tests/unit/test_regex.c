/* Patterns in Oniguruma's meaning. The expected matches were taken from the tokenizers library. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/strbuf.h"
#include "engine/text/regex.h"

struct match_case {
    const char *pattern;
    const char *text;
    const char *matches; /* with '|' behind each */
};

static void test_matches(void **state)
{
    (void)state;
    static const struct match_case cases[] = {
        {"\\p{N}{1,3}", "1234567a", "123|456|7|"},
        {"\\p{N}{1,3}+", "1234567a", "1234567|"},
        {"a{,2}b", "aaab b", "aab|b|"},
        {"a++b", "aaab", "aaab|"},
        {"\\h+", "xyz12ab g", "12ab|"},
        {"\\v", "a\x0b\nb", "\x0b|"},
        {"\\s+", "a\xE1\xA0\x8E b\xE3\x80\x80", " |\xE3\x80\x80|"},
        {"\\w+", "a_1 \xC2\xBD\xC3\xA9", "a_1|\xC2\xBD\xC3\xA9|"},
        {"[\\w]+", "a_1 \xC2\xBD\xC3\xA9", "a_1|\xC3\xA9|"},
        {"(?i:'s|'t)", "it'S don'T '\xC5\xBF", "'S|'T|'\xC5\xBF|"},
        {"\\s+(?!\\S)|\\s+", "a   b  ", "  | |  |"},
        {"\\p{S}", "\xF0\x9F\xA9\xB7.", "\xF0\x9F\xA9\xB7|"}, /* a symbol of Unicode 15 */
        {"^b|b$", "b\nab\nb", "b|b|b|"},
        {"\\u00e9|\\x{4e2d}", "\xC3\xA9\xE4\xB8\xAD", "\xC3\xA9|\xE4\xB8\xAD|"},
        {"\\p{Han}+", "a\xE4\xB8\xAD\xE6\x96\x87\xE3\x81\x82", "\xE4\xB8\xAD\xE6\x96\x87|"},
        {"\\p{^L}", "a1", "1|"},
        {"\\bab", "ab cab", "ab|"},
        {"x*", "axb", "|x||"},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const struct match_case *c = &cases[k];
        struct regex r;
        struct regex_scan s;
        struct strbuf got;
        struct err e = {0};
        strbuf_init(&got, 4096);
        if (regex_open(&r, c->pattern, strlen(c->pattern), &e) != STATUS_OK)
            fail_msg("%s: %s", c->pattern, e.msg);
        regex_scan_init(&s);
        regex_scan_start(&s, c->text, strlen(c->text));
        for (;;) {
            bool found;
            size_t from;
            size_t to;
            assert_int_equal(regex_next(&r, &s, &found, &from, &to, &e), STATUS_OK);
            if (!found)
                break;
            strbuf_append(&got, c->text + from, to - from);
            strbuf_putc(&got, '|');
        }
        if (strcmp(strbuf_str(&got), c->matches) != 0)
            fail_msg("%s on \"%s\": \"%s\" instead of \"%s\"", c->pattern, c->text,
                     strbuf_str(&got), c->matches);
        strbuf_deinit(&got);
        regex_scan_deinit(&s);
        regex_close(&r);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *pattern;
        enum status status;
        const char *why;
    } cases[] = {
        {"[a-z&&[^b]]", STATUS_UNSUPPORTED, "&&"},
        {"[a[bc]]", STATUS_UNSUPPORTED, "[bc]"},
        {"(?m:a.b)", STATUS_UNSUPPORTED, "(?m"},
        {"(?<name>a)", STATUS_UNSUPPORTED, "(?<name"},
        {"(a)\\1", STATUS_UNSUPPORTED, "\\1"},
        {"\\K", STATUS_UNSUPPORTED, "\\K"},
        {"a{2}?", STATUS_UNSUPPORTED, "{2}?"},
        {"a|(?i)b", STATUS_UNSUPPORTED, "(?i)"},
        {"(?i:\\p{Lu})", STATUS_UNSUPPORTED, "\\p{Lu}"},
        {"\\xE4", STATUS_UNSUPPORTED, "\\xE4"},
        {"\\p{Nonsense}", STATUS_BAD_FILE, "unknown"},
        {"[a", STATUS_BAD_FILE, "unfinished"},
        {"a)", STATUS_BAD_FILE, "unmatched"},
        {"\\", STATUS_BAD_FILE, "backslash"},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct regex r;
        struct err e = {0};
        enum status st = regex_open(&r, cases[k].pattern, strlen(cases[k].pattern), &e);
        if (st != cases[k].status || !strstr(e.msg, cases[k].why))
            fail_msg("%s: status %d, \"%s\"", cases[k].pattern, st, e.msg);
    }
}

static enum status count_matches(const char *pattern, const char *text, size_t n, size_t *count)
{
    struct regex r;
    struct regex_scan s;
    struct err e = {0};
    *count = 0;
    assert_int_equal(regex_open(&r, pattern, strlen(pattern), &e), STATUS_OK);
    regex_scan_init(&s);
    regex_scan_start(&s, text, n);
    bool found = true;
    enum status st = STATUS_OK;
    while (st == STATUS_OK && found) {
        size_t from;
        size_t to;
        st = regex_next(&r, &s, &found, &from, &to, &e);
        *count += st == STATUS_OK && found;
    }
    regex_scan_deinit(&s);
    regex_close(&r);
    return st;
}

/* A long run needs more than the machine stack's share; exponential patterns end with a status. */
static void test_long_and_hostile(void **state)
{
    (void)state;
    size_t n = 2000000;
    size_t count;
    char *text = mem_alloc(n, 1);
    assert_non_null(text);
    memset(text, 'a', n);
    assert_int_equal(count_matches("((?=\\p{L})([^A-Z]))+", text, n, &count), STATUS_OK);
    assert_int_equal(count, 1);
    memset(text, ' ', n);
    assert_int_equal(count_matches("\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", text, n, &count), STATUS_OK);
    assert_int_equal(count, 1);
    memset(text, 'a', 40);
    text[40] = 'c';
    assert_int_equal(count_matches("(?:a|aa)+b|(?:a|a)+[bd]", text, 41, &count), STATUS_LIMIT);
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_long_and_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
