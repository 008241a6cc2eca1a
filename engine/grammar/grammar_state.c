#include "engine/grammar/grammar_state.h"

#include "engine/base/clock.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/grammar/grammar_machine.h"
#include "engine/grammar/grammar_mask.h"

static void enter(struct grammar_state *s)
{
    s->prev = NULL;
    s->next = s->machine->first;
    if (s->next)
        s->next->prev = s;
    s->machine->first = s;
}

enum status grammar_state_init(struct grammar_state *s, struct grammar *g)
{
    enum status st = STATUS_OK;
    uint32_t set = 0;
    if (!g->machine)
        st = grammar_machine_create(g, &g->machine);
    if (st == STATUS_OK)
        st = grammar_machine_begin(g->machine);
    if (st == STATUS_OK)
        st = grammar_machine_start(g->machine, &set);
    if (st != STATUS_OK)
        return st;
    *s = (struct grammar_state){.grammar = grammar_ref(g), .machine = g->machine, .set = set};
    enter(s);
    return STATUS_OK;
}

void grammar_state_copy(struct grammar_state *to, const struct grammar_state *from)
{
    *to = *from;
    grammar_ref(to->grammar);
    enter(to);
}

void grammar_state_deinit(struct grammar_state *s)
{
    if (!s->grammar)
        return;
    if (s->prev)
        s->prev->next = s->next;
    else
        s->machine->first = s->next;
    if (s->next)
        s->next->prev = s->prev;
    grammar_unref(s->grammar);
    *s = (struct grammar_state){0};
}

enum status grammar_state_accept(struct grammar_state *s, const char *bytes, size_t n)
{
    struct grammar_machine *m = s->machine;
    enum status st = grammar_machine_begin(m);
    uint32_t set = s->set;
    for (size_t i = 0; st == STATUS_OK && i < n && set != GRAMMAR_SET_DEAD; i++)
        st = grammar_machine_step(m, set, m->g->class_of[(uint8_t)bytes[i]], &set);
    if (st == STATUS_OK && set == GRAMMAR_SET_DEAD)
        return STATUS_INVALID;
    if (st == STATUS_OK)
        s->set = set;
    return st;
}

enum status grammar_state_accept_token(struct grammar_state *s, const struct token_trie *t,
                                       int32_t token)
{
    char bytes[TOKEN_TRIE_DEPTH];
    uint32_t node = token >= 0 && token < t->vocab ? t->node_of[token] : 0;
    size_t n = t->nodes[node].depth;
    if (node == 0)
        return STATUS_INVALID;
    for (size_t i = n; i > 0; i--, node = t->nodes[node].parent)
        bytes[i - 1] = (char)t->nodes[node].byte;
    return grammar_state_accept(s, bytes, n);
}

bool grammar_state_can_end(const struct grammar_state *s)
{
    return s->machine->sets[s->set].accepts;
}

bool grammar_state_must_end(const struct grammar_state *s)
{
    const struct grammar_set *set = &s->machine->sets[s->set];
    return set->accepts && set->scan_count == 0;
}

enum status grammar_state_mask(struct grammar_state *s, const struct token_trie *t, uint32_t *mask,
                               bool *any)
{
    struct grammar_machine *m = s->machine;
    enum status st = grammar_machine_begin(m);
    if (st == STATUS_OK)
        st = grammar_mask(m, t, s->set, mask, any);
    atomic_store_explicit(&s->grammar->machine_bytes,
                          grammar_machine_bytes(m) + grammar_masks_bytes(m->masks),
                          memory_order_relaxed);
    return st;
}

struct warm {
    uint32_t *sets;    /* owned, [LIMIT_GRAMMAR_WARM_SETS] met so far, by distance in bytes */
    uint8_t *seen;     /* owned, [LIMIT_GRAMMAR_WARM_NUMBERS] by number of a set */
    uint8_t *expanded; /* owned, [LIMIT_GRAMMAR_WARM_SETS] sets of a shape that were gone on from */
    uint32_t *mask;    /* owned */
    size_t count;
};

/* A string is the same wherever it stands; what comes behind it is not. So a few sets of each shape
 * are enough. */
static bool is_known(struct warm *w, const struct grammar_machine *m, uint32_t set)
{
    uint32_t shape = m->sets[set].shape;
    return shape >= LIMIT_GRAMMAR_WARM_SETS || w->expanded[shape]++ >= 32;
}

static enum status warm_next(struct warm *w, struct grammar_machine *m, uint32_t set)
{
    enum status st = STATUS_OK;
    for (int c = 0; st == STATUS_OK && c < m->g->class_count; c++) {
        uint32_t next;
        st = grammar_machine_step(m, set, c, &next);
        if (st != STATUS_OK || next == GRAMMAR_SET_DEAD || w->count == LIMIT_GRAMMAR_WARM_SETS ||
            next >= LIMIT_GRAMMAR_WARM_NUMBERS || w->seen[next])
            continue;
        w->seen[next] = 1;
        w->sets[w->count++] = next;
    }
    return st;
}

enum status grammar_state_warm(struct grammar *g, const struct token_trie *t)
{
    int64_t end_ns = clock_now_ns() + LIMIT_GRAMMAR_WARM_MS * INT64_C(1000000);
    struct grammar_state s = {0};
    bool any;
    struct warm w = {.sets = mem_alloc(LIMIT_GRAMMAR_WARM_SETS, sizeof *w.sets),
                     .seen = mem_calloc(LIMIT_GRAMMAR_WARM_NUMBERS, 1),
                     .expanded = mem_calloc(LIMIT_GRAMMAR_WARM_SETS, 1),
                     .mask = mem_alloc(t->mask_words + 1, sizeof *w.mask)};
    bool room = w.sets && w.seen && w.expanded && w.mask;
    enum status st = room ? grammar_state_init(&s, g) : STATUS_NO_MEMORY;
    if (st == STATUS_OK) {
        w.sets[w.count++] = s.set;
        st = grammar_state_mask(&s, t, w.mask, &any);
    }
    /* What goes wrong from here on would go wrong for an answer, and tells it then. */
    enum status more = st;
    for (size_t i = 0; more == STATUS_OK && i < w.count && clock_now_ns() < end_ns; i++) {
        s.machine->work_end = s.machine->work + LIMIT_GRAMMAR_WORK;
        more = grammar_mask(s.machine, t, w.sets[i], w.mask, &any);
        if (more == STATUS_OK && !is_known(&w, s.machine, w.sets[i]))
            more = warm_next(&w, s.machine, w.sets[i]);
    }
    grammar_state_deinit(&s);
    mem_free(w.sets);
    mem_free(w.seen);
    mem_free(w.expanded);
    mem_free(w.mask);
    return st;
}
