#include "server/keeper.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "engine/base/vec.h"
#include "server/folder.h"
#include "server/registry.h"
#include "server/served.h"

#define RETRY_MS       100
#define LOOK_EVENT_MS  100  /* after a watch saw something */
#define LOOK_SETTLE_MS 150  /* while something has not settled */
#define LOOK_SLOW_MS   5000 /* what no watch saw */

struct task {
    void (*work)(void *ctx);
    void (*done)(void *ctx);
    void *ctx;
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
    struct keeper_names names;
};

static enum status out_of_memory(struct err *e)
{
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

/* ---- lane ---- */

/* Writes down what clients registered. What they asked for was done either way. */
static void keep(struct keeper *k)
{
    struct err e;
    size_t count;
    if (!k->registry)
        return;
    struct registry_item *items = keeper_names_registered(&k->names, &count);
    enum status st = items ? registry_save(k->registry, items, count, &e) : out_of_memory(&e);
    mem_free(items);
    if (st != STATUS_OK)
        LOG_WARN(LOG_WHAT("what was registered will not survive a restart"), LOG_STR("why", e.msg));
}

static enum status load_profile(struct keeper *k, const char *root, const char *path,
                                struct keeper_entry *made, struct err *e)
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

static enum status blend(struct keeper *k, struct keeper_entry *made, struct err *e)
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
 * keeper_names_put has to follow. */
static enum status publish(struct keeper *k, const struct engine_adapter_spec *to,
                           struct keeper_entry *made, struct err *e)
{
    enum status st = STATUS_OK;
    if (!made->item.plain)
        st = load_profile(k, to->root, to->path, made, e);
    if (st != STATUS_OK)
        return st;
    keeper_names_expect(&k->names, made);
    st = made->item.part_count > 0 ? blend(k, made, e)
                                   : engine_adapter_put(k->engine, to, &made->generation, e);
    if (st == STATUS_OK)
        return st;
    keeper_names_expect(&k->names, NULL);
    profile_unref(made->profile);
    made->profile = NULL;
    return st;
}

/* Adds what `made` says to the engine. Its path becomes absolute. */
static enum status put(struct keeper *k, struct keeper_entry *made, struct err *e)
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
    bool had = keeper_names_facts(&k->names, spec->name, &before);
    struct keeper_entry made = {.source = KEEPER_CLIENT};
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
    enum status st = keeper_names_reserve(&k->names) ? STATUS_OK : out_of_memory(e);
    if (st == STATUS_OK)
        st = put(k, &made, e);
    if (st != STATUS_OK) {
        registry_item_deinit(&made.item);
        return st;
    }
    *generation = made.generation;
    keeper_names_put(&k->names, &made);
    keep(k);
    *replaced = had;
    return STATUS_OK;
}

enum status keeper_add(struct keeper *k, const struct keeper_spec *spec, uint64_t *generation,
                       bool *replaced, struct err *e)
{
    enum status st = add(k, spec, generation, replaced, e);
    if (st != STATUS_CONFLICT)
        keeper_names_note_failure(&k->names, spec->name, st == STATUS_OK ? NULL : e);
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
    bool dormant = keeper_names_is_dormant(&k->names, name);
    bool kept =
        dormant || (keeper_names_facts(&k->names, name, &facts) && facts.source == KEEPER_CLIENT);
    enum status st = engine_adapter_remove(k->engine, name, e);
    if (st != STATUS_OK && !dormant)
        return st;
    keeper_names_drop(&k->names, name);
    keeper_names_note_failure(&k->names, name, NULL);
    folder_hide(k->folder, name);
    if (kept)
        keep(k);
    return STATUS_OK;
}

/* ---- the folder; lane ---- */

static bool is_taken(void *ctx, const char *name)
{
    struct keeper *k = ctx;
    struct keeper_facts facts;
    return keeper_names_facts(&k->names, name, &facts) && facts.source != KEEPER_FOLDER;
}

static enum status add_found(void *ctx, const char *name, const char *root, const char *rest,
                             struct err *e)
{
    struct keeper *k = ctx;
    struct keeper_entry made = {.source = KEEPER_FOLDER};
    struct engine_adapter_spec to = {.name = name, .root = root, .path = rest};
    enum status st = keeper_names_reserve(&k->names) ? STATUS_OK : out_of_memory(e);
    if (st == STATUS_OK)
        st = publish(k, &to, &made, e);
    keeper_names_note_failure(&k->names, name, st == STATUS_OK ? NULL : e);
    if (st != STATUS_OK)
        return st;
    snprintf(made.item.name, sizeof made.item.name, "%s", name);
    keeper_names_put(&k->names, &made);
    return STATUS_OK;
}

static void remove_found(void *ctx, const char *name)
{
    struct keeper *k = ctx;
    struct keeper_facts facts;
    struct err e;
    keeper_names_note_failure(&k->names, name, NULL);
    if (!keeper_names_facts(&k->names, name, &facts) || facts.source != KEEPER_FOLDER)
        return;
    if (engine_adapter_remove(k->engine, name, &e) == STATUS_OK)
        keeper_names_drop(&k->names, name);
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
    enum status st = keeper_names_init(&k->names, e);
    if (st != STATUS_OK) {
        mem_free(k);
        return st;
    }
    k->loop = loop;
    k->opt = *opt;
    st = add_roots(k, e);
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
        struct keeper_entry made = {.source = KEEPER_START, .generation = list[i].generation};
        memcpy(made.item.name, list[i].name, sizeof made.item.name);
        st = keeper_names_reserve(&k->names) ? STATUS_OK : out_of_memory(e);
        if (st == STATUS_OK && list[i].path[0])
            st = load_profile(k, list[i].path, ".", &made, e);
        if (st == STATUS_OK)
            keeper_names_put(&k->names, &made);
        else
            err_prefix(e, "adapter %s", list[i].name);
    }
    mem_free(list);
    return st;
}

/* Adds again what a client registered in a former life. */
static enum status restore(struct keeper *k, struct registry_item *it, struct err *e)
{
    struct keeper_entry made = {.source = KEEPER_CLIENT, .item = *it};
    struct keeper_facts facts;
    struct err why = {0};
    if (!keeper_names_reserve(&k->names))
        return out_of_memory(e);
    if (keeper_names_facts(&k->names, it->name, &facts)) {
        LOG_WARN(LOG_WHAT("a registered adapter gives way to --adapter"),
                 LOG_STR("adapter", it->name));
        return STATUS_OK;
    }
    made.dormant = put(k, &made, &why) != STATUS_OK;
    if (made.dormant) {
        LOG_ERROR(LOG_WHAT("a registered adapter cannot be added again"),
                  LOG_STR("adapter", it->name), LOG_STR("path", it->path), LOG_STR("why", why.msg));
        keeper_names_note_failure(&k->names, it->name, &why);
    }
    keeper_names_put(&k->names, &made);
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
    k->engine = k->names.engine = engine;
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

struct keeper_names *keeper_names_of(struct keeper *k)
{
    return &k->names;
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
    adapter_roots_deinit(&k->roots);
    keeper_names_deinit(&k->names);
    mem_free(k);
}
