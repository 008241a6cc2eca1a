#include "engine/text/jinja_dict.h"

#include <math.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/text/jinja_ops.h"

/* Up to here a scan is as fast as an index. */
#define SCAN_MAX 8

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 32;
}

static uint64_t hash_bytes(uint64_t seed, const char *s, size_t n)
{
    uint64_t h = mix(seed, n);
    while (n >= 8) {
        uint64_t word;
        memcpy(&word, s, 8);
        h = mix(h, word);
        s += 8;
        n -= 8;
    }
    uint64_t tail = 0;
    memcpy(&tail, s, n);
    return mix(h, tail);
}

/* Equal numbers of different types have equal hashes. */
static uint64_t hash_number(uint64_t seed, struct jinja_value v)
{
    if (v.type == JINJA_BOOL)
        return mix(seed, v.b);
    if (v.type == JINJA_INT)
        return mix(seed, (uint64_t)v.i);
    if (v.f == floor(v.f) && fabs(v.f) < 9.2e18)
        return mix(seed, (uint64_t)(int64_t)v.f);
    uint64_t bits;
    memcpy(&bits, &v.f, sizeof bits);
    return mix(seed, bits);
}

static bool hash_tuple(struct jinja_run *r, const struct jinja_seq *seq, uint64_t *out)
{
    uint64_t h = mix(r->hash_seed, seq->count + 1);
    if (!jinja_descend(r))
        return false;
    for (size_t i = 0; i < seq->count; i++) {
        uint64_t item;
        if (!jinja_hash(r, seq->items[i], &item))
            return false;
        h = mix(h, item);
    }
    r->value_depth--;
    *out = h;
    return true;
}

bool jinja_hash(struct jinja_run *r, struct jinja_value v, uint64_t *out)
{
    switch ((enum jinja_type)v.type) {
    case JINJA_BOOL:
    case JINJA_INT:
    case JINJA_FLOAT:
        *out = hash_number(r->hash_seed, v);
        return true;
    case JINJA_STR:
    case JINJA_BIG:
        *out = hash_bytes(r->hash_seed, v.s->data, v.s->len);
        return v.s->len < 1024 || jinja_charge_bytes(r, v.s->len);
    case JINJA_TUPLE:
        return hash_tuple(r, v.seq, out);
    case JINJA_LIST:
    case JINJA_DICT:
    case JINJA_VIEW:
        return jinja_raise(r, "unhashable type: '%s'", jinja_type_name(v));
    case JINJA_NONE:
    case JINJA_UNDEFINED:
        *out = mix(r->hash_seed, v.type);
        return true;
    default:
        *out = mix(r->hash_seed, (uint64_t)(uintptr_t)v.ns);
        return true;
    }
}

struct jinja_dict *jinja_dict_new(struct jinja_run *r)
{
    return jinja_alloc(r, 1, sizeof(struct jinja_dict));
}

static void index_put(struct jinja_dict *d, uint64_t hash, size_t entry)
{
    size_t at = hash & (d->index_cap - 1);
    while (d->index[at])
        at = (at + 1) & (d->index_cap - 1);
    d->index[at] = (uint32_t)entry + 1;
}

static bool grow(struct jinja_run *r, struct jinja_dict *d)
{
    size_t cap = d->cap ? d->cap * 2 : 4;
    struct jinja_entry *entries = jinja_alloc(r, cap, sizeof *entries);
    if (!entries)
        return false;
    if (d->count)
        memcpy(entries, d->entries, d->count * sizeof *entries);
    d->entries = entries;
    d->cap = cap;
    if (cap <= SCAN_MAX)
        return true;
    d->index_cap = cap * 2;
    d->index = jinja_alloc(r, d->index_cap, sizeof *d->index);
    if (!d->index)
        return false;
    for (size_t i = 0; i < d->count; i++)
        index_put(d, entries[i].hash, i);
    return true;
}

/* Two keys of equal hash. */
static bool same_key(struct jinja_run *r, struct jinja_value a, struct jinja_value b, bool *same)
{
    if (a.type == JINJA_STR && b.type == JINJA_STR) {
        *same = jinja_str_eq(a.s, b.s);
        return true;
    }
    return jinja_eq(r, a, b, same);
}

static bool find(struct jinja_run *r, const struct jinja_dict *d, struct jinja_value key,
                 uint64_t hash, struct jinja_entry **out)
{
    *out = NULL;
    size_t at = d->index ? hash & (d->index_cap - 1) : 0;
    for (size_t tried = 0;; tried++) {
        size_t entry;
        if (d->index) {
            if (!d->index[at])
                return true;
            entry = d->index[at] - 1;
            at = (at + 1) & (d->index_cap - 1);
            if (tried > SCAN_MAX && !jinja_charge(r, 1))
                return false;
        } else {
            if (tried == d->count)
                return true;
            entry = tried;
        }
        bool same = false;
        if (d->entries[entry].hash == hash && !same_key(r, d->entries[entry].key, key, &same))
            return false;
        if (same) {
            *out = &d->entries[entry];
            return true;
        }
    }
}

bool jinja_dict_put(struct jinja_run *r, struct jinja_dict *d, struct jinja_value key,
                    struct jinja_value value)
{
    uint64_t hash;
    struct jinja_entry *entry;
    if (!jinja_hash(r, key, &hash) || !find(r, d, key, hash, &entry))
        return false;
    if (entry) {
        entry->value = value;
        return true;
    }
    if (d->count == d->cap && !grow(r, d))
        return false;
    d->entries[d->count] = (struct jinja_entry){.key = key, .value = value, .hash = hash};
    if (d->index)
        index_put(d, hash, d->count);
    d->count++;
    return true;
}

bool jinja_dict_get(struct jinja_run *r, const struct jinja_dict *d, struct jinja_value key,
                    const struct jinja_value **out)
{
    uint64_t hash;
    struct jinja_entry *entry;
    if (!jinja_hash(r, key, &hash) || !find(r, d, key, hash, &entry))
        return false;
    *out = entry ? &entry->value : NULL;
    return true;
}

const struct jinja_value *jinja_dict_text(struct jinja_run *r, const struct jinja_dict *d,
                                          const struct jinja_str *key)
{
    const struct jinja_value *v = NULL;
    return jinja_dict_get(r, d, jinja_of_str(key), &v) ? v : NULL;
}

bool jinja_seq_value(struct jinja_run *r, enum jinja_type type, const struct jinja_value *items,
                     size_t count, struct jinja_value *out)
{
    struct jinja_seq *seq = jinja_alloc(r, 1, sizeof *seq);
    if (!seq)
        return false;
    *seq = (struct jinja_seq){.items = items, .count = count};
    *out = (struct jinja_value){.type = (uint8_t)type, .seq = seq};
    return true;
}

bool jinja_items_add(struct jinja_run *r, struct jinja_items *l, struct jinja_value v)
{
    if (l->count == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 8;
        struct jinja_value *items = jinja_alloc(r, cap, sizeof *items);
        if (!items)
            return false;
        if (l->count)
            memcpy(items, l->items, l->count * sizeof *items);
        l->items = items;
        l->cap = cap;
    }
    l->items[l->count++] = v;
    return true;
}

static bool from_number(struct jinja_run *r, const cJSON *json, struct jinja_value *out)
{
    int64_t i;
    *out = jinja_float(json->valuedouble);
    if (!json_is_float(json) && json_int64(json, &i)) {
        *out = jinja_int(i);
    } else if (!json_is_float(json) && json->valuestring) {
        const struct jinja_str *digits =
            jinja_str_wrap(r, json->valuestring, strlen(json->valuestring), JINJA_FROM_INPUT);
        if (!digits)
            return false;
        *out = (struct jinja_value){.type = JINJA_BIG, .s = digits};
    }
    out->input = 1;
    return true;
}

static bool from_string(struct jinja_run *r, const char *text, bool trusted,
                        struct jinja_value *out)
{
    const struct jinja_str *s =
        jinja_str_wrap(r, text, strlen(text), trusted ? JINJA_FROM_TEMPLATE : JINJA_FROM_INPUT);
    if (!s)
        return false;
    *out = jinja_of_str(s);
    return true;
}

static bool from_array(struct jinja_run *r, const cJSON *json, struct jinja_value *out)
{
    size_t count = 0;
    for (const cJSON *m = json->child; m; m = m->next)
        count++;
    struct jinja_value *items = jinja_alloc(r, count, sizeof *items);
    struct jinja_seq *seq = jinja_alloc(r, 1, sizeof *seq);
    if (!items || !seq)
        return false;
    size_t i = 0;
    for (const cJSON *m = json->child; m; m = m->next) {
        if (!jinja_from_json(r, m, false, &items[i++]))
            return false;
    }
    *seq = (struct jinja_seq){.items = items, .count = count, .input = true};
    *out = (struct jinja_value){.type = JINJA_LIST, .seq = seq};
    return true;
}

/* Roles are words of the API, and some templates build a special token around one ('<|' + role +
 * '|>'), so the known ones count as template text. */
static bool is_role(const char *key, const cJSON *v)
{
    static const char *const roles[] = {"system",    "developer", "user",
                                        "assistant", "tool",      "function"};
    if (!key || strcmp(key, "role") != 0 || !cJSON_IsString(v))
        return false;
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
        if (strcmp(v->valuestring, roles[i]) == 0)
            return true;
    }
    return false;
}

static bool from_object(struct jinja_run *r, const cJSON *json, struct jinja_value *out)
{
    struct jinja_dict *d = jinja_dict_new(r);
    if (!d)
        return false;
    d->input = true;
    for (const cJSON *m = json->child; m; m = m->next) {
        struct jinja_value key;
        struct jinja_value value;
        if (!from_string(r, m->string ? m->string : "", false, &key) ||
            !jinja_from_json(r, m, is_role(m->string, m), &value) ||
            !jinja_dict_put(r, d, key, value))
            return false;
    }
    *out = (struct jinja_value){.type = JINJA_DICT, .dict = d};
    return true;
}

bool jinja_from_json(struct jinja_run *r, const cJSON *json, bool trusted, struct jinja_value *out)
{
    if (cJSON_IsString(json))
        return from_string(r, json->valuestring, trusted, out);
    if (cJSON_IsNumber(json))
        return from_number(r, json, out);
    *out = jinja_none();
    if (cJSON_IsBool(json))
        *out = jinja_bool(cJSON_IsTrue(json));
    out->input = 1;
    if (!cJSON_IsArray(json) && !cJSON_IsObject(json))
        return true;
    if (!jinja_descend(r))
        return false;
    bool ok = cJSON_IsArray(json) ? from_array(r, json, out) : from_object(r, json, out);
    r->value_depth--;
    return ok;
}
