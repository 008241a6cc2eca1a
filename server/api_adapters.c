#include "server/api_adapters.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/json.h"
#include "engine/base/mem.h"
#include "server/adapter_json.h"
#include "server/api_adapter.h"
#include "server/api_error.h"
#include "server/api_generate.h"
#include "server/job_list.h"
#include "server/listing.h"
#include "server/registry.h"
#include "server/server_state.h"

#define ANSWER_BYTES_MAX ((size_t)64 << 20)
#define BODY_BYTES_MAX   ((size_t)64 << 10) /* parsed on the loop */
#define DRAIN_MS         30000              /* how long a removal waits for users by itself */
#define DRAIN_MS_MAX     600000
#define DRAIN_LOOK_MS    20
#define USERS_SHOWN      16
#define SHARE_MAX        100
#define MS_TO_NS         1000000

enum dialect { OWN, VLLM };
enum op_kind { OP_REMOVE, OP_ADD, OP_CHECK };

struct adapter_op {
    struct server *server;
    struct adapter_op *prev;
    struct adapter_op *next;
    struct call *call; /* NULL: answered, or the client is gone */
    cJSON *root;       /* owned: strings of `spec` point into it; NULL: there was no body */
    enum dialect dialect;
    enum op_kind kind;
    struct keeper_spec spec;
    char name[LIMIT_NAME_BYTES + 1];
    bool drains; /* a removal that waits for its users */
    bool force;  /* and ends them when time is up */
    int64_t drain_ms;
    int64_t deadline_ns;
    struct loop_timer *timer; /* owned, while it drains */
    struct err err;           /* code STATUS_OK: it was done */
    uint64_t generation;
    bool replaced;
    struct engine_adapter_report report; /* of a check */
};

/* ---- answers ---- */

static void put_string(struct strbuf *b, const char *s)
{
    strbuf_json_string(b, s, strlen(s));
}

static void answer_status(struct call *c, enum status st, const char *param, const char *why)
{
    struct err e;
    err_set(&e, st, param, "%s", why);
    server_answer_error(c, api_error_of(st), &e);
}

static void answer_no_memory(struct call *c)
{
    answer_status(c, STATUS_NO_MEMORY, NULL, "out of memory");
}

/* What may go wrong with an adapter itself has codes of its own. */
static const struct api_error_kind *kind_of(enum status st, const char *param)
{
    static const struct api_error_kind invalid = {400, "invalid_request_error", "adapter_invalid",
                                                  true, 0};
    static const struct api_error_kind unsupported = {400, "invalid_request_error",
                                                      "adapter_unsupported", true, 0};
    static const struct api_error_kind missing = {404, "invalid_request_error", "path_not_found",
                                                  true, 0};
    static const struct api_error_kind full = {507, "server_error", "adapters_full", true, 0};
    static const struct api_error_kind outside = {403, "permission_error", "path_not_allowed", true,
                                                  0};
    if (st == STATUS_BAD_FILE)
        return &invalid;
    if (st == STATUS_UNSUPPORTED)
        return &unsupported;
    if (st == STATUS_LIMIT && strcmp(param, "name") == 0)
        return &full;
    if (st == STATUS_NOT_FOUND)
        return strcmp(param, "path") == 0 ? &missing : &invalid;
    return st == STATUS_FORBIDDEN ? &outside : api_error_of(st);
}

static void put_error(struct strbuf *b, const struct err *e)
{
    struct strbuf text;
    strbuf_init(&text, ANSWER_BYTES_MAX);
    api_error_write(&text, kind_of(e->code, e->param), e);
    /* The inner object of {"error":{...}}. */
    if (text.len > 10 && !text.failed)
        strbuf_append(b, text.data + 9, text.len - 10);
    else
        strbuf_puts(b, "null");
    strbuf_deinit(&text);
}

static void put_adapter(struct strbuf *b, struct server *s, const struct engine_adapter_info *a)
{
    struct keeper_facts facts;
    bool known = keeper_names_facts(keeper_names_of(s->keeper), a->name, &facts);
    adapter_json_put(b, a, known ? keeper_names_source(facts.source) : "",
                     known && facts.has_profile);
}

static void write_adapters(struct listing *l)
{
    strbuf_puts(&l->body, "{\"object\":\"list\",\"data\":[");
    for (int i = 0; i < l->count; i++) {
        strbuf_puts(&l->body, i ? ",{" : "{");
        put_adapter(&l->body, l->server, &l->list[i]);
        strbuf_putc(&l->body, '}');
    }
    strbuf_puts(&l->body, "]}");
}

void api_adapters_list(struct call *c, const char *tail)
{
    static const struct listing_kind kind = {.draining = true, .write = write_adapters};
    (void)tail;
    listing_begin(c, &kind);
}

static bool is_loading(const struct server *s, const char *name)
{
    for (const struct adapter_op *op = s->adapter_ops; op; op = op->next) {
        if (op->kind == OP_ADD && strcmp(op->name, name) == 0)
            return true;
    }
    return false;
}

void api_adapters_one(struct call *c, const char *tail)
{
    struct server *s = c->server;
    struct engine_adapter_info info;
    struct err failure;
    if (!api_adapter_is_name(tail)) {
        answer_status(c, STATUS_INVALID, "name", "this is no name of an adapter");
        return;
    }
    enum status st = engine_adapter_find(s->engine, tail, &info);
    bool loading = is_loading(s, tail);
    bool failed = keeper_names_failure(keeper_names_of(s->keeper), tail, &failure);
    if (st == STATUS_ADAPTER_NOT_FOUND && !loading && !failed) {
        struct err e;
        err_set(&e, st, "name", "adapter '%.64s' does not exist", tail);
        server_answer_error(c, api_error_of(st), &e);
        return;
    }
    struct strbuf b;
    strbuf_init(&b, ANSWER_BYTES_MAX);
    strbuf_putc(&b, '{');
    if (st == STATUS_OK) {
        put_adapter(&b, s, &info);
    } else {
        strbuf_puts(&b, "\"name\":");
        put_string(&b, tail);
        strbuf_printf(&b, ",\"status\":\"%s\"", loading ? "loading" : "failed");
    }
    strbuf_printf(&b, ",\"loading\":%s,\"last_error\":", loading ? "true" : "false");
    if (failed)
        put_error(&b, &failure);
    else
        strbuf_puts(&b, "null");
    strbuf_putc(&b, '}');
    server_answer_json(c, 200, &b);
}

/* ---- operations ---- */

static void free_op(struct adapter_op *op)
{
    struct server *s = op->server;
    if (op->prev)
        op->prev->next = op->next;
    else
        s->adapter_ops = op->next;
    if (op->next)
        op->next->prev = op->prev;
    if (op->call)
        op->call->adapter_op = NULL;
    loop_timer_destroy(op->timer);
    engine_adapter_report_deinit(&op->report);
    cJSON_Delete(op->root);
    mem_free(op);
}

/* An operation with the call's body in `root`; it was answered where NULL comes back. */
static struct adapter_op *make_op(struct call *c, bool needs_body)
{
    size_t n;
    const char *body = http_body(c->x, &n);
    struct err e = {0};
    if (n > BODY_BYTES_MAX) {
        err_set(&e, STATUS_INVALID, NULL, "the request body is larger than %zu bytes",
                BODY_BYTES_MAX);
        server_answer_error(c, api_error_of_http(413), &e);
        return NULL;
    }
    struct adapter_op *op = mem_calloc(1, sizeof *op);
    if (!op) {
        answer_no_memory(c);
        return NULL;
    }
    op->server = c->server;
    op->next = c->server->adapter_ops;
    if (op->next)
        op->next->prev = op;
    c->server->adapter_ops = op;
    enum status st = STATUS_OK;
    if (n > 0 || needs_body)
        st = json_parse(body, n, &json_default_limits, &op->root, &e);
    if (st == STATUS_OK && op->root && !cJSON_IsObject(op->root))
        st = err_set(&e, STATUS_INVALID, NULL, "the request body must be a JSON object");
    if (st != STATUS_OK) {
        free_op(op);
        server_answer_error(c, api_error_of(st), &e);
        return NULL;
    }
    op->call = c;
    c->adapter_op = op;
    return op;
}

/* Ends an operation that has not begun. */
static void refuse(struct adapter_op *op, const struct err *e)
{
    struct call *c = op->call;
    free_op(op);
    server_answer_error(c, api_error_of(e->code), e);
}

static enum status read_name(struct adapter_op *op, const char *key, const char *name,
                             struct err *e)
{
    const struct api_context *ctx = &op->server->api;
    if (!name || !api_adapter_is_name(name))
        return err_set(e, STATUS_INVALID, key,
                       "'%s' must be 1 to %d letters, digits, '.', '_' or '-'", key,
                       LIMIT_NAME_BYTES);
    for (int i = 0; i < ctx->base_count; i++) {
        if (strcmp(ctx->base_names[i], name) == 0)
            return err_set(e, STATUS_CONFLICT, key, "'%s' is the base model's name", name);
    }
    snprintf(op->name, sizeof op->name, "%s", name);
    snprintf(op->call->adapter, sizeof op->call->adapter, "%s", name);
    return STATUS_OK;
}

static void work(void *ctx)
{
    struct adapter_op *op = ctx;
    struct keeper *k = op->server->keeper;
    struct err e = {0};
    enum status st;
    if (op->kind == OP_ADD) {
        st = keeper_add(k, &op->spec, &op->generation, &op->replaced, &e);
    } else if (op->kind == OP_CHECK) {
        st = keeper_check(k, op->spec.path, &op->report, &e);
    } else {
        struct engine_adapter_info info = {0};
        if (engine_adapter_find(op->server->engine, op->name, &info) == STATUS_OK)
            op->generation = info.generation;
        st = keeper_remove(k, op->name, &e);
    }
    op->err = e;
    op->err.code = st;
}

/* Where an error of ours has another name in vLLM's dialect. */
static void answer_failed(struct adapter_op *op)
{
    struct err e = op->err;
    const struct api_error_kind *kind = kind_of(e.code, e.param);
    if (op->dialect == VLLM && e.code == STATUS_CONFLICT && strcmp(e.param, "name") == 0)
        kind = api_error_of(err_set(
            &e, STATUS_INVALID, "lora_name",
            "The lora adapter '%s' has already been loaded. If you want to load the adapter in "
            "place, set 'load_inplace' to True.",
            op->name));
    else if (op->dialect == VLLM && e.code == STATUS_ADAPTER_NOT_FOUND)
        err_set(&e, e.code, "lora_name", "The lora adapter '%s' cannot be found.", op->name);
    else if (op->dialect == VLLM && strcmp(e.param, "path") == 0)
        snprintf(e.param, sizeof e.param, "lora_path");
    server_answer_error(op->call, kind, &e);
}

static void answer_vllm(struct adapter_op *op)
{
    struct strbuf b;
    strbuf_init(&b, 256);
    strbuf_printf(&b, "Success: LoRA adapter '%s' %s successfully.", op->name,
                  op->kind == OP_ADD ? "added" : "removed");
    http_answer(op->call->x, 200, "text/plain; charset=utf-8", &b);
}

static void answer_added(struct adapter_op *op)
{
    struct engine_adapter_info info;
    struct strbuf b;
    if (engine_adapter_find(op->server->engine, op->name, &info) != STATUS_OK)
        info = (struct engine_adapter_info){.generation = op->generation}; /* removed again */
    memcpy(info.name, op->name, sizeof info.name);
    strbuf_init(&b, ANSWER_BYTES_MAX);
    strbuf_putc(&b, '{');
    put_adapter(&b, op->server, &info);
    strbuf_printf(&b, ",\"replaced\":%s}", op->replaced ? "true" : "false");
    server_answer_json(op->call, 200, &b);
}

static void answer_checked(struct adapter_op *op)
{
    struct strbuf error;
    struct strbuf b;
    strbuf_init(&error, ANSWER_BYTES_MAX);
    strbuf_init(&b, ANSWER_BYTES_MAX);
    if (op->report.status == STATUS_OK)
        strbuf_puts(&error, "null");
    else
        put_error(&error, &op->report.why);
    strbuf_putc(&b, '{');
    adapter_json_put_report(&b, &op->report, &error);
    strbuf_putc(&b, '}');
    strbuf_deinit(&error);
    server_answer_json(op->call, 200, &b);
}

static void answer_removed(struct adapter_op *op, int users, int ended)
{
    struct strbuf b;
    strbuf_init(&b, ANSWER_BYTES_MAX);
    strbuf_puts(&b, "{\"name\":");
    put_string(&b, op->name);
    strbuf_printf(&b,
                  ",\"generation\":%llu,\"deleted\":true,\"draining\":%s,\"users\":%d,"
                  "\"ended\":%d,\"requests\":[",
                  (unsigned long long)op->generation, users ? "true" : "false", users, ended);
    if (users > 0) /* else some may have ended and not been heard yet */
        job_list_users(op->server, op->generation, USERS_SHOWN, &b);
    strbuf_puts(&b, "]}");
    server_answer_json(op->call, users ? 202 : 200, &b);
}

/* A removal looks until nobody uses what was removed, or its time is up. */
static void on_drain(void *ctx)
{
    struct adapter_op *op = ctx;
    struct server *s = op->server;
    int users = engine_adapter_users(s->engine, op->name, op->generation);
    bool late = clock_now_ns() >= op->deadline_ns;
    int ended = 0;
    if (users > 0 && !late && (op->call || op->force))
        return;
    if (users > 0 && op->force) {
        struct err e;
        err_set(&e, STATUS_CONFLICT, "adapter", "adapter '%s' was removed", op->name);
        ended = api_generate_end_users(s, op->generation, &e);
        users = 0;
    }
    if (op->call)
        answer_removed(op, users, ended);
    free_op(op);
}

static bool begin_drain(struct adapter_op *op)
{
    op->timer = loop_timer_create(op->server->loop, on_drain, op);
    if (!op->timer)
        return false;
    op->deadline_ns = clock_now_ns() + op->drain_ms * MS_TO_NS;
    loop_timer_start(op->timer, 0, DRAIN_LOOK_MS);
    return true;
}

static void on_done(void *ctx)
{
    struct adapter_op *op = ctx;
    if (op->err.code == STATUS_OK && op->drains && (op->call || op->force) && begin_drain(op))
        return;
    if (op->call && op->err.code != STATUS_OK)
        answer_failed(op);
    else if (op->call && op->dialect == VLLM)
        answer_vllm(op);
    else if (op->call && op->kind == OP_ADD)
        answer_added(op);
    else if (op->call && op->kind == OP_CHECK)
        answer_checked(op);
    else if (op->call)
        answer_no_memory(op->call);
    free_op(op);
}

static void begin(struct adapter_op *op)
{
    struct err e;
    if (keeper_run(op->server->keeper, work, on_done, op, &e) != STATUS_OK)
        refuse(op, &e);
}

/* Hands the operation on, or says what is wrong with it. */
static void begin_or_refuse(struct adapter_op *op, enum status st, const struct err *e)
{
    if (st == STATUS_OK)
        begin(op);
    else
        refuse(op, e);
}

/* ---- routes ---- */

/* [{"name": ..., "weight": ...}]; whether the parts exist is the engine's to say. */
static enum status read_blend(struct adapter_op *op, struct err *e)
{
    const cJSON *list = json_member(op->root, "blend");
    if (!list)
        return STATUS_OK;
    if (!cJSON_IsArray(list) || !list->child)
        return err_set(e, STATUS_INVALID, "blend",
                       "'blend' must be a list of {\"name\", \"weight\"}");
    for (const cJSON *item = list->child; item; item = item->next) {
        const char *name = NULL;
        double weight = 1.0;
        if (op->spec.part_count == LIMIT_ADAPTERS_PER_REQUEST)
            return err_set(e, STATUS_INVALID, "blend", "'blend' names more than %d adapters",
                           LIMIT_ADAPTERS_PER_REQUEST);
        if (!cJSON_IsObject(item) || json_get_string(item, "name", &name, e) != STATUS_OK ||
            !name || !api_adapter_is_name(name))
            return err_set(e, STATUS_INVALID, "blend.name",
                           "'blend' must be a list of {\"name\", \"weight\"}");
        if (json_get_double(item, "weight", -API_WEIGHT_MAX, API_WEIGHT_MAX, &weight, e) !=
            STATUS_OK)
            return err_set(e, STATUS_INVALID, "blend.weight",
                           "'blend.weight' must be a number between %g and %g", -API_WEIGHT_MAX,
                           API_WEIGHT_MAX);
        struct engine_adapter_part *part = &op->spec.parts[op->spec.part_count++];
        snprintf(part->name, sizeof part->name, "%s", name);
        part->weight = (float)weight;
    }
    return STATUS_OK;
}

/* true: its own, false: none, an object: this one. */
static enum status read_profile(struct adapter_op *op, struct err *e)
{
    const cJSON *v = json_member(op->root, "profile");
    if (v && !cJSON_IsBool(v) && !cJSON_IsObject(v))
        return err_set(e, STATUS_INVALID, "profile", "'profile' must be a boolean or an object");
    op->spec.plain = cJSON_IsFalse(v);
    op->spec.profile = cJSON_IsObject(v) ? v : NULL;
    return STATUS_OK;
}

static enum status read_add(struct adapter_op *op, bool *wait, struct err *e)
{
    const cJSON *root = op->root;
    const char *name = NULL;
    bool replace = true;
    int64_t share = 1;
    enum status st = json_get_string(root, "name", &name, e);
    if (st == STATUS_OK)
        st = read_name(op, "name", name, e);
    if (st == STATUS_OK)
        st = json_get_string(root, "path", &op->spec.path, e);
    if (st == STATUS_OK)
        st = read_blend(op, e);
    if (st == STATUS_OK && !op->spec.path == !op->spec.part_count)
        st = err_set(e, STATUS_INVALID, "path", "one of 'path' and 'blend' is needed");
    if (st == STATUS_OK)
        st = json_get_bool(root, "pinned", &op->spec.pinned, e);
    if (st == STATUS_OK)
        st = json_get_int(root, "share", 1, SHARE_MAX, &share, e);
    if (st == STATUS_OK)
        st = registry_read_quant(root, &op->spec.quant, e);
    if (st == STATUS_OK && op->spec.part_count && op->spec.quant != ENGINE_QUANT_DEFAULT)
        st = err_set(e, STATUS_INVALID, "quant", "a blend's adapters have widths of their own");
    if (st == STATUS_OK)
        st = read_profile(op, e);
    if (st == STATUS_OK)
        st = json_get_bool(root, "replace", &replace, e);
    if (st == STATUS_OK)
        st = json_get_bool(root, "wait", wait, e);
    op->spec.name = op->name;
    op->spec.keep = !replace;
    op->spec.share = (int)share;
    return st;
}

static void answer_accepted(struct adapter_op *op)
{
    struct call *c = op->call;
    char at[sizeof "/v1/adapters/" + LIMIT_NAME_BYTES];
    snprintf(at, sizeof at, "/v1/adapters/%s", op->name);
    http_add_header(c->x, "Location", at);
    struct strbuf b;
    strbuf_init(&b, ANSWER_BYTES_MAX);
    strbuf_puts(&b, "{\"name\":");
    put_string(&b, op->name);
    strbuf_puts(&b, ",\"status\":\"loading\"}");
    op->call = NULL;
    c->adapter_op = NULL;
    server_answer_json(c, 202, &b);
}

void api_adapters_add(struct call *c, const char *tail)
{
    (void)tail;
    struct adapter_op *op = make_op(c, true);
    struct err e = {0};
    bool wait = true;
    if (!op)
        return;
    op->kind = OP_ADD;
    if (read_add(op, &wait, &e) != STATUS_OK) {
        refuse(op, &e);
        return;
    }
    if (keeper_run(c->server->keeper, work, on_done, op, &e) != STATUS_OK)
        refuse(op, &e);
    else if (!wait)
        answer_accepted(op);
}

void api_adapters_check(struct call *c, const char *tail)
{
    (void)tail;
    struct adapter_op *op = make_op(c, true);
    struct err e = {0};
    if (!op)
        return;
    op->kind = OP_CHECK;
    enum status st = json_get_string(op->root, "path", &op->spec.path, &e);
    if (st == STATUS_OK && !op->spec.path)
        st = err_set(&e, STATUS_INVALID, "path", "'path' is needed");
    begin_or_refuse(op, st, &e);
}

static enum status check_removable(struct adapter_op *op, struct err *e)
{
    const char *fallback = op->server->api.default_adapter;
    if (fallback && strcmp(fallback, op->name) == 0)
        return err_set(e, STATUS_CONFLICT, "name",
                       "adapter '%s' answers requests that name none (--default-adapter)",
                       op->name);
    return STATUS_OK;
}

void api_adapters_remove(struct call *c, const char *tail)
{
    struct adapter_op *op = make_op(c, false);
    struct err e = {0};
    if (!op)
        return;
    op->drains = true;
    op->drain_ms = DRAIN_MS;
    enum status st = read_name(op, "name", tail, &e);
    if (st == STATUS_OK && op->root)
        st = json_get_int(op->root, "deadline_ms", 0, DRAIN_MS_MAX, &op->drain_ms, &e);
    if (st == STATUS_OK && op->root)
        st = json_get_bool(op->root, "force", &op->force, &e);
    if (st == STATUS_OK)
        st = check_removable(op, &e);
    begin_or_refuse(op, st, &e);
}

/* vLLM's `lora_name`; `message` is its own for one that is missing. */
static enum status read_lora_name(struct adapter_op *op, const char *message, struct err *e)
{
    const char *name = NULL;
    op->dialect = VLLM;
    enum status st = json_get_string(op->root, "lora_name", &name, e);
    if (st == STATUS_OK && (!name || !*name))
        st = err_set(e, STATUS_INVALID, "lora_name", "%s", message);
    return st == STATUS_OK ? read_name(op, "lora_name", name, e) : st;
}

void api_adapters_load(struct call *c, const char *tail)
{
    static const char both[] = "Both 'lora_name' and 'lora_path' must be provided.";
    (void)tail;
    struct adapter_op *op = make_op(c, true);
    struct err e = {0};
    bool in_place = false;
    if (!op)
        return;
    op->kind = OP_ADD;
    enum status st = read_lora_name(op, both, &e);
    if (st == STATUS_OK)
        st = json_get_string(op->root, "lora_path", &op->spec.path, &e);
    if (st == STATUS_OK && (!op->spec.path || !*op->spec.path))
        st = err_set(&e, STATUS_INVALID, "lora_path", "%s", both);
    if (st == STATUS_OK)
        st = json_get_bool(op->root, "load_inplace", &in_place, &e);
    op->spec.name = op->name;
    op->spec.keep = !in_place;
    begin_or_refuse(op, st, &e);
}

void api_adapters_unload(struct call *c, const char *tail)
{
    (void)tail;
    struct adapter_op *op = make_op(c, true);
    struct err e = {0};
    if (!op)
        return;
    enum status st =
        read_lora_name(op, "'lora_name' needs to be provided to unload a LoRA adapter.", &e);
    if (st == STATUS_OK)
        st = check_removable(op, &e);
    begin_or_refuse(op, st, &e);
}

/* ---- the end ---- */

void api_adapters_on_end(struct call *c)
{
    if (c->adapter_op)
        c->adapter_op->call = NULL;
    c->adapter_op = NULL;
}

void api_adapters_release(struct server *s)
{
    while (s->adapter_ops)
        free_op(s->adapter_ops);
}
