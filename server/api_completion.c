#include "server/api_completion.h"

#include <string.h>

#include "engine/base/json.h"
#include "engine/base/mem.h"

static enum status bad_prompt(struct err *e)
{
    return err_set(e, STATUS_INVALID, "prompt",
                   "'prompt' must be a string, a list of strings, a list of token ids or a list of "
                   "those");
}

static enum status read_ids(const struct api_context *ctx, const cJSON *list, struct api_prompt *p,
                            struct err *e)
{
    size_t count = (size_t)cJSON_GetArraySize(list);
    if (count == 0)
        return err_set(e, STATUS_INVALID, "prompt", "'prompt' holds no token");
    p->tokens.ids = mem_alloc(count, sizeof *p->tokens.ids);
    if (!p->tokens.ids)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    p->tokens.cap = count;
    for (const cJSON *v = list->child; v; v = v->next) {
        int64_t id;
        if (!cJSON_IsNumber(v))
            return bad_prompt(e);
        if (!json_int64(v, &id) || id < 0 || id >= ctx->vocab)
            return err_set(e, STATUS_INVALID, "prompt", "'prompt' must hold ids from 0 to %d",
                           ctx->vocab - 1);
        p->tokens.ids[p->tokens.count++] = (int32_t)id;
    }
    return STATUS_OK;
}

static enum status read_prompt(const struct api_context *ctx, const cJSON *v, struct api_prompt *p,
                               struct err *e)
{
    if (cJSON_IsArray(v))
        return read_ids(ctx, v, p, e);
    if (!cJSON_IsString(v))
        return bad_prompt(e);
    p->text = v->valuestring;
    return STATUS_OK;
}

static enum status read_prompts(const struct api_context *ctx, const cJSON *root,
                                struct api_request *r, struct err *e)
{
    const cJSON *v = json_member(root, "prompt");
    if (!v)
        return err_set(e, STATUS_INVALID, "prompt", "'prompt' is missing");
    bool several = cJSON_IsArray(v) && (cJSON_IsString(v->child) || cJSON_IsArray(v->child));
    int count = several ? cJSON_GetArraySize(v) : 1;
    if (count > API_SEQUENCES_MAX)
        return err_set(e, STATUS_INVALID, "prompt", "'prompt' holds more than %d prompts",
                       API_SEQUENCES_MAX);
    r->prompts = mem_calloc((size_t)count, sizeof *r->prompts);
    if (!r->prompts)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    r->prompt_count = count;
    if (!several)
        return read_prompt(ctx, v, &r->prompts[0], e);
    enum status st = STATUS_OK;
    int i = 0;
    for (const cJSON *p = v->child; p && st == STATUS_OK; p = p->next)
        st = read_prompt(ctx, p, &r->prompts[i++], e);
    return st;
}

enum status api_completion_read(const struct api_context *ctx, const cJSON *root,
                                struct api_request *r, struct err *e)
{
    const char *suffix = NULL;
    int64_t logprobs = -1;
    enum status st = json_get_string(root, "suffix", &suffix, e);
    if (st == STATUS_OK && suffix && *suffix)
        st = err_set(e, STATUS_UNSUPPORTED, "suffix", "'suffix' is not supported");
    if (st == STATUS_OK)
        st = json_get_int(root, "logprobs", 0, 5, &logprobs, e);
    if (st == STATUS_OK)
        st = json_get_bool(root, "echo", &r->echo, e);
    if (st == STATUS_OK)
        st = read_prompts(ctx, root, r, e);
    if (st != STATUS_OK)
        return st;
    r->logprobs = logprobs >= 0;
    /* best_of ranks by the mean log-probability, so they are needed then too. */
    r->engine.sampling.logprobs = r->logprobs ? (int)logprobs : r->best_of > r->n ? 0 : -1;
    r->engine.prompt_logprobs = r->logprobs && r->echo;
    return STATUS_OK;
}
