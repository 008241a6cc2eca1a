/* cmd_run: chat in the terminal with a model of its own, streaming.
 *
 * One turn: render and tokenise the conversation, submit, print text events as they come, append
 * the answer. Ctrl-C ends the answer, and at the prompt the program. Lines that begin with '/' are
 * commands (/help lists them).
 */
#include "server/cmd.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cjson/cJSON.h>

#include "config/options.h"
#include "engine/base/clock.h"
#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "engine/engine.h"
#include "engine/engine_text.h"
#include "server/engine_setup.h"

#define ANSWER_BYTES_MAX (4u << 20)
#define EVENTS_AT_ONCE   8

struct chat {
    struct engine *engine; /* owned */
    const struct options *options;
    cJSON *messages; /* owned */
    char adapter[LIMIT_NAME_BYTES + 1];
    pthread_mutex_t lock; /* guards `news` */
    pthread_cond_t woken;
    bool news;
};

static atomic_int interrupted;

static void on_interrupt(int sig)
{
    (void)sig;
    atomic_store(&interrupted, 1);
}

static void on_notify(void *ctx)
{
    struct chat *c = ctx;
    pthread_mutex_lock(&c->lock);
    c->news = true;
    pthread_cond_signal(&c->woken);
    pthread_mutex_unlock(&c->lock);
}

/* Waits for events, at most 50 ms, so that an interrupt is seen soon. */
static void wait_news(struct chat *c)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 50000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&c->lock);
    if (!c->news)
        pthread_cond_timedwait(&c->woken, &c->lock, &until);
    c->news = false;
    pthread_mutex_unlock(&c->lock);
}

static enum status add_message(cJSON *messages, const char *role, const char *content,
                               struct err *e)
{
    cJSON *m = cJSON_CreateObject();
    if (!m || !cJSON_AddStringToObject(m, "role", role) ||
        !cJSON_AddStringToObject(m, "content", content) || !cJSON_AddItemToArray(messages, m)) {
        cJSON_Delete(m);
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    }
    return STATUS_OK;
}

static void drop_last(cJSON *messages)
{
    int n = cJSON_GetArraySize(messages);
    if (n > 0)
        cJSON_DeleteItemFromArray(messages, n - 1);
}

static enum status tokenize_chat(struct chat *c, struct token_buf *prompt, struct err *e)
{
    cJSON *vars = cJSON_CreateObject();
    enum status st = STATUS_OK;
    if (!vars || !cJSON_AddItemReferenceToObject(vars, "messages", c->messages) ||
        !cJSON_AddTrueToObject(vars, "add_generation_prompt"))
        st = err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    if (st == STATUS_OK)
        st = engine_text_chat(engine_get_text(c->engine), vars, prompt, e);
    cJSON_Delete(vars);
    return st;
}

static enum status submit(struct chat *c, const struct token_buf *prompt, uint64_t *id,
                          struct err *e)
{
    struct engine_info info;
    engine_get_info(c->engine, &info);
    const struct options *o = c->options;
    struct engine_request r = {
        .request_id = "run",
        .prompt = prompt->ids,
        .prompt_count = (int)prompt->count,
        .sampling = info.defaults,
        .max_tokens = (int)o->max_tokens,
        .cache_prompt = true,
    };
    r.sampling.temperature = (float)o->temperature;
    r.sampling.top_p = (float)(o->top_p > 0 ? o->top_p : 1);
    r.sampling.seed = o->seed >= 0 ? (uint64_t)o->seed : (uint64_t)clock_now_ns();
    r.sampling.logprobs = -1;
    if (c->adapter[0]) {
        memcpy(r.adapters[0].name, c->adapter, sizeof c->adapter);
        r.adapters[0].weight = 1;
        r.adapter_count = 1;
    }
    /* A long conversation leaves less room than --max-tokens. */
    int room = info.ctx_max - r.prompt_count;
    if (room > 0 && r.max_tokens > room)
        r.max_tokens = room;
    return engine_submit(c->engine, &r, id, NULL, e);
}

/* Prints the answer of request `id` as it comes. */
static enum status print_answer(struct chat *c, uint64_t id, struct strbuf *answer,
                                struct engine_usage *usage, struct err *e)
{
    struct engine_event *events = mem_alloc(EVENTS_AT_ONCE, sizeof *events);
    if (!events)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    enum status st = STATUS_OK;
    bool cancelled = false;
    for (bool ended = false; !ended;) {
        if (!cancelled && atomic_load(&interrupted)) {
            engine_cancel(c->engine, id);
            cancelled = true;
        }
        uint64_t ready[4];
        engine_ready(c->engine, ready, 4);
        int n = engine_read(c->engine, id, events, EVENTS_AT_ONCE);
        for (int i = 0; i < n; i++) {
            const struct engine_event *v = &events[i];
            fwrite(v->text, 1, (size_t)v->text_len, stdout);
            strbuf_append(answer, v->text, (size_t)v->text_len);
            ended = v->kind == ENGINE_EVENT_DONE || v->kind == ENGINE_EVENT_ERROR ||
                    v->kind == ENGINE_EVENT_CANCELLED;
            if (ended)
                *usage = v->usage;
            if (v->kind == ENGINE_EVENT_ERROR)
                st = err_set(e, v->err.code, v->err.param, "%s", v->err.msg);
        }
        fflush(stdout);
        if (n == 0)
            wait_news(c);
    }
    mem_free(events);
    putchar('\n');
    return st;
}

/* One question and its answer. The conversation keeps both, or neither when the turn failed. */
static enum status turn(struct chat *c, const char *text, struct err *e)
{
    enum status st = add_message(c->messages, "user", text, e);
    if (st != STATUS_OK)
        return st;
    struct token_buf prompt = {0};
    struct strbuf answer;
    strbuf_init(&answer, ANSWER_BYTES_MAX);
    struct engine_usage usage = {0};
    uint64_t id;
    atomic_store(&interrupted, 0);
    st = tokenize_chat(c, &prompt, e);
    if (st == STATUS_OK)
        st = submit(c, &prompt, &id, e);
    if (st == STATUS_OK)
        st = print_answer(c, id, &answer, &usage, e);
    if (st == STATUS_OK)
        st = add_message(c->messages, "assistant", strbuf_str(&answer), e);
    else
        drop_last(c->messages);
    if (st == STATUS_OK && isatty(STDERR_FILENO)) {
        double s = (double)usage.decode_ns / 1e9;
        fprintf(stderr, "(%d tokens, %.0f tokens/s, first after %.0f ms)\n",
                usage.completion_tokens, s > 0 ? (usage.completion_tokens - 1) / s : 0,
                (double)(usage.queue_ns + usage.prompt_ns) / 1e6);
    }
    token_buf_deinit(&prompt);
    strbuf_deinit(&answer);
    return st;
}

static enum status clear_messages(struct chat *c, struct err *e)
{
    while (cJSON_GetArraySize(c->messages) > 0)
        drop_last(c->messages);
    return *c->options->system ? add_message(c->messages, "system", c->options->system, e)
                               : STATUS_OK;
}

static void print_adapters(struct chat *c)
{
    int count = engine_adapters(c->engine, NULL, 0);
    struct engine_adapter_info *list = mem_calloc((size_t)count, sizeof *list);
    if (!list)
        return;
    int n = engine_adapters(c->engine, list, count);
    for (int i = 0; i < n && i < count; i++)
        printf("%s %s (rank %d)\n", strcmp(list[i].name, c->adapter) == 0 ? "*" : " ", list[i].name,
               list[i].rank_max);
    mem_free(list);
}

/* True when the line was a command. */
static bool command(struct chat *c, const char *line, bool *quit)
{
    struct err e;
    if (line[0] != '/')
        return false;
    if (strcmp(line, "/quit") == 0 || strcmp(line, "/exit") == 0) {
        *quit = true;
    } else if (strcmp(line, "/adapters") == 0) {
        print_adapters(c);
    } else if (strncmp(line, "/adapter", 8) == 0 && (line[8] == ' ' || line[8] == '\0')) {
        snprintf(c->adapter, sizeof c->adapter, "%s", line[8] ? line + 9 : "");
        printf("speaking: %s\n", c->adapter[0] ? c->adapter : "the base model");
    } else if (strcmp(line, "/clear") == 0) {
        if (clear_messages(c, &e) != STATUS_OK)
            fprintf(stderr, "%s\n", e.msg);
    } else {
        puts("/adapter NAME   speak with this adapter (none: the base model)\n"
             "/adapters       list them\n"
             "/clear          forget the conversation\n"
             "/quit           end (also Ctrl-D)");
    }
    return true;
}

static int converse(struct chat *c)
{
    bool tty = isatty(STDIN_FILENO);
    char *line = NULL;
    size_t cap = 0;
    int code = CMD_EXIT_OK;
    for (bool quit = false; !quit;) {
        if (tty) {
            printf("%s> ", c->adapter);
            fflush(stdout);
        }
        ssize_t n = getline(&line, &cap, stdin);
        if (n < 0)
            break;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            line[--n] = '\0';
        if (n == 0 || command(c, line, &quit))
            continue;
        struct err e;
        if (turn(c, line, &e) != STATUS_OK)
            code = cmd_fail("run", &e);
        if (!tty && code != CMD_EXIT_OK)
            break;
    }
    mem_free(line); /* getline's block comes from the C library, as mem_free expects */
    return tty ? CMD_EXIT_OK : code;
}

static int chat(const struct options *o)
{
    struct chat c = {.options = o};
    struct err e;
    pthread_mutex_init(&c.lock, NULL);
    pthread_cond_init(&c.woken, NULL);
    int code = CMD_EXIT_OK;
    enum status st = engine_setup_open(o, on_notify, &c, NULL, &c.engine, &e);
    if (st == STATUS_OK) {
        st = engine_setup_directories(o, c.engine, &e);
        if (st != STATUS_OK)
            engine_close(c.engine);
    }
    if (st != STATUS_OK) {
        code = cmd_fail("run", &e);
        goto deinit_sync;
    }
    for (int i = 0; i < o->adapter.count; i++)
        snprintf(c.adapter, sizeof c.adapter, "%.*s", (int)strcspn(o->adapter.items[i], "="),
                 o->adapter.items[i]);
    struct sigaction sa = {.sa_handler = on_interrupt};
    if (*o->prompt || !isatty(STDIN_FILENO))
        sa.sa_flags = (int)SA_RESETHAND; /* a second Ctrl-C ends the program */
    sigaction(SIGINT, &sa, NULL);
    c.messages = cJSON_CreateArray();
    if (!c.messages)
        st = err_set(&e, STATUS_NO_MEMORY, NULL, "out of memory");
    if (st == STATUS_OK)
        st = clear_messages(&c, &e);
    if (st == STATUS_OK && *o->prompt)
        st = turn(&c, o->prompt, &e);
    if (st != STATUS_OK)
        code = cmd_fail("run", &e);
    else if (!*o->prompt)
        code = converse(&c);
    cJSON_Delete(c.messages);
    engine_close(c.engine);
deinit_sync:
    pthread_cond_destroy(&c.woken);
    pthread_mutex_destroy(&c.lock);
    return code;
}

int cmd_run(int argc, char **argv)
{
    struct options o;
    int code;
    if (cmd_options(OPTION_RUN, argc, argv, &o, &code)) {
        /* A person reads this terminal: the engine's lines stay out of the way unless asked for. */
        if (strcmp(o.log_level, "info") == 0)
            log_setup(LOG_LEVEL_WARN, false);
        else
            engine_setup_log(&o);
        code = chat(&o);
    }
    options_deinit(&o);
    return code;
}
