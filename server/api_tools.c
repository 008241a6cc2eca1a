#include "server/api_tools.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/strbuf.h"

static enum status out_of_memory(struct err *e)
{
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

static enum status bad_tool(struct err *e, int i, const char *field, const char *why)
{
    char param[ERR_PARAM_MAX];
    snprintf(param, sizeof param, "tools[%d]%s%s", i, *field ? "." : "", field);
    return err_set(e, STATUS_INVALID, param, "'%s' %s", param, why);
}

static bool is_name(const char *s)
{
    static const char chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.";
    size_t n = strlen(s);
    return n > 0 && n <= LIMIT_NAME_BYTES && strspn(s, chars) == n;
}

static const char *name_of(const cJSON *tool)
{
    const cJSON *f = cJSON_GetObjectItemCaseSensitive(tool, "function");
    return cJSON_GetObjectItemCaseSensitive(f, "name")->valuestring;
}

static enum status check_tool(const cJSON *tool, const cJSON *list, int i, struct err *e)
{
    const cJSON *type = cJSON_IsObject(tool) ? json_member(tool, "type") : NULL;
    if (!cJSON_IsString(type) || strcmp(type->valuestring, "function") != 0)
        return bad_tool(e, i, "type", "must be \"function\"");
    const cJSON *f = json_member(tool, "function");
    const cJSON *name = cJSON_IsObject(f) ? json_member(f, "name") : NULL;
    if (!cJSON_IsString(name) || !is_name(name->valuestring))
        return bad_tool(e, i, "function.name", "must be 1 to 64 of [A-Za-z0-9_.-]");
    const cJSON *text = json_member(f, "description"), *p = json_member(f, "parameters");
    bool strict;
    if (text && !cJSON_IsString(text))
        return bad_tool(e, i, "function.description", "must be a string");
    if (p && !cJSON_IsObject(p))
        return bad_tool(e, i, "function.parameters", "must be a JSON schema");
    if (json_get_bool(f, "strict", &strict, e) != STATUS_OK)
        return bad_tool(e, i, "function.strict", "must be true or false");
    for (const cJSON *other = list->child; other != tool; other = other->next)
        if (!strcmp(name_of(other), name->valuestring))
            return bad_tool(e, i, "function.name", "was given to another tool already");
    return STATUS_OK;
}

static enum status check_tools(const cJSON *list, struct err *e)
{
    int i = 0;
    if (list && !cJSON_IsArray(list))
        return err_set(e, STATUS_INVALID, "tools", "'tools' must be a list");
    for (const cJSON *t = list ? list->child : NULL; t; t = t->next, i++) {
        if (i >= LIMIT_TOOLS)
            return err_set(e, STATUS_INVALID, "tools", "'tools' has more than %d members",
                           LIMIT_TOOLS);
        enum status st = check_tool(t, list, i, e);
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

static enum status read_named(const cJSON *choice, const cJSON *list, struct api_tools *out,
                              struct err *e)
{
    const cJSON *f = json_member(choice, "function");
    const cJSON *name = json_member(cJSON_IsObject(f) ? f : choice, "name");
    if (!cJSON_IsString(name))
        return err_set(e, STATUS_INVALID, "tool_choice",
                       "'tool_choice' must be none, auto, required or {\"type\": \"function\", "
                       "\"function\": {\"name\"}}");
    for (const cJSON *t = list ? list->child : NULL; t; t = t->next)
        if (!strcmp(name_of(t), name->valuestring))
            out->named = name_of(t);
    if (!out->named)
        return err_set(e, STATUS_INVALID, "tool_choice", "'tool_choice' names no tool of 'tools'");
    out->forced = true;
    return STATUS_OK;
}

enum status api_tools_read(const cJSON *root, cJSON *vars, struct api_tools *out, struct err *e)
{
    const cJSON *list = json_member(root, "tools"), *choice = json_member(root, "tool_choice");
    struct api_tools t = {.parallel = true};
    bool none = false;
    enum status st = json_get_bool(root, "parallel_tool_calls", &t.parallel, e);
    if (st == STATUS_OK)
        st = check_tools(list, e);
    if (st != STATUS_OK)
        return st;
    if (cJSON_IsObject(choice)) {
        st = read_named(choice, list, &t, e);
        if (st != STATUS_OK)
            return st;
    } else if (choice) {
        const char *s = cJSON_IsString(choice) ? choice->valuestring : "";
        none = !strcmp(s, "none");
        t.forced = !strcmp(s, "required");
        if (!none && !t.forced && strcmp(s, "auto") != 0)
            return err_set(e, STATUS_INVALID, "tool_choice",
                           "'tool_choice' must be none, auto, required or a function");
    }
    if (t.forced && (!list || !list->child))
        return err_set(e, STATUS_INVALID, "tool_choice", "'tool_choice' needs 'tools'");
    t.list = list && list->child && !none ? list : NULL;
    if (t.named)
        t.parallel = false;
    if (t.list) {
        cJSON *copy = cJSON_Duplicate(t.list, 1);
        if (!copy || !cJSON_AddItemToObject(vars, "tools", copy)) {
            cJSON_Delete(copy);
            return out_of_memory(e);
        }
    }
    *out = t;
    return STATUS_OK;
}

/* A tool's parameters as a schema of an object, which they are even where they do not say so. */
static void put_parameters(struct strbuf *b, const cJSON *parameters)
{
    static const char none[] =
        "{\"type\":\"object\",\"properties\":{},\"additionalProperties\":false}";
    char *text = parameters && parameters->child ? cJSON_PrintUnformatted(parameters) : NULL;
    if (!parameters || !parameters->child)
        strbuf_puts(b, none);
    else if (!text)
        b->failed = true;
    else if (cJSON_GetObjectItemCaseSensitive(parameters, "type"))
        strbuf_puts(b, text);
    else {
        strbuf_puts(b, "{\"type\":\"object\",");
        strbuf_puts(b, text + 1);
    }
    cJSON_free(text);
}

enum status api_tools_grammar(const struct api_tools *t, enum engine_tool_form form, char **out,
                              struct err *e)
{
    const char *name = form == ENGINE_TOOLS_TAGS      ? "tags"
                       : form == ENGINE_TOOLS_MISTRAL ? "list"
                                                      : "object";
    struct strbuf b;
    strbuf_init(&b, LIMIT_GRAMMAR_TEXT_BYTES);
    strbuf_printf(&b, "{\"form\":\"%s\",\"many\":%s,\"tools\":[", name,
                  t->parallel ? "true" : "false");
    bool first = true;
    for (const cJSON *tool = t->list->child; tool; tool = tool->next) {
        const cJSON *f = json_member(tool, "function");
        if (t->named && strcmp(name_of(tool), t->named) != 0)
            continue;
        strbuf_puts(&b, first ? "{\"name\":" : ",{\"name\":");
        first = false;
        strbuf_json_string(&b, name_of(tool), strlen(name_of(tool)));
        strbuf_printf(&b, ",\"strict\":%s,\"parameters\":",
                      cJSON_IsTrue(json_member(f, "strict")) ? "true" : "false");
        put_parameters(&b, json_member(f, "parameters"));
        strbuf_putc(&b, '}');
    }
    strbuf_puts(&b, "]}");
    bool large = b.len >= LIMIT_GRAMMAR_TEXT_BYTES / 2;
    *out = strbuf_take(&b);
    strbuf_deinit(&b);
    if (*out)
        return STATUS_OK;
    return large ? err_set(e, STATUS_INVALID, "tools", "the schemas of 'tools' are too large")
                 : out_of_memory(e);
}
