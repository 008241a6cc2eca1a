#include "server/form_responses.h"

#include <string.h>

#include "server/form_items.h"
#include "server/job_write.h"
#include "server/server_state.h"
#include "server/sse.h"

enum response_state { RESPONSE_RUNS, RESPONSE_WHOLE, RESPONSE_CUT, RESPONSE_FAILED };

static void put_string(struct strbuf *b, const char *s)
{
    strbuf_json_string(b, s, strlen(s));
}

static void put_text(struct strbuf *b, const struct strbuf *text)
{
    strbuf_json_string(b, strbuf_str(text), text->len);
}

/* ---- items ---- */

static void put_logprobs(struct strbuf *b, const struct choice *c, size_t from, size_t to)
{
    struct answer_head h = job_write_head(c->job);
    size_t count = c->job->request.logprobs ? to - from : 0;
    strbuf_puts(b, "\"logprobs\":");
    answer_logprobs(b, &h, count ? &c->tokens[from] : NULL, count);
}

/* The part that a text or a thought consists of: with what it holds, or as it begins. */
static void put_part(struct strbuf *b, const struct choice *c, const struct job_item *item,
                     bool begins)
{
    static const struct strbuf nothing = {0};
    const struct strbuf *text = begins ? &nothing : &item->text;
    if (item->kind == JOB_ITEM_THOUGHT) {
        strbuf_puts(b, "{\"type\":\"reasoning_text\",\"text\":");
        put_text(b, text);
        strbuf_putc(b, '}');
        return;
    }
    strbuf_puts(b, "{\"type\":\"output_text\",\"text\":");
    put_text(b, text);
    strbuf_puts(b, ",\"annotations\":[],");
    put_logprobs(b, c, item->token_begin, begins ? item->token_begin : item->token_end);
    strbuf_putc(b, '}');
}

static void put_item(struct strbuf *b, const struct choice *c, const struct job_item *item)
{
    static const char *const states[] = {"in_progress", "completed", "incomplete"};
    static const char *const types[] = {"reasoning", "message", "function_call"};
    bool begins = item->state == JOB_ITEM_OPEN;
    strbuf_puts(b, "{\"id\":");
    put_string(b, item->id);
    strbuf_printf(b, ",\"type\":\"%s\",\"status\":\"%s\"", types[item->kind], states[item->state]);
    if (item->kind == JOB_ITEM_CALL) {
        const struct tool_call *call = &c->calls[item->call];
        strbuf_puts(b, ",\"call_id\":");
        put_string(b, call->id);
        strbuf_puts(b, ",\"name\":");
        put_string(b, call->name);
        strbuf_puts(b, ",\"arguments\":");
        put_text(b, &item->text);
        strbuf_putc(b, '}');
        return;
    }
    strbuf_puts(b, item->kind == JOB_ITEM_TEXT ? ",\"role\":\"assistant\"" : ",\"summary\":[]");
    strbuf_puts(b, ",\"content\":[");
    if (!begins)
        put_part(b, c, item, false);
    strbuf_puts(b, "]}");
}

/* ---- the response ---- */

static void put_usage(struct strbuf *b, const struct answer_usage *u)
{
    strbuf_printf(b,
                  ",\"usage\":{\"input_tokens\":%lld,\"input_tokens_details\":{"
                  "\"cached_tokens\":%lld,\"cache_write_tokens\":0},\"output_tokens\":%lld,"
                  "\"output_tokens_details\":{\"reasoning_tokens\":%lld},\"total_tokens\":%lld}",
                  (long long)u->prompt_tokens, (long long)u->cached_tokens,
                  (long long)u->completion_tokens, (long long)u->reasoning_tokens,
                  (long long)(u->prompt_tokens + u->completion_tokens));
}

static void put_response(struct strbuf *b, const struct job *j, enum response_state state,
                         const struct err *e)
{
    static const char *const states[] = {"in_progress", "completed", "incomplete", "failed"};
    const struct api_request *r = &j->request;
    const struct choice *c = &j->choices[0];
    strbuf_puts(b, "{\"id\":");
    put_string(b, j->id);
    strbuf_printf(b,
                  ",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\","
                  "\"background\":false,\"error\":",
                  (long long)j->created, states[state]);
    if (e) {
        strbuf_puts(b, "{\"code\":\"server_error\",\"message\":");
        put_string(b, e->msg);
        strbuf_putc(b, '}');
    } else {
        strbuf_puts(b, "null");
    }
    strbuf_printf(b, ",\"incomplete_details\":%s,\"model\":",
                  state == RESPONSE_CUT ? "{\"reason\":\"max_output_tokens\"}" : "null");
    put_string(b, r->model);
    strbuf_puts(b, ",\"adapter\":");
    answer_adapters(b, j->uses, r->engine.adapter_count);
    strbuf_printf(b, ",%s,\"temperature\":%.7g,\"top_p\":%.7g,\"output\":[", r->repeated,
                  (double)r->engine.sampling.temperature, (double)r->engine.sampling.top_p);
    for (size_t i = 0; state != RESPONSE_RUNS && j->choice_count && i < c->item_count; i++) {
        strbuf_puts(b, i ? "," : "");
        put_item(b, c, &c->items[i]);
    }
    strbuf_puts(b, "],\"previous_response_id\":null,\"store\":false,\"truncation\":\"disabled\","
                   "\"service_tier\":\"default\"");
    if (state == RESPONSE_WHOLE || state == RESPONSE_CUT) {
        struct answer_usage u = job_write_usage(j);
        put_usage(b, &u);
    } else {
        strbuf_puts(b, ",\"usage\":null");
    }
    strbuf_putc(b, '}');
}

static enum response_state end_of(const struct job *j)
{
    return strcmp(j->choices[0].finish_reason, "length") == 0 ? RESPONSE_CUT : RESPONSE_WHOLE;
}

static bool put_whole(struct job *j, struct strbuf *b)
{
    put_response(b, j, end_of(j), NULL);
    return true;
}

/* ---- events ---- */

/* An event's object up to what is its own. */
static void open_event(struct job *j, struct strbuf *b, const char *type)
{
    sse_begin_event(b, type);
    strbuf_printf(b, "{\"type\":\"%s\",\"sequence_number\":%d", type, j->event_count++);
}

static void close_event(struct strbuf *b)
{
    strbuf_putc(b, '}');
    sse_end(b);
}

static void response_event(struct job *j, struct strbuf *b, const char *type,
                           enum response_state state, const struct err *e)
{
    open_event(j, b, type);
    strbuf_puts(b, ",\"response\":");
    put_response(b, j, state, e);
    close_event(b);
}

static void begin_events(struct job *j, struct strbuf *b)
{
    response_event(j, b, "response.created", RESPONSE_RUNS, NULL);
    response_event(j, b, "response.in_progress", RESPONSE_RUNS, NULL);
}

static void put_begin(struct job *j)
{
    struct strbuf *b = &j->server->scratch;
    strbuf_clear(b);
    begin_events(j, b);
    job_write_frame(j, b);
}

static void item_event(struct choice *c, struct strbuf *b, const char *type,
                       const struct job_item *item)
{
    open_event(c->job, b, type);
    strbuf_printf(b, ",\"output_index\":%zu,\"item\":", (size_t)(item - c->items));
    put_item(b, c, item);
    close_event(b);
}

/* An event inside an item, up to what is its own. */
static void open_inside(struct choice *c, struct strbuf *b, const char *type,
                        const struct job_item *item)
{
    open_event(c->job, b, type);
    strbuf_puts(b, ",\"item_id\":");
    put_string(b, item->id);
    strbuf_printf(b, ",\"output_index\":%zu", (size_t)(item - c->items));
    if (item->kind != JOB_ITEM_CALL)
        strbuf_puts(b, ",\"content_index\":0");
}

static void part_event(struct choice *c, struct strbuf *b, const char *type,
                       const struct job_item *item, bool begins)
{
    open_inside(c, b, type, item);
    strbuf_puts(b, ",\"part\":");
    put_part(b, c, item, begins);
    close_event(b);
}

static void put_item_begin(struct choice *c, const struct job_item *item)
{
    struct strbuf *b = &c->job->server->scratch;
    strbuf_clear(b);
    item_event(c, b, "response.output_item.added", item);
    if (item->kind != JOB_ITEM_CALL)
        part_event(c, b, "response.content_part.added", item, true);
    job_write_frame(c->job, b);
}

static void put_item_grow(struct choice *c, const struct job_item *item, const char *s, size_t n)
{
    static const char *const types[] = {
        [JOB_ITEM_THOUGHT] = "response.reasoning_text.delta",
        [JOB_ITEM_TEXT] = "response.output_text.delta",
        [JOB_ITEM_CALL] = "response.function_call_arguments.delta",
    };
    struct strbuf *b = &c->job->server->scratch;
    strbuf_clear(b);
    open_inside(c, b, types[item->kind], item);
    strbuf_puts(b, ",\"delta\":");
    strbuf_json_string(b, s, n);
    if (item->kind == JOB_ITEM_TEXT) {
        strbuf_putc(b, ',');
        put_logprobs(b, c, item->tokens_from, item->token_end);
    }
    close_event(b);
    job_write_frame(c->job, b);
}

static void put_item_end(struct choice *c, const struct job_item *item)
{
    static const char *const types[] = {
        [JOB_ITEM_THOUGHT] = "response.reasoning_text.done",
        [JOB_ITEM_TEXT] = "response.output_text.done",
        [JOB_ITEM_CALL] = "response.function_call_arguments.done",
    };
    struct strbuf *b = &c->job->server->scratch;
    strbuf_clear(b);
    open_inside(c, b, types[item->kind], item);
    strbuf_puts(b, item->kind == JOB_ITEM_CALL ? ",\"arguments\":" : ",\"text\":");
    put_text(b, &item->text);
    if (item->kind == JOB_ITEM_CALL) {
        strbuf_puts(b, ",\"name\":");
        put_string(b, c->calls[item->call].name);
    }
    if (item->kind == JOB_ITEM_TEXT) {
        strbuf_putc(b, ',');
        put_logprobs(b, c, item->token_begin, item->token_end);
    }
    close_event(b);
    if (item->kind != JOB_ITEM_CALL)
        part_event(c, b, "response.content_part.done", item, false);
    item_event(c, b, "response.output_item.done", item);
    job_write_frame(c->job, b);
}

static void put_end(struct job *j)
{
    struct strbuf *b = &j->server->scratch;
    enum response_state state = end_of(j);
    strbuf_clear(b);
    response_event(j, b, state == RESPONSE_CUT ? "response.incomplete" : "response.completed",
                   state, NULL);
    job_write_frame(j, b);
}

static void put_error(struct job *j, const struct api_error_kind *k, const struct err *e,
                      struct strbuf *b)
{
    if (!j->parsed) { /* it was prepared again, and in vain: nothing of it is known any more */
        open_event(j, b, "error");
        strbuf_printf(b, ",\"code\":\"%s\",\"param\":null,\"message\":", k->code);
        put_string(b, e->msg);
        close_event(b);
        return;
    }
    if (j->event_count == 0) /* only signs of life were sent */
        begin_events(j, b);
    response_event(j, b, "response.failed", RESPONSE_FAILED, e);
}

const struct form form_responses = {
    .id_prefix = "resp_",
    .call_prefix = "call_",
    .in_items = true,
    .piece = form_items_piece,
    .thought = form_items_thought,
    .call = form_items_call,
    .finish = form_items_finish,
    .end = put_end,
    .whole = put_whole,
    .error = put_error,
    .ping = sse_ping,
    .begin = put_begin,
    .item_begin = put_item_begin,
    .item_grow = put_item_grow,
    .item_end = put_item_end,
};
