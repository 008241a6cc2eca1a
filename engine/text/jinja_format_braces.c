/* str.format: replacement fields and Python's format specifications. */
#include "engine/text/jinja_format.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/text/jinja_access.h"
#include "engine/text/jinja_dict.h"
#include "engine/text/jinja_ops.h"
#include "engine/text/jinja_print.h"
#include "engine/text/jinja_text.h"

#define WIDTH_MAX 65536

struct spec {
    const struct jinja_str *fill; /* NULL: space */
    char align;                   /* '\0': the type's own */
    char sign;
    bool alternate;
    bool zero;
    bool no_minus_zero; /* z */
    int64_t width;
    char grouping;
    int64_t precision; /* -1: none */
    char type;         /* '\0': none */
};

static bool bad_spec(struct jinja_run *r)
{
    return jinja_raise(r, "Invalid format specifier");
}

static bool spec_number(struct jinja_run *r, const struct jinja_str *s, size_t *at, int64_t *out)
{
    *out = 0;
    for (; *at < s->len && s->data[*at] >= '0' && s->data[*at] <= '9'; (*at)++) {
        if (*out <= WIDTH_MAX)
            *out = *out * 10 + (s->data[*at] - '0');
    }
    return *out <= WIDTH_MAX || jinja_raise(r, "format width or precision over %d", WIDTH_MAX);
}

static bool is_align(const struct jinja_str *s, size_t at)
{
    return at < s->len && strchr("<>=^", s->data[at]) && s->data[at] != '\0';
}

static bool take(const struct jinja_str *s, size_t *at, const char *any, char *out)
{
    if (*at >= s->len || s->data[*at] == '\0' || !strchr(any, s->data[*at]))
        return false;
    *out = s->data[(*at)++];
    return true;
}

static bool parse_spec(struct jinja_run *r, const struct jinja_str *s, struct spec *out)
{
    size_t at = 0;
    size_t n;
    char c;
    *out = (struct spec){.precision = -1};
    if (s->len > 0) {
        jinja_str_cp(s, 0, &n);
        if (is_align(s, n)) {
            out->fill = jinja_str_sub(r, s, 0, n);
            if (!out->fill)
                return false;
            at = n;
        }
    }
    if (is_align(s, at))
        out->align = s->data[at++];
    take(s, &at, "+- ", &out->sign);
    out->no_minus_zero = take(s, &at, "z", &c);
    out->alternate = take(s, &at, "#", &c);
    out->zero = take(s, &at, "0", &c);
    if (!spec_number(r, s, &at, &out->width))
        return false;
    take(s, &at, ",_", &out->grouping);
    if (take(s, &at, ".", &c)) {
        size_t from = at;
        if (!spec_number(r, s, &at, &out->precision))
            return false;
        if (at == from)
            return jinja_raise(r, "Format specifier missing precision");
    }
    if (at < s->len && (unsigned char)s->data[at] < 0x80)
        out->type = s->data[at++];
    return at == s->len || bad_spec(r);
}

/* `text` with its sign and prefix in front, padded. Zeros and '=' go between them. */
static bool put_aligned(struct jinja_run *r, const struct spec *f, const char *prefix,
                        const struct jinja_str *text, bool number, struct jinja_buf *b)
{
    char align = f->align ? f->align : f->zero && number ? '=' : number ? '>' : '<';
    const struct jinja_str *fill = f->fill;
    if (!fill && f->zero)
        fill = jinja_str_static(r, "0");
    if (align == '=') {
        int64_t width = f->width - (int64_t)strlen(prefix);
        jinja_buf_puts(b, prefix);
        if (!jinja_text_pad(r, text, width, fill, JINJA_ALIGN_RIGHT, &text))
            return false;
    } else {
        struct jinja_buf whole;
        jinja_buf_init(&whole, r);
        jinja_buf_puts(&whole, prefix);
        jinja_buf_str(&whole, text);
        if (!jinja_buf_finish(&whole, &text))
            return false;
        int64_t pad = f->width - (int64_t)jinja_str_cps(text);
        int64_t left = align == '>' ? pad : align == '^' ? pad / 2 : 0;
        for (int64_t i = 0; i < pad && !b->failed; i++) {
            if (i == left)
                jinja_buf_str(b, text);
            if (fill)
                jinja_buf_str(b, fill);
            else
                jinja_buf_puts(b, " ");
        }
        if (left < pad)
            return !b->failed;
    }
    jinja_buf_str(b, text);
    return !b->failed;
}

static bool format_text(struct jinja_run *r, const struct jinja_str *s, const struct spec *f,
                        struct jinja_buf *b)
{
    if ((f->type && f->type != 's') || f->sign || f->alternate || f->no_minus_zero || f->grouping ||
        f->align == '=')
        return jinja_raise(r, "format specifier does not fit 'str'");
    if (f->precision >= 0 && (size_t)f->precision < jinja_str_cps(s))
        s = jinja_str_sub(r, s, 0, jinja_str_offset(s, (size_t)f->precision));
    return s && put_aligned(r, f, "", s, false, b);
}

/* Digits before the point in groups; `width`: with zeros in front until the text is that long. */
static void group_digits(const char *digits, bool hex, char sep, int64_t width, struct jinja_buf *b,
                         const uint8_t *mask)
{
    size_t size = hex ? 4 : 3;
    size_t whole = strspn(digits, hex ? "0123456789abcdefABCDEF" : "0123456789");
    int64_t rest = (int64_t)strlen(digits + whole);
    size_t count = whole;
    while (whole > 0 && (int64_t)(count + (count - 1) / size) + rest < width)
        count++;
    for (size_t i = 0; i < count; i++) {
        if (i && (count - i) % size == 0)
            jinja_buf_add(b, &sep, 1, mask);
        jinja_buf_add(b, i < count - whole ? "0" : digits + (i - (count - whole)), 1, mask);
    }
    jinja_buf_add(b, digits + whole, (size_t)rest, mask);
}

/* A float without a type is its repr; with a precision it is like g and keeps a digit behind the
 * point. */
static bool plain_float(struct jinja_run *r, struct jinja_value v, const struct spec *f,
                        struct jinja_number_text *n)
{
    if (f->precision < 0) {
        char text[JINJA_FLOAT_MAX];
        jinja_float_text(fabs(v.f), text);
        snprintf(n->text, sizeof n->text, "%s", text);
        n->minus = signbit(v.f) && !isnan(v.f);
    } else {
        int precision = f->precision ? (int)f->precision : 1;
        if (!jinja_format_number(r, v, 'g', precision, false, n))
            return false;
        /* g shows no point below the precision; a whole number then takes one more digit */
        if (isfinite(v.f) && !strpbrk(n->text, ".e")) {
            if (strlen(n->text) < (size_t)precision)
                snprintf(n->text + strlen(n->text), 3, ".0");
            else if (!jinja_format_number(r, v, 'e', precision - 1, false, n))
                return false;
        }
    }
    n->len = strlen(n->text);
    return true;
}

static bool format_numeric(struct jinja_run *r, struct jinja_value v, const struct spec *f,
                           struct jinja_buf *b)
{
    struct jinja_number_text n;
    bool whole = v.type != JINJA_FLOAT;
    char type = f->type ? f->type : whole ? 'd' : '\0';
    bool percent = type == '%';
    if (type == 'n' || type == 'c')
        return jinja_raise(r, "format specifier is not supported");
    if (type && !strchr(whole ? "bdoxXeEfFgG%" : "eEfFgG%", type))
        return jinja_raise(r, "Unknown format code '%c' for object of type '%s'", type,
                           jinja_type_name(v));
    if (f->no_minus_zero && (whole && strchr("bdoxX", type)))
        return jinja_raise(r, "Negative zero coercion (z) not allowed in integer format specifier");
    if (whole && f->precision >= 0 && strchr("bdoxX", type))
        return jinja_raise(r, "Precision not allowed in integer format specifier");
    if (percent)
        v = (struct jinja_value){
            .type = JINJA_FLOAT, .input = v.input, .f = jinja_as_double(v) * 100};
    int precision = f->precision > 1000 ? 1000 : (int)f->precision;
    if (!(type ? jinja_format_number(r, v, percent ? 'f' : type, precision, f->alternate, &n)
               : plain_float(r, v, f, &n)))
        return false;
    if (f->no_minus_zero && !strpbrk(n.text, "123456789in"))
        n.minus = false;
    char prefix[4] = "";
    size_t k = 0;
    if (n.minus || (f->sign && f->sign != '-'))
        prefix[k++] = n.minus ? '-' : f->sign;
    if (f->alternate && type && strchr("boxX", type)) {
        prefix[k++] = '0';
        prefix[k++] = type;
    }
    prefix[k] = '\0';
    const uint8_t *mask = v.input ? JINJA_FROM_INPUT : JINJA_FROM_TEMPLATE;
    struct jinja_buf digits;
    const struct jinja_str *text;
    jinja_buf_init(&digits, r);
    if (f->grouping)
        group_digits(n.text, type && strchr("boxX", type), f->grouping,
                     f->zero && !f->align ? f->width - (int64_t)k - percent : 0, &digits, mask);
    else
        jinja_buf_add(&digits, n.text, n.len, mask);
    if (percent)
        jinja_buf_puts(&digits, "%");
    return jinja_buf_finish(&digits, &text) && put_aligned(r, f, prefix, text, true, b);
}

bool jinja_format_spec(struct jinja_run *r, struct jinja_value v, const struct jinja_str *spec,
                       struct jinja_buf *b)
{
    struct spec f;
    if (spec->len == 0)
        return jinja_print_to(r, v, false, b);
    if (v.type != JINJA_STR && !jinja_is_number(v))
        return jinja_raise(r, "unsupported format string passed to %s.__format__",
                           jinja_type_name(v));
    if (!parse_spec(r, spec, &f))
        return false;
    return v.type == JINJA_STR ? format_text(r, v.s, &f, b) : format_numeric(r, v, &f, b);
}

struct braces {
    struct jinja_run *r;
    const struct jinja_args *args;
    int64_t next; /* automatic index; -1 once a field was numbered by hand */
    bool automatic;
};

/* The argument that a field begins with. */
static bool first_part(struct braces *p, const struct jinja_str *name, struct jinja_value *out)
{
    int64_t index = 0;
    bool digits = true;
    for (size_t i = 0; i < name->len; i++) {
        digits = digits && name->data[i] >= '0' && name->data[i] <= '9' && i < 9;
        index = digits ? index * 10 + (name->data[i] - '0') : 0;
    }
    if (name->len == 0) {
        if (p->next < 0)
            return jinja_raise(p->r, "cannot switch from manual field specification to automatic "
                                     "field numbering");
        index = p->next++;
        p->automatic = true;
    } else if (digits) {
        if (p->automatic)
            return jinja_raise(p->r, "cannot switch from automatic field numbering to manual field "
                                     "specification");
        p->next = -1;
    } else {
        for (size_t i = 0; i < p->args->kw_count; i++) {
            if (jinja_str_eq(p->args->kw[i].name, name)) {
                *out = p->args->kw[i].value;
                return true;
            }
        }
        return jinja_raise(p->r, "format has no argument '%.*s'",
                           (int)(name->len < 64 ? name->len : 64), name->data);
    }
    if ((size_t)index >= p->args->pos_count)
        return jinja_raise(p->r, "Replacement index %lld out of range for positional args tuple",
                           (long long)index);
    *out = p->args->pos[index];
    return true;
}

/* "[key]": digits are an index. */
static bool index_part(struct jinja_run *r, const struct jinja_str *key, struct jinja_value *v)
{
    int64_t i = 0;
    bool digits = key->len > 0 && key->len < 18;
    for (size_t k = 0; digits && k < key->len; k++) {
        digits = key->data[k] >= '0' && key->data[k] <= '9';
        i = i * 10 + (key->data[k] - '0');
    }
    return jinja_getitem(r, *v, digits ? jinja_int(i) : jinja_of_str(key), v);
}

/* "0.name[key]" */
static bool field_value(struct braces *p, const struct jinja_str *s, size_t from, size_t to,
                        struct jinja_value *out)
{
    size_t at = from;
    while (at < to && s->data[at] != '.' && s->data[at] != '[')
        at++;
    const struct jinja_str *part = jinja_str_sub(p->r, s, from, at);
    if (part && at == from && at < to)
        return jinja_raise(p->r, "format has no argument ''");
    if (!part || !first_part(p, part, out))
        return false;
    while (at < to) {
        bool dot = s->data[at] == '.';
        size_t begin = at + 1;
        if (!dot && s->data[at] != '[')
            return jinja_raise(p->r, "Only '.' or '[' may follow ']' in format field specifier");
        at = begin;
        while (at < to && (dot ? s->data[at] != '.' && s->data[at] != '[' : s->data[at] != ']'))
            at++;
        if ((!dot && at == to) || at == begin)
            return jinja_raise(p->r, "Empty attribute in format string");
        part = jinja_str_sub(p->r, s, begin, at);
        if (!part || !jinja_charge(p->r, 1) ||
            !(dot ? jinja_getattr(p->r, *out, part, out) : index_part(p->r, part, out)))
            return false;
        at += !dot;
    }
    return true;
}

static bool expand(struct braces *p, const struct jinja_str *s, int depth, struct jinja_buf *b);

/* Field [from, to) without its braces. */
static bool put_field(struct braces *p, const struct jinja_str *s, size_t from, size_t to,
                      int depth, struct jinja_buf *b)
{
    size_t name_end = from;
    int brackets = 0;
    while (name_end < to && (brackets || (s->data[name_end] != '!' && s->data[name_end] != ':'))) {
        brackets += s->data[name_end] == '[' ? 1 : s->data[name_end] == ']' ? -1 : 0;
        name_end++;
    }
    struct jinja_value v;
    if (!field_value(p, s, from, name_end, &v))
        return false;
    size_t at = name_end;
    const struct jinja_str *text;
    if (at < to && s->data[at] == '!') {
        char how = at + 1 < to ? s->data[at + 1] : '\0';
        at += 2;
        if ((how != 'r' && how != 's') || (at < to && s->data[at] != ':'))
            return jinja_raise(p->r, "bad conversion in format string");
        if (!(how == 'r' ? jinja_repr(p->r, v, &text) : jinja_to_str(p->r, v, &text)))
            return false;
        v = jinja_of_str(text);
    }
    const struct jinja_str *spec = jinja_str_sub(p->r, s, at < to ? at + 1 : to, to);
    struct jinja_buf expanded;
    jinja_buf_init(&expanded, p->r);
    if (!spec || !expand(p, spec, depth + 1, &expanded) || !jinja_buf_finish(&expanded, &spec))
        return false;
    return jinja_format_spec(p->r, v, spec, b);
}

static bool expand(struct braces *p, const struct jinja_str *s, int depth, struct jinja_buf *b)
{
    if (depth > 1 && memchr(s->data, '{', s->len))
        return jinja_raise(p->r, "Max string recursion exceeded");
    size_t at = 0;
    while (at < s->len) {
        size_t from = at;
        while (at < s->len && s->data[at] != '{' && s->data[at] != '}')
            at++;
        jinja_buf_add(b, s->data + from, at - from, jinja_str_mask_at(s, from));
        if (at == s->len)
            break;
        char c = s->data[at];
        if (at + 1 < s->len && s->data[at + 1] == c) {
            jinja_buf_add(b, s->data + at, 1, jinja_str_mask_at(s, at));
            at += 2;
            continue;
        }
        if (c == '}')
            return jinja_raise(p->r, "Single '}' encountered in format string");
        size_t end = at + 1;
        int open = 1;
        for (; end < s->len; end++) {
            open += s->data[end] == '{' ? 1 : s->data[end] == '}' ? -1 : 0;
            if (open == 0)
                break;
        }
        if (end == s->len)
            return jinja_raise(p->r, "expected '}' before end of string");
        if (!jinja_charge(p->r, 1) || !put_field(p, s, at + 1, end, depth, b))
            return false;
        at = end + 1;
    }
    return !b->failed;
}

bool jinja_format_braces(struct jinja_run *r, const struct jinja_str *format,
                         const struct jinja_args *args, struct jinja_value *out)
{
    struct braces p = {.r = r, .args = args};
    struct jinja_buf b;
    const struct jinja_str *s;
    jinja_buf_init(&b, r);
    if (!jinja_charge_bytes(r, format->len) || !expand(&p, format, 0, &b) ||
        !jinja_buf_finish(&b, &s))
        return false;
    s = jinja_str_markup(r, s, format->markup);
    if (!s)
        return false;
    *out = jinja_of_str(s);
    return true;
}
