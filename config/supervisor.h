/* supervisor: what a service manager (systemd) tells the process that it starts, by environment
 * variables. Read once at start by the main thread; plain data, nothing is owned.
 */
#ifndef CHORUS_CONFIG_SUPERVISOR_H
#define CHORUS_CONFIG_SUPERVISOR_H

#include <stdint.h>

#include "engine/base/limits.h"
#include "engine/base/status.h"

#define SUPERVISOR_FIRST_FD   3   /* sockets that were passed: 3, 4, ... */
#define SUPERVISOR_PATH_BYTES 108 /* of sockaddr_un */
#define SUPERVISOR_NAME_BYTES 256

struct supervisor {
    /* NOTIFY_SOCKET: a path, or '@' and a name in the abstract namespace; "": nobody listens. */
    char notify[SUPERVISOR_PATH_BYTES];
    int64_t watchdog_us; /* WATCHDOG_USEC, if WATCHDOG_PID is this process or absent; 0: none */
    int socket_count;    /* LISTEN_FDS, if LISTEN_PID is this process */
    char socket_names[LIMIT_LISTENERS][SUPERVISOR_NAME_BYTES]; /* LISTEN_FDNAMES; "": not named */
};

/* A value that cannot be meant is STATUS_INVALID with the variable in e->param. */
WARN_UNUSED enum status supervisor_read(struct supervisor *out, struct err *e);

#endif
