#include "engine/adapter/lora_config.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "engine/base/clock.h"
#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"

#define FILE_NAME "adapter_config.json"

/* Fields that this file reads. */
static const char *const honoured[] = {
    "peft_type",
    "task_type",
    "r",
    "lora_alpha",
    "use_rslora",
    "rank_pattern",
    "alpha_pattern",
    "target_modules",
    "exclude_modules",
    "bias",
    "layers_to_transform",
    "layers_pattern",
    "use_dora",
    "modules_to_save",
    "fan_in_fan_out",
    "lora_bias",
    "init_lora_weights",
    "ensure_weight_tying",
    "base_model_name_or_path",
    "alora_invocation_tokens",
};

/* Fields that say how an adapter was made or trained, not what it computes. The configs of
 * initialisations count only together with init_lora_weights, which is checked. */
static const char *const harmless[] = {
    "auto_mapping",  "revision",       "inference_mode",    "lora_dropout",   "peft_version",
    "megatron_core", "eva_config",     "corda_config",      "lora_ga_config", "loftq_config",
    "merge_weights", "runtime_config", "qalora_group_size",
};

static bool listed(const char *const *list, size_t n, const char *s)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i], s) == 0)
            return true;
    }
    return false;
}
#define LISTED(list, s) listed(list, sizeof list / sizeof list[0], s)

/* Python's truth of a value: what is null, false, 0, "" or empty asks for nothing. */
static bool is_set(const cJSON *v)
{
    if (!v || cJSON_IsNull(v) || cJSON_IsFalse(v))
        return false;
    if (cJSON_IsArray(v) || cJSON_IsObject(v))
        return v->child != NULL;
    if (cJSON_IsString(v))
        return v->valuestring[0] != '\0';
    return !cJSON_IsNumber(v) || v->valuedouble != 0;
}

static const cJSON *set_member(const cJSON *obj, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(obj, key);
    return is_set(v) ? v : NULL;
}

static enum status unsupported(struct err *e, const char *field, const char *why)
{
    return err_set(e, STATUS_UNSUPPORTED, field, "%s: %s", field, why);
}

/* ---- fields that refuse ---- */

static enum status check_peft_type(const cJSON *root, struct err *e)
{
    const char *type = NULL;
    const char *task = "CAUSAL_LM";
    enum status st = json_get_string(root, "peft_type", &type, e);
    if (st == STATUS_OK)
        st = json_get_string(root, "task_type", &task, e);
    if (st != STATUS_OK)
        return st;
    if (!type)
        return err_set(e, STATUS_INVALID, "peft_type", "'peft_type' is missing");
    if (strcmp(type, "LORA") != 0)
        return err_set(e, STATUS_UNSUPPORTED, "peft_type", "peft_type \"%.32s\", only LORA is",
                       type);
    if (strcmp(task, "CAUSAL_LM") != 0)
        return err_set(e, STATUS_UNSUPPORTED, "task_type",
                       "task_type \"%.32s\", only CAUSAL_LM is supported", task);
    return STATUS_OK;
}

/* Initialisations that start from zero change leave the base alone. The others move a part of the
 * base into the adapter; on the unchanged base that part would count twice. PEFT writes true here
 * when it converted such an adapter back. */
static enum status check_init(const cJSON *root, struct err *e)
{
    static const char *const neutral[] = {"gaussian", "eva", "orthogonal", "mica"};
    const cJSON *v = json_member(root, "init_lora_weights");
    if (!v || cJSON_IsBool(v))
        return STATUS_OK;
    if (!cJSON_IsString(v))
        return err_set(e, STATUS_INVALID, "init_lora_weights",
                       "'init_lora_weights' must be true, false or a name");
    if (LISTED(neutral, v->valuestring))
        return STATUS_OK;
    return err_set(e, STATUS_UNSUPPORTED, "init_lora_weights",
                   "init_lora_weights \"%.32s\" changes the base weights; convert the adapter to "
                   "plain LoRA when saving it",
                   v->valuestring);
}

static enum status check_refused(const cJSON *root, struct err *e)
{
    static const struct {
        const char *field;
        const char *why;
    } refused[] = {
        {"modules_to_save", "whole modules beside the LoRA are not supported"},
        {"fan_in_fan_out", "transposed weights are not supported"},
        {"lora_bias", "a bias on lora_B is not supported"},
        {"use_qalora", "QALoRA is not supported"},
        {"use_bdlora", "block-diagonal LoRA is not supported"},
        {"target_parameters", "LoRA on bare parameters is not supported"},
        {"trainable_token_indices", "trained token embeddings are not supported"},
        {"layer_replication", "replicated layers are not supported"},
        {"megatron_config", "Megatron layers are not supported"},
        {"arrow_config", "Arrow routing is not supported"},
        {"kasa_config", "KaSA is not supported"},
        {"velora_config", "VeLoRA is not supported"},
        {"monteclora_config", "MonteCLoRA is not supported"},
        {"enable_lora", "partly enabled fused layers are not supported"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (set_member(root, refused[i].field))
            return unsupported(e, refused[i].field, refused[i].why);
    }
    const char *bias = "none";
    enum status st = json_get_string(root, "bias", &bias, e);
    if (st == STATUS_OK && strcmp(bias, "none") != 0)
        st = unsupported(e, "bias", "trained biases are not supported");
    if (st != STATUS_OK)
        return st;
    for (const cJSON *v = root->child; v; v = v->next) {
        if (is_set(v) && !LISTED(honoured, v->string) && !LISTED(harmless, v->string))
            return err_set(e, STATUS_UNSUPPORTED, v->string,
                           "unknown field \"%.64s\" may change what the adapter computes",
                           v->string);
    }
    return check_init(root, e);
}

/* ---- names and patterns ---- */

static enum status compile(const char *field, const char *head, const char *pattern,
                           const char *tail, bool whole, struct module_regex **out, struct err *e)
{
    struct err why = {0};
    enum status st = module_regex_compile(head, pattern, tail, whole, out, &why);
    if (st == STATUS_OK)
        return st;
    return err_set(e, st, field, "%s: regular expression \"%.64s\": %s", field, pattern, why.msg);
}

static enum status parse_names(const cJSON *root, const char *field, struct lora_names *out,
                               struct err *e)
{
    const cJSON *v = json_member(root, field);
    if (!v)
        return STATUS_OK;
    if (cJSON_IsString(v))
        return v->valuestring[0] == '\0'
                   ? STATUS_OK
                   : compile(field, "", v->valuestring, "", true, &out->regex, e);
    bool strings = cJSON_IsArray(v);
    for (const cJSON *i = strings ? v->child : NULL; i; i = i->next)
        strings = strings && cJSON_IsString(i);
    if (!strings)
        return err_set(e, STATUS_INVALID, field, "'%s' must be a list of names or a string", field);
    out->list = v;
    return STATUS_OK;
}

static enum status parse_target(struct lora_config *c, struct err *e)
{
    static const char field[] = "target_modules";
    const cJSON *v = json_member(c->root, field);
    if (cJSON_IsString(v) && strcasecmp(v->valuestring, "all-linear") == 0) {
        c->all_linear = true;
        return STATUS_OK;
    }
    if (cJSON_IsString(v) && v->valuestring[0] == '\0')
        return err_set(e, STATUS_INVALID, field, "'%s' is empty", field);
    return parse_names(c->root, field, &c->target, e);
}

static enum status parse_patterns(const cJSON *root, const char *field, struct lora_patterns *out,
                                  struct err *e)
{
    out->field = field;
    const cJSON *v = json_member(root, field);
    if (!v)
        return STATUS_OK;
    if (!cJSON_IsObject(v))
        return err_set(e, STATUS_INVALID, field, "'%s' must be an object", field);
    size_t n = (size_t)cJSON_GetArraySize(v);
    if (n > LIMIT_ADAPTER_PATTERNS)
        return err_set(e, STATUS_LIMIT, field, "%s: %zu keys, at most %d are read", field, n,
                       LIMIT_ADAPTER_PATTERNS);
    out->items = mem_calloc(n, sizeof *out->items);
    if (!out->items)
        return err_set(e, STATUS_NO_MEMORY, field, "out of memory");
    for (const cJSON *i = v->child; i; i = i->next) {
        if (!cJSON_IsNumber(i))
            return err_set(e, STATUS_INVALID, field, "%s: \"%.64s\" must be a number", field,
                           i->string);
        struct lora_pattern *p = &out->items[out->count++];
        p->value = i->valuedouble;
        enum status st = compile(field, "(.*\\.)?(", i->string, ")$", false, &p->regex, e);
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

/* ---- layers_to_transform ---- */

static enum status add_index(struct lora_config *c, const char *head, const char *pattern,
                             const char *tail, struct err *e)
{
    return compile("layers_pattern", head, pattern, tail, false, &c->indexes[c->index_count++], e);
}

static enum status parse_index_patterns(struct lora_config *c, const cJSON *v, struct err *e)
{
    bool list = cJSON_IsArray(v) && v->child;
    size_t n = list ? (size_t)cJSON_GetArraySize(v) : 1;
    c->indexes = mem_calloc(n, sizeof *c->indexes);
    if (!c->indexes)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    if (!is_set(v)) /* any list of layers: the first number in the name */
        return add_index(c, "", ".*?\\.[^.]*\\.(?P<idx>[0-9]+)\\.", "", e);
    enum status st = STATUS_OK;
    for (const cJSON *i = list ? v->child : v; i && st == STATUS_OK; i = list ? i->next : NULL) {
        if (!cJSON_IsString(i))
            return err_set(e, STATUS_INVALID, "layers_pattern",
                           "'layers_pattern' must be a string or a list of strings");
        st = add_index(c, "(?:^|.*?\\.)", i->valuestring, "\\.(?P<idx>[0-9]+)\\.", e);
    }
    return st;
}

static enum status parse_layers(struct lora_config *c, struct err *e)
{
    static const char field[] = "layers_to_transform";
    const cJSON *v = json_member(c->root, field);
    const cJSON *pattern = json_member(c->root, "layers_pattern");
    bool by_string = c->all_linear || c->target.regex;
    if (v && by_string)
        return err_set(e, STATUS_INVALID, field, "%s does not go with target_modules as a string",
                       field);
    if (is_set(pattern) && (!v || by_string))
        return err_set(e, STATUS_INVALID, "layers_pattern",
                       "layers_pattern goes with layers_to_transform and a list of target_modules");
    int64_t n;
    bool good = !v || cJSON_IsArray(v) || json_int64(v, &n);
    for (const cJSON *i = cJSON_IsArray(v) ? v->child : NULL; i; i = i->next)
        good = good && json_int64(i, &n);
    if (!good)
        return err_set(e, STATUS_INVALID, field, "'%s' must be an integer or a list of integers",
                       field);
    if (!v || (cJSON_IsArray(v) && !v->child))
        return STATUS_OK;
    c->layers = v;
    return parse_index_patterns(c, pattern, e);
}

/* ---- the whole ---- */

static enum status parse_numbers(struct lora_config *c, struct err *e)
{
    int64_t r = 8; /* the defaults of LoraConfig */
    c->alpha = 8.0;
    enum status st = json_get_int(c->root, "r", 1, INT32_MAX, &r, e);
    c->rank = (double)r;
    if (st == STATUS_OK)
        st = json_get_double(c->root, "lora_alpha", -1e9, 1e9, &c->alpha, e);
    if (st == STATUS_OK)
        st = json_get_bool(c->root, "use_rslora", &c->rslora, e);
    if (st == STATUS_OK)
        st = json_get_bool(c->root, "use_dora", &c->dora, e);
    if (st == STATUS_OK)
        st = json_get_bool(c->root, "ensure_weight_tying", &c->tying, e);
    if (st == STATUS_OK)
        st = json_get_string(c->root, "base_model_name_or_path", &c->base_name, e);
    return st;
}

/* A sequence that is empty activates nothing: as PEFT, it is then an ordinary LoRA. */
static enum status parse_alora(struct lora_config *c, struct err *e)
{
    static const char field[] = "alora_invocation_tokens";
    const cJSON *v = set_member(c->root, field);
    if (!v)
        return STATUS_OK;
    if (!cJSON_IsArray(v))
        return err_set(e, STATUS_INVALID, field, "'%s' must be a list of token ids", field);
    int n = cJSON_GetArraySize(v);
    if (n > LIMIT_ALORA_TOKENS)
        return err_set(e, STATUS_LIMIT, field, "%s: %d tokens, at most %d are searched for", field,
                       n, LIMIT_ALORA_TOKENS);
    if (c->dora)
        return err_set(e, STATUS_UNSUPPORTED, field, "%s does not go with use_dora", field);
    c->alora_tokens = mem_calloc((size_t)n, sizeof *c->alora_tokens);
    if (!c->alora_tokens)
        return err_set(e, STATUS_NO_MEMORY, field, "out of memory");
    for (const cJSON *i = v->child; i; i = i->next) {
        int64_t id;
        if (!json_int64(i, &id) || id < 0 || id > INT32_MAX)
            return err_set(e, STATUS_INVALID, field, "'%s' must be a list of token ids", field);
        c->alora_tokens[c->alora_token_count++] = (int32_t)id;
    }
    return STATUS_OK;
}

static enum status parse_fields(struct lora_config *c, struct err *e)
{
    enum status st = check_peft_type(c->root, e);
    if (st == STATUS_OK)
        st = check_refused(c->root, e);
    if (st == STATUS_OK)
        st = parse_numbers(c, e);
    if (st == STATUS_OK)
        st = parse_target(c, e);
    if (st == STATUS_OK)
        st = parse_names(c->root, "exclude_modules", &c->exclude, e);
    if (st == STATUS_OK)
        st = parse_layers(c, e);
    if (st == STATUS_OK)
        st = parse_patterns(c->root, "rank_pattern", &c->ranks, e);
    if (st == STATUS_OK)
        st = parse_patterns(c->root, "alpha_pattern", &c->alphas, e);
    if (st == STATUS_OK)
        st = parse_alora(c, e);
    return st;
}

enum status lora_config_parse(const char *text, size_t n, struct lora_config **out, struct err *e)
{
    struct err why = {0};
    struct json_limits limits = json_default_limits;
    limits.refuse_duplicate = true;
    struct lora_config *c = mem_calloc(1, sizeof *c);
    if (!c)
        return err_set(e, STATUS_NO_MEMORY, FILE_NAME, FILE_NAME ": out of memory");
    int64_t begin = clock_thread_cpu_ns();
    enum status st = json_parse(text, n, &limits, &c->root, &why);
    if (st == STATUS_OK && !cJSON_IsObject(c->root))
        st = err_set(&why, STATUS_INVALID, NULL, "must be a JSON object");
    if (st == STATUS_OK)
        st = parse_fields(c, &why);
    if (st != STATUS_OK) {
        if (st == STATUS_INVALID)
            st = STATUS_BAD_FILE;
        st = err_set(e, st, why.param[0] ? why.param : FILE_NAME, FILE_NAME ": %s", why.msg);
        lora_config_free(c);
        return st;
    }
    c->spent_ns = clock_thread_cpu_ns() - begin;
    *out = c;
    return STATUS_OK;
}

static void patterns_free(struct lora_patterns *p)
{
    for (size_t i = 0; i < p->count; i++)
        module_regex_free(p->items[i].regex);
    mem_free(p->items);
}

void lora_config_free(struct lora_config *c)
{
    if (!c)
        return;
    patterns_free(&c->ranks);
    patterns_free(&c->alphas);
    for (size_t i = 0; i < c->index_count; i++)
        module_regex_free(c->indexes[i]);
    mem_free(c->indexes);
    module_regex_free(c->target.regex);
    module_regex_free(c->exclude.regex);
    mem_free(c->alora_tokens);
    cJSON_Delete(c->root);
    mem_free(c);
}

/* ---- questions ---- */

/* Counts what was done since `begin`; st, or that it was too much. */
static enum status spend(struct lora_config *c, int64_t begin, enum status st, struct err *e)
{
    c->spent_ns += clock_thread_cpu_ns() - begin;
    if (st != STATUS_OK || c->spent_ns <= LIMIT_ADAPTER_MATCH_MS * INT64_C(1000000))
        return st;
    return err_set(e, STATUS_LIMIT, FILE_NAME,
                   FILE_NAME ": matching module names took more than %d ms",
                   LIMIT_ADAPTER_MATCH_MS);
}

static enum status match(const struct module_regex *r, const char *field, const char *name,
                         bool *out, int64_t *idx, struct err *e)
{
    struct err why = {0};
    enum status st = module_regex_match(r, name, out, idx, &why);
    if (st == STATUS_OK)
        return st;
    return err_set(e, st, field, FILE_NAME ": %s: %s", field, why.msg);
}

/* Equal, or ends in "." and the suffix. */
static bool has_suffix(const char *name, const char *suffix)
{
    size_t n = strlen(name);
    size_t k = strlen(suffix);
    return n >= k && strcmp(name + n - k, suffix) == 0 && (n == k || name[n - k - 1] == '.');
}

static enum status names_match(const struct lora_names *names, const char *field, const char *name,
                               bool *out, struct err *e)
{
    *out = false;
    if (names->regex)
        return match(names->regex, field, name, out, NULL, e);
    for (const cJSON *v = names->list ? names->list->child : NULL; v && !*out; v = v->next)
        *out = has_suffix(name, v->valuestring);
    return STATUS_OK;
}

static enum status layer_match(const struct lora_config *c, const char *name, bool *out,
                               struct err *e)
{
    bool found = false;
    int64_t layer = -1;
    for (size_t i = 0; i < c->index_count && !found; i++) {
        enum status st = match(c->indexes[i], "layers_pattern", name, &found, &layer, e);
        if (st != STATUS_OK)
            return st;
    }
    *out = false;
    bool list = cJSON_IsArray(c->layers);
    for (const cJSON *v = list ? c->layers->child : c->layers; v && found && !*out;
         v = list ? v->next : NULL) {
        int64_t wanted = -1;
        *out = json_int64(v, &wanted) && wanted == layer && layer >= 0;
    }
    return STATUS_OK;
}

/* The linears of the supported architectures; PEFT leaves the output head out of all-linear. */
static bool is_linear(const char *name)
{
    static const char *const linears[] = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                          "gate_proj", "up_proj", "down_proj"};
    const char *dot = strrchr(name, '.');
    return dot && LISTED(linears, dot + 1);
}

/* A name that stands in the list whole is taken without a look at its layer. */
static bool listed_whole(const struct lora_config *c, const char *name)
{
    for (const cJSON *v = c->target.list ? c->target.list->child : NULL; v; v = v->next) {
        if (strcmp(v->valuestring, name) == 0)
            return true;
    }
    return false;
}

static enum status targets(const struct lora_config *c, const char *name, bool *out, struct err *e)
{
    bool yes = false;
    enum status st = names_match(&c->exclude, "exclude_modules", name, &yes, e);
    if (st != STATUS_OK || yes) {
        *out = false;
        return st;
    }
    if (c->all_linear)
        yes = is_linear(name);
    else if (!c->target.list && !c->target.regex) /* PEFT's default for these architectures */
        yes = has_suffix(name, "q_proj") || has_suffix(name, "v_proj");
    else
        st = names_match(&c->target, "target_modules", name, &yes, e);
    if (st == STATUS_OK && yes && c->layers && !listed_whole(c, name))
        st = layer_match(c, name, &yes, e);
    *out = yes;
    return st;
}

enum status lora_config_targets(struct lora_config *c, const char *name, bool *out, struct err *e)
{
    int64_t begin = clock_thread_cpu_ns();
    return spend(c, begin, targets(c, name, out, e), e);
}

static enum status pattern_value(const struct lora_patterns *p, const char *name, double *value,
                                 struct err *e)
{
    for (size_t i = 0; i < p->count; i++) {
        bool yes = false;
        enum status st = match(p->items[i].regex, p->field, name, &yes, NULL, e);
        if (st != STATUS_OK)
            return st;
        if (yes) {
            *value = p->items[i].value;
            return STATUS_OK;
        }
    }
    return STATUS_OK;
}

enum status lora_config_module(struct lora_config *c, const char *name, double *rank, double *scale,
                               struct err *e)
{
    int64_t begin = clock_thread_cpu_ns();
    double r = c->rank;
    double alpha = c->alpha;
    enum status st = pattern_value(&c->ranks, name, &r, e);
    if (st == STATUS_OK)
        st = pattern_value(&c->alphas, name, &alpha, e);
    st = spend(c, begin, st, e);
    if (st != STATUS_OK)
        return st;
    *rank = r;
    *scale = alpha / (c->rslora ? sqrt(r) : r);
    return STATUS_OK;
}
