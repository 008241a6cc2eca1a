#include "server/answer.h"

#include <math.h>
#include <string.h>

#include "engine/base/utf8.h"

static void put_string(struct strbuf *b, const char *s)
{
    strbuf_json_string(b, s, strlen(s));
}

/* JSON has no infinities; -9999 stands for "impossible", as in OpenAI's API. */
static void put_logprob(struct strbuf *b, float v)
{
    if (isfinite(v))
        strbuf_printf(b, "%.9g", (double)v);
    else
        strbuf_puts(b, "-9999.0");
}

void answer_adapters(struct strbuf *b, const struct engine_adapter_use *uses, int count)
{
    strbuf_putc(b, '[');
    for (int i = 0; i < count; i++) {
        strbuf_puts(b, i ? ",{\"name\":" : "{\"name\":");
        put_string(b, uses[i].name);
        strbuf_printf(b, ",\"generation\":%llu,\"weight\":%.7g",
                      (unsigned long long)uses[i].generation, (double)uses[i].weight);
        if (uses[i].activated && uses[i].active_from >= 0)
            strbuf_printf(b, ",\"active_from\":%d", uses[i].active_from);
        else if (uses[i].activated)
            strbuf_puts(b, ",\"active_from\":null");
        strbuf_putc(b, '}');
    }
    strbuf_putc(b, ']');
}

void answer_begin(struct strbuf *b, const struct answer_head *h, bool chunk, bool adapter)
{
    const char *object = h->kind == API_COMPLETION ? "text_completion"
                         : chunk                   ? "chat.completion.chunk"
                                                   : "chat.completion";
    strbuf_puts(b, "{\"id\":");
    put_string(b, h->id);
    strbuf_puts(b, ",\"object\":");
    put_string(b, object);
    strbuf_printf(b, ",\"created\":%lld,\"model\":", (long long)h->created);
    put_string(b, h->model);
    strbuf_puts(b, ",\"system_fingerprint\":");
    put_string(b, h->fingerprint);
    if (adapter) {
        strbuf_puts(b, ",\"adapter\":");
        answer_adapters(b, h->adapters, h->adapter_count);
    }
}

/* ---- log-probabilities ---- */

static const char *token_bytes(const struct answer_head *h, int32_t token, size_t *n)
{
    const char *s = engine_text_token(h->text, token, n);
    if (!s)
        *n = 0;
    return s ? s : "";
}

size_t answer_token_chars(const struct engine_text *text, int32_t token, bool keep_special)
{
    size_t n = 0;
    bool hidden = !keep_special && engine_text_is_special(text, token);
    const char *s = hidden ? NULL : engine_text_token(text, token, &n);
    size_t chars = 0;
    for (size_t i = 0; s && i < n; i++)
        chars += ((unsigned char)s[i] & 0xC0) != 0x80;
    return chars;
}

/* A token as a JSON string. In chat answers `bytes` stands beside it, so U+FFFD may replace what is
 * no text; in completions it is a key and must tell such tokens apart. */
static void put_token(struct strbuf *b, const struct answer_head *h, int32_t token)
{
    if (h->tokens_as_ids) {
        strbuf_printf(b, "\"token_id:%d\"", (int)token);
        return;
    }
    size_t n;
    const char *s = token_bytes(h, token, &n);
    if (h->kind != API_COMPLETION || utf8_is_valid(s, n)) {
        strbuf_json_string(b, s, n);
        return;
    }
    strbuf_puts(b, "\"bytes:");
    for (size_t i = 0; i < n; i++)
        strbuf_printf(b, "\\\\x%02x", (unsigned char)s[i]);
    strbuf_putc(b, '"');
}

static void put_chat_token(struct strbuf *b, const struct answer_head *h, int32_t token,
                           float logprob)
{
    strbuf_puts(b, "{\"token\":");
    put_token(b, h, token);
    strbuf_puts(b, ",\"logprob\":");
    put_logprob(b, logprob);
    strbuf_puts(b, ",\"bytes\":[");
    size_t n;
    const char *s = token_bytes(h, token, &n);
    for (size_t i = 0; i < n; i++)
        strbuf_printf(b, i ? ",%u" : "%u", (unsigned char)s[i]);
    strbuf_putc(b, ']');
}

void answer_logprobs(struct strbuf *b, const struct answer_head *h,
                     const struct answer_token *tokens, size_t count)
{
    strbuf_putc(b, '[');
    for (size_t i = 0; i < count; i++) {
        const struct answer_token *t = &tokens[i];
        if (i)
            strbuf_putc(b, ',');
        put_chat_token(b, h, t->token, t->logprob);
        strbuf_puts(b, ",\"top_logprobs\":[");
        for (int k = 0; k < t->top_count; k++) {
            if (k)
                strbuf_putc(b, ',');
            put_chat_token(b, h, t->top[k].token, t->top[k].logprob);
            strbuf_putc(b, '}');
        }
        strbuf_puts(b, "]}");
    }
    strbuf_putc(b, ']');
}

static void put_chat_logprobs(struct strbuf *b, const struct answer_head *h,
                              const struct answer_choice *c)
{
    strbuf_puts(b, "{\"content\":");
    answer_logprobs(b, h, c->tokens, c->token_count);
    strbuf_puts(b, ",\"refusal\":null}");
}

/* The chosen token is always among the alternatives of a completion, even as one more. */
static void put_top_map(struct strbuf *b, const struct answer_head *h, const struct answer_token *t)
{
    bool chosen = false;
    strbuf_putc(b, '{');
    for (int k = 0; k < t->top_count; k++) {
        if (k)
            strbuf_putc(b, ',');
        put_token(b, h, t->top[k].token);
        strbuf_putc(b, ':');
        put_logprob(b, t->top[k].logprob);
        chosen |= t->top[k].token == t->token;
    }
    if (!chosen) {
        if (t->top_count)
            strbuf_putc(b, ',');
        put_token(b, h, t->token);
        strbuf_putc(b, ':');
        put_logprob(b, t->logprob);
    }
    strbuf_putc(b, '}');
}

static void put_text_logprobs(struct strbuf *b, const struct answer_head *h,
                              const struct answer_choice *c)
{
    strbuf_puts(b, "{\"tokens\":[");
    for (size_t i = 0; i < c->token_count; i++) {
        if (i)
            strbuf_putc(b, ',');
        put_token(b, h, c->tokens[i].token);
    }
    strbuf_puts(b, "],\"token_logprobs\":[");
    for (size_t i = 0; i < c->token_count; i++) {
        if (i)
            strbuf_putc(b, ',');
        if (c->tokens[i].has_logprob)
            put_logprob(b, c->tokens[i].logprob);
        else
            strbuf_puts(b, "null");
    }
    strbuf_puts(b, "],\"top_logprobs\":[");
    for (size_t i = 0; i < c->token_count; i++) {
        if (i)
            strbuf_putc(b, ',');
        if (c->tokens[i].has_logprob)
            put_top_map(b, h, &c->tokens[i]);
        else
            strbuf_puts(b, "null");
    }
    strbuf_puts(b, "],\"text_offset\":[");
    size_t offset = c->text_offset;
    for (size_t i = 0; i < c->token_count; i++) {
        strbuf_printf(b, i ? ",%zu" : "%zu", offset);
        offset += answer_token_chars(h->text, c->tokens[i].token, h->keep_special);
    }
    strbuf_puts(b, "]}");
}

static void put_logprobs(struct strbuf *b, const struct answer_head *h,
                         const struct answer_choice *c)
{
    strbuf_puts(b, ",\"logprobs\":");
    if (!c->has_logprobs)
        strbuf_puts(b, "null");
    else if (h->kind == API_CHAT)
        put_chat_logprobs(b, h, c);
    else
        put_text_logprobs(b, h, c);
}

static void put_finish(struct strbuf *b, const struct answer_choice *c)
{
    strbuf_puts(b, ",\"finish_reason\":");
    if (c->finish_reason)
        put_string(b, c->finish_reason);
    else
        strbuf_puts(b, "null");
    strbuf_putc(b, '}');
}

/* ---- choices ---- */

static void put_call(struct strbuf *b, const struct answer_call *c)
{
    if (c->id) {
        strbuf_puts(b, "\"id\":");
        put_string(b, c->id);
        strbuf_puts(b, ",\"type\":\"function\",\"function\":{\"name\":");
        put_string(b, c->name);
        strbuf_puts(b, ",\"arguments\":");
    } else {
        strbuf_puts(b, "\"function\":{\"arguments\":");
    }
    strbuf_json_string(b, c->arguments, c->arguments_len);
    strbuf_puts(b, "}}");
}

static void put_calls(struct strbuf *b, const struct answer_choice *c)
{
    strbuf_puts(b, ",\"tool_calls\":[");
    for (size_t i = 0; i < c->call_count; i++) {
        strbuf_puts(b, i ? ",{" : "{");
        put_call(b, &c->calls[i]);
    }
    strbuf_putc(b, ']');
}

void answer_choices(struct strbuf *b, const struct answer_head *h,
                    const struct answer_choice *choices, int count)
{
    strbuf_puts(b, ",\"choices\":[");
    for (int i = 0; i < count; i++) {
        const struct answer_choice *c = &choices[i];
        strbuf_printf(b, i ? ",{\"index\":%d" : "{\"index\":%d", c->index);
        if (h->kind == API_CHAT) {
            strbuf_puts(b, ",\"message\":{\"role\":\"assistant\",\"content\":");
            if (c->text_len == 0 && c->call_count > 0)
                strbuf_puts(b, "null");
            else
                strbuf_json_string(b, c->text, c->text_len);
            if (c->call_count > 0)
                put_calls(b, c);
            if (c->thought) {
                strbuf_puts(b, ",\"reasoning_content\":");
                strbuf_json_string(b, c->thought, c->thought_len);
            }
            strbuf_puts(b, ",\"refusal\":null}");
        } else {
            strbuf_puts(b, ",\"text\":");
            strbuf_json_string(b, c->text, c->text_len);
        }
        put_logprobs(b, h, c);
        put_finish(b, c);
    }
    strbuf_putc(b, ']');
}

void answer_delta(struct strbuf *b, const struct answer_head *h, const struct answer_choice *c,
                  bool role)
{
    strbuf_printf(b, ",\"choices\":[{\"index\":%d", c->index);
    if (h->kind == API_COMPLETION) {
        strbuf_puts(b, ",\"text\":");
        strbuf_json_string(b, c->text, c->text_len);
    } else if (role) {
        strbuf_puts(b, ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"}");
    } else if (c->finish_reason) {
        strbuf_puts(b, ",\"delta\":{}");
    } else if (c->call_count > 0) {
        strbuf_printf(b, ",\"delta\":{\"tool_calls\":[{\"index\":%zu,", c->call_index);
        put_call(b, c->calls);
        strbuf_puts(b, "]}");
    } else if (c->thought) {
        strbuf_puts(b, ",\"delta\":{\"reasoning_content\":");
        strbuf_json_string(b, c->thought, c->thought_len);
        strbuf_putc(b, '}');
    } else {
        strbuf_puts(b, ",\"delta\":{\"content\":");
        strbuf_json_string(b, c->text, c->text_len);
        strbuf_putc(b, '}');
    }
    put_logprobs(b, h, c);
    put_finish(b, c);
    strbuf_putc(b, ']');
}

void answer_no_choices(struct strbuf *b)
{
    strbuf_puts(b, ",\"choices\":[]");
}

/* ---- counts and times ---- */

void answer_usage(struct strbuf *b, const struct answer_usage *u)
{
    strbuf_printf(b,
                  ",\"usage\":{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,"
                  "\"total_tokens\":%lld,\"prompt_tokens_details\":{\"cached_tokens\":%lld},"
                  "\"completion_tokens_details\":{\"reasoning_tokens\":%lld}}",
                  (long long)u->prompt_tokens, (long long)u->completion_tokens,
                  (long long)(u->prompt_tokens + u->completion_tokens), (long long)u->cached_tokens,
                  (long long)u->reasoning_tokens);
}

static double per(double a, double b)
{
    return b > 0 ? a / b : 0;
}

/* llama-server's names: prompt_n is what was computed, cache_n what was not. */
void answer_timings(struct strbuf *b, const struct answer_usage *u)
{
    double prompt_n = (double)(u->prompt_tokens - u->cached_tokens);
    double predicted_n = (double)u->completion_tokens;
    strbuf_printf(b,
                  ",\"timings\":{\"cache_n\":%lld,\"prompt_n\":%.0f,\"prompt_ms\":%.3f,"
                  "\"prompt_per_token_ms\":%.3f,\"prompt_per_second\":%.3f,\"predicted_n\":%.0f,"
                  "\"predicted_ms\":%.3f,\"predicted_per_token_ms\":%.3f,"
                  "\"predicted_per_second\":%.3f}",
                  (long long)u->cached_tokens, prompt_n, u->prompt_ms, per(u->prompt_ms, prompt_n),
                  per(prompt_n * 1000, u->prompt_ms), predicted_n, u->predicted_ms,
                  per(u->predicted_ms, predicted_n), per(predicted_n * 1000, u->predicted_ms));
}
