/* api_content: text that a request writes as a string or as a list of parts. Any thread. */
#ifndef CHORUS_SERVER_API_CONTENT_H
#define CHORUS_SERVER_API_CONTENT_H

#include <cjson/cJSON.h>

#include "engine/base/strbuf.h"

/* Appends the text of `content` to *out, parts a line each: what templates of text models expect.
 * `param` is the field's name. STATUS_INVALID: it is no text; parts that are none are named. */
WARN_UNUSED enum status api_content_text(const cJSON *content, const char *param,
                                         struct strbuf *out, struct err *e);
/* One part, on a line of its own. */
WARN_UNUSED enum status api_content_part(const cJSON *part, const char *param, struct strbuf *out,
                                         struct err *e);

#endif
