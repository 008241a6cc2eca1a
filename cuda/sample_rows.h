/* sample_rows: what the rows of a step ask for, as k_sample reads it: pure, into memory the caller
 * owns and later copies to the device. Engine thread. Allocates nothing: a row that does not fit
 * what is left of edits or masks is flagged for the host, as are rows that the kernel does not do.
 */
#ifndef CHORUS_CUDA_SAMPLE_ROWS_H
#define CHORUS_CUDA_SAMPLE_ROWS_H

#include <stdbool.h>

#include "cuda/k_sample.h"

struct sample_stage {
    struct sample_dev *rows; /* [count] */
    struct sample_edit *edits;
    int edits_max;
    uint32_t *masks; /* [masks_max, ceil(vocab / 32)] */
    int masks_max;
    int32_t *places; /* [vocab], all 0 between calls (and before the first) */
    /* Set by sample_rows_fill: what is in use, from the start of each array. */
    int edit_count;
    int mask_count;
    int host_count; /* rows with host = 1: to be drawn by sample_logits */
};

/* True: the kernel draws a row with these parameters, whatever else it asks for, as long as edits
 * and masks have room. */
bool sample_rows_on_device(const struct sample_params *p);

/* Fills s->rows[0, count) and what they point to. */
void sample_rows_fill(struct sample_stage *s, const struct sample_row *rows, int count, int vocab);

#endif
