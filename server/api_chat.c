#include "server/api_chat.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/mem.h"
#include "engine/base/strbuf.h"
#include "server/api_content.h"

#define NAME_BYTES 64 /* of a message's `name` */
#define KWARGS_MAX 64 /* looking one up is linear */

static enum status out_of_memory(struct err *e)
{
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

static enum status bad_message(struct err *e, int i, const char *field, const char *why)
{
    char param[ERR_PARAM_MAX];
    snprintf(param, sizeof param, "messages[%d]%s%s", i, *field ? "." : "", field);
    return err_set(e, STATUS_INVALID, param, "'%s' %s", param, why);
}

/* Adds content as one string; an assistant that only calls tools may have none: null, as templates
 * know it. */
static enum status add_content(const cJSON *m, int i, bool may_lack, cJSON *to, struct err *e)
{
    const cJSON *content = json_member(m, "content");
    if (!content) {
        if (!may_lack)
            return bad_message(e, i, "content", "is missing");
        return cJSON_AddNullToObject(to, "content") ? STATUS_OK : out_of_memory(e);
    }
    if (cJSON_IsString(content))
        return cJSON_AddStringToObject(to, "content", content->valuestring) ? STATUS_OK
                                                                            : out_of_memory(e);
    char param[ERR_PARAM_MAX];
    snprintf(param, sizeof param, "messages[%d].content", i);
    struct strbuf text;
    strbuf_init(&text, SIZE_MAX / 2);
    enum status st = api_content_text(content, param, &text, e);
    if (st == STATUS_OK && !cJSON_AddStringToObject(to, "content", strbuf_str(&text)))
        st = out_of_memory(e);
    strbuf_deinit(&text);
    return st;
}

/* The wire carries a call's arguments as JSON text; templates want the object. */
static enum status parse_arguments(cJSON *call, int i, struct err *e)
{
    cJSON *function = cJSON_GetObjectItemCaseSensitive(call, "function");
    const cJSON *args = cJSON_IsObject(function) ? json_member(function, "arguments") : NULL;
    if (!cJSON_IsObject(function) || !cJSON_IsString(json_member(function, "name")))
        return bad_message(e, i, "tool_calls",
                           "must hold {\"function\": {\"name\", \"arguments\"}}");
    if (args && !cJSON_IsString(args) && !cJSON_IsObject(args))
        return bad_message(e, i, "tool_calls", "must hold arguments as JSON text");
    if (!cJSON_IsString(args))
        return STATUS_OK;
    cJSON *parsed = NULL;
    struct json_limits limits = json_default_limits;
    limits.depth_max /= 2;
    if (json_parse(args->valuestring, strlen(args->valuestring), &limits, &parsed, NULL) !=
        STATUS_OK)
        return STATUS_OK; /* text that is no JSON stays text */
    if (!cJSON_IsObject(parsed)) {
        cJSON_Delete(parsed);
        return STATUS_OK;
    }
    if (!cJSON_ReplaceItemInObjectCaseSensitive(function, "arguments", parsed)) {
        cJSON_Delete(parsed);
        return out_of_memory(e);
    }
    return STATUS_OK;
}

static enum status add_tool_calls(const cJSON *calls, int i, cJSON *to, struct err *e)
{
    if (!cJSON_IsArray(calls))
        return bad_message(e, i, "tool_calls", "must be a list");
    cJSON *copy = cJSON_Duplicate(calls, 1);
    if (!copy || !cJSON_AddItemToObject(to, "tool_calls", copy)) {
        cJSON_Delete(copy);
        return out_of_memory(e);
    }
    enum status st = STATUS_OK;
    for (cJSON *c = copy->child; c && st == STATUS_OK; c = c->next)
        st = cJSON_IsObject(c) ? parse_arguments(c, i, e)
                               : bad_message(e, i, "tool_calls", "must be a list of objects");
    return st;
}

static enum status copy_string(const cJSON *m, int i, const char *key, size_t max, cJSON *to,
                               struct err *e)
{
    const cJSON *v = json_member(m, key);
    if (!v)
        return STATUS_OK;
    if (!cJSON_IsString(v))
        return bad_message(e, i, key, "must be a string");
    if (strlen(v->valuestring) > max)
        return bad_message(e, i, key, "is too long");
    return cJSON_AddStringToObject(to, key, v->valuestring) ? STATUS_OK : out_of_memory(e);
}

/* Thoughts of an earlier turn under any of their names; templates read the first, that of gpt-oss
 * the second. As transformers hands them on. */
static enum status add_reasoning(const cJSON *m, int i, cJSON *to, struct err *e)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    const cJSON *v = NULL;
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        const cJSON *named = json_member(m, names[k]);
        if (named && !cJSON_IsString(named))
            return bad_message(e, i, names[k], "must be a string");
        v = v ? v : named;
    }
    const cJSON *thinking = json_member(m, "thinking");
    if (!v)
        return STATUS_OK;
    if (!cJSON_AddStringToObject(to, "reasoning_content", v->valuestring) ||
        !cJSON_AddStringToObject(to, "thinking", (thinking ? thinking : v)->valuestring))
        return out_of_memory(e);
    return STATUS_OK;
}

static const char *role_of(const char *role)
{
    static const char *const roles[][2] = {
        {"system", "system"}, {"developer", "system"}, {"user", "user"},
        {"tool", "tool"},     {"function", "tool"},    {"assistant", "assistant"},
    };
    for (size_t k = 0; k < sizeof roles / sizeof roles[0]; k++) {
        if (strcmp(role, roles[k][0]) == 0)
            return roles[k][1];
    }
    return NULL;
}

static enum status add_message(const cJSON *m, int i, cJSON *list, struct err *e)
{
    if (!cJSON_IsObject(m))
        return bad_message(e, i, "", "must be an object");
    const cJSON *role_in = json_member(m, "role");
    const char *role = cJSON_IsString(role_in) ? role_of(role_in->valuestring) : NULL;
    if (!role)
        return bad_message(e, i, "role", "must be one of developer, system, user, assistant, tool");
    cJSON *to = cJSON_CreateObject();
    if (!to || !cJSON_AddItemToArray(list, to)) {
        cJSON_Delete(to);
        return out_of_memory(e);
    }
    if (!cJSON_AddStringToObject(to, "role", role))
        return out_of_memory(e);
    bool assistant = strcmp(role, "assistant") == 0;
    const cJSON *calls = assistant ? json_member(m, "tool_calls") : NULL;
    enum status st = add_content(m, i, calls != NULL, to, e);
    if (st == STATUS_OK)
        st = copy_string(m, i, "name", NAME_BYTES, to, e);
    if (st == STATUS_OK)
        st = copy_string(m, i, "tool_call_id", SIZE_MAX, to, e);
    if (st == STATUS_OK)
        st = add_reasoning(m, i, to, e);
    if (st == STATUS_OK && calls)
        st = add_tool_calls(calls, i, to, e);
    return st;
}

static enum status add_messages(const cJSON *root, cJSON *vars, struct err *e)
{
    const cJSON *messages = json_member(root, "messages");
    if (!messages)
        return err_set(e, STATUS_INVALID, "messages", "'messages' is missing");
    if (!cJSON_IsArray(messages) || !messages->child)
        return err_set(e, STATUS_INVALID, "messages", "'messages' must be a list of messages");
    cJSON *list = cJSON_AddArrayToObject(vars, "messages");
    if (!list)
        return out_of_memory(e);
    enum status st = STATUS_OK;
    int i = 0;
    for (const cJSON *m = messages->child; m && st == STATUS_OK; m = m->next)
        st = add_message(m, i++, list, e);
    return st;
}

/* A chat that brings no system prompt gets the adapter's. */
static enum status add_system(const char *system, cJSON *vars, struct err *e)
{
    cJSON *list = cJSON_GetObjectItemCaseSensitive(vars, "messages");
    const cJSON *role = cJSON_GetObjectItemCaseSensitive(list->child, "role");
    if (strcmp(role->valuestring, "system") == 0)
        return STATUS_OK;
    cJSON *to = cJSON_CreateObject();
    if (!to || !cJSON_AddStringToObject(to, "role", "system") ||
        !cJSON_AddStringToObject(to, "content", system) || !cJSON_InsertItemInArray(list, 0, to)) {
        cJSON_Delete(to);
        return out_of_memory(e);
    }
    return STATUS_OK;
}

static enum status add_kwargs(const cJSON *root, cJSON *vars, struct err *e)
{
    const cJSON *kwargs = json_member(root, "chat_template_kwargs");
    if (!kwargs)
        return STATUS_OK;
    if (!cJSON_IsObject(kwargs))
        return err_set(e, STATUS_INVALID, "chat_template_kwargs",
                       "'chat_template_kwargs' must be an object");
    if (cJSON_GetArraySize(kwargs) > KWARGS_MAX)
        return err_set(e, STATUS_INVALID, "chat_template_kwargs",
                       "'chat_template_kwargs' has more than %d members", KWARGS_MAX);
    for (const cJSON *m = kwargs->child; m; m = m->next) {
        /* Strings whose name ends in _token count as the model's own text: no request chooses
         * those. */
        size_t n = strlen(m->string);
        if (strcmp(m->string, "messages") == 0 || strcmp(m->string, "tools") == 0 ||
            strcmp(m->string, "chat_template") == 0 ||
            (n >= 6 && strcmp(m->string + n - 6, "_token") == 0) ||
            cJSON_GetObjectItemCaseSensitive(vars, m->string))
            return err_set(e, STATUS_INVALID, "chat_template_kwargs",
                           "'chat_template_kwargs' cannot set '%.64s'", m->string);
        cJSON *copy = cJSON_Duplicate(m, 1);
        if (!copy || !cJSON_AddItemToObject(vars, m->string, copy)) {
            cJSON_Delete(copy);
            return out_of_memory(e);
        }
    }
    return STATUS_OK;
}

/* An open final message and the beginning of a new one exclude each other. */
static enum status read_end(const cJSON *root, const cJSON *vars, bool *continue_final,
                            bool *generation_prompt, struct err *e)
{
    enum status st = json_get_bool(root, "continue_final_message", continue_final, e);
    *generation_prompt = !*continue_final;
    if (st == STATUS_OK)
        st = json_get_bool(root, "add_generation_prompt", generation_prompt, e);
    if (st != STATUS_OK || !*continue_final)
        return st;
    if (*generation_prompt)
        return err_set(e, STATUS_INVALID, "continue_final_message",
                       "'continue_final_message' and 'add_generation_prompt' exclude each other");
    const cJSON *messages = cJSON_GetObjectItemCaseSensitive(vars, "messages");
    const cJSON *last = cJSON_GetArrayItem(messages, cJSON_GetArraySize(messages) - 1);
    if (strcmp(cJSON_GetObjectItemCaseSensitive(last, "role")->valuestring, "assistant") != 0)
        return err_set(e, STATUS_INVALID, "continue_final_message",
                       "'continue_final_message' wants the final message to be the assistant's");
    return STATUS_OK;
}

static enum status read_template_settings(const cJSON *root, struct api_request *r, struct err *e)
{
    cJSON *vars = r->vars;
    bool generation_prompt;
    const char *effort = NULL;
    enum status st = read_end(root, vars, &r->continue_final, &generation_prompt, e);
    if (st == STATUS_OK)
        st = json_get_string(root, "reasoning_effort", &effort, e);
    if (st != STATUS_OK)
        return st;
    static const char *const efforts[] = {"none", "minimal", "low", "medium", "high", "xhigh"};
    bool known = !effort;
    for (size_t i = 0; effort && i < sizeof efforts / sizeof efforts[0]; i++)
        known |= strcmp(effort, efforts[i]) == 0;
    if (!known)
        return err_set(e, STATUS_INVALID, "reasoning_effort",
                       "'reasoning_effort' must be none, minimal, low, medium, high or xhigh");
    if (!cJSON_AddBoolToObject(vars, "add_generation_prompt", generation_prompt) ||
        (effort && !cJSON_AddStringToObject(vars, "reasoning_effort", effort)))
        return out_of_memory(e);
    return add_kwargs(root, vars, e);
}

static enum status read_logprobs(const cJSON *root, struct api_request *r, struct err *e)
{
    int64_t top = 0;
    enum status st = json_get_bool(root, "logprobs", &r->logprobs, e);
    if (st == STATUS_OK)
        st = json_get_int(root, "top_logprobs", 0, LIMIT_TOP_LOGPROBS, &top, e);
    if (st != STATUS_OK)
        return st;
    if (top > 0 && !r->logprobs)
        return err_set(e, STATUS_INVALID, "top_logprobs", "'top_logprobs' needs 'logprobs': true");
    r->engine.sampling.logprobs = r->logprobs ? (int)top : -1;
    return STATUS_OK;
}

enum status api_chat_read(const cJSON *root, struct api_request *r, struct err *e)
{
    r->vars = cJSON_CreateObject();
    r->prompts = mem_calloc(1, sizeof *r->prompts);
    if (!r->vars || !r->prompts)
        return out_of_memory(e);
    r->prompt_count = 1;
    enum status st = read_logprobs(root, r, e);
    if (st == STATUS_OK)
        st = api_tools_read(root, r->vars, &r->tools, e);
    if (st == STATUS_OK)
        st = add_messages(root, r->vars, e);
    if (st == STATUS_OK && r->profile && r->profile->system)
        st = add_system(r->profile->system, r->vars, e);
    if (st == STATUS_OK)
        st = read_template_settings(root, r, e);
    return st;
}
