#include "tests/gpu/view.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/quantise_ref.h"
#include "tests/gpu/lanes.h"

static void store_row(enum weight_format f, const float *in, int k, float *out)
{
    if (quantise_ref_row(f, in, k, out) != STATUS_OK)
        lanes_die("quantise_ref_row refused a row of %d values", k);
}

/* ---- tensors ---- */

static struct tensor widen(const struct tensor *t)
{
    if (!t->data)
        return *t;
    size_t count = tensor_count(t);
    float *data = lanes_alloc(count, sizeof *data);
    tensor_read_f32(t, 0, count, data);
    return (struct tensor){.data = data, .dtype = DTYPE_F32, .rows = t->rows, .cols = t->cols};
}

static float *values(const struct tensor *t)
{
    return (float *)t->data;
}

static void store(struct tensor *t, enum weight_format f)
{
    float *row = lanes_alloc((size_t)t->cols, sizeof *row);
    for (int64_t r = 0; r < t->rows; r++) {
        float *at = values(t) + r * t->cols;
        memcpy(row, at, (size_t)t->cols * sizeof *row);
        store_row(f, row, (int)t->cols, at);
    }
    free(row);
}

static struct model *copy_model(const struct model *m)
{
    struct model *v = lanes_alloc(1, sizeof *v);
    *v = *m;
    v->files = NULL;
    v->layers = lanes_alloc((size_t)m->shape.layers, sizeof *v->layers);
    for (int l = 0; l < m->shape.layers; l++) {
        v->layers[l] = m->layers[l];
        for (int k = 0; k < LINEAR_COUNT; k++) {
            v->layers[l].linear[k] = widen(&m->layers[l].linear[k]);
            v->layers[l].bias[k] = widen(&m->layers[l].bias[k]);
        }
    }
    /* Head and embedding part: they are stored, rounded and read apart. */
    v->embed = widen(&m->embed);
    v->lm_head = widen(&m->lm_head);
    v->shape.tied_head = false;
    return v;
}

void view_free(struct model *m)
{
    for (int l = 0; l < m->shape.layers; l++) {
        for (int k = 0; k < LINEAR_COUNT; k++) {
            free(values(&m->layers[l].linear[k]));
            free(values(&m->layers[l].bias[k]));
        }
    }
    free(values(&m->embed));
    free(values(&m->lm_head));
    free(m->layers);
    free(m);
}

struct model *view_stored(const struct model *m, enum weight_format linears,
                          enum weight_format head)
{
    struct model *v = copy_model(m);
    for (int l = 0; l < v->shape.layers; l++) {
        for (int k = 0; k < LINEAR_COUNT; k++)
            store(&v->layers[l].linear[k], linears);
    }
    store(&v->embed, WEIGHT_BF16);
    store(&v->lm_head, head);
    return v;
}

/* ---- roundings ---- */

/* What an error belongs to: the activations that a kind of site reads, or the outputs of a site. */
enum place { PLACE_IN, PLACE_OUT, PLACE_U, PLACE_A, PLACE_B };

/* The factor 1 + d of element i. A number 1.xxx * 2^e is moved by up to 2^(e - 8), so by 2^-8 over
 * its significand; significands of random numbers are as dense in the logarithm. */
static float rounding(const struct view_noise *n, enum place place, int site, uint64_t i)
{
    struct lanes_rng r = {n->draw * 0x9E3779B97F4A7C15u + (uint64_t)site * 8 + (uint64_t)place};
    r.state = lanes_next(&r) + i;
    double d = VIEW_BF16_ROUNDING * (2.0 * lanes_unit(&r) - 1.0);
    return (float)(1.0 + (n->significands ? d * exp2(-lanes_unit(&r)) : d));
}

/* q, k, v read the same activations, as do gate and up. */
static int reads_as(int layers, int site)
{
    if (site >= SITE_LM_HEAD(layers))
        return site;
    int kind = site % LINEAR_COUNT;
    int first = kind <= LINEAR_V ? LINEAR_Q : kind == LINEAR_UP ? LINEAR_GATE : kind;
    return site - kind + first;
}

/* Rounds the columns of t as activations that `site` reads (or as `place` says), and its rows as
 * outputs of the site. */
static void round_columns(struct tensor *t, const struct view_noise *n, enum place place, int site)
{
    for (int64_t c = 0; c < t->cols; c++) {
        float f = rounding(n, place, site, (uint64_t)c);
        for (int64_t r = 0; r < t->rows; r++)
            values(t)[r * t->cols + c] *= f;
    }
}

static void round_rows(struct tensor *t, const struct view_noise *n, enum place place, int site)
{
    for (int64_t r = 0; r < t->rows; r++) {
        float f = rounding(n, place, site, (uint64_t)r);
        for (int64_t c = 0; c < t->cols; c++)
            values(t)[r * t->cols + c] *= f;
    }
}

static void round_values(struct tensor *t, const struct view_noise *n, enum place place, int site)
{
    for (size_t i = 0; i < tensor_count(t); i++)
        values(t)[i] *= rounding(n, place, site, i);
}

/* A vector [1, out] of a site's outputs. */
static void round_outputs(struct tensor *t, const struct view_noise *n, int site)
{
    if (t->data)
        round_columns(t, n, PLACE_OUT, site);
}

struct model *view_rounded(const struct model *m, const struct view_noise *noise)
{
    struct model *v = copy_model(m);
    int layers = v->shape.layers;
    for (int l = 0; l < layers; l++) {
        for (int k = 0; k < LINEAR_COUNT; k++) {
            int site = SITE_OF(l, k);
            round_columns(&v->layers[l].linear[k], noise, PLACE_IN, reads_as(layers, site));
            round_rows(&v->layers[l].linear[k], noise, PLACE_OUT, site);
            round_outputs(&v->layers[l].bias[k], noise, site);
        }
    }
    /* Logits are not rounded. */
    round_columns(&v->lm_head, noise, PLACE_IN, SITE_LM_HEAD(layers));
    return v;
}

/* ---- adapters ---- */

static struct lora *copy_lora(const struct lora *l)
{
    struct lora *v = lanes_alloc(1, sizeof *v);
    *v = *l;
    v->base_name = NULL;
    v->storage = NULL;
    v->modules = lanes_alloc((size_t)l->module_count, sizeof *v->modules);
    for (int i = 0; i < l->module_count; i++) {
        v->modules[i] = l->modules[i];
        v->modules[i].a = widen(&l->modules[i].a);
        v->modules[i].b = widen(&l->modules[i].b);
        v->modules[i].magnitude = widen(&l->modules[i].magnitude);
    }
    return v;
}

void view_lora_free(struct lora *l)
{
    for (int i = 0; i < l->module_count; i++) {
        free(values(&l->modules[i].a));
        free(values(&l->modules[i].b));
        free(values(&l->modules[i].magnitude));
    }
    free(l->modules);
    free(l);
}

struct lora *view_lora_rounded(const struct lora *l, const struct model_shape *s,
                               const struct view_noise *noise)
{
    struct lora *v = copy_lora(l);
    for (int i = 0; i < v->module_count; i++) {
        struct lora_module *m = &v->modules[i];
        if (m->site == SITE_EMBED(s->layers))
            continue; /* kept and computed in float32 */
        bool dora = m->magnitude.data != NULL;
        if (l->modules[i].a.dtype != DTYPE_BF16)
            round_values(&m->a, noise, PLACE_A, m->site);
        if (l->modules[i].b.dtype != DTYPE_BF16 || dora)
            round_values(&m->b, noise, PLACE_B, m->site);
        round_columns(&m->a, noise, PLACE_IN, reads_as(s->layers, m->site));
        round_rows(&m->a, noise, PLACE_U, m->site);
        if (m->site == SITE_LM_HEAD(s->layers))
            continue;
        round_rows(&m->b, noise, PLACE_OUT, m->site);
        round_outputs(&m->magnitude, noise, m->site);
    }
    return v;
}

struct lora *view_lora_scaled(const struct lora *l, float factor)
{
    struct lora *v = copy_lora(l);
    for (int i = 0; i < v->module_count; i++)
        v->modules[i].scale *= factor;
    return v;
}
