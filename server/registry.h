/* registry: what clients registered, in a file that outlives the server.
 *
 * One file a model in the state directory, written whole (a new file, synced, renamed over the old
 * one), so a reader or a crash finds the old text or the new one. It is taken for this process
 * alone: a second server of the same model serves without it and says so. A file that cannot be
 * read is left as it is and nothing is written. One thread at a time.
 */
#ifndef CHORUS_SERVER_REGISTRY_H
#define CHORUS_SERVER_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>

#include <cjson/cJSON.h>

#include "engine/base/status.h"
#include "engine/engine_adapters.h"

struct registry_item {
    char name[LIMIT_NAME_BYTES + 1];
    char path[512]; /* "": a blend of `parts` */
    bool pinned;
    bool plain;    /* its profile is left aside */
    char *profile; /* what stands for its profile, as JSON; owned; NULL: its own */
    int share;
    enum engine_adapter_quant quant;
    int part_count;
    struct engine_adapter_part parts[LIMIT_ADAPTERS_PER_REQUEST];
};

struct registry;

/* `dir` (made when something is to be written) holds the file of `model_dir`. */
WARN_UNUSED enum status registry_create(const char *dir, const char *model_dir,
                                        struct registry **out, struct err *e);
/* Writes nothing. NULL is allowed. */
void registry_destroy(struct registry *r);
/* JSON text of a value; the caller frees it. NULL: out of memory. */
char *registry_text_of(const cJSON *v);
/* The member "quant" of an object; absent: the default. STATUS_INVALID. */
WARN_UNUSED enum status registry_read_quant(const cJSON *obj, enum engine_adapter_quant *out,
                                            struct err *e);
void registry_item_deinit(struct registry_item *it);
/* What the file says; the caller frees *out, and each item's profile. No file: nothing.
 * STATUS_BAD_FILE, STATUS_IO, STATUS_CONFLICT (another server has it), STATUS_NO_MEMORY: from now
 * on nothing is written. */
WARN_UNUSED enum status registry_load(struct registry *r, struct registry_item **out, size_t *count,
                                      struct err *e);
/* Replaces the file. STATUS_IO, STATUS_CONFLICT, STATUS_NO_MEMORY: it is as before. */
WARN_UNUSED enum status registry_save(struct registry *r, const struct registry_item *items,
                                      size_t count, struct err *e);
const char *registry_path(const struct registry *r);

#endif
