/* listener: the TCP socket a server listens on. */
#ifndef CHORUS_SERVER_LISTENER_H
#define CHORUS_SERVER_LISTENER_H

#include <stdbool.h>

#include "engine/base/status.h"

struct listener {
    int fd;
    int port;      /* the real one, also when 0 was asked for */
    bool loopback; /* only this machine can connect */
};

/* Binds and listens on one address of `host` (a name or a number; IPv6 without brackets), port 0
 * for any. The caller closes fd. */
WARN_UNUSED enum status listener_open(const char *host, int port, struct listener *out,
                                      struct err *e);

#endif
