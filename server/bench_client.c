#include "server/bench_client.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/json.h"

static void read_usage(struct bench_client *c, const char *data, size_t n)
{
    cJSON *v = NULL;
    if (json_parse(data, n, &json_default_limits, &v, NULL) != STATUS_OK)
        return;
    const cJSON *usage = json_member(v, "usage");
    int64_t value;
    if (cJSON_IsObject(usage)) {
        if (json_int64(json_member(usage, "completion_tokens"), &value))
            c->completion_tokens = (int)value;
        if (json_int64(json_member(usage, "prompt_tokens"), &value))
            c->prompt_tokens = (int)value;
    }
    cJSON_Delete(v);
}

/* True when the chunk's delta carries text. A full parse of each chunk would make the client the
 * bottleneck, so this looks for a non-empty "content" or "text" member by its spelling. */
static bool has_text(const char *data)
{
    static const char *const keys[] = {"\"content\":", "\"text\":", "\"reasoning_content\":"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *at = strstr(data, keys[i]);
        if (!at)
            continue;
        at += strlen(keys[i]);
        at += *at == ' ';
        if (at[0] == '"' && at[1] != '"')
            return true;
    }
    return false;
}

static void on_event(void *ctx, const char *data, size_t n)
{
    struct bench_client *c = ctx;
    if (n == 6 && memcmp(data, "[DONE]", 6) == 0)
        return;
    int64_t now = clock_now_ns();
    if (strncmp(data, "{\"error\"", 8) == 0) {
        c->failed = true;
        snprintf(c->why, sizeof c->why, "%.150s", data);
    }
    if (strstr(data, "\"usage\":{") || strstr(data, "\"usage\": {"))
        read_usage(c, data, n);
    if (!has_text(data))
        return;
    if (c->pieces > 0 && c->on_gap)
        c->on_gap(c->on_gap_ctx, now - c->last_ns);
    if (c->pieces == 0)
        c->first_ns = now;
    c->last_ns = now;
    c->pieces++;
}

void bench_client_init(struct bench_client *c)
{
    *c = (struct bench_client){0};
    client_init(&c->http);
}

void bench_client_deinit(struct bench_client *c)
{
    client_deinit(&c->http);
}

enum status bench_client_start(struct bench_client *c, const struct client_target *t,
                               const char *path, const char *body, const char *key, struct err *e)
{
    c->failed = false;
    c->first_ns = c->last_ns = 0;
    c->pieces = c->completion_tokens = c->prompt_tokens = 0;
    c->http.on_event = on_event;
    c->http.ctx = c;
    return client_start(&c->http, t, "POST", path, body, key, e);
}

bool bench_client_is_done(struct bench_client *c)
{
    if (c->http.state != CLIENT_DONE)
        return false;
    if (c->http.failure != CLIENT_FINE && !c->failed) {
        c->failed = true;
        snprintf(c->why, sizeof c->why, "%s", c->http.why);
    }
    return true;
}
