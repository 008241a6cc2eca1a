/* The engine with its own thread, several readers and a thread that changes adapters, over the fake
 * backend. Readers read only what they were notified of, so a lost wake-up hangs and fails. Meant
 * for ThreadSanitizer too. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/base/log.h"
#include "engine/engine_grammar.h"
#include "engine/engine_parts.h"
#include "engine/grammar/gbnf.h"
#include "tests/sim/fake_backend.h"
#include "tests/sim/fake_text.h"
#include "tests/sim/oracle.h"

#define READERS      4
#define REQUESTS     120 /* of each reader */
#define NAMES        3
#define GENERATIONS  4096
#define READY_MAX    256
#define WAIT_SECONDS 60

static struct engine *engine;
static struct model model;
static atomic_bool readers_done;
static atomic_int done, cancelled, refused, held;

/* Which bytes a generation has; "" : not known yet. */
static struct {
    pthread_mutex_t lock;
    char paths[GENERATIONS][16];
} known = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Ids that became ready and were not taken by their reader. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool notified;
    uint64_t ids[READY_MAX];
    int count;
} ready = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void on_notify(void *ctx)
{
    (void)ctx;
    pthread_mutex_lock(&ready.lock);
    ready.notified = true;
    pthread_cond_broadcast(&ready.changed);
    pthread_mutex_unlock(&ready.lock);
}

static void die(const char *what)
{
    fprintf(stderr, "test_engine_threads: %s\n", what);
    abort();
}

/* With ready.lock held. */
static bool take_ready(uint64_t id)
{
    if (ready.notified) {
        ready.notified = false;
        ready.count += engine_ready(engine, ready.ids + ready.count, READY_MAX - ready.count);
        pthread_cond_broadcast(&ready.changed);
    }
    for (int i = 0; i < ready.count; i++) {
        if (ready.ids[i] != id)
            continue;
        ready.ids[i] = ready.ids[--ready.count];
        return true;
    }
    return false;
}

static void wait_ready(uint64_t id)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_SECONDS;
    pthread_mutex_lock(&ready.lock);
    while (!take_ready(id))
        if (pthread_cond_timedwait(&ready.changed, &ready.lock, &until) != 0)
            die("nobody was notified");
    pthread_mutex_unlock(&ready.lock);
}

static void path_of(uint64_t generation, char out[16])
{
    do {
        pthread_mutex_lock(&known.lock);
        memcpy(out, known.paths[generation], 16);
        pthread_mutex_unlock(&known.lock);
    } while (!out[0]);
}

static int below(unsigned *seed, int n)
{
    return rand_r(seed) % n;
}

/* A quarter of all requests bring one of a few grammars, compiled by their own thread. */
static void choose_grammar(struct engine_request *r, char text[64], unsigned *seed)
{
    struct err err;
    if (below(seed, 4) != 0)
        return;
    snprintf(text, 64, "root ::= [abc ]{%d,} \"\\n\"?", below(seed, 12));
    struct engine_grammar_ask ask = {
        .kind = ENGINE_GRAMMAR_GBNF, .text = text, .text_len = strlen(text)};
    if (engine_grammar_compile(engine, &ask, &r->grammar, &err) != STATUS_OK)
        die(err.msg);
}

/* The engine's thread uses the request's own one. */
static struct grammar *another(const char *text)
{
    struct grammar_builder *b = NULL;
    struct grammar *g = NULL;
    struct err err;
    if (grammar_builder_create(&b) != STATUS_OK ||
        grammar_build_finish(b, gbnf_read(b, text, strlen(text)), &g, &err) != STATUS_OK)
        die("a grammar does not compile");
    grammar_builder_destroy(b);
    return g;
}

static void check_answer(const struct engine_request *r, const struct engine_adapter_use *resolved,
                         const int32_t *tokens, int count, const struct strbuf *text,
                         const struct engine_event *last)
{
    uint64_t identity = 0;
    char path[16];
    struct oracle o;
    for (int i = 0; i < r->adapter_count; i++) {
        path_of(resolved[i].generation, path);
        identity = fake_identity_add(identity, fake_identity_of(path), resolved[i].weight);
    }
    oracle_answer(r, identity, r->max_tokens, &o);
    if (last->kind == ENGINE_EVENT_DONE && (o.count != count || o.text.len != text->len))
        die("an answer has another length than alone");
    for (int i = 0; i < count; i++)
        if (tokens[i] != o.tokens[i].token)
            die("an answer differs from the same request alone");
    if (text->len > o.text.len || memcmp(strbuf_str(text), strbuf_str(&o.text), text->len) != 0)
        die("a text differs from the same request alone");
    oracle_deinit(&o);
}

static void choose(struct engine_request *r, int32_t *prompt, unsigned *seed)
{
    memset(r, 0, sizeof *r);
    r->prompt = prompt;
    r->prompt_count = 1 + below(seed, 80);
    for (int i = 0; i < r->prompt_count; i++)
        prompt[i] = i < 40 ? i % FAKE_VOCAB : below(seed, FAKE_VOCAB);
    r->sampling = (struct sample_params){.temperature = 1,
                                         .top_p = 1,
                                         .typical_p = 1,
                                         .repetition_penalty = 1,
                                         .seed = (uint64_t)below(seed, 1000),
                                         .logprobs = -1};
    r->max_tokens = 1 + below(seed, 100);
    r->ignore_eos = below(seed, 2);
    r->cache_prompt = true;
    r->adapter_count = below(seed, 3);
    for (int i = 0; i < r->adapter_count; i++) {
        snprintf(r->adapters[i].name, sizeof r->adapters[i].name, "v%d", i);
        r->adapters[i].weight = 1.0f;
    }
}

static void one_request(unsigned *seed)
{
    struct engine_request r;
    struct engine_adapter_use resolved[LIMIT_ADAPTERS_PER_REQUEST];
    struct engine_event ev = {0};
    struct err err;
    struct strbuf text;
    int32_t prompt[80], tokens[128];
    char grammar[64];
    int count = 0, cancel_at = below(seed, 10) ? -1 : below(seed, 30);
    uint64_t id;
    choose(&r, prompt, seed);
    choose_grammar(&r, grammar, seed);
    enum status st = engine_submit(engine, &r, &id, resolved, &err);
    engine_grammar_release(r.grammar);
    if (st != STATUS_OK) {
        if (st != STATUS_BUSY && st != STATUS_ADAPTER_NOT_FOUND)
            die(err.msg);
        refused++;
        usleep(200);
        return;
    }
    strbuf_init(&text, 1 << 20);
    if (cancel_at == 0)
        engine_cancel(engine, id);
    while (ev.kind < ENGINE_EVENT_DONE) {
        wait_ready(id);
        if (below(seed, 20) == 0)
            usleep(3000); /* a slow reader: its sequence pauses */
        while (engine_read(engine, id, &ev, 1) == 1) {
            strbuf_append(&text, ev.text, (size_t)ev.text_len);
            if (ev.kind == ENGINE_EVENT_TOKEN)
                tokens[count++] = ev.token;
            if (count == cancel_at)
                engine_cancel(engine, id);
        }
    }
    if (ev.kind == ENGINE_EVENT_ERROR)
        die(ev.err.msg);
    if (ev.kind == ENGINE_EVENT_CANCELLED && cancel_at < 0)
        die("cancelled without being asked to");
    *(ev.kind == ENGINE_EVENT_DONE ? &done : &cancelled) += 1;
    r.grammar = r.grammar ? another(grammar) : NULL;
    held += r.grammar != NULL;
    check_answer(&r, resolved, tokens, count, &text, &ev);
    grammar_unref(r.grammar);
    strbuf_deinit(&text);
}

static void *reader_main(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    for (int i = 0; i < REQUESTS; i++)
        one_request(&seed);
    return NULL;
}

static void add_adapter(int name, int path)
{
    char name_text[16], path_text[16] = "";
    struct err err;
    uint64_t generation;
    snprintf(name_text, sizeof name_text, "v%d", name);
    snprintf(path_text, sizeof path_text, "bytes-%d", path);
    if (engine_adapter_add(engine, name_text, path_text, &generation, &err) != STATUS_OK)
        die(err.msg);
    if (generation >= GENERATIONS)
        die("too many generations for this test");
    pthread_mutex_lock(&known.lock);
    memcpy(known.paths[generation], path_text, sizeof path_text);
    pthread_mutex_unlock(&known.lock);
}

static void *adapters_main(void *arg)
{
    unsigned seed = 99;
    int changes = 0;
    (void)arg;
    while (!readers_done && changes < GENERATIONS - 10) {
        struct engine_adapter_info info[16];
        struct engine_stats st;
        struct err err;
        if (below(&seed, 5))
            add_adapter(below(&seed, NAMES), changes++);
        else if (engine_adapter_remove(engine, "v0", &err) == STATUS_OK)
            add_adapter(0, changes++);
        engine_adapters(engine, info, 16);
        engine_get_stats(engine, &st);
        usleep(500);
    }
    return NULL;
}

static void test_engine_threads_answers(void **state)
{
    (void)state;
    struct err err;
    struct engine_options opt = {.model_dir = "fake",
                                 .seqs_max = 6,
                                 .rows_max = 40,
                                 .kv_pages = 14,
                                 .slots_max = 3,
                                 .queue_max = 4,
                                 .wait_bound_steps = 10,
                                 .prefix_cache = true,
                                 .notify = on_notify};
    struct fake_backend *f = fake_backend_open(true);
    struct engine_stats st;
    pthread_t readers[READERS], adapters;
    fake_model_init(&model, 256);
    struct engine_parts parts = {.model = &model,
                                 .eos = fake_eos,
                                 .eos_count = FAKE_EOS_COUNT,
                                 .backend = &f->base,
                                 .detok = fake_detok,
                                 .tokens = fake_tokens,
                                 .adapters = fake_adapters,
                                 .threaded = true};
    f->delay_us = 20;
    if (engine_create(&opt, &parts, &engine, &err) != STATUS_OK)
        die(err.msg);
    for (int i = 0; i < NAMES; i++)
        add_adapter(i, 5000 + i);
    pthread_create(&adapters, NULL, adapters_main, NULL);
    for (uintptr_t i = 0; i < READERS; i++)
        pthread_create(&readers[i], NULL, reader_main, (void *)(i + 1));
    for (int i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    readers_done = true;
    pthread_join(adapters, NULL);

    engine_get_stats(engine, &st);
    for (int i = 0; i < 1000 && (st.kv_pages_used || st.running);
         i++, engine_get_stats(engine, &st))
        usleep(1000);
    printf("figure: threads done %d, cancelled %d, refused %d, with a grammar %d, steps %llu, "
           "preemptions %llu\n",
           done, cancelled, refused, held, (unsigned long long)st.steps,
           (unsigned long long)st.preemptions);
    if (st.kv_pages_used || st.running || st.waiting || done == 0 || cancelled == 0 || held == 0)
        die("the engine is not idle at the end");
    /* Closing while requests run and wait, from another thread than theirs. */
    for (int i = 0; i < 8; i++) {
        struct engine_request r;
        int32_t prompt[80];
        unsigned seed = (unsigned)i;
        uint64_t id;
        choose(&r, prompt, &seed);
        r.adapter_count = 0;
        if (engine_submit(engine, &r, &id, NULL, &err) != STATUS_OK)
            die(err.msg);
    }
    engine_close(engine);
    if (fake_adapters_alive() != 0)
        die("adapters were left behind");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_engine_threads_answers)};
    log_setup(LOG_LEVEL_ERROR + 1, false);
    return cmocka_run_group_tests_name("engine_threads", tests, NULL, NULL);
}
