/* cpu_matrix: weights packed into the panels of cpu_kernel.h, in the type they are stored in.
 *
 * Packing happens at load, one panel independent of another, so that threads may share it; the
 * struct is read-only afterwards.
 */
#ifndef CHORUS_CPU_CPU_MATRIX_H
#define CHORUS_CPU_CPU_MATRIX_H

#include "engine/base/status.h"
#include "engine/cpu/cpu_kernel.h"

/* Bytes that cpu_matrix_init will ask for; false when they do not fit into size_t. */
bool cpu_matrix_bytes(enum dtype dtype, int n, int k, size_t *out);
/* An all-zero matrix [n, k]; n >= 0, k >= 1. STATUS_NO_MEMORY leaves *m absent. */
WARN_UNUSED enum status cpu_matrix_init(struct cpu_matrix *m, enum dtype dtype, int n, int k);
void cpu_matrix_deinit(struct cpu_matrix *m);

/* Rows of `t` [.., k] become outputs [n0, n0 + t->rows) of m, restricted to those that lie in
 * panels [panel_begin, panel_end). The dtypes are equal, or m is f32. `row_scale` [t->rows]
 * multiplies rows (f32 only), NULL: none. */
void cpu_matrix_pack(struct cpu_matrix *m, int n0, const struct tensor *t, const float *row_scale,
                     int panel_begin, int panel_end);
/* Output n as stored, widened: out[k]. */
void cpu_matrix_row(const struct cpu_matrix *m, int n, float *out);

#endif
