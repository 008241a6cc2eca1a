/* cuda_bucket: the sizes for which a step is recorded. Launch shapes depend on a step's bucket
 * alone; what the step really has is read on the device from step_head. */
#ifndef CHORUS_CUDA_CUDA_BUCKET_H
#define CHORUS_CUDA_CUDA_BUCKET_H

#include "cuda/k_attend.h"

/* Buckets up to here are kept as graphs; larger steps take long enough on the device to be launched
 * node by node meanwhile. */
#define BUCKET_ROWS_GRAPH 64

struct cuda_bucket {
    int rows;         /* 8, 16, 32, 64 or a multiple of 64; >= rows of the step */
    int outs;         /* of the same list; >= output rows */
    int chunks;       /* a power of two; >= chunks of ATTEND_CHUNK tokens of the longest context */
    int one_row_each; /* no sequence has two rows */
    int adapters;     /* some row has one; which and how many is read on the device */
};

static inline int cuda_bucket_rows(int rows)
{
    return rows <= 8 ? 8 : rows <= 16 ? 16 : rows <= 32 ? 32 : (rows + 63) / 64 * 64;
}

static inline int cuda_bucket_chunks(int tokens)
{
    int chunks = 1;
    while (chunks * ATTEND_CHUNK < tokens)
        chunks *= 2;
    return chunks;
}

#endif
