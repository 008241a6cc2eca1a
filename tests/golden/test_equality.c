/* An answer depends on the request, its adapters and the model only. Every golden job, greedy and
 * sampled, is asked alone; then again in company, in other orders, with other chunks, page pools,
 * thread counts and a prefix cache. Token ids, log-probabilities and alternatives must be equal to
 * the bit. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "tests/golden/golden.h"
#include "tests/release.h"

struct scenario {
    const char *name;
    struct golden_setup setup;
    uint64_t seed; /* arrival order; 0: as they stand */
    int in_flight;
    int rounds;          /* asked this many times on one engine */
    bool growing;        /* the jobs that outgrow their prompts' pages, see make_growing */
    bool must_preempt;   /* or the scenario shows nothing */
    bool must_hit_cache; /* from the second round on */
};

static const struct scenario scenarios[] = {
    {.name = "32 in flight", .seed = 1, .in_flight = 32, .rounds = 1},
    {.name = "32 in flight, order 2", .seed = 2, .in_flight = 32, .rounds = 1},
    {.name = "8 in flight, order 3", .seed = 3, .in_flight = 8, .rounds = 1},
    {.name = "all queued at once",
     .setup = {.seqs_max = 32},
     .seed = 4,
     .in_flight = 200,
     .rounds = 1},
    {.name = "2 threads", .setup = {.threads = 2}, .seed = 5, .in_flight = 32, .rounds = 1},
    {.name = "3 threads, alone", .setup = {.threads = 3}, .in_flight = 1, .rounds = 1},
    {.name = "chunks of 3", .setup = {.chunk_max = 3}, .in_flight = 1, .rounds = 1},
    {.name = "chunks of 7, 40 rows a step",
     .setup = {.chunk_max = 7, .rows_max = 40},
     .seed = 6,
     .in_flight = 32,
     .rounds = 1},
    {.name = "small page pool", .setup = {.kv_pages = 48}, .seed = 7, .in_flight = 32, .rounds = 1},
    {.name = "24 pages",
     .setup = {.kv_pages = 24},
     .in_flight = 32,
     .rounds = 2,
     .growing = true,
     .must_preempt = true},
    {.name = "24 pages, cache, chunks of 5, 3 threads, 3 slots",
     .setup = {.threads = 3, .chunk_max = 5, .kv_pages = 24, .slots_max = 3, .prefix_cache = true},
     .seed = 11,
     .in_flight = 32,
     .rounds = 2,
     .growing = true,
     .must_preempt = true},
    {.name = "prefix cache, alone",
     .setup = {.prefix_cache = true},
     .in_flight = 1,
     .rounds = 2,
     .must_hit_cache = true},
    {.name = "prefix cache, 32 in flight",
     .setup = {.prefix_cache = true},
     .seed = 8,
     .in_flight = 32,
     .rounds = 2,
     .must_hit_cache = true},
    {.name = "4 adapter slots", .setup = {.slots_max = 4}, .seed = 9, .in_flight = 32, .rounds = 1},
    {.name = "all of it",
     .setup = {.threads = 3, .chunk_max = 5, .kv_pages = 56, .slots_max = 6, .prefix_cache = true},
     .seed = 10,
     .in_flight = 32,
     .rounds = 2},
};

/* A sanitizer makes a step twenty times as slow: then each voice takes one chat, greedy or sampled.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER true
#else
#define UNDER_SANITIZER false
#endif

/* Each run twice: greedy, and sampled with its own seed and length. */
static struct job *make_jobs(const struct golden *g, int *count)
{
    struct job *jobs = mem_calloc((size_t)g->run_count * 2, sizeof *jobs);
    assert_non_null(jobs);
    *count = 0;
    for (int i = 0; i < g->run_count; i++) {
        if (UNDER_SANITIZER && g->runs[i].chat != i / g->prompt_count % g->prompt_count)
            continue;
        if (!UNDER_SANITIZER || i % 2 == 0)
            jobs[(*count)++] = golden_job(g, i);
        if (UNDER_SANITIZER && i % 2 == 0)
            continue;
        struct job *sampled = &jobs[(*count)++];
        *sampled = golden_job(g, i);
        sampled->temperature = 0.9f;
        sampled->top_p = 0.95f;
        sampled->seed = 1000 + (uint64_t)i;
        sampled->max_tokens = 3 + i * 11 % 45;
    }
    return jobs;
}

/* Short prompts with long answers: each takes two or three pages and grows to six, so that a few of
 * them fill a small pool together and some must step back. */
static struct job *make_growing(const struct golden *g, int *count)
{
    struct job *jobs = mem_calloc((size_t)g->run_count, sizeof *jobs);
    assert_non_null(jobs);
    *count = 0;
    for (int i = 0; i < g->run_count; i++) {
        if (g->runs[i].chat != 0)
            continue;
        struct job *job = &jobs[(*count)++];
        *job = golden_job(g, i);
        job->temperature = 0.7f;
        job->seed = 7 + (uint64_t)i;
        job->max_tokens = ANSWER_MAX - i % 5;
    }
    return jobs;
}

struct set {
    struct job *jobs;    /* owned */
    struct answer *want; /* owned: asked alone */
    int count;
};

struct totals {
    int jobs;
    int mismatches;
    uint64_t preemptions;
    uint64_t cached;
    char first[400];
};

static void run_scenario(const struct golden *g, const struct scenario *s, const struct set *set,
                         struct totals *t)
{
    const struct job *jobs = set->jobs;
    int count = set->count;
    struct asker *asker = asker_open(g, &s->setup);
    struct answer *got = mem_calloc((size_t)count, sizeof *got);
    struct engine_usage *usages = mem_calloc((size_t)count, sizeof *usages);
    int *order = mem_calloc((size_t)count, sizeof *order);
    assert_true(got && usages && order);
    uint64_t hits = 0;
    for (int round = 0; round < s->rounds; round++) {
        golden_shuffle(order, count, s->seed + (uint64_t)round * 100);
        asker_ask(asker, jobs, s->seed ? order : NULL, count, s->in_flight, got, usages);
        char first[256] = "";
        int differ = answers_differ(jobs, set->want, got, count, first, sizeof first);
        if (differ && t->mismatches == 0)
            snprintf(t->first, sizeof t->first, "%s, %s, round %d: %s", g->arch, s->name, round,
                     first);
        t->mismatches += differ;
        t->jobs += count;
        for (int i = 0; round > 0 && i < count; i++)
            hits += usages[i].cached_tokens > 0;
        if (s->must_hit_cache && round > 0 && hits < (uint64_t)count / 2)
            fail_msg("%s, %s: %llu of %d prompts from the cache", g->arch, s->name,
                     (unsigned long long)hits, count);
    }
    struct engine_stats stats;
    engine_get_stats(asker_engine(asker), &stats);
    if (s->must_preempt && stats.preemptions == 0)
        fail_msg("%s, %s: nothing was preempted", g->arch, s->name);
    t->preemptions += stats.preemptions;
    t->cached += stats.tokens_cached;
    if (stats.kv_pages_used != 0)
        fail_msg("%s, %s: %d pages still held at the end", g->arch, s->name, stats.kv_pages_used);
    mem_free(order);
    mem_free(usages);
    mem_free(got);
    asker_close(asker);
}

static void check_arch(const char *arch)
{
    struct golden g;
    golden_load(arch, &g);
    struct golden_setup alone = {.threads = 1};
    struct asker *asker = asker_open(&g, &alone);
    struct set sets[2] = {0}; /* all jobs, the growing ones */
    sets[0].jobs = make_jobs(&g, &sets[0].count);
    sets[1].jobs = make_growing(&g, &sets[1].count);
    for (int i = 0; i < 2; i++) {
        sets[i].want = mem_calloc((size_t)sets[i].count, sizeof *sets[i].want);
        assert_non_null(sets[i].want);
        asker_ask(asker, sets[i].jobs, NULL, sets[i].count, 1, sets[i].want, NULL);
    }
    asker_close(asker);
    struct totals t = {0};
    int n = (int)(sizeof scenarios / sizeof scenarios[0]);
    for (int i = 0; i < n; i++)
        run_scenario(&g, &scenarios[i], &sets[scenarios[i].growing], &t);
    printf("equality %s: %d scenarios, %d jobs, %llu preemptions, %llu tokens from the cache, "
           "%d mismatches\n",
           arch, n, t.jobs, (unsigned long long)t.preemptions, (unsigned long long)t.cached,
           t.mismatches);
    if (t.mismatches)
        fail_msg("%d mismatches, first: %s", t.mismatches, t.first);
    for (int i = 0; i < 2; i++) {
        mem_free(sets[i].want);
        mem_free(sets[i].jobs);
    }
    golden_free(&g);
}

static void test_equality_llama(void **state)
{
    (void)state;
    check_arch("llama");
}

static void test_equality_mistral(void **state)
{
    (void)state;
    check_arch("mistral");
}

static void test_equality_qwen2(void **state)
{
    (void)state;
    check_arch("qwen2");
}

static void test_equality_qwen3(void **state)
{
    (void)state;
    check_arch("qwen3");
}

static void test_equality_alora(void **state)
{
    (void)state;
    check_arch("alora");
}

/* What a cold engine without a prefix cache says, each job asked alone. */
static struct answer *ask_cold(const struct golden *g, const struct job *jobs, int count)
{
    struct golden_setup plain = {.threads = 1};
    struct asker *asker = asker_open(g, &plain);
    struct answer *want = mem_calloc((size_t)count, sizeof *want);
    assert_non_null(want);
    asker_ask(asker, jobs, NULL, count, 1, want, NULL);
    asker_close(asker);
    return want;
}

/* ---- ISO-1: many short prompts by each of eight identities ---- */

#define ISO_PROMPTS    64
#define ISO_IDENTITIES 8

static const char *const iso_voices[ISO_IDENTITIES] = {
    "base", "qv-r4", "all-r8", "rslora-r16", "patterns", "regex", "dora-r8", "blend-3",
};

/* Prompts of 1 to 48 random ids, each asked by every identity, half of them sampled. */
static void make_iso(const struct golden *g, uint64_t seed, struct golden_prompt *prompts,
                     struct job *jobs)
{
    const struct golden_run *voices[ISO_IDENTITIES] = {NULL};
    for (int v = 0; v < ISO_IDENTITIES; v++)
        for (int i = 0; i < g->run_count; i++)
            if (strcmp(g->runs[i].voice, iso_voices[v]) == 0)
                voices[v] = &g->runs[i];
    srand((unsigned)seed);
    for (int p = 0; p < ISO_PROMPTS; p++) {
        struct golden_prompt *prompt = &prompts[p];
        prompt->count = 1 + rand() % 48;
        prompt->ids = mem_calloc((size_t)prompt->count, sizeof *prompt->ids);
        assert_non_null(prompt->ids);
        for (int i = 0; i < prompt->count; i++)
            prompt->ids[i] = rand() % 500;
        snprintf(prompt->name, sizeof prompt->name, "random %d", p);
        for (int v = 0; v < ISO_IDENTITIES; v++) {
            assert_non_null(voices[v]);
            jobs[p * ISO_IDENTITIES + v] = (struct job){.run = voices[v],
                                                        .prompt = prompt,
                                                        .max_tokens = 4 + rand() % 12,
                                                        .temperature = p % 2 ? 0.8f : 0,
                                                        .top_p = 1,
                                                        .seed = seed * 1000 + (uint64_t)p};
        }
    }
}

static void test_equality_identities(void **state)
{
    (void)state;
    const int seeds = UNDER_SANITIZER ? 1 : release_figure(2, 5),
              count = ISO_PROMPTS * ISO_IDENTITIES;
    static struct golden_prompt prompts[ISO_PROMPTS];
    static struct job jobs[ISO_PROMPTS * ISO_IDENTITIES];
    int answers = 0, differ = 0;
    char first[256] = "";
    struct golden g;
    golden_load("llama", &g);
    for (int seed = 1; seed <= seeds; seed++) {
        make_iso(&g, (uint64_t)seed, prompts, jobs);
        struct answer *want = ask_cold(&g, jobs, count);
        struct answer *got = mem_calloc((size_t)count, sizeof *got);
        int order[ISO_PROMPTS * ISO_IDENTITIES];
        assert_non_null(got);
        for (int in_flight = 8; in_flight <= 32; in_flight *= 4) {
            struct golden_setup setup = {.threads = 2, .chunk_max = 5, .rows_max = 64};
            struct asker *asker = asker_open(&g, &setup);
            golden_shuffle(order, count, (uint64_t)(seed * 100 + in_flight));
            asker_ask(asker, jobs, order, count, in_flight, got, NULL);
            differ += answers_differ(jobs, want, got, count, first, sizeof first);
            answers += count;
            asker_close(asker);
        }
        mem_free(got);
        mem_free(want);
        for (int p = 0; p < ISO_PROMPTS; p++)
            mem_free(prompts[p].ids);
    }
    golden_free(&g);
    printf("figure: ISO-1 %d prompts x %d identities, 8 and 32 in flight, chunks of 5, %d seeds: "
           "%d answers, %d differ\n",
           ISO_PROMPTS, ISO_IDENTITIES, seeds, answers, differ);
    if (differ)
        fail_msg("%d mismatches, first: %s", differ, first);
}

/* The same long prompt by every voice in turn on one engine: the first time a voice asks, nothing
 * may come from the cache, whoever asked before; the second time something must. */
static void test_equality_prefix_identity(void **state)
{
    (void)state;
    struct golden g;
    golden_load("qwen3", &g);
    struct golden_setup setup = {.prefix_cache = true};
    struct asker *asker = asker_open(&g, &setup);
    int voices = 0;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < g.run_count; i++) {
            if (g.runs[i].chat != g.prompt_count - 1)
                continue;
            struct job job = golden_job(&g, i);
            struct answer answer;
            struct engine_usage usage;
            asker_ask(asker, &job, NULL, 1, 1, &answer, &usage);
            voices += round == 0;
            if ((usage.cached_tokens > 0) != (round > 0))
                fail_msg("%s, round %d: %d tokens from the cache", g.runs[i].voice, round,
                         usage.cached_tokens);
        }
    }
    asker_close(asker);
    golden_free(&g);
    printf("equality prefix identity: %d voices, 0 hits across voices\n", voices);
}

static bool is_single(const struct golden_run *run)
{
    return run->adapter_count == 1 && strcmp(run->voice, run->adapters[0].name) == 0;
}

/* One name, many generations: after each replacement the name speaks with the new bytes, and with
 * nothing that the cache kept of the old. */
static void test_equality_replaced_name(void **state)
{
    (void)state;
    struct golden g;
    golden_load("llama", &g);
    struct job *jobs = mem_calloc((size_t)g.run_count, sizeof *jobs);
    assert_non_null(jobs);
    for (int i = 0; i < g.run_count; i++)
        jobs[i] = golden_job(&g, i);
    struct answer *want = ask_cold(&g, jobs, g.run_count);
    struct golden_setup setup = {.prefix_cache = true, .slots_max = 4};
    struct asker *asker = asker_open(&g, &setup);
    int replacements = 0;
    for (int i = 0; i < 3 * g.run_count; i++) {
        /* chat by chat, so that neighbours in time differ in nothing but the voice */
        int at = i % g.run_count * g.prompt_count % g.run_count +
                 i % g.run_count * g.prompt_count / g.run_count;
        if (!is_single(&g.runs[at]))
            continue;
        struct golden_run renamed = g.runs[at];
        snprintf(renamed.adapters[0].name, sizeof renamed.adapters[0].name, "actor");
        char path[256];
        snprintf(path, sizeof path, GOLDEN_DATA "/%s/adapters/%s", g.arch, renamed.voice);
        struct err e = {0};
        uint64_t generation = 0;
        if (engine_adapter_add(asker_engine(asker), "actor", path, &generation, &e) != STATUS_OK)
            fail_msg("%s: %s", path, e.msg);
        struct job job = golden_job(&g, at);
        job.run = &renamed;
        struct answer got;
        char first[256];
        asker_ask(asker, &job, NULL, 1, 1, &got, NULL);
        if (answers_differ(&job, &want[at], &got, 1, first, sizeof first))
            fail_msg("replacement %d: %s", replacements, first);
        replacements++;
    }
    asker_close(asker);
    mem_free(want);
    mem_free(jobs);
    golden_free(&g);
    printf("equality replaced name: %d replacements, 0 stale\n", replacements);
    assert_true(replacements > 60);
}

/* What goes on beside the answers that are compared: requests that are cancelled at any moment,
 * under a name that is added, replaced and removed all the time. */
struct visitor {
    struct engine *engine;
    const struct golden *g;
    atomic_bool stop;
    int requests;
    int cancelled;
    int refused; /* the name was gone */
    const char *trouble;
};

static void follow(struct visitor *v, uint64_t id, int patience)
{
    static struct engine_event events[8];
    for (int waited = 0;; waited++) {
        int n = engine_read(v->engine, id, events, 8);
        for (int i = 0; i < n; i++) {
            v->cancelled += events[i].kind == ENGINE_EVENT_CANCELLED;
            if (events[i].kind == ENGINE_EVENT_ERROR)
                v->trouble = "a visitor's request ended in an error";
            if (events[i].kind >= ENGINE_EVENT_DONE)
                return;
        }
        if (waited == patience)
            engine_cancel(v->engine, id);
        if (n == 0)
            nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
}

static void *visit(void *ctx)
{
    struct visitor *v = ctx;
    static const char *const paths[] = {"bad/good", "llama/adapters/all-r8",
                                        "llama/adapters/dora-r8", "llama/adapters/qv-r4"};
    for (int i = 0; !atomic_load(&v->stop); i++) {
        char path[256];
        snprintf(path, sizeof path, GOLDEN_DATA "/%s", paths[i % 4]);
        struct err e = {0};
        uint64_t generation = 0, id = 0;
        if (engine_adapter_add(v->engine, "visitor", path, &generation, &e) != STATUS_OK)
            v->trouble = "a visitor's adapter was refused";
        if (i % 7 == 3 && engine_adapter_remove(v->engine, "visitor", &e) != STATUS_OK)
            v->trouble = "a visitor's adapter could not be removed";
        const struct golden_prompt *prompt = &v->g->prompts[i % v->g->prompt_count];
        struct engine_request r = {
            .request_id = "visitor",
            .prompt = prompt->ids,
            .prompt_count = prompt->count,
            .adapters = {{.name = "visitor", .weight = 0.5f}, {.name = "regex", .weight = 1}},
            .adapter_count = 1 + i % 2,
            .max_tokens = 60,
            .ignore_eos = true,
            .cache_prompt = true,
            .sampling = {.temperature = 1,
                         .top_p = 1,
                         .typical_p = 1,
                         .repetition_penalty = 1,
                         .seed = (uint64_t)i,
                         .logprobs = -1},
        };
        if (engine_submit(v->engine, &r, &id, NULL, &e) != STATUS_OK) {
            v->refused++;
            continue;
        }
        v->requests++;
        follow(v, id, i * 5 % 13);
    }
    return NULL;
}

static void test_equality_disturbed(void **state)
{
    (void)state;
    struct golden g;
    golden_load("llama", &g);
    struct golden_setup setup = {
        .threads = 2, .prefix_cache = true, .slots_max = 8, .kv_pages = 160};
    struct asker *asker = asker_open(&g, &setup);
    int count = 0;
    struct job *jobs = make_jobs(&g, &count);
    struct answer *want = ask_cold(&g, jobs, count);
    struct answer *got = mem_calloc((size_t)count, sizeof *got);
    assert_non_null(got);
    struct visitor v = {.engine = asker_engine(asker), .g = &g};
    asker_expect_strangers(asker);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, visit, &v), 0);
    int differ = 0;
    char first[256] = "";
    for (int round = 0; round < 3; round++) {
        asker_ask(asker, jobs, NULL, count, 12, got, NULL);
        differ += answers_differ(jobs, want, got, count, first, sizeof first);
    }
    atomic_store(&v.stop, true);
    pthread_join(thread, NULL);
    struct engine_stats stats;
    engine_get_stats(asker_engine(asker), &stats);
    asker_close(asker);
    mem_free(got);
    mem_free(want);
    mem_free(jobs);
    golden_free(&g);
    printf("equality disturbed: %d jobs beside %d requests (%d cancelled, %d refused), %d "
           "mismatches\n",
           3 * count, v.requests, v.cancelled, v.refused, differ);
    if (v.trouble)
        fail_msg("%s", v.trouble);
    if (differ)
        fail_msg("%d mismatches, first: %s", differ, first);
    assert_true(v.requests > 0 && v.cancelled > 0);
    assert_int_equal(stats.kv_pages_used, 0);
}

int main(void)
{
    log_setup(LOG_LEVEL_WARN, false);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equality_llama),
        cmocka_unit_test(test_equality_mistral),
        cmocka_unit_test(test_equality_qwen2),
        cmocka_unit_test(test_equality_qwen3),
        cmocka_unit_test(test_equality_alora),
        cmocka_unit_test(test_equality_identities),
        cmocka_unit_test(test_equality_prefix_identity),
        cmocka_unit_test(test_equality_replaced_name),
        cmocka_unit_test(test_equality_disturbed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
