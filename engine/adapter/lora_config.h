/* lora_config: adapter_config.json of a PEFT adapter, as the questions that binding asks: is this
 * module targeted, with which rank, with which scale. One thread.
 *
 * Semantics follow PEFT 0.21 (tuners/tuners_utils.py check_target_module_exists, utils/other.py
 * get_pattern_key, tuners/lora/layer.py update_layer). A field that changes the mathematics in a
 * way that is not implemented is refused by its name where it is set; so is a field that is not
 * known.
 */
#ifndef CHORUS_ADAPTER_LORA_CONFIG_H
#define CHORUS_ADAPTER_LORA_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "engine/adapter/module_regex.h"
#include "engine/base/status.h"

/* One entry of rank_pattern or alpha_pattern; the first that matches a module wins. */
struct lora_pattern {
    struct module_regex *regex; /* owned */
    double value;
};

struct lora_patterns {
    const char *field;
    struct lora_pattern *items; /* owned */
    size_t count;
};

/* Module names: a list of suffixes, or one regular expression. Both NULL: none. */
struct lora_names {
    const cJSON *list;          /* borrowed from root */
    struct module_regex *regex; /* owned */
};

struct lora_config {
    cJSON *root; /* owned */
    double rank;
    double alpha;
    bool rslora;
    bool dora;
    bool tying;            /* ensure_weight_tying */
    const char *base_name; /* base_model_name_or_path, borrowed; NULL where absent */
    bool all_linear;
    struct lora_names target;
    struct lora_names exclude;
    const cJSON *layers;           /* layers_to_transform, borrowed; NULL: every layer */
    struct module_regex **indexes; /* owned: how to find a layer's number in a name */
    size_t index_count;
    struct lora_patterns ranks;
    struct lora_patterns alphas;
    int32_t *alora_tokens; /* owned; activated LoRA: it acts from the last of these sequences on */
    int alora_token_count; /* 0: it always acts */
    int64_t spent_ns;      /* processor time of reading it and of its expressions so far */
};

/* STATUS_BAD_FILE / STATUS_UNSUPPORTED / STATUS_LIMIT with the field in e->param. Free with
 * lora_config_free. */
WARN_UNUSED enum status lora_config_parse(const char *text, size_t n, struct lora_config **out,
                                          struct err *e);
void lora_config_free(struct lora_config *c);

/* Both count the processor time of the config's expressions and end in STATUS_LIMIT once it exceeds
 * LIMIT_ADAPTER_MATCH_MS; what the caller does between them, as reading tensors, does not count. */
/* Whether the config gives module `name` ("model.layers.0.self_attn.q_proj", "lm_head") a LoRA. */
WARN_UNUSED enum status lora_config_targets(struct lora_config *c, const char *name, bool *out,
                                            struct err *e);
/* Rank and effective scale of a module, after patterns. */
WARN_UNUSED enum status lora_config_module(struct lora_config *c, const char *name, double *rank,
                                           double *scale, struct err *e);

#endif
