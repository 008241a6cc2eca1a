#include "engine/adapter/adapter_store.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/vec.h"

enum status adapter_store_init(struct adapter_store *s, const struct adapter_source *source,
                               const struct model *base, struct backend *backend, int slots_max)
{
    CHECK(slots_max >= 1 && slots_max <= LIMIT_ADAPTER_SLOTS);
    memset(s, 0, sizeof *s);
    if (pthread_mutex_init(&s->lock, NULL) != 0)
        return STATUS_NO_MEMORY;
    s->source = *source;
    s->base = base;
    s->backend = backend;
    s->slots_max = slots_max;
    return STATUS_OK;
}

static void free_adapter(struct adapter_store *s, struct adapter *a)
{
    s->source.free(a->lora);
    mem_free(a);
}

static void empty_slot(struct adapter_store *s, int slot)
{
    CHECK(s->slots[slot].adapter && s->slots[slot].refs == 0);
    if (s->backend)
        s->backend->ops->adapter_unload(s->backend, slot);
    s->slots[slot] = (struct adapter_slot){0};
}

void adapter_store_deinit(struct adapter_store *s)
{
    for (int i = 0; i < s->slots_max; i++)
        if (s->slots[i].adapter)
            empty_slot(s, i);
    for (size_t i = 0; i < s->count; i++) {
        CHECK(s->list[i]->users == 0);
        free_adapter(s, s->list[i]);
    }
    mem_free(s->list);
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

/* Takes a generation that nobody can reach off the list. Returns it when the caller shall free it,
 * NULL when it is still used or sits in a slot (then the engine thread's sweep does it). */
static struct adapter *retire(struct adapter_store *s, struct adapter *a)
{
    if (a->named || a->users > 0)
        return NULL;
    if (a->slot >= 0) {
        s->sweep = true;
        return NULL;
    }
    unlist(s, a);
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
        *old = retire(s, before);
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

/* Publishes `lora`, which it owns from here on, also when it fails. */
static enum status add(struct adapter_store *s, const char *name, const char *path,
                       struct lora *lora, uint64_t *generation, struct err *e)
{
    struct adapter *a = mem_calloc(1, sizeof *a);
    if (!a) {
        s->source.free(lora);
        return err_set(e, STATUS_NO_MEMORY, "name", "Out of memory for adapter '%s'.", name);
    }
    memcpy(a->name, name, strlen(name));
    memcpy(a->path, path, strlen(path));
    a->lora = lora;
    a->slot = -1;

    struct adapter *old = NULL;
    pthread_mutex_lock(&s->lock);
    enum status st = publish(s, a, &old, e);
    uint64_t made = a->generation;
    pthread_mutex_unlock(&s->lock);
    if (old)
        free_adapter(s, old);
    if (st != STATUS_OK)
        free_adapter(s, a);
    else
        *generation = made;
    return st;
}

static enum status path_too_long(struct err *e)
{
    return err_set(e, STATUS_INVALID, "path", "An adapter path has at most %d bytes.",
                   ADAPTER_PATH_BYTES - 1);
}

enum status adapter_store_add(struct adapter_store *s, const char *name, const char *path,
                              uint64_t *generation, struct err *e)
{
    struct lora *lora = NULL;
    enum status st = check_name(name, e);
    if (st == STATUS_OK && strlen(path) >= ADAPTER_PATH_BYTES)
        st = path_too_long(e);
    if (st == STATUS_OK)
        st = s->source.open(path, s->base, &lora, e);
    return st == STATUS_OK ? add(s, name, path, lora, generation, e) : st;
}

enum status adapter_store_add_beneath(struct adapter_store *s, const char *name, const char *root,
                                      const char *path, uint64_t *generation, struct err *e)
{
    struct lora *lora = NULL;
    char whole[ADAPTER_PATH_BYTES];
    enum status st = check_name(name, e);
    if (st == STATUS_OK &&
        (size_t)snprintf(whole, sizeof whole, "%s/%s", root, path) >= sizeof whole)
        st = path_too_long(e);
    if (st == STATUS_OK && !s->source.open_beneath)
        st = err_set(e, STATUS_UNSUPPORTED, "path", "Adapters below a root cannot be read here.");
    if (st == STATUS_OK)
        st = s->source.open_beneath(root, path, s->base, &lora, e);
    return st == STATUS_OK ? add(s, name, whole, lora, generation, e) : st;
}

enum status adapter_store_remove(struct adapter_store *s, const char *name, struct err *e)
{
    struct adapter *gone = NULL;
    pthread_mutex_lock(&s->lock);
    struct adapter *a = find_named(s, name);
    if (a) {
        a->named = false;
        gone = retire(s, a);
    }
    pthread_mutex_unlock(&s->lock);
    if (gone)
        free_adapter(s, gone);
    return a ? STATUS_OK
             : err_set(e, STATUS_ADAPTER_NOT_FOUND, "adapter", "There is no adapter '%s'.", name);
}

enum status adapter_store_acquire(struct adapter_store *s, const char *name, struct adapter **out,
                                  struct err *e)
{
    pthread_mutex_lock(&s->lock);
    struct adapter *a = find_named(s, name);
    if (a) {
        a->users++;
        a->last_used_unix_s = clock_unix_s();
    }
    pthread_mutex_unlock(&s->lock);
    if (!a)
        return err_set(e, STATUS_ADAPTER_NOT_FOUND, "adapter", "There is no adapter '%s'.", name);
    *out = a;
    return STATUS_OK;
}

void adapter_store_release(struct adapter_store *s, struct adapter *a)
{
    pthread_mutex_lock(&s->lock);
    CHECK(a->users > 0);
    a->users--;
    a->last_used_unix_s = clock_unix_s();
    struct adapter *gone = retire(s, a);
    pthread_mutex_unlock(&s->lock);
    if (gone)
        free_adapter(s, gone);
}

static void fill_info(const struct adapter *a, struct engine_adapter_info *out)
{
    const struct lora *l = a->lora;
    memset(out, 0, sizeof *out);
    memcpy(out->name, a->name, sizeof out->name);
    memcpy(out->path, a->path, sizeof out->path);
    sha256_hex(l->sha256, out->sha256);
    out->generation = a->generation;
    out->rank_max = l->rank_max;
    out->module_count = l->module_count;
    out->bytes = l->bytes;
    for (int i = 0; i < l->module_count; i++) {
        float scale = l->modules[i].scale;
        out->scale_min = i == 0 || scale < out->scale_min ? scale : out->scale_min;
        out->scale_max = i == 0 || scale > out->scale_max ? scale : out->scale_max;
    }
    out->users = a->users;
    out->resident = a->slot >= 0;
    out->draining = !a->named;
    out->last_used_unix_s = a->last_used_unix_s;
}

int adapter_store_list(struct adapter_store *s, struct engine_adapter_info *out, int max)
{
    pthread_mutex_lock(&s->lock);
    int count = (int)s->count;
    for (int i = 0; i < count && i < max; i++)
        fill_info(s->list[i], &out[i]);
    pthread_mutex_unlock(&s->lock);
    return count;
}

/* `slot` of a generation is read by other threads, so it changes under the lock. */
static void set_slot(struct adapter_store *s, struct adapter *a, int slot)
{
    pthread_mutex_lock(&s->lock);
    a->slot = slot;
    struct adapter *gone = retire(s, a);
    pthread_mutex_unlock(&s->lock);
    if (gone)
        free_adapter(s, gone);
}

enum status adapter_store_load(struct adapter_store *s, struct adapter *a, int slot, struct err *e)
{
    struct adapter *before = s->slots[slot].adapter;
    if (before) {
        empty_slot(s, slot);
        set_slot(s, before, -1);
    }
    enum status st = s->backend->ops->adapter_load(s->backend, slot, a->lora, e);
    if (st != STATUS_OK)
        return st;
    s->slots[slot] = (struct adapter_slot){.adapter = a};
    set_slot(s, a, slot);
    return STATUS_OK;
}

int adapter_store_use(struct adapter_store *s, const struct adapter *a, uint64_t used)
{
    for (int i = 0; i < s->slots_max; i++) {
        if (s->slots[i].adapter != a)
            continue;
        s->slots[i].refs++;
        s->slots[i].used = used;
        return i;
    }
    return -1;
}

void adapter_store_unuse(struct adapter_store *s, int slot)
{
    CHECK(s->slots[slot].refs > 0);
    s->slots[slot].refs--;
}

void adapter_store_sweep(struct adapter_store *s)
{
    pthread_mutex_lock(&s->lock);
    bool sweep = s->sweep;
    s->sweep = false;
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; sweep && i < s->slots_max; i++) {
        struct adapter *a = s->slots[i].adapter;
        if (!a)
            continue;
        pthread_mutex_lock(&s->lock);
        bool dead = !a->named && a->users == 0;
        pthread_mutex_unlock(&s->lock);
        if (!dead)
            continue;
        empty_slot(s, i);
        set_slot(s, a, -1);
    }
}

void adapter_store_device_lost(struct adapter_store *s)
{
    s->backend = NULL;
}
