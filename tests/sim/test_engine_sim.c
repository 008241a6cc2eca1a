/* Deterministic simulation of the engine: scheduler, KV pool, prefix cache, adapter store and the
 * step loop, on one thread, over the fake backend and a fake clock.
 *
 * Each seed is a history of random events: requests, reads, cancellations, adapters that come,
 * change and go, device faults, failing allocations, draining. After each event everything is
 * counted; every answer is compared with the oracle's. Same seed, same trace.
 *
 *   test_engine_sim [--seeds N] [--first SEED] [--events N]
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "engine/engine_internal.h"
#include "engine/grammar/gbnf.h"
#include "tests/release.h"
#include "tests/sim/fake_backend.h"
#include "tests/sim/fake_text.h"
#include "tests/sim/oracle.h"

#define CLIENTS      64
#define NAMES        6
#define CTX_MAX      256
#define STREAMS      4
#define STOP_CHOICES 6

static uint64_t current_seed;
static uint64_t current_event;

/* CHECK that says which history to replay. */
#define EXPECT(cond)                                                                               \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: seed %llu, event %llu: %s\n", __FILE__, __LINE__,              \
                    (unsigned long long)current_seed, (unsigned long long)current_event, #cond);   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* ---- randomness ---- */

static uint64_t rng_state;

static uint64_t rng(void)
{
    rng_state += 0x9e3779b97f4a7c15u;
    uint64_t z = rng_state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int below(int n)
{
    return (int)(rng() % (uint64_t)n);
}

static int between(int lo, int hi)
{
    return lo + below(hi - lo + 1);
}

static bool chance(int percent)
{
    return below(100) < percent;
}

/* ---- the world ---- */

/* Each can go on, or end, after any token of the vocabulary that it takes. */
static const char *const grammar_texts[] = {
    "root ::= [abc]* \"\\n\"",
    "root ::= \"a\"{3,40}",
    "root ::= ([abc ] | \"\\u00e9\" | \"\\u20ac\")*",
    "root ::= \"a\" root? \"\\n\" | \"\\u00e9\"",
    "root ::= root \"a\" | [ab] | \" \" root",
};

enum { GRAMMARS = sizeof grammar_texts / sizeof grammar_texts[0] };

enum pace { PACE_EAGER, PACE_SLOW, PACE_STALLED };

struct client {
    bool busy;
    bool cancelled;
    bool ended;
    bool shifty;  /* an adapter's files have changed: reading them again must fail */
    size_t bytes; /* of its adapters */
    enum pace pace;
    uint64_t id;
    struct engine_request r;
    int32_t prompt[CTX_MAX];
    struct logit_bias bias[2];
    struct oracle_part parts[LIMIT_ADAPTERS_PER_REQUEST];
    uint64_t generations[LIMIT_ADAPTERS_PER_REQUEST];
    int max_new;
    /* heard */
    int prompt_events;
    int tokens;
    struct sample_result results[CTX_MAX];
    struct strbuf text;
    struct oracle oracle;
    /* waiting, as seen from outside */
    uint64_t overtaken_at; /* step in which a later one was admitted first; 0: not yet */
};

/* What a whole run has met: a simulation that never meets a case proves nothing about it. */
struct coverage {
    uint64_t accepted, done, cancelled, failed, refused_busy, refused_length, refused_adapter;
    uint64_t cached_tokens, preemptions, pauses, overtakes, evictions, replaced, mixed_steps;
    uint64_t disk_reads, uploads, shifty, too_large;
    uint64_t device_losses, load_failures, no_memory, drains, steps, rows, prompt_scores, blends;
    uint64_t chunked, waited_cancelled, blocked, ahead, useless, followed, late;
    uint64_t grammars, grammar_ends, embeddings, embedding_chunks, activated, inactive;
};

static struct coverage seen;

struct world {
    struct engine *e;
    struct fake_backend *f;
    struct model model;
    struct engine_options opt;
    struct client clients[CLIENTS];
    char paths[NAMES][32]; /* "" : no such adapter */
    int path_serial;
    struct grammar *grammars[GRAMMARS];
    int names;          /* of NAMES in use */
    int submit_percent; /* of the events */
    int adapter_percent;
    int32_t streams[STREAMS][CTX_MAX];
    int64_t now_ns;
    uint64_t step;
    int blocked_turns;
    bool draining;
    bool lost;        /* a fault that ends everything has struck */
    bool load_failed; /* a fault that ends who needed the adapter has struck */
    uint64_t trace;
};

static void trace(struct world *w, uint64_t v)
{
    w->trace = (w->trace ^ v) * 0x100000001b3u;
    w->trace ^= w->trace >> 29;
}

static int64_t fake_now(void *ctx)
{
    struct world *w = ctx;
    return w->now_ns += 1000;
}

static struct grammar *compile(const char *text)
{
    struct grammar_builder *b = NULL;
    struct grammar *g = NULL;
    struct err err;
    EXPECT(grammar_builder_create(&b) == STATUS_OK);
    EXPECT(grammar_build_finish(b, gbnf_read(b, text, strlen(text)), &g, &err) == STATUS_OK);
    grammar_builder_destroy(b);
    return g;
}

static struct world *world_open(void)
{
    struct world *w = calloc(1, sizeof *w);
    struct err err;
    EXPECT(w);
    fake_model_init(&w->model, CTX_MAX);
    w->model.pooling.kind = (enum pooling_kind)between(POOLING_LAST, POOLING_WEIGHTED_MEAN);
    for (int i = 0; i < STREAMS; i++)
        for (int k = 0; k < CTX_MAX; k++)
            w->streams[i][k] = below(FAKE_VOCAB);
    int seqs = between(1, 8);
    w->opt = (struct engine_options){
        .model_dir = "fake",
        .seqs_max = seqs,
        .rows_max = seqs + below(40),
        .chunk_max = chance(50) ? 0 : between(1, 30),
        .kv_pages = chance(50) ? between(3, 16) : between(16, 120),
        .slots_max = between(1, 4),
        .queue_max = between(1, 20),
        .wait_bound_steps = chance(20) ? 0 : between(1, 20),
        .prefix_cache = chance(85),
        .host_adapter_bytes = chance(50) ? SIZE_MAX : (size_t)between(1, 500),
        .adapter_turn_steps = chance(50) ? 0 : between(1, 40),
    };
    w->names = between(1, NAMES);
    w->submit_percent = between(2, 20);
    w->adapter_percent = between(0, 6);
    w->f = fake_backend_open(chance(60));
    if (chance(70))
        fake_backend_set_room(w->f, chance(50) ? SIZE_MAX : (size_t)between(150, 600), chance(70));
    struct engine_parts parts = {.model = &w->model,
                                 .eos = fake_eos,
                                 .eos_count = FAKE_EOS_COUNT,
                                 .backend = &w->f->base,
                                 .detok = fake_detok,
                                 .tokens = fake_tokens,
                                 .adapters = fake_adapters,
                                 .now_ns = fake_now,
                                 .now_ctx = w,
                                 .loads_by_hand = true};
    EXPECT(engine_create(&w->opt, &parts, &w->e, &err) == STATUS_OK);
    for (int i = 0; i < GRAMMARS; i++)
        w->grammars[i] = compile(grammar_texts[i]);
    if (chance(15)) {
        w->f->fault = (enum fake_fault)between(FAKE_FAULT_LOAD, FAKE_FAULT_DRAW);
        w->f->fault_in = between(1, w->f->fault == FAKE_FAULT_LOAD ? 8 : 300);
        w->f->fault_status = chance(50) ? STATUS_DEVICE_LOST : STATUS_NO_MEMORY;
    }
    return w;
}

/* ---- adapters ---- */

static void adapter_name(int i, char *out, size_t cap)
{
    snprintf(out, cap, "voice-%d", i);
}

static void event_adapter_add(struct world *w)
{
    char name[32], path[32];
    struct err err;
    uint64_t generation = 0;
    int i = below(w->names);
    bool bad = chance(10), no_memory = chance(10), had = w->paths[i][0];
    adapter_name(i, name, sizeof name);
    /* Old bytes come back under another name or generation now and then. */
    snprintf(path, sizeof path, "%s%d",
             bad          ? "bad"
             : chance(5)  ? "shifty"
             : chance(25) ? "alora"
                          : "bytes",
             chance(30) ? below(5) : w->path_serial++);
    if (no_memory)
        mem_fail_at(between(1, 3));
    enum status st = engine_adapter_add(w->e, name, path, &generation, &err);
    mem_fail_at(0);
    if (bad) {
        EXPECT(st != STATUS_OK);
        return;
    }
    if (st == STATUS_NO_MEMORY && no_memory) {
        seen.no_memory++;
        return;
    }
    EXPECT(st == STATUS_OK && generation > 0);
    seen.replaced += had;
    memcpy(w->paths[i], path, sizeof path);
    trace(w, generation);
}

static void event_adapter_remove(struct world *w)
{
    char name[32];
    struct err err;
    int i = below(w->names);
    adapter_name(i, name, sizeof name);
    enum status st = engine_adapter_remove(w->e, name, &err);
    EXPECT(st == (w->paths[i][0] ? STATUS_OK : STATUS_ADAPTER_NOT_FOUND));
    w->paths[i][0] = '\0';
}

/* ---- requests ---- */

static void choose_prompt(struct world *w, struct client *c)
{
    int n = chance(80) ? between(1, 90) : between(1, CTX_MAX - 1);
    const struct client *other = &w->clients[below(CLIENTS)];
    int at = 0;
    if (chance(35) && !other->busy && other->tokens > 0) {
        /* the next turn of a conversation */
        int total = other->r.prompt_count + other->tokens;
        for (; at < total && at < CTX_MAX - 1; at++)
            c->prompt[at] = at < other->r.prompt_count
                                ? other->prompt[at]
                                : other->results[at - other->r.prompt_count].token;
        n = at + below(20);
    } else if (chance(85)) {
        const int32_t *stream = w->streams[below(STREAMS)];
        int shared = chance(70) ? n : below(n + 1);
        for (; at < shared; at++)
            c->prompt[at] = stream[at];
    }
    n = n < 1 ? 1 : n < CTX_MAX ? n : CTX_MAX - 1;
    for (; at < n; at++)
        c->prompt[at] = below(FAKE_VOCAB);
    /* What activates adapters, over and over in some. */
    if (chance(50))
        for (int marks = between(1, 6), k = below(n); marks > 0 && k < n;
             marks--, k += between(1, 3))
            c->prompt[k] = between(2, 3);
    c->r.prompt = c->prompt;
    c->r.prompt_count = n;
}

static bool choose_adapters(struct world *w, struct client *c)
{
    static const float weights[] = {1.0f, 0.5f, -1.0f};
    bool known = true;
    int count = chance(30) ? 0 : chance(70) ? 1 : between(1, 3);
    int first = below(w->names);
    count = count > w->opt.slots_max ? w->opt.slots_max : count;
    count = count > w->names ? w->names : count;
    c->r.adapter_count = count;
    for (int i = 0; i < count; i++) {
        int k = (first + i) % w->names;
        struct engine_adapter_use *u = &c->r.adapters[i];
        adapter_name(k, u->name, sizeof u->name);
        u->weight = weights[chance(70) ? 0 : below(3)];
        known = known && w->paths[k][0];
        c->shifty = c->shifty || strncmp(w->paths[k], "shifty", 6) == 0;
        c->bytes += fake_bytes_of(w->paths[k]);
        int32_t mark[FAKE_MARK_MAX];
        c->parts[i] =
            (struct oracle_part){.identity = fake_identity_of(w->paths[k]),
                                 .weight = u->weight,
                                 .from = oracle_from(&c->r, mark, fake_mark_of(w->paths[k], mark))};
    }
    return known;
}

static void choose_ends(struct client *c)
{
    static const struct engine_stop choices[STOP_CHOICES] = {
        {"ab", 2}, {"aab", 3}, {"b€", 4}, {"é", 2}, {"cacbacab", 8}, {"a a", 3}};
    struct engine_request *r = &c->r;
    r->stop_count = chance(75) ? 0 : between(1, LIMIT_STOP_STRINGS);
    for (int i = 0; i < r->stop_count; i++)
        r->stop[i] = choices[below(STOP_CHOICES)];
    r->stop_token_count = chance(85) ? 0 : between(1, 3);
    for (int i = 0; i < r->stop_token_count; i++)
        r->stop_tokens[i] = below(FAKE_VOCAB);
    r->ignore_eos = chance(70);
    r->include_stop = chance(30);
    r->keep_special = chance(30);
    r->max_tokens = chance(10) ? 0 : chance(80) ? between(1, 50) : between(1, CTX_MAX);
    r->min_tokens = chance(80) ? 0 : below(20);
}

static bool choose_request(struct world *w, struct client *c)
{
    memset(c, 0, sizeof *c);
    c->pace = (enum pace)(chance(60) ? PACE_EAGER : between(PACE_SLOW, PACE_STALLED));
    c->r.request_id = "sim";
    c->r.sampling = (struct sample_params){.temperature = 1,
                                           .top_p = 1,
                                           .typical_p = 1,
                                           .repetition_penalty = chance(80) ? 1.0f : 1.5f,
                                           .seed = rng(),
                                           .logprobs = between(-1, 3)};
    c->r.cache_prompt = chance(85);
    c->r.prompt_logprobs = chance(15);
    c->r.cache_salt = chance(80) ? NULL : chance(50) ? "x" : "y";
    choose_prompt(w, c);
    choose_ends(c);
    c->r.grammar = chance(80) ? NULL : w->grammars[below(GRAMMARS)];
    c->r.embed = chance(12);
    return choose_adapters(w, c);
}

static int live_count(const struct world *w)
{
    int n = 0;
    for (int i = 0; i < CLIENTS; i++)
        n += w->clients[i].busy && !w->clients[i].ended;
    return n;
}

/* Is this the status that the request deserves? */
static void expect_submit_status(struct world *w, struct client *c, bool known, bool no_memory,
                                 enum status st)
{
    const struct engine_request *r = &c->r;
    int pool = w->e->opt.kv_pages * LIMIT_KV_PAGE_TOKENS, ctx = w->e->opt.ctx_max;
    int need = r->prompt_count + (r->max_tokens > 0 ? r->max_tokens : 1);
    c->max_new = r->max_tokens;
    if (r->embed)
        need = r->prompt_count;
    if (c->max_new == 0)
        c->max_new = (ctx < pool + 1 ? ctx : pool + 1) - r->prompt_count;
    if (need > ctx) {
        EXPECT(st == STATUS_CONTEXT_LENGTH);
        seen.refused_length++;
    } else if (need - !r->embed > pool) {
        EXPECT(st == STATUS_LIMIT);
        seen.refused_length++;
    } else if (!r->embed && r->min_tokens > c->max_new) {
        EXPECT(st == STATUS_INVALID);
    } else if (w->lost) {
        EXPECT(st == STATUS_DEVICE_LOST);
    } else if (w->draining) {
        EXPECT(st == STATUS_DRAINING);
    } else if (st == STATUS_BUSY) {
        EXPECT(live_count(w) >= w->opt.seqs_max + w->opt.queue_max);
        seen.refused_busy++;
    } else if (st == STATUS_NO_MEMORY) {
        EXPECT(no_memory);
        seen.no_memory++;
    } else if (!known) {
        EXPECT(st == STATUS_ADAPTER_NOT_FOUND);
        seen.refused_adapter++;
    } else if (c->bytes > w->e->limits.room) {
        EXPECT(st == STATUS_NO_ROOM);
        seen.too_large++;
    } else {
        EXPECT(st == STATUS_OK);
    }
}

static void event_submit(struct world *w)
{
    struct engine_adapter_use resolved[LIMIT_ADAPTERS_PER_REQUEST];
    struct err err;
    int i = 0;
    while (i < CLIENTS && w->clients[i].busy)
        i++;
    if (i == CLIENTS)
        return;
    struct client *c = &w->clients[i];
    bool known = choose_request(w, c);
    bool no_memory = chance(5);
    if (no_memory)
        mem_fail_at(between(1, 12));
    enum status st = engine_submit(w->e, &c->r, &c->id, resolved, &err);
    mem_fail_at(0);
    expect_submit_status(w, c, known, no_memory, st);
    trace(w, st);
    if (st != STATUS_OK)
        return;
    c->busy = true;
    strbuf_init(&c->text, 1 << 24);
    if (!c->r.embed)
        oracle_answer_parts(&c->r, c->parts, c->r.adapter_count, c->max_new, &c->oracle);
    for (int k = 0; k < c->r.adapter_count; k++) {
        int from = c->parts[k].from;
        c->generations[k] = resolved[k].generation;
        EXPECT(!resolved[k].activated ? from == 0
                                      : resolved[k].active_from == (from < INT32_MAX ? from : -1));
        seen.activated += from > 0 && from < INT32_MAX;
        seen.inactive += from == INT32_MAX;
    }
    seen.accepted++;
    seen.blends += c->r.adapter_count > 1;
    seen.grammars += c->oracle.masked;
}

static void event_cancel(struct world *w)
{
    struct client *c = &w->clients[below(CLIENTS)];
    if (!c->busy)
        return;
    engine_cancel(w->e, c->id);
    c->cancelled = true;
}

/* ---- reading ---- */

static void hear_token(struct client *c, const struct engine_event *ev,
                       const struct sample_result *want)
{
    EXPECT(ev->token == want->token);
    EXPECT(ev->has_logprob == (c->r.sampling.logprobs >= 0));
    EXPECT(ev->logprob == want->logprob && ev->top_count == want->top_count);
    EXPECT(memcmp(ev->top, want->top, (size_t)ev->top_count * sizeof *ev->top) == 0);
}

static void hear_embedding(struct world *w, struct client *c, const struct engine_event *ev)
{
    float want[FAKE_WIDTH];
    oracle_embed_parts(&c->r, c->parts, c->r.adapter_count, w->model.pooling.kind, want);
    EXPECT(ev->embedding && memcmp(ev->embedding, want, sizeof want) == 0);
    EXPECT(c->tokens == 0 && c->prompt_events == 0 && ev->usage.completion_tokens == 0);
    mem_free(ev->embedding);
    seen.embeddings++;
    seen.done++;
}

static void hear_end(struct world *w, struct client *c, const struct engine_event *ev)
{
    const struct oracle *o = &c->oracle;
    const struct engine_usage *u = &ev->usage;
    EXPECT(!c->ended);
    c->ended = true;
    EXPECT(u->prompt_tokens == c->r.prompt_count && u->completion_tokens >= c->tokens);
    EXPECT(u->cached_tokens >= 0 && u->cached_tokens < c->r.prompt_count);
    EXPECT(u->cached_tokens == 0 ||
           (w->opt.prefix_cache && c->r.cache_prompt &&
            !(c->r.embed ? pooling_takes_all(w->model.pooling.kind) : c->r.prompt_logprobs)));
    EXPECT(u->queue_ns >= 0 && u->prompt_ns >= 0 && u->decode_ns >= 0);
    EXPECT(u->adapter_ns >= 0 && u->adapter_ns <= u->queue_ns);
    seen.cached_tokens += (uint64_t)u->cached_tokens;
    EXPECT(!ev->embedding || (c->r.embed && ev->kind == ENGINE_EVENT_DONE));
    if (ev->kind == ENGINE_EVENT_DONE && c->r.embed) {
        hear_embedding(w, c, ev);
    } else if (ev->kind == ENGINE_EVENT_DONE) {
        EXPECT(c->tokens == o->count && ev->finish == o->finish);
        EXPECT(c->text.len == o->text.len);
        EXPECT(c->prompt_events == (c->r.prompt_logprobs ? c->r.prompt_count - 1 : 0));
        EXPECT(u->completion_tokens == c->tokens);
        seen.done++;
        seen.grammar_ends += c->r.grammar && ev->finish == ENGINE_FINISH_STOP;
    } else if (ev->kind == ENGINE_EVENT_CANCELLED) {
        EXPECT(c->cancelled);
        seen.cancelled++;
    } else {
        /* Draining refuses only who has not begun. */
        bool shifted = c->shifty && ev->err.code == STATUS_CONFLICT;
        seen.shifty += shifted;
        EXPECT(w->lost || w->load_failed || shifted ||
               (w->draining && u->queue_ns == 0 && u->completion_tokens == 0));
        seen.failed++;
    }
}

static void hear(struct world *w, struct client *c, const struct engine_event *ev)
{
    trace(w, c->id);
    trace(w, (uint64_t)ev->kind << 32 | (uint32_t)ev->token);
    if (ev->kind == ENGINE_EVENT_PROMPT_TOKEN) {
        EXPECT(c->r.prompt_logprobs && c->prompt_events < c->r.prompt_count - 1 && c->tokens == 0);
        hear_token(c, ev, &c->oracle.prompt[c->prompt_events]);
        EXPECT(ev->token == c->prompt[++c->prompt_events]);
        seen.prompt_scores++;
        return;
    }
    if (ev->kind == ENGINE_EVENT_TOKEN) {
        EXPECT(c->tokens < c->oracle.count);
        hear_token(c, ev, &c->oracle.tokens[c->tokens]);
        c->results[c->tokens] = c->oracle.tokens[c->tokens];
        c->tokens++;
    }
    strbuf_append(&c->text, ev->text, (size_t)ev->text_len);
    EXPECT(c->text.len <= c->oracle.text.len);
    EXPECT(memcmp(strbuf_str(&c->text), strbuf_str(&c->oracle.text), c->text.len) == 0);
    if (ev->kind >= ENGINE_EVENT_DONE)
        hear_end(w, c, ev);
}

static void read_client(struct world *w, struct client *c, int max)
{
    struct engine_event ev;
    while (max-- > 0 && engine_read(w->e, c->id, &ev, 1) == 1)
        hear(w, c, &ev);
    if (!c->ended)
        return;
    EXPECT(engine_read(w->e, c->id, &ev, 1) == 0);
    engine_cancel(w->e, c->id);
    oracle_deinit(&c->oracle);
    strbuf_deinit(&c->text);
    c->busy = false;
}

static void event_read(struct world *w)
{
    for (int i = 0; i < CLIENTS; i++) {
        struct client *c = &w->clients[i];
        if (!c->busy)
            continue;
        if (c->pace == PACE_EAGER)
            read_client(w, c, INT32_MAX);
        else if (c->pace == PACE_SLOW)
            read_client(w, c, below(4));
        else if (chance(2))
            c->pace = PACE_EAGER;
    }
}

/* ---- the turn, seen from outside ---- */

static struct client *client_of(struct world *w, uint64_t id)
{
    for (int i = 0; i < CLIENTS; i++)
        if (w->clients[i].busy && w->clients[i].id == id)
            return &w->clients[i];
    return NULL;
}

struct before {
    struct seq *seq;
    int count;
    bool flying;      /* its newest token is being drawn: this turn tells it */
    bool must_move;   /* it only lacks its newest token: this turn launches its row */
    bool must_follow; /* the same while that token is still being drawn, whatever it asks for */
    bool cancelled;
};

/* Every running sequence that only lacks its newest token gets its row, unless it is paused. */
static int look_before(const struct world *w, struct before *b)
{
    const struct engine *e = w->e;
    int n = 0;
    for (int i = 0; i < e->running_count + e->waiting_count; i++) {
        struct seq *s = i < e->running_count ? e->running[i] : e->waiting[i - e->running_count];
        bool paused = outbox_room(&s->outbox) < e->room_need;
        b[n++] = (struct before){
            .seq = s,
            .count = s->count,
            .flying = s->pending > 0,
            .must_move = s->state == SEQ_RUNNING && s->count - s->computed == 1 && !paused &&
                         s->flying_rows == 0,
            .must_follow = s->pending > 0 && !seq_scores(s) &&
                           seq_made(s) + s->pending < s->max_new &&
                           outbox_room(&s->outbox) >= 2 * e->room_need,
            .cancelled = s->cancelled,
        };
        seen.pauses += paused;
    }
    for (struct seq *s = e->inbox_head; s; s = s->inbox_next)
        b[n++] = (struct before){.seq = s, .count = s->count, .cancelled = s->cancelled};
    return n;
}

static void look_after(struct world *w, const struct before *b, int n, bool waited)
{
    for (int i = 0; i < n; i++) {
        const struct seq *s = b[i].seq;
        if (b[i].cancelled) {
            EXPECT(s->outbox.ended && s->count == b[i].count);
            seen.waited_cancelled += s->scheduled_ns == 0;
        }
        if (w->lost || s->outbox.ended)
            continue;
        if (b[i].flying)
            EXPECT(s->count == b[i].count + 1);
        if (b[i].must_move && !waited)
            EXPECT(s->state == SEQ_PREEMPTED || s->count == b[i].count + 1 || s->pending == 1);
        if (b[i].must_follow && !waited)
            EXPECT(s->pending == 1);
    }
}

/* Those wait for an adapter: other bounds are theirs. */
static bool waits_for_adapter(const struct engine *e, const struct seq *s)
{
    for (int i = 0; i < e->window_count; i++)
        if (e->window[i] == s)
            return e->plan.starved[i] || e->plan.loading[i];
    return !s->at_hand;
}

/* From the first step in which a later one was admitted instead of it, a waiting request may be
 * overtaken in wait_bound_steps steps. Who is paused does not wait for us. */
static void check_overtaking(struct world *w)
{
    const struct engine *e = w->e;
    uint64_t youngest = 0;
    for (int i = 0; i < e->plan.admit_count; i++) {
        const struct seq *s = e->window[e->plan.admit[i]];
        bool turn = e->plan.admit[i] == e->plan.turn;
        youngest = s->order > youngest && !turn ? s->order : youngest;
        client_of(w, s->id)->overtaken_at = 0;
    }
    for (int i = 0; i < e->waiting_count; i++) {
        const struct seq *s = e->waiting[i];
        struct client *c = client_of(w, s->id);
        if (s->room < e->room_need || s->order > youngest || waits_for_adapter(e, s))
            continue;
        if (c->overtaken_at == 0)
            c->overtaken_at = w->step;
        EXPECT(w->step < c->overtaken_at + (uint64_t)w->opt.wait_bound_steps);
        seen.overtakes++;
    }
}

static void check_step(struct world *w, const struct engine_flight *f)
{
    int chunk = w->opt.chunk_max ? w->opt.chunk_max : w->opt.rows_max;
    int adapters = 0;
    const struct batch *b = &f->batch.batch;
    for (int i = 0; i < f->count; i++) {
        const struct batch_seq *q = &f->shares[i];
        EXPECT(q->rows >= 1 && q->rows <= chunk);
        seen.chunked += q->rows < q->token_count - q->computed;
        seen.embedding_chunks += q->hidden && q->rows < q->token_count - q->computed;
    }
    for (int i = 0; i < b->segment_count; i++)
        adapters += i == 0 || b->segments[i].slot != b->segments[0].slot;
    for (int o = 0; o < b->out_count; o++)
        seen.useless += f->seqs[f->batch.out_seq[o]] == NULL;
    seen.mixed_steps += adapters > 1;
    seen.steps++;
    seen.rows += (uint64_t)b->rows;
}

/* Who is paused does not keep others waiting: it leaves, one a turn, until the oldest that waits
 * fits or nobody is paused. */
static void check_paused_yield(struct world *w, const struct engine_flight *f)
{
    const struct engine *e = w->e;
    bool paused = false, blocked = false;
    for (int i = 0; i < e->running_count; i++)
        paused = paused || e->running[i]->room < e->room_need;
    if (e->window_count > 0) /* a load of its own is not what a paused one could give */
        blocked = !e->plan.loading[0];
    else
        for (int i = 0; i < e->waiting_count && !blocked; i++)
            blocked = e->waiting[i]->room >= e->room_need && e->waiting[i]->at_hand;
    w->blocked_turns =
        paused && blocked && f->batch.batch.rows < w->opt.rows_max && e->plan.admit_count == 0
            ? w->blocked_turns + 1
            : 0;
    EXPECT(w->blocked_turns <= w->opt.seqs_max + 1);
    seen.blocked += w->blocked_turns > 0;
}

static void note_faults(struct world *w)
{
    if (w->f->fault == FAKE_FAULT_NONE || w->f->fault_in > 0)
        return;
    if (w->f->fault == FAKE_FAULT_LOAD && w->f->fault_status != STATUS_DEVICE_LOST) {
        seen.load_failures += !w->load_failed;
        w->load_failed = true;
    } else if (w->e->lost != STATUS_OK) { /* of an upload the engine hears when it looks */
        seen.device_losses += !w->lost;
        w->lost = true;
    }
}

static bool event_turn(struct world *w)
{
    struct before before[2 * CLIENTS];
    int n = look_before(w, before);
    uint64_t evictions = 0;
    for (int i = 0; i < w->opt.slots_max; i++)
        evictions += w->e->store.slots[i].adapter != NULL;
    uint64_t allocations = mem_alloc_count(), preemptions = w->e->now.preemptions;
    w->now_ns += between(1, 20) * 1000000;
    bool flying = w->e->flight_count > 0, grammar = false;
    for (int i = 0; i < n; i++)
        grammar = grammar || before[i].seq->grammar;
    const struct engine_flight *f =
        &w->e->flights[(w->e->flight_oldest + w->e->flight_count) % w->e->flight_max];
    engine_turn(w->e);
    bool worked = f->count > 0;
    w->step += worked;
    /* What a grammar meets for the first time is the only thing that takes memory. */
    EXPECT(mem_alloc_count() == allocations || grammar);
    note_faults(w);
    seen.preemptions += w->e->now.preemptions - preemptions;
    /* Somebody may have been preempted and admitted again in one turn. */
    look_after(w, before, n, (flying && !worked) || w->e->now.preemptions != preemptions);
    seen.ahead += w->e->flight_count > 0 && flying;
    if (worked && !w->lost) {
        check_overtaking(w);
        check_step(w, f);
        check_paused_yield(w, f);
        seen.evictions += evictions == (uint64_t)w->opt.slots_max && w->e->plan.load_count > 0;
    }
    return worked;
}

/* ---- counting ---- */

static void check_users(struct world *w)
{
    struct engine_adapter_info info[NAMES * 40];
    int n = engine_adapters(w->e, info, NAMES * 40), named = 0, users = 0, held = 0;
    EXPECT(n <= NAMES * 40);
    for (int i = 0; i < n; i++) {
        named += !info[i].draining;
        users += info[i].users;
        EXPECT(!info[i].draining || info[i].users > 0 || info[i].resident || info[i].loading);
        EXPECT(i == 0 || strcmp(info[i - 1].name, info[i].name) <= 0);
    }
    for (int i = 0; i < NAMES; i++)
        named -= w->paths[i][0] != '\0';
    EXPECT(named == 0 && n >= fake_adapters_alive() + fake_images_alive());
    for (int i = 0; i < w->e->running_count; i++)
        held += w->e->running[i]->adapter_count;
    for (int i = 0; i < w->e->waiting_count; i++)
        held += w->e->waiting[i]->adapter_count;
    for (struct seq *s = w->e->inbox_head; s; s = s->inbox_next)
        held += s->adapter_count;
    EXPECT(users == held);
}

static void check_all(struct world *w)
{
    struct engine_stats st;
    engine_check(w->e);
    check_users(w);
    engine_get_stats(w->e, &st);
    EXPECT(w->e->live == w->e->running_count + w->e->waiting_count + w->e->inbox_count);
    EXPECT(st.requests_accepted ==
           st.requests_done + st.requests_failed + st.requests_cancelled + (uint64_t)w->e->live);
    EXPECT(w->f->plan.pages == st.kv_pages_total);
}

/* ---- histories ---- */

/* The loader moves an adapter, or two. */
static void event_load(struct world *w)
{
    bool upload = w->e->store.upload.state == UPLOAD_ASKED;
    if (!engine_load_turn(w->e))
        return;
    note_faults(w);
    seen.uploads += upload;
    seen.disk_reads += !upload;
}

static void one_event(struct world *w)
{
    int what = below(100);
    if (what < w->submit_percent)
        event_submit(w);
    else if ((what -= w->submit_percent) < w->adapter_percent)
        chance(75) ? event_adapter_add(w) : event_adapter_remove(w);
    else if ((what -= w->adapter_percent) < 2)
        event_cancel(w);
    else if (what < 25)
        event_read(w);
    else if (what < 40)
        event_load(w);
    else
        event_turn(w);
}

/* Reads everything until everybody was answered: nobody may starve. */
static void run_down(struct world *w)
{
    for (int i = 0; i < CLIENTS; i++)
        w->clients[i].pace = PACE_EAGER;
    for (int turns = 0; live_count(w) > 0; turns++) {
        EXPECT(turns < 40000);
        event_turn(w);
        if (chance(50))
            event_load(w);
        event_read(w);
        check_all(w);
    }
    event_turn(w);
    while (engine_load_turn(w->e)) /* for nobody */
        event_turn(w);
    EXPECT(w->lost || w->e->store.host_used <= w->opt.host_adapter_bytes);
    EXPECT(kv_pool_held(&w->e->pool) == 0);
    for (int i = 0; i < CLIENTS; i++)
        EXPECT(!w->clients[i].busy);
}

static void abandon(struct world *w)
{
    for (int i = 0; i < CLIENTS; i++)
        if (w->clients[i].busy) {
            oracle_deinit(&w->clients[i].oracle);
            strbuf_deinit(&w->clients[i].text);
        }
}

static uint64_t run_history(uint64_t seed, int events)
{
    rng_state = seed * 0x2545f4914f6cdd1du;
    current_seed = seed;
    current_event = 0;
    struct world *w = world_open();
    int drain_at = chance(10) ? below(events) : -1;
    for (int i = 0; i < w->names; i++)
        event_adapter_add(w);
    for (int i = 0; i < events; i++) {
        current_event = (uint64_t)i;
        if (i == drain_at) {
            engine_drain(w->e);
            w->draining = true;
            seen.drains++;
        }
        one_event(w);
        check_all(w);
    }
    if (chance(80))
        run_down(w);
    seen.followed += w->f->followed;
    seen.late += w->f->late;
    abandon(w);
    engine_close(w->e);
    EXPECT(fake_adapters_alive() + fake_images_alive() == 0);
    uint64_t hash = w->trace;
    for (int i = 0; i < GRAMMARS; i++)
        grammar_unref(w->grammars[i]);
    free(w);
    return hash;
}

/* Prints the figures; returns how many kinds of events never happened. */
static int print_coverage(void)
{
    const struct {
        const char *name;
        uint64_t count;
    } all[] = {
        {"accepted", seen.accepted},
        {"done", seen.done},
        {"cancelled", seen.cancelled},
        {"cancelled waiting", seen.waited_cancelled},
        {"failed", seen.failed},
        {"refused busy", seen.refused_busy},
        {"refused length", seen.refused_length},
        {"refused adapter", seen.refused_adapter},
        {"out of memory", seen.no_memory},
        {"device losses", seen.device_losses},
        {"load failures", seen.load_failures},
        {"drains", seen.drains},
        {"steps", seen.steps},
        {"rows", seen.rows},
        {"mixed steps", seen.mixed_steps},
        {"chunked", seen.chunked},
        {"cached tokens", seen.cached_tokens},
        {"preemptions", seen.preemptions},
        {"read again", seen.disk_reads},
        {"uploads", seen.uploads},
        {"changed files", seen.shifty},
        {"too large", seen.too_large},
        {"pauses", seen.pauses},
        {"overtakes", seen.overtakes},
        {"evictions", seen.evictions},
        {"replaced", seen.replaced},
        {"blends", seen.blends},
        {"prompt scores", seen.prompt_scores},
        {"blocked by paused", seen.blocked},
        {"steps ahead", seen.ahead},
        {"rows of unknown tokens", seen.followed},
        {"steps drawn late", seen.late},
        {"held to a grammar", seen.grammars},
        {"ended by a grammar", seen.grammar_ends},
        {"embeddings", seen.embeddings},
        {"pooled in several steps", seen.embedding_chunks},
        {"activated adapters", seen.activated},
        {"adapters that no token activates", seen.inactive},
        {"rows for nothing", seen.useless},
    };
    int missing = 0;
    printf("figure: sim met");
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        printf(" %s %llu,", all[i].name, (unsigned long long)all[i].count);
        missing += all[i].count == 0;
    }
    printf(" %d kinds never\n", missing);
    return missing;
}

static uint64_t seeds, first_seed = 1;
static int events = 2000;

static void test_engine_sim_histories(void **state)
{
    (void)state;
    uint64_t all = 0;
    for (uint64_t s = first_seed; s < first_seed + seeds; s++)
        all = all * 31 + run_history(s, events);
    printf("figure: sim seeds %llu..%llu x %d events, trace %016llx\n",
           (unsigned long long)first_seed, (unsigned long long)(first_seed + seeds - 1), events,
           (unsigned long long)all);
    int missing = print_coverage();
    if (seeds >= 300)
        assert_int_equal(missing, 0);
}

static void test_engine_sim_same_seed_same_trace(void **state)
{
    (void)state;
    for (uint64_t s = first_seed; s < first_seed + 20; s++)
        assert_true(run_history(s, events) == run_history(s, events));
}

static void read_flags(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t v = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--seeds") == 0)
            seeds = v;
        else if (strcmp(argv[i], "--first") == 0)
            first_seed = v;
        else if (strcmp(argv[i], "--events") == 0)
            events = (int)v;
    }
}

int main(int argc, char **argv)
{
    seeds = (uint64_t)release_figure(500, 10000);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engine_sim_histories),
        cmocka_unit_test(test_engine_sim_same_seed_same_trace),
    };
    read_flags(argc, argv);
    log_setup(LOG_LEVEL_ERROR + 1, false);
    return cmocka_run_group_tests_name("engine_sim", tests, NULL, NULL);
}
