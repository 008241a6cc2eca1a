#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "server/reasoning.h"

struct split_case {
    bool thinking; /* the prompt opened the thought */
    const char *text;
    const char *thought;
    const char *said;
};

static const struct split_case cases[] = {
    {false, "", "", ""},
    {false, "Hello", "", "Hello"},
    {false, "  Hello ", "", "  Hello "},
    {false, "<think>hm</think>Hello", "hm", "Hello"},
    {false, "<think>\nhm, well\n</think>\n\nHello\n", "hm, well", "Hello\n"},
    {false, " \n<think>\n\n</think>\n\nHello", "", "Hello"},
    {false, "<think>hm", "hm", ""},
    {false, "<think>hm \n </thin", "hm \n </thin", ""},
    {false, "<thinking>hm</think>", "", "<thinking>hm</think>"},
    {false, "<thi", "", "<thi"},
    {false, "  <", "", "  <"},
    {false, "a <think>b</think> c", "", "a <think>b</think> c"},
    {false, "<think>a</think>b <think>c</think> d", "a", "b <think>c</think> d"},
    {false, "<think>a < b </ c </thinkx </think> \t d", "a < b </ c </thinkx", "d"},
    {false, "<think><<//think></think><", "<<//think>", "<"},
    {false, "<think>\xc3\xbc \xf0\x9f\x98\x80 </think>\xc3\xbc", "\xc3\xbc \xf0\x9f\x98\x80",
     "\xc3\xbc"},
    {true, "hm\n</think>\n\nHello", "hm", "Hello"},
    {true, "\n\nhm", "hm", ""},
    {true, "</think>Hello", "", "Hello"},
    {true, "<think>hm</think>Hello", "<think>hm", "Hello"},
    {true, "a\n\n\n b </think>", "a\n\n\n b", ""},
    {true, "", "", ""},
};

/* However the text is cut into pieces, the two parts are the same, and each byte is told at most
 * once. */
static void test_reasoning_splits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct split_case *c = &cases[i];
        size_t n = strlen(c->text);
        for (size_t piece = 1; piece <= n + 1; piece++) {
            struct reasoning r;
            struct strbuf thought;
            struct strbuf said;
            strbuf_init(&thought, 4096);
            strbuf_init(&said, 4096);
            reasoning_init(&r, "<think>", "</think>", c->thinking);
            for (size_t at = 0; at < n; at += piece)
                reasoning_push(&r, c->text + at, at + piece < n ? piece : n - at, &thought, &said);
            reasoning_end(&r, &thought, &said);
            if (strcmp(strbuf_str(&thought), c->thought) != 0 ||
                strcmp(strbuf_str(&said), c->said) != 0)
                fail_msg("\"%s\" in pieces of %zu: thought \"%s\", said \"%s\"", c->text, piece,
                         strbuf_str(&thought), strbuf_str(&said));
            assert_false(thought.failed || said.failed);
            reasoning_deinit(&r);
            strbuf_deinit(&thought);
            strbuf_deinit(&said);
        }
    }
}

/* What cannot be part of a tag is told at once. */
static void test_reasoning_waits_only_for_tags(void **state)
{
    (void)state;
    struct reasoning r;
    struct strbuf thought;
    struct strbuf said;
    strbuf_init(&thought, 4096);
    strbuf_init(&said, 4096);
    reasoning_init(&r, "<think>", "</think>", false);
    const struct {
        const char *push;
        const char *thought;
        const char *said;
        bool thinking;
    } steps[] = {
        {"<thi", "", "", false},           {"nk>", "", "", true},
        {"one", "one", "", true},          {" ", "one", "", true},
        {"two <", "one two", "", true},    {"b </thin", "one two <b", "", true},
        {"k>", "one two <b", "", false},   {"\n\n", "one two <b", "", false},
        {"a ", "one two <b", "a ", false}, {"<think>", "one two <b", "a <think>", false},
    };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        reasoning_push(&r, steps[i].push, strlen(steps[i].push), &thought, &said);
        assert_string_equal(strbuf_str(&thought), steps[i].thought);
        assert_string_equal(strbuf_str(&said), steps[i].said);
        assert_int_equal(reasoning_is_thinking(&r), steps[i].thinking);
    }
    reasoning_deinit(&r);
    strbuf_deinit(&thought);
    strbuf_deinit(&said);
}

static void test_reasoning_opens(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool opens;
    } ends[] = {
        {"<|im_start|>assistant\n<think>\n", true},
        {"<think>", true},
        {"<think>\n\n</think>\n\n", false},
        {"what is <think> for?<|im_end|><|im_start|>assistant\n", false},
        {"think>", false},
        {"", false},
    };
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        if (reasoning_opens("<think>", ends[i].text, strlen(ends[i].text)) != ends[i].opens)
            fail_msg("\"%s\" should%s open a thought", ends[i].text, ends[i].opens ? "" : " not");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reasoning_splits),
        cmocka_unit_test(test_reasoning_waits_only_for_tags),
        cmocka_unit_test(test_reasoning_opens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
