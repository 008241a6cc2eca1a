/* How a model's directory says that embeddings are made, and the arithmetic of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "engine/model/pooling.h"
#include "tests/unit/fixture_files.h"

#define MODULE(type, path) "{\"idx\":0,\"name\":\"0\",\"path\":\"" path "\",\"type\":\"" type "\"}"
#define TRANSFORMER        MODULE("sentence_transformers.models.Transformer", "")
#define POOLING            MODULE("sentence_transformers.models.Pooling", "1_Pooling")
#define NORMALIZE          MODULE("sentence_transformers.models.Normalize", "2_Normalize")
#define THREE              "[" TRANSFORMER "," POOLING "," NORMALIZE "]"
#define TWO                "[" TRANSFORMER "," POOLING "]"

static const struct pooling_case {
    const char *modules; /* NULL: no such file */
    const char *config;  /* of 1_Pooling */
    enum pooling_kind kind;
    bool normalize;
    const char *why; /* part of the sentence */
} cases[] = {
    {NULL, NULL, POOLING_LAST, true, ""},
    {THREE,
     "{\"word_embedding_dimension\":64,\"pooling_mode_cls_token\":false,"
     "\"pooling_mode_mean_tokens\":true,\"pooling_mode_lasttoken\":false}",
     POOLING_MEAN, true, ""},
    {TWO, "{\"pooling_mode_mean_tokens\":true,\"include_prompt\":true}", POOLING_MEAN, false, ""},
    {THREE, "{\"pooling_mode_lasttoken\":true}", POOLING_LAST, true, ""},
    {TWO, "{\"pooling_mode\":\"lasttoken\",\"word_embedding_dimension\":64}", POOLING_LAST, false,
     ""},
    {THREE, "{\"pooling_mode\":\"mean\"}", POOLING_MEAN, true, ""},
    {THREE, "{\"pooling_mode_weightedmean_tokens\":true}", POOLING_WEIGHTED_MEAN, true, ""},
    {"[" MODULE("a.b.c.Transformer", "") "," MODULE("x.Pooling", "1_Pooling") "]",
     "{\"pooling_mode\":\"weightedmean\"}", POOLING_WEIGHTED_MEAN, false, ""},
    /* what cannot be done */
    {THREE, "{\"pooling_mode_cls_token\":true}", POOLING_NONE, false, "'cls_token'"},
    {THREE, "{\"pooling_mode\":\"max\"}", POOLING_NONE, false, "'max'"},
    {THREE, "{\"pooling_mode_mean_tokens\":true,\"pooling_mode_lasttoken\":true}", POOLING_NONE,
     false, "one way"},
    {THREE, "{}", POOLING_NONE, false, "one way"},
    {THREE, "[]", POOLING_NONE, false, "one way"},
    {THREE, "{\"pooling_mode\":7}", POOLING_NONE, false, "one way"},
    {THREE, "{\"pooling_mode\":\"mean\",\"word_embedding_dimension\":65}", POOLING_NONE, false,
     "not 64"},
    {THREE, "{\"pooling_mode\":\"mean\",\"word_embedding_dimension\":\"64\"}", POOLING_NONE, false,
     "not 64"},
    {THREE, "{", POOLING_NONE, false, "1_Pooling/config.json"},
    {THREE, NULL, POOLING_NONE, false, "1_Pooling/config.json"},
    {"[" TRANSFORMER "," POOLING "," MODULE("sentence_transformers.models.Dense", "2_Dense") "]",
     "{\"pooling_mode\":\"mean\"}", POOLING_NONE, false, "'Dense'"},
    {"[" TRANSFORMER "," POOLING "," NORMALIZE "," NORMALIZE "]", "{\"pooling_mode\":\"mean\"}",
     POOLING_NONE, false, "module 3"},
    {"[" TRANSFORMER "]", NULL, POOLING_NONE, false, "no pooling"},
    {"[]", NULL, POOLING_NONE, false, "no pooling"},
    {"{}", NULL, POOLING_NONE, false, "no list"},
    {"[1,2]", NULL, POOLING_NONE, false, "module 0"},
    {"nonsense", NULL, POOLING_NONE, false, "modules.json"},
    {"[" TRANSFORMER "," MODULE("x.Pooling", "../1_Pooling") "]", "{\"pooling_mode\":\"mean\"}",
     POOLING_NONE, false, "no folder"},
    {"[" TRANSFORMER "," MODULE("x.Pooling", "..") "]", "{\"pooling_mode\":\"mean\"}", POOLING_NONE,
     false, "no folder"},
    {"[" TRANSFORMER "," MODULE("x.Pooling", "") "]", "{\"pooling_mode\":\"mean\"}", POOLING_NONE,
     false, "no folder"},
    {"[" TRANSFORMER ",{\"type\":\"x.Pooling\"}]", "{\"pooling_mode\":\"mean\"}", POOLING_NONE,
     false, "no folder"},
    {"[" MODULE("x.\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4"
                "a\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4"
                "\xc3\xa4",
                "") "]",
     NULL, POOLING_NONE, false, "module 0"},
};

static void write_case(struct fixture_dir *d, const struct pooling_case *c)
{
    fixture_dir_make(d);
    if (c->modules)
        fixture_write_text(d, "modules.json", c->modules);
    if (!c->config)
        return;
    assert_int_equal(mkdir(fixture_path(d, "1_Pooling"), 0700), 0);
    fixture_write_text(d, "1_Pooling/config.json", c->config);
}

static void test_pooling_reads_what_the_directory_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct pooling_case *c = &cases[i];
        struct fixture_dir d;
        struct file_root root;
        struct pooling p;
        struct err e = {0};
        write_case(&d, c);
        assert_int_equal(file_root_open(d.path, false, &root, &e), STATUS_OK);
        assert_int_equal(pooling_read(&root, 64, &p, &e), STATUS_OK);
        if (p.kind != c->kind || p.normalize != c->normalize || !strstr(p.why.msg, c->why) ||
            (c->kind == POOLING_NONE) != (p.why.msg[0] != '\0'))
            fail_msg("case %zu: kind %d, normalize %d, '%s'; wanted %d, %d, '%s'", i, p.kind,
                     p.normalize, p.why.msg, c->kind, c->normalize, c->why);
        assert_true(utf8_is_valid(p.why.msg, strlen(p.why.msg)));
        file_root_close(&root);
        fixture_dir_remove(&d);
    }
}

static void test_pooling_without_memory(void **state)
{
    (void)state;
    struct fixture_dir d;
    struct file_root root;
    struct pooling p;
    struct err e = {0};
    int refused = 0;
    write_case(&d, &cases[1]);
    assert_int_equal(file_root_open(d.path, false, &root, &e), STATUS_OK);
    for (enum status st = STATUS_NO_MEMORY; st != STATUS_OK; refused++) {
        mem_fail_at(refused + 1);
        st = pooling_read(&root, 64, &p, &e);
        mem_fail_at(0);
        assert_true(st == STATUS_NO_MEMORY || (st == STATUS_OK && p.kind == POOLING_MEAN));
    }
    assert_true(refused > 2);
    file_root_close(&root);
    fixture_dir_remove(&d);
}

static void test_pooling_weighs_tokens(void **state)
{
    (void)state;
    static const float states[3][2] = {{1, 10}, {2, 20}, {6, 30}};
    static const struct {
        enum pooling_kind kind;
        float want[2];
    } sums[] = {{POOLING_LAST, {6, 30}},
                {POOLING_MEAN, {3, 20}},
                {POOLING_WEIGHTED_MEAN, {23.0f / 6, 140.0f / 6}}};
    for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++) {
        double sum[2] = {0};
        float out[2];
        struct pooled p = {.kind = sums[i].kind, .width = 2, .sum = sum, .out = out};
        bool all = pooling_takes_all(sums[i].kind);
        assert_int_equal(all, sums[i].kind != POOLING_LAST);
        for (int t = all ? 0 : 2; t < 3; t++)
            pooling_add(&p, t, states[t]);
        pooling_end(&p, 3);
        for (int k = 0; k < 2; k++)
            if (out[k] != sums[i].want[k])
                fail_msg("kind %d: %g, wanted %g", sums[i].kind, (double)out[k],
                         (double)sums[i].want[k]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pooling_reads_what_the_directory_says),
        cmocka_unit_test(test_pooling_without_memory),
        cmocka_unit_test(test_pooling_weighs_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
