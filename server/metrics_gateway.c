#include "server/metrics_gateway.h"

#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/limits.h"
#include "server/metrics_adapters.h"
#include "server/metrics_text.h"

#define NAMES_BYTES_MAX ((size_t)LIMIT_ADAPTERS * (LIMIT_NAME_BYTES + 1))

void metrics_gateway_deinit(struct metrics_gateway *g)
{
    strbuf_deinit(&g->running);
    strbuf_deinit(&g->waiting);
}

static void put_name(struct strbuf *b, const char *name)
{
    if (b->len > 0)
        strbuf_putc(b, ',');
    strbuf_puts(b, name);
}

static bool same(const struct strbuf *a, const struct strbuf *b)
{
    return a->len == b->len && strcmp(strbuf_str(a), strbuf_str(b)) == 0;
}

/* Takes `now` for `kept`; true when they differ. */
static bool replace(struct strbuf *kept, struct strbuf *now)
{
    bool changed = !same(kept, now);
    strbuf_deinit(kept);
    *kept = *now;
    return changed;
}

static void update_loras(const struct engine_adapter_info *list, int count,
                         const struct strbuf *queued, struct metrics_gateway *g)
{
    struct strbuf running;
    struct strbuf waiting;
    strbuf_init(&running, NAMES_BYTES_MAX);
    strbuf_init(&waiting, 2 * NAMES_BYTES_MAX);
    for (int i = 0, end; i < count; i = end) {
        int users = 0;
        bool on_device = list[i].part_count > 0;
        end = metrics_adapters_next(list, count, i);
        for (int k = i; k < end; k++) {
            users += list[k].users;
            on_device |= list[k].users > 0 && list[k].resident;
        }
        if (users)
            put_name(on_device ? &running : &waiting, list[i].name);
    }
    if (queued->len > 0)
        put_name(&waiting, strbuf_str(queued));
    bool changed = replace(&g->running, &running);
    changed |= replace(&g->waiting, &waiting);
    if (changed || g->changed_unix_s == 0)
        g->changed_unix_s = clock_unix_s();
}

void metrics_gateway_write(const struct engine_stats *s, const struct engine_adapter_info *list,
                           int count, const struct strbuf *queued, int slots,
                           struct metrics_gateway *g, struct strbuf *b)
{
    double used = s->kv_pages_total ? (double)s->kv_pages_used / s->kv_pages_total : 0;
    update_loras(list, count, queued, g);
    metrics_text_value(b, "vllm:num_requests_waiting", "gauge",
                       "Requests that wait for the engine.", s->waiting);
    metrics_text_value(b, "vllm:num_requests_running", "gauge", "Requests in the engine's batch.",
                       s->running);
    metrics_text_value(b, "vllm:kv_cache_usage_perc", "gauge", "Share of KV pages in use, 0 to 1.",
                       used);
    metrics_text_head(b, "vllm:cache_config_info", "gauge", "Size of the KV cache.");
    strbuf_printf(b, "vllm:cache_config_info{block_size=\"%d\",num_gpu_blocks=\"%d\"} 1\n",
                  LIMIT_KV_PAGE_TOKENS, s->kv_pages_total);
    metrics_text_head(b, "vllm:lora_requests_info", "gauge",
                      "Adapters with requests; when they last changed.");
    strbuf_printf(b,
                  "vllm:lora_requests_info{max_lora=\"%d\",running_lora_adapters=\"%s\","
                  "waiting_lora_adapters=\"%s\"} %lld\n",
                  slots, strbuf_str(&g->running), strbuf_str(&g->waiting),
                  (long long)g->changed_unix_s);
}
