/* k_embed against the same sums in plain C: bit-equal where the order is stated. */
#include "tests/kernels/kernel_test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cuda/k_embed.h"
#include "engine/base/mem.h"

#define VOCAB    37
#define SLOTS    4
#define ROWS_MAX 70
#define COUNTERS 1000
#define DRAWN    5

struct scene {
    int hidden, rows, rows_max, y_stride, xn_stride;
    bool adapters;
    uint16_t *embed;
    float *norm;
    struct lora_embed host[SLOTS]; /* host pointers */
    struct lora_embed *d_table;
    int32_t token[ROWS_MAX]; /* as uploaded, negative: drawn */
    int32_t drawn[DRAWN];
    struct lora_piece pieces[LORA_ROUNDS * ROWS_MAX];
    struct step_head head;
};

struct result {
    float *y, *ss;
    uint16_t *xn;
    uint32_t counters[COUNTERS];
};

static float *random_floats(uint64_t *seed, size_t n)
{
    float *x = mem_alloc(n + 1, sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = kernel_test_uniform(seed, -1.0f, 1.0f);
    return x;
}

/* Rounds of random pieces: round i has rows only that round i - 1 has. */
static void random_pieces(struct scene *s, uint64_t *seed)
{
    struct lora_pieces *p = &s->head.pieces[VIEW_ROWS];
    bool had[ROWS_MAX], has[ROWS_MAX];
    memset(had, 1, sizeof had);
    for (int round = 0; round < LORA_ROUNDS; round++) {
        memset(has, 0, sizeof has);
        for (int row = 0; row < s->rows && s->adapters;) {
            int rows = 1 + (int)kernel_test_below(seed, 8);
            bool all = row + rows <= s->rows && kernel_test_below(seed, 4);
            for (int i = row; i < row + rows && all; i++)
                all = had[i];
            if (all) {
                s->pieces[p->count++] =
                    (struct lora_piece){.slot = (int32_t)kernel_test_below(seed, SLOTS),
                                        .weight = kernel_test_uniform(seed, -1.0f, 2.0f),
                                        .row = row,
                                        .rows = rows};
                memset(has + row, 1, (size_t)rows);
            }
            row += rows;
        }
        p->round_end[round] = p->count;
        memcpy(had, has, sizeof had);
    }
}

static void init_scene(struct scene *s, int hidden, int rows, bool adapters, uint64_t seed)
{
    static const int ranks[SLOTS] = {0, 1, 5, 16};
    struct lora_embed table[SLOTS];
    memset(s, 0, sizeof *s);
    s->hidden = hidden;
    s->rows = rows;
    s->rows_max = ROWS_MAX;
    s->adapters = adapters;
    s->y_stride = hidden + 3;
    s->xn_stride = PAD_K(hidden) + (hidden % 3 == 0 ? TILE_K : 0);
    s->embed = mem_alloc((size_t)VOCAB * (size_t)hidden, sizeof *s->embed);
    for (int i = 0; i < VOCAB * hidden; i++)
        s->embed[i] = kernel_test_bf16(kernel_test_uniform(&seed, -1.0f, 1.0f));
    s->norm = random_floats(&seed, (size_t)hidden);
    for (int i = 0; i < SLOTS; i++) {
        size_t a = (size_t)VOCAB * (size_t)ranks[i], b = (size_t)hidden * (size_t)ranks[i];
        s->host[i] = (struct lora_embed){random_floats(&seed, a), random_floats(&seed, b),
                                         0.25f + (float)i, ranks[i]};
        table[i] = s->host[i];
        table[i].a = kernel_test_upload(s->host[i].a, a * sizeof(float));
        table[i].b = kernel_test_upload(s->host[i].b, b * sizeof(float));
    }
    s->d_table = kernel_test_upload(table, sizeof table);
    for (int i = 0; i < DRAWN; i++)
        s->drawn[i] = (int32_t)kernel_test_below(&seed, VOCAB);
    for (int t = 0; t < rows; t++)
        s->token[t] = (int32_t)kernel_test_below(&seed, VOCAB + DRAWN) - DRAWN;
    s->head.rows[VIEW_ROWS] = rows;
    random_pieces(s, &seed);
}

static void free_scene(struct scene *s)
{
    for (int i = 0; i < SLOTS; i++) {
        mem_free((void *)(uintptr_t)s->host[i].a);
        mem_free((void *)(uintptr_t)s->host[i].b);
    }
    mem_free(s->embed);
    mem_free(s->norm);
}

static struct result run_scene(const struct scene *s, bool table)
{
    size_t rows = (size_t)s->rows_max, tiles = (size_t)PAD_N(s->hidden) / TILE_N;
    size_t y = rows * (size_t)s->y_stride * 4, xn = rows * (size_t)s->xn_stride * 2;
    struct step_dev step = {
        .head = kernel_test_upload(&s->head, sizeof s->head),
        .token = kernel_test_upload(s->token, sizeof s->token),
        .pieces = {kernel_test_upload(s->pieces, sizeof s->pieces)},
    };
    struct embed_args a = {
        .step = &step,
        .rows_max = s->rows_max,
        .drawn = kernel_test_upload(s->drawn, sizeof s->drawn),
        .embed = kernel_test_upload(s->embed, (size_t)VOCAB * (size_t)s->hidden * 2),
        .hidden = s->hidden,
        .norm = kernel_test_upload(s->norm, (size_t)s->hidden * 4),
        .y = kernel_test_alloc(y),
        .y_stride = s->y_stride,
        .xn = kernel_test_alloc(xn),
        .xn_stride = s->xn_stride,
        .ss = kernel_test_alloc(rows * tiles * 4),
        .table = table ? s->d_table : NULL,
        .counters = kernel_test_alloc(COUNTERS * 4),
        .counter_count = COUNTERS - 1,
        .dependent = s->rows % 2,
    };
    assert_int_equal(cuda_embed(&a, kernel_test_stream()), STATUS_OK);
    struct result r = {
        .y = mem_alloc(1, y), .ss = mem_alloc(rows * tiles, 4), .xn = mem_alloc(1, xn)};
    kernel_test_read(r.y, a.y, y);
    kernel_test_read(r.xn, a.xn, xn);
    kernel_test_read(r.ss, a.ss, rows * tiles * 4);
    kernel_test_read(r.counters, a.counters, sizeof r.counters);
    return r;
}

static void free_result(struct result *r)
{
    mem_free(r->y);
    mem_free(r->xn);
    mem_free(r->ss);
}

/* y of one row by the formula, adapters in their order. */
static void wanted_row(const struct scene *s, int row, bool table, float *y)
{
    int token = s->token[row] < 0 ? s->drawn[-1 - s->token[row]] : s->token[row];
    for (int i = 0; i < s->hidden; i++)
        y[i] = kernel_test_float(s->embed[token * s->hidden + i]);
    for (int p = 0; table && p < s->head.pieces[VIEW_ROWS].count; p++) {
        const struct lora_piece *piece = &s->pieces[p];
        const struct lora_embed *l = &s->host[piece->slot];
        if (row < piece->row || row >= piece->row + piece->rows || l->rank == 0)
            continue;
        float factor = piece->weight * l->scale;
        for (int i = 0; i < s->hidden; i++) {
            float d = 0.0f;
            for (int r = 0; r < l->rank; r++)
                d = fmaf(l->b[i * l->rank + r], l->a[token * l->rank + r], d);
            y[i] = fmaf(factor, d, y[i]);
        }
    }
}

static void check_row(const struct scene *s, const struct result *r, int row, bool table)
{
    float *y = mem_calloc((size_t)(s->xn_stride + s->y_stride), sizeof *y);
    int tiles = PAD_N(s->hidden) / TILE_N;
    wanted_row(s, row, table, y);
    kernel_test_equal("y", r->y + (size_t)row * (size_t)s->y_stride, y, (size_t)s->y_stride * 4);
    for (int tile = 0; tile < tiles; tile++) {
        float want = 0.0f, *got = &r->ss[row * tiles + tile];
        double sum = 0.0;
        for (int i = tile * 16; i < tile * 16 + 16; i++)
            sum += (double)y[i] * (double)y[i];
        want = (float)sum;
        kernel_test_close("ss", got, &want, 1, 0.0f, 16 * 6e-8f); /* 16 positive terms */
    }
    for (int i = 0; i < s->xn_stride; i++) {
        float x = i < s->hidden ? y[i] * s->norm[i] : 0.0f;
        uint16_t want = kernel_test_bf16(x);
        kernel_test_equal("xn", &r->xn[row * s->xn_stride + i], &want, 2);
    }
    mem_free(y);
}

static void check_scene(const struct scene *s, bool table)
{
    struct result r = run_scene(s, table);
    for (int row = 0; row < s->rows; row++)
        check_row(s, &r, row, table);
    for (int i = s->rows * s->y_stride; i < s->rows_max * s->y_stride; i++)
        assert_true(r.y[i] != r.y[i]); /* rows that the step has not stay as they were */
    for (int i = 0; i < COUNTERS; i++)
        assert_int_equal(r.counters[i], i < COUNTERS - 1 ? 0u : 0xffffffffu);
    free_result(&r);
}

static void test_embed_equals_the_formula(void **state)
{
    (void)state;
    static const int shapes[][2] = {{16, 1}, {1, 2}, {40, 70}, {130, 9}, {512, 8}, {1029, 33}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (int adapters = 0; adapters < 2; adapters++) {
            struct scene s;
            init_scene(&s, shapes[i][0], shapes[i][1], adapters != 0, 5 + i);
            check_scene(&s, true);
            check_scene(&s, false);
            free_scene(&s);
        }
    }
}

/* A row alone has the bits that it has in company. */
static void test_embed_alone_is_the_same(void **state)
{
    (void)state;
    struct scene s, alone;
    init_scene(&s, 130, 23, true, 77);
    struct result all = run_scene(&s, true);
    for (int row = 0; row < s.rows; row += 5) {
        alone = s;
        alone.rows = alone.rows_max = 1;
        alone.token[0] = s.token[row];
        struct lora_pieces *p = &alone.head.pieces[VIEW_ROWS];
        memset(&alone.head, 0, sizeof alone.head);
        alone.head.rows[VIEW_ROWS] = 1;
        for (int i = 0; i < s.head.pieces[VIEW_ROWS].count; i++) {
            if (row < s.pieces[i].row || row >= s.pieces[i].row + s.pieces[i].rows)
                continue;
            alone.pieces[p->count] = s.pieces[i];
            alone.pieces[p->count].row = 0;
            alone.pieces[p->count++].rows = 1;
        }
        for (int round = 0; round < LORA_ROUNDS; round++)
            p->round_end[round] = round < p->count ? round + 1 : p->count;
        struct result one = run_scene(&alone, true);
        int tiles = PAD_N(s.hidden) / TILE_N;
        kernel_test_equal("y", one.y, all.y + row * s.y_stride, (size_t)s.y_stride * 4);
        kernel_test_equal("xn", one.xn, all.xn + row * s.xn_stride, (size_t)s.xn_stride * 2);
        kernel_test_equal("ss", one.ss, all.ss + row * tiles, (size_t)tiles * 4);
        free_result(&one);
    }
    free_result(&all);
    free_scene(&s);
}

static void test_embed_refuses_strides(void **state)
{
    (void)state;
    struct step_dev step = {.head = NULL};
    struct embed_args a = {
        .step = &step, .rows_max = 1, .hidden = 100, .y_stride = 99, .xn_stride = 128};
    assert_int_equal(cuda_embed(&a, kernel_test_stream()), STATUS_INVALID);
    a.y_stride = 100;
    a.xn_stride = 127;
    assert_int_equal(cuda_embed(&a, kernel_test_stream()), STATUS_INVALID);
    a.xn_stride = 129;
    assert_int_equal(cuda_embed(&a, kernel_test_stream()), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed_equals_the_formula),
        cmocka_unit_test(test_embed_alone_is_the_same),
        cmocka_unit_test(test_embed_refuses_strides),
    };
    return kernel_test_run("embed", tests, sizeof tests / sizeof tests[0]);
}
