/* model: one base model, bound and checked: every weight the architecture needs is there, with the
 * right shape.
 *
 * Weights are views into read-only mappings of the safetensors files (owned by the model); a
 * backend copies or packs them into its own layout in backend_ops.model_load, after which the views
 * are not read again on the step path. Opened on any thread, then immutable and shared.
 */
#ifndef CHORUS_MODEL_MODEL_H
#define CHORUS_MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/model/pooling.h"
#include "engine/model/tensor.h"

/* Linear sites that an adapter can change. Site index of a layer's linear: layer * LINEAR_COUNT +
 * kind. */
enum linear_kind {
    LINEAR_Q,
    LINEAR_K,
    LINEAR_V,
    LINEAR_O,
    LINEAR_GATE,
    LINEAR_UP,
    LINEAR_DOWN,
    LINEAR_COUNT
};
/* The two sites outside the layers come after all layers' sites. */
#define SITE_LM_HEAD(layers) ((layers)*LINEAR_COUNT)
#define SITE_EMBED(layers)   ((layers)*LINEAR_COUNT + 1)
#define SITE_COUNT(layers)   ((layers)*LINEAR_COUNT + 2)
#define SITE_OF(layer, kind) ((layer)*LINEAR_COUNT + (kind))

enum model_arch { ARCH_LLAMA, ARCH_MISTRAL, ARCH_QWEN2, ARCH_QWEN3, ARCH_COUNT };
enum rope_kind { ROPE_DEFAULT, ROPE_LINEAR, ROPE_LLAMA3 };

struct rope_params {
    enum rope_kind kind;
    double theta;
    double factor;
    double low_freq_factor;  /* llama3 */
    double high_freq_factor; /* llama3 */
    int original_ctx;        /* llama3 */
};

/* Geometry, in the alphabet of STYLE.md. */
struct model_shape {
    enum model_arch arch;
    int layers;   /* L */
    int hidden;   /* M */
    int heads;    /* H */
    int kv_heads; /* KH, divides H */
    int head_dim; /* D, even */
    int ffn;      /* F */
    int vocab;    /* V: rows of the embedding */
    int ctx_max;  /* positions the model was made for */
    int window;   /* sliding window in tokens, 0: none */
    double rms_eps;
    bool tied_head; /* lm_head is the embedding */
    bool qk_norm;   /* RMSNorm over D on each q and k head, before RoPE */
    struct rope_params rope;
};

struct model_layer {
    struct tensor attn_norm;            /* [M] */
    struct tensor mlp_norm;             /* [M] */
    struct tensor linear[LINEAR_COUNT]; /* [out, in]: q [H*D, M], k v [KH*D, M], o [M, H*D], gate up
                                           [F, M], down [M, F] */
    struct tensor bias[LINEAR_COUNT];   /* [out], data NULL where the model has none */
    struct tensor q_norm;               /* [D], qk_norm only */
    struct tensor k_norm;               /* [D], qk_norm only */
};

#define MODEL_EOS_MAX 16

/* Sampling defaults of generation_config.json; NaN or -1 where the file is silent. */
struct model_defaults {
    double temperature;
    double top_p;
    double min_p;
    double repetition_penalty;
    int top_k;
};

struct model {
    struct model_shape shape;
    struct model_layer *layers; /* owned, [L] */
    struct tensor embed;        /* [V, M] */
    struct tensor final_norm;   /* [M] */
    struct tensor lm_head;      /* [V, M]; equal to embed when tied */
    int32_t eos[MODEL_EOS_MAX];
    int eos_count;
    struct model_defaults defaults;
    struct pooling pooling;
    size_t weight_bytes; /* as stored */
    int64_t parameters;
    struct model_files *files; /* owned mappings */
};

/* Called while loading: done of total bytes. May be NULL. */
struct progress {
    void (*fn)(void *ctx, const char *what, size_t done, size_t total);
    void *ctx;
};

/* Opens a Hugging Face directory. A model that does not bind is STATUS_BAD_FILE with the tensor's
 * or field's name in e->param; an architecture that is not known is STATUS_UNSUPPORTED. The caller
 * closes *out. */
WARN_UNUSED enum status model_open(const char *dir, const struct progress *progress,
                                   struct model **out, struct err *e);
void model_close(struct model *m);

/* In and out features of a linear site (0 <= site < SITE_COUNT). For SITE_EMBED in = V, out = M. */
void model_site_dims(const struct model_shape *s, int site, int *in, int *out);
/* "model.layers.3.self_attn.q_proj", "lm_head", "model.embed_tokens". Writes at most `cap` bytes
 * with terminator. */
void model_site_name(const struct model_shape *s, int site, char *out, size_t cap);

#endif
