/* engine_stats: what the engine tells about itself. Plain data; strings are borrowed from the
 * engine. */
#ifndef CHORUS_ENGINE_STATS_H
#define CHORUS_ENGINE_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/histogram.h"
#include "engine/base/limits.h"
#include "engine/engine_adapter_data.h"
#include "engine/sample/sample.h"

/* Model facts for people and for /v1/models. Strings are borrowed from the engine. */
struct engine_info {
    const char *model_dir;
    const char *arch;
    const char *backend;
    int64_t parameters;
    size_t weight_bytes;
    int vocab;
    int ctx_max;
    int seqs_max;
    int kv_pages;
    int embed_width; /* values of an embedding; 0: it makes none, and why */
    const char *embed_why;
    bool embed_normalize;          /* the model's embeddings have length 1 */
    struct sample_params defaults; /* of generation_config.json; temperature 1 where silent */
};

struct engine_stats {
    int waiting;
    int running;
    int kv_pages_total;
    int kv_pages_used;   /* held by sequences */
    int kv_pages_cached; /* held by the prefix cache only */
    uint64_t requests_accepted;
    uint64_t requests_done;
    uint64_t requests_failed;
    uint64_t requests_cancelled;
    uint64_t tokens_in;
    uint64_t tokens_cached;
    uint64_t prefix_hits; /* sequences that began with pages of the prefix cache */
    uint64_t tokens_out;
    uint64_t steps;
    uint64_t rows;
    uint64_t preemptions;
    uint64_t emptied; /* steps that were waited for with none launched behind, for a preemption */
    int slot_wait_steps_max; /* most steps that somebody lacked nothing but its adapters in slots */
    int last_step_rows;
    int last_step_seqs;
    int last_step_adapters; /* distinct, of the last step */
    int64_t last_step_ns;
    struct histogram step_s;        /* histogram_step_s: from launch to results */
    struct histogram step_rows;     /* histogram_rows */
    struct histogram step_adapters; /* histogram_adapters */
    struct histogram token_gap_s;   /* histogram_step_s: between a sequence's tokens */
    int64_t last_beat_ns; /* clock_now_ns of the engine thread's last turn: a stall is visible */
};

#endif
