/* forward: the pass over a batch, written once for every backend. Engine thread. */
#ifndef CHORUS_MODEL_FORWARD_H
#define CHORUS_MODEL_FORWARD_H

#include "engine/backend.h"

/* Issues the pass for the batch of the last step_begin: pre-norm transformer, `layers` blocks, then
 * logits and samples. */
void forward(struct backend *b, int layers);

#endif
