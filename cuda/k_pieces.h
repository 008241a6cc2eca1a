/* k_pieces: what the linears of a step need to know of its adapters, one record a linear.
 *
 * The step's pieces name slots, a slot's stacks say where A and B are: to go that way each node
 * needs loads that wait for each other, and may be read from memory that the weights have taken out
 * of the caches. Made once, at a step's begin, a block of a linear copies its record with one load.
 *
 * Its pieces are those of struct lora_pieces, in their order. Nothing that reads a record may start
 * before this kernel has ended: it does not let others begin early, and who is behind it must not
 * be launched with dependence.
 */
#ifndef CHORUS_CUDA_K_PIECES_H
#define CHORUS_CUDA_K_PIECES_H

#include <cuda_runtime_api.h>

#include "cuda/step_dev.h"
#include "engine/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Pieces of a record; those behind them are looked up by who needs them. */
#define PIECES_KEPT 64

/* One piece at a linear, for its expand. All zero but `cum` and `before`: it has nothing here. */
struct piece_entry {
    const uint8_t *b[STACK_MODULES];
    float scale[STACK_MODULES]; /* with the piece's weight */
    int16_t row, rows;
    int16_t module_tile[STACK_MODULES + 1];
    uint16_t cum[STACK_MODULES]; /* of the pieces before it: sum of module_tile[m + 1] * rows */
    uint16_t before;             /* and of rank tiles */
    int32_t u_at;  /* set by the block that reads it: rows of 32 bytes before it in its u */
    int32_t codes; /* enum lora_codes */
};

/* The same for its shrink. rank_tiles 0: it has nothing here. */
struct piece_shrink {
    const uint8_t *a;
    int16_t row;
    uint8_t rows, rank_tiles;
    int32_t codes;
};

struct piece_head {
    int32_t count;                   /* pieces; 0: none of them has anything here */
    int32_t units;                   /* rank tiles of all of them */
    uint16_t cum[STACK_MODULES + 1]; /* as piece_entry.cum, of the first PIECES_KEPT together */
    int32_t round_end[LORA_ROUNDS];
    int32_t any_gain;
    uint32_t tag; /* of u in this step at this linear, see lora_device.cuh; 0: none was made yet */
    int32_t pad[6];
};

struct stack_pieces {
    struct piece_shrink shrink[PIECES_KEPT];
    struct piece_head head;
    struct piece_entry entry[PIECES_KEPT]; /* right behind it: copied together */
};

struct pieces_args {
    const struct step_dev *step;    /* host copy of device pointers, read at launch */
    const struct lora_stack *table; /* device, [slots, table_stride] */
    int table_stride;
    int stacks;               /* records to make */
    int out_stack;            /* stacks from here on read VIEW_OUTS, those before VIEW_ROWS */
    struct stack_pieces *out; /* device, [stacks]; zeros before the first call */
    void *u;                  /* linear_args.u of all of them; NULL: it is new for each call */
    size_t u_bytes;           /* a multiple of 16 */
};

/* A tag is a count of calls above and the linear below, so u of another linear or call is never
 * taken for this one's; when the count begins anew, u is cleared. */
#define PIECES_TAG_STACKS 4096

/* STATUS_INVALID: something is missing, or stacks are too many for a tag. */
WARN_UNUSED enum status cuda_pieces(const struct pieces_args *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
