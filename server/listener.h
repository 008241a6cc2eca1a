/* listener: a socket that a server listens on, of its own or handed over by who started it. */
#ifndef CHORUS_SERVER_LISTENER_H
#define CHORUS_SERVER_LISTENER_H

#include <stdbool.h>

#include "engine/base/status.h"

#define LISTENER_TEXT_BYTES 192

struct listener {
    int fd;
    int port;                       /* the real one, also when 0 was asked for; 0: a Unix socket */
    bool loopback;                  /* only this machine can connect */
    char text[LISTENER_TEXT_BYTES]; /* for people: 127.0.0.1:8080, [::1]:8080, unix:/run/x.sock */
};

/* Binds and listens on one address of `host` (a name or a number; IPv6 without brackets), port 0
 * for any. The caller closes fd. */
WARN_UNUSED enum status listener_open(const char *host, int port, struct listener *out,
                                      struct err *e);

/* Takes over `fd`, which somebody else bound (`name`: what they call it, "" for nothing): it must
 * be a stream socket, TCP or Unix, that listens. Refused it is left open. */
WARN_UNUSED enum status listener_adopt(int fd, const char *name, struct listener *out,
                                       struct err *e);

#endif
