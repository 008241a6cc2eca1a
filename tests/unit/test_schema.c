/* Schemas and expressions as grammars: which texts they accept, what is refused and how it is
 * named, what happens when memory is out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/grammar/grammar_build.h"
#include "engine/grammar/grammar_state.h"
#include "engine/grammar/regular_build.h"
#include "engine/grammar/schema.h"

#define TEXTS_MAX 12

struct table {
    const char *source;
    const char *yes[TEXTS_MAX], *no[TEXTS_MAX];
};

static enum status compile_regex(const char *pattern, struct grammar **out, struct err *e)
{
    struct grammar_builder *b;
    enum status s = grammar_builder_create(&b);
    if (s != STATUS_OK)
        return s;
    int root = grammar_build_rule(b, "root");
    grammar_build_define(b, root, regular_build_pattern(b, pattern, strlen(pattern)));
    s = grammar_build_finish(b, root, out, e);
    grammar_builder_destroy(b);
    return s;
}

static bool accepts(struct grammar *g, const char *text)
{
    struct grammar_state s = {0};
    bool ok = grammar_state_init(&s, g) == STATUS_OK &&
              grammar_state_accept(&s, text, strlen(text)) == STATUS_OK &&
              grammar_state_can_end(&s);
    grammar_state_deinit(&s);
    return ok;
}

static void try_texts(const struct table *t, struct grammar *g)
{
    for (size_t i = 0; t->yes[i]; i++)
        if (!accepts(g, t->yes[i]))
            fail_msg("%s refuses %s", t->source, t->yes[i]);
    for (size_t i = 0; t->no[i]; i++)
        if (accepts(g, t->no[i]))
            fail_msg("%s accepts %s", t->source, t->no[i]);
}

static void test_regex_texts(void **state)
{
    static const struct table tables[] = {
        {"abc", {"abc"}, {"", "ab", "abcd", "xabc"}},
        {"", {""}, {"a"}},
        {"a|bc|", {"a", "bc", ""}, {"b", "abc"}},
        {"^a$|^b", {"a", "b"}, {"ab", "bb"}},
        {"(^|,)x(,|$)", {"x"}, {"xx"}},
        {"a^b", {NULL}, {"ab", "a^b", ""}},
        {"[a-c^\\]-]+", {"a", "c^]-", "-"}, {"", "d", "\\"}},
        {"[^a-z]", {"A", "\xC3\xA9", "\n"}, {"a", "", "\xC3"}},
        {"[]", {NULL}, {"", "a", "]"}},
        {"x*y+z?", {"y", "xxyyz"}, {"", "xz", "yzz"}},
        {"a{2}b{1,}c{0,2}", {"aab", "aabbbcc"}, {"ab", "aabccc", "aa"}},
        {"a{,2}|b{x}", {"a{,2}", "b{x}"}, {"a", "aa", "b"}},
        {"(?:ab)+?c*?", {"ab", "ababcc"}, {"", "abb"}},
        {"(?<n>a)(?P<m>b)", {"ab"}, {"a", "b"}},
        {"\\d\\D\\w\\W\\s\\S", {"1x_- !"}, {"xx_- !", "1x_-  "}},
        {"\\x41\\u00e9\\u{1F600}\\uD83D\\uDE00\\cJ\\t\\/\\.\\0",
         {NULL},
         {"A\xC3\xA9\xF0\x9F\x98\x80\xF0\x9F\x98\x80\n\t/x"}},
        {"\\x41\\u00e9\\u{1F600}\\uD83D\\uDE00\\cJ\\t\\/\\.",
         {"A\xC3\xA9\xF0\x9F\x98\x80\xF0\x9F\x98\x80\n\t/."},
         {"A\xC3\xA9\xF0\x9F\x98\x80\xF0\x9F\x98\x80\n\t/x"}},
        {".", {"a", "\xE4\xB8\xAD", "\""}, {"\n", "\r", "\xE2\x80\xA8", ""}},
        {"\\p{Lu}\\P{L}\\p{N}", {"A-1", "\xC3\x89 5"}, {"a-1", "AB1", "A-x"}},
        {"(a|b)*abb", {"abb", "babaabb"}, {"ab", "abba"}},
        {"([0-9]{1,3}\\.){3}[0-9]{1,3}", {"1.22.333.4"}, {"1.2.3", "1.2.3.4444"}},
        {"^(?=.*[A-Z])(?=.*\\d).{3,}$", {"aA1", "1Ab3"}, {"aa1", "AAA", "A1"}},
        {"^(?!^[-+.]*$)[+-]?\\d*\\.?\\d*$", {"1", "-.5", "+0."}, {"", "-", "+.", "."}},
        {"(?!ab)a.|(?=c$)c", {"ac", "c"}, {"ab", "cc"}},
        {"a(?=b)b", {"ab"}, {"a", "aa"}},
        {"((a?){3}){2}", {"", "aaaaaa"}, {"aaaaaaa"}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        struct grammar *g = NULL;
        struct err e = {0};
        enum status s = compile_regex(tables[i].source, &g, &e);
        /* A pattern that nothing matches is refused as a whole: that is a refusal of each text. */
        if (s != STATUS_OK && !tables[i].yes[0])
            continue;
        if (s != STATUS_OK)
            fail_msg("%s: %s", tables[i].source, e.msg);
        try_texts(&tables[i], g);
        grammar_unref(g);
    }
}

static void test_regex_errors(void **state)
{
    static const struct {
        const char *pattern, *says;
        enum status status;
    } rows[] = {
        {"((?=a)b)", "lookahead inside a group", STATUS_UNSUPPORTED},
        {"(?!a)*b", "lookahead that is repeated", STATUS_UNSUPPORTED},
        {"(?<=a)b", "lookbehind", STATUS_UNSUPPORTED},
        {"(a)\\1", "backreference", STATUS_UNSUPPORTED},
        {"(?<n>a)\\k<n>", "backreference", STATUS_UNSUPPORTED},
        {"\\bword\\b", "word boundary", STATUS_UNSUPPORTED},
        {"(?i)a", "flag", STATUS_UNSUPPORTED},
        {"a++", "possessive", STATUS_UNSUPPORTED},
        {"\\p{Greek}", "\\p{", STATUS_UNSUPPORTED},
        {"[[:alpha:]]", "POSIX", STATUS_UNSUPPORTED},
        {"\\q", "escape", STATUS_UNSUPPORTED},
        {"(a", "without its end", STATUS_INVALID},
        {"a)", "without its group", STATUS_INVALID},
        {"[a", "without its end", STATUS_INVALID},
        {"[z-a]", "backwards", STATUS_INVALID},
        {"a{3,2}", "backwards", STATUS_INVALID},
        {"*a", "nothing to repeat", STATUS_INVALID},
        {"a\\", "backslash", STATUS_INVALID},
        {"\\u12", "\\u", STATUS_INVALID},
        {"a\xFF", "UTF-8", STATUS_INVALID},
        {"a{70000}", "65535", STATUS_LIMIT},
        {"(a|b)*a(a|b){20}", "states", STATUS_LIMIT},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct grammar *g = NULL;
        struct err e = {0};
        enum status s = compile_regex(rows[i].pattern, &g, &e);
        if (s != rows[i].status || !strstr(e.msg, rows[i].says))
            fail_msg("%s: status %d, \"%s\"", rows[i].pattern, s, e.msg);
    }
    char deep[512];
    memset(deep, '(', 200);
    memset(deep + 200, ')', 200);
    deep[400] = '\0';
    struct grammar *g = NULL;
    struct err e = {0};
    assert_int_equal(compile_regex(deep, &g, &e), STATUS_LIMIT);
}

#define OBJ "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":"

static const struct table schemas[] = {
    {"true",
     {"1", "null", "{\"a\":[1,{}]}", "\"\\ud83d\\ude00\"", "-0.5e+3"},
     {"", "nul", "01", "\"\\ud83d\"", "[1,]", "{a:1}", "1 ", "\"\n\"", "+1", "1.", "\"\\x\""}},
    {"{\"type\":\"object\"}",
     {"{}", "{\"a\": 1,\n  \"b\":2\n}"},
     {"[]", "{\"a\"}", "{,}", "{\"a\":  1}"}},
    {"{\"type\":[\"string\",\"null\"]}", {"null", "\"x\""}, {"1", "true"}},
    {"{\"type\":\"integer\"}", {"0", "-12", "12345678901234567890"}, {"-0", "1.0", "1e3", "00"}},
    {OBJ "{\"a\":{\"type\":\"null\"},\"b\":{\"type\":\"null\"}},\"required\":[\"b\"]}",
     {"{\"a\":null,\"b\":null}", "{\"b\":null}"},
     {"{}", "{\"a\":null}", "{\"b\":null,\"a\":null}", "{\"b\":null,\"b\":null}",
      "{\"b\":null,\"c\":1}"}},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"},\"ab\":{\"type\":\"null\"}}}",
     {"{}", "{\"a\":null,\"b\":1}", "{\"abc\":1}", "{\"\":0}", "{\"\\\"\":0}"},
     {"{\"a\":1}", "{\"b\":1,\"a\":null}", "{\"\\u0061\":1}", "{\"ab\":1}",
      "{\"b\":1,\"ab\":null}"}},
    {"{\"type\":\"object\",\"required\":[\"x\"],\"additionalProperties\":{\"type\":\"integer\"}}",
     {"{\"x\":1}", "{\"x\":1,\"y\":2}"},
     {"{}", "{\"y\":2}", "{\"x\":\"\"}"}},
    {"{\"type\":\"object\",\"patternProperties\":{\"^n_\":{\"type\":\"integer\"},\"s$\":{"
     "\"minimum\":5}},"
     "\"additionalProperties\":false}",
     {"{\"n_a\":1}", "{\"n_s\":7}", "{\"xs\":5.5}"},
     {"{\"n_s\":3}", "{\"n_s\":5.5}", "{\"q\":1}"}},
    {OBJ "{\"a\":true,\"b\":true,\"c\":true},\"minProperties\":2,\"maxProperties\":2}",
     {"{\"a\":1,\"c\":1}", "{\"b\":1,\"c\":1}"},
     {"{\"a\":1}", "{\"a\":1,\"b\":1,\"c\":1}", "{}"}},
    {"{\"type\":\"array\",\"items\":{\"type\":\"null\"},\"minItems\":1,\"maxItems\":3}",
     {"[null]", "[null,null,null]", "[\n  null,\n  null\n]"},
     {"[]", "[null,null,null,null]", "[1]", "[null,]"}},
    {"{\"type\":\"array\",\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":{\"const\":3},"
     "\"minItems\":1}",
     {"[1]", "[1,2]", "[1,2,3,3]"},
     {"[]", "[2]", "[1,3]", "[1,2,2]"}},
    {"{\"type\":\"array\",\"prefixItems\":[{\"const\":1}],\"items\":false}",
     {"[]", "[1]"},
     {"[1,1]", "[2]"}},
    {"{\"type\":\"array\",\"items\":[{\"const\":1}],\"additionalItems\":{\"const\":2}}",
     {"[]", "[1]", "[1,2,2]"},
     {"[2]", "[1,1]"}},
    {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
     {"\"ab\"", "\"\xC3\xA9\xC3\xA9\xC3\xA9\"", "\"\\n\\u0041\"", "\"\\ud83d\\ude00x\""},
     {"\"a\"", "\"abcd\"", "\"\\ud83d\\ude00\""}},
    {"{\"type\":\"string\",\"pattern\":\"^[^a]\\\"$\"}",
     {"\"b\\\"\"", "\"\\n\\\"\"", "\"\\\\\\\"\""},
     {"\"a\\\"\"", "\"b\"\"", "\"\n\\\"\""}},
    {"{\"type\":\"string\",\"pattern\":\"b\",\"maxLength\":3}",
     {"\"b\"", "\"abc\""},
     {"\"a\"", "\"abcd\"", "\"\""}},
    {"{\"type\":\"string\",\"format\":\"date\"}",
     {"\"2024-02-29\"", "\"2000-02-29\""},
     {"\"2023-02-29\"", "\"1900-02-29\"", "\"2023-13-01\"", "\"0000-01-01\"", "\"2023-04-31\""}},
    {"{\"type\":\"string\",\"format\":\"ipv6\"}",
     {"\"::\"", "\"1::8\"", "\"1:2:3:4:5:6:7:8\"", "\"::2:3\""},
     {"\"1:2:3:4:5:6:7\"", "\"1::2::3\"", "\":1\"", "\"12345::\"", "\"1:2:3:4:5:6:7:8:9\""}},
    {"{\"type\":\"integer\",\"minimum\":-3,\"maximum\":12}",
     {"-3", "0", "9", "12"},
     {"-4", "13", "-0", "99", "-12"}},
    {"{\"type\":\"integer\",\"exclusiveMinimum\":99,\"exclusiveMaximum\":1001}",
     {"100", "999", "1000"},
     {"99", "1001", "10"}},
    {"{\"type\":\"integer\",\"minimum\":1.5,\"maximum\":3.2}", {"2", "3"}, {"1", "4"}},
    {"{\"type\":\"integer\",\"minimum\":9007199254740990,\"maximum\":9007199254740992}",
     {"9007199254740990", "9007199254740992"},
     {"9007199254740989", "9007199254740993"}},
    {"{\"type\":\"integer\",\"multipleOf\":7,\"minimum\":1}",
     {"7", "14", "7007"},
     {"0", "8", "-7"}},
    {"{\"type\":\"number\",\"minimum\":0.25,\"maximum\":10}",
     {"0.25", "0.2500", "0.3", "1", "9.99", "10", "10.0"},
     {"0.24", "0.2", "10.01", "0", "-1", "1e0"}},
    {"{\"type\":\"number\",\"exclusiveMinimum\":-1.5,\"exclusiveMaximum\":0}",
     {"-1.4", "-1.49", "-0.01", "-1"},
     {"-1.5", "-1.50", "0", "-0", "-0.0", "-2", "0.1"}},
    {"{\"type\":\"number\",\"multipleOf\":0.01,\"minimum\":0}",
     {"1", "1.5", "1.25"},
     {"1.255", "-1"}},
    {"{\"enum\":[\"a\\\"b\",1,null,[1,{\"k\":true}],2.5]}",
     {"\"a\\\"b\"", "1", "null", "[1,{\"k\":true}]", "[1, {\"k\": true}]", "2.5"},
     {"\"a\"", "2", "[1]"}},
    {"{\"type\":\"string\",\"enum\":[\"aa\",1,\"b\"],\"minLength\":2}", {"\"aa\""}, {"1", "\"b\""}},
    {"{\"const\":\"x\",\"enum\":[\"x\",\"y\"]}", {"\"x\""}, {"\"y\""}},
    {"{\"anyOf\":[{\"type\":\"null\"},{\"type\":\"integer\",\"minimum\":5}],\"maximum\":6}",
     {"null", "5", "6"},
     {"4", "7"}},
    {"{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"boolean\"}]}", {"\"\"", "true"}, {"1"}},
    {"{\"oneOf\":[{\"required\":[\"t\"],\"type\":\"object\",\"properties\":{\"t\":{\"const\":1}}},"
     "{\"required\":[\"t\"],\"type\":\"object\",\"properties\":{\"t\":{\"enum\":[2,3]}}}]}",
     {"{\"t\":1}", "{\"t\":3}"},
     {"{\"t\":4}", "{}"}},
    {"{\"allOf\":[{\"type\":\"integer\",\"minimum\":2},{\"maximum\":3},{\"$ref\":\"#/$defs/"
     "odd\"}],\"$defs\":{\"odd\":{\"enum\":[1,3,5]}}}",
     {"3"},
     {"1", "2", "5"}},
    {"{\"$ref\":\"#/$defs/a~1b%25c~0\",\"$defs\":{\"a/b%c~\":{\"const\":7}}}", {"7"}, {"8"}},
    {"{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"integer\"},\"next\":{\"$ref\":\"#\"}},"
     "\"required\":[\"v\"],\"additionalProperties\":false}",
     {"{\"v\":1}", "{\"v\":1,\"next\":{\"v\":2,\"next\":{\"v\":3}}}"},
     {"{\"v\":1,\"next\":{}}", "{\"next\":{\"v\":2}}"}},
    {"{\"anyOf\":[{\"$ref\":\"#\"},{\"const\":1}]}", {"1"}, {"2", ""}},
    {OBJ "{\"a\":false,\"b\":{\"const\":1}}}",
     {"{}", "{\"b\":1}"},
     {"{\"a\":1}", "{\"a\":1,\"b\":1}"}},
    {OBJ "{\"l\":{\"$ref\":\"#/$defs/"
         "endless\"}},\"$defs\":{\"endless\":{\"type\":\"object\",\"required\":[\"e\"],"
         "\"properties\":{\"e\":{\"$ref\":\"#/$defs/endless\"}}}}}",
     {"{}"},
     {"{\"l\":", "{\"l\":{}}"}},
    {"{\"minimum\":3}", {"3", "4.5"}, {"2", "\"a\"", "null"}},
};

static void test_schema_texts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        struct grammar *g = NULL;
        struct err e = {0};
        if (schema_compile(schemas[i].source, strlen(schemas[i].source), NULL, &g, &e) != STATUS_OK)
            fail_msg("%s: %s", schemas[i].source, e.msg);
        try_texts(&schemas[i], g);
        grammar_unref(g);
    }
}

/* A state that nothing can complete must not be entered: no answer begins what it cannot end. */
static void test_schema_dead_ends(void **state)
{
    static const char source[] = OBJ "{\"x\":{\"type\":\"string\",\"pattern\":\"^(a|b)$\","
                                     "\"minLength\":2},\"y\":{\"type\":\"null\"}}}";
    struct grammar *g = NULL;
    struct grammar_state s = {0};
    struct err e = {0};
    (void)state;
    assert_int_equal(schema_compile(source, strlen(source), NULL, &g, &e), STATUS_OK);
    assert_int_equal(grammar_state_init(&s, g), STATUS_OK);
    assert_int_equal(grammar_state_accept(&s, "{\"", 2), STATUS_OK);
    assert_int_equal(grammar_state_accept(&s, "x", 1), STATUS_INVALID);
    assert_int_equal(grammar_state_accept(&s, "y\":null}", 8), STATUS_OK);
    assert_true(grammar_state_must_end(&s));
    grammar_state_deinit(&s);
    grammar_unref(g);
}

static void test_schema_options(void **state)
{
    static const char open[] = "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"}}}";
    static const char closed[] = OBJ "{\"a\":{\"type\":\"null\"}}}";
    const struct schema_options strict = {.strict = true}, compact = {.compact = true};
    struct grammar *g = NULL;
    struct err e = {0};
    (void)state;
    assert_int_equal(schema_compile(open, strlen(open), &strict, &g, &e), STATUS_INVALID);
    assert_non_null(strstr(e.msg, "#/additionalProperties"));
    assert_int_equal(schema_compile(closed, strlen(closed), &strict, &g, &e), STATUS_OK);
    grammar_unref(g);
    assert_int_equal(schema_compile(closed, strlen(closed), &compact, &g, &e), STATUS_OK);
    assert_true(accepts(g, "{\"a\":null}"));
    assert_false(accepts(g, "{\"a\": null}"));
    assert_false(accepts(g, "{ \"a\":null}"));
    grammar_unref(g);
    assert_int_equal(schema_compile(NULL, 0, NULL, &g, &e), STATUS_OK);
    assert_true(accepts(g, "{\"a\": [1, 2]}"));
    assert_false(accepts(g, "[1]"));
    grammar_unref(g);
}

static void test_schema_errors(void **state)
{
    static const struct {
        const char *schema, *says;
        enum status status;
    } rows[] = {
        {"{\"not\":{}}", "#/not: the keyword 'not'", STATUS_UNSUPPORTED},
        {"{\"type\":\"object\",\"properties\":{\"a/b\":{\"items\":{\"uniqueItems\":true}}}}",
         "#/properties/a~1b/items/uniqueItems", STATUS_UNSUPPORTED},
        {"{\"if\":{}}", "'if'", STATUS_UNSUPPORTED},
        {"{\"contains\":{}}", "'contains'", STATUS_UNSUPPORTED},
        {"{\"propertyNames\":{\"maxLength\":3}}", "'propertyNames'", STATUS_UNSUPPORTED},
        {"{\"dependentRequired\":{\"a\":[\"b\"]}}", "'dependentRequired'", STATUS_UNSUPPORTED},
        {"{\"unevaluatedProperties\":false}", "'unevaluatedProperties'", STATUS_UNSUPPORTED},
        {"{\"anyOf\":[{\"type\":\"null\"},{\"$dynamicRef\":\"#x\"}]}", "#/anyOf/1/$dynamicRef",
         STATUS_UNSUPPORTED},
        {"{\"$ref\":\"http://example.com/s\"}", "#/$ref", STATUS_UNSUPPORTED},
        {"{\"$ref\":\"#/$defs/x\"}", "#/$ref", STATUS_UNSUPPORTED},
        {"{\"oneOf\":[{\"type\":\"integer\"},{\"minimum\":2}]}", "#/oneOf", STATUS_UNSUPPORTED},
        {"{\"oneOf\":[{\"type\":\"number\"},{\"type\":\"integer\"}]}", "#/oneOf",
         STATUS_UNSUPPORTED},
        {"{\"multipleOf\":0.3}", "#/multipleOf", STATUS_UNSUPPORTED},
        {"{\"multipleOf\":0}", "#/multipleOf", STATUS_INVALID},
        {"{\"type\":\"string\",\"pattern\":\"((?=a))\"}", "#/pattern: a lookahead",
         STATUS_UNSUPPORTED},
        {"{\"type\":\"object\",\"minProperties\":2}", "#/minProperties", STATUS_UNSUPPORTED},
        {"{\"enum\":[[1]],\"minItems\":1}", "enum", STATUS_UNSUPPORTED},
        {"{\"type\":\"text\"}", "#/type", STATUS_INVALID},
        {"{\"type\":7}", "#/type", STATUS_INVALID},
        {"{\"enum\":1}", "#/enum", STATUS_INVALID},
        {"{\"minLength\":-1}", "#/minLength", STATUS_INVALID},
        {"{\"minLength\":1.5}", "#/minLength", STATUS_INVALID},
        {"{\"minimum\":\"1\"}", "#/minimum", STATUS_INVALID},
        {"{\"properties\":[]}", "#/properties", STATUS_INVALID},
        {"{\"required\":\"a\"}", "#/required", STATUS_INVALID},
        {"{\"anyOf\":[]}", "#/anyOf", STATUS_INVALID},
        {"{\"allOf\":{}}", "#/allOf", STATUS_INVALID},
        {"{\"properties\":{\"a\":3}}", "#/properties/a", STATUS_INVALID},
        {"[]", "#", STATUS_INVALID},
        {"{\"a\":1,\"a\":2}", "a", STATUS_INVALID},
        {"false", "nothing", STATUS_INVALID},
        {"{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}", "nothing", STATUS_INVALID},
        {"{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", "nothing", STATUS_INVALID},
        {"{\"allOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", "nothing", STATUS_INVALID},
        {"{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"$ref\":\"#\"}}}",
         "nothing", STATUS_INVALID},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct grammar *g = NULL;
        struct err e = {0};
        enum status s = schema_compile(rows[i].schema, strlen(rows[i].schema), NULL, &g, &e);
        if (s != rows[i].status || !strstr(e.msg, rows[i].says))
            fail_msg("%s: status %d, \"%s\", wanted %d, \"%s\"", rows[i].schema, s, e.msg,
                     rows[i].status, rows[i].says);
    }
}

/* RELIABILITY.md MEM-2: each allocation fails once; the answer is "out of memory" or a grammar. */
static void test_schema_allocations(void **state)
{
    static const char source[] =
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"pattern\":\"^[a-z]{2,9}$"
        "\",\"maxLength\":5},"
        "\"n\":{\"type\":\"number\",\"minimum\":0.5},\"l\":{\"type\":\"array\",\"items\":{\"$ref\":"
        "\"#\"}},"
        "\"e\":{\"anyOf\":[{\"enum\":[1,\"x\"]},{\"type\":\"null\"}]}},\"required\":[\"a\"],"
        "\"patternProperties\":{\"^p\":true}}";
    (void)state;
    int failed = 0;
    for (int64_t k = 1;; k++) {
        struct grammar *g = NULL;
        struct err e = {0};
        mem_fail_at(k);
        enum status s = schema_compile(source, strlen(source), NULL, &g, &e);
        mem_fail_at(0);
        if (s == STATUS_OK) {
            assert_true(accepts(g, "{\"a\":\"abc\",\"n\":1}"));
            grammar_unref(g);
            break;
        }
        if (s != STATUS_NO_MEMORY)
            fail_msg("allocation %d: status %d, %s", (int)k, s, e.msg);
        failed++;
    }
    assert_true(failed > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_regex_texts),        cmocka_unit_test(test_regex_errors),
        cmocka_unit_test(test_schema_texts),       cmocka_unit_test(test_schema_dead_ends),
        cmocka_unit_test(test_schema_options),     cmocka_unit_test(test_schema_errors),
        cmocka_unit_test(test_schema_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
