/* cpu_dora: the gain of a DoRA module, computed once when an adapter is loaded. */
#ifndef CHORUS_CPU_CPU_DORA_H
#define CHORUS_CPU_CPU_DORA_H

#include "engine/adapter/lora.h"
#include "engine/cpu/cpu_weights.h"

/* g = magnitude / || W + scale B A || for each output of a module, against the weights that are
 * served; squares are summed in double. out[out]. Module and weights agree in shape. For the
 * embedding W is [M, V]. Uses the pool's threads. */
WARN_UNUSED enum status cpu_dora_gain(const struct cpu_env *env, const struct lora_module *m,
                                      float *out);

#endif
