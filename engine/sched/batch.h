/* batch: one step as flat arrays that a device likes (DESIGN.md section 3).
 *
 * Rows of one sequence are contiguous and in position order; sequences that use the same adapters
 * lie next to each other, so that the rows of an adapter slot are one range. Filled by the engine
 * thread; a backend may read it until step_finish.
 */
#ifndef CHORUS_SCHED_BATCH_H
#define CHORUS_SCHED_BATCH_H

#include <stdint.h>

#include "engine/sample/sample.h"

/* Rows [row_begin, row_end) pass through the adapter in `slot`, times `weight`. Segments of a blend
 * overlap. */
struct batch_segment {
    int32_t slot;
    float weight;
    int32_t row_begin;
    int32_t row_end;
};

struct batch {
    int rows;            /* T */
    int seqs;            /* S */
    int segment_count;   /* A, ordered by row_begin, then by the request's adapter order */
    int out_count;       /* O */
    int page_stride;     /* P: entries of page_table a sequence */
    int32_t *token;      /* [T] */
    int32_t *position;   /* [T] from 0 */
    int32_t *seq_of_row; /* [T] index into the S sequences of this step */
    int32_t *row_begin;  /* [S + 1] */
    int32_t *kv_len;     /* [S] tokens in the cache once this step's rows are written */
    int32_t *page_table; /* [S, P] page of token t: page_table[s * P + t / LIMIT_KV_PAGE_TOKENS] */
    struct batch_segment *segments; /* [A] */
    int32_t *out_row;               /* [O] rows whose logits are wanted, ascending */
    struct sample_row *out;         /* [O] */
};

#endif
