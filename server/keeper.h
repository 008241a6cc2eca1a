/* keeper: which adapters are served, where each came from, and the one lane in which that changes.
 *
 * A name has one source. Adapters named at start or registered by a client outrank the folder: what
 * lies in a live directory under their name is left alone. Reading adapters is slow, so all that
 * changes anything is a task in a lane that runs one at a time on the pool; what a task did is
 * whole before the next one begins, so names, the engine and the state file never disagree.
 *
 * Threads: create to destroy on the loop thread; keeper_open on the loader's, before anything else
 * happens; "lane" functions inside a task; what follows them from any.
 */
#ifndef CHORUS_SERVER_KEEPER_H
#define CHORUS_SERVER_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "server/adapter_roots.h"
#include "server/keeper_names.h"
#include "server/loop.h"

#define KEEPER_TASKS_MAX 64 /* that wait; each holds a request */

struct keeper;

/* Borrowed until keeper_destroy. */
struct keeper_options {
    const char *const *dirs; /* live adapter directories */
    int dir_count;
    const char *const *roots; /* more directories that clients may register from */
    int root_count;
    const char *state_dir; /* "" or NULL: what clients register is forgotten at the end */
};

struct keeper_spec {
    const char *name;
    const char *path; /* beneath a root; NULL: a blend of `parts` */
    bool pinned;
    int share;
    enum engine_adapter_quant quant;
    struct engine_adapter_part parts[LIMIT_ADAPTERS_PER_REQUEST];
    int part_count;       /* 0: no blend */
    bool plain;           /* its profile is left aside */
    const cJSON *profile; /* an object that stands for its profile; NULL: its own */
    bool keep;            /* an existing name is STATUS_CONFLICT */
};

/* STATUS_IO: a directory cannot be read. */
WARN_UNUSED enum status keeper_create(struct loop *loop, const struct keeper_options *opt,
                                      struct keeper **out, struct err *e);
/* Takes over what the engine has, adds what clients registered in former lives (what cannot be
 * added again is one line of the log and stays registered) and what lies in the live directories.
 */
WARN_UNUSED enum status keeper_open(struct keeper *k, struct engine *engine, struct err *e);
/* From now on tasks run. */
void keeper_start(struct keeper *k);
/* Tasks that wait are dropped without a call of `done`; one that runs is still to be waited for. */
void keeper_stop(struct keeper *k);
bool keeper_is_busy(const struct keeper *k);
/* Not while it is busy. NULL is allowed. */
void keeper_destroy(struct keeper *k);

/* Queues work(ctx) for the lane, then done(ctx) on the loop. STATUS_BUSY: too many wait. */
WARN_UNUSED enum status keeper_run(struct keeper *k, void (*work)(void *ctx),
                                   void (*done)(void *ctx), void *ctx, struct err *e);

/* Lane. *replaced: the name was served before. Statuses of adapter_roots_find and of the engine. */
WARN_UNUSED enum status keeper_add(struct keeper *k, const struct keeper_spec *spec,
                                   uint64_t *generation, bool *replaced, struct err *e);
/* STATUS_CONFLICT: a blend is made of it. */
WARN_UNUSED enum status keeper_remove(struct keeper *k, const char *name, struct err *e);
/* A dry run (engine_adapter_check). */
WARN_UNUSED enum status keeper_check(struct keeper *k, const char *path,
                                     struct engine_adapter_report *out, struct err *e);

/* Borrowed; what is known of each name. */
struct keeper_names *keeper_names_of(struct keeper *k);

#endif
