/* What a hub's list means: which files are chosen, what is refused; and the hashes that blobs are
 * named after. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/strbuf.h"
#include "engine/base/limits.h"
#include "server/hub_files.h"
#include "server/hub_hash.h"

#define COMMIT "0123456789abcdef0123456789abcdef01234567"

/* Names apart by spaces. */
static void make_list(const char *names, struct strbuf *out)
{
    strbuf_init(out, 1u << 16);
    strbuf_puts(out, "{\"sha\":\"" COMMIT "\",\"siblings\":[");
    for (const char *at = names; *at;) {
        size_t n = strcspn(at, " ");
        strbuf_puts(out, at == names ? "{\"rfilename\":" : ",{\"rfilename\":");
        strbuf_json_string(out, at, n);
        strbuf_puts(out, ",\"size\":7}");
        at += n + (at[n] == ' ');
    }
    strbuf_puts(out, "]}");
}

static void check_choice(const char *names, bool all, const char *pattern, const char *want)
{
    struct strbuf list;
    struct strbuf got;
    struct hub_files files;
    struct err e = {0};
    make_list(names, &list);
    strbuf_init(&got, 1u << 16);
    if (hub_files_parse(strbuf_str(&list), list.len, &files, &e) != STATUS_OK)
        fail_msg("%s: %s", names, e.msg);
    assert_string_equal(files.commit, COMMIT);
    size_t n = hub_files_choose(&files, all, &pattern, pattern != NULL);
    for (size_t i = 0; i < files.count; i++) {
        assert_int_equal(files.list[i].bytes, 7);
        if (files.list[i].wanted) {
            strbuf_printf(&got, "%s%s", got.len ? " " : "", files.list[i].name);
            n--;
        }
    }
    assert_int_equal(n, 0);
    if (strcmp(strbuf_str(&got), want) != 0)
        fail_msg("of %s: \"%s\" instead of \"%s\"", names, strbuf_str(&got), want);
    hub_files_deinit(&files);
    strbuf_deinit(&list);
    strbuf_deinit(&got);
}

static void test_hub_files_chooses(void **state)
{
    (void)state;
    static const struct {
        const char *names;
        bool all;
        const char *pattern;
        const char *want;
    } cases[] = {
        {"config.json model.safetensors pytorch_model.bin tf_model.h5 training_args.bin", false,
         NULL, "config.json model.safetensors"},
        {"model.safetensors model.fp16.safetensors model-00001-of-00002.safetensors "
         "model.safetensors.index.json consolidated.safetensors",
         false, NULL, "model.safetensors"},
        {"model-00001-of-00002.safetensors model-00002-of-00002.safetensors "
         "model.safetensors.index.json consolidated.safetensors original/model.safetensors",
         false, NULL,
         "model-00001-of-00002.safetensors model-00002-of-00002.safetensors "
         "model.safetensors.index.json"},
        {"model.safetensors.index.json part-a.safetensors part-b.safetensors "
         "consolidated.safetensors",
         false, NULL, "model.safetensors.index.json part-a.safetensors part-b.safetensors"},
        {"tokenizer.json tokenizer_config.json tokenizer.model special_tokens_map.json "
         "chat_template.jinja generation_config.json quantize_config.json .gitattributes "
         "additional_chat_templates/tool_use.jinja sub/config.json",
         false, NULL,
         "tokenizer.json tokenizer_config.json special_tokens_map.json chat_template.jinja "
         "generation_config.json quantize_config.json additional_chat_templates/tool_use.jinja"},
        {"adapter_config.json adapter_model.safetensors adapter_model.bin checkpoint-5/"
         "adapter_model.safetensors chorus.json",
         false, NULL, "adapter_config.json adapter_model.safetensors chorus.json"},
        {"modules.json 1_Pooling/config.json 2_Dense/model.safetensors", false, NULL,
         "modules.json 1_Pooling/config.json"},
        {"a.Q4_K_M.gguf b.Q8_0.gguf sub/c.Q4_K_M.gguf config.json", false, "*Q4_K_M.gguf",
         "a.Q4_K_M.gguf sub/c.Q4_K_M.gguf"},
        {"a.gguf sub/a.gguf", false, "sub/*.gguf", "sub/a.gguf"},
        {"config.json pytorch_model.bin sub/x", true, NULL, "config.json pytorch_model.bin sub/x"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_choice(cases[i].names, cases[i].all, cases[i].pattern, cases[i].want);
}

static void test_hub_files_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *says;
    } cases[] = {
        {"", "not understood"},
        {"[]", "no commit and files"},
        {"{\"siblings\":[]}", "no commit and files"},
        {"{\"sha\":\"main\",\"siblings\":[]}", "no commit and files"},
        {"{\"sha\":7,\"siblings\":[]}", "no commit and files"},
        {"{\"sha\":\"" COMMIT "\",\"siblings\":{}}", "no commit and files"},
        {"{\"sha\":\"" COMMIT "\",\"siblings\":[7]}", "no rfilename"},
        {"{\"sha\":\"" COMMIT "\",\"siblings\":[{\"rfilename\":7}]}", "no rfilename"},
        {"{\"sha\":\"" COMMIT "\",\"siblings\":[{\"rfilename\":\"../x\"}]}", "\"../x\""},
        {"{\"sha\":\"" COMMIT "\",\"siblings\":[{\"rfilename\":\"a\\u001b[2J\"}]}", "\"a?[2J\""},
        {"{\"sha\":\"" COMMIT "\",\"siblings\":[{\"rfilename\":\"a\",\"size\":-1}]}", "a size"},
        {"{\"sha\":\"" COMMIT "\",\"siblings\":[{\"rfilename\":\"a\",\"size\":1e30}]}", "a size"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct hub_files files;
        struct err e = {0};
        enum status st = hub_files_parse(cases[i].text, strlen(cases[i].text), &files, &e);
        if (st != STATUS_BAD_FILE || !strstr(e.msg, cases[i].says))
            fail_msg("%s: %d \"%s\"", cases[i].text, st, e.msg);
        hub_files_deinit(&files);
    }
    struct strbuf many;
    struct hub_files files;
    struct err e = {0};
    strbuf_init(&many, 1u << 22);
    strbuf_puts(&many, "{\"sha\":\"" COMMIT "\",\"siblings\":[{\"rfilename\":\"a\"}");
    for (int i = 0; i < LIMIT_HUB_FILES; i++)
        strbuf_puts(&many, ",{\"rfilename\":\"a\"}");
    strbuf_puts(&many, "]}");
    assert_int_equal(hub_files_parse(strbuf_str(&many), many.len, &files, &e), STATUS_LIMIT);
    hub_files_deinit(&files);
    strbuf_deinit(&many);
}

/* Every allocation that could fail, fails once. */
static void test_hub_files_without_memory(void **state)
{
    (void)state;
    struct strbuf list;
    make_list("config.json model.safetensors a/b", &list);
    for (int64_t k = 1;; k++) {
        struct hub_files files;
        struct err e = {0};
        mem_fail_at(k);
        enum status st = hub_files_parse(strbuf_str(&list), list.len, &files, &e);
        mem_fail_at(0);
        size_t count = files.count;
        hub_files_deinit(&files);
        if (st == STATUS_OK) {
            assert_int_equal(count, 3);
            assert_true(k > 4);
            break;
        }
        if (st != STATUS_NO_MEMORY)
            fail_msg("allocation %d: %d \"%s\"", (int)k, st, e.msg);
    }
    strbuf_deinit(&list);
}

#define GIT "0000000000000000000000000000000000000000"
#define LFS GIT "000000000000000000000000"

static void check_hash(const char *kind, const char *text, size_t n, size_t step, const char *want)
{
    struct hub_hash hash;
    char got[65];
    hub_hash_init(&hash, kind, n);
    for (size_t at = 0; at < n; at += step)
        hub_hash_update(&hash, text + at, n - at < step ? n - at : step);
    hub_hash_final(&hash, got);
    if (strcmp(got, want) != 0)
        fail_msg("%zu bytes by %zu: %s instead of %s", n, step, got, want);
}

/* As git hash-object and sha256sum give them. */
static void test_hub_hashes(void **state)
{
    (void)state;
    static const struct {
        size_t n; /* of the letter a */
        const char *git;
        const char *sha256;
    } cases[] = {
        {0, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
         "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {1, "2e65efe2a145dda7ee51d1741299f848e5bf752e",
         "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"},
        {46, "50b3bbe915fe104dbbb6786fdcfa310bcfc25d4e",
         "6643110c5628fff59edf76d82d5bf573bf800f16a4d65dfb1e5d6f1a46296d0b"},
        {47, "5e3bf7e629b4908cce461530c17a64365cb47303",
         "11eaed932c6c6fddfc2efc394e609facf4abe814fc6180d03b14fce13a07d0e5"},
        {48, "12d42395b020f44bb7710113b31f688d0ebeda7c",
         "97daac0ee9998dfcad6c9c0970da5ca411c86233a944c25b47566f6a7bc1ddd5"},
        {54, "60704cd2c753c0419b5d235cbf244ec4c696cded",
         "a3f01b6939256127582ac8ae9fb47a382a244680806a3f613a118851c1ca1d47"},
        {55, "d1985ddc2983785702b9a90effd5aff2f7cfdca4",
         "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318"},
        {56, "1f973e890f52da1f22fa7e5620a628bc4ee74cb3",
         "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a"},
        {57, "d28c6cde5a5ab0b138bd53a288c23e8c011c4171",
         "f13b2d724659eb3bf47f2dd6af1accc87b81f09f59f2b75e5c0bed6589dfe8c6"},
        {63, "487e57f9763ebddbed2027c4452510c0ae0f95ff",
         "7d3e74a05d7db15bce4ad9ec0658ea98e3f06eeecf16b4c6fff2da457ddc2f34"},
        {64, "71b7a71962774fa5c721e1163f935cb61a0e09e6",
         "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb"},
        {65, "44171c1993ae70a544a8e910b00347eed4b8e8f2",
         "635361c48bb9eab14198e76ea8ab7f1a41685d6ad62aa9146d301d4f17eb0ae0"},
        {119, "1325c3d76ea6a66e75dce490a0b8cb8b12233ee0",
         "31eba51c313a5c08226adf18d4a359cfdfd8d2e816b13f4af952f7ea6584dcfb"},
        {120, "253af86ee859905852357aee8bd83b08601364ae",
         "2f3d335432c70b580af0e8e1b3674a7c020d683aa5f73aaaedfdc55af904c21c"},
        {1000, "a50be72b20f0e3f078d252e8e56b11b4bec67509",
         "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3"},
    };
    char text[1000];
    memset(text, 'a', sizeof text);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t step = 1; step < 200; step += 33) {
            check_hash(GIT, text, cases[i].n, step, cases[i].git);
            check_hash(LFS, text, cases[i].n, step, cases[i].sha256);
        }
    }
    check_hash(GIT, "hello\n", 6, 6, "ce013625030ba8dba906f756967f9e9ca394464a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hub_files_chooses),
        cmocka_unit_test(test_hub_files_refuses),
        cmocka_unit_test(test_hub_files_without_memory),
        cmocka_unit_test(test_hub_hashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
