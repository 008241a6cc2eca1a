#include "server/form_messages.h"

#include <string.h>

#include "engine/base/json.h"
#include "server/form_items.h"
#include "server/job_write.h"
#include "server/server_state.h"
#include "server/sse.h"

static void put_string(struct strbuf *b, const char *s)
{
    strbuf_json_string(b, s, strlen(s));
}

/* ---- parts of objects ---- */

/* A call's arguments as the object that `input` must be. What a model wrote that is none (or was
 * cut before its end) is kept as text. */
static void put_input(struct strbuf *b, const struct strbuf *arguments)
{
    cJSON *tree = NULL;
    enum status st =
        json_parse(strbuf_str(arguments), arguments->len, &json_default_limits, &tree, NULL);
    if (st == STATUS_OK && cJSON_IsObject(tree)) {
        strbuf_append(b, arguments->data, arguments->len);
    } else {
        b->failed |= st == STATUS_NO_MEMORY;
        strbuf_puts(b, "{\"arguments\":");
        strbuf_json_string(b, strbuf_str(arguments), arguments->len);
        strbuf_putc(b, '}');
    }
    cJSON_Delete(tree);
}

/* An item as a content block: with what it holds, or as it begins. */
static void put_block(struct strbuf *b, const struct choice *c, const struct job_item *item,
                      bool begins)
{
    static const struct strbuf nothing = {0};
    const struct strbuf *text = begins ? &nothing : &item->text;
    if (item->kind == JOB_ITEM_CALL) {
        const struct tool_call *call = &c->calls[item->call];
        strbuf_puts(b, "{\"type\":\"tool_use\",\"id\":");
        put_string(b, call->id);
        strbuf_puts(b, ",\"name\":");
        put_string(b, call->name);
        strbuf_puts(b, ",\"input\":");
        if (text->len > 0)
            put_input(b, text);
        else
            strbuf_puts(b, "{}");
        strbuf_putc(b, '}');
        return;
    }
    bool thought = item->kind == JOB_ITEM_THOUGHT;
    strbuf_puts(b,
                thought ? "{\"type\":\"thinking\",\"thinking\":" : "{\"type\":\"text\",\"text\":");
    strbuf_json_string(b, strbuf_str(text), text->len);
    strbuf_puts(b, thought ? ",\"signature\":\"\"}" : ",\"citations\":null}");
}

static void put_stop(struct strbuf *b, const struct choice *c)
{
    const char *reason = "end_turn";
    const struct engine_stop *stop = NULL;
    if (strcmp(c->finish_reason, "length") == 0)
        reason = "max_tokens";
    else if (strcmp(c->finish_reason, "tool_calls") == 0)
        reason = "tool_use";
    else if (c->usage.stop_number > 0) {
        reason = "stop_sequence";
        stop = &c->job->request.engine.stop[c->usage.stop_number - 1];
    }
    strbuf_printf(b, "\"stop_reason\":\"%s\",\"stop_sequence\":", reason);
    if (stop)
        strbuf_json_string(b, stop->text, stop->len);
    else
        strbuf_puts(b, "null");
}

/* What came from the cache is not in input_tokens, as Anthropic counts. */
static void put_usage(struct strbuf *b, int64_t prompt, int64_t cached, int64_t said)
{
    strbuf_printf(b,
                  "\"usage\":{\"input_tokens\":%lld,\"cache_creation_input_tokens\":0,"
                  "\"cache_read_input_tokens\":%lld,\"output_tokens\":%lld}",
                  (long long)(prompt - cached), (long long)cached, (long long)said);
}

static void put_head(struct strbuf *b, const struct job *j)
{
    strbuf_puts(b, "{\"id\":");
    put_string(b, j->id);
    strbuf_puts(b, ",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
    put_string(b, j->request.model);
    strbuf_puts(b, ",\"adapter\":");
    answer_adapters(b, j->uses, j->request.engine.adapter_count);
    strbuf_puts(b, ",\"content\":[");
}

static bool put_whole(struct job *j, struct strbuf *b)
{
    const struct choice *c = &j->choices[0];
    struct answer_usage u = job_write_usage(j);
    put_head(b, j);
    for (size_t i = 0; i < c->item_count; i++) {
        strbuf_puts(b, i ? "," : "");
        put_block(b, c, &c->items[i], false);
    }
    strbuf_puts(b, "],");
    put_stop(b, c);
    strbuf_putc(b, ',');
    put_usage(b, u.prompt_tokens, u.cached_tokens, u.completion_tokens);
    strbuf_putc(b, '}');
    return true;
}

/* ---- events ---- */

/* An event's object up to what is its own, in the scratch buffer. */
static struct strbuf *open_event(struct job *j, const char *type)
{
    struct strbuf *b = &j->server->scratch;
    strbuf_clear(b);
    sse_begin_event(b, type);
    strbuf_printf(b, "{\"type\":\"%s\"", type);
    return b;
}

static void close_event(struct job *j, struct strbuf *b)
{
    strbuf_putc(b, '}');
    sse_end(b);
    job_write_frame(j, b);
}

static void put_ping(struct strbuf *b)
{
    sse_begin_event(b, "ping");
    strbuf_puts(b, "{\"type\":\"ping\"}");
    sse_end(b);
}

/* How much of the prompt came from the cache is known at the end. */
static void put_begin(struct job *j)
{
    struct strbuf *b = open_event(j, "message_start");
    strbuf_puts(b, ",\"message\":");
    put_head(b, j);
    strbuf_puts(b, "],\"stop_reason\":null,\"stop_sequence\":null,");
    put_usage(b, (int64_t)j->request.prompts[0].tokens.count, 0, 0);
    strbuf_putc(b, '}');
    close_event(j, b);
}

static void put_item_begin(struct choice *c, const struct job_item *item)
{
    size_t index = (size_t)(item - c->items);
    struct strbuf *b = open_event(c->job, "content_block_start");
    strbuf_printf(b, ",\"index\":%zu,\"content_block\":", index);
    put_block(b, c, item, true);
    close_event(c->job, b);
    if (index == 0)
        job_write_ping(c->job);
}

static void put_item_grow(struct choice *c, const struct job_item *item, const char *s, size_t n)
{
    static const char *const deltas[][2] = {
        [JOB_ITEM_THOUGHT] = {"thinking_delta", "thinking"},
        [JOB_ITEM_TEXT] = {"text_delta", "text"},
        [JOB_ITEM_CALL] = {"input_json_delta", "partial_json"},
    };
    const char *const *names = deltas[item->kind];
    struct strbuf *b = open_event(c->job, "content_block_delta");
    strbuf_printf(b, ",\"index\":%zu,\"delta\":{\"type\":\"%s\",\"%s\":", (size_t)(item - c->items),
                  names[0], names[1]);
    strbuf_json_string(b, s, n);
    strbuf_putc(b, '}');
    close_event(c->job, b);
}

static void put_item_end(struct choice *c, const struct job_item *item)
{
    struct strbuf *b = open_event(c->job, "content_block_stop");
    strbuf_printf(b, ",\"index\":%zu", (size_t)(item - c->items));
    close_event(c->job, b);
}

static void put_end(struct job *j)
{
    struct answer_usage u = job_write_usage(j);
    struct strbuf *b = open_event(j, "message_delta");
    strbuf_puts(b, ",\"delta\":{");
    put_stop(b, &j->choices[0]);
    strbuf_puts(b, "},");
    put_usage(b, u.prompt_tokens, u.cached_tokens, u.completion_tokens);
    close_event(j, b);
    close_event(j, open_event(j, "message_stop"));
}

static void put_error(struct job *j, const struct api_error_kind *k, const struct err *e,
                      struct strbuf *b)
{
    sse_begin_event(b, "error");
    api_error_write_message(b, k, e, j->call->request_id);
    sse_end(b);
}

const struct form form_messages = {
    .id_prefix = "msg_",
    .call_prefix = "toolu_",
    .in_items = true,
    .piece = form_items_piece,
    .thought = form_items_thought,
    .call = form_items_call,
    .finish = form_items_finish,
    .end = put_end,
    .whole = put_whole,
    .error = put_error,
    .ping = put_ping,
    .begin = put_begin,
    .item_begin = put_item_begin,
    .item_grow = put_item_grow,
    .item_end = put_item_end,
};
