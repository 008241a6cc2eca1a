#include "server/api_list.h"

#include <string.h>

#include "engine/base/mem.h"
#include "server/api_adapter.h"
#include "server/api_error.h"
#include "server/job_list.h"
#include "server/listing.h"
#include "server/metrics_adapters.h"
#include "server/metrics_process.h"
#include "server/openapi.h"
#include "server/server_state.h"
#include "server/version.h"

#define LIST_BYTES_MAX (64u << 20)

static const char metrics_type[] = "text/plain; version=0.0.4; charset=utf-8";

static void put_string(struct strbuf *b, const char *s)
{
    strbuf_json_string(b, s, strlen(s));
}

static void put_model(struct strbuf *b, const struct server *s, const char *id,
                      const struct engine_adapter_info *adapter)
{
    strbuf_puts(b, "{\"id\":");
    put_string(b, id);
    strbuf_printf(b, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"chorus\",\"root\":",
                  (long long)s->started_unix_s);
    if (adapter && !adapter->path[0])
        strbuf_puts(b, "null"); /* a blend */
    else
        put_string(b, adapter ? adapter->path : s->info.model_dir);
    strbuf_puts(b, ",\"parent\":");
    if (adapter)
        put_string(b, s->base_names[0]);
    else
        strbuf_puts(b, "null");
    strbuf_printf(b, ",\"max_model_len\":%d", s->info.ctx_max);
    if (adapter)
        strbuf_printf(b, ",\"adapter_generation\":%llu", (unsigned long long)adapter->generation);
    strbuf_putc(b, '}');
}

static void write_models(struct listing *l)
{
    struct server *s = l->server;
    struct strbuf *b = &l->body;
    strbuf_puts(b, "{\"object\":\"list\",\"data\":[");
    for (int i = 0; i < s->api.base_count; i++) {
        if (i)
            strbuf_putc(b, ',');
        put_model(b, s, s->base_names[i], NULL);
    }
    for (int i = 0; i < l->count; i++) {
        strbuf_putc(b, ',');
        put_model(b, s, l->list[i].name, &l->list[i]);
    }
    strbuf_puts(b, "]}");
}

void api_list_models(struct call *c, const char *tail)
{
    static const struct listing_kind kind = {.write = write_models};
    (void)tail;
    listing_begin(c, &kind);
}

static int hex(char ch)
{
    const char *digits = "0123456789abcdef";
    char lower = (ch >= 'A' && ch <= 'F') ? (char)(ch - 'A' + 'a') : ch;
    const char *at = lower ? strchr(digits, lower) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Percent escapes of a path were checked to be whole (http_head.h). False: too long. */
static bool decode(const char *s, char *out, size_t size)
{
    size_t n = 0;
    for (; *s; s++) {
        if (n + 1 >= size)
            return false;
        if (*s == '%') {
            out[n++] = (char)(hex(s[1]) * 16 + hex(s[2]));
            s += 2;
        } else {
            out[n++] = *s;
        }
    }
    out[n] = '\0';
    return true;
}

void api_list_model(struct call *c, const char *tail)
{
    struct server *s = c->server;
    struct err e = {0};
    char id[512];
    const char *adapter = NULL;
    enum status st = STATUS_OK;
    if (!decode(tail, id, sizeof id))
        st = err_set(&e, STATUS_MODEL_NOT_FOUND, "model", "there is no model of that name");
    else
        st = api_adapter_of_model(&s->api, id, &adapter, &e);
    struct engine_adapter_info found;
    if (st == STATUS_OK && adapter) {
        st = engine_adapter_find(s->engine, adapter, &found);
        if (st == STATUS_ADAPTER_NOT_FOUND)
            err_set(&e, st, "model", "adapter '%.64s' does not exist", adapter);
    }
    if (st != STATUS_OK) {
        server_answer_error(c, api_error_of(st), &e);
    } else {
        struct strbuf b;
        strbuf_init(&b, LIST_BYTES_MAX);
        put_model(&b, s, id, adapter ? &found : NULL);
        server_answer_json(c, 200, &b);
    }
}

static int total_slots(const struct server *s)
{
    return s->opt->seats ? s->opt->seats : s->info.seqs_max;
}

/* The members of llama-server's answer that have a meaning here. */
void api_list_props(struct call *c, const char *tail)
{
    (void)tail;
    const struct server *s = c->server;
    const struct sample_params *p = &s->info.defaults;
    struct strbuf b;
    strbuf_init(&b, LIST_BYTES_MAX);
    strbuf_printf(&b,
                  "{\"default_generation_settings\":{\"n_ctx\":%d,\"params\":{\"temperature\":%.7g,"
                  "\"top_k\":%d,\"top_p\":%.7g,\"min_p\":%.7g,\"typical_p\":%.7g,"
                  "\"repeat_penalty\":%.7g,\"presence_penalty\":%.7g,\"frequency_penalty\":%.7g,"
                  "\"n_predict\":-1}},\"total_slots\":%d,\"model_alias\":",
                  s->info.ctx_max, (double)p->temperature, p->top_k, (double)p->top_p,
                  (double)p->min_p, (double)p->typical_p, (double)p->repetition_penalty,
                  (double)p->presence_penalty, (double)p->frequency_penalty, total_slots(s));
    put_string(&b, s->base_names[0]);
    strbuf_puts(&b, ",\"model_path\":");
    put_string(&b, s->info.model_dir);
    strbuf_puts(&b, ",\"modalities\":{\"vision\":false,\"audio\":false},"
                    "\"build_info\":\"chorus " CHORUS_VERSION "\"}");
    server_answer_json(c, 200, &b);
}

/* llama-server's list: a slot for each answer that is being made, then those that are free. */
void api_list_slots(struct call *c, const char *tail)
{
    (void)tail;
    const struct server *s = c->server;
    struct strbuf b;
    strbuf_init(&b, LIST_BYTES_MAX);
    strbuf_putc(&b, '[');
    int count = job_list_slots(s, &b), all = total_slots(s);
    for (int i = count; i < all; i++)
        strbuf_printf(&b,
                      "%s{\"id\":%d,\"n_ctx\":%d,\"speculative\":false,"
                      "\"is_processing\":false}",
                      i ? "," : "", i, s->info.ctx_max);
    strbuf_putc(&b, ']');
    server_answer_json(c, 200, &b);
}

void api_list_version(struct call *c, const char *tail)
{
    (void)tail;
    struct strbuf b;
    strbuf_init(&b, 256);
    strbuf_puts(&b, "{\"version\":\"" CHORUS_VERSION "\"}");
    server_answer_json(c, 200, &b);
}

void api_list_health(struct call *c, const char *tail)
{
    (void)tail;
    struct server *s = c->server;
    const char *status = "ok";
    if (s->phase == SERVER_LOADING) {
        status = "loading";
    } else if (s->phase != SERVER_READY) {
        status = "draining";
    } else {
        struct engine_stats stats;
        engine_get_stats(s->engine, &stats);
        if (server_is_stalled(s, &stats))
            status = "stalled";
    }
    struct strbuf b;
    strbuf_init(&b, 256);
    strbuf_printf(&b, "{\"status\":\"%s\"}", status);
    server_answer_json(c, strcmp(status, "ok") == 0 ? 200 : 503, &b);
}

static void write_adapters(struct listing *l)
{
    metrics_adapters_write(l->list, l->count, &l->body);
}

static void put_server_metrics(struct server *s, struct strbuf *b)
{
    metrics_process_info(s->info.backend, s->base_names[0], b);
    metrics_process_write(b);
    metrics_write(&s->metrics, http_connection_count(s->http), b);
}

static void answer_metrics(struct listing *l)
{
    struct server *s = l->server;
    struct engine_stats stats;
    struct strbuf queued;
    struct strbuf b;
    strbuf_init(&b, LIST_BYTES_MAX);
    strbuf_init(&queued, LIST_BYTES_MAX);
    put_server_metrics(s, &b);
    engine_get_stats(s->engine, &stats);
    stats.waiting += s->fair.waiting;
    metrics_engine_write(&stats, &b);
    strbuf_append(&b, strbuf_str(&l->body), l->body.len);
    job_list_queued(s, &queued);
    metrics_gateway_write(&stats, l->list, l->count, &queued, s->opt->adapter_slots, &s->gateway,
                          &b);
    strbuf_deinit(&queued);
    http_answer(l->call->x, 200, metrics_type, &b);
}

void api_list_metrics(struct call *c, const char *tail)
{
    static const struct listing_kind kind = {true, write_adapters, answer_metrics};
    (void)tail;
    struct server *s = c->server;
    struct strbuf b;
    if (s->engine) {
        listing_begin(c, &kind);
        return;
    }
    strbuf_init(&b, LIST_BYTES_MAX);
    put_server_metrics(s, &b);
    http_answer(c->x, 200, metrics_type, &b);
}

void api_list_openapi(struct call *c, const char *tail)
{
    (void)tail;
    struct strbuf b;
    strbuf_init(&b, LIST_BYTES_MAX);
    strbuf_append(&b, openapi_text, openapi_bytes());
    server_answer_json(c, 200, &b);
}
