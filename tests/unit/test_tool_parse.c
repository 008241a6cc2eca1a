/* Calls of tools told apart from what is said: every text in every cut into two and byte by byte
 * gives the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/json.h"
#include "engine/base/mem.h"
#include "engine/base/strbuf.h"
#include "server/tool_parse.h"

/* What came out, as one line: text as it is, a call as <name(, arguments, then )> before whatever
 * comes next. */
struct seen {
    struct strbuf line;
    bool in_call;
};

static void leave_call(struct seen *s)
{
    if (s->in_call)
        strbuf_puts(&s->line, ")>");
    s->in_call = false;
}

static void on_text(void *ctx, const char *text, size_t n)
{
    struct seen *s = ctx;
    leave_call(s);
    strbuf_append(&s->line, text, n);
}

static void on_call(void *ctx, const char *name, size_t n)
{
    struct seen *s = ctx;
    leave_call(s);
    strbuf_putc(&s->line, '<');
    strbuf_append(&s->line, name, n);
    strbuf_putc(&s->line, '(');
    s->in_call = true;
}

static void on_arguments(void *ctx, const char *text, size_t n)
{
    struct seen *s = ctx;
    assert_true(s->in_call);
    strbuf_append(&s->line, text, n);
}

static cJSON *tools(void)
{
    static const char text[] = "[{\"type\":\"function\",\"function\":{\"name\":\"f\"}},"
                               "{\"type\":\"function\",\"function\":{\"name\":\"get_it\"}}]";
    cJSON *list = NULL;
    assert_int_equal(json_parse(text, strlen(text), &json_default_limits, &list, NULL), STATUS_OK);
    return list;
}

/* step 0: cut once at `cut`; else pieces of `step` bytes. */
static void read_text(enum engine_tool_form form, bool forced, const char *text, size_t cut,
                      size_t step, struct seen *s)
{
    const struct tool_sink sink = {on_text, on_call, on_arguments, s};
    struct tool_parse p;
    cJSON *list = tools();
    size_t n = strlen(text);
    *s = (struct seen){0};
    strbuf_init(&s->line, 1 << 20);
    tool_parse_init(&p, form, forced, list, &sink);
    for (size_t i = 0; i < n;) {
        size_t piece = step ? step : i < cut ? cut - i : n - i;
        piece = piece < n - i ? piece : n - i;
        assert_true(tool_parse_push(&p, text + i, piece));
        i += piece;
    }
    assert_true(tool_parse_end(&p));
    leave_call(s);
    tool_parse_deinit(&p);
    cJSON_Delete(list);
}

enum { NONE = ENGINE_TOOLS_NONE, TAGS = ENGINE_TOOLS_TAGS, OBJECT = ENGINE_TOOLS_OBJECT };
enum { PYTHON = ENGINE_TOOLS_PYTHON, MISTRAL = ENGINE_TOOLS_MISTRAL, OTHER = ENGINE_TOOLS_OTHER };

static const struct {
    int form;
    bool forced;
    const char *text, *wanted;
} rows[] = {
    {NONE, false, "{\"name\": \"f\", \"parameters\": {}}", "{\"name\": \"f\", \"parameters\": {}}"},
    {OTHER, false, " <tool_call>{}", " <tool_call>{}"},
    {TAGS, false, "plain text \n", "plain text \n"},
    {TAGS, false, "a < b <tool", "a < b <tool"},
    {TAGS, false,
     "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": \"}\\\"{\"}}\n</tool_call>",
     "<f({\"x\": \"}\\\"{\"})>"},
    {TAGS, false,
     "Let me see. \n<tool_call>\n{\"name\":\"f\",\"arguments\":{}}\n</tool_call>\n<tool_call>\n"
     "{\"name\": \"zz\", \"arguments\": {\"a\": [1, {\"b\": 2}]}}\n</tool_call> done",
     "Let me see.<f({})><zz({\"a\": [1, {\"b\": 2}]})> done"},
    {TAGS, false, "<tool_call>{\"arguments\": {\"x\": 1}, \"name\": \"f\"}</tool_call>",
     "<f({\"x\":1})>"},
    {TAGS, false, "<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"x\\\": 1}\"}</tool_call>",
     "<f({\"x\": 1})>"},
    {TAGS, false,
     "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}, \"id\": {\"k\": 3}}</tool_call>",
     "<f({\"x\": 1})>"},
    {TAGS, false, "<tool_call>\nnonsense\n</tool_call>", "nonsense\n</tool_call>"},
    {TAGS, false, "<tool_call>{\"nam\": 1}</tool_call>", "{\"nam\": 1}"},
    {TAGS, false, "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": \"cut",
     "<f({\"x\": \"cut)>"},
    {TAGS, false, "<tool_call>{\"name\": \"f", "{\"name\": \"f"},
    {TAGS, true, "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>", "<f({})>"},
    {OBJECT, false, "{\"name\": \"f\", \"parameters\": {\"x\": 1}}", "<f({\"x\": 1})>"},
    {OBJECT, false, " \n<|python_tag|>{\"name\": \"get_it\", \"parameters\": {}}", "<get_it({})>"},
    {OBJECT, false,
     "{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"f\", \"parameters\": {\"y\": []}}",
     "<f({})><f({\"y\": []})>"},
    {OBJECT, false, "{\"name\": \"unknown\", \"parameters\": {}}",
     "{\"name\": \"unknown\", \"parameters\": {}}"},
    {OBJECT, false, "{\"name\": \"f\"}", "{\"name\": \"f\"}"},
    {OBJECT, false, "{\"type\": \"function\", \"function\": \"f\", \"parameters\": {\"a\": 1}} ",
     "<f({\"a\":1})>"},
    {OBJECT, false, "{\"a\": 1} is JSON", "{\"a\": 1} is JSON"},
    {OBJECT, false, "Sure: {\"name\": \"f\", \"parameters\": {}}",
     "Sure: {\"name\": \"f\", \"parameters\": {}}"},
    {NONE, true, "{\"name\": \"f\", \"parameters\": {\"x\": 1}}", "<f({\"x\": 1})>"},
    {PYTHON, true, "{\"name\": \"f\", \"parameters\": {\"x\": 1}}", "<f({\"x\": 1})>"},
    {PYTHON, false, "[f(x=1, y='it''s'), get_it()]", "[f(x=1, y='it''s'), get_it()]"},
    {PYTHON, false, "[f(x=-1.5, y='it\\'s \"q\"', z=[True, None, {'k': (1,)}]), get_it()]",
     "<f({\"x\": -1.5, \"y\": \"it's \\\"q\\\"\", \"z\": [true, null, {\"k\": "
     "[1]}]})><get_it({})>"},
    {PYTHON, false, "<|python_start|>[get_it(a=\"\\n\\u00e9\")]",
     "<get_it({\"a\": \"\\n\xC3\xA9\"})>"},
    {PYTHON, false, "[unknown(x=1)]", "[unknown(x=1)]"},
    {PYTHON, false, "[1, 2]", "[1, 2]"},
    {PYTHON, false, "[f(x=1)] and more", "[f(x=1)] and more"},
    {PYTHON, false, "[f(x=__import__('os'))]", "[f(x=__import__('os'))]"},
    {PYTHON, false, "no [f()]", "no [f()]"},
    {MISTRAL, false,
     "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"x\": 1}}, {\"name\": \"g\", \"arguments\": "
     "{}}]",
     "<f({\"x\": 1})><g({})>"},
    {MISTRAL, false, "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}, \"id\": \"abcdefghi\"}]",
     "<f({})>"},
    {MISTRAL, false, "Hi [TOOL_CALLS] {\"name\": \"f\", \"arguments\": {}}", "Hi<f({})>"},
    {MISTRAL, false, "[TOOL] [1]", "[TOOL] [1]"},
    {MISTRAL, true, "[{\"name\": \"f\", \"arguments\": {}}, {\"na", "<f({})>"},
    {TAGS, true, "<tool_call>\n{\"name\": \"f", ""},
    {MISTRAL, true,
     "[{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"f\", \"arguments\": {\"a\": \"]\"}}]",
     "<f({})><f({\"a\": \"]\"})>"},
};

static void test_tool_parse_cuts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t n = strlen(rows[i].text);
        for (size_t cut = 0; cut <= n + 3; cut++) {
            struct seen s;
            size_t step = cut > n ? cut - n : 0;
            read_text((enum engine_tool_form)rows[i].form, rows[i].forced, rows[i].text, cut, step,
                      &s);
            if (strcmp(strbuf_str(&s.line), rows[i].wanted) != 0)
                fail_msg("%s cut at %zu: %s, not %s", rows[i].text, cut, strbuf_str(&s.line),
                         rows[i].wanted);
            strbuf_deinit(&s.line);
        }
    }
}

/* Arguments go out as they come: a call of 10,000 bytes is not kept until its end. */
static void test_tool_parse_streams(void **state)
{
    (void)state;
    struct seen s = {0};
    const struct tool_sink sink = {on_text, on_call, on_arguments, &s};
    struct tool_parse p;
    strbuf_init(&s.line, 1 << 20);
    tool_parse_init(&p, ENGINE_TOOLS_TAGS, false, NULL, &sink);
    assert_true(tool_parse_push(&p, "<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": \"", 44));
    for (int i = 0; i < 1000; i++) {
        size_t before = s.line.len;
        assert_true(tool_parse_push(&p, "0123456789", 10));
        assert_int_equal(s.line.len, before + 10);
    }
    tool_parse_deinit(&p);
    strbuf_deinit(&s.line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tool_parse_cuts),
        cmocka_unit_test(test_tool_parse_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
