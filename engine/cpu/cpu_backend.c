/* The CPU backend: float32, threaded, the oracle of every test. This file opens, loads and closes;
 * cpu_step.c runs steps; cpu_kernel.h states the rule that makes a row's bits its own. */
#include "engine/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/checked.h"
#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "engine/cpu/cpu_state.h"

/* Larger steps compute no row faster, and streams wait for the whole step that a prompt shares with
 * them (BENCHMARKS.md, "Steps of the CPU"). */
#define ROWS_BEST 128

static struct cpu_backend *self(struct backend *b)
{
    return (struct cpu_backend *)b;
}

/* ---- Workspace: every buffer is an entry of regions[], so that planning, allocating and freeing
 * walk one list ---- */

/* Rows of whole panels, and one more line so that rows of 4096 bytes do not share a cache set. */
static size_t stride_of(size_t columns)
{
    return (columns + CPU_PANEL - 1) / CPU_PANEL * CPU_PANEL + CPU_LANES;
}

static size_t page_floats_of(const struct model_shape *s)
{
    return (size_t)s->kv_heads * CPU_KV_BLOCK(s->head_dim);
}

/* `at`: address of the pointer. A size that overflows is kept as SIZE_MAX and refused later. */
static void add_region(struct cpu_backend *c, void *at, size_t count, size_t bytes)
{
    CHECK(c->region_count < CPU_REGIONS_MAX);
    struct cpu_region *r = &c->regions[c->region_count++];
    r->at = at;
    if (!checked_mul(count, bytes, &r->bytes))
        r->bytes = SIZE_MAX;
}

static void add_view(struct cpu_backend *c, struct cpu_view *v, size_t rows)
{
    size_t segments = (size_t)c->plan.segments_max;
    size_t crossings = rows * LIMIT_ADAPTERS_PER_REQUEST;
    add_region(c, &v->segments, segments, sizeof *v->segments);
    add_region(c, &v->shrinks, segments + crossings, sizeof *v->shrinks);
    add_region(c, &v->row_first, rows + 1, sizeof *v->row_first);
    add_region(c, &v->row_segment, crossings, sizeof *v->row_segment);
}

static void plan_regions(struct cpu_backend *c, const struct model_shape *s)
{
    const struct backend_plan *p = &c->plan;
    size_t rows = (size_t)p->rows_max;
    size_t outs = (size_t)p->outs_max;
    size_t most = rows > outs ? rows : outs;
    size_t threads = (size_t)c->threads;
    size_t f = sizeof(float);
    c->hidden_stride = stride_of((size_t)s->hidden);
    c->q_stride = stride_of((size_t)s->heads * (size_t)s->head_dim);
    c->kv_stride = stride_of((size_t)s->kv_heads * (size_t)s->head_dim);
    c->ffn_stride = stride_of((size_t)s->ffn);
    c->vocab_stride = stride_of((size_t)s->vocab);
    c->page_floats = page_floats_of(s);
    c->layer_floats = c->page_floats * (size_t)p->pages;
    c->attend_floats = cpu_attend_scratch(c->kernels->tile_rows, s->head_dim);
    c->sample_floats = sample_scratch_floats(s->vocab);
    c->u_rows = most * LIMIT_ADAPTERS_PER_REQUEST;
    c->region_count = 0;
    add_region(c, &c->kv, (size_t)s->layers * (size_t)p->pages, c->page_floats * f);
    add_region(c, &c->x, rows, c->hidden_stride * f);
    add_region(c, &c->n, most, c->hidden_stride * f);
    add_region(c, &c->y, most, c->hidden_stride * f);
    add_region(c, &c->q, rows, c->q_stride * f);
    add_region(c, &c->a, most, c->q_stride * f);
    add_region(c, &c->k, rows, c->kv_stride * f);
    add_region(c, &c->v, rows, c->kv_stride * f);
    add_region(c, &c->g, most, c->ffn_stride * f);
    add_region(c, &c->up, most, c->ffn_stride * f);
    add_region(c, &c->out, outs, c->hidden_stride * f);
    add_region(c, &c->logits, outs, c->vocab_stride * f);
    add_region(c, &c->attend_scratch, threads, c->attend_floats * f);
    add_region(c, &c->sample_scratch, threads, c->sample_floats * f);
    add_region(c, &c->embed_scratch, threads, LIMIT_ADAPTER_RANK * f);
    add_region(c, &c->tiles, rows, sizeof *c->tiles);
    add_region(c, &c->out_tiles, outs, sizeof *c->out_tiles);
    add_region(c, &c->results, outs, sizeof *c->results);
    add_view(c, &c->all, rows);
    add_view(c, &c->outs, outs);
}

static void free_regions(struct cpu_backend *c)
{
    for (int i = 0; i < c->region_count; i++) {
        void *p;
        memcpy(&p, c->regions[i].at, sizeof p);
        mem_free(p);
        p = NULL;
        memcpy(c->regions[i].at, &p, sizeof p);
    }
}

static enum status alloc_regions(struct cpu_backend *c, struct err *e)
{
    for (int i = 0; i < c->region_count; i++) {
        void *p = mem_alloc_aligned(c->regions[i].bytes);
        if (!p)
            return err_set(e, STATUS_NO_MEMORY, "model", "out of memory for the workspace");
        memcpy(c->regions[i].at, &p, sizeof p);
    }
    return STATUS_OK;
}

/* Bytes the machine can still give without swapping; SIZE_MAX where it does not say. */
static size_t memory_available(void)
{
    FILE *f = fopen("/proc/meminfo", "r");
    if (!f)
        return SIZE_MAX;
    char line[128];
    size_t bytes = SIZE_MAX;
    static const char key[] = "MemAvailable:";
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, key, sizeof key - 1) != 0)
            continue;
        if (!checked_mul((size_t)strtoull(line + sizeof key - 1, NULL, 10), 1024, &bytes))
            bytes = SIZE_MAX;
        break;
    }
    fclose(f);
    return bytes;
}

#define MIB(bytes) ((double)(bytes) / (1 << 20))

static enum status check_memory(struct cpu_backend *c, const struct model *m, struct err *e)
{
    size_t weights;
    size_t kv = c->regions[0].bytes;
    size_t work = 0;
    bool fits = cpu_weights_bytes(m, c->plan.ctx_max, &weights);
    for (int i = 1; i < c->region_count; i++)
        fits = fits && checked_add(work, c->regions[i].bytes, &work);
    size_t sum;
    size_t have = memory_available();
    fits = fits && checked_add(weights, work, &sum) && checked_add(sum, kv, &sum);
    if (!fits)
        return err_set(e, STATUS_NO_MEMORY, "model", "the model's sizes do not fit into memory");
    if (sum > have)
        return err_set(e, STATUS_NO_MEMORY, "model",
                       "needs %.0f MiB (weights %.0f, KV cache %.0f, workspace %.0f), the machine "
                       "has %.0f MiB available: a smaller --ctx or --max-seqs needs less",
                       MIB(sum), MIB(weights), MIB(kv), MIB(work), MIB(have));
    c->weights_bytes = weights;
    LOG_INFO(LOG_WHAT("memory plan"), LOG_NUM("weights_mib", MIB(weights)),
             LOG_NUM("kv_mib", MIB(kv)), LOG_NUM("workspace_mib", MIB(work)));
    return STATUS_OK;
}

static void unload(struct cpu_backend *c)
{
    for (int s = 0; c->slots && s < c->plan.slots_max; s++)
        cpu_lora_free(c->slots[s]);
    mem_free(c->slots);
    mem_free(c->u);
    free_regions(c);
    cpu_weights_deinit(&c->w);
    cpu_pool_destroy(c->pool);
    c->slots = NULL;
    c->u = NULL;
    c->pool = NULL;
}

static enum status cpu_model_load(struct backend *b, const struct model *m,
                                  const struct backend_plan *plan, const struct progress *progress,
                                  struct err *e)
{
    struct cpu_backend *c = self(b);
    CHECK(!c->pool && plan->rows_max > 0 && plan->outs_max > 0 && plan->pages > 0);
    c->plan = *plan;
    plan_regions(c, &m->shape);
    enum status st = check_memory(c, m, e);
    if (st != STATUS_OK)
        return st;
    st = cpu_pool_create(c->threads, cpu_step_tasks_max(m->shape.layers), &c->pool, e);
    if (st == STATUS_OK)
        st = cpu_weights_load(&c->w, m, plan->ctx_max, c->pool, progress, e);
    if (st == STATUS_OK)
        st = alloc_regions(c, e);
    if (st == STATUS_OK) {
        c->slots = mem_calloc((size_t)plan->slots_max, sizeof *c->slots);
        if (!c->slots)
            st = err_set(e, STATUS_NO_MEMORY, "model", "out of memory for the workspace");
    }
    if (st != STATUS_OK)
        unload(c);
    return st;
}

static void cpu_close(struct backend *b)
{
    unload(self(b));
    mem_free(b);
}

/* Makes u wide enough for an adapter. */
static enum status grow_u(struct cpu_backend *c, int columns, struct err *e)
{
    size_t stride = stride_of((size_t)columns);
    size_t bytes;
    if (c->u && stride <= c->u_stride)
        return STATUS_OK;
    float *u = NULL;
    if (checked_mul(stride * sizeof *u, c->u_rows, &bytes))
        u = mem_alloc_aligned(bytes);
    if (!u)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory for an adapter");
    mem_free(c->u);
    c->u = u;
    c->u_stride = stride;
    return STATUS_OK;
}

static enum status cpu_adapter_load(struct backend *b, int slot, const struct lora *l,
                                    struct err *e)
{
    struct cpu_backend *c = self(b);
    CHECK(slot >= 0 && slot < c->plan.slots_max && !c->slots[slot]);
    struct cpu_env env = {.w = &c->w, .kernels = c->kernels, .pool = c->pool};
    struct cpu_lora *built;
    enum status st = cpu_lora_build(&env, l, &built, e);
    if (st != STATUS_OK)
        return st;
    st = grow_u(c, built->columns_max, e);
    if (st != STATUS_OK) {
        cpu_lora_free(built);
        return st;
    }
    c->slots[slot] = built;
    return STATUS_OK;
}

static void cpu_adapter_unload(struct backend *b, int slot)
{
    struct cpu_backend *c = self(b);
    CHECK(slot >= 0 && slot < c->plan.slots_max);
    cpu_lora_free(c->slots[slot]);
    c->slots[slot] = NULL;
}

static enum status cpu_read_logits(struct backend *b, int o, float *logits)
{
    struct cpu_backend *c = self(b);
    CHECK(o >= 0 && o < c->outs.rows);
    memcpy(logits, c->logits + (size_t)o * c->vocab_stride,
           (size_t)c->w.shape.vocab * sizeof *logits);
    return STATUS_OK;
}

static void cpu_read_hidden(const struct backend *b, int o, float *state)
{
    const struct cpu_backend *c = (const struct cpu_backend *)b;
    CHECK(o >= 0 && o < c->outs.rows);
    memcpy(state, c->out + (size_t)o * c->hidden_stride, (size_t)c->w.shape.hidden * sizeof *state);
}

static size_t cpu_page_bytes(const struct backend *b, const struct model_shape *s)
{
    (void)b;
    return (size_t)s->layers * page_floats_of(s) * sizeof(float);
}

static int cpu_rows_best(const struct backend *b)
{
    (void)b;
    return ROWS_BEST;
}

static void add_part(struct backend_facts *f, const char *name, size_t bytes)
{
    f->parts[f->part_count++] = (struct backend_part){.name = name, .bytes = bytes};
}

static void cpu_facts(const struct backend *b, struct backend_facts *out)
{
    const struct cpu_backend *c = (const struct cpu_backend *)b;
    size_t work = 0;
    for (int i = 1; i < c->region_count; i++)
        work += c->regions[i].bytes;
    *out = (struct backend_facts){.weights = dtype_name(c->w.layers[0].linear[0].dtype),
                                  .head = dtype_name(c->w.head.dtype),
                                  .kv = c->kv_type == KV_BF16 ? "f32" : kv_type_name(c->kv_type)};
    snprintf(out->device, sizeof out->device, "CPU, %s, %d threads", c->kernels->name, c->threads);
    add_part(out, "weights", c->weights_bytes);
    add_part(out, "kv", c->regions[0].bytes);
    add_part(out, "workspace", work);
}

static const struct backend_ops cpu_ops = {
    .name = "cpu",
    .model_load = cpu_model_load,
    .close = cpu_close,
    .adapter_load = cpu_adapter_load,
    .adapter_unload = cpu_adapter_unload,
    .step_begin = cpu_step_begin,
    .embed = cpu_step_embed,
    .attn_in = cpu_step_attn_in,
    .attend = cpu_step_attend,
    .attn_out = cpu_step_attn_out,
    .mlp_in = cpu_step_mlp_in,
    .mlp_out = cpu_step_mlp_out,
    .head = cpu_step_head,
    .sample = cpu_step_sample,
    .step_launch = cpu_step_launch,
    .step_finish = cpu_step_finish,
    .read_logits = cpu_read_logits,
    .read_hidden = cpu_read_hidden,
    .rows_best = cpu_rows_best,
    .page_bytes = cpu_page_bytes,
    .facts = cpu_facts,
};

enum status cpu_backend_open(const struct backend_options *opt, struct backend **out, struct err *e)
{
    const struct cpu_kernels *kernels = cpu_kernels_find(opt->isa);
    if (!kernels)
        return err_set(e, STATUS_UNSUPPORTED, "isa",
                       "'%s' is not auto, avx512, avx2 or scalar, or not on this machine",
                       opt->isa);
    if (opt->threads < 0 || opt->threads > CPU_POOL_THREADS_MAX)
        return err_set(e, STATUS_INVALID, "threads", "%d threads: 0 to %d are possible",
                       opt->threads, CPU_POOL_THREADS_MAX);
    enum kv_type kv_type;
    if (!kv_type_find(opt->kv_type, &kv_type))
        return err_set(e, STATUS_INVALID, "kv-cache-type", "'%s' is not bf16 or int8",
                       opt->kv_type);
    struct cpu_backend *c = mem_calloc(1, sizeof *c);
    if (!c)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    c->base.ops = &cpu_ops;
    c->kv_type = kv_type;
    c->kernels = kernels;
    c->threads = opt->threads > 0 ? opt->threads : cpu_pool_default_threads();
    LOG_INFO(LOG_WHAT("cpu backend"), LOG_STR("isa", kernels->name),
             LOG_INT("threads", c->threads));
    *out = &c->base;
    return STATUS_OK;
}
