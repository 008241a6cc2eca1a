/* lora_quant: an adapter's factors at 8 or 4 bits.
 *
 * 8 bits: one scale for each rank, of A's row and of B's column, so that B (A x) needs no scales
 * inside its sums. 4 bits: one for 64 inputs of a rank of A, and for 64 outputs of a rank of B.
 * Codes are symmetric, -127 .. 127 or -7 .. 7; the scale of a group is the one that leaves the
 * least squared error for its codes, which for 4 bits are tried at several widths; scales of 4 bits
 * are bf16 (but for subnormal ones), as a card reads them. Magnitudes of DoRA and effective scales
 * stay as they are. Pure, any thread.
 */
#ifndef CHORUS_ADAPTER_LORA_QUANT_H
#define CHORUS_ADAPTER_LORA_QUANT_H

#include "engine/adapter/lora.h"
#include "engine/engine_adapter_data.h"

/* Sums over values: relative root mean square error = sqrt(error / norm). */
struct lora_quant_sums {
    double error;
    double norm;
};

struct lora_quant_report {
    struct lora_quant_sums a, b; /* over all modules */
    int worst;                   /* module with the largest error of A and B together */
    float worst_a, worst_b;      /* its relative errors */
};

/* Relative root mean square error of the sums; 0 where there is nothing. */
float lora_quant_error(const struct lora_quant_sums *s);

/* Quantises what `l` holds, in place; its bytes and sha256 become those of this form. `report` may
 * be NULL. ENGINE_QUANT_NONE: nothing to do. STATUS_NO_MEMORY: `l` is as it was. */
WARN_UNUSED enum status lora_quantise(struct lora *l, enum engine_adapter_quant quant,
                                      struct lora_quant_report *report, struct err *e);
/* What lora_quantise would report. */
WARN_UNUSED enum status lora_quant_measure(const struct lora *l, enum engine_adapter_quant quant,
                                           struct lora_quant_report *report, struct err *e);

#endif
