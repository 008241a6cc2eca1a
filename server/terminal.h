/* terminal: whether this process still has the terminal that it was started on. A closed terminal
 * sends SIGHUP as an operator does who wants the settings read again; only the former ends us. */
#ifndef CHORUS_SERVER_TERMINAL_H
#define CHORUS_SERVER_TERMINAL_H

#include <stdbool.h>

bool terminal_is_here(void);

#endif
