#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/engine_inspect.h"
#include "tests/unit/fixture_golden.h"

#define LLAMA GOLDEN_DIR "/llama/model"

struct wanted {
    const char *path;
    const char *base;
    enum status status;
    const char *lines[6]; /* each must stand in the report */
};

static void test_inspect_reports(void **state)
{
    (void)state;
    static const struct wanted all[] = {
        {LLAMA,
         NULL,
         STATUS_OK,
         {"llama: 2 layers, hidden 64, 4 heads of 16 over 2 kv heads, ffn 128",
          "head tied to the embedding", "rope theta 500000, llama3, factor 8",
          "106,816 parameters, 213,632 bytes, bf16\n", "token 507, 510, 511\n",
          "temperature 0.6, top_p 0.9\n"}},
        {GOLDEN_DIR "/mistral/model",
         NULL,
         STATUS_OK,
         {"512 tokens, head of its own", "512 tokens; rope theta 1e+06\n", "tokenizer.json\n",
          "tokenizer_config.json\n"}},
        {GOLDEN_DIR "/qwen3/model", NULL, STATUS_OK, {"qwen3: 2 layers", "chat_template.jinja\n"}},
        {GOLDEN_DIR "/llama/adapters",
         NULL,
         STATUS_NOT_FOUND,
         {"refused    not_found", "config.json: no such file"}},
        {GOLDEN_DIR "/llama/adapters/patterns",
         LLAMA,
         STATUS_OK,
         {"made for   golden/llama\n", "another name", "binds      14 modules, ranks up to 12",
          "q_proj           2 modules  rank 2-12  scale 0.25 .. 1.5  bf16  3,584 bytes\n",
          "v_proj           2 modules  rank 8  scale 2.5  f32 + bf16"}},
        {GOLDEN_DIR "/llama/adapters/dora-r8",
         NULL,
         STATUS_OK,
         {"against no base model", "8,704 bytes  DoRA\n"}},
        {GOLDEN_DIR "/alora/adapters/villain-word",
         NULL,
         STATUS_OK,
         {"activated  from the last of these tokens on: "}},
        {GOLDEN_DIR "/mistral/adapters/embed-r4",
         GOLDEN_DIR "/mistral/model",
         STATUS_OK,
         {"embed_tokens     1 module   rank 4  scale 2"}},
        {GOLDEN_DIR "/mistral/adapters/head-r8",
         NULL,
         STATUS_OK,
         {"lm_head          1 module   rank 8  scale 2"}},
        {GOLDEN_DIR "/bad/wrong-shape-b",
         LLAMA,
         STATUS_BAD_FILE,
         {"refused    bad_file", "layers.1.self_attn.v_proj.lora_B.weight: shape [64, 2], "
                                 "expected [32, 2]"}},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        const struct wanted *w = &all[i];
        struct strbuf report;
        struct err e = {0};
        strbuf_init(&report, 65536);
        enum status st =
            engine_inspect_is_adapter(w->path)
                ? engine_inspect_adapter(w->path, w->base, ENGINE_INSPECT_TEXT, &report, &e)
                : engine_inspect_model(w->path, ENGINE_INSPECT_TEXT, &report, &e);
        if (st != w->status)
            fail_msg("%s: status %s, expected %s: %s", w->path, status_code(st),
                     status_code(w->status), e.msg);
        for (size_t k = 0; k < 6 && w->lines[k]; k++) {
            if (!strstr(strbuf_str(&report), w->lines[k]))
                fail_msg("%s: no \"%s\" in:\n%s", w->path, w->lines[k], strbuf_str(&report));
        }
        strbuf_deinit(&report);
    }
}

/* The JSON form holds what the text form says; where two forms tell a number, it is the same. */
struct wanted_json {
    const char *path;
    const char *base;
    const char *members; /* every member here must be in the report, with this value */
};

static void expect_members(const char *path, const cJSON *wanted, const cJSON *got,
                           const char *report)
{
    for (const cJSON *m = wanted->child; m; m = m->next) {
        const cJSON *other = cJSON_GetObjectItemCaseSensitive(got, m->string);
        if (!other || !cJSON_Compare(m, other, true))
            fail_msg("%s: member %s is not as wanted in %s", path, m->string, report);
    }
}

static void test_inspect_json(void **state)
{
    (void)state;
    static const struct wanted_json all[] = {
        {LLAMA, NULL,
         "{\"kind\":\"model\",\"ok\":true,\"architecture\":\"llama\",\"layers\":2,\"hidden\":64,"
         "\"heads\":4,\"head_dim\":16,\"kv_heads\":2,\"ffn\":128,\"vocabulary\":512,"
         "\"tied_head\":true,\"sliding_window\":null,\"parameters\":106816,\"bytes\":213632,"
         "\"dtypes\":[\"bf16\"],\"eos_tokens\":[507,510,511],\"tokenizer\":\"tokenizer.json\","
         "\"sampling\":{\"temperature\":0.6,\"top_p\":0.9},\"context\":512,"
         "\"rope\":{\"type\":\"llama3\",\"theta\":500000,\"factor\":8,\"low_freq_factor\":1,"
         "\"high_freq_factor\":4,\"original_context\":64}}"},
        {GOLDEN_DIR "/llama/adapters", NULL,
         "{\"kind\":\"model\",\"ok\":false,\"error\":{\"code\":\"not_found\",\"param\":"
         "\"config.json\",\"message\":\"" GOLDEN_DIR
         "/llama/adapters: config.json: no such file\"}}"},
        {GOLDEN_DIR "/llama/adapters/patterns", LLAMA,
         "{\"kind\":\"adapter\",\"ok\":true,\"made_for\":\"golden/"
         "llama\",\"checked_against\":\"" LLAMA
         "\",\"same_base_name\":false,\"modules\":14,\"rank_max\":12,\"without_effect\":0,"
         "\"targeted_without_tensors\":[]}"},
        {GOLDEN_DIR "/mistral/adapters/head-r8", NULL,
         "{\"checked_against\":null,\"same_base_name\":null,\"targeted_without_tensors\":[]}"},
        {GOLDEN_DIR "/alora/adapters/elf-turn", NULL, "{\"alora_invocation_tokens\":[4]}"},
        {GOLDEN_DIR "/alora/adapters/elf", NULL, "{\"alora_invocation_tokens\":null}"},
        {GOLDEN_DIR "/bad/wrong-shape-b", LLAMA, "{\"kind\":\"adapter\",\"ok\":false}"},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        const struct wanted_json *w = &all[i];
        struct strbuf report;
        struct err e = {0};
        cJSON *got = NULL;
        strbuf_init(&report, 65536);
        enum status st =
            engine_inspect_is_adapter(w->path)
                ? engine_inspect_adapter(w->path, w->base, ENGINE_INSPECT_JSON, &report, &e)
                : engine_inspect_model(w->path, ENGINE_INSPECT_JSON, &report, &e);
        if (json_parse(strbuf_str(&report), report.len, &json_default_limits, &got, &e) !=
            STATUS_OK)
            fail_msg("%s: %s in %s", w->path, e.msg, strbuf_str(&report));
        cJSON *wanted = cJSON_Parse(w->members);
        assert_non_null(wanted);
        expect_members(w->path, wanted, got, strbuf_str(&report));
        assert_string_equal(w->path, cJSON_GetObjectItem(got, "path")->valuestring);
        assert_int_equal(cJSON_IsTrue(cJSON_GetObjectItem(got, "ok")), st == STATUS_OK);
        cJSON_Delete(wanted);
        cJSON_Delete(got);
        strbuf_deinit(&report);
    }
}

/* The groups of the JSON form are those of the text form. */
static void test_inspect_json_sites(void **state)
{
    (void)state;
    struct strbuf report;
    struct err e = {0};
    cJSON *got = NULL;
    strbuf_init(&report, 65536);
    assert_int_equal(engine_inspect_adapter(GOLDEN_DIR "/llama/adapters/patterns", LLAMA,
                                            ENGINE_INSPECT_JSON, &report, &e),
                     STATUS_OK);
    assert_int_equal(json_parse(strbuf_str(&report), report.len, &json_default_limits, &got, &e),
                     STATUS_OK);
    const cJSON *q = cJSON_GetArrayItem(cJSON_GetObjectItem(got, "sites"), 0);
    cJSON *wanted = cJSON_Parse("{\"name\":\"q_proj\",\"modules\":2,\"rank_min\":2,\"rank_max\":12,"
                                "\"scale_min\":0.25,\"scale_max\":1.5,\"bytes\":3584,"
                                "\"dtypes\":[\"bf16\"],\"dora\":0,\"without_effect\":0}");
    if (!cJSON_Compare(q, wanted, true))
        fail_msg("q_proj is not as wanted in %s", strbuf_str(&report));
    cJSON_Delete(wanted);
    cJSON_Delete(got);
    strbuf_deinit(&report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inspect_reports),
        cmocka_unit_test(test_inspect_json),
        cmocka_unit_test(test_inspect_json_sites),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
