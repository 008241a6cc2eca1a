/* k_sample: from logits to tokens on the device, by the rules of engine/sample/sample.c.
 *
 * What a row asks for comes as a sample_dev; rows that ask for something this kernel does not do
 * (typical_p, more than SAMPLE_TOP_MAX candidates by top_k ...) are flagged by the host beforehand
 * (host = 1), skipped here, and drawn by sample_logits on the host from the row's logits.
 */
#ifndef CHORUS_CUDA_K_SAMPLE_H
#define CHORUS_CUDA_K_SAMPLE_H

#include <cuda_runtime_api.h>

#include "cuda/step_dev.h"
#include "engine/base/status.h"
#include "engine/sample/sample.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A token that a penalty, a bias or a ban touches: z = logit + bias, then the penalties. */
struct sample_edit {
    int32_t token;
    float bias;    /* -inf: banned */
    int32_t seen;  /* in prompt or output: repetition applies */
    int32_t count; /* in the output: frequency and presence apply */
};

struct sample_dev {
    float temperature, top_p, min_p;
    int32_t top_k;
    float repetition, presence, frequency;
    float uniform;                  /* sample_uniform(seed, token_count), drawn by the host */
    int32_t forced;                 /* >= 0: score this token */
    int32_t logprobs;               /* -1: none */
    int32_t edit_begin, edit_count; /* into edits, ascending by token, each token once */
    int32_t mask;                   /* index of a mask row, -1: none */
    int32_t host;
};

struct sample_args {
    const struct step_dev *step;
    int outs_max;
    const float *logits; /* [O, stride] */
    int stride;
    int vocab;
    const struct sample_dev *rows;   /* device [O] */
    const struct sample_edit *edits; /* device */
    const uint32_t *masks;           /* device [masks, ceil(vocab / 32)] */
    float *scratch;                  /* cuda_sample_scratch(vocab) floats a row */
    struct sample_result *results;   /* device or mapped host [O] */
    int dependent;
};

size_t cuda_sample_scratch(int vocab);
enum status cuda_sample(const struct sample_args *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
