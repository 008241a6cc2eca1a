/* oracle: what a request is answered when it is alone, by the shortest road: no pages, no batch, no
 * automaton; stop strings by plain search over the whole text; a grammar by trying every token. */
#ifndef CHORUS_TESTS_SIM_ORACLE_H
#define CHORUS_TESTS_SIM_ORACLE_H

#include "engine/base/strbuf.h"
#include "engine/engine_request.h"
#include "tests/sim/fake_backend.h"

struct oracle {
    struct sample_result *tokens; /* owned, [count] */
    int count;
    struct sample_result *prompt; /* owned, [prompt_count - 1] scores of prompt tokens 1 .. */
    struct strbuf text;           /* what the reader sees in the end */
    enum engine_finish finish;
    bool masked; /* some draw had tokens that the grammar did not allow */
};

/* `identity` of the request's adapters; max_new tokens at most. */
void oracle_answer(const struct engine_request *r, uint64_t identity, int max_new,
                   struct oracle *out);

/* One of a request's adapters. */
struct oracle_part {
    uint64_t identity;
    float weight;
    int from; /* first token that it acts on */
};

/* Where an adapter with this mark begins to act on the request; INT32_MAX: nowhere. */
int oracle_from(const struct engine_request *r, const int32_t *mark, int mark_count);
/* oracle_answer where the identity changes within the tokens. */
void oracle_answer_parts(const struct engine_request *r, const struct oracle_part *parts, int count,
                         int max_new, struct oracle *out);
void oracle_deinit(struct oracle *o);
/* The prompt's embedding, [FAKE_WIDTH]. */
void oracle_embed(const struct engine_request *r, uint64_t identity, enum pooling_kind kind,
                  float *out);
void oracle_embed_parts(const struct engine_request *r, const struct oracle_part *parts, int count,
                        enum pooling_kind kind, float *out);

#endif
