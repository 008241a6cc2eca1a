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

#include "engine/adapter/lora.h"
#include "engine/backend.h"
#include "engine/engine_stats.h"

#define ADAPTER_PATH_BYTES 512

/* One generation. Fields from `users` on are under the store's lock. */
struct adapter {
    char name[LIMIT_NAME_BYTES + 1];
    char path[ADAPTER_PATH_BYTES];
    uint64_t generation; /* >= 1 */
    struct lora *lora;   /* owned, immutable */
    int users;
    bool named; /* its name still leads here */
    int slot;   /* device slot or -1 */
    int64_t last_used_unix_s;
};

/* Where adapters come from; lora_open, lora_open_beneath and lora_free but in tests. */
struct adapter_source {
    enum status (*open)(const char *dir, const struct model *base, struct lora **out,
                        struct err *e);
    /* NULL: adapter_store_add_beneath is STATUS_UNSUPPORTED. */
    enum status (*open_beneath)(const char *root, const char *name, const struct model *base,
                                struct lora **out, struct err *e);
    void (*free)(struct lora *l);
};

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
    bool sweep; /* some generation in a slot has neither name nor users */
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
 * changed. */
WARN_UNUSED enum status adapter_store_add(struct adapter_store *s, const char *name,
                                          const char *path, uint64_t *generation, struct err *e);
/* As adapter_store_add for directory `path` of `root`, never leaving root (lora_open_beneath). */
WARN_UNUSED enum status adapter_store_add_beneath(struct adapter_store *s, const char *name,
                                                  const char *root, const char *path,
                                                  uint64_t *generation, struct err *e);
/* STATUS_ADAPTER_NOT_FOUND. */
WARN_UNUSED enum status adapter_store_remove(struct adapter_store *s, const char *name,
                                             struct err *e);
/* The current generation of a name, with one user more. */
WARN_UNUSED enum status adapter_store_acquire(struct adapter_store *s, const char *name,
                                              struct adapter **out, struct err *e);
void adapter_store_release(struct adapter_store *s, struct adapter *a);
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
