#include "server/api_fields.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/utf8.h"

static enum status out_of_memory(struct err *e)
{
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

enum status api_fields_put(cJSON *chat, const char *key, cJSON *value, struct err *e)
{
    if (value && cJSON_AddItemToObject(chat, key, value))
        return STATUS_OK;
    cJSON_Delete(value);
    return out_of_memory(e);
}

enum status api_fields_copy(cJSON *chat, const char *key, const cJSON *value, struct err *e)
{
    return value ? api_fields_put(chat, key, cJSON_Duplicate(value, 1), e) : STATUS_OK;
}

enum status api_fields_move(cJSON *from, cJSON *chat, struct err *e)
{
    static const char *const same[] = {
        "model",
        "adapter",
        "lora",
        "stream",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "typical_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
        "seed",
        "logit_bias",
        "min_tokens",
        "ignore_eos",
        "stop_token_ids",
        "include_stop_str_in_output",
        "skip_special_tokens",
        "chat_template",
        "chat_template_kwargs",
        "cache_prompt",
        "cache_salt",
        "priority",
        "structured_outputs",
    };
    enum status st = STATUS_OK;
    for (size_t i = 0; i < sizeof same / sizeof same[0] && st == STATUS_OK; i++) {
        cJSON *v = cJSON_DetachItemFromObjectCaseSensitive(from, same[i]);
        if (v)
            st = api_fields_put(chat, same[i], v, e);
    }
    return st;
}

enum status api_fields_bad(struct err *e, const char *list, int i, const char *field,
                           const char *why)
{
    char param[ERR_PARAM_MAX];
    snprintf(param, sizeof param, "%s[%d]%s%s", list, i, *field ? "." : "", field);
    return err_set(e, STATUS_INVALID, param, "'%s' %s", param, why);
}

static enum status add_tool(const cJSON *tool, int i, const char *type, bool type_may_lack,
                            const char *schema, cJSON *list, struct err *e)
{
    if (!cJSON_IsObject(tool))
        return api_fields_bad(e, "tools", i, "", "must be an object");
    const cJSON *kind = json_member(tool, "type");
    const cJSON *parameters = json_member(tool, schema);
    if ((kind || !type_may_lack) && (!cJSON_IsString(kind) || strcmp(kind->valuestring, type) != 0))
        return api_fields_bad(e, "tools", i, "type", "must be that of a tool of the client's own");
    if (parameters && !cJSON_IsObject(parameters))
        return api_fields_bad(e, "tools", i, schema, "must be a JSON schema");
    cJSON *to = cJSON_CreateObject();
    if (!to || !cJSON_AddItemToArray(list, to)) {
        cJSON_Delete(to);
        return out_of_memory(e);
    }
    cJSON *f = cJSON_AddStringToObject(to, "type", "function")
                   ? cJSON_AddObjectToObject(to, "function")
                   : NULL;
    if (!f)
        return out_of_memory(e);
    /* Templates print what they get: in the client's order, so that equal tools are equal text. */
    enum status st = STATUS_OK;
    for (const cJSON *m = tool->child; m && st == STATUS_OK; m = m->next) {
        bool same = strcmp(m->string, "name") == 0 || strcmp(m->string, "description") == 0 ||
                    strcmp(m->string, "strict") == 0;
        if (same && json_member(tool, m->string) == m)
            st = api_fields_copy(f, m->string, m, e);
        else if (m == parameters)
            st = api_fields_copy(f, "parameters", m, e);
    }
    return st;
}

enum status api_fields_tools(const cJSON *tools, const char *type, bool type_may_lack,
                             const char *schema, cJSON *chat, struct err *e)
{
    if (!tools)
        return STATUS_OK;
    if (!cJSON_IsArray(tools))
        return err_set(e, STATUS_INVALID, "tools", "'tools' must be a list");
    cJSON *list = cJSON_AddArrayToObject(chat, "tools");
    enum status st = list ? STATUS_OK : out_of_memory(e);
    int i = 0;
    for (const cJSON *t = tools->child; t && st == STATUS_OK; t = t->next)
        st = add_tool(t, i++, type, type_may_lack, schema, list, e);
    return st;
}

/* Whether a field's name stands at s[at]. */
static bool is_at(const char *s, size_t at, const char *name)
{
    size_t n = strlen(name);
    if (strncmp(s + at, name, n) != 0)
        return false;
    char before = at ? s[at - 1] : '\'';
    char behind = s[at + n];
    bool ends = !isalnum((unsigned char)behind) && behind != '_';
    return ends && (name[0] == '.' || before == '\'');
}

static void rename_in(const struct api_field_name *names, char *s, size_t size, char *scratch)
{
    size_t n = 0;
    for (size_t at = 0; s[at] && n + 1 < size;) {
        const struct api_field_name *f = names;
        while (f->chat && !is_at(s, at, f->chat))
            f++;
        if (!f->chat) {
            scratch[n++] = s[at++];
            continue;
        }
        int put = snprintf(scratch + n, size - n, "%s", f->own);
        n = n + (size_t)put < size ? n + (size_t)put : size - 1;
        at += strlen(f->chat);
    }
    n -= utf8_incomplete_tail(scratch, n); /* it may have grown over the end */
    memcpy(s, scratch, n);
    s[n] = '\0';
}

void api_fields_rename(const struct api_field_name *names, struct err *e)
{
    char scratch[ERR_MSG_MAX > ERR_PARAM_MAX ? ERR_MSG_MAX : ERR_PARAM_MAX];
    rename_in(names, e->param, sizeof e->param, scratch);
    rename_in(names, e->msg, sizeof e->msg, scratch);
}
