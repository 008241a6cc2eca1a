#include "engine/sched/sched.h"

#include <string.h>

#include "engine/base/mem.h"

/* What is left of the budgets while a plan is being made. */
struct budget {
    int rows;
    int seats;
    int scores;
    int pages;
    int active; /* sequences that will be running and may soon need a page each */
};

enum status sched_plan_init(struct sched_plan *p, const struct sched_limits *limits,
                            int waiting_max)
{
    memset(p, 0, sizeof *p);
    size_t seqs = (size_t)limits->seqs_max;
    p->run = mem_calloc(seqs, sizeof *p->run);
    p->admit = mem_calloc(seqs, sizeof *p->admit);
    p->load = mem_calloc((size_t)limits->slots_max, sizeof *p->load);
    p->overtaken = mem_calloc((size_t)waiting_max, sizeof *p->overtaken);
    p->taken = mem_calloc((size_t)waiting_max, sizeof *p->taken);
    if (p->run && p->admit && p->load && p->overtaken && p->taken)
        return STATUS_OK;
    sched_plan_deinit(p);
    return STATUS_NO_MEMORY;
}

void sched_plan_deinit(struct sched_plan *p)
{
    mem_free(p->run);
    mem_free(p->admit);
    mem_free(p->load);
    mem_free(p->overtaken);
    mem_free(p->taken);
    memset(p, 0, sizeof *p);
}

int sched_pages_for(int tokens)
{
    return (tokens + LIMIT_KV_PAGE_TOKENS - 1) / LIMIT_KV_PAGE_TOKENS;
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* Rows a sequence may take now; a sequence that scores its prompt is bounded by those logits too.
 */
static int rows_for(const struct sched_limits *l, const struct sched_seq *q,
                    const struct budget *left)
{
    int n = least(q->tokens - q->computed, least(l->chunk_max, left->rows));
    n = least(n, q->rows_cap);
    return q->scores ? least(n, left->scores) : n;
}

/* Half of the rows while others come after. */
static int share_for(const struct sched_limits *l, const struct sched_seq *q,
                     const struct budget *left, bool others)
{
    return least(rows_for(l, q, left), others ? (left->rows + 1) / 2 : left->rows);
}

static void run(struct sched_plan *out, struct budget *left, const struct sched_seq *q, int seq,
                int rows)
{
    out->run[out->run_count++] = (struct sched_run){.seq = seq, .rows = rows};
    left->rows -= rows;
    if (q->scores)
        left->scores -= rows;
}

/* Lists are in order of arrival. -1: nobody is paused. */
static int youngest_paused(const struct sched_in *in)
{
    int i = in->running_count - 1;
    while (i >= 0 && in->running[i].rows_cap > 0)
        i--;
    return i;
}

static int choose_victim(const struct sched_in *in)
{
    int paused = youngest_paused(in);
    return paused >= 0 ? paused : in->running_count - 1;
}

/* False: a page is missing, somebody has to be preempted. */
static bool plan_decode(const struct sched_in *in, struct sched_plan *out, struct budget *left)
{
    for (int i = 0; i < in->running_count; i++) {
        const struct sched_seq *q = &in->running[i];
        if (q->rows_cap == 0 || q->tokens - q->computed != 1 || left->rows < 1)
            continue;
        int need = sched_pages_for(q->tokens) - q->pages;
        if (need > left->pages) {
            out->preempt = choose_victim(in);
            return false;
        }
        left->pages -= need;
        run(out, left, q, i, 1);
    }
    return true;
}

static bool is_prefill(const struct sched_seq *q)
{
    return q->tokens - q->computed > 1 && q->rows_cap > 0;
}

static void plan_prefill(const struct sched_limits *l, const struct sched_in *in,
                         struct sched_plan *out, struct budget *left)
{
    int others = in->admit && left->seats > 0 ? in->waiting_count : 0;
    for (int i = 0; i < in->running_count; i++)
        others += is_prefill(&in->running[i]);
    for (int i = 0; i < in->running_count; i++) {
        const struct sched_seq *q = &in->running[i];
        if (!is_prefill(q))
            continue;
        int rows = share_for(l, q, left, --others > 0);
        if (rows > 0)
            run(out, left, q, i, rows);
    }
}

/* Gives the rows that are left to those that run already, oldest first. */
static void top_up(const struct sched_limits *l, const struct sched_in *in, struct sched_plan *out,
                   struct budget *left)
{
    for (int i = 0; i < out->run_count && left->rows > 0; i++) {
        struct sched_run *r = &out->run[i];
        struct sched_seq q = r->seq < in->running_count ? in->running[r->seq]
                                                        : in->waiting[r->seq - in->running_count];
        struct sched_limits rest = *l;
        q.computed += r->rows;
        q.rows_cap -= r->rows;
        rest.chunk_max -= r->rows;
        int more = rows_for(&rest, &q, left);
        r->rows += more;
        left->rows -= more;
        if (q.scores)
            left->scores -= more;
    }
}

static int find_slot(const struct sched_plan *out, const struct sched_limits *l, uint64_t adapter)
{
    for (int s = 0; s < l->slots_max; s++)
        if (out->slots[s].adapter == adapter)
            return s;
    return -1;
}

/* An empty slot, else the least recently used one without users that is not in `keep`; -1: none. */
static int slot_to_fill(const struct sched_plan *out, const struct sched_limits *l, uint64_t keep)
{
    int best = -1;
    for (int s = 0; s < l->slots_max; s++) {
        const struct sched_slot *slot = &out->slots[s];
        if (slot->refs > 0 || (keep >> s & 1))
            continue;
        if (slot->adapter == 0)
            return s;
        if (best < 0 || slot->used < out->slots[best].used)
            best = s;
    }
    return best;
}

/* Finds a slot for each adapter of a waiting sequence and books them; false: nothing is booked. */
static bool book_slots(const struct sched_limits *l, struct sched_plan *out,
                       const struct sched_seq *q, int seq)
{
    int slot[LIMIT_ADAPTERS_PER_REQUEST];
    bool missing[LIMIT_ADAPTERS_PER_REQUEST];
    uint64_t keep = 0;
    for (int a = 0; a < q->adapter_count; a++) {
        slot[a] = find_slot(out, l, q->adapters[a]);
        missing[a] = slot[a] < 0;
        if (!missing[a])
            keep |= (uint64_t)1 << slot[a];
    }
    for (int a = 0; a < q->adapter_count; a++) {
        if (missing[a])
            slot[a] = slot_to_fill(out, l, keep);
        if (slot[a] < 0)
            return false;
        keep |= (uint64_t)1 << slot[a];
    }
    for (int a = 0; a < q->adapter_count; a++) {
        struct sched_slot *s = &out->slots[slot[a]];
        if (missing[a]) {
            s->adapter = q->adapters[a];
            out->load[out->load_count++] =
                (struct sched_load){.seq = seq, .adapter = a, .slot = slot[a]};
        }
        s->refs++;
    }
    return true;
}

/* True when every adapter of q is being used by somebody: admitting q reads no more weights. */
static bool shares_adapters(const struct sched_limits *l, const struct sched_plan *out,
                            const struct sched_seq *q)
{
    for (int a = 0; a < q->adapter_count; a++) {
        int s = find_slot(out, l, q->adapters[a]);
        if (s < 0 || out->slots[s].refs == 0)
            return false;
    }
    return q->adapter_count > 0;
}

/* Pages are taken for all known tokens at once, and one more is left for each running sequence, so
 * that an admission does not cause a preemption a moment later. */
static bool try_admit(const struct sched_limits *l, const struct sched_in *in,
                      struct sched_plan *out, struct budget *left, int i)
{
    const struct sched_seq *q = &in->waiting[i];
    int need = sched_pages_for(q->tokens) - q->pages;
    int rows = rows_for(l, q, left);
    if (left->seats < 1 || rows < 1 || need + left->active > left->pages ||
        !book_slots(l, out, q, i))
        return false;
    out->taken[i] = true;
    left->seats--;
    left->active++;
    left->pages -= need;
    return true;
}

/* Waiting sequences behind the first that was overtaken long enough are no candidates while it
 * waits. */
static int overdue(const struct sched_limits *l, const struct sched_in *in)
{
    for (int i = 0; i < in->waiting_count; i++)
        if (in->waiting[i].passed_steps >= l->wait_bound_steps)
            return i;
    return in->waiting_count;
}

static bool admit(const struct sched_limits *l, const struct sched_in *in, struct sched_plan *out,
                  struct budget *left, int i)
{
    if (!try_admit(l, in, out, left, i))
        return false;
    const struct sched_seq *q = &in->waiting[i];
    bool others = i + 1 < in->waiting_count && left->seats > 0;
    run(out, left, q, in->running_count + i, share_for(l, q, left, others));
    return true;
}

static void plan_admissions(const struct sched_limits *l, const struct sched_in *in,
                            struct sched_plan *out, struct budget *left)
{
    int first_overdue = overdue(l, in);
    for (int i = 0; i < in->waiting_count && i <= first_overdue; i++)
        if (shares_adapters(l, out, &in->waiting[i]))
            admit(l, in, out, left, i);
    for (int i = 0; i < in->waiting_count; i++)
        if (!out->taken[i] && !admit(l, in, out, left, i) &&
            in->waiting[i].passed_steps >= l->wait_bound_steps)
            break;
}

/* The oldest that waits lacks more than rows. */
static bool head_is_blocked(const struct sched_limits *l, const struct sched_in *in,
                            const struct sched_plan *out, const struct budget *left)
{
    return in->waiting_count > 0 && !out->taken[0] && rows_for(l, &in->waiting[0], left) > 0;
}

/* Lists the admitted in order of arrival and marks whom they overtook. */
static void list_admitted(const struct sched_in *in, struct sched_plan *out)
{
    bool later = false;
    for (int i = in->waiting_count - 1; i >= 0; i--) {
        out->overtaken[i] = later && !out->taken[i];
        later |= out->taken[i];
    }
    for (int i = 0; i < in->waiting_count; i++)
        if (out->taken[i])
            out->admit[out->admit_count++] = i;
}

void sched_plan_step(const struct sched_limits *limits, const struct sched_in *in,
                     struct sched_plan *out)
{
    struct budget left = {
        .rows = limits->rows_max,
        .seats = limits->seqs_max - in->running_count,
        .scores = limits->score_max,
        .pages = in->pages_free,
        .active = in->running_count,
    };
    out->preempt = -1;
    out->run_count = out->admit_count = out->load_count = 0;
    memset(out->taken, 0, (size_t)in->waiting_count * sizeof *out->taken);
    memcpy(out->slots, in->slots, (size_t)limits->slots_max * sizeof *out->slots);

    if (plan_decode(in, out, &left)) {
        plan_prefill(limits, in, out, &left);
        if (in->admit)
            plan_admissions(limits, in, out, &left);
        if (in->admit && head_is_blocked(limits, in, out, &left))
            out->preempt = youngest_paused(in);
        top_up(limits, in, out, &left);
    }
    if (out->preempt >= 0)
        out->run_count = out->load_count = 0;
    else
        list_admitted(in, out);
}
