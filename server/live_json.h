/* live_json: what a server is doing, as JSON. Loop thread. */
#ifndef CHORUS_SERVER_LIVE_JSON_H
#define CHORUS_SERVER_LIVE_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/strbuf.h"
#include "engine/engine_live.h"

struct server;

/* The answer of GET /v1/status. False: out of memory. */
bool live_json_status(struct server *s, int64_t now_ns, struct strbuf *b);
/* The data of an event of GET /v1/steps. */
void live_json_steps(struct server *s, int64_t now_ns, const struct engine_step *steps, int count,
                     struct strbuf *b);

#endif
