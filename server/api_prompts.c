#include "server/api_prompts.h"

#include "engine/base/json.h"
#include "engine/base/mem.h"

static enum status bad_prompt(const char *key, struct err *e)
{
    return err_set(e, STATUS_INVALID, key,
                   "'%s' must be a string, a list of strings, a list of token ids or a list of "
                   "those",
                   key);
}

static enum status read_ids(const struct api_context *ctx, const char *key, const cJSON *list,
                            struct api_prompt *p, struct err *e)
{
    size_t count = (size_t)cJSON_GetArraySize(list);
    if (count == 0)
        return err_set(e, STATUS_INVALID, key, "'%s' holds no token", key);
    p->tokens.ids = mem_alloc(count, sizeof *p->tokens.ids);
    if (!p->tokens.ids)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    p->tokens.cap = count;
    for (const cJSON *v = list->child; v; v = v->next) {
        int64_t id;
        if (!cJSON_IsNumber(v))
            return bad_prompt(key, e);
        if (!json_int64(v, &id) || id < 0 || id >= ctx->vocab)
            return err_set(e, STATUS_INVALID, key, "'%s' must hold ids from 0 to %d", key,
                           ctx->vocab - 1);
        p->tokens.ids[p->tokens.count++] = (int32_t)id;
    }
    return STATUS_OK;
}

static enum status read_prompt(const struct api_context *ctx, const char *key, const cJSON *v,
                               struct api_prompt *p, struct err *e)
{
    if (cJSON_IsArray(v))
        return read_ids(ctx, key, v, p, e);
    if (!cJSON_IsString(v))
        return bad_prompt(key, e);
    p->text = v->valuestring;
    return STATUS_OK;
}

enum status api_prompts_read(const struct api_context *ctx, const char *key, int max,
                             struct api_request *r, struct err *e)
{
    const cJSON *v = json_member(r->root, key);
    if (!v)
        return err_set(e, STATUS_INVALID, key, "'%s' is missing", key);
    bool several = cJSON_IsArray(v) && (cJSON_IsString(v->child) || cJSON_IsArray(v->child));
    int count = several ? cJSON_GetArraySize(v) : 1;
    if (count > max)
        return err_set(e, STATUS_INVALID, key, "'%s' holds more than %d texts", key, max);
    r->prompts = mem_calloc((size_t)count, sizeof *r->prompts);
    if (!r->prompts)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    r->prompt_count = count;
    if (!several)
        return read_prompt(ctx, key, v, &r->prompts[0], e);
    enum status st = STATUS_OK;
    int i = 0;
    for (const cJSON *p = v->child; p && st == STATUS_OK; p = p->next)
        st = read_prompt(ctx, key, p, &r->prompts[i++], e);
    return st;
}
