#include "engine/adapter/lora_bind.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/adapter/lora_config.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/model/safetensors.h"

#define CONFIG_FILE    "adapter_config.json"
#define TENSOR_FILE    "adapter_model.safetensors"
#define PREFIX         "base_model.model."
#define PATH_MAX_BYTES 256 /* a module's name */

/* What a tensor is to its module. A copy is the base's own embedding or head, which PEFT saves
 * beside adapters of these. */
enum role { ROLE_A, ROLE_B, ROLE_MAGNITUDE, ROLE_COUNT, ROLE_COPY };

static const struct ending {
    const char *text;
    enum role role;
    bool embedding; /* lora_embedding_A/B: the only form that binds to the embedding */
} endings[] = {
    {".lora_A.weight", ROLE_A, false},
    {".lora_B.weight", ROLE_B, false},
    {".lora_A.default.weight", ROLE_A, false},
    {".lora_B.default.weight", ROLE_B, false},
    {".lora_embedding_A", ROLE_A, true},
    {".lora_embedding_B", ROLE_B, true},
    {".lora_embedding_A.default", ROLE_A, true},
    {".lora_embedding_B.default", ROLE_B, true},
    {".lora_magnitude_vector", ROLE_MAGNITUDE, false},
    {".lora_magnitude_vector.weight", ROLE_MAGNITUDE, false},
    {".lora_magnitude_vector.default", ROLE_MAGNITUDE, false},
    {".lora_magnitude_vector.default.weight", ROLE_MAGNITUDE, false},
    {".base_layer.weight", ROLE_COPY, false},
    {".weight", ROLE_COPY, false},
};

/* The tensors of one site, while binding. */
struct slot {
    char path[PATH_MAX_BYTES];
    const struct safetensors_tensor *tensor[ROLE_COUNT];
};

struct binder {
    struct lora_config *config;
    const struct safetensors *file;
    const struct model *base; /* NULL: nothing to compare with */
    int layers;
    struct slot *slots; /* owned, [SITE_COUNT(layers)] */
    size_t copies;
    struct lora *lora;
    struct err *e;
};

/* ---- names ---- */

static const char *after(const char *s, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(s, prefix, n) == 0 ? s + n : NULL;
}

/* Splits "base_model.model.<path><ending>". */
static bool split_name(const char *name, char path[PATH_MAX_BYTES], const struct ending **ending)
{
    const char *rest = after(name, PREFIX);
    if (!rest)
        return false;
    size_t n = strlen(rest);
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        size_t k = strlen(endings[i].text);
        if (n <= k || n - k >= PATH_MAX_BYTES || strcmp(rest + n - k, endings[i].text) != 0)
            continue;
        memcpy(path, rest, n - k);
        path[n - k] = '\0';
        *ending = &endings[i];
        return true;
    }
    return false;
}

/* "12.self_attn.q_proj" -> layer and kind. */
static bool parse_layer(const char *s, int layers, int *site)
{
    static const char *const kinds[LINEAR_COUNT] = {
        ".self_attn.q_proj", ".self_attn.k_proj", ".self_attn.v_proj", ".self_attn.o_proj",
        ".mlp.gate_proj",    ".mlp.up_proj",      ".mlp.down_proj",
    };
    int layer = 0;
    int digits = 0;
    for (; s[digits] >= '0' && s[digits] <= '9' && digits < 5; digits++)
        layer = layer * 10 + (s[digits] - '0');
    if (digits == 0 || (s[0] == '0' && digits > 1) || layer >= layers)
        return false;
    for (int kind = 0; kind < LINEAR_COUNT; kind++) {
        if (strcmp(s + digits, kinds[kind]) == 0) {
            *site = SITE_OF(layer, kind);
            return true;
        }
    }
    return false;
}

/* Module path -> site; the prefixes are those that transformers gives text models, alone or inside
 * multimodal ones. */
static bool find_site(const char *path, int layers, int *site)
{
    static const char *const bodies[] = {"model.language_model.", "language_model.model.",
                                         "model."};
    if (strcmp(path, "lm_head") == 0 || strcmp(path, "language_model.lm_head") == 0) {
        *site = SITE_LM_HEAD(layers);
        return true;
    }
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        const char *rest = after(path, bodies[i]);
        if (rest && strcmp(rest, "embed_tokens") == 0) {
            *site = SITE_EMBED(layers);
            return true;
        }
        rest = rest ? after(rest, "layers.") : NULL;
        if (rest && parse_layer(rest, layers, site))
            return true;
    }
    return false;
}

/* ---- first pass: every tensor finds its place ---- */

static enum status no_place(const struct binder *b, const char *name)
{
    return err_set(b->e, STATUS_BAD_FILE, name,
                   TENSOR_FILE ": tensor %s has no place in the base model", name);
}

static enum status check_copy(struct binder *b, const struct safetensors_tensor *t, int site)
{
    bool head = site == SITE_LM_HEAD(b->layers);
    if (!head && site != SITE_EMBED(b->layers))
        return no_place(b, t->name);
    b->copies++;
    if (!b->base)
        return STATUS_OK;
    struct tensor copy;
    enum status st = safetensors_view(b->file, t, &copy, b->e);
    if (st != STATUS_OK)
        return st;
    if (tensor_equal(&copy, head ? &b->base->lm_head : &b->base->embed))
        return STATUS_OK;
    return err_set(b->e, STATUS_BAD_FILE, t->name,
                   TENSOR_FILE ": tensor %s differs from the base model's weight; adapters that "
                               "change it are not supported",
                   t->name);
}

static enum status place(struct binder *b, const struct safetensors_tensor *t)
{
    char path[PATH_MAX_BYTES];
    const struct ending *ending;
    int site;
    if (!split_name(t->name, path, &ending) || !find_site(path, b->layers, &site))
        return no_place(b, t->name);
    if (ending->role == ROLE_COPY)
        return check_copy(b, t, site);
    if (ending->role != ROLE_MAGNITUDE && ending->embedding != (site == SITE_EMBED(b->layers)))
        return no_place(b, t->name);
    struct slot *slot = &b->slots[site];
    if (slot->tensor[ending->role] || (slot->path[0] && strcmp(slot->path, path) != 0))
        return err_set(b->e, STATUS_BAD_FILE, t->name,
                       TENSOR_FILE ": tensor %s: another one has its place", t->name);
    slot->tensor[ending->role] = t;
    memcpy(slot->path, path, sizeof slot->path);
    return STATUS_OK;
}

/* ---- second pass: every site is complete, targeted and of the right shape ---- */

static enum status missing(const struct binder *b, const struct slot *s, const char *what)
{
    char name[PATH_MAX_BYTES + 64];
    snprintf(name, sizeof name, PREFIX "%s%s", s->path, what);
    return err_set(b->e, STATUS_BAD_FILE, name, TENSOR_FILE ": tensor %s is missing", name);
}

static enum status check_targeted(const struct binder *b, const char *path, const char *tensor)
{
    bool targeted;
    enum status st = lora_config_targets(b->config, path, &targeted, b->e);
    if (st == STATUS_OK && !targeted)
        st =
            err_set(b->e, STATUS_BAD_FILE, tensor,
                    TENSOR_FILE ": tensor %s: " CONFIG_FILE " does not target this module", tensor);
    return st;
}

static enum status check_complete(const struct binder *b, const struct slot *s, int site)
{
    bool embedding = site == SITE_EMBED(b->layers);
    if (embedding && b->config->dora)
        return err_set(b->e, STATUS_UNSUPPORTED, "use_dora",
                       CONFIG_FILE ": use_dora on %s is not supported", s->path);
    const struct safetensors_tensor *m = s->tensor[ROLE_MAGNITUDE];
    if (m && !b->config->dora)
        return err_set(b->e, STATUS_BAD_FILE, m->name,
                       TENSOR_FILE ": tensor %s is there, but use_dora is not set", m->name);
    if (!s->tensor[ROLE_A])
        return missing(b, s, embedding ? ".lora_embedding_A" : ".lora_A.weight");
    if (!s->tensor[ROLE_B])
        return missing(b, s, embedding ? ".lora_embedding_B" : ".lora_B.weight");
    if (b->config->dora && !m)
        return missing(b, s, ".lora_magnitude_vector");
    return check_targeted(b, s->path, s->tensor[ROLE_A]->name);
}

#define ANY (-1)

static const char *size_text(int n, char out[16])
{
    if (n == ANY)
        memcpy(out, "any", 4);
    else
        snprintf(out, 16, "%d", n);
    return out;
}

static enum status wrong_shape(const struct binder *b, const struct safetensors_tensor *t, int rows,
                               int cols)
{
    char got[200];
    char r[16];
    char c[16];
    const char *const have = safetensors_shape_text(t, got, sizeof got);
    if (rows == 0)
        return err_set(b->e, STATUS_BAD_FILE, t->name,
                       TENSOR_FILE ": tensor %s: shape %s, expected [%s]", t->name, have,
                       size_text(cols, c));
    return err_set(b->e, STATUS_BAD_FILE, t->name,
                   TENSOR_FILE ": tensor %s: shape %s, expected [%s, %s]", t->name, have,
                   size_text(rows, r), size_text(cols, c));
}

static bool fits(int64_t have, int want)
{
    return want == ANY ? have > 0 && have <= INT32_MAX : have == want;
}

/* Checks for shape [rows, cols], or [cols] where rows is 0; ANY size is any above 0. */
static enum status view(const struct binder *b, const struct safetensors_tensor *t, int rows,
                        int cols, struct tensor *out)
{
    struct tensor v;
    enum status st = safetensors_view(b->file, t, &v, b->e);
    if (st != STATUS_OK)
        return st;
    if (t->rank != (rows == 0 ? 1 : 2) || !fits(v.cols, cols) || (rows != 0 && !fits(v.rows, rows)))
        return wrong_shape(b, t, rows, cols);
    size_t at;
    if (!tensor_is_finite(&v, &at))
        return err_set(b->e, STATUS_BAD_FILE, t->name,
                       TENSOR_FILE ": tensor %s: element %zu is not a finite number", t->name, at);
    *out = v;
    return STATUS_OK;
}

static enum status bind_tensors(const struct binder *b, const struct slot *s, struct lora_module *m)
{
    int in = ANY;
    int out = ANY;
    if (b->base)
        model_site_dims(&b->base->shape, m->site, &in, &out);
    enum status st = view(b, s->tensor[ROLE_A], ANY, in, &m->a);
    if (st == STATUS_OK && m->a.rows > LIMIT_ADAPTER_RANK)
        st = err_set(b->e, STATUS_LIMIT, s->tensor[ROLE_A]->name,
                     TENSOR_FILE ": tensor %s: rank %lld, at most %d is supported",
                     s->tensor[ROLE_A]->name, (long long)m->a.rows, LIMIT_ADAPTER_RANK);
    if (st == STATUS_OK)
        st = view(b, s->tensor[ROLE_B], out, (int)m->a.rows, &m->b);
    if (st == STATUS_OK && s->tensor[ROLE_MAGNITUDE])
        st = view(b, s->tensor[ROLE_MAGNITUDE], 0, (int)m->b.rows, &m->magnitude);
    if (st != STATUS_OK)
        return st;
    m->rank = (int)m->a.rows;
    m->in = (int)m->a.cols;
    m->out = (int)m->b.rows;
    return STATUS_OK;
}

static enum status bind_module(struct binder *b, int site)
{
    const struct slot *s = &b->slots[site];
    struct lora_module m = {.site = site};
    double rank;
    double scale;
    enum status st = check_complete(b, s, site);
    if (st == STATUS_OK)
        st = bind_tensors(b, s, &m);
    if (st == STATUS_OK)
        st = lora_config_module(b->config, s->path, &rank, &scale, b->e);
    if (st != STATUS_OK)
        return st;
    if (rank != m.rank)
        return err_set(b->e, STATUS_BAD_FILE, s->tensor[ROLE_A]->name,
                       TENSOR_FILE ": tensor %s has rank %d, " CONFIG_FILE " says %g",
                       s->tensor[ROLE_A]->name, m.rank, rank);
    m.scale = (float)scale;
    if (!isfinite(m.scale))
        return err_set(b->e, STATUS_BAD_FILE, "lora_alpha",
                       CONFIG_FILE ": the scale of %s is not finite", s->path);
    struct lora *l = b->lora;
    l->modules[l->module_count++] = m;
    l->rank_max = m.rank > l->rank_max ? m.rank : l->rank_max;
    l->bytes += tensor_bytes(&m.a) + tensor_bytes(&m.b);
    if (m.magnitude.data)
        l->bytes += tensor_bytes(&m.magnitude);
    return STATUS_OK;
}

/* One adapter shared by the embedding and a tied head is other mathematics than two. Without an
 * adapter on either the wish changes nothing. */
static enum status check_tying(const struct binder *b)
{
    if (!b->config->tying ||
        (!b->slots[SITE_EMBED(b->layers)].path[0] && !b->slots[SITE_LM_HEAD(b->layers)].path[0]))
        return STATUS_OK;
    return err_set(b->e, STATUS_UNSUPPORTED, "ensure_weight_tying",
                   CONFIG_FILE ": ensure_weight_tying with an adapter on the embedding or the head "
                               "is not supported");
}

static enum status bind_all(struct binder *b)
{
    if (b->file->count == 0)
        return err_set(b->e, STATUS_BAD_FILE, TENSOR_FILE, TENSOR_FILE ": no tensors");
    enum status st = STATUS_OK;
    for (size_t i = 0; i < b->file->count && st == STATUS_OK; i++)
        st = place(b, &b->file->tensors[b->file->by_name[i]]);
    if (st == STATUS_OK)
        st = check_tying(b);
    int modules = 0;
    for (int site = 0; site < SITE_COUNT(b->layers); site++)
        modules += b->slots[site].path[0] != '\0';
    if (st != STATUS_OK)
        return st;
    if (modules == 0)
        return err_set(b->e, STATUS_BAD_FILE, TENSOR_FILE, TENSOR_FILE ": no LoRA tensors");
    b->lora->modules = mem_calloc((size_t)modules, sizeof *b->lora->modules);
    if (!b->lora->modules)
        return err_set(b->e, STATUS_NO_MEMORY, TENSOR_FILE, "out of memory");
    for (int site = 0; site < SITE_COUNT(b->layers) && st == STATUS_OK; site++) {
        if (b->slots[site].path[0])
            st = bind_module(b, site);
    }
    return st;
}

/* ---- memory ---- */

static unsigned char *move_tensor(struct tensor *t, unsigned char *to)
{
    if (!t->data)
        return to;
    memcpy(to, t->data, tensor_bytes(t));
    t->data = to;
    return to + tensor_bytes(t);
}

/* The file's memory becomes the adapter's. Copies of base weights, which may be most of it, are
 * left behind; float32 first in each module keeps every tensor aligned to its own size. */
static enum status keep_memory(struct binder *b, struct safetensors *file)
{
    struct lora *l = b->lora;
    if (b->copies == 0) {
        l->storage = file->memory;
        file->memory = NULL;
        return STATUS_OK;
    }
    unsigned char *to = mem_alloc_aligned(l->bytes);
    if (!to)
        return err_set(b->e, STATUS_NO_MEMORY, TENSOR_FILE, "out of memory");
    l->storage = to;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < l->module_count; i++) {
            struct tensor *all[] = {&l->modules[i].a, &l->modules[i].b, &l->modules[i].magnitude};
            for (int k = 0; k < 3; k++) {
                if ((all[k]->dtype == DTYPE_F32) == (pass == 0))
                    to = move_tensor(all[k], to);
            }
        }
    }
    return STATUS_OK;
}

/* ---- the whole ---- */

static enum status keep_alora(const struct binder *b)
{
    static const char field[] = "alora_invocation_tokens";
    const int32_t *tokens = b->config->alora_tokens;
    int n = b->config->alora_token_count;
    if (n == 0)
        return STATUS_OK;
    if (b->slots[SITE_EMBED(b->layers)].tensor[ROLE_A])
        return err_set(b->e, STATUS_UNSUPPORTED, field,
                       CONFIG_FILE ": %s does not go with a LoRA on the embedding", field);
    for (int i = 0; b->base && i < n; i++)
        if (tokens[i] >= b->base->shape.vocab)
            return err_set(b->e, STATUS_BAD_FILE, field,
                           CONFIG_FILE ": %s: token %d, but the base's vocabulary has %d", field,
                           tokens[i], b->base->shape.vocab);
    b->lora->alora_tokens = mem_alloc((size_t)n, sizeof *tokens);
    if (!b->lora->alora_tokens)
        return err_set(b->e, STATUS_NO_MEMORY, NULL, "out of memory");
    memcpy(b->lora->alora_tokens, tokens, (size_t)n * sizeof *tokens);
    b->lora->alora_token_count = n;
    return STATUS_OK;
}

static enum status build(struct binder *b, struct safetensors *file)
{
    b->slots = mem_calloc((size_t)SITE_COUNT(b->layers), sizeof *b->slots);
    b->lora = mem_calloc(1, sizeof *b->lora);
    if (!b->slots || !b->lora)
        return err_set(b->e, STATUS_NO_MEMORY, NULL, "out of memory");
    if (b->config->base_name) {
        b->lora->base_name = mem_strdup(b->config->base_name);
        if (!b->lora->base_name)
            return err_set(b->e, STATUS_NO_MEMORY, NULL, "out of memory");
    }
    enum status st = bind_all(b);
    if (st == STATUS_OK)
        st = keep_alora(b);
    return st == STATUS_OK ? keep_memory(b, file) : st;
}

enum status lora_bind(struct lora_config *config, struct safetensors *file,
                      const struct model *base, struct lora **out, struct err *e)
{
    struct binder b = {.config = config,
                       .file = file,
                       .base = base,
                       .layers = base ? base->shape.layers : LIMIT_MODEL_LAYERS,
                       .e = e};
    enum status st = build(&b, file);
    mem_free(b.slots);
    if (st != STATUS_OK) {
        lora_free(b.lora);
        return st;
    }
    *out = b.lora;
    return STATUS_OK;
}

/* ---- one tensor alone, for the report of a dry run ---- */

static enum status look_at_shape(const struct binder *b, const struct safetensors_tensor *t,
                                 const char *path, enum role role, int site)
{
    double rank, scale;
    int in, out;
    model_site_dims(&b->base->shape, site, &in, &out);
    enum status st = lora_config_module(b->config, path, &rank, &scale, b->e);
    if (st != STATUS_OK)
        return st;
    int rows = role == ROLE_A ? (int)rank : role == ROLE_B ? out : 0;
    int cols = role == ROLE_A ? in : role == ROLE_B ? (int)rank : out;
    bool fit = t->rank == (rows ? 2 : 1) && t->shape[t->rank - 1] == cols &&
               (rows == 0 || t->shape[0] == rows);
    return fit ? STATUS_OK : wrong_shape(b, t, rows, cols);
}

static enum status look(const struct binder *b, const struct safetensors_tensor *t)
{
    char path[PATH_MAX_BYTES];
    const struct ending *ending;
    int site;
    if (!split_name(t->name, path, &ending) || !find_site(path, b->layers, &site))
        return no_place(b, t->name);
    bool embed = site == SITE_EMBED(b->layers);
    if (ending->role == ROLE_COPY)
        return embed || site == SITE_LM_HEAD(b->layers) ? STATUS_OK : no_place(b, t->name);
    if (ending->role == ROLE_MAGNITUDE ? embed || !b->config->dora : ending->embedding != embed)
        return no_place(b, t->name);
    if (t->dtype != SAFETENSORS_F32 && t->dtype != SAFETENSORS_F16 && t->dtype != SAFETENSORS_BF16)
        return err_set(b->e, STATUS_BAD_FILE, t->name,
                       TENSOR_FILE ": tensor %s: type %s is no float", t->name,
                       safetensors_dtype_name(t->dtype));
    enum status st = check_targeted(b, path, t->name);
    return st == STATUS_OK ? look_at_shape(b, t, path, ending->role, site) : st;
}

enum status lora_bind_look(struct lora_config *config, const struct safetensors_tensor *t,
                           const struct model *base, struct err *e)
{
    struct binder b = {.config = config, .base = base, .layers = base->shape.layers, .e = e};
    return look(&b, t);
}
