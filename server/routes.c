#include "server/routes.h"

#include <string.h>

#include "server/api_generate.h"
#include "server/api_list.h"
#include "server/api_text.h"

static const struct route table[] = {
    {ROUTE_CHAT, "POST", "/v1/chat/completions", false, true, api_generate_chat},
    {ROUTE_COMPLETIONS, "POST", "/v1/completions", false, true, api_generate_completion},
    {ROUTE_MODELS, "GET", "/v1/models", false, true, api_list_models},
    {ROUTE_MODEL, "GET", "/v1/models/", false, true, api_list_model},
    {ROUTE_ADAPTERS, "GET", "/v1/adapters", false, true, api_list_adapters},
    {ROUTE_LORA_ADAPTERS, "GET", "/lora-adapters", false, true, api_list_lora_adapters},
    {ROUTE_TOKENIZE, "POST", "/tokenize", false, true, api_text_tokenize},
    {ROUTE_DETOKENIZE, "POST", "/detokenize", false, true, api_text_detokenize},
    {ROUTE_APPLY_TEMPLATE, "POST", "/apply-template", false, true, api_text_apply_template},
    {ROUTE_COUNT_TOKENS, "POST", "/v1/messages/count_tokens", false, true, api_text_count_tokens},
    {ROUTE_PROPS, "GET", "/props", false, true, api_list_props},
    {ROUTE_VERSION, "GET", "/version", false, false, api_list_version},
    {ROUTE_HEALTH, "GET", "/health", true, false, api_list_health},
    {ROUTE_METRICS, "GET", "/metrics", false, false, api_list_metrics},
};
#define TABLE_COUNT (sizeof table / sizeof table[0])

static bool matches(const struct route *r, const char *path, const char **tail)
{
    size_t n = strlen(r->path);
    if (r->path[n - 1] != '/')
        return strcmp(r->path, path) == 0;
    if (strncmp(r->path, path, n) != 0 || path[n] == '\0')
        return false;
    *tail = path + n;
    return true;
}

const struct route *routes_find(const char *method, const char *path, const char **tail,
                                const char **allow)
{
    *allow = "";
    *tail = "";
    if (strcmp(method, "HEAD") == 0)
        method = "GET";
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        if (!matches(&table[i], path, tail))
            continue;
        if (strcmp(table[i].method, method) == 0)
            return &table[i];
        *allow = strcmp(table[i].method, "GET") == 0 ? "GET, HEAD" : table[i].method;
    }
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
