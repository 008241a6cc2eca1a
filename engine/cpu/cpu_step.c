/* One step: operations are recorded as tasks of the pool and run as one list between launch and
 * finish. A linear is two tasks: the segments' rows through A (shrink), then for each range of
 * output panels W x, the segments' B, bias and what follows. */
#include "engine/cpu/cpu_state.h"

#include <math.h>
#include <string.h>

/* Norm, qkv, RoPE, attention, o, norm, gate and up, down, and a shrink before each of the four
 * linears. */
#define TASKS_A_LAYER 12
/* Embedding, picking output rows, final norm, shrink and product of the head, sampling. */
#define TASKS_OUTSIDE 6

/* Multiply-adds below which a chunk is not worth handing to another thread. */
#define CHUNK_WORK  20000
#define SHRINK_ROWS 28
/* What else costs, in multiply-adds of a product that take as long (AVX-512, one core: 60 a ns). */
#define ROW_WORK    10    /* an element of a norm */
#define ROPE_WORK   30    /* an element of a query head */
#define KV_WORK     300   /* an element of a key or value head: a cache line each to write */
#define EMBED_WORK  100   /* an element read out of panels */
#define ATTEND_WORK 10000 /* a tile, whatever its context */
#define SAMPLE_WORK 100   /* an id */

static struct cpu_backend *self(struct backend *b)
{
    return (struct cpu_backend *)b;
}

int cpu_step_tasks_max(int layers)
{
    return layers * TASKS_A_LAYER + TASKS_OUTSIDE;
}

/* Records a task whose units cost about `work` multiply-adds of a product each. */
static void record(struct cpu_backend *c, void (*fn)(void *, int, int, int, int), int arg,
                   int units, size_t work)
{
    size_t grain = CHUNK_WORK / (work + 1) + 1;
    if (grain > (size_t)units)
        grain = (size_t)units;
    cpu_pool_add(c->pool, (struct cpu_job){.fn = fn, .ctx = c, .arg = arg}, units, (int)grain);
}

/* The same for panels: chunks are even, because few rows run faster over two panels at a time. */
static void record_panels(struct cpu_backend *c, void (*fn)(void *, int, int, int, int), int arg,
                          int panels, size_t work)
{
    size_t grain = CHUNK_WORK / (work + 1) + 1;
    grain += grain % 2;
    cpu_pool_add(c->pool, (struct cpu_job){.fn = fn, .ctx = c, .arg = arg}, panels, (int)grain);
}

/* ---- Views: which segments lie over which rows ---- */

static void view_reset(struct cpu_view *v, int rows)
{
    v->rows = rows;
    v->segment_count = 0;
    v->shrink_count = 0;
}

static void view_add(struct cpu_backend *c, struct cpu_view *v, const struct batch_segment *s,
                     int begin, int end)
{
    if (begin >= end)
        return;
    size_t u_row = 0;
    if (v->segment_count > 0) {
        const struct cpu_segment *last = &v->segments[v->segment_count - 1];
        u_row = last->u_row + (size_t)(last->end - last->begin);
    }
    CHECK(u_row + (size_t)(end - begin) <= c->u_rows);
    v->segments[v->segment_count] = (struct cpu_segment){
        .lora = c->slots[s->slot], .weight = s->weight, .begin = begin, .end = end, .u_row = u_row};
    for (int r = begin; r < end; r += SHRINK_ROWS) {
        int stop = end - r < SHRINK_ROWS ? end : r + SHRINK_ROWS;
        v->shrinks[v->shrink_count++] = (struct cpu_shrink){v->segment_count, r, stop};
    }
    v->segment_count++;
}

/* Fills row_first and row_segment: segments of a row in segment order. */
static void view_index(struct cpu_view *v)
{
    memset(v->row_first, 0, ((size_t)v->rows + 1) * sizeof *v->row_first);
    for (int s = 0; s < v->segment_count; s++) {
        for (int r = v->segments[s].begin; r < v->segments[s].end; r++)
            v->row_first[r + 1]++;
    }
    for (int r = 0; r < v->rows; r++)
        v->row_first[r + 1] += v->row_first[r];
    for (int s = 0; s < v->segment_count; s++) {
        for (int r = v->segments[s].begin; r < v->segments[s].end; r++)
            v->row_segment[v->row_first[r]++] = s;
    }
    for (int r = v->rows; r > 0; r--)
        v->row_first[r] = v->row_first[r - 1];
    v->row_first[0] = 0;
}

static int first_out_at(const struct batch *b, int row)
{
    int low = 0, high = b->out_count;
    while (low < high) {
        int mid = (low + high) / 2;
        if (b->out_row[mid] < row)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void make_views(struct cpu_backend *c, const struct batch *b)
{
    view_reset(&c->all, b->rows);
    view_reset(&c->outs, b->out_count);
    for (int i = 0; i < b->segment_count; i++) {
        const struct batch_segment *s = &b->segments[i];
        CHECK(s->slot >= 0 && s->slot < c->plan.slots_max && c->slots[s->slot]);
        CHECK(s->row_begin >= 0 && s->row_begin <= s->row_end && s->row_end <= b->rows);
        view_add(c, &c->all, s, s->row_begin, s->row_end);
        view_add(c, &c->outs, s, first_out_at(b, s->row_begin), first_out_at(b, s->row_end));
    }
    view_index(&c->all);
    view_index(&c->outs);
}

static void make_tiles(struct cpu_backend *c, const struct batch *b)
{
    int group = c->w.shape.heads / c->w.shape.kv_heads;
    c->part_count = (group + c->kernels->tile_rows - 1) / c->kernels->tile_rows;
    c->head_part = (group + c->part_count - 1) / c->part_count;
    int step = c->kernels->tile_rows / c->head_part;
    c->tile_count = 0;
    for (int s = 0; s < b->seqs; s++) {
        for (int r = b->row_begin[s]; r < b->row_begin[s + 1]; r += step) {
            int end = b->row_begin[s + 1] - r < step ? b->row_begin[s + 1] : r + step;
            c->tiles[c->tile_count++] = (struct cpu_attend_tile){s, r, end, r};
        }
    }
    c->out_tile_count = 0;
    for (int o = 0, n; o < b->out_count; o += n) {
        int row = b->out_row[o], seq = b->seq_of_row[row];
        for (n = 1; n < step && o + n < b->out_count; n++) {
            if (b->out_row[o + n] != row + n || b->seq_of_row[row + n] != seq)
                break;
        }
        c->out_tiles[c->out_tile_count++] = (struct cpu_attend_tile){seq, row, row + n, o};
    }
}

static void check_batch(const struct cpu_backend *c, const struct batch *b)
{
    const struct backend_plan *p = &c->plan;
    CHECK(b->rows >= 0 && b->rows <= p->rows_max && b->seqs >= 0 && b->seqs <= p->seqs_max);
    CHECK(b->out_count >= 0 && b->out_count <= p->outs_max);
    CHECK(b->segment_count >= 0 && b->segment_count <= p->segments_max);
    for (int r = 0; r < b->rows; r++) {
        CHECK(b->token[r] >= 0 && b->token[r] < c->w.shape.vocab);
        CHECK(b->position[r] >= 0 && b->position[r] < p->ctx_max);
        CHECK(b->seq_of_row[r] >= 0 && b->seq_of_row[r] < b->seqs);
        int page = b->page_table[b->seq_of_row[r] * b->page_stride + b->position[r] / CPU_PAGE];
        CHECK(page >= 0 && page < p->pages);
    }
    for (int o = 0; o < b->out_count; o++)
        CHECK(b->out_row[o] >= 0 && b->out_row[o] < b->rows &&
              (o == 0 || b->out_row[o] >= b->out_row[o - 1]));
}

enum status cpu_step_begin(struct backend *b, const struct batch *batch)
{
    struct cpu_backend *c = self(b);
    check_batch(c, batch);
    c->batch = batch;
    c->draws = false;
    for (int o = 0; o < batch->out_count; o++)
        c->draws |= !batch->out[o].hidden;
    make_views(c, batch);
    make_tiles(c, batch);
    return STATUS_OK;
}

/* ---- Linears ---- */

/* In the last layer only output rows go on after keys and values are written: nothing else reads
 * the others. A prompt saves most of a layer. */
static bool is_last(const struct cpu_backend *c, int layer)
{
    return layer == c->w.shape.layers - 1;
}

/* Rows that go through the attention, o and the feed-forward part of a layer, and their residual.
 */
static const struct cpu_view *view_of(const struct cpu_backend *c, int layer)
{
    return is_last(c, layer) ? &c->outs : &c->all;
}

static float *residual_of(const struct cpu_backend *c, int layer)
{
    return is_last(c, layer) ? c->out : c->x;
}

/* One linear of a task: y[rows, out] = W x, with the segments over the rows. */
struct site_io {
    int site;
    const struct cpu_matrix *w;
    const float *bias;
    const struct cpu_view *view;
    const float *x;
    size_t x_stride;
    float *y;
    size_t y_stride;
};

static struct site_io site_io(struct cpu_backend *c, int layer, enum linear_kind kind)
{
    struct cpu_layer *l = &c->w.layers[layer];
    struct site_io io = {.site = SITE_OF(layer, kind),
                         .w = &l->linear[kind],
                         .bias = l->bias[kind],
                         .view = kind <= LINEAR_V ? &c->all : view_of(c, layer),
                         .x = c->n,
                         .x_stride = c->hidden_stride};
    switch (kind) {
    case LINEAR_Q:
        io.y = c->q, io.y_stride = c->q_stride;
        break;
    case LINEAR_K:
        io.y = c->k, io.y_stride = c->kv_stride;
        break;
    case LINEAR_V:
        io.y = c->v, io.y_stride = c->kv_stride;
        break;
    case LINEAR_O:
        io.x = c->a, io.x_stride = c->q_stride;
        io.y = c->y, io.y_stride = c->hidden_stride;
        break;
    case LINEAR_GATE:
        io.y = c->g, io.y_stride = c->ffn_stride;
        break;
    case LINEAR_UP:
        io.y = c->up, io.y_stride = c->ffn_stride;
        break;
    case LINEAR_DOWN:
        io.x = c->g, io.x_stride = c->ffn_stride;
        io.y = c->y, io.y_stride = c->hidden_stride;
        break;
    case LINEAR_COUNT:
        break;
    }
    return io;
}

static struct site_io head_io(struct cpu_backend *c)
{
    return (struct site_io){.site = SITE_LM_HEAD(c->w.shape.layers),
                            .w = &c->w.head,
                            .view = &c->outs,
                            .x = c->out,
                            .x_stride = c->hidden_stride,
                            .y = c->logits,
                            .y_stride = c->vocab_stride};
}

/* y += c * y for one row, c the sum over its DoRA segments of weight * (g - 1). */
static void add_gain(const struct cpu_view *v, int site, int row, float *y, int begin, int end)
{
    for (int i = v->row_first[row]; i < v->row_first[row + 1]; i++) {
        if (v->segments[v->row_segment[i]].lora->sites[site].gain)
            goto found;
    }
    return;
found:
    for (int col = begin; col < end; col++) {
        float sum = 0.0f;
        for (int i = v->row_first[row]; i < v->row_first[row + 1]; i++) {
            const struct cpu_segment *s = &v->segments[v->row_segment[i]];
            if (s->lora->sites[site].gain)
                sum = fmaf(s->weight, s->lora->sites[site].gain[col], sum);
        }
        y[col] = fmaf(sum, y[col], y[col]);
    }
}

/* The segments' part of output panels [begin, end). */
static void add_segments(const struct cpu_backend *c, const struct site_io *io, int begin, int end)
{
    const struct cpu_view *v = io->view;
    int last = end * CPU_PANEL < io->w->n ? end * CPU_PANEL : io->w->n;
    bool any_gain = false;
    for (int i = 0; i < v->segment_count; i++)
        any_gain = any_gain || v->segments[i].lora->sites[io->site].gain;
    for (int r = 0; any_gain && r < v->rows; r++)
        add_gain(v, io->site, r, io->y + (size_t)r * io->y_stride, begin * CPU_PANEL, last);
    for (int i = 0; i < v->segment_count; i++) {
        const struct cpu_segment *s = &v->segments[i];
        const struct cpu_lora_site *m = &s->lora->sites[io->site];
        if (m->rank == 0)
            continue;
        struct cpu_gemm g = {.x = c->u + s->u_row * c->u_stride + m->column,
                             .x_stride = c->u_stride,
                             .rows = s->end - s->begin,
                             .w = &m->b,
                             .panel_begin = begin,
                             .panel_end = end,
                             .y = io->y + (size_t)s->begin * io->y_stride,
                             .y_stride = io->y_stride,
                             .add = true};
        c->kernels->gemm(&g);
    }
}

static void linear_panels(const struct cpu_backend *c, const struct site_io *io, int begin, int end)
{
    if (begin >= end)
        return;
    struct cpu_gemm g = {.x = io->x,
                         .x_stride = io->x_stride,
                         .rows = io->view->rows,
                         .w = io->w,
                         .panel_begin = begin,
                         .panel_end = end,
                         .y = io->y,
                         .y_stride = io->y_stride};
    c->kernels->gemm(&g);
    if (io->view->segment_count > 0)
        add_segments(c, io, begin, end);
    if (!io->bias)
        return;
    int first = begin * CPU_PANEL;
    int last = end * CPU_PANEL < io->w->n ? end * CPU_PANEL : io->w->n;
    for (int r = 0; r < io->view->rows; r++)
        c->kernels->add(io->y + (size_t)r * io->y_stride + first, io->bias + first, last - first);
}

/* The residual += y on the columns of panels [begin, end). */
static void add_residual(const struct cpu_backend *c, int layer, int begin, int end)
{
    int first = begin * CPU_PANEL;
    int last = end * CPU_PANEL < c->w.shape.hidden ? end * CPU_PANEL : c->w.shape.hidden;
    float *x = residual_of(c, layer);
    for (int r = 0; r < view_of(c, layer)->rows; r++) {
        size_t at = (size_t)r * c->hidden_stride + (size_t)first;
        c->kernels->add(x + at, c->y + at, last - first);
    }
}

static void task_qkv(void *ctx, int layer, int begin, int end, int thread)
{
    (void)thread;
    struct cpu_backend *c = ctx;
    int at = 0;
    for (int kind = LINEAR_Q; kind <= LINEAR_V; kind++) {
        struct site_io io = site_io(c, layer, (enum linear_kind)kind);
        int low = begin > at ? begin - at : 0;
        int high = end - at < io.w->panels ? end - at : io.w->panels;
        linear_panels(c, &io, low, high);
        at += io.w->panels;
    }
}

static void task_o(void *ctx, int layer, int begin, int end, int thread)
{
    (void)thread;
    struct site_io io = site_io(ctx, layer, LINEAR_O);
    linear_panels(ctx, &io, begin, end);
    add_residual(ctx, layer, begin, end);
}

static void task_down(void *ctx, int layer, int begin, int end, int thread)
{
    (void)thread;
    struct site_io io = site_io(ctx, layer, LINEAR_DOWN);
    linear_panels(ctx, &io, begin, end);
    add_residual(ctx, layer, begin, end);
}

static void task_gate_up(void *ctx, int layer, int begin, int end, int thread)
{
    (void)thread;
    struct cpu_backend *c = ctx;
    struct site_io gate = site_io(c, layer, LINEAR_GATE);
    struct site_io up = site_io(c, layer, LINEAR_UP);
    linear_panels(c, &gate, begin, end);
    linear_panels(c, &up, begin, end);
    int first = begin * CPU_PANEL;
    int last = end * CPU_PANEL < c->w.shape.ffn ? end * CPU_PANEL : c->w.shape.ffn;
    for (int r = 0; r < gate.view->rows; r++) {
        size_t at = (size_t)r * c->ffn_stride + (size_t)first;
        c->kernels->silu_mul(c->g + at, c->up + at, last - first);
    }
}

static void task_head(void *ctx, int arg, int begin, int end, int thread)
{
    (void)arg;
    (void)thread;
    struct site_io io = head_io(ctx);
    linear_panels(ctx, &io, begin, end);
}

/* u = (weight * scale) * A x of a stack for shrinks [begin, end). */
static void shrink(struct cpu_backend *c, int stack, const struct site_io *io, int begin, int end)
{
    const struct cpu_view *v = io->view;
    for (int i = begin; i < end; i++) {
        const struct cpu_shrink *part = &v->shrinks[i];
        const struct cpu_segment *s = &v->segments[part->segment];
        const struct cpu_lora_stack *a = &s->lora->stacks[stack];
        if (!a->a.data)
            continue;
        float *u = c->u + (s->u_row + (size_t)(part->begin - s->begin)) * c->u_stride;
        struct cpu_gemm g = {.x = io->x + (size_t)part->begin * io->x_stride,
                             .x_stride = io->x_stride,
                             .rows = part->end - part->begin,
                             .w = &a->a,
                             .panel_end = a->a.panels,
                             .y = u,
                             .y_stride = c->u_stride};
        c->kernels->gemm(&g);
        for (int r = part->begin; r < part->end; r++, u += c->u_stride) {
            for (int col = 0; col < a->a.n; col++)
                u[col] *= s->weight * a->scale[col];
        }
    }
}

static void task_shrink(void *ctx, int stack, int begin, int end, int thread)
{
    (void)thread;
    static const enum linear_kind reads[GROUP_COUNT] = {LINEAR_Q, LINEAR_O, LINEAR_GATE,
                                                        LINEAR_DOWN};
    struct cpu_backend *c = ctx;
    bool is_head = stack == STACK_HEAD(c->w.shape.layers);
    struct site_io io =
        is_head ? head_io(c) : site_io(c, stack / GROUP_COUNT, reads[stack % GROUP_COUNT]);
    shrink(c, stack, &io, begin, end);
}

static void record_shrink(struct cpu_backend *c, int stack, const struct cpu_view *v)
{
    size_t work = 0;
    for (int i = 0; i < v->segment_count; i++) {
        const struct cpu_segment *s = &v->segments[i];
        const struct cpu_matrix *a = &s->lora->stacks[stack].a;
        if (a->data)
            work += (size_t)(s->end - s->begin) * (size_t)a->panels * CPU_PANEL * (size_t)a->k;
    }
    if (work > 0)
        record(c, task_shrink, stack, v->shrink_count, work / (size_t)v->shrink_count);
}

static size_t panel_work(const struct cpu_view *v, int k)
{
    return (size_t)v->rows * CPU_PANEL * (size_t)k;
}

/* ---- Rows ---- */

/* x of a token: its embedding with the segments' part, as a linear without input. */
static void task_embed(void *ctx, int arg, int begin, int end, int thread)
{
    (void)arg;
    struct cpu_backend *c = ctx;
    const struct cpu_view *v = &c->all;
    int site = SITE_EMBED(c->w.shape.layers);
    float *u = c->embed_scratch + (size_t)thread * LIMIT_ADAPTER_RANK;
    for (int r = begin; r < end; r++) {
        int token = c->batch->token[r];
        float *x = c->x + (size_t)r * c->hidden_stride;
        cpu_weights_embed(&c->w, token, x);
        if (v->segment_count == 0)
            continue;
        add_gain(v, site, r, x, 0, c->w.shape.hidden);
        for (int i = v->row_first[r]; i < v->row_first[r + 1]; i++) {
            const struct cpu_segment *s = &v->segments[v->row_segment[i]];
            const struct cpu_lora_site *m = &s->lora->sites[site];
            if (m->rank == 0)
                continue;
            for (int k = 0; k < m->rank; k++)
                u[k] = s->lora->embed_a[(size_t)token * (size_t)m->rank + (size_t)k] *
                       (s->weight * s->lora->embed_scale);
            struct cpu_gemm g = {
                .x = u, .rows = 1, .w = &m->b, .panel_end = m->b.panels, .y = x, .add = true};
            c->kernels->gemm(&g);
        }
    }
}

static void norm_rows(struct cpu_backend *c, const float *x, const float *w, float *y, int begin,
                      int end)
{
    for (int r = begin; r < end; r++) {
        size_t at = (size_t)r * c->hidden_stride;
        c->kernels->norm(x + at, w, c->w.shape.hidden, (float)c->w.shape.rms_eps, y + at);
    }
}

static void task_attn_norm(void *ctx, int layer, int begin, int end, int thread)
{
    (void)thread;
    struct cpu_backend *c = ctx;
    norm_rows(c, c->x, c->w.layers[layer].attn_norm, c->n, begin, end);
}

static void task_mlp_norm(void *ctx, int layer, int begin, int end, int thread)
{
    (void)thread;
    struct cpu_backend *c = ctx;
    norm_rows(c, residual_of(c, layer), c->w.layers[layer].mlp_norm, c->n, begin, end);
}

static void task_final_norm(void *ctx, int arg, int begin, int end, int thread)
{
    (void)arg;
    (void)thread;
    struct cpu_backend *c = ctx;
    norm_rows(c, c->out, c->w.final_norm, c->out, begin, end);
}

/* The residual of output rows, before the last layer adds to it. */
static void task_take_outs(void *ctx, int arg, int begin, int end, int thread)
{
    (void)arg;
    (void)thread;
    struct cpu_backend *c = ctx;
    for (int o = begin; o < end; o++)
        memcpy(c->out + (size_t)o * c->hidden_stride,
               c->x + (size_t)c->batch->out_row[o] * c->hidden_stride,
               (size_t)c->w.shape.hidden * sizeof *c->out);
}

static float *kv_block(const struct cpu_backend *c, int layer, int page, int kv_head)
{
    return c->kv + (size_t)layer * c->layer_floats + (size_t)page * c->page_floats +
           (size_t)kv_head * CPU_KV_BLOCK(c->w.shape.head_dim);
}

/* Asks for the lines that a row's keys will be written to: one a dimension. */
static void fetch_kv(const struct cpu_backend *c, int layer, int row)
{
    const struct batch *b = c->batch;
    int pos = b->position[row];
    int page = b->page_table[b->seq_of_row[row] * b->page_stride + pos / CPU_PAGE];
    for (int h = 0; h < c->w.shape.kv_heads; h++) {
        const float *to = kv_block(c, layer, page, h);
        for (int i = 0; i < c->w.shape.head_dim; i++)
            __builtin_prefetch(to + i * CPU_PAGE, 1);
    }
}

/* Norm and RoPE of q and k; k and v into the row's place in its page. */
static void task_rope(void *ctx, int layer, int begin, int end, int thread)
{
    (void)thread;
    struct cpu_backend *c = ctx;
    const struct model_shape *shape = &c->w.shape;
    const struct cpu_layer *l = &c->w.layers[layer];
    const struct batch *b = c->batch;
    size_t d = (size_t)shape->head_dim;
    for (int r = begin; r < end; r++) {
        if (r + 1 < end)
            fetch_kv(c, layer, r + 1);
        int pos = b->position[r];
        int page = b->page_table[b->seq_of_row[r] * b->page_stride + pos / CPU_PAGE];
        int slot = pos % CPU_PAGE;
        struct cpu_rope rope = {.cos = c->w.rope_cos + (size_t)pos * d / 2,
                                .sin = c->w.rope_sin + (size_t)pos * d / 2,
                                .norm = l->q_norm,
                                .eps = (float)shape->rms_eps,
                                .head_dim = shape->head_dim};
        for (int h = 0; h < shape->heads; h++)
            c->kernels->rope(&rope, c->q + (size_t)r * c->q_stride + (size_t)h * d);
        rope.norm = l->k_norm;
        for (int h = 0; h < shape->kv_heads; h++) {
            float *k = c->k + (size_t)r * c->kv_stride + (size_t)h * d;
            float *v = c->v + (size_t)r * c->kv_stride + (size_t)h * d;
            float *to = kv_block(c, layer, page, h);
            c->kernels->rope(&rope, k);
            if (c->kv_type == KV_INT8) {
                kv_int8_round(k, d);
                kv_int8_round(v, d);
            }
            for (size_t i = 0; i < d; i++)
                to[i * CPU_PAGE + (size_t)slot] = k[i];
            float *to_v = to + d * CPU_PAGE + (size_t)slot * CPU_ROUND_LANES(d);
            memset(to_v, 0, CPU_ROUND_LANES(d) * sizeof *to_v);
            memcpy(to_v, v, d * sizeof *to_v);
        }
    }
}

/* Units: tile fastest, so that a kv head's pages stay in the cache. */
static void task_attend(void *ctx, int layer, int begin, int end, int thread)
{
    struct cpu_backend *c = ctx;
    const struct model_shape *shape = &c->w.shape;
    const struct batch *b = c->batch;
    int group = shape->heads / shape->kv_heads;
    size_t d = (size_t)shape->head_dim;
    const struct cpu_attend_tile *tiles = is_last(c, layer) ? c->out_tiles : c->tiles;
    int tile_count = is_last(c, layer) ? c->out_tile_count : c->tile_count;
    for (int i = begin; i < end; i++) {
        const struct cpu_attend_tile *t = &tiles[i % tile_count];
        int kv_head = i / tile_count / c->part_count;
        int first = i / tile_count % c->part_count * c->head_part;
        int heads = group - first < c->head_part ? group - first : c->head_part;
        size_t column = (size_t)(kv_head * group + first) * d;
        struct cpu_attend a = {.q = c->q + (size_t)t->begin * c->q_stride + column,
                               .q_stride = c->q_stride,
                               .out = c->a + (size_t)t->out * c->q_stride + column,
                               .out_stride = c->q_stride,
                               .rows = t->end - t->begin,
                               .heads = heads,
                               .head_dim = shape->head_dim,
                               .position = b->position[t->begin],
                               .window = shape->window,
                               .scale = (float)(1.0 / sqrt((double)shape->head_dim)),
                               .kv = kv_block(c, layer, 0, kv_head),
                               .page_floats = c->page_floats,
                               .pages = b->page_table + (size_t)t->seq * (size_t)b->page_stride,
                               .scratch = c->attend_scratch + (size_t)thread * c->attend_floats};
        if (heads > 0)
            c->kernels->attend(&a);
    }
}

static void task_sample(void *ctx, int arg, int begin, int end, int thread)
{
    (void)arg;
    struct cpu_backend *c = ctx;
    for (int o = begin; o < end; o++)
        if (!c->batch->out[o].hidden)
            sample_logits(c->logits + (size_t)o * c->vocab_stride, c->w.shape.vocab,
                          &c->batch->out[o], c->sample_scratch + (size_t)thread * c->sample_floats,
                          &c->results[o]);
}

/* ---- Operations of backend.h ---- */

void cpu_step_embed(struct backend *b)
{
    struct cpu_backend *c = self(b);
    record(c, task_embed, 0, c->all.rows, (size_t)c->w.shape.hidden * EMBED_WORK);
}

void cpu_step_attn_in(struct backend *b, int layer)
{
    struct cpu_backend *c = self(b);
    const struct model_shape *s = &c->w.shape;
    const struct cpu_matrix *w = c->w.layers[layer].linear;
    record(c, task_attn_norm, layer, c->all.rows, (size_t)s->hidden * ROW_WORK);
    record_shrink(c, layer * GROUP_COUNT + GROUP_QKV, &c->all);
    record_panels(c, task_qkv, layer, w[LINEAR_Q].panels + w[LINEAR_K].panels + w[LINEAR_V].panels,
                  panel_work(&c->all, s->hidden));
    record(c, task_rope, layer, c->all.rows,
           ((size_t)s->heads * ROPE_WORK + (size_t)s->kv_heads * KV_WORK) * (size_t)s->head_dim);
}

void cpu_step_attend(struct backend *b, int layer)
{
    struct cpu_backend *c = self(b);
    const struct model_shape *s = &c->w.shape;
    size_t context = 0;
    for (int i = 0; i < c->batch->seqs; i++)
        context += (size_t)c->batch->kv_len[i];
    size_t mean = c->batch->seqs > 0 ? context / (size_t)c->batch->seqs : 0;
    int tiles = is_last(c, layer) ? c->out_tile_count : c->tile_count;
    record(c, task_attend, layer, tiles * s->kv_heads * c->part_count,
           ATTEND_WORK + mean * 2 * (size_t)c->head_part * (size_t)s->head_dim);
}

void cpu_step_attn_out(struct backend *b, int layer)
{
    struct cpu_backend *c = self(b);
    const struct cpu_view *v = view_of(c, layer);
    const struct cpu_matrix *w = &c->w.layers[layer].linear[LINEAR_O];
    if (v->rows == 0)
        return;
    if (is_last(c, layer))
        record(c, task_take_outs, layer, v->rows, (size_t)c->w.shape.hidden);
    record_shrink(c, layer * GROUP_COUNT + GROUP_O, v);
    record_panels(c, task_o, layer, w->panels, panel_work(v, w->k));
}

void cpu_step_mlp_in(struct backend *b, int layer)
{
    struct cpu_backend *c = self(b);
    const struct cpu_view *v = view_of(c, layer);
    const struct cpu_matrix *w = &c->w.layers[layer].linear[LINEAR_GATE];
    if (v->rows == 0)
        return;
    record(c, task_mlp_norm, layer, v->rows, (size_t)c->w.shape.hidden * ROW_WORK);
    record_shrink(c, layer * GROUP_COUNT + GROUP_GATE_UP, v);
    record_panels(c, task_gate_up, layer, w->panels, 2 * panel_work(v, w->k));
}

void cpu_step_mlp_out(struct backend *b, int layer)
{
    struct cpu_backend *c = self(b);
    const struct cpu_view *v = view_of(c, layer);
    const struct cpu_matrix *w = &c->w.layers[layer].linear[LINEAR_DOWN];
    if (v->rows == 0)
        return;
    record_shrink(c, layer * GROUP_COUNT + GROUP_DOWN, v);
    record_panels(c, task_down, layer, w->panels, panel_work(v, w->k));
}

void cpu_step_head(struct backend *b)
{
    struct cpu_backend *c = self(b);
    if (c->outs.rows == 0)
        return;
    record(c, task_final_norm, 0, c->outs.rows, (size_t)c->w.shape.hidden * ROW_WORK);
    if (!c->draws)
        return;
    record_shrink(c, STACK_HEAD(c->w.shape.layers), &c->outs);
    record_panels(c, task_head, 0, c->w.head.panels, panel_work(&c->outs, c->w.shape.hidden));
}

void cpu_step_sample(struct backend *b)
{
    struct cpu_backend *c = self(b);
    if (c->draws)
        record(c, task_sample, 0, c->outs.rows, (size_t)c->w.shape.vocab * SAMPLE_WORK);
}

enum status cpu_step_launch(struct backend *b)
{
    cpu_pool_start(self(b)->pool);
    return STATUS_OK;
}

enum status cpu_step_finish(struct backend *b, struct sample_result *results, struct err *e)
{
    (void)e;
    struct cpu_backend *c = self(b);
    cpu_pool_join(c->pool);
    memcpy(results, c->results, (size_t)c->outs.rows * sizeof *results);
    c->batch = NULL;
    return STATUS_OK;
}
