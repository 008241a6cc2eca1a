/* hf_config: config.json and generation_config.json of a Hugging Face directory, as far as they
 * change what a model computes. Pure functions, any thread.
 *
 * Fields and defaults follow the classes of transformers for the four architectures. A field that
 * would change the mathematics in a way that is not implemented is refused by its name; fields that
 * those classes ignore are ignored. Precision fields (torch_dtype, dtype) are ignored: the tensors
 * say what they are.
 */
#ifndef CHORUS_MODEL_HF_CONFIG_H
#define CHORUS_MODEL_HF_CONFIG_H

#include "engine/model/model.h"

struct hf_config {
    struct model_shape shape; /* tied_head as the config wishes; the tensors have the last word */
    bool bias[LINEAR_COUNT];  /* linears that have one in this architecture and config */
    bool nested;              /* the text part of a multimodal model: other tensors are not ours */
    int32_t eos[MODEL_EOS_MAX];
    int eos_count; /* 0: the config is silent */
};

/* STATUS_BAD_FILE for a missing or impossible field, STATUS_UNSUPPORTED for one that is not
 * implemented; e->param is the field. */
WARN_UNUSED enum status hf_config_parse(const char *text, size_t n, struct hf_config *out,
                                        struct err *e);
/* Sampling defaults, and eos ids (*eos_count stays as it was when the file names none). */
WARN_UNUSED enum status hf_config_parse_generation(const char *text, size_t n,
                                                   struct model_defaults *out, int32_t *eos,
                                                   int *eos_count, struct err *e);
/* "llama", "mistral", ...: the model_type. */
const char *hf_config_arch_name(enum model_arch arch);

#endif
