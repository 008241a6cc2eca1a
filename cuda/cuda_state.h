/* cuda_state: what the CUDA backend keeps, shared by cuda_backend (life cycle), cuda_slots
 * (adapters), cuda_step (one step) and cuda_pass (its operations). Engine thread, one call at a
 * time.
 *
 * All device work goes into one stream, in the order of the calls; so nothing needs to wait but
 * step_finish. The first error that CUDA keeps makes the backend `lost`: every later call
 * answers STATUS_DEVICE_LOST without touching the device.
 */
#ifndef CHORUS_CUDA_CUDA_STATE_H
#define CHORUS_CUDA_CUDA_STATE_H

#include "cuda/cuda_graphs.h"
#include "cuda/cuda_many.h"
#include "cuda/cuda_memory.h"
#include "cuda/cuda_send.h"
#include "cuda/cuda_weights.h"
#include "cuda/cuda_workspace.h"
#include "cuda/lora_arena.h"
#include "engine/backend.h"

/* More than are ever on their way, unless many adapters move at once. */
#define SLOTS_COPIES 8

/* A slot's tables on their way to the device. */
struct cuda_table_copy {
    void *host; /* owned, pinned, like the next */
    cudaEvent_t sent;
    bool used; /* `sent` was recorded */
};

/* Adapters on the device: bookkeeping and the host's copy of the tables. */
struct cuda_slots {
    struct lora_arena arena;
    struct lora_stack *table;  /* owned, [slots, STACK_COUNT(L)] of filled slots as on the device */
    struct lora_embed *embeds; /* owned, [slots] likewise */
    uint8_t *gain;             /* owned, [slots]: 1 where the adapter has DoRA */
    uint8_t *reach;            /* owned, [slots]: enum bucket_adapters, what the adapter changes */
    uint8_t *filled;           /* owned, [slots]: 1 where steps may use it */
    struct cuda_table_copy copies[SLOTS_COPIES];
    int copy_next;
    void *bounce; /* owned, device: extents that move by little pass through it */
    struct cuda_send send;
    size_t sending_at; /* where in the arena the slot being uploaded lies: set by place */
};

/* What the pass is recorded for, from step_begin to step_launch. */
struct cuda_step {
    struct cuda_bucket bucket;
    const struct batch *batch; /* borrowed; NULL while the pass is tried or recorded */
    int pieces;                /* of all rows, for adapters */
    bool states_only;          /* no row draws: there is nothing to do behind the layers */
    struct step_dev dev;
    const struct attend_split *split; /* device, like the next five */
    const int32_t *single;
    const struct attend_piece *piece;
    const struct sample_dev *samples;
    const struct sample_edit *edits;
    const uint32_t *masks;
    cudaGraphExec_t graph; /* it does the work: operations have nothing to do; NULL: none */
    enum status failed;    /* of the first launch that failed */
    const char *failed_op; /* which */
};

/* A step from step_begin to step_finish. */
struct cuda_flight {
    uint8_t *pinned;                  /* owned, pinned: its image */
    struct sample_result *results;    /* owned, pinned, [outs_max] */
    float *states;                    /* owned, pinned, [outs_max, hidden_stride] residuals */
    cudaEvent_t finished;             /* owned */
    const struct batch *batch;        /* borrowed */
    const struct sample_dev *samples; /* in `pinned` */
    size_t packed;                    /* bytes of `pinned` before masks and edits */
    int outs;
    int host_count; /* of these are drawn by the host */
    bool drawn;     /* no: it is late, and step_draw has not come */
};

struct cuda_backend {
    struct backend base; /* first */
    struct backend_options opt;
    enum kv_type kv_type;
    int device;
    char card[128]; /* its name */
    int sms;
    int arch; /* major * 10 + minor */
    size_t memory_bytes;
    bool dependent; /* launches may overlap */
    enum status lost;
    struct err lost_err;

    cudaStream_t stream; /* owned, like all below */
    cudaEvent_t finished;
    void *weights_mem;
    void *embed_mem; /* pinned; NULL: the embedding is in weights_mem */
    void *kv_mem;
    void *arena_mem;
    void *work_mem;
    struct backend_plan plan;
    struct cuda_memory memory;
    struct cuda_weights w;
    struct cuda_workspace ws;
    struct cuda_many many;
    struct cuda_ways ways;
    struct cuda_graphs graphs;
    struct cuda_slots slots;

    cudaStream_t beside; /* what late draws ask for comes through it while the pass runs, */
    cudaEvent_t begun;   /* after the step's image */
    cudaEvent_t asked;   /* and before the draw */
    struct cuda_flight flights[BACKEND_FLIGHTS]; /* a ring */
    int flight_oldest;
    int flight_count;   /* launched and not finished */
    float *row;         /* pinned, [V]: logits of a row that the host draws */
    float *row_scratch; /* owned */
    float *final_norm;  /* owned, [M] the weight's copy here */
    int32_t *places;    /* owned, [V] of sample_rows */
    struct cuda_step step;
};

static inline struct cuda_backend *cuda_backend_of(struct backend *b)
{
    return (struct cuda_backend *)b;
}

/* Adapters may be of 8 or 4 bits: the kernels that know of them are a set of their own. */
static inline bool cuda_has_codes(const struct cuda_backend *c)
{
    return c->opt.adapter_bits == 8 || c->opt.adapter_bits == 4;
}

/* A call's result; an error that CUDA keeps is logged once and makes the backend lost. */
enum status cuda_backend_check(struct cuda_backend *c, cudaError_t code, const char *what,
                               struct err *e);

#endif
