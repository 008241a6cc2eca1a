#include "engine/grammar/schema_refs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/grammar/schema_parts.h"

#define REFS_MAX 64 /* $ref that leads to $ref */

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* One step of a pointer, without %XX, ~0 and ~1, into out (as long as the pointer); the rest. */
static const char *pointer_segment(const char *p, char *out)
{
    while (*p && *p != '/') {
        char c = *p++;
        if (c == '%' && hex_value(p[0]) >= 0 && hex_value(p[1]) >= 0) {
            c = (char)(hex_value(p[0]) * 16 + hex_value(p[1]));
            p += 2;
        }
        if (c == '~' && (*p == '0' || *p == '1'))
            c = *p++ == '0' ? '~' : '/';
        *out++ = c;
    }
    *out = '\0';
    return p;
}

static const cJSON *child_of(const cJSON *at, const char *name)
{
    if (cJSON_IsObject(at))
        return cJSON_GetObjectItemCaseSensitive(at, name);
    if (!cJSON_IsArray(at) || !*name || strspn(name, "0123456789") != strlen(name) ||
        strlen(name) > 6)
        return NULL;
    return cJSON_GetArrayItem(at, (int)strtol(name, NULL, 10));
}

const cJSON *schema_ref_find(const cJSON *root, const char *ref)
{
    if (*ref != '#')
        return NULL;
    const char *p = ref + 1;
    char *name = mem_alloc(strlen(ref) + 1, 1);
    const cJSON *at = name ? root : NULL;
    while (at && *p) {
        if (*p != '/') {
            at = NULL;
            break;
        }
        p = pointer_segment(p + 1, name);
        at = child_of(at, name);
    }
    mem_free(name);
    return at;
}

static int type_named(const cJSON *name)
{
    static const struct {
        const char *name;
        int types;
    } table[] = {{"null", TYPE_NULL},     {"boolean", TYPE_BOOLEAN}, {"integer", TYPE_INTEGER},
                 {"number", TYPE_NUMBER}, {"string", TYPE_STRING},   {"array", TYPE_ARRAY},
                 {"object", TYPE_OBJECT}};
    for (size_t i = 0; cJSON_IsString(name) && i < sizeof table / sizeof *table; i++)
        if (!strcmp(table[i].name, name->valuestring))
            return table[i].types;
    return -1;
}

int schema_type_of(const cJSON *v)
{
    if (cJSON_IsNumber(v))
        return v->valuedouble == floor(v->valuedouble) ? TYPE_INTEGER : TYPE_FRACTION;
    return cJSON_IsNull(v)     ? TYPE_NULL
           : cJSON_IsBool(v)   ? TYPE_BOOLEAN
           : cJSON_IsString(v) ? TYPE_STRING
           : cJSON_IsArray(v)  ? TYPE_ARRAY
                               : TYPE_OBJECT;
}

int schema_types(const cJSON *schema)
{
    const cJSON *v, *type = cJSON_GetObjectItemCaseSensitive(schema, "type");
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(schema, "enum");
    const cJSON *one = cJSON_GetObjectItemCaseSensitive(schema, "const");
    int types = TYPE_ALL, some = 0;
    if (cJSON_IsArray(type)) {
        cJSON_ArrayForEach(v, type)
        {
            if (type_named(v) < 0)
                return -1;
            some |= type_named(v);
        }
        types = some;
    } else if (type) {
        types = type_named(type);
        if (types < 0)
            return -1;
    }
    if (one)
        types &= schema_type_of(one);
    if (cJSON_IsArray(list)) {
        some = 0;
        cJSON_ArrayForEach(v, list) some |= schema_type_of(v);
        types &= some;
    }
    return types;
}

bool schema_equal(const cJSON *a, const cJSON *b)
{
    return cJSON_Compare(a, b, true);
}

static const cJSON *follow(const cJSON *root, const cJSON *s)
{
    for (int i = 0; i < REFS_MAX; i++) {
        const cJSON *ref = cJSON_GetObjectItemCaseSensitive(s, "$ref");
        const cJSON *to = cJSON_IsString(ref) ? schema_ref_find(root, ref->valuestring) : NULL;
        if (!to)
            break;
        s = to;
    }
    return s;
}

static bool in_values(const cJSON *schema, const cJSON *value)
{
    const cJSON *v, *one = cJSON_GetObjectItemCaseSensitive(schema, "const");
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(schema, "enum");
    if (one)
        return schema_equal(one, value);
    if (!cJSON_IsArray(list))
        return true;
    cJSON_ArrayForEach(v, list) if (schema_equal(v, value)) return true;
    return false;
}

/* One of them is a list of values, and the other has none of those. */
static bool values_disjoint(const cJSON *a, const cJSON *b)
{
    const cJSON *v, *one = cJSON_GetObjectItemCaseSensitive(a, "const");
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(a, "enum");
    if (one)
        return !in_values(b, one);
    if (!cJSON_IsArray(list))
        return false;
    cJSON_ArrayForEach(v, list) if (in_values(b, v)) return false;
    return true;
}

static bool simply_disjoint(const cJSON *root, const cJSON *a, const cJSON *b)
{
    a = follow(root, a);
    b = follow(root, b);
    if (cJSON_IsFalse(a) || cJSON_IsFalse(b))
        return true;
    int x = schema_types(a), y = schema_types(b);
    return (x >= 0 && y >= 0 && !(x & y)) || values_disjoint(a, b) || values_disjoint(b, a);
}

static bool requires(const cJSON *schema, const char *name)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, cJSON_GetObjectItemCaseSensitive(schema, "required"))
    {
        if (cJSON_IsString(v) && !strcmp(v->valuestring, name))
            return true;
    }
    return false;
}

/* `a` requires a member that `b` does not let in. */
static bool requires_foreign(const cJSON *a, const cJSON *b)
{
    const cJSON *v, *own = cJSON_GetObjectItemCaseSensitive(b, "properties");
    if (!cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(b, "additionalProperties")) ||
        cJSON_GetObjectItemCaseSensitive(b, "patternProperties"))
        return false;
    cJSON_ArrayForEach(v, cJSON_GetObjectItemCaseSensitive(a, "required"))
    {
        if (cJSON_IsString(v) && !(own && cJSON_GetObjectItemCaseSensitive(own, v->valuestring)))
            return true;
    }
    return false;
}

bool schema_disjoint(const cJSON *root, const cJSON *a, const cJSON *b)
{
    a = follow(root, a);
    b = follow(root, b);
    if (simply_disjoint(root, a, b))
        return true;
    if (schema_types(a) != TYPE_OBJECT || schema_types(b) != TYPE_OBJECT)
        return false;
    if (requires_foreign(a, b) || requires_foreign(b, a))
        return true;
    const cJSON *p, *others = cJSON_GetObjectItemCaseSensitive(b, "properties");
    cJSON_ArrayForEach(p, cJSON_GetObjectItemCaseSensitive(a, "properties"))
    {
        const cJSON *q = others ? cJSON_GetObjectItemCaseSensitive(others, p->string) : NULL;
        if (q && requires(a, p->string) && requires(b, p->string) && simply_disjoint(root, p, q))
            return true;
    }
    return false;
}
