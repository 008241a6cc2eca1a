#include "server/job_write.h"

#include "engine/base/clock.h"
#include "server/form.h"
#include "server/server_state.h"

void job_write_frame(struct job *j, const struct strbuf *frame)
{
    j->written_ns = clock_now_ns();
    if (frame->failed)
        http_cut(j->call->x);
    else
        http_stream_write(j->call->x, frame->data, frame->len);
}

void job_write_begin(struct job *j)
{
    if (j->streams)
        return;
    j->streams = true;
    j->written_ns = clock_now_ns();
    http_add_header(j->call->x, "X-Accel-Buffering", "no");
    http_stream_begin(j->call->x, 200, "text/event-stream; charset=utf-8");
}

/* Ends the job with an error, in the form that still fits; the work goes away. */
void job_write_error(struct job *j, const struct err *e)
{
    if (j->over)
        return;
    j->over = true;
    job_cancel(j);
    if (!j->call)
        return;
    const struct api_error_kind *k = api_error_of(e->code);
    j->call->times.error = k->code;
    if (e->code == STATUS_DEVICE_LOST)
        server_device_lost(j->server, e);
    if (!j->streams) {
        server_answer_error(j->call, k, e);
        return;
    }
    struct strbuf *frame = &j->server->scratch;
    strbuf_clear(frame);
    j->form->error(j, k, e, frame);
    job_write_frame(j, frame);
    http_stream_end(j->call->x);
}

void job_write_no_memory(struct job *j)
{
    struct err e;
    err_set(&e, STATUS_NO_MEMORY, NULL, "out of memory");
    job_write_error(j, &e);
}

struct answer_head job_write_head(const struct job *j)
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
        .keep_special = j->request.engine.keep_special,
    };
}

struct answer_usage job_write_usage(const struct job *j)
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

void job_write_piece(struct choice *c, const char *text, size_t n)
{
    c->job->form->piece(c, text, n);
}

void job_write_thought(struct choice *c)
{
    if (c->thought.len > 0)
        c->job->form->thought(c);
}

void job_write_call(struct choice *c, bool first, const char *arguments, size_t n)
{
    c->job->form->call(c, first, arguments, n);
}

void job_write_finish(struct choice *c)
{
    c->job->form->finish(c);
}

void job_write_end(struct job *j)
{
    j->form->end(j);
    http_stream_end(j->call->x);
}

void job_write_ping(struct job *j)
{
    job_write_begin(j);
    strbuf_clear(&j->server->scratch);
    j->form->ping(&j->server->scratch);
    job_write_frame(j, &j->server->scratch);
}

void job_write_whole(struct job *j)
{
    struct strbuf b;
    strbuf_init(&b, JOB_BYTES_MAX);
    if (j->form->whole(j, &b)) {
        server_answer_json(j->call, 200, &b);
        return;
    }
    strbuf_deinit(&b);
    j->over = false;
    job_write_no_memory(j);
}
