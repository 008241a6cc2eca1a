/* served: snapshots of the adapters that the engine has. Any thread. */
#ifndef CHORUS_SERVER_SERVED_H
#define CHORUS_SERVER_SERVED_H

#include <stdbool.h>

#include "engine/engine.h"

/* All of them in name order, `draining` ones too or not; the caller frees *out (NULL when there is
 * none). -1: out of memory. */
int served_list(struct engine *e, bool draining, struct engine_adapter_info **out);
/* The current generation of a name; `out` may be NULL. STATUS_ADAPTER_NOT_FOUND, STATUS_NO_MEMORY.
 */
WARN_UNUSED enum status served_find(struct engine *e, const char *name,
                                    struct engine_adapter_info *out);
/* How many requests hold a generation of a name, which may be draining. -1: out of memory. */
int served_users(struct engine *e, const char *name, uint64_t generation);

#endif
