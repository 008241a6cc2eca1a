#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/text/normalize.h"

struct norm_case {
    const char *config;
    const char *in;
    const char *out;
};

static void run(const char *config, const char *in, size_t n, const uint8_t *marks,
                void (*check)(const struct norm_text *, const void *), const void *arg)
{
    struct normalizer z;
    struct norm_scratch scratch;
    struct regex_scan scan;
    const struct norm_text *out;
    struct err e = {0};
    cJSON *tree = cJSON_Parse(config);
    assert_non_null(tree);
    if (normalize_open(&z, tree, &e) != STATUS_OK)
        fail_msg("%s: %s", config, e.msg);
    cJSON_Delete(tree);
    regex_scan_init(&scan);
    normalize_scratch_init(&scratch, &scan);
    assert_int_equal(normalize_run(&z, &scratch, in, n, marks, &out, &e), STATUS_OK);
    check(out, arg);
    normalize_scratch_deinit(&scratch);
    regex_scan_deinit(&scan);
    normalize_close(&z);
}

static void check_text(const struct norm_text *got, const void *arg)
{
    const struct norm_case *c = arg;
    if (got->n != strlen(c->out) || memcmp(got->p, c->out, got->n) != 0)
        fail_msg("%s on \"%s\": \"%.*s\" instead of \"%s\"", c->config, c->in, (int)got->n, got->p,
                 c->out);
}

static void test_steps(void **state)
{
    (void)state;
    static const struct norm_case cases[] = {
        {"{\"type\":\"NFC\"}",
         "e\xCC\x81"
         "a",
         "\xC3\xA9"
         "a"},
        {"{\"type\":\"NFC\"}", "q\xCC\x87\xCC\xA3", "q\xCC\xA3\xCC\x87"},
        {"{\"type\":\"NFC\"}", "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", "\xED\x95\x9C"},
        {"{\"type\":\"NFD\"}", "\xED\x95\x9C", "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB"},
        {"{\"type\":\"NFKC\"}", "\xEF\xAC\x81\xEF\xBD\xB6\xEF\xBE\x9E", "fi\xE3\x82\xAC"},
        {"{\"type\":\"NFKC\"}", "\xE3\x8B\xBF", "\xE3\x8B\xBF"}, /* U+32FF is of Unicode 12.1 */
        {"{\"type\":\"Lowercase\"}",
         "\xC4\xB0"
         "A",
         "i\xCC\x87"
         "a"},
        {"{\"type\":\"StripAccents\"}", "e\xCC\x81", "e"},
        {"{\"type\":\"Strip\",\"strip_right\":false}",
         " \xE3\x80\x80"
         "a ",
         "a "},
        {"{\"type\":\"Prepend\",\"prepend\":\"_\"}", "a", "_a"},
        {"{\"type\":\"Prepend\",\"prepend\":\"_\"}", "", ""},
        {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\"-\"}", "a   b c",
         "a-b c"},
        {"{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\" \"},"
         "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Replace\",\"pattern\":"
         "{\"String\":\" \"},\"content\":\"_\"}]}]}",
         "a b", "_a_b"},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++)
        run(cases[k].config, cases[k].in, strlen(cases[k].in), NULL, check_text, &cases[k]);
}

static void check_marks(const struct norm_text *got, const void *arg)
{
    const char *wanted = arg; /* '1' or '0' for each byte */
    assert_true(got->has_marks);
    assert_int_equal(got->n, strlen(wanted));
    for (size_t i = 0; i < got->n; i++) {
        if (got->marks[i] != wanted[i] - '0')
            fail_msg("byte %d of \"%s\" is marked %d", (int)i, wanted, got->marks[i]);
    }
}

static void test_marks_travel(void **state)
{
    (void)state;
    static const uint8_t second[] = {0, 1, 0};
    static const uint8_t accent[] = {0, 0, 1, 1, 0};
    run("{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"__\"}", "a b", 3,
        second, check_marks, "0110");
    run("{\"type\":\"Prepend\",\"prepend\":\"_\"}", "abc", 3, second, check_marks, "0010");
    run("{\"type\":\"Strip\"}", " ab", 3, second, check_marks, "10");
    run("{\"type\":\"NFC\"}",
        "ae\xCC\x81"
        "b",
        5, accent, check_marks, "0110");
}

static void check_sorted(const struct norm_text *got, const void *arg)
{
    assert_int_equal(got->n, *(const size_t *)arg);
    /* U+0323 (class 220) before U+0301 (230), all of them. */
    assert_memory_equal(got->p + 1, "\xCC\xA3\xCC\xA3", 4);
    assert_memory_equal(got->p + got->n - 4, "\xCC\x81\xCC\x81", 4);
}

/* Quadratic sorting of these marks would take minutes. */
static void test_many_marks_take_linear_time(void **state)
{
    (void)state;
    size_t n = 2000001;
    char *text = mem_alloc(n, 1);
    assert_non_null(text);
    text[0] = 'x';
    for (size_t i = 1; i < n; i += 4)
        memcpy(text + i, "\xCC\x81\xCC\xA3", 4);
    int64_t start = clock_now_ns();
    run("{\"type\":\"NFD\"}", text, n, NULL, check_sorted, &n);
    assert_true(clock_now_ns() - start < 10000000000);
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_marks_travel),
        cmocka_unit_test(test_many_marks_take_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
