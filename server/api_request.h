/* api_request: the body of a request for the model as plain data, in whichever form it came:
 * Responses and Anthropic's messages are turned into the chat that they mean. Any thread (parsing
 * and tokenising are pool work); a request has one owner.
 *
 * Rules (API.md): null means absent, an unknown field is ignored, a known field with a bad value is
 * refused with the field's name in err.param. Nothing is truncated silently.
 */
#ifndef CHORUS_SERVER_API_REQUEST_H
#define CHORUS_SERVER_API_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "engine/base/status.h"
#include "engine/engine_request.h"
#include "engine/engine_stats.h"
#include "engine/engine_text.h"
#include "server/api_structured.h"
#include "server/api_tools.h"
#include "server/profile.h"

#define API_SEQUENCES_MAX 128 /* prompts x choices of one request: below the engine's queue */
#define API_SALT_BYTES    256

enum api_kind { API_CHAT, API_COMPLETION, API_RESPONSES, API_MESSAGES, API_EMBEDDING };

/* What the parsers know of the server. Borrowed; constant while a request is parsed. */
struct api_context {
    const struct engine_text *text; /* NULL: text keys of logit_bias are ignored */
    int vocab;
    const struct engine_info *info; /* what embeddings are like, and the context */
    struct sample_params defaults;
    const char *const *base_names;         /* what `model` calls the base; [0] is the main one */
    int base_count;                        /* >= 1 */
    _Atomic(const char *) default_adapter; /* NULL: the base; may change at any time */
    /* Who speaks where a request names nobody, set at run time: how many of
     * [LIMIT_ADAPTERS_PER_REQUEST]; -1: nothing was set, default_adapter. May be NULL. */
    int (*default_uses)(void *ctx, struct engine_adapter_use *uses);
    /* The profile of a name's current generation, counted for the caller; NULL: it has none.
     * Statuses as has_adapter. May be NULL. */
    enum status (*profile_of)(void *ctx, const char *name, struct profile **out,
                              uint64_t *generation);
    /* Whether an adapter of this name is served now: STATUS_OK, _ADAPTER_NOT_FOUND, _NO_MEMORY. */
    enum status (*has_adapter)(void *ctx, const char *name);
    /* The name of the adapter at an index of GET /lora-adapters; statuses as above. */
    enum status (*adapter_at)(void *ctx, int64_t index, char name[LIMIT_NAME_BYTES + 1]);
    void *ctx;
};

/* What embeddings should look like. */
struct api_embedding {
    int dimensions; /* values that are kept */
    bool normalize;
    bool base64;
};

struct api_prompt {
    const char *text; /* of a string prompt, borrowed from root; NULL for ids */
    struct token_buf tokens;
};

struct api_request {
    enum api_kind kind;
    struct profile *profile; /* counted; of the only adapter; NULL: none */
    uint64_t generation;     /* that the profile belongs to; 0: not one adapter */
    cJSON *root;             /* owned: strings below point into it */
    cJSON *vars;             /* owned, chats: the template's variables */
    char *repeated;          /* owned, Responses: members of the answer that repeat the request */
    const char *model;       /* as the client wrote it, else the base's main name */
    bool stream;
    bool include_usage;
    bool timings_per_token;
    bool tokens_as_ids; /* logprobs name tokens "token_id:N" */
    bool echo;
    bool continue_final;    /* chat: the final message is left open */
    const char *think_open; /* chat: the model's thinking tags, borrowed; NULL: none */
    const char *think_close;
    bool thinking;  /* the prompt ends inside a thought */
    bool no_output; /* max_tokens 0: the prompt is read, nothing is said */
    bool logprobs;
    bool has_seed;
    int priority;            /* in its client's line: smaller comes first */
    int n;                   /* choices for each prompt */
    int best_of;             /* >= n: sequences for each prompt */
    struct logit_bias *bias; /* owned; engine.sampling.bias points to it */
    struct api_embedding embedding;
    struct api_structured structured;
    struct api_tools tools;          /* chat */
    enum engine_tool_form tool_form; /* where there are tools: how the model calls them */
    struct engine_request engine;    /* all but request_id and the prompt */
    struct api_prompt *prompts;      /* owned */
    int prompt_count;
};

/* The caller ends *out with api_request_deinit on STATUS_OK only. */
WARN_UNUSED enum status api_request_parse(enum api_kind kind, const struct api_context *ctx,
                                          const char *body, size_t n, struct api_request *out,
                                          struct err *e);
/* Fills prompts[].tokens: the rendered template, the encoded text, or the ids given. */
WARN_UNUSED enum status api_request_tokenise(struct api_request *r, const struct engine_text *text,
                                             struct err *e);
/* After that: compiles the grammar that the answer must match, where there is one. */
WARN_UNUSED enum status api_request_constrain(struct api_request *r, struct engine *engine,
                                              struct err *e);
void api_request_deinit(struct api_request *r);
/* What the client calls the prompt. */
const char *api_request_prompt_field(enum api_kind kind);

/* The numbers that make up sampling, of a request or a profile, over what *p has. */
WARN_UNUSED enum status api_request_read_sampling(const cJSON *obj, struct sample_params *p,
                                                  struct err *e);
bool api_request_is_sampling(const char *key);
/* Finds the profile of what `r` names, when that is one adapter. */
WARN_UNUSED enum status api_request_find_profile(const struct api_context *ctx,
                                                 struct api_request *r, struct err *e);

#endif
