#include "engine/inspect_facts.h"

#include <math.h>
#include <string.h>

#include "engine/model/hf_config.h"

#define NAMES_SHOWN 4 /* of a list that may be long */

void inspect_text_refused(struct strbuf *r, const char *kind, const char *path,
                          const struct err *why)
{
    strbuf_printf(r, "%-10s %s\nrefused    %s: %s\n", kind, path, status_code(why->code), why->msg);
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

static void add_dtypes(struct strbuf *r, const uint64_t bytes[INSPECT_DTYPES])
{
    bool first = true;
    for (int d = 0; d < INSPECT_DTYPES; d++) {
        if (bytes[d] == 0)
            continue;
        strbuf_printf(r, "%s%s", first ? "" : " + ", dtype_name((enum dtype)d));
        first = false;
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

void inspect_text_model(struct strbuf *r, const struct inspect_model *f)
{
    const struct model *m = f->model;
    const struct model_shape *s = &m->shape;
    strbuf_printf(r, "model      %s\n", f->path);
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
    add_dtypes(r, f->dtype_bytes);
    strbuf_puts(r, "\nends with  ");
    for (int i = 0; i < m->eos_count; i++)
        strbuf_printf(r, "%s%d", i > 0 ? ", " : "token ", m->eos[i]);
    strbuf_puts(r, m->eos_count > 0 ? "\n" : "no token: generation runs to its limit\n");
    add_sampling(r, m);
    strbuf_printf(r, "tokenizer  %s\n",
                  f->tokenizer ? "tokenizer.json"
                               : "tokenizer.json is missing: it cannot be served");
    strbuf_printf(r, "template   %s\n",
                  f->template ? f->template : "none: completions work, chat does not");
}

/* ---- adapters ---- */

static void add_group(struct strbuf *r, const char *name, const struct inspect_group *g)
{
    strbuf_printf(r, "  %-14s %3d module%s  rank %d", name, g->modules, g->modules == 1 ? " " : "s",
                  g->rank_min);
    if (g->rank_max != g->rank_min)
        strbuf_printf(r, "-%d", g->rank_max);
    strbuf_printf(r, "  scale %g", (double)g->scale_min);
    if (g->scale_max != g->scale_min)
        strbuf_printf(r, " .. %g", (double)g->scale_max);
    strbuf_puts(r, "  ");
    add_dtypes(r, g->dtype_bytes);
    strbuf_puts(r, "  ");
    add_count(r, g->bytes);
    strbuf_puts(r, " bytes");
    if (g->dora)
        strbuf_puts(r, "  DoRA");
    if (g->zero)
        strbuf_printf(r, "  (%d without effect: B or the scale is zero)", g->zero);
    strbuf_putc(r, '\n');
}

static void add_missing(struct strbuf *r, const struct inspect_adapter *a)
{
    for (int i = 0; i < a->missing_count && i < NAMES_SHOWN; i++) {
        char name[INSPECT_NAME_BYTES];
        model_site_name(a->base, a->missing[i], name, sizeof name);
        strbuf_printf(r, "%s%s", i == 0 ? "note       targeted, but without tensors: " : ", ",
                      name);
    }
    if (a->missing_count > NAMES_SHOWN)
        strbuf_printf(r, " and %d more", a->missing_count - NAMES_SHOWN);
    if (a->missing_count > 0)
        strbuf_putc(r, '\n');
}

static double percent(float share)
{
    return 100.0 * (double)share;
}

/* What quantising would cost. */
static void add_quant(struct strbuf *r, const struct inspect_adapter *a)
{
    static const struct model_shape any = {.layers = LIMIT_MODEL_LAYERS};
    for (int i = 0; i < 2; i++) {
        const struct lora_quant_report *q = &a->quant[i];
        char name[INSPECT_NAME_BYTES];
        model_site_name(a->base ? a->base : &any, a->lora->modules[q->worst].site, name,
                        sizeof name);
        strbuf_printf(
            r, "%s       error %.2f %% of A, %.2f %% of B; most at %s: %.2f %%, %.2f %%\n",
            i ? "int4" : "int8", percent(lora_quant_error(&q->a)), percent(lora_quant_error(&q->b)),
            name, percent(q->worst_a), percent(q->worst_b));
    }
}

static void add_base(struct strbuf *r, const struct inspect_adapter *a)
{
    const char *name = a->lora->base_name;
    strbuf_printf(r, "made for   %s\n", name ? name : "a base it does not name");
    if (!a->base_dir)
        strbuf_puts(r, "checked    against no base model (--model DIR names one)\n");
    else if (name && !a->same_name)
        strbuf_printf(r, "checked    against %s: another name, so the weights may be others\n",
                      a->base_dir);
    else
        strbuf_printf(r, "checked    against %s\n", a->base_dir);
}

void inspect_text_adapter(struct strbuf *r, const struct inspect_adapter *a)
{
    const struct lora *l = a->lora;
    char hex[65];
    strbuf_printf(r, "adapter    %s\n", a->path);
    add_base(r, a);
    sha256_hex(l->sha256, hex);
    strbuf_printf(r, "sha256     %s\n", hex);
    strbuf_printf(r, "binds      %d modules, ranks up to %d, ", l->module_count, l->rank_max);
    add_count(r, l->bytes);
    strbuf_puts(r, " bytes\n");
    for (int g = 0; g < INSPECT_GROUPS; g++) {
        char name[INSPECT_NAME_BYTES];
        if (a->groups[g].modules > 0)
            add_group(r, inspect_group_name(g, name), &a->groups[g]);
    }
    for (int i = 0; i < l->alora_token_count; i++)
        strbuf_printf(r, i ? " %d" : "activated  from the last of these tokens on: %d",
                      l->alora_tokens[i]);
    if (l->alora_token_count > 0)
        strbuf_putc(r, '\n');
    add_quant(r, a);
    if (a->zero == l->module_count)
        strbuf_puts(r, "note       the whole adapter is without effect\n");
    add_missing(r, a);
}
