/* engine_submit: the door for requests: checks, queues, cancels, hands out events. Any thread. */
#include "engine/engine_internal.h"

#include <math.h>
#include <string.h>

#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "engine/sched/seq_adapters.h"

/* id = serial << SLOT_BITS | slot: unique over the engine's life, found without searching. */
#define SLOT_BITS 24
_Static_assert(2 * ((int64_t)LIMIT_SEQS + LIMIT_QUEUE_MAX) < (int64_t)1 << SLOT_BITS, "slot bits");

#define ADAPTER_WEIGHT_MAX 100.0f /* more is a typing error: the base would be drowned */

static enum status check_number(struct err *err, const char *name, double v, double min, double max)
{
    if (v >= min && v <= max) /* false for NaN */
        return STATUS_OK;
    return err_set(err, STATUS_INVALID, name, "%s is %g, but must be %g to %g.", name, v, min, max);
}

static enum status check_token(const struct engine *e, struct err *err, const char *name, int at,
                               int32_t token)
{
    if (token >= 0 && token < e->info.vocab)
        return STATUS_OK;
    return err_set(err, STATUS_INVALID, name, "%s[%d] is token %d, but the vocabulary has %d.",
                   name, at, token, e->info.vocab);
}

static enum status check_sampling(const struct engine *e, const struct sample_params *p,
                                  struct err *err)
{
    const struct {
        const char *name;
        double v, min, max;
    } fields[] = {
        {"temperature", p->temperature, 0, 100},
        {"top_p", p->top_p, 1e-6f, 1},
        {"min_p", p->min_p, 0, 1},
        {"typical_p", p->typical_p, 1e-6f, 1},
        {"top_k", p->top_k, 0, INT32_MAX},
        {"repetition_penalty", p->repetition_penalty, 1e-3, 1e3},
        {"presence_penalty", p->presence_penalty, -1e3, 1e3},
        {"frequency_penalty", p->frequency_penalty, -1e3, 1e3},
        {"top_logprobs", p->logprobs, -1, LIMIT_TOP_LOGPROBS},
        {"logit_bias", p->bias_count, 0, LIMIT_LOGIT_BIAS},
    };
    enum status st = STATUS_OK;
    for (size_t i = 0; st == STATUS_OK && i < sizeof fields / sizeof fields[0]; i++)
        st = check_number(err, fields[i].name, fields[i].v, fields[i].min, fields[i].max);
    for (int i = 0; st == STATUS_OK && i < p->bias_count; i++) {
        st = check_token(e, err, "logit_bias", i, p->bias[i].token);
        if (st == STATUS_OK && isnan(p->bias[i].bias))
            st = err_set(err, STATUS_INVALID, "logit_bias", "A logit_bias is not a number.");
    }
    return st;
}

static enum status check_stops(const struct engine *e, const struct engine_request *r,
                               struct err *err)
{
    enum status st = check_number(err, "stop", r->stop_count, 0, LIMIT_STOP_STRINGS);
    if (st == STATUS_OK)
        st = check_number(err, "stop_token_ids", r->stop_token_count, 0, LIMIT_STOP_TOKENS);
    for (int i = 0; st == STATUS_OK && i < r->stop_count; i++) {
        const struct engine_stop *s = &r->stop[i];
        if (s->len < 1 || s->len > LIMIT_STOP_BYTES)
            st = err_set(err, STATUS_INVALID, "stop", "A stop string has 1 to %d bytes, not %zu.",
                         LIMIT_STOP_BYTES, s->len);
        else if (!utf8_is_valid(s->text, s->len))
            st = err_set(err, STATUS_INVALID, "stop", "A stop string is not valid UTF-8.");
    }
    for (int i = 0; st == STATUS_OK && i < r->stop_token_count; i++)
        st = check_token(e, err, "stop_token_ids", i, r->stop_tokens[i]);
    return st;
}

static enum status too_many_adapters(const struct engine *e, int count, struct err *err)
{
    return err_set(err, STATUS_LIMIT, "adapter", "%d adapters at once, but there is room for %d.",
                   count, e->opt.slots_max);
}

enum status engine_check_adapters(const struct engine *e, const struct engine_adapter_use *uses,
                                  int count, struct err *err)
{
    enum status st = check_number(err, "adapter", count, 0, LIMIT_ADAPTERS_PER_REQUEST);
    if (st == STATUS_OK && count > e->opt.slots_max)
        return too_many_adapters(e, count, err);
    for (int i = 0; st == STATUS_OK && i < count; i++) {
        const struct engine_adapter_use *u = &uses[i];
        st = check_number(err, "adapter", u->weight, -ADAPTER_WEIGHT_MAX, ADAPTER_WEIGHT_MAX);
        if (st == STATUS_OK && memchr(u->name, '\0', sizeof u->name) == NULL)
            st = err_set(err, STATUS_INVALID, "adapter", "An adapter name is too long.");
        for (int k = 0; st == STATUS_OK && k < i; k++)
            if (strcmp(u->name, uses[k].name) == 0)
                st = err_set(err, STATUS_INVALID, "adapter", "Adapter '%s' is named twice.",
                             u->name);
    }
    return st;
}

/* No token is made: the prompt may fill the context. The row of its last token is awaited as if one
 * were drawn, so room for one is kept. */
static enum status check_embed_length(const struct engine_request *r, int ctx, int pool,
                                      int *max_new, struct err *err)
{
    if (r->prompt_count > ctx)
        return err_set(err, STATUS_CONTEXT_LENGTH, "prompt",
                       "This model's maximum context length is %d tokens, but the input has %d.",
                       ctx, r->prompt_count);
    if (r->prompt_count > pool)
        return err_set(err, STATUS_LIMIT, "prompt",
                       "The KV cache holds %d tokens, but the input has %d.", pool,
                       r->prompt_count);
    *max_new = 1;
    return STATUS_OK;
}

/* How many tokens may be made: what the request asks for, or what context and pool hold. The KV of
 * the last one is never needed. "This model's maximum context length is" are the words by which
 * clients of OpenAI's API know this error. */
static enum status check_length(const struct engine *e, const struct engine_request *r,
                                int *max_new, struct err *err)
{
    int ctx = e->opt.ctx_max, pool = e->opt.kv_pages * LIMIT_KV_PAGE_TOKENS;
    if (r->prompt_count < 1)
        return err_set(err, STATUS_INVALID, "prompt", "The prompt is empty.");
    if (r->max_tokens < 0 || r->min_tokens < 0)
        return err_set(err, STATUS_INVALID, r->max_tokens < 0 ? "max_tokens" : "min_tokens",
                       "A number of tokens is negative.");
    if (r->embed)
        return check_embed_length(r, ctx, pool, max_new, err);
    int64_t need = (int64_t)r->prompt_count + (r->max_tokens > 0 ? r->max_tokens : 1);
    if (need > ctx && r->max_tokens > 0 && r->prompt_count < ctx)
        return err_set(err, STATUS_CONTEXT_LENGTH, "max_tokens",
                       "This model's maximum context length is %d tokens, but %d of the prompt and "
                       "max_tokens %d make %lld.",
                       ctx, r->prompt_count, r->max_tokens, (long long)need);
    if (need > ctx)
        return err_set(err, STATUS_CONTEXT_LENGTH, "prompt",
                       "This model's maximum context length is %d tokens, but the prompt has %d.",
                       ctx, r->prompt_count);
    if (need - 1 > pool)
        return err_set(err, STATUS_LIMIT, "max_tokens",
                       "The KV cache holds %d tokens, but prompt and answer may take %lld.", pool,
                       (long long)need - 1);
    int room = (ctx < pool + 1 ? ctx : pool + 1) - r->prompt_count;
    *max_new = r->max_tokens > 0 ? r->max_tokens : room;
    if (r->min_tokens > *max_new)
        return err_set(err, STATUS_INVALID, "min_tokens",
                       "min_tokens is %d, but at most %d tokens can be made.", r->min_tokens,
                       *max_new);
    return STATUS_OK;
}

static enum status check_request(const struct engine *e, const struct engine_request *r,
                                 int *max_new, struct err *err)
{
    enum status st = check_length(e, r, max_new, err);
    for (int i = 0; st == STATUS_OK && i < r->prompt_count; i++)
        st = check_token(e, err, "prompt", i, r->prompt[i]);
    if (st == STATUS_OK && r->embed && e->info.embed_width == 0)
        st = err_set(err, STATUS_UNSUPPORTED, "model", "This model makes no embeddings: %s.",
                     e->info.embed_why);
    if (st == STATUS_OK)
        st = check_sampling(e, &r->sampling, err);
    if (st == STATUS_OK)
        st = check_stops(e, r, err);
    if (st == STATUS_OK)
        st = engine_check_adapters(e, r->adapters, r->adapter_count, err);
    if (st == STATUS_OK && r->grammar && !e->trie)
        st = err_set(err, STATUS_UNSUPPORTED, "grammar", "This engine has no text.");
    if (st == STATUS_OK && r->cache_salt && strlen(r->cache_salt) > LIMIT_SALT_BYTES)
        st = err_set(err, STATUS_INVALID, "cache_salt", "cache_salt has more than %d bytes.",
                     LIMIT_SALT_BYTES);
    return st;
}

/* With the lock held. */
static enum status check_open(const struct engine *e, struct err *err)
{
    if (e->refuse_lost)
        return err_set(err, STATUS_DEVICE_LOST, NULL, "The device failed: %s", e->lost_err.msg);
    if (e->draining)
        return err_set(err, STATUS_DRAINING, NULL, "The server is shutting down.");
    if (e->live >= e->live_max || e->slot_free < 0)
        return err_set(err, STATUS_BUSY, NULL, "The queue is full: %d requests wait or run.",
                       e->live);
    return STATUS_OK;
}

static void hold(struct seq *s, const struct adapter *a)
{
    s->holds[s->hold_count++] = a->generation;
}

/* Each of them fits the device; all at once may not. */
static enum status check_room(const struct engine *e, const struct seq *s, struct err *err)
{
    size_t left = e->limits.room, bytes = 0;
    for (int i = 0; i < s->adapter_count; i++)
        bytes += s->adapters[i].adapter->facts.device_bytes;
    if (bytes <= left)
        return STATUS_OK;
    return err_set(err, STATUS_NO_ROOM, "adapter",
                   "The request's adapters take %.1f MiB of the device's memory at once; %.1f MiB "
                   "are there for adapters.",
                   (double)bytes / (1 << 20), (double)left / (1 << 20));
}

/* generations [adapter_count]: what the request's names led to. */
static enum status acquire_adapters(struct engine *e, const struct engine_request *r, struct seq *s,
                                    uint64_t *generations, struct err *err)
{
    enum status st =
        adapter_store_acquire(&e->store, r->adapters, r->adapter_count, &s->set, generations, err);
    if (st != STATUS_OK)
        return st;
    seq_adapters_place(s);
    for (int i = 0; i < s->set.count; i++)
        hold(s, s->set.parts[i]);
    for (int i = 0; i < s->set.blend_count; i++)
        hold(s, s->set.blends[i]);
    if (s->adapter_count > e->opt.slots_max)
        return too_many_adapters(e, s->adapter_count, err);
    return check_room(e, s, err);
}

/* With the lock held: gives the sequence its id and its place in the inbox. */
static void enqueue(struct engine *e, struct seq *s)
{
    int i = e->slot_free;
    struct engine_slot *slot = &e->slots[i];
    e->slot_free = slot->next_free;
    slot->seq = s;
    s->order = ++e->serial;
    s->id = s->order << SLOT_BITS | (uint64_t)i;
    if (e->inbox_tail)
        e->inbox_tail->inbox_next = s;
    else
        e->inbox_head = s;
    e->inbox_tail = s;
    e->inbox_count++;
    e->live++;
    engine_signal_locked(e);
}

static void tell_resolved(const struct engine_request *r, const struct seq *s,
                          const uint64_t *generations, struct engine_adapter_use *resolved)
{
    for (int i = 0; resolved && i < r->adapter_count; i++) {
        resolved[i] = r->adapters[i];
        resolved[i].generation = generations[i];
        resolved[i].activated = false;
        for (int k = 0; k < s->adapter_count; k++) {
            const struct seq_adapter *a = &s->adapters[k];
            if (a->adapter->generation != generations[i])
                continue;
            resolved[i].activated = a->adapter->facts.alora_token_count > 0;
            resolved[i].active_from = a->from == SEQ_NEVER ? -1 : a->from;
        }
    }
}

/* A request for an embedding without what does not count for one. */
static struct engine_request only_embed(const struct engine_request *r)
{
    struct engine_request out = {
        .request_id = r->request_id,
        .prompt = r->prompt,
        .prompt_count = r->prompt_count,
        .adapter_count = r->adapter_count,
        .sampling = {.top_p = 1, .typical_p = 1, .repetition_penalty = 1, .logprobs = -1},
        .cache_prompt = r->cache_prompt,
        .cache_salt = r->cache_salt,
        .embed = true,
    };
    memcpy(out.adapters, r->adapters, sizeof out.adapters);
    return out;
}

/* Nothing is wrong with such a request, but its sender may have wanted otherwise. */
static void log_inactive(const struct seq *s)
{
    for (int i = 0; i < s->adapter_count; i++)
        if (s->adapters[i].from == SEQ_NEVER)
            LOG_INFO(
                LOG_WHAT("adapter not activated: its invocation sequence is not in the prompt"),
                LOG_STR("request", s->request_id),
                LOG_STR("adapter", s->adapters[i].adapter->name));
}

enum status engine_submit(struct engine *e, const struct engine_request *r, uint64_t *id,
                          struct engine_adapter_use *resolved, struct err *err)
{
    uint64_t generations[LIMIT_ADAPTERS_PER_REQUEST] = {0};
    struct engine_request plain;
    int max_new = 0;
    if (r->embed) {
        plain = only_embed(r);
        r = &plain;
    }
    enum status st = check_request(e, r, &max_new, err);
    if (st != STATUS_OK)
        return st;
    /* A full queue is told before any work is done; the answer that counts is the one below. */
    pthread_mutex_lock(&e->lock);
    st = check_open(e, err);
    pthread_mutex_unlock(&e->lock);
    if (st != STATUS_OK)
        return st;

    struct seq_setup setup = {
        .request = r,
        .max_new = max_new,
        .eos = e->parts.eos,
        .eos_count = e->parts.eos_count,
        .prefix_cache = e->opt.prefix_cache,
        .detok_bytes = e->parts.detok.state_bytes,
        .text_bytes = (size_t)e->text_bytes,
        .mask_words = e->trie ? e->trie->mask_words : 0,
        .pooled = {.kind = e->parts.model->pooling.kind, .width = e->parts.model->shape.hidden},
    };
    struct seq *s = NULL;
    st = seq_create(&setup, &s);
    if (st != STATUS_OK)
        return err_set(err, st, NULL, "Out of memory for a request.");
    st = acquire_adapters(e, r, s, generations, err);
    if (st != STATUS_OK)
        goto drop;
    seq_seed(s, r->cache_salt);
    e->parts.detok.begin(e->parts.detok.ctx, s->detok, r->keep_special, s->tokens, s->prompt_count);
    s->submitted_ns = engine_now(e);
    tell_resolved(r, s, generations, resolved);
    log_inactive(s);

    pthread_mutex_lock(&e->lock);
    st = check_open(e, err);
    if (st == STATUS_OK) {
        enqueue(e, s);
        *id = s->id;
    }
    pthread_mutex_unlock(&e->lock);
    if (st == STATUS_OK)
        return st;
drop:
    adapter_store_release(&e->store, &s->set, NULL);
    seq_destroy(s);
    return st;
}

/* With the lock held; NULL: unknown. */
static struct seq *find(struct engine *e, uint64_t id)
{
    uint64_t slot = id & (((uint64_t)1 << SLOT_BITS) - 1);
    if (slot >= (uint64_t)e->slot_count)
        return NULL;
    struct seq *s = e->slots[slot].seq;
    return s && s->id == id ? s : NULL;
}

void engine_cancel(struct engine *e, uint64_t id)
{
    pthread_mutex_lock(&e->lock);
    struct seq *s = find(e, id);
    if (s && !s->outbox.ended) {
        s->cancelled = true;
        engine_signal_locked(e);
    }
    pthread_mutex_unlock(&e->lock);
}

int engine_ready(struct engine *e, uint64_t *ids, int max)
{
    int n = 0;
    pthread_mutex_lock(&e->lock);
    for (; n < max && e->ready_head; n++) {
        struct seq *s = e->ready_head;
        e->ready_head = s->ready_next;
        if (!e->ready_head)
            e->ready_tail = NULL;
        s->ready_next = NULL;
        s->ready = false;
        ids[n] = s->id;
    }
    pthread_mutex_unlock(&e->lock);
    return n;
}

static void leave_ready_list(struct engine *e, struct seq *s)
{
    struct seq *before = NULL, *it = e->ready_head;
    if (!s->ready)
        return;
    for (; it != s; it = it->ready_next)
        before = it;
    if (before)
        before->ready_next = s->ready_next;
    else
        e->ready_head = s->ready_next;
    if (e->ready_tail == s)
        e->ready_tail = before;
    s->ready = false;
}

/* Takes a sequence whose terminal event was read out of the table; the caller destroys it. */
static void forget(struct engine *e, struct seq *s)
{
    struct engine_slot *slot = &e->slots[s->id & (((uint64_t)1 << SLOT_BITS) - 1)];
    leave_ready_list(e, s);
    slot->seq = NULL;
    slot->next_free = e->slot_free;
    e->slot_free = (int)(slot - e->slots);
}

int engine_read(struct engine *e, uint64_t id, struct engine_event *events, int max)
{
    int n = 0;
    pthread_mutex_lock(&e->lock);
    struct seq *s = find(e, id);
    while (s && n < max && outbox_pop(&s->outbox, &events[n]))
        n++;
    bool done = s && s->outbox.ended && s->outbox.count == 0;
    if (done && events[n - 1].kind == ENGINE_EVENT_DONE) {
        events[n - 1].embedding = s->pooled.out;
        s->pooled.out = NULL;
    }
    if (done)
        forget(e, s);
    else if (s && s->paused && n > 0)
        engine_signal_locked(e);
    pthread_mutex_unlock(&e->lock);
    if (done)
        seq_destroy(s);
    return n;
}
