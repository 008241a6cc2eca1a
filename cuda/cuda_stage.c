#include "cuda/cuda_stage.h"

#include <string.h>

#include "cuda/cuda_error.h"

enum status cuda_stage_init(struct cuda_stage *s, size_t bytes, cudaStream_t stream, struct err *e)
{
    memset(s, 0, sizeof *s);
    s->bytes = bytes;
    s->stream = stream;
    enum status st = STATUS_OK;
    for (int i = 0; st == STATUS_OK && i < STAGE_BUFFERS; i++) {
        struct cuda_stage_buffer *b = &s->buffers[i];
        st = cuda_error(cudaMallocHost(&b->host, bytes), "pinned memory for loading", e);
        if (st == STATUS_OK)
            st = cuda_error(cudaMalloc(&b->device, bytes), "device memory for loading", e);
        if (st == STATUS_OK)
            st = cuda_error(cudaEventCreateWithFlags(&b->done, cudaEventDisableTiming),
                            "an event for loading", e);
    }
    return st;
}

void cuda_stage_deinit(struct cuda_stage *s)
{
    for (int i = 0; i < STAGE_BUFFERS; i++) {
        struct cuda_stage_buffer *b = &s->buffers[i];
        if (b->done)
            (void)cudaEventDestroy(b->done);
        (void)cudaFree(b->device);
        (void)cudaFreeHost(b->host);
    }
    memset(s, 0, sizeof *s);
}

enum status cuda_stage_take(struct cuda_stage *s, void **host, struct err *e)
{
    s->at = (s->at + 1) % STAGE_BUFFERS;
    struct cuda_stage_buffer *b = &s->buffers[s->at];
    if (b->used) {
        enum status st = cuda_error(cudaEventSynchronize(b->done), "loading the model", e);
        if (st != STATUS_OK)
            return st;
    }
    *host = b->host;
    return STATUS_OK;
}

enum status cuda_stage_copy(struct cuda_stage *s, void *to, const void *from, size_t bytes,
                            struct err *e)
{
    return cuda_error(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, s->stream),
                      "loading the model", e);
}

enum status cuda_stage_send(struct cuda_stage *s, size_t bytes, const void **device, struct err *e)
{
    struct cuda_stage_buffer *b = &s->buffers[s->at];
    enum status st = cuda_stage_copy(s, b->device, b->host, bytes, e);
    if (st == STATUS_OK)
        *device = b->device;
    return st;
}

enum status cuda_stage_done(struct cuda_stage *s, struct err *e)
{
    struct cuda_stage_buffer *b = &s->buffers[s->at];
    enum status st = cuda_error(cudaEventRecord(b->done, s->stream), "loading the model", e);
    if (st == STATUS_OK)
        b->used = 1;
    return st;
}
