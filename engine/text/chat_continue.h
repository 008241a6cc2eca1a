/* chat_continue: a chat whose final message is left open, so that generation goes on in it.
 *
 * As transformers does it: a mark is put behind the final message's text, the template renders, and
 * everything from the mark on is cut away. Where the template trimmed what stands behind the text,
 * white space before the mark goes too. Any thread.
 */
#ifndef CHORUS_TEXT_CHAT_CONTINUE_H
#define CHORUS_TEXT_CHAT_CONTINUE_H

#include <cjson/cJSON.h>

#include "engine/base/status.h"
#include "engine/base/strbuf.h"
#include "engine/text/chat_template.h"

/* chat_template_render up to the end of the last of vars.messages, whose content (a string, or the
 * last text of a list of parts) is changed meanwhile and is as before afterwards. `from_input` must
 * be empty where it is not NULL and `out` is. STATUS_INVALID: there is no such message or text, or
 * the template does not show it. */
WARN_UNUSED enum status chat_continue_render(const struct chat_template *t, cJSON *vars,
                                             struct strbuf *out, struct strbuf *from_input,
                                             struct err *e);

#endif
