/* engine_schedule: a turn's second phase: who takes part in the step. Shows the policy (sched.h)
 * what there is, and does what its plan says: preempts, begins loads, admits, takes pages.
 *
 * Nothing is preempted and no slot closed for another's turn while a step is in flight: the phase
 * then schedules nobody, and comes again when that step was told. Engine thread.
 */
#ifndef CHORUS_ENGINE_SCHEDULE_H
#define CHORUS_ENGINE_SCHEDULE_H

#include <stdbool.h>

struct engine;
struct engine_flight;

/* Fills f's seqs, count and begin_ns; their rows are in e->plan. True: something was preempted, so
 * that the next turn may find more to do. */
bool engine_schedule(struct engine *e, struct engine_flight *f);

#endif
