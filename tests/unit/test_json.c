#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/json.h"

struct text_case {
    const char *text;
    const char *why; /* NULL: accepted */
};

static void test_json_grammar(void **state)
{
    (void)state;
    static const struct text_case cases[] = {
        {"{}", NULL},
        {"[1,2,{\"a\":[]}]", NULL},
        {" \"x\" ", NULL},
        {"-0.5e-3", NULL},
        {"{\"a\":1,\"b\":[true,false,null]}", NULL},
        {"\"\\ud83d\\ude00\"", NULL},
        {"", "unexpected end"},
        {"{", "string"},
        {"[1,]", "unexpected character"},
        {"01", "bad number"},
        {"1.", "bad number"},
        {"1e400", "out of range"},
        {"{\"a\":1} x", "after the end"},
        {"\"\\u0000\"", "u0000"},
        {"\"\\ud83d\"", "lone surrogate"},
        {"\"\xff\"", "UTF-8"},
        {"\"a\nb\"", "control"},
        {"{\"a\" 1}", "expected ':'"},
        {"[1 2]", "expected ','"},
        {"nul", "unexpected character"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cJSON *v = NULL;
        struct err e = {0};
        enum status st =
            json_parse(cases[i].text, strlen(cases[i].text), &json_default_limits, &v, &e);
        if (!cases[i].why) {
            if (st != STATUS_OK)
                fail_msg("%s: refused: %s", cases[i].text, e.msg);
        } else if (st != STATUS_INVALID || !strstr(e.msg, cases[i].why)) {
            fail_msg("%s: status %d, \"%s\"", cases[i].text, st, e.msg);
        }
        cJSON_Delete(v);
    }
}

static void test_json_depth(void **state)
{
    (void)state;
    char text[300];
    for (int depth = 63; depth <= 65; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        cJSON *v = NULL;
        struct err e;
        enum status st = json_parse(text, (size_t)depth * 2, &json_default_limits, &v, &e);
        assert_int_equal(st == STATUS_OK, depth <= 64);
        cJSON_Delete(v);
    }
}

static void test_json_int64_keeps_digits(void **state)
{
    (void)state;
    const char *text = "{\"x\":1.5,\"a\":[7],\"seed\":9223372036854775807,"
                       "\"low\":-9223372036854775808,\"over\":9223372036854775808}";
    cJSON *v = NULL;
    struct err e;
    assert_int_equal(json_parse(text, strlen(text), &json_default_limits, &v, &e), STATUS_OK);
    int64_t r = 0;
    assert_int_equal(json_get_int(v, "seed", INT64_MIN, INT64_MAX, &r, &e), STATUS_OK);
    assert_true(r == INT64_MAX);
    assert_int_equal(json_get_int(v, "low", INT64_MIN, INT64_MAX, &r, &e), STATUS_OK);
    assert_true(r == INT64_MIN);
    assert_int_equal(json_get_int(v, "over", INT64_MIN, INT64_MAX, &r, &e), STATUS_INVALID);
    assert_string_equal(e.param, "over");
    assert_int_equal(json_get_int(v, "x", 0, 9, &r, &e), STATUS_INVALID);
    cJSON_Delete(v);
}

static void test_json_duplicate_keys(void **state)
{
    (void)state;
    struct json_limits strict = json_default_limits;
    strict.refuse_duplicate = true;
    const char *text = "{\"b\":{\"x\":1,\"y\":2,\"x\":3}}";
    cJSON *v = NULL;
    struct err e;
    assert_int_equal(json_parse(text, strlen(text), &strict, &v, &e), STATUS_INVALID);
    assert_string_equal(e.param, "x");
    assert_int_equal(json_parse(text, strlen(text), &json_default_limits, &v, &e), STATUS_OK);
    cJSON_Delete(v);
}

static void test_json_tells_floats_from_integers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is_float;
        bool is_int64;
    } cases[] = {
        {"1", false, true},
        {"1.0", true, true},
        {"1e3", true, true},
        {"1.5", true, false},
        {"-0", false, true},
        {"-0.0", true, true},
        {"123456789012345678", false, true},
        {"1e17", true, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cJSON *v = NULL;
        struct err e;
        const char *text = cases[i].text;
        assert_int_equal(json_parse(text, strlen(text), &json_default_limits, &v, &e), STATUS_OK);
        int64_t r;
        if (json_is_float(v) != cases[i].is_float || json_int64(v, &r) != cases[i].is_int64)
            fail_msg("%s: float %d, int64 %d", text, json_is_float(v), json_int64(v, &r));
        cJSON_Delete(v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_tells_floats_from_integers),
        cmocka_unit_test(test_json_grammar),
        cmocka_unit_test(test_json_depth),
        cmocka_unit_test(test_json_int64_keeps_digits),
        cmocka_unit_test(test_json_duplicate_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
