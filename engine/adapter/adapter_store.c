#include "engine/adapter/adapter_store.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine/adapter/adapter_host.h"
#include "engine/adapter/adapter_slots.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/vec.h"

#define LISTED_AT_ONCE 32

static bool init_lock(struct adapter_store *s)
{
    pthread_condattr_t attr;
    if (pthread_mutex_init(&s->lock, NULL) != 0)
        return false;
    bool ok = pthread_condattr_init(&attr) == 0;
    if (ok) {
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        ok = pthread_cond_init(&s->released, &attr) == 0;
        pthread_condattr_destroy(&attr);
    }
    if (ok && pthread_cond_init(&s->work, NULL) == 0)
        return true;
    if (ok)
        pthread_cond_destroy(&s->released);
    pthread_mutex_destroy(&s->lock);
    return false;
}

enum status adapter_store_init(struct adapter_store *s, const struct adapter_store_options *opt)
{
    CHECK(opt->slots_max >= 1 && opt->slots_max <= LIMIT_ADAPTER_SLOTS);
    memset(s, 0, sizeof *s);
    if (!init_lock(s))
        return STATUS_NO_MEMORY;
    s->source = opt->source;
    s->base = opt->base;
    s->backend = opt->backend;
    s->packs = opt->backend->ops->adapter_pack != NULL;
    s->slots_max = opt->slots_max;
    s->host_budget = opt->host_budget;
    s->quant = opt->quant == ENGINE_QUANT_DEFAULT ? ENGINE_QUANT_NONE : opt->quant;
    s->changed = opt->changed;
    s->changed_ctx = opt->changed_ctx;
    s->want_turn = 1;
    return STATUS_OK;
}

static void free_now(struct adapter_store *s, struct adapter *a)
{
    if (a->lora)
        s->source.free(a->lora);
    if (a->image)
        s->backend->ops->image_free(a->image);
    mem_free(a);
}

void adapter_store_free(struct adapter_store *s, struct adapter *a)
{
    if (!a)
        return;
    pthread_mutex_lock(&s->lock);
    bool bury = s->buries;
    if (bury) {
        a->buried_next = s->buried;
        s->buried = a;
        pthread_cond_broadcast(&s->work);
    }
    pthread_mutex_unlock(&s->lock);
    if (!bury)
        free_now(s, a);
}

void adapter_store_free_buried(struct adapter_store *s)
{
    pthread_mutex_lock(&s->lock);
    struct adapter *a = s->buried, *next;
    s->buried = NULL;
    pthread_mutex_unlock(&s->lock);
    for (; a; a = next) {
        next = a->buried_next;
        free_now(s, a);
    }
}

void adapter_store_deinit(struct adapter_store *s)
{
    adapter_slots_clear(s);
    adapter_store_free_buried(s);
    for (size_t i = 0; i < s->count; i++) {
        CHECK(s->list[i]->users == 0 && !s->list[i]->reading);
        free_now(s, s->list[i]);
    }
    mem_free(s->list);
    pthread_cond_destroy(&s->work);
    pthread_cond_destroy(&s->released);
    pthread_mutex_destroy(&s->lock);
    memset(s, 0, sizeof *s);
}

bool adapter_store_name_ok(const char *name)
{
    size_t n = 0;
    for (; name[n] && n <= LIMIT_NAME_BYTES; n++) {
        char c = name[n];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && c != '.' && c != '_' && c != '-')
            return false;
    }
    return n >= 1 && n <= LIMIT_NAME_BYTES;
}

/* First index whose (name, generation) is not below. Call with the lock held, like all below that
 * touch the list. */
static size_t lower_bound(const struct adapter_store *s, const char *name, uint64_t generation)
{
    size_t lo = 0, hi = s->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(s->list[mid]->name, name);
        if (c < 0 || (c == 0 && s->list[mid]->generation < generation))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The generation that a name leads to, or NULL. */
static struct adapter *find_named(const struct adapter_store *s, const char *name)
{
    for (size_t i = lower_bound(s, name, 0); i < s->count && !strcmp(s->list[i]->name, name); i++)
        if (s->list[i]->named)
            return s->list[i];
    return NULL;
}

static void unlist(struct adapter_store *s, struct adapter *a)
{
    size_t i = lower_bound(s, a->name, a->generation);
    CHECK(i < s->count && s->list[i] == a);
    memmove(&s->list[i], &s->list[i + 1], (s->count - i - 1) * sizeof *s->list);
    s->count--;
}

static void add_counts(struct adapter_counts *to, const struct adapter_counts *from)
{
    to->requests += from->requests;
    to->hits += from->hits;
    to->misses += from->misses;
    to->loads += from->loads;
    to->evictions += from->evictions;
    to->disk_reads += from->disk_reads;
    to->tokens_in += from->tokens_in;
    to->tokens_out += from->tokens_out;
    to->scheduled += from->scheduled;
    to->first_tokens += from->first_tokens;
    to->load_ns += from->load_ns;
    to->queue_ns += from->queue_ns;
    to->first_token_ns += from->first_token_ns;
}

/* The counts of a generation that goes live on with its name. */
static void hand_on_counts(struct adapter_store *s, const struct adapter *gone)
{
    struct adapter *now = find_named(s, gone->name);
    if (now)
        add_counts(&now->counts, &gone->counts);
}

struct adapter *adapter_store_retire(struct adapter_store *s, struct adapter *a)
{
    if (a->named || a->users > 0 || a->reading)
        return NULL;
    if (a->slot >= 0) {
        s->sweep = true;
        return NULL;
    }
    unlist(s, a);
    hand_on_counts(s, a);
    s->host_used -= a->held_bytes;
    return a;
}

static enum status publish(struct adapter_store *s, struct adapter *a, struct adapter **old,
                           struct err *e)
{
    if (s->count >= LIMIT_ADAPTERS)
        return err_set(e, STATUS_LIMIT, "name", "There are %d adapters already.", LIMIT_ADAPTERS);
    if (!VEC_RESERVE(s->list, s->cap, s->count + 1))
        return err_set(e, STATUS_NO_MEMORY, "name", "Out of memory for adapter '%s'.", a->name);
    struct adapter *before = find_named(s, a->name);
    a->generation = ++s->last_generation;
    a->named = true;
    size_t at = lower_bound(s, a->name, a->generation);
    memmove(&s->list[at + 1], &s->list[at], (s->count - at) * sizeof *s->list);
    s->list[at] = a;
    s->count++;
    if (before) {
        before->named = false;
        *old = adapter_store_retire(s, before);
    }
    return STATUS_OK;
}

static enum status check_name(const char *name, struct err *e)
{
    if (adapter_store_name_ok(name))
        return STATUS_OK;
    return err_set(e, STATUS_INVALID, "name",
                   "An adapter name is 1 to %d letters, digits, '.', '_' or '-'.",
                   LIMIT_NAME_BYTES);
}

/* Publishes `a`, which it owns from here on, also when it fails. */
static enum status add(struct adapter_store *s, struct adapter *a, uint64_t *generation,
                       struct err *e)
{
    struct adapter *old = NULL;
    pthread_mutex_lock(&s->lock);
    enum status st = publish(s, a, &old, e);
    uint64_t made = a->generation;
    if (st != STATUS_OK)
        s->host_used -= a->held_bytes;
    pthread_mutex_unlock(&s->lock);
    adapter_store_free(s, old);
    if (st != STATUS_OK)
        adapter_store_free(s, a);
    else
        *generation = made;
    return st;
}

static struct adapter *new_adapter(const char *name, struct err *e)
{
    struct adapter *a = mem_calloc(1, sizeof *a);
    if (!a) {
        err_set(e, STATUS_NO_MEMORY, "name", "Out of memory for adapter '%s'.", name);
        return NULL;
    }
    memcpy(a->name, name, strlen(name));
    a->slot = -1;
    a->share = 1;
    a->quant = ENGINE_QUANT_NONE;
    return a;
}

static enum status check_spec(const struct engine_adapter_spec *spec, char path[ADAPTER_PATH_BYTES],
                              struct err *e)
{
    enum status st = check_name(spec->name, e);
    if (st != STATUS_OK)
        return st;
    const char *root = spec->root ? spec->root : "", *slash = spec->root ? "/" : "";
    if ((size_t)snprintf(path, ADAPTER_PATH_BYTES, "%s%s%s", root, slash, spec->path) >=
        ADAPTER_PATH_BYTES)
        return err_set(e, STATUS_INVALID, "path", "An adapter path has at most %d bytes.",
                       ADAPTER_PATH_BYTES - 1);
    if (spec->share < 0 || spec->share > ADAPTER_SHARE_MAX)
        return err_set(e, STATUS_INVALID, "share", "share is %d, but must be 1 to %d.", spec->share,
                       ADAPTER_SHARE_MAX);
    return STATUS_OK;
}

/* What `a` takes, and whether the device could ever hold it. */
static enum status size_up(const struct adapter_store *s, const struct lora *lora,
                           struct adapter *a, struct err *e)
{
    const struct backend_ops *ops = s->backend->ops;
    adapter_facts_of(lora, s->base->shape.layers, &a->facts);
    a->facts.host_bytes = lora->bytes;
    if (!ops->adapter_bytes)
        return STATUS_OK;
    size_t bytes = ops->adapter_bytes(s->backend, lora), room = ops->adapter_room(s->backend);
    a->facts.device_bytes = bytes;
    if (s->packs)
        a->facts.host_bytes = bytes;
    if (bytes <= room)
        return STATUS_OK;
    return err_set(e, STATUS_NO_ROOM, "adapter",
                   "Adapter '%s' takes %.1f MiB of the device's memory; %.1f MiB are there for "
                   "adapters.",
                   a->name, (double)bytes / (1 << 20), (double)room / (1 << 20));
}

enum status adapter_store_put(struct adapter_store *s, const struct engine_adapter_spec *spec,
                              uint64_t *generation, struct err *e)
{
    char path[ADAPTER_PATH_BYTES];
    struct lora *lora = NULL;
    float error = 0;
    enum engine_adapter_quant quant = spec->quant == ENGINE_QUANT_DEFAULT ? s->quant : spec->quant;
    enum status st = check_spec(spec, path, e);
    if (st == STATUS_OK)
        st = adapter_source_open_at(&s->source, spec->root, spec->path, s->base, quant, &lora,
                                    &error, e);
    if (st != STATUS_OK)
        return st;
    struct adapter *a = new_adapter(spec->name, e);
    if (!a) {
        s->source.free(lora);
        return STATUS_NO_MEMORY;
    }
    memcpy(a->path, path, strlen(path));
    a->root_len = spec->root ? strlen(spec->root) : 0;
    a->pinned = spec->pinned;
    a->share = spec->share > 0 ? spec->share : 1;
    a->quant = quant;
    st = size_up(s, lora, a, e);
    a->facts.quant_error = error;
    if (st == STATUS_OK)
        st = adapter_host_keep(s, a, lora, e);
    else
        s->source.free(lora);
    if (st == STATUS_OK)
        return add(s, a, generation, e);
    adapter_store_free(s, a);
    return st;
}

static enum status not_found(const char *name, struct err *e)
{
    return err_set(e, STATUS_ADAPTER_NOT_FOUND, "adapter", "There is no adapter '%s'.", name);
}

static enum status check_part(struct adapter_store *s, const char *name,
                              const struct engine_adapter_use *part, struct err *e)
{
    pthread_mutex_lock(&s->lock);
    const struct adapter *a = find_named(s, part->name);
    bool found = a != NULL, blend = a && a->part_count > 0;
    pthread_mutex_unlock(&s->lock);
    if (!found)
        return not_found(part->name, e);
    if (blend || strcmp(part->name, name) == 0)
        return err_set(e, STATUS_INVALID, "adapter", "'%s' is a blend itself.", part->name);
    return STATUS_OK;
}

enum status adapter_store_blend(struct adapter_store *s, const char *name,
                                const struct engine_adapter_use *parts, int count,
                                uint64_t *generation, struct err *e)
{
    enum status st = check_name(name, e);
    for (int i = 0; i < count && st == STATUS_OK; i++)
        st = check_part(s, name, &parts[i], e);
    if (st != STATUS_OK)
        return st;
    struct adapter *a = new_adapter(name, e);
    if (!a)
        return STATUS_NO_MEMORY;
    for (int i = 0; i < count; i++) {
        memcpy(a->parts[i].name, parts[i].name, sizeof a->parts[i].name);
        a->parts[i].weight = parts[i].weight;
    }
    a->part_count = count;
    return add(s, a, generation, e);
}

enum status adapter_store_remove(struct adapter_store *s, const char *name, uint64_t *generation,
                                 struct err *e)
{
    struct adapter *gone = NULL;
    pthread_mutex_lock(&s->lock);
    struct adapter *a = find_named(s, name);
    uint64_t had = a ? a->generation : 0;
    if (a) {
        a->named = false;
        gone = adapter_store_retire(s, a);
    }
    pthread_mutex_unlock(&s->lock);
    adapter_store_free(s, gone);
    if (!had)
        return not_found(name, e);
    *generation = had;
    return STATUS_OK;
}

/* With the lock held. */
static int users_of(const struct adapter_store *s, uint64_t generation)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->list[i]->generation == generation)
            return s->list[i]->users;
    return 0;
}

void adapter_store_set_budget(struct adapter_store *s, size_t bytes)
{
    pthread_mutex_lock(&s->lock);
    s->host_budget = bytes;
    pthread_mutex_unlock(&s->lock);
}

int adapter_store_wait(struct adapter_store *s, uint64_t generation, int wait_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + (int64_t)wait_ms % 1000 * 1000000;
    until.tv_sec += wait_ms / 1000 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    pthread_mutex_lock(&s->lock);
    int users = users_of(s, generation);
    while (users > 0 && wait_ms > 0 && pthread_cond_timedwait(&s->released, &s->lock, &until) == 0)
        users = users_of(s, generation);
    users = users_of(s, generation);
    pthread_mutex_unlock(&s->lock);
    return users;
}

/* ---- requests ---- */

static enum status add_part(struct adapter_set *set, struct adapter *a, float weight, struct err *e)
{
    int i = 0;
    while (i < set->count && set->parts[i] != a)
        i++;
    if (i == LIMIT_ADAPTERS_PER_REQUEST)
        return err_set(e, STATUS_LIMIT, "adapter",
                       "The request's adapters are more than %d, blends counted by their parts.",
                       LIMIT_ADAPTERS_PER_REQUEST);
    if (i == set->count) {
        set->parts[set->count] = a;
        set->weights[set->count++] = 0;
    }
    set->weights[i] += weight;
    return STATUS_OK;
}

/* With the lock held; takes no users yet. */
static enum status resolve(struct adapter_store *s, const struct engine_adapter_use *use,
                           struct adapter_set *set, uint64_t *generation, struct err *e)
{
    struct adapter *a = find_named(s, use->name);
    if (!a)
        return not_found(use->name, e);
    *generation = a->generation;
    if (a->part_count == 0)
        return add_part(set, a, use->weight, e);
    set->blends[set->blend_count++] = a;
    enum status st = STATUS_OK;
    for (int i = 0; i < a->part_count && st == STATUS_OK; i++) {
        struct adapter *part = find_named(s, a->parts[i].name);
        if (!part || part->part_count > 0)
            return err_set(e, STATUS_ADAPTER_NOT_FOUND, "adapter",
                           "Adapter '%s' is a blend of '%s', which is not there.", use->name,
                           a->parts[i].name);
        st = add_part(set, part, use->weight * a->parts[i].weight, e);
    }
    return st;
}

static void take(struct adapter *a, int64_t now_s)
{
    a->users++;
    a->last_used_unix_s = now_s;
    a->counts.requests++;
}

enum status adapter_store_acquire(struct adapter_store *s, const struct engine_adapter_use *uses,
                                  int count, struct adapter_set *out, uint64_t *generations,
                                  struct err *e)
{
    struct adapter_set set = {.count = 0};
    int64_t now_s = clock_unix_s();
    enum status st = STATUS_OK;
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < count && st == STATUS_OK; i++)
        st = resolve(s, &uses[i], &set, &generations[i], e);
    for (int i = 0; i < set.count && st == STATUS_OK; i++) {
        take(set.parts[i], now_s);
        set.parts[i]->counts.hits += set.parts[i]->usable;
        set.parts[i]->counts.misses += !set.parts[i]->usable;
    }
    for (int i = 0; i < set.blend_count && st == STATUS_OK; i++)
        take(set.blends[i], now_s);
    pthread_mutex_unlock(&s->lock);
    if (st == STATUS_OK)
        *out = set;
    return st;
}

/* With the lock held. */
static struct adapter *give_back(struct adapter_store *s, struct adapter *a, int64_t now_s,
                                 const struct adapter_counts *did)
{
    CHECK(a->users > 0);
    a->last_used_unix_s = now_s;
    if (did)
        add_counts(&a->counts, did);
    if (--a->users == 0)
        pthread_cond_broadcast(&s->released);
    return adapter_store_retire(s, a);
}

void adapter_store_release(struct adapter_store *s, const struct adapter_set *set,
                           const struct adapter_counts *did)
{
    struct adapter *gone[2 * LIMIT_ADAPTERS_PER_REQUEST];
    int n = 0;
    int64_t now_s = clock_unix_s();
    if (set->count == 0 && set->blend_count == 0)
        return;
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < set->count; i++)
        gone[n++] = give_back(s, set->parts[i], now_s, did);
    for (int i = 0; i < set->blend_count; i++)
        gone[n++] = give_back(s, set->blends[i], now_s, did);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < n; i++)
        adapter_store_free(s, gone[i]);
}

static enum engine_adapter_tier tier_of_part(const struct adapter *a)
{
    if (a->slot >= 0 && a->usable)
        return ENGINE_TIER_DEVICE;
    return a->lora || a->image ? ENGINE_TIER_HOST : ENGINE_TIER_DISK;
}

/* With the lock held. A blend is where the farthest of its parts is. */
static enum engine_adapter_tier tier_of(const struct adapter_store *s, const struct adapter *a)
{
    enum engine_adapter_tier tier = ENGINE_TIER_DEVICE;
    if (a->part_count == 0)
        return tier_of_part(a);
    for (int i = 0; i < a->part_count; i++) {
        const struct adapter *part = find_named(s, a->parts[i].name);
        enum engine_adapter_tier t =
            part && part->part_count == 0 ? tier_of_part(part) : ENGINE_TIER_DISK;
        tier = t < tier ? t : tier;
    }
    return tier;
}

static void fill_info(const struct adapter_store *s, const struct adapter *a,
                      struct engine_adapter_info *out)
{
    const struct adapter_facts *f = &a->facts;
    const struct adapter_counts *c = &a->counts;
    *out = (struct engine_adapter_info){
        .generation = a->generation,
        .rank_max = f->rank_max,
        .module_count = f->module_count,
        .targets = f->targets,
        .bytes = f->bytes,
        .scale_min = f->scale_min,
        .scale_max = f->scale_max,
        .alora_token_count = f->alora_token_count,
        .quant = a->quant,
        .quant_error = f->quant_error,
        .part_count = a->part_count,
        .tier = tier_of(s, a),
        .pinned = a->pinned,
        .share = a->share,
        .users = a->users,
        .resident = tier_of(s, a) == ENGINE_TIER_DEVICE,
        .loading = a->reading || (a->slot >= 0 && !a->usable),
        .draining = !a->named,
        .last_used_unix_s = a->last_used_unix_s,
        .requests = c->requests,
        .hits = c->hits,
        .misses = c->misses,
        .loads = c->loads,
        .evictions = c->evictions,
        .disk_reads = c->disk_reads,
        .load_s = (double)c->load_ns * 1e-9,
        .queue_s = (double)c->queue_ns * 1e-9,
        .first_token_s = (double)c->first_token_ns * 1e-9,
        .scheduled = c->scheduled,
        .first_tokens = c->first_tokens,
        .tokens_in = c->tokens_in,
        .tokens_out = c->tokens_out,
    };
    memcpy(out->name, a->name, sizeof out->name);
    memcpy(out->path, a->path, sizeof out->path);
    memcpy(out->parts, a->parts, sizeof out->parts);
    memcpy(out->alora_tokens, f->alora_tokens, sizeof out->alora_tokens);
    if (a->part_count == 0)
        sha256_hex(f->sha256, out->sha256);
}

/* The engine thread takes the lock too, so a long list is filled a few at a time. */
int adapter_store_list(struct adapter_store *s, struct engine_adapter_info *out, int max)
{
    int filled = 0, count = 0;
    bool more = true;
    while (more) {
        pthread_mutex_lock(&s->lock);
        size_t at =
            filled ? lower_bound(s, out[filled - 1].name, out[filled - 1].generation + 1) : 0;
        for (int n = 0; n < LISTED_AT_ONCE && at < s->count && filled < max; n++)
            fill_info(s, s->list[at++], &out[filled++]);
        more = at < s->count && filled < max;
        count = at < s->count ? (int)s->count : filled;
        pthread_mutex_unlock(&s->lock);
    }
    return count;
}

enum status adapter_store_find(struct adapter_store *s, const char *name,
                               struct engine_adapter_info *out)
{
    pthread_mutex_lock(&s->lock);
    const struct adapter *a = find_named(s, name);
    if (a && out)
        fill_info(s, a, out);
    pthread_mutex_unlock(&s->lock);
    return a ? STATUS_OK : STATUS_ADAPTER_NOT_FOUND;
}

int adapter_store_users(struct adapter_store *s, const char *name, uint64_t generation)
{
    pthread_mutex_lock(&s->lock);
    size_t at = lower_bound(s, name, generation);
    const struct adapter *a = at < s->count ? s->list[at] : NULL;
    bool there = a && a->generation == generation && strcmp(a->name, name) == 0;
    int users = there ? a->users : 0;
    pthread_mutex_unlock(&s->lock);
    return users;
}
