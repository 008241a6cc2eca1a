/* adapter_roots: the directories that adapters may come from, and which of them a path means.
 *
 * The roots are the operator's word; a path is a client's. Whatever it says, only what lies in a
 * root is ever opened: here by its text (no "..", an absolute path begins with a root), and by the
 * engine when it opens it (engine_adapter_add_beneath, links included). Filled once at start, then
 * constant and safe from any thread.
 */
#ifndef CHORUS_SERVER_ADAPTER_ROOTS_H
#define CHORUS_SERVER_ADAPTER_ROOTS_H

#include <stdbool.h>

#include "engine/base/status.h"

#define ADAPTER_ROOTS_MAX  128
#define ADAPTER_PATH_BYTES 512 /* as the engine keeps them, with the end */

struct adapter_root {
    char *path; /* owned, as given, without '/' at the end */
    char *real; /* owned, without links; NULL: it could not be resolved */
    bool live;  /* every adapter in it is served */
};

struct adapter_roots {
    struct adapter_root items[ADAPTER_ROOTS_MAX];
    int count;
};

/* STATUS_IO: it cannot be read; STATUS_LIMIT: one too many. */
WARN_UNUSED enum status adapter_roots_add(struct adapter_roots *r, const char *path, bool live,
                                          struct err *e);
void adapter_roots_deinit(struct adapter_roots *r);

/* Splits a client's path into a root and what lies in it; both borrowed. A relative path means the
 * first root that has it. Touches the file system. STATUS_INVALID: no path; STATUS_FORBIDDEN:
 * outside every root; STATUS_NOT_FOUND: nothing there; param is "path". */
WARN_UNUSED enum status adapter_roots_find(const struct adapter_roots *r, const char *path,
                                           const char **root, const char **rest, struct err *e);

/* A root that adapter_roots_find gave, as a path that means the same wherever the process runs. */
const char *adapter_roots_absolute(const struct adapter_roots *r, const char *root);

#endif
