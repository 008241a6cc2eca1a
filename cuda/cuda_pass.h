/* cuda_pass: the operations between step_begin and step_launch; see backend.h. Each is recorded
 * into the backend's stream for the bucket in c->step; failures wait there for step_launch. */
#ifndef CHORUS_CUDA_CUDA_PASS_H
#define CHORUS_CUDA_CUDA_PASS_H

#include "cuda/cuda_state.h"

void cuda_pass_embed(struct backend *b);
void cuda_pass_attn_in(struct backend *b, int layer);
void cuda_pass_attend(struct backend *b, int layer);
void cuda_pass_attn_out(struct backend *b, int layer);
void cuda_pass_mlp_in(struct backend *b, int layer);
void cuda_pass_mlp_out(struct backend *b, int layer);
void cuda_pass_head(struct backend *b);
/* A late step leaves the draw to cuda_pass_draw, behind the pass. */
void cuda_pass_sample(struct backend *b);
WARN_UNUSED enum status cuda_pass_draw(struct cuda_backend *c);

#endif
