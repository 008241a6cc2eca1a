#include "engine/sched/seq_adapters.h"

/* Where the last of the sequences begins, SEQ_NEVER where there is none; by Knuth, Morris and
 * Pratt, since prompts are long and not ours. */
static int last_sequence(const int32_t *tokens, int count, const int32_t *mark, int mark_count)
{
    int back[LIMIT_ALORA_TOKENS] = {0}; /* longest beginning of the mark that ends at its token k */
    int last = SEQ_NEVER;
    for (int i = 1, k = 0; i < mark_count; i++) {
        while (k > 0 && mark[i] != mark[k])
            k = back[k - 1];
        k += mark[i] == mark[k];
        back[i] = k;
    }
    for (int i = 0, k = 0; i < count; i++) {
        while (k > 0 && (k == mark_count || tokens[i] != mark[k]))
            k = back[k - 1];
        k += tokens[i] == mark[k];
        if (k == mark_count)
            last = i + 1 - mark_count;
    }
    return last;
}

void seq_adapters_place(struct seq *s)
{
    s->adapter_count = 0;
    for (int i = 0; i < s->set.count; i++) {
        const struct adapter_facts *f = &s->set.parts[i]->facts;
        struct seq_adapter a = {
            .adapter = s->set.parts[i],
            .weight = s->set.weights[i],
            .from = f->alora_token_count > 0 ? last_sequence(s->tokens, s->prompt_count,
                                                             f->alora_tokens, f->alora_token_count)
                                             : 0,
            .slot = -1,
        };
        int at = s->adapter_count++;
        for (; at > 0 && s->adapters[at - 1].from > a.from; at--)
            s->adapters[at] = s->adapters[at - 1];
        s->adapters[at] = a;
    }
    for (int i = 0; i < s->adapter_count; i++) {
        s->set.parts[i] = s->adapters[i].adapter;
        s->set.weights[i] = s->adapters[i].weight;
    }
}
