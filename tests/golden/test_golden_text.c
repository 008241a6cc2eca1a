/* The text door against transformers (README.md beside this file): rendered chats, their ids, plain
 * texts as ids and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "tests/golden/golden.h"

static void expect_ids(const char *arch, const char *what, const cJSON *want, const int32_t *got,
                       size_t count)
{
    int want_count = cJSON_GetArraySize(want), i = 0;
    for (const cJSON *v = want->child; v; v = v->next, i++) {
        if ((size_t)i >= count || got[i] != v->valueint)
            fail_msg("%s: \"%s\": id %d is %d, wanted %d (%zu ids, wanted %d)", arch, what, i,
                     (size_t)i < count ? got[i] : -1, v->valueint, count, want_count);
    }
    if ((size_t)want_count != count)
        fail_msg("%s: \"%s\": %zu ids, wanted %d", arch, what, count, want_count);
}

static void check_chats(const struct golden *g, const struct engine_text *text)
{
    const cJSON *chat = cJSON_GetObjectItem(g->root, "chats")->child;
    for (int i = 0; i < g->prompt_count; i++, chat = chat->next) {
        cJSON *vars = cJSON_CreateObject();
        cJSON_AddItemToObject(vars, "messages", cJSON_Duplicate(g->prompts[i].messages, true));
        cJSON_AddBoolToObject(vars, "add_generation_prompt", true);
        struct err e = {0};
        struct strbuf out;
        strbuf_init(&out, LIMIT_TEMPLATE_OUTPUT_BYTES);
        if (engine_text_render(text, vars, &out, &e) != STATUS_OK)
            fail_msg("%s/%s: %s", g->arch, g->prompts[i].name, e.msg);
        assert_string_equal(strbuf_str(&out), g->prompts[i].text);
        struct token_buf ids = {0};
        if (engine_text_chat(text, vars, &ids, &e) != STATUS_OK)
            fail_msg("%s/%s: %s", g->arch, g->prompts[i].name, e.msg);
        expect_ids(g->arch, g->prompts[i].name, cJSON_GetObjectItem(chat, "prompt_ids"), ids.ids,
                   ids.count);
        mem_free(ids.ids);
        strbuf_deinit(&out);
        cJSON_Delete(vars);
    }
}

static int check_texts(const struct golden *g, const struct engine_text *text)
{
    int count = 0;
    const cJSON *texts = cJSON_GetObjectItem(g->root, "texts");
    for (const cJSON *v = texts->child; v; v = v->next, count++) {
        const char *s = cJSON_GetObjectItem(v, "text")->valuestring;
        struct err e = {0};
        for (int special = 0; special < 2; special++) {
            struct token_buf ids = {0};
            if (engine_text_encode(text, s, strlen(s), special, false, &ids, &e) != STATUS_OK)
                fail_msg("%s: \"%s\": %s", g->arch, s, e.msg);
            const char *key = special ? "ids_with_special" : "ids";
            expect_ids(g->arch, s, cJSON_GetObjectItem(v, key), ids.ids, ids.count);
            if (!special) {
                struct strbuf out;
                strbuf_init(&out, 1 << 16);
                if (engine_text_decode(text, ids.ids, ids.count, true, &out, &e) != STATUS_OK)
                    fail_msg("%s: \"%s\": %s", g->arch, s, e.msg);
                assert_string_equal(strbuf_str(&out),
                                    cJSON_GetObjectItem(v, "decoded")->valuestring);
                strbuf_deinit(&out);
            }
            mem_free(ids.ids);
        }
    }
    return count;
}

static void test_golden_text(void **state)
{
    (void)state;
    int chats = 0, texts = 0;
    for (int a = 0; golden_archs[a]; a++) {
        struct golden g;
        golden_load(golden_archs[a], &g);
        struct engine_text *text = NULL;
        struct err e = {0};
        if (engine_text_open(g.model, &text, &e) != STATUS_OK)
            fail_msg("%s: %s: %s", g.model, e.param, e.msg);
        check_chats(&g, text);
        chats += g.prompt_count;
        texts += check_texts(&g, text);
        engine_text_close(text);
        golden_free(&g);
    }
    printf("golden text: %d chats, %d texts, 0 mismatches\n", chats, texts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
