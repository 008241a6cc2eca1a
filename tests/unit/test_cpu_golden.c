/* The CPU backend against transformers + PEFT in float32 (tests/golden/data): every voice and chat
 * of an architecture in one batch, token ids equal and log-probabilities within the file's
 * tolerance; then each alone and in small chunks, equal to that to the bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <cjson/cJSON.h>

#include "tests/unit/cpu_drive.h"

#define RUNS_MAX 64

struct golden {
    cJSON *json;
    struct model *model;
    struct drive drive;
    char voice[32][LIMIT_NAME_BYTES]; /* by slot */
    int voices;
    int32_t prompt[8][512];
    int prompt_count[8];
    struct drive_seq seqs[RUNS_MAX];
    int runs;
    double tolerance;
};

static const cJSON *field(const cJSON *o, const char *name)
{
    const cJSON *f = cJSON_GetObjectItemCaseSensitive(o, name);
    assert_non_null(f);
    return f;
}

static cJSON *read_json(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("cannot open %s (run from the repository root)", path);
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    char *text = malloc((size_t)n + 1);
    assert_int_equal(fread(text, 1, (size_t)n, f), n);
    text[n] = '\0';
    fclose(f);
    cJSON *json = cJSON_Parse(text);
    free(text);
    assert_non_null(json);
    return json;
}

static int load_voice(struct golden *g, const char *arch, const char *name)
{
    for (int i = 0; i < g->voices; i++) {
        if (strcmp(g->voice[i], name) == 0)
            return i;
    }
    char path[256];
    struct err e = {0};
    struct lora *l;
    snprintf(path, sizeof path, "tests/golden/data/%s/adapters/%s", arch, name);
    if (lora_open(path, g->model, &l, &e) != STATUS_OK ||
        g->drive.b->ops->adapter_load(g->drive.b, g->voices, l, &e) != STATUS_OK)
        fail_msg("%s: %s", path, e.msg);
    lora_free(l);
    snprintf(g->voice[g->voices], sizeof g->voice[0], "%s", name);
    return g->voices++;
}

/* "name" or {"name": ..., "weight": ...} or ["name", weight]. */
static void add_adapter(struct golden *g, const char *arch, const cJSON *a, struct drive_seq *s)
{
    const cJSON *name = cJSON_IsObject(a) ? field(a, "name") : cJSON_IsArray(a) ? a->child : a;
    const cJSON *weight = cJSON_IsObject(a)  ? field(a, "weight")
                          : cJSON_IsArray(a) ? a->child->next
                                             : NULL;
    s->slot[s->adapter_count] = load_voice(g, arch, name->valuestring);
    s->weight[s->adapter_count++] = weight ? (float)weight->valuedouble : 1.0f;
}

static void open_golden(struct golden *g, const char *arch, const struct backend_options *opt)
{
    char path[256];
    struct err e = {0};
    memset(g, 0, sizeof *g);
    snprintf(path, sizeof path, "tests/golden/data/%s/golden.json", arch);
    g->json = read_json(path);
    snprintf(path, sizeof path, "tests/golden/data/%s/model", arch);
    if (model_open(path, NULL, &g->model, &e) != STATUS_OK)
        fail_msg("%s: %s", path, e.msg);
    struct backend_plan plan = {.rows_max = 512,
                                .seqs_max = RUNS_MAX,
                                .outs_max = RUNS_MAX,
                                .segments_max = 4 * RUNS_MAX,
                                .slots_max = 32,
                                .pages = 2048,
                                .ctx_max = 1024};
    g->drive = drive_open(g->model, opt, &plan);
    g->tolerance = field(g->json, "logprob_tolerance")->valuedouble;
    int chat = 0;
    for (const cJSON *c = field(g->json, "chats")->child; c; c = c->next, chat++) {
        for (const cJSON *t = field(c, "prompt_ids")->child; t; t = t->next)
            g->prompt[chat][g->prompt_count[chat]++] = t->valueint;
    }
    for (const cJSON *r = field(g->json, "runs")->child; r; r = r->next) {
        int at = field(r, "chat")->valueint;
        struct drive_seq *s = &g->seqs[g->runs++];
        *s = drive_seq_of(g->prompt[at], g->prompt_count[at], cJSON_GetArraySize(field(r, "ids")));
        for (const cJSON *a = field(r, "adapters")->child; a; a = a->next)
            add_adapter(g, arch, a, s);
    }
}

static void close_golden(struct golden *g)
{
    drive_close(&g->drive);
    model_close(g->model);
    cJSON_Delete(g->json);
}

static double check_run(const struct golden *g, const struct drive_seq *s, const cJSON *run)
{
    double worst = 0.0;
    const cJSON *id = field(run, "ids")->child;
    const cJSON *lp = field(run, "logprobs")->child;
    for (int i = 0; i < s->generate; i++, id = id->next, lp = lp->next) {
        double off = fabs((double)s->logprobs[i] - lp->valuedouble);
        if (s->tokens[s->prompt_count + i] != id->valueint || !(off <= g->tolerance))
            fail_msg("%s, chat %d, token %d: %d (%.6f) instead of %d (%.6f)",
                     field(run, "voice")->valuestring, field(run, "chat")->valueint, i,
                     s->tokens[s->prompt_count + i], (double)s->logprobs[i], id->valueint,
                     lp->valuedouble);
        worst = off > worst ? off : worst;
    }
    return worst;
}

static void assert_same(const struct drive_seq *a, const struct drive_seq *b, const char *what,
                        int i)
{
    if (memcmp(a->tokens, b->tokens, (size_t)a->count * sizeof *a->tokens) != 0 ||
        memcmp(a->logprobs, b->logprobs, (size_t)a->generate * sizeof *a->logprobs) != 0)
        fail_msg("run %d differs %s: first log-probability %a and %a", i, what,
                 (double)a->logprobs[0], (double)b->logprobs[0]);
}

static void check_arch(const char *arch)
{
    struct golden *g = malloc(sizeof *g);
    struct drive_seq again[RUNS_MAX];
    assert_non_null(g);
    open_golden(g, arch, &(struct backend_options){.threads = 2});
    drive_run(&g->drive, g->seqs, g->runs);
    double worst = 0.0;
    const cJSON *run = field(g->json, "runs")->child;
    for (int i = 0; i < g->runs; i++, run = run->next)
        worst = fmax(worst, check_run(g, &g->seqs[i], run));
    printf("figure: %s: %d runs, largest log-probability difference %.2e\n", arch, g->runs, worst);
    for (int i = 0; i < g->runs; i++) {
        again[0] = g->seqs[i];
        g->drive.chunk = i % 2 ? 7 : 1 << 20;
        drive_run(&g->drive, again, 1);
        assert_same(&g->seqs[i], again, g->drive.chunk == 7 ? "alone in chunks of 7" : "alone", i);
        drive_free(again, 1);
    }
    memcpy(again, g->seqs, sizeof again);
    g->drive.chunk = 16;
    drive_run(&g->drive, again, g->runs);
    for (int i = 0; i < g->runs; i++)
        assert_same(&g->seqs[i], &again[i], "in chunks of 16", i);
    drive_free(again, g->runs);
    drive_free(g->seqs, g->runs);
    close_golden(g);
    free(g);
}

static void test_cpu_golden_llama(void **state)
{
    (void)state;
    check_arch("llama");
}

static void test_cpu_golden_mistral(void **state)
{
    (void)state;
    check_arch("mistral");
}

static void test_cpu_golden_qwen2(void **state)
{
    (void)state;
    check_arch("qwen2");
}

static void test_cpu_golden_qwen3(void **state)
{
    (void)state;
    check_arch("qwen3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu_golden_llama),
        cmocka_unit_test(test_cpu_golden_mistral),
        cmocka_unit_test(test_cpu_golden_qwen2),
        cmocka_unit_test(test_cpu_golden_qwen3),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
