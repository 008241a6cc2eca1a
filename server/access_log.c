#include "server/access_log.h"

#include "engine/base/log.h"
#include "server/job.h"
#include "server/server_state.h"

#define NS_PER_MS  1000000
#define FIELDS_MAX 24
#define PROMPT_TOKENS                                                                              \
    1024 /* that are made text of: more than LIMIT_LOG_TEXT_BYTES has room for                     \
          */

struct fields {
    struct log_field list[FIELDS_MAX];
    size_t count;
};

static void add(struct fields *f, struct log_field field)
{
    CHECK(f->count < FIELDS_MAX);
    f->list[f->count++] = field;
}

static void add_ms(struct fields *f, const char *key, int64_t ns)
{
    add(f, LOG_NUM(key, (double)ns / NS_PER_MS));
}

void access_log_spent(struct call *c, const struct choice *choice)
{
    struct access_times *t = &c->times;
    const struct engine_usage *u = &choice->usage;
    t->queue_ns = u->queue_ns - u->adapter_ns;
    if (choice->submitted_ns)
        t->queue_ns += choice->submitted_ns - choice->lined_ns;
    t->adapter_ns = u->adapter_ns;
    t->prefill_ns = u->prompt_ns;
    t->decode_ns = u->decode_ns;
    t->tokens_timed += u->completion_tokens > 1 ? u->completion_tokens - 1 : 0;
    if (choice->index % choice->job->request.best_of == 0) /* the choices of a prompt share it */
        t->tokens_cached += u->cached_tokens;
}

void access_log_prompt(const struct call *c, const int32_t *ids, size_t count)
{
    const struct server *s = c->server;
    struct strbuf text;
    struct err e;
    if (!s->opt->log_prompts)
        return;
    strbuf_init(&text, LIMIT_ENCODE_BYTES);
    size_t n = count < PROMPT_TOKENS ? count : PROMPT_TOKENS;
    if (engine_text_decode(s->text, ids, n, true, &text, &e) == STATUS_OK)
        LOG_INFO(LOG_WHAT("prompt"), LOG_STR("request_id", c->request_id),
                 LOG_STR("adapter", c->adapter), LOG_INT("tokens", count),
                 LOG_TEXT("text", strbuf_str(&text)));
    strbuf_deinit(&text);
}

static void add_generation(struct fields *f, const struct call *c)
{
    const struct access_times *t = &c->times;
    if (*c->adapter)
        add(f, LOG_STR("adapter", c->adapter));
    add(f, LOG_INT("tokens_in", c->tokens_in));
    add(f, LOG_INT("tokens_cached", t->tokens_cached));
    add(f, LOG_INT("tokens_out", c->tokens_out));
}

static void log_request(const struct call *c, enum log_level level, int status, int64_t now_ns)
{
    const struct access_times *t = &c->times;
    struct fields f = {.count = 0};
    char peer[64];
    http_peer(c->x, peer);
    add(&f, LOG_WHAT("request"));
    add(&f, LOG_STR("request_id", c->request_id));
    add(&f, LOG_STR("peer", peer));
    add(&f, LOG_STR("method", http_method(c->x)));
    add(&f, LOG_STR("path", c->route ? c->route->path : http_path(c->x)));
    add(&f, LOG_INT("status", status));
    if (t->error)
        add(&f, LOG_STR("error", t->error));
    if (t->lined_ns) {
        add_generation(&f, c);
        add_ms(&f, "queue_ms", t->queue_ns + t->adapter_ns);
        if (c->first_token_ns)
            add_ms(&f, "first_ms", c->first_token_ns - c->begin_ns);
    }
    add_ms(&f, "ms", now_ns - c->begin_ns);
    if (t->decode_ns > 0 && t->tokens_timed > 0)
        add(&f, LOG_NUM("tok_s", (double)t->tokens_timed / ((double)t->decode_ns * 1e-9)));
    log_emit(level, f.list, f.count);
}

/* What no other part explains: before the first event of the engine it is waiting, else what is
 * left beside the steps, such as a client that reads slowly. */
static void log_slow(const struct call *c, int status, int64_t now_ns)
{
    const struct access_times *t = &c->times;
    struct fields f = {.count = 0};
    int64_t ms = now_ns - c->begin_ns;
    int64_t prepare = (t->lined_ns ? t->lined_ns : now_ns) - c->begin_ns;
    const struct {
        const char *key;
        int64_t ns;
    } parts[] = {{"prepare_ms", prepare},
                 {"queue_ms", t->queue_ns},
                 {"adapter_ms", t->adapter_ns},
                 {"prefill_ms", t->prefill_ns},
                 {"decode_ms", t->decode_ns}};
    int64_t rest = ms;
    add(&f, LOG_WHAT("slow request"));
    add(&f, LOG_STR("request_id", c->request_id));
    add(&f, LOG_STR("path", c->route ? c->route->path : http_path(c->x)));
    add(&f, LOG_INT("status", status));
    if (t->lined_ns)
        add_generation(&f, c);
    add_ms(&f, "ms", ms);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        add_ms(&f, parts[i].key, parts[i].ns);
        rest -= parts[i].ns;
    }
    bool heard = t->queue_ns + t->adapter_ns + t->prefill_ns > 0;
    add_ms(&f, t->lined_ns && !heard ? "waiting_ms" : "other_ms", rest > 0 ? rest : 0);
    log_emit(LOG_LEVEL_WARN, f.list, f.count);
}

void access_log_end(struct call *c, int status, int64_t now_ns)
{
    enum log_level level =
        c->route && !c->route->needs_engine && status < 400 ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
    int slow_ms = c->server->opt->log_slow_ms;
    bool slow = slow_ms > 0 && !c->watches && now_ns - c->begin_ns >= (int64_t)slow_ms * NS_PER_MS;
    for (int i = 0; c->job && i < c->job->choice_count; i++) {
        const struct choice *choice = &c->job->choices[i];
        if (!choice->open)
            continue;
        access_log_spent(c, choice);
        c->tokens_in +=
            choice->index % c->job->request.best_of == 0 ? choice->usage.prompt_tokens : 0;
        c->tokens_out += choice->usage.completion_tokens;
    }
    if (log_enabled(level))
        log_request(c, level, status, now_ns);
    if (slow && log_enabled(LOG_LEVEL_WARN))
        log_slow(c, status, now_ns);
}
