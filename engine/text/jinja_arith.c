/* The arithmetic half of jinja_ops.h. Integers are 64 bits: where Python would go on with a larger
 * one, the render ends with an error that says so. */
#include "engine/text/jinja_ops.h"

#include <math.h>

#include "engine/base/checked.h"
#include "engine/text/jinja_dict.h"
#include "engine/text/jinja_format.h"
#include "engine/text/jinja_print.h"

static const char *op_word(enum jinja_op op)
{
    static const char *const words[] = {
        [JINJA_ADD] = "+",       [JINJA_SUB] = "-", [JINJA_MUL] = "*",  [JINJA_DIV] = "/",
        [JINJA_FLOORDIV] = "//", [JINJA_MOD] = "%", [JINJA_POW] = "**",
    };
    return words[op];
}

static bool too_big(struct jinja_run *r)
{
    return jinja_raise(r, "integer beyond 64 bits");
}

static bool zero_division(struct jinja_run *r)
{
    return jinja_raise(r, "division by zero");
}

/* Rounds to minus infinity. b is not 0. */
static int64_t floor_div(int64_t a, int64_t b)
{
    int64_t q = a / b;
    return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

static int64_t floor_mod(int64_t a, int64_t b)
{
    int64_t m = a % b;
    return m != 0 && (m < 0) != (b < 0) ? m + b : m;
}

/* Doubles hold both operands of nearly every division; the others are rounded twice. */
static double true_div(int64_t a, int64_t b)
{
    const int64_t exact = (int64_t)1 << 53;
    if (a >= -exact && a <= exact && b >= -exact && b <= exact)
        return (double)a / (double)b;
    return (double)((long double)a / (long double)b);
}

static bool int_pow(struct jinja_run *r, int64_t base, int64_t exponent, struct jinja_value *out)
{
    int64_t result = 1;
    while (exponent > 0) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result))
            return too_big(r);
        exponent >>= 1;
        if (exponent > 0 && __builtin_mul_overflow(base, base, &base))
            return too_big(r);
    }
    *out = jinja_int(result);
    return true;
}

static bool float_pow(struct jinja_run *r, double a, double b, struct jinja_value *out)
{
    if (a == 0 && b < 0)
        return jinja_raise(r, "0.0 cannot be raised to a negative power");
    if (a < 0 && b != floor(b) && isfinite(a) && isfinite(b))
        return jinja_raise(r, "complex numbers are not supported");
    double v = pow(a, b);
    if (isinf(v) && isfinite(a) && isfinite(b))
        return jinja_raise(r, "Numerical result out of range");
    *out = jinja_float(v);
    return true;
}

static bool int_arith(struct jinja_run *r, enum jinja_op op, int64_t a, int64_t b,
                      struct jinja_value *out)
{
    int64_t v = 0;
    bool overflow = false;
    switch (op) {
    case JINJA_ADD:
        overflow = __builtin_add_overflow(a, b, &v);
        break;
    case JINJA_SUB:
        overflow = __builtin_sub_overflow(a, b, &v);
        break;
    case JINJA_MUL:
        overflow = __builtin_mul_overflow(a, b, &v);
        break;
    case JINJA_POW:
        return b >= 0 ? int_pow(r, a, b, out) : float_pow(r, (double)a, (double)b, out);
    default:
        if (b == 0)
            return zero_division(r);
        if (op == JINJA_DIV) {
            *out = jinja_float(true_div(a, b));
            return true;
        }
        if (b != -1)
            v = op == JINJA_FLOORDIV ? floor_div(a, b) : floor_mod(a, b);
        else if (op == JINJA_FLOORDIV)
            overflow = __builtin_sub_overflow((int64_t)0, a, &v);
        break;
    }
    if (overflow)
        return too_big(r);
    *out = jinja_int(v);
    return true;
}

/* Python's divmod of floats: the remainder has the sign of the divisor, the quotient is whole. */
static void float_divmod(double a, double b, double *quotient, double *remainder)
{
    double mod = fmod(a, b);
    double div = (a - mod) / b;
    if (mod != 0) {
        if ((b < 0) != (mod < 0)) {
            mod += b;
            div -= 1;
        }
    } else {
        mod = copysign(0.0, b);
    }
    double whole = copysign(0.0, a / b);
    if (div != 0) {
        whole = floor(div);
        if (div - whole > 0.5)
            whole += 1;
    }
    *quotient = whole;
    *remainder = mod;
}

static bool float_arith(struct jinja_run *r, enum jinja_op op, double a, double b,
                        struct jinja_value *out)
{
    double quotient;
    double remainder;
    switch (op) {
    case JINJA_ADD:
        *out = jinja_float(a + b);
        return true;
    case JINJA_SUB:
        *out = jinja_float(a - b);
        return true;
    case JINJA_MUL:
        *out = jinja_float(a * b);
        return true;
    case JINJA_POW:
        return float_pow(r, a, b, out);
    default:
        break;
    }
    if (b == 0)
        return zero_division(r);
    float_divmod(a, b, &quotient, &remainder);
    *out = jinja_float(op == JINJA_DIV ? a / b : op == JINJA_MOD ? remainder : quotient);
    return true;
}

static bool add_strings(struct jinja_run *r, const struct jinja_str *a, const struct jinja_str *b,
                        struct jinja_value *out)
{
    bool markup = a->markup || b->markup;
    if (markup && (!jinja_escape(r, a, &a) || !jinja_escape(r, b, &b)))
        return false;
    const struct jinja_str *s = jinja_str_concat(r, a, b);
    if (s && markup)
        s = jinja_str_markup(r, s, true);
    if (!s)
        return false;
    *out = jinja_of_str(s);
    return true;
}

static bool add_sequences(struct jinja_run *r, struct jinja_value a, struct jinja_value b,
                          struct jinja_value *out)
{
    size_t count = a.seq->count + b.seq->count;
    if (!jinja_charge(r, count))
        return false;
    struct jinja_value *items = jinja_alloc(r, count, sizeof *items);
    if (!items)
        return false;
    for (size_t i = 0; i < count; i++)
        items[i] = i < a.seq->count ? a.seq->items[i] : b.seq->items[i - a.seq->count];
    return jinja_seq_value(r, a.type, items, count, out);
}

static bool repeat(struct jinja_run *r, struct jinja_value v, int64_t n, struct jinja_value *out)
{
    if (v.type == JINJA_STR) {
        const struct jinja_str *s = jinja_str_repeat(r, v.s, n);
        if (s)
            s = jinja_str_markup(r, s, v.s->markup);
        if (!s)
            return false;
        *out = jinja_of_str(s);
        return true;
    }
    size_t count = 0;
    if (n > 0 && !checked_mul(v.seq->count, (size_t)n, &count))
        count = SIZE_MAX;
    if (!jinja_room(r, count, sizeof(struct jinja_value)) || !jinja_charge(r, count))
        return false;
    struct jinja_value *items = jinja_alloc(r, count, sizeof *items);
    if (!items)
        return false;
    for (size_t i = 0; i < count; i++)
        items[i] = v.seq->items[i % v.seq->count];
    return jinja_seq_value(r, v.type, items, count, out);
}

static bool is_sequence(struct jinja_value v)
{
    return v.type == JINJA_STR || v.type == JINJA_LIST || v.type == JINJA_TUPLE;
}

bool jinja_arith(struct jinja_run *r, enum jinja_op op, struct jinja_value a, struct jinja_value b,
                 struct jinja_value *out)
{
    int64_t x = 0;
    int64_t y = 0;
    if (op == JINJA_MOD && a.type == JINJA_STR)
        return jinja_format_percent(r, a.s, b, out);
    if (jinja_is_number(a) && jinja_is_number(b)) {
        bool whole = jinja_as_index(a, &x) && jinja_as_index(b, &y);
        bool ok = whole ? int_arith(r, op, x, y, out)
                        : float_arith(r, op, jinja_as_double(a), jinja_as_double(b), out);
        if (ok)
            out->input = a.input | b.input;
        return ok;
    }
    if (op == JINJA_ADD && a.type == b.type && is_sequence(a))
        return a.type == JINJA_STR ? add_strings(r, a.s, b.s, out) : add_sequences(r, a, b, out);
    if (op == JINJA_MUL && is_sequence(a) && jinja_as_index(b, &y))
        return repeat(r, a, y, out);
    if (op == JINJA_MUL && is_sequence(b) && jinja_as_index(a, &x))
        return repeat(r, b, x, out);
    if (a.type == JINJA_UNDEFINED)
        return jinja_raise_undefined(r, a);
    if (a.type == JINJA_BIG || b.type == JINJA_BIG)
        return too_big(r);
    return jinja_raise_type(r, b, "unsupported operand type(s) for %s: '%s' and '%s'", op_word(op),
                            jinja_type_name(a), jinja_type_name(b));
}

bool jinja_negate(struct jinja_run *r, struct jinja_value v, bool minus, struct jinja_value *out)
{
    int64_t i;
    if (v.type == JINJA_FLOAT) {
        *out = jinja_float(minus ? -v.f : v.f);
    } else if (jinja_as_index(v, &i)) {
        if (minus && i == INT64_MIN)
            return too_big(r);
        *out = jinja_int(minus ? -i : i);
    } else {
        return jinja_raise_type(r, v, "bad operand type for unary %s: '%s'", minus ? "-" : "+",
                                jinja_type_name(v));
    }
    out->input = v.input;
    return true;
}
