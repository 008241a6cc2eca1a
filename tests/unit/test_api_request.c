#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/json.h"
#include "engine/base/mem.h"
#include "server/api_adapter.h"
#include "server/api_embeddings.h"
#include "server/api_error.h"
#include "server/api_request.h"

static const char *const served[] = {"elf", "villain", "a", "b", "c"};

static enum status has_adapter(void *ctx, const char *name)
{
    (void)ctx;
    for (size_t i = 0; i < sizeof served / sizeof served[0]; i++) {
        if (strcmp(served[i], name) == 0)
            return STATUS_OK;
    }
    return STATUS_ADAPTER_NOT_FOUND;
}

static enum status adapter_at(void *ctx, int64_t index, char name[LIMIT_NAME_BYTES + 1])
{
    (void)ctx;
    if (index >= (int64_t)(sizeof served / sizeof served[0]))
        return STATUS_ADAPTER_NOT_FOUND;
    snprintf(name, LIMIT_NAME_BYTES + 1, "%s", served[index]);
    return STATUS_OK;
}

static const char *const bases[] = {"house/base", "base"};
static const struct engine_info info = {.embed_width = 64, .embed_normalize = true, .ctx_max = 100};
static const struct api_context context = {
    .vocab = 1000,
    .info = &info,
    .defaults = {.temperature = 0.6f,
                 .top_p = 0.9f,
                 .typical_p = 1,
                 .top_k = 50,
                 .repetition_penalty = 1.1f},
    .base_names = bases,
    .base_count = 2,
    .has_adapter = has_adapter,
    .adapter_at = adapter_at,
};

#define MESSAGES "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static enum status parse(enum api_kind kind, const char *text, struct api_request *r, struct err *e)
{
    *e = (struct err){0};
    return api_request_parse(kind, &context, text, strlen(text), r, e);
}

static void test_api_request_defaults(void **state)
{
    (void)state;
    struct api_request r;
    struct err e;
    assert_int_equal(parse(API_CHAT, "{" MESSAGES "}", &r, &e), STATUS_OK);
    const struct sample_params *p = &r.engine.sampling;
    assert_true(p->temperature == 0.6f && p->top_p == 0.9f && p->top_k == 50);
    assert_int_equal(p->logprobs, -1);
    assert_true(!r.stream && !r.has_seed && r.n == 1 && r.best_of == 1 && r.prompt_count == 1);
    assert_true(r.engine.cache_prompt && !r.engine.keep_special && r.engine.max_tokens == 0);
    assert_string_equal(r.model, "house/base");
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(r.vars, "add_generation_prompt")));
    api_request_deinit(&r);
    assert_int_equal(parse(API_COMPLETION, "{\"prompt\":\"x\"}", &r, &e), STATUS_OK);
    assert_int_equal(r.engine.max_tokens, 16);
    api_request_deinit(&r);
}

static void test_api_request_everything(void **state)
{
    (void)state;
    struct api_request r;
    struct err e;
    const char *text =
        "{" MESSAGES ",\"model\":\"base\",\"adapter\":[\"elf\",{\"name\":\"a\",\"weight\":-0.5}],"
        "\"stream\":true,\"stream_options\":{\"include_usage\":true},\"temperature\":0,\"top_p\":0,"
        "\"top_k\":-1,\"min_p\":0.1,\"typical_p\":0,\"repetition_penalty\":1.5,"
        "\"presence_penalty\":-2,\"frequency_penalty\":2,\"max_tokens\":7,"
        "\"max_completion_tokens\":9,\"min_tokens\":3,\"n\":4,\"stop\":[\"x\",\"yy\"],"
        "\"seed\":-9223372036854775808,\"logit_bias\":{\"5\":-100,\"text\":1},\"logprobs\":true,"
        "\"top_logprobs\":20,\"stop_token_ids\":[0,999],\"ignore_eos\":true,"
        "\"include_stop_str_in_output\":true,\"skip_special_tokens\":false,\"cache_prompt\":false,"
        "\"cache_salt\":\"s\",\"priority\":3,\"timings_per_token\":true,"
        "\"return_tokens_as_token_ids\":true,\"reasoning_effort\":\"low\","
        "\"chat_template_kwargs\":{\"thinking\":false},\"tools\":[],\"user\":{}}";
    if (parse(API_CHAT, text, &r, &e) != STATUS_OK)
        fail_msg("refused: %s", e.msg);
    const struct sample_params *p = &r.engine.sampling;
    assert_true(p->temperature == 0 && p->top_p > 0 && p->top_p < 0.001f && p->top_k == 0);
    assert_true(p->typical_p == 1 && p->min_p == 0.1f && p->repetition_penalty == 1.5f);
    assert_true(p->presence_penalty == -2 && p->frequency_penalty == 2 && p->logprobs == 20);
    assert_true(r.has_seed && p->seed == (uint64_t)INT64_MIN);
    assert_int_equal(p->bias_count, 1);
    assert_true(p->bias[0].token == 5 && p->bias[0].bias == -100);
    assert_int_equal(r.engine.max_tokens, 9);
    assert_int_equal(r.engine.min_tokens, 3);
    assert_int_equal(r.engine.stop_count, 2);
    assert_int_equal(r.engine.stop[1].len, 2);
    assert_int_equal(r.engine.stop_tokens[1], 999);
    assert_int_equal(r.engine.adapter_count, 2);
    assert_string_equal(r.engine.adapters[1].name, "a");
    assert_true(r.engine.adapters[1].weight == -0.5f);
    assert_true(r.stream && r.include_usage && r.timings_per_token && r.tokens_as_ids);
    assert_true(r.engine.ignore_eos && r.engine.include_stop && r.engine.keep_special);
    assert_true(!r.engine.cache_prompt);
    assert_string_equal(r.engine.cache_salt, "s");
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(r.vars, "thinking")));
    api_request_deinit(&r);
}

static void test_api_request_refusals(void **state)
{
    (void)state;
    static const struct {
        enum api_kind kind;
        const char *text;
        enum status status;
        const char *param;
    } cases[] = {
        {API_CHAT, "", STATUS_INVALID, ""},
        {API_CHAT, "[]", STATUS_INVALID, ""},
        {API_CHAT, "{}", STATUS_INVALID, "messages"},
        {API_CHAT, "{\"messages\":[]}", STATUS_INVALID, "messages"},
        {API_CHAT, "{" MESSAGES ",\"n\":0}", STATUS_INVALID, "n"},
        {API_CHAT, "{" MESSAGES ",\"n\":17}", STATUS_INVALID, "n"},
        {API_CHAT, "{" MESSAGES ",\"seed\":9223372036854775808}", STATUS_INVALID, "seed"},
        {API_CHAT, "{" MESSAGES ",\"top_logprobs\":1}", STATUS_INVALID, "top_logprobs"},
        {API_CHAT, "{" MESSAGES ",\"min_tokens\":5,\"max_tokens\":4}", STATUS_INVALID,
         "min_tokens"},
        {API_CHAT, "{" MESSAGES ",\"tools\":[{}]}", STATUS_INVALID, "tools[0].type"},
        {API_CHAT, "{" MESSAGES ",\"adapter\":\"x\"}", STATUS_ADAPTER_NOT_FOUND, "adapter"},
        {API_CHAT, "{" MESSAGES ",\"model\":\"x\"}", STATUS_MODEL_NOT_FOUND, "model"},
        {API_CHAT, "{" MESSAGES ",\"model\":\"house/base:x\"}", STATUS_ADAPTER_NOT_FOUND, "model"},
        {API_CHAT, "{" MESSAGES ",\"model\":\"elf\",\"adapter\":\"a\"}", STATUS_INVALID, "adapter"},
        {API_CHAT, "{" MESSAGES ",\"lora\":[{\"id\":7}]}", STATUS_ADAPTER_NOT_FOUND, "lora"},
        {API_CHAT, "{" MESSAGES ",\"adapter\":[\"a\",\"b\",\"c\",\"elf\",\"villain\"]}",
         STATUS_INVALID, "adapter"},
        {API_COMPLETION, "{}", STATUS_INVALID, "prompt"},
        {API_COMPLETION, "{\"prompt\":[1,1000]}", STATUS_INVALID, "prompt"},
        {API_COMPLETION, "{\"prompt\":\"x\",\"logprobs\":6}", STATUS_INVALID, "logprobs"},
        {API_COMPLETION, "{\"prompt\":\"x\",\"logprobs\":true}", STATUS_INVALID, "logprobs"},
        {API_COMPLETION, "{\"prompt\":\"x\",\"n\":2,\"best_of\":1}", STATUS_INVALID, "best_of"},
        {API_COMPLETION, "{\"prompt\":\"x\",\"suffix\":\"y\"}", STATUS_UNSUPPORTED, "suffix"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct api_request r;
        struct err e;
        enum status st = parse(cases[i].kind, cases[i].text, &r, &e);
        if (st != cases[i].status || strcmp(e.param, cases[i].param) != 0)
            fail_msg("%s: status %d, param \"%s\", \"%s\"", cases[i].text, st, e.param, e.msg);
    }
}

static void test_api_request_names(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *names;
    } cases[] = {
        {"\"adapter\":null", ""},
        {"\"adapter\":\"\"", ""},
        {"\"model\":\"house/base\"", ""},
        {"\"model\":\"elf\"", "elf=1 "},
        {"\"model\":\"base:elf\"", "elf=1 "},
        {"\"model\":\"house/base:elf\",\"adapter\":\"elf\"", "elf=1 "},
        {"\"model\":\"elf\",\"adapter\":{\"name\":\"elf\",\"weight\":0.25}", "elf=0.25 "},
        {"\"lora\":[{\"id\":1,\"scale\":2},{\"id\":0,\"scale\":0}]", "villain=2 "},
        {"\"adapter\":[{\"name\":\"b\"},\"c\"]", "b=1 c=1 "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        snprintf(text, sizeof text, "{" MESSAGES ",%s}", cases[i].text);
        struct api_request r;
        struct err e;
        if (parse(API_CHAT, text, &r, &e) != STATUS_OK)
            fail_msg("%s: %s", cases[i].text, e.msg);
        struct strbuf got;
        strbuf_init(&got, 1000);
        for (int k = 0; k < r.engine.adapter_count; k++)
            strbuf_printf(&got, "%s=%g ", r.engine.adapters[k].name,
                          (double)r.engine.adapters[k].weight);
        assert_string_equal(strbuf_str(&got), cases[i].names);
        strbuf_deinit(&got);
        api_request_deinit(&r);
    }
}

/* Any allocation may fail: a status, no leak (the sanitizer run sees it), no crash. */
static void test_api_request_no_memory(void **state)
{
    (void)state;
    static const struct {
        enum api_kind kind;
        const char *text;
    } rows[] = {
        {API_CHAT, "{" MESSAGES ",\"logit_bias\":{\"1\":1},\"stop\":\"x\",\"adapter\":\"elf\"}"},
        {API_COMPLETION, "{\"prompt\":[\"a\",[1,2]],\"adapter\":\"elf\"}"},
        {API_EMBEDDING, "{\"input\":[\"a\",[1,2]],\"adapter\":\"elf\",\"dimensions\":8}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int failed = 0;
        for (int64_t k = 1; k < 200; k++) {
            struct api_request r;
            struct err e;
            mem_fail_at(k);
            enum status st = parse(rows[i].kind, rows[i].text, &r, &e);
            mem_fail_at(0);
            if (st == STATUS_OK)
                api_request_deinit(&r);
            else
                assert_int_equal(st, STATUS_NO_MEMORY);
            failed += st != STATUS_OK;
        }
        assert_true(failed >= 2);
    }
}

static void test_api_request_embeddings(void **state)
{
    (void)state;
    struct api_request r;
    struct err e;
    struct api_context none = context;
    struct engine_info why = {.embed_why = "pooling by 'max' is not supported"};
    assert_int_equal(parse(API_EMBEDDING,
                           "{\"input\":\"x\",\"temperature\":\"hot\",\"n\":7,\"stop\":7}", &r, &e),
                     STATUS_OK); /* what says how to speak is not read */
    assert_true(r.engine.embed && r.engine.cache_prompt && r.prompt_count == 1 && r.best_of == 1);
    assert_true(r.embedding.dimensions == 64 && r.embedding.normalize && !r.embedding.base64);
    assert_string_equal(r.model, "house/base");
    api_request_deinit(&r);
    assert_int_equal(parse(API_EMBEDDING,
                           "{\"input\":[[1],[2,3],\"x\"],\"dimensions\":1,\"encoding_format\":"
                           "\"base64\",\"cache_prompt\":false,\"model\":\"base:elf\"}",
                           &r, &e),
                     STATUS_OK);
    assert_true(r.embedding.dimensions == 1 && r.embedding.base64 && !r.engine.cache_prompt);
    assert_true(r.prompt_count == 3 && r.prompts[1].tokens.count == 2 && r.prompts[2].text[0]);
    assert_true(r.engine.adapter_count == 1 && r.generation == 0);
    r.prompts[1].tokens.count = 100; /* as if it were so long */
    assert_int_equal(api_embeddings_check(&context, &r, &e), STATUS_OK);
    r.prompts[1].tokens.count = 101;
    assert_int_equal(api_embeddings_check(&context, &r, &e), STATUS_CONTEXT_LENGTH);
    assert_true(strstr(e.msg, "100") && strstr(e.msg, "101") && strstr(e.msg, "input 1"));
    api_request_deinit(&r);
    none.info = &why;
    assert_int_equal(api_request_parse(API_EMBEDDING, &none, "{\"input\":\"x\"}", 13, &r, &e),
                     STATUS_UNSUPPORTED);
    assert_non_null(strstr(e.msg, "'max'"));
}

static void test_api_error_form(void **state)
{
    (void)state;
    for (int st = 0; st < STATUS_COUNT; st++) {
        struct err e;
        err_set(&e, (enum status)st, st % 2 ? "field" : NULL, "quote \" and \x01");
        const struct api_error_kind *k = api_error_of((enum status)st);
        assert_true(k->http >= 400 && k->http < 600 && k->type && k->code);
        struct strbuf b;
        strbuf_init(&b, 4096);
        api_error_write(&b, k, &e);
        cJSON *v = NULL;
        struct err why;
        assert_int_equal(json_parse(b.data, b.len, &json_default_limits, &v, &why), STATUS_OK);
        const cJSON *o = cJSON_GetObjectItem(v, "error");
        assert_int_equal(cJSON_GetArraySize(o), 4);
        assert_string_equal(cJSON_GetObjectItem(o, "message")->valuestring, e.msg);
        assert_true(cJSON_IsNull(cJSON_GetObjectItem(o, "param")) == (st % 2 == 0));
        cJSON_Delete(v);
        strbuf_deinit(&b);
    }
    assert_int_equal(api_error_of_http(413)->http, 413);
    assert_int_equal(api_error_of_http(299)->http, 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_api_request_defaults),  cmocka_unit_test(test_api_request_everything),
        cmocka_unit_test(test_api_request_refusals),  cmocka_unit_test(test_api_request_names),
        cmocka_unit_test(test_api_request_no_memory), cmocka_unit_test(test_api_request_embeddings),
        cmocka_unit_test(test_api_error_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
