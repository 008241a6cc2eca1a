/* ask: an engine with adapters, asked by a closed loop of clients without HTTP. For the programs of
 * this folder; whatever goes wrong ends the program. One thread beside the engine's own. */
#ifndef CHORUS_TESTS_GPU_ASK_H
#define CHORUS_TESTS_GPU_ASK_H

#include "engine/engine.h"

#define ASK_ADAPTERS_MAX LIMIT_ADAPTER_SLOTS

struct ask; /* owns its engine */

struct ask_job {
    const int32_t *prompt; /* borrowed */
    int prompt_count;
    int max_tokens;
    bool embed; /* the prompt's embedding is asked for instead of an answer */
    int adapter_count;
    int adapters[LIMIT_ADAPTERS_PER_REQUEST]; /* index of ask_add's adapters */
    float weights[LIMIT_ADAPTERS_PER_REQUEST];
    struct sample_params params;
    struct grammar *grammar; /* borrowed, of this engine; NULL: none */
};

/* Opens an engine; `opt`'s notify fields are ask's own. */
struct ask *ask_open(const struct engine_options *opt);
void ask_close(struct ask *a);
struct engine *ask_engine(struct ask *a);
/* Adds every sub-directory of `dir` as an adapter, in name order, until there are `most`; returns
 * how many there are now. */
int ask_add(struct ask *a, const char *dir, int most);

/* Asks jobs [0, count) with at most in_flight unanswered. on_event (may be NULL) sees each event as
 * it is read; its embedding is freed behind it. */
void ask_run(struct ask *a, const struct ask_job *jobs, int count, int in_flight,
             void (*on_event)(void *ctx, int job, const struct engine_event *ev), void *ctx);
/* When job was submitted, clock_now_ns; valid until the next ask_run. */
int64_t ask_submitted_ns(const struct ask *a, int job);

/* Paths of the sub-directories of `dir` in name order, owned by the caller; returns their number.
 */
int ask_list(const char *dir, char ***out);

#endif
