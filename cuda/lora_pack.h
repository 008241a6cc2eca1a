/* lora_pack: codes of an adapter in the order of lora_layout.h. Pure: host memory, any thread. */
#ifndef CHORUS_CUDA_LORA_PACK_H
#define CHORUS_CUDA_LORA_PACK_H

#include "cuda/lora_layout.h"
#include "engine/adapter/lora.h"

/* 16 rows of codes, `stride` apart. */
struct lora_pack_rows {
    const int8_t *at;
    size_t stride;
};

/* How a module's factors may lie on the card. */
enum lora_codes lora_pack_width(const struct lora_module *m);

/* Row `row` of a quantised factor, zeros up to `width`. */
void lora_pack_read(const struct tensor *t, int row, int width, int8_t *out);

/* A rank tile of A: rows are ranks, columns groups * TILE_K. `to`: its groups. Scales of int4 are
 * taken from row `rank` of t on; t NULL: zeros, as for ranks it has not. */
void lora_pack_a(enum lora_codes codes, const struct lora_pack_rows *rows, int groups,
                 const struct tensor *t, int rank, uint8_t *to);

/* An output tile of B: columns are ranks. `to`: its fragments. */
void lora_pack_b(enum lora_codes codes, const struct lora_pack_rows *rows, int rank_tiles,
                 uint8_t *to);

/* Scales of B of int4 for the outputs [64 group, ...): rank tile i's 32 bytes at to + i * step.
 * t NULL: zeros. */
void lora_pack_b_scales(const struct tensor *t, int group, int rank_tiles, int step, uint8_t *to);

#endif
