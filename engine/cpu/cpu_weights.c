#include "engine/cpu/cpu_weights.h"

#include <string.h>

#include "engine/base/checked.h"
#include "engine/base/mem.h"
#include "engine/model/rope.h"

static bool add_matrix(const struct tensor *t, size_t *sum)
{
    size_t bytes;
    return cpu_matrix_bytes(t->dtype, (int)t->rows, (int)t->cols, &bytes) &&
           checked_add(*sum, bytes, sum);
}

static bool is_tied(const struct model *m)
{
    return m->shape.tied_head || m->lm_head.data == m->embed.data;
}

static bool rope_bytes(const struct model *m, int positions, size_t *out)
{
    return checked_mul((size_t)positions, (size_t)m->shape.head_dim * sizeof(float), out);
}

bool cpu_weights_bytes(const struct model *m, int positions, size_t *out)
{
    size_t sum;
    if (!rope_bytes(m, positions, &sum))
        return false;
    bool ok = add_matrix(&m->lm_head, &sum);
    if (!is_tied(m))
        ok = ok && checked_add(sum, tensor_bytes(&m->embed), &sum);
    for (int l = 0; ok && l < m->shape.layers; l++) {
        for (int i = 0; ok && i < LINEAR_COUNT; i++)
            ok = add_matrix(&m->layers[l].linear[i], &sum);
    }
    if (ok)
        *out = sum;
    return ok;
}

struct loader {
    struct cpu_weights *w;
    struct cpu_pool *pool;
    const struct progress *progress;
    size_t done;
    size_t total;
    struct cpu_matrix *matrix; /* being packed */
    const struct tensor *from;
};

static void report(struct loader *ld, size_t bytes)
{
    ld->done += bytes;
    if (ld->progress && ld->progress->fn)
        ld->progress->fn(ld->progress->ctx, "packing weights",
                         ld->done < ld->total ? ld->done : ld->total - 1, ld->total);
}

static void pack_job(void *ctx, int arg, int begin, int end, int thread)
{
    (void)arg;
    (void)thread;
    struct loader *ld = ctx;
    cpu_matrix_pack(ld->matrix, 0, ld->from, NULL, begin, end);
}

static enum status load_matrix(struct loader *ld, const struct tensor *t, struct cpu_matrix *out)
{
    enum status st = cpu_matrix_init(out, t->dtype, (int)t->rows, (int)t->cols);
    if (st != STATUS_OK)
        return st;
    ld->matrix = out;
    ld->from = t;
    cpu_pool_run(ld->pool, (struct cpu_job){.fn = pack_job, .ctx = ld}, out->panels, 1);
    report(ld, tensor_bytes(t));
    return STATUS_OK;
}

/* Widens a vector; NULL stays NULL. */
static enum status load_vector(struct loader *ld, const struct tensor *t, const float **out)
{
    if (!t->data)
        return STATUS_OK;
    size_t count = tensor_count(t);
    float *v = arena_alloc(&ld->w->vectors, count, sizeof *v);
    if (!v)
        return STATUS_NO_MEMORY;
    tensor_read_f32(t, 0, count, v);
    *out = v;
    return STATUS_OK;
}

static enum status load_layer(struct loader *ld, const struct model_layer *from,
                              struct cpu_layer *to)
{
    enum status st = load_vector(ld, &from->attn_norm, &to->attn_norm);
    if (st == STATUS_OK)
        st = load_vector(ld, &from->mlp_norm, &to->mlp_norm);
    if (st == STATUS_OK)
        st = load_vector(ld, &from->q_norm, &to->q_norm);
    if (st == STATUS_OK)
        st = load_vector(ld, &from->k_norm, &to->k_norm);
    for (int i = 0; st == STATUS_OK && i < LINEAR_COUNT; i++) {
        st = load_vector(ld, &from->bias[i], &to->bias[i]);
        if (st == STATUS_OK)
            st = load_matrix(ld, &from->linear[i], &to->linear[i]);
    }
    return st;
}

static enum status load_rope(struct cpu_weights *w, int positions)
{
    size_t count = (size_t)positions * (size_t)(w->shape.head_dim / 2);
    float *c = arena_alloc(&w->vectors, count, sizeof *c);
    float *s = arena_alloc(&w->vectors, count, sizeof *s);
    if (!c || !s)
        return STATUS_NO_MEMORY;
    rope_tables(&w->shape, 0, positions, c, s);
    w->rope_cos = c;
    w->rope_sin = s;
    return STATUS_OK;
}

static enum status load_embed(struct loader *ld, const struct model *m)
{
    struct cpu_weights *w = ld->w;
    size_t bytes = tensor_bytes(&m->embed);
    if (is_tied(m))
        return STATUS_OK;
    void *copy = mem_alloc_aligned(bytes);
    if (!copy)
        return STATUS_NO_MEMORY;
    memcpy(copy, m->embed.data, bytes);
    w->embed = m->embed;
    w->embed.data = copy;
    report(ld, bytes);
    return STATUS_OK;
}

enum status cpu_weights_load(struct cpu_weights *w, const struct model *m, int positions,
                             struct cpu_pool *pool, const struct progress *progress, struct err *e)
{
    *w = (struct cpu_weights){.shape = m->shape};
    arena_init(&w->vectors, SIZE_MAX);
    struct loader ld = {.w = w, .pool = pool, .progress = progress, .total = m->weight_bytes};
    enum status st = STATUS_NO_MEMORY;
    w->layers = arena_alloc(&w->vectors, (size_t)m->shape.layers, sizeof *w->layers);
    if (w->layers)
        st = load_vector(&ld, &m->final_norm, &w->final_norm);
    if (st == STATUS_OK)
        st = load_rope(w, positions);
    if (st == STATUS_OK)
        st = load_embed(&ld, m);
    if (st == STATUS_OK)
        st = load_matrix(&ld, &m->lm_head, &w->head);
    for (int l = 0; st == STATUS_OK && l < m->shape.layers; l++)
        st = load_layer(&ld, &m->layers[l], &w->layers[l]);
    if (st == STATUS_OK) { /* what was packed is not what the files hold, to the byte */
        if (progress && progress->fn)
            progress->fn(progress->ctx, "packing weights", ld.total, ld.total);
        return STATUS_OK;
    }
    cpu_weights_deinit(w);
    return err_set(e, st, "model", "out of memory while packing the weights");
}

void cpu_weights_deinit(struct cpu_weights *w)
{
    for (int l = 0; w->layers && l < w->shape.layers; l++) {
        for (int i = 0; i < LINEAR_COUNT; i++)
            cpu_matrix_deinit(&w->layers[l].linear[i]);
    }
    cpu_matrix_deinit(&w->head);
    mem_free((void *)w->embed.data);
    arena_deinit(&w->vectors);
    *w = (struct cpu_weights){0};
}

void cpu_weights_embed(const struct cpu_weights *w, int token, float *out)
{
    size_t m = (size_t)w->shape.hidden;
    if (w->embed.data)
        tensor_read_f32(&w->embed, (size_t)token * m, m, out);
    else
        cpu_matrix_row(&w->head, token, out);
}

const struct cpu_matrix *cpu_weights_site(const struct cpu_weights *w, int site)
{
    int layers = w->shape.layers;
    if (site < SITE_LM_HEAD(layers))
        return &w->layers[site / LINEAR_COUNT].linear[site % LINEAR_COUNT];
    return site == SITE_LM_HEAD(layers) ? &w->head : NULL;
}
