/* batch: one step as flat arrays that a device likes (DESIGN.md section 3).
 *
 * Rows of one sequence are contiguous and in position order; sequences that use the same adapters
 * lie next to each other, so that the rows of an adapter slot are one range. Filled by the engine
 * thread; a backend may read it until step_finish.
 */
#ifndef CHORUS_SCHED_BATCH_H
#define CHORUS_SCHED_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/limits.h"
#include "engine/base/status.h"
#include "engine/sample/sample.h"

/* Rows [row_begin, row_end) pass through the adapter in `slot`, times `weight`. Segments of a blend
 * overlap. A segment may begin within a sequence's rows: an activated LoRA's does. */
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
    bool late;           /* some draw waits for the step before: see backend.h; batch_build: no */
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

/* One sequence's share of a step, as batch_build reads it. Pointers are borrowed until the step
 * ends. */
struct batch_seq {
    const int32_t *tokens; /* prompt, then output so far; the newest is the last to be computed */
    int token_count;
    int prompt_count;
    int computed;         /* tokens before the first row */
    int rows;             /* >= 1; computed + rows <= token_count */
    const int32_t *pages; /* covers computed + rows tokens */
    int page_count;
    int adapter_count;
    int32_t slots[LIMIT_ADAPTERS_PER_REQUEST];
    float weights[LIMIT_ADAPTERS_PER_REQUEST];
    int32_t from[LIMIT_ADAPTERS_PER_REQUEST]; /* first token that it acts on, ascending; all are
                                                 below computed + rows */
    int score_from; /* prompt tokens from this index on are scored by the row before; prompt_count:
                       none */
    const struct sample_params *params;
    const int32_t *banned;
    int banned_count;
    const uint32_t *mask; /* of the token to be drawn; NULL: all */
    bool hidden;          /* output rows are for their hidden states, no token is drawn */
};

/* The arrays of a batch, sized once; and where its output rows came from. */
struct batch_builder {
    struct batch batch;
    int rows_max;
    int seqs_max;
    int outs_max;
    int segments_max;
    int *order;         /* owned, [S] sequences in row order */
    int *scratch;       /* owned, [S] */
    int32_t *out_seq;   /* owned, [O] index into the sequences given to batch_build */
    int32_t *out_index; /* owned, [O] the token that the row predicts: its index in `tokens` */
};

/* Allocates all arrays; a page table row holds ctx_max tokens. */
WARN_UNUSED enum status batch_init(struct batch_builder *b, int rows_max, int seqs_max,
                                   int outs_max, int ctx_max);
void batch_deinit(struct batch_builder *b);
/* Fills b->batch. `seqs` fit the sizes given to batch_init: anything else is a bug of the
 * scheduler. */
void batch_build(struct batch_builder *b, const struct batch_seq *seqs, int count);

#endif
