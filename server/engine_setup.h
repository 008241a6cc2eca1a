/* engine_setup: from settings to a running engine with its adapters; shared by the commands that
 * hold a model. */
#ifndef CHORUS_SERVER_ENGINE_SETUP_H
#define CHORUS_SERVER_ENGINE_SETUP_H

#include "config/options.h"
#include "engine/base/status.h"
#include "engine/engine.h"
#include "server/service.h"

/* Seats of the engine that are kept, beside --max-seqs, for clients that have none (fair.h). */
int engine_setup_reserve(const struct options *o);
/* Log level and form. Before anything that logs. */
void engine_setup_log(const struct options *o);

/* Opens the engine (progress on stderr and, unless NULL, in *progress), then adds each --adapter
 * NAME=PATH; one that is refused is the caller's error. The caller ends *out with engine_close. */
WARN_UNUSED enum status engine_setup_open(const struct options *o, void (*notify)(void *ctx),
                                          void *notify_ctx, struct service_progress *progress,
                                          struct engine **out, struct err *e);
/* Adds every sub-directory of --adapters that holds an adapter_config.json, in name order; one that
 * is refused is one error line and is left out. The server does this itself (keeper.h). */
WARN_UNUSED enum status engine_setup_directories(const struct options *o, struct engine *engine,
                                                 struct err *e);

#endif
