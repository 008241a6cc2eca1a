/* The layout is one function, place, which counts for the plan and places for the load. Loading
 * walks the tensors once; each goes through the staging ring (cuda_stage) in slabs of rows. */
#include "cuda/cuda_weights.h"

#include <string.h>

#include "cuda/cuda_error.h"
#include "cuda/cuda_stage.h"
#include "cuda/k_quantise.h"
#include "cuda/stack_shape.h"
#include "engine/model/rope.h"

/* ---- layout ---- */

static struct dev_matrix place_matrix(const struct model_shape *s, int stack, enum weight_format f,
                                      struct cuda_carve *c)
{
    struct stack_shape shape;
    stack_shape_init(s, stack, &shape);
    struct dev_matrix w = {
        .format = f, .n = shape.n, .k = shape.k, .tiles = shape.tiles, .groups = shape.groups};
    w.data = cuda_carve(c, (size_t)w.tiles * (size_t)w.groups, tile_bytes(f));
    if (f == WEIGHT_INT8)
        w.row_scale = cuda_carve(c, (size_t)w.tiles * TILE_N, sizeof *w.row_scale);
    return w;
}

static float *place_floats(size_t count, struct cuda_carve *c)
{
    return cuda_carve(c, count, sizeof(float));
}

/* Biases have their place whether or not the model has any: the plan knows the shape only. */
static void place_layer(const struct cuda_weights *w, int l, struct cuda_layer *out,
                        struct cuda_carve *c)
{
    size_t hidden = PAD_K((size_t)w->shape.hidden), dim = (size_t)w->shape.head_dim;
    for (int k = 0; k < STACK_KINDS; k++)
        out->linear[k] = place_matrix(&w->shape, STACK_OF(l, k), w->formats.layers, c);
    for (int k = 0; k < STACK_KINDS; k++)
        out->bias[k] = place_floats((size_t)out->linear[k].tiles * TILE_N, c);
    out->attn_norm = place_floats(hidden, c);
    out->mlp_norm = place_floats(hidden, c);
    out->q_norm = place_floats(dim, c);
    out->k_norm = place_floats(dim, c);
}

/* w->layers NULL: only counts. */
static bool place(struct cuda_weights *w, uintptr_t base, struct cuda_weights_sum *sum)
{
    const struct model_shape *s = &w->shape;
    struct cuda_carve c = {.base = base};
    struct cuda_layer unkept;
    if (!w->host_embed)
        w->embed = cuda_carve(&c, (size_t)s->vocab, (size_t)s->hidden * sizeof *w->embed);
    size_t embed_end = c.used;
    w->head = place_matrix(s, STACK_HEAD(s->layers), w->formats.head, &c);
    size_t head_end = c.used;
    w->final_norm = place_floats(PAD_K((size_t)s->hidden), &c);
    size_t half = (size_t)s->head_dim / 2 * sizeof *w->rope_cos;
    w->rope_cos = cuda_carve(&c, (size_t)w->positions, half);
    w->rope_sin = cuda_carve(&c, (size_t)w->positions, half);
    size_t rope_end = c.used;
    for (int l = 0; l < s->layers; l++)
        place_layer(w, l, w->layers ? &w->layers[l] : &unkept, &c);
    *sum = (struct cuda_weights_sum){.embed = embed_end,
                                     .head = head_end - embed_end,
                                     .rope = rope_end - head_end,
                                     .layers = c.used - rope_end};
    return !c.overflow;
}

size_t cuda_weights_total(const struct cuda_weights_sum *s)
{
    return s->layers + s->head + s->embed + s->rope;
}

bool cuda_weights_bytes(const struct model_shape *s, struct cuda_formats f, int positions,
                        bool host_embed, struct cuda_weights_sum *out)
{
    struct cuda_weights w = {
        .shape = *s, .formats = f, .positions = positions, .host_embed = host_embed};
    return place(&w, 0, out);
}

size_t cuda_weights_embed_bytes(const struct model_shape *s)
{
    return (size_t)s->vocab * (size_t)s->hidden * sizeof(uint16_t);
}

const struct dev_matrix *cuda_weights_stack(const struct cuda_weights *w, int stack)
{
    int layers = w->shape.layers;
    return stack == STACK_HEAD(layers)
               ? &w->head
               : &w->layers[stack / STACK_KINDS].linear[stack % STACK_KINDS];
}

/* ---- loading ---- */

struct loader {
    struct cuda_weights *w;
    const struct model *m;
    struct cuda_stage *stage;
    const struct progress *progress;
    size_t done;
    struct err *e;
};

static void report(struct loader *ld, size_t bytes)
{
    ld->done += bytes;
    if (ld->progress && ld->progress->fn)
        ld->progress->fn(ld->progress->ctx, "packing weights",
                         ld->done < ld->m->weight_bytes ? ld->done : ld->m->weight_bytes - 1,
                         ld->m->weight_bytes);
}

static enum source_type source_of(enum dtype d)
{
    return d == DTYPE_F32 ? SOURCE_F32 : d == DTYPE_F16 ? SOURCE_F16 : SOURCE_BF16;
}

/* Rows of a tensor as rows of module m of a stack. Slabs are whole groups of 8 rows, which an
 * interleaved matrix needs. */
static enum status load_rows(struct loader *ld, const struct tensor *t, const struct stack_shape *s,
                             int m, const struct dev_matrix *w)
{
    size_t row_bytes = (size_t)t->cols * dtype_bytes(t->dtype);
    int rows = (int)t->rows, slab = (int)(ld->stage->bytes / row_bytes) / 8 * 8;
    CHECK(slab > 0 && rows == s->rows[m]);
    for (int r = 0; r < rows; r += slab) {
        int count = rows - r < slab ? rows - r : slab;
        size_t bytes = (size_t)count * row_bytes;
        const void *on_device;
        void *host;
        enum status st = cuda_stage_take(ld->stage, &host, ld->e);
        if (st != STATUS_OK)
            return st;
        memcpy(host, (const char *)t->data + (size_t)r * row_bytes, bytes);
        st = cuda_stage_send(ld->stage, bytes, &on_device, ld->e);
        if (st != STATUS_OK)
            return st;
        st = cuda_quantise(&(struct quantise_args){.rows = on_device,
                                                   .type = source_of(t->dtype),
                                                   .row_count = count,
                                                   .k = s->k,
                                                   .w = *w,
                                                   .row_first = stack_shape_row(s, m, r),
                                                   .interleave = s->interleaved},
                           ld->stage->stream);
        if (st == STATUS_OK)
            st = cuda_stage_done(ld->stage, ld->e);
        else
            err_set(ld->e, st, "model", "packing a matrix of %d columns: %s", s->k,
                    status_code(st));
        if (st != STATUS_OK)
            return st;
        report(ld, bytes);
    }
    return STATUS_OK;
}

/* The open buffer's first bytes to their place, and closes it. */
static enum status send(struct loader *ld, void *to, const void *host, size_t bytes)
{
    enum status st = cuda_stage_copy(ld->stage, to, host, bytes, ld->e);
    return st == STATUS_OK ? cuda_stage_done(ld->stage, ld->e) : st;
}

/* Widens a vector; where the model has none, *to becomes NULL. */
static enum status load_vector(struct loader *ld, const struct tensor *t, float **to)
{
    if (!t->data) {
        *to = NULL;
        return STATUS_OK;
    }
    void *host;
    enum status st = cuda_stage_take(ld->stage, &host, ld->e);
    if (st != STATUS_OK)
        return st;
    tensor_read_f32(t, 0, tensor_count(t), host);
    return send(ld, *to, host, tensor_count(t) * sizeof **to);
}

static void scatter_bias(const struct tensor *t, const struct stack_shape *s, int m, float *out)
{
    for (int r = 0; r < s->rows[m]; r++)
        tensor_read_f32(t, (size_t)r, 1, &out[stack_shape_row(s, m, r)]);
}

static enum status load_bias(struct loader *ld, const struct model_layer *from,
                             const struct stack_shape *s, float **to)
{
    bool any = false;
    for (int m = 0; m < s->modules; m++)
        any = any || from->bias[s->site[m] % LINEAR_COUNT].data;
    if (!any) {
        *to = NULL;
        return STATUS_OK;
    }
    size_t count = (size_t)s->tiles * TILE_N;
    void *host;
    enum status st = cuda_stage_take(ld->stage, &host, ld->e);
    if (st != STATUS_OK)
        return st;
    memset(host, 0, count * sizeof **to);
    for (int m = 0; m < s->modules; m++) {
        const struct tensor *t = &from->bias[s->site[m] % LINEAR_COUNT];
        if (t->data)
            scatter_bias(t, s, m, host);
    }
    return send(ld, *to, host, count * sizeof **to);
}

static enum status load_stack(struct loader *ld, const struct model_layer *from, int stack,
                              struct cuda_layer *to)
{
    int kind = stack % STACK_KINDS;
    struct stack_shape s;
    stack_shape_init(&ld->w->shape, stack, &s);
    enum status st = load_bias(ld, from, &s, &to->bias[kind]);
    for (int m = 0; st == STATUS_OK && m < s.modules; m++)
        st = load_rows(ld, &from->linear[s.site[m] % LINEAR_COUNT], &s, m, &to->linear[kind]);
    return st;
}

static enum status load_layer(struct loader *ld, int l)
{
    const struct model_layer *from = &ld->m->layers[l];
    struct cuda_layer *to = &ld->w->layers[l];
    enum status st = load_vector(ld, &from->attn_norm, &to->attn_norm);
    if (st == STATUS_OK)
        st = load_vector(ld, &from->mlp_norm, &to->mlp_norm);
    if (st == STATUS_OK)
        st = load_vector(ld, &from->q_norm, &to->q_norm);
    if (st == STATUS_OK)
        st = load_vector(ld, &from->k_norm, &to->k_norm);
    for (int k = 0; st == STATUS_OK && k < STACK_KINDS; k++)
        st = load_stack(ld, from, STACK_OF(l, k), to);
    return st;
}

static enum status load_head(struct loader *ld)
{
    struct stack_shape s;
    stack_shape_init(&ld->w->shape, STACK_HEAD(ld->w->shape.layers), &s);
    return load_rows(ld, &ld->m->lm_head, &s, 0, &ld->w->head);
}

/* Round to nearest, ties to even; NaN stays NaN. */
static uint16_t bf16_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static void read_bf16(const struct tensor *t, size_t at, size_t count, uint16_t *out)
{
    if (t->dtype == DTYPE_BF16) {
        memcpy(out, (const char *)t->data + at * sizeof *out, count * sizeof *out);
        return;
    }
    float part[256];
    for (size_t i = 0, n; i < count; i += n) {
        n = count - i < 256 ? count - i : 256;
        tensor_read_f32(t, at + i, n, part);
        for (size_t k = 0; k < n; k++)
            out[i + k] = bf16_of(part[k]);
    }
}

static enum status load_embed(struct loader *ld)
{
    const struct tensor *t = &ld->m->embed;
    size_t total = tensor_count(t), slab = ld->stage->bytes / sizeof(uint16_t);
    if (ld->w->host_embed) {
        read_bf16(t, 0, total, ld->w->embed);
        return STATUS_OK;
    }
    for (size_t at = 0; at < total; at += slab) {
        size_t count = total - at < slab ? total - at : slab;
        void *host;
        enum status st = cuda_stage_take(ld->stage, &host, ld->e);
        if (st != STATUS_OK)
            return st;
        read_bf16(t, at, count, host);
        st = send(ld, ld->w->embed + at, host, count * sizeof(uint16_t));
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

static enum status load_rope(struct loader *ld)
{
    struct cuda_weights *w = ld->w;
    size_t half = (size_t)w->shape.head_dim / 2;
    int slab = (int)(ld->stage->bytes / (half * sizeof(float)) / 2);
    for (int p = 0; p < w->positions; p += slab) {
        int count = w->positions - p < slab ? w->positions - p : slab;
        size_t n = (size_t)count * half, at = (size_t)p * half;
        void *host;
        enum status st = cuda_stage_take(ld->stage, &host, ld->e);
        if (st != STATUS_OK)
            return st;
        float *cosines = host, *sines = cosines + n;
        rope_tables(&w->shape, p, count, cosines, sines);
        st = cuda_stage_copy(ld->stage, w->rope_cos + at, cosines, n * sizeof(float), ld->e);
        if (st == STATUS_OK)
            st = send(ld, w->rope_sin + at, sines, n * sizeof(float));
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

/* Tensors in any order; what the file has first comes first. */
static enum status load_all(struct loader *ld)
{
    enum status st = load_rope(ld);
    if (st == STATUS_OK)
        st = load_embed(ld);
    if (st == STATUS_OK)
        st = load_vector(ld, &ld->m->final_norm, &ld->w->final_norm);
    for (int l = 0; st == STATUS_OK && l < ld->w->shape.layers; l++)
        st = load_layer(ld, l);
    return st == STATUS_OK ? load_head(ld) : st;
}

/* Of a staging buffer: 16 MiB hide the latency of a copy; a small model needs less; a slab of 8
 * rows, or a bias of gate and up, must fit. */
static size_t stage_bytes(const struct model *m)
{
    const struct model_shape *s = &m->shape;
    size_t width = (size_t)s->heads * (size_t)s->head_dim;
    width = width > (size_t)s->hidden ? width : (size_t)s->hidden;
    width = width > (size_t)s->ffn ? width : (size_t)s->ffn;
    size_t least = 8 * sizeof(float) * PAD_K(width), bytes = (size_t)16 << 20;
    bytes = bytes < m->weight_bytes ? bytes : m->weight_bytes;
    return bytes > least ? bytes : least;
}

enum status cuda_weights_load(struct cuda_weights *w, const struct model *m, struct cuda_formats f,
                              int positions, void *base, void *host_embed, cudaStream_t stream,
                              const struct progress *progress, struct err *e)
{
    *w = (struct cuda_weights){.shape = m->shape,
                               .formats = f,
                               .positions = positions,
                               .embed = host_embed,
                               .host_embed = host_embed != NULL};
    arena_init(&w->host, SIZE_MAX);
    w->layers = arena_alloc(&w->host, (size_t)m->shape.layers, sizeof *w->layers);
    if (!w->layers)
        return err_set(e, STATUS_NO_MEMORY, "model", "out of memory while loading the weights");
    struct cuda_weights_sum sum;
    bool fits = place(w, (uintptr_t)base, &sum);
    CHECK(fits);
    struct cuda_stage stage;
    struct loader ld = {.w = w, .m = m, .stage = &stage, .progress = progress, .e = e};
    enum status st = cuda_error(cudaMemsetAsync(base, 0, cuda_weights_total(&sum), stream),
                                "loading the model", e);
    if (st != STATUS_OK)
        return st;
    st = cuda_stage_init(&stage, stage_bytes(m), stream, e);
    if (st == STATUS_OK)
        st = load_all(&ld);
    enum status last =
        cuda_error(cudaStreamSynchronize(stream), "loading the model", st == STATUS_OK ? e : NULL);
    cuda_stage_deinit(&stage);
    st = st == STATUS_OK ? last : st;
    /* What was packed is not what the files hold, to the byte. */
    if (st == STATUS_OK && progress && progress->fn)
        progress->fn(progress->ctx, "packing weights", m->weight_bytes, m->weight_bytes);
    return st;
}

void cuda_weights_deinit(struct cuda_weights *w)
{
    arena_deinit(&w->host);
    *w = (struct cuda_weights){0};
}
