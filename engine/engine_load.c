/* engine_load: what the step loop asks of the host tier. Engine thread. */
#include "engine/engine_internal.h"

#include "engine/adapter/adapter_host.h"

static bool ask_for(struct engine *e, struct seq *s, uint64_t order)
{
    enum adapter_answer answer = adapter_host_ask(&e->store, &s->set, order, &s->loadable);
    s->at_hand = answer == ADAPTER_READY;
    s->unloadable = answer == ADAPTER_FAILED;
    return s->unloadable;
}

/* Who has waited longest for a slot, if that is a turn, comes first as in the plan; then they come
 * in order of arrival. */
bool engine_load_ask(struct engine *e)
{
    bool failed = false;
    const struct seq *first = NULL;
    for (int i = 0; i < e->waiting_count; i++) {
        const struct seq *s = e->waiting[i];
        if (s->slot_steps >= e->limits.turn_steps && (!first || s->slot_steps > first->slot_steps))
            first = s;
    }
    adapter_host_begin(&e->store);
    for (int i = 0; i < e->waiting_count; i++)
        if (e->waiting[i] == first)
            failed = ask_for(e, e->waiting[i], 0);
    for (int i = 0; i < e->waiting_count; i++)
        if (e->waiting[i] != first && ask_for(e, e->waiting[i], 1 + (uint64_t)i))
            failed = true;
    adapter_host_end(&e->store);
    return failed;
}

bool engine_load_turn(struct engine *e)
{
    return adapter_loader_turn(&e->store);
}
