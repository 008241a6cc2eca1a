/* cuda_step: what a step needs at start, and step_begin, step_launch, step_draw and step_finish of
 * backend.h. */
#ifndef CHORUS_CUDA_CUDA_STEP_H
#define CHORUS_CUDA_CUDA_STEP_H

#include "cuda/cuda_state.h"

/* Pinned memory and events; weights, workspace and slots are there. cuda_step_deinit in every case.
 */
WARN_UNUSED enum status cuda_step_init(struct cuda_backend *c, struct err *e);
/* Launches every kind of bucket once without rows, and keeps the graphs: from here on a step loads
 * no code and takes no memory. */
WARN_UNUSED enum status cuda_step_record(struct cuda_backend *c, struct err *e);
void cuda_step_deinit(struct cuda_backend *c);

enum status cuda_step_begin(struct backend *b, const struct batch *batch);
enum status cuda_step_launch(struct backend *b);
enum status cuda_step_draw(struct backend *b);
enum status cuda_step_finish(struct backend *b, struct sample_result *results, struct err *e);
/* Until the next step_launch. */
enum status cuda_step_read_logits(struct backend *b, int o, float *logits);

#endif
