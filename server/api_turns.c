#include "server/api_turns.h"

#include <string.h>

static bool has(const cJSON *m, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(m, key) != NULL;
}

static void put(struct api_turns *t, cJSON *to, const char *key, const char *text)
{
    t->failed |= !to || !cJSON_AddStringToObject(to, key, text);
}

/* Nothing joins the assistant's message any more. One that only thought said nothing. */
static void close_turn(struct api_turns *t)
{
    if (t->open && !has(t->open, "content") && !has(t->open, "tool_calls"))
        put(t, t->open, "content", "");
    t->open = NULL;
}

static cJSON *begin(struct api_turns *t, const char *role)
{
    close_turn(t);
    cJSON *m = cJSON_CreateObject();
    if (!m || !cJSON_AddItemToArray(t->list, m)) {
        cJSON_Delete(m);
        m = NULL;
    }
    put(t, m, "role", role);
    return m;
}

static cJSON *assistant(struct api_turns *t, bool fits)
{
    if (!t->open || !fits)
        t->open = begin(t, "assistant");
    return t->open;
}

void api_turns_init(struct api_turns *t)
{
    *t = (struct api_turns){.list = cJSON_CreateArray()};
    t->failed = !t->list;
}

void api_turns_deinit(struct api_turns *t)
{
    cJSON_Delete(t->list);
    *t = (struct api_turns){0};
}

void api_turns_say(struct api_turns *t, const char *role, const char *text)
{
    bool own = strcmp(role, "assistant") == 0;
    bool fits = t->open && !has(t->open, "content") && !has(t->open, "tool_calls");
    put(t, own ? assistant(t, fits) : begin(t, role), "content", text);
}

void api_turns_think(struct api_turns *t, const char *text)
{
    put(t, assistant(t, false), "reasoning_content", text);
}

void api_turns_call(struct api_turns *t, const char *id, const char *name, const cJSON *arguments)
{
    cJSON *m = assistant(t, true);
    cJSON *calls = m && has(m, "tool_calls") ? cJSON_GetObjectItemCaseSensitive(m, "tool_calls")
                   : m                       ? cJSON_AddArrayToObject(m, "tool_calls")
                                             : NULL;
    cJSON *call = cJSON_CreateObject();
    if (!calls || !call || !cJSON_AddItemToArray(calls, call)) {
        cJSON_Delete(call);
        t->failed = true;
        return;
    }
    put(t, call, "id", id);
    put(t, call, "type", "function");
    cJSON *f = cJSON_AddObjectToObject(call, "function");
    cJSON *copy = cJSON_Duplicate(arguments, 1);
    put(t, f, "name", name);
    if (!f || !copy || !cJSON_AddItemToObject(f, "arguments", copy)) {
        cJSON_Delete(copy);
        t->failed = true;
    }
}

void api_turns_result(struct api_turns *t, const char *id, const char *text)
{
    cJSON *m = begin(t, "tool");
    put(t, m, "tool_call_id", id);
    put(t, m, "content", text);
}

cJSON *api_turns_take(struct api_turns *t)
{
    close_turn(t);
    cJSON *chat = t->failed ? NULL : cJSON_CreateObject();
    if (!chat || !cJSON_AddItemToObject(chat, "messages", t->list)) {
        cJSON_Delete(chat);
        return NULL;
    }
    t->list = NULL;
    return chat;
}
