/* lora_ref: adapters of 8 and 4 bits in plain order, and their image by the words of lora_layout.h.
 * For tests of what writes or reads them. */
#ifndef CHORUS_TESTS_LORA_REF_H
#define CHORUS_TESTS_LORA_REF_H

#include "cuda/lora_layout.h"

/* Codes and scales of one module; values are code * scale. int8: the scale of A is that of both, B
 * has none. */
struct lora_ref {
    enum lora_codes codes;
    int rank, k, rows;
    int8_t *a, *b;  /* [rank, k], [rows, rank] */
    float *a_scale; /* [rank], int4: [rank, groups of 64] */
    float *b_scale; /* int4: [groups of 64, rank] */
};

/* Random ones; values of A and B about as large as said. a, b: those values. Ends with free. */
void lora_ref_init(struct lora_ref *l, enum lora_codes codes, int rank, int k, int rows,
                   float size_a, float size_b, uint64_t *seed, float *a, float *b);
void lora_ref_free(struct lora_ref *l);

/* Rank tiles [tile, ...) of a stack's A; all its positions are written. */
void lora_ref_put_a(const struct lora_ref *l, int groups, int tile, uint8_t *image);
/* Its part of B, which has `tiles` output tiles of `count` rank tiles. half: 0 the whole tile, 1
 * and 2 the upper and lower 8 rows, gate's and up's. */
void lora_ref_put_b(const struct lora_ref *l, int tiles, int count, int half, uint8_t *image);
size_t lora_ref_b_bytes(enum lora_codes codes, int tiles, int count, bool pair);
/* Reads them: element (row or rank r, column c) of the stack's A as a code, padding included. */
int lora_ref_a_code(enum lora_codes codes, const uint8_t *a, int groups, int r, int c);
float lora_ref_a_scale(const uint8_t *a, int groups, int r, int c);
/* Code of row `row` of an output tile of B. */
int lora_ref_b_code(enum lora_codes codes, const uint8_t *b, int count, bool pair, int tile,
                    int row, int rank);
float lora_ref_b_scale(const uint8_t *b, int count, bool pair, int tile, int row, int rank);

#endif
