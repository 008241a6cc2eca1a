/* seq_adapters: from which token of a sequence on each of its adapters acts. An ordinary one acts
 * on all, an activated LoRA from the first token of the last of its invocation sequences in the
 * prompt on: decided by the prompt alone, as PEFT does when it generates. Pure.
 */
#ifndef CHORUS_SCHED_SEQ_ADAPTERS_H
#define CHORUS_SCHED_SEQ_ADAPTERS_H

#include "engine/sched/seq.h"

#define SEQ_NEVER INT32_MAX /* seq_adapter.from: the sequence is not in the prompt */

/* Fills s->adapters from s->set. Orders both by where they begin, so that the adapters acting on a
 * token are the first ones of the list: sums keep one order, however a prompt is cut. */
void seq_adapters_place(struct seq *s);

#endif
