/* job: one request that generates, from its whole body to the end of its exchange, and its choices.
 *
 * State only: api_generate.c prepares and submits it and reads the engine's events, job_write.c
 * writes what they say, job_list.c tells of all jobs. A job is freed by whoever is last of the
 * exchange, the pool and the engine. Loop thread, but for the preparation.
 */
#ifndef CHORUS_SERVER_JOB_H
#define CHORUS_SERVER_JOB_H

#include "server/answer.h"
#include "server/api_request.h"
#include "server/fair.h"
#include "server/ident.h"
#include "server/reasoning.h"
#include "server/tool_parse.h"

struct call;
struct form;
struct server;

#define JOB_BYTES_MAX ((size_t)1 << 30) /* of an answer */

/* A call of a tool in an answer. */
struct tool_call {
    char id[IDENT_BYTES];
    char *name;              /* owned */
    struct strbuf arguments; /* whole answers */
};

enum job_item_kind { JOB_ITEM_THOUGHT, JOB_ITEM_TEXT, JOB_ITEM_CALL };
enum job_item_state { JOB_ITEM_OPEN, JOB_ITEM_WHOLE, JOB_ITEM_CUT };

/* A part of an answer whose form is a list of them (form_items.h). */
struct job_item {
    enum job_item_kind kind;
    enum job_item_state state;
    char id[IDENT_BYTES];
    size_t call;        /* CALL: which of the choice's */
    struct strbuf text; /* CALL: its arguments */
    size_t
        token_begin; /* TEXT: its tokens among the choice's, [token_begin, token_end); the last */
    size_t tokens_from; /* piece of it began at tokens_from */
    size_t token_end;
};

/* One engine request. */
struct choice {
    struct job *job;
    int index; /* of the answer's choices, in order of prompt, then n */
    int prompt;
    uint64_t seed;
    struct fair_item fair;
    int64_t lined_ns;     /* it got in line */
    int64_t submitted_ns; /* it was handed to the engine; 0: not yet */
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
    bool call_dropped;      /* one more than was asked for is being read */
    struct job_item *items; /* owned; in forms of items */
    size_t item_count;
    size_t item_cap;
    size_t tokens_told; /* items: tokens before it belong to earlier pieces, or to thoughts */
    int thought_tokens;
    int decoded;                 /* tokens heard of so far */
    struct answer_token *tokens; /* owned: those with log-probabilities not yet written */
    size_t token_count;
    size_t token_cap;
    size_t text_offset; /* characters of the tokens already written */
    double logprob_sum; /* for best_of */
    int logprob_count;
    struct engine_usage usage;
    float *embedding; /* owned; NULL: none was asked for, or it is not there yet */
};

struct job {
    struct server *server;
    struct job *prev;
    struct job *next;
    struct call *call; /* NULL once the exchange is over */
    struct api_request request;
    struct strbuf body; /* the request's, while the prompt may still have to be made (again) */
    enum api_kind kind;
    const struct form *form;
    bool in_pool;
    bool streams; /* the stream's head is on its way */
    bool over;    /* answered or given up: events are only read away */
    /* Of the preparation; while in_pool a thread of the pool writes these and `request`. Not beside
     * the flags above: a word that holds both would be read by the loop meanwhile. */
    enum status status;
    struct err err;
    bool parsed; /* request is to be freed */
    char id[IDENT_BYTES];
    uint64_t seed; /* of its choices */
    int64_t created;
    int64_t written_ns; /* last write to the stream */
    struct engine_adapter_use uses[LIMIT_ADAPTERS_PER_REQUEST];
    struct choice *choices; /* owned, [choice_count] */
    int choice_count;
    int open_count;       /* with the engine */
    int left_count;       /* whose end was not heard yet, those that wait for a seat too */
    int lined_count;      /* the first of the choices: they were put in line by now */
    bool uses_known;      /* `uses` is what the engine said of the first one */
    struct strbuf answer; /* whole, of embeddings */
    bool adapter_told;
    int event_count; /* of a stream that numbers them */
};

/* Its choices' open requests end early, those that wait for a seat leave the line. */
void job_cancel(struct job *j);
/* Every choice goes; the job has none then. */
void job_free_choices(struct job *j);
/* Frees it once nobody holds it. */
void job_free_if_ended(struct job *j);
/* The engine has something of it that uses an adapter's generation. */
bool job_holds(const struct job *j, uint64_t generation);

#endif
