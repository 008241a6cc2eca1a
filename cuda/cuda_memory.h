/* cuda_memory: how the card's memory is divided, computed before anything is taken:
 *
 *   weights | KV pages | adapter arena | workspace | graphs | reserve
 *
 * Weights, workspace and graphs follow from model and options. What they leave of the budget is
 * shared by the arena and the pages, each up to what it can need. Where that is not enough for
 * both, and the embedding takes a good part of the card, it moves to the host (EMBED_AUTO): a step
 * reads some KB of it, and its bits are the same there. Pure: no CUDA, any thread.
 */
#ifndef CHORUS_CUDA_CUDA_MEMORY_H
#define CHORUS_CUDA_CUDA_MEMORY_H

#include "cuda/cuda_bucket.h"
#include "cuda/cuda_weights.h"
#include "engine/backend.h"
#include "engine/model/kv_type.h"

/* Code of the kernels, stacks of threads, staging buffers while loading, rounding of each
 * allocation. */
#define MEMORY_RESERVE ((size_t)192 << 20)

struct cuda_memory {
    struct cuda_weights_sum weights;
    size_t kv;
    size_t arena;
    size_t workspace;
    size_t graphs;
    size_t reserve;
    size_t total; /* of all of these */
    size_t host;  /* of the host's memory, pinned: the embedding, where it is not on the card */
};

enum cuda_embedding { EMBED_AUTO, EMBED_CARD, EMBED_HOST };

/* What is asked for; plan.pages: wanted. */
struct cuda_memory_ask {
    struct model_shape shape;
    struct backend_plan plan;
    struct cuda_formats formats;
    enum kv_type kv_type;
    enum cuda_embedding embedding;
    struct cuda_ways ways;
    enum lora_codes codes; /* of most adapters */
    size_t arena_bytes; /* 0: as many rank-64 adapters on all linears as there are slots, bounded by
                           a share of what is left */
    size_t budget_bytes; /* of free memory */
};

/* Bytes of one KV page over all layers. */
size_t cuda_memory_page_bytes(const struct model_shape *s, enum kv_type t);

/* Divides the budget: *pages <= ask->plan.pages, >= pages_min. STATUS_NO_MEMORY says in one
 * sentence what is needed, what is there and what would fit. */
WARN_UNUSED enum status cuda_memory_divide(const struct cuda_memory_ask *ask, int pages_min,
                                           struct cuda_memory *out, int *pages, struct err *e);

#endif
