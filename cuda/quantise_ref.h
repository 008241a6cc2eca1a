/* quantise_ref: the rule by which k_quantise rounds weights, in plain C, bit for bit. Pure, any
 * thread, no CUDA: the CPU backend can run on the very weights that the card has.
 *
 * All arithmetic is fp32, one rounding an operation. A row is cut into groups of TILE_K values, the
 * last filled up with zeros.
 *
 *   int4  x: the value of the largest magnitude in the group (the negative one of two). Candidate i
 *         is scale = bf16(-x / QUANTISE_DIVISOR(i)): x becomes -7 where i = 0, which is plain
 *         rounding by the largest magnitude, then comes to lie on -8, then beyond it and is cut
 *         off. q = clamp(round_half_even(w / scale), -8, 7). The candidate with the least sum of
 *         (w - q scale)^2 is taken, the first of equals; the sum is over 4 neighbours in order,
 *         then over the 32 sums pairwise: 16 apart, then 8, 4, 2, 1.
 *   int8  scale = max |w| / 127 of the row; q = clamp(round_half_even(w / scale), -127, 127).
 *   bf16  round half even.
 *
 * A scale that would be 0 makes q and scale 0. A value that is not finite makes its group (int8:
 * the row) q = 0 with scale NaN, so that the fault shows.
 *
 * 24 candidates leave 0.675 of the squared error of plain rounding on normal values, 200 of them
 * 0.673, 16 with twice the step 0.677. */
#ifndef CHORUS_CUDA_QUANTISE_REF_H
#define CHORUS_CUDA_QUANTISE_REF_H

#include "cuda/layout.h"
#include "engine/base/status.h"

#define QUANTISE_CANDIDATES 24
#define QUANTISE_DIVISOR(i) (7.0f + 0.15625f * (float)(i)) /* exact in fp32: 7 to 10.6 */

/* One row in[k] quantised and turned back: out[k], which may be `in`. STATUS_INVALID: k < 1 or a
 * format that is none. */
WARN_UNUSED enum status quantise_ref_row(enum weight_format f, const float *in, int k, float *out);

#endif
