/* adapter_host: adapters in host memory: a budget of bytes, least recently used ones go first.
 *
 * The host form is what a slot is filled from: the backend's packed image, or the adapter as it was
 * read where the backend packs nothing. One that is not there is read from disk again, and its
 * SHA-256 must be the generation's: changed files are an error for who asked, never other bytes.
 *
 * What waiting requests need is wanted. Each turn the engine asks for it in order of arrival; what
 * is wanted at once is bounded by the budget (but for the first request's, however large), so it
 * always fits and nobody waits for another's room. Wanted and pinned adapters are not dropped.
 */
#ifndef CHORUS_ADAPTER_ADAPTER_HOST_H
#define CHORUS_ADAPTER_ADAPTER_HOST_H

#include "engine/adapter/adapter_store.h"

/* Any thread; `a` is not published yet. Makes the host form of `lora` and keeps it if the budget
 * has room or `a` is pinned; a->facts.sha256 is known then. Takes lora in every case. */
WARN_UNUSED enum status adapter_host_keep(struct adapter_store *s, struct adapter *a,
                                          struct lora *lora, struct err *e);

enum adapter_answer { ADAPTER_READY, ADAPTER_WAIT, ADAPTER_FAILED };

/* Engine thread: a turn's questions stand between begin and end; the lock is held meanwhile, so
 * nothing else of the store may be called. What was wanted before is no longer. */
void adapter_host_begin(struct adapter_store *s);
/* READY: every part is in a slot, or can be put into one until the next begin: then its bit is set
 * in *loadable. `order`: the request's, ascending from call to call. FAILED: some could not be
 * read. */
enum adapter_answer adapter_host_ask(struct adapter_store *s, const struct adapter_set *set,
                                     uint64_t order, unsigned *loadable);
void adapter_host_end(struct adapter_store *s);
/* Why a set FAILED, for every request that asks before adapter_host_forgive. */
void adapter_host_error(struct adapter_store *s, const struct adapter_set *set, struct err *e);
/* Everybody was told: the next request tries again. */
void adapter_host_forgive(struct adapter_store *s);

/* Loader: reads one wanted adapter; false: there is none. */
bool adapter_host_read_one(struct adapter_store *s);
/* With the lock held: is there one to read? */
bool adapter_host_has_work(const struct adapter_store *s);

/* CHECKs the counts. */
void adapter_host_check(struct adapter_store *s);

#endif
