/* Arrays: the first items one by one, each with its own schemas, then the counted rest, which all
 * have the same. */
#include "engine/grammar/schema_parts.h"

#include <limits.h>

#include "engine/base/limits.h"
#include "engine/base/mem.h"

#define ITEMS_MAX 1000000

struct shape {
    int min, max; /* items; max -1: none */
    int prefix;   /* items that have schemas of their own */
};

/* What the schema says of the first items: prefixItems, or items as an array in older drafts. */
static const cJSON *prefix_of(const cJSON *node)
{
    const cJSON *p = cJSON_GetObjectItemCaseSensitive(node, "prefixItems");
    const cJSON *items = cJSON_GetObjectItemCaseSensitive(node, "items");
    return p ? p : cJSON_IsArray(items) ? items : NULL;
}

static const cJSON *rest_of(const cJSON *node)
{
    const cJSON *items = cJSON_GetObjectItemCaseSensitive(node, "items");
    return cJSON_IsArray(items) ? cJSON_GetObjectItemCaseSensitive(node, "additionalItems") : items;
}

/* The schemas of item i (or of all items from i on, where i is the shape's prefix). */
static bool item_parts(struct schema_ctx *c, const struct schema_part *plain, size_t n, int i,
                       struct schema_parts *out, bool *never)
{
    out->count = 0;
    *never = false;
    for (size_t k = 0; k < n; k++) {
        const cJSON *prefix = prefix_of(plain[k].node);
        const cJSON *item = prefix && i < cJSON_GetArraySize(prefix) ? cJSON_GetArrayItem(prefix, i)
                                                                     : rest_of(plain[k].node);
        if (!item)
            continue;
        *never |= schema_is_never(item);
        if (!schema_parts_add(c, out, item, PART_SCHEMA))
            return false;
    }
    return true;
}

static bool shape_of(struct schema_ctx *c, const struct schema_part *plain, size_t n,
                     struct shape *s)
{
    *s = (struct shape){.max = -1};
    for (size_t i = 0; i < n; i++) {
        const cJSON *node = plain[i].node, *prefix = prefix_of(node);
        int v;
        if (schema_count(c, node, "minItems", ITEMS_MAX, &v) && v > s->min)
            s->min = v;
        if (schema_count(c, node, "maxItems", INT_MAX, &v) && v <= ITEMS_MAX &&
            (s->max < 0 || v < s->max))
            s->max = v;
        if (prefix && !cJSON_IsArray(prefix))
            schema_fail(c, STATUS_INVALID, node, "prefixItems", "must be an array");
        else if (prefix && cJSON_GetArraySize(prefix) > s->prefix)
            s->prefix = cJSON_GetArraySize(prefix);
    }
    return !grammar_build_failed(c->b);
}

/* [i items were read] what may follow, up to the bracket. `tail`: the same for i + 1. */
static int state(struct schema_ctx *c, const struct shape *s, int i, int value, int tail)
{
    struct grammar_builder *b = c->b;
    int more = grammar_build_seq3(b, i ? schema_comma(c) : schema_gap(c), value, tail);
    int end = i ? schema_gap(c) : grammar_build_empty(b);
    if (s->max >= 0 && i >= s->max)
        more = grammar_build_never(b);
    return grammar_build_as_rule(b, "array", i < s->min ? more : grammar_build_alt2(b, end, more));
}

/* As state, for all items that are left: they have one schema. */
static int rest(struct schema_ctx *c, const struct shape *s, int i, int value)
{
    struct grammar_builder *b = c->b;
    int left_min = s->min > i ? s->min - i : 0, left_max = s->max < 0 ? -1 : s->max - i;
    if (left_max >= 0 && left_max < left_min)
        return grammar_build_never(b);
    int next = grammar_build_seq2(b, schema_comma(c), value);
    if (i)
        return grammar_build_seq2(b, grammar_build_repeat(b, next, left_min, left_max),
                                  schema_gap(c));
    if (left_max == 0)
        return grammar_build_empty(b);
    int parts[] = {schema_gap(c), value,
                   grammar_build_repeat(b, next, left_min > 1 ? left_min - 1 : 0,
                                        left_max < 0 ? GRAMMAR_NO_MAX : left_max - 1),
                   schema_gap(c)};
    int some = grammar_build_seq(b, parts, 4);
    return left_min ? some : grammar_build_optional(b, some);
}

int schema_array(struct schema_ctx *c, const struct schema_part *plain, size_t n)
{
    struct grammar_builder *b = c->b;
    struct shape s;
    if (!shape_of(c, plain, n, &s))
        return -1;
    if (s.max >= 0 && s.prefix > s.max)
        s.prefix = s.max;
    struct schema_parts parts = {0};
    int *values = mem_alloc((size_t)s.prefix + 1, sizeof *values);
    if (!values)
        return schema_fail(c, STATUS_NO_MEMORY, NULL, NULL, "out of memory");
    int count = 0, expr = -1;
    for (; count <= s.prefix; count++) {
        bool never;
        if (!item_parts(c, plain, n, count, &parts, &never))
            goto done;
        if (never) {
            s.max = count;
            break;
        }
        values[count] = schema_value(c, parts.items, parts.count);
    }
    /* Here the first `prefix` items have values, and unless one of them is impossible the rest. */
    int known = count <= s.prefix ? count : s.prefix;
    if (count > s.prefix)
        expr = rest(c, &s, known, values[known]);
    else if (s.min > known)
        expr = grammar_build_never(b);
    else
        expr = known ? schema_gap(c) : grammar_build_empty(b);
    for (int i = known; i-- > 0;)
        expr = state(c, &s, i, values[i], expr);
    expr = grammar_build_seq3(b, grammar_build_text(b, "["), expr, grammar_build_text(b, "]"));
done:
    mem_free(values);
    mem_free(parts.items);
    return expr;
}
