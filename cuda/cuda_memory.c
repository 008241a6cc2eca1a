#include "cuda/cuda_memory.h"

#include <stdio.h>

#include "cuda/cuda_graphs.h"
#include "cuda/cuda_workspace.h"
#include "cuda/k_attend.h"
#include "cuda/lora_layout.h"
#include "cuda/stack_shape.h"

/* What one adapter that nobody has seen yet is taken to need. */
#define ARENA_RANK 64
/* The arena's share of what arena and pages have together, when both want more: in quarters. */
#define ARENA_QUARTERS 2
/* The embedding stays on a card whose budget is more than so many times its size. */
#define EMBED_WORTH 16
/* Where suggestions stop shrinking. */
#define SUGGEST_CTX_FIRST  2048
#define SUGGEST_SEQS_FIRST 8
#define SUGGEST_CTX_LEAST  256

#define GIB(bytes) ((double)(bytes) / (1u << 30))

size_t cuda_memory_page_bytes(const struct model_shape *s, enum kv_type t)
{
    return (size_t)s->layers * 2 * (size_t)s->kv_heads * attend_block_bytes(t, s->head_dim);
}

static size_t page_bytes(const struct cuda_memory_ask *ask)
{
    return cuda_memory_page_bytes(&ask->shape, ask->kv_type);
}

/* A rank-64 adapter on all linears of the layers. */
static size_t adapter_bytes(const struct model_shape *s, enum lora_codes codes)
{
    size_t sum = 0, rank_tiles = ARENA_RANK / TILE_N;
    for (int k = 0; k < STACK_KINDS; k++) {
        struct stack_shape shape;
        stack_shape_init(s, STACK_OF(0, k), &shape);
        size_t a = (size_t)shape.modules * (size_t)shape.groups * (size_t)lora_group_bytes(codes);
        size_t b = lora_b_bytes(codes, shape.interleaved, 1, shape.tiles);
        sum += rank_tiles * (a + b);
    }
    return sum * (size_t)s->layers;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Everything but pages and arena. */
static bool fixed_parts(const struct cuda_memory_ask *ask, bool host_embed, struct cuda_memory *m)
{
    struct cuda_workspace unplaced;
    *m = (struct cuda_memory){.reserve = MEMORY_RESERVE};
    m->host = host_embed ? cuda_weights_embed_bytes(&ask->shape) : 0;
    if (!cuda_weights_bytes(&ask->shape, ask->formats, ask->plan.ctx_max, host_embed,
                            &m->weights) ||
        !cuda_workspace_place(&ask->shape, &ask->plan, ask->ways, 0, &unplaced, &m->workspace))
        return false;
    m->graphs = cuda_graphs_bytes(&ask->plan, ask->shape.layers);
    return checked_add(cuda_weights_total(&m->weights), m->workspace, &m->total) &&
           checked_add(m->total, m->graphs, &m->total) &&
           checked_add(m->total, m->reserve, &m->total);
}

static size_t arena_wish(const struct cuda_memory_ask *ask)
{
    return ask->arena_bytes ? ask->arena_bytes
                            : (size_t)ask->plan.slots_max * adapter_bytes(&ask->shape, ask->codes);
}

/* Arena and pages from what the fixed parts leave; false: fewer than pages_min. */
static bool divide(const struct cuda_memory_ask *ask, int pages_min, struct cuda_memory *m,
                   int *pages)
{
    size_t page = page_bytes(ask), need = (size_t)ask->plan.pages * page;
    if (m->total > ask->budget_bytes)
        return false;
    size_t room = ask->budget_bytes - m->total;
    m->arena = ask->arena_bytes;
    if (m->arena == 0) {
        size_t want = arena_wish(ask);
        size_t share = room / 4 * ARENA_QUARTERS, rest = room > need ? room - need : 0;
        m->arena = smaller(want, share > rest ? share : rest);
        size_t least = (size_t)pages_min * page;
        if (room > least)
            m->arena = smaller(m->arena, room - least);
    }
    if (m->arena > room)
        return false;
    size_t fit = (room - m->arena) / page;
    if (fit < (size_t)pages_min)
        return false;
    *pages = fit < (size_t)ask->plan.pages ? (int)fit : ask->plan.pages;
    m->kv = (size_t)*pages * page;
    m->total += m->arena + m->kv;
    return true;
}

/* The whole plan, its embedding where it should be; false: fewer than pages_min. */
static bool plan_all(const struct cuda_memory_ask *ask, int pages_min, struct cuda_memory *out,
                     int *pages)
{
    struct cuda_memory m;
    bool on_card = ask->embedding != EMBED_HOST && fixed_parts(ask, false, out) &&
                   divide(ask, pages_min, out, pages);
    bool whole = on_card && *pages == ask->plan.pages && out->arena >= arena_wish(ask);
    bool small = cuda_weights_embed_bytes(&ask->shape) < ask->budget_bytes / EMBED_WORTH;
    if (whole || ask->embedding == EMBED_CARD || (on_card && small))
        return on_card;
    if (!fixed_parts(ask, true, &m) || !divide(ask, pages_min, &m, pages))
        return on_card;
    *out = m;
    return true;
}

static int pages_of(int tokens)
{
    return (tokens + LIMIT_KV_PAGE_TOKENS - 1) / LIMIT_KV_PAGE_TOKENS;
}

static bool would_fit(struct cuda_memory_ask ask, int ctx, int seqs)
{
    struct cuda_memory m;
    int pages, outs = ask.plan.outs_max - ask.plan.seqs_max;
    ask.plan.ctx_max = ctx;
    ask.plan.seqs_max = seqs;
    ask.plan.outs_max = outs + seqs;
    ask.plan.pages = pages_of(ctx);
    return plan_all(&ask, pages_of(ctx), &m, &pages);
}

static int halved(int value, int least)
{
    return value / 2 > least ? value / 2 : value < least ? value : least;
}

/* The next smaller thing to try: context to 2048 tokens, sequences to 8, then both on. */
static bool shrink(int *ctx, int *seqs)
{
    if (*ctx > SUGGEST_CTX_FIRST)
        *ctx = halved(*ctx, SUGGEST_CTX_FIRST);
    else if (*seqs > SUGGEST_SEQS_FIRST)
        *seqs = halved(*seqs, SUGGEST_SEQS_FIRST);
    else if (*ctx > SUGGEST_CTX_LEAST)
        *ctx = halved(*ctx, SUGGEST_CTX_LEAST);
    else if (*seqs > 1)
        *seqs /= 2;
    else
        return false;
    return true;
}

/* The first of the list that fits. */
static bool suggest(const struct cuda_memory_ask *ask, int *ctx, int *seqs)
{
    *ctx = ask->plan.ctx_max;
    *seqs = ask->plan.seqs_max;
    do {
        if (would_fit(*ask, *ctx, *seqs))
            return true;
    } while (shrink(ctx, seqs));
    return false;
}

/* What would fit with these weights, and what more with bytes for keys and values. */
static bool hint_for(const struct cuda_memory_ask *ask, const char *first, char *out, size_t room)
{
    struct cuda_memory_ask bytes = *ask;
    bytes.kv_type = KV_INT8;
    int ctx, seqs, ctx8, seqs8;
    bool fits = suggest(ask, &ctx, &seqs), fits8 = suggest(&bytes, &ctx8, &seqs8);
    if (fits && (ctx8 != ctx || seqs8 != seqs))
        snprintf(out, room,
                 "%s--ctx %d --max-seqs %d would fit, and with --kv-cache-type int8 --ctx %d "
                 "--max-seqs %d",
                 first, ctx, seqs, ctx8, seqs8);
    else if (fits)
        snprintf(out, room, "%s--ctx %d --max-seqs %d would fit", first, ctx, seqs);
    else if (fits8)
        snprintf(out, room, "%s--kv-cache-type int8 --ctx %d --max-seqs %d would fit", first, ctx8,
                 seqs8);
    return fits8;
}

static enum status too_small(const struct cuda_memory_ask *ask, size_t needed, struct err *e)
{
    struct cuda_memory_ask packed = *ask;
    packed.formats = (struct cuda_formats){.layers = WEIGHT_INT4, .head = WEIGHT_INT8};
    char hint[160] = "the card is too small for this model";
    if (!hint_for(ask, "", hint, sizeof hint) && ask->formats.layers != WEIGHT_INT4)
        (void)hint_for(&packed, "--quant int4 ", hint, sizeof hint);
    return err_set(e, STATUS_NO_MEMORY, "gpu-memory",
                   "The card's memory does not suffice: %.2f GiB are needed, %.2f GiB may be used; "
                   "%s.",
                   GIB(needed), GIB(ask->budget_bytes), hint);
}

enum status cuda_memory_divide(const struct cuda_memory_ask *ask, int pages_min,
                               struct cuda_memory *out, int *pages, struct err *e)
{
    struct cuda_memory m;
    int count;
    if (!fixed_parts(ask, ask->embedding != EMBED_CARD, &m))
        return err_set(e, STATUS_NO_MEMORY, "model", "The model's sizes do not fit into memory.");
    size_t least = m.total + ask->arena_bytes + (size_t)pages_min * page_bytes(ask);
    if (!plan_all(ask, pages_min, &m, &count))
        return too_small(ask, least, e);
    *out = m;
    *pages = count;
    return STATUS_OK;
}
