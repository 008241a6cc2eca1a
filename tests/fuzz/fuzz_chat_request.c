/* fuzz_chat_request: any bytes as the body of a request that generates, in any of its forms. What
 * is accepted obeys the ranges that the engine is promised; what is refused has a status, a
 * sentence and a form. Input: a byte that picks the route and who speaks by default, then the body.
 */
#include "tests/api/fake_engine.h"

#include <math.h>

#include "server/api_adapter.h"
#include "server/api_error.h"
#include "server/api_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum status has_adapter(void *ctx, const char *name)
{
    (void)ctx;
    CHECK(api_adapter_is_name(name)); /* nothing else is ever looked up */
    bool known = strcmp(name, "elf") == 0 || strcmp(name, "a") == 0;
    return known ? STATUS_OK : STATUS_ADAPTER_NOT_FOUND;
}

static enum status adapter_at(void *ctx, int64_t index, char name[LIMIT_NAME_BYTES + 1])
{
    (void)ctx;
    CHECK(index >= 0);
    snprintf(name, LIMIT_NAME_BYTES + 1, "%s", index ? "a" : "elf");
    return index < 2 ? STATUS_OK : STATUS_ADAPTER_NOT_FOUND;
}

static void check_refusal(enum status st, const struct err *e)
{
    CHECK(e->code == st && e->msg[0] && utf8_is_valid(e->msg, strlen(e->msg)));
    CHECK(utf8_is_valid(e->param, strlen(e->param)));
    const struct api_error_kind *k = api_error_of(st);
    CHECK(k->http >= 400 && k->http < 500);
    struct strbuf b;
    strbuf_init(&b, 1 << 16);
    for (int i = 0; i < 2; i++) {
        cJSON *v = NULL;
        struct err why;
        strbuf_clear(&b);
        if (i)
            api_error_write_message(&b, k, e, "req_1");
        else
            api_error_write(&b, k, e);
        CHECK(json_parse(b.data, b.len, &json_default_limits, &v, &why) == STATUS_OK);
        cJSON_Delete(v);
    }
    strbuf_deinit(&b);
}

static void check_sampling(const struct sample_params *p)
{
    CHECK(p->temperature >= 0 && p->temperature <= 2);
    CHECK(p->top_p > 0 && p->top_p <= 1 && p->min_p >= 0 && p->min_p <= 1);
    CHECK(p->typical_p > 0 && p->typical_p <= 1 && p->top_k >= 0 && p->top_k <= LIMIT_TOP_K);
    CHECK(p->repetition_penalty > 0 && isfinite(p->repetition_penalty));
    CHECK(fabsf(p->presence_penalty) <= 2 && fabsf(p->frequency_penalty) <= 2);
    CHECK(p->logprobs >= -1 && p->logprobs <= LIMIT_TOP_LOGPROBS);
    CHECK(p->bias_count >= 0 && p->bias_count <= LIMIT_LOGIT_BIAS);
    for (int i = 0; i < p->bias_count; i++)
        CHECK(p->bias[i].token >= 0 && p->bias[i].token < FAKE_VOCAB &&
              fabsf(p->bias[i].bias) <= 100);
}

/* Members of an object. */
static void check_repeated(const char *members)
{
    struct strbuf b;
    cJSON *v = NULL;
    struct json_limits limits = json_default_limits;
    limits.members_max *= 2; /* what was left out is said */
    strbuf_init(&b, 1 << 26);
    strbuf_printf(&b, "{%s}", members);
    CHECK(json_parse(b.data, b.len, &limits, &v, NULL) == STATUS_OK);
    CHECK(cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(v, "tools")));
    cJSON_Delete(v);
    strbuf_deinit(&b);
}

static void check_accepted(struct api_request *r)
{
    const struct engine_request *q = &r->engine;
    check_sampling(&q->sampling);
    CHECK(r->n >= 1 && r->n <= LIMIT_CHOICES && r->best_of >= r->n && r->best_of <= LIMIT_CHOICES);
    CHECK(r->prompt_count >= 1 && r->prompt_count * r->best_of <= API_SEQUENCES_MAX);
    CHECK(q->max_tokens >= 0 && q->min_tokens >= 0 && r->model);
    CHECK(q->adapter_count >= 0 && q->adapter_count <= LIMIT_ADAPTERS_PER_REQUEST);
    for (int i = 0; i < q->adapter_count; i++)
        CHECK(has_adapter(NULL, q->adapters[i].name) == STATUS_OK &&
              isfinite(q->adapters[i].weight));
    CHECK(q->stop_count <= LIMIT_STOP_STRINGS && q->stop_token_count <= LIMIT_STOP_TOKENS);
    for (int i = 0; i < q->stop_count; i++)
        CHECK(q->stop[i].len >= 1 && q->stop[i].len <= LIMIT_STOP_BYTES);
    for (int i = 0; i < q->stop_token_count; i++)
        CHECK(q->stop_tokens[i] >= 0 && q->stop_tokens[i] < FAKE_VOCAB);
    if (r->kind == API_RESPONSES)
        check_repeated(r->repeated);
    struct engine_text text = {{0}};
    struct err e = {0};
    enum status st = api_request_tokenise(r, &text, &e);
    if (st != STATUS_OK) {
        check_refusal(st, &e);
        return;
    }
    for (int i = 0; i < r->prompt_count; i++) {
        CHECK(r->prompts[i].tokens.count >= 1);
        for (size_t k = 0; k < r->prompts[i].tokens.count; k++)
            CHECK(r->prompts[i].tokens.ids[k] >= 0 && r->prompts[i].tokens.ids[k] < FAKE_VOCAB);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    static const char *const names[] = {"base"};
    const struct api_context ctx = {
        .vocab = FAKE_VOCAB,
        .defaults = {.temperature = 1, .top_p = 1, .typical_p = 1, .repetition_penalty = 1},
        .base_names = names,
        .base_count = 1,
        .default_adapter = data[0] & 2 ? "elf" : NULL,
        .has_adapter = has_adapter,
        .adapter_at = adapter_at,
    };
    char *body = mem_alloc(size, 1); /* exactly as long as it is: reads beyond it are seen */
    memcpy(body, data + 1, size - 1);
    struct api_request r;
    struct err e = {0};
    static const enum api_kind kinds[] = {API_COMPLETION, API_CHAT, API_RESPONSES, API_MESSAGES};
    enum api_kind kind = kinds[(data[0] & 1) | ((data[0] >> 1) & 2)];
    enum status st = api_request_parse(kind, &ctx, body, size - 1, &r, &e);
    mem_free(body);
    if (st != STATUS_OK) {
        check_refusal(st, &e);
        return 0;
    }
    check_accepted(&r);
    api_request_deinit(&r);
    return 0;
}
