/* tokenizer_load: reads tokenizer.json and tokenizer_config.json into the parts of a tokenizer. */
#ifndef CHORUS_TEXT_TOKENIZER_LOAD_H
#define CHORUS_TEXT_TOKENIZER_LOAD_H

#include <stddef.h>

#include "engine/base/status.h"
#include "engine/text/tokenizer_parts.h"

/* Into a zeroed `t`, which the caller clears by tokenizer_close whatever comes back. Statuses as
 * tokenizer_open_json. */
WARN_UNUSED enum status tokenizer_load(struct tokenizer *t, const char *json, size_t n,
                                       struct err *e);
/* After tokenizer_load. */
WARN_UNUSED enum status tokenizer_load_config(struct tokenizer *t, const char *json, size_t n,
                                              struct err *e);

#endif
