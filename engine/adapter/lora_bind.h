/* lora_bind: from the parts of an adapter to the adapter: every tensor to its site, checked against
 * the config and the base. No files. */
#ifndef CHORUS_ADAPTER_LORA_BIND_H
#define CHORUS_ADAPTER_LORA_BIND_H

#include "engine/adapter/lora.h"
#include "engine/adapter/lora_config.h"
#include "engine/model/safetensors.h"

/* Statuses and base NULL as in lora_open. `file` must come from safetensors_read; its memory may
 * move into the adapter, after which the file holds no data; the caller frees it in any case.
 * out->sha256 is left zero. */
WARN_UNUSED enum status lora_bind(struct lora_config *config, struct safetensors *file,
                                  const struct model *base, struct lora **out, struct err *e);

/* Whether tensor `t`, looked at for itself, has its place in the base by name, type, target and
 * shape; the reason if not. */
WARN_UNUSED enum status lora_bind_look(struct lora_config *config,
                                       const struct safetensors_tensor *t, const struct model *base,
                                       struct err *e);

#endif
