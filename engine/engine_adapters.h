/* engine_adapters: the door for adapters: names that come, change, are blended and go.
 *
 * A name points to a generation: the bytes that were read when it was added. A generation never
 * changes and its number is never used again; adding under an existing name makes a new one and
 * requests that began keep theirs. Any thread. What reads files is slow: call it from a pool
 * thread.
 */
#ifndef CHORUS_ENGINE_ADAPTERS_H
#define CHORUS_ENGINE_ADAPTERS_H

#include "engine/engine_adapter_data.h"

struct engine;

/* Reads, checks completely and publishes an adapter. STATUS_INVALID for a bad name or share,
 * STATUS_LIMIT for one adapter too many, STATUS_NO_ROOM for one that is larger than what the device
 * has for adapters, else what is wrong with the files; then nothing has changed. */
WARN_UNUSED enum status engine_adapter_put(struct engine *e, const struct engine_adapter_spec *spec,
                                           uint64_t *generation, struct err *err);
/* engine_adapter_put without root, pin or share. */
WARN_UNUSED enum status engine_adapter_add(struct engine *e, const char *name, const char *path,
                                           uint64_t *generation, struct err *err);
WARN_UNUSED enum status engine_adapter_add_beneath(struct engine *e, const char *name,
                                                   const char *root, const char *path,
                                                   uint64_t *generation, struct err *err);

/* A voice made of others: `parts` [1 .. LIMIT_ADAPTERS_PER_REQUEST], distinct names that exist and
 * are no blends, weights as in a request. A request for it uses the generations that its parts have
 * when it is submitted, with their weights times its own. Replaces what had the name.
 * STATUS_ADAPTER_NOT_FOUND, STATUS_INVALID, STATUS_LIMIT. */
WARN_UNUSED enum status engine_adapter_blend(struct engine *e, const char *name,
                                             const struct engine_adapter_use *parts, int count,
                                             uint64_t *generation, struct err *err);

/* The name is gone at once; its bytes go at the last user's end. STATUS_ADAPTER_NOT_FOUND. */
WARN_UNUSED enum status engine_adapter_remove(struct engine *e, const char *name, struct err *err);
/* As engine_adapter_remove, then waits for its users, for wait_ms at most (0: not at all), and
 * tells who is left. Nobody is cut off: after the deadline it drains on, as engine_adapters shows.
 */
WARN_UNUSED enum status engine_adapter_drain(struct engine *e, const char *name, int wait_ms,
                                             struct engine_adapter_left *left, struct err *err);

/* Up to max generations and blends in name order, draining ones too; returns how many there are.
 * Nobody is kept waiting while it looks, so what comes or goes meanwhile may be told or not. */
int engine_adapters(struct engine *e, struct engine_adapter_info *out, int max);
/* What a name leads to; `out` may be NULL. STATUS_ADAPTER_NOT_FOUND. */
WARN_UNUSED enum status engine_adapter_find(struct engine *e, const char *name,
                                            struct engine_adapter_info *out);
/* How many requests hold a generation, which may be draining. */
int engine_adapter_users(struct engine *e, const char *name, uint64_t generation);
/* "q_proj" ... of bit `bit` of engine_adapter_info.targets; NULL: there is no such bit. */
const char *engine_adapter_target(int bit);

/* A dry run: reads and checks, adds nothing. A refusal is in the report; the status is about the
 * report itself (STATUS_NO_MEMORY). The caller ends *out with engine_adapter_report_deinit. */
WARN_UNUSED enum status engine_adapter_check(struct engine *e, const char *root, const char *path,
                                             struct engine_adapter_report *out, struct err *err);
void engine_adapter_report_deinit(struct engine_adapter_report *r);

/* engine_options.host_adapter_bytes from now on (0: the default); what is kept beyond goes when it
 * is no longer asked for. */
void engine_adapter_memory(struct engine *e, size_t bytes);

#endif
