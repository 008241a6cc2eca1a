#include "engine/cpu/cpu_lora.h"

#include "engine/base/mem.h"
#include "engine/cpu/cpu_dora.h"

/* Sites of a group, in stacking order. */
static const struct {
    int count;
    enum linear_kind kind[3];
} group_sites[GROUP_COUNT] = {
    [GROUP_QKV] = {3, {LINEAR_Q, LINEAR_K, LINEAR_V}},
    [GROUP_O] = {1, {LINEAR_O}},
    [GROUP_GATE_UP] = {2, {LINEAR_GATE, LINEAR_UP}},
    [GROUP_DOWN] = {1, {LINEAR_DOWN}},
};

static int stack_sites(int layers, int stack, int site[3])
{
    if (stack == STACK_HEAD(layers)) {
        site[0] = SITE_LM_HEAD(layers);
        return 1;
    }
    int group = stack % GROUP_COUNT;
    for (int i = 0; i < group_sites[group].count; i++)
        site[i] = SITE_OF(stack / GROUP_COUNT, group_sites[group].kind[i]);
    return group_sites[group].count;
}

static const struct lora_module *find_module(const struct lora *l, int site)
{
    for (int i = 0; i < l->module_count; i++) {
        if (l->modules[i].site == site)
            return &l->modules[i];
    }
    return NULL;
}

/* Quantised factors are expanded. */
static enum dtype kept_as(const struct tensor *t)
{
    return dtype_is_quantised(t->dtype) ? DTYPE_F32 : t->dtype;
}

static int whole_panels(int columns)
{
    return (columns + CPU_PANEL - 1) / CPU_PANEL * CPU_PANEL;
}

static enum status build_stack(struct cpu_lora *c, const struct lora *l, int stack)
{
    int site[3];
    const struct lora_module *found[3];
    int count = stack_sites(c->layers, stack, site);
    int columns = 0, in = 0;
    enum dtype dtype = DTYPE_F32;
    for (int i = 0; i < count; i++) {
        found[i] = find_module(l, site[i]);
        if (!found[i])
            continue;
        enum dtype own = kept_as(&found[i]->a);
        dtype = columns == 0 || dtype == own ? own : DTYPE_F32;
        c->sites[site[i]].column = columns;
        columns += found[i]->rank;
        in = found[i]->in;
    }
    if (columns == 0)
        return STATUS_OK;
    struct cpu_lora_stack *s = &c->stacks[stack];
    enum status st = cpu_matrix_init(&s->a, dtype, columns, in);
    if (st != STATUS_OK)
        return st;
    s->scale = mem_calloc((size_t)whole_panels(columns), sizeof *s->scale);
    if (!s->scale)
        return STATUS_NO_MEMORY;
    for (int i = 0; i < count; i++) {
        if (!found[i])
            continue;
        int column = c->sites[site[i]].column;
        cpu_matrix_pack(&s->a, column, &found[i]->a, NULL, 0, s->a.panels);
        for (int r = 0; r < found[i]->rank; r++)
            s->scale[column + r] = found[i]->scale;
    }
    if (whole_panels(columns) > c->columns_max)
        c->columns_max = whole_panels(columns);
    return STATUS_OK;
}

static enum status build_site(const struct cpu_env *env, struct cpu_lora *c,
                              const struct lora_module *m)
{
    struct cpu_lora_site *s = &c->sites[m->site];
    s->rank = m->rank;
    enum status st =
        cpu_matrix_init(&s->b, m->magnitude.data ? DTYPE_F32 : kept_as(&m->b), m->out, m->rank);
    if (st != STATUS_OK)
        return st;
    if (m->magnitude.data) {
        s->gain = mem_alloc((size_t)m->out, sizeof *s->gain);
        if (!s->gain)
            return STATUS_NO_MEMORY;
        st = cpu_dora_gain(env, m, s->gain);
        if (st != STATUS_OK)
            return st;
    }
    cpu_matrix_pack(&s->b, 0, &m->b, s->gain, 0, s->b.panels);
    for (int i = 0; s->gain && i < m->out; i++)
        s->gain[i] -= 1.0f;
    return STATUS_OK;
}

/* A [R, V] turned to [V, R]: a token's column is then contiguous. */
static enum status build_embed(struct cpu_lora *c, const struct lora_module *m)
{
    size_t rank = (size_t)m->rank;
    size_t vocab = (size_t)m->in;
    float *a = mem_alloc(vocab, rank * sizeof *a);
    float *row = mem_alloc(vocab, sizeof *row);
    if (!a || !row) {
        mem_free(a);
        mem_free(row);
        return STATUS_NO_MEMORY;
    }
    for (size_t r = 0; r < rank; r++) {
        tensor_read_f32(&m->a, r * vocab, vocab, row);
        for (size_t v = 0; v < vocab; v++)
            a[v * rank + r] = row[v];
    }
    mem_free(row);
    c->embed_a = a;
    c->embed_scale = m->scale;
    return STATUS_OK;
}

static enum status build_all(const struct cpu_env *env, struct cpu_lora *c, const struct lora *l)
{
    for (int i = 0; i < l->module_count; i++) {
        enum status st = build_site(env, c, &l->modules[i]);
        if (st == STATUS_OK && l->modules[i].site == SITE_EMBED(c->layers))
            st = build_embed(c, &l->modules[i]);
        if (st != STATUS_OK)
            return st;
    }
    for (int i = 0; i < STACK_COUNT(c->layers); i++) {
        enum status st = build_stack(c, l, i);
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

enum status cpu_lora_build(const struct cpu_env *env, const struct lora *l, struct cpu_lora **out,
                           struct err *e)
{
    int layers = env->w->shape.layers;
    struct cpu_lora *c = mem_calloc(1, sizeof *c);
    if (!c)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory for an adapter");
    c->layers = layers;
    c->sites = mem_calloc((size_t)SITE_COUNT(layers), sizeof *c->sites);
    c->stacks = mem_calloc((size_t)STACK_COUNT(layers), sizeof *c->stacks);
    enum status st = c->sites && c->stacks ? build_all(env, c, l) : STATUS_NO_MEMORY;
    if (st != STATUS_OK) {
        cpu_lora_free(c);
        return err_set(e, st, NULL, "out of memory for an adapter");
    }
    *out = c;
    return STATUS_OK;
}

void cpu_lora_free(struct cpu_lora *c)
{
    if (!c)
        return;
    for (int i = 0; c->sites && i < SITE_COUNT(c->layers); i++) {
        cpu_matrix_deinit(&c->sites[i].b);
        mem_free(c->sites[i].gain);
    }
    for (int i = 0; c->stacks && i < STACK_COUNT(c->layers); i++) {
        cpu_matrix_deinit(&c->stacks[i].a);
        mem_free(c->stacks[i].scale);
    }
    mem_free(c->sites);
    mem_free(c->stacks);
    mem_free(c->embed_a);
    mem_free(c);
}
