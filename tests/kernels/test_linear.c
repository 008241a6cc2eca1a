/* k_linear against a plain reference in double, on inputs that are packed here from layout.h's
 * words alone. Tolerances follow from the kernel's arithmetic: fp32 sums whose terms carry the
 * offsets of integer weights, u rounded to bf16 once, outputs rounded to bf16 once. */
#include "tests/kernels/kernel_test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/k_linear.h"
#include "tests/kernels/lora_ref.h"

#define SLOTS        6
#define BLENDS       4
#define TABLE_STRIDE 3
#define STACK        1
#define ULP          5.97e-8 /* 2^-24 */

/* One adapter at the linear under test, dense. */
struct adapter {
    int rank[STACK_MODULES];
    float scale[STACK_MODULES];
    float *a[STACK_MODULES]; /* [rank, k] */
    float *b[STACK_MODULES]; /* [rows of the module, rank] */
    float *gain;             /* [n] or NULL */
    enum lora_codes codes;
    struct lora_ref ref[STACK_MODULES]; /* of codes */
};

struct model {
    enum weight_format format;
    enum linear_out out;
    int n, k, tiles, groups, modules;
    int module_tile[STACK_MODULES + 1];
    float *w;   /* [tiles * 16, k], what the packed weights mean */
    float *mag; /* the same with the offsets of integer weights: bounds of the fp32 sums */
    int codes;  /* 0: adapters are bf16; else of all widths, and which has which */
    struct adapter adapter[SLOTS];
    struct dev_matrix dev;
    struct lora_stack *table; /* device */
    float *bias, *norm;       /* host */
};

/* Which adapters a row has, in order. */
struct row_list {
    int slot[BLENDS];
    float weight[BLENDS];
    int count;
};

struct rows {
    int count;
    uint16_t *x; /* [count, PAD_K(k)] */
    float *ss;   /* [count, ss_tiles] or NULL */
    int ss_tiles;
    float *y0; /* [count, n]: the residual before */
    struct row_list list[160];
};

struct result {
    float *y, *ss;
    uint16_t *xn, *h;
};

static void *zeros(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    assert_non_null(p);
    return p;
}

static float *random_floats(uint64_t *seed, size_t n, float range, bool bf16)
{
    float *p = zeros(n, sizeof *p);
    for (size_t i = 0; i < n; i++) {
        p[i] = kernel_test_uniform(seed, -range, range);
        if (bf16)
            p[i] = kernel_test_float(kernel_test_bf16(p[i]));
    }
    return p;
}

/* ---- packing, from layout.h ---- */

struct spot {
    int step, block, lane, a, half, e;
};

static struct spot spot_of(int r, int c)
{
    struct spot s = {.block = c / 32, .e = c % 8};
    int t = c % 32 / 8;
    s.step = 2 * s.block + s.e / 4;
    s.lane = r % 8 * 4 + t;
    s.a = r / 8 + 2 * (s.e % 4 / 2);
    s.half = s.e % 2;
    return s;
}

static void put_bf16(uint8_t *group, int r, int c, float v)
{
    struct spot s = spot_of(r, c);
    ((uint16_t *)group)[((s.step * 32 + s.lane) * 4 + s.a) * 2 + s.half] = kernel_test_bf16(v);
}

static void put_nibble(uint8_t *plane, int r, int c, uint32_t q)
{
    struct spot s = spot_of(r, c);
    uint32_t *word =
        (uint32_t *)plane + (s.block / 2 * 32 + s.lane) * 4 + 2 * (s.block % 2) + s.e / 4;
    *word |= q << (4 * (s.a + 4 * s.half));
}

static void put_fragment(uint8_t *tile, int r, int rank, float v)
{
    int lane = r % 8 * 4 + rank % 8 / 2, a = r / 8 + 2 * (rank / 8);
    ((uint16_t *)tile)[(lane * 4 + a) * 2 + rank % 2] = kernel_test_bf16(v);
}

/* Random weights of rows and columns that exist; the others are zero. */
static void weights_build(struct model *m, uint64_t *seed)
{
    size_t size = tile_bytes(m->format), all = (size_t)m->tiles * (size_t)m->groups * size;
    uint8_t *data = zeros(all, 1);
    float *row_scale = zeros((size_t)m->tiles * 16, sizeof *row_scale);
    m->w = zeros((size_t)m->tiles * 16 * (size_t)m->k, sizeof *m->w);
    m->mag = zeros((size_t)m->tiles * 16 * (size_t)m->k, sizeof *m->mag);
    for (int i = 0; i < m->tiles * 16; i++)
        row_scale[i] = i < m->n ? kernel_test_uniform(seed, 0.001f, 0.003f) : 0;
    for (int i = 0; i < m->tiles * 16; i++)
        for (int g = 0; g < m->groups; g++) {
            uint8_t *tile = data + ((size_t)(i / 16) * (size_t)m->groups + (size_t)g) * size;
            float scale = kernel_test_float(
                kernel_test_bf16(i < m->n ? kernel_test_uniform(seed, 0.02f, 0.05f) : 0));
            if (m->format == WEIGHT_INT4)
                ((uint16_t *)(tile + 1024))[i % 16] = kernel_test_bf16(scale);
            for (int c = 0; c < 128; c++) {
                int col = g * 128 + c, r = i % 16;
                bool on = i < m->n && col < m->k;
                uint32_t q = kernel_test_below(seed, 256);
                float v = 0, mag = 0;
                if (m->format == WEIGHT_BF16) {
                    v = on ? kernel_test_float(kernel_test_bf16(((float)q - 127.5f) / 400.0f)) : 0;
                    mag = fabsf(v);
                    put_bf16(tile, r, c, v);
                } else if (m->format == WEIGHT_INT8) {
                    q = on ? q : 128;
                    v = ((float)q - 128) * row_scale[i];
                    mag = 2304 * row_scale[i];
                    put_nibble(tile, r, c, q & 15);
                    put_nibble(tile + 1024, r, c, q >> 4);
                } else {
                    q = on ? q >> 4 : 8;
                    v = ((float)q - 8) * scale;
                    mag = 144 * scale;
                    put_nibble(tile, r, c, q);
                }
                if (col < m->k) {
                    m->w[(size_t)i * (size_t)m->k + (size_t)col] = v;
                    m->mag[(size_t)i * (size_t)m->k + (size_t)col] = mag;
                }
            }
        }
    m->dev = (struct dev_matrix){
        .data = kernel_test_upload(data, all),
        .row_scale =
            m->format == WEIGHT_INT8 ? kernel_test_upload(row_scale, (size_t)m->tiles * 64) : NULL,
        .format = m->format,
        .n = m->n,
        .k = m->k,
        .tiles = m->tiles,
        .groups = m->groups};
    kernel_test_sync();
    free(data);
    free(row_scale);
}

/* Output row `row` of module i, as row of the whole linear. */
static int linear_row(const struct model *m, int i, int row)
{
    if (m->out == LINEAR_SWIGLU)
        return row / 8 * 16 + i * 8 + row % 8;
    return m->module_tile[i] * 16 + row;
}

static int module_rows(const struct model *m, int i)
{
    if (m->out == LINEAR_SWIGLU)
        return m->n / 2;
    int end = m->module_tile[i + 1] * 16;
    return (end < m->n ? end : m->n) - m->module_tile[i] * 16;
}

/* A and B of codes. */
static void codes_build(const struct model *m, const struct adapter *ad, struct lora_stack *s)
{
    bool pair = m->out == LINEAR_SWIGLU, four = ad->codes == LORA_INT4;
    size_t a_bytes = (size_t)s->rank_tiles * (size_t)m->groups * (four ? 1088 : 2048);
    uint8_t *a = zeros(a_bytes, 1);
    float *scale = zeros((size_t)s->rank_tiles * 16, sizeof *scale);
    for (int i = 0; i < m->modules; i++) {
        const struct lora_ref *l = &ad->ref[i];
        lora_ref_put_a(l, m->groups, s->module_tile[i], a);
        for (int r = 0; r < l->rank && !four; r++)
            scale[s->module_tile[i] * 16 + r] = l->a_scale[r];
        int up = (ad->rank[1] + 15) / 16, ranks = (l->rank + 15) / 16;
        int tiles = pair ? m->tiles : m->module_tile[i + 1] - m->module_tile[i];
        if (pair && i > 0)
            continue;
        ranks = pair && up > ranks ? up : ranks;
        size_t bytes = lora_ref_b_bytes(ad->codes, tiles, ranks, pair);
        uint8_t *b = zeros(bytes, 1);
        for (int half = pair; half < (pair ? 3 : 1); half++)
            lora_ref_put_b(&ad->ref[pair ? half - 1 : i], tiles, ranks, half, b);
        s->b[i] = kernel_test_upload(b, bytes);
        kernel_test_sync();
        free(b);
    }
    s->a = kernel_test_upload(a, a_bytes);
    s->rank_scale =
        four ? NULL : kernel_test_upload(scale, (size_t)s->rank_tiles * 16 * sizeof *scale);
    kernel_test_sync();
    free(a);
    free(scale);
}

static struct lora_stack stack_build(const struct model *m, const struct adapter *ad)
{
    struct lora_stack s = {0};
    for (int i = 0; i < STACK_MODULES; i++) {
        s.scale[i] = ad->scale[i];
        s.module_tile[i + 1] = s.module_tile[i] + (ad->rank[i] + 15) / 16;
    }
    s.rank_tiles = s.module_tile[STACK_MODULES];
    s.codes = ad->codes;
    if (ad->gain)
        s.gain = kernel_test_upload(ad->gain, (size_t)m->n * sizeof(float));
    if (s.rank_tiles == 0)
        return s;
    if (s.codes != LORA_BF16) {
        codes_build(m, ad, &s);
        return s;
    }
    size_t a_bytes = (size_t)s.rank_tiles * (size_t)m->groups * TILE_BYTES_BF16;
    uint8_t *a = zeros(a_bytes, 1);
    for (int i = 0; i < m->modules; i++)
        for (int r = 0; r < ad->rank[i]; r++)
            for (int c = 0; c < m->k; c++)
                put_bf16(a + ((size_t)(s.module_tile[i] + r / 16) * (size_t)m->groups +
                              (size_t)(c / 128)) *
                                 TILE_BYTES_BF16,
                         r % 16, c % 128, ad->a[i][(size_t)r * (size_t)m->k + (size_t)c]);
    s.a = kernel_test_upload(a, a_bytes);
    kernel_test_sync();
    free(a);
    bool pair = m->out == LINEAR_SWIGLU;
    for (int i = 0; i < (pair ? 1 : m->modules); i++) {
        int ranks = (ad->rank[i] + 15) / 16, up = (ad->rank[1] + 15) / 16;
        int tiles = m->module_tile[i + 1] - m->module_tile[i];
        if (pair) {
            ranks = ranks > up ? ranks : up;
            tiles = m->tiles;
        }
        size_t bytes = (size_t)tiles * (size_t)ranks * 512;
        uint8_t *b = zeros(bytes, 1);
        for (int part = i; part < (pair ? 2 : i + 1); part++)
            for (int row = 0; row < module_rows(m, part); row++)
                for (int r = 0; r < ad->rank[part]; r++) {
                    int at = pair ? linear_row(m, part, row) : row;
                    put_fragment(b + ((size_t)(at / 16) * (size_t)ranks + (size_t)(r / 16)) * 512,
                                 at % 16, r % 16, ad->b[part][row * ad->rank[part] + r]);
                }
        s.b[i] = kernel_test_upload(b, bytes);
        kernel_test_sync();
        free(b);
    }
    return s;
}

/* Slot 0 has nothing here; slot 1 all modules; slot 2 lacks the first (where there are more) and
 * has DoRA; the others are random, with ranks up to max_rank. */
static void adapters_build(struct model *m, int max_rank, int codes, uint64_t *seed)
{
    struct lora_stack table[SLOTS * TABLE_STRIDE];
    memset(table, 0xFF, sizeof table);
    for (int slot = 0; slot < SLOTS; slot++) {
        struct adapter *ad = &m->adapter[slot];
        ad->codes = (enum lora_codes)(codes ? (slot + codes) % 3 : LORA_BF16);
        for (int i = 0; i < m->modules && slot > 0; i++) {
            ad->rank[i] =
                slot == 1 ? max_rank : 1 + (int)kernel_test_below(seed, (uint32_t)max_rank);
            if (slot == 2 && i == 0 && m->modules > 1)
                ad->rank[i] = 0;
            if (slot == 3 && i == m->modules - 1 && i > 0)
                ad->rank[i] = 0;
            size_t rows = (size_t)module_rows(m, i), rank = (size_t)ad->rank[i];
            ad->scale[i] = kernel_test_uniform(seed, 0.5f, 2);
            ad->a[i] = random_floats(seed, rank * (size_t)m->k, 0.1f, true);
            ad->b[i] = random_floats(seed, rows * rank, 0.3f / sqrtf((float)rank + 1), true);
            if (ad->codes != LORA_BF16)
                lora_ref_init(&ad->ref[i], ad->codes, ad->rank[i], m->k, (int)rows, 0.1f,
                              0.3f / sqrtf((float)rank + 1), seed, ad->a[i], ad->b[i]);
        }
        if (slot == 2 || slot == 4)
            ad->gain = random_floats(seed, (size_t)m->n, 0.5f, false);
        table[slot * TABLE_STRIDE + STACK] = stack_build(m, ad);
    }
    m->table = kernel_test_upload(table, sizeof table);
    kernel_test_sync();
}

static void model_init(struct model *m, enum weight_format format, enum linear_out out, int n,
                       int k, int modules, int max_rank, int codes, uint64_t *seed)
{
    memset(m, 0, sizeof *m);
    m->codes = codes;
    m->format = format;
    m->out = out;
    m->n = n;
    m->k = k;
    m->tiles = PAD_N(n) / 16;
    m->groups = PAD_K(k) / 128;
    m->modules = modules;
    for (int i = 0; i <= STACK_MODULES; i++)
        m->module_tile[i] = i < modules && out != LINEAR_SWIGLU ? m->tiles * i / modules : m->tiles;
    m->module_tile[0] = 0;
    weights_build(m, seed);
    m->bias = random_floats(seed, (size_t)m->tiles * 16, 0.5f, false);
    m->norm = random_floats(seed, (size_t)n, 1.5f, false);
    if (out == LINEAR_SWIGLU)
        memset(m->bias, 0, (size_t)m->tiles * 16 * sizeof(float));
    if (max_rank > 0)
        adapters_build(m, max_rank, codes, seed);
}

static void model_free(struct model *m)
{
    for (int s = 0; s < SLOTS; s++) {
        for (int i = 0; i < STACK_MODULES; i++) {
            free(m->adapter[s].a[i]);
            free(m->adapter[s].b[i]);
            lora_ref_free(&m->adapter[s].ref[i]);
        }
        free(m->adapter[s].gain);
    }
    free(m->w);
    free(m->mag);
    free(m->bias);
    free(m->norm);
}

/* ---- rows ---- */

enum mix { MIX_NONE, MIX_ONE, MIX_DISTINCT, MIX_BLEND };

static void rows_init(struct rows *r, const struct model *m, int count, enum mix mix, bool norm,
                      uint64_t *seed)
{
    memset(r, 0, sizeof *r);
    r->count = count;
    size_t stride = (size_t)PAD_K(m->k);
    r->x = zeros((size_t)count * stride, 2);
    for (int t = 0; t < count; t++)
        for (int c = 0; c < m->k; c++)
            r->x[(size_t)t * stride + (size_t)c] =
                kernel_test_bf16(kernel_test_uniform(seed, -1, 1));
    r->ss_tiles = norm ? (m->k + 15) / 16 : 0;
    r->ss = random_floats(seed, (size_t)count * (size_t)r->ss_tiles, 1, false);
    for (int i = 0; i < count * r->ss_tiles; i++)
        r->ss[i] = fabsf(r->ss[i]) * 20;
    r->y0 = random_floats(seed, (size_t)count * (size_t)m->n, 2, false);
    for (int t = 0; t < count; t++) {
        struct row_list *l = &r->list[t];
        l->count = mix == MIX_NONE ? 0 : mix == MIX_BLEND ? (int)kernel_test_below(seed, 5) : 1;
        for (int i = 0; i < l->count; i++) {
            l->slot[i] = mix == MIX_ONE        ? 1
                         : mix == MIX_DISTINCT ? t % SLOTS
                                               : (int)kernel_test_below(seed, SLOTS);
            l->weight[i] = mix == MIX_BLEND ? kernel_test_uniform(seed, -1, 1) : 1;
            if (mix == MIX_BLEND && kernel_test_below(seed, 8) == 0)
                l->weight[i] = 0;
        }
        if (mix == MIX_BLEND && t % 3 == 1) /* the row's neighbours share its list */
            *l = r->list[t - 1];
    }
}

static void rows_free(struct rows *r)
{
    free(r->x);
    free(r->ss);
    free(r->y0);
}

/* Pieces of rows pick[0..count): runs of rows with the same adapter and weight at the same place.
 */
static int pieces_build(struct lora_piece *out, struct lora_pieces *head, const struct rows *r,
                        const int *pick, int count)
{
    int n = 0;
    memset(head, 0, sizeof *head);
    for (int round = 0; round < LORA_ROUNDS; round++) {
        bool open = false;
        for (int t = 0; t < count; t++) {
            const struct row_list *l = &r->list[pick[t]];
            if (round >= l->count) {
                open = false;
                continue;
            }
            struct lora_piece *p = &out[n - 1];
            if (open && p->slot == l->slot[round] && p->weight == l->weight[round] && p->rows < 8) {
                p->rows++;
                continue;
            }
            out[n++] = (struct lora_piece){l->slot[round], l->weight[round], t, 1};
            open = true;
        }
        head->round_end[round] = n;
    }
    head->count = n;
    head->any_gain = n > 0;
    return n;
}

static void result_free(struct result *o)
{
    free(o->y);
    free(o->ss);
    free(o->xn);
    free(o->h);
}

static int small_blocks; /* for linear_args */
static int x_late;       /* x is not read before u is there */
static int sms = 3, leave;

enum use { USE_NO_TABLE, USE_TABLE, USE_NO_PIECES };

/* Runs rows pick[0..count) in a bucket. by_row: as output rows, through x_row. Rows past `count` up
 * to the bucket must stay poison. */
static struct result run(const struct model *m, const struct rows *r, const int *pick, int count,
                         int bucket, bool by_row, enum use lora)
{
    size_t k = (size_t)PAD_K(m->k), n = (size_t)m->n, cap = (size_t)bucket;
    size_t y_stride = n + 3, xn_stride = (size_t)PAD_K(m->n),
           h_stride = (size_t)PAD_K(m->tiles * 8);
    size_t ss_tiles = (size_t)r->ss_tiles;
    struct lora_piece pieces[160 * BLENDS] = {{0}};
    struct step_head head;
    memset(&head, 0xFF, sizeof head);
    enum step_view view = by_row ? VIEW_OUTS : VIEW_ROWS;
    head.rows[view] = count;
    int piece_count = pieces_build(pieces, &head.pieces[view], r, pick, count);

    size_t x_rows = by_row ? (size_t)r->count : cap;
    uint16_t *x = zeros(x_rows * k, 2);
    float *ss = zeros(x_rows * (ss_tiles + 1), 4), *y = zeros(cap * y_stride, 4);
    memset(x, 0xFF, x_rows * k * 2);
    memset(y, 0xFF, cap * y_stride * 4);
    for (int t = 0; t < (by_row ? r->count : count); t++) {
        int from = by_row ? t : pick[t];
        memcpy(x + (size_t)t * k, r->x + (size_t)from * k, k * 2);
        memcpy(ss + (size_t)t * ss_tiles, r->ss + (size_t)from * ss_tiles, ss_tiles * 4);
    }
    for (int t = 0; t < count; t++)
        memcpy(y + (size_t)t * y_stride, r->y0 + (size_t)pick[t] * n, n * 4);

    struct step_dev step = {.head = kernel_test_upload(&head, sizeof head)};
    step.pieces[view] = kernel_test_upload(pieces, (size_t)piece_count * sizeof *pieces);
    struct stack_pieces *records = kernel_test_alloc(TABLE_STRIDE * sizeof *records);
    struct pieces_args pa = {.step = &step,
                             .table = m->table,
                             .table_stride = TABLE_STRIDE,
                             .stacks = TABLE_STRIDE,
                             .out_stack = by_row ? 0 : TABLE_STRIDE,
                             .out = records};
    if (lora == USE_TABLE)
        assert_int_equal(STATUS_OK, cuda_pieces(&pa, kernel_test_stream()));
    size_t u_bytes = (size_t)piece_count * LINEAR_PIECE_U;
    static const uint32_t begun[LINEAR_BEGUN];
    struct linear_args a = {
        .w = m->dev,
        .step = &step,
        .view = view,
        .rows_max = bucket,
        .x = kernel_test_upload(x, x_rows * k * 2),
        .x_stride = (int)k,
        .x_row = by_row ? kernel_test_upload(pick, (size_t)count * sizeof *pick) : NULL,
        .ss = ss_tiles ? kernel_test_upload(ss, x_rows * ss_tiles * 4) : NULL,
        .ss_tiles = r->ss_tiles,
        .eps = 1e-5f,
        .out = m->out,
        .bias =
            m->out == LINEAR_RESIDUAL ? NULL : kernel_test_upload(m->bias, (size_t)m->tiles * 64),
        .y = kernel_test_upload(y, cap * y_stride * 4),
        .y_stride = (int)y_stride,
        .norm = kernel_test_upload(m->norm, n * 4),
        .xn = kernel_test_alloc(cap * xn_stride * 2),
        .xn_stride = (int)xn_stride,
        .ss_out = kernel_test_alloc(cap * (size_t)m->tiles * 4),
        .h = kernel_test_alloc(cap * h_stride * 2),
        .h_stride = (int)h_stride,
        .table = lora ? m->table : NULL,
        .no_pieces = lora == USE_NO_PIECES,
        .table_stride = TABLE_STRIDE,
        .codes = m->codes != 0,
        .stack = STACK,
        .module_tile = {m->module_tile[0], m->module_tile[1], m->module_tile[2]},
        .pieces = records,
        .u = kernel_test_alloc(u_bytes > LINEAR_U_MIN ? u_bytes : LINEAR_U_MIN),
        .begun = x_late ? NULL : kernel_test_upload(begun, sizeof begun),
        .leave = leave,
        .sms = sms,
        .small = small_blocks,
        .dependent = 1};
    enum status st = cuda_linear(&a, kernel_test_stream());
    assert_int_equal(STATUS_OK, st);

    if (a.begun && lora == USE_TABLE && bucket == 8) {
        uint32_t after[LINEAR_BEGUN];
        kernel_test_read(after, a.begun, sizeof after);
        assert_int_equal(0, after[0]); /* raised by the shrink and taken back by the linear */
    }

    struct result o = {zeros(cap * y_stride, 4), zeros(cap * (size_t)m->tiles, 4),
                       zeros(cap * xn_stride, 2), zeros(cap * h_stride, 2)};
    kernel_test_read(o.y, a.y, cap * y_stride * 4);
    kernel_test_read(o.xn, a.xn, cap * xn_stride * 2);
    kernel_test_read(o.ss, a.ss_out, cap * (size_t)m->tiles * 4);
    kernel_test_read(o.h, a.h, cap * h_stride * 2);
    for (size_t t = 0; t < cap; t++)
        for (size_t i = 0; i < y_stride; i++)
            if ((t >= (size_t)count || i >= n) && !isnan(o.y[t * y_stride + i]))
                fail_msg("y[%zu, %zu] was written", t, i);
    for (size_t i = (size_t)count * h_stride; i < cap * h_stride; i++)
        assert_int_equal(0xFFFF, o.h[i]);
    for (size_t i = (size_t)count * xn_stride; i < cap * xn_stride; i++)
        assert_int_equal(0xFFFF, o.xn[i]);
    const void *used[] = {a.x,
                          a.x_row,
                          a.ss,
                          a.bias,
                          a.y,
                          a.norm,
                          a.xn,
                          a.ss_out,
                          a.h,
                          a.u,
                          a.begun,
                          step.head,
                          step.pieces[view],
                          records};
    for (size_t i = 0; i < sizeof used / sizeof *used; i++)
        kernel_test_free((void *)used[i]);
    free(x);
    free(ss);
    free(y);
    return o;
}

/* ---- the reference ---- */

struct exact {
    double value, error;
};

/* Output n of row t before the epilogue, with a bound of the kernel's error. */
static struct exact reference(const struct model *m, const struct rows *r, int t, int n,
                              double *const u[BLENDS][STACK_MODULES], bool lora)
{
    size_t k = (size_t)PAD_K(m->k);
    double acc = 0, mag = 0, gain = 1, add = 0, add_mag = 0;
    for (int c = 0; c < m->k; c++) {
        double x = (double)kernel_test_float(r->x[(size_t)t * k + (size_t)c]);
        acc += (double)m->w[(size_t)n * (size_t)m->k + (size_t)c] * x;
        mag += (double)m->mag[(size_t)n * (size_t)m->k + (size_t)c] * fabs(x);
    }
    const struct row_list *l = &r->list[t];
    for (int i = 0; i < (lora ? l->count : 0); i++) {
        const struct adapter *ad = &m->adapter[l->slot[i]];
        double weight = (double)l->weight[i];
        if (ad->gain)
            gain += weight * (double)ad->gain[n];
        int part = 0, row = n;
        if (m->out == LINEAR_SWIGLU) {
            part = n % 16 / 8;
            row = n / 16 * 8 + n % 8;
        } else {
            while (part + 1 < m->modules && n / 16 >= m->module_tile[part + 1])
                part++;
            row = n - m->module_tile[part] * 16;
        }
        for (int q = 0; q < ad->rank[part]; q++) {
            double v = weight * (double)ad->scale[part] *
                       (double)ad->b[part][row * ad->rank[part] + q] * u[i][part][q];
            add += v;
            add_mag += fabs(v);
        }
    }
    double ssum = 0, rinv = 1;
    for (int i = 0; i < r->ss_tiles; i++)
        ssum += (double)r->ss[t * r->ss_tiles + i];
    if (r->ss_tiles)
        rinv = 1 / sqrt(ssum / m->k + 1e-5);
    /* 128 products a group in 8 steps: 16 roundings of a running sum of at most `mag`; u: half a
     * unit of bf16 (2^-9) and the fp32 sum in front of it; u of int4 times a scale: another. */
    struct exact e = {
        (acc * gain + add) * rinv,
        (16 * ULP * mag * (1 + fabs(gain)) + add_mag * ((m->codes ? 2 : 1) / 512.0 + 1e-4)) * rinv};
    e.error += fabs(e.value) * 1e-5 + 1e-7;
    return e;
}

static void check_close(const char *what, int t, int i, double got, double want, double error)
{
    if (!(fabs(got - want) <= error))
        fail_msg("%s[%d, %d]: got %.9g, want %.9g, off by %.3g, allowed %.3g", what, t, i, got,
                 want, fabs(got - want), error);
}

static void check_residual(const struct model *m, const struct result *o, int t, int n, double want,
                           double error, double *ss, double *ss_error)
{
    size_t y_stride = (size_t)m->n + 3, xn_stride = (size_t)PAD_K(m->n);
    check_close("y", t, n, (double)o->y[(size_t)t * y_stride + (size_t)n], want, error);
    double norm = (double)m->norm[n];
    check_close("xn", t, n, (double)kernel_test_float(o->xn[(size_t)t * xn_stride + (size_t)n]),
                want * norm, error * fabs(norm) + fabs(want * norm) / 256);
    *ss += want * want;
    *ss_error += 2 * fabs(want) * error + error * error + want * want * 1e-6;
    if (n % 16 == 15 || n == m->n - 1) {
        check_close("ss", t, n / 16, (double)o->ss[t * m->tiles + n / 16], *ss, *ss_error);
        *ss = *ss_error = 0;
    }
}

static void check_row(const struct model *m, const struct rows *r, const int *pick, int at,
                      const struct result *o, bool lora)
{
    int t = pick[at];
    size_t k = (size_t)PAD_K(m->k);
    double *u[BLENDS][STACK_MODULES] = {{0}};
    for (int i = 0; i < (lora ? r->list[t].count : 0); i++) {
        const struct adapter *ad = &m->adapter[r->list[t].slot[i]];
        for (int part = 0; part < m->modules; part++) {
            u[i][part] = zeros((size_t)ad->rank[part], sizeof(double));
            for (int q = 0; q < ad->rank[part]; q++)
                for (int c = 0; c < m->k; c++)
                    u[i][part][q] += (double)ad->a[part][(size_t)q * (size_t)m->k + (size_t)c] *
                                     (double)kernel_test_float(r->x[(size_t)t * k + (size_t)c]);
        }
    }
    double ss = 0, ss_error = 0;
    for (int n = 0; n < m->n; n++) {
        struct exact e = reference(m, r, t, n, (double *const(*)[STACK_MODULES])u, lora);
        if (m->out == LINEAR_STORE)
            check_close("y", at, n, (double)o->y[(size_t)at * ((size_t)m->n + 3) + (size_t)n],
                        e.value + (double)m->bias[n], e.error);
        else if (m->out == LINEAR_RESIDUAL)
            check_residual(m, o, at, n,
                           e.value + (double)r->y0[(size_t)t * (size_t)m->n + (size_t)n], e.error,
                           &ss, &ss_error);
        else if (n % 16 < 8) {
            struct exact up = reference(m, r, t, n + 8, (double *const(*)[STACK_MODULES])u, lora);
            double silu = e.value / (1 + exp(-e.value)), want = silu * up.value;
            int col = n / 16 * 8 + n % 16;
            size_t h_stride = (size_t)PAD_K(m->tiles * 8);
            check_close("h", at, col,
                        (double)kernel_test_float(o->h[(size_t)at * h_stride + (size_t)col]), want,
                        fabs(want) / 256 + 1.2 * e.error * (fabs(up.value) + up.error) +
                            fabs(silu) * up.error + 1e-6);
        }
    }
    for (int i = 0; i < BLENDS; i++)
        for (int part = 0; part < STACK_MODULES; part++)
            free(u[i][part]);
}

static void same_row(const struct model *m, const struct result *a, int ta, const struct result *b,
                     int tb)
{
    size_t y = (size_t)m->n + 3, xn = (size_t)PAD_K(m->n), h = (size_t)PAD_K(m->tiles * 8);
    size_t ss = (size_t)m->tiles;
    kernel_test_equal("y", a->y + (size_t)ta * y, b->y + (size_t)tb * y, y * 4);
    kernel_test_equal("xn", a->xn + (size_t)ta * xn, b->xn + (size_t)tb * xn, xn * 2);
    kernel_test_equal("ss", a->ss + (size_t)ta * ss, b->ss + (size_t)tb * ss, ss * 4);
    kernel_test_equal("h", a->h + (size_t)ta * h, b->h + (size_t)tb * h, h * 2);
}

static int bucket_of(int rows)
{
    return rows <= 8 ? 8 : rows <= 16 ? 16 : rows <= 32 ? 32 : (rows + 63) / 64 * 64;
}

/* Rows `pick` once more, in such a bucket: the bits of `o`, the run of all rows. */
static void check_again(const struct model *m, const struct rows *r, const int *pick, int count,
                        int bucket, bool by_row, enum use lora, const struct result *o)
{
    struct result again = run(m, r, pick, count, bucket, by_row, lora);
    for (int t = 0; t < count; t++)
        same_row(m, &again, t, o, pick[t]);
    result_free(&again);
}

/* Reference, then the same bits: a second run, another bucket, rows alone, every second row, x that
 * waits for u, fewer blocks, blocks with little shared memory. */
static void check_all(const struct model *m, const struct rows *r, bool by_row, enum use lora)
{
    int all[160], few[160], n = 0;
    for (int t = 0; t < r->count; t++)
        all[t] = t;
    const int bucket = bucket_of(r->count), one = r->count / 2;
    struct result o = run(m, r, all, r->count, bucket, by_row, lora);
    for (int t = 0; t<r->count; t += r->count> 40 ? 13 : 1)
        check_row(m, r, all, t, &o, lora);
    for (int t = r->count > 1; t < r->count; t += 2)
        few[n++] = t;
    check_again(m, r, all, r->count, bucket, by_row, lora, &o);
    check_again(m, r, all, r->count, bucket_of(r->count + 32), by_row, lora, &o);
    check_again(m, r, few, n, bucket_of(n), by_row, lora, &o);
    check_again(m, r, &one, 1, 8, by_row, lora, &o);
    x_late = 1;
    check_again(m, r, all, r->count, bucket, by_row, lora, &o);
    x_late = 0;
    sms = 4;
    leave = 2;
    check_again(m, r, all, r->count, bucket, by_row, lora, &o);
    sms = 3;
    leave = 0;
    small_blocks = 1;
    check_again(m, r, all, r->count, bucket, by_row, lora, &o);
    small_blocks = 0;
    result_free(&o);
}

/* ---- tests ---- */

static void one_width(enum weight_format format, enum linear_out out, int n, int k, int rows,
                      enum mix mix, int modules, int max_rank, int codes, bool norm, bool by_row)
{
    uint64_t seed = (uint64_t)(format * 1000003 + out * 10007 + n * 131 + k * 17 + rows * 7 + mix);
    struct model m;
    struct rows r;
    model_init(&m, format, out, n, k, modules, max_rank, codes, &seed);
    rows_init(&r, &m, rows, mix, norm, &seed);
    check_all(&m, &r, by_row, max_rank > 0 ? USE_TABLE : USE_NO_TABLE);
    rows_free(&r);
    model_free(&m);
}

static void one_case(enum weight_format format, enum linear_out out, int n, int k, int rows,
                     enum mix mix, int modules, int max_rank, bool norm, bool by_row)
{
    one_width(format, out, n, k, rows, mix, modules, max_rank, 0, norm, by_row);
}

static void test_shapes(void **state)
{
    (void)state;
    static const int ns[] = {1, 15, 16, 17, 112}, ks[] = {1, 127, 128, 129, 1160};
    for (int f = 0; f < WEIGHT_FORMAT_COUNT; f++)
        for (size_t i = 0; i < sizeof ns / sizeof *ns; i++)
            for (size_t j = 0; j < sizeof ks / sizeof *ks; j++)
                one_case((enum weight_format)f, i % 2 ? LINEAR_RESIDUAL : LINEAR_STORE, ns[i],
                         ks[j], 1 + (int)(i + j) % 4, MIX_NONE, 1, 0, j % 2, false);
}

static void test_rows(void **state)
{
    (void)state;
    static const int rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65, 130};
    for (int f = 0; f < WEIGHT_FORMAT_COUNT; f++)
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            one_case((enum weight_format)f, (enum linear_out)(i % 3), 96, 300, rows[i], MIX_NONE, 1,
                     0, true, i % 2);
}

/* More tiles a block than a pass takes, K in several windows. */
static void test_long(void **state)
{
    (void)state;
    static const struct {
        int n, k, rows;
    } cases[] = {{16 * 31, 128 * 5, 3}, {32, 128 * 70, 2},  {32, 128 * 70, 8},
                 {160, 128 * 13, 14},   {336, 128 * 9, 20}, {48, 128 * 33, 40}};
    for (int f = 0; f < WEIGHT_FORMAT_COUNT; f++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            one_case((enum weight_format)f, LINEAR_RESIDUAL, cases[i].n, cases[i].k, cases[i].rows,
                     MIX_NONE, 1, 0, true, false);
}

static void test_adapters(void **state)
{
    (void)state;
    static const struct {
        enum linear_out out;
        int n, k, rows, modules, max_rank;
        enum mix mix;
    } cases[] = {
        {LINEAR_STORE, 112, 200, 1, 3, 16, MIX_ONE},
        {LINEAR_STORE, 112, 200, 8, 3, 40, MIX_DISTINCT},
        {LINEAR_STORE, 100, 129, 9, 3, 17, MIX_BLEND},
        {LINEAR_RESIDUAL, 64, 260, 5, 1, 70, MIX_BLEND},
        {LINEAR_RESIDUAL, 33, 1100, 33, 1, 8, MIX_ONE},
        {LINEAR_SWIGLU, 96, 130, 7, 2, 20, MIX_DISTINCT},
        {LINEAR_SWIGLU, 64, 384, 17, 2, 33, MIX_BLEND},
        {LINEAR_STORE, 80, 128, 40, 3, 24, MIX_BLEND},
        {LINEAR_RESIDUAL, 48, 128, 70, 1, 15, MIX_BLEND},
        {LINEAR_STORE, 48, 128, 3, 3, 512, MIX_ONE},
        /* more tiles a block than a pass takes */
        {LINEAR_RESIDUAL, 448, 130, 3, 1, 20, MIX_DISTINCT},
        {LINEAR_STORE, 448, 130, 4, 3, 20, MIX_BLEND},
        /* whole chunks of rank tiles, two of them, and warps that share pieces */
        {LINEAR_SWIGLU, 96, 130, 20, 2, 64, MIX_DISTINCT},
        {LINEAR_STORE, 176, 128, 36, 3, 128, MIX_ONE},
        {LINEAR_RESIDUAL, 448, 128, 20, 1, 64, MIX_ONE},
        /* u has no room in shared memory */
        {LINEAR_SWIGLU, 64, 128, 8, 2, 512, MIX_DISTINCT},
        {LINEAR_SWIGLU, 64, 128, 40, 2, 512, MIX_DISTINCT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        one_case((enum weight_format)(i % WEIGHT_FORMAT_COUNT), cases[i].out, cases[i].n,
                 cases[i].k, cases[i].rows, cases[i].mix, cases[i].modules, cases[i].max_rank,
                 i % 2, i % 4 == 2);
}

/* Adapters of 16, 8 and 4 bits beside each other: every remainder of the rank tiles that lie
 * together, rows of a partial group of scales, tiles of several groups. */
static void test_codes(void **state)
{
    (void)state;
    static const struct {
        enum linear_out out;
        int n, k, rows, modules, max_rank;
        enum mix mix;
    } cases[] = {
        {LINEAR_STORE, 112, 200, 1, 3, 16, MIX_ONE},
        {LINEAR_STORE, 112, 200, 8, 3, 40, MIX_DISTINCT},
        {LINEAR_STORE, 400, 129, 9, 3, 17, MIX_BLEND},
        {LINEAR_RESIDUAL, 256, 260, 5, 1, 70, MIX_BLEND},
        {LINEAR_RESIDUAL, 133, 1100, 33, 1, 8, MIX_ONE},
        {LINEAR_SWIGLU, 96, 130, 7, 2, 20, MIX_DISTINCT},
        {LINEAR_SWIGLU, 320, 384, 17, 2, 65, MIX_BLEND},
        {LINEAR_STORE, 80, 128, 40, 3, 24, MIX_BLEND},
        {LINEAR_RESIDUAL, 48, 128, 70, 1, 15, MIX_BLEND},
        {LINEAR_STORE, 240, 128, 3, 3, 512, MIX_ONE},
        {LINEAR_RESIDUAL, 448, 130, 3, 1, 128, MIX_DISTINCT},
        {LINEAR_SWIGLU, 448, 1160, 4, 2, 50, MIX_BLEND},
        {LINEAR_STORE, 1040, 200, 20, 1, 100, MIX_DISTINCT},
        {LINEAR_SWIGLU, 320, 128, 64, 2, 113, MIX_DISTINCT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int codes = 1 + (int)i % 3; codes <= 3; codes += i < 5 ? 1 : 3)
            one_width((enum weight_format)((i + (size_t)codes) % WEIGHT_FORMAT_COUNT), cases[i].out,
                      cases[i].n, cases[i].k, cases[i].rows, cases[i].mix, cases[i].modules,
                      cases[i].max_rank, codes, i % 2, i % 4 == 2);
}

/* A table without any use of it gives the bits of no table. */
static void test_table_unused(void **state)
{
    (void)state;
    uint64_t seed = 3;
    struct model m;
    struct rows r;
    int all[] = {0, 1, 2, 3, 4};
    model_init(&m, WEIGHT_INT4, LINEAR_STORE, 64, 256, 2, 8, 0, &seed);
    rows_init(&r, &m, 5, MIX_NONE, true, &seed);
    struct result a = run(&m, &r, all, 5, 8, false, USE_TABLE);
    struct result b = run(&m, &r, all, 5, 8, false, USE_NO_TABLE);
    struct result d = run(&m, &r, all, 5, 8, false, USE_NO_PIECES);
    for (int t = 0; t < 5; t++) {
        r.list[t].count = 1; /* slot 0 has nothing at this linear */
        r.list[t].weight[0] = 1;
    }
    struct result c = run(&m, &r, all, 5, 8, false, USE_TABLE);
    for (int t = 0; t < 5; t++) {
        same_row(&m, &a, t, &b, t);
        same_row(&m, &c, t, &b, t);
        same_row(&m, &d, t, &b, t);
    }
    result_free(&d);
    result_free(&a);
    result_free(&b);
    result_free(&c);
    rows_free(&r);
    model_free(&m);
}

static void test_no_rows(void **state)
{
    (void)state;
    uint64_t seed = 4;
    struct model m;
    struct rows r;
    int none[1] = {0};
    model_init(&m, WEIGHT_INT8, LINEAR_STORE, 32, 128, 1, 8, 0, &seed);
    rows_init(&r, &m, 1, MIX_ONE, false, &seed);
    struct result o = run(&m, &r, none, 0, 8, false, USE_TABLE);
    result_free(&o);
    rows_free(&r);
    model_free(&m);
}

static void test_refused(void **state)
{
    (void)state;
    struct step_dev step = {0};
    struct linear_args a = {.step = &step, .rows_max = 8, .sms = 2, .x_stride = 128};
    assert_int_equal(STATUS_INVALID, cuda_linear(&a, kernel_test_stream()));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),  cmocka_unit_test(test_rows),
        cmocka_unit_test(test_long),    cmocka_unit_test(test_adapters),
        cmocka_unit_test(test_codes),   cmocka_unit_test(test_table_unused),
        cmocka_unit_test(test_no_rows), cmocka_unit_test(test_refused),
    };
    return kernel_test_run("linear", tests, sizeof tests / sizeof *tests);
}
