/* hub_scan: what the Hugging Face cache holds: every snapshot of every model repository, and what
 * of a download is not yet whole. Reads names, links and sizes, no contents beside refs. Any
 * thread.
 */
#ifndef CHORUS_SERVER_HUB_SCAN_H
#define CHORUS_SERVER_HUB_SCAN_H

#include <stdint.h>

#include "server/hub_cache.h"

#define HUB_REFS_BYTES 160

struct hub_snapshot {
    char name[HUB_NAME_BYTES];
    char commit[HUB_HASH_BYTES];
    char refs[HUB_REFS_BYTES]; /* "main, v2": as many as fit; "" for none */
    uint64_t bytes;            /* of the blobs it links */
    int files;
    int broken;     /* links that lead to nothing */
    int64_t used_s; /* latest access to one of them, as far as the file system keeps it */
};

/* Downloads into one repository that have not come to their end. */
struct hub_partial {
    char name[HUB_NAME_BYTES];
    int files;
    uint64_t bytes; /* that are there */
};

struct hub_scan {
    struct hub_snapshot *snapshots; /* owned; by name, then latest use first */
    size_t snapshot_count;
    struct hub_partial *partials; /* owned; by name */
    size_t partial_count;
};

/* A cache that is not there is empty. Ended by hub_scan_deinit in every case. */
WARN_UNUSED enum status hub_scan_run(const char *cache, struct hub_scan *out, struct err *e);
void hub_scan_deinit(struct hub_scan *s);
/* NULL: every download into it is whole. */
const struct hub_partial *hub_scan_partial(const struct hub_scan *s, const char *name);

#endif
