#include "tests/kernels/attend_world.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kernels/k_selftest.h"

static void *must_alloc(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);
    assert_non_null(p);
    return p;
}

/* A head of a token: its values, and in KV_INT8 its scale. */
struct head_place {
    size_t values, scale; /* bytes from the start of the pages */
    size_t bytes;         /* of the values, with what is behind the head */
};

static struct head_place place_of(const struct world *w, int seq, int pos, int side, int kv_head)
{
    size_t page = (size_t)w->page[seq * w->pages_each + pos / WORLD_PAGE];
    size_t block = (page * 2 + (size_t)side) * (size_t)w->shape.kv_heads + (size_t)kv_head;
    size_t row = attend_row_bytes(w->kv_type, w->shape.head_dim), in = pos % WORLD_PAGE;
    size_t at = block * attend_block_bytes(w->kv_type, w->shape.head_dim);
    return (struct head_place){at + in * row, at + WORLD_PAGE * row + in * 2, row};
}

static double bf16(uint16_t bits)
{
    return (double)kernel_test_float(bits);
}

static double bf16_at(const uint8_t *p)
{
    uint16_t bits;
    memcpy(&bits, p, sizeof bits);
    return bf16(bits);
}

static double scale_at(const struct world *w, const uint8_t *pages, const struct head_place *h)
{
    return w->kv_type == KV_INT8 ? bf16_at(pages + h->scale) : 1;
}

/* Value i of a head in an image of the pages. */
static double value_at(const struct world *w, const uint8_t *pages, const struct head_place *h,
                       int i)
{
    const uint8_t *p = pages + h->values;
    return w->kv_type == KV_INT8 ? (double)(int8_t)p[i] * scale_at(w, pages, h)
                                 : bf16_at(p + 2 * (size_t)i);
}

static float *upload_floats(const float *x, size_t n)
{
    return kernel_test_upload(x, n * sizeof *x);
}

void world_init(struct world *w, const struct world_shape *s, enum kv_type t, int seqs, int ctx)
{
    memset(w, 0, sizeof *w);
    w->shape = *s;
    w->kv_type = t;
    w->seqs = seqs;
    w->pages_each = (ctx + WORLD_PAGE - 1) / WORLD_PAGE;
    w->ctx = w->pages_each * WORLD_PAGE;
    w->pages = seqs * w->pages_each + 3;
    uint64_t seed = 77;
    int *all = must_alloc((size_t)w->pages * sizeof *all);
    for (int i = 0; i < w->pages; i++) {
        int j = (int)kernel_test_below(&seed, (uint32_t)i + 1);
        all[i] = all[j];
        all[j] = i;
    }
    w->page = all;
    size_t d = (size_t)s->head_dim, half = d / 2;
    w->kv_bytes =
        (size_t)w->pages * 2 * (size_t)s->kv_heads * attend_block_bytes(w->kv_type, s->head_dim);
    w->kv = must_alloc(w->kv_bytes);
    memset(w->kv, 0xff, w->kv_bytes);
    w->d_kv = kernel_test_upload(w->kv, w->kv_bytes);
    w->cos = must_alloc((size_t)w->ctx * half * sizeof *w->cos);
    w->sin = must_alloc((size_t)w->ctx * half * sizeof *w->sin);
    for (size_t i = 0; i < (size_t)w->ctx * half; i++) {
        double angle =
            (double)(i / half) * pow(10000.0, -2.0 * (double)(i % half) / (double)s->head_dim);
        w->cos[i] = (float)cos(angle);
        w->sin[i] = (float)sin(angle);
    }
    w->d_cos = upload_floats(w->cos, (size_t)w->ctx * half);
    w->d_sin = upload_floats(w->sin, (size_t)w->ctx * half);
    if (s->norm) {
        w->q_norm = must_alloc(d * sizeof(float));
        w->k_norm = must_alloc(d * sizeof(float));
        for (size_t i = 0; i < d; i++) {
            w->q_norm[i] = kernel_test_uniform(&seed, 0.5f, 2.0f);
            w->k_norm[i] = kernel_test_uniform(&seed, 0.5f, 2.0f);
        }
        w->d_q_norm = upload_floats(w->q_norm, d);
        w->d_k_norm = upload_floats(w->k_norm, d);
    }
}

void world_deinit(struct world *w)
{
    kernel_test_free(w->d_kv);
    kernel_test_free(w->d_cos);
    kernel_test_free(w->d_sin);
    kernel_test_free(w->d_q_norm);
    kernel_test_free(w->d_k_norm);
    free(w->page);
    free(w->kv);
    free(w->cos);
    free(w->sin);
    free(w->q_norm);
    free(w->k_norm);
}

void world_fill(struct world *w, int seq, int tokens)
{
    size_t d = (size_t)w->shape.head_dim;
    for (int pos = 0; pos < tokens; pos++) {
        uint64_t seed = (uint64_t)seq * 1000003u + (uint64_t)pos * 17u + 5u;
        for (int i = 0; i < 2 * w->shape.kv_heads; i++) {
            struct head_place at = place_of(w, seq, pos, i % 2, i / 2);
            uint8_t *to = w->kv + at.values;
            bool int8 = w->kv_type == KV_INT8;
            if (int8)
                memset(to, 0, at.bytes);
            for (size_t j = 0; j < d; j++) {
                float x = kernel_test_uniform(&seed, -2, 2);
                uint16_t bits = kernel_test_bf16(x);
                if (int8)
                    to[j] = (uint8_t)(int8_t)lrintf(x * 63.5f);
                else
                    memcpy(to + 2 * j, &bits, sizeof bits);
            }
            uint16_t scale = kernel_test_bf16(kernel_test_uniform(&seed, 0.008f, 0.03f));
            if (int8)
                memcpy(w->kv + at.scale, &scale, sizeof scale);
        }
    }
    kernel_test_write(w->d_kv, w->kv, w->kv_bytes);
}

void world_refresh(struct world *w)
{
    kernel_test_read(w->kv, w->d_kv, w->kv_bytes);
}

static int row_floats(const struct world *w)
{
    return (w->shape.heads + 2 * w->shape.kv_heads) * w->shape.head_dim;
}

/* q, k, v of a row, one after the other. */
static void make_row(const struct world *w, int seq, int pos, float *to)
{
    uint64_t seed = (uint64_t)seq * 900001u + (uint64_t)pos * 31u + 9u;
    for (int i = 0; i < row_floats(w); i++)
        to[i] = kernel_test_uniform(&seed, -2, 2);
}

static int chunks_of(const struct world *w, int pos)
{
    int low = w->shape.window > 0 && pos >= w->shape.window ? pos - w->shape.window + 1 : 0;
    return pos / ATTEND_CHUNK - low / ATTEND_CHUNK + 1;
}

/* Lists of the rows that go one by one and of the pieces that do not, in buckets with room to
 * spare. */
static void upload_split(const struct world_step *st, struct world_arrays *u, struct attend_args *a)
{
    struct attend_split split = {0, 0};
    struct attend_piece piece[WORLD_SEQS_MAX];
    int32_t *single = must_alloc((size_t)st->rows * sizeof *single);
    for (int i = 0, row = 0; i < st->pieces; row += st->piece[i].rows, i++) {
        if (st->piece[i].many)
            piece[split.pieces++] = (struct attend_piece){row, st->piece[i].rows};
        for (int j = 0; !st->piece[i].many && j < st->piece[i].rows; j++)
            single[split.singles++] = row + j;
    }
    u->split = NULL;
    u->single = NULL;
    u->piece = NULL;
    if (split.pieces > 0) {
        u->split = kernel_test_upload(&split, sizeof split);
        u->single = kernel_test_upload(single, (size_t)split.singles * sizeof *single);
        u->piece = kernel_test_upload(piece, (size_t)split.pieces * sizeof *piece);
        a->split = u->split;
        a->single = u->single;
        a->piece = u->piece;
        a->singles_max = split.singles > 0 ? split.singles + 1 : 0;
        a->pieces_max = split.pieces + 1;
    }
    free(single);
}

#define HOLE 7 /* floats between q, k and v, and entries between page lists */

void world_upload(const struct world *w, struct world_step *st, struct world_arrays *u,
                  struct attend_args *a)
{
    const struct world_shape *s = &w->shape;
    int d = s->head_dim, q = s->heads * d, kv = s->kv_heads * d, rows = 0, need = 1;
    for (int i = 0; i < st->pieces; i++)
        rows += st->piece[i].rows;
    st->rows = rows;
    int stride = q + 2 * kv + 3 * HOLE, list = w->pages_each + HOLE;
    size_t t = (size_t)rows;
    int32_t *position = must_alloc(t * 4), *seq_of_row = must_alloc(t * 4);
    int32_t *begin = must_alloc((size_t)st->pieces * 4);
    int32_t *pages = must_alloc((size_t)(st->pieces * list) * 4);
    float *qkv = must_alloc(t * (size_t)stride * sizeof *qkv);
    float *row = must_alloc((size_t)row_floats(w) * sizeof *row);
    memset(pages, 0x7f, (size_t)(st->pieces * list) * 4);
    memset(qkv, 0xff, t * (size_t)stride * sizeof *qkv);
    for (int i = 0, r = 0; i < st->pieces; i++) {
        const struct world_piece *p = &st->piece[i];
        begin[i] = i * list + 3;
        for (int j = 0; j <= (p->first + p->rows - 1) / WORLD_PAGE; j++)
            pages[begin[i] + j] = w->page[p->seq * w->pages_each + j];
        for (int pos = p->first; pos < p->first + p->rows; pos++, r++) {
            float *to = qkv + (size_t)r * (size_t)stride;
            position[r] = pos;
            seq_of_row[r] = i;
            make_row(w, p->seq, pos, row);
            memcpy(to, row, (size_t)q * sizeof *row);
            memcpy(to + q + HOLE, row + q, (size_t)kv * sizeof *row);
            memcpy(to + q + kv + 2 * HOLE, row + q + kv, (size_t)kv * sizeof *row);
            need = chunks_of(w, pos) > need ? chunks_of(w, pos) : need;
        }
    }
    struct step_head head = {.rows = {rows, 0}, .seqs = st->pieces};
    u->head = kernel_test_upload(&head, sizeof head);
    u->dev = (struct step_dev){.head = u->head,
                               .position = kernel_test_upload(position, t * 4),
                               .seq_of_row = kernel_test_upload(seq_of_row, t * 4),
                               .page_begin = kernel_test_upload(begin, (size_t)st->pieces * 4),
                               .pages = kernel_test_upload(pages, (size_t)(st->pieces * list) * 4)};
    u->qkv = kernel_test_upload(qkv, t * (size_t)stride * sizeof *qkv);
    free(position);
    free(seq_of_row);
    free(begin);
    free(pages);
    free(qkv);
    free(row);
    int rows_max = st->rows_max ? st->rows_max : rows > 0 ? rows : 1;
    int chunks_max = st->chunks_max ? st->chunks_max : need;
    *a = (struct attend_args){.step = &u->dev,
                              .rows_max = rows_max,
                              .chunks_max = chunks_max,
                              .qkv = u->qkv,
                              .qkv_stride = stride,
                              .k_at = q + HOLE,
                              .v_at = q + kv + 2 * HOLE,
                              .heads = s->heads,
                              .kv_heads = s->kv_heads,
                              .head_dim = d,
                              .window = s->window,
                              .scale = (float)(1.0 / sqrt((double)d)),
                              .rope_cos = w->d_cos,
                              .rope_sin = w->d_sin,
                              .q_norm = w->d_q_norm,
                              .k_norm = w->d_k_norm,
                              .eps = 0.05f,
                              .kv_type = w->kv_type,
                              .kv = w->d_kv,
                              .out_stride = PAD_K(q),
                              .span = st->span ? st->span : 1,
                              .partial_rows = st->partial_rows,
                              .one_row_each = st->one_row_each};
    upload_split(st, u, a);
    u->out = kernel_test_alloc((size_t)rows_max * (size_t)a->out_stride * 2);
    a->out = u->out;
    size_t parts = (size_t)attend_parts(chunks_max, a->span, s->window);
    size_t partial_rows = (size_t)(st->partial_rows ? st->partial_rows : rows_max);
    u->partial = kernel_test_alloc(partial_rows * (size_t)s->heads * parts * (size_t)(d + 2) *
                                   sizeof(float));
    a->partial = u->partial;
    size_t counters = (size_t)rows_max * (size_t)s->kv_heads;
    uint32_t *zeros = must_alloc(counters * sizeof *zeros);
    memset(zeros, 0, counters * sizeof *zeros);
    u->arrived = kernel_test_upload(zeros, counters * sizeof *zeros);
    a->arrived = u->arrived;
    free(zeros);
}

void world_arrays_free(struct world_arrays *u)
{
    kernel_test_free((void *)u->dev.head);
    kernel_test_free((void *)u->dev.position);
    kernel_test_free((void *)u->dev.seq_of_row);
    kernel_test_free((void *)u->dev.page_begin);
    kernel_test_free((void *)u->dev.pages);
    kernel_test_free(u->split);
    kernel_test_free(u->single);
    kernel_test_free(u->piece);
    kernel_test_free(u->qkv);
    kernel_test_free(u->out);
    kernel_test_free(u->partial);
    kernel_test_free(u->arrived);
}

/* rope(norm(x)) in double. */
static void turn(const struct world *w, const float *x, const float *norm, int pos, double *y)
{
    int d = w->shape.head_dim, half = d / 2;
    double sum = 0, inv = 1;
    for (int i = 0; i < d; i++)
        sum += (double)x[i] * (double)x[i];
    if (norm)
        inv = 1 / sqrt(sum / d + (double)0.05f);
    for (int i = 0; i < half; i++) {
        double c = (double)w->cos[pos * half + i], s = (double)w->sin[pos * half + i];
        double a = (double)x[i] * inv * (norm ? (double)norm[i] : 1);
        double b = (double)x[half + i] * inv * (norm ? (double)norm[half + i] : 1);
        y[i] = a * c - b * s;
        y[half + i] = b * c + a * s;
    }
}

/* How far a stored value may be from x, of a head whose largest is `most`. bf16: rounded once.
 * int8: half a step, and the byte may be the neighbour's where k' is computed in other roundings;
 * 1 / scale and the product with it are 2^-24 of 127 steps off each. */
static double stored_off(const struct world *w, double x, double scale)
{
    return w->kv_type == KV_INT8 ? scale * (0.5 + 127 * 0x1p-22) : fabs(x) * 0x1p-8;
}

/* The row's own k', v in the image `now`: rounded once, k' computed in fp32 with some ten roundings
 * of values up to sqrt(2) * 2 * 2 (norm weights) * 2. An int8 head's scale is its largest value
 * over 127, rounded up to bf16; what is behind the head is zero. */
static void check_stored(const struct world *w, int seq, int pos, const uint8_t *now)
{
    int d = w->shape.head_dim;
    float *row = must_alloc((size_t)row_floats(w) * sizeof *row);
    double *want = must_alloc((size_t)d * sizeof *want);
    const double fp32 = 12 * 0x1p-20;
    make_row(w, seq, pos, row);
    for (int i = 0; i < 2 * w->shape.kv_heads; i++) {
        int h = i / 2;
        const float *k = row + (w->shape.heads + h) * d, *v = k + w->shape.kv_heads * d;
        struct head_place at = place_of(w, seq, pos, i % 2, h);
        double most = 0, scale = scale_at(w, now, &at);
        if (i % 2 == 0)
            turn(w, k, w->k_norm, pos, want);
        for (int j = 0; j < d; j++) {
            want[j] = i % 2 ? (double)v[j] : want[j];
            most = fmax(most, fabs(want[j]));
        }
        if (w->kv_type == KV_INT8 &&
            !(scale >= (most - fp32) / 127 && scale <= (most + fp32) / 127 * (1 + 0x1p-7)))
            fail_msg("scale of %c of sequence %d, position %d, head %d: got %g for %g",
                     i % 2 ? 'v' : 'k', seq, pos, h, scale, most);
        for (int j = 0; j < d; j++) {
            double got = value_at(w, now, &at, j);
            if (!(fabs(got - want[j]) <= stored_off(w, want[j], scale) + fp32))
                fail_msg("stored %c of sequence %d, position %d, head %d, [%d]: got %g, want %g",
                         i % 2 ? 'v' : 'k', seq, pos, h, j, got, want[j]);
        }
        for (size_t j = (size_t)d; w->kv_type == KV_INT8 && j < at.bytes; j++)
            assert_int_equal(now[at.values + j], 0);
    }
    free(row);
    free(want);
}

void world_collect(struct world *w, struct world_step *st, const struct world_arrays *u,
                   const struct attend_args *a)
{
    size_t stride = (size_t)a->out_stride, width = (size_t)(w->shape.heads * w->shape.head_dim);
    size_t bytes = (size_t)a->rows_max * stride * 2;
    uint16_t *all = must_alloc(bytes);
    st->out = must_alloc((size_t)st->rows * width * 2);
    kernel_test_read(all, u->out, bytes);
    for (size_t i = 0; i < (size_t)a->rows_max * stride; i++) {
        bool result = i / stride < (size_t)st->rows && i % stride < width;
        if (result)
            st->out[i / stride * width + i % stride] = all[i];
        else if (all[i] != 0xffff)
            fail_msg("out[%zu, %zu] was written: %04x", i / stride, i % stride, all[i]);
    }
    free(all);
    size_t counters = (size_t)a->rows_max * (size_t)w->shape.kv_heads;
    uint32_t *arrived = must_alloc(counters * sizeof *arrived);
    kernel_test_read(arrived, u->arrived, counters * sizeof *arrived);
    for (size_t i = 0; i < counters; i++) {
        if (arrived[i] != 0)
            fail_msg("arrived[%zu] is %u after the step", i, arrived[i]);
    }
    free(arrived);
    uint8_t *now = must_alloc(w->kv_bytes);
    kernel_test_read(now, w->d_kv, w->kv_bytes);
    for (int i = 0; i < st->pieces; i++) {
        const struct world_piece *p = &st->piece[i];
        for (int pos = p->first; pos < p->first + p->rows; pos++) {
            check_stored(w, p->seq, pos, now);
            for (int j = 0; j < 2 * w->shape.kv_heads; j++) {
                struct head_place at = place_of(w, p->seq, pos, j % 2, j / 2);
                memcpy(w->kv + at.values, now + at.values, at.bytes);
                if (w->kv_type == KV_INT8)
                    memcpy(w->kv + at.scale, now + at.scale, 2);
            }
        }
    }
    kernel_test_equal("pages", now, w->kv, w->kv_bytes);
    free(now);
}

void world_run(struct world *w, struct world_step *st)
{
    struct world_arrays u;
    struct attend_args a;
    world_upload(w, st, &u, &a);
    size_t bytes = (size_t)a.rows_max * (size_t)a.out_stride * 2;
    uint16_t *first = must_alloc(bytes), *second = must_alloc(bytes);
    assert_int_equal(STATUS_OK, cuda_attend(&a, kernel_test_stream()));
    kernel_test_read(first, u.out, bytes);
    /* once more, behind a kernel that is still writing q, k and v when this one may start, and with
     * pages that do not hold the rows' keys yet */
    kernel_test_write(w->d_kv, w->kv, w->kv_bytes);
    int count = st->rows * a.qkv_stride / 4 * 4;
    float *copy = kernel_test_alloc((size_t)count * sizeof *copy);
    cudaStream_t s = kernel_test_stream();
    size_t qkv_bytes = (size_t)count * sizeof *copy;
    assert_int_equal(cudaSuccess,
                     cudaMemcpyAsync(copy, u.qkv, qkv_bytes, cudaMemcpyDeviceToDevice, s));
    assert_int_equal(cudaSuccess, cudaMemsetAsync(u.qkv, 0xff, qkv_bytes, s));
    if (count > 0)
        assert_int_equal(STATUS_OK, cuda_selftest_copy(copy, u.qkv, count, 0, s));
    a.dependent = 1;
    assert_int_equal(STATUS_OK, cuda_attend(&a, s));
    kernel_test_read(second, u.out, bytes);
    kernel_test_equal("second run", second, first, bytes);
    kernel_test_free(copy);
    free(first);
    free(second);
    world_collect(w, st, &u, &a);
    world_arrays_free(&u);
}

/* One head of one row. Scores are off by eps of the sum of their products' sizes (rounded q') and D
 * additions of fp32, weights by twice that of the largest score and eps (rounded, and so is their
 * sum), sums over the context by fp32, the result by its rounding to bf16. */
static void check_head(const struct world *w, int seq, int pos, int head, const double *q,
                       const uint16_t *got, double eps)
{
    int d = w->shape.head_dim, kv_head = head / (w->shape.heads / w->shape.kv_heads);
    int low = w->shape.window > 0 && pos >= w->shape.window ? pos - w->shape.window + 1 : 0;
    double *s = must_alloc((size_t)(pos + 1) * sizeof *s), most = -INFINITY, size = 0, sum = 0;
    double scale = 1 / sqrt((double)d), off;
    for (int j = low; j <= pos; j++) {
        struct head_place at = place_of(w, seq, j, 0, kv_head);
        double dot = 0, abs_dot = 0;
        for (int i = 0; i < d; i++) {
            double k = value_at(w, w->kv, &at, i);
            dot += q[i] * k;
            abs_dot += fabs(q[i] * k);
        }
        s[j] = dot * scale;
        most = s[j] > most ? s[j] : most;
        size = abs_dot * scale > size ? abs_dot * scale : size;
    }
    for (int j = low; j <= pos; j++)
        sum += exp(s[j] - most);
    double score_off = size * (eps + (d + 16) * 0x1p-23);
    off = 2 * score_off + 2 * eps + (pos - low + 64) * 0x1p-23;
    for (int i = 0; i < d; i++) {
        double want = 0, abs_want = 0;
        for (int j = low; j <= pos; j++) {
            struct head_place at = place_of(w, seq, j, 1, kv_head);
            double v = value_at(w, w->kv, &at, i);
            want += exp(s[j] - most) / sum * v;
            abs_want += exp(s[j] - most) / sum * fabs(v);
        }
        double bound = fabs(want) * 0x1p-8 + abs_want * off * 1.01;
        if (!(fabs(bf16(got[i]) - want) <= bound))
            fail_msg("heads %d/%d, head_dim %d, window %d: sequence %d, position %d, head %d, "
                     "[%d]: got %g, want %g within %g",
                     w->shape.heads, w->shape.kv_heads, d, w->shape.window, seq, pos, head, i,
                     bf16(got[i]), want, bound);
    }
    free(s);
}

void world_check(const struct world *w, const struct world_step *st)
{
    int d = w->shape.head_dim;
    float *row = must_alloc((size_t)row_floats(w) * sizeof *row);
    double *q = must_alloc((size_t)d * sizeof *q);
    for (int i = 0, r = 0; i < st->pieces; i++) {
        const struct world_piece *p = &st->piece[i];
        for (int pos = p->first; pos < p->first + p->rows; pos++, r++) {
            make_row(w, p->seq, pos, row);
            for (int h = 0; h < w->shape.heads; h++) {
                turn(w, row + h * d, w->q_norm, pos, q);
                check_head(w, p->seq, pos, h, q,
                           st->out + ((size_t)r * (size_t)w->shape.heads + (size_t)h) * (size_t)d,
                           p->many ? 0x1p-8 : 0x1p-16);
            }
        }
    }
    free(row);
    free(q);
}

void world_step_free(struct world_step *st)
{
    free(st->out);
    st->out = NULL;
}

const uint16_t *world_row(const struct world *w, const struct world_step *st, int seq, int pos)
{
    size_t width = (size_t)(w->shape.heads * w->shape.head_dim), r = 0;
    for (int i = 0; i < st->pieces; i++) {
        const struct world_piece *p = &st->piece[i];
        if (p->seq == seq && pos >= p->first && pos < p->first + p->rows)
            return st->out + (r + (size_t)(pos - p->first)) * width;
        r += (size_t)p->rows;
    }
    return NULL;
}
