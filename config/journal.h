/* journal: whether what this process writes to stderr goes to systemd's journal. */
#ifndef CHORUS_CONFIG_JOURNAL_H
#define CHORUS_CONFIG_JOURNAL_H

#include <stdbool.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

/* JOURNAL_STREAM names the device and inode of the stream that systemd made; a stderr that was
 * redirected since is another. */
bool journal_is_stderr(void);

#endif
