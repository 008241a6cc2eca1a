#include "server/api_embeddings.h"

#include <string.h>

#include "engine/base/json.h"
#include "server/api_prompts.h"

static enum status read_format(const cJSON *root, struct api_embedding *out, struct err *e)
{
    const char *format = NULL;
    enum status st = json_get_string(root, "encoding_format", &format, e);
    if (st != STATUS_OK || !format)
        return st;
    out->base64 = strcmp(format, "base64") == 0;
    if (!out->base64 && strcmp(format, "float") != 0)
        return err_set(e, STATUS_INVALID, "encoding_format",
                       "'encoding_format' must be 'float' or 'base64'");
    return STATUS_OK;
}

static enum status refuse_empty(const struct api_request *r, struct err *e)
{
    for (int i = 0; i < r->prompt_count; i++)
        if (r->prompts[i].text && r->prompts[i].text[0] == '\0')
            return err_set(e, STATUS_INVALID, "input", "'input' holds an empty string, number %d",
                           i);
    return STATUS_OK;
}

enum status api_embeddings_read(const struct api_context *ctx, struct api_request *r, struct err *e)
{
    const struct engine_info *info = ctx->info;
    if (info->embed_width == 0)
        return err_set(e, STATUS_UNSUPPORTED, "model", "this model makes no embeddings: %s",
                       info->embed_why);
    int64_t dimensions = info->embed_width;
    r->n = r->best_of = 1;
    r->engine.embed = true;
    enum status st = read_format(r->root, &r->embedding, e);
    if (st == STATUS_OK)
        st = json_get_int(r->root, "dimensions", 1, info->embed_width, &dimensions, e);
    if (st == STATUS_OK)
        st = api_prompts_read(ctx, "input", LIMIT_EMBEDDINGS, r, e);
    if (st == STATUS_OK)
        st = refuse_empty(r, e);
    r->embedding.dimensions = (int)dimensions;
    r->embedding.normalize = info->embed_normalize;
    return st;
}

enum status api_embeddings_check(const struct api_context *ctx, const struct api_request *r,
                                 struct err *e)
{
    for (int i = 0; i < r->prompt_count; i++)
        if (r->prompts[i].tokens.count > (size_t)ctx->info->ctx_max)
            return err_set(
                e, STATUS_CONTEXT_LENGTH, "input",
                "This model's maximum context length is %d tokens, but input %d has %zu.",
                ctx->info->ctx_max, i, r->prompts[i].tokens.count);
    return STATUS_OK;
}
