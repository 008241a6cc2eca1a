#include "engine/engine_inspect.h"

#include <fcntl.h>
#include <stdint.h>
#include <string.h>

#include "engine/adapter/lora_config.h"
#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/inspect_facts.h"

/* How a report is written. */
struct form {
    void (*model)(struct strbuf *r, const struct inspect_model *m);
    void (*adapter)(struct strbuf *r, const struct inspect_adapter *a);
    void (*refused)(struct strbuf *r, const char *kind, const char *path, const struct err *why);
};

static const struct form forms[] = {
    [ENGINE_INSPECT_TEXT] = {inspect_text_model, inspect_text_adapter, inspect_text_refused},
    [ENGINE_INSPECT_JSON] = {inspect_json_model, inspect_json_adapter, inspect_json_refused},
};

bool engine_inspect_is_adapter(const char *path)
{
    struct file_root root = {.fd = AT_FDCWD, .top_fd = -1};
    if (lora_is_gguf(&root, path))
        return true;
    if (file_root_open(path, false, &root, NULL) != STATUS_OK)
        return false;
    bool yes = file_exists(&root, "adapter_config.json");
    file_root_close(&root);
    return yes;
}

static enum status refuse(struct strbuf *report, const struct form *form, const char *kind,
                          const char *path, const struct err *why, struct err *e)
{
    form->refused(report, kind, path, why);
    if (e)
        *e = *why;
    return why->code;
}

static enum status finish(const struct strbuf *report, struct err *e)
{
    if (report->failed)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory for the report");
    return STATUS_OK;
}

static void count_dtype(const struct tensor *t, uint64_t bytes[INSPECT_DTYPES])
{
    if (t->data)
        bytes[t->dtype] += tensor_bytes(t);
}

/* ---- models ---- */

static void model_dtypes(const struct model *m, uint64_t bytes[INSPECT_DTYPES])
{
    count_dtype(&m->embed, bytes);
    count_dtype(&m->final_norm, bytes);
    if (!m->shape.tied_head)
        count_dtype(&m->lm_head, bytes);
    for (int i = 0; i < m->shape.layers; i++) {
        const struct model_layer *l = &m->layers[i];
        count_dtype(&l->attn_norm, bytes);
        count_dtype(&l->mlp_norm, bytes);
        count_dtype(&l->q_norm, bytes);
        count_dtype(&l->k_norm, bytes);
        for (int k = 0; k < LINEAR_COUNT; k++) {
            count_dtype(&l->linear[k], bytes);
            count_dtype(&l->bias[k], bytes);
        }
    }
}

/* chat_template.jinja, or the member chat_template of tokenizer_config.json. */
static const char *template_place(const struct file_root *root)
{
    if (file_exists(root, "chat_template.jinja"))
        return "chat_template.jinja";
    char *text = NULL;
    size_t n = 0;
    cJSON *json = NULL;
    bool there = false;
    if (file_read(root, "tokenizer_config.json", LIMIT_CONFIG_JSON_BYTES, &text, &n, NULL, NULL) ==
            STATUS_OK &&
        json_parse(text, n, &json_default_limits, &json, NULL) == STATUS_OK)
        there = cJSON_IsObject(json) && json_member(json, "chat_template");
    cJSON_Delete(json);
    mem_free(text);
    return there ? "tokenizer_config.json" : NULL;
}

enum status engine_inspect_model(const char *path, enum engine_inspect_form form,
                                 struct strbuf *report, struct err *e)
{
    struct err why = {0};
    struct model *m = NULL;
    struct file_root root;
    if (model_open(path, NULL, &m, &why) != STATUS_OK)
        return refuse(report, &forms[form], "model", path, &why, e);
    struct inspect_model facts = {.path = path, .model = m};
    model_dtypes(m, facts.dtype_bytes);
    if (file_root_open(path, false, &root, NULL) == STATUS_OK) {
        facts.tokenizer = file_exists(&root, "tokenizer.json");
        facts.template = template_place(&root);
        file_root_close(&root);
    }
    forms[form].model(report, &facts);
    model_close(m);
    return finish(report, e);
}

/* ---- adapters ---- */

static int group_of(int site, int layers)
{
    if (site == SITE_LM_HEAD(layers))
        return INSPECT_HEAD;
    return site == SITE_EMBED(layers) ? INSPECT_EMBED : site % LINEAR_COUNT;
}

const char *inspect_group_name(int group, char out[INSPECT_NAME_BYTES])
{
    static const struct model_shape any = {.layers = 1};
    int site = group == INSPECT_HEAD    ? SITE_LM_HEAD(1)
               : group == INSPECT_EMBED ? SITE_EMBED(1)
                                        : group;
    model_site_name(&any, site, out, INSPECT_NAME_BYTES);
    const char *dot = strrchr(out, '.');
    return dot ? dot + 1 : out;
}

static void add_to_group(struct inspect_group *g, const struct lora_module *m)
{
    bool first = g->modules++ == 0;
    const struct tensor *all[] = {&m->a, &m->b, &m->magnitude};
    g->rank_min = first || m->rank < g->rank_min ? m->rank : g->rank_min;
    g->rank_max = m->rank > g->rank_max ? m->rank : g->rank_max;
    g->scale_min = first || m->scale < g->scale_min ? m->scale : g->scale_min;
    g->scale_max = first || m->scale > g->scale_max ? m->scale : g->scale_max;
    g->dora += m->magnitude.data != NULL;
    /* With a magnitude even a zero product rescales the rows. */
    g->zero += !m->magnitude.data && (m->scale == 0.0f || tensor_is_zero(&m->b));
    for (int i = 0; i < 3; i++) {
        count_dtype(all[i], g->dtype_bytes);
        if (all[i]->data)
            g->bytes += tensor_bytes(all[i]);
    }
}

/* Modules that the config targets and the file has no tensors for: PEFT starts those at zero, so
 * they change nothing; the user may have expected otherwise. Returns how many went into `sites`,
 * which has room for all. */
static int find_missing(const char *path, const struct lora *l, const struct model_shape *s,
                        int *sites)
{
    struct file_root root;
    struct lora_config *config = NULL;
    char *text = NULL;
    size_t n = 0;
    int missing = 0;
    if (file_root_open(path, false, &root, NULL) != STATUS_OK)
        return 0;
    enum status st =
        file_read(&root, "adapter_config.json", LIMIT_CONFIG_JSON_BYTES, &text, &n, NULL, NULL);
    if (st == STATUS_OK)
        st = lora_config_parse(text, n, &config, NULL);
    for (int site = 0, i = 0; site < SITE_COUNT(s->layers) && st == STATUS_OK; site++) {
        char name[INSPECT_NAME_BYTES];
        bool wanted = false;
        while (i < l->module_count && l->modules[i].site < site)
            i++;
        if (i < l->module_count && l->modules[i].site == site)
            continue;
        model_site_name(s, site, name, sizeof name);
        st = lora_config_targets(config, name, &wanted, NULL);
        if (st == STATUS_OK && wanted)
            sites[missing++] = site;
    }
    lora_config_free(config);
    mem_free(text);
    file_root_close(&root);
    return missing;
}

static const char *last_part(const char *path, size_t end, size_t *n)
{
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    *n = end - begin;
    return path + begin;
}

static bool same_name(const char *path, const char *dir)
{
    size_t n;
    size_t k;
    const char *a = last_part(path, strlen(path), &n);
    const char *b = last_part(dir, strlen(dir), &k);
    /* In the hub's cache: models--org--name/snapshots/commit. */
    size_t above = (size_t)(b - dir);
    const char *parent = last_part(dir, above, &k);
    if (k == strlen("snapshots") && memcmp(parent, "snapshots", k) == 0) {
        b = last_part(dir, (size_t)(parent - dir), &k);
        for (size_t i = k; i > 1; i--) {
            if (b[i - 1] != '-' || b[i - 2] != '-')
                continue;
            b += i;
            k -= i;
            break;
        }
    } else {
        b = last_part(dir, strlen(dir), &k);
    }
    return n == k && memcmp(a, b, n) == 0;
}

enum status engine_inspect_adapter(const char *path, const char *base_dir,
                                   enum engine_inspect_form form, struct strbuf *report,
                                   struct err *e)
{
    struct err why = {0};
    struct model *base = NULL;
    struct lora *l = NULL;
    int *missing = NULL;
    enum status st = base_dir ? model_open(base_dir, NULL, &base, &why) : STATUS_OK;
    if (st == STATUS_OK)
        st = lora_open(path, base, &l, &why);
    if (st == STATUS_OK && base) {
        missing = mem_alloc((size_t)SITE_COUNT(base->shape.layers), sizeof *missing);
        if (!missing)
            st = err_set(&why, STATUS_NO_MEMORY, NULL, "out of memory for the report");
    }
    if (st != STATUS_OK) {
        st = refuse(report, &forms[form], "adapter", path, &why, e);
        goto close;
    }
    struct inspect_adapter facts = {
        .path = path,
        .base_dir = base_dir,
        .base = base ? &base->shape : NULL,
        .same_name = base_dir && l->base_name && same_name(l->base_name, base_dir),
        .lora = l,
        .missing = missing,
        .missing_count = base ? find_missing(path, l, &base->shape, missing) : 0,
    };
    for (int i = 0; i < l->module_count; i++) {
        const struct lora_module *m = &l->modules[i];
        int layers = base ? base->shape.layers : LIMIT_MODEL_LAYERS;
        add_to_group(&facts.groups[group_of(m->site, layers)], m);
    }
    for (int g = 0; g < INSPECT_GROUPS; g++)
        facts.zero += facts.groups[g].zero;
    st = lora_quant_measure(l, ENGINE_QUANT_INT8, &facts.quant[0], e);
    if (st == STATUS_OK)
        st = lora_quant_measure(l, ENGINE_QUANT_INT4, &facts.quant[1], e);
    if (st == STATUS_OK) {
        forms[form].adapter(report, &facts);
        st = finish(report, e);
    }
close:
    mem_free(missing);
    lora_free(l);
    model_close(base);
    return st;
}
