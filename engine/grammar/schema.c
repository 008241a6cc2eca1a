#include "engine/grammar/schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/strbuf.h"
#include "engine/base/vec.h"
#include "engine/grammar/regular_build.h"
#include "engine/grammar/schema_combine.h"
#include "engine/grammar/schema_parts.h"

/* --- errors ----------------------------------------------------------------------------------- */

static void pointer_step(struct strbuf *path, const cJSON *node, int index)
{
    strbuf_putc(path, '/');
    if (!node->string) {
        strbuf_printf(path, "%d", index);
        return;
    }
    for (const char *p = node->string; *p; p++)
        if (*p == '~' || *p == '/')
            strbuf_puts(path, *p == '~' ? "~0" : "~1");
        else
            strbuf_putc(path, *p);
}

/* The JSON pointer of `node` below the root: a walk over the tree, which json_parse bounded. */
static void find_path(const cJSON *root, const cJSON *node, struct strbuf *path)
{
    const cJSON *stack[LIMIT_JSON_DEPTH_ANY + 1];
    int index[LIMIT_JSON_DEPTH_ANY + 1];
    int depth = 0;
    strbuf_putc(path, '#');
    stack[0] = root;
    index[0] = 0;
    while (depth >= 0 && stack[depth] != node) {
        const cJSON *down = stack[depth]->child;
        if (down && depth < LIMIT_JSON_DEPTH_ANY) {
            stack[++depth] = down;
            index[depth] = 0;
            continue;
        }
        while (depth > 0 && !stack[depth]->next)
            depth--;
        if (!depth)
            return;
        stack[depth] = stack[depth]->next;
        index[depth]++;
    }
    for (int i = 1; i <= depth; i++)
        pointer_step(path, stack[i], index[i]);
}

static int fail_text(struct schema_ctx *c, enum status code, const cJSON *node, const char *keyword,
                     const char *text)
{
    struct err e;
    struct strbuf path;
    strbuf_init(&path, 4096);
    if (node)
        find_path(c->root, node, &path);
    if (keyword)
        strbuf_printf(&path, "/%s", keyword);
    err_set(&e, code, NULL, "%s%s%s", strbuf_str(&path), path.len ? ": " : "", text);
    strbuf_deinit(&path);
    return grammar_build_fail(c->b, &e);
}

int schema_fail(struct schema_ctx *c, enum status code, const cJSON *node, const char *keyword,
                const char *fmt, ...)
{
    char text[ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return fail_text(c, code, node, keyword, text);
}

int schema_fail_at(struct schema_ctx *c, const struct err *e, const cJSON *node,
                   const char *keyword)
{
    return fail_text(c, e->code, node, keyword, e->msg);
}

/* --- sets ------------------------------------------------------------------------------------- */

bool schema_parts_add(struct schema_ctx *c, struct schema_parts *p, const cJSON *node,
                      enum part_kind kind)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->items[i].node == node && p->items[i].kind == kind)
            return true;
    if (p->count >= LIMIT_SCHEMA_PARTS) {
        schema_fail(c, STATUS_LIMIT, node, NULL, "more than %d schemas apply to one value",
                    LIMIT_SCHEMA_PARTS);
        return false;
    }
    if (!VEC_RESERVE(p->items, p->cap, p->count + 1)) {
        schema_fail(c, STATUS_NO_MEMORY, NULL, NULL, "out of memory");
        return false;
    }
    p->items[p->count++] = (struct schema_part){node, kind};
    return true;
}

static uint32_t hash_parts(const struct schema_part *parts, size_t n)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint64_t)(uintptr_t)parts[i].node ^ (uint64_t)parts[i].kind) * 1099511628211u;
    return (uint32_t)(h >> 20) % SCHEMA_HASH;
}

static bool same_parts(const struct schema_ctx *c, const struct schema_set *s,
                       const struct schema_part *parts, size_t n)
{
    if (s->count != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (c->parts.items[s->first + i].node != parts[i].node ||
            c->parts.items[s->first + i].kind != parts[i].kind)
            return false;
    return true;
}

int schema_value(struct schema_ctx *c, const struct schema_part *parts, size_t n)
{
    if (grammar_build_failed(c->b))
        return -1;
    if (!n)
        return schema_any(c);
    uint32_t *head = &c->heads[hash_parts(parts, n)];
    for (uint32_t i = *head; i; i = c->sets[i - 1].next)
        if (same_parts(c, &c->sets[i - 1], parts, n))
            return grammar_build_ref(c->b, c->sets[i - 1].rule);
    if (!VEC_RESERVE(c->sets, c->sets_cap, c->sets_count + 1) ||
        !VEC_RESERVE(c->parts.items, c->parts.cap, c->parts.count + n))
        return schema_fail(c, STATUS_NO_MEMORY, NULL, NULL, "out of memory");
    memcpy(c->parts.items + c->parts.count, parts, n * sizeof *parts);
    int rule = grammar_build_rule(c->b, parts[0].node->string);
    c->sets[c->sets_count] = (struct schema_set){c->parts.count, n, rule, *head};
    c->parts.count += n;
    *head = (uint32_t)++c->sets_count;
    return grammar_build_ref(c->b, rule);
}

bool schema_is_never(const cJSON *schema)
{
    return cJSON_IsFalse(schema);
}

bool schema_count(struct schema_ctx *c, const cJSON *node, const char *keyword, int max, int *out)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(node, keyword);
    int64_t n;
    if (!v)
        return false;
    if (!cJSON_IsNumber(v) || v->valuedouble < 0 || (!json_int64(v, &n) && v->valuedouble < 1e18)) {
        schema_fail(c, STATUS_INVALID, node, keyword, "must be a whole number, 0 or above");
        return false;
    }
    *out = v->valuedouble > max ? max : (int)v->valuedouble;
    return true;
}

/* --- shared expressions ----------------------------------------------------------------------- */

/* A rule that many share: refers to it; true when it must be defined now. */
static bool shared(struct schema_ctx *c, int *rule, const char *name, int *ref)
{
    bool fresh = *rule < 0;
    if (fresh)
        *rule = grammar_build_rule(c->b, name);
    *ref = grammar_build_ref(c->b, *rule);
    return fresh && *rule >= 0;
}

int schema_char(struct schema_ctx *c)
{
    struct grammar_builder *b = c->b;
    int ref;
    if (!shared(c, &c->char_rule, "char", &ref))
        return ref;
    struct grammar_range bare[] = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}};
    struct grammar_range simple[] = {{'"', '"'}, {'/', '/'}, {'\\', '\\'}, {'b', 'b'},
                                     {'f', 'f'}, {'n', 'n'}, {'r', 'r'},   {'t', 't'}};
    struct grammar_range all[] = {{'0', '9'}, {'A', 'F'}, {'a', 'f'}};
    struct grammar_range not_d[] = {{'0', '9'}, {'A', 'C'}, {'E', 'F'}, {'a', 'c'}, {'e', 'f'}};
    struct grammar_range d[] = {{'D', 'D'}, {'d', 'd'}};
    struct grammar_range high[] = {{'8', '9'}, {'A', 'B'}, {'a', 'b'}};
    struct grammar_range low[] = {{'C', 'F'}, {'c', 'f'}};
    int hex = grammar_build_chars(b, all, 3, false);
    int hex2 = grammar_build_seq2(b, hex, hex), hex3 = grammar_build_seq2(b, hex, hex2);
    int dee = grammar_build_chars(b, d, 2, false);
    int units[] = {
        grammar_build_seq2(b, grammar_build_chars(b, not_d, 5, false), hex3),
        grammar_build_seq3(b, dee, grammar_build_byte(b, '0', '7'), hex2),
        /* two halves of a pair, never one alone */
        grammar_build_seq3(b,
                           grammar_build_seq3(b, dee, grammar_build_chars(b, high, 3, false), hex2),
                           grammar_build_text(b, "\\u"),
                           grammar_build_seq3(b, dee, grammar_build_chars(b, low, 2, false), hex2)),
    };
    int escaped = grammar_build_alt2(
        b, grammar_build_chars(b, simple, 8, false),
        grammar_build_seq2(b, grammar_build_text(b, "u"), grammar_build_alt(b, units, 3)));
    grammar_build_define(
        b, c->char_rule,
        grammar_build_alt2(b, grammar_build_chars(b, bare, 3, true),
                           grammar_build_seq2(b, grammar_build_text(b, "\\"), escaped)));
    return ref;
}

int schema_any_string(struct schema_ctx *c)
{
    int ref;
    if (!shared(c, &c->string_rule, "string", &ref))
        return ref;
    int quote = grammar_build_text(c->b, "\"");
    int text = grammar_build_repeat(c->b, schema_char(c), 0, GRAMMAR_NO_MAX);
    grammar_build_define(c->b, c->string_rule, grammar_build_seq3(c->b, quote, text, quote));
    return ref;
}

int schema_gap(struct schema_ctx *c)
{
    int ref;
    if (c->o.compact)
        return grammar_build_empty(c->b);
    if (!shared(c, &c->gap_rule, "gap", &ref))
        return ref;
    int space = grammar_build_text(c->b, " ");
    int line = grammar_build_seq2(c->b, grammar_build_text(c->b, "\n"),
                                  grammar_build_repeat(c->b, space, 0, 32));
    int any[] = {grammar_build_empty(c->b), space, line};
    grammar_build_define(c->b, c->gap_rule, grammar_build_alt(c->b, any, 3));
    return ref;
}

int schema_comma(struct schema_ctx *c)
{
    return grammar_build_seq2(c->b, grammar_build_text(c->b, ","), schema_gap(c));
}

int schema_colon(struct schema_ctx *c)
{
    int colon = grammar_build_text(c->b, ":");
    if (c->o.compact)
        return colon;
    return grammar_build_seq2(c->b, colon,
                              grammar_build_optional(c->b, grammar_build_text(c->b, " ")));
}

int schema_any_object(struct schema_ctx *c)
{
    int ref;
    if (shared(c, &c->object_rule, "object", &ref))
        grammar_build_define(c->b, c->object_rule, schema_object(c, NULL, 0));
    return ref;
}

int schema_any(struct schema_ctx *c)
{
    int ref;
    if (!shared(c, &c->value_rule, "value", &ref))
        return ref;
    int any[] = {grammar_build_text(c->b, "null"),
                 grammar_build_text(c->b, "true"),
                 grammar_build_text(c->b, "false"),
                 schema_number(c, NULL, 0, TYPE_NUMBER),
                 schema_any_string(c),
                 schema_array(c, NULL, 0),
                 schema_any_object(c)};
    grammar_build_define(c->b, c->value_rule, grammar_build_alt(c->b, any, 7));
    return ref;
}

/* As deep as JSON may nest (LIMIT_JSON_DEPTH). */
int schema_literal(struct schema_ctx *c, const cJSON *value)
{
    struct grammar_builder *b = c->b;
    int out;
    if (cJSON_IsArray(value) || cJSON_IsObject(value)) {
        bool object = cJSON_IsObject(value);
        out = -1;
        for (const cJSON *v = value->child; v; v = v->next) {
            int item = schema_literal(c, v);
            if (object) {
                item = grammar_build_seq3(b, schema_text(c, v->string), schema_colon(c), item);
            }
            out = v == value->child ? grammar_build_seq2(b, schema_gap(c), item)
                                    : grammar_build_seq3(b, out, schema_comma(c), item);
        }
        out = value->child ? grammar_build_seq2(b, out, schema_gap(c)) : grammar_build_empty(b);
        return grammar_build_as_rule(
            b, NULL,
            grammar_build_seq3(b, grammar_build_text(b, object ? "{" : "["), out,
                               grammar_build_text(b, object ? "}" : "]")));
    }
    if (!cJSON_IsString(value) && !cJSON_IsNumber(value))
        return grammar_build_text(b, cJSON_IsNull(value)   ? "null"
                                     : cJSON_IsTrue(value) ? "true"
                                                           : "false");
    if (cJSON_IsNumber(value)) {
        char number[64];
        schema_number_text(value, number);
        return grammar_build_text(b, number);
    }
    return schema_text(c, value->valuestring);
}

/* --- the door --------------------------------------------------------------------------------- */

static bool ctx_init(struct schema_ctx *c, struct grammar_builder *b, const cJSON *root,
                     const struct schema_options *o)
{
    *c = (struct schema_ctx){.b = b, .root = root};
    if (o)
        c->o = *o;
    c->value_rule = c->object_rule = c->array_rule = c->string_rule = c->char_rule = -1;
    c->key_rule = c->number_rule = c->integer_rule = c->gap_rule = -1;
    c->deadline_cpu_ns = clock_thread_cpu_ns() + LIMIT_GRAMMAR_COMPILE_MS * INT64_C(1000000);
    c->r = regular_create(c->deadline_cpu_ns);
    if (!c->r)
        schema_fail(c, STATUS_NO_MEMORY, NULL, NULL, "out of memory");
    return c->r;
}

static void ctx_deinit(struct schema_ctx *c)
{
    regular_destroy(c->r);
    mem_free(c->parts.items);
    mem_free(c->sets);
}

/* Defines every set that was asked for; doing so asks for more. */
static void run_queue(struct schema_ctx *c)
{
    while (c->sets_done < c->sets_count && !grammar_build_failed(c->b)) {
        size_t i = c->sets_done++;
        struct err e;
        int expr = schema_combine(c, i);
        if (regular_status(c->r, &e) != STATUS_OK)
            grammar_build_fail(c->b, &e);
        if (clock_thread_cpu_ns() > c->deadline_cpu_ns)
            schema_fail(c, STATUS_LIMIT, NULL, NULL, "the schema takes too long to compile");
        grammar_build_define(c->b, c->sets[i].rule, expr);
    }
}

int schema_build(struct grammar_builder *b, const cJSON *schema, const struct schema_options *o)
{
    struct schema_ctx *c = mem_alloc(1, sizeof *c);
    int expr = -1;
    struct err e;
    if (!c) {
        err_set(&e, STATUS_NO_MEMORY, NULL, "out of memory");
        return grammar_build_fail(b, &e);
    }
    if (ctx_init(c, b, schema, o)) {
        expr = schema_value(c, &(struct schema_part){schema, PART_SCHEMA}, 1);
        run_queue(c);
    }
    ctx_deinit(c);
    mem_free(c);
    return grammar_build_failed(b) ? -1 : expr;
}

int schema_build_object(struct grammar_builder *b, bool compact)
{
    cJSON type = {.type = cJSON_String, .valuestring = "object", .string = "type"};
    cJSON schema = {.type = cJSON_Object, .child = &type};
    type.prev = &type;
    return schema_build(b, &schema, &(struct schema_options){.compact = compact});
}

enum status schema_compile(const char *schema, size_t n, const struct schema_options *o,
                           struct grammar **out, struct err *e)
{
    static const struct json_limits limits = {LIMIT_JSON_DEPTH, LIMIT_JSON_MEMBERS, true};
    cJSON *tree = NULL;
    struct grammar_builder *b = NULL;
    enum status s = schema ? json_parse(schema, n, &limits, &tree, e) : STATUS_OK;
    if (s != STATUS_OK)
        return s;
    s = grammar_builder_create(&b);
    if (s != STATUS_OK) {
        err_set(e, s, NULL, "out of memory");
        goto out;
    }
    int root = grammar_build_rule(b, "root");
    grammar_build_define(b, root,
                         tree ? schema_build(b, tree, o) : schema_build_object(b, o && o->compact));
    s = grammar_build_finish(b, root, out, e);
out:
    grammar_builder_destroy(b);
    cJSON_Delete(tree);
    return s;
}
