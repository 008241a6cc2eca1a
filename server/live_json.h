/* live_json: what a server is doing, as JSON. Loop thread. */
#ifndef CHORUS_SERVER_LIVE_JSON_H
#define CHORUS_SERVER_LIVE_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/strbuf.h"
#include "engine/engine_adapters.h"
#include "engine/engine_live.h"

struct server;

/* The part of GET /v1/status that grows with the adapters. Any thread. */
void live_json_adapters(const struct server *s, const struct engine_adapter_info *list, int count,
                        struct strbuf *b);
/* The answer of GET /v1/status; `adapters`: that part, NULL where there is no model yet. False: out
 * of memory. */
bool live_json_status(struct server *s, int64_t now_ns, const struct strbuf *adapters,
                      struct strbuf *b);
/* The data of an event of GET /v1/steps. */
void live_json_steps(struct server *s, int64_t now_ns, const struct engine_step *steps, int count,
                     struct strbuf *b);

#endif
