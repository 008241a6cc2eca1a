/* fake_engine: engine.h and engine_text.h without a model, for tests of the server. Include it in
 * exactly one .c file of a program: its definitions stand in for the real engine's.
 *
 * A token is a byte; ids 256 and above are special. An answer is "[adapter] " and the text of the
 * prompt's last message, a token a step; non-ASCII characters become visible with their last byte.
 * Words in the prompt command it: "@fail" errors after three tokens, "@stall" stops the engine
 * thread for a while, "@long" repeats the text until max_tokens.
 */
#ifndef CHORUS_TESTS_FAKE_ENGINE_H
#define CHORUS_TESTS_FAKE_ENGINE_H

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine/base/clock.h"
#include "engine/base/json.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "engine/engine.h"
#include "engine/engine_text.h"

#define FAKE_VOCAB    260
#define FAKE_WIDTH    8 /* of an embedding */
#define FAKE_BOS      256
#define FAKE_EOS      257
#define FAKE_USER     258
#define FAKE_ASSIST   259
#define FAKE_REQUESTS 1024
#define FAKE_ADAPTERS 16

struct fake_request {
    uint64_t id; /* 0: free */
    bool running;
    bool cancelled;
    bool ended; /* the terminal event is in the outbox */
    bool told;  /* engine_ready returned it since its outbox was last empty */
    struct engine_request r;
    int32_t *prompt;
    char *say;
    size_t say_len;
    size_t at;
    int made;
    int64_t begin_ns;
    float *embedding; /* owned until it is read */
    struct engine_event out[LIMIT_OUTBOX_EVENTS];
    int out_count;
};

struct engine_text {
    char bytes[256];
};

struct engine {
    struct engine_options opt;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work;
    bool quit;
    bool draining;
    uint64_t next_id;
    struct fake_request requests[FAKE_REQUESTS];
    char adapters[FAKE_ADAPTERS][LIMIT_NAME_BYTES + 1];
    uint64_t generations[FAKE_ADAPTERS];
    uint64_t last_generation;
    int adapter_count;
    struct engine_stats stats;
    struct engine_step steps[LIMIT_STEPS_KEPT];
    struct engine_text text;
};

/* Set before engine_open. */
static int fake_step_us = 1000;
static int fake_stall_ms = 2500;
static int fake_ctx = 4096;
static int fake_prepare_us = 0; /* rendering takes this long */

static const char *const fake_special[] = {"<bos>", "<eos>", "<user>", "<assistant>"};

/* ---- text ---- */

enum status engine_text_open(const char *dir, struct engine_text **out, struct err *e)
{
    (void)dir;
    struct engine_text *t = mem_calloc(1, sizeof *t);
    if (!t)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    *out = t;
    return STATUS_OK;
}

enum status engine_text_beside(const struct engine_text *base, const char *source,
                               const cJSON *config, struct engine_text **out, struct err *e)
{
    (void)base;
    (void)config;
    return source ? engine_text_open(source, out, e)
                  : err_set(e, STATUS_NOT_FOUND, "chat_template", "there is none");
}

void engine_text_close(struct engine_text *t)
{
    mem_free(t);
}

bool engine_text_has_template(const struct engine_text *t)
{
    (void)t;
    return true;
}

enum engine_tool_form engine_text_tools(const struct engine_text *t)
{
    (void)t;
    return ENGINE_TOOLS_TAGS;
}

bool engine_text_thinking(const struct engine_text *t, const char **open, const char **close)
{
    (void)t;
    *open = "<think>";
    *close = "</think>";
    return true;
}

static enum status fake_push(struct token_buf *b, int32_t id, struct err *e)
{
    if (b->count == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 64;
        int32_t *ids = mem_realloc(b->ids, cap, sizeof *ids);
        if (!ids)
            return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
        b->ids = ids;
        b->cap = cap;
    }
    b->ids[b->count++] = id;
    return STATUS_OK;
}

enum status engine_text_encode(const struct engine_text *t, const char *s, size_t n,
                               bool add_special, bool parse_special, struct token_buf *out,
                               struct err *e)
{
    (void)t;
    (void)parse_special;
    enum status st = add_special ? fake_push(out, FAKE_BOS, e) : STATUS_OK;
    for (size_t i = 0; i < n && st == STATUS_OK; i++)
        st = fake_push(out, (unsigned char)s[i], e);
    return st;
}

enum status engine_text_render(const struct engine_text *t, const cJSON *vars, struct strbuf *out,
                               struct err *e)
{
    (void)t;
    const cJSON *m;
    cJSON_ArrayForEach(m, json_member(vars, "messages"))
    {
        const char *content = NULL;
        if (json_get_string(m, "content", &content, e) != STATUS_OK)
            return e->code;
        if (content && strstr(content, "@raise"))
            return err_set(e, STATUS_INVALID, "messages", "the template says no");
        strbuf_puts(out, content ? content : "");
    }
    return STATUS_OK;
}

static enum status fake_chat(const struct engine_text *t, const cJSON *vars, struct token_buf *out,
                             struct err *e)
{
    if (fake_prepare_us) {
        struct timespec ts = {.tv_nsec = (long)fake_prepare_us * 1000};
        nanosleep(&ts, NULL);
    }
    enum status st = fake_push(out, FAKE_BOS, e);
    const cJSON *m;
    cJSON_ArrayForEach(m, json_member(vars, "messages"))
    {
        const char *content = NULL;
        if (st == STATUS_OK)
            st = json_get_string(m, "content", &content, e);
        if (st == STATUS_OK && content && strstr(content, "@raise"))
            st = err_set(e, STATUS_INVALID, "messages", "the template says no");
        if (st == STATUS_OK)
            st = fake_push(out, FAKE_USER, e);
        if (st == STATUS_OK && content)
            st = engine_text_encode(t, content, strlen(content), false, false, out, e);
    }
    return st;
}

enum status engine_text_chat(const struct engine_text *t, const cJSON *vars, struct token_buf *out,
                             struct err *e)
{
    enum status st = fake_chat(t, vars, out, e);
    return st == STATUS_OK ? fake_push(out, FAKE_ASSIST, e) : st;
}

enum status engine_text_chat_continue(const struct engine_text *t, cJSON *vars,
                                      struct token_buf *out, struct err *e)
{
    return fake_chat(t, vars, out, e);
}

enum status engine_text_continue(const struct engine_text *t, cJSON *vars, struct strbuf *out,
                                 struct err *e)
{
    return engine_text_render(t, vars, out, e);
}

enum status engine_text_decode(const struct engine_text *t, const int32_t *ids, size_t count,
                               bool keep_special, struct strbuf *out, struct err *e)
{
    (void)t;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 256)
            strbuf_putc(out, (char)ids[i]);
        else if (keep_special && ids[i] < FAKE_VOCAB)
            strbuf_puts(out, fake_special[ids[i] - 256]);
    }
    return out->failed ? err_set(e, STATUS_NO_MEMORY, NULL, "out of memory") : STATUS_OK;
}

const char *engine_text_token(const struct engine_text *t, int32_t id, size_t *n)
{
    if (id < 0 || id >= FAKE_VOCAB)
        return NULL;
    if (id >= 256) {
        *n = strlen(fake_special[id - 256]);
        return fake_special[id - 256];
    }
    *n = 1;
    return &t->bytes[id];
}

bool engine_text_is_special(const struct engine_text *t, int32_t id)
{
    (void)t;
    return id >= 256;
}

int32_t engine_text_token_id(const struct engine_text *t, const char *token)
{
    (void)t;
    return strlen(token) == 1 ? (unsigned char)token[0] : -1;
}

int engine_text_vocab(const struct engine_text *t)
{
    (void)t;
    return FAKE_VOCAB;
}

/* ---- the step loop ---- */

static void fake_emit(struct engine *e, struct fake_request *q, const struct engine_event *ev)
{
    bool was_empty = q->out_count == 0;
    q->out[q->out_count++] = *ev;
    if (was_empty) {
        q->told = false;
        e->opt.notify(e->opt.notify_ctx);
    }
}

static void fake_end(struct engine *e, struct fake_request *q, enum engine_event_kind kind,
                     enum engine_finish finish, const struct err *why)
{
    struct engine_event ev = {.kind = kind, .finish = finish};
    ev.usage = (struct engine_usage){
        .prompt_tokens = q->r.prompt_count,
        .completion_tokens = q->made,
        .prompt_ns = 1000000,
        .decode_ns = clock_now_ns() - q->begin_ns,
    };
    if (why)
        ev.err = *why;
    q->ended = true;
    if (q->running)
        e->stats.running--;
    else
        e->stats.waiting--;
    q->running = false;
    if (kind == ENGINE_EVENT_DONE)
        e->stats.requests_done++;
    else if (kind == ENGINE_EVENT_ERROR)
        e->stats.requests_failed++;
    else
        e->stats.requests_cancelled++;
    fake_emit(e, q, &ev);
}

static void fake_logprobs(const struct fake_request *q, int32_t token, struct engine_event *ev)
{
    if (q->r.sampling.logprobs < 0)
        return;
    ev->has_logprob = true;
    ev->logprob = -(float)(token % 7) / 8;
    ev->top_count = q->r.sampling.logprobs;
    for (int i = 0; i < ev->top_count; i++)
        ev->top[i] = (struct token_logprob){(token + i) % 256, -(float)i / 4};
}

/* One token of one sequence. */
static void fake_token(struct engine *e, struct fake_request *q)
{
    int limit = q->r.max_tokens ? q->r.max_tokens : fake_ctx - q->r.prompt_count;
    bool endless = strstr(q->say, "@long") != NULL;
    if (q->at == q->say_len && endless)
        q->at = 0;
    if (q->at == q->say_len || q->made >= limit) {
        fake_end(e, q, ENGINE_EVENT_DONE,
                 q->at == q->say_len ? ENGINE_FINISH_STOP : ENGINE_FINISH_LENGTH, NULL);
        return;
    }
    if (q->made == 3 && strstr(q->say, "@fail")) {
        struct err why;
        err_set(&why, STATUS_INTERNAL, NULL, "told to fail");
        fake_end(e, q, ENGINE_EVENT_ERROR, ENGINE_FINISH_STOP, &why);
        return;
    }
    struct engine_event ev = {.kind = ENGINE_EVENT_TOKEN};
    ev.token = (unsigned char)q->say[q->at];
    /* A character is visible with its last byte. */
    size_t begin = q->at;
    while (begin > 0 && ((unsigned char)q->say[begin] & 0xC0) == 0x80)
        begin--;
    size_t len = utf8_valid_len(q->say + begin, q->say_len - begin);
    if (len && begin + len == q->at + 1) {
        memcpy(ev.text, q->say + begin, len);
        ev.text_len = (int)len;
    }
    q->at++;
    q->made++;
    e->stats.tokens_out++;
    fake_logprobs(q, ev.token, &ev);
    fake_emit(e, q, &ev);
}

/* After a step for each 16 bytes of prompt: how often each residue of a byte's value is there, and
 * how many adapters. "@fail" fails. */
static void fake_embedding(struct engine *e, struct fake_request *q)
{
    struct err why;
    if (++q->made * 16 < q->r.prompt_count)
        return;
    if (strstr(q->say, "@fail")) {
        err_set(&why, STATUS_INTERNAL, NULL, "told to fail");
        fake_end(e, q, ENGINE_EVENT_ERROR, ENGINE_FINISH_STOP, &why);
        return;
    }
    q->embedding = mem_calloc(FAKE_WIDTH, sizeof *q->embedding);
    for (int i = 0; q->embedding && i < q->r.prompt_count; i++)
        q->embedding[q->prompt[i] % (FAKE_WIDTH - 1)] += 1;
    if (q->embedding)
        q->embedding[FAKE_WIDTH - 1] = (float)q->r.adapter_count;
    q->made = 0;
    err_set(&why, STATUS_NO_MEMORY, NULL, "out of memory");
    fake_end(e, q, q->embedding ? ENGINE_EVENT_DONE : ENGINE_EVENT_ERROR, ENGINE_FINISH_STOP, &why);
}

static void fake_prompt_tokens(struct engine *e, struct fake_request *q)
{
    for (int i = 1; i < q->r.prompt_count && q->out_count < LIMIT_OUTBOX_EVENTS - 1; i++) {
        struct engine_event ev = {.kind = ENGINE_EVENT_PROMPT_TOKEN, .token = q->prompt[i]};
        fake_logprobs(q, ev.token, &ev);
        fake_emit(e, q, &ev);
    }
}

/* A row for each running request; of its first adapter, or of the base. */
static void fake_record(struct engine *e, uint64_t tokens_before)
{
    struct engine_step s = {.number = e->stats.steps,
                            .end_ns = clock_now_ns(),
                            .took_ns = (int64_t)fake_step_us * 1000,
                            .waiting = e->stats.waiting,
                            .tokens_out = (int)(e->stats.tokens_out - tokens_before)};
    for (int i = 0; i < FAKE_REQUESTS; i++) {
        const struct fake_request *q = &e->requests[i];
        if (!q->id || !q->running)
            continue;
        s.seqs = ++s.rows;
        s.decode_rows = s.kv_pages_used = s.rows;
        if (q->r.adapter_count == 0) {
            s.base_rows++;
            continue;
        }
        int k = 0;
        while (k < s.party_count && strcmp(s.parties[k].name, q->r.adapters[0].name) != 0)
            k++;
        memcpy(s.parties[k].name, q->r.adapters[0].name, sizeof s.parties[k].name);
        s.parties[k].rows++;
        s.party_count += k == s.party_count;
    }
    e->steps[s.number % LIMIT_STEPS_KEPT] = s;
}

static void fake_step(struct engine *e)
{
    bool stall = false;
    uint64_t tokens = e->stats.tokens_out;
    int rows = e->stats.running;
    for (int i = 0; i < FAKE_REQUESTS; i++) {
        struct fake_request *q = &e->requests[i];
        if (!q->id || q->ended || q->out_count >= LIMIT_OUTBOX_EVENTS - 1)
            continue;
        if (q->cancelled) {
            fake_end(e, q, ENGINE_EVENT_CANCELLED, ENGINE_FINISH_STOP, NULL);
            continue;
        }
        if (!q->running) {
            if (e->draining) {
                struct err why;
                err_set(&why, STATUS_DRAINING, NULL, "the server is ending");
                fake_end(e, q, ENGINE_EVENT_ERROR, ENGINE_FINISH_STOP, &why);
            } else if (e->stats.running < e->opt.seqs_max) {
                q->running = true;
                q->begin_ns = clock_now_ns();
                e->stats.waiting--;
                e->stats.running++;
                if (q->r.prompt_logprobs)
                    fake_prompt_tokens(e, q);
            }
            continue;
        }
        stall |= q->made == 1 && strstr(q->say, "@stall");
        if (q->r.embed)
            fake_embedding(e, q);
        else
            fake_token(e, q);
    }
    e->stats.steps++;
    fake_record(e, tokens);
    histogram_add(&e->stats.step_s, &histogram_step_s, fake_step_us * 1e-6);
    histogram_add(&e->stats.step_rows, &histogram_rows, rows);
    if (stall) {
        struct timespec ts = {.tv_sec = fake_stall_ms / 1000,
                              .tv_nsec = (long)(fake_stall_ms % 1000) * 1000000};
        pthread_mutex_unlock(&e->lock);
        nanosleep(&ts, NULL);
        pthread_mutex_lock(&e->lock);
    }
}

static void *fake_loop(void *arg)
{
    struct engine *e = arg;
    pthread_mutex_lock(&e->lock);
    while (!e->quit) {
        if (e->stats.running + e->stats.waiting == 0) {
            pthread_cond_wait(&e->work, &e->lock);
            continue;
        }
        e->stats.last_beat_ns = clock_now_ns();
        fake_step(e);
        pthread_mutex_unlock(&e->lock);
        if (fake_step_us) {
            struct timespec ts = {.tv_nsec = (long)fake_step_us * 1000};
            nanosleep(&ts, NULL);
        }
        pthread_mutex_lock(&e->lock);
    }
    pthread_mutex_unlock(&e->lock);
    return NULL;
}

/* ---- the door ---- */

enum status engine_open(const struct engine_options *opt, struct engine **out, struct err *err)
{
    struct engine *e = mem_calloc(1, sizeof *e);
    if (!e)
        return err_set(err, STATUS_NO_MEMORY, NULL, "out of memory");
    e->opt = *opt;
    e->next_id = 1;
    e->stats.kv_pages_total = opt->seqs_max;
    for (int i = 0; i < 256; i++)
        e->text.bytes[i] = (char)i;
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->work, NULL);
    pthread_create(&e->thread, NULL, fake_loop, e);
    *out = e;
    return STATUS_OK;
}

static void fake_free(struct fake_request *q)
{
    mem_free(q->prompt);
    mem_free(q->say);
    mem_free(q->embedding);
    *q = (struct fake_request){0};
}

void engine_close(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->quit = true;
    pthread_cond_signal(&e->work);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->thread, NULL);
    for (int i = 0; i < FAKE_REQUESTS; i++)
        fake_free(&e->requests[i]);
    pthread_mutex_destroy(&e->lock);
    pthread_cond_destroy(&e->work);
    mem_free(e);
}

void engine_drain(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->draining = true;
    pthread_mutex_unlock(&e->lock);
}

void engine_get_info(const struct engine *e, struct engine_info *out)
{
    *out = (struct engine_info){
        .model_dir = e->opt.model_dir,
        .arch = "fake",
        .backend = "fake",
        .vocab = FAKE_VOCAB,
        .ctx_max = fake_ctx,
        .seqs_max = e->opt.seqs_max,
        .embed_width = FAKE_WIDTH,
        .embed_normalize = true,
        .defaults = {.temperature = 1, .top_p = 1, .typical_p = 1, .repetition_penalty = 1},
    };
}

void engine_get_stats(struct engine *e, struct engine_stats *out)
{
    pthread_mutex_lock(&e->lock);
    *out = e->stats;
    out->kv_pages_used = e->stats.running;
    pthread_mutex_unlock(&e->lock);
}

void engine_get_live(struct engine *e, struct engine_live *out)
{
    (void)e;
    *out = (struct engine_live){
        .facts = {.device = "fake", .weights = "f32", .head = "f32", .kv = "f32"}};
}

int engine_steps(struct engine *e, uint64_t since, struct engine_step *out, int max)
{
    int count = 0;
    pthread_mutex_lock(&e->lock);
    uint64_t last = e->stats.steps, kept = last > LIMIT_STEPS_KEPT ? last - LIMIT_STEPS_KEPT : 0;
    since = since > kept ? since : kept;
    uint64_t there = last > since ? last - since : 0;
    uint64_t want = there < (uint64_t)max ? there : (uint64_t)max;
    for (uint64_t i = 1; i <= want; i++)
        out[count++] = e->steps[(since + i * there / want) % LIMIT_STEPS_KEPT];
    pthread_mutex_unlock(&e->lock);
    return count;
}

const struct engine_text *engine_get_text(const struct engine *e)
{
    return &e->text;
}

static int fake_find_adapter(const struct engine *e, const char *name)
{
    for (int i = 0; i < e->adapter_count; i++) {
        if (strcmp(e->adapters[i], name) == 0)
            return i;
    }
    return -1;
}

/* What it will say: the adapters' names and what stands behind the last <user>. */
static char *fake_answer(const struct engine_request *r, size_t *len)
{
    struct strbuf b;
    strbuf_init(&b, SIZE_MAX / 2);
    for (int i = 0; i < r->adapter_count; i++)
        strbuf_printf(&b, "[%s] ", r->adapters[i].name);
    int begin = 0;
    for (int i = 0; i < r->prompt_count; i++)
        begin = r->prompt[i] >= 256 && r->prompt[i] != FAKE_ASSIST ? i + 1 : begin;
    for (int i = begin; i < r->prompt_count; i++) {
        if (r->prompt[i] < 256 && r->prompt[i] > 0)
            strbuf_putc(&b, (char)r->prompt[i]);
    }
    *len = b.len;
    char *text = strbuf_take(&b);
    strbuf_deinit(&b);
    return text;
}

enum status engine_submit(struct engine *e, const struct engine_request *r, uint64_t *id,
                          struct engine_adapter_use *resolved, struct err *err)
{
    enum status st = STATUS_OK;
    pthread_mutex_lock(&e->lock);
    struct fake_request *q = NULL;
    for (int i = 0; i < FAKE_REQUESTS && !q; i++)
        q = e->requests[i].id ? NULL : &e->requests[i];
    if (e->draining)
        st = err_set(err, STATUS_DRAINING, NULL, "the server is ending");
    else if (!q || e->stats.waiting >= e->opt.queue_max)
        st = err_set(err, STATUS_BUSY, NULL, "the queue is full");
    else if (r->prompt_count + (r->max_tokens ? r->max_tokens : 1) > fake_ctx)
        st = err_set(err, STATUS_CONTEXT_LENGTH, "prompt",
                     "%d tokens of prompt and %d of answer are more than the context of %d",
                     r->prompt_count, r->max_tokens, fake_ctx);
    for (int i = 0; i < r->adapter_count && st == STATUS_OK; i++) {
        if (fake_find_adapter(e, r->adapters[i].name) < 0)
            st = err_set(err, STATUS_ADAPTER_NOT_FOUND, "adapter", "no adapter '%s'",
                         r->adapters[i].name);
    }
    if (st == STATUS_OK) {
        *q = (struct fake_request){.id = e->next_id++, .r = *r};
        q->prompt = mem_alloc((size_t)r->prompt_count, sizeof *q->prompt);
        q->say = fake_answer(r, &q->say_len);
        if (!q->prompt || !q->say) {
            fake_free(q);
            st = err_set(err, STATUS_NO_MEMORY, NULL, "out of memory");
        }
    }
    if (st == STATUS_OK) {
        memcpy(q->prompt, r->prompt, sizeof *r->prompt * (size_t)r->prompt_count);
        *id = q->id;
        e->stats.waiting++;
        e->stats.requests_accepted++;
        e->stats.tokens_in += (uint64_t)r->prompt_count;
        for (int i = 0; i < r->adapter_count && resolved; i++) {
            resolved[i] = r->adapters[i];
            resolved[i].generation = e->generations[fake_find_adapter(e, r->adapters[i].name)];
        }
        pthread_cond_signal(&e->work);
    }
    pthread_mutex_unlock(&e->lock);
    return st;
}

static struct fake_request *fake_find(struct engine *e, uint64_t id)
{
    for (int i = 0; i < FAKE_REQUESTS; i++) {
        if (e->requests[i].id == id)
            return &e->requests[i];
    }
    return NULL;
}

void engine_cancel(struct engine *e, uint64_t id)
{
    pthread_mutex_lock(&e->lock);
    struct fake_request *q = fake_find(e, id);
    if (q)
        q->cancelled = true;
    pthread_mutex_unlock(&e->lock);
}

int engine_ready(struct engine *e, uint64_t *ids, int max)
{
    int n = 0;
    pthread_mutex_lock(&e->lock);
    for (int i = 0; i < FAKE_REQUESTS && n < max; i++) {
        struct fake_request *q = &e->requests[i];
        if (q->id && q->out_count > 0 && !q->told) {
            q->told = true;
            ids[n++] = q->id;
        }
    }
    pthread_mutex_unlock(&e->lock);
    return n;
}

int engine_read(struct engine *e, uint64_t id, struct engine_event *events, int max)
{
    int n = 0;
    pthread_mutex_lock(&e->lock);
    struct fake_request *q = fake_find(e, id);
    if (q) {
        n = q->out_count < max ? q->out_count : max;
        memcpy(events, q->out, sizeof *events * (size_t)n);
        memmove(q->out, q->out + n, sizeof *events * (size_t)(q->out_count - n));
        q->out_count -= n;
        if (q->ended && q->out_count == 0) {
            events[n - 1].embedding = q->embedding;
            q->embedding = NULL;
            fake_free(q);
        }
    }
    pthread_mutex_unlock(&e->lock);
    return n;
}

/* A path with "broken" in it does not bind. */
enum status engine_adapter_put(struct engine *e, const struct engine_adapter_spec *spec,
                               uint64_t *generation, struct err *err)
{
    enum status st = STATUS_OK;
    if (strstr(spec->path, "broken"))
        return err_set(err, STATUS_BAD_FILE, "a.lora_A.weight", "a.lora_A.weight does not bind");
    pthread_mutex_lock(&e->lock);
    int at = fake_find_adapter(e, spec->name);
    if (at < 0 && e->adapter_count == FAKE_ADAPTERS)
        st = err_set(err, STATUS_LIMIT, "name", "too many adapters");
    else if (at < 0)
        at = e->adapter_count++;
    if (st == STATUS_OK) {
        snprintf(e->adapters[at], LIMIT_NAME_BYTES + 1, "%s", spec->name);
        *generation = e->generations[at] = ++e->last_generation;
    }
    pthread_mutex_unlock(&e->lock);
    return st;
}

enum status engine_adapter_add(struct engine *e, const char *name, const char *path,
                               uint64_t *generation, struct err *err)
{
    struct engine_adapter_spec spec = {.name = name, .path = path};
    return engine_adapter_put(e, &spec, generation, err);
}

enum status engine_adapter_blend(struct engine *e, const char *name,
                                 const struct engine_adapter_use *parts, int count,
                                 uint64_t *generation, struct err *err)
{
    for (int i = 0; i < count; i++) {
        if (fake_find_adapter(e, parts[i].name) < 0)
            return err_set(err, STATUS_ADAPTER_NOT_FOUND, "adapter", "no '%s'", parts[i].name);
    }
    return engine_adapter_add(e, name, "", generation, err);
}

enum status engine_adapter_check(struct engine *e, const char *root, const char *path,
                                 struct engine_adapter_report *out, struct err *err)
{
    (void)e;
    (void)root;
    (void)path;
    (void)err;
    *out = (struct engine_adapter_report){.status = STATUS_OK, .no_op = true};
    return STATUS_OK;
}

void engine_adapter_report_deinit(struct engine_adapter_report *r)
{
    (void)r;
}

const char *engine_adapter_target(int bit)
{
    return bit == 0 ? "q_proj" : NULL;
}

enum status engine_adapter_remove(struct engine *e, const char *name, struct err *err)
{
    pthread_mutex_lock(&e->lock);
    int at = fake_find_adapter(e, name);
    if (at >= 0) {
        e->adapter_count--;
        for (int i = at; i < e->adapter_count; i++) {
            memcpy(e->adapters[i], e->adapters[i + 1], sizeof e->adapters[i]);
            e->generations[i] = e->generations[i + 1];
        }
    }
    pthread_mutex_unlock(&e->lock);
    return at >= 0 ? STATUS_OK
                   : err_set(err, STATUS_ADAPTER_NOT_FOUND, "name", "no adapter '%s'", name);
}

void engine_adapter_memory(struct engine *e, size_t bytes)
{
    (void)e;
    (void)bytes;
}

int engine_adapters(struct engine *e, struct engine_adapter_info *out, int max)
{
    pthread_mutex_lock(&e->lock);
    for (int i = 0; i < e->adapter_count && i < max; i++) {
        out[i] = (struct engine_adapter_info){.generation = e->generations[i],
                                              .rank_max = 8,
                                              .quant = ENGINE_QUANT_NONE,
                                              .resident = true};
        snprintf(out[i].name, sizeof out[i].name, "%s", e->adapters[i]);
        snprintf(out[i].path, sizeof out[i].path, "/adapters/%s", e->adapters[i]);
        for (int k = 0; k < FAKE_REQUESTS; k++) {
            const struct fake_request *q = &e->requests[k];
            for (int a = 0; q->id && !q->ended && a < q->r.adapter_count; a++)
                out[i].users += strcmp(q->r.adapters[a].name, e->adapters[i]) == 0;
        }
    }
    int count = e->adapter_count;
    pthread_mutex_unlock(&e->lock);
    return count;
}

enum status engine_adapter_find(struct engine *e, const char *name, struct engine_adapter_info *out)
{
    struct engine_adapter_info list[FAKE_ADAPTERS];
    int count = engine_adapters(e, list, FAKE_ADAPTERS);
    for (int i = 0; i < count; i++) {
        if (strcmp(list[i].name, name) != 0)
            continue;
        if (out)
            *out = list[i];
        return STATUS_OK;
    }
    return STATUS_ADAPTER_NOT_FOUND;
}

int engine_adapter_users(struct engine *e, const char *name, uint64_t generation)
{
    struct engine_adapter_info info;
    return engine_adapter_find(e, name, &info) == STATUS_OK && info.generation == generation
               ? info.users
               : 0;
}

#endif
