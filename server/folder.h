/* folder: the live adapter directories. What is copied in is served once it is whole, what changes
 * becomes a new generation, what is removed is served no longer.
 *
 * There is no telling when somebody has finished writing, so nothing is believed: a directory whose
 * files have not changed for a moment is tried, and the engine's check decides (complete or
 * refused). What does not bind is left alone until its files change again; when it stays so for
 * some seconds, one line says why. Watches only say when to look; a slow look makes up for those
 * that are missing. A directory that was renamed into place is taken as one; files that are
 * replaced one after the other may bind half new in between.
 *
 * folder_scan runs in the keeper's lane (or before it begins), folder_watch on the loop while no
 * scan runs.
 */
#ifndef CHORUS_SERVER_FOLDER_H
#define CHORUS_SERVER_FOLDER_H

#include <stdbool.h>

#include "server/adapter_roots.h"
#include "server/loop.h"

struct folder;

struct folder_handlers {
    void *ctx;
    /* Whether the name belongs to somebody else, so that what lies here is left alone. */
    bool (*taken)(void *ctx, const char *name);
    enum status (*add)(void *ctx, const char *name, const char *root, const char *rest,
                       struct err *e);
    /* What was found under the name is gone; it may belong to somebody else by now. */
    void (*remove)(void *ctx, const char *name);
    void (*changed)(void *ctx); /* a watch saw something; loop thread */
};

/* `roots` is borrowed until folder_destroy. NULL: out of memory. */
struct folder *folder_create(const struct adapter_roots *roots, const struct folder_handlers *h);
void folder_destroy(struct folder *f);

/* Looks at every live directory and does what has settled. `first`: at start, what is there counts
 * as settled and a refusal is told at once. True: something has not settled, look again soon. */
bool folder_scan(struct folder *f, bool first);
/* The name was removed by somebody: what lies here now under it is not served again, unless it
 * changes. Lane. */
void folder_hide(struct folder *f, const char *name);
/* Watches what the last scan saw. */
void folder_watch(struct folder *f, struct loop *l);
void folder_unwatch(struct folder *f);

#endif
