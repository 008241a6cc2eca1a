/* json_text: a tree as text again, without loss. Any thread. */
#ifndef CHORUS_SERVER_JSON_TEXT_H
#define CHORUS_SERVER_JSON_TEXT_H

#include <cjson/cJSON.h>

#include "engine/base/strbuf.h"

/* Owned (mem_free); NULL: out of memory. Numbers keep every digit that json_parse kept. */
char *json_text_of(const cJSON *v);
/* The same behind what b has; out of memory shows as `failed`. */
void json_text_put(struct strbuf *b, const cJSON *v);

#endif
