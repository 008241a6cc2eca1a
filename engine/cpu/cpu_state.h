/* cpu_state: what the CPU backend keeps, shared by cpu_backend (life cycle, adapters) and cpu_step
 * (one step). Engine thread; tasks of a step run on the pool and write disjoint parts of the
 * activations.
 */
#ifndef CHORUS_CPU_CPU_STATE_H
#define CHORUS_CPU_CPU_STATE_H

#include "engine/backend.h"
#include "engine/cpu/cpu_lora.h"
#include "engine/cpu/cpu_pool.h"
#include "engine/cpu/cpu_weights.h"
#include "engine/model/kv_type.h"

/* A batch segment against rows of a view. */
struct cpu_segment {
    const struct cpu_lora *lora;
    float weight;
    int begin; /* rows */
    int end;
    size_t u_row; /* its first row in u */
};

/* Rows of a segment that one chunk shrinks. */
struct cpu_shrink {
    int segment;
    int begin;
    int end;
};

/* The rows that a linear sees, with the segments over them: all T rows, or the O output rows. */
struct cpu_view {
    int rows;
    int segment_count;
    int shrink_count;
    struct cpu_segment *segments; /* [segments_max] */
    struct cpu_shrink *shrinks;   /* [shrinks_max] */
    int *row_first;               /* [rows + 1] into row_segment */
    int *row_segment;             /* segments of each row, in order */
};

/* Neighbouring rows of one sequence that attend together, and where their output begins: after the
 * last layer's keys and values only output rows go on, one behind the other. */
struct cpu_attend_tile {
    int seq;
    int begin;
    int end;
    int out;
};

/* A buffer of the workspace: the address of its pointer, and its size. */
struct cpu_region {
    void *at;
    size_t bytes;
};

#define CPU_REGIONS_MAX 32

struct cpu_backend {
    struct backend base; /* first */
    const struct cpu_kernels *kernels;
    int threads;
    struct cpu_pool *pool; /* owned, from model_load on */
    struct cpu_region regions[CPU_REGIONS_MAX];
    int region_count;
    struct backend_plan plan;
    struct cpu_weights w;
    size_t weights_bytes;
    struct cpu_lora **slots; /* owned, [slots_max] */

    /* KV: [L, pages, KH] blocks of CPU_KV_BLOCK floats, rounded as kv_type says. */
    enum kv_type kv_type;
    float *kv;
    size_t page_floats;
    size_t layer_floats;

    /* Activations; strides in floats, padded so that rows of a power-of-two width do not meet in
     * one cache set. */
    size_t hidden_stride, q_stride, kv_stride, ffn_stride, vocab_stride, u_stride;
    float *x;   /* [T, M] residual */
    float *n;   /* [T, M] normed */
    float *q;   /* [T, H*D] */
    float *k;   /* [T, KH*D] */
    float *v;   /* [T, KH*D] */
    float *a;   /* [T, H*D] attention output */
    float *g;   /* [T, F] gate, then h */
    float *up;  /* [T, F] */
    float *y;   /* [T, M] output of o and down before the residual */
    float *out; /* [O, M] residual of output rows from the last layer's attention on, then normed */
    float *logits; /* [O, V] */
    float *u;      /* [4 * rows, u_stride] A x of all segments; grows with adapters */
    size_t u_rows;
    float *attend_scratch; /* [threads, attend_floats] */
    size_t attend_floats;
    float *sample_scratch; /* [threads, sample_floats] */
    size_t sample_floats;
    float *embed_scratch; /* [threads, LIMIT_ADAPTER_RANK] */

    const struct batch *batch; /* borrowed from step_begin to step_finish */
    bool draws; /* some output row is not for its hidden state alone: it needs logits */
    struct cpu_view all;
    struct cpu_view outs;
    struct cpu_attend_tile *tiles;     /* [rows_max] */
    struct cpu_attend_tile *out_tiles; /* [outs_max] */
    int tile_count;
    int out_tile_count;
    int head_part;  /* query heads of a tile: the kv group, or an even part of a large one */
    int part_count; /* parts of a kv group */
    struct sample_result *results; /* [outs_max] */
};

/* Operations of one step; see backend.h. */
enum status cpu_step_begin(struct backend *b, const struct batch *batch);
void cpu_step_embed(struct backend *b);
void cpu_step_attn_in(struct backend *b, int layer);
void cpu_step_attend(struct backend *b, int layer);
void cpu_step_attn_out(struct backend *b, int layer);
void cpu_step_mlp_in(struct backend *b, int layer);
void cpu_step_mlp_out(struct backend *b, int layer);
void cpu_step_head(struct backend *b);
void cpu_step_sample(struct backend *b);
enum status cpu_step_launch(struct backend *b);
enum status cpu_step_finish(struct backend *b, struct sample_result *results, struct err *e);

/* Tasks that a step of `layers` layers records at most. */
int cpu_step_tasks_max(int layers);

#endif
