#include "tests/unit/cpu_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/adapter/lora_quant.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"

uint64_t fixture_next(struct fixture_rng *r)
{
    uint64_t z = r->state += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

int fixture_below(struct fixture_rng *r, int n)
{
    return (int)(fixture_next(r) % (uint64_t)n);
}

double fixture_normal(struct fixture_rng *r)
{
    double sum = 0.0;
    for (int i = 0; i < 4; i++)
        sum += (double)(fixture_next(r) >> 11) * 0x1p-53 - 0.5;
    return sum * sqrt(3.0);
}

static void *zalloc(size_t count, size_t size)
{
    void *p = calloc(count + 1, size);
    assert_non_null(p);
    return p;
}

/* Truncation to 16 bits: bf16 drops the mantissa's end; f16 is built for normal magnitudes only. */
static uint16_t half_of(float f, enum dtype d)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if (d == DTYPE_BF16)
        return (uint16_t)(u >> 16);
    int exponent = (int)(u >> 23 & 255) - 112;
    if (exponent <= 0 || exponent >= 31)
        return (uint16_t)(u >> 16 & 0x8000);
    return (uint16_t)((u >> 16 & 0x8000) | (uint32_t)exponent << 10 | (u >> 13 & 0x3ff));
}

struct tensor fixture_tensor(struct fixture_rng *r, int rows, int cols, enum dtype d, double mean,
                             double deviation)
{
    size_t count = (size_t)rows * (size_t)cols;
    char *data = zalloc(count, dtype_bytes(d));
    for (size_t i = 0; i < count; i++) {
        float f = (float)(mean + deviation * fixture_normal(r));
        uint16_t h = half_of(f, d);
        if (d == DTYPE_F32)
            memcpy(data + i * 4, &f, 4);
        else
            memcpy(data + i * 2, &h, 2);
    }
    return (struct tensor){.data = data, .dtype = d, .rows = rows, .cols = cols};
}

void fixture_tensor_free(struct tensor *t)
{
    free((void *)t->data);
    t->data = NULL;
}

struct model_shape fixture_shape(enum model_arch arch)
{
    struct model_shape s = {.arch = arch,
                            .layers = 2,
                            .hidden = 72,
                            .heads = 6,
                            .kv_heads = 2,
                            .head_dim = 12,
                            .ffn = 101,
                            .vocab = 131,
                            .ctx_max = 640,
                            .rms_eps = 1e-5,
                            .rope = {.kind = ROPE_DEFAULT, .theta = 10000.0}};
    if (arch == ARCH_LLAMA)
        s.rope = (struct rope_params){.kind = ROPE_LLAMA3,
                                      .theta = 500000.0,
                                      .factor = 8.0,
                                      .low_freq_factor = 1.0,
                                      .high_freq_factor = 4.0,
                                      .original_ctx = 64};
    if (arch == ARCH_MISTRAL) {
        s.window = 37;
        s.head_dim = 16; /* not hidden / heads */
        s.kv_heads = 6;
    }
    if (arch == ARCH_QWEN2) {
        s.tied_head = true;
        s.kv_heads = 1;
    }
    if (arch == ARCH_QWEN3) {
        s.qk_norm = true;
        s.head_dim = 34;
        s.rope.kind = ROPE_LINEAR;
        s.rope.factor = 3.0;
    }
    return s;
}

struct model_shape fixture_demo_shape(void)
{
    return (struct model_shape){.arch = ARCH_LLAMA,
                                .layers = 8,
                                .hidden = 256,
                                .heads = 8,
                                .kv_heads = 4,
                                .head_dim = 32,
                                .ffn = 768,
                                .vocab = 4096,
                                .ctx_max = 2048,
                                .tied_head = true,
                                .rms_eps = 1e-5,
                                .rope = {.kind = ROPE_DEFAULT, .theta = 10000.0}};
}

static void random_layer(struct model_layer *l, const struct model_shape *s, enum dtype d,
                         struct fixture_rng *r)
{
    l->attn_norm = fixture_tensor(r, 1, s->hidden, d, 1.0, 0.2);
    l->mlp_norm = fixture_tensor(r, 1, s->hidden, d, 1.0, 0.2);
    for (int k = 0; k < LINEAR_COUNT; k++) {
        int in, out;
        model_site_dims(s, k, &in, &out);
        l->linear[k] = fixture_tensor(r, out, in, d, 0.0, 1.0 / sqrt(in));
        if (s->arch == ARCH_QWEN2 && k <= LINEAR_V)
            l->bias[k] = fixture_tensor(r, 1, out, d, 0.0, 0.5);
    }
    if (s->qk_norm) {
        l->q_norm = fixture_tensor(r, 1, s->head_dim, d, 1.0, 0.2);
        l->k_norm = fixture_tensor(r, 1, s->head_dim, d, 1.0, 0.2);
    }
}

struct model *fixture_model(const struct model_shape *s, enum dtype d, uint64_t seed)
{
    struct fixture_rng r = {seed};
    struct model *m = zalloc(1, sizeof *m);
    m->shape = *s;
    m->layers = zalloc((size_t)s->layers, sizeof *m->layers);
    for (int l = 0; l < s->layers; l++)
        random_layer(&m->layers[l], s, d, &r);
    m->embed = fixture_tensor(&r, s->vocab, s->hidden, d, 0.0, 1.0);
    m->final_norm = fixture_tensor(&r, 1, s->hidden, d, 1.0, 0.2);
    m->lm_head = s->tied_head
                     ? m->embed
                     : fixture_tensor(&r, s->vocab, s->hidden, d, 0.0, 2.0 / sqrt(s->hidden));
    return m;
}

void fixture_model_free(struct model *m)
{
    for (int l = 0; l < m->shape.layers; l++) {
        struct model_layer *y = &m->layers[l];
        for (int k = 0; k < LINEAR_COUNT; k++) {
            fixture_tensor_free(&y->linear[k]);
            fixture_tensor_free(&y->bias[k]);
        }
        fixture_tensor_free(&y->attn_norm);
        fixture_tensor_free(&y->mlp_norm);
        fixture_tensor_free(&y->q_norm);
        fixture_tensor_free(&y->k_norm);
    }
    if (!m->shape.tied_head)
        fixture_tensor_free(&m->lm_head);
    fixture_tensor_free(&m->embed);
    fixture_tensor_free(&m->final_norm);
    free(m->layers);
    free(m);
}

static bool wants(const struct model_shape *s, const struct fixture_lora *f, int site)
{
    if (site == SITE_LM_HEAD(s->layers))
        return f->head;
    if (site == SITE_EMBED(s->layers))
        return f->embed;
    const int linear = site % LINEAR_COUNT;
    return linear < LINEAR_O    ? f->attention || f->inputs
           : linear == LINEAR_O ? f->attention
                                : f->mlp;
}

struct lora *fixture_lora(const struct model_shape *s, const struct fixture_lora *f, uint64_t seed)
{
    struct fixture_rng r = {seed};
    struct lora *l = zalloc(1, sizeof *l);
    l->modules = zalloc((size_t)SITE_COUNT(s->layers), sizeof *l->modules);
    l->rank_max = f->rank;
    for (int site = 0; site < SITE_COUNT(s->layers); site++) {
        if (!wants(s, f, site))
            continue;
        struct lora_module *m = &l->modules[l->module_count++];
        m->site = site;
        m->rank = f->rank;
        m->scale = 0.5f;
        model_site_dims(s, site, &m->in, &m->out);
        bool embed = site == SITE_EMBED(s->layers);
        double in = embed ? 1.0 : sqrt(m->in);
        m->a = fixture_tensor(&r, m->rank, m->in, f->dtype, 0.0, 1.0 / in);
        m->b =
            fixture_tensor(&r, m->out, m->rank, f->dtype, 0.0, 2.0 * f->strength / sqrt(m->rank));
        if (f->dora)
            m->magnitude = fixture_tensor(&r, 1, m->out, f->dtype, embed ? sqrt(m->in) : 1.0, 0.1);
    }
    return l;
}

static void free_tensors(struct lora_module *m)
{
    fixture_tensor_free(&m->a);
    fixture_tensor_free(&m->b);
    fixture_tensor_free(&m->magnitude);
}

void fixture_lora_quantise(struct lora *l, enum engine_adapter_quant quant)
{
    struct err e = {0};
    struct lora_module *before = calloc((size_t)l->module_count, sizeof *before);
    assert_non_null(before);
    memcpy(before, l->modules, (size_t)l->module_count * sizeof *before);
    assert_int_equal(lora_quantise(l, quant, NULL, &e), STATUS_OK);
    for (int i = 0; i < l->module_count && l->storage; i++)
        free_tensors(&before[i]);
    free(before);
}

void fixture_lora_free(struct lora *l)
{
    mem_free(l->storage); /* of one that was quantised */
    for (int i = 0; i < l->module_count && !l->storage; i++) {
        fixture_tensor_free(&l->modules[i].a);
        fixture_tensor_free(&l->modules[i].b);
        fixture_tensor_free(&l->modules[i].magnitude);
    }
    free(l->modules);
    free(l);
}

/* ---- The textbook pass ---- */

/* One adapter's part of a site, widened. */
struct part {
    const struct lora_module *module; /* NULL: none */
    double *a;                        /* [R, in] */
    double *b;                        /* [out, R] */
    double *gain;                     /* [out], DoRA only */
};

struct reference {
    const struct model *m;
    const float *weights;
    int n;
    double **w;         /* [SITE_COUNT] of [out, in] */
    struct part *parts; /* [SITE_COUNT, n] */
};

static double *widen(const struct tensor *t)
{
    size_t count = tensor_count(t);
    double *out = zalloc(count, sizeof *out);
    for (size_t i = 0; i < count; i++) {
        float f;
        tensor_read_f32(t, i, 1, &f);
        out[i] = (double)f;
    }
    return out;
}

static double at(const struct tensor *t, int i)
{
    float f;
    tensor_read_f32(t, (size_t)i, 1, &f);
    return (double)f;
}

/* The matrix that a site multiplies by, [out, in]; the embedding is turned. */
static double *site_weights(const struct model *m, int site)
{
    int layers = m->shape.layers;
    if (site == SITE_LM_HEAD(layers))
        return widen(&m->lm_head);
    if (site < SITE_LM_HEAD(layers))
        return widen(&m->layers[site / LINEAR_COUNT].linear[site % LINEAR_COUNT]);
    int in = m->shape.vocab, out = m->shape.hidden;
    double *e = widen(&m->embed), *w = zalloc((size_t)in * (size_t)out, sizeof *w);
    for (int i = 0; i < in; i++) {
        for (int o = 0; o < out; o++)
            w[o * in + i] = e[i * out + o];
    }
    free(e);
    return w;
}

static double *site_gain(const struct lora_module *m, const struct part *p, const double *w)
{
    double *gain = zalloc((size_t)m->out, sizeof *gain);
    for (int o = 0; o < m->out; o++) {
        double sum = 0.0;
        for (int c = 0; c < m->in; c++) {
            double v = 0.0;
            for (int r = 0; r < m->rank; r++)
                v += p->b[o * m->rank + r] * p->a[r * m->in + c];
            v = w[o * m->in + c] + (double)m->scale * v;
            sum += v * v;
        }
        gain[o] = at(&m->magnitude, o) / sqrt(sum);
    }
    return gain;
}

static struct reference make_reference(const struct model *m, const struct lora *const *adapters,
                                       const float *weights, int n)
{
    int sites = SITE_COUNT(m->shape.layers);
    struct reference f = {.m = m, .weights = weights, .n = n};
    f.w = zalloc((size_t)sites, sizeof *f.w);
    f.parts = zalloc((size_t)sites * (size_t)n, sizeof *f.parts);
    for (int s = 0; s < sites; s++)
        f.w[s] = site_weights(m, s);
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < adapters[i]->module_count; k++) {
            const struct lora_module *l = &adapters[i]->modules[k];
            struct part *p = &f.parts[l->site * n + i];
            *p = (struct part){.module = l, .a = widen(&l->a), .b = widen(&l->b)};
            if (l->magnitude.data)
                p->gain = site_gain(l, p, f.w[l->site]);
        }
    }
    return f;
}

static void free_reference(struct reference *f)
{
    int sites = SITE_COUNT(f->m->shape.layers);
    for (int s = 0; s < sites; s++)
        free(f->w[s]);
    for (int i = 0; i < sites * f->n; i++) {
        free(f->parts[i].a);
        free(f->parts[i].b);
        free(f->parts[i].gain);
    }
    free(f->w);
    free(f->parts);
}

static double dot(const double *a, const double *b, int n)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* y = W x + bias + adapters. */
static void linear(const struct reference *f, int site, const struct tensor *bias, const double *x,
                   double *y)
{
    int in, out;
    model_site_dims(&f->m->shape, site, &in, &out);
    double ax[LIMIT_ADAPTERS_PER_REQUEST][LIMIT_ADAPTER_RANK];
    const struct part *parts = f->parts + site * f->n;
    for (int i = 0; i < f->n; i++) {
        for (int r = 0; parts[i].module && r < parts[i].module->rank; r++)
            ax[i][r] = dot(parts[i].a + r * in, x, in);
    }
    for (int o = 0; o < out; o++) {
        double base = dot(f->w[site] + o * in, x, in);
        y[o] = base + (bias && bias->data ? at(bias, o) : 0.0);
        for (int i = 0; i < f->n; i++) {
            const struct lora_module *m = parts[i].module;
            if (!m)
                continue;
            double delta = (double)m->scale * dot(parts[i].b + o * m->rank, ax[i], m->rank);
            if (parts[i].gain)
                delta = (parts[i].gain[o] - 1.0) * base + parts[i].gain[o] * delta;
            y[o] += (double)f->weights[i] * delta;
        }
    }
}

static void rms_norm(const double *x, const struct tensor *w, int n, double eps, double *y)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++)
        sum += x[i] * x[i];
    for (int i = 0; i < n; i++)
        y[i] = x[i] / sqrt(sum / n + eps) * at(w, i);
}

static double frequency(const struct rope_params *r, int i, int d)
{
    double f = 1.0 / pow(r->theta, 2.0 * i / d);
    double wave = 2.0 * acos(-1.0) / f;
    if (r->kind == ROPE_LINEAR)
        return f / r->factor;
    if (r->kind == ROPE_DEFAULT || wave < r->original_ctx / r->high_freq_factor)
        return f;
    if (wave > r->original_ctx / r->low_freq_factor)
        return f / r->factor;
    double smooth =
        (r->original_ctx / wave - r->low_freq_factor) / (r->high_freq_factor - r->low_freq_factor);
    return (1.0 - smooth) * f / r->factor + smooth * f;
}

static void turn(const struct model_shape *s, double *h, const struct tensor *norm, int pos)
{
    int half = s->head_dim / 2;
    if (norm->data)
        rms_norm(h, norm, s->head_dim, s->rms_eps, h);
    for (int i = 0; i < half; i++) {
        /* Rounded to float as the reference implementation rounds angles. */
        double a = (double)((float)pos * (float)frequency(&s->rope, i, s->head_dim));
        double x = h[i], y = h[half + i];
        h[i] = x * cos(a) - y * sin(a);
        h[half + i] = y * cos(a) + x * sin(a);
    }
}

/* out[D] for one head of the row at `pos`; k and v: [pos + 1, KH * D]. */
static void head_attention(const struct model_shape *s, const double *q, const double *k,
                           const double *v, int pos, int kv_head, double *out)
{
    int d = s->head_dim;
    size_t stride = (size_t)s->kv_heads * (size_t)d;
    int first = s->window > 0 && pos + 1 > s->window ? pos + 1 - s->window : 0;
    double *p = zalloc((size_t)pos + 1, sizeof *p);
    double most = -INFINITY, total = 0.0;
    for (int t = first; t <= pos; t++) {
        for (int i = 0; i < d; i++)
            p[t] += q[i] * k[(size_t)t * stride + (size_t)(kv_head * d + i)];
        p[t] /= sqrt(d);
        most = fmax(most, p[t]);
    }
    for (int t = first; t <= pos; t++)
        total += p[t] = exp(p[t] - most);
    memset(out, 0, (size_t)d * sizeof *out);
    for (int t = first; t <= pos; t++) {
        for (int i = 0; i < d; i++)
            out[i] += p[t] / total * v[(size_t)t * stride + (size_t)(kv_head * d + i)];
    }
    free(p);
}

struct row {
    double *x, *n, *q, *a, *g, *u, *y;
};

static void attention_block(const struct reference *f, int layer, int pos, struct row *w, double *k,
                            double *v)
{
    const struct model_shape *s = &f->m->shape;
    const struct model_layer *l = &f->m->layers[layer];
    size_t kv = (size_t)s->kv_heads * (size_t)s->head_dim;
    double *key = k + (size_t)pos * kv;
    rms_norm(w->x, &l->attn_norm, s->hidden, s->rms_eps, w->n);
    linear(f, SITE_OF(layer, LINEAR_Q), &l->bias[LINEAR_Q], w->n, w->q);
    linear(f, SITE_OF(layer, LINEAR_K), &l->bias[LINEAR_K], w->n, key);
    linear(f, SITE_OF(layer, LINEAR_V), &l->bias[LINEAR_V], w->n, v + (size_t)pos * kv);
    for (int h = 0; h < s->heads; h++)
        turn(s, w->q + h * s->head_dim, &l->q_norm, pos);
    for (int h = 0; h < s->kv_heads; h++)
        turn(s, key + h * s->head_dim, &l->k_norm, pos);
    for (int h = 0; h < s->heads; h++)
        head_attention(s, w->q + h * s->head_dim, k, v, pos, h / (s->heads / s->kv_heads),
                       w->a + h * s->head_dim);
    linear(f, SITE_OF(layer, LINEAR_O), &l->bias[LINEAR_O], w->a, w->y);
    for (int i = 0; i < s->hidden; i++)
        w->x[i] += w->y[i];
}

static void mlp_block(const struct reference *f, int layer, struct row *w)
{
    const struct model_shape *s = &f->m->shape;
    rms_norm(w->x, &f->m->layers[layer].mlp_norm, s->hidden, s->rms_eps, w->n);
    linear(f, SITE_OF(layer, LINEAR_GATE), NULL, w->n, w->g);
    linear(f, SITE_OF(layer, LINEAR_UP), NULL, w->n, w->u);
    for (int i = 0; i < s->ffn; i++)
        w->g[i] = w->g[i] / (1.0 + exp(-w->g[i])) * w->u[i];
    linear(f, SITE_OF(layer, LINEAR_DOWN), NULL, w->g, w->y);
    for (int i = 0; i < s->hidden; i++)
        w->x[i] += w->y[i];
}

void fixture_forward(const struct model *m, const struct lora *const *adapters,
                     const float *weights, int n, const int32_t *tokens, int count, double *logits)
{
    const struct model_shape *s = &m->shape;
    struct reference f = make_reference(m, adapters, weights, n);
    int widest = s->vocab;
    for (int i = 0; i < LINEAR_COUNT; i++) {
        int in, out;
        model_site_dims(s, i, &in, &out);
        widest = out > widest ? out : widest;
    }
    size_t kv = (size_t)count * (size_t)s->kv_heads * (size_t)s->head_dim;
    double *k = zalloc(kv * (size_t)s->layers, sizeof *k);
    double *v = zalloc(kv * (size_t)s->layers, sizeof *v);
    double *block = zalloc((size_t)widest * 8, sizeof *block);
    struct row w = {block,
                    block + widest,
                    block + 2 * widest,
                    block + 3 * widest,
                    block + 4 * widest,
                    block + 5 * widest,
                    block + 6 * widest};
    double *one = block + 7 * widest;
    for (int pos = 0; pos < count; pos++) {
        one[tokens[pos]] = 1.0;
        linear(&f, SITE_EMBED(s->layers), NULL, one, w.x);
        one[tokens[pos]] = 0.0;
        for (int l = 0; l < s->layers; l++) {
            attention_block(&f, l, pos, &w, k + (size_t)l * kv, v + (size_t)l * kv);
            mlp_block(&f, l, &w);
        }
        rms_norm(w.x, &m->final_norm, s->hidden, s->rms_eps, w.n);
        linear(&f, SITE_LM_HEAD(s->layers), NULL, w.n, logits + (size_t)pos * (size_t)s->vocab);
    }
    free_reference(&f);
    free(k);
    free(v);
    free(block);
}
