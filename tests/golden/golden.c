#include "tests/golden/golden.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "engine/base/json.h"
#include "engine/base/mem.h"

#define WAIT_S     60 /* no event for this long: the engine hangs */
#define EVENTS_MAX 16

const char *const golden_archs[] = {"llama", "mistral", "qwen2", "qwen3", "alora", NULL};

/* ---- golden.json ---- */

static char *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("%s: cannot open; tests run in the repository root", path);
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    char *text = mem_alloc((size_t)size + 1, 1);
    assert_non_null(text);
    *n = fread(text, 1, (size_t)size, f);
    assert_int_equal(*n, size);
    fclose(f);
    text[*n] = '\0';
    return text;
}

static const cJSON *member(const cJSON *obj, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(obj, key);
    if (!v)
        fail_msg("golden.json: no \"%s\"", key);
    return v;
}

static void copy_text(const cJSON *obj, const char *key, char *out, size_t size)
{
    snprintf(out, size, "%s", member(obj, key)->valuestring);
}

static void load_prompt(const cJSON *chat, struct golden_prompt *out)
{
    copy_text(chat, "name", out->name, sizeof out->name);
    out->messages = member(chat, "messages");
    out->text = member(chat, "prompt_text")->valuestring;
    const cJSON *ids = member(chat, "prompt_ids");
    out->ids = mem_calloc((size_t)cJSON_GetArraySize(ids), sizeof *out->ids);
    assert_non_null(out->ids);
    for (const cJSON *v = ids->child; v; v = v->next)
        out->ids[out->count++] = v->valueint;
}

static void load_run(const cJSON *run, struct golden_run *out)
{
    copy_text(run, "voice", out->voice, sizeof out->voice);
    out->chat = member(run, "chat")->valueint;
    for (const cJSON *v = member(run, "adapters")->child; v; v = v->next) {
        assert_in_range(out->adapter_count, 0, LIMIT_ADAPTERS_PER_REQUEST - 1);
        struct engine_adapter_use *use = &out->adapters[out->adapter_count++];
        copy_text(v, "name", use->name, sizeof use->name);
        use->weight = (float)member(v, "weight")->valuedouble;
    }
    const cJSON *from = cJSON_GetObjectItemCaseSensitive(run, "active_from");
    for (int i = 0; from && i < out->adapter_count; i++) {
        const cJSON *v = cJSON_GetArrayItem(from, i);
        out->active_from[i] = cJSON_IsNull(v) ? -1 : v->valueint;
    }
    out->prompt_logprobs = cJSON_GetObjectItemCaseSensitive(run, "prompt_logprobs");
    const cJSON *ids = member(run, "ids"), *logprobs = member(run, "logprobs");
    const cJSON *top_ids = member(run, "top_ids"), *top_logprobs = member(run, "top_logprobs");
    assert_int_equal(cJSON_GetArraySize(ids), GOLDEN_STEPS);
    for (int i = 0; i < GOLDEN_STEPS; i++) {
        out->ids[i] = cJSON_GetArrayItem(ids, i)->valueint;
        out->logprobs[i] = (float)cJSON_GetArrayItem(logprobs, i)->valuedouble;
        for (int k = 0; k < GOLDEN_TOP; k++) {
            const cJSON *id = cJSON_GetArrayItem(cJSON_GetArrayItem(top_ids, i), k);
            const cJSON *lp = cJSON_GetArrayItem(cJSON_GetArrayItem(top_logprobs, i), k);
            out->top_ids[i][k] = id->valueint;
            out->top_logprobs[i][k] = (float)lp->valuedouble;
        }
    }
}

void golden_load(const char *arch, struct golden *out)
{
    char path[256];
    snprintf(path, sizeof path, GOLDEN_DATA "/%s/golden.json", arch);
    size_t n = 0;
    char *text = read_file(path, &n);
    struct golden g = {0};
    snprintf(g.arch, sizeof g.arch, "%s", arch);
    struct json_limits limits = json_default_limits;
    limits.members_max = 1000000;
    struct err e = {0};
    if (json_parse(text, n, &limits, &g.root, &e) != STATUS_OK)
        fail_msg("%s: %s", path, e.msg);
    mem_free(text);
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(g.root, "model");
    if (model)
        snprintf(g.model, sizeof g.model, "%s", model->valuestring);
    else
        snprintf(g.model, sizeof g.model, GOLDEN_DATA "/%s/model", arch);
    g.tolerance = (float)member(g.root, "logprob_tolerance")->valuedouble;
    assert_int_equal(member(g.root, "steps")->valueint, GOLDEN_STEPS);
    const cJSON *chats = member(g.root, "chats"), *runs = member(g.root, "runs");
    g.prompts = mem_calloc((size_t)cJSON_GetArraySize(chats), sizeof *g.prompts);
    g.runs = mem_calloc((size_t)cJSON_GetArraySize(runs), sizeof *g.runs);
    assert_true(g.prompts && g.runs);
    for (const cJSON *v = chats->child; v; v = v->next)
        load_prompt(v, &g.prompts[g.prompt_count++]);
    for (const cJSON *v = runs->child; v; v = v->next)
        load_run(v, &g.runs[g.run_count++]);
    *out = g;
}

void golden_free(struct golden *g)
{
    for (int i = 0; i < g->prompt_count; i++)
        mem_free(g->prompts[i].ids);
    mem_free(g->prompts);
    mem_free(g->runs);
    cJSON_Delete(g->root);
}

/* ---- asking an engine ---- */

struct asker {
    struct engine *engine; /* owned */
    pthread_mutex_t lock;  /* guards ready */
    pthread_cond_t wake;
    bool ready;
    bool strangers; /* ids that are not ours may become ready */
};

static void wake_asker(void *ctx)
{
    struct asker *a = ctx;
    pthread_mutex_lock(&a->lock);
    a->ready = true;
    pthread_cond_signal(&a->wake);
    pthread_mutex_unlock(&a->lock);
}

static void wait_ready(struct asker *a)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    pthread_mutex_lock(&a->lock);
    int rc = 0;
    while (!a->ready && rc == 0)
        rc = pthread_cond_timedwait(&a->wake, &a->lock, &until);
    bool ready = a->ready;
    a->ready = false;
    pthread_mutex_unlock(&a->lock);
    if (!ready)
        fail_msg("no event for %d s", WAIT_S);
}

static void add_adapters(struct engine *engine, const struct golden *g)
{
    for (int i = 0; i < g->run_count; i++) {
        const struct golden_run *run = &g->runs[i];
        if (run->chat != 0 || run->adapter_count != 1 || strcmp(run->voice, run->adapters[0].name))
            continue;
        char path[256];
        snprintf(path, sizeof path, GOLDEN_DATA "/%s/adapters/%s", g->arch, run->voice);
        struct err e = {0};
        uint64_t generation = 0;
        if (engine_adapter_add(engine, run->voice, path, &generation, &e) != STATUS_OK)
            fail_msg("%s: refused: %s: %s", path, e.param, e.msg);
    }
}

static int or_default(int value, int fallback)
{
    return value ? value : fallback;
}

struct asker *asker_open(const struct golden *g, const struct golden_setup *setup)
{
    struct asker *a = mem_calloc(1, sizeof *a);
    assert_non_null(a);
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->wake, NULL);
    struct engine_options opt = {
        .model_dir = g->model,
        .backend = "cpu",
        .isa = "auto",
        .threads = or_default(setup->threads, 1),
        .ctx_max = 512,
        .seqs_max = or_default(setup->seqs_max, 32),
        .rows_max = or_default(setup->rows_max, 256),
        .chunk_max = setup->chunk_max,
        .kv_pages = setup->kv_pages,
        .slots_max = or_default(setup->slots_max, 16),
        .queue_max = LIMIT_QUEUE,
        .wait_bound_steps = or_default(setup->wait_bound, 64),
        .prefix_cache = setup->prefix_cache,
        .notify = wake_asker,
        .notify_ctx = a,
    };
    struct err e = {0};
    if (engine_open(&opt, &a->engine, &e) != STATUS_OK)
        fail_msg("%s: %s: %s", g->model, e.param, e.msg);
    add_adapters(a->engine, g);
    return a;
}

void asker_close(struct asker *a)
{
    engine_close(a->engine);
    pthread_cond_destroy(&a->wake);
    pthread_mutex_destroy(&a->lock);
    mem_free(a);
}

struct engine *asker_engine(struct asker *a)
{
    return a->engine;
}

void asker_expect_strangers(struct asker *a)
{
    a->strangers = true;
}

struct job golden_job(const struct golden *g, int run)
{
    return (struct job){
        .run = &g->runs[run],
        .prompt = &g->prompts[g->runs[run].chat],
        .max_tokens = GOLDEN_STEPS,
        .top_p = 1.0f,
    };
}

static uint64_t submit(struct asker *a, const struct job *job)
{
    struct engine_request r = {
        .request_id = job->run->voice,
        .prompt = job->prompt->ids,
        .prompt_count = job->prompt->count,
        .adapter_count = job->run->adapter_count,
        .max_tokens = job->max_tokens,
        .ignore_eos = !job->use_eos,
        .cache_prompt = true,
        .prompt_logprobs = job->prompt_logprobs != NULL,
        .sampling = {.temperature = job->temperature,
                     .top_p = job->top_p,
                     .typical_p = 1.0f,
                     .repetition_penalty = 1.0f,
                     .seed = job->seed,
                     .logprobs = GOLDEN_TOP},
    };
    memcpy(r.adapters, job->run->adapters, sizeof r.adapters);
    struct err e = {0};
    uint64_t id = 0;
    struct engine_adapter_use told[LIMIT_ADAPTERS_PER_REQUEST];
    if (engine_submit(a->engine, &r, &id, told, &e) != STATUS_OK)
        fail_msg("%s: refused: %s: %s", job->run->voice, e.param, e.msg);
    for (int i = 0; i < r.adapter_count; i++) {
        int from = told[i].activated ? told[i].active_from : 0;
        if (from != job->run->active_from[i])
            fail_msg("%s/%s: %s acts from token %d on, wanted %d", job->run->voice,
                     job->prompt->name, told[i].name, from, job->run->active_from[i]);
    }
    return id;
}

static void take_token(struct answer *answer, const struct engine_event *ev)
{
    assert_in_range(answer->count, 0, ANSWER_MAX - 1);
    int i = answer->count++;
    answer->ids[i] = ev->token;
    assert_true(ev->has_logprob);
    assert_int_equal(ev->top_count, GOLDEN_TOP);
    answer->logprobs[i] = ev->logprob;
    for (int k = 0; k < GOLDEN_TOP; k++) {
        answer->top_ids[i][k] = ev->top[k].token;
        answer->top_logprobs[i][k] = ev->top[k].logprob;
    }
}

static void take_prompt_token(struct answer *answer, const struct job *job,
                              const struct engine_event *ev)
{
    int i = answer->prompt_count++;
    assert_non_null(job->prompt_logprobs);
    assert_in_range(i, 0, job->prompt->count - 2);
    assert_int_equal(ev->token, job->prompt->ids[i + 1]);
    job->prompt_logprobs[i] = ev->logprob;
}

/* Reads what is there; true once the terminal event was among it. */
static bool drain(struct asker *a, uint64_t id, const struct job *job, struct answer *answer,
                  struct engine_usage *usage)
{
    static struct engine_event events[EVENTS_MAX];
    for (;;) {
        int n = engine_read(a->engine, id, events, EVENTS_MAX);
        for (int i = 0; i < n; i++) {
            const struct engine_event *ev = &events[i];
            if (ev->kind == ENGINE_EVENT_TOKEN)
                take_token(answer, ev);
            if (ev->kind == ENGINE_EVENT_PROMPT_TOKEN)
                take_prompt_token(answer, job, ev);
            if (ev->kind == ENGINE_EVENT_ERROR || ev->kind == ENGINE_EVENT_CANCELLED)
                fail_msg("%s: ended early: %s", job->run->voice, ev->err.msg);
            if (ev->kind != ENGINE_EVENT_DONE)
                continue;
            assert_int_equal(i, n - 1); /* nothing follows a terminal event */
            answer->finish = (int32_t)ev->finish;
            if (usage)
                *usage = ev->usage;
            return true;
        }
        if (n < EVENTS_MAX)
            return false;
    }
}

void asker_ask(struct asker *a, const struct job *jobs, const int *order, int count, int in_flight,
               struct answer *answers, struct engine_usage *usages)
{
    uint64_t *ids = mem_calloc((size_t)count, sizeof *ids); /* by job; 0: answered */
    bool *asked = mem_calloc((size_t)count, sizeof *asked);
    assert_true(ids && asked);
    memset(answers, 0, (size_t)count * sizeof *answers);
    int sent = 0, done = 0;
    while (done < count) {
        while (sent < count && sent - done < in_flight) {
            int j = order ? order[sent] : sent;
            ids[j] = submit(a, &jobs[j]);
            asked[j] = true;
            sent++;
        }
        wait_ready(a);
        uint64_t ready[64];
        int n;
        while ((n = engine_ready(a->engine, ready, 64)) > 0) {
            for (int i = 0; i < n; i++) {
                int j = 0;
                while (j < count && !(asked[j] && ids[j] == ready[i]))
                    j++;
                if (j == count) {
                    assert_true(a->strangers); /* an id nobody asked for, or one already ended */
                    continue;
                }
                if (drain(a, ids[j], &jobs[j], &answers[j], usages ? &usages[j] : NULL)) {
                    asked[j] = false;
                    done++;
                }
            }
        }
    }
    mem_free(ids);
    mem_free(asked);
}

int answers_differ(const struct job *jobs, const struct answer *want, const struct answer *got,
                   int count, char *first, size_t size)
{
    int differ = 0;
    for (int j = 0; j < count; j++) {
        if (memcmp(&want[j], &got[j], sizeof want[j]) == 0)
            continue;
        if (differ++)
            continue;
        int i = 0;
        while (i < want[j].count && want[j].ids[i] == got[j].ids[i] &&
               memcmp(&want[j].logprobs[i], &got[j].logprobs[i], sizeof(float)) == 0)
            i++;
        int at = i < ANSWER_MAX ? i : ANSWER_MAX - 1;
        snprintf(first, size, "%s/%s token %d: id %d %.9g, wanted %d %.9g (%d of %d tokens)",
                 jobs[j].run->voice, jobs[j].prompt->name, i, got[j].ids[at],
                 (double)got[j].logprobs[at], want[j].ids[at], (double)want[j].logprobs[at],
                 got[j].count, want[j].count);
    }
    return differ;
}

void golden_shuffle(int *order, int count, uint64_t seed)
{
    for (int i = 0; i < count; i++)
        order[i] = i;
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;
    for (int i = count - 1; i > 0; i--) {
        x ^= x << 13; /* xorshift64, Marsaglia 2003 */
        x ^= x >> 7;
        x ^= x << 17;
        int j = (int)(x % (uint64_t)(i + 1));
        int t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
}
