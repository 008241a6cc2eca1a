/* pooling: how the hidden states of a text's tokens become its embedding, as the model's directory
 * says (modules.json and the pooling module's config.json of sentence-transformers). A directory
 * that is silent means the last token's state, with length 1: in a causal model only that one has
 * seen the whole text. Pure but for pooling_read; any thread.
 */
#ifndef CHORUS_MODEL_POOLING_H
#define CHORUS_MODEL_POOLING_H

#include <stdbool.h>

#include "engine/base/file.h"
#include "engine/base/status.h"

enum pooling_kind {
    POOLING_NONE, /* the model makes no embeddings here: `why` says so */
    POOLING_LAST,
    POOLING_MEAN,
    POOLING_WEIGHTED_MEAN /* token i of n counts i + 1 times */
};

struct pooling {
    enum pooling_kind kind;
    bool normalize; /* to length 1 */
    struct err why; /* POOLING_NONE */
};

/* `width`: values of a hidden state. What cannot be done here is POOLING_NONE, not an error: the
 * model may generate all the same. STATUS_NO_MEMORY. */
WARN_UNUSED enum status pooling_read(const struct file_root *root, int width, struct pooling *out,
                                     struct err *e);

/* One text's embedding under way. */
struct pooled {
    enum pooling_kind kind; /* POOLING_NONE: none is wanted */
    int width;
    double *sum; /* [width] zeros at first */
    float *out;  /* [width] */
};

/* True: the state of every token counts; else that of the last one. */
bool pooling_takes_all(enum pooling_kind kind);
/* Adds the state [width] of token i. Tokens come in order: so the sum does not depend on the steps
 * that computed them. */
void pooling_add(struct pooled *p, int i, const float *state);
/* Fills p->out, of `count` tokens. */
void pooling_end(struct pooled *p, int count);

#endif
