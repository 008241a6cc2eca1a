#include "engine/grammar/schema_combine.h"

#include <string.h>

#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/vec.h"
#include "engine/grammar/schema_refs.h"

/* Which type a keyword speaks of, or that it asserts what we cannot. Keywords that are not here
 * assert nothing. */
enum family { FAMILY_OBJECT, FAMILY_ARRAY, FAMILY_STRING, FAMILY_NUMBER, FAMILY_REFUSED };

static const struct {
    const char *name;
    enum family family;
} keywords[] = {
    {"properties", FAMILY_OBJECT},
    {"required", FAMILY_OBJECT},
    {"additionalProperties", FAMILY_OBJECT},
    {"patternProperties", FAMILY_OBJECT},
    {"minProperties", FAMILY_OBJECT},
    {"maxProperties", FAMILY_OBJECT},
    {"items", FAMILY_ARRAY},
    {"prefixItems", FAMILY_ARRAY},
    {"additionalItems", FAMILY_ARRAY},
    {"minItems", FAMILY_ARRAY},
    {"maxItems", FAMILY_ARRAY},
    {"minLength", FAMILY_STRING},
    {"maxLength", FAMILY_STRING},
    {"pattern", FAMILY_STRING},
    {"format", FAMILY_STRING},
    {"minimum", FAMILY_NUMBER},
    {"maximum", FAMILY_NUMBER},
    {"exclusiveMinimum", FAMILY_NUMBER},
    {"exclusiveMaximum", FAMILY_NUMBER},
    {"multipleOf", FAMILY_NUMBER},
    {"not", FAMILY_REFUSED},
    {"if", FAMILY_REFUSED},
    {"then", FAMILY_REFUSED},
    {"else", FAMILY_REFUSED},
    {"contains", FAMILY_REFUSED},
    {"uniqueItems", FAMILY_REFUSED},
    {"propertyNames", FAMILY_REFUSED},
    {"dependentRequired", FAMILY_REFUSED},
    {"dependentSchemas", FAMILY_REFUSED},
    {"dependencies", FAMILY_REFUSED},
    {"unevaluatedProperties", FAMILY_REFUSED},
    {"unevaluatedItems", FAMILY_REFUSED},
    {"$dynamicRef", FAMILY_REFUSED},
    {"$recursiveRef", FAMILY_REFUSED},
    {"disallow", FAMILY_REFUSED},
    {"extends", FAMILY_REFUSED},
};

static const int family_types[] = {
    [FAMILY_OBJECT] = TYPE_OBJECT,
    [FAMILY_ARRAY] = TYPE_ARRAY,
    [FAMILY_STRING] = TYPE_STRING,
    [FAMILY_NUMBER] = TYPE_NUMBER,
};

/* A set while it is taken apart. */
struct combine {
    struct schema_ctx *c;
    struct schema_parts todo;    /* PART_SCHEMA, read in order */
    struct schema_parts plain;   /* PART_PLAIN */
    struct schema_parts choices; /* PART_CHOICE */
    struct schema_parts scratch;
    bool never;
};

static const cJSON *get(const cJSON *node, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(node, key);
}

static enum family *family_of(const char *name, enum family *out)
{
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (!strcmp(keywords[i].name, name)) {
            *out = keywords[i].family;
            return out;
        }
    return NULL;
}

/* A refused keyword whose value asserts nothing is none. */
static bool asserts_nothing(const cJSON *v)
{
    if (!strcmp(v->string, "uniqueItems"))
        return cJSON_IsFalse(v);
    if (!strcmp(v->string, "then") || !strcmp(v->string, "else"))
        return true; /* `if` is refused on its own; without it they mean nothing */
    if (!strncmp(v->string, "depend", 6))
        return cJSON_IsObject(v) && !v->child;
    return (!strncmp(v->string, "uneval", 6) || !strcmp(v->string, "propertyNames")) &&
           (cJSON_IsTrue(v) || (cJSON_IsObject(v) && !v->child));
}

static bool check_keywords(struct schema_ctx *c, const cJSON *node)
{
    const cJSON *v;
    enum family f;
    cJSON_ArrayForEach(v, node)
    {
        if (!family_of(v->string, &f) || f != FAMILY_REFUSED || asserts_nothing(v))
            continue;
        schema_fail(c, STATUS_UNSUPPORTED, node, v->string, "the keyword '%s' is not supported",
                    v->string);
        return false;
    }
    if (schema_types(node) < 0) {
        schema_fail(c, STATUS_INVALID, node, "type",
                    "must be null, boolean, integer, number, string, array, object, or a list of "
                    "them");
        return false;
    }
    const cJSON *values = get(node, "enum");
    if (values && !cJSON_IsArray(values)) {
        schema_fail(c, STATUS_INVALID, node, "enum", "must be an array");
        return false;
    }
    return true;
}

static bool check_disjoint(struct schema_ctx *c, const cJSON *node, const cJSON *branches)
{
    if (cJSON_GetArraySize(branches) > LIMIT_SCHEMA_PARTS) {
        schema_fail(c, STATUS_LIMIT, node, "oneOf", "more than %d schemas", LIMIT_SCHEMA_PARTS);
        return false;
    }
    for (const cJSON *a = branches->child; a; a = a->next)
        for (const cJSON *b = a->next; b; b = b->next)
            if (!schema_disjoint(c->root, a, b)) {
                schema_fail(c, STATUS_UNSUPPORTED, node, "oneOf",
                            "'oneOf' is supported where its schemas exclude each other by type, "
                            "enum, const or a required member; use anyOf");
                return false;
            }
    return true;
}

/* One schema: its keywords into plain, what it leads to into todo and choices. */
static bool open_schema(struct combine *m, const cJSON *node)
{
    struct schema_ctx *c = m->c;
    const cJSON *v, *part;
    if (schema_is_never(node))
        m->never = true;
    if (cJSON_IsBool(node))
        return true;
    if (!cJSON_IsObject(node))
        return schema_fail(c, STATUS_INVALID, node, NULL, "a schema is an object, true or false") >=
               0;
    if (!check_keywords(c, node) || !schema_parts_add(c, &m->plain, node, PART_PLAIN))
        return false;
    v = get(node, "$ref");
    if (v) {
        const cJSON *to = cJSON_IsString(v) ? schema_ref_find(c->root, v->valuestring) : NULL;
        if (!to)
            return schema_fail(c, STATUS_UNSUPPORTED, node, "$ref",
                               "leads to no place in this schema (\"#\" and \"#/...\" are "
                               "followed)") >= 0;
        if (!schema_parts_add(c, &m->todo, to, PART_SCHEMA))
            return false;
    }
    v = get(node, "allOf");
    if (v && (!cJSON_IsArray(v) || !v->child))
        return schema_fail(c, STATUS_INVALID, node, "allOf", "must be an array of schemas") >= 0;
    cJSON_ArrayForEach(part, v) if (!schema_parts_add(c, &m->todo, part, PART_SCHEMA)) return false;
    static const char *const choices[] = {"anyOf", "oneOf"};
    for (size_t i = 0; i < 2; i++) {
        v = get(node, choices[i]);
        if (!v)
            continue;
        if (!cJSON_IsArray(v) || !v->child)
            return schema_fail(c, STATUS_INVALID, node, choices[i],
                               "must be an array of schemas") >= 0;
        if ((i == 1 && !check_disjoint(c, node, v)) ||
            !schema_parts_add(c, &m->choices, v, PART_CHOICE))
            return false;
    }
    return true;
}

static bool open_set(struct combine *m, size_t set)
{
    struct schema_ctx *c = m->c;
    for (size_t i = 0; i < c->sets[set].count; i++) {
        struct schema_part p = c->parts.items[c->sets[set].first + i];
        struct schema_parts *to = p.kind == PART_SCHEMA  ? &m->todo
                                  : p.kind == PART_PLAIN ? &m->plain
                                                         : &m->choices;
        if (!schema_parts_add(c, to, p.node, p.kind))
            return false;
    }
    for (size_t i = 0; i < m->todo.count && !m->never; i++)
        if (!open_schema(m, m->todo.items[i].node))
            return false;
    return true;
}

/* The first choice multiplied out: a set for each of its branches. */
static int branches(struct combine *m)
{
    struct schema_ctx *c = m->c;
    const cJSON *branch, *list = m->choices.items[0].node;
    int n = cJSON_GetArraySize(list), count = 0, expr = -1;
    int *alternatives = mem_alloc((size_t)n, sizeof *alternatives);
    if (!alternatives)
        return schema_fail(c, STATUS_NO_MEMORY, NULL, NULL, "out of memory");
    cJSON_ArrayForEach(branch, list)
    {
        if (schema_is_never(branch))
            continue;
        m->scratch.count = 0;
        for (size_t i = 0; i < m->plain.count; i++)
            if (!schema_parts_add(c, &m->scratch, m->plain.items[i].node, PART_PLAIN))
                goto done;
        if (!schema_parts_add(c, &m->scratch, branch, PART_SCHEMA))
            goto done;
        for (size_t i = 1; i < m->choices.count; i++)
            if (!schema_parts_add(c, &m->scratch, m->choices.items[i].node, PART_CHOICE))
                goto done;
        alternatives[count++] = schema_value(c, m->scratch.items, m->scratch.count);
    }
    expr = grammar_build_alt(c->b, alternatives, (size_t)count);
done:
    mem_free(alternatives);
    return expr;
}

/* --- plain schemas ---------------------------------------------------------------------------- */

static bool has_family(const struct combine *m, enum family family)
{
    const cJSON *v;
    enum family f;
    for (size_t i = 0; i < m->plain.count; i++)
        cJSON_ArrayForEach(v, m->plain.items[i].node) if (family_of(v->string, &f) &&
                                                          f == family) return true;
    return false;
}

/* The types that are left: said, or else those that the keywords speak of. */
static int types_of(const struct combine *m)
{
    int types = TYPE_ALL, spoken = 0;
    bool said = false;
    for (size_t i = 0; i < m->plain.count; i++) {
        const cJSON *node = m->plain.items[i].node;
        said |= get(node, "type") || get(node, "enum") || get(node, "const");
        types &= schema_types(node);
    }
    for (enum family f = FAMILY_OBJECT; f < FAMILY_REFUSED && !said; f++)
        if (has_family(m, f))
            spoken |= family_types[f];
    return spoken ? spoken : types;
}

/* `from`: the list that holds the value, which need not be looked through. */
static bool value_allowed(struct combine *m, const cJSON *value, const cJSON *from)
{
    const cJSON *v;
    for (size_t i = 0; i < m->plain.count; i++) {
        const cJSON *node = m->plain.items[i].node;
        const cJSON *list = get(node, "enum"), *one = get(node, "const");
        bool found = !list || list->child == from;
        if (one && !schema_equal(one, value))
            return false;
        for (v = list ? list->child : NULL; v && !found; v = v->next)
            found = schema_equal(v, value);
        if (!found)
            return false;
    }
    if (cJSON_IsString(value))
        return schema_string_allows(m->c, m->plain.items, m->plain.count, value->valuestring);
    if (cJSON_IsNumber(value))
        return schema_number_allows(m->c, m->plain.items, m->plain.count, value);
    enum family f = cJSON_IsArray(value) ? FAMILY_ARRAY : FAMILY_OBJECT;
    if ((cJSON_IsArray(value) || cJSON_IsObject(value)) && has_family(m, f))
        schema_fail(m->c, STATUS_UNSUPPORTED, m->plain.items[0].node, NULL,
                    "an enum or const that holds an array or an object beside keywords about its "
                    "members is not supported");
    return true;
}

/* The values of the first enum or const (then `first` alone) that everything else allows. */
static int literals(struct combine *m, const cJSON *first, bool alone, int types)
{
    struct schema_ctx *c = m->c;
    int *alternatives = NULL;
    size_t count = 0, cap = 0;
    int expr = -1;
    for (const cJSON *v = first; v; v = alone ? NULL : v->next) {
        if (!(schema_type_of(v) & types) || !value_allowed(m, v, first))
            continue;
        if (!VEC_RESERVE(alternatives, cap, count + 1)) {
            schema_fail(c, STATUS_NO_MEMORY, NULL, NULL, "out of memory");
            goto done;
        }
        alternatives[count++] = schema_literal(c, v);
    }
    expr = grammar_build_alt(c->b, alternatives, count);
done:
    mem_free(alternatives);
    return expr;
}

static int plain_values(struct combine *m)
{
    struct schema_ctx *c = m->c;
    const struct schema_part *p = m->plain.items;
    size_t n = m->plain.count;
    int types = types_of(m), out[8];
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        const cJSON *one = get(p[i].node, "const"), *list = get(p[i].node, "enum");
        if (one)
            return literals(m, one, true, types);
        if (list)
            return literals(m, list->child, false, types);
    }
    bool any = types == TYPE_ALL;
    for (enum family f = FAMILY_OBJECT; f < FAMILY_REFUSED && any; f++)
        any = !has_family(m, f);
    if (any)
        return schema_any(c);
    if (types & TYPE_NULL)
        out[count++] = grammar_build_text(c->b, "null");
    if (types & TYPE_BOOLEAN)
        out[count++] = grammar_build_alt2(c->b, grammar_build_text(c->b, "true"),
                                          grammar_build_text(c->b, "false"));
    if (types & TYPE_NUMBER)
        out[count++] = schema_number(c, p, n, types & TYPE_FRACTION ? TYPE_NUMBER : TYPE_INTEGER);
    if (types & TYPE_STRING)
        out[count++] = schema_string(c, p, n);
    if (types & TYPE_ARRAY)
        out[count++] = schema_array(c, p, n);
    if (types & TYPE_OBJECT)
        out[count++] = schema_object(c, p, n);
    return grammar_build_alt(c->b, out, count);
}

int schema_combine(struct schema_ctx *c, size_t set)
{
    struct combine m = {.c = c};
    int expr = -1;
    if (open_set(&m, set))
        expr = m.never           ? grammar_build_never(c->b)
               : m.choices.count ? branches(&m)
                                 : plain_values(&m);
    mem_free(m.todo.items);
    mem_free(m.plain.items);
    mem_free(m.choices.items);
    mem_free(m.scratch.items);
    return expr;
}
