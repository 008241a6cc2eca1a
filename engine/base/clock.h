/* clock: time for measuring, and wall time for people. Any thread. */
#ifndef CHORUS_BASE_CLOCK_H
#define CHORUS_BASE_CLOCK_H

#include <stdint.h>

/* Nanoseconds of a clock that never goes back. */
int64_t clock_now_ns(void);
/* CPU time that the calling thread has used, nanoseconds: for budgets that a busy machine must not
 * eat. */
int64_t clock_thread_cpu_ns(void);
/* Seconds since the Unix epoch. */
int64_t clock_unix_s(void);

#endif
