/* config_steps: walks the nested `Sequence` lists of a tokenizer.json in order, without recursion.
 * One owner, one thread. */
#ifndef CHORUS_TEXT_CONFIG_STEPS_H
#define CHORUS_TEXT_CONFIG_STEPS_H

#include <stddef.h>

#include <cjson/cJSON.h>

#include "engine/base/status.h"
#include "engine/text/regex.h"

#define CONFIG_STEPS_DEPTH 8

struct config_steps {
    const cJSON *next[CONFIG_STEPS_DEPTH]; /* what is still to come, by nesting */
    size_t depth;
    size_t taken;
    const char *list; /* key under which a Sequence of this kind keeps its members */
};

/* `root` NULL or JSON null: no steps. */
void config_steps_init(struct config_steps *s, const cJSON *root, const char *list);
/* The next step that is not a Sequence, and its type; NULL at the end. STATUS_BAD_FILE,
 * STATUS_LIMIT. */
WARN_UNUSED enum status config_steps_next(struct config_steps *s, const cJSON **step,
                                          const char **type, struct err *e);

/* {"String": s} or {"Regex": s} under `pattern`. */
WARN_UNUSED enum status config_pattern(const cJSON *step, struct regex *out, struct err *e);
/* A string of exactly one character under `key`; *len is its bytes. */
WARN_UNUSED enum status config_char(const cJSON *step, const char *key, char out[4], size_t *len,
                                    struct err *e);
/* A string that must be there. Borrowed from step. */
WARN_UNUSED enum status config_string(const cJSON *step, const char *key, const char **out,
                                      struct err *e);
/* "normalizer NAME is not supported" */
enum status config_refuse(const char *kind, const char *type, struct err *e);

#endif
