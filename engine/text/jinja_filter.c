/* Filters on single values, and finding filters. */
#include "engine/text/jinja_filter.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/text/jinja_access.h"
#include "engine/text/jinja_char.h"
#include "engine/text/jinja_dump.h"
#include "engine/text/jinja_filter_rows.h"
#include "engine/text/jinja_iter.h"
#include "engine/text/jinja_ops.h"
#include "engine/text/jinja_print.h"

/* Longer text is no number that Python would read either (its limit is 4300 digits) within 64 bits.
 */
#define NUMBER_TEXT_MAX 400

/* A number's text as ASCII without white space around it and without the underscores that Python
 * allows between digits; false when it is none. */
static bool number_text(const struct jinja_str *s, char out[NUMBER_TEXT_MAX])
{
    size_t k = 0;
    size_t i = 0;
    size_t n;
    size_t end = s->len;
    bool digit_before = false;
    while (i < end && jinja_char_is_space(jinja_str_cp(s, i, &n)))
        i += n;
    size_t last = i;
    for (size_t j = i; j < end; j += n) {
        if (!jinja_char_is_space(jinja_str_cp(s, j, &n)))
            last = j + n;
    }
    for (; i < last; i += n) {
        uint32_t cp = jinja_str_cp(s, i, &n);
        int digit = jinja_char_decimal(cp);
        if (k + 1 >= NUMBER_TEXT_MAX || (cp >= 0x80 && digit < 0))
            return false;
        if (cp == '_') {
            bool digit_after = i + 1 < last && isalnum((unsigned char)s->data[i + 1]);
            if (!digit_before || !digit_after)
                return false;
            continue;
        }
        out[k] = digit >= 0 ? (char)('0' + digit) : (char)cp;
        digit_before = isalnum((unsigned char)out[k]);
        k++;
    }
    out[k] = '\0';
    return k > 0;
}

/* float(text) */
static bool parse_float(const struct jinja_str *s, double *out)
{
    char text[NUMBER_TEXT_MAX];
    if (!number_text(s, text))
        return false;
    const char *p = text + (text[0] == '-' || text[0] == '+');
    /* strtod knows more than Python: hexadecimal, nan(...) */
    static const char *const words[] = {"inf", "infinity", "nan"};
    bool word = false;
    for (size_t i = 0; i < 3; i++)
        word = word || strcasecmp(p, words[i]) == 0;
    if (!word && (strspn(p, "0123456789.eE+-") != strlen(p) || !strpbrk(p, "0123456789")))
        return false;
    char *end;
    *out = strtod(text, &end);
    return *end == '\0';
}

/* int(text, base). *big: digits beyond 64 bits. */
static bool parse_int(const struct jinja_str *s, int base, int64_t *out, bool *big)
{
    char text[NUMBER_TEXT_MAX];
    *big = false;
    if (!number_text(s, text))
        return false;
    const char *p = text + (text[0] == '-' || text[0] == '+');
    static const struct {
        char mark;
        int base;
    } prefixes[] = {{'x', 16}, {'o', 8}, {'b', 2}};
    bool prefixed = false;
    for (size_t i = 0; i < 3; i++) {
        if (p[0] == '0' && (p[1] | 0x20) == prefixes[i].mark &&
            (base == prefixes[i].base || base == 0)) {
            base = prefixes[i].base;
            p += 2;
            prefixed = true;
            break;
        }
    }
    if (base == 0) {
        base = 10;
        if (!prefixed && p[0] == '0' && strspn(p, "0") != strlen(p))
            return false;
    }
    if (*p == '\0')
        return false;
    int64_t v = 0;
    for (; *p; p++) {
        int c = *p | 0x20;
        int digit = *p >= '0' && *p <= '9' ? *p - '0' : c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
        if (digit >= base)
            return false;
        /* downwards, so that the least integer fits */
        *big = *big || __builtin_mul_overflow(v, base, &v) || __builtin_sub_overflow(v, digit, &v);
    }
    if (text[0] != '-')
        *big = *big || __builtin_sub_overflow((int64_t)0, v, &v);
    *out = v;
    return true;
}

static bool too_big(struct jinja_run *r)
{
    return jinja_raise(r, "integer beyond 64 bits");
}

/* int(float): raises where Python's OverflowError passes the filter. */
static bool int_of_double(struct jinja_run *r, double f, struct jinja_value missing,
                          struct jinja_value *out)
{
    if (isnan(f)) {
        *out = missing;
        return true;
    }
    if (isinf(f) || fabs(f) >= 9223372036854775808.0)
        return isinf(f) ? jinja_raise(r, "cannot convert float infinity to integer") : too_big(r);
    *out = jinja_int((int64_t)f);
    return true;
}

static bool filter_int(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    struct jinja_value missing = c->a[0].type == JINJA_MISSING ? jinja_int(0) : c->a[0];
    int64_t base;
    int64_t i;
    double f;
    bool big;
    /* a base that is no integer makes the first attempt fail, and only that */
    if (c->a[1].type == JINJA_MISSING)
        base = 10;
    else if (!jinja_as_index(c->a[1], &base))
        base = -1;
    switch ((enum jinja_type)c->self.type) {
    case JINJA_UNDEFINED:
        return jinja_raise_undefined(r, c->self);
    case JINJA_BOOL:
    case JINJA_INT:
        jinja_as_index(c->self, &i);
        *out = jinja_int(i);
        break;
    case JINJA_BIG:
        *out = c->self;
        return true;
    case JINJA_FLOAT:
        if (!int_of_double(r, c->self.f, missing, out))
            return false;
        break;
    case JINJA_STR:
        if ((base == 0 || (base >= 2 && base <= 36)) && parse_int(c->self.s, (int)base, &i, &big)) {
            if (big)
                return too_big(r);
            *out = jinja_int(i);
        } else if (!parse_float(c->self.s, &f) || isinf(f)) {
            *out = missing;
        } else if (!int_of_double(r, f, missing, out)) {
            return false;
        }
        return true;
    default:
        *out = missing;
        return true;
    }
    out->input = c->self.input;
    return true;
}

static bool filter_float(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    double f;
    *out = c->a[0].type == JINJA_MISSING ? jinja_float(0) : c->a[0];
    if (c->self.type == JINJA_UNDEFINED)
        return jinja_raise_undefined(r, c->self);
    if (jinja_is_number(c->self)) {
        *out = jinja_float(jinja_as_double(c->self));
        out->input = c->self.input;
    } else if ((c->self.type == JINJA_STR || c->self.type == JINJA_BIG) &&
               parse_float(c->self.s, &f)) {
        *out = jinja_float(f);
    }
    return true;
}

static bool filter_abs(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    bool minus = jinja_is_number(c->self) && jinja_as_double(c->self) < 0;
    if (!jinja_is_number(c->self))
        return jinja_raise_type(r, c->self, "bad operand type for abs(): '%s'",
                                jinja_type_name(c->self));
    if (c->self.type == JINJA_FLOAT) {
        *out = jinja_float(fabs(c->self.f));
        return true;
    }
    return jinja_negate(r, c->self, minus, out);
}

/* Half to even, digits counted from the point. */
static bool round_int(struct jinja_run *r, int64_t v, int64_t precision, struct jinja_value *out)
{
    int64_t unit = 1;
    *out = jinja_int(v);
    for (int64_t i = precision; i < 0; i++) {
        if (__builtin_mul_overflow(unit, 10, &unit)) {
            *out = jinja_int(0);
            return true;
        }
    }
    if (unit == 1)
        return true;
    int64_t rest = v % unit;
    int64_t base = v - rest;
    int64_t twice = rest < 0 ? -rest : rest;
    bool up = twice > unit - twice || (twice == unit - twice && (base / unit) % 2 != 0);
    if (up && (rest < 0 ? __builtin_sub_overflow(base, unit, &base)
                        : __builtin_add_overflow(base, unit, &base)))
        return too_big(r);
    *out = jinja_int(base);
    return true;
}

static double round_double(double f, int64_t precision)
{
    char text[400];
    if (!isfinite(f) || precision > 330)
        return f;
    if (precision < -330)
        return copysign(0, f);
    if (precision >= 0) {
        /* printf rounds the exact value half to even, as Python does */
        if (precision > 60)
            return f;
        snprintf(text, sizeof text, "%.*f", (int)precision, f);
        return strtod(text, NULL);
    }
    double unit = pow(10, (double)-precision);
    return rint(f / unit) * unit;
}

static bool filter_round(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    int64_t precision;
    const struct jinja_str *method = NULL;
    if (!jinja_arg_int(r, c, 0, 0, &precision) ||
        (c->a[1].type != JINJA_MISSING && !jinja_arg_str(r, c, 1, &method)))
        return false;
    bool common = !method || jinja_str_is(method, "common");
    if (!common && !jinja_str_is(method, "ceil") && !jinja_str_is(method, "floor"))
        return jinja_raise(r, "method must be common, ceil or floor");
    if (!jinja_is_number(c->self))
        return jinja_raise_type(r, c->self, "type %s doesn't define __round__ method",
                                jinja_type_name(c->self));
    if (!common) {
        double unit = pow(10, (double)precision);
        double scaled = jinja_as_double(c->self) * unit;
        if (!isfinite(scaled))
            return jinja_raise(r, "cannot convert float to integer");
        /* an integer in Python, so there is no minus zero */
        double whole = (jinja_str_is(method, "ceil") ? ceil(scaled) : floor(scaled)) + 0.0;
        *out = jinja_float(whole / unit);
        return true;
    }
    int64_t i;
    if (jinja_as_index(c->self, &i))
        return round_int(r, i, precision, out);
    *out = jinja_float(round_double(c->self.f, precision));
    return true;
}

static bool filter_default(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_str *empty = jinja_str_static(r, "");
    if (!empty)
        return false;
    bool use =
        c->self.type == JINJA_UNDEFINED || (jinja_arg_truth(c, 1, false) && !jinja_truth(c->self));
    *out = !use ? c->self : c->a[0].type == JINJA_MISSING ? jinja_of_str(empty) : c->a[0];
    return true;
}

static bool filter_string(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_str *s;
    *out = c->self;
    if (c->self.type == JINJA_STR)
        return true;
    if (!jinja_to_str(r, c->self, &s))
        return false;
    *out = jinja_of_str(s);
    return true;
}

static bool filter_length(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    size_t n;
    if (!jinja_len(r, c->self, &n))
        return false;
    *out = jinja_int((int64_t)n);
    return true;
}

static bool filter_attr(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_str *name;
    bool found;
    if (!jinja_arg_str(r, c, 0, &name))
        return false;
    if (c->self.type == JINJA_UNDEFINED)
        return jinja_raise_undefined(r, c->self);
    return jinja_attribute(r, c->self, name, &found, out) &&
           (found || jinja_undefined(r, NULL, c->self, c->a[0], out));
}

/* An item of separators=(a, b). */
static bool separator(struct jinja_run *r, struct jinja_value v, size_t i,
                      const struct jinja_str **out)
{
    const struct jinja_seq *seq;
    if (!jinja_collect(r, v, &seq))
        return false;
    if (seq->count != 2 || seq->items[i].type != JINJA_STR)
        return jinja_raise(r, "separators must be two strings");
    *out = seq->items[i].s;
    return true;
}

static bool filter_tojson(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    const struct jinja_str *s;
    struct jinja_dump how = {.ascii = jinja_arg_truth(c, 0, false),
                             .sort_keys = jinja_arg_truth(c, 3, false)};
    int64_t width;
    if (jinja_arg_given(c, 1) && c->a[1].type == JINJA_STR) {
        how.indent = c->a[1].s;
    } else if (jinja_arg_given(c, 1)) {
        const struct jinja_str *space = jinja_str_static(r, " ");
        if (!jinja_arg_int(r, c, 1, 0, &width) || !space)
            return false;
        how.indent = jinja_str_repeat(r, space, width);
        if (!how.indent)
            return false;
    }
    how.item = jinja_str_static(r, how.indent ? "," : ", ");
    how.key = jinja_str_static(r, ": ");
    if (!how.item || !how.key)
        return false;
    if (jinja_arg_given(c, 2) &&
        (!separator(r, c->a[2], 0, &how.item) || !separator(r, c->a[2], 1, &how.key)))
        return false;
    if (!jinja_dump_value(r, &how, c->self, &s))
        return false;
    *out = jinja_of_str(s);
    return true;
}

/* "102 Bytes", "13.0 kB", "4.1 MiB" */
static bool filter_filesizeformat(struct jinja_run *r, const struct jinja_call *c,
                                  struct jinja_value *out)
{
    static const char letters[] = "kMGTPEZY";
    bool binary = jinja_arg_truth(c, 0, false);
    double base = binary ? 1024 : 1000;
    double bytes;
    char text[400];
    if (jinja_is_number(c->self))
        bytes = jinja_as_double(c->self);
    else if (c->self.type != JINJA_STR || !parse_float(c->self.s, &bytes))
        return jinja_raise_type(r, c->self, "filesizeformat needs a number");
    if (bytes == 1) {
        snprintf(text, sizeof text, "1 Byte");
    } else if (bytes < base) {
        snprintf(text, sizeof text, "%.0f Bytes", trunc(bytes));
    } else {
        int i = 0;
        double unit = base * base;
        while (i < 7 && bytes >= unit) {
            unit *= base;
            i++;
        }
        char letter = i == 0 && binary ? 'K' : letters[i];
        snprintf(text, sizeof text, "%.1f %c%sB", base * bytes / unit, letter, binary ? "i" : "");
    }
    const struct jinja_str *s = jinja_str_static(r, "");
    struct jinja_buf b;
    jinja_buf_init(&b, r);
    jinja_buf_puts(&b, text);
    if (!s || !jinja_buf_finish(&b, &s))
        return false;
    *out = jinja_of_str(s);
    return true;
}

static const struct jinja_builtin value_filters[] = {
    {"tojson", "ensure_ascii indent separators sort_keys", 0, filter_tojson},
    {"length", "", 0, filter_length},
    {"count", "", 0, filter_length},
    {"default", "default_value boolean", 0, filter_default},
    {"d", "default_value boolean", 0, filter_default},
    {"string", "", 0, filter_string},
    {"int", "default base", 0, filter_int},
    {"float", "default", 0, filter_float},
    {"abs", "", 0, filter_abs},
    {"round", "precision method", 0, filter_round},
    {"attr", "name", 1, filter_attr},
    {"filesizeformat", "binary", 0, filter_filesizeformat},
};

const struct jinja_builtin *jinja_filter_find(const struct jinja_str *name)
{
    const struct jinja_builtin *fn =
        jinja_builtin_find(value_filters, sizeof value_filters / sizeof value_filters[0], name);
    if (!fn)
        fn = jinja_builtin_find(jinja_text_filters, jinja_text_filter_count, name);
    if (!fn)
        fn = jinja_builtin_find(jinja_seq_filters, jinja_seq_filter_count, name);
    if (!fn)
        fn = jinja_builtin_find(jinja_pick_filters, jinja_pick_filter_count, name);
    return fn;
}

bool jinja_filter_call(struct jinja_run *r, struct jinja_value name, struct jinja_value input,
                       const struct jinja_args *args, struct jinja_value *out)
{
    const struct jinja_builtin *fn = name.type == JINJA_STR ? jinja_filter_find(name.s) : NULL;
    const struct jinja_str *text;
    if (fn)
        return jinja_call_builtin(r, fn, input, args, out);
    return jinja_repr(r, name, &text) &&
           jinja_raise(r, "No filter named %.*s.", (int)(text->len < 64 ? text->len : 64),
                       text->data);
}
