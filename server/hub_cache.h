/* hub_cache: names and places of the Hugging Face cache, which Chorus shares with huggingface_hub:
 *
 *   <cache>/models--<org>--<name>/refs/<revision>          a text file: the commit
 *                                 snapshots/<commit>/<file>  -> ../../blobs/<etag>
 *                                 blobs/<etag>             the bytes; <etag>.incomplete: not yet
 * all <cache>/.locks/models--<org>--<name>/<etag>.lock       flock(2) of who writes a blob
 *
 * Only looks; hub_store.h writes. An <etag> is the SHA-256 of large files and git's SHA-1 of small
 * ones. Pure functions and reads, any thread.
 */
#ifndef CHORUS_SERVER_HUB_CACHE_H
#define CHORUS_SERVER_HUB_CACHE_H

#include <stdbool.h>
#include <stddef.h>

#include "config/hub_settings.h"
#include "engine/base/status.h"

#define HUB_NAME_BYTES     200 /* org/name: each part has 96 at most on the hub */
#define HUB_REVISION_BYTES 128
#define HUB_HASH_BYTES     65

struct hub_id {
    char name[HUB_NAME_BYTES];         /* org/name, or a single name */
    char revision[HUB_REVISION_BYTES]; /* branch, tag or commit; "main" where none was given */
    bool revised;                      /* a revision was given */
};

/* "org/name[:revision]" as the hub allows it; false for anything else. */
bool hub_id_parse(const char *text, struct hub_id *out);
/* A name of a file in a repository that may become a path: relative, UTF-8, no control characters,
 * no backslash, at most 16 parts, none of them empty, "." or "..". */
bool hub_file_name_ok(const char *name);
/* 40 or 64 lower-case hexadecimal digits: a commit, or the hash of a blob. */
bool hub_hash_ok(const char *text);

/* Directory name of a repository: "models--org--name". */
void hub_folder_name(const struct hub_id *id, char out[HUB_NAME_BYTES + 16]);
/* The reverse: false for what holds no model (datasets, locks). */
bool hub_folder_parse(const char *folder, char name[HUB_NAME_BYTES]);
/* The repository of ".../models--org--name/snapshots/<commit>", which may end in slashes; false for
 * other paths. */
bool hub_snapshot_parse(const char *path, char name[HUB_NAME_BYTES], char commit[HUB_HASH_BYTES]);

/* The commit that id->revision means in the cache: a ref, a commit, or a commit's beginning of at
 * least seven digits that only one has. STATUS_NOT_FOUND with what to do. */
WARN_UNUSED enum status hub_cache_commit(const char *cache, const struct hub_id *id,
                                         char commit[HUB_HASH_BYTES], struct err *e);
/* What --model means: a path that exists stays; org/name[:revision] becomes its snapshot in the
 * cache; anything else stays too, for its reader to refuse. Never downloads. STATUS_NOT_FOUND:
 * neither a path nor in the cache. */
WARN_UNUSED enum status hub_model_find(const char *model, char out[HUB_PATH_BYTES], struct err *e);

#endif
