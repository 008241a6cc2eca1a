/* adapter_config.json: which modules it targets, with which rank and scale, as peft itself says
 * (tests/golden/data/peft_rules.json), and which fields are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/adapter/lora_config.h"
#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/strbuf.h"
#include "tests/unit/fixture_golden.h"

static struct lora_config *parse(const char *text)
{
    struct lora_config *c = NULL;
    struct err e = {0};
    if (lora_config_parse(text, strlen(text), &c, &e) != STATUS_OK)
        fail_msg("%s: [%s] %s", text, e.param, e.msg);
    return c;
}

/* ---- against peft ---- */

static cJSON *read_rules(void)
{
    struct file_root root;
    char *text = NULL;
    size_t n = 0;
    cJSON *json = NULL;
    struct err e = {0};
    struct json_limits limits = {.depth_max = 16, .members_max = 1000000};
    if (file_root_open(GOLDEN_DIR, false, &root, &e) != STATUS_OK ||
        file_read(&root, "peft_rules.json", 16u << 20, &text, &n, NULL, &e) != STATUS_OK ||
        json_parse(text, n, &limits, &json, &e) != STATUS_OK)
        fail_msg("%s", e.msg);
    file_root_close(&root);
    mem_free(text);
    return json;
}

static void check_case(const cJSON *modules, const cJSON *item, int *targeted_count)
{
    char *text = cJSON_PrintUnformatted(json_member(item, "config"));
    struct lora_config *c = parse(text);
    const cJSON *answer = json_member(item, "answers")->child;
    for (const cJSON *m = modules->child; m; m = m->next, answer = answer->next) {
        bool want = answer->child->valuedouble != 0;
        double want_rank = answer->child->next->valuedouble;
        double want_scale = answer->child->next->next->valuedouble;
        struct err e = {0};
        bool got;
        double rank;
        double scale;
        if (lora_config_targets(c, m->valuestring, &got, &e) != STATUS_OK ||
            lora_config_module(c, m->valuestring, &rank, &scale, &e) != STATUS_OK)
            fail_msg("%s: %s: %s", text, m->valuestring, e.msg);
        if (got != want || rank != want_rank || fabs(scale - want_scale) > 1e-12 * fabs(want_scale))
            fail_msg("%s: %s: targeted %d rank %g scale %.17g, peft says %d %g %.17g", text,
                     m->valuestring, got, rank, scale, want, want_rank, want_scale);
        *targeted_count += got;
    }
    lora_config_free(c);
    cJSON_free(text);
}

static void test_lora_config_agrees_with_peft(void **state)
{
    (void)state;
    cJSON *rules = read_rules();
    int configs = 0;
    int targeted = 0;
    const cJSON *cases = json_member(rules, "cases");
    for (const cJSON *c = cases->child; c; c = c->next, configs++)
        check_case(json_member(rules, "modules"), c, &targeted);
    print_message("configs %d, targeted modules %d\n", configs, targeted);
    assert_true(configs >= 200 && targeted >= 500);
    cJSON_Delete(rules);
}

static void test_lora_config_words_for_targets(void **state)
{
    (void)state;
    static const struct {
        const char *target; /* JSON */
        const char *module;
        bool yes;
    } cases[] = {
        {"\"all-linear\"", "model.layers.0.self_attn.q_proj", true},
        {"\"All-Linear\"", "model.layers.0.mlp.down_proj", true},
        {"\"all-linear\"", "lm_head", false},
        {"\"all-linear\"", "model.embed_tokens", false},
        {"null", "model.layers.0.self_attn.q_proj", true},
        {"null", "model.layers.0.self_attn.v_proj", true},
        {"null", "model.layers.0.self_attn.k_proj", false},
        {"[]", "model.layers.0.self_attn.q_proj", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[128];
        bool got = !cases[i].yes;
        struct err e = {0};
        snprintf(text, sizeof text, "{\"peft_type\":\"LORA\",\"target_modules\":%s}",
                 cases[i].target);
        struct lora_config *c = parse(text);
        assert_int_equal(lora_config_targets(c, cases[i].module, &got, &e), STATUS_OK);
        if (got != cases[i].yes)
            fail_msg("%s: %s: %d", cases[i].target, cases[i].module, got);
        lora_config_free(c);
    }
}

/* ---- fields ---- */

struct field_case {
    const char *field;
    const char *value; /* JSON */
    enum status status;
    const char *param; /* NULL: the field */
};

static const struct field_case fields[] = {
    {"peft_type", "\"LORA\"", STATUS_OK, NULL},
    {"peft_type", "null", STATUS_BAD_FILE, NULL},
    {"peft_type", "\"lora\"", STATUS_UNSUPPORTED, NULL},
    {"peft_type", "\"ADALORA\"", STATUS_UNSUPPORTED, NULL},
    {"peft_type", "7", STATUS_BAD_FILE, NULL},
    {"task_type", "\"CAUSAL_LM\"", STATUS_OK, NULL},
    {"task_type", "null", STATUS_OK, NULL},
    {"task_type", "\"SEQ_CLS\"", STATUS_UNSUPPORTED, NULL},
    {"task_type", "\"FEATURE_EXTRACTION\"", STATUS_UNSUPPORTED, NULL},
    {"r", "1", STATUS_OK, NULL},
    {"r", "8.0", STATUS_OK, NULL},
    {"r", "0", STATUS_BAD_FILE, NULL},
    {"r", "-4", STATUS_BAD_FILE, NULL},
    {"r", "2.5", STATUS_BAD_FILE, NULL},
    {"r", "\"8\"", STATUS_BAD_FILE, NULL},
    {"lora_alpha", "16", STATUS_OK, NULL},
    {"lora_alpha", "22.6", STATUS_OK, NULL},
    {"lora_alpha", "0", STATUS_OK, NULL},
    {"lora_alpha", "1e300", STATUS_BAD_FILE, NULL},
    {"lora_alpha", "\"16\"", STATUS_BAD_FILE, NULL},
    {"use_rslora", "true", STATUS_OK, NULL},
    {"use_rslora", "1", STATUS_BAD_FILE, NULL},
    {"use_dora", "true", STATUS_OK, NULL},
    {"use_dora", "\"yes\"", STATUS_BAD_FILE, NULL},
    {"ensure_weight_tying", "true", STATUS_OK, NULL}, /* judged when binding */
    {"target_modules", "[\"q_proj\"]", STATUS_OK, NULL},
    {"target_modules", "[7]", STATUS_BAD_FILE, NULL},
    {"target_modules", "7", STATUS_BAD_FILE, NULL},
    {"target_modules", "{}", STATUS_BAD_FILE, NULL},
    {"target_modules", "\"\"", STATUS_BAD_FILE, NULL},
    {"target_modules", "\"(\"", STATUS_BAD_FILE, NULL},
    {"exclude_modules", "\"(\"", STATUS_BAD_FILE, NULL},
    {"exclude_modules", "{}", STATUS_BAD_FILE, NULL},
    {"exclude_modules", "\"\"", STATUS_OK, NULL},
    {"layers_to_transform", "3", STATUS_OK, NULL},
    {"layers_to_transform", "[0,1]", STATUS_OK, NULL},
    {"layers_to_transform", "[]", STATUS_OK, NULL},
    {"layers_to_transform", "\"3\"", STATUS_BAD_FILE, NULL},
    {"layers_to_transform", "[1.5]", STATUS_BAD_FILE, NULL},
    {"layers_pattern", "\"layers\"", STATUS_BAD_FILE, NULL}, /* without layers_to_transform */
    {"layers_pattern", "[]", STATUS_OK, NULL},
    {"rank_pattern", "{}", STATUS_OK, NULL},
    {"rank_pattern", "{\"q_proj\":4}", STATUS_OK, NULL},
    {"rank_pattern", "{\"q_proj\":null}", STATUS_BAD_FILE, NULL},
    {"rank_pattern", "{\"q_proj\":true}", STATUS_BAD_FILE, NULL},
    {"rank_pattern", "{\"(\":4}", STATUS_BAD_FILE, NULL},
    {"rank_pattern", "{\"a\":1,\"a\":2}", STATUS_BAD_FILE, "a"},
    {"alpha_pattern", "[]", STATUS_BAD_FILE, NULL},
    {"alpha_pattern", "{\"*\":4}", STATUS_BAD_FILE, NULL},
    {"bias", "\"none\"", STATUS_OK, NULL},
    {"bias", "\"all\"", STATUS_UNSUPPORTED, NULL},
    {"bias", "\"lora_only\"", STATUS_UNSUPPORTED, NULL},
    {"bias", "true", STATUS_BAD_FILE, NULL},
    {"modules_to_save", "[]", STATUS_OK, NULL},
    {"modules_to_save", "[\"lm_head\"]", STATUS_UNSUPPORTED, NULL},
    {"fan_in_fan_out", "true", STATUS_UNSUPPORTED, NULL},
    {"lora_bias", "true", STATUS_UNSUPPORTED, NULL},
    {"use_qalora", "true", STATUS_UNSUPPORTED, NULL},
    {"use_bdlora", "{\"nblocks\":2}", STATUS_UNSUPPORTED, NULL},
    {"alora_invocation_tokens", "[1]", STATUS_OK, NULL},
    {"alora_invocation_tokens", "[]", STATUS_OK, NULL},
    {"alora_invocation_tokens", "[0,2147483647]", STATUS_OK, NULL},
    {"alora_invocation_tokens", "[2147483648]", STATUS_BAD_FILE, NULL},
    {"alora_invocation_tokens", "[3,-1]", STATUS_BAD_FILE, NULL},
    {"alora_invocation_tokens", "[1.5]", STATUS_BAD_FILE, NULL},
    {"alora_invocation_tokens", "[true]", STATUS_BAD_FILE, NULL},
    {"alora_invocation_tokens", "[\"<x>\"]", STATUS_BAD_FILE, NULL},
    {"alora_invocation_tokens", "\"<x>\"", STATUS_BAD_FILE, NULL},
    {"alora_invocation_tokens", "{\"a\":1}", STATUS_BAD_FILE, NULL},
    {"target_parameters", "[\"x\"]", STATUS_UNSUPPORTED, NULL},
    {"trainable_token_indices", "[1]", STATUS_UNSUPPORTED, NULL},
    {"trainable_token_indices", "{\"embed_tokens\":[1]}", STATUS_UNSUPPORTED, NULL},
    {"layer_replication", "[[0,2]]", STATUS_UNSUPPORTED, NULL},
    {"megatron_config", "{\"a\":1}", STATUS_UNSUPPORTED, NULL},
    {"arrow_config", "{\"top_k\":3}", STATUS_UNSUPPORTED, NULL},
    {"kasa_config", "{\"beta\":1}", STATUS_UNSUPPORTED, NULL},
    {"velora_config", "{\"a\":1}", STATUS_UNSUPPORTED, NULL},
    {"monteclora_config", "{\"a\":1}", STATUS_UNSUPPORTED, NULL},
    {"enable_lora", "[true,false]", STATUS_UNSUPPORTED, NULL},
    {"enable_lora", "null", STATUS_OK, NULL},
    {"init_lora_weights", "true", STATUS_OK, NULL},
    {"init_lora_weights", "false", STATUS_OK, NULL},
    {"init_lora_weights", "\"gaussian\"", STATUS_OK, NULL},
    {"init_lora_weights", "\"eva\"", STATUS_OK, NULL},
    {"init_lora_weights", "\"orthogonal\"", STATUS_OK, NULL},
    {"init_lora_weights", "\"pissa\"", STATUS_UNSUPPORTED, NULL},
    {"init_lora_weights", "\"pissa_niter_16\"", STATUS_UNSUPPORTED, NULL},
    {"init_lora_weights", "\"olora\"", STATUS_UNSUPPORTED, NULL},
    {"init_lora_weights", "\"corda\"", STATUS_UNSUPPORTED, NULL},
    {"init_lora_weights", "\"lora_ga\"", STATUS_UNSUPPORTED, NULL},
    {"init_lora_weights", "\"loftq\"", STATUS_UNSUPPORTED, NULL},
    {"init_lora_weights", "\"new\"", STATUS_UNSUPPORTED, NULL},
    {"init_lora_weights", "7", STATUS_BAD_FILE, NULL},
    {"base_model_name_or_path", "\"x\"", STATUS_OK, NULL},
    {"base_model_name_or_path", "7", STATUS_BAD_FILE, NULL},
    {"auto_mapping", "{\"a\":\"b\"}", STATUS_OK, NULL},
    {"revision", "\"main\"", STATUS_OK, NULL},
    {"inference_mode", "true", STATUS_OK, NULL},
    {"lora_dropout", "0.1", STATUS_OK, NULL},
    {"peft_version", "\"0.21.2\"", STATUS_OK, NULL},
    {"megatron_core", "\"megatron.core\"", STATUS_OK, NULL},
    {"loftq_config", "{\"bits\":4}", STATUS_OK, NULL},
    {"eva_config", "{\"rho\":2}", STATUS_OK, NULL},
    {"corda_config", "{\"a\":2}", STATUS_OK, NULL},
    {"lora_ga_config", "{\"a\":2}", STATUS_OK, NULL},
    {"runtime_config", "{\"ephemeral_gpu_offload\":false}", STATUS_OK, NULL},
    {"qalora_group_size", "16", STATUS_OK, NULL},
    {"merge_weights", "true", STATUS_OK, NULL},
    {"something_new", "true", STATUS_UNSUPPORTED, NULL},
    {"something_new", "{\"a\":1}", STATUS_UNSUPPORTED, NULL},
    {"something_new", "\"x\"", STATUS_UNSUPPORTED, NULL},
    {"something_new", "0.5", STATUS_UNSUPPORTED, NULL},
    {"something_new", "[0]", STATUS_UNSUPPORTED, NULL},
    {"something_new", "false", STATUS_OK, NULL},
    {"something_new", "null", STATUS_OK, NULL},
    {"something_new", "0", STATUS_OK, NULL},
    {"something_new", "\"\"", STATUS_OK, NULL},
    {"something_new", "{}", STATUS_OK, NULL},
    {"something_new", "[]", STATUS_OK, NULL},
};

static void test_lora_config_fields(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const struct field_case *f = &fields[i];
        struct lora_config *c = NULL;
        struct err e = {0};
        char text[512];
        const char *type = strcmp(f->field, "peft_type") == 0 ? "" : "\"peft_type\":\"LORA\",";
        snprintf(text, sizeof text, "{%s\"%s\":%s}", type, f->field, f->value);
        enum status st = lora_config_parse(text, strlen(text), &c, &e);
        if (st != f->status)
            fail_msg("%s: %s, expected %s: %s", text, status_code(st), status_code(f->status),
                     e.msg);
        if (st != STATUS_OK && (strcmp(e.param, f->param ? f->param : f->field) != 0 ||
                                !strstr(e.msg, f->param ? f->param : f->field) ||
                                !strstr(e.msg, "adapter_config.json")))
            fail_msg("%s: [%s] \"%s\" does not name the field", text, e.param, e.msg);
        lora_config_free(c);
    }
}

static void test_lora_config_combinations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *param;
    } cases[] = {
        {"{\"peft_type\":\"LORA\",\"target_modules\":\".*\",\"layers_to_transform\":1}",
         "layers_to_transform"},
        {"{\"peft_type\":\"LORA\",\"target_modules\":\"all-linear\",\"layers_to_transform\":[1]}",
         "layers_to_transform"},
        {"{\"peft_type\":\"LORA\",\"target_modules\":[\"q\"],\"layers_to_transform\":[1],"
         "\"layers_pattern\":\"(\"}",
         "layers_pattern"},
        {"{\"peft_type\":\"LORA\",\"target_modules\":[\"q\"],\"layers_to_transform\":[1],"
         "\"layers_pattern\":[7]}",
         "layers_pattern"},
        {"[]", "adapter_config.json"},
        {"", "adapter_config.json"},
        {"{\"peft_type\":\"LORA\"} x", "adapter_config.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct lora_config *c = NULL;
        struct err e = {0};
        enum status st = lora_config_parse(cases[i].text, strlen(cases[i].text), &c, &e);
        if (st != STATUS_BAD_FILE || strcmp(e.param, cases[i].param) != 0)
            fail_msg("%s: %s [%s] %s", cases[i].text, status_code(st), e.param, e.msg);
    }
}

static void test_lora_config_invocation_tokens(void **state)
{
    (void)state;
    struct lora_config *c =
        parse("{\"peft_type\":\"LORA\",\"alora_invocation_tokens\":[7,0,70000]}");
    assert_int_equal(c->alora_token_count, 3);
    static const int32_t want[] = {7, 0, 70000};
    assert_memory_equal(c->alora_tokens, want, sizeof want);
    lora_config_free(c);
    c = parse("{\"peft_type\":\"LORA\",\"alora_invocation_tokens\":[]}");
    assert_int_equal(c->alora_token_count, 0);
    lora_config_free(c);

    char text[8 * LIMIT_ALORA_TOKENS] =
        "{\"peft_type\":\"LORA\",\"use_dora\":true,\"alora_invocation_tokens\":[1]}";
    struct err dora = {0};
    assert_int_equal(lora_config_parse(text, strlen(text), &c, &dora), STATUS_UNSUPPORTED);
    assert_string_equal(dora.param, "alora_invocation_tokens");
    for (int n = LIMIT_ALORA_TOKENS; n <= LIMIT_ALORA_TOKENS + 1; n++) {
        struct err e = {0};
        int len =
            snprintf(text, sizeof text, "{\"peft_type\":\"LORA\",\"alora_invocation_tokens\":[1");
        for (int i = 1; i < n; i++)
            len += snprintf(text + len, sizeof text - (size_t)len, ",%d", i);
        len += snprintf(text + len, sizeof text - (size_t)len, "]}");
        enum status st = lora_config_parse(text, (size_t)len, &c, &e);
        if (st != (n <= LIMIT_ALORA_TOKENS ? STATUS_OK : STATUS_LIMIT))
            fail_msg("%d tokens: %s: %s", n, status_code(st), e.msg);
        if (st == STATUS_OK)
            lora_config_free(c);
    }
}

/* ---- bounds ---- */

/* Expressions that would run for ages end in an error, soon. */
static void test_lora_config_costly_patterns(void **state)
{
    (void)state;
    static const char *const costly[] = {
        "{\"peft_type\":\"LORA\",\"target_modules\":\"(([a-z_.0-9]+)*)*[!?]\"}",
        "{\"peft_type\":\"LORA\",\"exclude_modules\":\"(.+)+(.+)+(.+)+(.+)+[!?]\"}",
        "{\"peft_type\":\"LORA\",\"rank_pattern\":{\"((.|.)+)+[!?]\":4}}",
        "{\"peft_type\":\"LORA\",\"target_modules\":[\"q_proj\"],\"layers_to_transform\":0,"
        "\"layers_pattern\":\"((.|.)+)+[!?]\"}",
    };
    for (size_t i = 0; i < sizeof costly / sizeof costly[0]; i++) {
        struct lora_config *c = parse(costly[i]);
        struct err e = {0};
        bool yes;
        double rank;
        double scale;
        int64_t start = clock_thread_cpu_ns();
        enum status st = lora_config_targets(c, "model.layers.0.self_attn.q_proj", &yes, &e);
        if (st == STATUS_OK)
            st = lora_config_module(c, "model.layers.0.self_attn.q_proj", &rank, &scale, &e);
        double ms = (double)(clock_thread_cpu_ns() - start) / 1e6;
        print_message("gave up after %.1f ms\n", ms);
        if (st != STATUS_LIMIT || ms > 60)
            fail_msg("%s: %s after %.1f ms: %s", costly[i], status_code(st), ms, e.msg);
        lora_config_free(c);
    }
}

/* Many expressions over many modules share one budget of processor time. */
static void test_lora_config_time_budget(void **state)
{
    (void)state;
    struct strbuf text;
    strbuf_init(&text, 1u << 20);
    strbuf_puts(&text, "{\"peft_type\":\"LORA\",\"rank_pattern\":{");
    for (int i = 0; i < 4000; i++)
        strbuf_printf(&text, "%s\"(a|b|.)*%d\":4", i ? "," : "", i);
    strbuf_puts(&text, "}}");
    struct lora_config *c = parse(strbuf_str(&text));
    struct err e = {0};
    enum status st = STATUS_OK;
    int64_t start = clock_thread_cpu_ns();
    int modules = 0;
    for (; modules < 100000 && st == STATUS_OK; modules++) {
        double rank;
        double scale;
        st = lora_config_module(c, "model.layers.0.self_attn.q_proj", &rank, &scale, &e);
    }
    double ms = (double)(clock_thread_cpu_ns() - start) / 1e6;
    print_message("gave up after %d modules, %.0f ms\n", modules, ms);
    assert_int_equal(st, STATUS_LIMIT);
    assert_true(ms < 2.0 * LIMIT_ADAPTER_MATCH_MS);
    lora_config_free(c);
    strbuf_deinit(&text);
}

/* Reading a large adapter takes seconds of the same thread, which are not its expressions' doing.
 */
static void test_lora_config_time_of_others(void **state)
{
    (void)state;
    struct lora_config *c = parse("{\"peft_type\":\"LORA\",\"target_modules\":\".*q_proj\"}");
    struct err e = {0};
    bool yes = false;
    int64_t until = clock_thread_cpu_ns() + (LIMIT_ADAPTER_MATCH_MS + 50) * INT64_C(1000000);
    while (clock_thread_cpu_ns() < until)
        continue;
    enum status st = lora_config_targets(c, "model.layers.0.self_attn.q_proj", &yes, &e);
    if (st != STATUS_OK || !yes)
        fail_msg("%s, targeted %d: %s", status_code(st), yes, e.msg);
    lora_config_free(c);
}

static void test_lora_config_limits(void **state)
{
    (void)state;
    for (int over = 0; over < 2; over++) {
        struct strbuf text;
        struct lora_config *c = NULL;
        struct err e = {0};
        strbuf_init(&text, 8u << 20);
        strbuf_puts(&text, "{\"peft_type\":\"LORA\",\"alpha_pattern\":{");
        for (int i = 0; i < LIMIT_ADAPTER_PATTERNS + over; i++)
            strbuf_printf(&text, "%s\"k%d\":1", i ? "," : "", i);
        strbuf_puts(&text, "}}");
        assert_int_equal(lora_config_parse(text.data, text.len, &c, &e),
                         over ? STATUS_LIMIT : STATUS_OK);
        lora_config_free(c);
        strbuf_clear(&text);
        strbuf_puts(&text, "{\"peft_type\":\"LORA\",\"target_modules\":\"");
        for (int i = 0; i < LIMIT_ADAPTER_PATTERN_BYTES + over; i++)
            strbuf_putc(&text, 'a');
        strbuf_puts(&text, "\"}");
        c = NULL;
        assert_int_equal(lora_config_parse(text.data, text.len, &c, &e),
                         over ? STATUS_LIMIT : STATUS_OK);
        lora_config_free(c);
        strbuf_deinit(&text);
    }
}

static void test_lora_config_every_allocation_may_fail(void **state)
{
    (void)state;
    static const char text[] =
        "{\"peft_type\":\"LORA\",\"target_modules\":[\"q_proj\"],\"layers_to_transform\":[1],"
        "\"layers_pattern\":[\"layers\",\"h\"],\"exclude_modules\":\"x.*\",\"lora_alpha\":2.0,"
        "\"rank_pattern\":{\"a\":1,\"b.*\":2},\"alpha_pattern\":{\"c\":3},"
        "\"alora_invocation_tokens\":[1,2]}";
    int failures = 0;
    for (int k = 1;; k++) {
        struct lora_config *c = NULL;
        struct err e = {0};
        bool yes;
        double rank;
        double scale;
        mem_fail_at(k);
        enum status st = lora_config_parse(text, sizeof text - 1, &c, &e);
        if (st == STATUS_OK)
            st = lora_config_targets(c, "model.layers.1.self_attn.q_proj", &yes, &e);
        if (st == STATUS_OK)
            st = lora_config_module(c, "model.layers.1.self_attn.q_proj", &rank, &scale, &e);
        mem_fail_at(0);
        lora_config_free(c);
        if (st == STATUS_OK)
            break;
        if (st != STATUS_NO_MEMORY)
            fail_msg("allocation %d: %s: %s", k, status_code(st), e.msg);
        failures++;
    }
    print_message("allocations failed one by one: %d\n", failures);
    assert_true(failures > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lora_config_agrees_with_peft),
        cmocka_unit_test(test_lora_config_words_for_targets),
        cmocka_unit_test(test_lora_config_fields),
        cmocka_unit_test(test_lora_config_combinations),
        cmocka_unit_test(test_lora_config_invocation_tokens),
        cmocka_unit_test(test_lora_config_costly_patterns),
        cmocka_unit_test(test_lora_config_time_budget),
        cmocka_unit_test(test_lora_config_time_of_others),
        cmocka_unit_test(test_lora_config_limits),
        cmocka_unit_test(test_lora_config_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
