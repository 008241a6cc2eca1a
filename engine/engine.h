/* engine: the door to inference. One base model, many adapters, one thread that owns the step loop.
 *
 * Contract: a request that engine_submit accepted ends with exactly one terminal event (DONE, ERROR
 * or CANCELLED), whatever happens. Events of a request are read in order; its outbox is bounded and
 * a full one pauses the sequence, nothing is dropped. An answer depends on the request, its
 * adapters and the model only, never on company, restarts or thread counts.
 *
 * Threads: open and close from one thread; everything else from any thread, and it never waits for
 * a step. Adapters are engine_adapters.h; what it does right now is engine_live.h; text (templates,
 * tokens) is engine_text.h; looking into files is engine_inspect.h.
 */
#ifndef CHORUS_ENGINE_H
#define CHORUS_ENGINE_H

#include "engine/engine_adapters.h"
#include "engine/engine_live.h"
#include "engine/engine_request.h"
#include "engine/engine_stats.h"

struct engine;
struct engine_text;

struct engine_options {
    const char *model_dir;
    const char *backend;     /* "auto", "cpu", "cuda" */
    const char *isa;         /* CPU: "auto", "avx2", "scalar" */
    int threads;             /* CPU: 0 = one a core */
    int device;              /* card: its number */
    const char *quant;       /* card: "auto" (NULL too), "none", "int8", "int4" */
    const char *head_quant;  /* card: "auto" (NULL too), "none", "int8" */
    const char *embedding;   /* card: of tokens, where; "auto" (NULL too), "card", "host" */
    const char *kv_type;     /* keys and values: "bf16" (NULL too), "int8" */
    double gpu_memory_share; /* card: of its free memory; 0: 0.9 */
    size_t gpu_memory_bytes; /* card: instead of a share; 0: none */
    size_t lora_arena_bytes; /* card: for adapters; 0: from slots_max and what is free */
    bool plain_launches;     /* card: as cards before sm_90 launch, to measure and test them */
    bool deterministic;      /* card: prompts too give the same bits in any company */
    int ctx_max;             /* tokens a sequence; 0 = the model's, bounded by what memory holds */
    int seqs_max;            /* sequences running at once, 1 .. LIMIT_SEQS */
    int rows_max;            /* rows (tokens) in one step; >= seqs_max; 0: what the backend likes */
    int chunk_max;           /* prefill rows of one sequence in one step; 0 = rows_max */
    int kv_pages;  /* 0 = enough for seqs_max sequences of ctx_max, bounded by free memory */
    int slots_max; /* adapters resident at once, 1 .. LIMIT_ADAPTER_SLOTS */
    size_t host_adapter_bytes; /* adapters kept in host memory; 0 = a quarter of what is available.
                                  Those beyond are read again from disk when they are asked for */
    enum engine_adapter_quant adapter_quant; /* of adapters that say nothing; the default: none */
    int queue_max;        /* requests beyond seqs_max that are accepted; one more is STATUS_BUSY */
    int wait_bound_steps; /* steps from the first in which a later request is admitted before a
                             waiting one, until none is any more */
    int adapter_turn_steps; /* where more adapters are asked for at once than there are slots: steps
                               an adapter keeps its slot, times its share, before its requests make
                               way; 0 = 128 */
    bool prefix_cache;
    void (*notify)(
        void *ctx); /* some outbox went from empty to not empty; called from the engine thread */
    void *notify_ctx;
    void (*progress)(void *ctx, const char *what, size_t done,
                     size_t total); /* while opening; may be NULL */
    void *progress_ctx;
};

/* Loads the model and starts the engine thread. A bad model, too little memory or an unknown
 * backend is a status with a sentence. The caller ends *out with engine_close. */
WARN_UNUSED enum status engine_open(const struct engine_options *opt, struct engine **out,
                                    struct err *e);
/* Fails what still runs with a terminal event (unread events are lost), joins the thread, frees
 * everything. */
void engine_close(struct engine *e);
/* Admits nothing more (STATUS_DRAINING); requests still waiting get an ERROR event; running ones
 * finish. */
void engine_drain(struct engine *e);

void engine_get_info(const struct engine *e, struct engine_info *out);
void engine_get_stats(struct engine *e, struct engine_stats *out);
/* Borrowed: lives as long as the engine. */
const struct engine_text *engine_get_text(const struct engine *e);

/* Queues a request. STATUS_INVALID, STATUS_CONTEXT_LENGTH, STATUS_ADAPTER_NOT_FOUND, STATUS_BUSY,
 * STATUS_DRAINING, STATUS_DEVICE_LOST or STATUS_NO_MEMORY refuse it: then there are no events.
 * Resolves adapter names to their current generations, which stay pinned until the terminal event;
 * `resolved` (may be NULL) receives them, [adapter_count]. */
WARN_UNUSED enum status engine_submit(struct engine *e, const struct engine_request *r,
                                      uint64_t *id, struct engine_adapter_use *resolved,
                                      struct err *err);
/* Asks for an early end: the terminal event comes within one step. Unknown or ended ids are
 * ignored. */
void engine_cancel(struct engine *e, uint64_t id);
/* Ids whose outbox went from empty to not empty since they were last returned here; at most max. */
int engine_ready(struct engine *e, uint64_t *ids, int max);
/* Moves up to max events out of the outbox of `id`. After a terminal event was read, the id is
 * unknown. */
int engine_read(struct engine *e, uint64_t id, struct engine_event *events, int max);

#endif
