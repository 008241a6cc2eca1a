/* adapter_slots: which adapter is in which slot of the device. Engine thread, between a launch and
 * the next. Steps may be in flight meanwhile: the backend keeps the order (backend.h), so a slot
 * without references is free although a step in flight may still read it.
 *
 * Where the backend loads in parts, filling a slot takes three: adapter_slots_begin gives it room,
 * the loader uploads beside the steps, adapter_slots_finish makes it usable. One at a time; while
 * one is on its way no other is begun (the arena may move what lies there).
 */
#ifndef CHORUS_ADAPTER_ADAPTER_SLOTS_H
#define CHORUS_ADAPTER_ADAPTER_SLOTS_H

#include "engine/adapter/adapter_store.h"

/* The slot is empty; nobody uses what was in it, and it is not on its way. */
void adapter_slots_evict(struct adapter_store *s, int slot);
/* Fills a slot at once; whoever is there leaves first. On failure the slot is empty. `step` is for
 * adapter_slot.since. */
WARN_UNUSED enum status adapter_slots_load(struct adapter_store *s, struct adapter *a, int slot,
                                           uint64_t step, struct err *e);
/* As adapter_slots_load, but the slot is only on its way afterwards. Nothing else is. */
WARN_UNUSED enum status adapter_slots_begin(struct adapter_store *s, struct adapter *a, int slot,
                                            uint64_t step, struct err *e);
/* Something is on its way; *done: adapter_slots_finish has something to do. */
bool adapter_slots_busy(struct adapter_store *s, bool *done);
/* Makes what was uploaded usable. On failure the slot is empty and the adapter counts as failed
 * (adapter_host.h) for those who wait for it, but for STATUS_DEVICE_LOST. */
WARN_UNUSED enum status adapter_slots_finish(struct adapter_store *s, struct err *e);

/* The slot of an adapter that can be used, with one reference more; `used` orders evictions. -1: it
 * is in none. */
int adapter_slots_use(struct adapter_store *s, const struct adapter *a, uint64_t used);
void adapter_slots_unuse(struct adapter_store *s, int slot);
/* Frees generations that nobody can use any more; returns how many slots they had. */
int adapter_slots_sweep(struct adapter_store *s);
/* The device is gone: its slots are not touched again. */
void adapter_slots_lost(struct adapter_store *s);
/* Empties all; no loader runs. */
void adapter_slots_clear(struct adapter_store *s);

/* Loader: uploads what was begun; false: there is nothing. */
bool adapter_slots_upload_one(struct adapter_store *s);

#endif
