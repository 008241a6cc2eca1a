/* cuda_states: hidden states of output rows for the host, who asks for them to make embeddings. The
 * residual of such rows follows the pass in the stream, into pinned memory of the step's flight;
 * the final norm is computed here, in double: a few thousand values for each text. Engine thread.
 */
#ifndef CHORUS_CUDA_CUDA_STATES_H
#define CHORUS_CUDA_CUDA_STATES_H

#include "cuda/cuda_state.h"

/* The weights are on the device. cuda_states_deinit ends it in every case. */
WARN_UNUSED enum status cuda_states_init(struct cuda_backend *c, struct err *e);
void cuda_states_deinit(struct cuda_backend *c);

/* Some output row of the batch is not for its state alone. */
bool cuda_states_draws(const struct batch *b);
/* Behind the pass of f: copies what its batch asks for. */
WARN_UNUSED enum status cuda_states_copy(struct cuda_backend *c, const struct cuda_flight *f);
/* backend_ops.read_hidden */
void cuda_states_read(const struct backend *b, int o, float *state);

#endif
