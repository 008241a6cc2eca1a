#include "cuda/cuda_states.h"

#include <math.h>

#include "cuda/cuda_error.h"
#include "engine/base/mem.h"

enum status cuda_states_init(struct cuda_backend *c, struct err *e)
{
    size_t width = (size_t)c->w.shape.hidden;
    size_t row = (size_t)c->ws.hidden_stride * sizeof(float);
    enum status st = STATUS_OK;
    for (int i = 0; st == STATUS_OK && i < BACKEND_FLIGHTS; i++)
        st = cuda_error(
            cudaMallocHost((void **)&c->flights[i].states, (size_t)c->plan.outs_max * row),
            "pinned memory for hidden states", e);
    if (st != STATUS_OK)
        return st;
    c->final_norm = mem_alloc(width, sizeof *c->final_norm);
    if (!c->final_norm)
        return err_set(e, STATUS_NO_MEMORY, "model", "out of memory for hidden states");
    st = cuda_error(cudaMemcpyAsync(c->final_norm, c->w.final_norm, width * sizeof *c->final_norm,
                                    cudaMemcpyDeviceToHost, c->stream),
                    "the final norm", e);
    return st == STATUS_OK ? cuda_error(cudaStreamSynchronize(c->stream), "the final norm", e) : st;
}

void cuda_states_deinit(struct cuda_backend *c)
{
    for (int i = 0; i < BACKEND_FLIGHTS; i++) {
        (void)cudaFreeHost(c->flights[i].states);
        c->flights[i].states = NULL;
    }
    mem_free(c->final_norm);
    c->final_norm = NULL;
}

bool cuda_states_draws(const struct batch *b)
{
    for (int o = 0; o < b->out_count; o++)
        if (!b->out[o].hidden)
            return true;
    return false;
}

/* Neighbouring rows are one copy. */
enum status cuda_states_copy(struct cuda_backend *c, const struct cuda_flight *f)
{
    const struct batch *b = f->batch;
    const size_t stride = (size_t)c->ws.hidden_stride;
    enum status st = STATUS_OK;
    for (int o = 0, n; st == STATUS_OK && o < b->out_count; o += n) {
        n = 1;
        if (!b->out[o].hidden)
            continue;
        while (o + n < b->out_count && b->out[o + n].hidden &&
               b->out_row[o + n] == b->out_row[o] + n)
            n++;
        st = cuda_backend_check(c,
                                cudaMemcpyAsync(f->states + (size_t)o * stride,
                                                c->ws.y + (size_t)b->out_row[o] * stride,
                                                (size_t)n * stride * sizeof(float),
                                                cudaMemcpyDeviceToHost, c->stream),
                                "step_launch", NULL);
    }
    return st;
}

void cuda_states_read(const struct backend *b, int o, float *state)
{
    const struct cuda_backend *c = (const struct cuda_backend *)b;
    int finished = (c->flight_oldest + BACKEND_FLIGHTS - 1) % BACKEND_FLIGHTS;
    const float *y = c->flights[finished].states + (size_t)o * (size_t)c->ws.hidden_stride;
    const int width = c->w.shape.hidden;
    double sum = 0;
    CHECK(o >= 0 && o < c->plan.outs_max);
    for (int i = 0; i < width; i++)
        sum += (double)y[i] * (double)y[i];
    double scale = 1 / sqrt(sum / width + c->w.shape.rms_eps);
    for (int i = 0; i < width; i++)
        state[i] = (float)((double)y[i] * scale * (double)c->final_norm[i]);
}
