/* cpu_lora: one adapter in the CPU's layout, ready for segments. Read-only after building.
 *
 * Sites that read the same input (q k v; gate up) have their A stacked into one matrix, so that a
 * segment shrinks its rows once. For DoRA the gain g is folded into B, and g - 1 is kept for the
 * W x term:
 *
 *   y = W x;  y += c * y, c = sum over the row's DoRA segments of weight * (g - 1);
 *   then, segment by segment, y += (g B) u, u = (weight * scale) * A x;  then bias.
 */
#ifndef CHORUS_CPU_CPU_LORA_H
#define CHORUS_CPU_CPU_LORA_H

#include "engine/adapter/lora.h"
#include "engine/cpu/cpu_weights.h"

/* Inputs that linears share. Stack of a layer's group: layer * GROUP_COUNT + group; the head's
 * comes after all layers'. */
enum cpu_group { GROUP_QKV, GROUP_O, GROUP_GATE_UP, GROUP_DOWN, GROUP_COUNT };
#define STACK_HEAD(layers)  ((layers)*GROUP_COUNT)
#define STACK_COUNT(layers) ((layers)*GROUP_COUNT + 1)

struct cpu_lora_stack {
    struct cpu_matrix a; /* [sum of ranks, in]; data NULL: the adapter has nothing here */
    float *scale;        /* owned, [panels * 32], of each column of A x */
};

struct cpu_lora_site {
    int rank;            /* 0: the adapter has no module here */
    int column;          /* of its part of the stack's A x */
    struct cpu_matrix b; /* [out, R] */
    float *gain;         /* owned, [out]: g - 1; NULL without DoRA */
};

struct cpu_lora {
    int layers;
    struct cpu_lora_site *sites;   /* owned, [SITE_COUNT] */
    struct cpu_lora_stack *stacks; /* owned, [STACK_COUNT] */
    float *embed_a;                /* owned, [V, R] of SITE_EMBED, or NULL */
    float embed_scale;
    int columns_max; /* widest A x, in whole panels */
};

/* Copies all it needs of `l`. The caller frees *out. */
WARN_UNUSED enum status cpu_lora_build(const struct cpu_env *env, const struct lora *l,
                                       struct cpu_lora **out, struct err *e);
/* NULL is allowed. */
void cpu_lora_free(struct cpu_lora *l);

#endif
