/* sched: what the next step does. Pure policy: (sequences, budgets, free pages, resident adapters)
 * -> plan; no clock, no I/O, no randomness, no allocation, nothing remembered between calls.
 *
 * Rules, in this order:
 * 1. Every running sequence that only misses its newest token (decode) gets its row, unless its
 *    outbox is full. When no page is left for it, the plan names one sequence to preempt (the
 * youngest paused one, else the youngest) and nothing else; the caller takes its pages back, to be
 *    recomputed later, and asks again. The oldest that can run never gives way while there is
 *    another, so something always moves forward.
 * 2. Sequences with more to compute (prefill) share the rest of the rows, oldest first: each takes
 * at most half of what is left while others come after it, so that a short prompt does not wait for
 * a long one; what nobody wants goes to the oldest.
 * 3. Waiting sequences are admitted while seats, rows, pages and adapter slots last: first those
 * whose adapters are all in use already (their weights are read once a step for everybody), then in
 * order of arrival. One that does not fit may be overtaken, but from the step in which that first
 * happens it is overtaken for at most wait_bound_steps steps: then nobody who came later is
 * admitted before.
 * 4. A paused sequence keeps its seat, pages and slots only while nobody needs them: when the
 * oldest that waits does not fit, the youngest paused one is preempted.
 *
 * Numbers: an adapter is its generation (never 0). Rows of a waiting sequence are counted after the
 * prefix cache's share.
 */
#ifndef CHORUS_SCHED_SCHED_H
#define CHORUS_SCHED_SCHED_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/limits.h"
#include "engine/base/status.h"

struct sched_limits {
    int rows_max;
    int chunk_max;
    int seqs_max;
    int score_max; /* rows a step whose logits are wanted beside the last row of each sequence */
    int wait_bound_steps;
    int slots_max;
};

/* One sequence as the policy sees it. */
struct sched_seq {
    uint64_t order;   /* of arrival, unique; smaller is older */
    int tokens;       /* known */
    int computed;     /* of these in the KV pages; waiting: what the prefix cache would give */
    int pages;        /* running: held; waiting: of the prefix cache's pages those already held */
    int rows_cap;     /* rows its outbox has room for; 0: paused */
    int passed_steps; /* waiting: steps since it was first overtaken, 0: never */
    bool scores;      /* prompt rows want logits too */
    int adapter_count;
    uint64_t adapters[LIMIT_ADAPTERS_PER_REQUEST]; /* distinct */
};

/* One adapter slot of the device. */
struct sched_slot {
    uint64_t adapter; /* 0: empty */
    int refs;         /* running sequences that use it */
    uint64_t used;    /* larger is more recent */
};

/* Both lists are in order of arrival. Waiting sequences that are paused are left out by the caller.
 */
struct sched_in {
    const struct sched_seq *running;
    int running_count;
    const struct sched_seq *waiting;
    int waiting_count;
    const struct sched_slot *slots; /* [slots_max] */
    int pages_free;                 /* free or cached: what can be taken */
    bool admit;                     /* false: nobody new in this step */
};

struct sched_run {
    int seq; /* index into running, or running_count + index into waiting */
    int rows;
};

struct sched_load {
    int seq;     /* index into waiting */
    int adapter; /* index into its adapters */
    int slot;    /* whoever is in it, with no refs, leaves first */
};

/* Arrays are owned and sized by sched_plan_init. */
struct sched_plan {
    int preempt; /* index into running, and the rest is empty; -1: none */
    int run_count;
    int admit_count;
    int load_count;
    struct sched_run *run;   /* [seqs_max] rows >= 1 */
    int *admit;              /* [seqs_max] indices into waiting, ascending */
    struct sched_load *load; /* [slots_max] */
    bool *overtaken;         /* [waiting_count]: stays behind although a later one was admitted */
    bool *taken;             /* scratch, [waiting_max] admitted by this plan */
    struct sched_slot slots[LIMIT_ADAPTER_SLOTS]; /* as they will be after the loads */
};

WARN_UNUSED enum status sched_plan_init(struct sched_plan *p, const struct sched_limits *limits,
                                        int waiting_max);
void sched_plan_deinit(struct sched_plan *p);

void sched_plan_step(const struct sched_limits *limits, const struct sched_in *in,
                     struct sched_plan *out);

/* Pages that `tokens` tokens take. */
int sched_pages_for(int tokens);

#endif
