/* Objects: declared members in the schema's order, then those that additionalProperties and
 * patternProperties let in.
 *
 * Keys are languages: one that nobody declared is any text but the declared names, cut into cells
 * by which of the patterns match it, since each cell has other schemas for its values. State (i,
 * c) of the grammar: the first i names are decided, c members were written (counted only as far as
 * minProperties and maxProperties need). */
#include "engine/grammar/schema_parts.h"

#include <limits.h>
#include <string.h>

#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/base/vec.h"
#include "engine/grammar/regex_parse.h"

#define PATTERNS_MAX 6 /* cells are 2 to this power */
#define MEMBERS_MAX  1000000

struct name {
    const char *text; /* borrowed from the schema */
    const cJSON *from;
    bool required;
    int member; /* expression: key, colon, value; -1: never */
    bool never;
};

struct pattern {
    size_t owner; /* which of the plain schemas */
    const cJSON *schema;
    uint32_t lang;
};

struct members {
    struct schema_ctx *c;
    const struct schema_part *plain;
    size_t n;
    struct name *names; /* owned */
    size_t names_count, names_cap;
    struct pattern patterns[PATTERNS_MAX];
    size_t patterns_count;
    int min, max; /* members; max -1: none */
    int extra;    /* expression of one member that nobody declared; -1: none is allowed */
    bool has_extra;
    struct schema_parts parts; /* scratch */
};

static struct name *find_name(struct members *m, const char *text)
{
    for (size_t i = 0; i < m->names_count; i++)
        if (!strcmp(m->names[i].text, text))
            return &m->names[i];
    return NULL;
}

static bool add_name(struct members *m, const char *text, const cJSON *from, bool required)
{
    struct name *known = find_name(m, text);
    if (known) {
        known->required |= required;
        return true;
    }
    if (m->names_count >= LIMIT_GRAMMAR_RULES) {
        schema_fail(m->c, STATUS_LIMIT, from, "properties", "too many properties");
        return false;
    }
    if (!VEC_RESERVE(m->names, m->names_cap, m->names_count + 1)) {
        schema_fail(m->c, STATUS_NO_MEMORY, NULL, NULL, "out of memory");
        return false;
    }
    m->names[m->names_count++] = (struct name){.text = text, .from = from, .required = required};
    return true;
}

static bool add_pattern(struct members *m, size_t owner, const cJSON *schema)
{
    struct err e;
    uint32_t lang;
    if (m->patterns_count >= PATTERNS_MAX) {
        schema_fail(m->c, STATUS_LIMIT, m->plain[owner].node, "patternProperties",
                    "more than %d patterns for one object", PATTERNS_MAX);
        return false;
    }
    if (regex_parse(m->c->r, schema->string, strlen(schema->string), false, &lang, &e) !=
        STATUS_OK) {
        schema_fail_at(m->c, &e, m->plain[owner].node, "patternProperties");
        return false;
    }
    m->patterns[m->patterns_count++] = (struct pattern){owner, schema, lang};
    return true;
}

static bool read_bounds(struct members *m, const cJSON *node)
{
    int v;
    if (schema_count(m->c, node, "minProperties", MEMBERS_MAX, &v) && v > m->min)
        m->min = v;
    if (schema_count(m->c, node, "maxProperties", INT_MAX, &v) && v <= MEMBERS_MAX &&
        (m->max < 0 || v < m->max))
        m->max = v;
    return !grammar_build_failed(m->c->b);
}

/* Names and patterns of all the schemas. */
static bool collect(struct members *m)
{
    const cJSON *v, *list;
    for (size_t i = 0; i < m->n; i++) {
        const cJSON *node = m->plain[i].node;
        list = cJSON_GetObjectItemCaseSensitive(node, "properties");
        if (list && !cJSON_IsObject(list))
            return schema_fail(m->c, STATUS_INVALID, node, "properties", "must be an object") >= 0;
        cJSON_ArrayForEach(v, list) if (!add_name(m, v->string, node, false)) return false;
        list = cJSON_GetObjectItemCaseSensitive(node, "patternProperties");
        if (list && !cJSON_IsObject(list))
            return schema_fail(m->c, STATUS_INVALID, node, "patternProperties",
                               "must be an object") >= 0;
        cJSON_ArrayForEach(v, list) if (!add_pattern(m, i, v)) return false;
        if (!read_bounds(m, node))
            return false;
    }
    for (size_t i = 0; i < m->n; i++) {
        const cJSON *node = m->plain[i].node;
        list = cJSON_GetObjectItemCaseSensitive(node, "required");
        if (cJSON_IsBool(list)) /* draft 3 */
            continue;
        if (list && !cJSON_IsArray(list))
            return schema_fail(m->c, STATUS_INVALID, node, "required", "must be an array") >= 0;
        cJSON_ArrayForEach(v, list)
        {
            if (!cJSON_IsString(v))
                return schema_fail(m->c, STATUS_INVALID, node, "required",
                                   "must be an array of strings") >= 0;
            if (!add_name(m, v->valuestring, node, true))
                return false;
        }
    }
    return true;
}

/* The schemas that a member's value must satisfy into m->parts; false in *allowed where one of
 * them is false. `name` NULL: a key in the cell of exactly these patterns. */
static bool value_parts(struct members *m, const char *name, unsigned cell, bool *allowed)
{
    m->parts.count = 0;
    *allowed = true;
    for (size_t i = 0; i < m->n; i++) {
        const cJSON *node = m->plain[i].node;
        const cJSON *own = cJSON_GetObjectItemCaseSensitive(node, "properties");
        const cJSON *schema = name && own ? cJSON_GetObjectItemCaseSensitive(own, name) : NULL;
        bool matched = schema;
        if (schema && !schema_parts_add(m->c, &m->parts, schema, PART_SCHEMA))
            return false;
        *allowed &= !schema || !schema_is_never(schema);
        for (size_t k = 0; k < m->patterns_count; k++) {
            if (m->patterns[k].owner != i || !(cell >> k & 1))
                continue;
            matched = true;
            *allowed &= !schema_is_never(m->patterns[k].schema);
            if (!schema_parts_add(m->c, &m->parts, m->patterns[k].schema, PART_SCHEMA))
                return false;
        }
        const cJSON *more = cJSON_GetObjectItemCaseSensitive(node, "additionalProperties");
        if (matched || !more)
            continue;
        *allowed &= !schema_is_never(more);
        if (!schema_parts_add(m->c, &m->parts, more, PART_SCHEMA))
            return false;
    }
    return true;
}

static int member(struct members *m, int key)
{
    return grammar_build_seq3(m->c->b, key, schema_colon(m->c),
                              schema_value(m->c, m->parts.items, m->parts.count));
}

static bool build_name(struct members *m, struct name *x)
{
    unsigned cell = 0;
    bool allowed;
    for (size_t k = 0; k < m->patterns_count; k++)
        if (regular_matches(m->c->r, m->patterns[k].lang, x->text, strlen(x->text)))
            cell |= 1u << k;
    if (!value_parts(m, x->text, cell, &allowed))
        return false;
    x->never = !allowed;
    if (x->never)
        return true;
    x->member = member(m, schema_text(m->c, x->text));
    return true;
}

/* All names that nobody declared, framed. */
static uint32_t other_names(struct members *m)
{
    struct regular *r = m->c->r;
    uint32_t names = REGULAR_NONE;
    for (size_t i = m->names_count; i-- > 0;)
        names =
            regular_or(r, names, regular_literal(r, m->names[i].text, strlen(m->names[i].text)));
    return regular_and(r, regular_frame(r, REGULAR_TEXT), regular_not(r, regular_frame(r, names)));
}

static bool build_extra(struct members *m)
{
    struct regular *r = m->c->r;
    int cells[1 << PATTERNS_MAX];
    size_t count = 0;
    uint32_t others = other_names(m);
    for (unsigned cell = 0; cell < 1u << m->patterns_count; cell++) {
        bool allowed;
        if (!value_parts(m, NULL, cell, &allowed))
            return false;
        if (!allowed)
            continue;
        uint32_t lang = others;
        for (size_t k = 0; k < m->patterns_count; k++)
            lang = regular_and(
                r, lang, cell >> k & 1 ? m->patterns[k].lang : regular_not(r, m->patterns[k].lang));
        bool free_key = !m->names_count && !m->patterns_count;
        int key = free_key ? schema_any_string(m->c)
                           : schema_quoted(m->c, lang, -1, m->n ? m->plain[0].node : NULL,
                                           m->patterns_count ? "patternProperties" : "properties");
        cells[count++] = member(m, key);
    }
    m->has_extra = count > 0;
    if (count)
        m->extra =
            grammar_build_as_rule(m->c->b, "member", grammar_build_alt(m->c->b, cells, count));
    return !grammar_build_failed(m->c->b);
}

/* The bounds as far as they say anything; false: nothing satisfies them. */
static bool simplify_bounds(struct members *m, bool *possible)
{
    int required = 0, declared = 0;
    *possible = true;
    for (size_t i = 0; i < m->names_count; i++) {
        required += m->names[i].required;
        declared += !m->names[i].never;
        *possible &= !(m->names[i].required && m->names[i].never);
    }
    if (m->max >= 0 && (m->max < m->min || m->max < required))
        *possible = false;
    if (!m->has_extra && m->min > declared)
        *possible = false;
    if (m->max >= declared && !m->has_extra)
        m->max = -1;
    if (m->min <= required)
        m->min = 0;
    if (m->has_extra && m->min > 1 && *possible) {
        schema_fail(m->c, STATUS_UNSUPPORTED, m->plain[0].node, "minProperties",
                    "above 1 and above the required ones needs \"additionalProperties\": false");
        return false;
    }
    return true;
}

/* How far members are counted. */
static int count_top(const struct members *m)
{
    int top = m->max >= 0 ? m->max : m->min;
    return top > 1 ? top : 1;
}

/* State (i, c) from the states of i + 1: an expression. */
static int build_state(struct members *m, size_t i, int c, const int *next)
{
    struct grammar_builder *b = m->c->b;
    int top = count_top(m);
    int comma = c ? schema_comma(m->c) : schema_gap(m->c);
    bool room = m->max < 0 || c < m->max;
    int up = c < top ? c + 1 : top;
    if (i < m->names_count) {
        const struct name *x = &m->names[i];
        int take = room && !x->never ? grammar_build_seq3(b, comma, x->member, next[up])
                                     : grammar_build_never(b);
        return x->required ? take : grammar_build_alt2(b, take, next[c]);
    }
    int end = c < m->min ? grammar_build_never(b) : c ? schema_gap(m->c) : grammar_build_empty(b);
    if (!m->has_extra || !room)
        return end;
    /* next[up] is this level's own state of one member more. */
    int more = grammar_build_seq2(b, comma, m->extra);
    if (m->max < 0 && c == top)
        return grammar_build_seq2(b, grammar_build_repeat(b, more, 0, GRAMMAR_NO_MAX), end);
    return grammar_build_alt2(b, grammar_build_seq2(b, more, next[up]), end);
}

static int build_states(struct members *m)
{
    struct grammar_builder *b = m->c->b;
    size_t top = (size_t)count_top(m);
    if ((m->names_count + 1) * (top + 1) > LIMIT_GRAMMAR_RULES)
        return schema_fail(m->c, STATUS_LIMIT, m->plain[0].node, "maxProperties",
                           "too many properties to be counted");
    int *states = mem_alloc(2 * (top + 1), sizeof *states);
    if (!states)
        return schema_fail(m->c, STATUS_NO_MEMORY, NULL, NULL, "out of memory");
    int *next = states, *here = states + top + 1;
    for (size_t i = m->names_count + 1; i-- > 0;) {
        for (size_t c = top + 1; c-- > 0;) {
            /* No more members than names before this one can have been written. */
            if (c > i && (i < m->names_count || !m->has_extra)) {
                here[c] = grammar_build_never(b);
                continue;
            }
            here[c] = build_state(m, i, (int)c, i < m->names_count ? next : here);
            here[c] = grammar_build_as_rule(b, "object", here[c]);
        }
        int *t = next;
        next = here;
        here = t;
    }
    int expr =
        grammar_build_seq3(b, grammar_build_text(b, "{"), next[0], grammar_build_text(b, "}"));
    mem_free(states);
    return expr;
}

static bool check_strict(struct members *m)
{
    for (size_t i = 0; i < m->n; i++) {
        const cJSON *more =
            cJSON_GetObjectItemCaseSensitive(m->plain[i].node, "additionalProperties");
        const cJSON *type = cJSON_GetObjectItemCaseSensitive(m->plain[i].node, "type");
        if (!cJSON_IsFalse(more) &&
            (more || type || cJSON_GetObjectItemCaseSensitive(m->plain[i].node, "properties")))
            return schema_fail(m->c, STATUS_INVALID, m->plain[i].node, "additionalProperties",
                               "must be false in a strict schema") >= 0;
    }
    return true;
}

int schema_object(struct schema_ctx *c, const struct schema_part *plain, size_t n)
{
    struct members m = {.c = c, .plain = plain, .n = n, .max = -1, .extra = -1};
    int expr = -1;
    bool possible;
    if ((c->o.strict && !check_strict(&m)) || !collect(&m))
        goto done;
    for (size_t i = 0; i < m.names_count; i++)
        if (!build_name(&m, &m.names[i]))
            goto done;
    if (!build_extra(&m) || !simplify_bounds(&m, &possible))
        goto done;
    expr = possible ? build_states(&m) : grammar_build_never(c->b);
done:
    mem_free(m.names);
    mem_free(m.parts.items);
    return expr;
}
