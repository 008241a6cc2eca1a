/* k_sample: from logits to tokens on the device, by the rules of engine/sample/sample.c: the same
 * weights bit for bit, the same order, the same random number. Sums of weights are added in another
 * order, so a draw may differ only where it falls within 1e-12 of the total from a border.
 *
 * What a row asks for comes as a sample_dev, made by cuda/sample_rows.h; rows that ask for
 * something this kernel does not do are flagged there (host = 1), skipped here, and drawn by
 * sample_logits on the host from the row's logits. Two graph nodes; the grid depends on outs_max
 * and vocab alone.
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

#define SAMPLE_VOCAB_MAX (1 << 20) /* larger ones are STATUS_UNSUPPORTED */

/* A token that a penalty, a bias or a ban touches: z = logit + bias, then the penalties. */
struct sample_edit {
    int32_t token;
    float bias;
    int32_t count; /* in the output: frequency and presence apply */
    int32_t flags; /* SAMPLE_SEEN, SAMPLE_BANNED */
};
#define SAMPLE_SEEN   1 /* in prompt or output: repetition applies */
#define SAMPLE_BANNED 2

/* 64 bytes: a row of the step's upload. */
struct sample_dev {
    float temperature, top_p, min_p;
    int32_t top_k; /* 0: off, also where it would keep the whole vocabulary; <= LIMIT_TOP_K */
    float repetition, presence, frequency;
    float uniform;                  /* sample_uniform(seed, token_count), drawn by the host */
    int32_t forced;                 /* >= 0: score this token */
    int32_t logprobs;               /* -1: none; <= LIMIT_TOP_LOGPROBS */
    int32_t edit_begin, edit_count; /* into edits: any order, each token once */
    int32_t mask;                   /* first word of the row's mask, -1: none */
    int32_t plain;                  /* no bias, ban, mask or penalty is asked for */
    int32_t host;                   /* skipped here: neither result nor next_token is written */
    int32_t pad;
};

/* All pointers are device pointers but `step`; results may be mapped host memory. */
struct sample_args {
    const struct step_dev *step; /* read at launch */
    int outs_max;
    const float *logits; /* [O, stride], 16-byte aligned */
    int stride;          /* floats, a multiple of 4, >= vocab */
    int vocab;
    const struct sample_dev *rows;   /* [O] */
    const struct sample_edit *edits; /* NULL: no row has any */
    const uint32_t *masks;           /* ceil(vocab / 32) words each; NULL: no row has one */
    float *scratch;                  /* [outs_max, cuda_sample_scratch(vocab)], 16-byte aligned */
    struct sample_result *results;   /* [O] */
    int32_t *next_token;             /* [O] the drawn tokens again, for the next step; NULL: none */
    int dependent;                   /* launch with programmatic dependence */
};

/* Floats of scratch a row. Holds nothing from one step to the next. */
size_t cuda_sample_scratch(int vocab);

/* Rows beyond the step's are left alone. STATUS_INVALID: alignment or stride; STATUS_UNSUPPORTED:
 * vocab or outs_max is too large. */
enum status cuda_sample(const struct sample_args *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
