/* Activated LoRA and the prefix cache: the pages before the invocation sequence are the base's, to
 * take and to give; no page from it on is anybody else's. Every ordered pair of voices asks the
 * same prompt, one after the other; the second finds exactly the pages in which the same adapters
 * act, and answers as an engine without a cache. */
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

#define G LIMIT_KV_PAGE_TOKENS

/* A sanitizer makes a step twenty times as slow: then one pair of so many is asked. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SHARE 10
#else
#define SHARE 1
#endif

/* What acts on token `at`, in the order in which it is added. */
static int acting(const struct golden_run *run, int at, const struct engine_adapter_use *out[])
{
    int n = 0;
    for (int from = 0; from <= at; from++)
        for (int i = 0; i < run->adapter_count; i++)
            if (run->active_from[i] == from)
                out[n++] = &run->adapters[i];
    return n;
}

static bool act_alike(const struct golden_run *a, const struct golden_run *b, int at)
{
    const struct engine_adapter_use *x[LIMIT_ADAPTERS_PER_REQUEST], *y[LIMIT_ADAPTERS_PER_REQUEST];
    int n = acting(a, at, x);
    if (acting(b, at, y) != n)
        return false;
    for (int i = 0; i < n; i++)
        if (strcmp(x[i]->name, y[i]->name) != 0 || x[i]->weight != y[i]->weight)
            return false;
    return true;
}

/* Tokens of a prompt that both compute alike, in whole pages; the last token is never one. */
static int shared_tokens(const struct golden_run *a, const struct golden_run *b, int count)
{
    int at = 0;
    while (at < count - 1 && act_alike(a, b, at))
        at++;
    return at / G * G;
}

struct tally {
    int pairs, base_pages, same_pages, none;
};

/* The prompt is the chat's with two tokens in its first page that no other pair has. */
static void ask_pair(struct asker *warm, struct asker *cold, const struct golden *g, int first,
                     int second, struct tally *t)
{
    const struct golden_prompt *chat = &g->prompts[g->runs[first].chat];
    struct golden_prompt prompt = *chat;
    int32_t ids[512];
    assert_in_range(chat->count, 2 * G, 512);
    memcpy(ids, chat->ids, (size_t)chat->count * sizeof *ids);
    ids[G - 3] = 1000 + first;
    ids[G - 2] = 1000 + second;
    prompt.ids = ids;
    struct job jobs[2] = {golden_job(g, first), golden_job(g, second)};
    struct answer got[2], want;
    struct engine_usage usage[2];
    for (int i = 0; i < 2; i++) {
        jobs[i].prompt = &prompt;
        jobs[i].max_tokens = 3;
        asker_ask(warm, &jobs[i], NULL, 1, 1, &got[i], &usage[i]);
    }
    asker_ask(cold, &jobs[1], NULL, 1, 1, &want, NULL);
    const char *a = jobs[0].run->voice, *b = jobs[1].run->voice;
    int shared = shared_tokens(jobs[0].run, jobs[1].run, prompt.count);
    if (usage[0].cached_tokens != 0 || usage[1].cached_tokens != shared)
        fail_msg("%s: %s then %s: %d, then %d tokens from the cache, expected 0 and %d", chat->name,
                 a, b, usage[0].cached_tokens, usage[1].cached_tokens, shared);
    if (memcmp(&got[1], &want, sizeof want) != 0)
        fail_msg("%s: %s answers otherwise after %s than on a cold engine", chat->name, b, a);
    const struct engine_adapter_use *none[LIMIT_ADAPTERS_PER_REQUEST];
    t->pairs++;
    t->none += shared == 0;
    for (int at = 0; at < shared; at += G) {
        if (acting(jobs[1].run, at + G - 1, none) == 0)
            t->base_pages += first != second;
        else
            t->same_pages++;
    }
}

static void test_alora_pages_before_the_marker_go_both_ways(void **state)
{
    (void)state;
    static const struct golden_setup with_cache = {.threads = 2, .prefix_cache = true};
    static const struct golden_setup without = {.threads = 2};
    struct golden g;
    struct tally t = {0};
    int n = 0;
    golden_load("alora", &g);
    struct asker *warm = asker_open(&g, &with_cache), *cold = asker_open(&g, &without);
    for (int i = 0; i < g.run_count; i++)
        for (int k = 0; k < g.run_count; k++)
            if (g.runs[i].chat == g.runs[k].chat && g.prompts[g.runs[i].chat].count > 2 * G &&
                n++ % SHARE == 0)
                ask_pair(warm, cold, &g, i, k, &t);
    asker_close(warm);
    asker_close(cold);
    golden_free(&g);
    printf("figure: alora pairs %d, base pages from others %d, pages of the same adapters %d, "
           "pairs with nothing in common %d, hits beyond a marker 0\n",
           t.pairs, t.base_pages, t.same_pages, t.none);
    assert_true(t.pairs > 200 / SHARE && t.base_pages > 0 && t.same_pages > 0 && t.none > 0);
}

int main(void)
{
    log_setup(LOG_LEVEL_WARN, false);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alora_pages_before_the_marker_go_both_ways),
    };
    return cmocka_run_group_tests_name("alora", tests, NULL, NULL);
}
