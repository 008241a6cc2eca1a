#include "server/api_generate.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/sha256.h"
#include "engine/base/vec.h"
#include "server/answer.h"
#include "server/api_error.h"
#include "server/reasoning.h"
#include "server/server_state.h"
#include "server/sse.h"
#include "server/tool_parse.h"

#define READY_AT_ONCE    64
#define ANSWER_BYTES_MAX ((size_t)1 << 30)

/* A call of a tool in an answer. */
struct tool_call {
    char id[IDENT_BYTES];
    char *name;              /* owned */
    struct strbuf arguments; /* whole answers */
};

/* One engine request. */
struct choice {
    struct job *job;
    int index; /* of the answer's choices, in order of prompt, then n */
    int prompt;
    uint64_t seed;
    struct fair_item fair;
    uint64_t engine_id;
    bool open;  /* its terminal event was not read yet */
    bool begun; /* stream: its first chunk went out */
    bool waits; /* the stream was full: events lie in the outbox */
    const char *finish_reason;
    struct strbuf text; /* whole answers: all of it; streams: what waits to be sent */
    bool splits;        /* thoughts are told apart from what is said */
    struct reasoning reasoning;
    struct strbuf thought; /* as text */
    bool parses;           /* calls of tools are told apart from text */
    struct tool_parse parse;
    struct strbuf said;      /* parses: what it has not seen */
    struct tool_call *calls; /* owned */
    size_t call_count;
    size_t call_cap;
    bool call_dropped; /* one more than was asked for is being read */
    int thought_tokens;
    int decoded;                 /* tokens heard of so far */
    struct answer_token *tokens; /* owned: those with log-probabilities not yet written */
    size_t token_count;
    size_t token_cap;
    size_t text_offset; /* characters of the tokens already written */
    double logprob_sum; /* for best_of */
    int logprob_count;
    struct engine_usage usage;
};

struct job {
    struct server *server;
    struct job *prev;
    struct job *next;
    struct call *call; /* NULL once the exchange is over */
    struct api_request request;
    struct strbuf body; /* the request's, while the prompt may still have to be made (again) */
    enum api_kind kind;
    bool in_pool;
    bool parsed;        /* request is to be freed */
    bool streams;       /* the stream's head is on its way */
    bool over;          /* answered or given up: events are only read away */
    enum status status; /* of the preparation */
    struct err err;
    char id[IDENT_BYTES];
    int64_t created;
    int64_t written_ns; /* last write to the stream */
    struct engine_adapter_use uses[LIMIT_ADAPTERS_PER_REQUEST];
    struct choice *choices; /* owned, [choice_count] */
    int choice_count;
    int open_count; /* with the engine */
    int left_count; /* whose end was not heard yet, those that wait for a seat too */
    bool adapter_told;
};

/* ---- life ---- */

static void free_calls(struct choice *c)
{
    for (size_t i = 0; i < c->call_count; i++) {
        mem_free(c->calls[i].name);
        strbuf_deinit(&c->calls[i].arguments);
    }
    mem_free(c->calls);
    strbuf_deinit(&c->said);
    if (c->parses)
        tool_parse_deinit(&c->parse);
}

static void free_choices(struct job *j)
{
    for (int i = 0; i < j->choice_count; i++) {
        strbuf_deinit(&j->choices[i].text);
        strbuf_deinit(&j->choices[i].thought);
        if (j->choices[i].splits)
            reasoning_deinit(&j->choices[i].reasoning);
        free_calls(&j->choices[i]);
        mem_free(j->choices[i].tokens);
    }
    mem_free(j->choices);
    j->choices = NULL;
    j->choice_count = 0;
}

static void free_job(struct job *j)
{
    struct server *s = j->server;
    if (j->prev)
        j->prev->next = j->next;
    else
        s->jobs = j->next;
    if (j->next)
        j->next->prev = j->prev;
    free_choices(j);
    if (j->parsed)
        api_request_deinit(&j->request);
    strbuf_deinit(&j->body);
    mem_free(j);
    server_check_drained(s);
}

static void free_if_ended(struct job *j)
{
    if (!j->call && !j->in_pool && j->open_count == 0)
        free_job(j);
}

static void cancel_open(struct job *j)
{
    for (int i = 0; i < j->choice_count; i++) {
        struct choice *c = &j->choices[i];
        if (c->open)
            engine_cancel(j->server->engine, c->engine_id);
        else if (c->fair.place == FAIR_WAITS)
            fair_leave(&j->server->fair, &c->fair);
    }
}

static struct answer_head head_of(const struct job *j)
{
    return (struct answer_head){
        .kind = j->kind,
        .id = j->id,
        .model = j->request.model,
        .fingerprint = j->server->fingerprint,
        .created = j->created,
        .adapters = j->uses,
        .adapter_count = j->request.engine.adapter_count,
        .text = j->server->text,
        .tokens_as_ids = j->request.tokens_as_ids,
    };
}

/* ---- writing ---- */

static void stream_write(struct job *j, const struct strbuf *frame)
{
    j->written_ns = clock_now_ns();
    if (frame->failed)
        http_cut(j->call->x);
    else
        http_stream_write(j->call->x, frame->data, frame->len);
}

static void stream_begin(struct job *j)
{
    if (j->streams)
        return;
    j->streams = true;
    j->written_ns = clock_now_ns();
    http_add_header(j->call->x, "X-Accel-Buffering", "no");
    http_stream_begin(j->call->x, 200, "text/event-stream; charset=utf-8");
}

/* Ends the job with an error, in the form that still fits; the work goes away. */
static void fail_job(struct job *j, const struct err *e)
{
    if (j->over)
        return;
    j->over = true;
    cancel_open(j);
    if (!j->call)
        return;
    const struct api_error_kind *k = api_error_of(e->code);
    if (e->code == STATUS_DEVICE_LOST)
        server_device_lost(j->server, e);
    if (!j->streams) {
        server_answer_error(j->call, k, e);
        return;
    }
    struct strbuf *frame = &j->server->scratch;
    strbuf_clear(frame);
    sse_begin(frame);
    api_error_write(frame, k, e);
    sse_end(frame);
    stream_write(j, frame);
    http_stream_end(j->call->x);
}

static void out_of_memory(struct job *j)
{
    struct err e;
    err_set(&e, STATUS_NO_MEMORY, NULL, "out of memory");
    fail_job(j, &e);
}

/* A chunk is one object in one frame, built in the scratch buffer. */
static struct strbuf *chunk_open(struct job *j)
{
    struct strbuf *b = &j->server->scratch;
    strbuf_clear(b);
    sse_begin(b);
    struct answer_head h = head_of(j);
    answer_begin(b, &h, true, !j->adapter_told);
    j->adapter_told = true;
    return b;
}

static void chunk_close(struct job *j, struct strbuf *b)
{
    strbuf_putc(b, '}');
    sse_end(b);
    stream_write(j, b);
}

static struct answer_usage usage_of(const struct job *j)
{
    struct answer_usage u = {0};
    int seen = -1;
    for (int i = 0; i < j->choice_count; i++) {
        const struct choice *c = &j->choices[i];
        if (c->prompt != seen) { /* the choices of a prompt share it */
            seen = c->prompt;
            u.prompt_tokens += c->usage.prompt_tokens;
            u.cached_tokens += c->usage.cached_tokens;
        }
        u.completion_tokens += j->request.no_output ? 0 : c->usage.completion_tokens;
        u.reasoning_tokens += c->thought_tokens;
        double prompt_ms = (double)c->usage.prompt_ns / 1e6;
        double predicted_ms = (double)c->usage.decode_ns / 1e6;
        u.prompt_ms = prompt_ms > u.prompt_ms ? prompt_ms : u.prompt_ms;
        u.predicted_ms = predicted_ms > u.predicted_ms ? predicted_ms : u.predicted_ms;
    }
    return u;
}

static struct answer_choice piece_of(struct choice *c, const char *text, size_t n)
{
    return (struct answer_choice){
        .index = c->index,
        .text = text,
        .text_len = n,
        .has_logprobs = c->job->request.logprobs && c->token_count > 0,
        .tokens = c->tokens,
        .token_count = c->token_count,
        .text_offset = c->text_offset,
    };
}

static void tokens_written(struct choice *c)
{
    for (size_t i = 0; i < c->token_count; i++)
        c->text_offset += answer_token_chars(c->job->server->text, c->tokens[i].token);
    c->token_count = 0;
}

static void stream_role(struct choice *c)
{
    struct job *j = c->job;
    if (c->begun)
        return;
    c->begun = true;
    stream_begin(j);
    if (j->kind != API_CHAT)
        return;
    struct answer_choice first = {.index = c->index};
    struct answer_head h = head_of(j);
    struct strbuf *b = chunk_open(j);
    answer_delta(b, &h, &first, true);
    chunk_close(j, b);
}

static void stream_chunk(struct choice *c, const struct answer_choice *piece)
{
    struct job *j = c->job;
    struct answer_head h = head_of(j);
    struct strbuf *b = chunk_open(j);
    answer_delta(b, &h, piece, false);
    if (j->request.timings_per_token) {
        struct answer_usage u = usage_of(j);
        answer_timings(b, &u);
    }
    tokens_written(c);
    chunk_close(j, b);
}

static void stream_piece(struct choice *c, const char *text, size_t n)
{
    stream_role(c);
    if (c->text.len > 0) {
        strbuf_append(&c->text, text, n);
        text = strbuf_str(&c->text);
        n = c->text.len;
    }
    struct answer_choice piece = piece_of(c, text, n);
    stream_chunk(c, &piece);
    strbuf_clear(&c->text);
}

/* What was split by now: the thought comes before what is said. */
static void stream_thought(struct choice *c)
{
    if (c->thought.len == 0)
        return;
    stream_role(c);
    struct answer_choice piece = piece_of(c, "", 0);
    piece.thought = c->thought.data;
    piece.thought_len = c->thought.len;
    stream_chunk(c, &piece);
    strbuf_clear(&c->thought);
}

/* A call that begins (`first`) or a piece of the arguments of the last one. */
static void stream_call(struct choice *c, bool first, const char *arguments, size_t n)
{
    const struct tool_call *call = &c->calls[c->call_count - 1];
    struct answer_call out = {.id = first ? call->id : NULL,
                              .name = call->name,
                              .arguments = arguments,
                              .arguments_len = n};
    stream_role(c);
    if (c->text.len > 0)
        stream_piece(c, "", 0);
    struct answer_choice piece = piece_of(c, "", 0);
    piece.calls = &out;
    piece.call_count = 1;
    piece.call_index = c->call_count - 1;
    stream_chunk(c, &piece);
}

static void stream_finish(struct choice *c)
{
    struct job *j = c->job;
    stream_role(c);
    if (c->text.len > 0 || c->token_count > 0)
        stream_piece(c, "", 0); /* tokens whose text stayed invisible still have logprobs */
    struct answer_choice last = piece_of(c, "", 0);
    last.finish_reason = c->finish_reason;
    struct answer_head h = head_of(j);
    struct strbuf *b = chunk_open(j);
    answer_delta(b, &h, &last, false);
    if (j->left_count == 0) {
        struct answer_usage u = usage_of(j);
        answer_timings(b, &u);
    }
    chunk_close(j, b);
}

static void stream_end(struct job *j)
{
    if (j->request.include_usage) {
        struct answer_usage u = usage_of(j);
        struct strbuf *b = chunk_open(j);
        answer_no_choices(b);
        answer_usage(b, &u);
        chunk_close(j, b);
    }
    struct strbuf *b = &j->server->scratch;
    strbuf_clear(b);
    sse_done(b);
    stream_write(j, b);
    http_stream_end(j->call->x);
}

/* ---- whole answers ---- */

static double rank_of(const struct choice *c)
{
    return c->logprob_count ? c->logprob_sum / c->logprob_count : -1e30;
}

/* best_of: of each prompt's sequences the n likeliest, likeliest first. Returns how many. */
static int choose(struct job *j, const struct choice **out)
{
    int count = 0;
    int of = j->request.best_of;
    for (int p = 0; p < j->request.prompt_count; p++) {
        bool taken[LIMIT_CHOICES] = {false};
        for (int k = 0; k < j->request.n; k++) {
            int best = -1;
            for (int i = 0; i < of; i++) {
                const struct choice *c = &j->choices[p * of + i];
                if (!taken[i] && (best < 0 || (of > j->request.n &&
                                               rank_of(c) > rank_of(&j->choices[p * of + best]))))
                    best = i;
            }
            taken[best] = true;
            out[count++] = &j->choices[p * of + best];
        }
    }
    return count;
}

/* The calls of all these choices, for one answer; NULL where memory is out. */
static struct answer_call *gather_calls(const struct choice *const *chosen, int count)
{
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += chosen[i]->call_count;
    struct answer_call *out = mem_calloc(total + 1, sizeof *out);
    for (int i = 0, k = 0; out && i < count; i++)
        for (size_t n = 0; n < chosen[i]->call_count; n++, k++) {
            const struct tool_call *call = &chosen[i]->calls[n];
            out[k] = (struct answer_call){.id = call->id,
                                          .name = call->name,
                                          .arguments = strbuf_str(&call->arguments),
                                          .arguments_len = call->arguments.len};
        }
    return out;
}

static void answer_whole(struct job *j)
{
    const struct choice *chosen[API_SEQUENCES_MAX];
    struct answer_choice out[API_SEQUENCES_MAX];
    int count = choose(j, chosen);
    struct answer_call *calls = gather_calls(chosen, count);
    if (!calls) {
        j->over = false;
        out_of_memory(j);
        return;
    }
    size_t call = 0;
    for (int i = 0; i < count; i++) {
        const struct choice *c = chosen[i];
        out[i] = (struct answer_choice){
            .index = i,
            .text = strbuf_str(&c->text),
            .text_len = c->text.len,
            .thought = c->thought.len > 0 ? c->thought.data : NULL,
            .thought_len = c->thought.len,
            .calls = calls + call,
            .call_count = c->call_count,
            .has_logprobs = j->request.logprobs,
            .tokens = c->tokens,
            .token_count = c->token_count,
            .finish_reason = c->finish_reason,
        };
        call += c->call_count;
    }
    struct answer_head h = head_of(j);
    struct answer_usage u = usage_of(j);
    struct strbuf b;
    strbuf_init(&b, ANSWER_BYTES_MAX);
    answer_begin(&b, &h, false, true);
    answer_choices(&b, &h, out, count);
    answer_usage(&b, &u);
    answer_timings(&b, &u);
    strbuf_putc(&b, '}');
    mem_free(calls);
    server_answer_json(j->call, 200, &b);
}

/* ---- events ---- */

static bool keep_token(struct choice *c, const struct engine_event *ev)
{
    if (!VEC_RESERVE(c->tokens, c->token_cap, c->token_count + 1))
        return false;
    struct answer_token *t = &c->tokens[c->token_count++];
    *t = (struct answer_token){
        .token = ev->token,
        .logprob = ev->logprob,
        .has_logprob = ev->has_logprob,
        .top_count = ev->top_count,
    };
    memcpy(t->top, ev->top, sizeof t->top[0] * (size_t)ev->top_count);
    return true;
}

/* ---- tools ---- */

static void sink_text(void *ctx, const char *text, size_t n)
{
    struct choice *c = ctx;
    strbuf_append(&c->text, text, n);
}

static void sink_call(void *ctx, const char *name, size_t n)
{
    struct choice *c = ctx;
    struct job *j = c->job;
    c->call_dropped = j->over || (!j->request.tools.parallel && c->call_count > 0);
    if (c->call_dropped)
        return;
    char *copy = mem_strndup(name, n);
    if (!copy || !VEC_RESERVE(c->calls, c->call_cap, c->call_count + 1)) {
        mem_free(copy);
        c->text.failed = true;
        c->call_dropped = true;
        return;
    }
    struct tool_call *call = &c->calls[c->call_count++];
    *call = (struct tool_call){.name = copy};
    strbuf_init(&call->arguments, ANSWER_BYTES_MAX);
    ident_make("call_", call->id);
    if (j->request.tool_form == ENGINE_TOOLS_MISTRAL) { /* its template wants nine characters */
        memmove(call->id, strchr(call->id, '_') + 1, 9);
        call->id[9] = '\0';
    }
    if (j->request.stream)
        stream_call(c, true, "", 0);
}

static void sink_arguments(void *ctx, const char *s, size_t n)
{
    struct choice *c = ctx;
    if (c->call_dropped || c->job->over)
        return;
    if (c->job->request.stream)
        stream_call(c, false, s, n);
    else
        strbuf_append(&c->calls[c->call_count - 1].arguments, s, n);
}

/* ---- thoughts, calls and text ---- */

/* Where what is said goes first. */
static struct strbuf *said_of(struct choice *c)
{
    return c->parses ? &c->said : &c->text;
}

/* Hands on what was told apart by now. */
static void deliver(struct choice *c)
{
    struct job *j = c->job;
    bool ok = !c->thought.failed && !c->said.failed;
    if (ok && j->request.stream)
        stream_thought(c);
    if (ok && c->parses && c->said.len > 0) {
        ok = tool_parse_push(&c->parse, c->said.data, c->said.len);
        strbuf_clear(&c->said);
    }
    if (!ok || c->text.failed)
        out_of_memory(j);
    else if (j->request.stream && !j->over && c->text.len > 0)
        stream_piece(c, "", 0);
}

/* A tag that is a special token has no text in the answer, but parts it all the same. */
static void push_special(struct choice *c, int32_t token)
{
    const struct engine_text *text = c->job->server->text;
    const struct api_request *r = &c->job->request;
    size_t n;
    const char *s = r->engine.keep_special || !engine_text_is_special(text, token)
                        ? NULL
                        : engine_text_token(text, token, &n);
    const char *const tags[] = {c->splits ? r->think_open : NULL, c->splits ? r->think_close : NULL,
                                c->parses ? tool_parse_marker(r->tool_form) : NULL};
    for (int i = 0; s && i < 3; i++) {
        if (!tags[i] || strlen(tags[i]) != n || memcmp(tags[i], s, n) != 0)
            continue;
        if (c->splits)
            reasoning_push(&c->reasoning, s, n, &c->thought, said_of(c));
        else
            strbuf_append(said_of(c), s, n);
        return;
    }
}

static void split_text(struct choice *c, const struct engine_event *ev)
{
    bool is_token = ev->kind == ENGINE_EVENT_TOKEN;
    bool thought = c->splits && reasoning_is_thinking(&c->reasoning);
    if (is_token)
        push_special(c, ev->token);
    if (c->splits)
        reasoning_push(&c->reasoning, ev->text, (size_t)ev->text_len, &c->thought, said_of(c));
    else
        strbuf_append(said_of(c), ev->text, (size_t)ev->text_len);
    if (is_token && c->splits && (thought || reasoning_is_thinking(&c->reasoning)))
        c->thought_tokens++;
    deliver(c);
}

/* The answer is complete: what waited is decided. */
static void split_end(struct choice *c)
{
    if (c->splits)
        reasoning_end(&c->reasoning, &c->thought, said_of(c));
    deliver(c);
    if (c->parses && !c->job->over && !tool_parse_end(&c->parse))
        out_of_memory(c->job);
    if (c->text.failed && !c->job->over)
        out_of_memory(c->job);
    if (c->call_count > 0 && strcmp(c->finish_reason, "stop") == 0)
        c->finish_reason = "tool_calls";
}

static void on_text(struct choice *c, const struct engine_event *ev)
{
    struct job *j = c->job;
    bool is_token = ev->kind == ENGINE_EVENT_TOKEN;
    c->decoded += is_token;
    if (is_token && j->call && j->call->first_token_ns == 0)
        j->call->first_token_ns = clock_now_ns();
    if (j->over || j->request.no_output)
        return;
    if (is_token && ev->has_logprob) {
        c->logprob_sum += (double)ev->logprob;
        c->logprob_count++;
    }
    if (is_token && j->request.logprobs && !keep_token(c, ev)) {
        out_of_memory(j);
        return;
    }
    if (c->splits || c->parses) {
        split_text(c, ev);
        return;
    }
    if (j->request.stream) {
        if (ev->text_len > 0)
            stream_piece(c, ev->text, (size_t)ev->text_len);
        return;
    }
    strbuf_append(&c->text, ev->text, (size_t)ev->text_len);
    if (c->text.failed)
        out_of_memory(j);
}

static void on_prompt_token(struct choice *c, const struct engine_event *ev)
{
    if (!c->job->over && c->job->request.logprobs && !keep_token(c, ev))
        out_of_memory(c->job);
}

static void on_terminal(struct choice *c, const struct engine_event *ev)
{
    struct job *j = c->job;
    struct server *s = j->server;
    id_map_remove(&s->choices, c->engine_id);
    fair_leave(&s->fair, &c->fair);
    c->open = false;
    c->usage = ev->usage;
    j->open_count--;
    j->left_count--;
    if (j->call) {
        if (c->index % j->request.best_of == 0) /* the choices of a prompt share it */
            j->call->tokens_in += ev->usage.prompt_tokens;
        j->call->tokens_out += ev->usage.completion_tokens;
    }
    if (ev->kind == ENGINE_EVENT_ERROR) {
        fail_job(j, &ev->err);
    } else if (ev->kind == ENGINE_EVENT_CANCELLED && !j->over) {
        struct err e;
        err_set(&e, STATUS_CANCELLED, NULL, "the request was cancelled");
        fail_job(j, &e);
    }
    if (j->over)
        return;
    c->finish_reason =
        ev->finish == ENGINE_FINISH_LENGTH || j->request.no_output ? "length" : "stop";
    if (c->splits || c->parses)
        split_end(c);
    if (j->over)
        return;
    if (j->request.stream)
        stream_finish(c);
    if (j->left_count > 0)
        return;
    j->over = true;
    if (j->request.stream)
        stream_end(j);
    else
        answer_whole(j);
}

/* Reads a choice's outbox until it is empty or the stream is full; then the engine pauses it. */
static void read_choice(struct choice *c)
{
    struct job *j = c->job;
    struct server *s = j->server;
    c->waits = false;
    while (c->open) {
        if (!j->over && j->streams && j->call && http_stream_is_full(j->call->x)) {
            c->waits = true;
            return;
        }
        int n = engine_read(s->engine, c->engine_id, s->events, SERVER_EVENTS);
        for (int i = 0; i < n; i++) {
            const struct engine_event *ev = &s->events[i];
            switch (ev->kind) {
            case ENGINE_EVENT_PROMPT_TOKEN:
                on_prompt_token(c, ev);
                break;
            case ENGINE_EVENT_TOKEN:
            case ENGINE_EVENT_TEXT:
                on_text(c, ev);
                break;
            case ENGINE_EVENT_DONE:
            case ENGINE_EVENT_ERROR:
            case ENGINE_EVENT_CANCELLED:
                on_terminal(c, ev);
                break;
            }
        }
        if (n < SERVER_EVENTS)
            return;
    }
}

/* ---- preparing and submitting ---- */

static void prepare(void *ctx)
{
    struct job *j = ctx;
    struct server *s = j->server;
    j->status = api_request_parse(j->kind, &s->api, strbuf_str(&j->body), j->body.len, &j->request,
                                  &j->err);
    j->parsed = j->status == STATUS_OK;
    if (j->parsed)
        j->status = api_request_tokenise(&j->request, s->text, &j->err);
    if (j->status == STATUS_OK)
        j->status = api_request_constrain(&j->request, s->engine, &j->err);
}

/* With echo the prompt stands before the answer. */
static enum status echo_prompt(struct choice *c, struct err *e)
{
    struct job *j = c->job;
    const struct api_prompt *p = &j->request.prompts[c->prompt];
    if (p->text)
        strbuf_puts(&c->text, p->text);
    else if (engine_text_decode(j->server->text, p->tokens.ids, p->tokens.count, true, &c->text,
                                e) != STATUS_OK)
        return e->code;
    if (c->text.failed)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    if (j->request.logprobs) { /* the engine scores all but the first token */
        struct engine_event first = {.token = p->tokens.ids[0]};
        if (!keep_token(c, &first))
            return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    }
    return STATUS_OK;
}

/* Puts a choice into its client's line. */
static enum status line_up(struct job *j, int i, const char *client, uint64_t seed, struct err *e)
{
    struct choice *c = &j->choices[i];
    c->job = j;
    c->seed = ident_derive(seed, i % j->request.best_of);
    c->index = i;
    c->prompt = i / j->request.best_of;
    strbuf_init(&c->text, ANSWER_BYTES_MAX);
    strbuf_init(&c->thought, ANSWER_BYTES_MAX);
    c->splits = j->request.think_open != NULL;
    if (c->splits)
        reasoning_init(&c->reasoning, j->request.think_open, j->request.think_close,
                       j->request.thinking);
    c->parses = j->request.tools.list != NULL;
    if (c->parses) {
        const struct tool_sink sink = {sink_text, sink_call, sink_arguments, c};
        strbuf_init(&c->said, ANSWER_BYTES_MAX);
        tool_parse_init(&c->parse, j->request.tool_form, j->request.tools.forced,
                        j->request.tools.list, &sink);
    }
    if (j->request.echo) {
        enum status st = echo_prompt(c, e);
        if (st != STATUS_OK)
            return st;
    }
    return fair_enter(&j->server->fair, client, &c->fair, e);
}

static enum status submit_choice(struct choice *c, struct err *e)
{
    struct job *j = c->job;
    struct server *s = j->server;
    struct engine_request r = j->request.engine;
    const struct api_prompt *p = &j->request.prompts[c->prompt];
    r.request_id = j->call->request_id;
    r.prompt = p->tokens.ids;
    r.prompt_count = (int)p->tokens.count;
    r.sampling.seed = c->seed;
    /* Before the engine has it: events that find nobody could never be read. */
    if (!id_map_reserve(&s->choices))
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    enum status st = engine_submit(s->engine, &r, &c->engine_id, j->uses, e);
    if (st != STATUS_OK && j->kind == API_CHAT && strcmp(e->param, "prompt") == 0)
        snprintf(e->param, sizeof e->param, "messages"); /* what the client calls it */
    if (st != STATUS_OK)
        return st;
    id_map_put(&s->choices, c->engine_id, c);
    c->open = true;
    j->open_count++;
    strbuf_deinit(&j->body);
    if (j->request.generation != 0 && j->uses[0].generation != j->request.generation)
        return err_set(e, STATUS_BUSY, "adapter", "the adapter was replaced at this very moment");
    return STATUS_OK;
}

/* The adapter was replaced since the prompt was made: it may be made by other rules now. */
static bool is_stale(const struct job *j)
{
    const struct api_request *r = &j->request;
    return r->generation != 0 && j->open_count == 0 && j->left_count == j->choice_count &&
           keeper_generation(j->server->keeper, r->engine.adapters[0].name) != r->generation;
}

static void on_prepared(void *ctx);

static void prepare_again(struct job *j)
{
    for (int i = 0; i < j->choice_count; i++)
        fair_leave(&j->server->fair, &j->choices[i].fair);
    free_choices(j);
    j->left_count = 0;
    api_request_deinit(&j->request);
    j->parsed = false;
    j->in_pool = loop_pool(j->server->loop, prepare, on_prepared, j);
    if (!j->in_pool)
        out_of_memory(j);
}

/* Hands the engine what has a seat. A request that it refuses has an answer then, later. */
static void seat_waiting(struct server *s)
{
    struct fair_item *item;
    while ((item = fair_next(&s->fair)) != NULL) {
        struct choice *c = (struct choice *)((char *)item - offsetof(struct choice, fair));
        struct err e = {0};
        if (is_stale(c->job)) {
            prepare_again(c->job);
            continue;
        }
        if (submit_choice(c, &e) == STATUS_OK)
            continue;
        fair_leave(&s->fair, item);
        fail_job(c->job, &e);
    }
}

/* Who asks: the API key where one is asked for, else the address. */
static void client_of(struct call *c, char out[FAIR_NAME_BYTES])
{
    const char *key = c->server->keys.count ? server_key_of(c) : NULL;
    uint8_t digest[SHA256_BYTES];
    if (!key) {
        http_peer(c->x, out);
        return;
    }
    sha256_of(key, strlen(key), digest);
    sha256_hex(digest, out);
}

static void note_adapters(struct job *j)
{
    struct call *c = j->call;
    size_t n = 0;
    for (int i = 0; i < j->request.engine.adapter_count && n < sizeof c->adapter; i++)
        n += (size_t)snprintf(c->adapter + n, sizeof c->adapter - n, "%s%s", i ? "+" : "",
                              j->request.engine.adapters[i].name);
}

static void submit(struct job *j)
{
    struct err e = {0};
    note_adapters(j);
    int count = j->request.prompt_count * j->request.best_of;
    j->choices = mem_calloc((size_t)count, sizeof *j->choices);
    if (!j->choices) {
        out_of_memory(j);
        return;
    }
    j->choice_count = count;
    j->left_count = count;
    uint64_t seed = j->request.has_seed ? j->request.engine.sampling.seed : ident_seed();
    char client[FAIR_NAME_BYTES];
    client_of(j->call, client);
    for (int i = 0; i < count; i++) {
        if (line_up(j, i, client, seed, &e) != STATUS_OK) {
            fail_job(j, &e);
            return;
        }
    }
    seat_waiting(j->server);
}

static void on_prepared(void *ctx)
{
    struct job *j = ctx;
    j->in_pool = false;
    if (j->status != STATUS_OK || j->request.generation == 0)
        strbuf_deinit(&j->body);
    if (j->call && !j->over) {
        if (j->status == STATUS_OK)
            submit(j);
        else
            fail_job(j, &j->err);
    }
    free_if_ended(j);
}

static void begin(struct call *c, enum api_kind kind)
{
    struct server *s = c->server;
    struct job *j = mem_calloc(1, sizeof *j);
    struct err e;
    if (!j) {
        err_set(&e, STATUS_NO_MEMORY, NULL, "out of memory");
        server_answer_error(c, api_error_of(e.code), &e);
        return;
    }
    j->server = s;
    j->call = c;
    j->kind = kind;
    j->created = clock_unix_s();
    ident_make(kind == API_CHAT ? "chatcmpl-" : "cmpl-", j->id);
    http_take_body(c->x, &j->body);
    j->next = s->jobs;
    if (s->jobs)
        s->jobs->prev = j;
    s->jobs = j;
    c->job = j;
    j->in_pool = loop_pool(s->loop, prepare, on_prepared, j);
    if (!j->in_pool)
        out_of_memory(j);
}

void api_generate_chat(struct call *c, const char *tail)
{
    (void)tail;
    begin(c, API_CHAT);
}

void api_generate_completion(struct call *c, const char *tail)
{
    (void)tail;
    begin(c, API_COMPLETION);
}

void api_generate_on_engine(struct server *s)
{
    uint64_t ids[READY_AT_ONCE];
    int n;
    do {
        n = engine_ready(s->engine, ids, READY_AT_ONCE);
        for (int i = 0; i < n; i++) {
            struct choice *c = id_map_get(&s->choices, ids[i]);
            if (!c)
                continue;
            struct job *j = c->job;
            read_choice(c);
            free_if_ended(j);
        }
    } while (n == READY_AT_ONCE);
    seat_waiting(s);
}

void api_generate_on_room(struct call *c)
{
    struct job *j = c->job;
    if (!j)
        return;
    for (int i = 0; i < j->choice_count; i++) {
        if (j->choices[i].waits)
            read_choice(&j->choices[i]);
    }
    seat_waiting(c->server);
}

void api_generate_on_gone(struct call *c)
{
    struct job *j = c->job;
    if (!j)
        return;
    j->over = true;
    cancel_open(j);
}

void api_generate_on_end(struct call *c)
{
    struct job *j = c->job;
    if (!j)
        return;
    api_generate_on_gone(c);
    c->job = NULL;
    j->call = NULL;
    /* Outboxes nobody waited for while the stream was full. */
    for (int i = 0; i < j->choice_count; i++) {
        if (j->choices[i].waits)
            read_choice(&j->choices[i]);
    }
    free_if_ended(j);
    seat_waiting(c->server);
}

void api_generate_drain(struct server *s)
{
    s->fair.seats = 0; /* nobody waits any more: the engine refuses them */
    seat_waiting(s);
}

void api_generate_on_tick(struct server *s, int64_t now_ns)
{
    for (struct job *j = s->jobs; j; j = j->next) {
        if (!j->call || j->over || j->in_pool || !j->request.stream)
            continue;
        int64_t since = j->written_ns ? j->written_ns : j->call->begin_ns;
        if (now_ns - since < (int64_t)s->opt->ping_ms * 1000000 || http_stream_unsent(j->call->x))
            continue;
        stream_begin(j);
        strbuf_clear(&s->scratch);
        sse_ping(&s->scratch);
        stream_write(j, &s->scratch);
    }
}

void api_generate_cut_all(struct server *s)
{
    for (struct job *j = s->jobs; j; j = j->next) {
        j->over = true;
        cancel_open(j);
        if (j->call)
            http_cut(j->call->x);
    }
}

static bool holds(const struct job *j, uint64_t generation)
{
    bool found = false;
    for (int i = 0; j->open_count > 0 && i < j->request.engine.adapter_count; i++)
        found |= j->uses[i].generation == generation;
    return found;
}

void api_generate_put_users(const struct server *s, uint64_t generation, int max, struct strbuf *b)
{
    int count = 0;
    for (const struct job *j = s->jobs; j && count < max; j = j->next) {
        if (!j->call || !holds(j, generation))
            continue;
        if (count++)
            strbuf_putc(b, ',');
        strbuf_json_string(b, j->call->request_id, strlen(j->call->request_id));
    }
}

static bool waits_for(const struct job *j, const char *name)
{
    if (j->open_count > 0 || j->left_count == 0)
        return false;
    for (int i = 0; i < j->request.engine.adapter_count; i++) {
        if (strcmp(j->request.engine.adapters[i].name, name) == 0)
            return true;
    }
    return false;
}

void api_generate_put_queued(const struct server *s, struct strbuf *b)
{
    for (const struct job *j = s->jobs; j; j = j->next) {
        for (int i = 0; j->left_count && i < j->request.engine.adapter_count; i++) {
            const char *name = j->request.engine.adapters[i].name;
            bool told = !waits_for(j, name);
            for (const struct job *k = s->jobs; k != j && !told; k = k->next)
                told = waits_for(k, name);
            if (!told)
                strbuf_printf(b, b->len ? ",%s" : "%s", name);
        }
    }
}

static void put_slot(const struct server *s, const struct choice *c, int id, struct strbuf *b)
{
    const struct job *j = c->job;
    const struct sample_params *p = &j->request.engine.sampling;
    int most = j->request.engine.max_tokens;
    strbuf_printf(b, "{\"id\":%d,\"id_task\":%llu,\"n_ctx\":%d,\"speculative\":false,", id,
                  (unsigned long long)c->engine_id, s->info.ctx_max);
    strbuf_puts(b, "\"is_processing\":true,\"request_id\":");
    strbuf_json_string(b, j->id, strlen(j->id));
    strbuf_puts(b, ",\"adapters\":[");
    for (int i = 0; i < j->request.engine.adapter_count; i++) {
        const char *name = j->request.engine.adapters[i].name;
        strbuf_puts(b, i ? "," : "");
        strbuf_json_string(b, name, strlen(name));
    }
    strbuf_printf(b,
                  "],\"params\":{\"temperature\":%.7g,\"top_k\":%d,\"top_p\":%.7g,"
                  "\"min_p\":%.7g,\"typical_p\":%.7g,\"repeat_penalty\":%.7g,"
                  "\"presence_penalty\":%.7g,\"frequency_penalty\":%.7g,\"n_predict\":%d,"
                  "\"stream\":%s},\"next_token\":[{\"has_next_token\":true,\"n_remain\":%d,"
                  "\"n_decoded\":%d}]}",
                  (double)p->temperature, p->top_k, (double)p->top_p, (double)p->min_p,
                  (double)p->typical_p, (double)p->repetition_penalty, (double)p->presence_penalty,
                  (double)p->frequency_penalty, most > 0 ? most : -1,
                  j->request.stream ? "true" : "false", most > 0 ? most - c->decoded : -1,
                  c->decoded);
}

int api_generate_put_slots(const struct server *s, struct strbuf *b)
{
    int count = 0;
    for (const struct job *j = s->jobs; j; j = j->next) {
        for (int i = 0; i < j->choice_count; i++) {
            if (!j->choices[i].open)
                continue;
            strbuf_puts(b, count ? "," : "");
            put_slot(s, &j->choices[i], count++, b);
        }
    }
    return count;
}

int api_generate_end_users(struct server *s, uint64_t generation, const struct err *e)
{
    int count = 0;
    for (struct job *j = s->jobs; j; j = j->next) {
        if (j->over || !holds(j, generation))
            continue;
        fail_job(j, e);
        count++;
    }
    return count;
}

bool api_generate_release(struct server *s)
{
    bool busy = false;
    struct job *next;
    for (struct job *j = s->jobs; j; j = next) {
        next = j->next;
        j->open_count = 0; /* their terminal events will not be read any more */
        busy |= j->in_pool;
        free_if_ended(j);
    }
    return busy;
}
