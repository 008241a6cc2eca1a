/* inspect_facts: what engine_inspect.c found out about a directory, for the two files that write it
 * down: inspect_text.c for people, inspect_json.c for programs. Plain data, everything borrowed.
 * Private to engine/engine_inspect.c and these two.
 */
#ifndef CHORUS_INSPECT_FACTS_H
#define CHORUS_INSPECT_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/adapter/lora.h"
#include "engine/adapter/lora_quant.h"
#include "engine/base/strbuf.h"
#include "engine/model/model.h"

#define INSPECT_DTYPES     3
#define INSPECT_NAME_BYTES 96

struct inspect_model {
    const char *path;
    const struct model *model;
    uint64_t dtype_bytes[INSPECT_DTYPES]; /* 0: no tensor has this type */
    bool tokenizer;                       /* tokenizer.json is there */
    const char *template;                 /* the file that holds the chat template, or NULL */
};

/* One linear kind over all layers, the head or the embedding. */
struct inspect_group {
    int modules;
    int rank_min, rank_max;
    float scale_min, scale_max;
    int zero; /* modules that change nothing */
    int dora;
    uint64_t bytes;
    uint64_t dtype_bytes[INSPECT_DTYPES];
};

#define INSPECT_HEAD   LINEAR_COUNT
#define INSPECT_EMBED  (LINEAR_COUNT + 1)
#define INSPECT_GROUPS (LINEAR_COUNT + 2)

struct inspect_adapter {
    const char *path;
    const char *base_dir;           /* NULL: checked against no base */
    const struct model_shape *base; /* NULL without base_dir */
    bool same_name;                 /* base_dir ends as the base that the adapter names */
    const struct lora *lora;
    struct inspect_group groups[INSPECT_GROUPS];
    int zero;                          /* modules that change nothing, over all groups */
    struct lora_quant_report quant[2]; /* at 8 and at 4 bits */
    const int *missing; /* [missing_count] sites that the config targets and the file lacks */
    int missing_count;
};

/* "q_proj", "lm_head" ... of a group, in `out`. */
const char *inspect_group_name(int group, char out[INSPECT_NAME_BYTES]);

void inspect_text_model(struct strbuf *r, const struct inspect_model *m);
void inspect_text_adapter(struct strbuf *r, const struct inspect_adapter *a);
/* `kind` is "model" or "adapter". */
void inspect_text_refused(struct strbuf *r, const char *kind, const char *path,
                          const struct err *why);

/* One JSON object and a line break. */
void inspect_json_model(struct strbuf *r, const struct inspect_model *m);
void inspect_json_adapter(struct strbuf *r, const struct inspect_adapter *a);
void inspect_json_refused(struct strbuf *r, const char *kind, const char *path,
                          const struct err *why);

#endif
