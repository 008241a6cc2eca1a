#include "server/job.h"

#include "engine/base/mem.h"
#include "server/server_state.h"

static void free_parts(struct choice *c)
{
    for (size_t i = 0; i < c->call_count; i++) {
        mem_free(c->calls[i].name);
        strbuf_deinit(&c->calls[i].arguments);
    }
    mem_free(c->calls);
    for (size_t i = 0; i < c->item_count; i++)
        strbuf_deinit(&c->items[i].text);
    mem_free(c->items);
    strbuf_deinit(&c->said);
    if (c->parses)
        tool_parse_deinit(&c->parse);
}

void job_free_choices(struct job *j)
{
    for (int i = 0; i < j->choice_count; i++) {
        strbuf_deinit(&j->choices[i].text);
        strbuf_deinit(&j->choices[i].thought);
        if (j->choices[i].splits)
            reasoning_deinit(&j->choices[i].reasoning);
        free_parts(&j->choices[i]);
        mem_free(j->choices[i].tokens);
        mem_free(j->choices[i].embedding);
    }
    mem_free(j->choices);
    j->choices = NULL;
    j->choice_count = j->lined_count = 0;
    j->uses_known = false;
}

static void free_job(struct job *j)
{
    struct server *s = j->server;
    if (j->prev)
        j->prev->next = j->next;
    else
        s->jobs = j->next;
    if (j->next)
        j->next->prev = j->prev;
    job_free_choices(j);
    if (j->parsed)
        api_request_deinit(&j->request);
    strbuf_deinit(&j->body);
    strbuf_deinit(&j->answer);
    mem_free(j);
    server_check_drained(s);
}

void job_free_if_ended(struct job *j)
{
    if (!j->call && !j->in_pool && j->open_count == 0)
        free_job(j);
}

void job_cancel(struct job *j)
{
    for (int i = 0; i < j->choice_count; i++) {
        struct choice *c = &j->choices[i];
        if (c->open)
            engine_cancel(j->server->engine, c->engine_id);
        else if (c->fair.place == FAIR_WAITS)
            fair_leave(&j->server->fair, &c->fair);
    }
}

bool job_holds(const struct job *j, uint64_t generation)
{
    bool found = false;
    for (int i = 0; j->open_count > 0 && i < j->request.engine.adapter_count; i++)
        found |= j->uses[i].generation == generation;
    return found;
}
