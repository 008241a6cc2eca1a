/* step_dev: one step's arrays on the device: what cuda_step.c uploads with one copy and all kernels
 * read. Counts live here, never in kernel arguments, so that one graph serves every step of its
 * bucket. */
#ifndef CHORUS_CUDA_STEP_DEV_H
#define CHORUS_CUDA_STEP_DEV_H

#include <stdint.h>

#include "cuda/layout.h"

/* Two views of the rows: all of them, and those whose logits are wanted. */
enum step_view { VIEW_ROWS, VIEW_OUTS, VIEW_COUNT };

struct step_head {
    int32_t rows[VIEW_COUNT]; /* T and O */
    int32_t seqs;
    int32_t pad;
    struct lora_pieces pieces[VIEW_COUNT];
};

/* Device pointers; capacities are the plan's. */
struct step_dev {
    const struct step_head *head;
    const int32_t *token;                        /* [T] */
    const int32_t *position;                     /* [T] */
    const int32_t *seq_of_row;                   /* [T] */
    const int32_t *page_begin;                   /* [S] index into pages */
    const int32_t *pages;                        /* pages of sequence s from page_begin[s] on */
    const int32_t *out_row;                      /* [O] ascending */
    const struct lora_piece *pieces[VIEW_COUNT]; /* see lora_pieces */
};

#endif
