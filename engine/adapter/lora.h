/* lora: one adapter generation in host memory, as mathematics: what to add to which linear.
 *
 *   y += weight * scale * B (A x)                                              plain, rsLoRA
 *   y += weight * ((g - 1) * W x + g * scale * B (A x)),  g = m / ||W + scale B A||_row   DoRA, W
 * without bias
 *
 * Sources: Hu et al. 2021 (LoRA), Kalajdzievski 2023 (rsLoRA: scale = alpha / sqrt(r)), Liu et al.
 * 2024 (DoRA); the effective scale per module follows PEFT. Immutable after lora_open; shared by
 * reference count in adapter_store.
 */
#ifndef CHORUS_ADAPTER_LORA_H
#define CHORUS_ADAPTER_LORA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/sha256_job.h"
#include "engine/base/status.h"
#include "engine/model/model.h"

struct lora_module {
    int site; /* SITE_OF / SITE_LM_HEAD / SITE_EMBED */
    int rank; /* R, 1 .. LIMIT_ADAPTER_RANK */
    int in;   /* features of the site */
    int out;
    float scale;             /* effective: alpha / r or alpha / sqrt(r), after patterns */
    struct tensor a;         /* [R, in]; for SITE_EMBED [R, V] */
    struct tensor b;         /* [out, R] */
    struct tensor magnitude; /* [out], data NULL without DoRA */
};

struct lora {
    struct lora_module *modules; /* owned, ascending by site, at most one a site */
    int module_count;
    int rank_max;
    size_t bytes;                 /* host bytes of all tensors, as stored */
    uint8_t sha256[SHA256_BYTES]; /* of adapter_config.json and the tensor file's bytes, or of the
                                     GGUF file's */
    char *base_name;              /* owned; the base as the adapter names it, or NULL */
    /* Activated LoRA (Greenewald et al. 2025): it acts from the first token of the last of these
     * sequences in the prompt on, and not at all where there is none. */
    int32_t *alora_tokens;      /* owned, [alora_token_count] */
    int alora_token_count;      /* 0: an ordinary LoRA, it acts on every token */
    void *storage;              /* owned */
    struct sha256_job *hashing; /* owned; not NULL: sha256 is not known yet, see lora_identify */
};

struct file_root;

/* Whether `name` of root is a file that ends in ".gguf": an adapter of its own. */
bool lora_is_gguf(const struct file_root *root, const char *name);

/* Reads a PEFT directory, or a GGUF file (lora_gguf.h), for this base, which must stay open during
 * the call: PEFT saves a copy of the embedding or head beside adapters of these, and the copy is
 * compared with the base. Complete or refused: every tensor binds, every config field (every key of
 * the adapter's) that changes the mathematics is honoured, or STATUS_BAD_FILE / STATUS_UNSUPPORTED
 * names the field or tensor in e->param. STATUS_CONFLICT: a file changed while it was read. Files
 * are read with pread into own memory. Symbolic links are followed; blocks on the disk. The caller
 * frees *out with lora_free.
 *
 * base NULL: nothing is compared with a base; in and out are what the tensors have, and sites count
 * LIMIT_MODEL_LAYERS layers. For looking into adapters, not for running them. */
WARN_UNUSED enum status lora_open(const char *path, const struct model *base, struct lora **out,
                                  struct err *e);
/* As lora_open for directory or file `name` of `root`, never leaving root: a link or .. that leads
 * outside is STATUS_BAD_FILE, a link to another place in root is followed. For adapter directories
 * that others may write to. */
WARN_UNUSED enum status lora_open_beneath(const char *root, const char *name,
                                          const struct model *base, struct lora **out,
                                          struct err *e);
/* The same two, but they may return while the bytes are still hashed: the adapter can be used, its
 * sha256 only after lora_identify. */
WARN_UNUSED enum status lora_open_early(const char *path, const struct model *base,
                                        struct lora **out, struct err *e);
WARN_UNUSED enum status lora_open_beneath_early(const char *root, const char *name,
                                                const struct model *base, struct lora **out,
                                                struct err *e);
/* Waits for sha256; nothing when it is known. */
void lora_identify(struct lora *l);
void lora_free(struct lora *l);

#endif
