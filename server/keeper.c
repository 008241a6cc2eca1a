#include "server/keeper.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "engine/base/vec.h"
#include "server/folder.h"
#include "server/registry.h"
#include "server/served.h"

#define PROFILE_TRIES  10000 /* each is a replacement that happened in a few microseconds */
#define FAILURES_MAX   64
#define RETRY_MS       100
#define LOOK_EVENT_MS  100  /* after a watch saw something */
#define LOOK_SETTLE_MS 150  /* while something has not settled */
#define LOOK_SLOW_MS   5000 /* what no watch saw */

struct task {
    void (*work)(void *ctx);
    void (*done)(void *ctx);
    void *ctx;
};

struct entry {
    struct registry_item item; /* of a client's adapter all of it, else the name */
    enum keeper_source source;
    uint64_t generation;
    struct profile *profile; /* counted; NULL: none */
    bool dormant;            /* registered, but it could not be added at start */
};

struct failure {
    char name[LIMIT_NAME_BYTES + 1]; /* "": free */
    struct err err;
};

struct keeper {
    struct loop *loop;
    struct keeper_options opt;
    struct adapter_roots roots;
    struct engine *engine; /* borrowed from keeper_open on, as what follows */
    const struct engine_text *text;
    struct sample_params defaults;
    /* loop thread: a ring, the oldest first */
    struct task tasks[KEEPER_TASKS_MAX];
    int first;
    int count;
    bool started;
    bool stopped;
    bool runs; /* the oldest is on the pool */
    struct task running;
    struct loop_timer *retry;  /* owned; goes off when the pool took no task */
    struct registry *registry; /* owned; NULL: none. Lane */
    struct folder *folder;     /* owned */
    struct loop_timer *look;   /* owned; goes off when the folder is to be scanned */
    bool look_soon;            /* it goes off sooner than the slow look */
    bool live;                 /* there is something to look at */
    bool looking;              /* the scan is in the lane */
    bool unsettled;            /* what the scan said */
    bool changed;              /* a watch saw something since the scan was asked for */
    pthread_mutex_t lock;      /* covers what follows; never held while files are read */
    struct entry *entries;     /* owned */
    size_t entry_count;
    size_t entry_cap;
    /* What is about to be published: for the moment between the engine's new generation and its
     * entry here. */
    const struct entry *pending;
    struct failure failures[FAILURES_MAX]; /* a ring */
    int failure_next;
    struct engine_adapter_use scales[LIMIT_ADAPTERS_PER_REQUEST];
    int scale_count; /* -1: nothing was set */
};

static enum status out_of_memory(struct err *e)
{
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

const char *keeper_source_name(enum keeper_source source)
{
    static const char *const names[] = {"start", "folder", "client"};
    return names[source];
}

/* ---- names ---- */

/* With the lock held. */
static struct entry *entry_of(struct keeper *k, const char *name)
{
    for (size_t i = 0; i < k->entry_count; i++) {
        if (strcmp(k->entries[i].item.name, name) == 0)
            return &k->entries[i];
    }
    return NULL;
}

bool keeper_facts(struct keeper *k, const char *name, struct keeper_facts *out)
{
    pthread_mutex_lock(&k->lock);
    const struct entry *at = entry_of(k, name);
    bool known = at && !at->dormant;
    if (known)
        *out = (struct keeper_facts){.source = at->source, .has_profile = at->profile != NULL};
    pthread_mutex_unlock(&k->lock);
    return known;
}

static bool is_dormant(struct keeper *k, const char *name)
{
    pthread_mutex_lock(&k->lock);
    const struct entry *at = entry_of(k, name);
    bool dormant = at && at->dormant;
    pthread_mutex_unlock(&k->lock);
    return dormant;
}

/* Room for one more name, so that what the engine has done can be written down. */
static bool reserve_entry(struct keeper *k)
{
    pthread_mutex_lock(&k->lock);
    bool ok = VEC_RESERVE(k->entries, k->entry_cap, k->entry_count + 1);
    pthread_mutex_unlock(&k->lock);
    return ok;
}

static void deinit_entry(struct entry *e)
{
    profile_unref(e->profile);
    registry_item_deinit(&e->item);
}

/* Takes what `e` owns. What was pending is so no more. */
static void put_entry(struct keeper *k, const struct entry *e)
{
    pthread_mutex_lock(&k->lock);
    struct entry *at = entry_of(k, e->item.name);
    if (at)
        deinit_entry(at);
    else
        at = &k->entries[k->entry_count++];
    *at = *e;
    k->pending = NULL;
    pthread_mutex_unlock(&k->lock);
}

static void drop_entry(struct keeper *k, const char *name)
{
    pthread_mutex_lock(&k->lock);
    struct entry *at = entry_of(k, name);
    if (at) {
        deinit_entry(at);
        *at = k->entries[--k->entry_count];
    }
    for (int i = k->scale_count - 1; i >= 0; i--) {
        if (strcmp(k->scales[i].name, name) == 0)
            k->scales[i] = k->scales[--k->scale_count];
    }
    pthread_mutex_unlock(&k->lock);
}

/* What is told of a generation may be older or newer than what is written down here by the time of
 * the lock; then both are looked at again. */
enum status keeper_profile(struct keeper *k, const char *name, struct profile **out,
                           uint64_t *generation)
{
    for (int tries = 0;; tries++) {
        struct engine_adapter_info info;
        CHECK(tries < PROFILE_TRIES);
        enum status st = served_find(k->engine, name, &info);
        if (st != STATUS_OK)
            return st;
        pthread_mutex_lock(&k->lock);
        const struct entry *at = entry_of(k, name);
        if (at && at->generation != info.generation)
            at = NULL;
        if (!at && k->pending && strcmp(k->pending->item.name, name) == 0)
            at = k->pending;
        if (at) {
            *out = profile_ref(at->profile);
            *generation = info.generation;
        }
        pthread_mutex_unlock(&k->lock);
        if (at)
            return STATUS_OK;
    }
}

uint64_t keeper_generation(struct keeper *k, const char *name)
{
    pthread_mutex_lock(&k->lock);
    const struct entry *at = entry_of(k, name);
    uint64_t generation = at ? at->generation : 0;
    bool changes = k->pending && strcmp(k->pending->item.name, name) == 0;
    pthread_mutex_unlock(&k->lock);
    struct engine_adapter_info info;
    if (changes && served_find(k->engine, name, &info) == STATUS_OK)
        generation = info.generation; /* the engine may be ahead of what is written down here */
    return generation;
}

void keeper_set_scales(struct keeper *k, const struct engine_adapter_use *uses, int count)
{
    pthread_mutex_lock(&k->lock);
    for (int i = 0; i < count; i++)
        k->scales[i] = uses[i];
    k->scale_count = count;
    pthread_mutex_unlock(&k->lock);
}

int keeper_scales(struct keeper *k, struct engine_adapter_use *uses)
{
    pthread_mutex_lock(&k->lock);
    int count = k->scale_count;
    for (int i = 0; i < count; i++)
        uses[i] = k->scales[i];
    pthread_mutex_unlock(&k->lock);
    return count;
}

bool keeper_failure(struct keeper *k, const char *name, struct err *out)
{
    bool found = false;
    pthread_mutex_lock(&k->lock);
    for (int i = 0; i < FAILURES_MAX && !found; i++) {
        found = strcmp(k->failures[i].name, name) == 0;
        if (found)
            *out = k->failures[i].err;
    }
    pthread_mutex_unlock(&k->lock);
    return found;
}

/* `e` NULL: forget it. */
static void note_failure(struct keeper *k, const char *name, const struct err *e)
{
    pthread_mutex_lock(&k->lock);
    struct failure *at = NULL;
    for (int i = 0; i < FAILURES_MAX && !at; i++)
        at = strcmp(k->failures[i].name, name) == 0 ? &k->failures[i] : NULL;
    if (!e && at)
        at->name[0] = '\0';
    if (e && !at) {
        at = &k->failures[k->failure_next];
        k->failure_next = (k->failure_next + 1) % FAILURES_MAX;
    }
    if (e) {
        snprintf(at->name, sizeof at->name, "%s", name);
        at->err = *e;
    }
    pthread_mutex_unlock(&k->lock);
}

/* ---- lane ---- */

/* Writes down what clients registered. What they asked for was done either way. */
static void keep(struct keeper *k)
{
    struct err e;
    size_t count = 0;
    if (!k->registry)
        return;
    pthread_mutex_lock(&k->lock);
    struct registry_item *items = mem_calloc(k->entry_count + 1, sizeof *items);
    for (size_t i = 0; items && i < k->entry_count; i++) {
        if (k->entries[i].source == KEEPER_CLIENT)
            items[count++] = k->entries[i].item;
    }
    pthread_mutex_unlock(&k->lock);
    enum status st = items ? registry_save(k->registry, items, count, &e) : out_of_memory(&e);
    mem_free(items);
    if (st != STATUS_OK)
        LOG_WARN(LOG_WHAT("what was registered will not survive a restart"), LOG_STR("why", e.msg));
}

static enum status load_profile(struct keeper *k, const char *root, const char *path,
                                struct entry *made, struct err *e)
{
    cJSON *given = NULL;
    const char *text = made->item.profile;
    enum status st = STATUS_OK;
    if (text)
        st = json_parse(text, strlen(text), &json_default_limits, &given, e);
    if (st == STATUS_OK)
        st = profile_load(root, path, given, k->text, &k->defaults, &made->profile, e);
    cJSON_Delete(given);
    return st;
}

static enum status blend(struct keeper *k, struct entry *made, struct err *e)
{
    const struct registry_item *it = &made->item;
    struct engine_adapter_use parts[LIMIT_ADAPTERS_PER_REQUEST] = {0};
    for (int i = 0; i < it->part_count; i++) {
        memcpy(parts[i].name, it->parts[i].name, sizeof parts[i].name);
        parts[i].weight = it->parts[i].weight;
    }
    return engine_adapter_blend(k->engine, it->name, parts, it->part_count, &made->generation, e);
}

/* Adds to the engine what lies at to->path of to->root, or a blend, with its profile. On STATUS_OK
 * put_entry has to follow. */
static enum status publish(struct keeper *k, const struct engine_adapter_spec *to,
                           struct entry *made, struct err *e)
{
    enum status st = STATUS_OK;
    if (!made->item.plain)
        st = load_profile(k, to->root, to->path, made, e);
    if (st != STATUS_OK)
        return st;
    pthread_mutex_lock(&k->lock);
    k->pending = made;
    pthread_mutex_unlock(&k->lock);
    st = made->item.part_count > 0 ? blend(k, made, e)
                                   : engine_adapter_put(k->engine, to, &made->generation, e);
    if (st == STATUS_OK)
        return st;
    pthread_mutex_lock(&k->lock);
    k->pending = NULL;
    pthread_mutex_unlock(&k->lock);
    profile_unref(made->profile);
    made->profile = NULL;
    return st;
}

/* Adds what `made` says to the engine. Its path becomes absolute. */
static enum status put(struct keeper *k, struct entry *made, struct err *e)
{
    struct registry_item *it = &made->item;
    struct engine_adapter_spec to = {
        .name = it->name, .pinned = it->pinned, .share = it->share, .quant = it->quant};
    char path[2 * ADAPTER_PATH_BYTES];
    if (it->part_count > 0)
        return publish(k, &to, made, e);
    enum status st = adapter_roots_find(&k->roots, it->path, &to.root, &to.path, e);
    if (st == STATUS_OK)
        st = publish(k, &to, made, e);
    if (st != STATUS_OK || it->path[0] == '/')
        return st;
    int n =
        snprintf(path, sizeof path, "%s/%s", adapter_roots_absolute(&k->roots, to.root), to.path);
    if (n > 0 && (size_t)n < sizeof it->path) /* else it is looked for again */
        memcpy(it->path, path, (size_t)n + 1);
    return STATUS_OK;
}

static enum status add(struct keeper *k, const struct keeper_spec *spec, uint64_t *generation,
                       bool *replaced, struct err *e)
{
    struct keeper_facts before;
    bool had = keeper_facts(k, spec->name, &before);
    struct entry made = {.source = KEEPER_CLIENT};
    if (had && spec->keep)
        return err_set(e, STATUS_CONFLICT, "name", "there is an adapter '%.64s' already",
                       spec->name);
    made.item.pinned = spec->pinned;
    made.item.plain = spec->plain;
    made.item.share = spec->share;
    made.item.quant = spec->quant;
    made.item.part_count = spec->part_count;
    memcpy(made.item.parts, spec->parts, sizeof made.item.parts);
    snprintf(made.item.name, sizeof made.item.name, "%s", spec->name);
    if (spec->path && strlen(spec->path) >= sizeof made.item.path)
        return err_set(e, STATUS_INVALID, "path", "'path' must hold 1 to %d bytes",
                       ADAPTER_PATH_BYTES - 1);
    if (spec->profile) {
        made.item.profile = registry_text_of(spec->profile);
        if (!made.item.profile)
            return out_of_memory(e);
    }
    if (spec->path)
        snprintf(made.item.path, sizeof made.item.path, "%s", spec->path);
    enum status st = reserve_entry(k) ? STATUS_OK : out_of_memory(e);
    if (st == STATUS_OK)
        st = put(k, &made, e);
    if (st != STATUS_OK) {
        registry_item_deinit(&made.item);
        return st;
    }
    *generation = made.generation;
    put_entry(k, &made);
    keep(k);
    *replaced = had;
    return STATUS_OK;
}

enum status keeper_add(struct keeper *k, const struct keeper_spec *spec, uint64_t *generation,
                       bool *replaced, struct err *e)
{
    enum status st = add(k, spec, generation, replaced, e);
    if (st != STATUS_CONFLICT)
        note_failure(k, spec->name, st == STATUS_OK ? NULL : e);
    return st;
}

enum status keeper_check(struct keeper *k, const char *path, struct engine_adapter_report *out,
                         struct err *e)
{
    const char *root;
    const char *rest;
    enum status st = adapter_roots_find(&k->roots, path, &root, &rest, e);
    return st == STATUS_OK ? engine_adapter_check(k->engine, root, rest, out, e) : st;
}

/* A voice made of others would fall silent. */
static enum status check_unused(struct keeper *k, const char *name, struct err *e)
{
    struct engine_adapter_info *list;
    int count = served_list(k->engine, false, &list);
    if (count < 0)
        return out_of_memory(e);
    enum status st = STATUS_OK;
    for (int i = 0; i < count; i++) {
        for (int p = 0; p < list[i].part_count && st == STATUS_OK; p++) {
            if (strcmp(list[i].parts[p].name, name) == 0)
                st = err_set(e, STATUS_CONFLICT, "name", "blend '%s' is made of adapter '%s'",
                             list[i].name, name);
        }
    }
    mem_free(list);
    return st;
}

enum status keeper_remove(struct keeper *k, const char *name, struct err *e)
{
    enum status used = check_unused(k, name, e);
    if (used != STATUS_OK)
        return used;
    struct keeper_facts facts;
    bool dormant = is_dormant(k, name);
    bool kept = dormant || (keeper_facts(k, name, &facts) && facts.source == KEEPER_CLIENT);
    enum status st = engine_adapter_remove(k->engine, name, e);
    if (st != STATUS_OK && !dormant)
        return st;
    drop_entry(k, name);
    note_failure(k, name, NULL);
    folder_hide(k->folder, name);
    if (kept)
        keep(k);
    return STATUS_OK;
}

/* ---- the folder; lane ---- */

static bool is_taken(void *ctx, const char *name)
{
    struct keeper_facts facts;
    return keeper_facts(ctx, name, &facts) && facts.source != KEEPER_FOLDER;
}

static enum status add_found(void *ctx, const char *name, const char *root, const char *rest,
                             struct err *e)
{
    struct keeper *k = ctx;
    struct entry made = {.source = KEEPER_FOLDER};
    struct engine_adapter_spec to = {.name = name, .root = root, .path = rest};
    enum status st = reserve_entry(k) ? STATUS_OK : out_of_memory(e);
    if (st == STATUS_OK)
        st = publish(k, &to, &made, e);
    note_failure(k, name, st == STATUS_OK ? NULL : e);
    if (st != STATUS_OK)
        return st;
    snprintf(made.item.name, sizeof made.item.name, "%s", name);
    put_entry(k, &made);
    return STATUS_OK;
}

static void remove_found(void *ctx, const char *name)
{
    struct keeper *k = ctx;
    struct keeper_facts facts;
    struct err e;
    note_failure(k, name, NULL);
    if (!keeper_facts(k, name, &facts) || facts.source != KEEPER_FOLDER)
        return;
    if (engine_adapter_remove(k->engine, name, &e) == STATUS_OK)
        drop_entry(k, name);
}

static void work_look(void *ctx)
{
    struct keeper *k = ctx;
    k->unsettled = folder_scan(k->folder, false);
}

/* ---- the folder; loop ---- */

static void look_in(struct keeper *k, int ms)
{
    k->look_soon = ms < LOOK_SLOW_MS;
    loop_timer_start(k->look, ms, 0);
}

static void look_done(void *ctx)
{
    struct keeper *k = ctx;
    k->looking = false;
    if (k->stopped)
        return;
    folder_watch(k->folder, k->loop);
    look_in(k, k->unsettled || k->changed ? LOOK_SETTLE_MS : LOOK_SLOW_MS);
}

static void on_look(void *ctx)
{
    struct keeper *k = ctx;
    struct err e;
    k->look_soon = false;
    k->changed = false;
    k->looking = keeper_run(k, work_look, look_done, k, &e) == STATUS_OK;
    if (!k->looking)
        look_in(k, LOOK_SETTLE_MS);
}

static void on_changed(void *ctx)
{
    struct keeper *k = ctx;
    if (!k->stopped && !k->looking && !k->look_soon)
        look_in(k, LOOK_EVENT_MS);
    k->changed = true;
}

/* ---- loop ---- */

static void next_task(struct keeper *k);

static void work_task(void *ctx)
{
    struct keeper *k = ctx;
    k->running.work(k->running.ctx);
}

static void task_done(void *ctx)
{
    struct keeper *k = ctx;
    k->runs = false;
    k->running.done(k->running.ctx);
    next_task(k);
}

static void on_retry(void *ctx)
{
    next_task(ctx);
}

static void next_task(struct keeper *k)
{
    if (!k->started || k->stopped || k->runs || k->count == 0)
        return;
    k->running = k->tasks[k->first];
    if (!loop_pool(k->loop, work_task, task_done, k)) {
        loop_timer_start(k->retry, RETRY_MS, 0); /* no memory now */
        return;
    }
    k->first = (k->first + 1) % KEEPER_TASKS_MAX;
    k->count--;
    k->runs = true;
}

enum status keeper_run(struct keeper *k, void (*work)(void *ctx), void (*done)(void *ctx),
                       void *ctx, struct err *e)
{
    if (k->stopped)
        return err_set(e, STATUS_DRAINING, NULL, "the server is ending");
    if (k->count == KEEPER_TASKS_MAX)
        return err_set(e, STATUS_BUSY, NULL, "%d changes of adapters wait already",
                       KEEPER_TASKS_MAX);
    k->tasks[(k->first + k->count++) % KEEPER_TASKS_MAX] = (struct task){work, done, ctx};
    next_task(k);
    return STATUS_OK;
}

/* ---- life ---- */

static enum status add_roots(struct keeper *k, struct err *e)
{
    const struct keeper_options *o = &k->opt;
    enum status st = STATUS_OK;
    for (int i = 0; i < o->dir_count && st == STATUS_OK; i++)
        st = adapter_roots_add(&k->roots, o->dirs[i], true, e);
    for (int i = 0; i < o->root_count && st == STATUS_OK; i++)
        st = adapter_roots_add(&k->roots, o->roots[i], false, e);
    return st;
}

enum status keeper_create(struct loop *loop, const struct keeper_options *opt, struct keeper **out,
                          struct err *e)
{
    struct keeper *k = mem_calloc(1, sizeof *k);
    if (!k)
        return out_of_memory(e);
    if (pthread_mutex_init(&k->lock, NULL) != 0) {
        mem_free(k);
        return out_of_memory(e);
    }
    k->loop = loop;
    k->opt = *opt;
    k->scale_count = -1;
    enum status st = add_roots(k, e);
    struct folder_handlers h = {
        .ctx = k,
        .taken = is_taken,
        .add = add_found,
        .remove = remove_found,
        .changed = on_changed,
    };
    if (st == STATUS_OK) {
        k->folder = folder_create(&k->roots, &h);
        k->look = loop_timer_create(loop, on_look, k);
        k->retry = loop_timer_create(loop, on_retry, k);
        if (!k->folder || !k->look || !k->retry)
            st = out_of_memory(e);
    }
    if (st != STATUS_OK) {
        loop_timer_destroy(k->look);
        loop_timer_destroy(k->retry);
        keeper_destroy(k);
        return st;
    }
    *out = k;
    return STATUS_OK;
}

/* What the engine was opened with. */
static enum status adopt(struct keeper *k, struct err *e)
{
    int count = engine_adapters(k->engine, NULL, 0);
    struct engine_adapter_info *list = count ? mem_calloc((size_t)count, sizeof *list) : NULL;
    if (count && !list)
        return out_of_memory(e);
    engine_adapters(k->engine, list, count);
    enum status st = STATUS_OK;
    for (int i = 0; i < count && st == STATUS_OK; i++) {
        struct entry made = {.source = KEEPER_START, .generation = list[i].generation};
        memcpy(made.item.name, list[i].name, sizeof made.item.name);
        st = reserve_entry(k) ? STATUS_OK : out_of_memory(e);
        if (st == STATUS_OK && list[i].path[0])
            st = load_profile(k, list[i].path, ".", &made, e);
        if (st == STATUS_OK)
            put_entry(k, &made);
        else
            err_prefix(e, "adapter %s", list[i].name);
    }
    mem_free(list);
    return st;
}

/* Adds again what a client registered in a former life. */
static enum status restore(struct keeper *k, struct registry_item *it, struct err *e)
{
    struct entry made = {.source = KEEPER_CLIENT, .item = *it};
    struct keeper_facts facts;
    struct err why = {0};
    if (!reserve_entry(k))
        return out_of_memory(e);
    if (keeper_facts(k, it->name, &facts)) {
        LOG_WARN(LOG_WHAT("a registered adapter gives way to --adapter"),
                 LOG_STR("adapter", it->name));
        return STATUS_OK;
    }
    made.dormant = put(k, &made, &why) != STATUS_OK;
    if (made.dormant) {
        LOG_ERROR(LOG_WHAT("a registered adapter cannot be added again"),
                  LOG_STR("adapter", it->name), LOG_STR("path", it->path), LOG_STR("why", why.msg));
        note_failure(k, it->name, &why);
    }
    put_entry(k, &made);
    it->profile = NULL; /* moved */
    return STATUS_OK;
}

static enum status restore_all(struct keeper *k, struct registry_item *items, size_t count,
                               bool blends, struct err *e)
{
    enum status st = STATUS_OK;
    for (size_t i = 0; i < count && st == STATUS_OK; i++) {
        if ((items[i].part_count > 0) == blends)
            st = restore(k, &items[i], e);
    }
    return st;
}

static enum status open_registry(struct keeper *k, struct registry_item **items, size_t *count,
                                 struct err *e)
{
    struct engine_info info;
    struct err why;
    if (!k->opt.state_dir || !*k->opt.state_dir)
        return STATUS_OK;
    engine_get_info(k->engine, &info);
    enum status st = registry_create(k->opt.state_dir, info.model_dir, &k->registry, e);
    if (st != STATUS_OK)
        return st;
    if (registry_load(k->registry, items, count, &why) != STATUS_OK)
        LOG_ERROR(LOG_WHAT("what clients registered cannot be read and is not kept"),
                  LOG_STR("file", registry_path(k->registry)), LOG_STR("why", why.msg));
    return STATUS_OK;
}

enum status keeper_open(struct keeper *k, struct engine *engine, struct err *e)
{
    struct registry_item *items = NULL;
    size_t count = 0;
    struct engine_info info;
    k->engine = engine;
    k->text = engine_get_text(engine);
    engine_get_info(engine, &info);
    k->defaults = info.defaults;
    enum status st = adopt(k, e);
    if (st == STATUS_OK)
        st = open_registry(k, &items, &count, e);
    if (st == STATUS_OK)
        st = restore_all(k, items, count, false, e);
    if (st == STATUS_OK)
        folder_scan(k->folder, true);
    if (st == STATUS_OK)
        st = restore_all(k, items, count, true, e); /* of whatever there is by now */
    for (size_t i = 0; i < count; i++)
        registry_item_deinit(&items[i]);
    mem_free(items);
    return st;
}

void keeper_start(struct keeper *k)
{
    k->started = true;
    for (int i = 0; i < k->roots.count; i++)
        k->live |= k->roots.items[i].live;
    if (k->live) {
        folder_watch(k->folder, k->loop);
        look_in(k, LOOK_SETTLE_MS); /* what changed before the watches were there */
    }
    next_task(k);
}

void keeper_stop(struct keeper *k)
{
    if (!k || k->stopped)
        return;
    k->stopped = true;
    loop_timer_destroy(k->look);
    loop_timer_destroy(k->retry);
    folder_unwatch(k->folder);
}

bool keeper_is_busy(const struct keeper *k)
{
    return k && k->runs;
}

void keeper_destroy(struct keeper *k)
{
    if (!k)
        return;
    folder_destroy(k->folder);
    registry_destroy(k->registry);
    pthread_mutex_destroy(&k->lock);
    adapter_roots_deinit(&k->roots);
    for (size_t i = 0; i < k->entry_count; i++)
        deinit_entry(&k->entries[i]);
    mem_free(k->entries);
    mem_free(k);
}
