#include "server/live_json.h"

#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "server/job_list.h"
#include "server/server_state.h"
#include "server/version.h"

/* ---- small parts ---- */

static void put_string(struct strbuf *b, const char *key, const char *s)
{
    strbuf_printf(b, "\"%s\":", key);
    if (s)
        strbuf_json_string(b, s, strlen(s));
    else
        strbuf_puts(b, "null");
}

static const char *truth(bool v)
{
    return v ? "true" : "false";
}

static double seconds(const struct server *s, int64_t ns)
{
    return (double)(ns - s->live.started_ns) / 1e9;
}

static void put_kv(struct strbuf *b, const struct engine_stats *t)
{
    strbuf_printf(b,
                  "\"kv\":{\"page_tokens\":%d,\"pages\":%d,\"used\":%d,\"cached\":%d,"
                  "\"free\":%d}",
                  LIMIT_KV_PAGE_TOKENS, t->kv_pages_total, t->kv_pages_used, t->kv_pages_cached,
                  t->kv_pages_total - t->kv_pages_used - t->kv_pages_cached);
}

static void put_rates(const struct server *s, int64_t now_ns, const struct engine_stats *t,
                      struct strbuf *b)
{
    struct rates_now r;
    rates_tell(&s->live.rates, now_ns, t, &r);
    strbuf_printf(b,
                  "\"rates\":{\"tokens_in\":%.6g,\"tokens_out\":%.6g,\"steps\":%.6g,"
                  "\"rows\":%.6g}",
                  r.tokens_in, r.tokens_out, r.steps, r.rows);
}

/* ---- parts of the status ---- */

static void put_model(const struct server *s, const struct engine_live *l, struct strbuf *b)
{
    const struct engine_info *i = &s->info;
    strbuf_puts(b, "\"model\":{");
    put_string(b, "name", s->base_names[0]);
    strbuf_putc(b, ',');
    put_string(b, "path", i->model_dir);
    strbuf_putc(b, ',');
    put_string(b, "arch", i->arch);
    strbuf_printf(b, ",\"parameters\":%lld,", (long long)i->parameters);
    put_string(b, "weights", l->facts.weights);
    strbuf_putc(b, ',');
    put_string(b, "head", l->facts.head);
    strbuf_putc(b, ',');
    put_string(b, "kv_cache_type", l->facts.kv);
    strbuf_printf(b, ",\"context\":%d,\"max_sequences\":%d},\"device\":{", i->ctx_max, i->seqs_max);
    put_string(b, "backend", i->backend);
    strbuf_putc(b, ',');
    put_string(b, "name", l->facts.device[0] ? l->facts.device : NULL);
    strbuf_putc(b, '}');
}

static void put_memory(const struct engine_live *l, struct strbuf *b)
{
    strbuf_printf(b, "\"memory\":{\"device_bytes\":%zu,\"parts\":[", l->total_bytes);
    for (int i = 0; i < l->part_count; i++) {
        const struct engine_memory_part *p = &l->memory[i];
        strbuf_puts(b, i ? ",{" : "{");
        put_string(b, "name", p->name);
        strbuf_printf(b, ",\"on_host\":%s,\"bytes\":%zu,\"used\":%zu}", truth(p->on_host), p->bytes,
                      p->used);
    }
    strbuf_puts(b, "]}");
}

void live_json_adapters(const struct server *s, const struct engine_adapter_info *list, int count,
                        struct strbuf *b)
{
    static const char *const tiers[] = {"disk", "host", "device"};
    int in_tier[3] = {0};
    for (int i = 0; i < count; i++) {
        if (!list[i].draining && !list[i].part_count)
            in_tier[list[i].tier]++;
    }
    strbuf_printf(b, "\"adapters\":{\"slots\":%d,\"device\":%d,\"host\":%d,\"disk\":%d,\"list\":[",
                  s->opt->adapter_slots, in_tier[ENGINE_TIER_DEVICE], in_tier[ENGINE_TIER_HOST],
                  in_tier[ENGINE_TIER_DISK]);
    for (int i = 0; i < count; i++) {
        const struct engine_adapter_info *a = &list[i];
        strbuf_puts(b, i ? ",{" : "{");
        put_string(b, "name", a->name);
        strbuf_printf(b, ",\"generation\":%llu,", (unsigned long long)a->generation);
        put_string(b, "tier", tiers[a->tier]);
        strbuf_printf(b,
                      ",\"blend\":%s,\"moving\":%s,\"draining\":%s,\"pinned\":%s,\"rank\":%d,"
                      "\"bytes\":%zu,\"users\":%d,\"requests\":%llu,\"tokens_out\":%llu,"
                      "\"last_used\":",
                      truth(a->part_count > 0), truth(a->loading), truth(a->draining),
                      truth(a->pinned), a->rank_max, a->bytes, a->users,
                      (unsigned long long)a->requests, (unsigned long long)a->tokens_out);
        if (a->last_used_unix_s)
            strbuf_printf(b, "%lld}", (long long)a->last_used_unix_s);
        else
            strbuf_puts(b, "null}");
    }
    strbuf_puts(b, "]}");
}

static void put_counters(const struct engine_stats *t, struct strbuf *b)
{
    const struct {
        const char *name;
        uint64_t value;
    } counters[] = {
        {"steps", t->steps},
        {"rows", t->rows},
        {"tokens_in", t->tokens_in},
        {"tokens_cached", t->tokens_cached},
        {"tokens_out", t->tokens_out},
        {"requests_accepted", t->requests_accepted},
        {"requests_done", t->requests_done},
        {"requests_failed", t->requests_failed},
        {"requests_cancelled", t->requests_cancelled},
        {"preemptions", t->preemptions},
    };
    strbuf_puts(b, "\"counters\":{");
    for (size_t i = 0; i < sizeof counters / sizeof counters[0]; i++)
        strbuf_printf(b, i ? ",\"%s\":%llu" : "\"%s\":%llu", counters[i].name,
                      (unsigned long long)counters[i].value);
    strbuf_putc(b, '}');
}

static void put_engine(struct server *s, int64_t now_ns, const struct strbuf *adapters,
                       struct strbuf *b)
{
    struct engine_live live;
    struct engine_stats stats;
    engine_get_live(s->engine, &live);
    engine_get_stats(s->engine, &stats);
    strbuf_putc(b, ',');
    put_model(s, &live, b);
    strbuf_putc(b, ',');
    put_memory(&live, b);
    strbuf_putc(b, ',');
    put_kv(b, &stats);
    strbuf_printf(b, ",\"running\":%d,\"waiting\":%d,\"sequences\":[", stats.running,
                  stats.waiting + s->fair.waiting);
    int more = job_list_sequences(s, now_ns, LIMIT_SEQS, b);
    strbuf_printf(b, "],\"more_sequences\":%d,", more);
    strbuf_append(b, strbuf_str(adapters), adapters->len);
    strbuf_putc(b, ',');
    put_rates(s, now_ns, &stats, b);
    strbuf_putc(b, ',');
    put_counters(&stats, b);
}

static const char *phase_of(struct server *s)
{
    struct engine_stats stats;
    if (s->phase == SERVER_LOADING)
        return "loading";
    if (s->phase != SERVER_READY)
        return "draining";
    engine_get_stats(s->engine, &stats);
    return server_is_stalled(s, &stats) ? "stalled" : "ok";
}

bool live_json_status(struct server *s, int64_t now_ns, const struct strbuf *adapters,
                      struct strbuf *b)
{
    strbuf_puts(b, "{\"object\":\"status\",");
    put_string(b, "status", phase_of(s));
    strbuf_printf(b,
                  ",\"version\":\"" CHORUS_VERSION "\",\"started\":%lld,\"uptime_s\":%.3f,"
                  "\"connections\":%d,\"watchers\":%d",
                  (long long)s->started_unix_s, seconds(s, now_ns), http_connection_count(s->http),
                  s->live.watcher_count);
    if (adapters)
        put_engine(s, now_ns, adapters, b);
    strbuf_putc(b, '}');
    return !b->failed;
}

/* ---- steps ---- */

static void put_step(const struct server *s, const struct engine_step *p, struct strbuf *b)
{
    strbuf_printf(b,
                  "{\"step\":%llu,\"at\":%.6f,\"ms\":%.4g,\"sequences\":%d,\"rows\":%d,"
                  "\"prefill_rows\":%d,\"decode_rows\":%d,\"tokens_out\":%d,\"kv_used\":%d,"
                  "\"waiting\":%d,\"base_rows\":%d,\"adapters\":[",
                  (unsigned long long)p->number, seconds(s, p->end_ns), (double)p->took_ns / 1e6,
                  p->seqs, p->rows, p->prefill_rows, p->decode_rows, p->tokens_out,
                  p->kv_pages_used, p->waiting, p->base_rows);
    for (int i = 0; i < p->party_count; i++) {
        strbuf_puts(b, i ? ",{" : "{");
        put_string(b, "name", p->parties[i].name);
        strbuf_printf(b, ",\"generation\":%llu,\"rows\":%d}",
                      (unsigned long long)p->parties[i].generation, p->parties[i].rows);
    }
    strbuf_printf(b, "],\"more_adapters\":%d}", p->more_parties);
}

void live_json_steps(struct server *s, int64_t now_ns, const struct engine_step *steps, int count,
                     struct strbuf *b)
{
    struct engine_stats stats;
    engine_get_stats(s->engine, &stats);
    strbuf_printf(b, "{\"now\":%.6f,\"running\":%d,\"waiting\":%d,", seconds(s, now_ns),
                  stats.running, stats.waiting + s->fair.waiting);
    put_kv(b, &stats);
    strbuf_putc(b, ',');
    put_rates(s, now_ns, &stats, b);
    strbuf_puts(b, ",\"steps\":[");
    for (int i = 0; i < count; i++) {
        if (i)
            strbuf_putc(b, ',');
        put_step(s, &steps[i], b);
    }
    strbuf_puts(b, "]}");
}
