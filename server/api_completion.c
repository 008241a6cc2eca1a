#include "server/api_completion.h"

#include "engine/base/json.h"
#include "server/api_prompts.h"

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
        st = api_prompts_read(ctx, "prompt", API_SEQUENCES_MAX, r, e);
    if (st != STATUS_OK)
        return st;
    r->logprobs = logprobs >= 0;
    /* best_of ranks by the mean log-probability, so they are needed then too. */
    r->engine.sampling.logprobs = r->logprobs ? (int)logprobs : r->best_of > r->n ? 0 : -1;
    r->engine.prompt_logprobs = r->logprobs && r->echo;
    return STATUS_OK;
}
