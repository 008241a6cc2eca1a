#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "server/text_table.h"

static void test_text_table_aligns(void **state)
{
    (void)state;
    static const char *const cells[] = {
        "NAME", "SIZE", "WHY", "a", "1.0 KiB", "x", "h\xC3\xA9llo\x1b[2J\n", "9 B", NULL};
    struct text_table t;
    struct strbuf out;
    text_table_init(&t, 3, 1u << 1);
    strbuf_init(&out, 4096);
    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++)
        text_table_cell(&t, cells[i]);
    assert_true(text_table_print(&t, "> ", &out));
    assert_string_equal(strbuf_str(&out), "> NAME           SIZE  WHY\n"
                                          "> a           1.0 KiB  x\n"
                                          "> h\xC3\xA9llo?[2J?      9 B  \n");
    strbuf_deinit(&out);
    text_table_deinit(&t);
}

static void test_text_units(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } sizes[] = {{0, "0 B"},
                 {999, "999 B"},
                 {1000, "1.0 KiB"},
                 {1024, "1.0 KiB"},
                 {1023 * 1024, "1.0 MiB"},
                 {5ull << 30, "5.0 GiB"},
                 {UINT64_MAX, "16.0 EiB"}};
    char text[TEXT_SHORT_BYTES];
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        text_bytes(sizes[i].bytes, text);
        assert_string_equal(text, sizes[i].text);
    }
    static const struct {
        int64_t then;
        const char *text;
    } agos[] = {{0, "-"},
                {1000000, "just now"},
                {1000100, "just now"},
                {1000000 - 59, "just now"},
                {1000000 - 60, "1 minute ago"},
                {1000000 - 7200, "2 hours ago"},
                {1000000 - 86400, "1 day ago"},
                {1, "1 week ago"}};
    for (size_t i = 0; i < sizeof agos / sizeof agos[0]; i++) {
        text_ago(1000000, agos[i].then, text);
        assert_string_equal(text, agos[i].text);
    }
    text_duration(7, text);
    assert_string_equal(text, "0:07");
    text_duration(754, text);
    assert_string_equal(text, "12:34");
    text_duration(10800, text);
    assert_string_equal(text, "3:00:00");
    text_duration(INT64_MAX, text);
    assert_string_equal(text, "-:--");
}

static void test_text_clean_cuts_whole_characters(void **state)
{
    (void)state;
    char out[6];
    assert_int_equal(text_clean("\xC3\xA9\xC3\xA9\xC3\xA9", out, sizeof out), 2);
    assert_string_equal(out, "\xC3\xA9\xC3\xA9");
    assert_int_equal(text_clean("a\xFF\xC2\x9B"
                                "b",
                                out, sizeof out),
                     4);
    assert_string_equal(out, "a??b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_table_aligns),
        cmocka_unit_test(test_text_units),
        cmocka_unit_test(test_text_clean_cuts_whole_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
