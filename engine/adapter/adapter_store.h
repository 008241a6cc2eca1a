/* adapter_store: names and generations of adapters, and the state that their tiers share.
 *
 * A name points to a generation; a generation is immutable, and its number is never used again.
 * Adding under an existing name makes a new generation; the old one drains: it is no longer found,
 * and it goes when its last user does. A user is a request between acquire and release.
 *
 * Where the bytes are: always on disk; in host memory as far as the budget goes (adapter_host.h);
 * in a slot of the device (adapter_slots.h); adapter_loader.h has the threads that move them.
 *
 * Threads: everything here is safe from any thread. One mutex covers the list, the host tier and
 * what changes of a generation; it is never held while files are read or the device works.
 */
#ifndef CHORUS_ADAPTER_ADAPTER_STORE_H
#define CHORUS_ADAPTER_ADAPTER_STORE_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/adapter/adapter.h"
#include "engine/adapter/adapter_source.h"
#include "engine/backend.h"

/* One slot of the device. */
struct adapter_slot {
    struct adapter *adapter; /* NULL: empty */
    int refs;                /* running sequences that use it */
    uint64_t used;           /* larger is more recent */
    uint64_t since;          /* step in which it was filled */
    bool loading;            /* not there yet: nobody may use it */
};

/* What is on its way into a slot; one at a time. */
enum adapter_upload_state { UPLOAD_NONE, UPLOAD_ASKED, UPLOAD_RUNS, UPLOAD_DONE };
struct adapter_upload {
    enum adapter_upload_state state;
    struct adapter *adapter; /* borrowed; what is in a slot lives */
    int slot;
    int64_t begin_ns;
    enum status status;
    struct err err;
};

struct adapter_store {
    pthread_mutex_t lock;
    pthread_cond_t released; /* CLOCK_MONOTONIC; a generation lost its last user */
    pthread_cond_t work;     /* the loader has something to do, or to end */
    struct adapter_source source;
    const struct model *base;        /* borrowed */
    struct backend *backend;         /* borrowed; any thread, its operations say which */
    bool packs;                      /* the host form is an image */
    enum engine_adapter_quant quant; /* of adapters that say nothing */

    /* under the lock */
    struct adapter **list; /* owned, by name, then generation */
    size_t count;
    size_t cap;
    uint64_t last_generation;
    bool sweep; /* some generation in a slot has neither name nor users */
    size_t host_budget;
    size_t host_used; /* sum of held_bytes */
    uint64_t host_clock;
    uint64_t want_turn; /* adapters whose `want` is this are wanted now */
    size_t want_left;   /* of the budget, for the rest of this turn */
    bool want_any;
    bool want_full;
    bool any_failed;
    struct adapter_upload upload;
    bool buries;            /* a loader frees what adapter_store_free is given */
    struct adapter *buried; /* owned */
    bool ending;
    void (*changed)(void *ctx); /* an adapter became ready or failed; called from a loader thread */
    void *changed_ctx;

    /* engine thread */
    bool lost; /* the device is */
    struct adapter_slot slots[LIMIT_ADAPTER_SLOTS];
    int slots_max;
};

struct adapter_store_options {
    struct adapter_source source;
    const struct model *base; /* borrowed */
    struct backend *backend;  /* borrowed */
    int slots_max;
    enum engine_adapter_quant quant; /* of adapters that say nothing; the default: none */
    size_t host_budget;              /* bytes of host memory for adapters that nobody waits for */
    void (*changed)(void *ctx);      /* may be NULL */
    void *changed_ctx;
};

WARN_UNUSED enum status adapter_store_init(struct adapter_store *s,
                                           const struct adapter_store_options *opt);
/* Unloads and frees everything. No users are left. */
void adapter_store_deinit(struct adapter_store *s);

/* Reads the directory (slow), then publishes it under `name` at once. STATUS_INVALID for a bad
 * name, STATUS_LIMIT for one adapter too many, STATUS_NO_ROOM for one that the device can never
 * hold, and whatever the source says; then nothing has changed. With a root the directory is `path`
 * of it and never leaves it (lora_open_beneath). */
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
/* Another host_budget, from the next turn on. */
void adapter_store_set_budget(struct adapter_store *s, size_t bytes);
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
/* See engine_adapters; the lock is let go between a few. */
int adapter_store_list(struct adapter_store *s, struct engine_adapter_info *out, int max);
/* See engine_adapter_find and engine_adapter_users. */
WARN_UNUSED enum status adapter_store_find(struct adapter_store *s, const char *name,
                                           struct engine_adapter_info *out);
int adapter_store_users(struct adapter_store *s, const char *name, uint64_t generation);
/* [A-Za-z0-9._-]{1,64} */
bool adapter_store_name_ok(const char *name);

/* ---- for the tiers, with the lock held ---- */

/* Takes a generation that nobody can reach off the list. Returns it when the caller shall free it
 * after unlocking, NULL when it is used, being read or in a slot. */
struct adapter *adapter_store_retire(struct adapter_store *s, struct adapter *a);
/* Without the lock; NULL is allowed. Giving 50 MB back to the system takes milliseconds, so where a
 * loader runs it does that: callers may be the engine thread. */
void adapter_store_free(struct adapter_store *s, struct adapter *a);
/* Frees what was left to the loader, on the calling thread. Without the lock. */
void adapter_store_free_buried(struct adapter_store *s);

#endif
