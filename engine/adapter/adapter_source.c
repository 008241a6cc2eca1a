#include "engine/adapter/adapter_source.h"

#include "engine/adapter/lora_quant.h"

void adapter_source_identify(const struct adapter_source *source, struct lora *l)
{
    if (source->identify)
        source->identify(l);
}

static enum status open_early(const struct adapter_source *source, const char *root,
                              const char *path, const struct model *base, struct lora **out,
                              struct err *e)
{
    if (!root)
        return source->open(path, base, out, e);
    if (!source->open_beneath)
        return err_set(e, STATUS_UNSUPPORTED, "path", "Adapters below a root cannot be read here.");
    return source->open_beneath(root, path, base, out, e);
}

enum status adapter_source_open(const struct adapter_source *source, const char *root,
                                const char *path, const struct model *base, struct lora **out,
                                struct err *e)
{
    enum status st = open_early(source, root, path, base, out, e);
    if (st == STATUS_OK)
        adapter_source_identify(source, *out);
    return st;
}

enum status adapter_source_open_at(const struct adapter_source *source, const char *root,
                                   const char *path, const struct model *base,
                                   enum engine_adapter_quant quant, struct lora **out, float *error,
                                   struct err *e)
{
    struct lora *l = NULL;
    struct lora_quant_report r = {.worst = 0};
    enum status st = open_early(source, root, path, base, &l, e);
    if (st != STATUS_OK)
        return st;
    if (quant != ENGINE_QUANT_NONE)
        adapter_source_identify(source, l); /* the width changes its identity */
    st = lora_quantise(l, quant, &r, e);
    if (st != STATUS_OK) {
        source->free(l);
        return st;
    }
    struct lora_quant_sums all = {r.a.error + r.b.error, r.a.norm + r.b.norm};
    *error = lora_quant_error(&all);
    *out = l;
    return STATUS_OK;
}
