/* Adapters as PEFT writes them, and those that must be refused by name (tests/golden/data). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/adapter/lora.h"
#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/mem.h"
#include "tests/unit/fixture_golden.h"

static struct model *open_base(const char *arch)
{
    char path[256];
    struct err e = {0};
    struct model *m = NULL;
    snprintf(path, sizeof path, GOLDEN_DIR "/%s/model", arch);
    if (model_open(path, NULL, &m, &e) != STATUS_OK)
        fail_msg("%s: %s", path, e.msg);
    return m;
}

struct wanted {
    const char *arch;
    const char *name;
    int modules;
    int rank_max;
    double scale; /* of the first module */
    int site;     /* of the last module; -1: not checked */
    bool dora;
};

static void test_lora_golden_adapters_bind(void **state)
{
    (void)state;
    static const struct wanted all[] = {
        {"llama", "all-r8", 14, 8, 2.0, SITE_OF(1, LINEAR_DOWN), false},
        {"llama", "qv-r4", 4, 4, 1.0, SITE_OF(1, LINEAR_V), false},
        {"llama", "rslora-r16", 14, 16, 2.0, SITE_OF(1, LINEAR_DOWN), false},
        {"llama", "patterns", 14, 12, 1.5, SITE_OF(1, LINEAR_DOWN), false},
        {"llama", "dora-r8", 14, 8, 2.0, SITE_OF(1, LINEAR_DOWN), true},
        {"llama", "head-r8", 15, 8, 2.0, SITE_LM_HEAD(2), false},
        {"llama", "subset", 3, 6, 1.5, -1, false},
        {"llama", "regex", 7, 5, 7.0 / 2.2360679774997896, -1, false},
        {"mistral", "head-r8", 22, 8, 2.0, SITE_LM_HEAD(3), false},
        {"mistral", "embed-r4", 4, 4, 2.0, SITE_EMBED(3), false},
        {"qwen2", "dora-r8", 14, 8, 2.0, SITE_OF(1, LINEAR_DOWN), true},
        {"qwen2", "head-r8", 15, 8, 2.0, SITE_LM_HEAD(2), false},
        {"qwen3", "dora-rs-qv", 4, 4, 4.0, SITE_OF(1, LINEAR_V), true},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        char path[256];
        struct err e = {0};
        struct model *m = open_base(all[i].arch);
        struct lora *l = NULL;
        snprintf(path, sizeof path, GOLDEN_DIR "/%s/adapters/%s", all[i].arch, all[i].name);
        if (lora_open(path, m, &l, &e) != STATUS_OK)
            fail_msg("%s: %s", path, e.msg);
        const struct lora_module *first = &l->modules[0];
        const struct lora_module *last = &l->modules[l->module_count - 1];
        if (l->module_count != all[i].modules || l->rank_max != all[i].rank_max)
            fail_msg("%s: %d modules of rank <= %d, expected %d of %d", path, l->module_count,
                     l->rank_max, all[i].modules, all[i].rank_max);
        if (fabs(first->scale - all[i].scale) > 1e-6)
            fail_msg("%s: scale %.9g, expected %.9g", path, (double)first->scale, all[i].scale);
        if (all[i].site >= 0)
            assert_int_equal(last->site, all[i].site);
        for (int k = 0; k < l->module_count; k++) {
            const struct lora_module *mod = &l->modules[k];
            int in;
            int out;
            model_site_dims(&m->shape, mod->site, &in, &out);
            assert_int_equal(mod->in, in);
            assert_int_equal(mod->out, out);
            assert_true(mod->a.rows == mod->rank && mod->a.cols == in);
            assert_true(mod->b.rows == out && mod->b.cols == mod->rank);
            assert_int_equal(mod->magnitude.data != NULL, all[i].dora);
            assert_true(k == 0 || mod->site > l->modules[k - 1].site);
        }
        lora_free(l);
        model_close(m);
    }
}

/* Every directory beside the tests' list loads as well. */
static void test_lora_golden_all_load(void **state)
{
    (void)state;
    for (size_t i = 0; i < GOLDEN_ARCH_COUNT; i++) {
        char path[512];
        int count = 0;
        struct model *m = open_base(golden_archs[i]);
        snprintf(path, sizeof path, GOLDEN_DIR "/%s/adapters", golden_archs[i]);
        DIR *d = opendir(path);
        assert_non_null(d);
        for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
            struct err e = {0};
            struct lora *l = NULL;
            if (entry->d_name[0] == '.')
                continue;
            if (lora_open_beneath(path, entry->d_name, m, &l, &e) != STATUS_OK)
                fail_msg("%s/%s: %s", path, entry->d_name, e.msg);
            lora_free(l);
            count++;
        }
        closedir(d);
        assert_true(count >= 8);
        model_close(m);
    }
}

static char *expected_text(const char *folder)
{
    struct file_root root;
    struct err e = {0};
    char *text = NULL;
    size_t n = 0;
    cJSON *json = NULL;
    assert_int_equal(file_root_open(folder, false, &root, &e), STATUS_OK);
    enum status st = file_read(&root, "expect.json", 65536, &text, &n, NULL, &e);
    file_root_close(&root);
    if (st != STATUS_OK)
        return NULL;
    assert_int_equal(json_parse(text, n, &json_default_limits, &json, &e), STATUS_OK);
    char *out = mem_strdup(json_member(json, "error_contains")->valuestring);
    cJSON_Delete(json);
    mem_free(text);
    return out;
}

static void test_lora_golden_bad_are_refused(void **state)
{
    (void)state;
    struct model *m = open_base("llama");
    DIR *d = opendir(GOLDEN_DIR "/bad");
    assert_non_null(d);
    int refused = 0;
    for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
        char path[512];
        struct err e = {0};
        struct lora *l = NULL;
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, GOLDEN_DIR "/bad/%s", entry->d_name);
        char *want = expected_text(path);
        enum status st = lora_open(path, m, &l, &e);
        if (!want) {
            if (st != STATUS_OK)
                fail_msg("%s: refused: %s", path, e.msg);
            lora_free(l);
            continue;
        }
        if (st == STATUS_OK)
            fail_msg("%s: accepted, should name %s", path, want);
        if (st != STATUS_BAD_FILE && st != STATUS_UNSUPPORTED)
            fail_msg("%s: status %s", path, status_code(st));
        if (!strstr(e.msg, want) || !e.param[0])
            fail_msg("%s: [%s] \"%s\" does not name %s", path, e.param, e.msg, want);
        mem_free(want);
        refused++;
    }
    closedir(d);
    model_close(m);
    print_message("refused by name: %d\n", refused);
    assert_true(refused >= 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lora_golden_adapters_bind),
        cmocka_unit_test(test_lora_golden_all_load),
        cmocka_unit_test(test_lora_golden_bad_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
