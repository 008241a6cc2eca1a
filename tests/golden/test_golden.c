/* The engine on the CPU backend against what transformers and peft say (README.md beside this
 * file): greedy tokens, log-probabilities, end tokens, and adapters to be refused. */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "tests/golden/golden.h"

static const struct golden_setup plain_setup = {.threads = 2};

struct figures {
    float worst; /* largest |dlogprob| over chosen and top tokens */
    int tokens;
    int mismatches;
    char where[64]; /* of the largest */
    char first[256];
};

static void note(struct figures *f, const struct golden *g, const struct job *job, int at,
                 const char *what, double got, double want)
{
    if (f->mismatches++ == 0)
        snprintf(f->first, sizeof f->first, "%s/%s/%s token %d: %s %.9g, wanted %.9g", g->arch,
                 job->run->voice, job->prompt->name, at, what, got, want);
}

/* Top ids are compared as far as the reference's own order is clear. */
static void compare(const struct golden *g, const struct job *job, const struct answer *got,
                    struct figures *f)
{
    const struct golden_run *want = job->run;
    if (got->count != GOLDEN_STEPS)
        note(f, g, job, 0, "count", got->count, GOLDEN_STEPS);
    for (int i = 0; i < got->count && i < GOLDEN_STEPS; i++) {
        f->tokens++;
        if (got->ids[i] != want->ids[i]) {
            note(f, g, job, i, "id", got->ids[i], want->ids[i]);
            return; /* the rest continues another text */
        }
        float off = fabsf(got->logprobs[i] - want->logprobs[i]);
        for (int k = 0; k < GOLDEN_TOP; k++) {
            float d = fabsf(got->top_logprobs[i][k] - want->top_logprobs[i][k]);
            off = d > off ? d : off;
            bool clear = k == 0 || want->top_logprobs[i][k - 1] - want->top_logprobs[i][k] > 0.01f;
            clear = clear && (k + 1 == GOLDEN_TOP ||
                              want->top_logprobs[i][k] - want->top_logprobs[i][k + 1] > 0.01f);
            if (clear && k + 1 < GOLDEN_TOP && got->top_ids[i][k] != want->top_ids[i][k])
                note(f, g, job, i, "top id", got->top_ids[i][k], want->top_ids[i][k]);
        }
        if (!(off <= g->tolerance))
            note(f, g, job, i, "logprob", (double)got->logprobs[i], (double)want->logprobs[i]);
        if (off > f->worst) {
            f->worst = off;
            snprintf(f->where, sizeof f->where, "%s/%s", g->arch, want->voice);
        }
    }
}

static void test_golden_voices(void **state)
{
    (void)state;
    struct figures f = {0};
    int jobs = 0;
    for (int a = 0; golden_archs[a]; a++) {
        struct golden g;
        golden_load(golden_archs[a], &g);
        struct asker *asker = asker_open(&g, &plain_setup);
        struct answer *answers = mem_calloc((size_t)g.run_count, sizeof *answers);
        struct job *list = mem_calloc((size_t)g.run_count, sizeof *list);
        assert_true(answers && list);
        for (int i = 0; i < g.run_count; i++)
            list[i] = golden_job(&g, i);
        asker_ask(asker, list, NULL, g.run_count, 1, answers, NULL);
        for (int i = 0; i < g.run_count; i++)
            compare(&g, &list[i], &answers[i], &f);
        jobs += g.run_count;
        mem_free(list);
        mem_free(answers);
        asker_close(asker);
        golden_free(&g);
    }
    printf("golden voices: %d jobs, %d tokens, max |dlogprob| %.2e (%s), %d mismatches\n", jobs,
           f.tokens, (double)f.worst, f.where, f.mismatches);
    if (f.mismatches)
        fail_msg("%d mismatches, first: %s", f.mismatches, f.first);
}

/* Each blend again as a voice of its own: registered with half the weights and asked for twice
 * that.
 */
static void test_golden_named_blends(void **state)
{
    (void)state;
    struct figures f = {0};
    int jobs = 0;
    for (int a = 0; golden_archs[a]; a++) {
        struct golden g;
        golden_load(golden_archs[a], &g);
        struct asker *asker = asker_open(&g, &plain_setup);
        for (int i = 0; i < g.run_count; i++) {
            struct golden_run named = g.runs[i];
            struct engine_adapter_use parts[LIMIT_ADAPTERS_PER_REQUEST];
            if (named.adapter_count == 0 || strcmp(named.voice, named.adapters[0].name) == 0)
                continue;
            memcpy(parts, named.adapters, sizeof parts);
            for (int k = 0; k < named.adapter_count; k++)
                parts[k].weight /= 2;
            uint64_t generation;
            struct err e = {0};
            if (named.chat == 0 &&
                engine_adapter_blend(asker_engine(asker), named.voice, parts, named.adapter_count,
                                     &generation, &e) != STATUS_OK)
                fail_msg("%s/%s: %s", g.arch, named.voice, e.msg);
            named.adapter_count = 1;
            named.active_from[0] = 0;
            snprintf(named.adapters[0].name, sizeof named.adapters[0].name, "%s", named.voice);
            named.adapters[0].weight = 2;
            struct job job = golden_job(&g, i);
            job.run = &named;
            struct answer answer;
            asker_ask(asker, &job, NULL, 1, 1, &answer, NULL);
            compare(&g, &job, &answer, &f);
            jobs++;
        }
        asker_close(asker);
        golden_free(&g);
    }
    printf("golden named blends: %d jobs, %d tokens, max |dlogprob| %.2e (%s), %d mismatches\n",
           jobs, f.tokens, (double)f.worst, f.where, f.mismatches);
    assert_true(jobs > 40);
    if (f.mismatches)
        fail_msg("%d mismatches, first: %s", f.mismatches, f.first);
}

/* The prompt's own log-probabilities; asked twice, since a cached prefix has none to give. */
static void test_golden_prompt_logprobs(void **state)
{
    (void)state;
    static const struct golden_setup setup = {.prefix_cache = true, .chunk_max = 50};
    int tokens = 0;
    float worst = 0;
    for (int a = 0; golden_archs[a]; a++) {
        struct golden g;
        golden_load(golden_archs[a], &g);
        struct asker *asker = asker_open(&g, &setup);
        for (int i = 0; i < 2 * g.run_count; i++) {
            struct job job = golden_job(&g, i / 2);
            if (!job.run->prompt_logprobs)
                continue;
            int want_count = cJSON_GetArraySize(job.run->prompt_logprobs), n = 0;
            job.max_tokens = 1;
            job.prompt_logprobs = mem_calloc((size_t)want_count, sizeof(float));
            assert_non_null(job.prompt_logprobs);
            struct answer answer;
            asker_ask(asker, &job, NULL, 1, 1, &answer, NULL);
            assert_int_equal(answer.prompt_count, want_count);
            for (const cJSON *v = job.run->prompt_logprobs->child; v; v = v->next, n++) {
                float off = fabsf(job.prompt_logprobs[n] - (float)v->valuedouble);
                if (!(off <= g.tolerance))
                    fail_msg("%s/%s prompt token %d: %.9g, wanted %.9g", g.arch, job.run->voice,
                             n + 1, (double)job.prompt_logprobs[n], v->valuedouble);
                worst = off > worst ? off : worst;
                tokens++;
            }
            mem_free(job.prompt_logprobs);
        }
        asker_close(asker);
        golden_free(&g);
    }
    printf("golden prompts: %d tokens, max |dlogprob| %.2e\n", tokens, (double)worst);
}

/* An end token (each id of generation_config.json's list) ends the text where it is drawn. */
static void test_golden_end_tokens(void **state)
{
    (void)state;
    static const int32_t ends[] = {507, 510, 511}; /* llama */
    struct golden g;
    golden_load("llama", &g);
    struct asker *asker = asker_open(&g, &plain_setup);
    int stopped = 0;
    for (int i = 0; i < g.run_count; i++) {
        const struct golden_run *run = &g.runs[i];
        int before = 0;
        while (before < GOLDEN_STEPS && run->ids[before] != ends[0] &&
               run->ids[before] != ends[1] && run->ids[before] != ends[2])
            before++;
        struct job job = golden_job(&g, i);
        job.use_eos = true;
        struct answer answer;
        struct engine_usage usage;
        asker_ask(asker, &job, NULL, 1, 1, &answer, &usage);
        bool stop = before < GOLDEN_STEPS;
        stopped += stop;
        if (answer.finish != (stop ? ENGINE_FINISH_STOP : ENGINE_FINISH_LENGTH) ||
            answer.count < before || answer.count > before + 1 ||
            memcmp(answer.ids, run->ids, (size_t)before * sizeof answer.ids[0]) != 0)
            fail_msg("%s/%s: finish %d after %d tokens, wanted %d before the end", run->voice,
                     job.prompt->name, answer.finish, answer.count, before);
    }
    asker_close(asker);
    golden_free(&g);
    printf("golden end tokens: %d of the runs meet one and end there\n", stopped);
    assert_true(stopped >= 3);
}

/* Text of the refusal, or fails the test. */
static void expect_refusal(struct engine *engine, const char *name)
{
    char path[512], text[1024] = "";
    snprintf(path, sizeof path, GOLDEN_DATA "/bad/%s/expect.json", name);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s: cannot open", path);
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    cJSON *expect = cJSON_ParseWithLength(text, n);
    const char *want = cJSON_GetObjectItem(expect, "error_contains")->valuestring;
    snprintf(path, sizeof path, GOLDEN_DATA "/bad/%s", name);
    struct err e = {0};
    uint64_t generation = 0;
    if (engine_adapter_add(engine, name, path, &generation, &e) == STATUS_OK)
        fail_msg("%s: accepted, must be refused naming \"%s\"", name, want);
    if (!strstr(e.msg, want) && !strstr(e.param, want))
        fail_msg("%s: \"%s: %s\" does not name \"%s\"", name, e.param, e.msg, want);
    if (e.code == STATUS_INTERNAL || e.code == STATUS_NO_MEMORY)
        fail_msg("%s: refused for another reason: %s", name, e.msg);
    cJSON_Delete(expect);
}

static void test_golden_refusals(void **state)
{
    (void)state;
    struct golden g;
    golden_load("llama", &g);
    struct asker *asker = asker_open(&g, &plain_setup);
    struct engine *engine = asker_engine(asker);
    int before = engine_adapters(engine, NULL, 0), refused = 0;
    DIR *dir = opendir(GOLDEN_DATA "/bad");
    assert_non_null(dir);
    for (struct dirent *d; (d = readdir(dir));) {
        if (d->d_name[0] == '.' || strcmp(d->d_name, "good") == 0)
            continue;
        expect_refusal(engine, d->d_name);
        refused++;
    }
    closedir(dir);
    assert_int_equal(engine_adapters(engine, NULL, 0), before);
    struct err e = {0};
    uint64_t generation = 0;
    if (engine_adapter_add(engine, "good", GOLDEN_DATA "/bad/good", &generation, &e) != STATUS_OK)
        fail_msg("good: refused: %s: %s", e.param, e.msg);
    asker_close(asker);
    golden_free(&g);
    printf("golden refusals: %d adapters refused by name, the sound one accepted\n", refused);
    assert_true(refused >= 40);
}

int main(void)
{
    log_setup(LOG_LEVEL_WARN, false);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_voices),          cmocka_unit_test(test_golden_named_blends),
        cmocka_unit_test(test_golden_prompt_logprobs), cmocka_unit_test(test_golden_end_tokens),
        cmocka_unit_test(test_golden_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
