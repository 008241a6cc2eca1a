/* tile_ref: weights in the tile formats read one by one, straight from the words of layout.h. For
 * tests of what writes or reads tiles. */
#ifndef CHORUS_TESTS_TILE_REF_H
#define CHORUS_TESTS_TILE_REF_H

#include "cuda/layout.h"

size_t tile_ref_bytes(const struct dev_matrix *w);
/* A matrix of n x k on the device, zeroed, and its row scales (int8). Freed with the test. */
struct dev_matrix tile_ref_alloc(enum weight_format f, int n, int k);
/* Copies it to host memory: data and row_scale of the result are the caller's to mem_free. */
struct dev_matrix tile_ref_read(const struct dev_matrix *w);
/* Element of a matrix in host memory, padding included. */
float tile_ref_at(const struct dev_matrix *w, int row, int column);

#endif
