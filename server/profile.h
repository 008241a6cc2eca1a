/* profile: how an adapter wants to be talked to: its own chat template, a system prompt for chats
 * that bring none, sampling defaults.
 *
 * It stands in the adapter's directory: `chorus.json` {"system", "sampling": {...},
 * "chat_template"}, where chat_template is a template, or false for the base's in spite of what
 * lies there; else chat_template.jinja or the one in tokenizer_config.json. It is read once, when
 * the adapter is added, and belongs to that generation. No request names or carries one; what a
 * request says itself wins. Reading is strict: a field that is not known, or has another form,
 * refuses the adapter and is named. Immutable and counted: any thread.
 */
#ifndef CHORUS_SERVER_PROFILE_H
#define CHORUS_SERVER_PROFILE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "engine/engine_text.h"
#include "engine/sample/sample.h"

struct profile {
    atomic_int refs;
    char *system;             /* owned; NULL: none */
    struct engine_text *text; /* owned; NULL: the base's template */
    bool has_sampling;
    struct sample_params sampling; /* complete: the base's defaults where it is silent */
    int max_tokens;                /* -1: it says nothing */
};

/* Of directory `rest` of `root` (NULL: there is no directory), never leaving root. `given`, unless
 * NULL, stands for the directory's chorus.json; as it came from a client it carries no template.
 * *out NULL: there is none. `base` must outlive it. STATUS_BAD_FILE, STATUS_INVALID (given),
 * STATUS_UNSUPPORTED or STATUS_LIMIT name the field in e->param. */
WARN_UNUSED enum status profile_load(const char *root, const char *rest, const cJSON *given,
                                     const struct engine_text *base,
                                     const struct sample_params *defaults, struct profile **out,
                                     struct err *e);
/* NULL is allowed in both. */
struct profile *profile_ref(struct profile *p);
void profile_unref(struct profile *p);

#endif
