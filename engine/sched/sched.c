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
    p->evict = mem_calloc((size_t)limits->slots_max, sizeof *p->evict);
    p->starved = mem_calloc((size_t)waiting_max, sizeof *p->starved);
    p->loading = mem_calloc((size_t)waiting_max, sizeof *p->loading);
    p->overtaken = mem_calloc((size_t)waiting_max, sizeof *p->overtaken);
    p->taken = mem_calloc((size_t)waiting_max, sizeof *p->taken);
    if (p->run && p->admit && p->load && p->evict && p->starved && p->loading && p->overtaken &&
        p->taken)
        return STATUS_OK;
    sched_plan_deinit(p);
    return STATUS_NO_MEMORY;
}

void sched_plan_deinit(struct sched_plan *p)
{
    mem_free(p->run);
    mem_free(p->admit);
    mem_free(p->load);
    mem_free(p->evict);
    mem_free(p->starved);
    mem_free(p->loading);
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

/* ---- adapter slots ---- */

static int find_slot(const struct sched_slot *slots, const struct sched_limits *l, uint64_t adapter)
{
    for (int s = 0; s < l->slots_max; s++)
        if (slots[s].adapter == adapter)
            return s;
    return -1;
}

/* Slots as bits. */
static uint64_t bit_of(int slot)
{
    return (uint64_t)1 << slot;
}

/* Slots of q's adapters that are in one. */
static uint64_t own_slots(const struct sched_limits *l, const struct sched_slot *slots,
                          const struct sched_seq *q)
{
    uint64_t own = 0;
    for (int a = 0; a < q->adapter_count; a++) {
        int s = find_slot(slots, l, q->adapters[a]);
        own |= s >= 0 ? bit_of(s) : 0;
    }
    return own;
}

static bool is_idle(const struct sched_slot *s, bool pinned)
{
    return s->refs == 0 && !s->loading && (pinned || !s->pinned);
}

/* The least recently used slot that holds an adapter which may leave; -1: none. */
static int idle_slot(const struct sched_slot *slots, const struct sched_limits *l, uint64_t keep,
                     bool pinned)
{
    int best = -1;
    for (int s = 0; s < l->slots_max; s++) {
        if ((keep & bit_of(s)) || slots[s].adapter == 0 || !is_idle(&slots[s], pinned))
            continue;
        if (best < 0 || slots[s].used < slots[best].used)
            best = s;
    }
    return best;
}

/* An empty slot, else one whose adapter may leave; -1: none. */
static int slot_to_fill(const struct sched_slot *slots, const struct sched_limits *l, uint64_t keep,
                        bool pinned)
{
    for (int s = 0; s < l->slots_max; s++)
        if (slots[s].adapter == 0)
            return s;
    return idle_slot(slots, l, keep, pinned);
}

static bool has_room(const struct sched_slot *slots, const struct sched_limits *l)
{
    size_t left = l->room;
    for (int s = 0; s < l->slots_max; s++) {
        if (slots[s].bytes > left)
            return false;
        left -= slots[s].bytes;
    }
    return true;
}

/* What booking an adapter's slot takes. */
struct booking {
    struct sched_load loads[LIMIT_ADAPTERS_PER_REQUEST];
    int load_count;
    int evict[LIMIT_ADAPTER_SLOTS];
    int evict_count;
    int first_evict_count; /* of these for the first load */
};

/* Finds a slot and bytes for adapter a of q in out->trial. */
static bool book_one(const struct sched_limits *l, struct sched_plan *out,
                     const struct sched_seq *q, int a, uint64_t *keep, bool pinned,
                     struct booking *b)
{
    int slot = slot_to_fill(out->trial, l, *keep, pinned);
    if (slot < 0 || !(q->loadable >> a & 1))
        return false;
    out->trial[slot] = (struct sched_slot){
        .adapter = q->adapters[a], .bytes = q->bytes[a], .share = 1, .loading = l->slow_loads};
    *keep |= bit_of(slot);
    while (!has_room(out->trial, l)) {
        int victim = idle_slot(out->trial, l, *keep, pinned);
        if (victim < 0)
            return false;
        out->trial[victim] = (struct sched_slot){0};
        b->evict[b->evict_count++] = victim;
    }
    b->loads[b->load_count++] = (struct sched_load){.adapter = a, .slot = slot};
    if (b->load_count == 1)
        b->first_evict_count = b->evict_count;
    return true;
}

/* In out->trial, which begins as out->slots. */
static bool book_missing(const struct sched_limits *l, struct sched_plan *out,
                         const struct sched_seq *q, bool pinned, struct booking *b)
{
    uint64_t keep = own_slots(l, out->slots, q);
    b->load_count = b->evict_count = 0;
    for (int a = 0; a < q->adapter_count; a++)
        if (find_slot(out->slots, l, q->adapters[a]) < 0 &&
            !book_one(l, out, q, a, &keep, pinned, b))
            return false;
    return true;
}

/* Would q fit beside the pinned adapters if nobody ran? If not, these are in its way for good. */
static bool fits_beside_pinned(const struct sched_limits *l, const struct sched_plan *out,
                               const struct sched_seq *q)
{
    uint64_t own = own_slots(l, out->slots, q);
    size_t left = l->room;
    int slots = l->slots_max;
    for (int s = 0; s < l->slots_max; s++) {
        if (!out->slots[s].pinned || (own & bit_of(s)))
            continue;
        slots--;
        left -= out->slots[s].bytes < left ? out->slots[s].bytes : left;
    }
    for (int a = 0; a < q->adapter_count; a++) {
        if (q->bytes[a] > left)
            return false;
        left -= q->bytes[a];
    }
    return q->adapter_count <= slots;
}

static bool somebody_loads(const struct sched_limits *l, const struct sched_plan *out)
{
    bool loading = out->load_count > 0;
    for (int s = 0; s < l->slots_max; s++)
        loading = loading || out->slots[s].loading;
    return loading;
}

/* The loads that this plan carries out: all of them, or where they are slow one at a time. */
static void take_loads(const struct sched_limits *l, struct sched_plan *out, int seq,
                       const struct booking *b)
{
    int loads = b->load_count, evictions = b->evict_count;
    if (l->slow_loads) {
        loads = somebody_loads(l, out) ? 0 : 1;
        evictions = loads > 0 ? b->first_evict_count : 0;
    }
    for (int i = 0; i < loads; i++) {
        out->load[out->load_count] = b->loads[i];
        out->load[out->load_count++].seq = seq;
    }
    for (int i = 0; i < evictions; i++)
        out->evict[out->evict_count++] = b->evict[i];
}

static bool can_book(const struct sched_limits *l, struct sched_plan *out,
                     const struct sched_seq *q)
{
    struct booking b;
    memcpy(out->trial, out->slots, (size_t)l->slots_max * sizeof *out->slots);
    return book_missing(l, out, q, !fits_beside_pinned(l, out, q), &b);
}

enum fit { FIT_NO, FIT_LOADING, FIT_YES };

/* Books slots for all adapters of a waiting sequence, so that nobody after it takes them. NO:
 * nothing is booked. LOADING: some are not there yet. */
static enum fit book_slots(const struct sched_limits *l, struct sched_plan *out,
                           const struct sched_seq *q, int seq)
{
    struct booking b;
    memcpy(out->trial, out->slots, (size_t)l->slots_max * sizeof *out->slots);
    if (!book_missing(l, out, q, !fits_beside_pinned(l, out, q), &b))
        return FIT_NO;
    bool others = out->room_is_made && out->turn != seq;
    if (others && (b.load_count > 0 || (out->closing & own_slots(l, out->slots, q))))
        return FIT_NO; /* room is being made for somebody who waited longer for it */
    if (b.load_count > 0) {
        take_loads(l, out, seq, &b);
        memcpy(out->slots, out->trial, (size_t)l->slots_max * sizeof *out->slots);
    }
    enum fit fit = b.load_count > 0 && l->slow_loads ? FIT_LOADING : FIT_YES;
    for (int a = 0; a < q->adapter_count; a++) {
        struct sched_slot *s = &out->slots[find_slot(out->slots, l, q->adapters[a])];
        s->refs++;
        fit = s->loading ? FIT_LOADING : fit;
    }
    return fit;
}

/* Of the slots in use that are not in `without`, the one that was filled first; -1: none. */
static int oldest_in_use(const struct sched_limits *l, const struct sched_in *in, uint64_t without,
                         bool pinned)
{
    int best = -1;
    for (int s = 0; s < l->slots_max; s++) {
        const struct sched_slot *slot = &in->slots[s];
        if ((without & bit_of(s)) || slot->refs == 0 || slot->loading || (slot->pinned && !pinned))
            continue;
        if (best < 0 || slot->held_steps > in->slots[best].held_steps)
            best = s;
    }
    return best;
}

/* Slots, as bits, that q gets when they are closed: the fewest of those filled first that are
 * enough; 0: all together are not. */
static uint64_t slots_to_close(const struct sched_limits *l, const struct sched_in *in,
                               struct sched_plan *out, const struct sched_seq *q)
{
    struct booking b;
    uint64_t own = own_slots(l, out->slots, q), closing = 0;
    bool pinned = !fits_beside_pinned(l, out, q);
    for (;;) {
        int s = oldest_in_use(l, in, own | closing, pinned);
        if (s < 0)
            return 0;
        closing |= bit_of(s);
        memcpy(out->trial, out->slots, (size_t)l->slots_max * sizeof *out->slots);
        for (int i = 0; i < l->slots_max; i++)
            if (closing & bit_of(i))
                out->trial[i].refs = 0;
        if (book_missing(l, out, q, pinned, &b))
            return closing;
    }
}

/* The first of the closing slots once the users of all have had their turn; -1: not yet. */
static int slot_to_close(const struct sched_limits *l, const struct sched_in *in, uint64_t closing)
{
    int first = -1;
    for (int s = l->slots_max - 1; s >= 0; s--) {
        const struct sched_slot *slot = &in->slots[s];
        if (!(closing & bit_of(s)))
            continue;
        if (slot->worked_steps < (uint64_t)l->turn_steps * (uint64_t)slot->share)
            return -1;
        first = s;
    }
    return first;
}

/* True when every adapter of q is being used by somebody: admitting q reads no more weights. */
static bool shares_adapters(const struct sched_limits *l, const struct sched_plan *out,
                            const struct sched_seq *q)
{
    for (int a = 0; a < q->adapter_count; a++) {
        int s = find_slot(out->slots, l, q->adapters[a]);
        if (s < 0 || out->slots[s].refs == 0 || out->slots[s].loading)
            return false;
    }
    return q->adapter_count > 0;
}

/* ---- admission ---- */

/* Pages are taken for all known tokens at once, and one more is left for each running sequence, so
 * that an admission does not cause a preemption a moment later. */
static bool fits_but_for_slots(const struct sched_limits *l, const struct sched_seq *q,
                               const struct budget *left)
{
    int need = sched_pages_for(q->tokens) - q->pages;
    return left->seats >= 1 && rows_for(l, q, left) >= 1 && need + left->active <= left->pages;
}

static bool try_admit(const struct sched_limits *l, const struct sched_in *in,
                      struct sched_plan *out, struct budget *left, int i)
{
    const struct sched_seq *q = &in->waiting[i];
    if (!fits_but_for_slots(l, q, left))
        return false;
    enum fit fit = book_slots(l, out, q, i);
    out->starved[i] = fit == FIT_NO;
    out->loading[i] = fit == FIT_LOADING;
    if (fit != FIT_YES)
        return false;
    out->taken[i] = true;
    left->seats--;
    left->active++;
    left->pages -= sched_pages_for(q->tokens) - q->pages;
    return true;
}

/* Waiting sequences behind the first that was overtaken long enough are no candidates while it
 * waits, but for a slot: for those there are turns. */
static int overdue(const struct sched_limits *l, const struct sched_in *in, struct sched_plan *out,
                   const struct budget *left)
{
    for (int i = 0; i < in->waiting_count; i++) {
        const struct sched_seq *q = &in->waiting[i];
        if (q->passed_steps < l->wait_bound_steps)
            continue;
        out->starved[i] = fits_but_for_slots(l, q, left) && !can_book(l, out, q);
        if (!out->starved[i])
            return i;
    }
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

/* Who has waited longest for a slot, if that is a turn; -1: nobody has. */
static int whose_turn(const struct sched_limits *l, const struct sched_in *in)
{
    int best = -1;
    for (int i = 0; i < in->waiting_count; i++) {
        int steps = in->waiting[i].slot_steps;
        if (steps >= l->turn_steps && (best < 0 || steps > in->waiting[best].slot_steps))
            best = i;
    }
    return best;
}

/* Comes before all others, who was overtaken too long too: behind that one nobody is looked at, so
 * only those pass it who have waited for a turn already. False: a slot is to be closed for it. */
static bool plan_turn(const struct sched_limits *l, const struct sched_in *in,
                      struct sched_plan *out, struct budget *left)
{
    int i = whose_turn(l, in);
    if (i < 0)
        return true;
    out->turn = i;
    if (admit(l, in, out, left, i) || !out->starved[i])
        return true;
    out->room_is_made = true;
    out->closing = slots_to_close(l, in, out, &in->waiting[i]);
    out->close = slot_to_close(l, in, out->closing);
    return out->close < 0;
}

static void plan_admissions(const struct sched_limits *l, const struct sched_in *in,
                            struct sched_plan *out, struct budget *left)
{
    int first_overdue = overdue(l, in, out, left);
    if (!plan_turn(l, in, out, left))
        return;
    for (int i = 0; i < in->waiting_count && i <= first_overdue; i++)
        if (!out->taken[i] && shares_adapters(l, out, &in->waiting[i]))
            admit(l, in, out, left, i);
    for (int i = 0; i < in->waiting_count; i++) {
        bool settled = out->taken[i] || out->loading[i] || admit(l, in, out, left, i) ||
                       out->loading[i] || out->starved[i];
        if (!settled && in->waiting[i].passed_steps >= l->wait_bound_steps)
            break;
    }
}

/* The oldest that waits lacks more than rows, or a load that is on its way; a slot may be what a
 * paused one holds. */
static bool head_is_blocked(const struct sched_limits *l, const struct sched_in *in,
                            const struct sched_plan *out, const struct budget *left)
{
    return in->waiting_count > 0 && !out->taken[0] && !out->loading[0] &&
           rows_for(l, &in->waiting[0], left) > 0;
}

/* Lists the admitted in order of arrival and marks whom they overtook. */
static void list_admitted(const struct sched_in *in, struct sched_plan *out)
{
    bool later = false;
    for (int i = in->waiting_count - 1; i >= 0; i--) {
        out->overtaken[i] = later && !out->taken[i] && !out->loading[i] && !out->starved[i];
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
    size_t waiting = (size_t)in->waiting_count;
    out->preempt = out->close = out->turn = -1;
    out->room_is_made = false;
    out->closing = 0;
    out->run_count = out->admit_count = out->load_count = out->evict_count = 0;
    memset(out->taken, 0, waiting * sizeof *out->taken);
    memset(out->starved, 0, waiting * sizeof *out->starved);
    memset(out->loading, 0, waiting * sizeof *out->loading);
    memcpy(out->slots, in->slots, (size_t)limits->slots_max * sizeof *out->slots);

    if (plan_decode(in, out, &left)) {
        plan_prefill(limits, in, out, &left);
        if (in->admit)
            plan_admissions(limits, in, out, &left);
        if (in->admit && out->close < 0 && head_is_blocked(limits, in, out, &left))
            out->preempt = youngest_paused(in);
        top_up(limits, in, out, &left);
    }
    if (out->preempt >= 0 || out->close >= 0)
        out->run_count = out->load_count = out->evict_count = 0;
    else
        list_admitted(in, out);
}
