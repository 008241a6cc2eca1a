/* cuda_bucket: the sizes for which a step is recorded. Launch shapes depend on a step's bucket
 * alone; what the step really has is read on the device from step_head. */
#ifndef CHORUS_CUDA_CUDA_BUCKET_H
#define CHORUS_CUDA_CUDA_BUCKET_H

#include <stdbool.h>

#include "cuda/k_attend.h"

/* Buckets up to here are kept as graphs; larger steps take long enough on the device to be launched
 * node by node meanwhile. */
#define BUCKET_ROWS_GRAPH 64

/* Rows of a sequence in one step from which on they are attended as a piece. */
#define BUCKET_PIECE_ROWS 8

/* How steps beyond the graphs are computed. Either makes the last bits of a row depend on the size
 * of its step. */
struct cuda_ways {
    bool library; /* linears of the layers by cuda_many */
    bool pieces;  /* long runs of rows are attended as pieces */
};

/* Which linears of a step may have adapters. Many adapters are for q, k and v only; then the other
 * linears are those of a step without. */
enum bucket_adapters { ADAPTERS_NONE, ADAPTERS_ATTN_IN, ADAPTERS_ANY, ADAPTERS_COUNT };

struct cuda_bucket {
    int rows;         /* 8, 16, 32, 64 or a multiple of 64; >= rows of the step */
    int outs;         /* of the same list; >= output rows */
    int chunks;       /* a power of two; >= chunks of ATTEND_CHUNK tokens of the longest context */
    int one_row_each; /* no sequence has two rows */
    enum bucket_adapters adapters; /* of the rows; which and how many is read on the device */
    int late;                      /* the pass ends with the logits */
    int pieces;  /* of prompts, attended as such (see cuda_image_split); 0: row by row */
    int singles; /* then: 0 or of the list of rows; >= rows outside of pieces */
};

static inline int cuda_bucket_rows(int rows)
{
    return rows <= 8 ? 8 : rows <= 16 ? 16 : rows <= 32 ? 32 : (rows + 63) / 64 * 64;
}

/* Rows outside of pieces that so many rows of so many sequences can have. */
static inline int cuda_bucket_singles(int rows, int seqs)
{
    int most = seqs < rows / (BUCKET_PIECE_ROWS - 1) ? seqs * (BUCKET_PIECE_ROWS - 1) : rows;
    return most > 0 ? cuda_bucket_rows(most) : 0;
}

/* Pieces that so many rows can hold. */
static inline int cuda_bucket_pieces(int rows)
{
    return rows / BUCKET_PIECE_ROWS;
}

static inline int cuda_bucket_chunks(int tokens)
{
    int chunks = 1;
    while (chunks * ATTEND_CHUNK < tokens)
        chunks *= 2;
    return chunks;
}

#endif
