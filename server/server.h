/* server: a model behind HTTP. One call that returns when the server ended.
 *
 * It listens first (GET /health says 503 while the model loads), opens the engine on a thread of
 * its own, serves, and on SIGINT or SIGTERM drains: running answers finish, waiting ones get an
 * error. A second signal ends it at once.
 */
#ifndef CHORUS_SERVER_SERVER_H
#define CHORUS_SERVER_SERVER_H

#include <stddef.h>

#include "config/supervisor.h"
#include "engine/base/status.h"
#include "engine/engine.h"
#include "server/http.h"
#include "server/keeper.h"
#include "server/service.h"

/* Borrowed until server_run returns. */
struct server_options {
    const char *host;
    int port; /* 0: the system chooses */
    /* Sockets that were handed over, instead of host and port; the server closes them. */
    const struct listener *listeners;
    int listener_count;                  /* 0: none were */
    const struct supervisor *supervisor; /* NULL: nobody to tell */
    struct service_progress *progress;   /* that `open` writes; NULL: it tells nothing */
    struct http_limits http;
    const char *const *hosts; /* more names for Host */
    int host_count;
    const char *const *origins; /* web origins that may call */
    int origin_count;
    const char *api_key_file;    /* "" or NULL: no key is asked for */
    const char *served_name;     /* "" or NULL: the model directory's name */
    const char *default_adapter; /* "" or NULL: the base */
    struct keeper_options adapters;
    int adapter_slots; /* what the engine keeps resident at once, to be told */
    int seats;         /* sequences in the engine at once (fair.h); 0: no bound */
    int seats_reserve; /* and so many more for clients that have none */
    int queue;         /* requests of one client that may wait for a seat */
    int drain_ms;
    int ping_ms;           /* silence of a stream before a comment */
    size_t adapter_memory; /* of the host, for adapters; 0: the engine's default */
    int log_slow_ms;       /* requests that took this long get a line more; 0: none */
    bool log_prompts;      /* a line with each prompt */
    int stall_ms;          /* age of the engine's last beat that makes /health 503 */
    /* Opens the engine with its adapters; called once, on a thread of its own. `notify` goes into
     * engine_options. */
    enum status (*open)(void *ctx, void (*notify)(void *notify_ctx), void *notify_ctx,
                        struct engine **out, struct err *e);
    /* The port is bound; the model is not loaded yet. May be NULL. Loop thread, as all below. */
    void (*on_listening)(void *ctx, int port);
    /* Requests are served from now on. May be NULL. A failure ends the server. */
    enum status (*on_ready)(void *ctx, int port, struct engine *engine, const char *model,
                            struct err *e);
    /* SIGHUP; NULL: nothing is read again. Reads the settings on a pool thread: what they would be,
     * borrowed until reload_end, which follows on the loop. There `adopt` says whether they hold
     * from now on (*now, else NULL, is what holds then, borrowed as these options are). */
    enum status (*reload)(void *ctx, struct server_options *next, struct err *e);
    void (*reload_end)(void *ctx, bool adopt, struct server_options *now);
    void *ctx;
};

/* STATUS_OK: ended by a signal. Else the reason, found at start. */
WARN_UNUSED enum status server_run(const struct server_options *opt, struct err *e);

#endif
