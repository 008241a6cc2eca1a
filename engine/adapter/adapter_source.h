/* adapter_source: where adapters come from, and how one is opened at a width. Any thread. */
#ifndef CHORUS_ADAPTER_ADAPTER_SOURCE_H
#define CHORUS_ADAPTER_ADAPTER_SOURCE_H

#include "engine/adapter/lora.h"
#include "engine/engine_adapter_data.h"

/* Where adapters come from; functions of lora.h but in tests. */
struct adapter_source {
    enum status (*open)(const char *dir, const struct model *base, struct lora **out,
                        struct err *e);
    /* NULL: a root is STATUS_UNSUPPORTED. */
    enum status (*open_beneath)(const char *root, const char *name, const struct model *base,
                                struct lora **out, struct err *e);
    void (*identify)(struct lora *l); /* waits for its sha256; NULL: it is known at once */
    void (*free)(struct lora *l);
};

/* Directory `path`, of `root` if that is not NULL; its sha256 is known. */
WARN_UNUSED enum status adapter_source_open(const struct adapter_source *source, const char *root,
                                            const char *path, const struct model *base,
                                            struct lora **out, struct err *e);

/* As adapter_source_open, at a width. *error: see engine_adapter_info.quant_error. The sha256 may
 * only be known after adapter_source_identify. */
WARN_UNUSED enum status adapter_source_open_at(const struct adapter_source *source,
                                               const char *root, const char *path,
                                               const struct model *base,
                                               enum engine_adapter_quant quant, struct lora **out,
                                               float *error, struct err *e);

void adapter_source_identify(const struct adapter_source *source, struct lora *l);

#endif
