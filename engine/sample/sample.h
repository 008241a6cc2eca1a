/* sample: from one row of logits to one token. Pure: the same inputs give the same token in any
 * company.
 *
 * Order (as transformers and vLLM apply it): logit bias and bans -> repetition, presence, frequency
 * penalties -> temperature -> top_k -> typical_p -> top_p -> min_p -> draw; sample.c has the exact
 * rules. temperature 0 is argmax, lowest id on a tie. The random number of a draw is a
 * counter-based hash of (seed, tokens before it), so that neither company nor preemption changes
 * it. Log-probabilities are log_softmax of the raw logits, before any of the above.
 */
#ifndef CHORUS_SAMPLE_SAMPLE_H
#define CHORUS_SAMPLE_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/limits.h"

struct logit_bias {
    int32_t token;
    float bias;
};

/* What a request asks for. Ranges are the caller's to check. */
struct sample_params {
    float temperature;        /* >= 0 */
    float top_p;              /* (0, 1]; 1 off */
    float min_p;              /* [0, 1]; 0 off */
    float typical_p;          /* (0, 1]; 1 off */
    int top_k;                /* 0 off */
    float repetition_penalty; /* > 0; 1 off; over prompt and output */
    float presence_penalty;   /* over output */
    float frequency_penalty;  /* over output */
    uint64_t seed;
    int logprobs; /* -1: none; 0..LIMIT_TOP_LOGPROBS alternatives beside the chosen token */
    const struct logit_bias *bias; /* borrowed from the request */
    int bias_count;
};

/* One row to sample in a step. All pointers are borrowed until the step ends. */
struct sample_row {
    const struct sample_params *params;
    const int32_t *tokens; /* prompt, then output so far */
    int prompt_count;
    int token_count;
    const int32_t
        *banned; /* ids that must not be drawn (end tokens before min_tokens); may be NULL */
    int banned_count;
    const uint32_t *mask; /* one bit an id, 1 = allowed ([ceil(V/32)]); NULL: all */
    int32_t forced; /* >= 0: score this token instead of drawing (log-probabilities of a prompt);
                       -1: draw */
    bool hidden;    /* no token: the row's hidden state is wanted, see backend_ops.read_hidden */
};

struct token_logprob {
    int32_t token;
    float logprob;
};

struct sample_result {
    int32_t token;
    float logprob; /* of token; 0 when params->logprobs is -1 */
    int top_count;
    struct token_logprob top[LIMIT_TOP_LOGPROBS]; /* descending, ties by lower id */
};

/* Nothing of a draw with these parameters depends on which tokens were drawn before (their number
 * does). */
bool sample_is_blind(const struct sample_params *p);

/* Floats of scratch that sample_logits needs for a vocabulary of `vocab`. */
size_t sample_scratch_floats(int vocab);

/* `logits` [vocab] fp32 is read only; `scratch` as above. NaN logits are treated as -inf; when
 * nothing is left to draw the argmax of what the mask and bans allow is taken. */
void sample_logits(const float *logits, int vocab, const struct sample_row *row, float *scratch,
                   struct sample_result *out);

/* Uniform in [0, 1) with 24 bits, of (seed, position): Philox4x32-10 (Salmon et al. 2011). */
float sample_uniform(uint64_t seed, uint64_t position);

#endif
