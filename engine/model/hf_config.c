#include "engine/model/hf_config.h"

#include <math.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/limits.h"

static const struct arch {
    const char *type;  /* model_type */
    const char *class; /* in architectures */
    int kv_heads;      /* defaults of the class; 0: as many as heads */
    int head_dim;      /* 0: hidden / heads */
    int ctx_max;
    int window; /* where sliding_window is absent */
    bool qk_norm;
} archs[ARCH_COUNT] = {
    [ARCH_LLAMA] = {"llama", "LlamaForCausalLM", 0, 0, 2048, 0, false},
    [ARCH_MISTRAL] = {"mistral", "MistralForCausalLM", 8, 0, 131072, 4096, false},
    [ARCH_QWEN2] = {"qwen2", "Qwen2ForCausalLM", 32, 0, 32768, 4096, false},
    [ARCH_QWEN3] = {"qwen3", "Qwen3ForCausalLM", 32, 128, 32768, 4096, true},
};

/* Multimodal models whose text part is one of the above, unchanged, under text_config. */
static const char *const wrappers[] = {"mistral3", "llava", "llava_next"};

const char *hf_config_arch_name(enum model_arch arch)
{
    return archs[arch].type;
}

/* The getters speak of requests; in a file a wrong value makes the file bad. */
static enum status in_file(enum status st, const char *file, struct err *e)
{
    if (st == STATUS_OK || st == STATUS_NO_MEMORY)
        return st;
    if (st == STATUS_INVALID)
        st = STATUS_BAD_FILE;
    if (e) {
        e->code = st;
        (void)err_prefix(e, "%s", file);
    }
    return st;
}

static enum status get_int(const cJSON *obj, const char *key, int64_t min, int64_t max, int *out,
                           struct err *e)
{
    int64_t v = *out;
    enum status st = json_get_int(obj, key, min, max, &v, e);
    if (st == STATUS_OK)
        *out = (int)v;
    return st;
}

/* As get_int, and the key must be there. */
static enum status need_int(const cJSON *obj, const char *key, int64_t max, int *out, struct err *e)
{
    if (!json_member(obj, key))
        return err_set(e, STATUS_INVALID, key, "'%s' is missing", key);
    return get_int(obj, key, 1, max, out, e);
}

static enum status need_double(const cJSON *obj, const char *key, double min, double max,
                               double *out, struct err *e)
{
    if (!json_member(obj, key))
        return err_set(e, STATUS_INVALID, key, "'%s' is missing", key);
    return json_get_double(obj, key, min, max, out, e);
}

static enum status unsupported(struct err *e, const char *key, const char *value)
{
    return err_set(e, STATUS_UNSUPPORTED, key, "%s \"%.64s\" is not supported", key, value);
}

/* ---- which architecture ---- */

static bool find_arch(const char *type, enum model_arch *out)
{
    for (int i = 0; i < ARCH_COUNT; i++) {
        if (strcmp(type, archs[i].type) == 0) {
            *out = (enum model_arch)i;
            return true;
        }
    }
    return false;
}

static bool is_wrapper(const char *type)
{
    for (size_t i = 0; i < sizeof wrappers / sizeof wrappers[0]; i++) {
        if (strcmp(type, wrappers[i]) == 0)
            return true;
    }
    return false;
}

/* `architectures` may be absent; where it is there, a head other than the language model's (a
 * classifier) means that these weights are for something else. */
static enum status check_class(const cJSON *root, enum model_arch arch, struct err *e)
{
    const cJSON *list = json_member(root, "architectures");
    if (!list)
        return STATUS_OK;
    if (!cJSON_IsArray(list) || !cJSON_IsString(list->child))
        return err_set(e, STATUS_INVALID, "architectures", "'architectures' must be a list");
    for (const cJSON *v = list->child; v; v = v->next) {
        if (cJSON_IsString(v) && strcmp(v->valuestring, archs[arch].class) == 0)
            return STATUS_OK;
    }
    return unsupported(e, "architectures", list->child->valuestring);
}

/* Finds the object that describes the text model. */
static enum status pick_text(const cJSON *root, struct hf_config *c, const cJSON **text,
                             struct err *e)
{
    const char *type = NULL;
    enum status st = json_get_string(root, "model_type", &type, e);
    if (st != STATUS_OK)
        return st;
    if (!type)
        return err_set(e, STATUS_INVALID, "model_type", "'model_type' is missing");
    if (find_arch(type, &c->shape.arch)) {
        *text = root;
        return check_class(root, c->shape.arch, e);
    }
    const cJSON *inner = json_member(root, "text_config");
    if (!is_wrapper(type) || !cJSON_IsObject(inner))
        return unsupported(e, "model_type", type);
    const char *inner_type = archs[ARCH_LLAMA].type; /* as LlavaConfig takes it */
    st = json_get_string(inner, "model_type", &inner_type, e);
    if (st != STATUS_OK)
        return st;
    if (!find_arch(inner_type, &c->shape.arch))
        return unsupported(e, "model_type", inner_type);
    c->nested = true;
    *text = inner;
    return STATUS_OK;
}

static enum status check_refused(const cJSON *root, const cJSON *text, struct err *e)
{
    static const char *const fields[] = {"quantization_config", "compression_config"};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const cJSON *q = json_member(root, fields[i]);
        if (!q)
            q = json_member(text, fields[i]);
        if (!q)
            continue;
        const cJSON *method = cJSON_IsObject(q) ? json_member(q, "quant_method") : NULL;
        return err_set(e, STATUS_UNSUPPORTED, fields[i],
                       "%s: quantised weights (%.32s) are not supported", fields[i],
                       cJSON_IsString(method) ? method->valuestring : "unnamed method");
    }
    const char *act = "silu";
    enum status st = json_get_string(text, "hidden_act", &act, e);
    if (st == STATUS_OK && strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
        st = unsupported(e, "hidden_act", act);
    return st;
}

/* ---- geometry ---- */

static enum status parse_heads(const cJSON *text, struct model_shape *s, struct err *e)
{
    const struct arch *a = &archs[s->arch];
    enum status st = need_int(text, "num_attention_heads", LIMIT_MODEL_HEADS, &s->heads, e);
    if (st != STATUS_OK)
        return st;
    s->kv_heads = a->kv_heads ? a->kv_heads : s->heads;
    if (cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(text, "num_key_value_heads")))
        s->kv_heads = s->heads;
    st = get_int(text, "num_key_value_heads", 1, LIMIT_MODEL_HEADS, &s->kv_heads, e);
    if (st != STATUS_OK)
        return st;
    if (s->heads % s->kv_heads != 0)
        return err_set(e, STATUS_INVALID, "num_key_value_heads",
                       "%d attention heads cannot share %d key/value heads", s->heads, s->kv_heads);
    s->head_dim = a->head_dim;
    st = get_int(text, "head_dim", 1, LIMIT_HEAD_DIM, &s->head_dim, e);
    if (st != STATUS_OK)
        return st;
    if (s->head_dim == 0 && s->hidden % s->heads != 0)
        return err_set(e, STATUS_INVALID, "num_attention_heads",
                       "hidden_size %d is no multiple of %d heads and head_dim is absent",
                       s->hidden, s->heads);
    if (s->head_dim == 0)
        s->head_dim = s->hidden / s->heads;
    if (s->head_dim % 2 != 0 || s->head_dim > LIMIT_HEAD_DIM)
        return err_set(e, STATUS_INVALID, "head_dim", "head_dim %d must be even and at most %d",
                       s->head_dim, LIMIT_HEAD_DIM);
    if (s->heads * s->head_dim > LIMIT_MODEL_WIDTH)
        return err_set(e, STATUS_INVALID, "head_dim", "%d heads of %d are too wide", s->heads,
                       s->head_dim);
    return STATUS_OK;
}

static enum status parse_geometry(const cJSON *root, const cJSON *text, struct model_shape *s,
                                  struct err *e)
{
    s->ctx_max = archs[s->arch].ctx_max;
    s->qk_norm = archs[s->arch].qk_norm;
    s->rms_eps = 1e-6;
    enum status st = need_int(text, "hidden_size", LIMIT_MODEL_WIDTH, &s->hidden, e);
    if (st == STATUS_OK)
        st = need_int(text, "num_hidden_layers", LIMIT_MODEL_LAYERS, &s->layers, e);
    if (st == STATUS_OK)
        st = need_int(text, "intermediate_size", LIMIT_MODEL_WIDTH, &s->ffn, e);
    if (st == STATUS_OK)
        st = need_int(text, "vocab_size", LIMIT_MODEL_VOCAB, &s->vocab, e);
    if (st == STATUS_OK)
        st = get_int(text, "max_position_embeddings", 1, LIMIT_MODEL_CTX, &s->ctx_max, e);
    if (st == STATUS_OK)
        st = json_get_double(text, "rms_norm_eps", 0.0, 1.0, &s->rms_eps, e);
    if (st == STATUS_OK)
        st = json_get_bool(text, "tie_word_embeddings", &s->tied_head, e);
    if (st == STATUS_OK)
        st = json_get_bool(root, "tie_word_embeddings", &s->tied_head, e);
    return st == STATUS_OK ? parse_heads(text, s, e) : st;
}

static enum status parse_bias(const cJSON *text, struct hf_config *c, struct err *e)
{
    bool attention = false;
    bool mlp = false;
    enum status st = STATUS_OK;
    if (c->shape.arch == ARCH_LLAMA || c->shape.arch == ARCH_QWEN3)
        st = json_get_bool(text, "attention_bias", &attention, e);
    if (st == STATUS_OK && c->shape.arch == ARCH_LLAMA)
        st = json_get_bool(text, "mlp_bias", &mlp, e);
    bool qkv = attention || c->shape.arch == ARCH_QWEN2;
    c->bias[LINEAR_Q] = c->bias[LINEAR_K] = c->bias[LINEAR_V] = qkv;
    c->bias[LINEAR_O] = attention;
    c->bias[LINEAR_GATE] = c->bias[LINEAR_UP] = c->bias[LINEAR_DOWN] = mlp;
    return st;
}

/* ---- sliding window ---- */

/* How many layers slide, by layer_types where it is given, else from max_window_layers on. */
static enum status count_sliding(const cJSON *text, const struct model_shape *s, int *out,
                                 struct err *e)
{
    const cJSON *types = json_member(text, "layer_types");
    if (!types) {
        int from = 28;
        enum status st = get_int(text, "max_window_layers", 0, INT32_MAX, &from, e);
        *out = from < s->layers ? s->layers - from : 0;
        return st;
    }
    if (!cJSON_IsArray(types) || cJSON_GetArraySize(types) != s->layers)
        return err_set(e, STATUS_INVALID, "layer_types", "'layer_types' must list %d layers",
                       s->layers);
    int n = 0;
    for (const cJSON *v = types->child; v; v = v->next) {
        const char *kind = cJSON_IsString(v) ? v->valuestring : "?";
        if (strcmp(kind, "sliding_attention") == 0)
            n++;
        else if (strcmp(kind, "full_attention") != 0)
            return unsupported(e, "layer_types", kind);
    }
    *out = n;
    return STATUS_OK;
}

static enum status parse_window(const cJSON *text, struct model_shape *s, struct err *e)
{
    bool wanted = s->arch == ARCH_MISTRAL;
    enum status st = STATUS_OK;
    if (s->arch == ARCH_QWEN2 || s->arch == ARCH_QWEN3)
        st = json_get_bool(text, "use_sliding_window", &wanted, e);
    if (st != STATUS_OK || !wanted)
        return st;
    const cJSON *given = cJSON_GetObjectItemCaseSensitive(text, "sliding_window");
    int window = given ? 0 : archs[s->arch].window;
    st = get_int(text, "sliding_window", 1, INT32_MAX, &window, e);
    int sliding = s->layers;
    if (st == STATUS_OK && s->arch != ARCH_MISTRAL)
        st = count_sliding(text, s, &sliding, e);
    if (st != STATUS_OK || window == 0 || sliding == 0)
        return st;
    if (sliding != s->layers)
        return err_set(e, STATUS_UNSUPPORTED,
                       json_member(text, "layer_types") ? "layer_types" : "max_window_layers",
                       "a sliding window in %d of %d layers is not supported", sliding, s->layers);
    /* A window that no position can leave is none. */
    s->window = window < s->ctx_max ? window : 0;
    return STATUS_OK;
}

/* ---- rotary embedding ---- */

static const cJSON *rope_block(const cJSON *text, const struct model_shape *s)
{
    const cJSON *block = json_member(text, "rope_scaling");
    if (!block || (cJSON_IsObject(block) && !block->child))
        block = json_member(text, "rope_parameters");
    if (!cJSON_IsObject(block))
        return block;
    const cJSON *inner = json_member(block, s->window ? "sliding_attention" : "full_attention");
    return inner ? inner : block;
}

static enum status parse_llama3(const cJSON *text, const cJSON *block, struct model_shape *s,
                                struct err *e)
{
    struct rope_params *r = &s->rope;
    r->original_ctx = s->ctx_max;
    enum status st =
        get_int(block, "original_max_position_embeddings", 1, LIMIT_MODEL_CTX, &r->original_ctx, e);
    if (st == STATUS_OK)
        st = get_int(text, "original_max_position_embeddings", 1, LIMIT_MODEL_CTX, &r->original_ctx,
                     e);
    if (st == STATUS_OK)
        st = need_double(block, "low_freq_factor", 1e-6, 1e6, &r->low_freq_factor, e);
    if (st == STATUS_OK)
        st = need_double(block, "high_freq_factor", 1e-6, 1e6, &r->high_freq_factor, e);
    if (st == STATUS_OK && r->high_freq_factor <= r->low_freq_factor)
        st = err_set(e, STATUS_INVALID, "high_freq_factor",
                     "high_freq_factor %g must be above low_freq_factor %g", r->high_freq_factor,
                     r->low_freq_factor);
    return st;
}

static enum status parse_rope(const cJSON *text, struct model_shape *s, struct err *e)
{
    struct rope_params *r = &s->rope;
    *r = (struct rope_params){.kind = ROPE_DEFAULT, .theta = 10000.0, .factor = 1.0};
    double rotary = 1.0;
    enum status st = json_get_double(text, "rope_theta", 1e-3, 1e15, &r->theta, e);
    if (st == STATUS_OK)
        st = json_get_double(text, "partial_rotary_factor", 0.0, 1.0, &rotary, e);
    const cJSON *block = rope_block(text, s);
    if (st != STATUS_OK)
        return st;
    if (block && !cJSON_IsObject(block))
        return err_set(e, STATUS_INVALID, "rope_scaling", "'rope_scaling' must be an object");
    const char *type = "default";
    if (block) {
        st = json_get_string(block, "type", &type, e);
        if (st == STATUS_OK)
            st = json_get_string(block, "rope_type", &type, e);
        if (st == STATUS_OK)
            st = json_get_double(block, "rope_theta", 1e-3, 1e15, &r->theta, e);
        if (st == STATUS_OK)
            st = json_get_double(block, "partial_rotary_factor", 0.0, 1.0, &rotary, e);
        if (st == STATUS_OK && json_member(block, "mrope_section"))
            st = unsupported(e, "rope_type", "mrope");
    }
    if (st == STATUS_OK && rotary != 1.0)
        st = err_set(e, STATUS_UNSUPPORTED, "partial_rotary_factor",
                     "partial_rotary_factor %g is not supported", rotary);
    if (st != STATUS_OK || strcmp(type, "default") == 0)
        return st;
    bool llama3 = strcmp(type, "llama3") == 0;
    if (!llama3 && strcmp(type, "linear") != 0)
        return unsupported(e, "rope_type", type);
    r->kind = llama3 ? ROPE_LLAMA3 : ROPE_LINEAR;
    st = need_double(block, "factor", 1e-6, 1e6, &r->factor, e);
    return st == STATUS_OK && llama3 ? parse_llama3(text, block, s, e) : st;
}

/* ---- end of sequence ---- */

static enum status add_eos(const cJSON *v, int32_t *eos, int *count, struct err *e)
{
    int64_t id;
    if (!json_int64(v, &id) || id < 0 || id > INT32_MAX)
        return err_set(e, STATUS_INVALID, "eos_token_id", "'eos_token_id' must be token ids");
    for (int i = 0; i < *count; i++) {
        if (eos[i] == id)
            return STATUS_OK;
    }
    if (*count == MODEL_EOS_MAX)
        return err_set(e, STATUS_INVALID, "eos_token_id", "more than %d ids in 'eos_token_id'",
                       MODEL_EOS_MAX);
    eos[(*count)++] = (int32_t)id;
    return STATUS_OK;
}

static enum status parse_eos(const cJSON *obj, int32_t *eos, int *count, struct err *e)
{
    const cJSON *v = json_member(obj, "eos_token_id");
    if (!v)
        return STATUS_OK;
    *count = 0;
    if (!cJSON_IsArray(v))
        return add_eos(v, eos, count, e);
    enum status st = STATUS_OK;
    for (const cJSON *i = v->child; i && st == STATUS_OK; i = i->next)
        st = add_eos(i, eos, count, e);
    return st;
}

/* ---- the two files ---- */

static enum status parse_object(const char *text, size_t n, cJSON **out, struct err *e)
{
    struct json_limits limits = json_default_limits;
    limits.refuse_duplicate = true;
    cJSON *root = NULL;
    enum status st = json_parse(text, n, &limits, &root, e);
    if (st == STATUS_OK && !cJSON_IsObject(root)) {
        cJSON_Delete(root);
        return err_set(e, STATUS_INVALID, NULL, "must be a JSON object");
    }
    *out = root;
    return st;
}

static enum status parse_config(const cJSON *root, struct hf_config *c, struct err *e)
{
    const cJSON *text = NULL;
    enum status st = pick_text(root, c, &text, e);
    if (st == STATUS_OK)
        st = check_refused(root, text, e);
    if (st == STATUS_OK)
        st = parse_geometry(root, text, &c->shape, e);
    if (st == STATUS_OK)
        st = parse_bias(text, c, e);
    if (st == STATUS_OK)
        st = parse_window(text, &c->shape, e);
    if (st == STATUS_OK)
        st = parse_rope(text, &c->shape, e);
    if (st == STATUS_OK)
        st = parse_eos(text, c->eos, &c->eos_count, e);
    if (st == STATUS_OK && c->nested)
        st = parse_eos(root, c->eos, &c->eos_count, e);
    return st;
}

enum status hf_config_parse(const char *text, size_t n, struct hf_config *out, struct err *e)
{
    cJSON *root = NULL;
    struct hf_config c = {0};
    enum status st = parse_object(text, n, &root, e);
    if (st == STATUS_OK)
        st = parse_config(root, &c, e);
    cJSON_Delete(root);
    if (st == STATUS_OK)
        *out = c;
    return in_file(st, "config.json", e);
}

static enum status parse_defaults(const cJSON *root, struct model_defaults *d, struct err *e)
{
    enum status st = json_get_double(root, "temperature", 0.0, 100.0, &d->temperature, e);
    if (st == STATUS_OK)
        st = json_get_double(root, "top_p", 0.0, 1.0, &d->top_p, e);
    if (st == STATUS_OK)
        st = json_get_double(root, "min_p", 0.0, 1.0, &d->min_p, e);
    if (st == STATUS_OK)
        st = json_get_double(root, "repetition_penalty", 1e-3, 1e3, &d->repetition_penalty, e);
    if (st == STATUS_OK)
        st = get_int(root, "top_k", -1, INT32_MAX, &d->top_k, e);
    return st;
}

enum status hf_config_parse_generation(const char *text, size_t n, struct model_defaults *out,
                                       int32_t *eos, int *eos_count, struct err *e)
{
    cJSON *root = NULL;
    struct model_defaults d = {NAN, NAN, NAN, NAN, -1};
    int32_t ids[MODEL_EOS_MAX];
    int id_count = 0;
    enum status st = parse_object(text, n, &root, e);
    if (st == STATUS_OK)
        st = parse_defaults(root, &d, e);
    if (st == STATUS_OK)
        st = parse_eos(root, ids, &id_count, e);
    cJSON_Delete(root);
    if (st != STATUS_OK)
        return in_file(st, "generation_config.json", e);
    *out = d;
    if (id_count > 0) {
        memcpy(eos, ids, (size_t)id_count * sizeof *eos);
        *eos_count = id_count;
    }
    return STATUS_OK;
}
