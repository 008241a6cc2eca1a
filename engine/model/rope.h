/* rope: the angles of rotary position embedding, as models were trained with them. Pure. */
#ifndef CHORUS_MODEL_ROPE_H
#define CHORUS_MODEL_ROPE_H

#include "engine/model/model.h"

/* Cosines and sines of positions [first, first + count): [count, D/2] each, row-major. */
void rope_tables(const struct model_shape *s, int first, int count, float *cos_out, float *sin_out);

#endif
