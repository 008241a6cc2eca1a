/* The packed image read back element by element as layout.h defines it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cuda/cuda_adapter.h"
#include "cuda/stack_shape.h"
#include "engine/base/mem.h"
#include "tests/kernels/lora_ref.h"
#include "tests/unit/cpu_fixture.h"

#define BASE     0x7f0000000000ull
#define GUARD    64
#define SITE_MAX 64

static double bf16_of(float x)
{
    int e;
    double f = frexp((double)x, &e);
    return ldexp(rint(ldexp(f, 8)), e - 8);
}

static double bf16_at(const uint8_t *p)
{
    uint32_t u = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
    float f;
    memcpy(&f, &u, sizeof f);
    return (double)f;
}

static float element(const struct tensor *t, int row, int col)
{
    float v;
    tensor_read_f32(t, (size_t)row * (size_t)t->cols + (size_t)col, 1, &v);
    return v;
}

/* What the image has for an element: its code, or its value rounded. */
static double wanted_of(const struct tensor *t, int row, int col, enum lora_codes codes)
{
    const struct tensor_codes *c = t->data;
    size_t at = (size_t)row * (size_t)t->cols + (size_t)col;
    if (codes == LORA_INT8)
        return ((const int8_t *)c->codes)[at];
    if (codes == LORA_INT4)
        return (((const uint8_t *)c->codes)[at / 2] >> at % 2 * 4 & 15) - 8;
    return bf16_of(element(t, row, col));
}

/* Element (r, c) of a matrix of tiles. */
static double tile_at(const uint8_t *data, int groups, int r, int c, enum lora_codes codes)
{
    if (codes)
        return lora_ref_a_code(codes, data, groups, r, c);
    int in = c % TILE_K, s = in / 32, t = in % 32 / 8, e = in % 8;
    int step = 2 * s + e / 4, lane = r % 8 * 4 + t, a = r % 16 / 8 + 2 * (e % 4 / 2);
    size_t tile = (size_t)(r / TILE_N) * (size_t)groups + (size_t)(c / TILE_K);
    return bf16_at(data + tile * TILE_BYTES_BF16 + (size_t)step * 512 + (size_t)lane * 16 +
                   (size_t)a * 4 + (size_t)(e % 2) * 2);
}

/* Element (row of 16, rank) of output tile `tile`: the m16n8k16 operand a in plain order. */
static double fragment_at(const uint8_t *b, int tile, int rank_tiles, int row, int rank, bool pair,
                          enum lora_codes codes)
{
    if (codes)
        return lora_ref_b_code(codes, b, rank_tiles, pair, tile, row, rank);
    int in = rank % 16, lane = row % 8 * 4 + in % 8 / 2, a = row / 8 + 2 * (in / 8);
    size_t fragment = (size_t)tile * (size_t)rank_tiles + (size_t)(rank / 16);
    return bf16_at(b + fragment * 512 + (size_t)lane * 16 + (size_t)a * 4 + (size_t)(in % 2) * 2);
}

/* Scale of int4 of an element of A, of B. */
static double scale_of(const struct tensor *t, int row, int col)
{
    const struct tensor_codes *c = t->data;
    int64_t groups = (t->cols + 63) / 64;
    return bf16_of(
        c->scales[c->down ? row / 64 * t->cols + col : (int64_t)row * groups + col / 64]);
}

struct packed {
    const struct lora *lora;
    const struct model_shape *shape;
    uint8_t *image;
    size_t bytes;
    struct lora_stack *table;
    struct lora_embed embed;
    size_t seen; /* bytes of all parts */
    bool codes;  /* those stay */
};

static const uint8_t *host_of(const struct packed *p, const void *device, size_t bytes)
{
    uint64_t at = (uint64_t)(uintptr_t)device - BASE;
    if (at > p->bytes || bytes > p->bytes - at || at % 256 != 0)
        fail_msg("a part of %zu bytes at %llu of %zu", bytes, (unsigned long long)at, p->bytes);
    return p->image + at;
}

static const struct lora_module *module_of(const struct lora *l, int site)
{
    for (int i = 0; i < l->module_count; i++) {
        if (l->modules[i].site == site)
            return &l->modules[i];
    }
    return NULL;
}

static int rank_tiles_of(const struct lora_module *m)
{
    return m ? (m->rank + 15) / 16 : 0;
}

static void check_value(double got, double wanted, int site, const char *what, int r, int c)
{
    if (got != wanted)
        fail_msg("site %d: %s[%d, %d] is %.9g, wanted %.9g", site, what, r, c, got, wanted);
}

static size_t a_group_bytes(enum lora_codes codes)
{
    return codes == LORA_INT8 ? 2048 : codes == LORA_INT4 ? 1088 : TILE_BYTES_BF16;
}

/* Parts of an image are whole 256 bytes. */
static size_t part_of(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

static size_t b_part_bytes(enum lora_codes codes, int tiles, int width, bool pair)
{
    return codes ? part_of(lora_ref_b_bytes(codes, tiles, width, pair))
                 : (size_t)tiles * (size_t)width * 512;
}

static void check_module(struct packed *p, int stack, const struct stack_shape *s, int m)
{
    const struct lora_stack *t = &p->table[stack];
    const struct lora_module *l = module_of(p->lora, s->site[m]);
    int first = t->module_tile[m], tiles = rank_tiles_of(l);
    assert_int_equal(t->module_tile[m + 1] - first, tiles);
    if (!l) {
        assert_true(t->scale[m] == 0.0f);
        assert_true(s->interleaved || !t->b[m]);
        return;
    }
    assert_true(t->scale[m] == l->scale);
    enum lora_codes codes = (enum lora_codes)t->codes;
    size_t tile_row = (size_t)s->groups * a_group_bytes(codes);
    const uint8_t *a = host_of(p, t->a, (size_t)t->rank_tiles * tile_row);
    for (int r = 0; r < tiles * 16; r++) {
        for (int c = 0; c < s->groups * TILE_K; c++) {
            bool inside = r < l->rank && c < l->in;
            check_value(tile_at(a, s->groups, first * 16 + r, c, codes),
                        inside ? wanted_of(&l->a, r, c, codes) : 0.0, l->site, "A", r, c);
            if (codes == LORA_INT4)
                check_value((double)lora_ref_a_scale(a, s->groups, first * 16 + r, c),
                            r < l->rank && c / 64 * 64 < l->in ? scale_of(&l->a, r, c) : 0.0,
                            l->site, "scale of A", r, c);
        }
    }
    int width = tiles, part = s->interleaved ? 0 : m;
    for (int i = 0; s->interleaved && i < s->modules; i++) {
        int other = rank_tiles_of(module_of(p->lora, s->site[i]));
        width = other > width ? other : width;
    }
    int output_tiles = s->interleaved ? s->tiles : (s->rows[m] + 15) / 16;
    size_t b_bytes = b_part_bytes(codes, output_tiles, width, s->interleaved);
    const uint8_t *b = host_of(p, t->b[part], b_bytes);
    const uint8_t *gain = t->gain ? host_of(p, t->gain, (size_t)s->tiles * 64) : NULL;
    p->seen += s->interleaved && m > 0 && module_of(p->lora, s->site[0]) ? 0 : b_bytes;
    int per_tile = s->interleaved ? 8 : 16;
    for (int n = 0; n < output_tiles * per_tile; n++) {
        int row = n % per_tile + (s->interleaved ? 8 * m : 0);
        for (int r = 0; r < width * 16; r++) {
            bool inside = n < l->out && r < l->rank;
            check_value(fragment_at(b, n / per_tile, width, row, r, s->interleaved, codes),
                        inside ? wanted_of(&l->b, n, r, codes) : 0.0, l->site, "B", n, r);
            if (codes == LORA_INT4 && n < l->out)
                check_value(
                    (double)lora_ref_b_scale(b, width, s->interleaved, n / per_tile, row, r),
                    inside ? scale_of(&l->b, n, r) : 0.0, l->site, "scale of B", n, r);
        }
        float g = 0.0f;
        int at = (s->interleaved ? 0 : s->module_tile[m] * 16) + n / per_tile * 16 + row;
        if (gain)
            memcpy(&g, gain + (size_t)at * sizeof g, sizeof g);
        bool dora = n < l->out && l->magnitude.data;
        check_value((double)g, dora ? (double)element(&l->magnitude, 0, n) : 0.0, l->site,
                    "magnitude", n, 0);
    }
}

/* A code of A times one of B times this is the product of their values. */
static void check_scales(struct packed *p, const struct lora_stack *t, const struct stack_shape *s)
{
    const uint8_t *at = host_of(p, t->rank_scale, (size_t)t->rank_tiles * 64);
    p->seen += ((size_t)t->rank_tiles * 64 + 255) / 256 * 256;
    for (int m = 0; m < s->modules; m++) {
        const struct lora_module *l = module_of(p->lora, s->site[m]);
        for (int r = t->module_tile[m] * 16, i = 0; r < t->module_tile[m + 1] * 16; r++, i++) {
            float got, wanted = 0;
            memcpy(&got, at + (size_t)r * sizeof got, sizeof got);
            if (i < l->rank)
                wanted = ((const struct tensor_codes *)l->a.data)->scales[i] *
                         ((const struct tensor_codes *)l->b.data)->scales[i];
            check_value((double)got, (double)wanted, l->site, "scale", i, 0);
        }
    }
}

/* How wide the stack must be. */
static enum lora_codes width_of(const struct packed *p, const struct stack_shape *s)
{
    bool any = false, dora = false, same = true;
    enum dtype d = DTYPE_F32;
    for (int m = 0; m < s->modules; m++) {
        const struct lora_module *l = module_of(p->lora, s->site[m]);
        if (!l)
            continue;
        same = same && (!any || l->a.dtype == d);
        d = l->a.dtype;
        any = true;
        dora |= l->magnitude.data != NULL;
    }
    if (!p->codes || !same || dora)
        return LORA_BF16;
    return d == DTYPE_Q8 ? LORA_INT8 : d == DTYPE_Q4 ? LORA_INT4 : LORA_BF16;
}

static void check_stack(struct packed *p, int stack)
{
    const struct lora_stack *t = &p->table[stack];
    struct stack_shape s;
    stack_shape_init(p->shape, stack, &s);
    unsigned dora = 0;
    for (int m = 0; m < s.modules; m++) {
        const struct lora_module *l = module_of(p->lora, s.site[m]);
        dora |= l && l->magnitude.data ? 1u << m : 0u;
        check_module(p, stack, &s, m);
    }
    assert_int_equal(t->rank_tiles, t->module_tile[STACK_MODULES]);
    assert_int_equal(cuda_adapter_dora(p->lora, p->shape, stack), dora);
    assert_int_equal(t->gain != NULL, dora != 0);
    if (t->rank_tiles == 0)
        assert_null(t->a);
    assert_int_equal(t->codes, width_of(p, &s));
    assert_int_equal(t->rank_scale != NULL, t->codes == LORA_INT8);
    if (t->rank_scale)
        check_scales(p, t, &s);
    p->seen += part_of((size_t)t->rank_tiles * (size_t)s.groups *
                       a_group_bytes((enum lora_codes)t->codes));
    p->seen += t->gain ? ((size_t)s.tiles * 64 + 255) / 256 * 256 : 0;
}

static void check_embed(struct packed *p)
{
    const struct lora_module *l = module_of(p->lora, SITE_EMBED(p->shape->layers));
    assert_int_equal(p->embed.rank, l ? l->rank : 0);
    if (!l)
        return;
    assert_true(p->embed.scale == l->scale);
    size_t a_bytes = (size_t)l->in * (size_t)l->rank * 4;
    size_t b_bytes = (size_t)l->out * (size_t)l->rank * 4;
    const uint8_t *a = host_of(p, p->embed.a, a_bytes), *b = host_of(p, p->embed.b, b_bytes);
    p->seen += (a_bytes + 255) / 256 * 256 + (b_bytes + 255) / 256 * 256;
    for (int r = 0; r < l->rank; r++) {
        float v;
        for (int i = 0; i < l->in; i++) {
            memcpy(&v, a + ((size_t)i * (size_t)l->rank + (size_t)r) * 4, 4);
            assert_true(v == element(&l->a, r, i));
        }
        for (int i = 0; i < l->out; i++) {
            memcpy(&v, b + ((size_t)i * (size_t)l->rank + (size_t)r) * 4, 4);
            assert_true(v == element(&l->b, i, r));
        }
    }
}

/* All but the bytes between fields. */
static void same_stack(const struct lora_stack *a, const struct lora_stack *b)
{
    assert_ptr_equal(a->a, b->a);
    assert_ptr_equal(a->gain, b->gain);
    assert_ptr_equal(a->rank_scale, b->rank_scale);
    assert_memory_equal(a->b, b->b, sizeof a->b);
    assert_memory_equal(a->scale, b->scale, sizeof a->scale);
    assert_int_equal(a->codes, b->codes);
    assert_int_equal(a->rank_tiles, b->rank_tiles);
    assert_memory_equal(a->module_tile, b->module_tile, sizeof a->module_tile);
}

static void check_rebase(struct packed *p)
{
    int stacks = STACK_COUNT(p->shape->layers);
    struct lora_stack *moved = mem_calloc((size_t)stacks, sizeof *moved);
    struct lora_stack *fresh = mem_calloc((size_t)stacks, sizeof *fresh);
    uint8_t *image = mem_alloc_aligned(p->bytes + 1);
    struct lora_embed moved_embed = p->embed, fresh_embed;
    memcpy(moved, p->table, (size_t)stacks * sizeof *moved);
    cuda_adapter_rebase(moved, stacks, &moved_embed, BASE, BASE - 8192);
    assert_int_equal(cuda_adapter_pack(p->lora, p->shape, p->codes, image, BASE - 8192, fresh,
                                       &fresh_embed, NULL),
                     STATUS_OK);
    assert_memory_equal(image, p->image, p->bytes);
    for (int i = 0; i < stacks; i++)
        same_stack(&moved[i], &fresh[i]);
    assert_memory_equal(&moved_embed, &fresh_embed, sizeof moved_embed);
    mem_free(moved);
    mem_free(fresh);
    mem_free(image);
}

static void check_adapter(const struct lora *l, const struct model_shape *s, bool codes)
{
    struct packed p = {
        .lora = l, .shape = s, .bytes = cuda_adapter_bytes(l, s, codes), .codes = codes};
    struct err e = {0};
    p.image = mem_alloc_aligned(p.bytes + GUARD);
    p.table = mem_alloc((size_t)STACK_COUNT(s->layers), sizeof *p.table);
    memset(p.image, 0xa5, p.bytes + GUARD);
    memset(p.table, 0xa5, (size_t)STACK_COUNT(s->layers) * sizeof *p.table);
    if (cuda_adapter_pack(l, s, codes, p.image, BASE, p.table, &p.embed, &e) != STATUS_OK)
        fail_msg("%s", e.msg);
    for (int i = 0; i < GUARD; i++)
        assert_int_equal(p.image[p.bytes + (size_t)i], 0xa5);
    for (int i = 0; i < STACK_COUNT(s->layers); i++)
        check_stack(&p, i);
    check_embed(&p);
    assert_int_equal(p.seen, p.bytes);
    check_rebase(&p);
    mem_free(p.image);
    mem_free(p.table);
}

static const struct fixture_lora kinds[] = {
    {.rank = 8, .attention = true, .dtype = DTYPE_BF16, .strength = 0.3},
    {.rank = 1, .attention = true, .mlp = true, .dtype = DTYPE_F32, .strength = 0.3},
    {.rank = 17, .mlp = true, .head = true, .dtype = DTYPE_F16, .strength = 0.3},
    {.rank = 5, .embed = true, .dtype = DTYPE_F32, .strength = 0.3},
    {.rank = 33, .dora = true, .attention = true, .mlp = true, .dtype = DTYPE_F32, .strength = 0.3},
    {.rank = 16, .dora = true, .mlp = true, .head = true, .dtype = DTYPE_BF16, .strength = 0.3},
};

static void test_cuda_adapter_image_is_the_layout(void **state)
{
    (void)state;
    for (int arch = 0; arch < ARCH_COUNT; arch++) {
        struct model_shape s = fixture_shape((enum model_arch)arch);
        for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
            struct lora *l = fixture_lora(&s, &kinds[i], 11 + i);
            check_adapter(l, &s, i % 2);
            size_t wide = cuda_adapter_bytes(l, &s, true);
            fixture_lora_free(l);
            for (int q = ENGINE_QUANT_INT8; q <= ENGINE_QUANT_INT4; q++) {
                l = fixture_lora(&s, &kinds[i], 11 + i);
                fixture_lora_quantise(l, (enum engine_adapter_quant)q);
                check_adapter(l, &s, false);
                check_adapter(l, &s, true);
                size_t most = q == ENGINE_QUANT_INT8 ? wide * 11 / 20 : wide * 7 / 20;
                assert_true(kinds[i].embed || kinds[i].dora ||
                            cuda_adapter_bytes(l, &s, true) < most);
                fixture_lora_free(l);
            }
        }
    }
}

/* Sites taken at random from adapters of different ranks and kinds. */
static void test_cuda_adapter_mixed_ranks(void **state)
{
    (void)state;
    struct model_shape s = fixture_shape(ARCH_LLAMA);
    struct fixture_lora all = {.attention = true, .mlp = true, .head = true, .strength = 0.3};
    struct lora *from[3];
    for (int i = 0; i < 3; i++) {
        all.rank = (const int[]){3, 16, 40}[i];
        all.dora = i == 1;
        all.dtype = (enum dtype)i;
        from[i] = fixture_lora(&s, &all, 5 + (uint64_t)i);
    }
    fixture_lora_quantise(from[0], ENGINE_QUANT_INT8);
    fixture_lora_quantise(from[2], ENGINE_QUANT_INT4);
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct fixture_rng r = {seed};
        struct lora_module modules[SITE_MAX];
        struct lora l = {.modules = modules};
        for (int i = 0; i < from[0]->module_count; i++) {
            int pick = fixture_below(&r, 4);
            if (pick < 3)
                modules[l.module_count++] = from[pick]->modules[i];
        }
        check_adapter(&l, &s, seed % 2);
    }
    for (int i = 0; i < 3; i++)
        fixture_lora_free(from[i]);
}

static void test_cuda_adapter_beyond_bf16_is_refused(void **state)
{
    (void)state;
    struct model_shape s = fixture_shape(ARCH_QWEN2);
    struct fixture_lora kind = {.rank = 4, .attention = true, .dtype = DTYPE_F32, .strength = 0.3};
    for (int in_b = 0; in_b < 2; in_b++) {
        struct lora *l = fixture_lora(&s, &kind, 3);
        struct lora_module *m = &l->modules[1];
        float huge = -3.4e38f;
        struct tensor *t = in_b ? &m->b : &m->a;
        memcpy((uint8_t *)(uintptr_t)t->data + 8, &huge, sizeof huge);
        size_t bytes = cuda_adapter_bytes(l, &s, false);
        uint8_t *image = mem_alloc_aligned(bytes);
        struct lora_stack *table = mem_alloc((size_t)STACK_COUNT(s.layers), sizeof *table);
        struct lora_embed embed;
        struct err e = {0};
        assert_int_equal(cuda_adapter_pack(l, &s, false, image, BASE, table, &embed, &e),
                         STATUS_UNSUPPORTED);
        assert_string_equal(e.param, "model.layers.0.self_attn.k_proj");
        mem_free(image);
        mem_free(table);
        fixture_lora_free(l);
    }
}

static void test_cuda_adapter_without_memory(void **state)
{
    (void)state;
    struct model_shape s = fixture_shape(ARCH_LLAMA);
    struct lora *l = fixture_lora(&s, &kinds[0], 3);
    uint8_t *image = mem_alloc_aligned(cuda_adapter_bytes(l, &s, false));
    struct lora_stack *table = mem_alloc((size_t)STACK_COUNT(s.layers), sizeof *table);
    struct lora_embed embed;
    for (int k = 1; k <= 2; k++) {
        mem_fail_at(k);
        assert_int_equal(cuda_adapter_pack(l, &s, false, image, BASE, table, &embed, NULL),
                         STATUS_NO_MEMORY);
        mem_fail_at(0);
    }
    mem_free(image);
    mem_free(table);
    fixture_lora_free(l);
}

/* The adapter of the reference work costs what the byte model says, and nothing for padding. */
static void test_cuda_adapter_bytes_of_the_reference(void **state)
{
    (void)state;
    struct model_shape s = {.layers = 28,
                            .hidden = 3072,
                            .heads = 24,
                            .kv_heads = 8,
                            .head_dim = 128,
                            .ffn = 8192,
                            .vocab = 128256};
    struct lora_module modules[28 * LINEAR_COUNT];
    struct lora l = {.modules = modules, .rank_max = 64};
    for (int site = 0; site < 28 * LINEAR_COUNT; site++) {
        struct lora_module *m = &modules[l.module_count++];
        *m = (struct lora_module){.site = site, .rank = 64, .scale = 1.0f};
        model_site_dims(&s, site, &m->in, &m->out);
    }
    assert_int_equal(cuda_adapter_bytes(&l, &s, false), 2 * 97255424);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_adapter_image_is_the_layout),
        cmocka_unit_test(test_cuda_adapter_mixed_ranks),
        cmocka_unit_test(test_cuda_adapter_beyond_bf16_is_refused),
        cmocka_unit_test(test_cuda_adapter_without_memory),
        cmocka_unit_test(test_cuda_adapter_bytes_of_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
