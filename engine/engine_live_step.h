/* engine_live_step: how the step loop keeps records of its steps (engine_live.h). Engine thread. */
#ifndef CHORUS_ENGINE_LIVE_STEP_H
#define CHORUS_ENGINE_LIVE_STEP_H

struct engine;
struct engine_flight;

/* The step is packed: notes who shares it. */
void engine_live_begin(struct engine *e, struct engine_flight *f);
/* It has ended and is counted; `pages` were held meanwhile. Costs a copy of some hundred bytes. */
void engine_live_record(struct engine *e, struct engine_flight *f, int pages, int tokens_out);

#endif
