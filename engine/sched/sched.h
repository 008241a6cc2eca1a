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
 *    at most half of what is left while others come after it, so that a short prompt does not wait
 *    for a long one; what nobody wants goes to the oldest. So a prompt that comes alone is cut by
 *    rows_max and chunk_max only, and one beside streams keeps their next tokens waiting for a step
 *    of rows_max rows at most. These bounds are rows, not milliseconds: where a prompt is cut, and
 *    with it a card's last bits, must not depend on how fast the last step was.
 * 3. Waiting sequences are admitted while seats, rows, pages and adapter slots last: first those
 * whose adapters are all in use already (their weights are read once a step for everybody), then in
 * order of arrival. One that lacks seats, rows or pages may be overtaken, but from the step in
 * which that first happens it is overtaken for at most wait_bound_steps steps: then nobody who came
 * later is admitted before.
 * 4. Adapters come into slots as room is: an empty slot, else the least recently used idle one, and
 * more of these while bytes are short; what an older waiting sequence needs is not taken for a
 * younger one, and a pinned adapter leaves only where its asker could not fit otherwise. Where
 * loads are slow, one is begun at a time and its sequence is admitted when the adapter is there; it
 * keeps nobody waiting meanwhile. When all are in use, adapters take turns: a sequence that lacks
 * nothing but a slot for turn_steps steps, and of these the one that waits longest, gets that of
 * the adapter that came first: nobody new is admitted to it, and once all its users have made
 * tokens for turn_steps x share steps the plan names the slot, the caller preempts them and asks
 * again. So nobody waits for a slot for more than turn_steps + (1 + W) x (P + turn_steps x largest
 * share + loads) steps, W how many others wait for one and P the steps that a user's prompt takes.
 * 5. A paused sequence keeps its seat, pages and slots only while nobody needs them: when the
 * oldest that waits does not fit, the youngest paused one is preempted.
 *
 * Numbers: an adapter is its generation (never 0). Rows of a waiting sequence are counted after the
 * prefix cache's share.
 */
#ifndef CHORUS_SCHED_SCHED_H
#define CHORUS_SCHED_SCHED_H

#include <stdbool.h>
#include <stddef.h>
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
    int turn_steps;
    size_t room;     /* device bytes for adapters; SIZE_MAX: slots are the only bound */
    bool slow_loads; /* a load is begun in one step and there in a later one */
};

/* One sequence as the policy sees it. */
struct sched_seq {
    uint64_t order;   /* of arrival, unique; smaller is older */
    int tokens;       /* known */
    int computed;     /* of these in the KV pages; waiting: what the prefix cache would give */
    int pages;        /* running: held; waiting: of the prefix cache's pages those already held */
    int rows_cap;     /* rows its outbox has room for; 0: paused */
    int passed_steps; /* waiting: steps since it was first overtaken, 0: never */
    int slot_steps;   /* waiting: steps in which it lacked nothing but its adapters in slots */
    bool scores;      /* prompt rows want logits too */
    int adapter_count;
    uint64_t adapters[LIMIT_ADAPTERS_PER_REQUEST]; /* distinct */
    size_t bytes[LIMIT_ADAPTERS_PER_REQUEST];      /* of the device, each */
    unsigned loadable; /* waiting: bit i: adapter i can be loaded now; the others are in slots */
};

/* One adapter slot of the device. */
struct sched_slot {
    uint64_t adapter; /* 0: empty */
    int refs;         /* running sequences that use it */
    uint64_t used;    /* larger is more recent */
    size_t bytes;
    uint64_t held_steps;   /* since it was filled */
    uint64_t worked_steps; /* of its users the fewest since the first token after admission */
    int share;             /* >= 1 */
    bool pinned;
    bool loading; /* on its way: not usable yet, and it stays */
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
    int close;   /* slot whose users are to be preempted, and the rest is empty; -1: none */
    int turn;    /* index into waiting: it has waited for a slot for a turn and comes first; -1 */
    bool room_is_made; /* for it: nobody else begins a load */
    uint64_t closing;  /* slots, as bits, that it will get: nobody is admitted to them */
    int run_count;
    int admit_count;
    int load_count;
    struct sched_run *run;   /* [seqs_max] rows >= 1 */
    int *admit;              /* [seqs_max] indices into waiting, ascending */
    struct sched_load *load; /* [slots_max] */
    int evict_count;
    int *evict;      /* [slots_max] slots to be emptied before the loads */
    bool *starved;   /* [waiting_count]: lacks nothing but an adapter slot */
    bool *loading;   /* [waiting_count]: lacks nothing but a load that is on its way */
    bool *overtaken; /* [waiting_count]: stays behind although a later one was admitted */
    bool *taken;     /* scratch, [waiting_max] admitted by this plan */
    struct sched_slot slots[LIMIT_ADAPTER_SLOTS]; /* as they will be after the loads */
    struct sched_slot trial[LIMIT_ADAPTER_SLOTS]; /* scratch */
};

WARN_UNUSED enum status sched_plan_init(struct sched_plan *p, const struct sched_limits *limits,
                                        int waiting_max);
void sched_plan_deinit(struct sched_plan *p);

void sched_plan_step(const struct sched_limits *limits, const struct sched_in *in,
                     struct sched_plan *out);

/* Pages that `tokens` tokens take. */
int sched_pages_for(int tokens);

#endif
