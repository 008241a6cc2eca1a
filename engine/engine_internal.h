/* engine_internal: what the engine's own files share. Outside of them only tests include it.
 *
 * engine_open.c reads files and gathers the parts, engine.c builds an engine from parts and runs
 * its thread, engine_step.c is the step loop's phases, engine_schedule.c the one that decides who
 * takes part, engine_seqs.c how sequences end, engine_submit.c the door for requests,
 * engine_adapters.c the door for adapters, engine_load.c what the loop asks of their host tier,
 * engine_size.c how large everything is.
 *
 * Locking: `lock` covers the fields below it and the reader's side of each sequence. The engine
 * thread holds it to look (drain) and to tell (emit), never during a step. The adapter store has a
 * lock of its own; neither is taken while the other is held.
 */
#ifndef CHORUS_ENGINE_INTERNAL_H
#define CHORUS_ENGINE_INTERNAL_H

#include <pthread.h>

#include "engine/adapter/adapter_loader.h"
#include "engine/adapter/adapter_store.h"
#include "engine/backend.h"
#include "engine/base/strbuf.h"
#include "engine/engine.h"
#include "engine/engine_parts.h"
#include "engine/engine_trace.h"
#include "engine/grammar/grammar_cache.h"
#include "engine/grammar/token_trie.h"
#include "engine/sched/batch.h"
#include "engine/sched/sched.h"
#include "engine/sched/seq.h"

/* One step from its packing to the telling of its results. */
struct engine_flight {
    struct seq **seqs;        /* owned, [seqs_max]; NULL once the sequence ended */
    struct batch_seq *shares; /* owned, [seqs_max] their rows */
    int count;
    struct batch_builder batch;
    struct engine_step told; /* its record, as far as it is known when it is packed */
    int64_t begin_ns;
};

struct engine_slot {
    struct seq *seq; /* owned; NULL: free */
    int next_free;
};

struct engine {
    struct engine_options opt; /* as resolved by engine_size */
    struct engine_parts parts;
    char *model_dir;
    struct engine_info info;
    int text_bytes; /* most text one token can make visible */
    int room_need;  /* events one token can take */

    /* engine thread */
    struct seq **waiting; /* owned, [live_max] in order of arrival, preempted ones too */
    int waiting_count;
    struct seq **running; /* owned, [seqs_max] in order of arrival */
    int running_count;
    struct kv_pool pool;
    struct prefix_cache prefix;
    struct sched_limits limits;
    struct sched_plan plan;
    struct sched_seq *sched_running; /* owned, [seqs_max] */
    struct sched_seq *sched_waiting; /* owned, [LIMIT_SCHED_WINDOW] */
    struct sched_slot sched_slots[LIMIT_ADAPTER_SLOTS];
    struct seq **window; /* owned, [LIMIT_SCHED_WINDOW] who sched_waiting is */
    int window_count;
    int32_t *found; /* owned, [pages of ctx_max] scratch of prefix lookups */
    struct engine_flight flights[BACKEND_FLIGHTS]; /* a ring; the oldest is in flight longest */
    int flight_oldest;
    int flight_max;                /* 2: a step is launched while the one before it is in flight */
    int flight_count;              /* launched and not finished */
    struct sample_result *results; /* owned, [outs_max] */
    float *state;                  /* owned, [M] a row's hidden state */
    struct strbuf piece;           /* text of one token; its room is made at start */
    bool notify;                   /* some outbox became ready in this turn */
    enum status lost;              /* not STATUS_OK: the device is gone, and why */
    struct err lost_err;           /* written once, before refuse_lost */
    bool closed;                   /* saw `closing` and ended everything */
    struct engine_stats now;       /* counters; copied to `stats` at the end of a turn */

    struct engine_trace trace;

    struct adapter_store store;
    struct adapter_loader loader;

    struct token_trie *trie;       /* owned; NULL: parts.tokens has none */
    struct grammar_cache grammars; /* has a lock of its own */

    pthread_t thread;
    bool thread_started;

    pthread_mutex_t lock;
    pthread_cond_t wake; /* CLOCK_MONOTONIC; `signal` became true */
    bool signal;         /* something happened that the engine thread has not seen */
    bool draining;
    bool closing;
    bool refuse_lost;          /* `lost`, for other threads */
    struct engine_slot *slots; /* owned, [slot_count] */
    int slot_count;
    int slot_free; /* head of the free list, -1: none */
    int live;      /* accepted, terminal event not yet pushed */
    int live_max;
    int inbox_count;
    uint64_t serial; /* of the last accepted request: how many there were */
    struct seq *inbox_head;
    struct seq *inbox_tail;
    struct seq *ready_head;
    struct seq *ready_tail;
    struct engine_stats stats;
    struct engine_step *ring; /* owned, [LIMIT_STEPS_KEPT] step n at n % LIMIT_STEPS_KEPT */
    uint64_t ring_last;       /* number of the newest, 0: none */
};

/* CHECKs all counts against each other: pages, references, slots, lists. Engine thread. */
void engine_check(struct engine *e);

/* Number i of the steps in flight, the oldest first. */
static inline struct engine_flight *engine_flight_at(struct engine *e, int i)
{
    return &e->flights[(e->flight_oldest + i) % e->flight_max];
}

int64_t engine_now(const struct engine *e);
/* Wakes the engine thread. With the lock held. */
void engine_signal_locked(struct engine *e);
void engine_signal(struct engine *e);

/* What a request or a blend names: how many, weights, names; not whether they are there. */
WARN_UNUSED enum status engine_check_adapters(const struct engine *e,
                                              const struct engine_adapter_use *uses, int count,
                                              struct err *err);

/* Engine thread, with a grammar. begin: before the first token; the mask for it is in s->mask. */
WARN_UNUSED enum status engine_grammar_begin(struct engine *e, struct seq *s, struct err *err);
/* After `token` was added: s->mask is for the next one, or *ended: the answer is complete. */
WARN_UNUSED enum status engine_grammar_take(struct engine *e, struct seq *s, int32_t token,
                                            bool *ended, struct err *err);

/* Asks for the adapters of all who wait; true: some could not be read, see seq.unloadable. */
bool engine_load_ask(struct engine *e);

/* Resolves options and the model's facts into sizes. */
WARN_UNUSED enum status engine_size(struct engine *e, struct backend_plan *plan, struct err *err);
size_t engine_size_host_default(const struct engine *e); /* of host_adapter_bytes */
/* Bytes the system could still give, of /proc/meminfo; 0: unknown. */
size_t engine_memory_available(void);

#endif
