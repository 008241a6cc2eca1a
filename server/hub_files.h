/* hub_files: what a repository holds, as the hub lists it, and which of it Chorus needs.
 *
 * The list is input from outside: a name that could lead out of a folder refuses the whole. Pure;
 * one owner.
 */
#ifndef CHORUS_SERVER_HUB_FILES_H
#define CHORUS_SERVER_HUB_FILES_H

#include <stdint.h>

#include "server/hub_cache.h"

struct hub_file {
    char *name; /* owned */
    bool wanted;
    uint64_t bytes;            /* of the listing, then of the HEAD request; 0 unknown */
    char etag[HUB_HASH_BYTES]; /* of the HEAD request */
};

struct hub_files {
    char commit[HUB_HASH_BYTES];
    struct hub_file *list; /* owned, [count] */
    size_t count;
};

/* The answer to /api/models/<name>/revision/<revision>?blobs=true. STATUS_BAD_FILE for what is no
 * such answer. Ended by hub_files_deinit in every case. */
WARN_UNUSED enum status hub_files_parse(const char *text, size_t n, struct hub_files *out,
                                        struct err *e);
void hub_files_deinit(struct hub_files *f);
const struct hub_file *hub_files_find(const struct hub_files *f, const char *name);

/* Marks what is wanted and returns how many: all; what matches one of the patterns (*, ?, [a-z];
 * without a slash they look at the last part of a name); or, without both, what Chorus reads of a
 * model or adapter: safetensors without second copies, configuration, tokenizer, templates. */
size_t hub_files_choose(struct hub_files *f, bool all, const char *const *patterns, int count);

#endif
