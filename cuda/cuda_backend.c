/* The CUDA backend. This file finds the card, divides its memory, loads and closes; cuda_step.c
 * runs steps, cuda_pass.c holds the operations, cuda_slots.c the adapters. Start reading with
 * layout.h and step_dev.h, the contracts with the kernels. */
#include "engine/backend.h"

#include <stdio.h>
#include <string.h>

#include "cuda/cuda_error.h"
#include "cuda/cuda_pass.h"
#include "cuda/cuda_slots.h"
#include "cuda/cuda_state.h"
#include "cuda/cuda_states.h"
#include "cuda/cuda_step.h"
#include "cuda/k_attend_prefill.h"
#include "cuda/k_linear.h"
#include "engine/base/log.h"
#include "engine/base/mem.h"

#define ARCH_LEAST     80 /* mma.sync with bf16, cp.async */
#define ARCH_DEPENDENT 90 /* programmatic dependent launch */
#define MEMORY_SHARE   0.9
/* Models whose 16-bit weights take less are served as they are: they fit any card, and four bits
 * cost a small model more than they gain. */
#define QUANT_LEAST_BYTES ((size_t)1 << 30)

#define MIB(bytes) ((double)(bytes) / (1 << 20))

enum status cuda_backend_check(struct cuda_backend *c, cudaError_t code, const char *what,
                               struct err *e)
{
    struct err why;
    if (cuda_error(code, what, &why) == STATUS_OK)
        return STATUS_OK;
    why.code = STATUS_DEVICE_LOST;
    if (c->lost == STATUS_OK) {
        LOG_ERROR(LOG_WHAT("the card failed"), LOG_STR("why", why.msg));
        c->lost = STATUS_DEVICE_LOST;
        c->lost_err = why;
    }
    if (e)
        *e = why;
    return STATUS_DEVICE_LOST;
}

/* ---- the card ---- */

static enum status no_card(cudaError_t code, struct err *e)
{
    struct err why;
    if (code == cudaErrorInsufficientDriver) {
        int need = CUDART_VERSION / 1000;
        return err_set(e, STATUS_UNSUPPORTED, "backend",
                       "The NVIDIA driver is missing or too old: this build needs one for CUDA %d.",
                       need);
    }
    (void)cuda_error(code, "no usable card", &why);
    return err_set(e, STATUS_UNSUPPORTED, "backend", "%s.", why.msg);
}

/* Where the binary holds neither code nor PTX for this card, every launch would fail. */
static enum status has_kernels(const struct cuda_backend *c, struct err *e)
{
    if (cuda_linear_arch() > 0)
        return STATUS_OK;
    cudaError_t code = cudaGetLastError();
    if (code == cudaErrorNoKernelImageForDevice || code == cudaErrorInvalidDeviceFunction)
        return err_set(e, STATUS_UNSUPPORTED, "backend",
                       "Card %d (%s) is of compute capability %d.%d, for which this build has no "
                       "kernels; make CUDA_ARCHS=%d builds them.",
                       c->device, c->card, c->arch / 10, c->arch % 10, c->arch);
    return cuda_error(code, "no usable card", e);
}

static enum status choose_card(struct cuda_backend *c, struct err *e)
{
    int count = 0;
    cudaError_t code = cudaGetDeviceCount(&count);
    if (code != cudaSuccess)
        return no_card(code, e);
    if (c->device < 0 || c->device >= count)
        return err_set(e, STATUS_INVALID, "device", "There is no card %d; there are %d.", c->device,
                       count);
    struct cudaDeviceProp prop;
    code = cudaGetDeviceProperties(&prop, c->device);
    if (code == cudaSuccess)
        code = cudaSetDevice(c->device);
    if (code != cudaSuccess)
        return no_card(code, e);
    snprintf(c->card, sizeof c->card, "%s", prop.name);
    c->arch = prop.major * 10 + prop.minor;
    c->sms = prop.multiProcessorCount;
    c->memory_bytes = prop.totalGlobalMem;
    c->dependent =
        c->arch >= ARCH_DEPENDENT && cuda_linear_arch() >= ARCH_DEPENDENT && !c->opt.plain_launches;
    if (c->arch < ARCH_LEAST)
        return err_set(e, STATUS_UNSUPPORTED, "backend",
                       "Card %d (%s) is of compute capability %d.%d; %d.%d or newer is needed.",
                       c->device, prop.name, prop.major, prop.minor, ARCH_LEAST / 10,
                       ARCH_LEAST % 10);
    enum status st = has_kernels(c, e);
    if (st != STATUS_OK)
        return st;
    LOG_INFO(LOG_WHAT("cuda backend"), LOG_INT("device", c->device), LOG_STR("card", prop.name),
             LOG_INT("arch", c->arch), LOG_INT("multiprocessors", c->sms),
             LOG_NUM("memory_mib", MIB(prop.totalGlobalMem)));
    return STATUS_OK;
}

/* ---- memory ---- */

static struct cuda_formats formats_of(const struct backend_options *o, const struct model *m)
{
    const char *quant = o->quant ? o->quant : "auto",
               *head = o->head_quant ? o->head_quant : "auto";
    struct cuda_formats f = {WEIGHT_BF16, WEIGHT_BF16};
    if (strcmp(quant, "auto") == 0)
        quant = m->weight_bytes >= QUANT_LEAST_BYTES ? "int4" : "none";
    if (strcmp(quant, "int4") == 0)
        f = (struct cuda_formats){WEIGHT_INT4, WEIGHT_INT8};
    else if (strcmp(quant, "int8") == 0)
        f = (struct cuda_formats){WEIGHT_INT8, WEIGHT_INT8};
    if (strcmp(head, "auto") != 0)
        f.head = strcmp(head, "int8") == 0 ? WEIGHT_INT8 : WEIGHT_BF16;
    return f;
}

static enum cuda_embedding embedding_of(const struct backend_options *o)
{
    const char *where = o->embedding ? o->embedding : "auto";
    return strcmp(where, "card") == 0   ? EMBED_CARD
           : strcmp(where, "host") == 0 ? EMBED_HOST
                                        : EMBED_AUTO;
}

static enum lora_codes codes_of(const struct backend_options *o)
{
    return o->adapter_bits == 8 ? LORA_INT8 : o->adapter_bits == 4 ? LORA_INT4 : LORA_BF16;
}

static struct cuda_ways ways_of(const struct cuda_backend *c, const struct model_shape *s)
{
    return (struct cuda_ways){
        .library = c->many.cublas != NULL,
        .pieces = !c->opt.deterministic && cuda_attend_prefill_takes(s->head_dim),
    };
}

static double memory_share(const struct cuda_backend *c)
{
    return c->opt.memory_share > 0 ? c->opt.memory_share : MEMORY_SHARE;
}

static enum status make_ask(struct cuda_backend *c, const struct model *m,
                            const struct backend_plan *plan, struct cuda_memory_ask *out,
                            struct err *e)
{
    size_t free_bytes, total_bytes;
    enum status st = cuda_error(cudaMemGetInfo(&free_bytes, &total_bytes), "free memory", e);
    if (st != STATUS_OK)
        return st;
    size_t budget = c->opt.memory_bytes;
    if (budget == 0)
        budget = (size_t)((double)free_bytes * memory_share(c));
    *out = (struct cuda_memory_ask){.shape = m->shape,
                                    .plan = *plan,
                                    .formats = formats_of(&c->opt, m),
                                    .kv_type = c->kv_type,
                                    .embedding = embedding_of(&c->opt),
                                    .ways = ways_of(c, &m->shape),
                                    .codes = codes_of(&c->opt),
                                    .arena_bytes = c->opt.arena_bytes,
                                    .budget_bytes = budget < free_bytes ? budget : free_bytes};
    return STATUS_OK;
}

static int cuda_rows_best(const struct backend *b)
{
    const struct cuda_backend *c = (const struct cuda_backend *)b;
    /* Who may use a part of a large card is planned for as on a card of that size. */
    size_t most = c->opt.memory_bytes;
    if (most == 0)
        most = (size_t)((double)c->memory_bytes * memory_share(c));
    return c->many.cublas && most >= MANY_MEMORY_LEAST ? MANY_ROWS_BEST : BACKEND_ROWS;
}

static enum status cuda_fit_pages(struct backend *b, const struct model *m,
                                  struct backend_plan *plan, int pages_min, struct err *e)
{
    struct cuda_memory_ask ask;
    struct cuda_memory memory;
    enum status st = make_ask(cuda_backend_of(b), m, plan, &ask, e);
    if (st == STATUS_OK)
        st = cuda_memory_divide(&ask, pages_min, &memory, &plan->pages, e);
    return st;
}

static size_t cuda_page_bytes(const struct backend *b, const struct model_shape *s)
{
    return cuda_memory_page_bytes(s, ((const struct cuda_backend *)b)->kv_type);
}

static const char *format_name(enum weight_format f)
{
    return f == WEIGHT_BF16 ? "bf16" : f == WEIGHT_INT8 ? "int8" : "int4";
}

static void log_memory(const struct cuda_backend *c, const struct cuda_memory_ask *ask)
{
    const struct cuda_memory *m = &c->memory;
    LOG_INFO(LOG_WHAT("memory on the card"), LOG_NUM("sum_mib", MIB(m->total)),
             LOG_NUM("may_use_mib", MIB(ask->budget_bytes)),
             LOG_NUM("weights_mib", MIB(m->weights.layers + m->weights.rope)),
             LOG_STR("weights", format_name(ask->formats.layers)),
             LOG_NUM("embedding_mib", MIB(m->weights.embed)),
             LOG_NUM("embedding_on_host_mib", MIB(m->host)),
             LOG_NUM("head_mib", MIB(m->weights.head)),
             LOG_STR("head", format_name(ask->formats.head)), LOG_NUM("kv_mib", MIB(m->kv)),
             LOG_STR("kv", kv_type_name(c->kv_type)),
             LOG_INT("kv_tokens", (int64_t)c->plan.pages * LIMIT_KV_PAGE_TOKENS),
             LOG_NUM("adapters_mib", MIB(m->arena)), LOG_NUM("workspace_mib", MIB(m->workspace)),
             LOG_NUM("graphs_mib", MIB(m->graphs)), LOG_NUM("reserve_mib", MIB(m->reserve)));
}

static void add_part(struct backend_facts *f, const char *name, bool on_host, size_t bytes)
{
    if (bytes > 0)
        f->parts[f->part_count++] = (struct backend_part){name, on_host, bytes};
}

static void cuda_facts(const struct backend *b, struct backend_facts *out)
{
    const struct cuda_backend *c = (const struct cuda_backend *)b;
    const struct cuda_memory *m = &c->memory;
    *out = (struct backend_facts){.weights = format_name(c->w.formats.layers),
                                  .head = format_name(c->w.formats.head),
                                  .kv = kv_type_name(c->kv_type)};
    snprintf(out->device, sizeof out->device, "%s", c->card);
    add_part(out, "weights", false, m->weights.layers + m->weights.rope);
    add_part(out, "embedding", false, m->weights.embed);
    add_part(out, "head", false, m->weights.head);
    add_part(out, "kv", false, m->kv);
    add_part(out, "adapters", false, m->arena);
    add_part(out, "workspace", false, m->workspace);
    add_part(out, "graphs", false, m->graphs);
    add_part(out, "reserve", false, m->reserve);
    add_part(out, "embedding_on_host", true, m->host);
}

static enum status take(void **out, size_t bytes, const char *what, struct err *e)
{
    return bytes ? cuda_error(cudaMalloc(out, bytes), what, e) : STATUS_OK;
}

/* One allocation a part: what is taken is what was printed. */
static enum status take_memory(struct cuda_backend *c, struct err *e)
{
    const struct cuda_memory *m = &c->memory;
    enum status st =
        take(&c->weights_mem, cuda_weights_total(&m->weights), "memory for weights", e);
    if (st == STATUS_OK && m->host)
        st = cuda_error(cudaMallocHost(&c->embed_mem, m->host),
                        "the host's memory for the embedding", e);
    if (st == STATUS_OK)
        st = take(&c->kv_mem, m->kv, "memory for the KV cache", e);
    if (st == STATUS_OK)
        st = take(&c->arena_mem, m->arena, "memory for adapters", e);
    if (st == STATUS_OK)
        st = take(&c->work_mem, m->workspace, "memory for the workspace", e);
    if (st != STATUS_OK)
        return st;
    size_t bytes;
    bool fits = cuda_workspace_place(&c->w.shape, &c->plan, c->ways, (uintptr_t)c->work_mem, &c->ws,
                                     &bytes);
    CHECK(fits && bytes == m->workspace);
    st = c->ws.library ? cuda_many_place(&c->many, &c->ws, c->stream, e) : STATUS_OK;
    if (st != STATUS_OK)
        return st;
    return cuda_error(cudaMemsetAsync(c->work_mem, 0, bytes, c->stream), "the workspace", e);
}

/* ---- life cycle ---- */

static void unload(struct cuda_backend *c)
{
    (void)cudaSetDevice(c->device);
    (void)cudaStreamSynchronize(c->stream);
    cuda_step_deinit(c);
    cuda_slots_deinit(c);
    cuda_weights_deinit(&c->w);
    void **parts[] = {&c->weights_mem, &c->kv_mem, &c->arena_mem, &c->work_mem};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        (void)cudaFree(*parts[i]);
        *parts[i] = NULL;
    }
    (void)cudaFreeHost(c->embed_mem);
    c->embed_mem = NULL;
    (void)cudaGetLastError();
}

static enum status load(struct cuda_backend *c, const struct model *m,
                        const struct progress *progress, struct err *e)
{
    struct cuda_memory_ask ask;
    int pages;
    enum status st = make_ask(c, m, &c->plan, &ask, e);
    if (st == STATUS_OK)
        st = cuda_memory_divide(&ask, c->plan.pages, &c->memory, &pages, e);
    if (st != STATUS_OK)
        return st;
    log_memory(c, &ask);
    c->w.shape = m->shape;
    c->ways = ask.ways;
    st = take_memory(c, e);
    if (st == STATUS_OK)
        st = cuda_weights_load(&c->w, m, ask.formats, c->plan.ctx_max, c->weights_mem, c->embed_mem,
                               c->stream, progress, e);
    if (st == STATUS_OK)
        st = cuda_slots_init(c, e);
    if (st == STATUS_OK)
        st = cuda_step_init(c, e);
    return st == STATUS_OK ? cuda_step_record(c, e) : st;
}

static enum status cuda_model_load(struct backend *b, const struct model *m,
                                   const struct backend_plan *plan, const struct progress *progress,
                                   struct err *e)
{
    struct cuda_backend *c = cuda_backend_of(b);
    CHECK(!c->weights_mem && plan->rows_max > 0 && plan->outs_max > 0 && plan->pages > 0);
    c->plan = *plan;
    enum status st = cuda_error(cudaSetDevice(c->device), "the card", e);
    if (st == STATUS_OK)
        st = load(c, m, progress, e);
    if (st != STATUS_OK)
        unload(c);
    return st;
}

static void cuda_close(struct backend *b)
{
    struct cuda_backend *c = cuda_backend_of(b);
    unload(c);
    cuda_many_close(&c->many);
    (void)cudaStreamDestroy(c->stream);
    mem_free(c);
}

static const struct backend_ops cuda_ops = {
    .name = "cuda",
    .model_load = cuda_model_load,
    .close = cuda_close,
    .adapter_load = cuda_slots_load,
    .adapter_unload = cuda_slots_unload,
    .adapter_bytes = cuda_slots_bytes,
    .adapter_room = cuda_slots_room,
    .adapter_pack = cuda_slots_pack,
    .image_free = cuda_slots_image_free,
    .adapter_place = cuda_slots_place,
    .adapter_upload = cuda_slots_upload,
    .adapter_commit = cuda_slots_commit,
    .step_begin = cuda_step_begin,
    .step_draw = cuda_step_draw,
    .embed = cuda_pass_embed,
    .attn_in = cuda_pass_attn_in,
    .attend = cuda_pass_attend,
    .attn_out = cuda_pass_attn_out,
    .mlp_in = cuda_pass_mlp_in,
    .mlp_out = cuda_pass_mlp_out,
    .head = cuda_pass_head,
    .sample = cuda_pass_sample,
    .step_launch = cuda_step_launch,
    .step_finish = cuda_step_finish,
    .read_logits = cuda_step_read_logits,
    .read_hidden = cuda_states_read,
    .fit_pages = cuda_fit_pages,
    .rows_best = cuda_rows_best,
    .page_bytes = cuda_page_bytes,
    .facts = cuda_facts,
};

enum status cuda_backend_open(const struct backend_options *opt, struct backend **out,
                              struct err *e)
{
    enum kv_type kv_type;
    if (!kv_type_find(opt->kv_type, &kv_type))
        return err_set(e, STATUS_INVALID, "kv-cache-type", "'%s' is not bf16 or int8",
                       opt->kv_type);
    struct cuda_backend *c = mem_calloc(1, sizeof *c);
    if (!c)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    c->kv_type = kv_type;
    c->base.ops = &cuda_ops;
    c->opt = *opt;
    c->device = opt->device;
    enum status st = choose_card(c, e);
    if (st == STATUS_OK)
        st =
            cuda_error(cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking), "a stream", e);
    if (st == STATUS_OK && !opt->deterministic)
        st = cuda_many_open(&c->many, e);
    if (st != STATUS_OK) {
        if (c->stream)
            (void)cudaStreamDestroy(c->stream);
        mem_free(c);
        return st;
    }
    *out = &c->base;
    return STATUS_OK;
}
