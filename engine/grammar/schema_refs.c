#include "engine/grammar/schema_refs.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "engine/grammar/schema_parts.h"

#define REFS_MAX 64 /* $ref that leads to $ref */

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The next character of a pointer's step (%XX, ~0 and ~1 read), -1 at its end. */
static int pointer_char(const char **p)
{
    const char *s = *p;
    if (!*s || *s == '/')
        return -1;
    int c = (uint8_t)*s++;
    if (c == '%' && hex_value(s[0]) >= 0 && hex_value(s[1]) >= 0) {
        c = hex_value(s[0]) * 16 + hex_value(s[1]);
        s += 2;
    }
    if (c == '~' && (*s == '0' || *s == '1'))
        c = *s++ == '0' ? '~' : '/';
    *p = s;
    return c;
}

/* Whether the step at p is `name`; p goes behind it then. */
static bool step_is(const char **p, const char *name)
{
    const char *s = *p;
    int c;
    while ((c = pointer_char(&s)) >= 0)
        if (!*name || (uint8_t)*name++ != c)
            return false;
    if (*name)
        return false;
    *p = s;
    return true;
}

static const cJSON *step_to(const cJSON *at, const char **p)
{
    int index = 0;
    if (!cJSON_IsObject(at) && !cJSON_IsArray(at))
        return NULL;
    for (const cJSON *v = at->child; v; v = v->next, index++) {
        char number[16];
        snprintf(number, sizeof number, "%d", index);
        if (step_is(p, cJSON_IsObject(at) ? v->string : number))
            return v;
    }
    return NULL;
}

const cJSON *schema_ref_find(const cJSON *root, const char *ref)
{
    const char *p = ref + 1;
    const cJSON *at = *ref == '#' ? root : NULL;
    while (at && *p) {
        bool step = *p++ == '/';
        at = step ? step_to(at, &p) : NULL;
    }
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
