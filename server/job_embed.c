#include "server/job_embed.h"

#include <string.h>

#include "server/answer.h"
#include "server/embedding.h"
#include "server/job_write.h"
#include "server/server_state.h"

const struct form job_embed_form = {.id_prefix = "embd-"};

static void put_answer(struct job *j, struct strbuf *b)
{
    const struct api_embedding *form = &j->request.embedding;
    long long tokens = 0;
    strbuf_puts(b, "{\"object\":\"list\",\"data\":[");
    for (int i = 0; i < j->choice_count; i++) {
        struct choice *c = &j->choices[i];
        tokens += c->usage.prompt_tokens;
        strbuf_printf(b, "%s{\"object\":\"embedding\",\"index\":%d,\"embedding\":", i ? "," : "",
                      i);
        embedding_put(b, c->embedding, form->dimensions, form->base64);
        strbuf_putc(b, '}');
    }
    strbuf_puts(b, "],\"model\":");
    strbuf_json_string(b, j->request.model, strlen(j->request.model));
    strbuf_printf(b,
                  ",\"usage\":{\"prompt_tokens\":%lld,\"total_tokens\":%lld},\"adapter\":", tokens,
                  tokens);
    answer_adapters(b, j->uses, j->request.engine.adapter_count);
    strbuf_putc(b, '}');
}

/* Pool thread. Nothing of what it reads changes once every choice has ended. */
static void make_answer(void *ctx)
{
    struct job *j = ctx;
    j->status = STATUS_OK;
    for (int i = 0; i < j->choice_count && j->status == STATUS_OK; i++)
        if (!embedding_finish(&j->request.embedding, j->choices[i].embedding))
            j->status = err_set(&j->err, STATUS_INTERNAL, NULL,
                                "the embedding of input %d is not made of numbers", i);
    strbuf_init(&j->answer, JOB_BYTES_MAX);
    if (j->status == STATUS_OK)
        put_answer(j, &j->answer);
    if (j->answer.failed)
        j->status = err_set(&j->err, STATUS_NO_MEMORY, NULL, "out of memory");
}

static void on_made(void *ctx)
{
    struct job *j = ctx;
    j->in_pool = false;
    if (j->call && !j->over && j->status == STATUS_OK) {
        j->over = true;
        server_answer_json(j->call, 200, &j->answer);
    } else if (j->call && !j->over) {
        job_write_error(j, &j->err);
    }
    job_free_if_ended(j);
}

void job_embed_write(struct job *j)
{
    j->in_pool = loop_pool(j->server->loop, make_answer, on_made, j);
    if (!j->in_pool)
        job_write_no_memory(j);
}
