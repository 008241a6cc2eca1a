/* cuda_stage: bytes on their way from files to the device while a model loads: a ring of pinned
 * buffers, each with a device buffer of the same size, so that reading the file, the copy and the
 * kernels that unpack it overlap. Loading thread; one buffer at a time is open. */
#ifndef CHORUS_CUDA_CUDA_STAGE_H
#define CHORUS_CUDA_CUDA_STAGE_H

#include <stddef.h>

#include <cuda_runtime_api.h>

#include "engine/base/status.h"

#define STAGE_BUFFERS 2

struct cuda_stage_buffer {
    void *host;   /* owned, pinned */
    void *device; /* owned */
    cudaEvent_t done;
    int used; /* `done` was recorded */
};

struct cuda_stage {
    struct cuda_stage_buffer buffers[STAGE_BUFFERS];
    int at;       /* the open one */
    size_t bytes; /* of each buffer */
    cudaStream_t stream;
};

/* cuda_stage_deinit ends it in every case. */
WARN_UNUSED enum status cuda_stage_init(struct cuda_stage *s, size_t bytes, cudaStream_t stream,
                                        struct err *e);
/* Frees the buffers. Everything that was sent has arrived, or the device is lost. */
void cuda_stage_deinit(struct cuda_stage *s);

/* Opens the next buffer: *host is `bytes` long and may be filled; waits until its last use is over.
 */
WARN_UNUSED enum status cuda_stage_take(struct cuda_stage *s, void **host, struct err *e);
/* Sends the buffer's first `bytes`; *device is where kernels of the stream find them until
 * cuda_stage_done. */
WARN_UNUSED enum status cuda_stage_send(struct cuda_stage *s, size_t bytes, const void **device,
                                        struct err *e);
/* Copies from the open buffer to its place on the device. */
WARN_UNUSED enum status cuda_stage_copy(struct cuda_stage *s, void *to, const void *from,
                                        size_t bytes, struct err *e);
/* Closes the buffer: it is free again once the stream has come this far. */
WARN_UNUSED enum status cuda_stage_done(struct cuda_stage *s, struct err *e);

#endif
