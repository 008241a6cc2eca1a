/* engine_request: what a request asks of the engine and what it hears back. Plain data. */
#ifndef CHORUS_ENGINE_REQUEST_H
#define CHORUS_ENGINE_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/limits.h"
#include "engine/base/status.h"
#include "engine/engine_adapter_data.h"
#include "engine/sample/sample.h"

struct grammar; /* engine_grammar.h */

struct engine_stop {
    const char *text;
    size_t len; /* 1 .. LIMIT_STOP_BYTES */
};

/* Everything is copied by engine_submit. Ranges are checked there. */
struct engine_request {
    const char *request_id; /* for logs */
    const int32_t *prompt;
    int prompt_count; /* >= 1 */
    struct engine_adapter_use adapters[LIMIT_ADAPTERS_PER_REQUEST];
    int adapter_count;
    struct sample_params sampling;
    int max_tokens; /* 0 = as many as the context holds */
    int min_tokens;
    bool ignore_eos;
    bool include_stop;      /* the matched stop string stays in the text */
    bool keep_special;      /* special tokens appear in the text */
    bool prompt_logprobs;   /* a PROMPT_TOKEN event for each prompt token but the first */
    bool cache_prompt;      /* may use the prefix cache */
    const char *cache_salt; /* NULL or a partition key of the prefix cache */
    struct engine_stop stop[LIMIT_STOP_STRINGS];
    int stop_count;
    int32_t stop_tokens[LIMIT_STOP_TOKENS];
    int stop_token_count;
    /* What the whole answer must match, of the same engine; NULL: anything. The engine takes a
     * reference of its own. An answer ends by itself (ENGINE_FINISH_STOP) once nothing may follow;
     * one cut by max_tokens or a stop is a beginning. */
    struct grammar *grammar;
    /* The prompt's embedding is wanted, pooled as the model says: no token is made, and what says
     * how (sampling, max_tokens, stops, grammar, prompt_logprobs) is not looked at. */
    bool embed;
};

enum engine_event_kind {
    ENGINE_EVENT_PROMPT_TOKEN, /* only with prompt_logprobs */
    ENGINE_EVENT_TOKEN,
    ENGINE_EVENT_TEXT, /* more text of the token before, when it does not fit one event, or text
                          released at the end */
    ENGINE_EVENT_DONE,
    ENGINE_EVENT_ERROR,
    ENGINE_EVENT_CANCELLED
};

enum engine_finish { ENGINE_FINISH_STOP, ENGINE_FINISH_LENGTH };

struct engine_usage {
    int prompt_tokens;
    int cached_tokens;
    int completion_tokens;
    int64_t queue_ns;   /* submitted to first scheduled */
    int64_t adapter_ns; /* of it: nothing but its adapters was missing */
    int64_t prompt_ns;  /* first scheduled to first token */
    int64_t decode_ns;  /* first token to last */
    int stop_number;    /* DONE: which of the request's stop strings ended it, from 1; 0: none */
};

struct engine_event {
    enum engine_event_kind kind;
    int32_t token; /* TOKEN, PROMPT_TOKEN */
    bool has_logprob;
    float logprob;
    int top_count;
    int text_len; /* bytes of text that became visible: whole UTF-8 characters; may be 0 */
    enum engine_finish finish; /* DONE */
    char text[LIMIT_EVENT_TEXT];
    struct token_logprob top[LIMIT_TOP_LOGPROBS];
    struct engine_usage usage; /* terminal events; others: what it was when they were read */
    struct err err;            /* ERROR */
    /* DONE of an `embed` request: engine_info.embed_width values, the reader's from now on, who
     * gives them to mem_free; else NULL. */
    float *embedding;
};

#endif
