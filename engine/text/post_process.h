/* post_process: the `post_processor` of a tokenizer.json: ids before and behind those of a text.
 * Does not change after it was opened; any thread. */
#ifndef CHORUS_TEXT_POST_PROCESS_H
#define CHORUS_TEXT_POST_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "engine/base/status.h"
#include "engine/text/vocab.h"

#define POST_IDS_MAX 16

struct post_process {
    int32_t before[POST_IDS_MAX];
    size_t before_count;
    int32_t after[POST_IDS_MAX];
    size_t after_count;
};

/* `config` NULL: nothing is added. Every id must exist. STATUS_UNSUPPORTED names the type;
 * STATUS_BAD_FILE, STATUS_LIMIT. */
WARN_UNUSED enum status post_process_open(struct post_process *p, const cJSON *config,
                                          const struct vocab *v, struct err *e);
/* tokenizer_config.json's add_bos_token and add_eos_token decide over the template: the id stands
 * there once or not at all. */
WARN_UNUSED enum status post_process_set_bos(struct post_process *p, int32_t id, bool wanted,
                                             struct err *e);
WARN_UNUSED enum status post_process_set_eos(struct post_process *p, int32_t id, bool wanted,
                                             struct err *e);

#endif
