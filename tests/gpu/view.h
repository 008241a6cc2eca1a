/* view: the weights of a model and its adapters as a comparison needs them: what a device holds
 * after quantisation, and copies whose values are moved by known roundings.
 *
 * Everything is float32 in own memory, but norms, which are borrowed from the model viewed. One
 * thread.
 */
#ifndef CHORUS_TESTS_GPU_VIEW_H
#define CHORUS_TESTS_GPU_VIEW_H

#include <stdbool.h>

#include "cuda/layout.h"
#include "engine/adapter/lora.h"
#include "engine/model/model.h"

/* The largest relative error of one rounding to bf16, which has 8 significant bits. */
#define VIEW_BF16_ROUNDING 0x1p-8

/* The model with every linear as `linears` holds it and the head as `head` does; the embedding as
 * bf16 does. Freed with view_free, before `m`. */
struct model *view_stored(const struct model *m, enum weight_format linears,
                          enum weight_format head);

/* What stands for roundings: errors uniform within one rounding to bf16, or those of numbers with
 * random significands, which are smaller. `draw` seeds them. */
struct view_noise {
    uint64_t draw;
    bool significands;
};

/* A copy of a view in which column i of each linear is multiplied by 1 + d and row j (and its bias)
 * by 1 + e, d and e such errors: what rounding the linear's input and its output once does. Linears
 * that read the same activations share their d. */
struct model *view_rounded(const struct model *m, const struct view_noise *noise);
void view_free(struct model *m);

/* The same for an adapter of that model and noise: A reads the activations of its site, B and the
 * magnitudes write the site's outputs, u = A x is rounded between them; values that are not bf16
 * already, and B of DoRA (stored times its gain), are rounded themselves. `l` must stay open;
 * freed with view_lora_free. */
struct lora *view_lora_rounded(const struct lora *l, const struct model_shape *s,
                               const struct view_noise *noise);
/* A copy whose changes are `factor` times as large: a planted fault. */
struct lora *view_lora_scaled(const struct lora *l, float factor);
void view_lora_free(struct lora *l);

#endif
