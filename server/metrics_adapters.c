#include "server/metrics_adapters.h"

#include <stddef.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/limits.h"

#define NAMES_BYTES_MAX ((size_t)LIMIT_ADAPTERS * (LIMIT_NAME_BYTES + 1))

enum kind { UINT64, DOUBLE };

/* What only grows. A name's series is the sum over its generations: a new one goes on with the
 * counts of those it replaced once these are gone. */
static const struct counter {
    const char *name;
    const char *help;
    enum kind kind;
    size_t offset;
} counters[] = {
#define COUNT(field, name, help)                                                                   \
    {                                                                                              \
        "chorus_adapter_" name "_total", help, UINT64, offsetof(struct engine_adapter_info, field) \
    }
#define SECONDS(field, name, help)                                                                 \
    {                                                                                              \
        "chorus_adapter_" name "_total", help, DOUBLE, offsetof(struct engine_adapter_info, field) \
    }
    COUNT(requests, "requests", "Requests that named the adapter."),
    COUNT(hits, "hits", "Requests that found it on the device."),
    COUNT(misses, "misses", "Requests that had to wait for it."),
    COUNT(loads, "loads", "Times it was brought to the device."),
    COUNT(evictions, "evictions", "Times it left the device for another one."),
    COUNT(disk_reads, "disk_reads", "Times it was read again from disk."),
    SECONDS(load_s, "load_seconds", "Time from disk or host memory to the device, summed."),
    SECONDS(queue_s, "queue_seconds", "From submission to the first step, summed over requests."),
    SECONDS(first_token_s, "first_token_seconds",
            "From submission to the first token, summed over requests."),
    COUNT(tokens_in, "tokens_in", "Prompt tokens."),
    COUNT(tokens_out, "tokens_out", "Generated tokens."),
#undef COUNT
#undef SECONDS
};

static void head(struct strbuf *b, const char *name, const char *type, const char *help)
{
    strbuf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static double value_of(const struct engine_adapter_info *a, const struct counter *c)
{
    const void *at = (const char *)a + c->offset;
    uint64_t n;
    double d;
    if (c->kind == DOUBLE) {
        memcpy(&d, at, sizeof d);
        return d;
    }
    memcpy(&n, at, sizeof n);
    return (double)n;
}

/* The first of the next name. */
static int next_name(const struct engine_adapter_info *list, int count, int i)
{
    int k = i + 1;
    while (k < count && strcmp(list[k].name, list[i].name) == 0)
        k++;
    return k;
}

/* Names nobody asked for yet have no series: a server may have thousands of them. */
static void write_counter(const struct counter *c, const struct engine_adapter_info *list,
                          int count, struct strbuf *b)
{
    head(b, c->name, "counter", c->help);
    for (int i = 0, end; i < count; i = end) {
        double sum = 0;
        uint64_t requests = 0;
        end = next_name(list, count, i);
        for (int k = i; k < end; k++) {
            sum += value_of(&list[k], c);
            requests += list[k].requests;
        }
        if (requests)
            strbuf_printf(b, "%s{adapter=\"%s\"} %.17g\n", c->name, list[i].name, sum);
    }
}

void metrics_adapters_write(const struct engine_adapter_info *list, int count, struct strbuf *b)
{
    static const char *const tiers[] = {"disk", "host", "device"};
    int in_tier[3] = {0};
    head(b, "chorus_adapter_tier", "gauge", "Where an adapter's bytes are nearest to the device.");
    for (int i = 0; i < count; i++) {
        if (list[i].draining || list[i].part_count)
            continue;
        in_tier[list[i].tier]++;
        strbuf_printf(b, "chorus_adapter_tier{adapter=\"%s\",tier=\"%s\"} 1\n", list[i].name,
                      tiers[list[i].tier]);
    }
    head(b, "chorus_adapters", "gauge", "Adapters that are served, by tier.");
    for (int t = 0; t < 3; t++)
        strbuf_printf(b, "chorus_adapters{tier=\"%s\"} %d\n", tiers[t], in_tier[t]);
    int draining = 0;
    for (int i = 0; i < count; i++)
        draining += list[i].draining;
    head(b, "chorus_adapters_draining", "gauge", "Generations without a name that have users.");
    strbuf_printf(b, "chorus_adapters_draining %d\n", draining);
    head(b, "chorus_adapter_users", "gauge", "Requests that hold an adapter.");
    for (int i = 0, end; i < count; i = end) {
        int users = 0;
        end = next_name(list, count, i);
        for (int k = i; k < end; k++)
            users += list[k].users;
        if (users)
            strbuf_printf(b, "chorus_adapter_users{adapter=\"%s\"} %d\n", list[i].name, users);
    }
    for (size_t i = 0; i < sizeof counters / sizeof counters[0]; i++)
        write_counter(&counters[i], list, count, b);
}

/* ---- gateways ---- */

void metrics_loras_deinit(struct metrics_loras *l)
{
    strbuf_deinit(&l->running);
    strbuf_deinit(&l->waiting);
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
                         const struct strbuf *queued, struct metrics_loras *l)
{
    struct strbuf running;
    struct strbuf waiting;
    strbuf_init(&running, NAMES_BYTES_MAX);
    strbuf_init(&waiting, 2 * NAMES_BYTES_MAX);
    for (int i = 0, end; i < count; i = end) {
        int users = 0;
        bool on_device = list[i].part_count > 0;
        end = next_name(list, count, i);
        for (int k = i; k < end; k++) {
            users += list[k].users;
            on_device |= list[k].users > 0 && list[k].resident;
        }
        if (users)
            put_name(on_device ? &running : &waiting, list[i].name);
    }
    if (queued->len > 0)
        put_name(&waiting, strbuf_str(queued));
    bool changed = replace(&l->running, &running);
    changed |= replace(&l->waiting, &waiting);
    if (changed || l->changed_unix_s == 0)
        l->changed_unix_s = clock_unix_s();
}

void metrics_gateway_write(const struct engine_stats *s, const struct engine_adapter_info *list,
                           int count, const struct strbuf *queued, int slots,
                           struct metrics_loras *loras, struct strbuf *b)
{
    double used = s->kv_pages_total ? (double)s->kv_pages_used / s->kv_pages_total : 0;
    update_loras(list, count, queued, loras);
    head(b, "vllm:num_requests_waiting", "gauge", "Requests that wait for the engine.");
    strbuf_printf(b, "vllm:num_requests_waiting %d\n", s->waiting);
    head(b, "vllm:num_requests_running", "gauge", "Requests in the engine's batch.");
    strbuf_printf(b, "vllm:num_requests_running %d\n", s->running);
    head(b, "vllm:kv_cache_usage_perc", "gauge", "Share of KV pages in use, 0 to 1.");
    strbuf_printf(b, "vllm:kv_cache_usage_perc %.9g\n", used);
    head(b, "vllm:cache_config_info", "gauge", "Size of the KV cache.");
    strbuf_printf(b, "vllm:cache_config_info{block_size=\"%d\",num_gpu_blocks=\"%d\"} 1\n",
                  LIMIT_KV_PAGE_TOKENS, s->kv_pages_total);
    head(b, "vllm:lora_requests_info", "gauge", "Adapters with requests; when they last changed.");
    strbuf_printf(b,
                  "vllm:lora_requests_info{max_lora=\"%d\",running_lora_adapters=\"%s\","
                  "waiting_lora_adapters=\"%s\"} %lld\n",
                  slots, strbuf_str(&loras->running), strbuf_str(&loras->waiting),
                  (long long)loras->changed_unix_s);
}
