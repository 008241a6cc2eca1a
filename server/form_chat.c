#include "server/form_chat.h"

#include "engine/base/mem.h"
#include "server/job_write.h"
#include "server/server_state.h"
#include "server/sse.h"

/* A chunk is one object in one frame, built in the scratch buffer. */
static struct strbuf *chunk_open(struct job *j)
{
    struct strbuf *b = &j->server->scratch;
    strbuf_clear(b);
    sse_begin(b);
    struct answer_head h = job_write_head(j);
    answer_begin(b, &h, true, !j->adapter_told);
    j->adapter_told = true;
    return b;
}

static void chunk_close(struct job *j, struct strbuf *b)
{
    strbuf_putc(b, '}');
    sse_end(b);
    job_write_frame(j, b);
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
        c->text_offset += answer_token_chars(c->job->server->text, c->tokens[i].token,
                                             c->job->request.engine.keep_special);
    c->token_count = 0;
}

static void stream_role(struct choice *c)
{
    struct job *j = c->job;
    if (c->begun)
        return;
    c->begun = true;
    job_write_begin(j);
    if (j->kind != API_CHAT)
        return;
    struct answer_choice first = {.index = c->index};
    struct answer_head h = job_write_head(j);
    struct strbuf *b = chunk_open(j);
    answer_delta(b, &h, &first, true);
    chunk_close(j, b);
}

static void stream_chunk(struct choice *c, const struct answer_choice *piece)
{
    struct job *j = c->job;
    struct answer_head h = job_write_head(j);
    struct strbuf *b = chunk_open(j);
    answer_delta(b, &h, piece, false);
    if (j->request.timings_per_token) {
        struct answer_usage u = job_write_usage(j);
        answer_timings(b, &u);
    }
    tokens_written(c);
    chunk_close(j, b);
}

static void put_piece(struct choice *c, const char *text, size_t n)
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

static void put_thought(struct choice *c)
{
    stream_role(c);
    struct answer_choice piece = piece_of(c, "", 0);
    piece.thought = c->thought.data;
    piece.thought_len = c->thought.len;
    stream_chunk(c, &piece);
    strbuf_clear(&c->thought);
}

static void put_call(struct choice *c, bool first, const char *arguments, size_t n)
{
    const struct tool_call *call = &c->calls[c->call_count - 1];
    struct answer_call out = {.id = first ? call->id : NULL,
                              .name = call->name,
                              .arguments = arguments,
                              .arguments_len = n};
    stream_role(c);
    if (c->text.len > 0)
        put_piece(c, "", 0);
    struct answer_choice piece = piece_of(c, "", 0);
    piece.calls = &out;
    piece.call_count = 1;
    piece.call_index = c->call_count - 1;
    stream_chunk(c, &piece);
}

static void put_finish(struct choice *c)
{
    struct job *j = c->job;
    stream_role(c);
    if (c->text.len > 0 || c->token_count > 0)
        put_piece(c, "", 0); /* tokens whose text stayed invisible still have logprobs */
    struct answer_choice last = piece_of(c, "", 0);
    last.finish_reason = c->finish_reason;
    struct answer_head h = job_write_head(j);
    struct strbuf *b = chunk_open(j);
    answer_delta(b, &h, &last, false);
    if (j->left_count == 0) {
        struct answer_usage u = job_write_usage(j);
        answer_timings(b, &u);
    }
    chunk_close(j, b);
}

static void put_end(struct job *j)
{
    if (j->request.include_usage) {
        struct answer_usage u = job_write_usage(j);
        struct strbuf *b = chunk_open(j);
        answer_no_choices(b);
        answer_usage(b, &u);
        chunk_close(j, b);
    }
    struct strbuf *b = &j->server->scratch;
    strbuf_clear(b);
    sse_done(b);
    job_write_frame(j, b);
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

static bool put_whole(struct job *j, struct strbuf *b)
{
    const struct choice *chosen[API_SEQUENCES_MAX];
    struct answer_choice out[API_SEQUENCES_MAX];
    int count = choose(j, chosen);
    struct answer_call *calls = gather_calls(chosen, count);
    if (!calls)
        return false;
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
    struct answer_head h = job_write_head(j);
    struct answer_usage u = job_write_usage(j);
    answer_begin(b, &h, false, true);
    answer_choices(b, &h, out, count);
    answer_usage(b, &u);
    answer_timings(b, &u);
    strbuf_putc(b, '}');
    mem_free(calls);
    return true;
}

static void put_error(struct job *j, const struct api_error_kind *k, const struct err *e,
                      struct strbuf *b)
{
    (void)j;
    sse_begin(b);
    api_error_write(b, k, e);
    sse_end(b);
}

const struct form form_chat = {
    .id_prefix = "chatcmpl-",
    .call_prefix = "call_",
    .piece = put_piece,
    .thought = put_thought,
    .call = put_call,
    .finish = put_finish,
    .end = put_end,
    .whole = put_whole,
    .error = put_error,
    .ping = sse_ping,
};

const struct form form_chat_completion = {
    .id_prefix = "cmpl-",
    .piece = put_piece,
    .finish = put_finish,
    .end = put_end,
    .whole = put_whole,
    .error = put_error,
    .ping = sse_ping,
};
