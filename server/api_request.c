#include "server/api_request.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/mem.h"
#include "server/api_adapter.h"
#include "server/api_chat.h"
#include "server/api_completion.h"
#include "server/api_embeddings.h"
#include "server/api_messages.h"
#include "server/api_responses.h"
#include "server/reasoning.h"

#define SHARE_LEAST 1e-6F /* top_p 0 means "the likeliest token", as clients use it */

/* All but plain prompts. */
static bool is_chat(const struct api_request *r)
{
    return r->kind != API_COMPLETION && r->kind != API_EMBEDDING;
}

/* ---- sampling ---- */

static const struct number_field {
    const char *key;
    double min;
    double max;
    size_t offset; /* of a float in struct sample_params */
} number_fields[] = {
    {"temperature", 0, 2, offsetof(struct sample_params, temperature)},
    {"top_p", 0, 1, offsetof(struct sample_params, top_p)},
    {"min_p", 0, 1, offsetof(struct sample_params, min_p)},
    {"typical_p", 0, 1, offsetof(struct sample_params, typical_p)},
    {"repetition_penalty", 0.01, 100, offsetof(struct sample_params, repetition_penalty)},
    {"presence_penalty", -2, 2, offsetof(struct sample_params, presence_penalty)},
    {"frequency_penalty", -2, 2, offsetof(struct sample_params, frequency_penalty)},
};

bool api_request_is_sampling(const char *key)
{
    bool known = strcmp(key, "top_k") == 0;
    for (size_t i = 0; i < sizeof number_fields / sizeof number_fields[0]; i++)
        known |= strcmp(key, number_fields[i].key) == 0;
    return known;
}

enum status api_request_read_sampling(const cJSON *obj, struct sample_params *p, struct err *e)
{
    for (size_t i = 0; i < sizeof number_fields / sizeof number_fields[0]; i++) {
        const struct number_field *f = &number_fields[i];
        float *at = (float *)(void *)((char *)p + f->offset);
        double v = *at;
        enum status st = json_get_double(obj, f->key, f->min, f->max, &v, e);
        if (st != STATUS_OK)
            return st;
        *at = (float)v;
    }
    if (p->top_p < SHARE_LEAST)
        p->top_p = SHARE_LEAST;
    if (p->typical_p <= 0)
        p->typical_p = 1;
    else if (p->typical_p < SHARE_LEAST)
        p->typical_p = SHARE_LEAST;
    int64_t top_k = p->top_k;
    enum status st = json_get_int(obj, "top_k", -1, INT32_MAX, &top_k, e);
    if (st == STATUS_OK)
        p->top_k = top_k < 0 ? 0 : top_k > LIMIT_TOP_K ? LIMIT_TOP_K : (int)top_k;
    return st;
}

static enum status read_sampling(const struct api_context *ctx, const cJSON *root,
                                 struct api_request *r, struct err *e)
{
    struct sample_params *p = &r->engine.sampling;
    *p = r->profile && r->profile->has_sampling ? r->profile->sampling : ctx->defaults;
    p->logprobs = -1;
    enum status st = api_request_read_sampling(root, p, e);
    int64_t seed = 0;
    r->has_seed = json_member(root, "seed") != NULL;
    if (st == STATUS_OK)
        st = json_get_int(root, "seed", INT64_MIN, INT64_MAX, &seed, e);
    if (st == STATUS_OK)
        p->seed = (uint64_t)seed;
    return st;
}

enum status api_request_find_profile(const struct api_context *ctx, struct api_request *r,
                                     struct err *e)
{
    const struct engine_adapter_use *use = &r->engine.adapters[0];
    if (!ctx->profile_of || r->engine.adapter_count != 1)
        return STATUS_OK;
    enum status st = ctx->profile_of(ctx->ctx, use->name, &r->profile, &r->generation);
    if (st == STATUS_ADAPTER_NOT_FOUND)
        return err_set(e, st, "adapter", "adapter '%.64s' does not exist", use->name);
    return st == STATUS_OK ? st : err_set(e, st, NULL, "out of memory");
}

/* The token that this text is, else the one that the vocabulary spells so; -1: none. */
static int32_t token_of_text(const struct engine_text *text, const char *s, size_t n)
{
    struct token_buf ids = {0};
    struct err none;
    size_t bytes = 0;
    enum status st = engine_text_encode(text, s, n, false, true, &ids, &none);
    int32_t id = st == STATUS_OK && ids.count == 1 ? ids.ids[0] : -1;
    mem_free(ids.ids);
    const char *own = id >= 0 ? engine_text_token(text, id, &bytes) : NULL;
    return own && bytes == n && memcmp(own, s, n) == 0 ? id : engine_text_token_id(text, s);
}

/* Keys are token ids, or (tolerated) the text of a token; other text is ignored. */
static bool bias_token(const struct api_context *ctx, const char *key, int64_t *token)
{
    size_t n = strlen(key);
    if (n >= 1 && n <= 10 && strspn(key, "0123456789") == n) {
        *token = strtoll(key, NULL, 10);
        return true;
    }
    *token = ctx->text ? token_of_text(ctx->text, key, n) : -1;
    return *token >= 0;
}

static enum status read_bias(const struct api_context *ctx, const cJSON *root,
                             struct api_request *r, struct err *e)
{
    const cJSON *v = json_member(root, "logit_bias");
    if (!v)
        return STATUS_OK;
    if (!cJSON_IsObject(v))
        return err_set(e, STATUS_INVALID, "logit_bias",
                       "'logit_bias' must be an object of token ids and numbers");
    int count = cJSON_GetArraySize(v);
    if (count > LIMIT_LOGIT_BIAS)
        return err_set(e, STATUS_INVALID, "logit_bias", "'logit_bias' has more than %d entries",
                       LIMIT_LOGIT_BIAS);
    if (count == 0)
        return STATUS_OK;
    r->bias = mem_calloc((size_t)count, sizeof *r->bias);
    if (!r->bias)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    int used = 0;
    for (const cJSON *m = v->child; m; m = m->next) {
        int64_t token;
        if (!cJSON_IsNumber(m) || !(m->valuedouble >= -100 && m->valuedouble <= 100))
            return err_set(e, STATUS_INVALID, "logit_bias",
                           "'logit_bias' values must be between -100 and 100");
        if (!bias_token(ctx, m->string, &token))
            continue;
        if (token >= ctx->vocab)
            return err_set(e, STATUS_INVALID, "logit_bias",
                           "'logit_bias' names token %lld of a vocabulary of %d", (long long)token,
                           ctx->vocab);
        r->bias[used++] = (struct logit_bias){(int32_t)token, (float)m->valuedouble};
    }
    r->engine.sampling.bias = r->bias;
    r->engine.sampling.bias_count = used;
    return STATUS_OK;
}

/* ---- where an answer ends ---- */

static enum status add_stop(const cJSON *v, struct engine_request *r, struct err *e)
{
    size_t n = cJSON_IsString(v) ? strlen(v->valuestring) : 0;
    if (n < 1 || n > LIMIT_STOP_BYTES)
        return err_set(e, STATUS_INVALID, "stop", "'stop' must hold strings of 1 to %d bytes",
                       LIMIT_STOP_BYTES);
    if (r->stop_count == LIMIT_STOP_STRINGS)
        return err_set(e, STATUS_INVALID, "stop", "'stop' has more than %d strings",
                       LIMIT_STOP_STRINGS);
    r->stop[r->stop_count++] = (struct engine_stop){v->valuestring, n};
    return STATUS_OK;
}

static enum status read_stop(const struct api_context *ctx, const cJSON *root,
                             struct engine_request *r, struct err *e)
{
    const cJSON *v = json_member(root, "stop");
    enum status st = STATUS_OK;
    if (cJSON_IsArray(v)) {
        for (const cJSON *s = v->child; s && st == STATUS_OK; s = s->next)
            st = add_stop(s, r, e);
    } else if (v) {
        st = add_stop(v, r, e);
    }
    const cJSON *ids = json_member(root, "stop_token_ids");
    if (st != STATUS_OK || !ids)
        return st;
    if (!cJSON_IsArray(ids))
        return err_set(e, STATUS_INVALID, "stop_token_ids",
                       "'stop_token_ids' must be a list of token ids");
    for (const cJSON *i = ids->child; i; i = i->next) {
        int64_t id;
        if (!json_int64(i, &id) || id < 0 || id >= ctx->vocab)
            return err_set(e, STATUS_INVALID, "stop_token_ids",
                           "'stop_token_ids' must hold ids from 0 to %d", ctx->vocab - 1);
        if (r->stop_token_count == LIMIT_STOP_TOKENS)
            return err_set(e, STATUS_INVALID, "stop_token_ids",
                           "'stop_token_ids' has more than %d ids", LIMIT_STOP_TOKENS);
        r->stop_tokens[r->stop_token_count++] = (int32_t)id;
    }
    return STATUS_OK;
}

static enum status read_length(const cJSON *root, struct api_request *r, struct err *e)
{
    int64_t max_tokens = r->profile && r->profile->max_tokens > 0 ? r->profile->max_tokens
                         : r->kind == API_COMPLETION              ? 16
                                                                  : -1;
    int64_t min_tokens = 0;
    enum status st = json_get_int(root, "max_tokens", 0, INT32_MAX, &max_tokens, e);
    if (st == STATUS_OK && is_chat(r))
        st = json_get_int(root, "max_completion_tokens", 0, INT32_MAX, &max_tokens, e);
    if (st == STATUS_OK)
        st = json_get_int(root, "min_tokens", 0, INT32_MAX, &min_tokens, e);
    if (st != STATUS_OK)
        return st;
    if (max_tokens >= 0 && min_tokens > max_tokens)
        return err_set(e, STATUS_INVALID, "min_tokens", "'min_tokens' is larger than 'max_tokens'");
    /* The engine says at least one token; what was not asked for is dropped. */
    r->no_output = max_tokens == 0;
    r->engine.max_tokens = max_tokens < 0 ? 0 : max_tokens == 0 ? 1 : (int)max_tokens;
    r->engine.min_tokens = (int)min_tokens;
    return STATUS_OK;
}

/* ---- the rest ---- */

static enum status read_stream(const cJSON *root, struct api_request *r, struct err *e)
{
    enum status st = json_get_bool(root, "stream", &r->stream, e);
    const cJSON *options = json_member(root, "stream_options");
    if (st != STATUS_OK || !options)
        return st;
    if (!cJSON_IsObject(options))
        return err_set(e, STATUS_INVALID, "stream_options", "'stream_options' must be an object");
    st = json_get_bool(options, "include_usage", &r->include_usage, e);
    if (st != STATUS_OK)
        snprintf(e->param, sizeof e->param, "stream_options.include_usage");
    return st;
}

static enum status read_flags(const cJSON *root, struct api_request *r, struct err *e)
{
    bool skip_special = true;
    const struct {
        const char *key;
        bool *to;
    } flags[] = {
        {"ignore_eos", &r->engine.ignore_eos},
        {"include_stop_str_in_output", &r->engine.include_stop},
        {"skip_special_tokens", &skip_special},
        {"cache_prompt", &r->engine.cache_prompt},
        {"timings_per_token", &r->timings_per_token},
        {"return_tokens_as_token_ids", &r->tokens_as_ids},
    };
    r->engine.cache_prompt = true;
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        enum status st = json_get_bool(root, flags[i].key, flags[i].to, e);
        if (st != STATUS_OK)
            return st;
    }
    r->engine.keep_special = !skip_special;
    int64_t priority = 0;
    enum status st = json_get_string(root, "cache_salt", &r->engine.cache_salt, e);
    if (st == STATUS_OK)
        st = json_get_int(root, "priority", INT32_MIN, INT32_MAX, &priority, e);
    r->priority = (int)priority;
    if (st == STATUS_OK && r->engine.cache_salt && strlen(r->engine.cache_salt) > API_SALT_BYTES)
        st = err_set(e, STATUS_INVALID, "cache_salt", "'cache_salt' is longer than %d bytes",
                     API_SALT_BYTES);
    return st;
}

static enum status read_choices(const cJSON *root, struct api_request *r, struct err *e)
{
    int64_t n = 1;
    enum status st = json_get_int(root, "n", 1, LIMIT_CHOICES, &n, e);
    int64_t best_of = n;
    if (st == STATUS_OK && r->kind == API_COMPLETION)
        st = json_get_int(root, "best_of", 1, LIMIT_CHOICES, &best_of, e);
    if (st != STATUS_OK)
        return st;
    if (best_of < n)
        return err_set(e, STATUS_INVALID, "best_of", "'best_of' is smaller than 'n'");
    if (best_of > n && r->stream)
        return err_set(e, STATUS_INVALID, "best_of",
                       "'best_of' larger than 'n' cannot be streamed");
    r->n = (int)n;
    r->best_of = (int)best_of;
    return STATUS_OK;
}

static enum status refuse_template(const cJSON *root, struct err *e)
{
    if (json_member(root, "chat_template"))
        return err_set(e, STATUS_INVALID, "chat_template", "a request cannot bring a template");
    return STATUS_OK;
}

/* Of whom and of what; nothing is said. */
static enum status read_embedding(const struct api_context *ctx, struct api_request *r,
                                  struct err *e)
{
    enum status st = api_adapter_resolve(ctx, r->root, &r->model, r->engine.adapters,
                                         &r->engine.adapter_count, e);
    if (st == STATUS_OK)
        st = read_flags(r->root, r, e);
    return st == STATUS_OK ? api_embeddings_read(ctx, r, e) : st;
}

static enum status read_all(const struct api_context *ctx, struct api_request *r, struct err *e)
{
    const cJSON *root = r->root;
    enum status st =
        api_adapter_resolve(ctx, root, &r->model, r->engine.adapters, &r->engine.adapter_count, e);
    if (st == STATUS_OK)
        st = api_request_find_profile(ctx, r, e);
    if (st == STATUS_OK)
        st = read_stream(root, r, e);
    if (st == STATUS_OK)
        st = read_sampling(ctx, root, r, e);
    if (st == STATUS_OK)
        st = read_bias(ctx, root, r, e);
    if (st == STATUS_OK)
        st = read_stop(ctx, root, &r->engine, e);
    if (st == STATUS_OK)
        st = read_length(root, r, e);
    if (st == STATUS_OK)
        st = read_choices(root, r, e);
    if (st == STATUS_OK)
        st = read_flags(root, r, e);
    if (st == STATUS_OK)
        st = refuse_template(root, e);
    if (st == STATUS_OK)
        st = api_structured_read(root, &r->structured, e);
    if (st == STATUS_OK)
        st = is_chat(r) ? api_chat_read(root, r, e) : api_completion_read(ctx, root, r, e);
    if (st == STATUS_OK && r->prompt_count * r->best_of > API_SEQUENCES_MAX)
        st = err_set(e, STATUS_INVALID, r->best_of > r->n ? "best_of" : "n",
                     "the request asks for more than %d sequences", API_SEQUENCES_MAX);
    return st;
}

/* Errors speak of the fields that the client sent. */
static enum status rename_fields(const struct api_request *r, enum status st, struct err *e)
{
    if (st != STATUS_OK && r->kind == API_RESPONSES)
        api_responses_rename(e);
    else if (st != STATUS_OK && r->kind == API_MESSAGES)
        api_messages_rename(e);
    return st;
}

/* r->root becomes the chat that it means. */
static enum status to_chat(struct api_request *r, struct err *e)
{
    cJSON *chat = NULL;
    enum status st = r->kind == API_RESPONSES
                         ? api_responses_to_chat(r->root, &chat, &r->repeated, e)
                     : r->kind == API_MESSAGES ? api_messages_to_chat(r->root, true, &chat, e)
                                               : STATUS_OK;
    if (!chat)
        return st;
    cJSON_Delete(r->root);
    r->root = chat;
    return st;
}

enum status api_request_parse(enum api_kind kind, const struct api_context *ctx, const char *body,
                              size_t n, struct api_request *out, struct err *e)
{
    struct api_request r = {.kind = kind};
    enum status st = json_parse(body, n, &json_default_limits, &r.root, e);
    if (st == STATUS_OK && !cJSON_IsObject(r.root))
        st = err_set(e, STATUS_INVALID, NULL, "the request body must be a JSON object");
    if (st == STATUS_OK)
        st = to_chat(&r, e);
    if (st == STATUS_OK)
        st = kind == API_EMBEDDING ? read_embedding(ctx, &r, e)
                                   : rename_fields(&r, read_all(ctx, &r, e), e);
    if (st != STATUS_OK) {
        api_request_deinit(&r);
        return st;
    }
    *out = r;
    return STATUS_OK;
}

const char *api_request_prompt_field(enum api_kind kind)
{
    static const char *const fields[] = {
        [API_CHAT] = "messages",     [API_COMPLETION] = "prompt", [API_RESPONSES] = "input",
        [API_MESSAGES] = "messages", [API_EMBEDDING] = "input",
    };
    return fields[kind];
}

#define END_TOKENS 16 /* enough for a tag that is no token of its own, and a line break */

/* A prompt may open a thought itself: the template's own end does, or the message that is to be
 * continued. */
static enum status look_for_thought(struct api_request *r, const struct engine_text *text,
                                    struct err *e)
{
    if (!is_chat(r) || !engine_text_thinking(text, &r->think_open, &r->think_close))
        return STATUS_OK;
    if (r->continue_final) {
        const cJSON *messages = cJSON_GetObjectItemCaseSensitive(r->vars, "messages");
        const cJSON *last = cJSON_GetArrayItem(messages, cJSON_GetArraySize(messages) - 1);
        const cJSON *content = cJSON_GetObjectItemCaseSensitive(last, "content");
        const char *s = cJSON_IsString(content) ? content->valuestring : "";
        s += strspn(s, " \t\r\n");
        r->thinking =
            strncmp(s, r->think_open, strlen(r->think_open)) == 0 && !strstr(s, r->think_close);
        return STATUS_OK;
    }
    if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(r->vars, "add_generation_prompt")))
        return STATUS_OK;
    const struct token_buf *t = &r->prompts[0].tokens;
    size_t n = t->count < END_TOKENS ? t->count : END_TOKENS;
    struct strbuf end;
    strbuf_init(&end, LIMIT_TEMPLATE_OUTPUT_BYTES);
    enum status st = engine_text_decode(text, t->ids + t->count - n, n, true, &end, e);
    r->thinking = st == STATUS_OK && reasoning_opens(r->think_open, strbuf_str(&end), end.len);
    strbuf_deinit(&end);
    return st;
}

static enum status tokenise(struct api_request *r, const struct engine_text *text, struct err *e)
{
    if (is_chat(r) && r->profile && r->profile->text)
        text = r->profile->text;
    for (int i = 0; i < r->prompt_count; i++) {
        struct api_prompt *p = &r->prompts[i];
        enum status st = STATUS_OK;
        if (is_chat(r))
            st = r->continue_final ? engine_text_chat_continue(text, r->vars, &p->tokens, e)
                                   : engine_text_chat(text, r->vars, &p->tokens, e);
        else if (p->text)
            st = engine_text_encode(text, p->text, strlen(p->text), true, true, &p->tokens, e);
        if (st != STATUS_OK)
            return st;
        const char *param = api_request_prompt_field(r->kind);
        if (p->tokens.count == 0)
            return err_set(e, STATUS_INVALID, param, "'%s' holds no token", param);
        if (p->tokens.count > INT32_MAX)
            return err_set(e, STATUS_CONTEXT_LENGTH, param, "the prompt is too long");
    }
    if (r->tools.list)
        r->tool_form = engine_text_tools(text);
    return look_for_thought(r, text, e);
}

enum status api_request_tokenise(struct api_request *r, const struct engine_text *text,
                                 struct err *e)
{
    return rename_fields(r, tokenise(r, text, e), e);
}

/* A grammar holds for what is said, not for the thought before it. */
static enum status constrain(struct api_request *r, struct engine *engine, struct err *e)
{
    if (r->tools.forced) { /* calls are what was asked for, whatever form text should have */
        char *calls;
        enum status st = api_tools_grammar(&r->tools, r->tool_form, &calls, e);
        if (st != STATUS_OK)
            return st;
        api_structured_deinit(&r->structured);
        r->structured = (struct api_structured){
            .asked = true,
            .ask = {.kind = ENGINE_GRAMMAR_TOOLS, .text = calls, .text_len = strlen(calls)},
            .text = calls,
            .field = "tools",
        };
    }
    r->structured.ask.think_open = r->think_open;
    r->structured.ask.think_close = r->think_open ? r->think_close : NULL;
    r->structured.ask.thinking = r->thinking;
    return api_structured_compile(&r->structured, engine, &r->engine.grammar, e);
}

enum status api_request_constrain(struct api_request *r, struct engine *engine, struct err *e)
{
    return rename_fields(r, constrain(r, engine, e), e);
}

void api_request_deinit(struct api_request *r)
{
    mem_free(r->repeated);
    for (int i = 0; i < r->prompt_count; i++)
        mem_free(r->prompts[i].tokens.ids);
    mem_free(r->prompts);
    mem_free(r->bias);
    api_structured_deinit(&r->structured);
    engine_grammar_release(r->engine.grammar);
    cJSON_Delete(r->vars);
    cJSON_Delete(r->root);
    profile_unref(r->profile);
    *r = (struct api_request){0};
}
