#include "engine/text/jinja_dump.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/text/jinja_dict.h"
#include "engine/text/jinja_ops.h"
#include "engine/text/jinja_print.h"
#include "engine/text/jinja_sort.h"

struct dump {
    struct jinja_run *r;
    const struct jinja_dump *how;
    struct jinja_buf b;
    int level;
};

static bool dump_value(struct dump *d, struct jinja_value v, bool input);

static void put(struct dump *d, const char *s, size_t n, bool input)
{
    jinja_buf_add(&d->b, s, n, input ? JINJA_FROM_INPUT : JINJA_FROM_TEMPLATE);
}

static void put_text(struct dump *d, const char *s, bool input)
{
    put(d, s, strlen(s), input);
}

static void put_str(struct dump *d, const struct jinja_str *s, bool input)
{
    if (input)
        put(d, s->data, s->len, true);
    else
        jinja_buf_str(&d->b, s);
}

static void new_line(struct dump *d, bool input)
{
    if (!d->how->indent)
        return;
    put(d, "\n", 1, input);
    for (int i = 0; i < d->level; i++)
        put_str(d, d->how->indent, input);
}

/* Writes the escape of cp, or returns false when it stands for itself. */
static bool escape_cp(struct dump *d, uint32_t cp, bool input)
{
    static const char shorts[] = "\"\"\\\\\nn\rr\tt\bb\ff";
    char esc[16];
    for (size_t i = 0; i + 1 < sizeof shorts; i += 2) {
        if (cp == (unsigned char)shorts[i]) {
            snprintf(esc, sizeof esc, "\\%c", shorts[i + 1]);
            put_text(d, esc, input);
            return true;
        }
    }
    if (cp >= 0x20 && (!d->how->ascii || cp < 0x7F))
        return false;
    if (cp == 0x7F && d->how->ascii)
        return false;
    if (cp < 0x10000)
        snprintf(esc, sizeof esc, "\\u%04" PRIx32, cp);
    else
        snprintf(esc, sizeof esc, "\\u%04" PRIx32 "\\u%04" PRIx32, 0xD800 + ((cp - 0x10000) >> 10),
                 0xDC00 + ((cp - 0x10000) & 0x3FF));
    put_text(d, esc, input);
    return true;
}

/* Quotes count as input when anything inside does. */
static bool dump_string(struct dump *d, const struct jinja_str *s, bool input)
{
    bool any = input || (s->mask != JINJA_FROM_TEMPLATE &&
                         (s->mask == JINJA_FROM_INPUT || memchr(s->mask, 1, s->len) != NULL));
    if (!jinja_charge_bytes(d->r, s->len))
        return false;
    put(d, "\"", 1, any);
    size_t plain = 0;
    for (size_t i = 0, n; i < s->len && !d->b.failed; i += n) {
        unsigned char c = (unsigned char)s->data[i];
        n = 1;
        if (c >= 0x20 && c != '"' && c != '\\' && (c < 0x80 || !d->how->ascii))
            continue;
        uint32_t cp = jinja_str_cp(s, i, &n);
        put(d, s->data + plain, i - plain, any);
        plain = escape_cp(d, cp, any) ? i + n : i;
    }
    put(d, s->data + plain, s->len - plain, any);
    put(d, "\"", 1, any);
    return !d->b.failed;
}

static bool dump_scalar(struct dump *d, struct jinja_value v, bool input)
{
    char text[JINJA_FLOAT_MAX] = "null";
    if (v.type == JINJA_BOOL)
        snprintf(text, sizeof text, "%s", v.b ? "true" : "false");
    else if (v.type == JINJA_INT)
        snprintf(text, sizeof text, "%" PRId64, v.i);
    else if (v.type == JINJA_FLOAT && !isfinite(v.f))
        snprintf(text, sizeof text, "%s", isnan(v.f) ? "NaN" : v.f < 0 ? "-Infinity" : "Infinity");
    else if (v.type == JINJA_FLOAT)
        jinja_float_text(v.f, text);
    put_text(d, text, input || v.input);
    return !d->b.failed;
}

static bool dump_list(struct dump *d, const struct jinja_seq *seq, bool input)
{
    input = input || seq->input;
    put(d, "[", 1, input);
    d->level++;
    for (size_t i = 0; i < seq->count; i++) {
        if (i)
            put_str(d, d->how->item, input);
        new_line(d, input);
        if (!dump_value(d, seq->items[i], input))
            return false;
    }
    d->level--;
    if (seq->count)
        new_line(d, input);
    put(d, "]", 1, input);
    return !d->b.failed;
}

static bool dump_key(struct dump *d, struct jinja_value key, bool input)
{
    if (key.type == JINJA_STR)
        return dump_string(d, key.s, input);
    if (!jinja_is_number(key) && key.type != JINJA_NONE && key.type != JINJA_BIG)
        return jinja_raise(d->r, "keys must be str, int, float, bool or None, not %s",
                           jinja_type_name(key));
    put(d, "\"", 1, input);
    if (key.type == JINJA_BIG)
        put_str(d, key.s, input);
    else if (!dump_scalar(d, key, input))
        return false;
    put(d, "\"", 1, input);
    return !d->b.failed;
}

static bool sorted_entries(struct dump *d, const struct jinja_dict *dict,
                           const struct jinja_entry **out)
{
    *out = dict->entries;
    if (!d->how->sort_keys)
        return true;
    struct jinja_value *keys = jinja_alloc(d->r, dict->count, sizeof *keys);
    size_t *order = jinja_alloc(d->r, dict->count, sizeof *order);
    struct jinja_entry *entries = jinja_alloc(d->r, dict->count, sizeof *entries);
    if (!keys || !order || !entries)
        return false;
    for (size_t i = 0; i < dict->count; i++)
        keys[i] = dict->entries[i].key;
    if (!jinja_sort_order(d->r, keys, dict->count, false, order))
        return false;
    for (size_t i = 0; i < dict->count; i++)
        entries[i] = dict->entries[order[i]];
    *out = entries;
    return true;
}

static bool dump_dict(struct dump *d, const struct jinja_dict *dict, bool input)
{
    const struct jinja_entry *entries;
    input = input || dict->input;
    if (!sorted_entries(d, dict, &entries))
        return false;
    put(d, "{", 1, input);
    d->level++;
    for (size_t i = 0; i < dict->count; i++) {
        if (i)
            put_str(d, d->how->item, input);
        new_line(d, input);
        if (!dump_key(d, entries[i].key, input))
            return false;
        put_str(d, d->how->key, input);
        if (!dump_value(d, entries[i].value, input))
            return false;
    }
    d->level--;
    if (dict->count)
        new_line(d, input);
    put(d, "}", 1, input);
    return !d->b.failed;
}

static bool dump_value(struct dump *d, struct jinja_value v, bool input)
{
    if (!jinja_descend(d->r))
        return false;
    bool ok;
    switch ((enum jinja_type)v.type) {
    case JINJA_NONE:
    case JINJA_BOOL:
    case JINJA_INT:
    case JINJA_FLOAT:
        ok = dump_scalar(d, v, input);
        break;
    case JINJA_STR:
        ok = dump_string(d, v.s, input);
        break;
    case JINJA_BIG:
        put_str(d, v.s, input);
        ok = !d->b.failed;
        break;
    case JINJA_LIST:
    case JINJA_TUPLE:
        ok = dump_list(d, v.seq, input);
        break;
    case JINJA_DICT:
        ok = dump_dict(d, v.dict, input);
        break;
    default:
        return jinja_raise(d->r, "Object of type %s is not JSON serializable", jinja_type_name(v));
    }
    d->r->value_depth--;
    return ok;
}

bool jinja_dump_value(struct jinja_run *r, const struct jinja_dump *how, struct jinja_value v,
                      const struct jinja_str **out)
{
    struct dump d = {.r = r, .how = how};
    jinja_buf_init(&d.b, r);
    return dump_value(&d, v, false) && jinja_buf_finish(&d.b, out);
}
