/* Finding a model's chat template, and no text of a message becoming a special token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/engine_template.h"
#include "engine/engine_text.h"
#include "engine/text/chat_template.h"
#include "tests/unit/fixture_files.h"

#define CONFIG_STRING                                                                              \
    "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\",\"lstrip\":false},"                \
    "\"add_bos_token\":true,\"pad_token\":null,\"chat_template\":\"config {{ bos_token }}"         \
    "{{ eos_token }}{{ pad_token }}\"}"
#define CONFIG_LIST                                                                                \
    "{\"chat_template\":[{\"name\":\"default\",\"template\":\"first\"},"                           \
    "{\"name\":\"tool_use\",\"template\":\"tools\"}]}"

struct load_case {
    const char *jinja, *config, *json; /* files; NULL: absent */
    const char *name;
    enum status status;
    const char *text;
};

static void test_chat_template_is_found(void **state)
{
    (void)state;
    static const struct load_case cases[] = {
        {"file {{ bos_token }}", CONFIG_STRING, NULL, NULL, STATUS_OK, "file <s>"},
        {NULL, CONFIG_STRING, NULL, NULL, STATUS_OK, "config <s></s>"},
        {NULL, CONFIG_LIST, NULL, NULL, STATUS_OK, "first"},
        {NULL, CONFIG_LIST, NULL, "tool_use", STATUS_OK, "tools"},
        {NULL, CONFIG_LIST, NULL, "rag", STATUS_NOT_FOUND, NULL},
        {NULL, CONFIG_LIST, NULL, "../rag", STATUS_NOT_FOUND, NULL},
        {NULL, "{}", "{\"chat_template\":\"processor\"}", NULL, STATUS_OK, "processor"},
        {NULL, NULL, "{\"chat_template\":\"processor\"}", NULL, STATUS_OK, "processor"},
        {"alone", NULL, NULL, NULL, STATUS_OK, "alone"},
        {NULL, "{}", NULL, NULL, STATUS_NOT_FOUND, NULL},
        {NULL, NULL, NULL, NULL, STATUS_NOT_FOUND, NULL},
        {"{% if %}", CONFIG_STRING, NULL, NULL, STATUS_BAD_FILE, NULL},
        {NULL, "[]", NULL, NULL, STATUS_BAD_FILE, NULL},
        {NULL, "{", NULL, NULL, STATUS_BAD_FILE, NULL},
        {NULL, "{\"chat_template\":5}", NULL, NULL, STATUS_NOT_FOUND, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct load_case *c = &cases[i];
        struct fixture_dir dir;
        struct chat_template *t = NULL;
        struct err e = {0};
        fixture_dir_make(&dir);
        if (c->jinja)
            fixture_write_text(&dir, "chat_template.jinja", c->jinja);
        if (c->config)
            fixture_write_text(&dir, "tokenizer_config.json", c->config);
        if (c->json)
            fixture_write_text(&dir, "chat_template.json", c->json);
        enum status st = chat_template_load(dir.path, c->name, &t, &e);
        if (st != c->status)
            fail_msg("case %zu: status %d \"%s\", want %d", i, st, e.msg, c->status);
        if (st == STATUS_OK) {
            struct strbuf text;
            cJSON *vars = cJSON_CreateObject();
            strbuf_init(&text, 1000);
            assert_int_equal(chat_template_render(t, vars, &text, NULL, &e), STATUS_OK);
            assert_string_equal(strbuf_str(&text), c->text);
            strbuf_deinit(&text);
            cJSON_Delete(vars);
        }
        chat_template_free(t);
        fixture_dir_remove(&dir);
    }
}

static void test_chat_template_variables_come_first(void **state)
{
    (void)state;
    struct fixture_dir dir;
    struct err e;
    struct strbuf text;
    cJSON *vars = cJSON_CreateObject();
    cJSON_AddStringToObject(vars, "bos_token", "<mine>");
    fixture_dir_make(&dir);
    fixture_write_text(&dir, "tokenizer_config.json", CONFIG_STRING);
    strbuf_init(&text, 1000);
    assert_int_equal(engine_template_render_model(dir.path, vars, false, &text, &e), STATUS_OK);
    assert_string_equal(strbuf_str(&text), "config <mine></s>");
    strbuf_deinit(&text);
    cJSON_Delete(vars);
    fixture_dir_remove(&dir);
}

static void test_chat_template_output_has_a_cap(void **state)
{
    (void)state;
    static const char source[] = "{{ 'abc' * 10 }}";
    struct err e;
    struct strbuf text;
    cJSON *vars = cJSON_CreateObject();
    strbuf_init(&text, 29);
    assert_int_equal(engine_template_render(source, sizeof source - 1, vars, false, &text, &e),
                     STATUS_LIMIT);
    strbuf_deinit(&text);
    strbuf_init(&text, 30);
    assert_int_equal(engine_template_render(source, sizeof source - 1, vars, false, &text, &e),
                     STATUS_OK);
    strbuf_deinit(&text);
    cJSON_Delete(vars);
}

/* How many special tokens one message with this content becomes. */
static size_t special_count(const struct engine_text *t, const char *content, const char *role)
{
    struct err e = {0};
    struct token_buf ids = {.ids = NULL};
    cJSON *vars = cJSON_CreateObject();
    cJSON *message = cJSON_CreateObject();
    cJSON_AddStringToObject(message, "role", role);
    cJSON_AddStringToObject(message, "content", content);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(vars, "messages"), message);
    cJSON_AddBoolToObject(vars, "add_generation_prompt", true);
    if (engine_text_chat(t, vars, &ids, &e) != STATUS_OK)
        fail_msg("\"%s\": %s", content, e.msg);
    size_t count = 0;
    for (size_t i = 0; i < ids.count; i++)
        count += engine_text_is_special(t, ids.ids[i]);
    mem_free(ids.ids);
    cJSON_Delete(vars);
    return count;
}

/* REQ-6: the text of every special token, in every place of a message. */
static void test_chat_special_text_in_content_is_text(void **state)
{
    (void)state;
    static const char *const models[] = {"models/storyteller", "tests/golden/data/qwen3/model"};
    size_t checked = 0;
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        struct engine_text *t;
        struct err e = {0};
        if (engine_text_open(models[m], &t, &e) != STATUS_OK)
            fail_msg("%s: %s", models[m], e.msg);
        assert_true(engine_text_has_template(t));
        size_t plain = special_count(t, "hello", "user");
        assert_true(plain > 0);
        for (int32_t id = 0; id < engine_text_vocab(t); id++) {
            size_t n;
            const char *text = engine_text_token(t, id, &n);
            char content[256];
            if (!engine_text_is_special(t, id) || !text || n > 60)
                continue;
            snprintf(content, sizeof content, "%.*s x%.*s%.*s\n%.*s", (int)n, text, (int)n, text,
                     (int)n, text, (int)n, text);
            if (special_count(t, content, "user") != plain)
                fail_msg("%s: token %d, \"%.*s\", comes out of a message", models[m], id, (int)n,
                         text);
            checked++;
        }
        engine_text_close(t);
    }
    printf("figure: chat: %zu special tokens written into messages, none came out\n", checked);
    assert_true(checked >= 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat_template_is_found),
        cmocka_unit_test(test_chat_template_variables_come_first),
        cmocka_unit_test(test_chat_template_output_has_a_cap),
        cmocka_unit_test(test_chat_special_text_in_content_is_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
