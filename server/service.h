/* service: what the service manager hears of a running server, and when. STATUS= while loading and
 * serving, EXTEND_TIMEOUT_USEC= as long as loading goes on, READY=1, RELOADING=1, STOPPING=1, and
 * WATCHDOG=1 only while the loop turns and the engine thread makes progress. Loop thread.
 */
#ifndef CHORUS_SERVER_SERVICE_H
#define CHORUS_SERVER_SERVICE_H

#include <stdatomic.h>
#include <stdint.h>

#include "engine/base/status.h"

struct server;
struct service; /* NULL where no manager listens; every function below allows it */

/* How far loading is: written by the loading thread, read by the loop. */
struct service_progress {
    _Atomic(const char *) what; /* static text; NULL: nothing yet */
    atomic_int percent;
    atomic_uint steps; /* counts up with every sign of progress */
};

/* Any thread. */
void service_progress_set(struct service_progress *p, const char *what, int percent);

/* Starts to tell. `s` is what it tells of, until service_destroy. */
WARN_UNUSED enum status service_create(struct server *s, struct service **out, struct err *e);
void service_destroy(struct service *v);

/* Requests are served. Also the end of service_reloading. */
void service_ready(struct service *v);
/* Settings are read again; service_ready follows. */
void service_reloading(struct service *v);
/* Running answers may still take `drain_ms`. */
void service_stopping(struct service *v, int drain_ms);

#endif
