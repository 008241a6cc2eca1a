#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

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
        enum status st = engine_inspect_is_adapter(w->path)
                             ? engine_inspect_adapter(w->path, w->base, &report, &e)
                             : engine_inspect_model(w->path, &report, &e);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inspect_reports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
