#include "server/adapter_json.h"

#include <string.h>

static void put_string(struct strbuf *b, const char *key, const char *s)
{
    strbuf_printf(b, ",\"%s\":", key);
    strbuf_json_string(b, s, strlen(s));
}

static const char *truth(bool v)
{
    return v ? "true" : "false";
}

static void put_targets(struct strbuf *b, unsigned targets)
{
    int count = 0;
    strbuf_puts(b, ",\"targets\":[");
    for (int bit = 0; engine_adapter_target(bit); bit++) {
        if (targets >> bit & 1)
            strbuf_printf(b, count++ ? ",\"%s\"" : "\"%s\"", engine_adapter_target(bit));
    }
    strbuf_putc(b, ']');
}

void adapter_json_put_alora(struct strbuf *b, const int32_t *tokens, int count)
{
    strbuf_puts(b, ",\"alora_invocation_tokens\":");
    for (int i = 0; i < count; i++)
        strbuf_printf(b, i ? ",%d" : "[%d", tokens[i]);
    strbuf_puts(b, count ? "]" : "null");
}

static void put_parts(struct strbuf *b, const struct engine_adapter_info *a)
{
    strbuf_puts(b, ",\"blend\":");
    for (int i = 0; i < a->part_count; i++) {
        strbuf_puts(b, i ? ",{\"name\":" : "[{\"name\":");
        strbuf_json_string(b, a->parts[i].name, strlen(a->parts[i].name));
        strbuf_printf(b, ",\"weight\":%.7g}", (double)a->parts[i].weight);
    }
    strbuf_puts(b, a->part_count ? "]" : "null");
}

static void put_counters(struct strbuf *b, const struct engine_adapter_info *a)
{
    strbuf_printf(b,
                  ",\"requests\":%llu,\"hits\":%llu,\"misses\":%llu,\"loads\":%llu,"
                  "\"evictions\":%llu,\"disk_reads\":%llu,\"tokens_in\":%llu,\"tokens_out\":%llu",
                  (unsigned long long)a->requests, (unsigned long long)a->hits,
                  (unsigned long long)a->misses, (unsigned long long)a->loads,
                  (unsigned long long)a->evictions, (unsigned long long)a->disk_reads,
                  (unsigned long long)a->tokens_in, (unsigned long long)a->tokens_out);
}

void adapter_json_put(struct strbuf *b, const struct engine_adapter_info *a, const char *source,
                      bool profile)
{
    static const char *const tiers[] = {"disk", "host", "device"};
    strbuf_puts(b, "\"name\":");
    strbuf_json_string(b, a->name, strlen(a->name));
    put_string(b, "status", a->draining ? "draining" : "ready");
    strbuf_printf(b, ",\"generation\":%llu", (unsigned long long)a->generation);
    put_string(b, "sha256", a->sha256);
    put_string(b, "path", a->path);
    put_string(b, "source", source);
    strbuf_printf(b, ",\"profile\":%s", truth(profile));
    strbuf_printf(
        b, ",\"rank\":%d,\"modules\":%d,\"scale_min\":%.9g,\"scale_max\":%.9g,\"bytes\":%zu",
        a->rank_max, a->module_count, (double)a->scale_min, (double)a->scale_max, a->bytes);
    put_targets(b, a->targets);
    adapter_json_put_alora(b, a->alora_tokens, a->alora_token_count);
    strbuf_printf(b, ",\"quant\":\"%s\",\"quant_error\":%.4g",
                  engine_adapter_quant_names[a->quant ? a->quant : ENGINE_QUANT_NONE],
                  (double)a->quant_error);
    put_parts(b, a);
    put_string(b, "tier", tiers[a->tier]);
    strbuf_printf(b,
                  ",\"moving\":%s,\"pinned\":%s,\"share\":%d,\"users\":%d,\"draining\":%s,"
                  "\"last_used\":",
                  truth(a->loading), truth(a->pinned), a->share, a->users, truth(a->draining));
    if (a->last_used_unix_s)
        strbuf_printf(b, "%lld", (long long)a->last_used_unix_s);
    else
        strbuf_puts(b, "null");
    put_counters(b, a);
}

void adapter_json_put_report(struct strbuf *b, const struct engine_adapter_report *r,
                             const struct strbuf *error)
{
    bool ok = r->status == STATUS_OK;
    strbuf_printf(b, "\"ok\":%s,\"error\":", truth(ok));
    strbuf_append(b, strbuf_str(error), error->len);
    strbuf_printf(b, ",\"unmatched\":%d", r->unmatched);
    if (ok) {
        put_string(b, "sha256", r->sha256);
        strbuf_printf(b,
                      ",\"rank\":%d,\"modules\":%d,\"scale_min\":%.9g,\"scale_max\":%.9g,"
                      "\"bytes\":%zu,\"zero_modules\":%d,\"no_op\":%s",
                      r->rank_max, r->module_count, (double)r->scale_min, (double)r->scale_max,
                      r->bytes, r->zero_modules, truth(r->no_op));
        put_targets(b, r->targets);
        adapter_json_put_alora(b, r->alora_tokens, r->alora_token_count);
    }
    strbuf_puts(b, ",\"tensors\":[");
    for (int i = 0; i < r->tensor_count; i++) {
        const struct engine_adapter_tensor *t = &r->tensors[i];
        strbuf_puts(b, i ? ",{\"name\":" : "{\"name\":");
        strbuf_json_string(b, t->name, strlen(t->name));
        put_string(b, "shape", t->shape);
        put_string(b, "dtype", t->dtype);
        strbuf_printf(b, ",\"matched\":%s", truth(t->why[0] == '\0'));
        put_string(b, "why", t->why);
        strbuf_putc(b, '}');
    }
    strbuf_putc(b, ']');
}
