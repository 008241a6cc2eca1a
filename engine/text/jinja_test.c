/* Tests: {{ x is name(args) }}. */
#include "engine/text/jinja_filter.h"

#include "engine/text/jinja_iter.h"
#include "engine/text/jinja_ops.h"
#include "engine/text/jinja_print.h"
#include "engine/text/jinja_text.h"

static bool give(bool holds, struct jinja_value *out)
{
    *out = jinja_bool(holds);
    return true;
}

/* value % n == remainder */
static bool test_remainder(struct jinja_run *r, struct jinja_value v, struct jinja_value n,
                           int64_t remainder, struct jinja_value *out)
{
    struct jinja_value mod;
    bool holds;
    return jinja_arith(r, JINJA_MOD, v, n, &mod) &&
           jinja_eq(r, mod, jinja_int(remainder), &holds) && give(holds, out);
}

static bool test_odd(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return test_remainder(r, c->self, jinja_int(2), 1, out);
}

static bool test_even(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return test_remainder(r, c->self, jinja_int(2), 0, out);
}

static bool test_divisibleby(struct jinja_run *r, const struct jinja_call *c,
                             struct jinja_value *out)
{
    return test_remainder(r, c->self, c->a[0], 0, out);
}

static bool test_defined(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    return give(c->self.type != JINJA_UNDEFINED, out);
}

static bool test_undefined(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    return give(c->self.type == JINJA_UNDEFINED, out);
}

static bool test_none(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    return give(c->self.type == JINJA_NONE, out);
}

static bool test_boolean(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    return give(c->self.type == JINJA_BOOL, out);
}

static bool test_true(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    return give(c->self.type == JINJA_BOOL && c->self.b, out);
}

static bool test_false(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    return give(c->self.type == JINJA_BOOL && !c->self.b, out);
}

static bool test_integer(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    return give(c->self.type == JINJA_INT || c->self.type == JINJA_BIG, out);
}

static bool test_float(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    return give(c->self.type == JINJA_FLOAT, out);
}

static bool test_number(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    return give(jinja_is_number(c->self) || c->self.type == JINJA_BIG, out);
}

static bool test_string(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    return give(c->self.type == JINJA_STR, out);
}

static bool test_escaped(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    return give(c->self.type == JINJA_STR && c->self.s->markup, out);
}

static bool test_mapping(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    return give(c->self.type == JINJA_DICT, out);
}

static bool test_iterable(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    return give(jinja_is_iterable(c->self), out);
}

/* What has a length and takes an index: dicts and undefined values too. */
static bool test_sequence(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    return give(jinja_has_len(c->self) && c->self.type != JINJA_VIEW, out);
}

static bool test_callable(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    uint8_t t = c->self.type;
    return give(t == JINJA_MACRO || t == JINJA_FUNCTION || t == JINJA_METHOD || t == JINJA_LOOP ||
                    t == JINJA_JOINER || t == JINJA_UNDEFINED,
                out);
}

static bool case_of(struct jinja_run *r, const struct jinja_call *c, bool want_upper,
                    struct jinja_value *out)
{
    const struct jinja_str *s;
    bool upper;
    bool lower;
    return jinja_to_str(r, c->self, &s) && jinja_text_case_of(r, s, &upper, &lower) &&
           give(want_upper ? upper : lower, out);
}

static bool test_upper(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return case_of(r, c, true, out);
}

static bool test_lower(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return case_of(r, c, false, out);
}

static bool test_sameas(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    return give(jinja_same(c->self, c->a[0]), out);
}

static bool compare(struct jinja_run *r, const struct jinja_call *c, enum jinja_op op,
                    struct jinja_value *out)
{
    bool holds;
    return jinja_compare(r, op, c->self, c->a[0], &holds) && give(holds, out);
}

static bool test_in(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return compare(r, c, JINJA_IN, out);
}

static bool test_eq(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return compare(r, c, JINJA_EQ, out);
}

static bool test_ne(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return compare(r, c, JINJA_NE, out);
}

static bool test_lt(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return compare(r, c, JINJA_LT, out);
}

static bool test_le(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return compare(r, c, JINJA_LE, out);
}

static bool test_gt(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return compare(r, c, JINJA_GT, out);
}

static bool test_ge(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    return compare(r, c, JINJA_GE, out);
}

static bool test_filter(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    return give(c->self.type == JINJA_STR && jinja_filter_find(c->self.s) != NULL, out);
}

static bool test_test(struct jinja_run *r, const struct jinja_call *c, struct jinja_value *out)
{
    (void)r;
    return give(c->self.type == JINJA_STR && jinja_test_find(c->self.s) != NULL, out);
}

static const struct jinja_builtin tests[] = {
    {"defined", "", 0, test_defined},
    {"none", "", 0, test_none},
    {"string", "", 0, test_string},
    {"mapping", "", 0, test_mapping},
    {"iterable", "", 0, test_iterable},
    {"sequence", "", 0, test_sequence},
    {"undefined", "", 0, test_undefined},
    {"true", "", 0, test_true},
    {"false", "", 0, test_false},
    {"boolean", "", 0, test_boolean},
    {"number", "", 0, test_number},
    {"integer", "", 0, test_integer},
    {"float", "", 0, test_float},
    {"callable", "", 0, test_callable},
    {"odd", "", 0, test_odd},
    {"even", "", 0, test_even},
    {"divisibleby", "num", 1, test_divisibleby},
    {"lower", "", 0, test_lower},
    {"upper", "", 0, test_upper},
    {"sameas", "other", 1, test_sameas},
    {"escaped", "", 0, test_escaped},
    {"filter", "", 0, test_filter},
    {"test", "", 0, test_test},
    {"in", "seq", 1, test_in},
    {"equalto", "other /", 1, test_eq},
    {"eq", "other /", 1, test_eq},
    {"==", "other /", 1, test_eq},
    {"ne", "other /", 1, test_ne},
    {"!=", "other /", 1, test_ne},
    {"lt", "other /", 1, test_lt},
    {"lessthan", "other /", 1, test_lt},
    {"<", "other /", 1, test_lt},
    {"le", "other /", 1, test_le},
    {"<=", "other /", 1, test_le},
    {"gt", "other /", 1, test_gt},
    {"greaterthan", "other /", 1, test_gt},
    {">", "other /", 1, test_gt},
    {"ge", "other /", 1, test_ge},
    {">=", "other /", 1, test_ge},
};

const struct jinja_builtin *jinja_test_find(const struct jinja_str *name)
{
    return jinja_builtin_find(tests, sizeof tests / sizeof tests[0], name);
}

bool jinja_test_call(struct jinja_run *r, struct jinja_value name, struct jinja_value input,
                     const struct jinja_args *args, bool *out)
{
    const struct jinja_builtin *fn = name.type == JINJA_STR ? jinja_test_find(name.s) : NULL;
    const struct jinja_str *text;
    struct jinja_value v;
    if (!fn)
        return jinja_repr(r, name, &text) &&
               jinja_raise(r, "No test named %.*s.", (int)(text->len < 64 ? text->len : 64),
                           text->data);
    if (!jinja_call_builtin(r, fn, input, args, &v))
        return false;
    *out = jinja_truth(v);
    return true;
}
