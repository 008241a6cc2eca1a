/* engine_seqs: the lists that sequences are in, and how they leave them. Inside the engine only;
 * engine thread. */
#ifndef CHORUS_ENGINE_SEQS_H
#define CHORUS_ENGINE_SEQS_H

#include "engine/engine_internal.h"

/* A list in order of arrival; it has room, or the sequence is in it. */
void engine_seqs_insert(struct seq **list, int *count, struct seq *s);
void engine_seqs_remove(struct seq **list, int *count, const struct seq *s);
/* With the lock held, after a push into a box that had `before` events. */
void engine_seqs_ready(struct engine *e, struct seq *s, int before);
/* Pages and slots; the sequence begins anew. */
void engine_seqs_give_back(struct engine *e, struct seq *s);

/* Takes a sequence out of the lists, gives everything back, and pushes its terminal event: the last
 * time the engine thread touches it. */
void engine_seqs_end(struct engine *e, struct seq *s, enum engine_event_kind kind,
                     enum engine_finish finish, const struct err *err);
void engine_seqs_error(struct engine *e, struct seq *s, const struct err *err);
void engine_seqs_fail_all(struct engine *e, const struct err *err);
/* The backend failed: nothing that is on the device can be trusted any more. */
void engine_seqs_lose(struct engine *e, enum status st, const char *phase, const struct err *why);

#endif
