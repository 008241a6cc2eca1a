/* backend: the only door to compute. A table of operations; the pass itself is written once, in
 * engine/model/forward.c.
 *
 * The operations are cut where fusing pays: five a layer, each with its norm, bias, LoRA segments,
 * RoPE and residual inside, so that each can be one graph node that prefetches its weights before
 * it waits. Activations live in the backend; T, S, A, O and all arrays are step_begin's batch's.
 *
 * Threads: everything is called from the engine thread, one call at a time; open, model_load and
 * close from the thread that opens the engine. A result of a row depends on that row's own
 * sequence, adapters and weights only: never on the batch, but for the last bits of prompt rows on
 * a card that is not told to be `deterministic`.
 */
#ifndef CHORUS_BACKEND_H
#define CHORUS_BACKEND_H

#include <stdint.h>

#include "engine/adapter/lora.h"
#include "engine/backend_facts.h"
#include "engine/base/status.h"
#include "engine/model/model.h"
#include "engine/sched/batch.h"

/* Steps that may be in flight at once: one, and with step_draw one launched behind it. */
#define BACKEND_FLIGHTS 2

/* See backend_ops.rows_best. */
#define BACKEND_ROWS 512

/* Sizes fixed at start: workspace and graphs are planned from these, nothing grows later. */
struct backend_plan {
    int rows_max;     /* T */
    int seqs_max;     /* S */
    int outs_max;     /* O */
    int segments_max; /* A */
    int slots_max;    /* adapters resident at once */
    int pages;        /* KV pages of LIMIT_KV_PAGE_TOKENS tokens */
    int ctx_max;      /* tokens a sequence */
};

struct backend_options {
    int threads;            /* CPU: 0 = one a core */
    int adapter_bits;       /* card: 8, 4: adapters of 8 and 4 bits stay so; else all become bf16 */
    const char *isa;        /* CPU: "auto" (NULL too), "avx512", "avx2", "scalar" */
    int device;             /* card: its number */
    const char *quant;      /* card: "auto" (NULL too), "none", "int8", "int4" */
    const char *head_quant; /* card: "auto" (NULL too), "none", "int8" */
    const char *kv_type;    /* kv_type.h; the CPU keeps floats, rounded alike for "int8" */
    const char *embedding;  /* card: of tokens; "auto" (NULL too), "card", "host" */
    double memory_share;    /* card: of its free memory; 0 = 0.9 */
    size_t memory_bytes;    /* card: instead of a share; 0 = none */
    size_t arena_bytes;     /* card: for adapters; 0 = from the slots and what is free */
    bool plain_launches;    /* card: no dependent launches, as cards before sm_90 */
    bool deterministic;     /* card: a row's last bits never depend on the size of its step */
};

/* An adapter as the device wants it, in host memory; an implementation's own struct begins so. */
struct backend_image {
    size_t bytes; /* of host memory, all in all */
};

struct backend; /* owned by the engine; the beginning of an implementation's own struct */

struct backend_ops {
    const char *name; /* "cpu", "cuda" */

    /* Packs and uploads all weights, sizes the workspace and the KV pages. `m` outlives b. */
    enum status (*model_load)(struct backend *b, const struct model *m,
                              const struct backend_plan *plan, const struct progress *progress,
                              struct err *e);
    void (*close)(struct backend *b);

    /* Adapters come and go between a launch and the next begin; steps in flight keep what was there
     * at their launch. Load: makes `l` usable in segments as `slot`, which is empty; copies it. */
    enum status (*adapter_load)(struct backend *b, int slot, const struct lora *l, struct err *e);
    /* The slot is empty again. */
    void (*adapter_unload)(struct backend *b, int slot);
    /* Device bytes that `l` takes, and how many there are for adapters: what is in slots fits while
     * the sum of theirs does. Any thread. NULL: slots are the only bound. */
    size_t (*adapter_bytes)(const struct backend *b, const struct lora *l);
    size_t (*adapter_room)(const struct backend *b);

    /* adapter_load in parts, so that no step waits for one; all five NULL: adapter_load is all
     * there is. Pack: any thread, beside everything; *out ends with image_free. */
    enum status (*adapter_pack)(const struct backend *b, const struct lora *l,
                                struct backend_image **out, struct err *e);
    void (*image_free)(struct backend_image *image);
    /* Engine thread, nothing being uploaded: room for the image in an empty slot. */
    enum status (*adapter_place)(struct backend *b, int slot, const struct backend_image *image,
                                 struct err *e);
    /* Any one thread, beside steps; the slot stays. The bytes are on the device when it returns. */
    enum status (*adapter_upload)(struct backend *b, int slot, const struct backend_image *image,
                                  struct err *e);
    /* Engine thread: segments may use the slot from the next step on. */
    enum status (*adapter_commit)(struct backend *b, int slot, const struct backend_image *image,
                                  struct err *e);

    /* One step: step_begin, the pass (forward.c), step_launch; step_finish waits for results. */
    enum status (*step_begin)(struct backend *b, const struct batch *batch);
    /* NULL: a step is finished before the next one begins. Otherwise one step may be launched while
     * another is in flight (steps run, and are finished, in the order of their launches; batches
     * stay readable until then, but out[o] of a sequence that ended meanwhile becomes a row that
     * asks for nothing), and a row's token may be -1 - o: what output o of the step launched before
     * draws; it is then the last of that row's tokens too. Where a draw depends on such a token by
     * a mask or penalties too, the batch is `late`: nothing is drawn before step_draw, which comes
     * when the step before is finished and finds in out[] what was unknown. */
    enum status (*step_draw)(struct backend *b);
    void (*embed)(struct backend *b); /* x[T, M] = E[token] (+ LoRA) */
    /* q, k, v of norm(x) (+ LoRA, bias); q/k norm; RoPE; k, v to pages */
    void (*attn_in)(struct backend *b, int layer);
    /* a[T, H*D] = causal attention of q over the sequence's pages */
    void (*attend)(struct backend *b, int layer);
    void (*attn_out)(struct backend *b, int layer); /* x += o(a) (+ LoRA, bias) */
    /* h[T, F] = silu(gate(norm(x))) * up(norm(x)) (+ LoRA) */
    void (*mlp_in)(struct backend *b, int layer);
    void (*mlp_out)(struct backend *b, int layer); /* x += down(h) (+ LoRA) */
    void (*head)(struct backend *b);               /* logits[O, V] of norm(x[out_row]) (+ LoRA) */
    void (*sample)(struct backend *b);             /* results[O], but of rows for hidden states */
    enum status (*step_launch)(struct backend *b);
    /* results [O] of the launched step. STATUS_DEVICE_LOST is final. */
    enum status (*step_finish)(struct backend *b, struct sample_result *results, struct err *e);

    /* Of output row o of the last finished step, fp32: its logits [V], for tests; behind the final
     * norm its hidden state [M], of rows that asked for it, until the next step_launch. */
    enum status (*read_logits)(struct backend *b, int o, float *logits);
    void (*read_hidden)(const struct backend *b, int o, float *state);
    /* Lowers plan->pages to what the device has room for; STATUS_NO_MEMORY says what would fit when
     * that is fewer than pages_min. NULL: the caller goes by the machine's memory. */
    enum status (*fit_pages)(struct backend *b, const struct model *m, struct backend_plan *plan,
                             int pages_min, struct err *e);
    /* Rows of a step from which on more bring nothing, the default. NULL: BACKEND_ROWS. */
    int (*rows_best)(const struct backend *b);
    /* Bytes one KV page takes over all layers. */
    size_t (*page_bytes)(const struct backend *b, const struct model_shape *s);
    /* For people, once the model is loaded. NULL: nothing is known. */
    void (*facts)(const struct backend *b, struct backend_facts *out);
};

struct backend {
    const struct backend_ops *ops;
};

/* cpu: float32, threaded, the oracle of every test. cuda: a card of sm_80 or newer; with
 * CHORUS_CUDA. STATUS_UNSUPPORTED says what is missing. */
WARN_UNUSED enum status cpu_backend_open(const struct backend_options *opt, struct backend **out,
                                         struct err *e);
WARN_UNUSED enum status cuda_backend_open(const struct backend_options *opt, struct backend **out,
                                          struct err *e);

#endif
