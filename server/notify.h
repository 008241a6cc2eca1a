/* notify: one-way messages to the service manager that started this process (sd_notify's
 * protocol: assignments in one datagram to $NOTIFY_SOCKET). Any thread may send. */
#ifndef CHORUS_SERVER_NOTIFY_H
#define CHORUS_SERVER_NOTIFY_H

#include <stdbool.h>

#include "engine/base/status.h"

struct notify; /* a socket; NULL where nobody listens */

/* `path` as in struct supervisor; "" gives NULL. Refused: no socket can be had. */
WARN_UNUSED enum status notify_open(const char *path, struct notify **out, struct err *e);
void notify_close(struct notify *n);

/* Sends `text`, assignments a line. Waits for nothing. False: it was not taken and may be sent
 * again; with n NULL true. */
bool notify_send(const struct notify *n, const char *text);

#endif
