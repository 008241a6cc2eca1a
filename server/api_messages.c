#include "server/api_messages.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/base/mem.h"
#include "server/api_content.h"
#include "server/api_fields.h"
#include "server/api_turns.h"

static enum status out_of_memory(struct err *e)
{
    return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
}

/* ---- messages ---- */

/* One message on its way: what its blocks say, by kind. */
struct reading {
    struct api_turns *turns;
    int index;
    bool assistant;
    struct strbuf text;
    struct strbuf thought;
};

static enum status bad_block(const struct reading *r, struct err *e, int i, const char *field,
                             const char *why)
{
    char list[ERR_PARAM_MAX / 2];
    snprintf(list, sizeof list, "messages[%d].content", r->index);
    return api_fields_bad(e, list, i, field, why);
}

static enum status add_use(struct reading *r, const cJSON *block, int i, struct err *e)
{
    const cJSON *id = json_member(block, "id"), *name = json_member(block, "name");
    const cJSON *input = json_member(block, "input");
    if (!r->assistant)
        return bad_block(r, e, i, "type", "must not be tool_use in a message of the user");
    if (!cJSON_IsString(id))
        return bad_block(r, e, i, "id", "must be a string");
    if (!cJSON_IsString(name))
        return bad_block(r, e, i, "name", "must be a string");
    if (!cJSON_IsObject(input))
        return bad_block(r, e, i, "input", "must be an object");
    if (r->thought.len > 0)
        api_turns_think(r->turns, strbuf_str(&r->thought));
    if (r->text.len > 0)
        api_turns_say(r->turns, "assistant", strbuf_str(&r->text));
    strbuf_clear(&r->thought);
    strbuf_deinit(&r->text); /* what comes behind is a text of its own */
    api_turns_call(r->turns, id->valuestring, name->valuestring, input);
    return STATUS_OK;
}

static enum status add_result(struct reading *r, const cJSON *block, int i, struct err *e)
{
    const cJSON *id = json_member(block, "tool_use_id");
    const cJSON *content = json_member(block, "content");
    bool is_error = false;
    if (r->assistant)
        return bad_block(r, e, i, "type", "must not be tool_result in a message of the assistant");
    if (!cJSON_IsString(id))
        return bad_block(r, e, i, "tool_use_id", "must be a string");
    if (json_get_bool(block, "is_error", &is_error, e) != STATUS_OK)
        return bad_block(r, e, i, "is_error", "must be true or false");
    char param[ERR_PARAM_MAX];
    snprintf(param, sizeof param, "messages[%d].content[%d].content", r->index, i);
    struct strbuf text;
    strbuf_init(&text, SIZE_MAX / 2);
    enum status st = content ? api_content_text(content, param, &text, e) : STATUS_OK;
    if (st == STATUS_OK)
        api_turns_result(r->turns, id->valuestring, strbuf_str(&text));
    strbuf_deinit(&text);
    return st;
}

static enum status add_thinking(struct reading *r, const cJSON *block, int i, struct err *e)
{
    const cJSON *text = json_member(block, "thinking");
    if (!r->assistant)
        return bad_block(r, e, i, "type", "must not be thinking in a message of the user");
    if (!cJSON_IsString(text))
        return bad_block(r, e, i, "thinking", "must be a string");
    strbuf_puts(&r->thought, text->valuestring);
    return r->thought.failed ? out_of_memory(e) : STATUS_OK;
}

static enum status add_block(struct reading *r, const cJSON *block, int i, struct err *e)
{
    char param[ERR_PARAM_MAX];
    const cJSON *kind = cJSON_IsObject(block) ? json_member(block, "type") : NULL;
    if (!cJSON_IsString(kind))
        return bad_block(r, e, i, "type", "must be a string");
    const char *type = kind->valuestring;
    if (strcmp(type, "tool_use") == 0)
        return add_use(r, block, i, e);
    if (strcmp(type, "tool_result") == 0)
        return add_result(r, block, i, e);
    if (strcmp(type, "thinking") == 0)
        return add_thinking(r, block, i, e);
    if (strcmp(type, "redacted_thinking") == 0)
        return STATUS_OK;
    snprintf(param, sizeof param, "messages[%d].content", r->index);
    return api_content_part(block, param, &r->text, e);
}

static enum status read_blocks(struct reading *r, const cJSON *content, struct err *e)
{
    enum status st = STATUS_OK;
    int i = 0;
    for (const cJSON *b = content->child; b && st == STATUS_OK; b = b->next)
        st = add_block(r, b, i++, e);
    return st;
}

static enum status add_message(const cJSON *m, int i, struct api_turns *t, struct err *e)
{
    const cJSON *role = cJSON_IsObject(m) ? json_member(m, "role") : NULL;
    if (!cJSON_IsObject(m))
        return api_fields_bad(e, "messages", i, "", "must be an object");
    const char *who = cJSON_IsString(role) ? role->valuestring : "";
    if (strcmp(who, "user") != 0 && strcmp(who, "assistant") != 0 && strcmp(who, "system") != 0)
        return api_fields_bad(e, "messages", i, "role", "must be user or assistant");
    const cJSON *content = json_member(m, "content");
    if (!cJSON_IsString(content) && !(cJSON_IsArray(content) && content->child))
        return api_fields_bad(e, "messages", i, "content", "must be a string or a list of blocks");
    struct reading r = {.turns = t, .index = i, .assistant = strcmp(who, "assistant") == 0};
    strbuf_init(&r.text, SIZE_MAX / 2);
    strbuf_init(&r.thought, SIZE_MAX / 2);
    enum status st = STATUS_OK;
    if (cJSON_IsString(content))
        api_turns_say(t, who, content->valuestring);
    else
        st = read_blocks(&r, content, e);
    if (st == STATUS_OK && r.thought.len > 0)
        api_turns_think(t, strbuf_str(&r.thought));
    if (st == STATUS_OK && r.text.data)
        api_turns_say(t, who, strbuf_str(&r.text));
    strbuf_deinit(&r.text);
    strbuf_deinit(&r.thought);
    return st;
}

static enum status add_system(const cJSON *root, struct api_turns *t, struct err *e)
{
    const cJSON *system = json_member(root, "system");
    if (!system)
        return STATUS_OK;
    struct strbuf text;
    strbuf_init(&text, SIZE_MAX / 2);
    enum status st = api_content_text(system, "system", &text, e);
    if (st == STATUS_OK && text.len > 0)
        api_turns_say(t, "system", strbuf_str(&text));
    strbuf_deinit(&text);
    return st;
}

/* An answer goes on in a message of the assistant that stands last. */
static enum status continue_last(cJSON *chat, struct err *e)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(chat, "messages");
    const cJSON *last = list->child ? list->child->prev : NULL;
    const cJSON *role = last ? cJSON_GetObjectItemCaseSensitive(last, "role") : NULL;
    const cJSON *content = last ? cJSON_GetObjectItemCaseSensitive(last, "content") : NULL;
    if (!role || strcmp(role->valuestring, "assistant") != 0 || !cJSON_IsString(content) ||
        !content->valuestring[0] || cJSON_GetObjectItemCaseSensitive(last, "tool_calls"))
        return STATUS_OK;
    return api_fields_put(chat, "continue_final_message", cJSON_CreateTrue(), e);
}

static enum status read_messages(const cJSON *root, cJSON **chat, struct err *e)
{
    const cJSON *list = json_member(root, "messages");
    if (!cJSON_IsArray(list) || !list->child)
        return err_set(e, STATUS_INVALID, "messages", "'messages' must be a list of messages");
    struct api_turns t;
    api_turns_init(&t);
    enum status st = t.failed ? out_of_memory(e) : add_system(root, &t, e);
    int i = 0;
    for (const cJSON *m = list->child; m && st == STATUS_OK && !t.failed; m = m->next)
        st = add_message(m, i++, &t, e);
    cJSON *taken = st == STATUS_OK ? api_turns_take(&t) : NULL;
    api_turns_deinit(&t);
    if (st == STATUS_OK && !taken)
        st = out_of_memory(e);
    if (st == STATUS_OK)
        st = continue_last(taken, e);
    if (st != STATUS_OK) {
        cJSON_Delete(taken);
        return st;
    }
    *chat = taken;
    return st;
}

/* ---- tools ---- */

static enum status read_choice(const cJSON *root, cJSON *chat, struct err *e)
{
    static const char *const kinds[][2] = {{"auto", "auto"}, {"any", "required"}, {"none", "none"}};
    const cJSON *choice = json_member(root, "tool_choice");
    if (!choice)
        return STATUS_OK;
    const cJSON *type = cJSON_IsObject(choice) ? json_member(choice, "type") : NULL;
    bool single = false;
    if (!cJSON_IsString(type))
        return err_set(e, STATUS_INVALID, "tool_choice",
                       "'tool_choice' must be {\"type\": auto, any, tool or none}");
    if (json_get_bool(choice, "disable_parallel_tool_use", &single, e) != STATUS_OK)
        return err_set(e, STATUS_INVALID, "tool_choice.disable_parallel_tool_use",
                       "'tool_choice.disable_parallel_tool_use' must be true or false");
    enum status st = STATUS_OK;
    if (single)
        st = api_fields_put(chat, "parallel_tool_calls", cJSON_CreateFalse(), e);
    if (st != STATUS_OK)
        return st;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        if (strcmp(type->valuestring, kinds[k][0]) == 0)
            return api_fields_put(chat, "tool_choice", cJSON_CreateString(kinds[k][1]), e);
    }
    if (strcmp(type->valuestring, "tool") != 0 || !cJSON_IsString(json_member(choice, "name")))
        return err_set(e, STATUS_INVALID, "tool_choice",
                       "'tool_choice' must be {\"type\": auto, any, none} or {\"type\": tool, "
                       "\"name\"}");
    return api_fields_copy(chat, "tool_choice", choice, e);
}

static enum status read_tools(const cJSON *root, cJSON *chat, struct err *e)
{
    const cJSON *tools = json_member(root, "tools");
    int i = 0;
    for (const cJSON *t = cJSON_IsArray(tools) ? tools->child : NULL; t; t = t->next, i++) {
        const cJSON *type = cJSON_IsObject(t) ? json_member(t, "type") : NULL;
        bool own = !type || (cJSON_IsString(type) && strcmp(type->valuestring, "custom") == 0);
        if (cJSON_IsObject(t) && own && !json_member(t, "input_schema"))
            return api_fields_bad(e, "tools", i, "input_schema", "is missing");
    }
    enum status st = api_fields_tools(tools, "custom", true, "input_schema", chat, e);
    return st == STATUS_OK ? read_choice(root, chat, e) : st;
}

/* ---- how to answer ---- */

static bool is_one_of(const char *s, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(s, list[i]) == 0)
            return true;
    }
    return false;
}

/* Whether to think becomes what templates ask for; how long to cannot be told a model. */
static enum status read_thinking(const cJSON *root, cJSON *chat, struct err *e)
{
    static const char *const types[] = {"enabled", "adaptive", "between_tools", "disabled"};
    const cJSON *thinking = json_member(root, "thinking");
    if (!thinking)
        return STATUS_OK;
    const cJSON *type = cJSON_IsObject(thinking) ? json_member(thinking, "type") : NULL;
    if (!cJSON_IsString(type) || !is_one_of(type->valuestring, types, 4))
        return err_set(e, STATUS_INVALID, "thinking",
                       "'thinking' must be {\"type\": enabled, adaptive or disabled}");
    int64_t budget = 0;
    if (json_get_int(thinking, "budget_tokens", 0, INT32_MAX, &budget, e) != STATUS_OK)
        return err_set(e, STATUS_INVALID, "thinking.budget_tokens",
                       "'thinking.budget_tokens' must be a number of tokens");
    cJSON *kwargs = cJSON_GetObjectItemCaseSensitive(chat, "chat_template_kwargs");
    if (!kwargs || cJSON_IsNull(kwargs)) {
        cJSON_DeleteItemFromObjectCaseSensitive(chat, "chat_template_kwargs");
        kwargs = cJSON_AddObjectToObject(chat, "chat_template_kwargs");
    }
    if (!kwargs)
        return out_of_memory(e);
    if (!cJSON_IsObject(kwargs) || cJSON_GetObjectItemCaseSensitive(kwargs, "enable_thinking"))
        return STATUS_OK;
    return api_fields_put(kwargs, "enable_thinking",
                          cJSON_CreateBool(strcmp(type->valuestring, "disabled") != 0), e);
}

static enum status read_format(const cJSON *format, cJSON *chat, struct err *e)
{
    const cJSON *type = cJSON_IsObject(format) ? json_member(format, "type") : NULL;
    const cJSON *schema = cJSON_IsObject(format) ? json_member(format, "schema") : NULL;
    if (!cJSON_IsString(type) || strcmp(type->valuestring, "json_schema") != 0 || !schema)
        return err_set(e, STATUS_INVALID, "output_config.format",
                       "'output_config.format' must be {\"type\": \"json_schema\", \"schema\"}");
    cJSON *to = cJSON_AddObjectToObject(chat, "response_format");
    cJSON *in = to ? cJSON_AddObjectToObject(to, "json_schema") : NULL;
    if (!in || !cJSON_AddStringToObject(to, "type", "json_schema"))
        return out_of_memory(e);
    return api_fields_copy(in, "schema", schema, e);
}

static enum status read_output(const cJSON *root, cJSON *chat, struct err *e)
{
    const cJSON *config = json_member(root, "output_config");
    if (!config)
        return STATUS_OK;
    if (!cJSON_IsObject(config))
        return err_set(e, STATUS_INVALID, "output_config", "'output_config' must be an object");
    const cJSON *format = json_member(config, "format"), *effort = json_member(config, "effort");
    enum status st = format ? read_format(format, chat, e) : STATUS_OK;
    if (st != STATUS_OK || !effort)
        return st;
    static const char *const efforts[] = {"low", "medium", "high", "xhigh", "max"};
    if (!cJSON_IsString(effort) || !is_one_of(effort->valuestring, efforts, 5))
        return err_set(e, STATUS_INVALID, "output_config.effort",
                       "'output_config.effort' must be low, medium, high, xhigh or max");
    bool most = strcmp(effort->valuestring, "max") == 0;
    return api_fields_put(chat, "reasoning_effort",
                          cJSON_CreateString(most ? "xhigh" : effort->valuestring), e);
}

static enum status read_length(const cJSON *root, cJSON *chat, struct err *e)
{
    const cJSON *most = json_member(root, "max_tokens");
    if (!most)
        return err_set(e, STATUS_INVALID, "max_tokens", "'max_tokens' is missing");
    return api_fields_copy(chat, "max_tokens", most, e);
}

static enum status read_rest(const cJSON *root, cJSON *chat, struct err *e)
{
    const cJSON *metadata = json_member(root, "metadata");
    const cJSON *stop = json_member(root, "stop_sequences");
    if (metadata && !cJSON_IsObject(metadata))
        return err_set(e, STATUS_INVALID, "metadata", "'metadata' must be an object");
    if (stop && !cJSON_IsArray(stop))
        return err_set(e, STATUS_INVALID, "stop_sequences",
                       "'stop_sequences' must be a list of strings");
    return api_fields_copy(chat, "stop", stop, e);
}

enum status api_messages_to_chat(cJSON *root, bool generates, cJSON **chat, struct err *e)
{
    cJSON *to = NULL;
    enum status st = read_messages(root, &to, e);
    if (st == STATUS_OK && generates)
        st = read_length(root, to, e);
    if (st == STATUS_OK)
        st = read_tools(root, to, e);
    if (st == STATUS_OK)
        st = api_fields_move(root, to, e);
    if (st == STATUS_OK)
        st = read_thinking(root, to, e);
    if (st == STATUS_OK)
        st = read_output(root, to, e);
    if (st == STATUS_OK && generates)
        st = read_rest(root, to, e);
    if (st != STATUS_OK) {
        cJSON_Delete(to);
        return st;
    }
    *chat = to;
    return STATUS_OK;
}

void api_messages_rename(struct err *e)
{
    static const struct api_field_name names[] = {
        {"response_format.json_schema", "output_config.format"},
        {"response_format", "output_config.format"},
        {"reasoning_effort", "output_config.effort"},
        {"stop", "stop_sequences"},
        {".function.parameters", ".input_schema"},
        {".function", ""},
        {NULL, NULL},
    };
    api_fields_rename(names, e);
}
