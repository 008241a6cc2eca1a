/* hub_walk: everything below an open directory, each directory after what lies in it. Links are
 * shown, never followed. Any thread; no recursion.
 */
#ifndef CHORUS_SERVER_HUB_WALK_H
#define CHORUS_SERVER_HUB_WALK_H

#include <stdbool.h>

#include "engine/base/status.h"

#define HUB_WALK_DEPTH 24 /* a file's 16 parts, and the layout around them */
#define HUB_WALK_BYTES 4096

struct hub_entry {
    int at;           /* the open directory it is in */
    const char *name; /* its name there */
    const char *path; /* from where the walk began */
    bool directory;   /* what lay in it has been shown */
};

/* False from `visit` ends the walk, which is OK then too. STATUS_LIMIT: deeper than
 * HUB_WALK_DEPTH. */
WARN_UNUSED enum status hub_walk(int fd, bool (*visit)(void *ctx, const struct hub_entry *entry),
                                 void *ctx, struct err *e);
/* The same for the directory `name` in `at`; one that is not there, or is a link, holds nothing. */
WARN_UNUSED enum status hub_walk_at(int at, const char *name,
                                    bool (*visit)(void *ctx, const struct hub_entry *entry),
                                    void *ctx, struct err *e);

#endif
