/* step_pieces: the segments of a batch cut into the pieces that kernels work on (lora_piece), for
 * all rows and for the output rows. Pure, no allocation, no CUDA; runs on the step path. */
#ifndef CHORUS_CUDA_STEP_PIECES_H
#define CHORUS_CUDA_STEP_PIECES_H

#include "cuda/step_dev.h"
#include "engine/sched/batch.h"

#define PIECE_ROWS 8 /* rows of a piece at most: an n8 tile of mma */

/* Pieces that a view of `rows` rows (output rows: outs_max) of a step with `seqs` sequences has at
 * most. */
int step_pieces_max(int rows, int seqs);

/* Writes the pieces of a view, at most step_pieces_max, and their head. slot_gain[slot] != 0: the
 * adapter there has DoRA somewhere; NULL: none has. Adapters without any part in a linear get their
 * pieces all the same. */
void step_pieces_build(const struct batch *b, enum step_view view, const uint8_t *slot_gain,
                       struct lora_piece *pieces, struct lora_pieces *head);

#endif
