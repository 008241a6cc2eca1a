/* cuda_slots: adapters on the device: their images in the arena, and the tables that the kernels
 * read.
 *
 * Nothing here waits for a step. An image is packed and sent by the loader's threads, in a stream
 * of its own (cuda_send) that waits on the device for the steps that were launched before its room
 * was given: they may still read what lay there. DoRA's gains are made in that stream too. Moves
 * within the arena and the tables go into the stream of the steps, so the ones in flight find the
 * old, and those launched later the new. */
#ifndef CHORUS_CUDA_CUDA_SLOTS_H
#define CHORUS_CUDA_CUDA_SLOTS_H

#include "cuda/cuda_state.h"

/* Empty slots, also in the device's tables. cuda_slots_deinit in every case. */
WARN_UNUSED enum status cuda_slots_init(struct cuda_backend *c, struct err *e);
void cuda_slots_deinit(struct cuda_backend *c);

/* See backend.h. STATUS_NO_MEMORY: the arena has no room. */
enum status cuda_slots_load(struct backend *b, int slot, const struct lora *l, struct err *e);
size_t cuda_slots_bytes(const struct backend *b, const struct lora *l);
size_t cuda_slots_room(const struct backend *b);
enum status cuda_slots_pack(const struct backend *b, const struct lora *l,
                            struct backend_image **out, struct err *e);
void cuda_slots_image_free(struct backend_image *image);
enum status cuda_slots_place(struct backend *b, int slot, const struct backend_image *image,
                             struct err *e);
enum status cuda_slots_upload(struct backend *b, int slot, const struct backend_image *image,
                              struct err *e);
enum status cuda_slots_commit(struct backend *b, int slot, const struct backend_image *image,
                              struct err *e);
void cuda_slots_unload(struct backend *b, int slot);

#endif
