/* An image is the stacks one after the other, each as plan_stack lays it out (A, the modules' B,
 * the gains), then the embedding's two matrices. Sizes and packing walk the same plan, so they
 * cannot disagree. Values become bf16 by rounding to nearest even; those that are bf16 already are
 * copied.
 */
#include "cuda/cuda_adapter.h"

#include <string.h>

#include "cuda/stack_shape.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"

#define RANK_TILE      TILE_N
#define FRAGMENT_BYTES 512 /* of B: 16 outputs by 16 ranks */
#define PART_ALIGN     256

/* Where the parts of one stack lie, in bytes from the stack's start. */
struct stack_plan {
    struct stack_shape shape;
    const struct lora_module *module[STACK_MODULES]; /* NULL: not there */
    int rank_tile[STACK_MODULES + 1];                /* first of each module, and the end */
    size_t b_at[STACK_MODULES];
    int b_tiles[STACK_MODULES]; /* rank tiles of a row of fragments; 0: none */
    size_t gain_at;             /* 0: none */
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
static struct stack_plan plan_stack(const struct lora *l, const struct model_shape *s, int stack)
{
    struct stack_plan p = {.bytes = 0};
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
    }
    CHECK(p.rank_tile[STACK_MODULES] <= RANK_TILES_MAX);
    p.bytes = (size_t)p.rank_tile[STACK_MODULES] * (size_t)p.shape.groups * TILE_BYTES_BF16;
    for (int m = 0; m < STACK_MODULES; m++) {
        if (p.b_tiles[m] == 0)
            continue;
        p.b_at[m] = p.bytes;
        p.bytes += (size_t)output_tiles(&p.shape, m) * (size_t)p.b_tiles[m] * FRAGMENT_BYTES;
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

size_t cuda_adapter_bytes(const struct lora *l, const struct model_shape *s)
{
    size_t bytes = 0;
    for (int i = 0; i < STACK_COUNT(s->layers); i++)
        bytes += plan_stack(l, s, i).bytes;
    const struct lora_module *embed = find_module(l, SITE_EMBED(s->layers));
    if (embed)
        bytes += embed_a_bytes(embed) + embed_b_bytes(embed);
    return bytes;
}

unsigned cuda_adapter_dora(const struct lora *l, const struct model_shape *s, int stack)
{
    struct stack_plan p = plan_stack(l, s, stack);
    unsigned modules = 0;
    for (int m = 0; m < STACK_MODULES; m++) {
        if (p.module[m] && p.module[m]->magnitude.data)
            modules |= 1u << m;
    }
    return modules;
}

/* Scratch of one packing: a row of a tensor, wide and as bf16. */
struct rows {
    float *wide;
    uint16_t *bf16;
};

/* Elements [at, at + count) as bf16; false when one of them is finite but beyond bf16. */
static bool read_bf16(const struct tensor *t, size_t at, size_t count, const struct rows *r)
{
    if (t->dtype == DTYPE_BF16) {
        memcpy(r->bf16, (const uint8_t *)t->data + at * 2, count * 2);
        return true;
    }
    tensor_read_f32(t, at, count, r->wide);
    uint32_t beyond = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t u;
        memcpy(&u, &r->wide[i], sizeof u);
        u += 0x7fffu + (u >> 16 & 1u);
        beyond |= (u & 0x7f800000u) == 0x7f800000u;
        r->bf16[i] = (uint16_t)(u >> 16);
    }
    return !beyond;
}

static uint32_t pair_of(uint16_t low, uint16_t high)
{
    return (uint32_t)high << 16 | low;
}

/* Row `row` (0..15) of a rank tile [groups] in the bf16 tile format. Four columns that follow each
 * other are two registers, row / 8 and row / 8 + 2, of one lane in one k16 step. */
static void put_a_row(uint8_t *tile, int row, const uint16_t *v, int k)
{
    size_t lane_row = (size_t)(row % 8) * 4, half = (size_t)(row / 8) * 4;
    for (int c = 0; c < k; c += 4) {
        uint16_t quad[4] = {0};
        memcpy(quad, v + c, (size_t)(k - c < 4 ? k - c : 4) * sizeof quad[0]);
        size_t in = (size_t)(c % TILE_K), step = in / 32 * 2 + in % 8 / 4,
               lane = lane_row + in % 32 / 8;
        uint8_t *at = tile + (size_t)(c / TILE_K) * TILE_BYTES_BF16 + step * 512 + lane * 16 + half;
        uint32_t pair[2] = {pair_of(quad[0], quad[1]), pair_of(quad[2], quad[3])};
        memcpy(at, &pair[0], sizeof pair[0]);
        memcpy(at + 8, &pair[1], sizeof pair[1]);
    }
}

/* Row `row` (0..15) of an output tile's fragments. Ranks 2 t, 2 t + 1 and those 8 further are
 * registers row / 8 and row / 8 + 2 of lane 4 (row % 8) + t. */
static void put_b_row(uint8_t *fragments, int row, const uint16_t *v, int rank)
{
    size_t lane_row = (size_t)(row % 8) * 4, half = (size_t)(row / 8) * 4;
    for (int r = 0; r < rank; r += 2) {
        uint32_t pair = pair_of(v[r], r + 1 < rank ? v[r + 1] : 0);
        size_t in = (size_t)(r % RANK_TILE), lane = lane_row + in % 8 / 2;
        uint8_t *at = fragments + (size_t)(r / RANK_TILE) * FRAGMENT_BYTES + lane * 16 + half;
        memcpy(at + in / 8 * 8, &pair, sizeof pair);
    }
}

static bool pack_module(const struct stack_plan *p, int m, const struct rows *rows, uint8_t *stack)
{
    const struct lora_module *l = p->module[m];
    size_t in = (size_t)l->in, rank = (size_t)l->rank;
    size_t tile_row = (size_t)p->shape.groups * TILE_BYTES_BF16;
    uint8_t *a = stack + (size_t)p->rank_tile[m] * tile_row;
    for (int r = 0; r < l->rank; r++) {
        if (!read_bf16(&l->a, (size_t)r * in, in, rows))
            return false;
        put_a_row(a + (size_t)(r / RANK_TILE) * tile_row, r % RANK_TILE, rows->bf16, l->in);
    }
    int part = p->shape.interleaved ? 0 : m;
    int first = p->shape.interleaved ? 0 : p->shape.module_tile[m];
    size_t b_row = (size_t)p->b_tiles[part] * FRAGMENT_BYTES;
    for (int n = 0; n < l->out; n++) {
        int row = stack_shape_row(&p->shape, m, n);
        if (!read_bf16(&l->b, (size_t)n * rank, rank, rows))
            return false;
        put_b_row(stack + p->b_at[part] + (size_t)(row / TILE_N - first) * b_row, row % TILE_N,
                  rows->bf16, l->rank);
        if (l->magnitude.data)
            tensor_read_f32(&l->magnitude, (size_t)n, 1,
                            (float *)(void *)(stack + p->gain_at) + row);
    }
    return true;
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

static const struct lora_module *pack_all(const struct lora *l, const struct model_shape *s,
                                          const struct rows *rows, uint8_t *image, uint64_t base,
                                          struct lora_stack *table, struct lora_embed *embed)
{
    size_t at = 0;
    for (int i = 0; i < STACK_COUNT(s->layers); i++) {
        struct stack_plan p = plan_stack(l, s, i);
        memset(image + at, 0, p.bytes);
        for (int m = 0; m < STACK_MODULES; m++) {
            if (p.module[m] && !pack_module(&p, m, rows, image + at))
                return p.module[m];
        }
        table[i] = entry_of(&p, base + at);
        at += p.bytes;
    }
    const struct lora_module *m = find_module(l, SITE_EMBED(s->layers));
    memset(embed, 0, sizeof *embed);
    if (m)
        pack_embed(m, rows, image + at, base + at, embed);
    return NULL;
}

enum status cuda_adapter_pack(const struct lora *l, const struct model_shape *s, uint8_t *image,
                              uint64_t device_base, struct lora_stack *table,
                              struct lora_embed *embed, struct err *e)
{
    size_t widest = LIMIT_ADAPTER_RANK;
    for (int i = 0; i < l->module_count; i++)
        widest = (size_t)l->modules[i].in > widest ? (size_t)l->modules[i].in : widest;
    CHECK(device_base % PART_ALIGN == 0);
    struct rows rows = {mem_alloc(widest, sizeof *rows.wide), mem_alloc(widest, sizeof *rows.bf16)};
    enum status st = STATUS_OK;
    if (!rows.wide || !rows.bf16) {
        st = err_set(e, STATUS_NO_MEMORY, NULL, "out of memory for an adapter");
    } else {
        const struct lora_module *bad = pack_all(l, s, &rows, image, device_base, table, embed);
        if (bad) {
            char name[128];
            model_site_name(s, bad->site, name, sizeof name);
            st = err_set(e, STATUS_UNSUPPORTED, name,
                         "%s: a value of the adapter is beyond the range of bf16", name);
        }
    }
    mem_free(rows.wide);
    mem_free(rows.bf16);
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
    }
    if (embed->rank) {
        embed->a = device_pointer((uintptr_t)embed->a + by);
        embed->b = device_pointer((uintptr_t)embed->b + by);
    }
}
