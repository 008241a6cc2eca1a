/* cpu_drive: the least that can drive a backend: sequences in, batches of them stepped, tokens and
 * logits out. For tests and the bench tool; one thread. */
#ifndef CHORUS_TESTS_CPU_DRIVE_H
#define CHORUS_TESTS_CPU_DRIVE_H

#include "engine/backend.h"

struct drive_seq {
    /* Asked for. */
    const int32_t *prompt;
    int prompt_count;
    int generate; /* tokens to sample */
    int adapter_count;
    int slot[LIMIT_ADAPTERS_PER_REQUEST];
    float weight[LIMIT_ADAPTERS_PER_REQUEST];
    int from[LIMIT_ADAPTERS_PER_REQUEST]; /* first token each acts on, ascending */
    struct sample_params params;
    bool keep_logits; /* of every sampled token */
    bool score;       /* an output row for every prompt position, logits kept */
    bool embed;       /* an output row for every prompt position, its state kept; generate is 1, and
                         that token 0 */
    /* State and results, owned by the drive. */
    int32_t *tokens; /* [count] prompt and output */
    int count;
    int cached;
    int32_t *pages;
    float *logprobs; /* [generate] */
    float *logits;   /* [rows kept, V] */
    int logit_rows;
    float *states; /* [rows kept, M] */
    int state_rows;
    struct sample_result last;
};

struct drive {
    struct backend *b;
    int layers;
    int vocab;
    int width; /* M */
    struct backend_plan plan;
    int chunk; /* prompt rows of a sequence a step */
    int pages_used;
};

/* Defaults: temperature 0, log-probabilities of the token. */
struct drive_seq drive_seq_of(const int32_t *prompt, int prompt_count, int generate);
/* Runs all sequences together, in this order in every batch, until each has its tokens. */
void drive_run(struct drive *d, struct drive_seq *seqs, int count);
/* Frees what drive_run made. */
void drive_free(struct drive_seq *seqs, int count);

/* Opens a backend with this model. Fails the test when it cannot. */
struct drive drive_open(const struct model *m, const struct backend_options *opt,
                        const struct backend_plan *plan);
void drive_close(struct drive *d);

#endif
