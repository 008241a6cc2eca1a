#include "server/routes.h"

#include <string.h>

#include "server/api_adapters.h"
#include "server/api_generate.h"
#include "server/api_list.h"
#include "server/api_live.h"
#include "server/api_page.h"
#include "server/api_scales.h"
#include "server/api_text.h"

static const struct route table[] = {
    {ROUTE_CHAT, "POST", "/v1/chat/completions", false, true, api_generate_chat},
    {ROUTE_COMPLETIONS, "POST", "/v1/completions", false, true, api_generate_completion},
    {ROUTE_EMBEDDINGS, "POST", "/v1/embeddings", false, true, api_generate_embeddings},
    {ROUTE_RESPONSES, "POST", "/v1/responses", false, true, api_generate_response},
    {ROUTE_MESSAGES, "POST", "/v1/messages", false, true, api_generate_message},
    {ROUTE_MODELS, "GET", "/v1/models", false, true, api_list_models},
    {ROUTE_MODEL, "GET", "/v1/models/", false, true, api_list_model},
    {ROUTE_ADAPTERS, "GET", "/v1/adapters", false, true, api_adapters_list},
    {ROUTE_ADAPTERS, "POST", "/v1/adapters", false, true, api_adapters_add},
    {ROUTE_ADAPTERS_CHECK, "POST", "/v1/adapters/check", false, true, api_adapters_check},
    {ROUTE_ADAPTER, "GET", "/v1/adapters/", false, true, api_adapters_one},
    {ROUTE_ADAPTER, "DELETE", "/v1/adapters/", false, true, api_adapters_remove},
    {ROUTE_LOAD_LORA_ADAPTER, "POST", "/v1/load_lora_adapter", false, true, api_adapters_load},
    {ROUTE_UNLOAD_LORA_ADAPTER, "POST", "/v1/unload_lora_adapter", false, true,
     api_adapters_unload},
    {ROUTE_LORA_ADAPTERS, "GET", "/lora-adapters", false, true, api_scales_list},
    {ROUTE_LORA_ADAPTERS, "POST", "/lora-adapters", false, true, api_scales_set},
    {ROUTE_TOKENIZE, "POST", "/tokenize", false, true, api_text_tokenize},
    {ROUTE_DETOKENIZE, "POST", "/detokenize", false, true, api_text_detokenize},
    {ROUTE_APPLY_TEMPLATE, "POST", "/apply-template", false, true, api_text_apply_template},
    {ROUTE_COUNT_TOKENS, "POST", "/v1/messages/count_tokens", false, true, api_text_count_tokens},
    {ROUTE_STATUS, "GET", "/v1/status", false, false, api_live_status},
    {ROUTE_STEPS, "GET", "/v1/steps", false, true, api_live_steps},
    {ROUTE_PROPS, "GET", "/props", false, true, api_list_props},
    {ROUTE_SLOTS, "GET", "/slots", false, true, api_list_slots},
    {ROUTE_VERSION, "GET", "/version", false, false, api_list_version},
    {ROUTE_HEALTH, "GET", "/health", true, false, api_list_health},
    {ROUTE_METRICS, "GET", "/metrics", false, false, api_list_metrics},
    {ROUTE_OPENAPI, "GET", "/openapi.json", false, false, api_list_openapi},
    {ROUTE_PAGE, "GET", "/", true, false, api_page_index},
    {ROUTE_PAGE_FILE, "GET", "/page/", true, false, api_page_file},
};
#define TABLE_COUNT (sizeof table / sizeof table[0])

static bool matches(const struct route *r, const char *path, const char **tail)
{
    size_t n = strlen(r->path);
    if (r->path[n - 1] != '/' || n == 1)
        return strcmp(r->path, path) == 0;
    if (strncmp(r->path, path, n) != 0 || path[n] == '\0')
        return false;
    *tail = path + n;
    return true;
}

/* The value of Allow for a set of methods. */
static const char *allow_of(unsigned methods)
{
    static const char *const names[] = {
        "",       "GET, HEAD",         "POST",         "GET, HEAD, POST",
        "DELETE", "GET, HEAD, DELETE", "POST, DELETE", "GET, HEAD, POST, DELETE",
    };
    return names[methods];
}

static unsigned bit_of(const char *method)
{
    return strcmp(method, "GET") == 0 ? 1 : strcmp(method, "POST") == 0 ? 2 : 4;
}

const struct route *routes_find(const char *method, const char *path, const char **tail,
                                const char **allow)
{
    unsigned methods = 0;
    *allow = "";
    *tail = "";
    if (strcmp(method, "HEAD") == 0)
        method = "GET";
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        if (!matches(&table[i], path, tail))
            continue;
        if (strcmp(table[i].method, method) == 0)
            return &table[i];
        methods |= bit_of(table[i].method);
    }
    *allow = allow_of(methods);
    return NULL;
}

const struct route *routes_at(size_t i)
{
    return i < TABLE_COUNT ? &table[i] : NULL;
}

const char *routes_label(enum route_id id)
{
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        if (table[i].id == id)
            return table[i].path;
    }
    return "other";
}
