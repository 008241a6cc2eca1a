#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/sched/stop.h"

struct stop_case {
    const char *text;
    const char *stops[4];
    const char *shown; /* of the whole text */
    int found;         /* which of the stops, from 1; 0: none */
};

static const struct stop_case cases[] = {
    {"hello world", {NULL}, "hello world", 0},
    {"hello world", {"wor"}, "hello ", 1},
    {"hello wo", {"wor"}, "hello wo", 0},
    {"aaab", {"aab"}, "a", 1},
    {"ababac", {"abac"}, "ab", 1},
    {"abcabcabd", {"abcabd"}, "abc", 1},
    {"one two", {"two", "one"}, "", 2},
    {"abc", {"bc", "abc"}, "", 2},    /* both complete at c: the longest */
    {"abcd", {"abcd", "bc"}, "a", 2}, /* bc is complete first */
    {"xé€y", {"€"}, "xé", 1},
    {"x\n\nUser:", {"\n\nUser:", "\nUser"}, "x\n", 2},
    {"", {"a"}, "", 0},
};

static void build(struct stop *s, struct arena *a, const struct stop_case *c, bool include)
{
    arena_init(a, 1 << 20);
    stop_init(s, include);
    for (int i = 0; i < 4 && c->stops[i]; i++)
        assert_int_equal(stop_add(s, a, c->stops[i], strlen(c->stops[i])), STATUS_OK);
}

/* Pushes text in pieces of the given length; returns what was shown. */
static bool push_pieces(struct stop *s, const char *text, size_t piece, char *shown, size_t *len)
{
    char out[4096];
    size_t n = strlen(text), got = 0;
    *len = 0;
    for (size_t at = 0; at < n; at += piece) {
        bool stopped = stop_push(s, text + at, at + piece < n ? piece : n - at, out, &got);
        memcpy(shown + *len, out, got);
        *len += got;
        if (stopped)
            return true;
    }
    got = stop_flush(s, out);
    memcpy(shown + *len, out, got);
    *len += got;
    return false;
}

static void test_stop_does_not_depend_on_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t piece = 1; piece < 13; piece++) {
            struct stop s;
            struct arena a;
            char shown[4096];
            size_t len;
            build(&s, &a, &cases[i], false);
            bool stopped = push_pieces(&s, cases[i].text, piece, shown, &len);
            shown[len] = '\0';
            if (stopped != (cases[i].found > 0) || s.found != cases[i].found ||
                strcmp(shown, cases[i].shown) != 0)
                fail_msg("case %zu, pieces of %zu: '%s' %d, expected '%s' %d", i, piece, shown,
                         s.found, cases[i].shown, cases[i].found);
            arena_deinit(&a);
        }
    }
}

static void test_stop_include_keeps_the_string(void **state)
{
    (void)state;
    struct stop s;
    struct arena a;
    char shown[4096];
    size_t len;
    const struct stop_case c = {"say END now", {"END"}, NULL, true};
    build(&s, &a, &c, true);
    assert_true(push_pieces(&s, c.text, 2, shown, &len));
    shown[len] = '\0';
    assert_string_equal(shown, "say END");
    arena_deinit(&a);
}

/* Exactly what could still become a stop string is held back, no byte more. */
static void test_stop_holds_back_as_little_as_possible(void **state)
{
    (void)state;
    struct stop s;
    struct arena a;
    char out[4096];
    size_t n;
    const struct stop_case c = {NULL, {"abac", "xyz"}, NULL, false};
    const struct {
        const char *push, *shown;
    } steps[] = {{"q", "q"}, {"ab", ""}, {"a", ""}, {"b", "ab"}, {"ax", "aba"}, {"yq", "xyq"}};
    build(&s, &a, &c, false);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        assert_false(stop_push(&s, steps[i].push, strlen(steps[i].push), out, &n));
        assert_int_equal(n, strlen(steps[i].shown));
        assert_memory_equal(out, steps[i].shown, n);
    }
    assert_int_equal(stop_flush(&s, out), 0);
    arena_deinit(&a);
}

/* Random texts over two letters against plain search. */
static void test_stop_agrees_with_plain_search(void **state)
{
    (void)state;
    srand(11);
    for (int round = 0; round < 5000; round++) {
        char text[64], stops[3][8], shown[4096], want[64];
        struct stop_case c = {.text = text};
        int n = rand() % 60, count = 1 + rand() % 3;
        for (int i = 0; i < n; i++)
            text[i] = (char)('a' + rand() % 2);
        text[n] = '\0';
        for (int k = 0; k < count; k++) {
            int m = 1 + rand() % 7;
            for (int i = 0; i < m; i++)
                stops[k][i] = (char)('a' + rand() % 2);
            stops[k][m] = '\0';
            c.stops[k] = stops[k];
        }
        int cut = -1;
        for (int end = 1; end <= n && cut < 0; end++)
            for (int k = 0; k < count; k++) {
                int m = (int)strlen(stops[k]);
                if (m <= end && memcmp(text + end - m, stops[k], (size_t)m) == 0 &&
                    (cut < 0 || end - m < cut))
                    cut = end - m;
            }
        memcpy(want, text, (size_t)n + 1);
        if (cut >= 0)
            want[cut] = '\0';
        struct stop s;
        struct arena a;
        size_t len;
        build(&s, &a, &c, false);
        bool stopped = push_pieces(&s, text, 1 + (size_t)rand() % 5, shown, &len);
        shown[len] = '\0';
        assert_int_equal(stopped, cut >= 0);
        assert_string_equal(shown, want);
        arena_deinit(&a);
    }
}

static void test_stop_longest_string(void **state)
{
    (void)state;
    struct stop s;
    struct arena a;
    char text[LIMIT_STOP_BYTES], out[2 * LIMIT_STOP_BYTES];
    size_t n;
    memset(text, 'a', sizeof text);
    arena_init(&a, 1 << 20);
    stop_init(&s, false);
    assert_int_equal(stop_add(&s, &a, text, sizeof text), STATUS_OK);
    assert_false(stop_push(&s, text, sizeof text - 1, out, &n));
    assert_int_equal(n, 0);
    assert_false(stop_push(&s, "b", 1, out, &n));
    assert_int_equal(n, LIMIT_STOP_BYTES);
    assert_true(stop_push(&s, text, sizeof text, out, &n));
    assert_int_equal(n, 0);
    arena_deinit(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop_does_not_depend_on_pieces),
        cmocka_unit_test(test_stop_include_keeps_the_string),
        cmocka_unit_test(test_stop_holds_back_as_little_as_possible),
        cmocka_unit_test(test_stop_agrees_with_plain_search),
        cmocka_unit_test(test_stop_longest_string),
    };
    return cmocka_run_group_tests_name("stop", tests, NULL, NULL);
}
