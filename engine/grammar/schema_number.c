/* Numbers: bounds and multiples as automata over the digits of decimal notation.
 *
 * A number with bounds is written without an exponent: sign, integer part, fraction. Bounds of a
 * negative number are bounds of its magnitude the other way round. A magnitude is compared with a
 * bound digit by digit: a longer integer part is larger, of equally long ones the first differing
 * digit decides, then the fraction, as if it went on with zeros. */
#include "engine/grammar/schema_parts.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/grammar/regular_build.h"

#define INT_DIGITS  20 /* of a number without bounds on this side */
#define FRAC_DIGITS 20
/* Digits with which decimals near a bound are still different doubles to those who read them. */
#define EXACT_DIGITS 15
#define EXACT_MAX    9007199254740992.0 /* 2^53 */

/* A bound on numbers; `inf`: none on this side. */
struct bound {
    double v;
    bool inf, open; /* open: v itself is outside */
};

struct number_bounds {
    struct bound lo, hi;
    double multiples[16];
    size_t multiples_count;
};

/* A magnitude as decimal digits: no leading zeros but a single 0, no trailing ones behind. */
struct decimal {
    char whole[330], frac[350];
    bool open;
};

void schema_number_text(const cJSON *value, char out[64])
{
    int64_t v;
    if (json_int64(value, &v) && !json_is_float(value)) {
        snprintf(out, 64, "%" PRId64, v);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, 64, "%.*g", digits, value->valuedouble);
        if (strtod(out, NULL) == value->valuedouble)
            break;
    }
    if (!strpbrk(out, ".e"))
        snprintf(out + strlen(out), 8, ".0");
}

/* `inwards` (+1 a lower bound, -1 an upper one, 0 none): beyond 2^53 a double may stand for an
 * integer beside the one that was written, and one step further is on the safe side. */
static bool get_number(struct schema_ctx *c, const cJSON *node, const char *key, int inwards,
                       double *out)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(node, key);
    int64_t exact;
    if (!v)
        return false;
    if (!cJSON_IsNumber(v)) {
        schema_fail(c, STATUS_INVALID, node, key, "must be a number");
        return false;
    }
    *out = v->valuedouble;
    bool rough = fabs(*out) > EXACT_MAX &&
                 !(fabs(*out) < 1e18 && json_int64(v, &exact) && (int64_t)*out == exact);
    if (inwards && rough)
        *out = nextafter(*out, inwards * INFINITY);
    return true;
}

static void raise_to(struct bound *lo, double v, bool open)
{
    if (lo->inf || v > lo->v || (v == lo->v && open))
        *lo = (struct bound){v, false, open};
}

static void lower_to(struct bound *hi, double v, bool open)
{
    if (hi->inf || v < hi->v || (v == hi->v && open))
        *hi = (struct bound){v, false, open};
}

static bool bounds_of(struct schema_ctx *c, const struct schema_part *plain, size_t n,
                      struct number_bounds *b)
{
    *b = (struct number_bounds){.lo = {.inf = true}, .hi = {.inf = true}};
    for (size_t i = 0; i < n; i++) {
        const cJSON *node = plain[i].node;
        double v;
        /* Draft 4 has exclusiveMinimum as a switch of minimum. */
        const cJSON *below = cJSON_GetObjectItemCaseSensitive(node, "exclusiveMinimum");
        const cJSON *above = cJSON_GetObjectItemCaseSensitive(node, "exclusiveMaximum");
        if (get_number(c, node, "minimum", 1, &v))
            raise_to(&b->lo, v, cJSON_IsTrue(below));
        if (get_number(c, node, "maximum", -1, &v))
            lower_to(&b->hi, v, cJSON_IsTrue(above));
        if (!cJSON_IsBool(below) && get_number(c, node, "exclusiveMinimum", 1, &v))
            raise_to(&b->lo, v, true);
        if (!cJSON_IsBool(above) && get_number(c, node, "exclusiveMaximum", -1, &v))
            lower_to(&b->hi, v, true);
        if (!get_number(c, node, "multipleOf", 0, &v))
            continue;
        if (!(v > 0))
            schema_fail(c, STATUS_INVALID, node, "multipleOf", "must be above 0");
        else if (b->multiples_count >= sizeof b->multiples / sizeof *b->multiples)
            schema_fail(c, STATUS_LIMIT, node, "multipleOf", "too many of them for one value");
        else
            b->multiples[b->multiples_count++] = v;
    }
    return !grammar_build_failed(c->b);
}

/* --- digits ----------------------------------------------------------------------------------- */

static uint32_t digit(struct regular *r, char lo, char hi)
{
    return lo > hi ? REGULAR_NONE : regular_range(r, (uint32_t)lo, (uint32_t)hi);
}

static uint32_t some_digits(struct regular *r, int32_t min, int32_t max)
{
    return regular_repeat(r, digit(r, '0', '9'), min, max);
}

/* Integer parts of `min` to `max` digits without leading zeros. */
static uint32_t whole_digits(struct regular *r, int32_t min, int32_t max)
{
    uint32_t out = REGULAR_NONE;
    if (min > max)
        return out;
    if (max > 0)
        out = regular_cat(r, digit(r, '1', '9'), some_digits(r, min > 1 ? min - 1 : 0, max - 1));
    return min <= 1 ? regular_or(r, out, digit(r, '0', '0')) : out;
}

/* Digits as long as d that are above it (`up`) or below, in their first difference. */
static uint32_t differs(struct regular *r, const char *d, bool up)
{
    size_t n = strlen(d);
    uint32_t out = REGULAR_NONE;
    for (size_t i = n; i-- > 0;) {
        uint32_t step = up ? digit(r, (char)(d[i] + 1), '9') : digit(r, '0', (char)(d[i] - 1));
        uint32_t rest = some_digits(r, (int32_t)(n - i - 1), (int32_t)(n - i - 1));
        out = regular_or(r, regular_cat(r, step, rest), regular_cat(r, digit(r, d[i], d[i]), out));
    }
    return out;
}

/* Integer parts above (`up`) or below d. */
static uint32_t whole_beyond(struct regular *r, const char *d, bool up)
{
    int32_t n = (int32_t)strlen(d);
    int32_t longest = n > INT_DIGITS ? n : INT_DIGITS;
    uint32_t same = regular_and(r, differs(r, d, up), whole_digits(r, n, n));
    return regular_or(r, same, up ? whole_digits(r, n + 1, longest) : whole_digits(r, 1, n - 1));
}

/* Fractions (with their point, or empty) that lie at or above (`up`) or below d's; d itself only
 * when it is not open. */
static uint32_t frac_beyond(struct regular *r, const struct decimal *d, bool up)
{
    size_t n = strlen(d->frac);
    uint32_t zeros = regular_repeat(r, digit(r, '0', '0'), 0, REGULAR_NO_MAX);
    uint32_t any = some_digits(r, 0, REGULAR_NO_MAX);
    uint32_t out;
    if (up)
        out = d->open ? regular_cat(r, zeros, regular_cat(r, digit(r, '1', '9'), any)) : any;
    else
        out = d->open ? REGULAR_NONE : zeros;
    for (size_t i = n; i-- > 0;) {
        char x = d->frac[i];
        uint32_t step = up ? digit(r, (char)(x + 1), '9') : digit(r, '0', (char)(x - 1));
        out = regular_or(r, regular_cat(r, step, any), regular_cat(r, digit(r, x, x), out));
        if (!up) /* ending here is as zeros, and d goes on */
            out = regular_or(r, out, REGULAR_EMPTY);
    }
    uint32_t none = up ? (n == 0 && !d->open) : (n > 0 || !d->open);
    out = regular_cat(r, digit(r, '.', '.'), out);
    return none ? regular_or(r, out, REGULAR_EMPTY) : out;
}

static uint32_t fraction(struct regular *r, int32_t max)
{
    if (max < 1)
        return REGULAR_EMPTY;
    uint32_t frac = regular_cat(r, digit(r, '.', '.'), some_digits(r, 1, max));
    return regular_repeat(r, frac, 0, 1);
}

/* Magnitudes on this side of d. */
static uint32_t beyond(struct regular *r, const struct decimal *d, bool up, int32_t frac_max)
{
    uint32_t far = regular_cat(r, whole_beyond(r, d->whole, up), fraction(r, frac_max));
    uint32_t near =
        regular_cat(r, regular_literal(r, d->whole, strlen(d->whole)), frac_beyond(r, d, up));
    return regular_or(r, far, near);
}

/* v >= 0 */
static void to_decimal(double v, bool open, struct decimal *d)
{
    char text[40];
    d->open = open;
    d->frac[0] = '\0';
    if (v == floor(v) && v < 1e18) {
        snprintf(d->whole, sizeof d->whole, "%.0f", fabs(v)); /* -0 is 0 */
        return;
    }
    for (int digits = 14; digits <= 16; digits++) {
        snprintf(text, sizeof text, "%.*e", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    /* d.ddde[+-]xx: the digits without their point, and where it belongs. */
    char all[32];
    size_t n = 0;
    char *exp = strchr(text, 'e');
    long point = 1 + strtol(exp + 1, NULL, 10);
    for (char *p = text; p < exp; p++)
        if (*p != '.')
            all[n++] = *p;
    while (n > 0 && all[n - 1] == '0')
        n--;
    size_t w = 0, f = 0;
    for (long i = 0; i < point; i++)
        d->whole[w++] = i < (long)n ? all[i] : '0';
    if (point <= 0 || n == 0) {
        w = 0;
        d->whole[w++] = '0';
    }
    for (long i = point; i < (long)n; i++)
        d->frac[f++] = i < 0 ? '0' : all[i];
    d->whole[w] = d->frac[f] = '\0';
}

/* Magnitudes (with their fraction) between lo and hi, which is above 0. */
static uint32_t magnitudes(struct regular *r, struct bound lo, struct bound hi, int32_t frac_max)
{
    struct decimal d;
    uint32_t out = regular_cat(r, whole_digits(r, 1, 330), fraction(r, frac_max));
    if (hi.inf)
        out = regular_cat(r, whole_digits(r, 1, INT_DIGITS), fraction(r, frac_max));
    else if (hi.v < 0 || (hi.v == 0 && hi.open))
        return REGULAR_NONE;
    if (!hi.inf) {
        to_decimal(hi.v, hi.open, &d);
        out = regular_and(r, out, beyond(r, &d, false, frac_max));
    }
    if (!lo.inf && (lo.v > 0 || (lo.v == 0 && lo.open))) {
        to_decimal(lo.v, lo.open, &d);
        out = regular_and(r, out, beyond(r, &d, true, frac_max));
    }
    return out;
}

/* --- expressions ------------------------------------------------------------------------------ */

/* How many digits a fraction may have: a bound that is open must not be reached by rounding, and
 * multipleOf 0.01 says two. */
static int32_t frac_digits(const struct number_bounds *b, int types)
{
    int32_t max = types & TYPE_FRACTION ? FRAC_DIGITS : 0;
    const struct bound *sides[] = {&b->lo, &b->hi};
    for (size_t i = 0; i < 2 && max; i++) {
        struct decimal d;
        if (sides[i]->inf)
            continue;
        to_decimal(fabs(sides[i]->v), false, &d);
        int32_t own = (int32_t)strlen(d.frac);
        int32_t exact = EXACT_DIGITS - (int32_t)strlen(d.whole);
        exact = exact < 1 ? 1 : exact;
        exact = exact < own ? own : exact;
        max = exact < max ? exact : max;
    }
    return max;
}

/* The digits behind the point that multiples of v = 10^-k have: k, or -1. */
static int32_t decimal_places(double v)
{
    static const double places[] = {1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9};
    for (int32_t k = 0; k < 10; k++)
        if (v == places[k])
            return k;
    return -1;
}

/* Integers between the bounds, as whole digits of their magnitudes; the bounds themselves count in
 * now. */
static void whole_bounds(struct number_bounds *b)
{
    if (!b->lo.inf) {
        double v = ceil(b->lo.v);
        b->lo = (struct bound){v == b->lo.v && b->lo.open ? v + 1 : v, false, false};
    }
    if (!b->hi.inf) {
        double v = floor(b->hi.v);
        b->hi = (struct bound){v == b->hi.v && b->hi.open ? v - 1 : v, false, false};
    }
}

static int plain_number(struct schema_ctx *c, int types)
{
    int *rule = types == TYPE_INTEGER ? &c->integer_rule : &c->number_rule;
    if (*rule >= 0)
        return grammar_build_ref(c->b, *rule);
    *rule = grammar_build_rule(c->b, types == TYPE_INTEGER ? "integer" : "number");
    int ten = grammar_build_byte(c->b, '0', '9');
    int some = grammar_build_seq2(c->b, grammar_build_byte(c->b, '1', '9'),
                                  grammar_build_repeat(c->b, ten, 0, INT_DIGITS - 1));
    int minus = grammar_build_text(c->b, "-");
    int zero = grammar_build_text(c->b, "0");
    if (types == TYPE_INTEGER) {
        int signed_one = grammar_build_seq2(c->b, grammar_build_optional(c->b, minus), some);
        grammar_build_define(c->b, *rule, grammar_build_alt2(c->b, zero, signed_one));
        return grammar_build_ref(c->b, *rule);
    }
    int frac = grammar_build_seq2(c->b, grammar_build_text(c->b, "."),
                                  grammar_build_repeat(c->b, ten, 1, FRAC_DIGITS));
    struct grammar_range e[] = {{'E', 'E'}, {'e', 'e'}}, sign[] = {{'+', '+'}, {'-', '-'}};
    int exp[] = {grammar_build_chars(c->b, e, 2, false),
                 grammar_build_optional(c->b, grammar_build_chars(c->b, sign, 2, false)),
                 grammar_build_repeat(c->b, ten, 1, 2)};
    int all[] = {grammar_build_optional(c->b, minus), grammar_build_alt2(c->b, zero, some),
                 grammar_build_optional(c->b, frac),
                 grammar_build_optional(c->b, grammar_build_seq(c->b, exp, 3))};
    grammar_build_define(c->b, *rule, grammar_build_seq(c->b, all, 4));
    return grammar_build_ref(c->b, *rule);
}

/* The multiples as languages of magnitudes; what they mean for fractions into *frac_max. */
static uint32_t multiples(struct schema_ctx *c, const struct schema_part *plain, size_t n,
                          const struct number_bounds *b, int32_t *frac_max)
{
    uint32_t lang = REGULAR_ALL;
    for (size_t i = 0; i < b->multiples_count; i++) {
        double v = b->multiples[i];
        int32_t places = decimal_places(v);
        if (v == floor(v) && v <= 2147483647.0) {
            if (v > 1)
                lang = regular_and(c->r, lang, regular_multiple(c->r, (uint32_t)v, 0));
            *frac_max = 0;
        } else if (places >= 0) {
            *frac_max = places < *frac_max ? places : *frac_max;
        } else {
            for (size_t k = 0; k < n; k++)
                if (cJSON_GetObjectItemCaseSensitive(plain[k].node, "multipleOf"))
                    schema_fail(c, STATUS_UNSUPPORTED, plain[k].node, "multipleOf",
                                "is supported for integers up to 2147483647 and for 0.1, 0.01, "
                                "... 1e-9");
        }
    }
    return lang;
}

int schema_number(struct schema_ctx *c, const struct schema_part *plain, size_t n, int types)
{
    struct number_bounds b;
    if (!bounds_of(c, plain, n, &b))
        return -1;
    if (b.lo.inf && b.hi.inf && !b.multiples_count)
        return plain_number(c, types);
    int32_t frac_max = frac_digits(&b, types);
    uint32_t multiple = multiples(c, plain, n, &b, &frac_max);
    if (grammar_build_failed(c->b))
        return -1;
    if (!frac_max)
        whole_bounds(&b);
    struct regular *r = c->r;
    struct bound lo = {-b.hi.v, b.hi.inf, b.hi.open}, hi = {-b.lo.v, b.lo.inf, b.lo.open};
    uint32_t above = regular_and(r, magnitudes(r, b.lo, b.hi, frac_max), multiple);
    uint32_t below = regular_and(r, magnitudes(r, lo, hi, frac_max), multiple);
    uint32_t lang = regular_or(r, above, regular_cat(r, digit(r, '-', '-'), below));
    if (!frac_max) /* an integer 0 has no sign */
        lang = regular_and(r, lang, regular_not(r, regular_literal(r, "-0", 2)));
    struct err e;
    int out;
    if (regular_build(c->b, r, regular_frame(r, lang), REGULAR_RAW, -1, "number", &out, &e) !=
        STATUS_OK)
        return schema_fail_at(c, &e, plain[0].node, b.multiples_count ? "multipleOf" : NULL);
    return out;
}

bool schema_number_allows(struct schema_ctx *c, const struct schema_part *plain, size_t n,
                          const cJSON *value)
{
    struct number_bounds b;
    double v = value->valuedouble;
    if (!bounds_of(c, plain, n, &b))
        return false;
    if (!b.lo.inf && (v < b.lo.v || (v == b.lo.v && b.lo.open)))
        return false;
    if (!b.hi.inf && (v > b.hi.v || (v == b.hi.v && b.hi.open)))
        return false;
    for (size_t i = 0; i < b.multiples_count; i++)
        if (fmod(v, b.multiples[i]) != 0)
            return false;
    return true;
}
