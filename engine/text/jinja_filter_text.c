/* Filters on text. */
#include "engine/text/jinja_filter_rows.h"

#include <string.h>

#include "engine/text/jinja_char.h"
#include "engine/text/jinja_dict.h"
#include "engine/text/jinja_format.h"
#include "engine/text/jinja_iter.h"
#include "engine/text/jinja_ops.h"
#include "engine/text/jinja_pick.h"
#include "engine/text/jinja_print.h"
#include "engine/text/jinja_text.h"

static bool give(const struct jinja_str *s, struct jinja_value *out)
{
    if (!s)
        return false;
    *out = jinja_of_str(s);
    return true;
}

/* The input as text: strings keep being markup, other values are printed. */
static bool soft_str(struct jinja_run *r, struct jinja_value v, const struct jinja_str **out)
{
    if (v.type != JINJA_STR)
        return jinja_to_str(r, v, out);
    *out = v.s;
    return true;
}

static bool map_case(struct jinja_run *r, const struct jinja_call *c, enum jinja_case how,
                     struct jinja_value *out)
{
    const struct jinja_str *s;
    return soft_str(r, c->self, &s) && jinja_text_case(r, s, how, &s) && give(s, out);
}

static bool filter_upper(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return map_case(r, c, JINJA_UPPER, out);
}

static bool filter_lower(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return map_case(r, c, JINJA_LOWER, out);
}

static bool filter_capitalize(struct jinja_run *r, const struct jinja_call *c,
                              struct jinja_value *out)
{
    return map_case(r, c, JINJA_CAPITALIZE, out);
}

static bool filter_title(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_str *s;
    return soft_str(r, c->self, &s) && jinja_text_case(r, s, JINJA_TITLE_WORDS, &s) &&
           give(jinja_str_markup(r, s, false), out);
}

static bool filter_trim(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_str *chars = NULL;
    const struct jinja_str *s;
    if (jinja_arg_given(c, 0) && !jinja_arg_str(r, c, 0, &chars))
        return false;
    return soft_str(r, c->self, &s) && jinja_text_strip(r, s, chars, true, true, &s) &&
           give(s, out);
}

static bool filter_replace(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_str *s;
    const struct jinja_str *old;
    const struct jinja_str *with;
    int64_t count = -1;
    if (jinja_arg_given(c, 2) && !jinja_arg_int(r, c, 2, -1, &count))
        return false;
    return jinja_to_str(r, c->self, &s) && jinja_to_str(r, c->a[0], &old) &&
           jinja_to_str(r, c->a[1], &with) && jinja_text_replace(r, s, old, with, count, &s) &&
           give(s, out);
}

static bool filter_center(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_str *s;
    int64_t width;
    return jinja_arg_int(r, c, 0, 80, &width) && soft_str(r, c->self, &s) &&
           jinja_text_pad(r, s, width, NULL, JINJA_ALIGN_CENTER, &s) && give(s, out);
}

/* sep.join(items), of items themselves or of an attribute of each. */
static bool filter_join(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_str *sep;
    const struct jinja_str *s;
    struct jinja_value items = c->self;
    if (jinja_arg_given(c, 1) && !jinja_map_path(r, items, c->a[1], &items))
        return false;
    if (c->a[0].type == JINJA_MISSING)
        sep = jinja_str_static(r, "");
    else if (!jinja_to_str(r, c->a[0], &sep))
        return false;
    return sep && jinja_text_join(r, sep, items, true, &s) && give(s, out);
}

static bool filter_escape(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_str *s;
    return soft_str(r, c->self, &s) && jinja_escape(r, s, &s) && give(s, out);
}

static bool filter_forceescape(struct jinja_run *r, const struct jinja_call *c,
                               struct jinja_value *out)
{
    const struct jinja_str *s;
    return soft_str(r, c->self, &s) && jinja_escape_force(r, s, &s) && give(s, out);
}

static bool filter_safe(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_str *s;
    return soft_str(r, c->self, &s) && give(jinja_str_markup(r, s, true), out);
}

/* "%s" % args, or % kwargs. */
static bool filter_format(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_str *s;
    struct jinja_value args;
    if (c->raw->pos_count && c->raw->kw_count)
        return jinja_raise(r, "can't handle positional and keyword arguments at the same time");
    if (c->raw->kw_count) {
        struct jinja_dict *d = jinja_dict_new(r);
        for (size_t i = 0; d && i < c->raw->kw_count; i++) {
            if (!jinja_dict_put(r, d, jinja_of_str(c->raw->kw[i].name), c->raw->kw[i].value))
                return false;
        }
        args = (struct jinja_value){.type = JINJA_DICT, .dict = d};
        if (!d)
            return false;
    } else if (!jinja_seq_value(r, JINJA_TUPLE, c->raw->pos, c->raw->pos_count, &args)) {
        return false;
    }
    return soft_str(r, c->self, &s) && jinja_format_percent(r, s, args, out);
}

static bool filter_indent(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_str *s = c->self.s;
    const struct jinja_str *indent = jinja_str_static(r, " ");
    const struct jinja_str *newline = jinja_str_static(r, "\n");
    struct jinja_items lines;
    struct jinja_buf b;
    int64_t width;
    bool first = jinja_arg_truth(c, 1, false);
    bool blank = jinja_arg_truth(c, 2, false);
    if (c->self.type != JINJA_STR)
        return jinja_raise_type(r, c->self, "indent needs a string, not '%s'",
                                jinja_type_name(c->self));
    if (!indent || !newline)
        return false;
    if (c->a[0].type == JINJA_STR)
        indent = c->a[0].s;
    else if (!jinja_arg_int(r, c, 0, 4, &width) || !(indent = jinja_str_repeat(r, indent, width)))
        return false;
    /* the reference appends a newline first, so that a last empty line counts */
    const struct jinja_str *text = jinja_str_concat(r, s, newline);
    if (!text || !jinja_text_lines(r, text, false, &lines))
        return false;
    jinja_buf_init(&b, r);
    for (size_t i = 0; i < lines.count; i++) {
        const struct jinja_str *line = lines.items[i].s;
        if (i)
            jinja_buf_str(&b, newline);
        if (i == 0 ? first : blank || line->len > 0)
            jinja_buf_str(&b, indent);
        jinja_buf_str(&b, line);
        if (b.failed || !jinja_charge_bytes(r, indent->len))
            return false;
    }
    return jinja_buf_finish(&b, &s) && give(jinja_str_markup(r, s, c->self.s->markup), out);
}

static bool filter_truncate(struct jinja_run *r, const struct jinja_call *c,
                            struct jinja_value *out)
{
    const struct jinja_str *end = jinja_str_static(r, "...");
    const struct jinja_str *space = jinja_str_static(r, " ");
    const struct jinja_str *s = c->self.s;
    int64_t length;
    int64_t leeway = 5;
    size_t n;
    if (!end || !space || !jinja_arg_int(r, c, 0, 255, &length) ||
        (c->a[2].type != JINJA_MISSING && !jinja_arg_str(r, c, 2, &end)) ||
        (jinja_arg_given(c, 3) && !jinja_arg_int(r, c, 3, 5, &leeway)))
        return false;
    int64_t keep = length - (int64_t)jinja_str_cps(end);
    if (keep < 0 || leeway < 0)
        return jinja_raise(r, "truncate: length or leeway is too small");
    if (!jinja_len(r, c->self, &n))
        return false;
    *out = c->self;
    if ((int64_t)n - length <= leeway)
        return true;
    if (c->self.type != JINJA_STR)
        return jinja_raise(r, "truncate needs a string, not '%s'", jinja_type_name(c->self));
    s = jinja_str_sub(r, s, 0, jinja_str_offset(s, (size_t)keep));
    if (s && !jinja_arg_truth(c, 1, false)) {
        int64_t at;
        if (!jinja_str_rfind(r, s, space, s->len, &at))
            return false;
        if (at >= 0)
            s = jinja_str_sub(r, s, 0, (size_t)at);
    }
    return s && give(jinja_str_concat(r, s, end), out);
}

static bool filter_wordcount(struct jinja_run *r, const struct jinja_call *c,
                             struct jinja_value *out)
{
    const struct jinja_str *s;
    int64_t count = 0;
    bool inside = false;
    if (!soft_str(r, c->self, &s) || !jinja_charge(r, s->len / 64 + 1))
        return false;
    for (size_t i = 0, n; i < s->len; i += n) {
        bool word = jinja_char_is_word(jinja_str_cp(s, i, &n));
        count += word && !inside;
        inside = word;
    }
    *out = jinja_int(count);
    return true;
}

static void quote_url(const struct jinja_str *s, bool query, struct jinja_buf *b)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < s->len && !b->failed; i++) {
        unsigned char c = (unsigned char)s->data[i];
        const uint8_t *mask = jinja_str_is_input(s, i) ? JINJA_FROM_INPUT : JINJA_FROM_TEMPLATE;
        bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                     (c != '\0' && strchr("_.-~", c)) || (c == '/' && !query);
        char esc[3] = {'%', hex[c >> 4], hex[c & 15]};
        if (plain)
            jinja_buf_add(b, s->data + i, 1, mask);
        else if (c == ' ' && query)
            jinja_buf_add(b, "+", 1, mask);
        else
            jinja_buf_add(b, esc, 3, mask);
    }
}

static bool quote_pair(struct jinja_run *r, struct jinja_value key, struct jinja_value value,
                       struct jinja_buf *b)
{
    const struct jinja_str *s;
    if (b->len)
        jinja_buf_puts(b, "&");
    if (!soft_str(r, key, &s) || !jinja_charge_bytes(r, s->len * 8))
        return false;
    quote_url(s, true, b);
    jinja_buf_puts(b, "=");
    if (!soft_str(r, value, &s) || !jinja_charge_bytes(r, s->len * 8))
        return false;
    quote_url(s, true, b);
    return !b->failed;
}

static bool filter_urlencode(struct jinja_run *r, const struct jinja_call *c,
                             struct jinja_value *out)
{
    const struct jinja_str *s;
    struct jinja_buf b;
    jinja_buf_init(&b, r);
    if (c->self.type == JINJA_DICT) {
        for (size_t i = 0; i < c->self.dict->count; i++) {
            const struct jinja_entry *e = &c->self.dict->entries[i];
            if (!quote_pair(r, e->key, e->value, &b))
                return false;
        }
    } else if (c->self.type != JINJA_STR && jinja_is_iterable(c->self)) {
        const struct jinja_seq *seq;
        if (!jinja_collect(r, c->self, &seq))
            return false;
        for (size_t i = 0; i < seq->count; i++) {
            const struct jinja_seq *pair;
            if (!jinja_collect(r, seq->items[i], &pair))
                return false;
            if (pair->count != 2)
                return jinja_raise(r, "urlencode needs pairs");
            if (!quote_pair(r, pair->items[0], pair->items[1], &b))
                return false;
        }
    } else {
        if (!soft_str(r, c->self, &s) || !jinja_charge_bytes(r, s->len * 8))
            return false;
        quote_url(s, false, &b);
    }
    return jinja_buf_finish(&b, &s) && give(s, out);
}

const struct jinja_builtin jinja_text_filters[] = {
    {"trim", "chars", 0, filter_trim},
    {"upper", "", 0, filter_upper},
    {"lower", "", 0, filter_lower},
    {"capitalize", "", 0, filter_capitalize},
    {"title", "", 0, filter_title},
    {"replace", "old new count", 2, filter_replace},
    {"join", "d attribute", 0, filter_join},
    {"indent", "width first blank", 0, filter_indent},
    {"center", "width", 0, filter_center},
    {"format", "*", 0, filter_format},
    {"escape", "", 0, filter_escape},
    {"e", "", 0, filter_escape},
    {"forceescape", "", 0, filter_forceescape},
    {"safe", "", 0, filter_safe},
    {"truncate", "length killwords end leeway", 0, filter_truncate},
    {"wordcount", "", 0, filter_wordcount},
    {"urlencode", "", 0, filter_urlencode},
    {"pprint", "*", 0, NULL},
    {"striptags", "*", 0, NULL},
    {"urlize", "*", 0, NULL},
    {"wordwrap", "*", 0, NULL},
    {"xmlattr", "*", 0, NULL},
};
const size_t jinja_text_filter_count = sizeof jinja_text_filters / sizeof jinja_text_filters[0];
