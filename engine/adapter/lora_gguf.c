#include "engine/adapter/lora_gguf.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/checked.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"

#define ANY       (-1)
#define ALORA_KEY "adapter.alora.invocation_tokens"

/* What the converter calls an architecture; Mistral is a Llama to it. */
static const char *const arch_names[ARCH_COUNT] = {
    [ARCH_LLAMA] = "llama",
    [ARCH_MISTRAL] = "llama",
    [ARCH_QWEN2] = "qwen2",
    [ARCH_QWEN3] = "qwen3",
};

static const char *const linear_names[LINEAR_COUNT] = {
    [LINEAR_Q] = "attn_q",      [LINEAR_K] = "attn_k",      [LINEAR_V] = "attn_v",
    [LINEAR_O] = "attn_output", [LINEAR_GATE] = "ffn_gate", [LINEAR_UP] = "ffn_up",
    [LINEAR_DOWN] = "ffn_down",
};

struct pair {
    const struct gguf_tensor *a;
    const struct gguf_tensor *b;
};

struct binder {
    const struct gguf *g;
    const struct model *base; /* NULL: nothing to compare with */
    int layers;
    double alpha;
    struct pair *pairs; /* owned, [SITE_COUNT(layers)] */
    struct lora *lora;
    struct err *e;
};

/* ---- metadata: what changes the mathematics is honoured or refused ---- */

static enum status refuse_key(const struct gguf *g, enum status st, const char *key,
                              const char *why, struct err *e)
{
    return err_set(e, st, key, "%s: %s %s", g->file, key, why);
}

static enum status check_arch(const struct gguf *g, const struct model *base, struct err *e)
{
    static const char key[] = "general.architecture";
    const struct gguf_value *v = gguf_find(g, key);
    const char *text;
    size_t n;
    if (!gguf_text(v, &text, &n))
        return refuse_key(g, STATUS_BAD_FILE, key, "must be there and a string", e);
    if (!base || gguf_text_is(v, arch_names[base->shape.arch]))
        return STATUS_OK;
    return err_set(e, STATUS_BAD_FILE, key, "%s: %s is \"%.*s\", the base model is \"%s\"", g->file,
                   key, (int)(n < 32 ? n : 32), text, arch_names[base->shape.arch]);
}

/* Keys under "adapter." that are not known may say anything. */
static enum status check_keys(const struct gguf *g, struct err *e)
{
    static const char *const known[] = {"adapter.type", "adapter.lora.alpha",
                                        "adapter.lora.task_name", "adapter.lora.prompt_prefix",
                                        ALORA_KEY};
    for (size_t i = 0; i < g->value_count; i++) {
        const struct gguf_value *v = &g->values[i];
        bool listed = strncmp(v->key, "adapter.", 8) != 0;
        for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
            listed = listed || strcmp(v->key, known[k]) == 0;
        if (!listed)
            return refuse_key(g, STATUS_UNSUPPORTED, v->key,
                              "is not known and may change what the adapter computes", e);
    }
    return STATUS_OK;
}

static enum status check_metadata(const struct gguf *g, const struct model *base, double *alpha,
                                  struct err *e)
{
    static const char alpha_key[] = "adapter.lora.alpha";
    if (!gguf_text_is(gguf_find(g, "general.type"), "adapter"))
        return refuse_key(g, STATUS_BAD_FILE, "general.type", "must be \"adapter\"", e);
    if (!gguf_text_is(gguf_find(g, "adapter.type"), "lora"))
        return refuse_key(g, STATUS_UNSUPPORTED, "adapter.type", "must be \"lora\"", e);
    enum status st = check_arch(g, base, e);
    if (st == STATUS_OK)
        st = check_keys(g, e);
    if (st != STATUS_OK)
        return st;
    const struct gguf_value *v = gguf_find(g, alpha_key);
    if (!v || !gguf_float(v, alpha) || !isfinite(*alpha))
        return refuse_key(g, STATUS_BAD_FILE, alpha_key, "must be there and a finite number", e);
    return STATUS_OK;
}

/* The base that the adapter names, as its last part is compared with directories. */
static enum status read_base_name(const struct gguf *g, struct lora *l, struct err *e)
{
    static const char *const keys[] = {"general.base_model.0.repo_url",
                                       "general.base_model.0.name"};
    const char *text;
    size_t n;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (!gguf_text(gguf_find(g, keys[i]), &text, &n) || n == 0 || memchr(text, 0, n) ||
            n > LIMIT_GGUF_NAME_BYTES)
            continue;
        l->base_name = mem_strndup(text, n);
        return l->base_name ? STATUS_OK : err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    }
    return STATUS_OK;
}

/* ---- names ---- */

static enum status no_place(const struct binder *b, const char *name)
{
    return err_set(b->e, STATUS_BAD_FILE, name, "%s: tensor %s has no place in the base model",
                   b->g->file, name);
}

/* "blk.12.attn_q.weight" of n bytes -> site. */
static bool find_site(const char *name, size_t n, int layers, int *site)
{
    char text[LIMIT_GGUF_NAME_BYTES + 1];
    char wanted[64];
    int layer = 0, at = 4;
    memcpy(text, name, n);
    text[n] = '\0';
    if (strcmp(text, "output.weight") == 0) {
        *site = SITE_LM_HEAD(layers);
        return true;
    }
    if (strcmp(text, "token_embd.weight") == 0) {
        *site = SITE_EMBED(layers);
        return true;
    }
    if (strncmp(text, "blk.", 4) != 0)
        return false;
    for (; text[at] >= '0' && text[at] <= '9' && at < 9; at++)
        layer = layer * 10 + (text[at] - '0');
    if (at == 4 || (text[4] == '0' && at > 5) || layer >= layers)
        return false;
    for (int kind = 0; kind < LINEAR_COUNT; kind++) {
        snprintf(wanted, sizeof wanted, ".%s.weight", linear_names[kind]);
        if (strcmp(text + at, wanted) == 0) {
            *site = SITE_OF(layer, kind);
            return true;
        }
    }
    return false;
}

static bool find_place(const struct gguf_tensor *t, int layers, int *site, bool *is_a)
{
    size_t n = strlen(t->name);
    if (n < 7 || (strcmp(t->name + n - 7, ".lora_a") != 0 && strcmp(t->name + n - 7, ".lora_b")))
        return false;
    *is_a = t->name[n - 1] == 'a';
    return find_site(t->name, n - 7, layers, site);
}

static enum status place_all(struct binder *b, int *modules)
{
    *modules = 0;
    for (size_t i = 0; i < b->g->count; i++) {
        const struct gguf_tensor *t = &b->g->tensors[i];
        int site;
        bool is_a;
        if (!find_place(t, b->layers, &site, &is_a))
            return no_place(b, t->name);
        struct pair *p = &b->pairs[site];
        *modules += !p->a && !p->b;
        if (is_a)
            p->a = t;
        else
            p->b = t;
    }
    if (*modules == 0)
        return err_set(b->e, STATUS_BAD_FILE, b->g->file, "%s: no LoRA tensors", b->g->file);
    return STATUS_OK;
}

/* ---- shapes ---- */

static enum status wrong_shape(const struct binder *b, const struct gguf_tensor *t, int rows,
                               int cols)
{
    char have[96];
    char r[16] = "any", c[16] = "any";
    if (rows != ANY)
        snprintf(r, sizeof r, "%d", rows);
    if (cols != ANY)
        snprintf(c, sizeof c, "%d", cols);
    return err_set(b->e, STATUS_BAD_FILE, t->name, "%s: tensor %s: shape %s, expected [%s, %s]",
                   b->g->file, t->name, gguf_shape_text(t, have, sizeof have), r, c);
}

static bool fits(int64_t have, int want)
{
    return want == ANY ? have <= LIMIT_MODEL_VOCAB : have == want;
}

static enum status check_shape(const struct binder *b, const struct gguf_tensor *t, int rows,
                               int cols)
{
    if (t->rank == 2 && fits(t->shape[0], rows) && fits(t->shape[1], cols))
        return STATUS_OK;
    return wrong_shape(b, t, rows, cols);
}

static void site_dims(const struct binder *b, int site, int *in, int *out)
{
    *in = *out = ANY;
    if (b->base)
        model_site_dims(&b->base->shape, site, in, out);
}

/* Of lora_a; the embedding's lies the other way. */
static enum status check_a(const struct binder *b, const struct gguf_tensor *t, int site, int *rank,
                           int *in)
{
    int want_in, out;
    bool embed = site == SITE_EMBED(b->layers);
    site_dims(b, site, &want_in, &out);
    enum status st = embed ? check_shape(b, t, want_in, ANY) : check_shape(b, t, ANY, want_in);
    if (st != STATUS_OK)
        return st;
    *rank = (int)t->shape[embed ? 1 : 0];
    *in = (int)t->shape[embed ? 0 : 1];
    if (*rank > LIMIT_ADAPTER_RANK)
        return err_set(b->e, STATUS_LIMIT, t->name,
                       "%s: tensor %s: rank %d, at most %d is supported", b->g->file, t->name,
                       *rank, LIMIT_ADAPTER_RANK);
    return STATUS_OK;
}

static enum status check_pair(const struct binder *b, int site, struct lora_module *m)
{
    const struct pair *p = &b->pairs[site];
    int in, out;
    if (!p->a || !p->b) {
        const char *have = p->a ? p->a->name : p->b->name;
        char name[LIMIT_GGUF_NAME_BYTES + 1];
        snprintf(name, sizeof name, "%.*s%c", (int)strlen(have) - 1, have, p->a ? 'b' : 'a');
        return err_set(b->e, STATUS_BAD_FILE, name, "%s: tensor %s is missing", b->g->file, name);
    }
    *m = (struct lora_module){.site = site};
    site_dims(b, site, &in, &out);
    enum status st = check_a(b, p->a, site, &m->rank, &m->in);
    if (st == STATUS_OK)
        st = check_shape(b, p->b, out, m->rank);
    if (st != STATUS_OK)
        return st;
    m->out = (int)p->b->shape[0];
    m->scale = (float)(b->alpha == 0.0 ? 1.0 : b->alpha / m->rank);
    return STATUS_OK;
}

/* ---- values ---- */

/* Heads whose rows are in the converter's order; 0: rows are as they were. */
static int swapped_heads(const struct binder *b, int site)
{
    const struct model_shape *s = b->base ? &b->base->shape : NULL;
    if (!s || (s->arch != ARCH_LLAMA && s->arch != ARCH_MISTRAL) || site >= SITE_LM_HEAD(b->layers))
        return 0;
    int kind = site % LINEAR_COUNT;
    return kind == LINEAR_Q ? s->heads : kind == LINEAR_K ? s->kv_heads : 0;
}

static enum dtype dtype_of(const struct gguf_tensor *t)
{
    return t->type == GGUF_TYPE_F16    ? DTYPE_F16
           : t->type == GGUF_TYPE_BF16 ? DTYPE_BF16
                                       : DTYPE_F32;
}

/* Values of one row of the file, in the type they are kept in. */
static void copy_row(const struct gguf *g, const struct gguf_tensor *t, int64_t row, void *to)
{
    size_t cols = (size_t)t->shape[1];
    if (gguf_block(t->type) > 1)
        gguf_read_f32(g, t, (size_t)row * cols, cols, to);
    else
        memcpy(to, g->data + t->begin + (size_t)row * cols * dtype_bytes(dtype_of(t)),
               cols * dtype_bytes(dtype_of(t)));
}

/* Row of the file that holds row `row` of the model, where each head's rows are (pair, half). */
static int64_t row_in_file(int64_t row, int64_t head_rows)
{
    int64_t in_head = row % head_rows, half = head_rows / 2;
    return row - in_head + in_head % half * 2 + in_head / half;
}

static enum status check_finite(const struct binder *b, const struct gguf_tensor *from,
                                const struct tensor *t)
{
    size_t at;
    if (tensor_is_finite(t, &at))
        return STATUS_OK;
    return err_set(b->e, STATUS_BAD_FILE, from->name,
                   "%s: tensor %s: element %zu is not a finite number", b->g->file, from->name, at);
}

static enum status keep_rows(const struct binder *b, const struct gguf_tensor *from, int heads,
                             unsigned char *to, struct tensor *out)
{
    *out = (struct tensor){to, dtype_of(from), from->shape[0], from->shape[1]};
    size_t row_bytes = (size_t)out->cols * dtype_bytes(out->dtype);
    for (int64_t r = 0; r < out->rows; r++)
        copy_row(b->g, from, heads ? row_in_file(r, out->rows / heads) : r,
                 to + (size_t)r * row_bytes);
    return check_finite(b, from, out);
}

/* The embedding's lora_a, [V, R] in the file. */
static enum status keep_turned(const struct binder *b, const struct gguf_tensor *from,
                               unsigned char *to, struct tensor *out)
{
    float row[LIMIT_ADAPTER_RANK];
    *out = (struct tensor){to, dtype_of(from), from->shape[1], from->shape[0]};
    size_t size = dtype_bytes(out->dtype);
    for (int64_t v = 0; v < out->cols; v++) {
        copy_row(b->g, from, v, row);
        for (int64_t r = 0; r < out->rows; r++)
            memcpy(to + (size_t)(r * out->cols + v) * size, (const char *)row + (size_t)r * size,
                   size);
    }
    return check_finite(b, from, out);
}

static bool kept_bytes(const struct gguf_tensor *t, size_t *sum)
{
    size_t bytes;
    return checked_mul((size_t)t->shape[0], (size_t)t->shape[1], &bytes) &&
           checked_mul(bytes, dtype_bytes(dtype_of(t)), &bytes) && checked_add(*sum, bytes, sum);
}

/* float32 first, so that every tensor is aligned to its own size. */
static enum status keep_all(struct binder *b)
{
    struct lora *l = b->lora;
    size_t bytes = 0;
    for (int i = 0; i < l->module_count; i++) {
        const struct pair *p = &b->pairs[l->modules[i].site];
        if (!kept_bytes(p->a, &bytes) || !kept_bytes(p->b, &bytes))
            return err_set(b->e, STATUS_BAD_FILE, p->a->name, "%s: tensor %s: size overflows",
                           b->g->file, p->a->name);
    }
    if (bytes > LIMIT_ADAPTER_BYTES)
        return err_set(b->e, STATUS_LIMIT, b->g->file,
                       "%s: %zu bytes in memory, at most %llu are supported", b->g->file, bytes,
                       LIMIT_ADAPTER_BYTES);
    unsigned char *to = l->storage = mem_alloc_aligned(bytes);
    if (!to)
        return err_set(b->e, STATUS_NO_MEMORY, b->g->file, "out of memory");
    l->bytes = bytes;
    enum status st = STATUS_OK;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < l->module_count && st == STATUS_OK; i++) {
            struct lora_module *m = &l->modules[i];
            const struct pair *p = &b->pairs[m->site];
            if ((dtype_of(p->a) == DTYPE_F32) == (pass == 0)) {
                st = m->site == SITE_EMBED(b->layers) ? keep_turned(b, p->a, to, &m->a)
                                                      : keep_rows(b, p->a, 0, to, &m->a);
                to += tensor_bytes(&m->a);
            }
            if (st == STATUS_OK && (dtype_of(p->b) == DTYPE_F32) == (pass == 0)) {
                st = keep_rows(b, p->b, swapped_heads(b, m->site), to, &m->b);
                to += tensor_bytes(&m->b);
            }
        }
    }
    return st;
}

/* ---- the whole ---- */

/* The sequence from which an activated LoRA acts; empty: it always does. */
static enum status keep_alora(const struct binder *b)
{
    const struct gguf_value *v = gguf_find(b->g, ALORA_KEY);
    struct lora *l = b->lora;
    if (!v || (v->is_array && v->count == 0))
        return STATUS_OK;
    if (!v->is_array || v->count > LIMIT_ALORA_TOKENS)
        return refuse_key(b->g, STATUS_BAD_FILE, ALORA_KEY, "must be a short list of tokens", b->e);
    if (b->pairs[SITE_EMBED(b->layers)].a)
        return refuse_key(b->g, STATUS_UNSUPPORTED, ALORA_KEY,
                          "does not go with a LoRA on the embedding", b->e);
    l->alora_tokens = mem_alloc(v->count, sizeof *l->alora_tokens);
    if (!l->alora_tokens)
        return err_set(b->e, STATUS_NO_MEMORY, NULL, "out of memory");
    int64_t most = b->base ? b->base->shape.vocab : LIMIT_MODEL_VOCAB;
    for (size_t i = 0; i < v->count; i++) {
        int64_t token;
        if (!gguf_integer(v, i, &token) || token < 0 || token >= most)
            return refuse_key(b->g, STATUS_BAD_FILE, ALORA_KEY,
                              "holds what is no token of the base", b->e);
        l->alora_tokens[i] = (int32_t)token;
    }
    l->alora_token_count = (int)v->count;
    return STATUS_OK;
}

static enum status bind_all(struct binder *b)
{
    int modules;
    enum status st = place_all(b, &modules);
    if (st != STATUS_OK)
        return st;
    struct lora *l = b->lora;
    l->modules = mem_calloc((size_t)modules, sizeof *l->modules);
    if (!l->modules)
        return err_set(b->e, STATUS_NO_MEMORY, NULL, "out of memory");
    for (int site = 0; site < SITE_COUNT(b->layers) && st == STATUS_OK; site++) {
        if (!b->pairs[site].a && !b->pairs[site].b)
            continue;
        struct lora_module *m = &l->modules[l->module_count++];
        st = check_pair(b, site, m);
        l->rank_max = m->rank > l->rank_max ? m->rank : l->rank_max;
    }
    return st == STATUS_OK ? keep_all(b) : st;
}

enum status lora_gguf_bind(const struct gguf *g, const struct model *base, struct lora **out,
                           struct err *e)
{
    struct binder b = {
        .g = g, .base = base, .layers = base ? base->shape.layers : LIMIT_MODEL_LAYERS, .e = e};
    enum status st = check_metadata(g, base, &b.alpha, e);
    if (st != STATUS_OK)
        return st;
    b.pairs = mem_calloc((size_t)SITE_COUNT(b.layers), sizeof *b.pairs);
    b.lora = mem_calloc(1, sizeof *b.lora);
    if (b.pairs && b.lora)
        st = read_base_name(g, b.lora, e);
    else
        st = err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    if (st == STATUS_OK)
        st = bind_all(&b);
    if (st == STATUS_OK)
        st = keep_alora(&b);
    mem_free(b.pairs);
    if (st != STATUS_OK) {
        lora_free(b.lora);
        return st;
    }
    *out = b.lora;
    return STATUS_OK;
}

enum status lora_gguf_look(const struct gguf *g, const struct gguf_tensor *t,
                           const struct model *base, struct err *e)
{
    struct binder b = {.g = g, .base = base, .layers = base->shape.layers, .e = e};
    int site, in, out, rank;
    bool is_a;
    if (!find_place(t, b.layers, &site, &is_a))
        return no_place(&b, t->name);
    site_dims(&b, site, &in, &out);
    return is_a ? check_a(&b, t, site, &rank, &in) : check_shape(&b, t, out, ANY);
}
