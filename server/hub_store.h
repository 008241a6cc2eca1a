/* hub_store: writes one repository of the Hugging Face cache (hub_cache.h has its layout).
 *
 * Order, so that a reader never finds half a thing: bytes go to blobs/<etag>.incomplete under the
 * blob's lock; checked and synced, that file is renamed to blobs/<etag>; then snapshots/<commit>/
 * gets its link, and last, when all files are there, refs/<revision>. Whatever ends the process in
 * between leaves a state that the next pull goes on from. The locks are flock(2) on the files that
 * huggingface_hub uses, and end with the process.
 *
 * Every step below the repository's directory is made on open directories without following links,
 * so no name leads out of it. One thread.
 */
#ifndef CHORUS_SERVER_HUB_STORE_H
#define CHORUS_SERVER_HUB_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "server/hub_cache.h"

struct hub_store {
    int repo_fd;  /* models--org--name */
    int blobs_fd; /* its blobs/ */
    int locks_fd; /* .locks/models--org--name */
    int use_fd;   /* held shared by pulls, alone by rm */
};

/* An unfinished blob, locked. */
struct hub_part {
    int fd;
    int lock_fd;
    uint64_t bytes; /* that are there */
    char etag[HUB_HASH_BYTES];
};

/* Asked while somebody else's lock is waited for: false gives up (STATUS_CANCELLED). */
struct hub_waiter {
    bool (*wait)(void *ctx, const char *what);
    void *ctx;
};

/* Opens, making what is missing. STATUS_BUSY: an rm of this repository is running. */
WARN_UNUSED enum status hub_store_open(const char *cache, const struct hub_id *id,
                                       struct hub_store *out, struct err *e);
void hub_store_close(struct hub_store *s);

/* True when the blob is there with so many bytes. */
bool hub_store_has(const struct hub_store *s, const char *etag, uint64_t bytes);
/* Bytes of an unfinished blob, without its lock. */
uint64_t hub_store_part_bytes(const struct hub_store *s, const char *etag);
/* Bytes that may still be written to this file system; UINT64_MAX: unknown. */
uint64_t hub_store_room(const struct hub_store *s);

/* Locks a blob, waiting for others, and opens what there is of it. Ended by hub_part_close in every
 * case of STATUS_OK. */
WARN_UNUSED enum status hub_part_open(const struct hub_store *s, const char *etag,
                                      const struct hub_waiter *waiter, struct hub_part *out,
                                      struct err *e);
WARN_UNUSED enum status hub_part_append(struct hub_part *p, const void *data, size_t n,
                                        struct err *e);
/* Back to nothing. */
WARN_UNUSED enum status hub_part_clear(struct hub_part *p, struct err *e);
/* Nothing of it is kept, not even its name. */
void hub_part_drop(const struct hub_store *s, struct hub_part *p);
/* Its bytes are all there and checked: they become the blob. */
WARN_UNUSED enum status hub_part_finish(const struct hub_store *s, struct hub_part *p,
                                        struct err *e);
void hub_part_close(struct hub_part *p);

/* snapshots/<commit>/<file> -> the blob, which must be there. `file` is hub_file_name_ok. */
WARN_UNUSED enum status hub_store_link(const struct hub_store *s, const char *commit,
                                       const char *file, const char *etag, struct err *e);
/* refs/<revision> = commit; nothing for a commit's own name. */
WARN_UNUSED enum status hub_store_ref(const struct hub_store *s, const struct hub_id *id,
                                      const char *commit, struct err *e);

/* Opens the repository's lock files' directory below an open cache. For hub_remove.c. */
WARN_UNUSED enum status hub_store_locks(int cache_fd, const char *folder, int *out, struct err *e);
/* Opens and locks `name` there, alone or shared, without waiting: STATUS_BUSY. */
WARN_UNUSED enum status hub_store_lock(int locks_fd, const char *name, bool alone, int *out,
                                       struct err *e);

#endif
