#include "server/api_generate.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/sha256.h"
#include "engine/base/vec.h"
#include "server/api_embeddings.h"
#include "server/form.h"
#include "server/job_embed.h"
#include "server/job_write.h"
#include "server/server_state.h"

#define READY_AT_ONCE  64
#define PROMPTS_LOGGED 4 /* of a request */

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

/* Pieces go to the form as they come, else they are gathered for the whole answer. */
static bool hands_on(const struct job *j)
{
    return j->request.stream || j->form->in_items;
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
    strbuf_init(&call->arguments, JOB_BYTES_MAX);
    ident_make(j->form->call_prefix, call->id);
    if (j->request.tool_form == ENGINE_TOOLS_MISTRAL) { /* its template wants nine characters */
        memmove(call->id, strchr(call->id, '_') + 1, 9);
        call->id[9] = '\0';
    }
    if (hands_on(j))
        job_write_call(c, true, "", 0);
}

static void sink_arguments(void *ctx, const char *s, size_t n)
{
    struct choice *c = ctx;
    if (c->call_dropped || c->job->over)
        return;
    if (hands_on(c->job))
        job_write_call(c, false, s, n);
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
    if (ok && hands_on(j))
        job_write_thought(c);
    if (ok && c->parses && c->said.len > 0) {
        ok = tool_parse_push(&c->parse, c->said.data, c->said.len);
        strbuf_clear(&c->said);
    }
    if (!ok || c->text.failed)
        job_write_no_memory(j);
    else if (hands_on(j) && !j->over && c->text.len > 0)
        job_write_piece(c, "", 0);
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
    if (is_token && c->splits && (thought || reasoning_is_thinking(&c->reasoning))) {
        c->thought_tokens++;
        c->tokens_told = c->token_count;
    }
    deliver(c);
}

/* The answer is complete: what waited is decided. */
static void split_end(struct choice *c)
{
    if (c->splits)
        reasoning_end(&c->reasoning, &c->thought, said_of(c));
    deliver(c);
    if (c->parses && !c->job->over && !tool_parse_end(&c->parse))
        job_write_no_memory(c->job);
    if (c->text.failed && !c->job->over)
        job_write_no_memory(c->job);
    if (c->call_count > 0 && strcmp(c->finish_reason, "stop") == 0)
        c->finish_reason = "tool_calls";
}

static void on_text(struct choice *c, const struct engine_event *ev)
{
    struct job *j = c->job;
    bool is_token = ev->kind == ENGINE_EVENT_TOKEN;
    c->decoded += is_token;
    c->usage = ev->usage;
    c->usage.completion_tokens = c->decoded; /* the engine may be ahead of what was read */
    if (is_token && j->call && j->call->first_token_ns == 0) {
        j->call->first_token_ns = clock_now_ns();
        metrics_first_token(&j->server->metrics,
                            (double)(j->call->first_token_ns - j->call->begin_ns) * 1e-9);
    }
    if (j->over || j->request.no_output)
        return;
    if (is_token && ev->has_logprob) {
        c->logprob_sum += (double)ev->logprob;
        c->logprob_count++;
    }
    if (is_token && j->request.logprobs && !keep_token(c, ev)) {
        job_write_no_memory(j);
        return;
    }
    if (c->splits || c->parses) {
        split_text(c, ev);
        return;
    }
    if (hands_on(j)) {
        if (ev->text_len > 0)
            job_write_piece(c, ev->text, (size_t)ev->text_len);
        return;
    }
    strbuf_append(&c->text, ev->text, (size_t)ev->text_len);
    if (c->text.failed)
        job_write_no_memory(j);
}

static void on_prompt_token(struct choice *c, const struct engine_event *ev)
{
    if (!c->job->over && c->job->request.logprobs && !keep_token(c, ev))
        job_write_no_memory(c->job);
}

static void line_up_more(struct job *j);

/* One of them is there: the next text may stand in line. */
static void on_embedding(struct job *j)
{
    if (j->left_count == 0)
        job_embed_write(j);
    else
        line_up_more(j);
}

static void on_terminal(struct choice *c, const struct engine_event *ev)
{
    struct job *j = c->job;
    struct server *s = j->server;
    id_map_remove(&s->choices, c->engine_id);
    fair_leave(&s->fair, &c->fair);
    c->open = false;
    c->usage = ev->usage;
    c->embedding = ev->embedding;
    j->open_count--;
    j->left_count--;
    if (j->call) {
        if (c->index % j->request.best_of == 0) /* the choices of a prompt share it */
            j->call->tokens_in += ev->usage.prompt_tokens;
        j->call->tokens_out += ev->usage.completion_tokens;
        access_log_spent(j->call, c);
    }
    if (ev->kind == ENGINE_EVENT_ERROR) {
        job_write_error(j, &ev->err);
    } else if (ev->kind == ENGINE_EVENT_CANCELLED && !j->over) {
        struct err e;
        err_set(&e, STATUS_CANCELLED, NULL, "the request was cancelled");
        job_write_error(j, &e);
    }
    if (j->over)
        return;
    if (j->kind == API_EMBEDDING) {
        on_embedding(j);
        return;
    }
    c->finish_reason =
        ev->finish == ENGINE_FINISH_LENGTH || j->request.no_output ? "length" : "stop";
    if (c->splits || c->parses)
        split_end(c);
    if (j->over)
        return;
    if (hands_on(j))
        job_write_finish(c);
    if (j->over || j->left_count > 0)
        return;
    j->over = true;
    if (j->request.stream)
        job_write_end(j);
    else
        job_write_whole(j);
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
    if (j->status == STATUS_OK && j->kind == API_EMBEDDING)
        j->status = api_embeddings_check(&s->api, &j->request, &j->err);
    if (j->status == STATUS_OK)
        j->status = api_request_constrain(&j->request, s->engine, &j->err);
}

/* With echo the prompt stands before the answer. */
static enum status echo_prompt(struct choice *c, struct err *e)
{
    struct job *j = c->job;
    const struct api_prompt *p = &j->request.prompts[c->prompt];
    bool special = j->request.engine.keep_special;
    if (p->text && !special)
        strbuf_puts(&c->text, p->text);
    else if (engine_text_decode(j->server->text, p->tokens.ids, p->tokens.count, special, &c->text,
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
    strbuf_init(&c->text, JOB_BYTES_MAX);
    strbuf_init(&c->thought, JOB_BYTES_MAX);
    c->splits = j->request.think_open != NULL;
    if (c->splits)
        reasoning_init(&c->reasoning, j->request.think_open, j->request.think_close,
                       j->request.thinking);
    c->parses = j->request.tools.list != NULL;
    if (c->parses) {
        const struct tool_sink sink = {sink_text, sink_call, sink_arguments, c};
        strbuf_init(&c->said, JOB_BYTES_MAX);
        tool_parse_init(&c->parse, j->request.tool_form, j->request.tools.forced,
                        j->request.tools.list, &sink);
    }
    if (j->request.echo) {
        enum status st = echo_prompt(c, e);
        if (st != STATUS_OK)
            return st;
    }
    c->fair.priority = j->request.priority;
    c->lined_ns = clock_now_ns();
    if (!j->call->times.lined_ns)
        j->call->times.lined_ns = c->lined_ns;
    return fair_enter(&j->server->fair, client, &c->fair, e);
}

/* False: not all choices of the answer would come from the same generations. */
static bool take_uses(struct job *j, const struct engine_adapter_use *uses)
{
    bool same = j->request.generation == 0 || uses[0].generation == j->request.generation;
    for (int i = 0; i < j->request.engine.adapter_count; i++) {
        same &= !j->uses_known || uses[i].generation == j->uses[i].generation;
        j->uses[i] = uses[i];
    }
    j->uses_known = true;
    return same;
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
    struct engine_adapter_use uses[LIMIT_ADAPTERS_PER_REQUEST];
    int64_t now_ns = clock_now_ns(); /* before the engine's own count of the wait begins */
    enum status st = engine_submit(s->engine, &r, &c->engine_id, uses, e);
    if (st != STATUS_OK && strcmp(e->param, "prompt") == 0)
        snprintf(e->param, sizeof e->param, "%s", api_request_prompt_field(j->kind));
    if (st != STATUS_OK)
        return st;
    id_map_put(&s->choices, c->engine_id, c);
    c->submitted_ns = now_ns;
    c->open = true;
    j->open_count++;
    strbuf_deinit(&j->body);
    if (!take_uses(j, uses))
        return err_set(e, STATUS_BUSY, "adapter", "the adapter was replaced at this very moment");
    return STATUS_OK;
}

/* The adapter was replaced since the prompt was made: it may be made by other rules now. */
static bool is_stale(const struct job *j)
{
    const struct api_request *r = &j->request;
    return r->generation != 0 && j->open_count == 0 && j->left_count == j->choice_count &&
           keeper_names_generation(keeper_names_of(j->server->keeper),
                                   r->engine.adapters[0].name) != r->generation;
}

static void on_prepared(void *ctx);

static void prepare_again(struct job *j)
{
    for (int i = 0; i < j->choice_count; i++)
        fair_leave(&j->server->fair, &j->choices[i].fair);
    job_free_choices(j);
    j->left_count = 0;
    api_request_deinit(&j->request);
    j->parsed = false;
    j->in_pool = loop_pool(j->server->loop, prepare, on_prepared, j);
    if (!j->in_pool)
        job_write_no_memory(j);
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
        job_write_error(c->job, &e);
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

/* Puts the job's next choices in line: of answers all, of embeddings as many as may stand there. */
static void line_up_more(struct job *j)
{
    const int most = j->kind == API_EMBEDDING ? JOB_EMBED_AT_ONCE : j->choice_count;
    char client[FAIR_NAME_BYTES];
    client_of(j->call, client);
    while (j->lined_count < j->choice_count) {
        struct err e = {0};
        int ended = j->choice_count - j->left_count, there = j->lined_count - ended;
        if (there >= most)
            return;
        enum status st = line_up(j, j->lined_count, client, j->seed, &e);
        if (st == STATUS_BUSY && there > 0 && j->kind == API_EMBEDDING)
            return; /* the next that ends brings us here again */
        if (st != STATUS_OK) {
            job_write_error(j, &e);
            return;
        }
        j->lined_count++;
    }
}

static void submit(struct job *j)
{
    note_adapters(j);
    for (int i = 0; i < j->request.prompt_count && i < PROMPTS_LOGGED; i++)
        access_log_prompt(j->call, j->request.prompts[i].tokens.ids,
                          j->request.prompts[i].tokens.count);
    int count = j->request.prompt_count * j->request.best_of;
    j->choices = mem_calloc((size_t)count, sizeof *j->choices);
    if (!j->choices) {
        job_write_no_memory(j);
        return;
    }
    j->choice_count = count;
    j->left_count = count;
    j->seed = j->request.has_seed ? j->request.engine.sampling.seed : ident_seed();
    line_up_more(j);
    if (!j->over)
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
            job_write_error(j, &j->err);
    }
    job_free_if_ended(j);
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
    j->form = form_of(kind);
    j->created = clock_unix_s();
    ident_make(j->form->id_prefix, j->id);
    http_take_body(c->x, &j->body);
    j->next = s->jobs;
    if (s->jobs)
        s->jobs->prev = j;
    s->jobs = j;
    c->job = j;
    j->in_pool = loop_pool(s->loop, prepare, on_prepared, j);
    if (!j->in_pool)
        job_write_no_memory(j);
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

void api_generate_embeddings(struct call *c, const char *tail)
{
    (void)tail;
    begin(c, API_EMBEDDING);
}

void api_generate_response(struct call *c, const char *tail)
{
    (void)tail;
    begin(c, API_RESPONSES);
}

void api_generate_message(struct call *c, const char *tail)
{
    (void)tail;
    begin(c, API_MESSAGES);
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
            job_free_if_ended(j);
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
    job_cancel(j);
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
    job_free_if_ended(j);
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
        job_write_ping(j);
    }
}

void api_generate_cut_all(struct server *s)
{
    for (struct job *j = s->jobs; j; j = j->next) {
        j->over = true;
        job_cancel(j);
        if (j->call)
            http_cut(j->call->x);
    }
}

int api_generate_end_users(struct server *s, uint64_t generation, const struct err *e)
{
    int count = 0;
    for (struct job *j = s->jobs; j; j = j->next) {
        if (j->over || !job_holds(j, generation))
            continue;
        job_write_error(j, e);
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
        job_free_if_ended(j);
    }
    return busy;
}
