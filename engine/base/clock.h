/* clock: time for measuring, and wall time for people. Any thread. */
#ifndef CHORUS_BASE_CLOCK_H
#define CHORUS_BASE_CLOCK_H

#include <stdint.h>

/* Nanoseconds of a clock that never goes back. */
int64_t clock_now_ns(void);
/* Seconds since the Unix epoch. */
int64_t clock_unix_s(void);

#endif
