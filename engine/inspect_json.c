#include "engine/inspect_facts.h"

#include <math.h>
#include <string.h>

#include "engine/model/hf_config.h"

static void put_string(struct strbuf *r, const char *s)
{
    if (s)
        strbuf_json_string(r, s, strlen(s));
    else
        strbuf_puts(r, "null");
}

static void begin(struct strbuf *r, const char *kind, const char *path, bool ok)
{
    strbuf_printf(r, "{\"kind\":\"%s\",\"path\":", kind);
    put_string(r, path);
    strbuf_puts(r, ok ? ",\"ok\":true" : ",\"ok\":false");
}

static void put_dtypes(struct strbuf *r, const uint64_t bytes[INSPECT_DTYPES])
{
    bool first = true;
    strbuf_puts(r, ",\"dtypes\":[");
    for (int d = 0; d < INSPECT_DTYPES; d++) {
        if (bytes[d] == 0)
            continue;
        strbuf_printf(r, "%s\"%s\"", first ? "" : ",", dtype_name((enum dtype)d));
        first = false;
    }
    strbuf_putc(r, ']');
}

void inspect_json_refused(struct strbuf *r, const char *kind, const char *path,
                          const struct err *why)
{
    begin(r, kind, path, false);
    strbuf_printf(r, ",\"error\":{\"code\":\"%s\",\"param\":", status_code(why->code));
    put_string(r, why->param[0] ? why->param : NULL);
    strbuf_puts(r, ",\"message\":");
    put_string(r, why->msg);
    strbuf_puts(r, "}}\n");
}

/* ---- models ---- */

static void put_rope(struct strbuf *r, const struct rope_params *p)
{
    static const char *const kinds[] = {
        [ROPE_DEFAULT] = "default", [ROPE_LINEAR] = "linear", [ROPE_LLAMA3] = "llama3"};
    strbuf_printf(r, ",\"rope\":{\"type\":\"%s\",\"theta\":%.15g", kinds[p->kind], p->theta);
    if (p->kind != ROPE_DEFAULT)
        strbuf_printf(r, ",\"factor\":%.15g", p->factor);
    if (p->kind == ROPE_LLAMA3)
        strbuf_printf(r,
                      ",\"low_freq_factor\":%.15g,\"high_freq_factor\":%.15g,"
                      "\"original_context\":%d",
                      p->low_freq_factor, p->high_freq_factor, p->original_ctx);
    strbuf_putc(r, '}');
}

static void put_sampling(struct strbuf *r, const struct model_defaults *d)
{
    const struct {
        const char *name;
        double value; /* NaN: the model is silent */
    } fields[] = {
        {"temperature", d->temperature},
        {"top_p", d->top_p},
        {"min_p", d->min_p},
        {"repetition_penalty", d->repetition_penalty},
        {"top_k", d->top_k < 0 ? NAN : d->top_k},
    };
    bool first = true;
    strbuf_puts(r, ",\"sampling\":{");
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (isnan(fields[i].value))
            continue;
        strbuf_printf(r, "%s\"%s\":%.15g", first ? "" : ",", fields[i].name, fields[i].value);
        first = false;
    }
    strbuf_putc(r, '}');
}

void inspect_json_model(struct strbuf *r, const struct inspect_model *f)
{
    const struct model *m = f->model;
    const struct model_shape *s = &m->shape;
    begin(r, "model", f->path, true);
    strbuf_printf(r,
                  ",\"architecture\":\"%s\",\"layers\":%d,\"hidden\":%d,\"heads\":%d,"
                  "\"head_dim\":%d,\"kv_heads\":%d,\"ffn\":%d,\"vocabulary\":%d,\"tied_head\":%s,"
                  "\"context\":%d,\"sliding_window\":",
                  hf_config_arch_name(s->arch), s->layers, s->hidden, s->heads, s->head_dim,
                  s->kv_heads, s->ffn, s->vocab, s->tied_head ? "true" : "false", s->ctx_max);
    if (s->window)
        strbuf_printf(r, "%d", s->window);
    else
        strbuf_puts(r, "null");
    put_rope(r, &s->rope);
    strbuf_printf(r, ",\"parameters\":%lld,\"bytes\":%zu", (long long)m->parameters,
                  m->weight_bytes);
    put_dtypes(r, f->dtype_bytes);
    strbuf_puts(r, ",\"eos_tokens\":[");
    for (int i = 0; i < m->eos_count; i++)
        strbuf_printf(r, i ? ",%d" : "%d", m->eos[i]);
    strbuf_putc(r, ']');
    put_sampling(r, &m->defaults);
    strbuf_puts(r, ",\"tokenizer\":");
    put_string(r, f->tokenizer ? "tokenizer.json" : NULL);
    strbuf_puts(r, ",\"chat_template\":");
    put_string(r, f->template);
    strbuf_puts(r, "}\n");
}

/* ---- adapters ---- */

static void put_group(struct strbuf *r, const char *name, const struct inspect_group *g)
{
    strbuf_printf(r,
                  "{\"name\":\"%s\",\"modules\":%d,\"rank_min\":%d,\"rank_max\":%d,"
                  "\"scale_min\":%.9g,\"scale_max\":%.9g,\"bytes\":%llu",
                  name, g->modules, g->rank_min, g->rank_max, (double)g->scale_min,
                  (double)g->scale_max, (unsigned long long)g->bytes);
    put_dtypes(r, g->dtype_bytes);
    strbuf_printf(r, ",\"dora\":%d,\"without_effect\":%d}", g->dora, g->zero);
}

/* Relative root mean square errors. */
static void put_quant(struct strbuf *r, const struct inspect_adapter *a)
{
    static const struct model_shape any = {.layers = LIMIT_MODEL_LAYERS};
    strbuf_puts(r, ",\"quant_error\":{");
    for (int i = 0; i < 2; i++) {
        const struct lora_quant_report *q = &a->quant[i];
        char name[INSPECT_NAME_BYTES];
        model_site_name(a->base ? a->base : &any, a->lora->modules[q->worst].site, name,
                        sizeof name);
        strbuf_printf(r,
                      "%s\"%s\":{\"a\":%.4g,\"b\":%.4g,\"worst\":{\"module\":\"%s\","
                      "\"a\":%.4g,\"b\":%.4g}}",
                      i ? "," : "", i ? "int4" : "int8", (double)lora_quant_error(&q->a),
                      (double)lora_quant_error(&q->b), name, (double)q->worst_a,
                      (double)q->worst_b);
    }
    strbuf_putc(r, '}');
}

void inspect_json_adapter(struct strbuf *r, const struct inspect_adapter *a)
{
    const struct lora *l = a->lora;
    char hex[65];
    char name[INSPECT_NAME_BYTES];
    begin(r, "adapter", a->path, true);
    strbuf_puts(r, ",\"made_for\":");
    put_string(r, l->base_name);
    strbuf_puts(r, ",\"checked_against\":");
    put_string(r, a->base_dir);
    strbuf_puts(r, ",\"same_base_name\":");
    strbuf_puts(r, !a->base_dir || !l->base_name ? "null" : a->same_name ? "true" : "false");
    sha256_hex(l->sha256, hex);
    strbuf_printf(r,
                  ",\"sha256\":\"%s\",\"modules\":%d,\"rank_max\":%d,\"bytes\":%zu,"
                  "\"without_effect\":%d,\"sites\":[",
                  hex, l->module_count, l->rank_max, l->bytes, a->zero);
    bool first = true;
    for (int g = 0; g < INSPECT_GROUPS; g++) {
        if (a->groups[g].modules == 0)
            continue;
        strbuf_puts(r, first ? "" : ",");
        put_group(r, inspect_group_name(g, name), &a->groups[g]);
        first = false;
    }
    strbuf_puts(r, "],\"alora_invocation_tokens\":");
    for (int i = 0; i < l->alora_token_count; i++)
        strbuf_printf(r, i ? ",%d" : "[%d", l->alora_tokens[i]);
    strbuf_puts(r, l->alora_token_count > 0 ? "]" : "null");
    put_quant(r, a);
    strbuf_puts(r, ",\"targeted_without_tensors\":[");
    for (int i = 0; i < a->missing_count; i++) {
        model_site_name(a->base, a->missing[i], name, sizeof name);
        strbuf_printf(r, i ? ",\"%s\"" : "\"%s\"", name);
    }
    strbuf_puts(r, "]}\n");
}
