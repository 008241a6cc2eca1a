/* golden: the data of tests/golden in memory, and an engine asked about it. For test programs: a
 * broken file or a refused request fails the running cmocka test. One thread. */
#ifndef CHORUS_TESTS_GOLDEN_H
#define CHORUS_TESTS_GOLDEN_H

#include <stdbool.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "engine/engine.h"
#include "engine/engine_text.h"

#define GOLDEN_DATA  "tests/golden/data"
#define GOLDEN_TOP   5
#define GOLDEN_STEPS 24
#define ANSWER_MAX   64 /* tokens of one answer */

extern const char *const golden_archs[]; /* NULL-terminated */

struct golden_prompt {
    char name[32];
    const cJSON *messages; /* borrowed from golden.root */
    const char *text;      /* rendered; borrowed */
    int32_t *ids;          /* owned */
    int count;
};

struct golden_run {
    char voice[32];
    struct engine_adapter_use adapters[LIMIT_ADAPTERS_PER_REQUEST];
    int adapter_count;
    int active_from[LIMIT_ADAPTERS_PER_REQUEST]; /* first token each acts on; -1: it never does */
    int chat;
    int32_t ids[GOLDEN_STEPS];
    float logprobs[GOLDEN_STEPS];
    int32_t top_ids[GOLDEN_STEPS][GOLDEN_TOP];
    float top_logprobs[GOLDEN_STEPS][GOLDEN_TOP];
    const cJSON *prompt_logprobs; /* borrowed; NULL for most */
};

struct golden {
    char arch[16];
    char model[256]; /* its directory */
    cJSON *root;     /* owned */
    float tolerance;
    struct golden_prompt *prompts; /* owned, [prompt_count] */
    int prompt_count;
    struct golden_run *runs; /* owned, [run_count] */
    int run_count;
};

void golden_load(const char *arch, struct golden *out);
void golden_free(struct golden *g);

/* What a test wants to vary; everything else is fixed. Zero means the default beside it. */
struct golden_setup {
    int threads;    /* 1 */
    int seqs_max;   /* 32 */
    int rows_max;   /* 256 */
    int chunk_max;  /* rows_max */
    int kv_pages;   /* enough for all */
    int slots_max;  /* 16 */
    int wait_bound; /* 64 steps */
    bool prefix_cache;
};

struct asker; /* an engine on the CPU backend with all adapters of one golden, and its wake-up */

struct asker *asker_open(const struct golden *g, const struct golden_setup *setup);
void asker_close(struct asker *a);
struct engine *asker_engine(struct asker *a);
/* Others ask the same engine: their wake-ups are no mistake from now on. */
void asker_expect_strangers(struct asker *a);

/* One question. */
struct job {
    const struct golden_run *run; /* voice and prompt */
    const struct golden_prompt *prompt;
    int max_tokens; /* 1 .. ANSWER_MAX */
    bool use_eos;
    float temperature;
    float top_p;
    uint64_t seed;
    float *prompt_logprobs; /* NULL, or [prompt->count - 1] to be filled */
};

/* Plain data without padding, so that equality is memcmp. */
struct answer {
    int32_t count;
    int32_t finish;       /* enum engine_finish */
    int32_t prompt_count; /* prompt tokens that had a log-probability */
    int32_t ids[ANSWER_MAX];
    float logprobs[ANSWER_MAX];
    int32_t top_ids[ANSWER_MAX][GOLDEN_TOP];
    float top_logprobs[ANSWER_MAX][GOLDEN_TOP];
};

struct job golden_job(const struct golden *g, int run);

/* Asks jobs[order[0]], jobs[order[1]], ... with at most in_flight unanswered and fills answers and
 * usages (may be NULL) at the jobs' own indices. order NULL: as they stand. */
void asker_ask(struct asker *a, const struct job *jobs, const int *order, int count, int in_flight,
               struct answer *answers, struct engine_usage *usages);

/* Indices of answers that differ in any bit; names the first in `first` (text of `size` bytes). */
int answers_differ(const struct job *jobs, const struct answer *want, const struct answer *got,
                   int count, char *first, size_t size);

/* A seeded permutation of 0 .. count - 1. */
void golden_shuffle(int *order, int count, uint64_t seed);

#endif
