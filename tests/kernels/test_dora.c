/* Gains on the device against the same norms in double, over the weights that the device holds. */
#include "tests/kernels/kernel_test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cuda/cuda_adapter.h"
#include "cuda/k_dora.h"
#include "cuda/k_quantise.h"
#include "cuda/quantise_ref.h"
#include "cuda/stack_shape.h"
#include "engine/base/mem.h"
#include "tests/kernels/tile_ref.h"
#include "tests/unit/cpu_fixture.h"

struct scene {
    const struct model *model;
    const struct model_shape *shape;
    const struct lora *lora;
    size_t bytes;
    uint8_t *before, *after; /* the image on both sides of cuda_dora */
    uint8_t *d_image;
    struct lora_stack *table; /* device pointers */
    enum weight_format format;
};

static const struct tensor *weights_of(const struct model *m, int site)
{
    if (site == SITE_LM_HEAD(m->shape.layers))
        return &m->lm_head;
    return &m->layers[site / LINEAR_COUNT].linear[site % LINEAR_COUNT];
}

static const struct lora_module *module_of(const struct lora *l, int site)
{
    for (int i = 0; i < l->module_count; i++) {
        if (l->modules[i].site == site)
            return &l->modules[i];
    }
    return NULL;
}

/* The base matrix of a stack on the device, and its rows as they are served. */
static struct dev_matrix pack_base(const struct scene *s, const struct stack_shape *x)
{
    struct dev_matrix w = tile_ref_alloc(s->format, x->n, x->k);
    assert_int_equal(w.tiles, x->tiles);
    assert_int_equal(w.groups, x->groups);
    for (int m = 0; m < x->modules; m++) {
        const struct tensor *t = weights_of(s->model, x->site[m]);
        struct quantise_args a = {.rows = kernel_test_upload(t->data, tensor_bytes(t)),
                                  .type = t->dtype == DTYPE_F32 ? SOURCE_F32 : SOURCE_BF16,
                                  .row_count = x->rows[m],
                                  .k = x->k,
                                  .w = w,
                                  .row_first = stack_shape_row(x, m, 0),
                                  .interleave = x->interleaved};
        assert_int_equal(cuda_quantise(&a, kernel_test_stream()), STATUS_OK);
        kernel_test_sync();
        kernel_test_free((void *)(uintptr_t)a.rows);
    }
    return w;
}

static float rounded(const struct tensor *t, int row, int column)
{
    float v;
    tensor_read_f32(t, (size_t)row * (size_t)t->cols + (size_t)column, 1, &v);
    return kernel_test_float(kernel_test_bf16(v));
}

static double gain_of(const struct scene *s, const struct lora_module *l, int n)
{
    const struct tensor *t = weights_of(s->model, l->site);
    float *w = mem_alloc((size_t)l->in, sizeof *w), m;
    double sum = 0.0;
    tensor_read_f32(t, (size_t)n * (size_t)l->in, (size_t)l->in, w);
    assert_int_equal(quantise_ref_row(s->format, w, l->in, w), STATUS_OK);
    for (int c = 0; c < l->in; c++) {
        double delta = 0.0;
        for (int r = 0; r < l->rank; r++)
            delta += (double)rounded(&l->b, n, r) * (double)rounded(&l->a, r, c);
        double v = (double)w[c] + (double)l->scale * delta;
        sum += v * v;
    }
    mem_free(w);
    tensor_read_f32(&l->magnitude, (size_t)n, 1, &m);
    return (double)m / sqrt(sum);
}

static size_t offset_of(const struct scene *s, const void *device)
{
    return (size_t)((const uint8_t *)device - s->d_image);
}

static float image_float(const uint8_t *image, size_t at)
{
    float v;
    memcpy(&v, image + at, sizeof v);
    return v;
}

/* Byte offset of B's element in the image: registers as m16n8k16 has them. */
static size_t b_at(const struct scene *s, const struct lora_stack *t, const struct stack_shape *x,
                   int m, int row, int rank)
{
    int part = x->interleaved ? 0 : m, tile = row / 16 - (x->interleaved ? 0 : x->module_tile[m]);
    int width = t->module_tile[m + 1] - t->module_tile[m], lane = row % 8 * 4 + rank % 8 / 2;
    if (x->interleaved) {
        int other = t->module_tile[2 - m] - t->module_tile[1 - m];
        width = other > width ? other : width;
    }
    int half =
        ((tile * width + rank / 16) * 32 + lane) * 8 + (row % 16 / 8 + rank % 16 / 8 * 2) * 2;
    return offset_of(s, t->b[part]) + (size_t)(half + rank % 2) * 2;
}

static float image_bf16(const uint8_t *image, size_t at)
{
    uint16_t v;
    memcpy(&v, image + at, sizeof v);
    return kernel_test_float(v);
}

/* Marks what it has looked at in `seen`. Sums of K + R terms in fp32: a relative error of about
 * (K + R) 2^-24 each, halved by the root. */
static void check_module(const struct scene *s, int stack, const struct stack_shape *x, int m,
                         uint8_t *seen)
{
    const struct lora_stack *t = &s->table[stack];
    const struct lora_module *l = module_of(s->lora, x->site[m]);
    if (!l || !l->magnitude.data)
        return;
    for (int n = 0; n < l->out; n++) {
        int row = stack_shape_row(x, m, n);
        size_t at = offset_of(s, t->gain) + (size_t)row * 4;
        double g = gain_of(s, l, n), got = (double)image_float(s->after, at) + 1.0;
        if (!(fabs(got - g) <= 1e-5 * fabs(g) + 2e-7))
            fail_msg("format %d, site %d, row %d: gain %.9g, wanted %.9g", s->format, l->site, n,
                     got, g);
        memset(seen + at, 1, 4);
        for (int r = 0; r < l->rank; r++) {
            at = b_at(s, t, x, m, row, r);
            double b = g * (double)image_bf16(s->before, at),
                   now = (double)image_bf16(s->after, at);
            if (!(fabs(now - b) <= (0x1p-8 + 1e-5) * fabs(b)))
                fail_msg("format %d, site %d, B[%d, %d]: %.9g, wanted %.9g", s->format, l->site, n,
                         r, now, b);
            memset(seen + at, 1, 2);
        }
    }
}

static void run_scene(struct scene *s)
{
    s->bytes = cuda_adapter_bytes(s->lora, s->shape, false);
    int stacks = STACK_COUNT(s->shape->layers);
    struct lora_embed embed;
    struct err e = {0};
    s->table = mem_alloc((size_t)stacks, sizeof *s->table);
    s->before = mem_alloc_aligned(s->bytes);
    s->after = mem_alloc_aligned(s->bytes);
    uint8_t *seen = mem_calloc(s->bytes, 1);
    s->d_image = kernel_test_alloc(s->bytes);
    if (cuda_adapter_pack(s->lora, s->shape, false, s->before, (uint64_t)(uintptr_t)s->d_image,
                          s->table, &embed, &e) != STATUS_OK)
        fail_msg("%s", e.msg);
    kernel_test_write(s->d_image, s->before, s->bytes);
    for (int i = 0; i < stacks; i++) {
        struct stack_shape x;
        stack_shape_init(s->shape, i, &x);
        struct dora_args a = {.w = pack_base(s, &x),
                              .stack = s->table[i],
                              .interleaved = x.interleaved,
                              .modules = cuda_adapter_dora(s->lora, s->shape, i)};
        memcpy(a.module_tile, x.module_tile, sizeof a.module_tile);
        assert_int_equal(cuda_dora(&a, kernel_test_stream()), STATUS_OK);
        kernel_test_sync();
        kernel_test_free((void *)(uintptr_t)a.w.data);
        kernel_test_free((void *)(uintptr_t)a.w.row_scale);
    }
    kernel_test_read(s->after, s->d_image, s->bytes);
    for (int i = 0; i < stacks; i++) {
        struct stack_shape x;
        stack_shape_init(s->shape, i, &x);
        for (int m = 0; m < x.modules; m++)
            check_module(s, i, &x, m, seen);
    }
    /* Modules without DoRA, A, and all padding are as they were; -0 is 0. */
    for (size_t i = 0; i < s->bytes; i++) {
        if (!seen[i] && s->before[i] != s->after[i])
            fail_msg("format %d: byte %zu became %02x from %02x", s->format, i, s->after[i],
                     s->before[i]);
    }
    mem_free(seen);
    mem_free(s->table);
    mem_free(s->before);
    mem_free(s->after);
    kernel_test_free(s->d_image);
}

static void test_dora_gains_are_those_of_the_served_weights(void **state)
{
    (void)state;
    static const struct fixture_lora kinds[] = {
        {.rank = 8,
         .dora = true,
         .attention = true,
         .head = true,
         .dtype = DTYPE_F32,
         .strength = 0.3},
        {.rank = 20,
         .dora = true,
         .attention = true,
         .mlp = true,
         .dtype = DTYPE_BF16,
         .strength = 0.3},
        {.rank = 3, .dora = true, .mlp = true, .dtype = DTYPE_F16, .strength = 0.3},
    };
    for (int f = 0; f < WEIGHT_FORMAT_COUNT; f++) {
        struct model_shape shape = fixture_shape(f == 1 ? ARCH_QWEN3 : ARCH_LLAMA);
        shape.layers = 1;
        struct model *model = fixture_model(&shape, f == 1 ? DTYPE_F32 : DTYPE_BF16, 5);
        struct lora *l = fixture_lora(&shape, &kinds[f], 6);
        struct scene s = {
            .model = model, .shape = &shape, .lora = l, .format = (enum weight_format)f};
        run_scene(&s);
        fixture_lora_free(l);
        fixture_model_free(model);
    }
}

/* Each site by chance without a module, with a plain one, or with DoRA of one of two ranks. */
static void test_dora_leaves_other_modules_alone(void **state)
{
    (void)state;
    struct model_shape shape = fixture_shape(ARCH_LLAMA);
    shape.layers = 1;
    struct model *model = fixture_model(&shape, DTYPE_BF16, 7);
    struct fixture_lora kind = {
        .attention = true, .mlp = true, .dtype = DTYPE_BF16, .strength = 0.3};
    struct lora *from[3];
    for (int i = 0; i < 3; i++) {
        kind.rank = (const int[]){18, 5, 33}[i];
        kind.dora = i > 0;
        from[i] = fixture_lora(&shape, &kind, 8 + (uint64_t)i);
    }
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct fixture_rng r = {seed};
        struct lora_module modules[LINEAR_COUNT];
        struct lora l = {.modules = modules};
        for (int i = 0; i < LINEAR_COUNT; i++) {
            int pick = fixture_below(&r, 4);
            if (pick < 3)
                modules[l.module_count++] = from[pick]->modules[i];
        }
        if (l.module_count == 0)
            continue;
        struct scene s = {.model = model, .shape = &shape, .lora = &l, .format = WEIGHT_INT4};
        run_scene(&s);
    }
    for (int i = 0; i < 3; i++)
        fixture_lora_free(from[i]);
    fixture_model_free(model);
}

static void test_dora_refuses_what_is_not_there(void **state)
{
    (void)state;
    struct dora_args a = {.w = tile_ref_alloc(WEIGHT_INT4, 16, 128)};
    assert_int_equal(cuda_dora(&a, kernel_test_stream()), STATUS_OK); /* no module */
    a.modules = 1;
    assert_int_equal(cuda_dora(&a, kernel_test_stream()), STATUS_INVALID);
    a.stack.a = a.stack.b[0] = a.w.data;
    for (int m = 1; m <= STACK_MODULES; m++)
        a.stack.module_tile[m] = 1;
    assert_int_equal(cuda_dora(&a, kernel_test_stream()), STATUS_INVALID);
    a.stack.gain = (const float *)(const void *)a.w.data;
    a.modules = 2;
    assert_int_equal(cuda_dora(&a, kernel_test_stream()), STATUS_INVALID);
    kernel_test_sync();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dora_gains_are_those_of_the_served_weights),
        cmocka_unit_test(test_dora_leaves_other_modules_alone),
        cmocka_unit_test(test_dora_refuses_what_is_not_there),
    };
    return kernel_test_run("dora", tests, sizeof tests / sizeof tests[0]);
}
