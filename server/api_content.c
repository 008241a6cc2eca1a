#include "server/api_content.h"

#include <string.h>

#include "engine/base/json.h"

/* What the forms call text, and where a part has it. */
static const char *const kinds[][2] = {
    {"text", "text"},
    {"input_text", "text"},
    {"output_text", "text"},
    {"refusal", "refusal"},
};

static enum status add_line(const char *text, const char *param, struct strbuf *out, struct err *e)
{
    if (!text)
        return err_set(e, STATUS_INVALID, param,
                       "'%s' must hold parts {\"type\": \"text\", \"text\"}", param);
    if (out->data) /* not the first */
        strbuf_putc(out, '\n');
    strbuf_puts(out, text);
    return out->failed ? err_set(e, STATUS_NO_MEMORY, NULL, "out of memory") : STATUS_OK;
}

enum status api_content_part(const cJSON *part, const char *param, struct strbuf *out,
                             struct err *e)
{
    if (cJSON_IsString(part))
        return add_line(part->valuestring, param, out, e);
    if (!cJSON_IsObject(part))
        return add_line(NULL, param, out, e);
    const cJSON *type = json_member(part, "type");
    const char *key = type ? NULL : "text";
    for (size_t k = 0; cJSON_IsString(type) && k < sizeof kinds / sizeof kinds[0]; k++)
        key = strcmp(type->valuestring, kinds[k][0]) == 0 ? kinds[k][1] : key;
    if (!key && cJSON_IsString(type))
        return err_set(e, STATUS_INVALID, param,
                       "'%s' must hold text parts only: this model reads no %.32s", param,
                       type->valuestring);
    const cJSON *text = key ? json_member(part, key) : NULL;
    return add_line(cJSON_IsString(text) ? text->valuestring : NULL, param, out, e);
}

enum status api_content_text(const cJSON *content, const char *param, struct strbuf *out,
                             struct err *e)
{
    if (cJSON_IsString(content))
        return add_line(content->valuestring, param, out, e);
    if (!cJSON_IsArray(content))
        return err_set(e, STATUS_INVALID, param, "'%s' must be a string or a list of text parts",
                       param);
    enum status st = STATUS_OK;
    for (const cJSON *p = content->child; p && st == STATUS_OK; p = p->next)
        st = api_content_part(p, param, out, e);
    return st;
}
