#include "server/api_scales.h"

#include <string.h>

#include "engine/base/json.h"
#include "engine/base/mem.h"
#include "server/adapter_json.h"
#include "server/api_adapter.h"
#include "server/api_error.h"
#include "server/listing.h"
#include "server/served.h"
#include "server/server_state.h"

#define ANSWER_BYTES_MAX ((size_t)64 << 20)
#define BODY_BYTES_MAX   ((size_t)64 << 10) /* parsed on the loop */

static void put_string(struct strbuf *b, const char *s)
{
    strbuf_json_string(b, s, strlen(s));
}

static void write_scales(struct listing *l)
{
    struct engine_adapter_use uses[LIMIT_ADAPTERS_PER_REQUEST];
    int used = keeper_names_scales(keeper_names_of(l->server->keeper), uses);
    struct strbuf *b = &l->body;
    strbuf_putc(b, '[');
    for (int i = 0; i < l->count; i++) {
        const struct engine_adapter_info *a = &l->list[i];
        double scale = used < 0 && strcmp(l->fallback, a->name) == 0;
        for (int k = 0; k < used; k++) {
            if (strcmp(uses[k].name, a->name) == 0)
                scale = (double)uses[k].weight;
        }
        strbuf_printf(b, i ? ",{\"id\":%d,\"path\":" : "{\"id\":%d,\"path\":", i);
        put_string(b, a->path);
        strbuf_puts(b, ",\"name\":");
        put_string(b, a->name);
        strbuf_printf(b, ",\"scale\":%.7g", scale);
        if (a->alora_token_count > 0)
            adapter_json_put_alora(b, a->alora_tokens, a->alora_token_count);
        strbuf_putc(b, '}');
    }
    strbuf_putc(b, ']');
}

/* The index is what `lora` in a request means. */
void api_scales_list(struct call *c, const char *tail)
{
    static const struct listing_kind kind = {.write = write_scales};
    (void)tail;
    listing_begin(c, &kind);
}

static enum status read_scales(struct server *s, const cJSON *root, struct engine_adapter_use *uses,
                               int *count, struct err *e)
{
    const char *form = "the request body must be a list of {\"id\", \"scale\"}";
    struct engine_adapter_info *list;
    int served = served_list(s->engine, false, &list);
    enum status st = STATUS_OK;
    if (served < 0)
        return err_set(e, STATUS_NO_MEMORY, NULL, "out of memory");
    if (!cJSON_IsArray(root))
        st = err_set(e, STATUS_INVALID, NULL, "%s", form);
    for (const cJSON *item = root->child; item && st == STATUS_OK; item = item->next) {
        int64_t id = -1;
        double scale = 0;
        if (!cJSON_IsObject(item)) {
            st = err_set(e, STATUS_INVALID, NULL, "%s", form);
            continue;
        }
        st = json_get_int(item, "id", 0, INT32_MAX, &id, e);
        if (st == STATUS_OK)
            st = json_get_double(item, "scale", -API_WEIGHT_MAX, API_WEIGHT_MAX, &scale, e);
        if (st == STATUS_OK && (id < 0 || id >= served))
            st = err_set(e, id < 0 ? STATUS_INVALID : STATUS_ADAPTER_NOT_FOUND, "id",
                         "'id' must be an index of GET /lora-adapters");
        for (int i = 0; i < *count && st == STATUS_OK; i++) {
            if (strcmp(uses[i].name, list[id].name) == 0)
                st = err_set(e, STATUS_INVALID, "id", "'id' %lld comes twice", (long long)id);
        }
        if (st != STATUS_OK || scale == 0)
            continue;
        if (*count == LIMIT_ADAPTERS_PER_REQUEST) {
            st = err_set(e, STATUS_INVALID, "scale", "more than %d adapters have a scale",
                         LIMIT_ADAPTERS_PER_REQUEST);
            continue;
        }
        uses[*count] = (struct engine_adapter_use){.weight = (float)scale};
        memcpy(uses[(*count)++].name, list[id].name, sizeof list[id].name);
    }
    mem_free(list);
    return st;
}

void api_scales_set(struct call *c, const char *tail)
{
    (void)tail;
    struct err e = {0};
    cJSON *root = NULL;
    struct engine_adapter_use uses[LIMIT_ADAPTERS_PER_REQUEST];
    int count = 0;
    size_t n;
    const char *body = http_body(c->x, &n);
    enum status st = n > BODY_BYTES_MAX
                         ? err_set(&e, STATUS_LIMIT, NULL, "the request body is too large")
                         : json_parse(body, n, &json_default_limits, &root, &e);
    if (st == STATUS_OK)
        st = read_scales(c->server, root, uses, &count, &e);
    cJSON_Delete(root);
    if (st != STATUS_OK) {
        server_answer_error(c, api_error_of(st), &e);
        return;
    }
    keeper_names_set_scales(keeper_names_of(c->server->keeper), uses, count);
    struct strbuf b;
    strbuf_init(&b, 64);
    strbuf_puts(&b, "{\"success\":true}");
    server_answer_json(c, 200, &b);
}
