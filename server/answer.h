/* answer: the JSON of chat and text completions, whole and in chunks, as API.md section 2 shows it.
 * Pure: plain data in, text out. */
#ifndef CHORUS_SERVER_ANSWER_H
#define CHORUS_SERVER_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/strbuf.h"
#include "engine/engine_request.h"
#include "engine/engine_text.h"
#include "server/api_request.h"

/* What every object and chunk of one request shares. Borrowed. */
struct answer_head {
    enum api_kind kind;
    const char *id;
    const char *model;
    const char *fingerprint;
    int64_t created;
    const struct engine_adapter_use *adapters;
    int adapter_count;
    const struct engine_text *text; /* names tokens in logprobs */
    bool tokens_as_ids;
    bool keep_special; /* special tokens are text too */
};

struct answer_token {
    int32_t token;
    float logprob;
    bool has_logprob; /* false: the first token of a prompt has none */
    int top_count;
    struct token_logprob top[LIMIT_TOP_LOGPROBS];
};

struct answer_call {
    const char *id; /* NULL in a delta: it was begun before */
    const char *name;
    const char *arguments; /* JSON text, in a delta a piece of it */
    size_t arguments_len;
};

struct answer_choice {
    int index;
    const char *text;
    size_t text_len;
    const char *thought; /* reasoning_content; NULL: none */
    size_t thought_len;
    const struct answer_call *calls; /* of tools; in a delta the one it goes on with */
    size_t call_count;
    size_t call_index; /* delta: which one that is */
    bool has_logprobs; /* else "logprobs": null */
    const struct answer_token *tokens;
    size_t token_count;
    size_t text_offset;        /* completions: characters before the first token */
    const char *finish_reason; /* NULL: null */
};

struct answer_usage {
    int64_t prompt_tokens;
    int64_t cached_tokens;
    int64_t completion_tokens;
    int64_t reasoning_tokens;
    double prompt_ms;
    double predicted_ms;
};

/* {"id", "object", "created", "model", "system_fingerprint" ... and "adapter" if asked: the common
 * beginning, without the closing brace. */
void answer_begin(struct strbuf *b, const struct answer_head *h, bool chunk, bool adapter);
/* ,"choices":[...] of a whole answer. */
void answer_choices(struct strbuf *b, const struct answer_head *h,
                    const struct answer_choice *choices, int count);
/* ,"choices":[...] of one chunk; `role` begins a chat answer. */
void answer_delta(struct strbuf *b, const struct answer_head *h, const struct answer_choice *c,
                  bool role);
/* ,"choices":[] of the usage chunk. */
void answer_no_choices(struct strbuf *b);
void answer_usage(struct strbuf *b, const struct answer_usage *u);
/* [{token, logprob, bytes, top_logprobs} ...] as chats have them. */
void answer_logprobs(struct strbuf *b, const struct answer_head *h,
                     const struct answer_token *tokens, size_t count);
void answer_timings(struct strbuf *b, const struct answer_usage *u);
/* ,"adapter" -> [{name, generation, weight}] without a leading comma or key. */
void answer_adapters(struct strbuf *b, const struct engine_adapter_use *uses, int count);
/* Unicode characters that begin in the bytes of a token; special ones are text where kept. */
size_t answer_token_chars(const struct engine_text *text, int32_t token, bool keep_special);

#endif
