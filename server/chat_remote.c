/* chat_remote: a server answers: POST /v1/chat/completions, streamed. Works with any server that
 * speaks OpenAI's API as far as that goes. */
#include <stdio.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/json.h"
#include "engine/base/mem.h"
#include "server/chat.h"
#include "server/remote.h"
#include "server/text_table.h"

#define ANSWER_MS     10000
#define SILENCE_MS    120000 /* of a stream: a server pings each 15 s */
#define REQUEST_BYTES (16u << 20)
#define NAME_BYTES    256

struct chat_remote {
    struct chat_link link; /* first */
    struct remote remote;
    char model[NAME_BYTES];
};

/* An answer on its way. */
struct hearing {
    const struct chat_ask *ask;
    struct chat_answer *answer;
    int64_t first_ns;
    int64_t last_ns;
    int pieces;
    bool told_tokens;
    bool ended; /* by [DONE] */
    struct err err;
};

static void show(struct hearing *h, const cJSON *delta, const char *key, bool thought)
{
    const char *text = cJSON_GetStringValue(json_member(delta, key));
    if (!text || !*text)
        return;
    h->last_ns = clock_now_ns();
    if (h->pieces++ == 0)
        h->first_ns = h->last_ns;
    if (!thought)
        strbuf_puts(&h->answer->text, text);
    h->ask->show(h->ask->ctx, text, strlen(text), thought);
}

static void read_chunk(struct hearing *h, const cJSON *v)
{
    char said[ERR_MSG_MAX];
    int64_t tokens;
    const cJSON *error = json_member(v, "error"), *usage = json_member(v, "usage");
    const cJSON *choice = cJSON_GetArrayItem(json_member(v, "choices"), 0);
    if (cJSON_IsObject(error) && h->err.code == STATUS_OK) {
        const char *message = cJSON_GetStringValue(json_member(error, "message"));
        text_clean(message ? message : "the server failed", said, sizeof said);
        err_set(&h->err, STATUS_INTERNAL, NULL, "%s", said);
    }
    if (cJSON_IsObject(usage) && json_int64(json_member(usage, "completion_tokens"), &tokens) &&
        tokens >= 0 && tokens <= INT32_MAX) {
        h->answer->tokens = (int)tokens;
        h->told_tokens = true;
    }
    const cJSON *delta = cJSON_IsObject(choice) ? json_member(choice, "delta") : NULL;
    if (!cJSON_IsObject(delta))
        return;
    show(h, delta, "reasoning_content", true);
    show(h, delta, "content", false);
}

static void on_event(void *ctx, const char *data, size_t n)
{
    struct hearing *h = ctx;
    cJSON *v = NULL;
    if (strcmp(data, "[DONE]") == 0) {
        h->ended = true;
        return;
    }
    if (json_parse(data, n, &json_default_limits, &v, NULL) != STATUS_OK)
        return;
    if (cJSON_IsObject(v))
        read_chunk(h, v);
    cJSON_Delete(v);
}

static void put_voice(const struct chat_voice *v, struct strbuf *b)
{
    strbuf_puts(b, ",\"adapter\":[");
    for (int i = 0; i < v->count; i++)
        strbuf_printf(b, "%s{\"name\":\"%s\",\"weight\":%.7g}", i ? "," : "", v->uses[i].name,
                      (double)v->uses[i].weight);
    strbuf_puts(b, "]");
}

static bool write_body(const struct chat_remote *c, const struct chat_ask *ask, struct strbuf *b)
{
    char *messages = cJSON_PrintUnformatted(ask->messages);
    strbuf_puts(b, "{\"model\":");
    strbuf_json_string(b, c->model, strlen(c->model));
    put_voice(&ask->voice, b);
    strbuf_printf(b,
                  ",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
                  "\"max_tokens\":%lld",
                  (long long)ask->max_tokens);
    if (ask->temperature >= 0)
        strbuf_printf(b, ",\"temperature\":%.7g", ask->temperature);
    if (ask->top_p > 0)
        strbuf_printf(b, ",\"top_p\":%.7g", ask->top_p);
    if (ask->seed >= 0)
        strbuf_printf(b, ",\"seed\":%lld", (long long)ask->seed);
    strbuf_puts(b, ",\"messages\":");
    if (messages)
        strbuf_puts(b, messages);
    strbuf_putc(b, '}');
    cJSON_free(messages);
    return messages && !b->failed;
}

static void count(struct hearing *h, int64_t start_ns)
{
    struct chat_answer *a = h->answer;
    double s = (double)(h->last_ns - h->first_ns) / 1e9;
    if (!h->told_tokens)
        a->tokens = h->pieces;
    a->first_ms = h->first_ns ? (double)(h->first_ns - start_ns) / 1e6 : 0;
    a->tokens_per_s = s > 0 && a->tokens > 1 ? (a->tokens - 1) / s : 0;
}

static enum status say(struct chat_link *l, const struct chat_ask *ask, struct chat_answer *answer,
                       struct err *e)
{
    static const char path[] = "/v1/chat/completions";
    struct chat_remote *c = (struct chat_remote *)l;
    struct hearing h = {.ask = ask, .answer = answer};
    struct strbuf body;
    struct client http;
    client_init(&http);
    http.on_event = on_event;
    http.ctx = &h;
    strbuf_init(&body, REQUEST_BYTES);
    enum status st =
        write_body(c, ask, &body) ? STATUS_OK : err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    if (st == STATUS_OK)
        st = client_start(&http, &c->remote.target, "POST", path, strbuf_str(&body), c->remote.key,
                          e);
    if (st == STATUS_OK) {
        client_run(&http, SILENCE_MS, ask->stop);
        answer->cut = *ask->stop && http.failure == CLIENT_ABORTED;
        if (!answer->cut)
            st = remote_refusal(&c->remote, &http, path, e);
        count(&h, http.start_ns);
    }
    if (st == STATUS_OK && h.err.code != STATUS_OK) {
        *e = h.err;
        st = h.err.code;
    }
    if (st == STATUS_OK && !answer->cut && !h.ended)
        st = err_set(e, STATUS_BUSY, NULL, "the server at %s broke off", c->remote.target.text);
    strbuf_deinit(&body);
    client_deinit(&http);
    return st;
}

/* Models with a parent are adapters; the first without one is the base. */
static enum status read_models(struct chat_remote *c, struct strbuf *names, struct err *e)
{
    cJSON *v = NULL;
    const cJSON *m;
    enum status st = remote_ask(&c->remote, "/v1/models", NULL, ANSWER_MS, &v, NULL, e);
    if (st != STATUS_OK)
        return st;
    const cJSON *data = cJSON_IsObject(v) ? json_member(v, "data") : NULL;
    cJSON_ArrayForEach(m, data)
    {
        const char *id = cJSON_IsObject(m) ? cJSON_GetStringValue(json_member(m, "id")) : NULL;
        if (!id)
            continue;
        if (json_member(m, "parent")) {
            if (names)
                strbuf_printf(names, "%s\n", id);
        } else if (!c->model[0]) {
            snprintf(c->model, sizeof c->model, "%s", id);
        }
    }
    cJSON_Delete(v);
    return c->model[0] ? STATUS_OK
                       : err_set(e, STATUS_BUSY, "url",
                                 "what answers at %s is no chorus server: it has no model",
                                 c->remote.target.text);
}

static enum status voices(struct chat_link *l, struct strbuf *names, struct err *e)
{
    return read_models((struct chat_remote *)l, names, e);
}

static void close_link(struct chat_link *l)
{
    mem_free(l);
}

enum status chat_remote_open(const struct options *o, struct chat_link **out, struct err *e)
{
    static const struct chat_link_ops ops = {say, voices, close_link};
    char model[NAME_BYTES];
    struct chat_remote *c = mem_calloc(1, sizeof *c);
    if (!c)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    c->link.ops = &ops;
    enum status st = remote_open(o, &c->remote, e);
    if (st == STATUS_OK)
        st = read_models(c, NULL, e);
    if (st != STATUS_OK) {
        mem_free(c);
        return st;
    }
    text_clean(c->model, model, sizeof model);
    snprintf(c->link.name, sizeof c->link.name, "%.128s at %s", model, c->remote.target.text);
    *out = &c->link;
    return STATUS_OK;
}
