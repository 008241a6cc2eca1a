/* hub_pull: brings one revision of a repository into the cache: list, choose, ask each file's hash
 * and size, fetch what is missing, check, link, and name the revision last. One thread.
 *
 * A file is fetched from where its part ends, by Range. What came is hashed as it comes (a part
 * that was there before, first), so nothing gets its final name unchecked; a part that turns out
 * wrong is fetched once more from its beginning.
 */
#ifndef CHORUS_SERVER_HUB_PULL_H
#define CHORUS_SERVER_HUB_PULL_H

#include "server/hub_fetch.h"
#include "server/hub_files.h"

struct hub_progress {
    const char *file; /* borrowed for the call */
    int number;       /* of this file, from 1 */
    int count;
    uint64_t file_done;
    uint64_t file_bytes;
    uint64_t done; /* over all files */
    uint64_t bytes;
    uint64_t fetched; /* over the network, since the start */
    bool finished;    /* this file is there */
};

struct hub_pull {
    struct hub_fetch *fetch;
    const char *cache;
    const struct hub_id *id;
    bool all;
    const char *const *patterns; /* [pattern_count] */
    int pattern_count;
    /* `p` changed. May be called often. */
    void (*progress)(void *ctx, const struct hub_progress *p);
    void *ctx;
};

struct hub_pulled {
    char commit[HUB_HASH_BYTES];
    int files;
    uint64_t bytes;   /* of these files */
    uint64_t fetched; /* that came over the network */
    bool adapter;     /* it is one */
    bool model;       /* it has a model's weights */
};

/* STATUS_NOT_FOUND, STATUS_FORBIDDEN, STATUS_BUSY, STATUS_IO, STATUS_BAD_FILE (the bytes are not
 * those that the hub listed), STATUS_NO_ROOM, STATUS_CANCELLED: what is there stays for the next
 * pull. `out->fetched` is set in every case. */
WARN_UNUSED enum status hub_pull_run(const struct hub_pull *p, struct hub_pulled *out,
                                     struct err *e);

#endif
