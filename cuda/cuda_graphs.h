/* cuda_graphs: the pass of every small bucket as a CUDA graph, all made at start, so that a step of
 * the common kinds is one launch. */
#ifndef CHORUS_CUDA_CUDA_GRAPHS_H
#define CHORUS_CUDA_CUDA_GRAPHS_H

#include <cuda_runtime_api.h>

#include "cuda/cuda_bucket.h"
#include "engine/backend.h"

#define GRAPH_ROWS   4  /* 8, 16, 32, 64 */
#define GRAPH_CHUNKS 13 /* up to LIMIT_CTX tokens */

/* Steps of a bucket's rows: every sequence has one; mixed with at most 8 output rows (prompts);
 * mixed with more. */
enum graph_mix { GRAPH_ONE_EACH, GRAPH_FEW_OUTS, GRAPH_MIXED, GRAPH_MIXES };

struct cuda_graphs {
    /* The last index: late or not. Owned; NULL: none. */
    cudaGraphExec_t exec[GRAPH_ROWS][GRAPH_MIXES][GRAPH_CHUNKS][ADAPTERS_COUNT][2];
};

/* Estimate of the device memory that all of them take, for the plan. */
size_t cuda_graphs_bytes(const struct backend_plan *p, int layers);

/* The i-th bucket that has a graph under this plan; false: there are no more. */
bool cuda_graphs_bucket(const struct backend_plan *p, int i, struct cuda_bucket *out);
/* The place of a bucket's graph; NULL: such steps are launched node by node. */
cudaGraphExec_t *cuda_graphs_at(struct cuda_graphs *g, const struct cuda_bucket *k);
void cuda_graphs_destroy(struct cuda_graphs *g);

#endif
