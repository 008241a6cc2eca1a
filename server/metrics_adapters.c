#include "server/metrics_adapters.h"

#include <stddef.h>
#include <string.h>

#include "server/metrics_text.h"

/* What only grows. A name's series is the sum over its generations: a new one goes on with the
 * counts of those it replaced once these are gone. */
static const struct counter {
    const char *name;
    const char *help;
    size_t offset; /* of a uint64_t */
} counters[] = {
#define COUNT(field, name, help)                                                                   \
    {                                                                                              \
        "chorus_adapter_" name "_total", help, offsetof(struct engine_adapter_info, field)         \
    }
    COUNT(requests, "requests", "Requests that named the adapter."),
    COUNT(hits, "hits", "Requests that found it on the device."),
    COUNT(misses, "misses", "Requests that had to wait for it."),
    COUNT(evictions, "evictions", "Times it left the device for another one."),
    COUNT(disk_reads, "disk_reads", "Times it was read again from disk."),
    COUNT(tokens_in, "tokens_in", "Prompt tokens of requests that ended."),
    COUNT(tokens_out, "tokens_out", "Generated tokens of requests that ended."),
#undef COUNT
};

/* Seconds and what they are summed over. */
static const struct summary {
    const char *name;
    const char *help;
    size_t sum;   /* offset of a double */
    size_t count; /* of a uint64_t */
} summaries[] = {
#define SUMMARY(sum, count, name, help)                                                            \
    {                                                                                              \
        "chorus_adapter_" name "_seconds", help, offsetof(struct engine_adapter_info, sum),        \
            offsetof(struct engine_adapter_info, count)                                            \
    }
    SUMMARY(load_s, loads, "load", "Loads from disk or host memory to the device."),
    SUMMARY(queue_s, scheduled, "queue", "From a request's submission to its first step."),
    SUMMARY(first_token_s, first_tokens, "first_token",
            "From a request's submission to its first token."),
#undef SUMMARY
};

static uint64_t count_at(const struct engine_adapter_info *a, size_t offset)
{
    uint64_t n;
    memcpy(&n, (const char *)a + offset, sizeof n);
    return n;
}

static double seconds_at(const struct engine_adapter_info *a, size_t offset)
{
    double s;
    memcpy(&s, (const char *)a + offset, sizeof s);
    return s;
}

int metrics_adapters_next(const struct engine_adapter_info *list, int count, int i)
{
    int k = i + 1;
    while (k < count && strcmp(list[k].name, list[i].name) == 0)
        k++;
    return k;
}

/* Names nobody asked for yet have no series: a server may have thousands of them. */
static bool is_told(const struct engine_adapter_info *list, int begin, int end)
{
    uint64_t requests = 0;
    for (int k = begin; k < end; k++)
        requests += list[k].requests;
    return requests > 0;
}

static void write_counter(const struct counter *c, const struct engine_adapter_info *list,
                          int count, struct strbuf *b)
{
    metrics_text_head(b, c->name, "counter", c->help);
    for (int i = 0, end; i < count; i = end) {
        uint64_t sum = 0;
        end = metrics_adapters_next(list, count, i);
        for (int k = i; k < end; k++)
            sum += count_at(&list[k], c->offset);
        if (is_told(list, i, end))
            strbuf_printf(b, "%s{adapter=\"%s\"} %llu\n", c->name, list[i].name,
                          (unsigned long long)sum);
    }
}

static void write_summary(const struct summary *s, const struct engine_adapter_info *list,
                          int count, struct strbuf *b)
{
    metrics_text_head(b, s->name, "summary", s->help);
    for (int i = 0, end; i < count; i = end) {
        double sum = 0;
        uint64_t n = 0;
        end = metrics_adapters_next(list, count, i);
        for (int k = i; k < end; k++) {
            sum += seconds_at(&list[k], s->sum);
            n += count_at(&list[k], s->count);
        }
        if (is_told(list, i, end))
            strbuf_printf(b, "%s_sum{adapter=\"%s\"} %.9g\n%s_count{adapter=\"%s\"} %llu\n",
                          s->name, list[i].name, sum, s->name, list[i].name, (unsigned long long)n);
    }
}

void metrics_adapters_write(const struct engine_adapter_info *list, int count, struct strbuf *b)
{
    static const char *const tiers[] = {"disk", "host", "device"};
    int in_tier[3] = {0};
    metrics_text_head(b, "chorus_adapter_tier", "gauge",
                      "Where an adapter's bytes are nearest to the device.");
    for (int i = 0; i < count; i++) {
        if (list[i].draining || list[i].part_count)
            continue;
        in_tier[list[i].tier]++;
        strbuf_printf(b, "chorus_adapter_tier{adapter=\"%s\",tier=\"%s\"} 1\n", list[i].name,
                      tiers[list[i].tier]);
    }
    metrics_text_head(b, "chorus_adapters", "gauge", "Adapters that are served, by tier.");
    for (int t = 0; t < 3; t++)
        strbuf_printf(b, "chorus_adapters{tier=\"%s\"} %d\n", tiers[t], in_tier[t]);
    int draining = 0;
    for (int i = 0; i < count; i++)
        draining += list[i].draining;
    metrics_text_value(b, "chorus_adapters_draining", "gauge",
                       "Generations without a name that have users.", draining);
    metrics_text_head(b, "chorus_adapter_users", "gauge", "Requests that hold an adapter.");
    for (int i = 0, end; i < count; i = end) {
        int users = 0;
        end = metrics_adapters_next(list, count, i);
        for (int k = i; k < end; k++)
            users += list[k].users;
        if (users)
            strbuf_printf(b, "chorus_adapter_users{adapter=\"%s\"} %d\n", list[i].name, users);
    }
    for (size_t i = 0; i < sizeof counters / sizeof counters[0]; i++)
        write_counter(&counters[i], list, count, b);
    for (size_t i = 0; i < sizeof summaries / sizeof summaries[0]; i++)
        write_summary(&summaries[i], list, count, b);
}
