/* attend_world: sequences with shuffled pages, their keys and values, the step arrays that name
 * them, and what attention over them is in double; for the tests of k_attend and k_attend_prefill.
 *
 * q, k, v of a row depend on (sequence, position) alone, so that steps of any form ask the same.
 */
#ifndef CHORUS_TESTS_ATTEND_WORLD_H
#define CHORUS_TESTS_ATTEND_WORLD_H

#include "cuda/k_attend.h"
#include "tests/kernels/kernel_test.h"

#define WORLD_SEQS_MAX 24
#define WORLD_PAGE     16

struct world_shape {
    int heads, kv_heads, head_dim, window;
    bool norm;
};

/* Rows [first, first + rows) of a sequence. */
struct world_piece {
    int seq, first, rows;
    bool many; /* goes through k_attend_prefill */
};

struct world {
    struct world_shape shape;
    enum kv_type kv_type;
    int seqs, pages_each, pages; /* a sequence has pages_each pages */
    int ctx;                     /* tokens a sequence can have */
    int *page;                   /* [seqs, pages_each] */
    uint8_t *kv;                 /* host image of d_kv, as it was before the last step */
    size_t kv_bytes;
    uint8_t *d_kv;
    float *d_cos, *d_sin, *d_q_norm, *d_k_norm;
    float *cos, *sin, *q_norm, *k_norm; /* norms NULL where the shape has none */
};

/* One step: which rows, how, and after world_run what came out. */
struct world_step {
    struct world_piece piece[WORLD_SEQS_MAX];
    int pieces;
    int rows_max, chunks_max; /* 0: as few as the rows need */
    int span, partial_rows;   /* 0: one chunk; room for all rows */
    bool one_row_each;
    int rows;      /* out */
    uint16_t *out; /* out: [rows, heads * head_dim]; freed by world_step_free */
};

/* History (positions below each piece's first) is random; the rest of every page is NaN. */
void world_init(struct world *w, const struct world_shape *s, enum kv_type t, int seqs, int ctx);
void world_deinit(struct world *w);
/* Random keys and values for the positions [0, tokens) of a sequence, host and device. */
void world_fill(struct world *w, int seq, int tokens);
/* Takes what the device holds now as the image that the next step must leave alone. */
void world_refresh(struct world *w);

/* Uploads the step's arrays and fills *a but for what is not the world's (dependent). Buffers live
 * until the test ends or kernel_test_free. */
struct world_arrays {
    struct step_dev dev;
    struct step_head *head;
    struct attend_split *split;
    int32_t *single;
    struct attend_piece *piece;
    float *qkv;
    uint16_t *out;
    float *partial;
    uint32_t *arrived;
};
void world_upload(const struct world *w, struct world_step *st, struct world_arrays *u,
                  struct attend_args *a);
void world_arrays_free(struct world_arrays *u);
/* Reads out; checks that rows and columns that are no result were left alone, that counters are
 * zero again and that only the rows' own keys and values changed, into what they should be. */
void world_collect(struct world *w, struct world_step *st, const struct world_arrays *u,
                   const struct attend_args *a);
/* upload, cuda_attend twice with the same bits, collect. */
void world_run(struct world *w, struct world_step *st);
/* Every result of the step against double arithmetic on the device's own keys and values;
 * q' and weights have 16 bits, or the 8 of bf16 for pieces with `many`. */
void world_check(const struct world *w, const struct world_step *st);
void world_step_free(struct world_step *st);
/* [heads * head_dim] of the row of (seq, position), NULL where the step has none. */
const uint16_t *world_row(const struct world *w, const struct world_step *st, int seq, int pos);

#endif
