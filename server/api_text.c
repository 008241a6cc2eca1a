#include "server/api_text.h"

#include <string.h>

#include "engine/base/json.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "server/api_adapter.h"
#include "server/api_chat.h"
#include "server/api_error.h"
#include "server/api_messages.h"
#include "server/loop.h"
#include "server/server_state.h"

#define ANSWER_BYTES_MAX ((size_t)128 << 20)

/* One request, from the whole body to its answer. While `work` runs only the pool touches it. */
struct text_task {
    struct server *server;
    struct call *call; /* NULL: the exchange is over */
    enum status (*work)(struct text_task *t, cJSON *root, struct err *e);
    struct profile *profile; /* of the adapter that is named; NULL: none. While `work` runs */
    struct strbuf body;
    struct strbuf answer;
    struct err err; /* code STATUS_OK: the answer is there */
};

/* ---- on the pool ---- */

static enum status out_of_memory(struct err *e)
{
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

/* Who is named changes nothing but for the profile; somebody unknown is told. */
static enum status find_voice(const struct api_context *ctx, const cJSON *root,
                              struct api_request *r, struct err *e)
{
    enum status st =
        api_adapter_resolve(ctx, root, &r->model, r->engine.adapters, &r->engine.adapter_count, e);
    return st == STATUS_OK ? api_request_find_profile(ctx, r, e) : st;
}

/* The chat of `root` as tokens (`ids`) or as text (`out`); the other one is NULL. */
static enum status read_chat(const struct text_task *t, const cJSON *root, struct token_buf *ids,
                             struct strbuf *out, struct err *e)
{
    const struct server *s = t->server;
    struct api_request r = {.kind = API_CHAT, .profile = profile_ref(t->profile)};
    const struct engine_text *text = r.profile && r.profile->text ? r.profile->text : s->text;
    enum status st = api_chat_read(root, &r, e);
    if (st == STATUS_OK && out)
        st = r.continue_final ? engine_text_continue(text, r.vars, out, e)
                              : engine_text_render(text, r.vars, out, e);
    if (st == STATUS_OK && ids) {
        st = api_request_tokenise(&r, s->text, e);
        if (st == STATUS_OK) {
            *ids = r.prompts[0].tokens;
            r.prompts[0].tokens = (struct token_buf){0};
        }
    }
    api_request_deinit(&r);
    return st;
}

/* What /tokenize is asked for. */
struct tokenize {
    const char *text; /* NULL: a chat */
    bool add_special;
    bool parse_special;
    bool pieces;  /* llama-server: {"id", "piece"} instead of ids */
    bool strings; /* vLLM: token_strs beside the ids */
};

static enum status read_tokenize(const cJSON *root, struct tokenize *q, struct err *e)
{
    const char *prompt = NULL;
    const char *content = NULL;
    enum status st = json_get_string(root, "prompt", &prompt, e);
    if (st == STATUS_OK)
        st = json_get_string(root, "content", &content, e);
    if (st != STATUS_OK)
        return st;
    if (!prompt + !content + !json_member(root, "messages") != 2)
        return err_set(e, STATUS_INVALID, "prompt",
                       "one of 'prompt', 'content' and 'messages' is needed");
    *q = (struct tokenize){
        .text = prompt ? prompt : content, .add_special = prompt != NULL, .parse_special = true};
    const struct {
        const char *key;
        bool *to;
    } flags[] = {
        {"add_special_tokens", &q->add_special}, {"add_special", &q->add_special},
        {"parse_special", &q->parse_special},    {"with_pieces", &q->pieces},
        {"return_token_strs", &q->strings},
    };
    for (size_t i = 0; st == STATUS_OK && i < sizeof flags / sizeof flags[0]; i++)
        st = json_get_bool(root, flags[i].key, flags[i].to, e);
    return st;
}

/* llama-server: a piece that is no text of its own is an array of bytes. */
static void put_piece(struct strbuf *b, const struct engine_text *text, int32_t id)
{
    size_t n = 0;
    const char *s = engine_text_token(text, id, &n);
    strbuf_printf(b, "{\"id\":%d,\"piece\":", id);
    if (utf8_is_valid(s, n)) {
        strbuf_json_string(b, s, n);
    } else {
        for (size_t i = 0; i < n; i++)
            strbuf_printf(b, i ? ",%u" : "[%u", (unsigned char)s[i]);
        strbuf_putc(b, ']');
    }
    strbuf_putc(b, '}');
}

static void put_tokens(struct strbuf *b, const struct server *s, const struct token_buf *ids,
                       const struct tokenize *q)
{
    strbuf_puts(b, "{\"tokens\":[");
    for (size_t i = 0; i < ids->count && !b->failed; i++) {
        if (i)
            strbuf_putc(b, ',');
        if (q->pieces)
            put_piece(b, s->text, ids->ids[i]);
        else
            strbuf_printf(b, "%d", ids->ids[i]);
    }
    strbuf_printf(b, "],\"count\":%zu,\"max_model_len\":%d,\"token_strs\":", ids->count,
                  s->info.ctx_max);
    for (size_t i = 0; q->strings && i < ids->count && !b->failed; i++) {
        size_t n = 0;
        const char *text = engine_text_token(s->text, ids->ids[i], &n);
        strbuf_putc(b, i ? ',' : '[');
        strbuf_json_string(b, text, n);
    }
    strbuf_puts(b, !q->strings ? "null}" : ids->count ? "]}" : "[]}");
}

static enum status work_tokenize(struct text_task *t, cJSON *root, struct err *e)
{
    const struct server *s = t->server;
    struct tokenize q;
    struct token_buf ids = {0};
    enum status st = read_tokenize(root, &q, e);
    if (st == STATUS_OK && q.text)
        st = engine_text_encode(s->text, q.text, strlen(q.text), q.add_special, q.parse_special,
                                &ids, e);
    else if (st == STATUS_OK)
        st = read_chat(t, root, &ids, NULL, e);
    if (st == STATUS_OK)
        put_tokens(&t->answer, s, &ids, &q);
    mem_free(ids.ids);
    return st;
}

static enum status read_ids(const struct server *s, const cJSON *list, struct token_buf *out,
                            struct err *e)
{
    if (!cJSON_IsArray(list))
        return err_set(e, STATUS_INVALID, "tokens", "'tokens' must be a list of token ids");
    size_t count = (size_t)cJSON_GetArraySize(list);
    out->ids = mem_alloc(count + 1, sizeof *out->ids);
    if (!out->ids)
        return out_of_memory(e);
    for (const cJSON *v = list->child; v; v = v->next) {
        int64_t id;
        if (!json_int64(v, &id) || id < 0 || id >= s->info.vocab)
            return err_set(e, STATUS_INVALID, "tokens", "'tokens' must hold ids from 0 to %d",
                           s->info.vocab - 1);
        out->ids[out->count++] = (int32_t)id;
    }
    return STATUS_OK;
}

static enum status work_detokenize(struct text_task *t, cJSON *root, struct err *e)
{
    const struct server *s = t->server;
    struct token_buf ids = {0};
    struct strbuf text;
    strbuf_init(&text, ANSWER_BYTES_MAX / 2);
    enum status st = read_ids(s, json_member(root, "tokens"), &ids, e);
    if (st == STATUS_OK)
        st = engine_text_decode(s->text, ids.ids, ids.count, true, &text, e);
    if (st == STATUS_OK) {
        static const char *const keys[] = {"{\"prompt\":", ",\"content\":"}; /* vLLM, llama */
        for (int i = 0; i < 2; i++) {
            strbuf_puts(&t->answer, keys[i]);
            strbuf_json_string(&t->answer, strbuf_str(&text), text.len);
        }
        strbuf_putc(&t->answer, '}');
    }
    strbuf_deinit(&text);
    mem_free(ids.ids);
    return st;
}

static enum status work_apply_template(struct text_task *t, cJSON *root, struct err *e)
{
    struct strbuf text;
    strbuf_init(&text, ANSWER_BYTES_MAX / 2);
    enum status st = read_chat(t, root, NULL, &text, e);
    if (st == STATUS_OK) {
        strbuf_puts(&t->answer, "{\"prompt\":");
        strbuf_json_string(&t->answer, strbuf_str(&text), text.len);
        strbuf_putc(&t->answer, '}');
    }
    strbuf_deinit(&text);
    return st;
}

static enum status work_count_tokens(struct text_task *t, cJSON *root, struct err *e)
{
    struct token_buf ids = {0};
    cJSON *chat = NULL;
    enum status st = api_messages_to_chat(root, false, &chat, e);
    if (st == STATUS_OK && (st = read_chat(t, chat, &ids, NULL, e)) != STATUS_OK)
        api_messages_rename(e);
    if (st == STATUS_OK)
        strbuf_printf(&t->answer, "{\"input_tokens\":%zu}", ids.count);
    mem_free(ids.ids);
    cJSON_Delete(chat);
    return st;
}

static void work(void *ctx)
{
    struct text_task *t = ctx;
    struct err e = {0};
    cJSON *root = NULL;
    enum status st = json_parse(strbuf_str(&t->body), t->body.len, &json_default_limits, &root, &e);
    if (st == STATUS_OK && !cJSON_IsObject(root))
        st = err_set(&e, STATUS_INVALID, NULL, "the request body must be a JSON object");
    struct api_request voice = {0};
    if (st == STATUS_OK)
        st = find_voice(&t->server->api, root, &voice, &e);
    t->profile = voice.profile;
    if (st == STATUS_OK)
        st = t->work(t, root, &e);
    api_request_deinit(&voice);
    t->profile = NULL;
    if (st == STATUS_OK && t->answer.failed)
        st = err_set(&e, STATUS_LIMIT, NULL, "the answer is too long");
    cJSON_Delete(root);
    t->err = e;
    t->err.code = st;
}

/* ---- on the loop ---- */

static void end(struct text_task *t)
{
    t->server->text_tasks--;
    if (t->call)
        t->call->text_task = NULL;
    strbuf_deinit(&t->body);
    strbuf_deinit(&t->answer);
    mem_free(t);
}

static void on_done(void *ctx)
{
    struct text_task *t = ctx;
    struct call *c = t->call;
    if (c && t->err.code == STATUS_OK)
        server_answer_json(c, 200, &t->answer);
    else if (c)
        server_answer_error(c, api_error_of(t->err.code), &t->err);
    end(t);
}

static void begin(struct call *c, enum status (*fn)(struct text_task *, cJSON *, struct err *))
{
    struct server *s = c->server;
    struct text_task *t = mem_calloc(1, sizeof *t);
    struct err e;
    if (!t) {
        server_answer_error(c, api_error_of(out_of_memory(&e)), &e);
        return;
    }
    t->server = s;
    t->call = c;
    t->work = fn;
    strbuf_init(&t->answer, ANSWER_BYTES_MAX);
    http_take_body(c->x, &t->body);
    c->text_task = t;
    s->text_tasks++;
    if (!loop_pool(s->loop, work, on_done, t)) {
        server_answer_error(c, api_error_of(out_of_memory(&e)), &e);
        end(t);
    }
}

void api_text_tokenize(struct call *c, const char *tail)
{
    (void)tail;
    begin(c, work_tokenize);
}

void api_text_detokenize(struct call *c, const char *tail)
{
    (void)tail;
    begin(c, work_detokenize);
}

void api_text_apply_template(struct call *c, const char *tail)
{
    (void)tail;
    begin(c, work_apply_template);
}

void api_text_count_tokens(struct call *c, const char *tail)
{
    (void)tail;
    begin(c, work_count_tokens);
}

void api_text_on_end(struct call *c)
{
    if (c->text_task)
        c->text_task->call = NULL;
}

bool api_text_is_busy(const struct server *s)
{
    return s->text_tasks > 0;
}
