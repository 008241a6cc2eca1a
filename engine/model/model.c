#include "engine/model/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/log.h"
#include "engine/base/mem.h"
#include "engine/model/hf_config.h"
#include "engine/model/safetensors.h"

#define SINGLE_FILE    "model.safetensors"
#define INDEX_FILE     "model.safetensors.index.json"
#define NAME_MAX_BYTES 256

struct shard {
    struct safetensors *st; /* owned */
    bool *used;             /* owned, [st->count]: bound to a weight */
};

struct model_files {
    struct shard *shards; /* owned, [count] */
    size_t count;
};

/* While opening. */
struct loader {
    struct file_root root;
    struct hf_config config;
    struct model *m;
    const char *body; /* in front of "layers.0..." */
    const char *head; /* in front of "lm_head.weight" */
    const struct progress *progress;
    struct err *e;
};

static const char *const linear_names[LINEAR_COUNT] = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj",
};

/* ---- the files ---- */

static void files_free(struct model_files *f)
{
    if (!f)
        return;
    for (size_t i = 0; i < f->count; i++) {
        safetensors_free(f->shards[i].st);
        mem_free(f->shards[i].used);
    }
    mem_free(f->shards);
    mem_free(f);
}

static enum status map_shard(struct loader *l, const char *name, struct shard *out)
{
    int fd;
    enum status st = file_open(&l->root, name, &fd, NULL, l->e);
    if (st != STATUS_OK)
        return st;
    st = safetensors_map(fd, name, &out->st, l->e);
    close(fd);
    if (st != STATUS_OK)
        return st;
    out->used = mem_calloc(out->st->count, sizeof *out->used);
    if (!out->used)
        return err_set(l->e, STATUS_NO_MEMORY, name, "%s: out of memory", name);
    return STATUS_OK;
}

/* One string of the index: which file a tensor is in. */
struct place {
    const char *tensor;
    const char *file;
};

static int compare_places(const void *a, const void *b)
{
    return strcmp(((const struct place *)a)->file, ((const struct place *)b)->file);
}

/* Plain names only: no directories, nothing hidden. */
static bool is_shard_name(const char *s)
{
    static const char ending[] = ".safetensors";
    size_t n = strlen(s);
    return n > sizeof ending - 1 && s[0] != '.' && !strchr(s, '/') &&
           strcmp(s + n - (sizeof ending - 1), ending) == 0;
}

static enum status read_places(const cJSON *map, struct place *places, struct err *e)
{
    size_t n = 0;
    for (const cJSON *v = map->child; v; v = v->next) {
        if (!cJSON_IsString(v) || !is_shard_name(v->valuestring))
            return err_set(e, STATUS_BAD_FILE, v->string,
                           INDEX_FILE ": tensor %s: \"%.64s\" is no plain file name ending in "
                                      ".safetensors",
                           v->string, cJSON_IsString(v) ? v->valuestring : "");
        places[n++] = (struct place){v->string, v->valuestring};
    }
    qsort(places, n, sizeof *places, compare_places);
    return STATUS_OK;
}

/* The index and a file must say the same: each tensor of one is in the other. */
static enum status check_shard(const struct safetensors *st, const struct place *places, size_t n,
                               struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (!safetensors_find(st, places[i].tensor))
            return err_set(e, STATUS_BAD_FILE, places[i].tensor,
                           "%s: tensor %s is missing, " INDEX_FILE " says it is there", st->file,
                           places[i].tensor);
    }
    if (st->count == n)
        return STATUS_OK;
    return err_set(e, STATUS_BAD_FILE, st->file, "%s: holds %zu tensors, " INDEX_FILE " lists %zu",
                   st->file, st->count, n);
}

static void report(const struct loader *l, size_t done, size_t total)
{
    if (l->progress && l->progress->fn)
        l->progress->fn(l->progress->ctx, "map weights", done, total);
}

static enum status map_shards(struct loader *l, struct model_files *f, const struct place *places,
                              size_t n)
{
    for (size_t from = 0, to; from < n; from = to) {
        to = from + 1;
        while (to < n && strcmp(places[to].file, places[from].file) == 0)
            to++;
        if (f->count == LIMIT_MODEL_SHARDS)
            return err_set(l->e, STATUS_LIMIT, INDEX_FILE, INDEX_FILE ": more than %d files",
                           LIMIT_MODEL_SHARDS);
        struct shard *s = &f->shards[f->count++];
        enum status st = map_shard(l, places[from].file, s);
        if (st == STATUS_OK)
            st = check_shard(s->st, places + from, to - from, l->e);
        if (st != STATUS_OK)
            return st;
        report(l, to, n);
    }
    return STATUS_OK;
}

static enum status open_index(struct loader *l, struct model_files *f)
{
    char *text;
    size_t n;
    enum status st =
        file_read(&l->root, INDEX_FILE, LIMIT_CONFIG_JSON_BYTES, &text, &n, NULL, l->e);
    if (st != STATUS_OK)
        return st;
    struct json_limits limits = json_default_limits;
    limits.refuse_duplicate = true;
    cJSON *root = NULL;
    struct place *places = NULL;
    struct err why = {0};
    st = json_parse(text, n, &limits, &root, &why);
    mem_free(text);
    if (st != STATUS_OK)
        return err_set(l->e, st == STATUS_NO_MEMORY ? st : STATUS_BAD_FILE, INDEX_FILE,
                       INDEX_FILE ": %s", why.msg);
    const cJSON *map = cJSON_IsObject(root) ? json_member(root, "weight_map") : NULL;
    if (!cJSON_IsObject(map) || !map->child) {
        st = err_set(l->e, STATUS_BAD_FILE, INDEX_FILE, INDEX_FILE ": no weight_map");
        goto done;
    }
    n = (size_t)cJSON_GetArraySize(map);
    places = mem_alloc(n, sizeof *places);
    f->shards = mem_calloc(n < LIMIT_MODEL_SHARDS ? n : LIMIT_MODEL_SHARDS, sizeof *f->shards);
    if (!places || !f->shards) {
        st = err_set(l->e, STATUS_NO_MEMORY, INDEX_FILE, INDEX_FILE ": out of memory");
        goto done;
    }
    st = read_places(map, places, l->e);
    if (st == STATUS_OK)
        st = map_shards(l, f, places, n);
done:
    mem_free(places);
    cJSON_Delete(root);
    return st;
}

static enum status no_weights(const struct loader *l)
{
    static const char *const pickles[] = {"pytorch_model.bin", "pytorch_model.bin.index.json"};
    for (size_t i = 0; i < 2; i++) {
        if (file_exists(&l->root, pickles[i]))
            return err_set(l->e, STATUS_UNSUPPORTED, pickles[i],
                           "%s: pickled weights may run code and are not read; convert them to "
                           "safetensors",
                           pickles[i]);
    }
    return err_set(l->e, STATUS_BAD_FILE, SINGLE_FILE,
                   "neither " SINGLE_FILE " nor " INDEX_FILE " is there");
}

/* As transformers looks for them: the single file first, then the index. */
static enum status open_files(struct loader *l)
{
    struct model_files *f = mem_calloc(1, sizeof *f);
    if (!f)
        return err_set(l->e, STATUS_NO_MEMORY, NULL, "out of memory");
    l->m->files = f;
    struct file_stamp stamp;
    enum status st = file_stamp_of(&l->root, SINGLE_FILE, &stamp, l->e);
    if (st == STATUS_OK) {
        f->shards = mem_calloc(1, sizeof *f->shards);
        if (!f->shards)
            return err_set(l->e, STATUS_NO_MEMORY, SINGLE_FILE, "out of memory");
        f->count = 1;
        st = map_shard(l, SINGLE_FILE, &f->shards[0]);
        if (st == STATUS_OK)
            report(l, 1, 1);
        return st;
    }
    if (st != STATUS_NOT_FOUND)
        return st;
    return file_exists(&l->root, INDEX_FILE) ? open_index(l, f) : no_weights(l);
}

/* ---- binding ---- */

static const struct safetensors_tensor *find(const struct model_files *f, const char *name,
                                             struct shard **shard)
{
    for (size_t i = 0; i < f->count; i++) {
        const struct safetensors_tensor *t = safetensors_find(f->shards[i].st, name);
        if (t) {
            *shard = &f->shards[i];
            return t;
        }
    }
    return NULL;
}

static bool has(const struct loader *l, const char *prefix, const char *name)
{
    char full[NAME_MAX_BYTES];
    struct shard *shard;
    snprintf(full, sizeof full, "%s%s", prefix, name);
    return find(l->m->files, full, &shard) != NULL;
}

/* Binds tensor `prefix``name` of shape [rows, cols], or [cols] where rows is 0. */
static enum status bind(struct loader *l, const char *prefix, const char *name, int rows, int cols,
                        struct tensor *out)
{
    char full[NAME_MAX_BYTES];
    char want[64];
    char got[200];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    if (rows > 0)
        snprintf(want, sizeof want, "[%d, %d]", rows, cols);
    else
        snprintf(want, sizeof want, "[%d]", cols);
    struct shard *shard;
    const struct safetensors_tensor *t = find(l->m->files, full, &shard);
    if (!t)
        return err_set(l->e, STATUS_BAD_FILE, full, "tensor %s %s is missing", full, want);
    struct tensor view;
    enum status st = safetensors_view(shard->st, t, &view, l->e);
    if (st != STATUS_OK)
        return st;
    if (t->rank != (rows > 0 ? 2 : 1) || view.rows != (rows > 0 ? rows : 1) || view.cols != cols)
        return err_set(l->e, STATUS_BAD_FILE, full,
                       "%s: tensor %s: shape %s, config.json asks for %s", shard->st->file, full,
                       safetensors_shape_text(t, got, sizeof got), want);
    shard->used[t - shard->st->tensors] = true;
    l->m->weight_bytes += t->end - t->begin;
    l->m->parameters += (int64_t)tensor_count(&view);
    *out = view;
    return STATUS_OK;
}

static enum status bind_linear(struct loader *l, int layer, int kind)
{
    struct model_layer *out = &l->m->layers[layer];
    int in;
    int features;
    char name[NAME_MAX_BYTES];
    model_site_dims(&l->m->shape, SITE_OF(layer, kind), &in, &features);
    snprintf(name, sizeof name, "layers.%d.%s.weight", layer, linear_names[kind]);
    enum status st = bind(l, l->body, name, features, in, &out->linear[kind]);
    if (st != STATUS_OK || !l->config.bias[kind])
        return st;
    snprintf(name, sizeof name, "layers.%d.%s.bias", layer, linear_names[kind]);
    return bind(l, l->body, name, 0, features, &out->bias[kind]);
}

static enum status bind_layer(struct loader *l, int layer)
{
    const struct model_shape *s = &l->m->shape;
    struct model_layer *out = &l->m->layers[layer];
    const struct {
        const char *name;
        int n;
        struct tensor *out;
        bool wanted;
    } vectors[] = {
        {"input_layernorm", s->hidden, &out->attn_norm, true},
        {"post_attention_layernorm", s->hidden, &out->mlp_norm, true},
        {"self_attn.q_norm", s->head_dim, &out->q_norm, s->qk_norm},
        {"self_attn.k_norm", s->head_dim, &out->k_norm, s->qk_norm},
    };
    enum status st = STATUS_OK;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0] && st == STATUS_OK; i++) {
        char name[NAME_MAX_BYTES];
        snprintf(name, sizeof name, "layers.%d.%s.weight", layer, vectors[i].name);
        if (vectors[i].wanted)
            st = bind(l, l->body, name, 0, vectors[i].n, vectors[i].out);
    }
    for (int kind = 0; kind < LINEAR_COUNT && st == STATUS_OK; kind++)
        st = bind_linear(l, layer, kind);
    return st;
}

/* As transformers ties: with only one of the two stored it serves as both; with both stored and
 * unequal, the config is wrong and each is used as it is. */
static enum status bind_embeddings(struct loader *l)
{
    struct model *m = l->m;
    int vocab = m->shape.vocab;
    int hidden = m->shape.hidden;
    bool tied = m->shape.tied_head;
    bool embed_there = has(l, l->body, "embed_tokens.weight");
    bool head_there = has(l, l->head, "lm_head.weight");
    enum status st = STATUS_OK;
    if (embed_there || !tied || !head_there)
        st = bind(l, l->body, "embed_tokens.weight", vocab, hidden, &m->embed);
    if (st == STATUS_OK && (head_there || !tied))
        st = bind(l, l->head, "lm_head.weight", vocab, hidden, &m->lm_head);
    if (st != STATUS_OK || !tied)
        return st;
    if (!m->lm_head.data) {
        m->lm_head = m->embed;
    } else if (!m->embed.data) {
        m->embed = m->lm_head;
    } else if (tensor_equal(&m->embed, &m->lm_head)) {
        m->weight_bytes -= tensor_bytes(&m->lm_head);
        m->parameters -= (int64_t)tensor_count(&m->lm_head);
        m->lm_head = m->embed;
    } else {
        LOG_WARN(LOG_WHAT("config.json ties the head to the embedding, but both are stored and "
                          "differ; using both"));
        m->shape.tied_head = false;
    }
    return STATUS_OK;
}

static bool starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static bool ends_with(const char *s, const char *ending)
{
    size_t n = strlen(s);
    size_t k = strlen(ending);
    return n >= k && strcmp(s + n - k, ending) == 0;
}

/* A tensor that nothing asked for means that the model computes something we do not. Known and
 * harmless: RoPE frequencies that old exports stored, and everything outside the text part of a
 * multimodal model. */
static bool is_harmless(const struct loader *l, const char *name)
{
    if (ends_with(name, ".rotary_emb.inv_freq"))
        return true;
    return l->config.nested && !starts_with(name, l->body) &&
           !(starts_with(name, l->head) && starts_with(name + strlen(l->head), "lm_head."));
}

static enum status check_unused(const struct loader *l)
{
    const struct model_files *f = l->m->files;
    for (size_t i = 0; i < f->count; i++) {
        const struct safetensors *st = f->shards[i].st;
        for (size_t k = 0; k < st->count; k++) {
            size_t t = st->by_name[k];
            const char *name = st->tensors[t].name;
            if (!f->shards[i].used[t] && !is_harmless(l, name))
                return err_set(l->e, STATUS_BAD_FILE, name,
                               "%s: tensor %s has no place in a %s model with this config.json",
                               st->file, name, hf_config_arch_name(l->m->shape.arch));
        }
    }
    return STATUS_OK;
}

static void choose_prefix(struct loader *l)
{
    static const char *const candidates[][2] = {
        {"model.", ""},
        {"language_model.model.", "language_model."},
        {"model.language_model.", ""},
    };
    size_t count = l->config.nested ? 3 : 1;
    size_t pick = 0;
    while (pick < count && !has(l, candidates[pick][0], "norm.weight"))
        pick++;
    if (pick == count)
        pick = 0; /* binding will name what is missing */
    l->body = candidates[pick][0];
    l->head = candidates[pick][1];
}

static enum status bind_all(struct loader *l)
{
    struct model *m = l->m;
    m->layers = mem_calloc((size_t)m->shape.layers, sizeof *m->layers);
    if (!m->layers)
        return err_set(l->e, STATUS_NO_MEMORY, NULL, "out of memory");
    choose_prefix(l);
    enum status st = bind_embeddings(l);
    if (st == STATUS_OK)
        st = bind(l, l->body, "norm.weight", 0, m->shape.hidden, &m->final_norm);
    for (int i = 0; i < m->shape.layers && st == STATUS_OK; i++)
        st = bind_layer(l, i);
    return st == STATUS_OK ? check_unused(l) : st;
}

/* ---- opening ---- */

static enum status read_configs(struct loader *l)
{
    char *text;
    size_t n;
    struct model *m = l->m;
    enum status st =
        file_read(&l->root, "config.json", LIMIT_CONFIG_JSON_BYTES, &text, &n, NULL, l->e);
    if (st != STATUS_OK)
        return st;
    st = hf_config_parse(text, n, &l->config, l->e);
    mem_free(text);
    if (st != STATUS_OK)
        return st;
    m->shape = l->config.shape;
    m->eos_count = l->config.eos_count;
    memcpy(m->eos, l->config.eos, sizeof m->eos);
    m->defaults = (struct model_defaults){NAN, NAN, NAN, NAN, -1};
    st = pooling_read(&l->root, m->shape.hidden, &m->pooling, l->e);
    if (st != STATUS_OK)
        return st;
    st = file_read(&l->root, "generation_config.json", LIMIT_CONFIG_JSON_BYTES, &text, &n, NULL,
                   l->e);
    if (st == STATUS_NOT_FOUND)
        return STATUS_OK;
    if (st != STATUS_OK)
        return st;
    st = hf_config_parse_generation(text, n, &m->defaults, m->eos, &m->eos_count, l->e);
    mem_free(text);
    return st;
}

enum status model_open(const char *dir, const struct progress *progress, struct model **out,
                       struct err *e)
{
    struct loader l = {.progress = progress, .e = e};
    enum status st = file_root_open(dir, false, &l.root, e);
    if (st != STATUS_OK)
        return st;
    l.m = mem_calloc(1, sizeof *l.m);
    if (!l.m)
        st = err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    if (st == STATUS_OK)
        st = read_configs(&l);
    if (st == STATUS_OK)
        st = open_files(&l);
    if (st == STATUS_OK)
        st = bind_all(&l);
    file_root_close(&l.root);
    if (st != STATUS_OK) {
        (void)err_prefix(e, "%s", dir);
        model_close(l.m);
        return st;
    }
    *out = l.m;
    return STATUS_OK;
}

void model_close(struct model *m)
{
    if (!m)
        return;
    files_free(m->files);
    mem_free(m->layers);
    mem_free(m);
}

/* ---- sites ---- */

void model_site_dims(const struct model_shape *s, int site, int *in, int *out)
{
    CHECK(site >= 0 && site < SITE_COUNT(s->layers));
    int attention = s->heads * s->head_dim;
    int cache = s->kv_heads * s->head_dim;
    const int dims[LINEAR_COUNT][2] = {
        [LINEAR_Q] = {s->hidden, attention}, [LINEAR_K] = {s->hidden, cache},
        [LINEAR_V] = {s->hidden, cache},     [LINEAR_O] = {attention, s->hidden},
        [LINEAR_GATE] = {s->hidden, s->ffn}, [LINEAR_UP] = {s->hidden, s->ffn},
        [LINEAR_DOWN] = {s->ffn, s->hidden},
    };
    if (site == SITE_LM_HEAD(s->layers)) {
        *in = s->hidden;
        *out = s->vocab;
    } else if (site == SITE_EMBED(s->layers)) {
        *in = s->vocab;
        *out = s->hidden;
    } else {
        *in = dims[site % LINEAR_COUNT][0];
        *out = dims[site % LINEAR_COUNT][1];
    }
}

void model_site_name(const struct model_shape *s, int site, char *out, size_t cap)
{
    CHECK(site >= 0 && site < SITE_COUNT(s->layers));
    if (site == SITE_LM_HEAD(s->layers))
        snprintf(out, cap, "lm_head");
    else if (site == SITE_EMBED(s->layers))
        snprintf(out, cap, "model.embed_tokens");
    else
        snprintf(out, cap, "model.layers.%d.%s", site / LINEAR_COUNT,
                 linear_names[site % LINEAR_COUNT]);
}
