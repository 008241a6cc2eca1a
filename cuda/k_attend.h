/* k_attend: q/k norm, RoPE, the KV write, and causal attention of each row over its sequence's
 * pages.
 *
 *   q' = rope(norm(q)), k' = rope(norm(k)); k', v to the page of the row's position (bf16)
 *   a[t, h] = softmax(q' K^T * scale) V over positions max(0, pos - window + 1) .. pos
 *
 * A row's result depends on its own position and keys only: positions are cut into fixed chunks of
 * ATTEND_CHUNK and those into parts, merged in order by log-sum-exp; so decode, prefill chunks and
 * prefix hits give the same bits.
 *
 * KV of a layer: [page][k, v][kv head] blocks: [token 16][head_dim] bf16, or of KV_INT8
 * [token 16][head_dim rounded up to 16] bytes, zeros behind the head, and [token 16] scales in bf16
 * (engine/model/kv_type.h). The scale of a token's key comes to its score, of its value to its
 * weight: what is multiplied on the way is exact.
 *
 * Two ways with the same bits. one_row_each: one node; the block that attends writes its row's key
 * and value, and loads the pages of earlier positions before it waits for the node in front: they
 * were written by earlier steps. Otherwise one node writes all rows' keys and values and a second
 * one attends. The page that holds a row's position belongs to its sequence alone.
 */
#ifndef CHORUS_CUDA_K_ATTEND_H
#define CHORUS_CUDA_K_ATTEND_H

#include <cuda_runtime_api.h>

#include "cuda/step_dev.h"
#include "engine/base/status.h"
#include "engine/model/kv_type.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ATTEND_CHUNK     256
#define ATTEND_PARTS_MAX 32

/* Chunks that one block goes through, one after the other, for contexts of up to `chunks`: so many
 * that a row has at most ATTEND_PARTS_MAX parts. A row's bits depend on it: one for all steps. */
static inline int attend_span(int chunks)
{
    int span = 1;
    while ((chunks + span - 1) / span > ATTEND_PARTS_MAX)
        span *= 2;
    return span;
}

/* Parts that a row of `chunks` chunks can touch; a window may begin inside of one. */
static inline int attend_parts(int chunks, int span, int window)
{
    return (chunks + span - 1) / span + (window > 0 && span > 1);
}

/* Bytes of a token's head in a block, and of the block: a page's keys or values of one kv head. */
static inline size_t attend_row_bytes(enum kv_type t, int head_dim)
{
    return t == KV_INT8 ? (size_t)(head_dim + 15) / 16 * 16 : (size_t)head_dim * 2;
}
static inline size_t attend_block_bytes(enum kv_type t, int head_dim)
{
    return 16 * (attend_row_bytes(t, head_dim) + (t == KV_INT8 ? 2 : 0));
}

/* How the rows of a step are attended: one by one, or as pieces of prompts, consecutive rows of one
 * sequence (k_attend_prefill.h: faster for many rows, other bits). Every row is in one of the two.
 */
struct attend_split {
    int32_t singles;
    int32_t pieces;
};
struct attend_piece {
    int32_t row;
    int32_t rows;
};

struct attend_args {
    const struct step_dev *step;
    int rows_max;     /* bucket, as linear_args */
    int chunks_max;   /* bucket: >= the chunks that any row's positions touch */
    const float *qkv; /* [T, qkv_stride]: q at 0, k at k_at, v at v_at */
    int qkv_stride;
    int k_at;
    int v_at;
    int heads;
    int kv_heads;          /* divides heads */
    int head_dim;          /* even, 2 .. 256 */
    int window;            /* 0: none */
    float scale;           /* of a score, 1 / sqrt(head_dim) */
    const float *rope_cos; /* [ctx, head_dim / 2] */
    const float *rope_sin;
    const float *q_norm; /* [head_dim] or NULL */
    const float *k_norm;
    float eps;
    enum kv_type kv_type;
    void *kv;  /* this layer's pages, 16-byte aligned */
    void *out; /* bf16 [T, out_stride], out_stride = PAD_K(heads * head_dim); columns beyond the
                  heads are not written */
    int out_stride;
    int span;          /* attend_span of the longest context that there can be */
    float *partial;    /* [partial_rows, heads, attend_parts, head_dim + 2]; NULL where that is 1 */
    int partial_rows;  /* more rows take more launches; 0: room for all that go one by one */
    uint32_t *arrived; /* [T, kv_heads]: 0 at the step's start and again at its end */
    int one_row_each;  /* every sequence has one row: keys may be written by the attending block */
    int dependent;
    /* Device; NULL: all rows one by one. Not with one_row_each. */
    const struct attend_split *split;
    const int32_t *single;            /* [split->singles] rows */
    const struct attend_piece *piece; /* [split->pieces] */
    int singles_max;                  /* buckets; 0: there are none */
    int pieces_max;
};

/* One to three nodes, more where partial_rows asks for it. STATUS_UNSUPPORTED: a shape or bucket
 * that no kernel takes. */
WARN_UNUSED enum status cuda_attend(const struct attend_args *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
