#include "server/job_list.h"

#include <string.h>

#include "server/job.h"
#include "server/server_state.h"

void job_list_users(const struct server *s, uint64_t generation, int max, struct strbuf *b)
{
    int count = 0;
    for (const struct job *j = s->jobs; j && count < max; j = j->next) {
        if (!j->call || !job_holds(j, generation))
            continue;
        if (count++)
            strbuf_putc(b, ',');
        strbuf_json_string(b, j->call->request_id, strlen(j->call->request_id));
    }
}

static bool waits_for(const struct job *j, const char *name)
{
    if (j->open_count > 0 || j->left_count == 0)
        return false;
    for (int i = 0; i < j->request.engine.adapter_count; i++) {
        if (strcmp(j->request.engine.adapters[i].name, name) == 0)
            return true;
    }
    return false;
}

void job_list_queued(const struct server *s, struct strbuf *b)
{
    for (const struct job *j = s->jobs; j; j = j->next) {
        for (int i = 0; j->left_count && i < j->request.engine.adapter_count; i++) {
            const char *name = j->request.engine.adapters[i].name;
            bool told = !waits_for(j, name);
            for (const struct job *k = s->jobs; k != j && !told; k = k->next)
                told = waits_for(k, name);
            if (!told)
                strbuf_printf(b, b->len ? ",%s" : "%s", name);
        }
    }
}

static void put_slot(const struct server *s, const struct choice *c, int id, struct strbuf *b)
{
    const struct job *j = c->job;
    const struct sample_params *p = &j->request.engine.sampling;
    int most = j->request.engine.max_tokens;
    strbuf_printf(b, "{\"id\":%d,\"id_task\":%llu,\"n_ctx\":%d,\"speculative\":false,", id,
                  (unsigned long long)c->engine_id, s->info.ctx_max);
    strbuf_puts(b, "\"is_processing\":true,\"request_id\":");
    strbuf_json_string(b, j->id, strlen(j->id));
    strbuf_puts(b, ",\"adapters\":[");
    for (int i = 0; i < j->request.engine.adapter_count; i++) {
        const char *name = j->request.engine.adapters[i].name;
        strbuf_puts(b, i ? "," : "");
        strbuf_json_string(b, name, strlen(name));
    }
    strbuf_printf(b,
                  "],\"params\":{\"temperature\":%.7g,\"top_k\":%d,\"top_p\":%.7g,"
                  "\"min_p\":%.7g,\"typical_p\":%.7g,\"repeat_penalty\":%.7g,"
                  "\"presence_penalty\":%.7g,\"frequency_penalty\":%.7g,\"n_predict\":%d,"
                  "\"stream\":%s},\"next_token\":[{\"has_next_token\":true,\"n_remain\":%d,"
                  "\"n_decoded\":%d}]}",
                  (double)p->temperature, p->top_k, (double)p->top_p, (double)p->min_p,
                  (double)p->typical_p, (double)p->repetition_penalty, (double)p->presence_penalty,
                  (double)p->frequency_penalty, most > 0 ? most : -1,
                  j->request.stream ? "true" : "false", most > 0 ? most - c->decoded : -1,
                  c->decoded);
}

int job_list_slots(const struct server *s, struct strbuf *b)
{
    int count = 0;
    for (const struct job *j = s->jobs; j; j = j->next) {
        for (int i = 0; i < j->choice_count; i++) {
            if (!j->choices[i].open)
                continue;
            strbuf_puts(b, count ? "," : "");
            put_slot(s, &j->choices[i], count++, b);
        }
    }
    return count;
}
