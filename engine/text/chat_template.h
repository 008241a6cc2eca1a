/* chat_template: a model's chat template: found, compiled once, rendered for each request.
 *
 * The language is Jinja as transformers sets it up (jinja_parse.h, jinja_run.h: what is refused and
 * the budgets). A compiled template does not change: any number of threads may render it at once,
 * each with its own outputs. Only the model's own template runs; a request names and carries none.
 */
#ifndef CHORUS_TEXT_CHAT_TEMPLATE_H
#define CHORUS_TEXT_CHAT_TEMPLATE_H

#include <stddef.h>

#include <cjson/cJSON.h>

#include "engine/base/status.h"
#include "engine/base/strbuf.h"
#include "engine/text/chat_thinking.h"
#include "engine/text/chat_tools.h"

struct chat_template;

/* Source that is not a template is STATUS_BAD_FILE with the line; STATUS_UNSUPPORTED names what is
 * refused; STATUS_LIMIT, STATUS_NO_MEMORY. Free with chat_template_free. */
WARN_UNUSED enum status chat_template_compile(const char *source, size_t n,
                                              struct chat_template **out, struct err *e);
/* As chat_template_compile for a template that stands beside a model: its bos_token and the like
 * are those of `base` (the model's template), or of `config` (a tokenizer_config.json) where the
 * model has no template. Both may be NULL. */
WARN_UNUSED enum status chat_template_beside(const char *source, size_t n,
                                             const struct chat_template *base, const cJSON *config,
                                             struct chat_template **out, struct err *e);
/* The default template in a tokenizer_config.json; borrowed from it. NULL: it has none. */
const char *chat_template_of_config(const cJSON *config);
/* The template of a model directory: chat_template.jinja (of a name: additional_chat_templates/
 * NAME.jinja), else "chat_template" of tokenizer_config.json (a string, or a list of {name,
 * template}), else of chat_template.json. `name` NULL is the default one. The *_token strings of
 * tokenizer_config.json come with it. STATUS_NOT_FOUND when there is none; STATUS_IO and as
 * chat_template_compile. */
WARN_UNUSED enum status chat_template_load(const char *model_dir, const char *name,
                                           struct chat_template **out, struct err *e);
/* How the model thinks aloud; NULL: it does not. */
const struct chat_thinking *chat_template_thinking(const struct chat_template *t);
/* How it calls tools. */
enum chat_tool_form chat_template_tools(const struct chat_template *t);
/* NULL is allowed. */
void chat_template_free(struct chat_template *t);

/* Appends the text to `out`.
 *
 * `vars` is an object of variables (messages, tools, add_generation_prompt, bos_token ...) from
 * json_parse, so that 1.0 stays 1.0. bos_token and the like come from the model where `vars` has
 * none. `from_input`, unless NULL, gets one byte for each byte of text: 1 where the text came from
 * `vars`, 0 where the template or the model wrote it. Strings of `vars` whose name ends in _token
 * count as the model's: a server lets no request choose those. So do the values "system",
 * "developer", "user", "assistant", "tool" and "function" of a member called role.
 *
 * STATUS_INVALID when the template raises: the message of raise_exception alone, else with the
 * line. STATUS_LIMIT names the budget that ran out. STATUS_NO_MEMORY. On failure the buffers hold
 * what was written so far. */
WARN_UNUSED enum status chat_template_render(const struct chat_template *t, const cJSON *vars,
                                             struct strbuf *out, struct strbuf *from_input,
                                             struct err *e);

#endif
