/* keeper_names: what is written down of each name that is served: where it came from, its
 * generation and profile; why the last try under a name failed; who speaks by default.
 *
 * The engine learns of a generation first and the name is written down a moment later; `pending`
 * bridges that moment, so that whoever asks always finds what belongs to the engine's generation.
 *
 * Threads: functions above the line from any; those below it inside the keeper's lane. The lock is
 * never held while files are read.
 */
#ifndef CHORUS_SERVER_KEEPER_NAMES_H
#define CHORUS_SERVER_KEEPER_NAMES_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "server/profile.h"
#include "server/registry.h"

#define KEEPER_FAILURES_MAX 64

enum keeper_source {
    KEEPER_START,  /* named on the command line; never changes */
    KEEPER_FOLDER, /* found in a live directory */
    KEEPER_CLIENT  /* registered */
};

struct keeper_entry {
    struct registry_item item; /* of a client's adapter all of it, else the name; owned */
    enum keeper_source source;
    uint64_t generation;
    struct profile *profile; /* counted; NULL: none */
    bool dormant;            /* registered, but it could not be added at start */
};

struct keeper_failure {
    char name[LIMIT_NAME_BYTES + 1]; /* "": free */
    struct err err;
};

struct keeper_facts {
    enum keeper_source source;
    bool has_profile;
};

struct keeper_names {
    struct engine *engine;        /* borrowed; NULL until it is open */
    pthread_mutex_t lock;         /* covers what follows */
    struct keeper_entry *entries; /* owned, [count] in no order */
    size_t count;
    size_t cap;
    const struct keeper_entry *pending; /* borrowed; what is about to be published, or NULL */
    struct keeper_failure failures[KEEPER_FAILURES_MAX]; /* a ring */
    int failure_next;
    struct engine_adapter_use scales[LIMIT_ADAPTERS_PER_REQUEST];
    int scale_count; /* -1: nothing was set */
};

WARN_UNUSED enum status keeper_names_init(struct keeper_names *n, struct err *e);
void keeper_names_deinit(struct keeper_names *n);

const char *keeper_names_source(enum keeper_source source);
/* False: no such name. */
bool keeper_names_facts(struct keeper_names *n, const char *name, struct keeper_facts *out);
/* The profile of a name's current generation, counted for the caller; NULL: it has none.
 * STATUS_ADAPTER_NOT_FOUND, STATUS_NO_MEMORY. */
WARN_UNUSED enum status keeper_names_profile(struct keeper_names *n, const char *name,
                                             struct profile **out, uint64_t *generation);
/* The generation that the name leads to; 0: to none. */
uint64_t keeper_names_generation(struct keeper_names *n, const char *name);
/* Why the last try to add under a name came to nothing; a success forgets it. False: it did not. */
bool keeper_names_failure(struct keeper_names *n, const char *name, struct err *out);
/* Who speaks where a request names nobody: [count] of LIMIT_ADAPTERS_PER_REQUEST. One that is
 * removed leaves the set. keeper_names_scales gives -1 while nothing was set. */
void keeper_names_set_scales(struct keeper_names *n, const struct engine_adapter_use *uses,
                             int count);
int keeper_names_scales(struct keeper_names *n, struct engine_adapter_use *uses);

/* ---- lane ---- */

bool keeper_names_is_dormant(struct keeper_names *n, const char *name);
/* Room for one more name, so that what the engine has done can be written down. */
bool keeper_names_reserve(struct keeper_names *n);
/* `made` is about to be published: it stays where it is until keeper_names_put, or until NULL. */
void keeper_names_expect(struct keeper_names *n, const struct keeper_entry *made);
/* Takes what `made` owns; nothing is expected any more. Room was reserved. */
void keeper_names_put(struct keeper_names *n, const struct keeper_entry *made);
void keeper_names_drop(struct keeper_names *n, const char *name);
/* `e` NULL: forget it. */
void keeper_names_note_failure(struct keeper_names *n, const char *name, const struct err *e);
/* What clients registered, whose strings stay the entries'; the caller frees the list. NULL: out of
 * memory. */
struct registry_item *keeper_names_registered(struct keeper_names *n, size_t *count);

#endif
