/* Methods of str. */
#include "engine/text/jinja_method.h"

#include <string.h>

#include "engine/text/jinja_char.h"
#include "engine/text/jinja_dict.h"
#include "engine/text/jinja_format.h"
#include "engine/text/jinja_ops.h"
#include "engine/text/jinja_print.h"
#include "engine/text/jinja_text.h"

static bool give(const struct jinja_str *s, struct jinja_value *out)
{
    if (!s)
        return false;
    *out = jinja_of_str(s);
    return true;
}

static bool give_items(struct jinja_run *r, const struct jinja_items *l, struct jinja_value *out)
{
    return jinja_seq_value(r, JINJA_LIST, l->items, l->count, out);
}

static bool map_case(struct jinja_run *r, const struct jinja_call *c, enum jinja_case how,
                     struct jinja_value *out)
{
    const struct jinja_str *s;
    return jinja_text_case(r, c->self.s, how, &s) && give(s, out);
}

static bool str_upper(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return map_case(r, c, JINJA_UPPER, out);
}

static bool str_lower(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return map_case(r, c, JINJA_LOWER, out);
}

static bool str_capitalize(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return map_case(r, c, JINJA_CAPITALIZE, out);
}

static bool str_title(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return map_case(r, c, JINJA_TITLE, out);
}

static bool str_swapcase(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return map_case(r, c, JINJA_SWAPCASE, out);
}

static bool strip(struct jinja_run *r, const struct jinja_call *c, bool left, bool right,
                  struct jinja_value *out)
{
    const struct jinja_str *chars = NULL;
    const struct jinja_str *s;
    if (jinja_arg_given(c, 0) && !jinja_arg_str(r, c, 0, &chars))
        return false;
    return jinja_text_strip(r, c->self.s, chars, left, right, &s) && give(s, out);
}

static bool str_strip(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return strip(r, c, true, true, out);
}

static bool str_lstrip(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return strip(r, c, true, false, out);
}

static bool str_rstrip(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return strip(r, c, false, true, out);
}

static bool split(struct jinja_run *r, const struct jinja_call *c, bool from_right,
                  struct jinja_value *out)
{
    const struct jinja_str *sep = NULL;
    struct jinja_items items;
    int64_t max;
    if ((jinja_arg_given(c, 0) && !jinja_arg_str(r, c, 0, &sep)) ||
        !jinja_arg_int(r, c, 1, -1, &max))
        return false;
    return jinja_text_split(r, c->self.s, sep, max, from_right, &items) &&
           give_items(r, &items, out);
}

static bool str_split(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return split(r, c, false, out);
}

static bool str_rsplit(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return split(r, c, true, out);
}

static bool str_splitlines(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    struct jinja_items items;
    return jinja_text_lines(r, c->self.s, jinja_arg_truth(c, 0, false), &items) &&
           give_items(r, &items, out);
}

static bool partition(struct jinja_run *r, const struct jinja_call *c, bool last,
                      struct jinja_value *out)
{
    const struct jinja_str *s = c->self.s;
    const struct jinja_str *sep;
    if (!jinja_arg_str(r, c, 0, &sep))
        return false;
    if (sep->len == 0)
        return jinja_raise(r, "empty separator");
    int64_t at = jinja_str_find(s, sep, 0);
    if (last && !jinja_str_rfind(r, s, sep, s->len, &at))
        return false;
    struct jinja_value *parts = jinja_alloc(r, 3, sizeof *parts);
    const struct jinja_str *empty = jinja_str_static(r, "");
    if (!parts || !empty || !jinja_charge_bytes(r, s->len))
        return false;
    for (int i = 0; i < 3; i++)
        parts[i] = jinja_of_str(empty);
    if (at < 0) {
        parts[last ? 2 : 0] = c->self;
    } else if (!give(jinja_str_sub(r, s, 0, (size_t)at), &parts[0]) ||
               !give(jinja_str_sub(r, s, (size_t)at, (size_t)at + sep->len), &parts[1]) ||
               !give(jinja_str_sub(r, s, (size_t)at + sep->len, s->len), &parts[2])) {
        return false;
    }
    return jinja_seq_value(r, JINJA_TUPLE, parts, 3, out);
}

static bool str_partition(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return partition(r, c, false, out);
}

static bool str_rpartition(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return partition(r, c, true, out);
}

static bool str_replace(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_str *old;
    const struct jinja_str *with;
    const struct jinja_str *s;
    int64_t count;
    if (!jinja_arg_str(r, c, 0, &old) || !jinja_arg_str(r, c, 1, &with) ||
        !jinja_arg_int(r, c, 2, -1, &count))
        return false;
    if (c->self.s->markup && !jinja_escape(r, with, &with))
        return false;
    return jinja_text_replace(r, c->self.s, old, with, count, &s) && give(s, out);
}

/* Arguments i and i + 1 as a byte range of self, as a slice clamps them; *inside false when start
 * lies behind the end. */
static bool byte_range(struct jinja_run *r, const struct jinja_call *c, int i, size_t *from,
                       size_t *to, bool *inside)
{
    const struct jinja_str *s = c->self.s;
    int64_t len = (int64_t)jinja_str_cps(s);
    int64_t start = 0;
    int64_t end = len;
    if ((jinja_arg_given(c, i) && !jinja_arg_int(r, c, i, 0, &start)) ||
        (jinja_arg_given(c, i + 1) && !jinja_arg_int(r, c, i + 1, len, &end)))
        return false;
    start = start < -len ? 0 : start < 0 ? start + len : start;
    end = end < -len ? 0 : end < 0 ? end + len : end > len ? len : end;
    *inside = start <= end;
    *from = *inside ? jinja_str_offset(s, (size_t)start) : 0;
    *to = *inside ? jinja_str_offset(s, (size_t)end) : 0;
    return jinja_charge_bytes(r, s->len);
}

static bool find_in(struct jinja_run *r, const struct jinja_call *c, bool last, int64_t *out)
{
    const struct jinja_str *needle;
    size_t from;
    size_t to;
    bool inside;
    *out = -1;
    if (!jinja_arg_str(r, c, 0, &needle) || !byte_range(r, c, 1, &from, &to, &inside))
        return false;
    if (!inside)
        return true;
    const struct jinja_str *part = jinja_str_sub(r, c->self.s, from, to);
    if (!part)
        return false;
    int64_t at = -1;
    if (!last)
        at = jinja_str_find(part, needle, 0);
    else if (!jinja_str_rfind(r, part, needle, part->len, &at))
        return false;
    if (at >= 0)
        *out = (int64_t)jinja_str_index(c->self.s, from + (size_t)at);
    return true;
}

static bool str_find(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    int64_t at;
    if (!find_in(r, c, false, &at))
        return false;
    *out = jinja_int(at);
    return true;
}

static bool str_rfind(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    int64_t at;
    if (!find_in(r, c, true, &at))
        return false;
    *out = jinja_int(at);
    return true;
}

static bool str_index(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return str_find(r, c, out) && (out->i >= 0 || jinja_raise(r, "substring not found"));
}

static bool str_rindex(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return str_rfind(r, c, out) && (out->i >= 0 || jinja_raise(r, "substring not found"));
}

static bool str_count(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_str *needle;
    size_t from;
    size_t to;
    bool inside;
    int64_t count = 0;
    if (!jinja_arg_str(r, c, 0, &needle) || !byte_range(r, c, 1, &from, &to, &inside))
        return false;
    const struct jinja_str *part = jinja_str_sub(r, c->self.s, from, to);
    if (!part)
        return false;
    if (inside && needle->len == 0)
        count = (int64_t)jinja_str_cps(part) + 1;
    for (int64_t at = 0; inside && needle->len > 0; count++) {
        at = jinja_str_find(part, needle, (size_t)at);
        if (at < 0)
            break;
        at += (int64_t)needle->len;
    }
    *out = jinja_int(count);
    return true;
}

static bool has_affix(const struct jinja_str *s, size_t from, size_t to,
                      const struct jinja_str *affix, bool end)
{
    return to - from >= affix->len &&
           memcmp(s->data + (end ? to - affix->len : from), affix->data, affix->len) == 0;
}

/* startswith, endswith: a string or a tuple of strings. */
static bool test_affix(struct jinja_run *r, const struct jinja_call *c, bool end,
                       struct jinja_value *out)
{
    size_t from;
    size_t to;
    bool inside;
    bool holds = false;
    if (!byte_range(r, c, 1, &from, &to, &inside))
        return false;
    size_t count = c->a[0].type == JINJA_TUPLE ? c->a[0].seq->count : 1;
    for (size_t i = 0; i < count && !holds; i++) {
        struct jinja_value v = c->a[0].type == JINJA_TUPLE ? c->a[0].seq->items[i] : c->a[0];
        if (v.type != JINJA_STR)
            return jinja_raise_type(r, v, "%s() needs a string or a tuple of strings, not '%s'",
                                    c->fn->name, jinja_type_name(v));
        holds = inside && has_affix(c->self.s, from, to, v.s, end);
    }
    *out = jinja_bool(holds);
    return true;
}

static bool str_startswith(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return test_affix(r, c, false, out);
}

static bool str_endswith(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return test_affix(r, c, true, out);
}

static bool str_removeprefix(struct jinja_run *r, const struct jinja_call *c,
                             struct jinja_value *out)
{
    const struct jinja_str *s = c->self.s;
    const struct jinja_str *affix;
    if (!jinja_arg_str(r, c, 0, &affix))
        return false;
    bool has = has_affix(s, 0, s->len, affix, false);
    return give(jinja_str_sub(r, s, has ? affix->len : 0, s->len), out);
}

static bool str_removesuffix(struct jinja_run *r, const struct jinja_call *c,
                             struct jinja_value *out)
{
    const struct jinja_str *s = c->self.s;
    const struct jinja_str *affix;
    if (!jinja_arg_str(r, c, 0, &affix))
        return false;
    bool has = has_affix(s, 0, s->len, affix, true);
    return give(jinja_str_sub(r, s, 0, s->len - (has ? affix->len : 0)), out);
}

static bool str_join(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_str *s;
    return jinja_text_join(r, c->self.s, c->a[0], false, &s) && give(s, out);
}

static bool str_format(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return jinja_format_braces(r, c->self.s, c->raw, out);
}

static bool pad(struct jinja_run *r, const struct jinja_call *c, enum jinja_align align,
                struct jinja_value *out)
{
    const struct jinja_str *fill = NULL;
    const struct jinja_str *s;
    int64_t width;
    if (!jinja_arg_int(r, c, 0, 0, &width) ||
        (c->a[1].type != JINJA_MISSING && !jinja_arg_str(r, c, 1, &fill)))
        return false;
    return jinja_text_pad(r, c->self.s, width, fill, align, &s) && give(s, out);
}

static bool str_ljust(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return pad(r, c, JINJA_ALIGN_LEFT, out);
}

static bool str_rjust(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return pad(r, c, JINJA_ALIGN_RIGHT, out);
}

static bool str_center(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return pad(r, c, JINJA_ALIGN_CENTER, out);
}

/* Zeros go behind a sign. */
static bool str_zfill(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_str *s = c->self.s;
    int64_t width;
    if (!jinja_arg_int(r, c, 0, 0, &width))
        return false;
    int64_t zeros = width - (int64_t)jinja_str_cps(s);
    if (zeros <= 0)
        return give(s, out);
    if (!jinja_room(r, (size_t)zeros, 1) || !jinja_charge_bytes(r, (size_t)zeros))
        return false;
    size_t sign = s->len > 0 && (s->data[0] == '-' || s->data[0] == '+');
    struct jinja_buf b;
    jinja_buf_init(&b, r);
    jinja_buf_add(&b, s->data, sign, s->mask);
    jinja_buf_fill(&b, '0', (size_t)zeros);
    jinja_buf_add(&b, s->data + sign, s->len - sign, jinja_str_mask_at(s, sign));
    return jinja_buf_finish(&b, &s) && give(s, out);
}

/* All code points have the property, and there is one. */
static bool all_are(struct jinja_run *r, const struct jinja_call *c, bool (*is)(uint32_t cp),
                    bool empty, struct jinja_value *out)
{
    const struct jinja_str *s = c->self.s;
    bool holds = s->len > 0 || empty;
    if (!jinja_charge(r, s->len / 64 + 1))
        return false;
    for (size_t i = 0, n; i < s->len && holds; i += n)
        holds = is(jinja_str_cp(s, i, &n));
    *out = jinja_bool(holds);
    return true;
}

static bool str_isalpha(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return all_are(r, c, jinja_char_is_alpha, false, out);
}

static bool str_isalnum(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return all_are(r, c, jinja_char_is_alnum, false, out);
}

static bool str_isdigit(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return all_are(r, c, jinja_char_is_digit, false, out);
}

static bool str_isdecimal(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return all_are(r, c, jinja_char_is_decimal, false, out);
}

static bool str_isnumeric(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return all_are(r, c, jinja_char_is_numeric, false, out);
}

static bool str_isspace(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return all_are(r, c, jinja_char_is_space, false, out);
}

static bool str_isprintable(struct jinja_run *r, const struct jinja_call *c,
                            struct jinja_value *out)
{
    return all_are(r, c, jinja_char_is_printable, true, out);
}

static bool is_ascii(uint32_t cp)
{
    return cp < 0x80;
}

static bool str_isascii(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return all_are(r, c, is_ascii, true, out);
}

/* At least one cased code point, and none of the other case. */
static bool str_isupper(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    bool upper;
    bool lower;
    if (!jinja_text_case_of(r, c->self.s, &upper, &lower))
        return false;
    *out = jinja_bool(upper);
    return true;
}

static bool str_islower(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    bool upper;
    bool lower;
    if (!jinja_text_case_of(r, c->self.s, &upper, &lower))
        return false;
    *out = jinja_bool(lower);
    return true;
}

static bool str_istitle(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_str *s = c->self.s;
    bool cased = false;
    bool after_cased = false;
    bool holds = true;
    if (!jinja_charge(r, s->len / 64 + 1))
        return false;
    for (size_t i = 0, n; i < s->len && holds; i += n) {
        uint32_t cp = jinja_str_cp(s, i, &n);
        bool head = jinja_char_is_upper(cp) || jinja_char_is_title(cp);
        bool tail = !head && jinja_char_is_lower(cp);
        holds = head ? !after_cased : !tail || after_cased;
        after_cased = head || tail;
        cased = cased || after_cased;
    }
    *out = jinja_bool(holds && cased);
    return true;
}

const struct jinja_builtin jinja_str_methods[] = {
    {"strip", "chars /", 0, str_strip},
    {"split", "sep maxsplit", 0, str_split},
    {"startswith", "prefix start end /", 1, str_startswith},
    {"endswith", "suffix start end /", 1, str_endswith},
    {"replace", "old new count /", 2, str_replace},
    {"lstrip", "chars /", 0, str_lstrip},
    {"rstrip", "chars /", 0, str_rstrip},
    {"lower", "", 0, str_lower},
    {"upper", "", 0, str_upper},
    {"title", "", 0, str_title},
    {"capitalize", "", 0, str_capitalize},
    {"join", "iterable /", 1, str_join},
    {"format", "*", 0, str_format},
    {"find", "sub start end /", 1, str_find},
    {"rfind", "sub start end /", 1, str_rfind},
    {"index", "sub start end /", 1, str_index},
    {"rindex", "sub start end /", 1, str_rindex},
    {"count", "sub start end /", 1, str_count},
    {"rsplit", "sep maxsplit", 0, str_rsplit},
    {"splitlines", "keepends", 0, str_splitlines},
    {"partition", "sep /", 1, str_partition},
    {"rpartition", "sep /", 1, str_rpartition},
    {"removeprefix", "prefix /", 1, str_removeprefix},
    {"removesuffix", "suffix /", 1, str_removesuffix},
    {"ljust", "width fillchar /", 1, str_ljust},
    {"rjust", "width fillchar /", 1, str_rjust},
    {"center", "width fillchar /", 1, str_center},
    {"zfill", "width /", 1, str_zfill},
    {"swapcase", "", 0, str_swapcase},
    {"isalpha", "", 0, str_isalpha},
    {"isalnum", "", 0, str_isalnum},
    {"isdigit", "", 0, str_isdigit},
    {"isdecimal", "", 0, str_isdecimal},
    {"isnumeric", "", 0, str_isnumeric},
    {"isspace", "", 0, str_isspace},
    {"isascii", "", 0, str_isascii},
    {"isprintable", "", 0, str_isprintable},
    {"isupper", "", 0, str_isupper},
    {"islower", "", 0, str_islower},
    {"istitle", "", 0, str_istitle},
    {"casefold", "", 0, NULL},
    {"encode", "*", 0, NULL},
    {"expandtabs", "*", 0, NULL},
    {"format_map", "*", 0, NULL},
    {"isidentifier", "", 0, NULL},
    {"maketrans", "*", 0, NULL},
    {"translate", "*", 0, NULL},
};
const size_t jinja_str_method_count = sizeof jinja_str_methods / sizeof jinja_str_methods[0];
