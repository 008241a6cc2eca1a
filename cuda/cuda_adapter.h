/* cuda_adapter: an adapter as the kernels want it: sizes, and the packed image. Pure: host memory
 * only, any thread, no CUDA. layout.h has the layout.
 *
 * Loading: lora_arena_place(cuda_adapter_bytes); cuda_adapter_pack into host memory, with the
 * device address that the image will have; copy the image there; for every stack with
 * cuda_adapter_dora modules cuda_dora (k_dora.h), which turns the magnitudes that the image carries
 * in the place of the gains into gains; then the table entries. */
#ifndef CHORUS_CUDA_CUDA_ADAPTER_H
#define CHORUS_CUDA_CUDA_ADAPTER_H

#include "cuda/layout.h"
#include "engine/adapter/lora.h"
#include "engine/model/model.h"

/* `codes`: stacks of which all factors are 8 or all 4 bits wide stay so, but for DoRA, which
 * multiplies B by its gains on the device. All else becomes bf16. */

/* Bytes of the image: true rank rounded up to 16 a module, and only what the adapter has. Of an
 * adapter without any module 0. */
size_t cuda_adapter_bytes(const struct lora *l, const struct model_shape *s, bool codes);

/* Writes the image (cuda_adapter_bytes, 16-byte aligned) and what the tables say about the slot:
 * table [STACK_COUNT(layers)] with pointers as if the image were at device_base (a multiple of
 * 256), and *embed. STATUS_UNSUPPORTED names the module of which a value is beyond bf16: nothing
 * may be used then. */
WARN_UNUSED enum status cuda_adapter_pack(const struct lora *l, const struct model_shape *s,
                                          bool codes, uint8_t *image, uint64_t device_base,
                                          struct lora_stack *table, struct lora_embed *embed,
                                          struct err *e);
/* The image has moved: table [stacks] and *embed point `to - from` bytes further. */
void cuda_adapter_rebase(struct lora_stack *table, int stacks, struct lora_embed *embed,
                         uint64_t from, uint64_t to);

/* Bit m: the adapter has DoRA for module m of this stack. */
unsigned cuda_adapter_dora(const struct lora *l, const struct model_shape *s, int stack);

#endif
