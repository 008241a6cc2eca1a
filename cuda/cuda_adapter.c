/* An image is the stacks one after the other, each as plan_stack lays it out (A, the modules' B,
 * the gains), then the embedding's two matrices. Sizes and packing walk the same plan, so they
 * cannot disagree. Values become bf16 by rounding to nearest even; those that are bf16 already are
 * copied; codes stay codes (lora_pack.h).
 */
#include "cuda/cuda_adapter.h"

#include <string.h>

#include "cuda/lora_pack.h"
#include "cuda/stack_shape.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/team.h"

#define RANK_TILE      TILE_N
#define FRAGMENT_BYTES 512 /* of B: 16 outputs by 16 ranks */
#define PART_ALIGN     256
#define TEAM_BYTES     ((size_t)2 << 20) /* of an image that is worth more than one thread */

/* Where the parts of one stack lie, in bytes from the stack's start. */
struct stack_plan {
    struct stack_shape shape;
    const struct lora_module *module[STACK_MODULES]; /* NULL: not there */
    int rank_tile[STACK_MODULES + 1];                /* first of each module, and the end */
    size_t b_at[STACK_MODULES];
    int b_tiles[STACK_MODULES]; /* rank tiles of a row of fragments; 0: none */
    size_t gain_at;             /* 0: none */
    enum lora_codes codes;
    size_t scale_at; /* of int8: of the ranks */
    size_t bytes;
};

static size_t aligned(size_t bytes)
{
    return (bytes + PART_ALIGN - 1) / PART_ALIGN * PART_ALIGN;
}

/* Modules ascend by site. */
static const struct lora_module *find_module(const struct lora *l, int site)
{
    int lo = 0, hi = l->module_count;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2;
        if (l->modules[mid].site < site)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < l->module_count && l->modules[lo].site == site ? &l->modules[lo] : NULL;
}

static int output_tiles(const struct stack_shape *s, int m)
{
    if (s->interleaved)
        return s->tiles;
    return (m + 1 < STACK_MODULES ? s->module_tile[m + 1] : s->tiles) - s->module_tile[m];
}

/* Sizes fit: limits.h bounds rank (512) and widths (2^20, vocabulary 2^22), so a part is below
 * 2^33 bytes. */
static struct stack_plan plan_stack(const struct lora *l, const struct model_shape *s, int stack,
                                    bool codes)
{
    struct stack_plan p = {.bytes = 0};
    bool any = false;
    stack_shape_init(s, stack, &p.shape);
    bool has_gain = false;
    for (int m = 0; m < STACK_MODULES; m++) {
        p.rank_tile[m + 1] = p.rank_tile[m];
        if (m >= p.shape.modules)
            continue;
        const struct lora_module *found = p.module[m] = find_module(l, p.shape.site[m]);
        if (!found)
            continue;
        CHECK(found->in == p.shape.k && found->out == p.shape.rows[m]);
        int tiles = (found->rank + RANK_TILE - 1) / RANK_TILE;
        int part = p.shape.interleaved ? 0 : m;
        p.rank_tile[m + 1] += tiles;
        p.b_tiles[part] = tiles > p.b_tiles[part] ? tiles : p.b_tiles[part];
        has_gain |= found->magnitude.data != NULL;
        enum lora_codes width = lora_pack_width(found);
        p.codes = any && width != p.codes ? LORA_BF16 : width;
        codes = codes && p.codes != LORA_BF16;
        any = true;
    }
    if (!codes || has_gain)
        p.codes = LORA_BF16;
    CHECK(p.rank_tile[STACK_MODULES] <= RANK_TILES_MAX);
    p.bytes = aligned((size_t)p.rank_tile[STACK_MODULES] * (size_t)p.shape.groups *
                      (size_t)lora_group_bytes(p.codes));
    for (int m = 0; m < STACK_MODULES; m++) {
        if (p.b_tiles[m] == 0)
            continue;
        p.b_at[m] = p.bytes;
        p.bytes += aligned(
            lora_b_bytes(p.codes, p.shape.interleaved, p.b_tiles[m], output_tiles(&p.shape, m)));
    }
    if (p.codes == LORA_INT8) {
        p.scale_at = p.bytes;
        p.bytes += aligned((size_t)p.rank_tile[STACK_MODULES] * RANK_TILE * sizeof(float));
    }
    if (has_gain) {
        p.gain_at = p.bytes;
        p.bytes += aligned((size_t)p.shape.tiles * TILE_N * sizeof(float));
    }
    return p;
}

static size_t embed_a_bytes(const struct lora_module *m)
{
    return aligned((size_t)m->in * (size_t)m->rank * sizeof(float));
}

static size_t embed_b_bytes(const struct lora_module *m)
{
    return aligned((size_t)m->out * (size_t)m->rank * sizeof(float));
}

size_t cuda_adapter_bytes(const struct lora *l, const struct model_shape *s, bool codes)
{
    size_t bytes = 0;
    for (int i = 0; i < STACK_COUNT(s->layers); i++)
        bytes += plan_stack(l, s, i, codes).bytes;
    const struct lora_module *embed = find_module(l, SITE_EMBED(s->layers));
    if (embed)
        bytes += embed_a_bytes(embed) + embed_b_bytes(embed);
    return bytes;
}

unsigned cuda_adapter_dora(const struct lora *l, const struct model_shape *s, int stack)
{
    struct stack_plan p = plan_stack(l, s, stack, false);
    unsigned modules = 0;
    for (int m = 0; m < STACK_MODULES; m++) {
        if (p.module[m] && p.module[m]->magnitude.data)
            modules |= 1u << m;
    }
    return modules;
}

/* Scratch of one packing: a row as floats, and the 16 rows of a tile as bf16. */
struct rows {
    float *wide;
    uint16_t *tile; /* [TILE_N][stride], zeros behind a row's end */
    size_t stride;
};

#define BLOCK 16 /* values rounded at a time: compilers make vector code of constant counts */

/* Rounds to nearest even; not 0 when one of the values is beyond bf16. */
static uint32_t round_values(const float *in, int count, uint16_t *out)
{
    uint32_t u[BLOCK], beyond = 0;
    memcpy(u, in, (size_t)count * sizeof *u);
    for (int i = 0; i < count; i++) {
        u[i] += 0x7fffu + (u[i] >> 16 & 1u);
        beyond |= (u[i] & 0x7f800000u) == 0x7f800000u;
        out[i] = (uint16_t)(u[i] >> 16);
    }
    return beyond;
}

/* Row `row` of t as row r of the scratch's tile, zeros up to `width`. False when a value is beyond
 * bf16. */
static bool read_row(const struct tensor *t, int row, int r, int width, const struct rows *s)
{
    size_t count = (size_t)t->cols, at = (size_t)row * count, i = 0;
    uint16_t *out = s->tile + (size_t)r * s->stride;
    memset(out + count, 0, ((size_t)width - count) * sizeof *out);
    if (t->dtype == DTYPE_BF16) {
        memcpy(out, (const uint8_t *)t->data + at * sizeof *out, count * sizeof *out);
        return true;
    }
    uint32_t beyond = 0;
    tensor_read_f32(t, at, count, s->wide);
    for (; count - i >= BLOCK; i += BLOCK)
        beyond |= round_values(s->wide + i, BLOCK, out + i);
    return !(beyond | round_values(s->wide + i, (int)(count - i), out + i));
}

/* Row r of the scratch's tile as codes: their first bytes. */
static int8_t *code_row(const struct rows *s, int r)
{
    return (int8_t *)(s->tile + (size_t)r * s->stride);
}

static struct lora_pack_rows code_rows(const struct rows *s)
{
    return (struct lora_pack_rows){code_row(s, 0), s->stride * sizeof *s->tile};
}

static void clear_row(int r, int width, const struct rows *s)
{
    memset(s->tile + (size_t)r * s->stride, 0, (size_t)width * sizeof *s->tile);
}

/* Registers a0..a3 of a lane: two neighbours (low half first, as they lie) of rows g and g + 8, at
 * `first`, then at `second`. */
static uint8_t *put_lane(uint8_t *to, const uint16_t *row, size_t stride, int first, int second)
{
    const uint16_t *below = row + 8 * stride;
    memcpy(to, row + first, 4);
    memcpy(to + 4, below + first, 4);
    memcpy(to + 8, row + second, 4);
    memcpy(to + 12, below + second, 4);
    return to + 16;
}

/* The scratch's tile as one rank tile of A: groups of [step 8][lane 32]. */
static void put_a_tile(const struct rows *s, int groups, uint8_t *to)
{
    for (int step = 0; step < groups * 8; step++) {
        for (int lane = 0; lane < 32; lane++) {
            int at = step / 2 * 32 + lane % 4 * 8 + step % 2 * 4;
            to = put_lane(to, s->tile + (size_t)(lane / 4) * s->stride, s->stride, at, at + 2);
        }
    }
}

/* The scratch's tile as the fragments of one output tile of B. */
static void put_b_tile(const struct rows *s, int rank_tiles, uint8_t *to)
{
    for (int i = 0; i < rank_tiles; i++) {
        for (int lane = 0; lane < 32; lane++) {
            int at = i * RANK_TILE + lane % 4 * 2;
            to = put_lane(to, s->tile + (size_t)(lane / 4) * s->stride, s->stride, at, at + 8);
        }
    }
}

static bool pack_a(const struct stack_plan *p, int m, const struct rows *rows, uint8_t *stack)
{
    const struct lora_module *l = p->module[m];
    int width = p->shape.groups * TILE_K;
    size_t tile_bytes_all = (size_t)p->shape.groups * (size_t)lora_group_bytes(p->codes);
    for (int i = p->rank_tile[m]; i < p->rank_tile[m + 1]; i++) {
        for (int r = 0; r < RANK_TILE; r++) {
            int rank = (i - p->rank_tile[m]) * RANK_TILE + r;
            if (rank >= l->rank)
                clear_row(r, width, rows);
            else if (p->codes)
                lora_pack_read(&l->a, rank, width, code_row(rows, r));
            else if (!read_row(&l->a, rank, r, width, rows))
                return false;
        }
        uint8_t *to = stack + (size_t)i * tile_bytes_all;
        struct lora_pack_rows codes = code_rows(rows);
        if (p->codes)
            lora_pack_a(p->codes, &codes, p->shape.groups, &l->a, (i - p->rank_tile[m]) * RANK_TILE,
                        to);
        else
            put_a_tile(rows, p->shape.groups, to);
    }
    return true;
}

/* Part `part` of B; *bad is the module that has a value beyond bf16. */
static bool pack_b(const struct stack_plan *p, int part, const struct rows *rows, uint8_t *stack,
                   const struct lora_module **bad)
{
    int count = p->b_tiles[part], width = count * RANK_TILE;
    for (int tile = 0; tile < output_tiles(&p->shape, part); tile++) {
        for (int r = 0; r < TILE_N; r++) {
            bool shared = p->shape.interleaved;
            const struct lora_module *l = p->module[shared ? r / (TILE_N / 2) : part];
            int row = shared ? tile * (TILE_N / 2) + r % (TILE_N / 2) : tile * TILE_N + r;
            *bad = l;
            if (!l || row >= l->out)
                clear_row(r, width, rows);
            else if (p->codes)
                lora_pack_read(&l->b, row, width, code_row(rows, r));
            else if (!read_row(&l->b, row, r, width, rows))
                return false;
        }
        uint8_t *to =
            stack + p->b_at[part] + lora_b_at(p->codes, p->shape.interleaved, count, tile);
        struct lora_pack_rows codes = code_rows(rows);
        if (p->codes)
            lora_pack_b(p->codes, &codes, count, to);
        else
            put_b_tile(rows, count, to);
    }
    return true;
}

/* Of int4: in front of the tiles that share them. */
static void pack_b_scales(const struct stack_plan *p, int part, uint8_t *stack)
{
    bool pair = p->shape.interleaved;
    int count = p->b_tiles[part], share = 1 << lora_share(pair), step = pair ? 64 : 32;
    for (int tile = 0; tile < output_tiles(&p->shape, part); tile += share) {
        uint8_t *to = stack + p->b_at[part] + lora_b_scales_at(pair, count, tile);
        for (int k = 0; k < (pair ? 2 : 1); k++) {
            const struct lora_module *l = p->module[pair ? k : part];
            lora_pack_b_scales(l ? &l->b : NULL, tile / share, count, step, to + k * 32);
        }
    }
}

/* Of int8, of A and B together; zero for ranks of padding. */
static void pack_rank_scales(const struct stack_plan *p, uint8_t *stack)
{
    float *scale = (float *)(void *)(stack + p->scale_at);
    memset(scale, 0, p->bytes - p->scale_at);
    for (int m = 0; m < STACK_MODULES; m++) {
        const struct lora_module *l = p->module[m];
        for (int r = 0; l && r < l->rank; r++) {
            const struct tensor_codes *a = l->a.data, *b = l->b.data;
            scale[p->rank_tile[m] * RANK_TILE + r] = a->scales[r] * b->scales[r];
        }
    }
}

static void pack_magnitudes(const struct stack_plan *p, uint8_t *stack)
{
    float *gain = (float *)(void *)(stack + p->gain_at);
    memset(gain, 0, p->bytes - p->gain_at);
    for (int m = 0; m < STACK_MODULES; m++) {
        const struct lora_module *l = p->module[m];
        for (int n = 0; l && l->magnitude.data && n < l->out; n++)
            tensor_read_f32(&l->magnitude, (size_t)n, 1, gain + stack_shape_row(&p->shape, m, n));
    }
}

/* NULL, or the module that has a value beyond bf16. */
static const struct lora_module *pack_stack(const struct stack_plan *p, const struct rows *rows,
                                            uint8_t *stack)
{
    const struct lora_module *bad;
    if (p->codes == LORA_INT4)
        memset(stack, 0, p->bytes); /* between its parts there is room */
    for (int m = 0; m < STACK_MODULES; m++) {
        if (p->module[m] && !pack_a(p, m, rows, stack))
            return p->module[m];
        if (p->b_tiles[m] && !pack_b(p, m, rows, stack, &bad))
            return bad;
        if (p->b_tiles[m] && p->codes == LORA_INT4)
            pack_b_scales(p, m, stack);
    }
    if (p->scale_at)
        pack_rank_scales(p, stack);
    if (p->gain_at)
        pack_magnitudes(p, stack);
    return NULL;
}

static const void *device_pointer(uint64_t address)
{
    return (const void *)(uintptr_t)address;
}

static struct lora_stack entry_of(const struct stack_plan *p, uint64_t base)
{
    struct lora_stack t = {.rank_tiles = p->rank_tile[STACK_MODULES]};
    memcpy(t.module_tile, p->rank_tile, sizeof t.module_tile);
    if (t.rank_tiles == 0)
        return t;
    t.a = device_pointer(base);
    for (int m = 0; m < STACK_MODULES; m++) {
        if (p->b_tiles[m])
            t.b[m] = device_pointer(base + p->b_at[m]);
        if (p->module[m])
            t.scale[m] = p->module[m]->scale;
    }
    if (p->gain_at)
        t.gain = device_pointer(base + p->gain_at);
    t.codes = p->codes;
    if (p->scale_at)
        t.rank_scale = device_pointer(base + p->scale_at);
    return t;
}

/* A [R, V] turned to [V, R], then B as it is. */
static void pack_embed(const struct lora_module *m, const struct rows *rows, uint8_t *image,
                       uint64_t base, struct lora_embed *out)
{
    size_t vocab = (size_t)m->in, rank = (size_t)m->rank;
    float *a = (float *)(void *)image;
    memset(image, 0, embed_a_bytes(m) + embed_b_bytes(m));
    for (size_t r = 0; r < rank; r++) {
        tensor_read_f32(&m->a, r * vocab, vocab, rows->wide);
        for (size_t v = 0; v < vocab; v++)
            a[v * rank + r] = rows->wide[v];
    }
    tensor_read_f32(&m->b, 0, (size_t)m->out * rank, (float *)(void *)(image + embed_a_bytes(m)));
    *out = (struct lora_embed){.a = device_pointer(base),
                               .b = device_pointer(base + embed_a_bytes(m)),
                               .scale = m->scale,
                               .rank = m->rank};
}

/* One packing: the stacks are parts of their own, packed by whichever thread comes first. */
struct packing {
    const struct lora *l;
    const struct model_shape *s;
    bool codes;
    uint8_t *image;
    uint64_t base;
    struct lora_stack *table;
    size_t *at;                     /* owned, [stacks + 1] where each begins in the image */
    const struct lora_module **bad; /* owned, [stacks] one with a value beyond bf16, or NULL */
    struct rows rows[TEAM_THREADS_MAX];
};

static void pack_part(void *ctx, int stack, int thread)
{
    struct packing *g = ctx;
    struct stack_plan p = plan_stack(g->l, g->s, stack, g->codes);
    g->bad[stack] = pack_stack(&p, &g->rows[thread], g->image + g->at[stack]);
    g->table[stack] = entry_of(&p, g->base + g->at[stack]);
}

static bool take_rows(struct packing *g, int threads)
{
    size_t widest = LIMIT_ADAPTER_RANK, padded = LIMIT_ADAPTER_RANK;
    bool ok = true;
    for (int i = 0; i < g->l->module_count; i++) {
        const struct lora_module *m = &g->l->modules[i];
        widest = (size_t)m->in > widest ? (size_t)m->in : widest;
        if (m->site != SITE_EMBED(g->s->layers))
            padded = (size_t)PAD_K(m->in) > padded ? (size_t)PAD_K(m->in) : padded;
    }
    for (int i = 0; i < threads && ok; i++) {
        g->rows[i] = (struct rows){.wide = mem_alloc(widest, sizeof(float)),
                                   .tile = mem_alloc(padded, TILE_N * sizeof(uint16_t)),
                                   .stride = padded};
        ok = g->rows[i].wide && g->rows[i].tile;
    }
    return ok;
}

/* The first of the modules with a value beyond bf16, or NULL. */
static const struct lora_module *pack_all(struct packing *g, int threads, struct lora_embed *embed)
{
    const int stacks = STACK_COUNT(g->s->layers);
    g->at[0] = 0;
    for (int i = 0; i < stacks; i++)
        g->at[i + 1] = g->at[i] + plan_stack(g->l, g->s, i, g->codes).bytes;
    team_run(threads, stacks, pack_part, g);
    for (int i = 0; i < stacks; i++)
        if (g->bad[i])
            return g->bad[i];
    const struct lora_module *m = find_module(g->l, SITE_EMBED(g->s->layers));
    memset(embed, 0, sizeof *embed);
    if (m)
        pack_embed(m, &g->rows[0], g->image + g->at[stacks], g->base + g->at[stacks], embed);
    return NULL;
}

enum status cuda_adapter_pack(const struct lora *l, const struct model_shape *s, bool codes,
                              uint8_t *image, uint64_t device_base, struct lora_stack *table,
                              struct lora_embed *embed, struct err *e)
{
    const size_t stacks = (size_t)STACK_COUNT(s->layers);
    const int threads = cuda_adapter_bytes(l, s, codes) < TEAM_BYTES ? 1 : team_threads();
    struct packing g = {
        .l = l, .s = s, .codes = codes, .image = image, .base = device_base, .table = table};
    enum status st = STATUS_OK;
    CHECK(device_base % PART_ALIGN == 0);
    g.at = mem_alloc(stacks + 1, sizeof *g.at);
    g.bad = mem_calloc(stacks, sizeof *g.bad);
    if (!g.at || !g.bad || !take_rows(&g, threads)) {
        st = err_set(e, STATUS_NO_MEMORY, NULL, "out of memory for an adapter");
    } else {
        const struct lora_module *bad = pack_all(&g, threads, embed);
        if (bad) {
            char name[128];
            model_site_name(s, bad->site, name, sizeof name);
            st = err_set(e, STATUS_UNSUPPORTED, name,
                         "%s: a value of the adapter is beyond the range of bf16", name);
        }
    }
    for (int i = 0; i < threads; i++) {
        mem_free(g.rows[i].wide);
        mem_free(g.rows[i].tile);
    }
    mem_free(g.bad);
    mem_free(g.at);
    return st;
}

void cuda_adapter_rebase(struct lora_stack *table, int stacks, struct lora_embed *embed,
                         uint64_t from, uint64_t to)
{
    uint64_t by = to - from; /* wraps where it moves down */
    for (int i = 0; i < stacks; i++) {
        struct lora_stack *t = &table[i];
        if (t->a)
            t->a = device_pointer((uintptr_t)t->a + by);
        for (int m = 0; m < STACK_MODULES; m++) {
            if (t->b[m])
                t->b[m] = device_pointer((uintptr_t)t->b[m] + by);
        }
        if (t->gain)
            t->gain = device_pointer((uintptr_t)t->gain + by);
        if (t->rank_scale)
            t->rank_scale = device_pointer((uintptr_t)t->rank_scale + by);
    }
    if (embed->rank) {
        embed->a = device_pointer((uintptr_t)embed->a + by);
        embed->b = device_pointer((uintptr_t)embed->b + by);
    }
}
