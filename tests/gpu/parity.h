/* parity: what the parts of tests/gpu/parity.c share. */
#ifndef CHORUS_TESTS_GPU_PARITY_H
#define CHORUS_TESTS_GPU_PARITY_H

#include "cuda/layout.h"
#include "engine/engine_adapter_data.h"
#include "tests/gpu/lanes.h"

#define PARITY_ADAPTERS_MAX 32
#define PARITY_DIRS_MAX     16

struct parity {
    const char *model_dir;
    const char *device; /* backend under test: "cuda", "cpu", or "noisy": the CPU with one more draw
 of roundings, to test the comparison itself */
    const char *dirs[PARITY_DIRS_MAX];
    int dir_count;
    enum weight_format linears;
    enum weight_format head;
    enum engine_adapter_quant adapter_quant; /* of the device's adapters and the reference's */
    const char *kv_type; /* NULL: bf16 on the device, float32 in the reference */
    bool plain_launches;
    int threads;
    int sequences;
    int jobs;
    int draws;
    uint64_t seed;
    bool exact;  /* the device has the reference's own bits */
    float plant; /* adapters on the device are this factor too strong: 1 none */
};

/* "none", "int8", "int4". */
extern const char *const parity_formats[];

/* Compares the device with the reference row by row. */
bool parity_steps(const struct parity *p);
/* The device alone and in company, through backend.h: all logits to the bit. */
bool parity_company(const struct parity *p);
/* Jobs through the engine, one at a time and in company: tokens and log-probabilities to the bit.
 */
bool parity_jobs(const struct parity *p);

#endif
