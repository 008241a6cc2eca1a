#include "server/api_adapter.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/json.h"

/* One way of naming adapters, as read. `given` without entries names the base. */
struct naming {
    bool given;
    int count;
    struct engine_adapter_use uses[LIMIT_ADAPTERS_PER_REQUEST];
};

bool api_adapter_is_name(const char *s)
{
    size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return n >= 1 && n <= LIMIT_NAME_BYTES && s[n] == '\0';
}

/* What a lookup that did not succeed means. */
static enum status not_found(enum status st, const char *param, const char *name, struct err *e)
{
    if (st != STATUS_ADAPTER_NOT_FOUND)
        return err_set(e, st, NULL, "out of memory");
    return err_set(e, st, param,
                   "adapter '%.64s' does not exist; GET /v1/adapters lists those that do", name);
}

static enum status add(const struct api_context *ctx, const char *param, const char *name,
                       double weight, struct naming *to, struct err *e)
{
    if (!api_adapter_is_name(name))
        return err_set(e, STATUS_INVALID, param,
                       "'%s': an adapter's name is 1 to %d letters, digits, '.', '_' or '-'", param,
                       LIMIT_NAME_BYTES);
    for (int i = 0; i < to->count; i++) {
        if (strcmp(to->uses[i].name, name) == 0)
            return err_set(e, STATUS_INVALID, param, "'%s' names adapter '%s' twice", param, name);
    }
    if (to->count == LIMIT_ADAPTERS_PER_REQUEST)
        return err_set(e, STATUS_INVALID, param, "'%s' names more than %d adapters", param,
                       LIMIT_ADAPTERS_PER_REQUEST);
    enum status st = ctx->has_adapter(ctx->ctx, name);
    if (st != STATUS_OK)
        return not_found(st, param, name, e);
    struct engine_adapter_use *use = &to->uses[to->count++];
    *use = (struct engine_adapter_use){.weight = (float)weight};
    snprintf(use->name, sizeof use->name, "%s", name);
    return STATUS_OK;
}

/* "name" or {"name": ..., "weight": ...} */
static enum status read_item(const struct api_context *ctx, const cJSON *v, struct naming *to,
                             struct err *e)
{
    if (cJSON_IsString(v))
        return add(ctx, "adapter", v->valuestring, 1.0, to, e);
    if (!cJSON_IsObject(v))
        return err_set(e, STATUS_INVALID, "adapter",
                       "'adapter' must be a name, {\"name\", \"weight\"} or a list of those");
    const char *name = NULL;
    double weight = 1.0;
    enum status st = json_get_string(v, "name", &name, e);
    if (st == STATUS_OK)
        st = json_get_double(v, "weight", -API_WEIGHT_MAX, API_WEIGHT_MAX, &weight, e);
    if (st != STATUS_OK) {
        char key[ERR_PARAM_MAX / 2];
        snprintf(key, sizeof key, "%s", e->param);
        snprintf(e->param, sizeof e->param, "adapter.%s", key);
        return st;
    }
    if (!name)
        return err_set(e, STATUS_INVALID, "adapter.name", "'adapter' lacks a 'name'");
    return add(ctx, "adapter", name, weight, to, e);
}

static enum status read_adapter(const struct api_context *ctx, const cJSON *root, struct naming *to,
                                struct err *e)
{
    const cJSON *v = json_member(root, "adapter");
    if (!v || (cJSON_IsString(v) && v->valuestring[0] == '\0'))
        return STATUS_OK;
    to->given = true;
    if (!cJSON_IsArray(v))
        return read_item(ctx, v, to, e);
    enum status st = STATUS_OK;
    for (const cJSON *item = v->child; item && st == STATUS_OK; item = item->next)
        st = read_item(ctx, item, to, e);
    return st;
}

/* [{"id": 0, "scale": 0.5}]: scale 0 switches an adapter off. */
static enum status read_lora(const struct api_context *ctx, const cJSON *root, struct naming *to,
                             struct err *e)
{
    const cJSON *v = json_member(root, "lora");
    if (!v)
        return STATUS_OK;
    if (!cJSON_IsArray(v))
        return err_set(e, STATUS_INVALID, "lora", "'lora' must be a list of {\"id\", \"scale\"}");
    to->given = v->child != NULL;
    for (const cJSON *item = v->child; item; item = item->next) {
        int64_t id = -1;
        double scale = 1.0;
        enum status st = STATUS_OK;
        if (!cJSON_IsObject(item))
            return err_set(e, STATUS_INVALID, "lora",
                           "'lora' must be a list of {\"id\", \"scale\"}");
        st = json_get_int(item, "id", 0, INT32_MAX, &id, e);
        if (st == STATUS_OK)
            st = json_get_double(item, "scale", -API_WEIGHT_MAX, API_WEIGHT_MAX, &scale, e);
        if (st != STATUS_OK || id < 0)
            return err_set(e, STATUS_INVALID, "lora",
                           "'lora' must be a list of {\"id\", \"scale\"}");
        char name[LIMIT_NAME_BYTES + 1];
        char label[32];
        snprintf(label, sizeof label, "%lld", (long long)id);
        st = ctx->adapter_at(ctx->ctx, id, name);
        if (st != STATUS_OK)
            return not_found(st, "lora", label, e);
        if (scale != 0)
            st = add(ctx, "lora", name, scale, to, e);
        if (st != STATUS_OK)
            return st;
    }
    return STATUS_OK;
}

static bool is_base(const struct api_context *ctx, const char *s, size_t n)
{
    for (int i = 0; i < ctx->base_count; i++) {
        if (strlen(ctx->base_names[i]) == n && memcmp(ctx->base_names[i], s, n) == 0)
            return true;
    }
    return false;
}

enum status api_adapter_of_model(const struct api_context *ctx, const char *model,
                                 const char **adapter, struct err *e)
{
    if (is_base(ctx, model, strlen(model))) {
        *adapter = NULL;
        return STATUS_OK;
    }
    const char *colon = strrchr(model, ':');
    if (colon && colon[1] != '\0' && is_base(ctx, model, (size_t)(colon - model))) {
        *adapter = colon + 1;
        return STATUS_OK;
    }
    enum status st =
        api_adapter_is_name(model) ? ctx->has_adapter(ctx->ctx, model) : STATUS_ADAPTER_NOT_FOUND;
    if (st == STATUS_OK) {
        *adapter = model;
        return st;
    }
    if (st != STATUS_ADAPTER_NOT_FOUND)
        return not_found(st, "model", model, e);
    return err_set(e, STATUS_MODEL_NOT_FOUND, "model",
                   "model '%.128s' does not exist; GET /v1/models lists those that do", model);
}

static enum status read_model(const struct api_context *ctx, const cJSON *root, const char **model,
                              struct naming *to, struct err *e)
{
    const char *text = NULL;
    enum status st = json_get_string(root, "model", &text, e);
    *model = text && *text ? text : ctx->base_names[0];
    const char *adapter = NULL;
    if (st == STATUS_OK)
        st = api_adapter_of_model(ctx, *model, &adapter, e);
    if (st != STATUS_OK || !adapter)
        return st;
    to->given = true;
    return add(ctx, "model", adapter, 1.0, to, e);
}

static bool same(const struct naming *a, const struct naming *b, bool weights)
{
    if (a->count != b->count)
        return false;
    for (int i = 0; i < a->count; i++) {
        bool found = false;
        for (int k = 0; k < b->count; k++)
            found |= strcmp(a->uses[i].name, b->uses[k].name) == 0 &&
                     (!weights || fabsf(a->uses[i].weight - b->uses[k].weight) == 0);
        if (!found)
            return false;
    }
    return true;
}

static enum status read_defaults(const struct api_context *ctx, struct naming *to, struct err *e)
{
    int count = ctx->default_uses ? ctx->default_uses(ctx->ctx, to->uses) : -1;
    const char *fallback = ctx->default_adapter;
    if (count < 0)
        return fallback ? add(ctx, "adapter", fallback, 1.0, to, e) : STATUS_OK;
    to->count = count;
    return STATUS_OK;
}

enum status api_adapter_resolve(const struct api_context *ctx, const cJSON *root,
                                const char **model, struct engine_adapter_use *uses, int *count,
                                struct err *e)
{
    struct naming by_model = {0};
    struct naming by_adapter = {0};
    struct naming by_lora = {0};
    enum status st = read_model(ctx, root, model, &by_model, e);
    if (st == STATUS_OK)
        st = read_adapter(ctx, root, &by_adapter, e);
    if (st == STATUS_OK)
        st = read_lora(ctx, root, &by_lora, e);
    if (st != STATUS_OK)
        return st;
    /* A model name carries no weight: it agrees with any weight of the same adapter. */
    if (by_model.given && by_adapter.given && !same(&by_model, &by_adapter, false))
        return err_set(e, STATUS_INVALID, "adapter",
                       "'model' and 'adapter' name different adapters");
    const struct naming *chosen = by_adapter.given ? &by_adapter : &by_model;
    if (chosen->given && by_lora.given && !same(chosen, &by_lora, by_adapter.given))
        return err_set(e, STATUS_INVALID, "lora", "'lora' names other adapters than '%s'",
                       by_adapter.given ? "adapter" : "model");
    if (!by_adapter.given && by_lora.given)
        chosen = &by_lora;
    struct naming fallback = {0};
    if (!chosen->given) {
        st = read_defaults(ctx, &fallback, e);
        chosen = &fallback;
    }
    if (st == STATUS_OK) {
        memcpy(uses, chosen->uses, sizeof chosen->uses);
        *count = chosen->count;
    }
    return st;
}
