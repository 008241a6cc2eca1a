/* lora_arena: where adapters of different sizes lie in one fixed piece of device memory. Pure
 * bookkeeping: offsets only, no CUDA; engine thread.
 *
 * Each adapter has one contiguous extent. One is given whenever the free bytes suffice: where no
 * hole is large enough, extents beside each other are moved together, and the caller is told what
 * to copy. So nothing is lost to fragmentation; all that is lost is the rounding of each size to
 * LORA_ARENA_ALIGN, below 0.1 % of a rank-16 adapter of a 1B model. Adapters of one size, the usual
 * case, take each other's holes and nothing ever moves.
 *
 * Extents are moved, tables are not touched: a slot's pointers change by to - from
 * (cuda_adapter_rebase). Copies and the new table go into the stream of the steps, behind those
 * that use the old places and before those that use the new ones; nothing needs to wait. */
#ifndef CHORUS_CUDA_LORA_ARENA_H
#define CHORUS_CUDA_LORA_ARENA_H

#include <stddef.h>

#include "engine/base/limits.h"
#include "engine/base/status.h"

#define LORA_ARENA_ALIGN 4096

struct lora_extent {
    size_t offset; /* bytes from the arena's start, a multiple of LORA_ARENA_ALIGN */
    size_t bytes;  /* likewise, > 0 */
    int slot;
};

struct lora_arena {
    size_t bytes;
    size_t used;
    int count;
    struct lora_extent extents[LIMIT_ADAPTER_SLOTS]; /* ascending by offset */
};

/* Copy `bytes` from offset `from` to offset `to`, the adapter in `slot`. The two ranges may overlap
 * (to < from then holds): copy ascending through a buffer. */
struct lora_move {
    int slot;
    size_t from;
    size_t to;
    size_t bytes;
};

/* `bytes` is rounded down to LORA_ARENA_ALIGN. */
void lora_arena_init(struct lora_arena *a, size_t bytes);
/* What an adapter of `bytes` takes. */
size_t lora_arena_cost(size_t bytes);
size_t lora_arena_free_bytes(const struct lora_arena *a);

/* A place for `slot`, which has none. *offset: its start. The moves [0, *move_count) are to be done
 * in their order before it is written; the arena already counts them as done. STATUS_NO_MEMORY,
 * and no change: lora_arena_cost(bytes) is more than what is free. bytes > 0. */
WARN_UNUSED enum status lora_arena_place(struct lora_arena *a, int slot, size_t bytes,
                                         size_t *offset,
                                         struct lora_move moves[LIMIT_ADAPTER_SLOTS],
                                         int *move_count);
/* The place of `slot` is free again; nothing when it has none. */
void lora_arena_drop(struct lora_arena *a, int slot);

#endif
