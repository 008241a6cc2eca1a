#include "engine/engine_inspect.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "engine/adapter/lora.h"
#include "engine/adapter/lora_config.h"
#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/model/hf_config.h"
#include "engine/model/model.h"

#define DTYPE_COUNT 3
#define NAME_BYTES  96
#define NAMES_SHOWN 4 /* of a list that may be long */

bool engine_inspect_is_adapter(const char *path)
{
    struct file_root root;
    if (file_root_open(path, false, &root, NULL) != STATUS_OK)
        return false;
    bool yes = file_exists(&root, "adapter_config.json");
    file_root_close(&root);
    return yes;
}

static enum status finish(const struct strbuf *report, enum status st, struct err *e)
{
    if (report->failed && st == STATUS_OK)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory for the report");
    return st;
}

static void refused(struct strbuf *r, enum status st, const struct err *e)
{
    strbuf_printf(r, "refused    %s: %s\n", status_code(st), e->msg);
}

/* 1234567 -> 1,234,567 */
static void add_count(struct strbuf *r, uint64_t n)
{
    char digits[24];
    int k = 0;
    do {
        digits[k++] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    while (k > 0) {
        strbuf_putc(r, digits[--k]);
        if (k > 0 && k % 3 == 0)
            strbuf_putc(r, ',');
    }
}

/* ---- models ---- */

static void add_dtypes(struct strbuf *r, const uint64_t bytes[DTYPE_COUNT])
{
    bool first = true;
    for (int d = 0; d < DTYPE_COUNT; d++) {
        if (bytes[d] == 0)
            continue;
        strbuf_printf(r, "%s%s", first ? "" : " + ", dtype_name((enum dtype)d));
        first = false;
    }
}

static void count_dtype(const struct tensor *t, uint64_t bytes[DTYPE_COUNT])
{
    if (t->data)
        bytes[t->dtype] += tensor_bytes(t);
}

static void model_dtypes(const struct model *m, uint64_t bytes[DTYPE_COUNT])
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

static void add_rope(struct strbuf *r, const struct model_shape *s)
{
    const struct rope_params *p = &s->rope;
    strbuf_printf(r, "context    %d tokens", s->ctx_max);
    if (s->window)
        strbuf_printf(r, ", sliding window of %d", s->window);
    strbuf_printf(r, "; rope theta %g", p->theta);
    if (p->kind == ROPE_LINEAR)
        strbuf_printf(r, ", linear, factor %g", p->factor);
    if (p->kind == ROPE_LLAMA3)
        strbuf_printf(r, ", llama3, factor %g (low %g, high %g, from %d tokens)", p->factor,
                      p->low_freq_factor, p->high_freq_factor, p->original_ctx);
    strbuf_putc(r, '\n');
}

static void add_default(struct strbuf *r, const char *name, double value, bool *any)
{
    if (isnan(value))
        return;
    strbuf_printf(r, "%s%s %g", *any ? ", " : "", name, value);
    *any = true;
}

static void add_sampling(struct strbuf *r, const struct model *m)
{
    const struct model_defaults *d = &m->defaults;
    bool any = false;
    strbuf_puts(r, "sampling   ");
    add_default(r, "temperature", d->temperature, &any);
    add_default(r, "top_p", d->top_p, &any);
    add_default(r, "min_p", d->min_p, &any);
    add_default(r, "repetition_penalty", d->repetition_penalty, &any);
    add_default(r, "top_k", d->top_k < 0 ? NAN : d->top_k, &any);
    strbuf_puts(r, any ? "\n" : "no defaults in generation_config.json\n");
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

static void add_text_files(struct strbuf *r, const char *path)
{
    struct file_root root;
    if (file_root_open(path, false, &root, NULL) != STATUS_OK)
        return;
    const char *template = template_place(&root);
    strbuf_printf(r, "tokenizer  %s\n",
                  file_exists(&root, "tokenizer.json")
                      ? "tokenizer.json"
                      : "tokenizer.json is missing: it cannot be served");
    strbuf_printf(r, "template   %s\n",
                  template ? template : "none: completions work, chat does not");
    file_root_close(&root);
}

enum status engine_inspect_model(const char *path, struct strbuf *report, struct err *e)
{
    struct strbuf *r = report;
    struct err why = {0};
    struct model *m = NULL;
    strbuf_printf(r, "model      %s\n", path);
    enum status st = model_open(path, NULL, &m, &why);
    if (st != STATUS_OK) {
        refused(r, st, &why);
        if (e)
            *e = why;
        return st;
    }
    const struct model_shape *s = &m->shape;
    uint64_t dtypes[DTYPE_COUNT] = {0};
    model_dtypes(m, dtypes);
    strbuf_printf(r,
                  "shape      %s: %d layers, hidden %d, %d heads of %d over %d kv heads, ffn %d\n",
                  hf_config_arch_name(s->arch), s->layers, s->hidden, s->heads, s->head_dim,
                  s->kv_heads, s->ffn);
    strbuf_printf(r, "vocabulary %d tokens, head %s\n", s->vocab,
                  s->tied_head ? "tied to the embedding" : "of its own");
    add_rope(r, s);
    strbuf_puts(r, "weights    ");
    add_count(r, (uint64_t)m->parameters);
    strbuf_puts(r, " parameters, ");
    add_count(r, m->weight_bytes);
    strbuf_puts(r, " bytes, ");
    add_dtypes(r, dtypes);
    strbuf_puts(r, "\nends with  ");
    for (int i = 0; i < m->eos_count; i++)
        strbuf_printf(r, "%s%d", i > 0 ? ", " : "token ", m->eos[i]);
    strbuf_puts(r, m->eos_count > 0 ? "\n" : "no token: generation runs to its limit\n");
    add_sampling(r, m);
    add_text_files(r, path);
    model_close(m);
    return finish(r, STATUS_OK, e);
}

/* ---- adapters ---- */

/* One line of the report: a linear kind over all layers, the head or the embedding. */
struct group {
    int modules;
    int rank_min, rank_max;
    float scale_min, scale_max;
    int zero; /* modules that change nothing */
    int dora;
    uint64_t bytes;
    uint64_t dtypes[DTYPE_COUNT];
};

#define GROUP_HEAD  LINEAR_COUNT
#define GROUP_EMBED (LINEAR_COUNT + 1)
#define GROUP_COUNT (LINEAR_COUNT + 2)

static int group_of(int site, int layers)
{
    if (site == SITE_LM_HEAD(layers))
        return GROUP_HEAD;
    return site == SITE_EMBED(layers) ? GROUP_EMBED : site % LINEAR_COUNT;
}

static const char *group_name(int g, char out[NAME_BYTES])
{
    static const struct model_shape any = {.layers = 1};
    int site = g == GROUP_HEAD ? SITE_LM_HEAD(1) : g == GROUP_EMBED ? SITE_EMBED(1) : g;
    model_site_name(&any, site, out, NAME_BYTES);
    const char *dot = strrchr(out, '.');
    return dot ? dot + 1 : out;
}

static void add_to_group(struct group *g, const struct lora_module *m)
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
        count_dtype(all[i], g->dtypes);
        if (all[i]->data)
            g->bytes += tensor_bytes(all[i]);
    }
}

static void add_group(struct strbuf *r, const char *name, const struct group *g)
{
    strbuf_printf(r, "  %-14s %3d module%s  rank %d", name, g->modules, g->modules == 1 ? " " : "s",
                  g->rank_min);
    if (g->rank_max != g->rank_min)
        strbuf_printf(r, "-%d", g->rank_max);
    strbuf_printf(r, "  scale %g", (double)g->scale_min);
    if (g->scale_max != g->scale_min)
        strbuf_printf(r, " .. %g", (double)g->scale_max);
    strbuf_puts(r, "  ");
    add_dtypes(r, g->dtypes);
    strbuf_puts(r, "  ");
    add_count(r, g->bytes);
    strbuf_puts(r, " bytes");
    if (g->dora)
        strbuf_puts(r, "  DoRA");
    if (g->zero)
        strbuf_printf(r, "  (%d without effect: B or the scale is zero)", g->zero);
    strbuf_putc(r, '\n');
}

static void add_modules(struct strbuf *r, const struct lora *l, int layers)
{
    struct group groups[GROUP_COUNT] = {0};
    int zero = 0;
    for (int i = 0; i < l->module_count; i++)
        add_to_group(&groups[group_of(l->modules[i].site, layers)], &l->modules[i]);
    strbuf_printf(r, "binds      %d modules, ranks up to %d, ", l->module_count, l->rank_max);
    add_count(r, l->bytes);
    strbuf_puts(r, " bytes\n");
    for (int g = 0; g < GROUP_COUNT; g++) {
        char name[NAME_BYTES];
        zero += groups[g].zero;
        if (groups[g].modules > 0)
            add_group(r, group_name(g, name), &groups[g]);
    }
    if (zero == l->module_count)
        strbuf_puts(r, "note       the whole adapter is without effect\n");
}

/* Modules that the config targets and the file has no tensors for: PEFT starts those at zero, so
 * they change nothing; the user may have expected otherwise. */
static void add_missing(struct strbuf *r, const char *path, const struct lora *l,
                        const struct model_shape *s)
{
    struct file_root root;
    struct lora_config *config = NULL;
    char *text = NULL;
    size_t n = 0;
    int missing = 0;
    if (file_root_open(path, false, &root, NULL) != STATUS_OK)
        return;
    enum status st =
        file_read(&root, "adapter_config.json", LIMIT_CONFIG_JSON_BYTES, &text, &n, NULL, NULL);
    if (st == STATUS_OK)
        st = lora_config_parse(text, n, &config, NULL);
    for (int site = 0, i = 0; site < SITE_COUNT(s->layers) && st == STATUS_OK; site++) {
        char name[NAME_BYTES];
        bool wanted = false;
        while (i < l->module_count && l->modules[i].site < site)
            i++;
        if (i < l->module_count && l->modules[i].site == site)
            continue;
        model_site_name(s, site, name, sizeof name);
        st = lora_config_targets(config, name, &wanted, NULL);
        if (st == STATUS_OK && wanted && ++missing <= NAMES_SHOWN)
            strbuf_printf(r, "%s%s",
                          missing == 1 ? "note       targeted, but without tensors: " : ", ", name);
    }
    if (missing > NAMES_SHOWN)
        strbuf_printf(r, " and %d more", missing - NAMES_SHOWN);
    if (missing > 0)
        strbuf_putc(r, '\n');
    lora_config_free(config);
    mem_free(text);
    file_root_close(&root);
}

static const char *last_part(const char *path, size_t *n)
{
    size_t end = strlen(path);
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
    const char *a = last_part(path, &n);
    const char *b = last_part(dir, &k);
    return n == k && memcmp(a, b, n) == 0;
}

static void add_base(struct strbuf *r, const struct lora *l, const char *base_dir)
{
    strbuf_printf(r, "made for   %s\n", l->base_name ? l->base_name : "a base it does not name");
    if (!base_dir)
        strbuf_puts(r, "checked    against no base model (--model DIR names one)\n");
    else if (l->base_name && !same_name(l->base_name, base_dir))
        strbuf_printf(r, "checked    against %s: another name, so the weights may be others\n",
                      base_dir);
    else
        strbuf_printf(r, "checked    against %s\n", base_dir);
}

enum status engine_inspect_adapter(const char *path, const char *base_dir, struct strbuf *report,
                                   struct err *e)
{
    struct strbuf *r = report;
    struct err why = {0};
    struct model *base = NULL;
    struct lora *l = NULL;
    char hex[65];
    strbuf_printf(r, "adapter    %s\n", path);
    enum status st = base_dir ? model_open(base_dir, NULL, &base, &why) : STATUS_OK;
    if (st == STATUS_OK)
        st = lora_open(path, base, &l, &why);
    if (st != STATUS_OK) {
        refused(r, st, &why);
        if (e)
            *e = why;
        model_close(base);
        return st;
    }
    add_base(r, l, base_dir);
    sha256_hex(l->sha256, hex);
    strbuf_printf(r, "sha256     %s\n", hex);
    add_modules(r, l, base ? base->shape.layers : LIMIT_MODEL_LAYERS);
    if (base)
        add_missing(r, path, l, &base->shape);
    lora_free(l);
    model_close(base);
    return finish(r, STATUS_OK, e);
}
