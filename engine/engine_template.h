/* engine_template: a chat template by itself, without the tokenizer: what `chorus render` needs.
 * The door of engine/text/chat_template.h. Any thread. */
#ifndef CHORUS_ENGINE_TEMPLATE_H
#define CHORUS_ENGINE_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#include <cjson/cJSON.h>

#include "engine/base/status.h"
#include "engine/base/strbuf.h"

/* Compiles `source` and renders it over the object `vars`; `open_end`: up to the end of the final
 * message's content (engine_text_continue), which vars have back afterwards. STATUS_BAD_FILE: not a
 * template; STATUS_INVALID: it raised, the message is the template's; STATUS_LIMIT: a budget. */
WARN_UNUSED enum status engine_template_render(const char *source, size_t n, cJSON *vars,
                                               bool open_end, struct strbuf *out, struct err *e);
/* The template of a model directory; bos_token and the like are the model's unless `vars` has them.
 * STATUS_NOT_FOUND: the model has none. */
WARN_UNUSED enum status engine_template_render_model(const char *dir, cJSON *vars, bool open_end,
                                                     struct strbuf *out, struct err *e);

#endif
