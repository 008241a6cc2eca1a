/* api_live: the routes that show a server at work: GET /v1/status, all at one moment, and GET
 * /v1/steps, the engine's steps as events while somebody watches. Neither tells a prompt or an
 * answer. Loop thread.
 *
 * All who watch get the same frame, ten a second at most, made once. Who reads too slowly misses
 * frames (the steps' numbers show it) and is cut like any stream that makes no progress.
 */
#ifndef CHORUS_SERVER_API_LIVE_H
#define CHORUS_SERVER_API_LIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "server/rates.h"

struct call;
struct loop_timer;
struct server;

struct live {
    int64_t started_ns;
    struct rates rates;
    struct call *watchers; /* calls of GET /v1/steps, by next_watcher */
    int watcher_count;
    struct loop_timer *timer; /* owned; runs while somebody watches */
    uint64_t step_told;       /* number of the last step that was written */
    int64_t written_ns;
};

void api_live_status(struct call *c, const char *tail);
void api_live_steps(struct call *c, const char *tail);

/* False: out of memory. */
bool api_live_init(struct server *s);
void api_live_deinit(struct server *s);
/* Several times a second. */
void api_live_on_tick(struct server *s, int64_t now_ns);
/* The exchange of a call is over. */
void api_live_on_end(struct call *c);
/* The server ends: so do the streams. */
void api_live_drain(struct server *s);

#endif
