/* engine_trace: where the engine thread's time between the tokens of one step and those of the next
 * went, told by a line of the log (debug) for each gap that is longer than usual. Engine thread; at
 * other log levels it does nothing. */
#ifndef CHORUS_ENGINE_TRACE_H
#define CHORUS_ENGINE_TRACE_H

#include <stdint.h>

struct engine;

enum engine_phase {
    ENGINE_PHASE_DRAIN,    /* what happened outside, adapters that came or went */
    ENGINE_PHASE_SCHEDULE, /* the plan, room for adapters */
    ENGINE_PHASE_LAUNCH,   /* packing the step and handing it over */
    ENGINE_PHASE_WAIT,     /* for the device */
    ENGINE_PHASE_EMIT,     /* tokens to events */
    ENGINE_PHASE_REST,     /* between turns, and their ends */
    ENGINE_PHASES
};

struct engine_trace {
    int64_t mark_ns; /* of the last mark; 0: none */
    int64_t told_ns; /* when the last step's tokens were told; 0: nothing to go by */
    int64_t phase_ns[ENGINE_PHASES]; /* since then */
    int64_t usual_ns;                /* a running mean of gaps */
    int turns;                       /* like the next, since then */
    int behind;                      /* steps that were launched with one in flight */
    int emptied;                     /* launches that found nothing in flight */
    int placed;                      /* adapters that were given room, */
    int usable;                      /* that became usable, */
    int gone;                        /* and that left */
};

/* The time since the last mark was spent in `phase`. */
void engine_trace_mark(struct engine *e, enum engine_phase phase);
/* A step is launched now. */
void engine_trace_launch(struct engine *e);
/* The tokens of a step were told. */
void engine_trace_told(struct engine *e);
/* The thread sleeps now: the next gap says nothing. */
void engine_trace_idle(struct engine *e);

#endif
