#include "server/keeper_names.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/vec.h"

#define PROFILE_TRIES 10000 /* each is a replacement that happened in a few microseconds */

enum status keeper_names_init(struct keeper_names *n, struct err *e)
{
    *n = (struct keeper_names){.scale_count = -1};
    if (pthread_mutex_init(&n->lock, NULL) != 0)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    return STATUS_OK;
}

static void deinit_entry(struct keeper_entry *e)
{
    profile_unref(e->profile);
    registry_item_deinit(&e->item);
}

void keeper_names_deinit(struct keeper_names *n)
{
    for (size_t i = 0; i < n->count; i++)
        deinit_entry(&n->entries[i]);
    mem_free(n->entries);
    pthread_mutex_destroy(&n->lock);
}

const char *keeper_names_source(enum keeper_source source)
{
    static const char *const names[] = {"start", "folder", "client"};
    return names[source];
}

/* With the lock held. */
static struct keeper_entry *entry_of(struct keeper_names *n, const char *name)
{
    for (size_t i = 0; i < n->count; i++) {
        if (strcmp(n->entries[i].item.name, name) == 0)
            return &n->entries[i];
    }
    return NULL;
}

bool keeper_names_facts(struct keeper_names *n, const char *name, struct keeper_facts *out)
{
    pthread_mutex_lock(&n->lock);
    const struct keeper_entry *at = entry_of(n, name);
    bool known = at && !at->dormant;
    if (known)
        *out = (struct keeper_facts){.source = at->source, .has_profile = at->profile != NULL};
    pthread_mutex_unlock(&n->lock);
    return known;
}

bool keeper_names_is_dormant(struct keeper_names *n, const char *name)
{
    pthread_mutex_lock(&n->lock);
    const struct keeper_entry *at = entry_of(n, name);
    bool dormant = at && at->dormant;
    pthread_mutex_unlock(&n->lock);
    return dormant;
}

bool keeper_names_reserve(struct keeper_names *n)
{
    pthread_mutex_lock(&n->lock);
    bool ok = VEC_RESERVE(n->entries, n->cap, n->count + 1);
    pthread_mutex_unlock(&n->lock);
    return ok;
}

void keeper_names_expect(struct keeper_names *n, const struct keeper_entry *made)
{
    pthread_mutex_lock(&n->lock);
    n->pending = made;
    pthread_mutex_unlock(&n->lock);
}

void keeper_names_put(struct keeper_names *n, const struct keeper_entry *made)
{
    pthread_mutex_lock(&n->lock);
    struct keeper_entry *at = entry_of(n, made->item.name);
    if (at)
        deinit_entry(at);
    else
        at = &n->entries[n->count++];
    *at = *made;
    n->pending = NULL;
    pthread_mutex_unlock(&n->lock);
}

void keeper_names_drop(struct keeper_names *n, const char *name)
{
    pthread_mutex_lock(&n->lock);
    struct keeper_entry *at = entry_of(n, name);
    if (at) {
        deinit_entry(at);
        *at = n->entries[--n->count];
    }
    for (int i = n->scale_count - 1; i >= 0; i--) {
        if (strcmp(n->scales[i].name, name) == 0)
            n->scales[i] = n->scales[--n->scale_count];
    }
    pthread_mutex_unlock(&n->lock);
}

/* What is told of a generation may be older or newer than what is written down here by the time of
 * the lock; then both are looked at again. */
enum status keeper_names_profile(struct keeper_names *n, const char *name, struct profile **out,
                                 uint64_t *generation)
{
    for (int tries = 0;; tries++) {
        struct engine_adapter_info info;
        CHECK(tries < PROFILE_TRIES);
        enum status st = engine_adapter_find(n->engine, name, &info);
        if (st != STATUS_OK)
            return st;
        pthread_mutex_lock(&n->lock);
        const struct keeper_entry *at = entry_of(n, name);
        if (at && at->generation != info.generation)
            at = NULL;
        if (!at && n->pending && strcmp(n->pending->item.name, name) == 0)
            at = n->pending;
        if (at) {
            *out = profile_ref(at->profile);
            *generation = info.generation;
        }
        pthread_mutex_unlock(&n->lock);
        if (at)
            return STATUS_OK;
    }
}

uint64_t keeper_names_generation(struct keeper_names *n, const char *name)
{
    pthread_mutex_lock(&n->lock);
    const struct keeper_entry *at = entry_of(n, name);
    uint64_t generation = at ? at->generation : 0;
    bool changes = n->pending && strcmp(n->pending->item.name, name) == 0;
    pthread_mutex_unlock(&n->lock);
    struct engine_adapter_info info;
    if (changes && engine_adapter_find(n->engine, name, &info) == STATUS_OK)
        generation = info.generation; /* the engine may be ahead of what is written down here */
    return generation;
}

void keeper_names_set_scales(struct keeper_names *n, const struct engine_adapter_use *uses,
                             int count)
{
    pthread_mutex_lock(&n->lock);
    for (int i = 0; i < count; i++)
        n->scales[i] = uses[i];
    n->scale_count = count;
    pthread_mutex_unlock(&n->lock);
}

int keeper_names_scales(struct keeper_names *n, struct engine_adapter_use *uses)
{
    pthread_mutex_lock(&n->lock);
    int count = n->scale_count;
    for (int i = 0; i < count; i++)
        uses[i] = n->scales[i];
    pthread_mutex_unlock(&n->lock);
    return count;
}

bool keeper_names_failure(struct keeper_names *n, const char *name, struct err *out)
{
    bool found = false;
    pthread_mutex_lock(&n->lock);
    for (int i = 0; i < KEEPER_FAILURES_MAX && !found; i++) {
        found = strcmp(n->failures[i].name, name) == 0;
        if (found)
            *out = n->failures[i].err;
    }
    pthread_mutex_unlock(&n->lock);
    return found;
}

void keeper_names_note_failure(struct keeper_names *n, const char *name, const struct err *e)
{
    pthread_mutex_lock(&n->lock);
    struct keeper_failure *at = NULL;
    for (int i = 0; i < KEEPER_FAILURES_MAX && !at; i++)
        at = strcmp(n->failures[i].name, name) == 0 ? &n->failures[i] : NULL;
    if (!e && at)
        at->name[0] = '\0';
    if (e && !at) {
        at = &n->failures[n->failure_next];
        n->failure_next = (n->failure_next + 1) % KEEPER_FAILURES_MAX;
    }
    if (e) {
        snprintf(at->name, sizeof at->name, "%s", name);
        at->err = *e;
    }
    pthread_mutex_unlock(&n->lock);
}

struct registry_item *keeper_names_registered(struct keeper_names *n, size_t *count)
{
    size_t found = 0;
    pthread_mutex_lock(&n->lock);
    struct registry_item *items = mem_calloc(n->count + 1, sizeof *items);
    for (size_t i = 0; items && i < n->count; i++) {
        if (n->entries[i].source == KEEPER_CLIENT)
            items[found++] = n->entries[i].item;
    }
    pthread_mutex_unlock(&n->lock);
    *count = found;
    return items;
}
