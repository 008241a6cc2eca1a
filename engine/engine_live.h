/* engine_live: what the engine is doing right now, for people: its latest steps, what it computes
 * on, where its memory is. Plain data; any thread may ask, and never waits for a step. */
#ifndef CHORUS_ENGINE_LIVE_H
#define CHORUS_ENGINE_LIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/backend_facts.h"
#include "engine/base/limits.h"

struct engine;

/* An adapter in a step. Rows of a blend count for each of its parts. */
struct engine_step_party {
    char name[LIMIT_NAME_BYTES + 1];
    uint64_t generation;
    int rows;
};

struct engine_step {
    uint64_t number; /* from 1 */
    int64_t end_ns;  /* the engine's clock */
    int64_t took_ns; /* since it was begun, or the step before it ended if that was later */
    int seqs;
    int rows; /* prefill_rows + decode_rows */
    int prefill_rows;
    int decode_rows;
    int tokens_out;
    int kv_pages_used; /* held by sequences while it ran */
    int waiting;       /* sequences, when it ended */
    int base_rows;     /* that no adapter acts on */
    int party_count;
    int more_parties;                                     /* that found no room in `parties` */
    struct engine_step_party parties[LIMIT_STEP_PARTIES]; /* in order of their slots */
};

/* Steps with numbers above `since`, the latest one always among them, oldest first; at most max:
 * where there are more, evenly chosen ones. Those older than LIMIT_STEPS_KEPT steps are gone.
 * Returns how many. */
int engine_steps(struct engine *e, uint64_t since, struct engine_step *out, int max);

struct engine_memory_part {
    const char *name; /* static: "weights", "kv", "adapters", ... */
    bool on_host;     /* memory of the host that a card does not have */
    size_t bytes;     /* planned; of adapters in host memory: the budget */
    size_t used;
};

struct engine_live {
    struct backend_facts facts; /* its parts are in `memory` too */
    size_t total_bytes;         /* planned on the device */
    int part_count;
    struct engine_memory_part memory[BACKEND_PARTS_MAX + 2];
};

void engine_get_live(struct engine *e, struct engine_live *out);

#endif
