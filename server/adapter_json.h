/* adapter_json: what clients are told of adapters. Pure. */
#ifndef CHORUS_SERVER_ADAPTER_JSON_H
#define CHORUS_SERVER_ADAPTER_JSON_H

#include "engine/base/strbuf.h"
#include "engine/engine_adapters.h"

/* Appends the members of one adapter, without the braces. `source` is where it came from. */
void adapter_json_put(struct strbuf *b, const struct engine_adapter_info *a, const char *source,
                      bool profile);
/* Appends the invocation sequence of an activated LoRA, null where count is 0, as a further member.
 */
void adapter_json_put_alora(struct strbuf *b, const int32_t *tokens, int count);
/* Appends the members of a dry run, without the braces. `error` is a JSON value. */
void adapter_json_put_report(struct strbuf *b, const struct engine_adapter_report *r,
                             const struct strbuf *error);

#endif
