/* adapter_store: names, generations and places of adapters.
 *
 * A name points to a generation; a generation is immutable, and its number is never used again.
 * Adding under an existing name makes a new generation; the old one drains: it is no longer found,
 * and it goes when its last user does. A user is a request between acquire and release. Two tiers
 * for now: host memory (every generation that lives) and the device's slots.
 *
 * Threads: the part above the line is safe from any thread; one mutex covers the list and the
 * counters of every generation and is never held while files are read or the device works. The part
 * below the line is the engine thread's, between steps: slots are its alone, and only it frees what
 * is in one.
 */
#ifndef CHORUS_ADAPTER_ADAPTER_STORE_H
#define CHORUS_ADAPTER_ADAPTER_STORE_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/adapter/adapter.h"
#include "engine/backend.h"

/* Where adapters come from; lora_open, lora_open_beneath and lora_free but in tests. */
struct adapter_source {
    enum status (*open)(const char *dir, const struct model *base, struct lora **out,
                        struct err *e);
    /* NULL: a root is STATUS_UNSUPPORTED. */
    enum status (*open_beneath)(const char *root, const char *name, const struct model *base,
                                struct lora **out, struct err *e);
    void (*free)(struct lora *l);
};

/* Directory `path`, of `root` if that is not NULL. */
WARN_UNUSED enum status adapter_source_open(const struct adapter_source *source, const char *root,
                                            const char *path, const struct model *base,
                                            struct lora **out, struct err *e);

/* One slot of the device. */
struct adapter_slot {
    struct adapter *adapter; /* NULL: empty */
    int refs;                /* running sequences that use it */
    uint64_t used;           /* larger is more recent */
};

struct adapter_store {
    pthread_mutex_t lock;
    struct adapter **list; /* owned, by name, then generation */
    size_t count;
    size_t cap;
    uint64_t last_generation;
    pthread_cond_t released; /* CLOCK_MONOTONIC; a generation lost its last user */
    bool sweep;              /* some generation in a slot has neither name nor users */
    struct adapter_source source;
    const struct model *base; /* borrowed */
    /* engine thread */
    struct backend *backend; /* borrowed; NULL: the device is lost */
    struct adapter_slot slots[LIMIT_ADAPTER_SLOTS];
    int slots_max;
};

WARN_UNUSED enum status adapter_store_init(struct adapter_store *s,
                                           const struct adapter_source *source,
                                           const struct model *base, struct backend *backend,
                                           int slots_max);
/* Unloads and frees everything. No users are left. */
void adapter_store_deinit(struct adapter_store *s);

/* Reads the directory (slow), then publishes it under `name` at once. STATUS_INVALID for a bad
 * name, STATUS_LIMIT for one adapter too many, and whatever the source says; then nothing has
 * changed. With a root the directory is `path` of it and never leaves it (lora_open_beneath). */
WARN_UNUSED enum status adapter_store_put(struct adapter_store *s,
                                          const struct engine_adapter_spec *spec,
                                          uint64_t *generation, struct err *e);
/* See engine_adapter_blend. */
WARN_UNUSED enum status adapter_store_blend(struct adapter_store *s, const char *name,
                                            const struct engine_adapter_use *parts, int count,
                                            uint64_t *generation, struct err *e);
/* *generation: what the name led to. STATUS_ADAPTER_NOT_FOUND. */
WARN_UNUSED enum status adapter_store_remove(struct adapter_store *s, const char *name,
                                             uint64_t *generation, struct err *e);
/* Users of a generation, once there are none or after wait_ms. */
int adapter_store_wait(struct adapter_store *s, uint64_t generation, int wait_ms);
/* The current generations of `uses` at one moment, blends taken apart and weights of the same part
 * added up; each has one user more. `generations` [count]: what each name led to.
 * STATUS_ADAPTER_NOT_FOUND, STATUS_LIMIT for more than LIMIT_ADAPTERS_PER_REQUEST parts. */
WARN_UNUSED enum status adapter_store_acquire(struct adapter_store *s,
                                              const struct engine_adapter_use *uses, int count,
                                              struct adapter_set *out, uint64_t *generations,
                                              struct err *e);
/* `did` (NULL: nothing) is what the request adds to the counts. */
void adapter_store_release(struct adapter_store *s, const struct adapter_set *set,
                           const struct adapter_counts *did);
/* Up to max generations in name order, draining ones too; returns how many there are. */
int adapter_store_list(struct adapter_store *s, struct engine_adapter_info *out, int max);
/* [A-Za-z0-9._-]{1,64} */
bool adapter_store_name_ok(const char *name);
/* ---- engine thread, between steps ---- */

/* Puts a generation into a slot; whoever is there (without refs) leaves first. On failure the slot
 * is empty. */
WARN_UNUSED enum status adapter_store_load(struct adapter_store *s, struct adapter *a, int slot,
                                           struct err *e);
/* The slot of a resident generation, with one reference more; `used` orders evictions. -1: it is in
 * none. */
int adapter_store_use(struct adapter_store *s, const struct adapter *a, uint64_t used);
void adapter_store_unuse(struct adapter_store *s, int slot);
/* Frees generations that nobody can use any more. */
void adapter_store_sweep(struct adapter_store *s);
/* The device is gone: its slots are not touched again. */
void adapter_store_device_lost(struct adapter_store *s);

#endif
