/* api_fields: what the forms that are read as a chat share: the fields that mean the same under
 * every name, tools, and errors in the client's own words. Any thread. */
#ifndef CHORUS_SERVER_API_FIELDS_H
#define CHORUS_SERVER_API_FIELDS_H

#include <stdbool.h>

#include <cjson/cJSON.h>

#include "engine/base/status.h"

/* Moves the fields that a chat has under the same name and meaning. */
WARN_UNUSED enum status api_fields_move(cJSON *from, cJSON *chat, struct err *e);
/* chat[key] = value, which is taken whatever comes back; NULL: out of memory. */
WARN_UNUSED enum status api_fields_put(cJSON *chat, const char *key, cJSON *value, struct err *e);
/* The same with a copy; nothing where value is NULL. */
WARN_UNUSED enum status api_fields_copy(cJSON *chat, const char *key, const cJSON *value,
                                        struct err *e);
/* "tools[2].name" */
WARN_UNUSED enum status api_fields_bad(struct err *e, const char *list, int i, const char *field,
                                       const char *why);
/* Tools as a chat has them: each {"type": "function", "function": {...}}, its schema being the
 * member `schema` of what was given. `type`: what theirs must say. */
WARN_UNUSED enum status api_fields_tools(const cJSON *tools, const char *type, bool type_may_lack,
                                         const char *schema, cJSON *chat, struct err *e);

/* A chat's name for a field and the client's. A name that begins with '.' is an end or a middle. */
struct api_field_name {
    const char *chat;
    const char *own;
};
/* In an error's param and text; the first row that fits a place wins. The last row is {NULL}. */
void api_fields_rename(const struct api_field_name *names, struct err *e);

#endif
