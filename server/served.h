/* served: snapshots of the adapters that the engine has. Any thread. */
#ifndef CHORUS_SERVER_SERVED_H
#define CHORUS_SERVER_SERVED_H

#include <stdbool.h>

#include "engine/engine.h"

/* All of them in name order, `draining` ones too or not; the caller frees *out (NULL when there is
 * none). -1: out of memory. */
int served_list(struct engine *e, bool draining, struct engine_adapter_info **out);

#endif
