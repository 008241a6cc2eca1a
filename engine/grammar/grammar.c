#include "engine/grammar/grammar.h"

#include "engine/base/mem.h"
#include "engine/grammar/grammar_code.h"
#include "engine/grammar/grammar_machine.h"

struct grammar *grammar_ref(struct grammar *g)
{
    atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
    return g;
}

void grammar_unref(struct grammar *g)
{
    if (!g || atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) > 1)
        return;
    grammar_machine_destroy(g->machine);
    mem_free(g->code);
    mem_free(g->need);
    mem_free(g->targets);
    mem_free(g->counts);
    mem_free(g);
}

size_t grammar_bytes(const struct grammar *g)
{
    return sizeof *g + g->code_cap * sizeof *g->code + g->code_count * sizeof *g->need +
           g->target_cap * sizeof *g->targets + g->count_cap * sizeof *g->counts +
           atomic_load_explicit(&g->machine_bytes, memory_order_relaxed);
}
