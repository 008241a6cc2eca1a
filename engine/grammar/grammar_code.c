#include "engine/grammar/grammar_code.h"

#include <string.h>

#include "engine/base/limits.h"
#include "engine/base/mem.h"

/* ---- jumps ---- */

/* Where a chain of jumps ends; a circle of nothing but jumps never matches. */
static uint32_t resolve(struct grammar *g, uint32_t at)
{
    uint32_t end = at;
    for (size_t steps = 0; g->code[end].op == CODE_JUMP; steps++) {
        if (steps > g->code_count) {
            end = GRAMMAR_NEVER;
            break;
        }
        end = g->code[end].next;
    }
    while (g->code[at].op == CODE_JUMP && g->code[at].next != end) {
        uint32_t next = g->code[at].next;
        g->code[at].next = end;
        at = next;
    }
    return end;
}

static void resolve_all(struct grammar *g)
{
    g->start = resolve(g, g->start);
    for (size_t i = 0; i < g->target_count; i++)
        g->targets[i] = resolve(g, g->targets[i]);
    for (size_t i = 0; i < g->count_count; i++)
        g->counts[i].body = resolve(g, g->counts[i].body);
    for (size_t i = 0; i < g->code_count; i++) {
        struct code *c = &g->code[i];
        if (c->op == CODE_BYTE || c->op == CODE_CALL || c->op == CODE_COUNT)
            c->next = resolve(g, c->next);
        if (c->op == CODE_CALL)
            c->arg = resolve(g, c->arg);
    }
}

/* ---- who leads to whom ---- */

/* An edge: from an instruction to one that its value depends on. */
struct edge {
    uint32_t from;
    bool body;
};

struct graph {
    struct edge *edges; /* owned, by what they lead to */
    size_t *begin;      /* owned, [code_count + 1] */
    uint32_t *pending;  /* owned, [code_count] dependencies without a value */
    uint32_t *queue;    /* owned, [code_count] */
    size_t *at;         /* owned, [code_count] */
};

static void graph_free(struct graph *gr)
{
    mem_free(gr->edges);
    mem_free(gr->begin);
    mem_free(gr->pending);
    mem_free(gr->queue);
    mem_free(gr->at);
}

/* Calls f for each thing that instruction i depends on; counts with min 0 do not need their body.
 */
#define EACH_DEPENDENCY(g, i, visit)                                                               \
    do {                                                                                           \
        const struct code *c_ = &(g)->code[i];                                                     \
        if (c_->op == CODE_BYTE || c_->op == CODE_CALL || c_->op == CODE_COUNT)                    \
            visit(c_->next, false);                                                                \
        if (c_->op == CODE_CALL)                                                                   \
            visit(c_->arg, true);                                                                  \
        if (c_->op == CODE_COUNT && (g)->counts[c_->arg].min > 0)                                  \
            visit((g)->counts[c_->arg].body, true);                                                \
        for (uint32_t t_ = 0; c_->op == CODE_SPLIT && t_ < c_->next; t_++)                         \
            visit((g)->targets[c_->arg + t_], false);                                              \
    } while (0)

static enum status graph_build(const struct grammar *g, struct graph *gr)
{
    size_t n = g->code_count, edges = 0;
    *gr = (struct graph){.begin = mem_calloc(n + 1, sizeof *gr->begin),
                         .pending = mem_calloc(n, sizeof *gr->pending),
                         .queue = mem_calloc(n, sizeof *gr->queue),
                         .at = mem_calloc(n, sizeof *gr->at)};
    if (!gr->begin || !gr->pending || !gr->queue || !gr->at)
        return STATUS_NO_MEMORY;
#define COUNT_EDGE(to, is_body) (gr->begin[(to) + 1]++, edges++)
    for (size_t i = 0; i < n; i++)
        EACH_DEPENDENCY(g, i, COUNT_EDGE);
#undef COUNT_EDGE
    for (size_t i = 0; i < n; i++) {
        gr->begin[i + 1] += gr->begin[i];
        gr->at[i] = gr->begin[i];
    }
    gr->edges = mem_calloc(edges + 1, sizeof *gr->edges);
    if (!gr->edges)
        return STATUS_NO_MEMORY;
#define PUT_EDGE(to, is_body)                                                                      \
    (gr->edges[gr->at[to]++] = (struct edge){(uint32_t)i, is_body}, gr->pending[i]++)
    for (size_t i = 0; i < n; i++)
        EACH_DEPENDENCY(g, i, PUT_EDGE);
#undef PUT_EDGE
    return STATUS_OK;
}

/* Which instructions reach the end without a byte: from the end backwards. */
static void find_empty(struct grammar *g, const struct graph *gr)
{
    size_t head = 0, tail = 0;
    uint32_t *left = gr->pending;
    g->code[GRAMMAR_RETURN].empty = 1;
    gr->queue[tail++] = GRAMMAR_RETURN;
    while (head < tail) {
        uint32_t i = gr->queue[head++];
        for (size_t k = gr->begin[i]; k < gr->begin[i + 1]; k++) {
            uint32_t from = gr->edges[k].from;
            struct code *c = &g->code[from];
            if (c->op == CODE_BYTE || c->empty)
                continue;
            if (c->op != CODE_SPLIT && --left[from] > 0)
                continue;
            c->empty = 1;
            gr->queue[tail++] = from;
        }
    }
}

/* need by increasing value (Knuth's generalisation of Dijkstra's algorithm): a byte or a split
 * takes the first value that arrives, calls the larger one of both. */
static bool find_need(struct grammar *g, const struct graph *gr, bool *too_deep)
{
    enum { LEVELS = LIMIT_GRAMMAR_DEPTH + 2 };
    static const uint32_t none = UINT32_MAX;
    uint32_t head[LEVELS];
    uint32_t *link = gr->queue, *left = gr->pending;
    uint8_t *done = mem_calloc(g->code_count, 1);
    if (!done)
        return false;
    for (int v = 0; v < LEVELS; v++)
        head[v] = none;
    memset(g->need, 0, g->code_count * sizeof *g->need);
    link[GRAMMAR_RETURN] = none;
    head[0] = GRAMMAR_RETURN;
    *too_deep = false;
    for (int v = 0; v <= LIMIT_GRAMMAR_DEPTH; v++) {
        while (head[v] != none) {
            uint32_t i = head[v];
            head[v] = link[i];
            done[i] = 1;
            for (size_t k = gr->begin[i]; k < gr->begin[i + 1]; k++) {
                uint32_t from = gr->edges[k].from;
                bool both = g->code[from].op == CODE_CALL || g->code[from].op == CODE_COUNT;
                uint16_t value = (uint16_t)(v + gr->edges[k].body);
                if (left[from] == 0)
                    continue; /* has its value */
                left[from] = both ? left[from] - 1 : 0;
                if (value > g->need[from])
                    g->need[from] = value;
                if (left[from] > 0)
                    continue;
                link[from] = head[g->need[from]];
                head[g->need[from]] = from;
            }
        }
    }
    *too_deep = head[LIMIT_GRAMMAR_DEPTH + 1] != none;
    for (size_t i = 0; i < g->code_count; i++)
        if (!done[i])
            g->need[i] = GRAMMAR_NEED_NEVER;
    mem_free(done);
    return true;
}

static void find_classes(struct grammar *g)
{
    bool begins[257] = {true};
    for (size_t i = 0; i < g->code_count; i++)
        if (g->code[i].op == CODE_BYTE) {
            begins[g->code[i].first] = true;
            begins[g->code[i].last + 1] = true;
        }
    g->class_count = 0;
    for (int b = 0; b < 256; b++) {
        if (begins[b])
            g->class_byte[g->class_count++] = (uint8_t)b;
        g->class_of[b] = (uint8_t)(g->class_count - 1);
    }
}

enum status grammar_code_finish(struct grammar *g, struct err *e)
{
    struct graph gr = {0};
    bool too_deep = false;
    resolve_all(g);
    g->need = mem_calloc(g->code_count, sizeof *g->need);
    enum status st = g->need ? graph_build(g, &gr) : STATUS_NO_MEMORY;
    if (st == STATUS_OK) {
        find_empty(g, &gr);
        for (size_t i = 0; i < g->count_count; i++)
            if (g->code[g->counts[i].body].empty)
                g->counts[i].min = 0;
        graph_free(&gr);
        st = graph_build(g, &gr);
    }
    if (st == STATUS_OK && !find_need(g, &gr, &too_deep))
        st = STATUS_NO_MEMORY;
    graph_free(&gr);
    if (st != STATUS_OK)
        return err_set(e, st, NULL, "Out of memory for a grammar.");
    find_classes(g);
    if (g->need[g->start] == GRAMMAR_NEED_NEVER && too_deep)
        return err_set(e, STATUS_LIMIT, NULL, "The grammar needs more than %d levels of rules.",
                       LIMIT_GRAMMAR_DEPTH);
    if (g->need[g->start] == GRAMMAR_NEED_NEVER)
        return err_set(e, STATUS_INVALID, NULL,
                       "The grammar matches nothing: its rules never come to an end.");
    return STATUS_OK;
}
