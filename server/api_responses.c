#include "server/api_responses.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "server/api_content.h"
#include "server/api_fields.h"
#include "server/api_turns.h"
#include "server/json_text.h"

#define METADATA_MAX   16
#define REPEATED_BYTES ((size_t)64 << 20)

static enum status out_of_memory(struct err *e)
{
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

static enum status bad_item(struct err *e, int i, const char *field, const char *why)
{
    return api_fields_bad(e, "input", i, field, why);
}

/* ---- input ---- */

/* A member that must be a string. */
static enum status get_text(const cJSON *item, int i, const char *key, const char **out,
                            struct err *e)
{
    const cJSON *v = json_member(item, key);
    if (!cJSON_IsString(v))
        return bad_item(e, i, key, "must be a string");
    *out = v->valuestring;
    return STATUS_OK;
}

static enum status get_content(const cJSON *item, int i, const char *key, struct strbuf *out,
                               struct err *e)
{
    char param[ERR_PARAM_MAX];
    snprintf(param, sizeof param, "input[%d].%s", i, key);
    return api_content_text(json_member(item, key), param, out, e);
}

static enum status add_message(const cJSON *item, int i, struct api_turns *t, struct err *e)
{
    static const char *const roles[] = {"user", "assistant", "system", "developer"};
    const cJSON *role = json_member(item, "role");
    bool known = false;
    for (size_t k = 0; cJSON_IsString(role) && k < sizeof roles / sizeof roles[0]; k++)
        known |= strcmp(role->valuestring, roles[k]) == 0;
    if (!known)
        return bad_item(e, i, "role", "must be one of user, assistant, system, developer");
    struct strbuf text;
    strbuf_init(&text, SIZE_MAX / 2);
    enum status st = get_content(item, i, "content", &text, e);
    if (st == STATUS_OK)
        api_turns_say(t, role->valuestring, strbuf_str(&text));
    strbuf_deinit(&text);
    return st;
}

static enum status add_call(const cJSON *item, int i, struct api_turns *t, struct err *e)
{
    const char *id = "", *name = "", *arguments;
    enum status st = get_text(item, i, "call_id", &id, e);
    if (st == STATUS_OK)
        st = get_text(item, i, "name", &name, e);
    if (st == STATUS_OK)
        st = get_text(item, i, "arguments", &arguments, e);
    if (st == STATUS_OK)
        api_turns_call(t, id, name, json_member(item, "arguments"));
    return st;
}

static enum status add_output(const cJSON *item, int i, struct api_turns *t, struct err *e)
{
    const char *id = "";
    struct strbuf text;
    strbuf_init(&text, SIZE_MAX / 2);
    enum status st = get_text(item, i, "call_id", &id, e);
    if (st == STATUS_OK)
        st = get_content(item, i, "output", &text, e);
    if (st == STATUS_OK)
        api_turns_result(t, id, strbuf_str(&text));
    strbuf_deinit(&text);
    return st;
}

/* Thoughts stand in `content`; a summary says less than they do and is read where they lack. */
static enum status add_thought(const cJSON *item, int i, struct api_turns *t, struct err *e)
{
    static const char *const keys[] = {"content", "summary"};
    struct strbuf text;
    strbuf_init(&text, SIZE_MAX / 2);
    enum status st = STATUS_OK;
    for (size_t k = 0; k < 2 && st == STATUS_OK && text.len == 0; k++) {
        const cJSON *parts = json_member(item, keys[k]);
        if (parts && !cJSON_IsArray(parts))
            st = bad_item(e, i, keys[k], "must be a list");
        for (const cJSON *p = parts ? parts->child : NULL; p && st == STATUS_OK; p = p->next) {
            const cJSON *s = cJSON_IsObject(p) ? json_member(p, "text") : NULL;
            if (!cJSON_IsString(s))
                st = bad_item(e, i, keys[k], "must hold parts {\"type\", \"text\"}");
            else
                strbuf_printf(&text, "%s%s", text.len ? "\n" : "", s->valuestring);
        }
    }
    if (st == STATUS_OK && text.failed)
        st = out_of_memory(e);
    if (st == STATUS_OK && text.len > 0)
        api_turns_think(t, strbuf_str(&text));
    strbuf_deinit(&text);
    return st;
}

static enum status add_item(const cJSON *item, int i, struct api_turns *t, struct err *e)
{
    static const struct {
        const char *type;
        enum status (*add)(const cJSON *item, int i, struct api_turns *t, struct err *e);
    } kinds[] = {
        {"message", add_message},
        {"function_call", add_call},
        {"function_call_output", add_output},
        {"reasoning", add_thought},
    };
    if (!cJSON_IsObject(item))
        return bad_item(e, i, "", "must be an object");
    const cJSON *type = json_member(item, "type");
    if (!type)
        return add_message(item, i, t, e);
    if (!cJSON_IsString(type))
        return bad_item(e, i, "type", "must be a string");
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        if (strcmp(type->valuestring, kinds[k].type) == 0)
            return kinds[k].add(item, i, t, e);
    }
    bool reference = strcmp(type->valuestring, "item_reference") == 0;
    return bad_item(e, i, "type",
                    reference ? "refers to an answer that was stored: nothing is"
                              : "must be message, function_call, function_call_output or "
                                "reasoning");
}

static enum status read_input(const cJSON *root, cJSON **chat, struct err *e)
{
    const cJSON *input = json_member(root, "input");
    const char *instructions = NULL;
    enum status st = json_get_string(root, "instructions", &instructions, e);
    if (st == STATUS_OK && !input)
        st = err_set(e, STATUS_INVALID, "input", "'input' is missing");
    if (st == STATUS_OK && !cJSON_IsString(input) && !(cJSON_IsArray(input) && input->child))
        st = err_set(e, STATUS_INVALID, "input", "'input' must be a string or a list of items");
    if (st != STATUS_OK)
        return st;
    struct api_turns t;
    api_turns_init(&t);
    if (instructions && !t.failed)
        api_turns_say(&t, "system", instructions);
    if (cJSON_IsString(input) && !t.failed)
        api_turns_say(&t, "user", input->valuestring);
    int i = 0;
    for (const cJSON *m = cJSON_IsArray(input) ? input->child : NULL;
         m && st == STATUS_OK && !t.failed; m = m->next)
        st = add_item(m, i++, &t, e);
    cJSON *taken = st == STATUS_OK ? api_turns_take(&t) : NULL;
    api_turns_deinit(&t);
    if (st == STATUS_OK && !taken)
        return out_of_memory(e);
    *chat = taken;
    return st;
}

/* ---- the form of the answer ---- */

static enum status read_json_schema(const cJSON *format, cJSON *to, struct err *e)
{
    static const char *const keys[] = {"name", "strict", "schema"};
    cJSON *schema = cJSON_AddObjectToObject(to, "json_schema");
    enum status st = schema ? STATUS_OK : out_of_memory(e);
    for (size_t k = 0; k < sizeof keys / sizeof keys[0] && st == STATUS_OK; k++)
        st = api_fields_copy(schema, keys[k], json_member(format, keys[k]), e);
    return st;
}

static enum status read_format(const cJSON *root, cJSON *chat, struct err *e)
{
    const cJSON *text = json_member(root, "text");
    if (text && !cJSON_IsObject(text))
        return err_set(e, STATUS_INVALID, "text", "'text' must be an object");
    const cJSON *format = text ? json_member(text, "format") : NULL;
    if (!format)
        return STATUS_OK;
    const cJSON *type = cJSON_IsObject(format) ? json_member(format, "type") : NULL;
    if (!cJSON_IsString(type))
        return err_set(e, STATUS_INVALID, "text.format",
                       "'text.format' must be {\"type\": text, json_object or json_schema}");
    cJSON *to = cJSON_AddObjectToObject(chat, "response_format");
    if (!to || !cJSON_AddStringToObject(to, "type", type->valuestring))
        return out_of_memory(e);
    return strcmp(type->valuestring, "json_schema") == 0 ? read_json_schema(format, to, e)
                                                         : STATUS_OK;
}

static enum status read_logprobs(const cJSON *root, cJSON *chat, struct err *e)
{
    const cJSON *include = json_member(root, "include");
    int64_t top = 0;
    enum status st = json_get_int(root, "top_logprobs", 0, LIMIT_TOP_LOGPROBS, &top, e);
    bool asked = top > 0;
    if (st == STATUS_OK && include && !cJSON_IsArray(include))
        st = err_set(e, STATUS_INVALID, "include", "'include' must be a list of names");
    for (const cJSON *v = include ? include->child : NULL; v && st == STATUS_OK; v = v->next) {
        if (!cJSON_IsString(v))
            st = err_set(e, STATUS_INVALID, "include", "'include' must be a list of names");
        else
            asked |= strcmp(v->valuestring, "message.output_text.logprobs") == 0;
    }
    if (st == STATUS_OK && asked)
        st = api_fields_put(chat, "logprobs", cJSON_CreateTrue(), e);
    return st == STATUS_OK ? api_fields_copy(chat, "top_logprobs",
                                             asked ? json_member(root, "top_logprobs") : NULL, e)
                           : st;
}

static enum status read_reasoning(const cJSON *root, cJSON *chat, struct err *e)
{
    const cJSON *reasoning = json_member(root, "reasoning");
    if (!reasoning)
        return STATUS_OK;
    if (!cJSON_IsObject(reasoning))
        return err_set(e, STATUS_INVALID, "reasoning", "'reasoning' must be an object");
    return api_fields_copy(chat, "reasoning_effort", json_member(reasoning, "effort"), e);
}

/* ---- the rest ---- */

/* What would need a memory of earlier requests, or work after the answer. */
static enum status refuse_state(const cJSON *root, struct err *e)
{
    static const char *const fields[] = {"previous_response_id", "conversation", "prompt"};
    for (size_t k = 0; k < sizeof fields / sizeof fields[0]; k++) {
        if (json_member(root, fields[k]))
            return err_set(e, STATUS_UNSUPPORTED, fields[k],
                           "'%s' is not supported: this server stores nothing; send the whole "
                           "conversation as 'input'",
                           fields[k]);
    }
    bool background = false, store = false;
    enum status st = json_get_bool(root, "store", &store, e);
    if (st == STATUS_OK)
        st = json_get_bool(root, "background", &background, e);
    if (st == STATUS_OK && background)
        st = err_set(e, STATUS_UNSUPPORTED, "background",
                     "'background' is not supported: this server stores nothing");
    return st;
}

static enum status check_rest(const cJSON *root, struct err *e)
{
    const char *truncation = NULL;
    enum status st = json_get_string(root, "truncation", &truncation, e);
    if (st == STATUS_OK && truncation && strcmp(truncation, "auto") != 0 &&
        strcmp(truncation, "disabled") != 0)
        return err_set(e, STATUS_INVALID, "truncation", "'truncation' must be auto or disabled");
    int64_t calls = 1;
    if (st == STATUS_OK)
        st = json_get_int(root, "max_tool_calls", 1, INT32_MAX, &calls, e);
    const cJSON *metadata = json_member(root, "metadata");
    if (st != STATUS_OK || !metadata)
        return st;
    bool strings = cJSON_IsObject(metadata) && cJSON_GetArraySize(metadata) <= METADATA_MAX;
    for (const cJSON *m = strings ? metadata->child : NULL; m; m = m->next)
        strings = strings && cJSON_IsString(m);
    return strings ? STATUS_OK
                   : err_set(e, STATUS_INVALID, "metadata",
                             "'metadata' must be an object of at most %d strings", METADATA_MAX);
}

static enum status read_length(const cJSON *root, cJSON *chat, struct err *e)
{
    int64_t most = 1;
    enum status st = json_get_int(root, "max_output_tokens", 1, INT32_MAX, &most, e);
    return st == STATUS_OK
               ? api_fields_copy(chat, "max_tokens", json_member(root, "max_output_tokens"), e)
               : st;
}

/* ---- what the answer repeats ---- */

static void put_member(struct strbuf *b, const char *key, const cJSON *v, const char *otherwise)
{
    strbuf_printf(b, "%s\"%s\":", b->len && b->data[b->len - 1] != '{' ? "," : "", key);
    if (v)
        json_text_put(b, v);
    else
        strbuf_puts(b, otherwise);
}

static void put_tools(struct strbuf *b, const cJSON *tools)
{
    strbuf_puts(b, ",\"tools\":[");
    for (const cJSON *t = tools ? tools->child : NULL; t; t = t->next) {
        strbuf_puts(b, t != tools->child ? ",{" : "{");
        put_member(b, "type", NULL, "\"function\"");
        put_member(b, "name", json_member(t, "name"), "null");
        put_member(b, "description", json_member(t, "description"), "null");
        put_member(b, "parameters", json_member(t, "parameters"), "null");
        put_member(b, "strict", json_member(t, "strict"), "false");
        strbuf_putc(b, '}');
    }
    strbuf_putc(b, ']');
}

static enum status repeat(const cJSON *root, char **out, struct err *e)
{
    static const char *const same[][2] = {
        {"instructions", "null"},       {"max_output_tokens", "null"},
        {"max_tool_calls", "null"},     {"metadata", "{}"},
        {"top_logprobs", "0"},          {"tool_choice", "\"auto\""},
        {"parallel_tool_calls", "true"}};
    const cJSON *reasoning = json_member(root, "reasoning"), *text = json_member(root, "text");
    struct strbuf b;
    strbuf_init(&b, REPEATED_BYTES);
    for (size_t k = 0; k < sizeof same / sizeof same[0]; k++)
        put_member(&b, same[k][0], json_member(root, same[k][0]), same[k][1]);
    strbuf_puts(&b, ",\"reasoning\":{");
    put_member(&b, "effort", reasoning ? json_member(reasoning, "effort") : NULL, "null");
    strbuf_puts(&b, ",\"summary\":null},\"text\":{");
    put_member(&b, "format", text ? json_member(text, "format") : NULL, "{\"type\":\"text\"}");
    strbuf_putc(&b, '}');
    put_tools(&b, json_member(root, "tools"));
    *out = strbuf_take(&b);
    strbuf_deinit(&b);
    return *out ? STATUS_OK : out_of_memory(e);
}

enum status api_responses_to_chat(cJSON *root, cJSON **chat, char **repeated, struct err *e)
{
    static const char *const same[] = {"tool_choice", "parallel_tool_calls", "stream_options"};
    cJSON *to = NULL;
    enum status st = refuse_state(root, e);
    if (st == STATUS_OK)
        st = check_rest(root, e);
    if (st == STATUS_OK)
        st = read_input(root, &to, e);
    if (st == STATUS_OK)
        st = read_length(root, to, e);
    if (st == STATUS_OK)
        st = read_format(root, to, e);
    if (st == STATUS_OK)
        st = read_logprobs(root, to, e);
    if (st == STATUS_OK)
        st = read_reasoning(root, to, e);
    if (st == STATUS_OK)
        st = api_fields_tools(json_member(root, "tools"), "function", false, "parameters", to, e);
    for (size_t k = 0; k < sizeof same / sizeof same[0] && st == STATUS_OK; k++)
        st = api_fields_copy(to, same[k], json_member(root, same[k]), e);
    if (st == STATUS_OK)
        st = api_fields_move(root, to, e);
    if (st == STATUS_OK)
        st = repeat(root, repeated, e);
    if (st != STATUS_OK) {
        cJSON_Delete(to);
        return st;
    }
    *chat = to;
    return STATUS_OK;
}

void api_responses_rename(struct err *e)
{
    static const struct api_field_name names[] = {
        {"response_format.json_schema", "text.format"},
        {"response_format", "text.format"},
        {"reasoning_effort", "reasoning.effort"},
        {"max_tokens", "max_output_tokens"},
        {"messages", "input"},
        {".function", ""},
        {NULL, NULL},
    };
    api_fields_rename(names, e);
}
