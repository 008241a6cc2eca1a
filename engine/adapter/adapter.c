#include "engine/adapter/adapter.h"

#include <string.h>

/* Linear kind, or the head, or the embedding, of a site. */
static int target_of(int site, int layers)
{
    return site < SITE_LM_HEAD(layers) ? site % LINEAR_COUNT
                                       : LINEAR_COUNT + (site == SITE_EMBED(layers));
}

void adapter_facts_of(const struct lora *l, int layers, struct adapter_facts *out)
{
    *out = (struct adapter_facts){
        .rank_max = l->rank_max, .module_count = l->module_count, .bytes = l->bytes};
    memcpy(out->sha256, l->sha256, sizeof out->sha256);
    CHECK(l->alora_token_count <= LIMIT_ALORA_TOKENS);
    for (int i = 0; i < l->alora_token_count; i++)
        out->alora_tokens[i] = l->alora_tokens[i];
    out->alora_token_count = l->alora_token_count;
    for (int i = 0; i < l->module_count; i++) {
        float scale = l->modules[i].scale;
        out->scale_min = i == 0 || scale < out->scale_min ? scale : out->scale_min;
        out->scale_max = i == 0 || scale > out->scale_max ? scale : out->scale_max;
        out->targets |= 1u << target_of(l->modules[i].site, layers);
    }
}
