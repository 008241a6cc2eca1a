/* Numbers and the % operator; str.format is in jinja_format_braces.c. */
#include "engine/text/jinja_format.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/utf8.h"
#include "engine/text/jinja_dict.h"
#include "engine/text/jinja_ops.h"
#include "engine/text/jinja_print.h"
#include "engine/text/jinja_text.h"

/* Keeps every number within jinja_number_text. */
#define PRECISION_MAX 100
/* What a width may ask for: more has no use and eats the memory budget. */
#define WIDTH_MAX 65536

static void binary_text(uint64_t v, struct jinja_number_text *out)
{
    size_t bits = 1;
    while (bits < 64 && v >> bits)
        bits++;
    for (size_t i = 0; i < bits; i++)
        out->text[i] = (char)('0' + (v >> (bits - 1 - i) & 1));
    out->text[bits] = '\0';
}

static bool integer_text(struct jinja_run *r, struct jinja_value v, char type,
                         struct jinja_number_text *out)
{
    int64_t i;
    if (v.type == JINJA_FLOAT && type == 'd') {
        if (!isfinite(v.f) || fabs(v.f) >= 9.2e18)
            return jinja_raise(r, "cannot convert float to integer");
        i = (int64_t)v.f;
    } else if (!jinja_as_index(v, &i)) {
        return jinja_raise_type(r, v, "%%%c format: an integer is required, not %s", type,
                                jinja_type_name(v));
    }
    out->minus = i < 0;
    uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    if (type == 'b')
        binary_text(u, out);
    else
        snprintf(out->text, sizeof out->text,
                 type == 'x'   ? "%" PRIx64
                 : type == 'X' ? "%" PRIX64
                 : type == 'o' ? "%" PRIo64
                               : "%" PRIu64,
                 u);
    return true;
}

bool jinja_format_number(struct jinja_run *r, struct jinja_value v, char type, int precision,
                         bool alternate, struct jinja_number_text *out)
{
    out->minus = false;
    if (precision > PRECISION_MAX)
        return jinja_raise(r, "precision too large");
    if (strchr("dxXob", type)) {
        if (!integer_text(r, v, type, out))
            return false;
    } else {
        if (!jinja_is_number(v))
            return jinja_raise_type(r, v, "must be real number, not %s", jinja_type_name(v));
        double f = jinja_as_double(v);
        char format[12];
        out->minus = signbit(f) && !isnan(f);
        bool lower = type == 'e' || type == 'f' || type == 'g';
        if (!isfinite(f)) {
            snprintf(out->text, sizeof out->text, "%s",
                     isnan(f) ? (lower ? "nan" : "NAN") : (lower ? "inf" : "INF"));
        } else {
            snprintf(format, sizeof format, "%%%s.*%c", alternate ? "#" : "", type);
            snprintf(out->text, sizeof out->text, format, precision < 0 ? 6 : precision, fabs(f));
        }
    }
    out->len = strlen(out->text);
    return true;
}

/* One conversion of a % format. */
struct conversion {
    bool left, plus, space, zero, alternate;
    int64_t width;
    int64_t precision; /* -1: none */
    char type;
};

struct percent {
    struct jinja_run *r;
    const struct jinja_str *format;
    size_t at;
    struct jinja_value arg;
    size_t used; /* arguments taken */
    struct jinja_buf b;
};

static bool incomplete(struct percent *p)
{
    return jinja_raise(p->r, "incomplete format");
}

static bool next_arg(struct percent *p, struct jinja_value *out)
{
    bool tuple = p->arg.type == JINJA_TUPLE;
    size_t count = tuple ? p->arg.seq->count : 1;
    if (p->used >= count)
        return jinja_raise(p->r, "not enough arguments for format string");
    *out = tuple ? p->arg.seq->items[p->used] : p->arg;
    p->used++;
    return true;
}

/* "(name)" at the position: its value of the mapping. */
static bool mapped_arg(struct percent *p, struct jinja_value *out)
{
    const struct jinja_str *f = p->format;
    size_t from = ++p->at;
    int depth = 1;
    for (; p->at < f->len; p->at++) {
        depth += f->data[p->at] == '(' ? 1 : f->data[p->at] == ')' ? -1 : 0;
        if (depth == 0)
            break;
    }
    if (p->at == f->len)
        return jinja_raise(p->r, "incomplete format key");
    const struct jinja_str *key = jinja_str_sub(p->r, f, from, p->at++);
    const struct jinja_value *v;
    if (p->arg.type != JINJA_DICT)
        return jinja_raise_type(p->r, p->arg, "format requires a mapping");
    if (!key || !jinja_dict_get(p->r, p->arg.dict, jinja_of_str(key), &v))
        return false;
    if (!v)
        return jinja_raise(p->r, "format key '%.*s' is missing",
                           (int)(key->len < 64 ? key->len : 64), key->data);
    *out = *v;
    return true;
}

/* Digits or "*". */
static bool read_count(struct percent *p, int64_t *out)
{
    const struct jinja_str *f = p->format;
    *out = 0;
    if (p->at < f->len && f->data[p->at] == '*') {
        struct jinja_value v;
        p->at++;
        if (!next_arg(p, &v))
            return false;
        if (!jinja_as_index(v, out))
            return jinja_raise(p->r, "* wants int");
    } else {
        for (; p->at < f->len && f->data[p->at] >= '0' && f->data[p->at] <= '9'; p->at++) {
            if (*out <= WIDTH_MAX)
                *out = *out * 10 + (f->data[p->at] - '0');
        }
    }
    if (*out > WIDTH_MAX || *out < -WIDTH_MAX)
        return jinja_raise(p->r, "format width or precision over %d", WIDTH_MAX);
    return true;
}

static bool read_flags(struct percent *p, struct conversion *c)
{
    const struct jinja_str *f = p->format;
    *c = (struct conversion){.precision = -1};
    for (; p->at < f->len; p->at++) {
        char x = f->data[p->at];
        if (x == '-')
            c->left = true;
        else if (x == '+')
            c->plus = true;
        else if (x == ' ')
            c->space = true;
        else if (x == '0')
            c->zero = true;
        else if (x == '#')
            c->alternate = true;
        else
            break;
    }
    if (!read_count(p, &c->width))
        return false;
    if (c->width < 0) {
        c->left = true;
        c->width = -c->width;
    }
    if (p->at < f->len && f->data[p->at] == '.') {
        p->at++;
        if (!read_count(p, &c->precision))
            return false;
        if (c->precision < 0)
            c->precision = 0;
    }
    while (p->at < f->len && strchr("hlL", f->data[p->at]))
        p->at++;
    if (p->at >= f->len)
        return incomplete(p);
    c->type = f->data[p->at++];
    return true;
}

static bool put_padded(struct percent *p, const struct conversion *c, const struct jinja_str *s)
{
    if (!jinja_text_pad(p->r, s, c->width, NULL, c->left ? JINJA_ALIGN_LEFT : JINJA_ALIGN_RIGHT,
                        &s))
        return false;
    jinja_buf_str(&p->b, s);
    return !p->b.failed;
}

static bool put_string(struct percent *p, const struct conversion *c, struct jinja_value v)
{
    const struct jinja_str *s;
    if (!(c->type == 's' ? jinja_to_str(p->r, v, &s) : jinja_repr(p->r, v, &s)))
        return false;
    if (p->format->markup && !(v.type == JINJA_STR && v.s->markup) &&
        !jinja_escape_force(p->r, s, &s))
        return false;
    if (c->precision >= 0 && (size_t)c->precision < jinja_str_cps(s))
        s = jinja_str_sub(p->r, s, 0, jinja_str_offset(s, (size_t)c->precision));
    return s && put_padded(p, c, s);
}

static bool put_char(struct percent *p, const struct conversion *c, struct jinja_value v)
{
    int64_t i;
    const struct jinja_str *s = v.s;
    if (jinja_as_index(v, &i)) {
        if (i < 0 || i > 0x10FFFF || (i >= 0xD800 && i <= 0xDFFF))
            return jinja_raise(p->r, "%%c arg not in range(0x110000)");
        struct jinja_buf b;
        jinja_buf_init(&b, p->r);
        jinja_buf_cp(&b, (uint32_t)i, v.input);
        if (!jinja_buf_finish(&b, &s))
            return false;
    } else if (v.type != JINJA_STR || jinja_str_cps(v.s) != 1) {
        return jinja_raise_type(p->r, v, "%%c requires int or char");
    }
    return put_padded(p, c, s);
}

static bool put_number(struct percent *p, const struct conversion *c, struct jinja_value v)
{
    struct jinja_number_text n;
    char type = c->type == 'i' || c->type == 'u' ? 'd' : c->type;
    bool whole = strchr("dxXo", type) != NULL;
    if (!whole && c->precision > PRECISION_MAX)
        return jinja_raise(p->r, "precision too large");
    if (!jinja_format_number(p->r, v, type, whole ? 0 : (int)c->precision, c->alternate, &n))
        return false;
    char prefix[4] = "";
    size_t k = 0;
    if (n.minus || c->plus || c->space)
        prefix[k++] = n.minus ? '-' : c->plus ? '+' : ' ';
    if (c->alternate && whole && type != 'd') {
        prefix[k++] = '0';
        prefix[k++] = type;
    }
    int64_t zeros = whole ? c->precision - (int64_t)n.len : 0;
    if (c->zero && !c->left && zeros < c->width - (int64_t)(k + n.len))
        zeros = c->width - (int64_t)(k + n.len);
    if (zeros < 0)
        zeros = 0;
    struct jinja_buf b;
    const struct jinja_str *s;
    const uint8_t *mask = v.input ? JINJA_FROM_INPUT : JINJA_FROM_TEMPLATE;
    jinja_buf_init(&b, p->r);
    jinja_buf_add(&b, prefix, k, mask);
    jinja_buf_fill(&b, '0', (size_t)zeros);
    jinja_buf_add(&b, n.text, n.len, mask);
    return jinja_buf_finish(&b, &s) && put_padded(p, c, s);
}

/* At the "%". */
static bool put_conversion(struct percent *p)
{
    struct conversion c;
    struct jinja_value v = {.type = JINJA_MISSING};
    size_t begin = p->at++;
    if (p->at >= p->format->len)
        return incomplete(p);
    if (p->format->data[p->at] == '(' && !mapped_arg(p, &v))
        return false;
    if (!read_flags(p, &c) || !jinja_charge(p->r, 1))
        return false;
    /* "%%" stands for itself; with anything in between it takes an argument and drops it */
    bool percent = c.type == '%';
    if (percent && p->at - begin > 2 && v.type == JINJA_MISSING && !next_arg(p, &v))
        return false;
    if (percent) {
        jinja_buf_puts(&p->b, "%");
        return !p->b.failed;
    }
    if (!strchr("srdiuxXoeEfFgGc", c.type) || c.type == '\0')
        return jinja_raise(p->r, "unsupported format character '%c'", c.type);
    if (v.type == JINJA_MISSING && !next_arg(p, &v))
        return false;
    if (c.type == 's' || c.type == 'r')
        return put_string(p, &c, v);
    return c.type == 'c' ? put_char(p, &c, v) : put_number(p, &c, v);
}

bool jinja_format_percent(struct jinja_run *r, const struct jinja_str *format,
                          struct jinja_value arg, struct jinja_value *out)
{
    struct percent p = {.r = r, .format = format, .arg = arg};
    jinja_buf_init(&p.b, r);
    if (!jinja_charge_bytes(r, format->len))
        return false;
    while (p.at < format->len) {
        const char *mark = memchr(format->data + p.at, '%', format->len - p.at);
        size_t to = mark ? (size_t)(mark - format->data) : format->len;
        jinja_buf_add(&p.b, format->data + p.at, to - p.at, jinja_str_mask_at(format, p.at));
        p.at = to;
        if (mark && !put_conversion(&p))
            return false;
    }
    bool mapping = arg.type == JINJA_DICT || arg.type == JINJA_LIST || arg.type == JINJA_RANGE ||
                   arg.type == JINJA_UNDEFINED;
    size_t count = arg.type == JINJA_TUPLE ? arg.seq->count : 1;
    if (!mapping && p.used < count)
        return jinja_raise(r, "not all arguments converted during string formatting");
    const struct jinja_str *s;
    if (!jinja_buf_finish(&p.b, &s))
        return false;
    s = jinja_str_markup(r, s, format->markup);
    if (!s)
        return false;
    *out = jinja_of_str(s);
    return true;
}
