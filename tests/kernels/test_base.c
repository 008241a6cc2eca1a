/* What lies around a library's products: k_base, k_norm, k_tail against plain loops. Adapters are
 * built from rows and packed here by layout.h's words. */
#include "tests/kernels/kernel_test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/k_base.h"
#include "cuda/k_norm.h"
#include "cuda/k_tail.h"
#include "tests/kernels/lora_ref.h"

#define SLOTS 3
#define GUARD 0xFFFFu

static void *zeros(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size);
    assert_non_null(p);
    return p;
}

static float bf16(float v)
{
    return kernel_test_float(kernel_test_bf16(v));
}

/* ---- an adapter at one linear ---- */

struct adapter {
    int ranks[STACK_MODULES]; /* 0: nothing there */
    float scale[STACK_MODULES];
    float *a[STACK_MODULES]; /* [ranks, k] */
    float *b[STACK_MODULES]; /* [rows of the module, ranks] */
    float *gain;             /* [tiles * 16] or NULL */
    enum lora_codes codes;
    struct lora_ref ref[STACK_MODULES];
    struct lora_stack dev;
};

struct linear {
    enum base_out out;
    int modules;
    int rows[STACK_MODULES];
    int module_tile[STACK_MODULES]; /* of outputs, as stack_shape has them */
    int k, groups, tiles;
    int codes;
    struct adapter adapter[SLOTS];
    struct lora_stack *table; /* device */
};

static int rank_tiles(int ranks)
{
    return (ranks + TILE_N - 1) / TILE_N;
}

/* Row of the matrix that is row `row` of module m. */
static int row_of(const struct linear *l, int m, int row)
{
    if (l->out == BASE_SWIGLU)
        return row / 8 * 16 + row % 8 + m * 8;
    return l->module_tile[m] * 16 + row;
}

static void pack_a(const struct linear *l, const struct adapter *a, int tile, uint16_t *to, int m)
{
    for (int r = 0; r < a->ranks[m]; r++)
        for (int c = 0; c < l->k; c++) {
            int s = c % TILE_K / 32, t = c % 32 / 8, e = c % 8, row = r % 16;
            int lane = row % 8 * 4 + t, reg = row / 8 + 2 * (e % 4 / 2), step = 2 * s + e / 4;
            size_t unit = (size_t)(tile + r / 16) * (size_t)l->groups + (size_t)(c / TILE_K);
            to[unit * 2048 + (size_t)(((step * 32 + lane) * 4 + reg) * 2 + e % 2)] =
                kernel_test_bf16(a->a[m][(size_t)r * (size_t)l->k + (size_t)c]);
        }
}

/* `wide`: rank tiles of an output tile in b; module m's rows are those of fragment rows `high`. */
static void pack_b(const struct adapter *a, int m, int rows, int wide, int across, int shift,
                   uint16_t *to)
{
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < a->ranks[m]; k++) {
            int tile = r / across, row = r % across + shift, c = k % 16;
            int lane = row % 8 * 4 + c % 8 / 2, reg = row / 8 + 2 * (c / 8);
            size_t unit = (size_t)tile * (size_t)wide + (size_t)(k / 16);
            to[unit * 256 + (size_t)(lane * 8 + reg * 2 + c % 2)] =
                kernel_test_bf16(a->b[m][(size_t)r * (size_t)a->ranks[m] + (size_t)k]);
        }
}

static void codes_upload(const struct linear *l, const struct adapter *a, struct lora_stack *d)
{
    bool both = l->out == BASE_SWIGLU, four = a->codes == LORA_INT4;
    size_t bytes = (size_t)d->rank_tiles * (size_t)l->groups * (four ? 1088 : 2048);
    uint8_t *image = zeros(bytes, 1);
    float *scale = zeros((size_t)d->rank_tiles * 16, sizeof *scale);
    for (int m = 0; m < l->modules; m++) {
        lora_ref_put_a(&a->ref[m], l->groups, d->module_tile[m], image);
        for (int r = 0; r < a->ranks[m] && !four; r++)
            scale[d->module_tile[m] * 16 + r] = a->ref[m].a_scale[r];
    }
    d->a = kernel_test_upload(image, bytes);
    d->rank_scale =
        four ? NULL : kernel_test_upload(scale, (size_t)d->rank_tiles * 16 * sizeof *scale);
    kernel_test_sync();
    free(image);
    free(scale);
    for (int m = 0; m < (both ? 1 : l->modules); m++) {
        int wide = rank_tiles(a->ranks[m]), up = both ? rank_tiles(a->ranks[1]) : 0;
        int tiles = both ? l->tiles : (l->rows[m] + 15) / 16;
        wide = up > wide ? up : wide;
        if (wide == 0)
            continue; /* there is no B then */
        bytes = lora_ref_b_bytes(a->codes, tiles, wide, both);
        image = zeros(bytes, 1);
        for (int half = both; half < (both ? 3 : 1); half++)
            lora_ref_put_b(&a->ref[both ? half - 1 : m], tiles, wide, half, image);
        d->b[m] = kernel_test_upload(image, bytes);
        kernel_test_sync();
        free(image);
    }
}

static void adapter_upload(struct linear *l, struct adapter *a)
{
    struct lora_stack d = {.rank_tiles = 0};
    for (int m = 0; m < l->modules; m++) {
        d.module_tile[m] = d.rank_tiles;
        d.rank_tiles += rank_tiles(a->ranks[m]);
        d.scale[m] = a->scale[m];
    }
    for (int m = l->modules; m <= STACK_MODULES; m++)
        d.module_tile[m] = d.rank_tiles;
    d.codes = a->codes;
    if (a->gain)
        d.gain = kernel_test_upload(a->gain, (size_t)l->tiles * 16 * sizeof *a->gain);
    if (a->codes != LORA_BF16) {
        codes_upload(l, a, &d);
        a->dev = d;
        return;
    }
    size_t a_count = (size_t)d.rank_tiles * (size_t)l->groups * 2048;
    uint16_t *image = zeros(a_count, 2);
    for (int m = 0; m < l->modules; m++)
        pack_a(l, a, d.module_tile[m], image, m);
    d.a = kernel_test_upload(image, a_count * 2);
    kernel_test_sync();
    free(image);
    bool both = l->out == BASE_SWIGLU;
    for (int m = 0; m < (both ? 1 : l->modules); m++) {
        int wide = rank_tiles(a->ranks[m]), up = both ? rank_tiles(a->ranks[1]) : 0;
        int tiles = both ? l->tiles : (l->rows[m] + 15) / 16;
        wide = up > wide ? up : wide;
        if (wide == 0)
            continue; /* there is no B then */
        size_t count = (size_t)tiles * (size_t)wide * 256;
        image = zeros(count, 2);
        pack_b(a, m, l->rows[m], wide, both ? 8 : 16, 0, image);
        if (both)
            pack_b(a, 1, l->rows[1], wide, 8, 8, image);
        d.b[m] = kernel_test_upload(image, count * 2);
        kernel_test_sync();
        free(image);
    }
    kernel_test_sync();
    a->dev = d;
}

static float *random_bf16(uint64_t *seed, size_t count)
{
    float *v = zeros(count, sizeof *v);
    for (size_t i = 0; i < count; i++)
        v[i] = bf16(kernel_test_uniform(seed, -1.0f, 1.0f));
    return v;
}

/* codes: 0: all adapters are bf16; else they are of all widths. */
static void linear_init(struct linear *l, enum base_out out, int k, int rows, bool gain, int codes,
                        uint64_t *seed)
{
    static const int ranks[SLOTS][STACK_MODULES] = {{5, 17, 16}, {33, 0, 3}, {0, 0, 0}};
    *l = (struct linear){.out = out,
                         .modules = out == BASE_STORE    ? 3
                                    : out == BASE_SWIGLU ? 2
                                                         : 1,
                         .k = k,
                         .codes = codes,
                         .groups = PAD_K(k) / TILE_K};
    for (int m = 0; m < l->modules; m++) {
        l->rows[m] = out == BASE_STORE ? rows + 16 * m : rows;
        if (out == BASE_SWIGLU) {
            l->tiles = (rows + 7) / 8;
            l->module_tile[m] = m ? l->tiles : 0;
            continue;
        }
        l->module_tile[m] = l->tiles;
        l->tiles += (l->rows[m] + 15) / 16;
    }
    for (int m = l->modules; m < STACK_MODULES; m++)
        l->module_tile[m] = l->tiles;
    struct lora_stack table[SLOTS];
    for (int i = 0; i < SLOTS; i++) {
        struct adapter *a = &l->adapter[i];
        a->codes = (enum lora_codes)(codes ? (i + codes) % 3 : LORA_BF16);
        for (int m = 0; m < l->modules; m++) {
            a->ranks[m] = ranks[i][m];
            a->scale[m] = 0.25f + 0.5f * (float)(m % 2);
            a->a[m] = random_bf16(seed, (size_t)a->ranks[m] * (size_t)k);
            a->b[m] = random_bf16(seed, (size_t)a->ranks[m] * (size_t)l->rows[m]);
            if (a->codes != LORA_BF16)
                lora_ref_init(&a->ref[m], a->codes, a->ranks[m], k, l->rows[m], 1.0f, 1.0f, seed,
                              a->a[m], a->b[m]);
        }
        if (gain && i == 1)
            a->gain = random_bf16(seed, (size_t)l->tiles * 16);
        adapter_upload(l, a);
        table[i] = a->dev;
    }
    l->table = kernel_test_upload(table, sizeof table);
    kernel_test_sync();
}

static void linear_free(struct linear *l)
{
    for (int i = 0; i < SLOTS; i++) {
        for (int m = 0; m < l->modules; m++) {
            free(l->adapter[i].a[m]);
            free(l->adapter[i].b[m]);
            lora_ref_free(&l->adapter[i].ref[m]);
        }
        free(l->adapter[i].gain);
    }
}

/* ---- the step ---- */

#define ROWS   45
#define PIECES 32

/* Who is on a row: two rounds, pieces of at most 8 rows. Returns the count. */
static int pieces_make(struct lora_piece *p, struct lora_pieces *head)
{
    static const struct {
        int slot, row, rows;
        float weight;
    } segments[] = {{0, 1, 14, 1.0f},
                    {1, 15, 1, -0.5f},
                    {2, 16, 3, 1.0f},
                    {1, 20, 25, 0.75f},
                    {0, 30, 9, 0.5f}};
    const int first_round = 4, count = (int)(sizeof segments / sizeof *segments);
    int n = 0;
    memset(head, 0, sizeof *head);
    for (int i = 0; i < count; i++) {
        for (int row = 0; row < segments[i].rows; row += 8)
            p[n++] = (struct lora_piece){.slot = segments[i].slot,
                                         .weight = segments[i].weight,
                                         .row = segments[i].row + row,
                                         .rows = segments[i].rows - row < 8 ? segments[i].rows - row
                                                                            : 8};
        if (i + 1 == first_round)
            head->round_end[0] = n;
    }
    for (int r = 1; r < LORA_ROUNDS; r++)
        head->round_end[r] = n;
    head->count = n;
    head->any_gain = 1;
    return n;
}

struct step {
    struct lora_piece piece[PIECES];
    struct step_head head;
    struct step_dev dev;
    uint16_t *x; /* [ROWS, stride] */
    int stride;
    float *product; /* [ROWS, product_stride] */
    int product_stride;
    float *bias; /* [tiles * 16] */
    float *y;    /* [ROWS, product_stride]: what ADD finds */
};

static void step_init(struct step *s, const struct linear *l, uint64_t *seed)
{
    memset(s, 0, sizeof *s);
    s->stride = l->groups * TILE_K + 16;
    s->product_stride = l->tiles * 16 + 4;
    size_t count = (size_t)ROWS * (size_t)s->product_stride;
    s->x = zeros((size_t)ROWS * (size_t)s->stride, 2);
    for (int t = 0; t < ROWS; t++)
        for (int c = 0; c < s->stride; c++)
            s->x[t * s->stride + c] =
                c < l->k ? kernel_test_bf16(kernel_test_uniform(seed, -1.0f, 1.0f)) : 0;
    s->product = random_bf16(seed, count);
    s->y = random_bf16(seed, count);
    s->bias = random_bf16(seed, (size_t)l->tiles * 16);
    s->head.rows[VIEW_ROWS] = ROWS;
    int pieces = pieces_make(s->piece, &s->head.pieces[VIEW_ROWS]);
    s->dev.head = kernel_test_upload(&s->head, sizeof s->head);
    s->dev.pieces[VIEW_ROWS] = kernel_test_upload(s->piece, (size_t)pieces * sizeof *s->piece);
    kernel_test_sync();
}

static void step_free(struct step *s)
{
    free(s->x);
    free(s->product);
    free(s->bias);
    free(s->y);
}

/* What adapters add to row t of module m's row `row`, but for done rows. *off grows by what codes
 * may be off: u once, and once more where int4 multiplies it by a scale. */
static double lora_at(const struct linear *l, const struct step *s, int t, int m, int row,
                      const struct base_rows *done, double *off)
{
    double sum = 0.0;
    for (int i = 0; i < s->head.pieces[VIEW_ROWS].count; i++) {
        const struct lora_piece *p = &s->piece[i];
        const struct adapter *a = &l->adapter[p->slot];
        if (t < p->row || t >= p->row + p->rows ||
            (done && t >= done->row && t < done->row + done->rows))
            continue;
        for (int r = 0; r < a->ranks[m]; r++) {
            double u = 0.0;
            for (int c = 0; c < l->k; c++)
                u += (double)a->a[m][r * l->k + c] *
                     (double)kernel_test_float(s->x[t * s->stride + c]);
            double v = (double)(p->weight * a->scale[m]) * (double)a->b[m][row * a->ranks[m] + r] *
                       (double)bf16((float)u);
            sum += v;
            *off += a->codes ? fabs(v) / 256 : 0;
        }
        bool there = false;
        for (int n = 0; n < l->modules; n++)
            there = there || a->ranks[n] > 0;
        if (there && a->gain)
            sum += (double)p->weight * (double)a->gain[row_of(l, m, row)] *
                   (double)s->product[t * s->product_stride + row_of(l, m, row)];
    }
    return sum;
}

static double out_at(const struct linear *l, const struct step *s, int t, int m, int row, bool lora,
                     const struct base_rows *done, double *off)
{
    int n = row_of(l, m, row);
    double v = (double)s->product[t * s->product_stride + n] + (double)s->bias[n];
    return v + (lora ? lora_at(l, s, t, m, row, done, off) : 0.0);
}

/* Row scales are powers of two, so that a product divided by them is exact. */
static float row_scale_at(int n)
{
    return ldexpf(1, n % 5 - 2);
}

static void check_scaled(const struct linear *l, const struct step *s, bool lora,
                         const struct base_rows *done, bool scaled)
{
    float *product = zeros((size_t)ROWS * (size_t)s->product_stride, sizeof *product);
    float *row_scale = zeros((size_t)l->tiles * 16, sizeof *row_scale);
    for (int n = 0; n < l->tiles * 16; n++)
        row_scale[n] = row_scale_at(n);
    for (int t = 0; t < ROWS; t++)
        for (int n = 0; n < s->product_stride; n++)
            product[t * s->product_stride + n] =
                s->product[t * s->product_stride + n] / (scaled ? row_scale_at(n) : 1);
    const bool both = l->out == BASE_SWIGLU;
    const size_t bytes = (size_t)ROWS * (size_t)s->product_stride * sizeof(float);
    const int h_stride = l->tiles * 8 + 4;
    int most = 0;
    for (int i = 0; i < SLOTS; i++)
        most = l->adapter[i].dev.rank_tiles > most ? l->adapter[i].dev.rank_tiles : most;
    struct base_args a = {.step = &s->dev,
                          .rows_max = 64,
                          .tiles = l->tiles,
                          .n = l->tiles * 16,
                          .product = kernel_test_upload(product, bytes),
                          .product_stride = s->product_stride,
                          .row_scale =
                              scaled ? kernel_test_upload(row_scale, (size_t)l->tiles * 64) : NULL,
                          .bias = kernel_test_upload(s->bias, (size_t)l->tiles * 16 * 4),
                          .out = l->out,
                          .y = kernel_test_upload(s->y, bytes),
                          .y_stride = s->product_stride,
                          .h = kernel_test_alloc((size_t)ROWS * (size_t)h_stride * 2),
                          .h_stride = h_stride,
                          .table = lora ? l->table : NULL,
                          .table_stride = 1,
                          .codes = l->codes != 0,
                          .x = kernel_test_upload(s->x, (size_t)ROWS * (size_t)s->stride * 2),
                          .x_stride = s->stride,
                          .groups = l->groups,
                          .pieces_max = s->head.pieces[VIEW_ROWS].count + 2,
                          .rank_tiles_max = most,
                          .dependent = 1};
    a.u = kernel_test_alloc((size_t)a.pieces_max * RANK_TILES_MAX * 256);
    memcpy(a.module_tile, l->module_tile, sizeof a.module_tile);
    if (done) {
        a.done[0] = *done;
        a.done_count = 1;
    }
    assert_int_equal(cuda_base(&a, kernel_test_stream()), STATUS_OK);
    float *y = zeros(bytes / 4, 4);
    uint16_t *h = zeros((size_t)ROWS * (size_t)h_stride, 2);
    kernel_test_read(y, a.y, bytes);
    kernel_test_read(h, a.h, (size_t)ROWS * (size_t)h_stride * 2);
    for (int t = 0; t < ROWS; t++)
        for (int m = 0; m < (both ? 1 : l->modules); m++)
            for (int row = 0; row < l->rows[m]; row++) {
                int n = row_of(l, m, row);
                double off = 0, off_up = 0, got, slack = 2e-4;
                double want = out_at(l, s, t, m, row, lora, done, &off);
                if (both) {
                    double up = out_at(l, s, t, 1, row, lora, done, &off_up);
                    double silu = want / (1.0 + exp(-want));
                    off = 1.1 * off * (fabs(up) + off_up) + fabs(silu) * off_up;
                    want = silu * up;
                    got = (double)kernel_test_float(h[t * h_stride + row]);
                    slack = 0x1p-8 * (fabs(want) + 0.1) + 2e-4 * fabs(up);
                } else {
                    want += l->out == BASE_ADD ? (double)s->y[t * s->product_stride + n] : 0.0;
                    got = (double)y[t * s->product_stride + n];
                    slack *= 1.0 + fabs(want);
                }
                /* u may round the other way: a unit of bf16 of each of up to 3 x 33 ranks. */
                slack += lora ? 0.02 + off : 0.0;
                if (!(fabs(got - want) <= slack))
                    fail_msg("out %d, lora %d, row %d, module %d, feature %d: %.7g for %.7g",
                             l->out, lora, t, m, row, got, want);
            }
    for (int t = 0; t < ROWS; t++) {
        for (int c = l->tiles * 16; c < s->product_stride; c++)
            assert_true(y[t * s->product_stride + c] == s->y[t * s->product_stride + c]);
        for (int c = both ? l->tiles * 8 : 0; c < h_stride; c++)
            assert_int_equal(h[t * h_stride + c], GUARD);
    }
    free(y);
    free(h);
    void *used[] = {
        (void *)a.product, (void *)a.row_scale, (void *)a.bias, a.y, a.h, (void *)a.x, a.u};
    for (size_t i = 0; i < sizeof used / sizeof *used; i++)
        kernel_test_free(used[i]);
    free(product);
    free(row_scale);
}

static void check_base(const struct linear *l, const struct step *s, bool lora,
                       const struct base_rows *done)
{
    check_scaled(l, s, lora, done, false);
    check_scaled(l, s, lora, done, true);
}

static void test_base(void **state)
{
    (void)state;
    static const struct {
        enum base_out out;
        int k, rows;
        bool gain;
    } cases[] = {{BASE_STORE, 200, 16, false}, {BASE_STORE, 128, 33, true},
                 {BASE_ADD, 130, 40, false},   {BASE_ADD, 1100, 16, true},
                 {BASE_SWIGLU, 96, 17, false}, {BASE_SWIGLU, 256, 64, true}};
    const int count = (int)(sizeof cases / sizeof *cases);
    for (int n = 0; n < 2 * count; n++) {
        const int i = n % count;
        uint64_t seed = 40 + (uint64_t)n;
        struct linear l;
        struct step s;
        const struct base_rows done = {20, 25};
        linear_init(&l, cases[i].out, cases[i].k, cases[i].rows, cases[i].gain,
                    n < count ? 0 : 1 + i % 3, &seed);
        step_init(&s, &l, &seed);
        check_base(&l, &s, false, NULL);
        check_base(&l, &s, true, NULL);
        check_base(&l, &s, true, &done);
        step_free(&s);
        linear_free(&l);
    }
}

/* ---- k_tail ---- */

static float tail_want(const struct linear *l, const struct adapter *a, int n, int rank)
{
    for (int m = 0; m < l->modules; m++) {
        int r = rank - a->dev.module_tile[m] * 16;
        if (r < 0 || r >= a->ranks[m])
            continue;
        for (int row = 0; row < l->rows[m]; row++)
            if (row_of(l, m, row) == n)
                return a->b[m][row * a->ranks[m] + r];
    }
    return 0.0f;
}

static void check_tail(const struct linear *l, const struct adapter *a, int tile_first,
                       int tile_count)
{
    enum { COLUMN = 24, X_ROWS = 70, FROM = 33, COUNT = 7 };
    const int ranks = a->dev.rank_tiles * 16, k = l->groups * TILE_K, stride = COLUMN + ranks + 8;
    const size_t w_count = (size_t)tile_count * 16 * (size_t)stride;
    const size_t x_count = (size_t)X_ROWS * (size_t)stride;
    struct tail_args t = {.lora = a->dev,
                          .interleaved = l->out == BASE_SWIGLU,
                          .groups = l->groups,
                          .a = kernel_test_alloc((size_t)ranks * (size_t)k * 2),
                          .w = kernel_test_alloc(w_count * 2),
                          .w_stride = stride,
                          .tile_first = tile_first,
                          .tile_count = tile_count,
                          .column = COLUMN,
                          .x = kernel_test_alloc(x_count * 2),
                          .x_stride = stride,
                          .x_rows = X_ROWS,
                          .row = FROM,
                          .rows = COUNT};
    memcpy(t.module_tile, l->module_tile, sizeof t.module_tile);
    assert_int_equal(cuda_tail(&t, kernel_test_stream()), STATUS_OK);
    uint16_t *got_a = zeros((size_t)ranks * (size_t)k, 2), *w = zeros(w_count, 2),
             *x = zeros(x_count, 2);
    kernel_test_read(got_a, t.a, (size_t)ranks * (size_t)k * 2);
    kernel_test_read(w, t.w, w_count * 2);
    kernel_test_read(x, t.x, x_count * 2);
    for (int m = 0; m < l->modules; m++)
        for (int r = 0; r < rank_tiles(a->ranks[m]) * 16; r++)
            for (int c = 0; c < k; c++) {
                float want = r < a->ranks[m] && c < l->k ? a->a[m][r * l->k + c] : 0.0f;
                float got = kernel_test_float(got_a[(a->dev.module_tile[m] * 16 + r) * k + c]);
                if (got != bf16(want))
                    fail_msg("A, module %d, rank %d, column %d: %g for %g", m, r, c, (double)got,
                             (double)want);
            }
    for (int n = 0; n < tile_count * 16; n++)
        for (int c = 0; c < stride; c++) {
            uint16_t got = w[n * stride + c];
            bool in = c >= COLUMN && c < COLUMN + ranks;
            float want = in ? tail_want(l, a, tile_first * 16 + n, c - COLUMN) : 0.0f;
            if (in ? kernel_test_float(got) != bf16(want) : got != GUARD)
                fail_msg("B, row %d, column %d: %04x for %g", n, c, got, (double)want);
        }
    for (int r = 0; r < X_ROWS; r++)
        for (int c = 0; c < stride; c++) {
            bool cleared = c >= COLUMN && c < COLUMN + ranks && (r < FROM || r >= FROM + COUNT);
            if (x[r * stride + c] != (cleared ? 0 : GUARD))
                fail_msg("x, row %d, column %d: %04x", r, c, x[r * stride + c]);
        }
    free(got_a);
    free(w);
    free(x);
    kernel_test_free(t.a);
    kernel_test_free(t.w);
    kernel_test_free(t.x);
}

static void test_tail(void **state)
{
    (void)state;
    static const enum base_out outs[] = {BASE_STORE, BASE_ADD, BASE_SWIGLU};
    for (size_t i = 0; i < 4 * sizeof outs / sizeof *outs; i++) {
        uint64_t seed = 70 + i;
        struct linear l;
        linear_init(&l, outs[i % 3], 130, 90, false, (int)i / 3, &seed);
        for (int slot = 0; slot < SLOTS - 1; slot++) {
            check_tail(&l, &l.adapter[slot], 0, l.tiles);
            check_tail(&l, &l.adapter[slot], l.tiles - 2, 2);
        }
        linear_free(&l);
    }
}

/* ---- k_norm ---- */

static void check_norm(int hidden, bool plain, uint64_t *seed)
{
    enum { T = 3 };
    const int stride = PAD_K(hidden), xn_stride = stride + 8, tiles = PAD_N(hidden) / 16;
    const float eps = 1e-2f;
    struct step_head head = {.rows = {T}};
    struct step_dev step = {.head = kernel_test_upload(&head, sizeof head)};
    float *y = zeros((size_t)T * (size_t)stride, 4), *norm = random_bf16(seed, (size_t)hidden);
    float *ss = zeros((size_t)T * (size_t)tiles, 4);
    uint16_t *xn = zeros((size_t)(T + 1) * (size_t)xn_stride, 2);
    for (int t = 0; t < T; t++)
        for (int c = 0; c < hidden; c++)
            y[t * stride + c] = kernel_test_uniform(seed, -2.0f, 2.0f);
    struct norm_args a = {.step = &step,
                          .rows_max = T + 1,
                          .hidden = hidden,
                          .y = kernel_test_upload(y, (size_t)T * (size_t)stride * 4),
                          .y_stride = stride,
                          .norm = kernel_test_upload(norm, (size_t)hidden * 4),
                          .eps = eps,
                          .xn = kernel_test_alloc((size_t)(T + 1) * (size_t)xn_stride * 2),
                          .xn_stride = xn_stride,
                          .ss = plain ? kernel_test_alloc((size_t)T * (size_t)tiles * 4) : NULL,
                          .dependent = 1};
    assert_int_equal(cuda_norm(&a, kernel_test_stream()), STATUS_OK);
    kernel_test_read(xn, a.xn, (size_t)(T + 1) * (size_t)xn_stride * 2);
    if (plain)
        kernel_test_read(ss, a.ss, (size_t)T * (size_t)tiles * 4);
    for (int t = 0; t < T; t++) {
        double sum = 0.0;
        for (int c = 0; c < hidden; c++)
            sum += (double)y[t * stride + c] * (double)y[t * stride + c];
        double rinv = plain ? 1.0 : 1.0 / sqrt(sum / hidden + (double)eps);
        for (int c = 0; c < stride; c++) {
            double want = c < hidden ? (double)y[t * stride + c] * (double)norm[c] * rinv : 0.0;
            double got = (double)kernel_test_float(xn[t * xn_stride + c]);
            if (!(fabs(got - want) <= fabs(want) * 0x1p-8 + 1e-30))
                fail_msg("hidden %d, row %d, column %d: %g for %g", hidden, t, c, got, want);
        }
        for (int i = 0; plain && i < tiles; i++) {
            double part = 0.0;
            for (int c = 16 * i; c < 16 * i + 16 && c < hidden; c++)
                part += (double)y[t * stride + c] * (double)y[t * stride + c];
            if (!(fabs((double)ss[t * tiles + i] - part) <= 1e-5 * part))
                fail_msg("hidden %d, row %d, tile %d: %g for %g", hidden, t, i,
                         (double)ss[t * tiles + i], part);
        }
    }
    for (int t = 0; t <= T; t++)
        for (int c = t < T ? stride : 0; c < xn_stride; c++)
            assert_int_equal(xn[t * xn_stride + c], GUARD);
    free(y);
    free(norm);
    free(ss);
    free(xn);
    kernel_test_free((void *)a.y);
    kernel_test_free((void *)a.norm);
    kernel_test_free(a.xn);
    kernel_test_free(a.ss);
}

static void test_norm(void **state)
{
    (void)state;
    static const int widths[] = {1, 16, 100, 128, 129, 1024, 1030, 3072};
    uint64_t seed = 5;
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        check_norm(widths[i], false, &seed);
        check_norm(widths[i], true, &seed);
    }
}

/* ---- refusals ---- */

static void test_refused(void **state)
{
    (void)state;
    struct step_dev step = {0};
    float *p = kernel_test_alloc(4096);
    const struct base_args good = {.step = &step,
                                   .rows_max = 1,
                                   .tiles = 1,
                                   .n = 16,
                                   .product = p,
                                   .product_stride = 16,
                                   .y = p,
                                   .y_stride = 16};
    struct base_args bad[7];
    for (int i = 0; i < 7; i++)
        bad[i] = good;
    bad[0].product_stride = 15;
    bad[1].y_stride = 18;
    bad[2].product = p + 1;
    bad[3].y = NULL;
    bad[4].out = BASE_SWIGLU;
    bad[5].table = (const struct lora_stack *)p;
    bad[6].done_count = BASE_DONE_MAX + 1;
    for (int i = 0; i < 7; i++)
        assert_int_equal(cuda_base(&bad[i], kernel_test_stream()), STATUS_INVALID);
    struct norm_args norm = {.step = &step,
                             .rows_max = 1,
                             .hidden = 100,
                             .y = p,
                             .y_stride = 100,
                             .norm = p,
                             .xn = p,
                             .xn_stride = 128};
    assert_int_equal(cuda_norm(&norm, kernel_test_stream()), STATUS_INVALID);
    struct tail_args tail = {.lora = {.rank_tiles = 1},
                             .groups = 1,
                             .tile_count = 1,
                             .w = p,
                             .w_stride = 16,
                             .column = 8};
    assert_int_equal(cuda_tail(&tail, kernel_test_stream()), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base),
        cmocka_unit_test(test_tail),
        cmocka_unit_test(test_norm),
        cmocka_unit_test(test_refused),
    };
    return kernel_test_run("base", tests, sizeof tests / sizeof *tests);
}
