#include "cuda/cuda_send.h"

#include <string.h>

#include "cuda/cuda_error.h"

/* Large enough for the bus (98 % of its speed), small enough to stay in cache, and for the upload
 * of a step not to wait long behind one: 40 us a MiB on PCIe 4. */
#define HALF_BYTES ((size_t)1 << 20)
#define WHAT       "sending an adapter"

enum status cuda_send_init(struct cuda_send *s, struct err *e)
{
    memset(s, 0, sizeof *s);
    enum status st =
        cuda_error(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking), WHAT, e);
    if (st == STATUS_OK)
        st = cuda_error(cudaEventCreateWithFlags(&s->after, cudaEventDisableTiming), WHAT, e);
    for (int i = 0; i < 2 && st == STATUS_OK; i++) {
        st = cuda_error(cudaMallocHost(&s->halves[i].host, HALF_BYTES), WHAT, e);
        if (st == STATUS_OK)
            st = cuda_error(cudaEventCreateWithFlags(&s->halves[i].done, cudaEventDisableTiming),
                            WHAT, e);
    }
    return st;
}

void cuda_send_deinit(struct cuda_send *s)
{
    if (s->stream)
        (void)cudaStreamSynchronize(s->stream);
    for (int i = 0; i < 2; i++) {
        if (s->halves[i].done)
            (void)cudaEventDestroy(s->halves[i].done);
        (void)cudaFreeHost(s->halves[i].host);
    }
    if (s->after)
        (void)cudaEventDestroy(s->after);
    if (s->stream)
        (void)cudaStreamDestroy(s->stream);
    memset(s, 0, sizeof *s);
}

enum status cuda_send_after(struct cuda_send *s, cudaStream_t stream, struct err *e)
{
    return cuda_error(cudaEventRecord(s->after, stream), WHAT, e);
}

enum status cuda_send_wait(struct cuda_send *s, struct err *e)
{
    return cuda_error(cudaStreamSynchronize(s->stream), WHAT, e);
}

/* Part `i`, through half i % 2 once its last part has left it. */
static enum status send_part(struct cuda_send *s, size_t i, void *to, const void *from, size_t n,
                             struct err *e)
{
    size_t h = i % 2;
    enum status st = STATUS_OK;
    if (s->halves[h].used)
        st = cuda_error(cudaEventSynchronize(s->halves[h].done), WHAT, e);
    if (st != STATUS_OK)
        return st;
    memcpy(s->halves[h].host, from, n);
    st = cuda_error(cudaMemcpyAsync(to, s->halves[h].host, n, cudaMemcpyHostToDevice, s->stream),
                    WHAT, e);
    if (st == STATUS_OK)
        st = cuda_error(cudaEventRecord(s->halves[h].done, s->stream), WHAT, e);
    s->halves[h].used = st == STATUS_OK;
    return st;
}

enum status cuda_send_bytes(struct cuda_send *s, int device, void *to, const void *from,
                            size_t bytes, struct err *e)
{
    enum status st = cuda_error(cudaSetDevice(device), WHAT, e);
    if (st == STATUS_OK)
        st = cuda_error(cudaStreamWaitEvent(s->stream, s->after, 0), WHAT, e);
    for (size_t at = 0, i = 0; at < bytes && st == STATUS_OK; at += HALF_BYTES, i++) {
        size_t n = bytes - at < HALF_BYTES ? bytes - at : HALF_BYTES;
        st = send_part(s, i, (char *)to + at, (const char *)from + at, n, e);
    }
    enum status last = cuda_send_wait(s, st == STATUS_OK ? e : NULL);
    return st == STATUS_OK ? last : st;
}
