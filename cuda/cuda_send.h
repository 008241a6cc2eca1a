/* cuda_send: large host memory on its way to the device beside the steps: through two pinned
 * buffers and a stream of its own, so that the engine thread never copies and never waits for it.
 */
#ifndef CHORUS_CUDA_CUDA_SEND_H
#define CHORUS_CUDA_CUDA_SEND_H

#include <stddef.h>

#include <cuda_runtime_api.h>

#include "engine/base/status.h"

struct cuda_send {
    cudaStream_t stream; /* owned, like all */
    cudaEvent_t after;
    struct {
        void *host; /* pinned */
        cudaEvent_t done;
        int used; /* `done` was recorded */
    } halves[2];
};

/* cuda_send_deinit in every case. */
WARN_UNUSED enum status cuda_send_init(struct cuda_send *s, struct err *e);
void cuda_send_deinit(struct cuda_send *s);

/* Engine thread: what is sent next goes behind everything that is in `stream` now. */
WARN_UNUSED enum status cuda_send_after(struct cuda_send *s, cudaStream_t stream, struct err *e);
/* Any one thread: returns once `stream` of s has come here. */
WARN_UNUSED enum status cuda_send_wait(struct cuda_send *s, struct err *e);
/* Any one thread: returns once the bytes are at `to` on card `device`. */
WARN_UNUSED enum status cuda_send_bytes(struct cuda_send *s, int device, void *to, const void *from,
                                        size_t bytes, struct err *e);

#endif
