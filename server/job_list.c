#include "server/job_list.h"

#include <string.h>

#include "engine/base/clock.h"
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

/* A request that is still being read has no choices: it is told as one that waits. */
static void put_sequence(const struct choice *c, const struct job *j, int64_t now_ns,
                         struct strbuf *b)
{
    const struct engine_request *r = &j->request.engine;
    const char *state = !c || !c->open ? "waiting" : c->decoded > 0 ? "decode" : "prefill";
    double age = j->call ? (double)(now_ns - j->call->begin_ns) / 1e9
                         : (double)(clock_unix_s() - j->created);
    const char *id = j->call ? j->call->request_id : j->id;
    strbuf_puts(b, "{\"request_id\":");
    strbuf_json_string(b, id, strlen(id));
    strbuf_printf(b,
                  ",\"state\":\"%s\",\"age_s\":%.3f,\"tokens_in\":%zu,\"tokens_out\":%d,"
                  "\"max_tokens\":",
                  state, age, c ? j->request.prompts[c->prompt].tokens.count : 0,
                  c ? c->decoded : 0);
    if (c && r->max_tokens > 0)
        strbuf_printf(b, "%d", r->max_tokens);
    else
        strbuf_puts(b, "null");
    strbuf_puts(b, ",\"adapters\":[");
    for (int i = 0; c && i < r->adapter_count; i++) {
        strbuf_puts(b, i ? ",{\"name\":" : "{\"name\":");
        strbuf_json_string(b, r->adapters[i].name, strlen(r->adapters[i].name));
        strbuf_printf(b, ",\"weight\":%.7g}", (double)r->adapters[i].weight);
    }
    strbuf_puts(b, "]}");
}

int job_list_sequences(const struct server *s, int64_t now_ns, int max, struct strbuf *b)
{
    int count = 0;
    for (const struct job *j = s->jobs; j; j = j->next) {
        bool read = !j->in_pool && j->parsed && j->choice_count > 0;
        if (!read && j->over)
            continue;
        for (int i = 0; i < (read ? j->choice_count : 1); i++) {
            const struct choice *c = read ? &j->choices[i] : NULL;
            if (c && !c->open && c->fair.place != FAIR_WAITS)
                continue;
            if (count++ >= max)
                continue;
            strbuf_puts(b, count > 1 ? "," : "");
            put_sequence(c, j, now_ns, b);
        }
    }
    return count > max ? count - max : 0;
}
