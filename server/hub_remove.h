/* hub_remove: takes a repository, or one revision of it, out of the Hugging Face cache. Works on
 * open directories without following links, so nothing outside is touched. One thread. */
#ifndef CHORUS_SERVER_HUB_REMOVE_H
#define CHORUS_SERVER_HUB_REMOVE_H

#include <stdint.h>

#include "server/hub_cache.h"

/* Removes the revision `commit` with its refs and the blobs that no other snapshot uses; with
 * `commit` NULL, or when it was the last one, the whole repository with its parts of downloads.
 * *freed gets the bytes. STATUS_BUSY: something is being downloaded into it; STATUS_NOT_FOUND;
 * STATUS_FORBIDDEN: the repository's directory is a link. */
WARN_UNUSED enum status hub_remove(const char *cache, const struct hub_id *id, const char *commit,
                                   uint64_t *freed, struct err *e);

#endif
