#include "engine/text/jinja_print.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text/jinja_args.h"
#include "engine/text/jinja_char.h"
#include "engine/text/jinja_iter.h"
#include "engine/text/jinja_ops.h"

size_t jinja_float_text(double f, char out[JINJA_FLOAT_MAX])
{
    if (!isfinite(f))
        return (size_t)snprintf(out, JINJA_FLOAT_MAX, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
    char e[32];
    for (int digits = 0; digits <= 16; digits++) {
        snprintf(e, sizeof e, "%.*e", digits, f);
        if (strtod(e, NULL) == f)
            break;
    }
    /* e: [-]d[.ddd]e[+-]xx */
    char *mark = strchr(e, 'e');
    int exponent = (int)strtol(mark + 1, NULL, 10);
    bool minus = e[0] == '-';
    char digits[20];
    int n = 0;
    for (const char *p = e + minus; p < mark; p++) {
        if (*p != '.')
            digits[n++] = *p;
    }
    size_t k = 0;
    if (minus)
        out[k++] = '-';
    if (exponent < -4 || exponent >= 16) {
        out[k++] = digits[0];
        if (n > 1)
            out[k++] = '.';
        for (int i = 1; i < n; i++)
            out[k++] = digits[i];
        return k + (size_t)snprintf(out + k, JINJA_FLOAT_MAX - k, "e%c%02d",
                                    exponent < 0 ? '-' : '+', abs(exponent));
    }
    if (exponent < 0) {
        out[k++] = '0';
        out[k++] = '.';
        for (int i = -1; i > exponent; i--)
            out[k++] = '0';
        for (int i = 0; i < n; i++)
            out[k++] = digits[i];
    } else {
        for (int i = 0; i <= exponent; i++)
            out[k++] = i < n ? digits[i] : '0';
        out[k++] = '.';
        for (int i = exponent + 1; i < n; i++)
            out[k++] = digits[i];
        if (n <= exponent + 1)
            out[k++] = '0';
    }
    out[k] = '\0';
    return k;
}

static bool add_scalar(struct jinja_buf *b, struct jinja_value v)
{
    char text[JINJA_FLOAT_MAX] = "None";
    if (v.type == JINJA_BOOL)
        snprintf(text, sizeof text, "%s", v.b ? "True" : "False");
    else if (v.type == JINJA_INT)
        snprintf(text, sizeof text, "%" PRId64, v.i);
    else if (v.type == JINJA_FLOAT)
        jinja_float_text(v.f, text);
    jinja_buf_add(b, text, strlen(text), v.input ? JINJA_FROM_INPUT : JINJA_FROM_TEMPLATE);
    return !b->failed;
}

/* One code point of a quoted string. */
static void repr_cp(struct jinja_buf *b, uint32_t cp, char quote, const char *text, size_t n,
                    const uint8_t *mask)
{
    char esc[12];
    int w = 0;
    if (cp == (unsigned char)quote || cp == '\\')
        w = snprintf(esc, sizeof esc, "\\%c", (char)cp);
    else if (cp == '\n' || cp == '\r' || cp == '\t')
        w = snprintf(esc, sizeof esc, "\\%c", cp == '\n' ? 'n' : cp == '\r' ? 'r' : 't');
    else if (!jinja_char_is_printable(cp))
        w = snprintf(esc, sizeof esc,
                     cp < 0x100     ? "\\x%02x"
                     : cp < 0x10000 ? "\\u%04x"
                                    : "\\U%08x",
                     cp);
    if (w > 0)
        jinja_buf_add(b, esc, (size_t)w, mask ? JINJA_FROM_INPUT : JINJA_FROM_TEMPLATE);
    else
        jinja_buf_add(b, text, n, mask ? JINJA_FROM_INPUT : JINJA_FROM_TEMPLATE);
}

/* Single quotes unless the text has some and no double ones. */
static bool repr_str(struct jinja_run *r, const struct jinja_str *s, struct jinja_buf *b)
{
    bool single = memchr(s->data, '\'', s->len) != NULL;
    bool both = single && memchr(s->data, '"', s->len) != NULL;
    char quote = single && !both ? '"' : '\'';
    if (!jinja_charge(r, s->len / 64 + 1))
        return false;
    if (s->markup)
        jinja_buf_puts(b, "Markup(");
    jinja_buf_fill(b, quote, 1);
    for (size_t i = 0, n; i < s->len && !b->failed; i += n) {
        uint32_t cp = jinja_str_cp(s, i, &n);
        repr_cp(b, cp, quote, s->data + i, n,
                jinja_str_is_input(s, i) ? JINJA_FROM_INPUT : JINJA_FROM_TEMPLATE);
    }
    jinja_buf_fill(b, quote, 1);
    if (s->markup)
        jinja_buf_puts(b, ")");
    return !b->failed;
}

/* Punctuation of a container counts as input when the container does. */
static void punct(struct jinja_buf *b, const char *s, bool input)
{
    jinja_buf_add(b, s, strlen(s), input ? JINJA_FROM_INPUT : JINJA_FROM_TEMPLATE);
}

static bool repr_seq(struct jinja_run *r, struct jinja_value v, struct jinja_buf *b)
{
    const struct jinja_seq *seq = v.seq;
    bool list = v.type == JINJA_LIST;
    punct(b, list ? "[" : "(", seq->input);
    for (size_t i = 0; i < seq->count; i++) {
        if (i)
            punct(b, ", ", seq->input);
        if (!jinja_print_to(r, seq->items[i], true, b))
            return false;
    }
    punct(b, list ? "]" : seq->count == 1 ? ",)" : ")", seq->input);
    return !b->failed;
}

static bool repr_dict(struct jinja_run *r, const struct jinja_dict *d, struct jinja_buf *b)
{
    punct(b, "{", d->input);
    for (size_t i = 0; i < d->count; i++) {
        if (i)
            punct(b, ", ", d->input);
        if (!jinja_print_to(r, d->entries[i].key, true, b))
            return false;
        punct(b, ": ", d->input);
        if (!jinja_print_to(r, d->entries[i].value, true, b))
            return false;
    }
    punct(b, "}", d->input);
    return !b->failed;
}

static bool repr_view(struct jinja_run *r, struct jinja_value v, struct jinja_buf *b)
{
    const struct jinja_dict *d = v.view->dict;
    punct(b, jinja_type_name(v), false);
    punct(b, "([", d->input);
    for (size_t i = 0; i < d->count; i++) {
        const struct jinja_entry *e = &d->entries[i];
        bool items = v.view->kind == JINJA_VIEW_ITEMS;
        if (i)
            punct(b, ", ", d->input);
        if (items)
            punct(b, "(", d->input);
        if (v.view->kind != JINJA_VIEW_VALUES && !jinja_print_to(r, e->key, true, b))
            return false;
        if (items)
            punct(b, ", ", d->input);
        if (v.view->kind != JINJA_VIEW_KEYS && !jinja_print_to(r, e->value, true, b))
            return false;
        if (items)
            punct(b, ")", d->input);
    }
    punct(b, "])", d->input);
    return !b->failed;
}

static bool print_range(const struct jinja_range *g, struct jinja_buf *b)
{
    char text[96];
    int n = snprintf(text, sizeof text, "range(%" PRId64 ", %" PRId64, g->start, g->stop);
    if (g->step != 1)
        snprintf(text + n, sizeof text - (size_t)n, ", %" PRId64, g->step);
    jinja_buf_puts(b, text);
    jinja_buf_puts(b, ")");
    return !b->failed;
}

/* Objects that Python shows with an address have none here. */
static bool print_object(struct jinja_run *r, struct jinja_value v, struct jinja_buf *b)
{
    if (v.type == JINJA_NAMESPACE) {
        jinja_buf_puts(b, "<Namespace ");
        if (!repr_dict(r, v.ns, b))
            return false;
        jinja_buf_puts(b, ">");
        return !b->failed;
    }
    if (v.type == JINJA_LOOP) {
        char text[64];
        size_t length;
        if (!jinja_loop_length(r, v.loop, &length))
            return false;
        snprintf(text, sizeof text, "<LoopContext %" PRId64 "/%zu>", v.loop->index0 + 1, length);
        jinja_buf_puts(b, text);
        return !b->failed;
    }
    jinja_buf_puts(b, "<");
    jinja_buf_puts(b, jinja_type_name(v));
    if (v.type == JINJA_FUNCTION || v.type == JINJA_METHOD) {
        jinja_buf_puts(b, " ");
        jinja_buf_puts(b, v.type == JINJA_FUNCTION ? v.function->name : v.method->fn->name);
    }
    jinja_buf_puts(b, ">");
    return !b->failed;
}

static bool print_nested(struct jinja_run *r, struct jinja_value v, struct jinja_buf *b)
{
    switch ((enum jinja_type)v.type) {
    case JINJA_LIST:
    case JINJA_TUPLE:
        return repr_seq(r, v, b);
    case JINJA_DICT:
        return repr_dict(r, v.dict, b);
    case JINJA_VIEW:
        return repr_view(r, v, b);
    case JINJA_RANGE:
        return print_range(v.range, b);
    default:
        return print_object(r, v, b);
    }
}

bool jinja_print_to(struct jinja_run *r, struct jinja_value v, bool repr, struct jinja_buf *b)
{
    switch ((enum jinja_type)v.type) {
    case JINJA_MISSING:
    case JINJA_UNDEFINED:
        if (repr)
            jinja_buf_puts(b, "Undefined");
        return !b->failed;
    case JINJA_NONE:
    case JINJA_BOOL:
    case JINJA_INT:
    case JINJA_FLOAT:
        return jinja_charge(r, 1) && add_scalar(b, v);
    case JINJA_STR:
        if (repr)
            return repr_str(r, v.s, b);
        jinja_buf_str(b, v.s);
        return !b->failed && jinja_charge_bytes(r, v.s->len);
    case JINJA_BIG:
        jinja_buf_str(b, v.s);
        return !b->failed;
    default:
        break;
    }
    if (!jinja_descend(r) || !print_nested(r, v, b))
        return false;
    r->value_depth--;
    return true;
}

static bool print_value(struct jinja_run *r, struct jinja_value v, bool repr,
                        const struct jinja_str **out)
{
    struct jinja_buf b;
    jinja_buf_init(&b, r);
    return jinja_print_to(r, v, repr, &b) && jinja_buf_finish(&b, out);
}

bool jinja_to_str(struct jinja_run *r, struct jinja_value v, const struct jinja_str **out)
{
    if (v.type == JINJA_STR) {
        *out = jinja_str_markup(r, v.s, false);
        return *out != NULL;
    }
    return print_value(r, v, false, out);
}

bool jinja_repr(struct jinja_run *r, struct jinja_value v, const struct jinja_str **out)
{
    return print_value(r, v, true, out);
}

static const char *entity(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&#34;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

bool jinja_escape_force(struct jinja_run *r, const struct jinja_str *s,
                        const struct jinja_str **out)
{
    struct jinja_buf b;
    jinja_buf_init(&b, r);
    if (!jinja_charge_bytes(r, s->len))
        return false;
    size_t plain = 0;
    for (size_t i = 0; i < s->len; i++) {
        const char *e = entity(s->data[i]);
        if (!e)
            continue;
        jinja_buf_add(&b, s->data + plain, i - plain, jinja_str_mask_at(s, plain));
        jinja_buf_add(&b, e, strlen(e),
                      jinja_str_is_input(s, i) ? JINJA_FROM_INPUT : JINJA_FROM_TEMPLATE);
        plain = i + 1;
    }
    jinja_buf_add(&b, s->data + plain, s->len - plain, jinja_str_mask_at(s, plain));
    if (!jinja_buf_finish(&b, out))
        return false;
    *out = jinja_str_markup(r, *out, true);
    return *out != NULL;
}

bool jinja_escape(struct jinja_run *r, const struct jinja_str *s, const struct jinja_str **out)
{
    *out = s;
    return s->markup || jinja_escape_force(r, s, out);
}
