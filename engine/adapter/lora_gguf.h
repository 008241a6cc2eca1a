/* lora_gguf: from a GGUF file of llama.cpp's LoRA form to the adapter: every tensor to its site,
 * checked against the base. No files.
 *
 * Tensors are `<name of the base's tensor in GGUF>.lora_a` [R, in] and `.lora_b` [out, R]; of the
 * embedding lora_a is [V, R]. Scale = adapter.lora.alpha / R, or 1 where alpha is 0. The conversion
 * of Llama and Mistral reorders the rows of q and k within each head, (half, pair) to (pair, half);
 * lora_b follows, and is put back in order here. An activated LoRA has its invocation sequence in
 * adapter.alora.invocation_tokens.
 */
#ifndef CHORUS_ADAPTER_LORA_GGUF_H
#define CHORUS_ADAPTER_LORA_GGUF_H

#include "engine/adapter/lora.h"
#include "engine/model/gguf.h"

/* Statuses and base NULL as in lora_open; without a base rows stay in the file's order. Values are
 * copied: quantised ones become float32. out->sha256 is left zero. */
WARN_UNUSED enum status lora_gguf_bind(const struct gguf *g, const struct model *base,
                                       struct lora **out, struct err *e);

/* Whether tensor `t`, looked at for itself, has its place in the base; the reason if not. */
WARN_UNUSED enum status lora_gguf_look(const struct gguf *g, const struct gguf_tensor *t,
                                       const struct model *base, struct err *e);

#endif
