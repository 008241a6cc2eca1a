/* The template language without Python: text and provenance of small templates, errors, budgets,
 * hostile templates, failing allocations. tests/jinja compares far more with jinja2 itself. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/base/json.h"
#include "engine/base/limits.h"
#include "engine/base/mem.h"
#include "engine/text/chat_template.h"

struct rendering {
    enum status status;
    struct err err;
    struct strbuf text;
    struct strbuf mask;
};

static cJSON *parse(const char *json)
{
    cJSON *v = NULL;
    struct err e;
    if (json_parse(json, strlen(json), &json_default_limits, &v, &e) != STATUS_OK)
        fail_msg("%s: %s", json, e.msg);
    return v;
}

static void render_n(struct rendering *r, const char *template, size_t n, const char *json)
{
    struct chat_template *t = NULL;
    cJSON *vars = parse(json);
    memset(&r->err, 0, sizeof r->err);
    strbuf_init(&r->text, LIMIT_TEMPLATE_OUTPUT_BYTES);
    strbuf_init(&r->mask, LIMIT_TEMPLATE_OUTPUT_BYTES);
    r->status = chat_template_compile(template, n, &t, &r->err);
    if (r->status == STATUS_OK)
        r->status = chat_template_render(t, vars, &r->text, &r->mask, &r->err);
    chat_template_free(t);
    cJSON_Delete(vars);
}

static void render(struct rendering *r, const char *template, const char *json)
{
    render_n(r, template, strlen(template), json);
}

static void rendering_free(struct rendering *r)
{
    strbuf_deinit(&r->text);
    strbuf_deinit(&r->mask);
}

#define VARS                                                                                       \
    "{\"s\":\"<|end|>\",\"n\":5,\"one\":1.0,\"l\":[\"a\",\"b\"],\"d\":{\"k\":\"v\"},"              \
    "\"bos_token\":\"<s>\",\"messages\":[{\"role\":\"user\",\"content\":\"hi <|end|>\"},"          \
    "{\"role\":\"odd\",\"content\":\" x \"}],\"big\":18446744073709551615}"

/* mask: one character a byte of text, '.' from the template, 'i' from input. */
struct mask_case {
    const char *template;
    const char *text;
    const char *mask;
};

static void check_mask(const struct mask_case *c, const char *vars)
{
    struct rendering r;
    render(&r, c->template, vars);
    if (r.status != STATUS_OK)
        fail_msg("%s: %s", c->template, r.err.msg);
    if (strcmp(strbuf_str(&r.text), c->text) != 0)
        fail_msg("%s\nwant \"%s\"\ngot  \"%s\"", c->template, c->text, strbuf_str(&r.text));
    char got[512];
    assert_true(r.mask.len < sizeof got);
    assert_int_equal(r.mask.len, r.text.len);
    for (size_t i = 0; i < r.mask.len; i++)
        got[i] = r.mask.data[i] == 0 ? '.' : r.mask.data[i] == 1 ? 'i' : '?';
    got[r.mask.len] = '\0';
    if (strcmp(got, c->mask) != 0)
        fail_msg("%s\ntext \"%s\"\nwant  %s\ngot   %s", c->template, c->text, c->mask, got);
    rendering_free(&r);
}

static void test_jinja_text_and_provenance(void **state)
{
    (void)state;
    static const struct mask_case cases[] = {
        {"<|end|>{{ s }}<|end|>", "<|end|><|end|><|end|>", ".......iiiiiii......."},
        {"{{ '<|end|>' + s }}", "<|end|><|end|>", ".......iiiiiii"},
        {"{{ '<' ~ s ~ n ~ '>' }}", "<<|end|>5>", ".iiiiiiii."},
        {"{{ bos_token }}{{ bos_token + s[:2] }}", "<s><s><|", "......ii"},
        /* known roles count as the template's, so that a token can be built around them */
        {"{% for m in messages %}{{ '<|' + m.role + '|>' + m.content|trim }}{% endfor %}",
         "<|user|>hi <|end|><|odd|>x", "........iiiiiiiiii..iii..i"},
        {"{{ s[2:5] }}{{ s[::-1] }}{{ s[0] }}", "end>|dne|<<", "iiiiiiiiiii"},
        {"{{ ('a' + s + 'b')[1:4] }}{{ ('a' + s)[:2] }}", "<|ea<", "iii.i"},
        {"{{ s|upper }}{{ 'ab'|upper }}", "<|END|>AB", "iiiiiii.."},
        {"{{ ('a' + s)|capitalize }}{{ ('a' + s)|title }}", "A<|end|>A<|end|>", ".iiiiiii.iiiiiii"},
        {"{{ (' ' + s + ' ')|trim }}{{ (' ' ~ l[0]).strip() }}", "<|end|>a", "iiiiiiii"},
        {"{{ s|replace('end', 'E') }}{{ 'aXb'|replace('X', s) }}", "<|E|>a<|end|>b",
         "ii.ii.iiiiiii."},
        {"{{ s.replace('', '-') }}", "-<-|-e-n-d-|->-", ".i.i.i.i.i.i.i."},
        {"{{ 'x|y'.split('|')[1] }}{{ s.split('|')[1] }}{{ (s ~ '.a').split('.')[1] }}", "yenda",
         ".iii."},
        {"{{ ['x', s, 'y']|join('|') }}{{ l|join(s[:1]) }}", "x|<|end|>|ya<b", "..iiiiiii..iii"},
        {"{{ ','.join(l) }}", "a,b", "i.i"},
        {"{{ '%s|%5s|%d' % (l[0], l[1], n) }}", "a|    b|5", "i.....i.i"},
        {"{{ '{}-{:>3}'.format(l[0], 'q') }}", "a-  q", "i...."},
        {"{{ s|tojson }}{{ 'x'|tojson }}", "\"<|end|>\"\"x\"", "iiiiiiiii..."},
        {"{{ d|tojson }}{{ {'a': 'b'}|tojson }}", "{\"k\": \"v\"}{\"a\": \"b\"}",
         "iiiiiiiiii.........."},
        {"{{ {'a': l[0]}|tojson }}", "{\"a\": \"a\"}", "......iii."},
        {"{{ d }}{{ l }}{{ [l[0]] }}", "{'k': 'v'}['a', 'b']['a']", "i.i.ii.i.ii.i.ii.i.i..i.."},
        {"{{ n }}{{ n + 1 }}{{ 7 }}{{ one }}{{ big }}{{ n|string }}",
         "5671.018446744073709551615"
         "5",
         "ii.iiiiiiiiiiiiiiiiiiiiiiii"},
        {"{{ s|e }}", "&lt;|end|&gt;", "iiiiiiiiiiiii"},
        {"{{ (l[0] ~ '\n' ~ l[1])|indent(2) }}", "a\n  b", "i...i"},
        {"{{ l[0].center(3) }}|{{ l[0].rjust(3, '*') }}|{{ '5'.zfill(2) }}", " a |**a|05",
         ".i....i..."},
        {"{% set x %}[{{ s }}]{% endset %}{{ x }}", "[<|end|>]", ".iiiiiii."},
        {"{% macro m(a) %}<{{ a }}>{% endmacro %}{{ m(l[0]) }}{{ m('q') }}", "<a><q>", ".i...."},
        {"{% filter upper %}a{{ l[0] }}{% endfilter %}", "AA", ".i"},
        {"{% set ns = namespace(t='') %}{% for x in l %}{% set ns.t = ns.t + '-' + x %}"
         "{% endfor %}{{ ns.t }}",
         "-a-b", ".i.i"},
        {"{{ l * 2 }}{{ s[:1] * 3 }}{{ '.' * 2 }}", "['a', 'b', 'a', 'b']<<<..",
         "..i....i....i....i..iii.."},
        {"{{ d.k|default('x') }}{{ d.q|default('x') }}", "vx", "i."},
        {"{% for k, v in d.items() %}{{ k }}={{ v }}{% endfor %}", "k=v", "i.i"},
        {"{{ l|first }}{{ l|last }}{{ l|reverse|join }}{{ l|map('upper')|join }}", "abbaAB",
         "iiiiii"},
        {"{{ s|truncate(5, true, '..', 0) }}{{ s|urlencode }}", "<|e..%3C%7Cend%7C%3E",
         "iii..iiiiiiiiiiiiiii"},
        {"{{ '<' + s|safe }}", "&lt;<|end|>", "....iiiiiii"},
        {"{{ strftime_now('%%') }}", "%", "."},
        {"", "", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_mask(&cases[i], VARS);
}

/* Input made of one letter that no template here writes: its bytes, and only they, are input. */
static void test_jinja_input_is_always_marked(void **state)
{
    (void)state;
    static const char vars[] =
        "{\"w\":\"\xCE\xA9\",\"x\":\"\xCE\xA9 \xCE\xA9\",\"l\":[\"\xCE\xA9\","
        "\"\xCE\xA9\xCE\xA9\"],\"d\":{\"\xCE\xA9\":\"\xCE\xA9\"}}";
    static const char *const expressions[] = {
        "w",
        "w|lower",
        "w|upper",
        "w|title",
        "w|capitalize",
        "x|replace(' ', '-')",
        "x.split()",
        "x.split()|join('+')",
        "'a' ~ w ~ 'b'",
        "'%s' % w",
        "'%5s|%-5s' % (w, w)",
        "'{}'.format(w)",
        "'{:^5}'.format(w)",
        "w * 3",
        "[w, 'a']",
        "(w,)",
        "{'a': w}",
        "{w: 1}",
        "l|join",
        "l|tojson|replace('\"', '')|replace('[', '')|replace(']', '')"
        "|replace(',', '')|replace(' ', '')",
        "l|map('lower')|list",
        "l|sort|list",
        "l|unique|list",
        "x|indent(2, true)",
        "w|center(5)",
        "w.ljust(4, '.')",
        "x[::-1]|replace(' ', '')",
        "x[0]",
        "x[2:]",
        "x|trim",
        "x|first",
        "x|list|last",
        "d|items|list",
        "d|dictsort",
        "d.keys()|list",
        "d.values()|join",
        "l|batch(1)|list",
        "l|groupby(0)|list",
        "x.partition(' ')",
        "x.rsplit(' ', 1)",
        "x.splitlines()",
        "w|e",
        "w|default('')",
        "(w|safe) + '<'",
        "x|wordcount",
        "'aXb'.replace('X', w)",
        "l|min ~ l|max",
        "w.swapcase()",
        "'-'.join(l)",
        "dict(a=w).a",
        "namespace(a=w).a",
        "namespace(a=w)",
        "cycler(w).next()",
        "joiner(w)() ~ w",
        "l|select('string')|list",
        "l|map('replace', w, 'z')|list",
        "w|truncate(1, true, '', 0)",
        "x|capitalize|title",
        "w.encode is defined",
        "[[w]]|tojson(indent=1)",
        "'%r' % (w,)",
    };
    for (size_t i = 0; i < sizeof expressions / sizeof expressions[0]; i++) {
        struct rendering r;
        char template[256];
        snprintf(template, sizeof template, "<{{ %s }}>{%% set z = %s %%}{{ z }}", expressions[i],
                 expressions[i]);
        render(&r, template, vars);
        if (r.status != STATUS_OK)
            fail_msg("%s: %s", template, r.err.msg);
        for (size_t k = 0; k < r.text.len; k++) {
            bool letter = (unsigned char)r.text.data[k] >= 0x80;
            /* text that an input value was turned into as a whole may be marked around it */
            bool around = strstr(expressions[i], "tojson") || strstr(expressions[i], "d|items");
            if (letter ? r.mask.data[k] != 1
                       : r.mask.data[k] != 0 && !around && r.text.data[k] != ' ')
                fail_msg("%s: byte %zu of \"%s\" is marked %d", template, k, strbuf_str(&r.text),
                         r.mask.data[k]);
        }
        rendering_free(&r);
    }
}

struct error_case {
    const char *template;
    enum status status;
    const char *message; /* a part of it; NULL-terminated whole when it begins with '=' */
};

static void test_jinja_errors(void **state)
{
    (void)state;
    static const struct error_case cases[] = {
        {"{{ raise_exception('Only one: ' ~ n) }}", STATUS_INVALID, "=Only one: 5"},
        {"\n\n{{ missing.x }}", STATUS_INVALID, "=chat template line 3: 'missing' is undefined"},
        {"{{ d.q.x }}", STATUS_INVALID, "'dict object' has no attribute 'q'"},
        {"{{ none.x.y }}", STATUS_INVALID, "'None' has no attribute 'x'"},
        {"{{ 1 + 'a' }}", STATUS_INVALID, "unsupported operand type(s) for +: 'int' and 'str'"},
        {"{{ l.append(1) }}", STATUS_INVALID, "attribute 'append' of 'list' object is unsafe"},
        {"{{ ''.__class__.x }}", STATUS_INVALID, "unsafe"},
        {"{{ 9223372036854775807 + 1 }}", STATUS_INVALID, "64 bits"},
        {"{% if %}", STATUS_BAD_FILE, "line 1"},
        {"a\nb\n{% if x %}", STATUS_BAD_FILE, "line 3: unexpected end of template"},
        {"{{ 'abc }}", STATUS_BAD_FILE, "line 1"},
        {"{{ x|nosuch }}", STATUS_BAD_FILE, "no filter 'nosuch'"},
        {"{{ x is nosuch }}", STATUS_BAD_FILE, "no test 'nosuch'"},
        {"{{ x|urlize }}", STATUS_UNSUPPORTED, "filter 'urlize' is not supported"},
        {"{% include 'a' %}", STATUS_UNSUPPORTED, "include is not supported"},
        {"{% extends 'a' %}", STATUS_UNSUPPORTED, "extends"},
        {"{% import 'a' as b %}", STATUS_UNSUPPORTED, "import"},
        {"{% block a %}{% endblock %}", STATUS_UNSUPPORTED, "block"},
        {"{{ self }}", STATUS_UNSUPPORTED, "self"},
        {"{% break %}", STATUS_BAD_FILE, "outside loop"},
        {"\xff", STATUS_BAD_FILE, "UTF-8"},
        {"{{ 99999999999999999999 }}", STATUS_BAD_FILE, "64 bits"},
        {"{{ '\\ud800' }}", STATUS_BAD_FILE, "bad escape"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct error_case *c = &cases[i];
        struct rendering r;
        render(&r, c->template, VARS);
        bool same = c->message[0] == '=' ? strcmp(r.err.msg, c->message + 1) == 0
                                         : strstr(r.err.msg, c->message) != NULL;
        if (r.status != c->status || !same)
            fail_msg("%s: status %d \"%s\", want %d \"%s\"", c->template, r.status, r.err.msg,
                     c->status, c->message);
        rendering_free(&r);
    }
}

/* Under sanitizers the time budget may win every race. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SLOW_BUILD true
#else
#define SLOW_BUILD false
#endif

/* Each must end by a budget, soon, whatever it asks for. `budget`: a word of the message; NULL
 * where steps and time race. */
static void test_jinja_budgets(void **state)
{
    (void)state;
    static const struct {
        const char *budget;
        const char *template;
    } templates[] = {
        {"steps", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"},
        {"called itself", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"},
        {"called itself",
         "{% macro m(x) %}{% call m(x) %}{% endcall %}{{ caller() }}{% endmacro %}{{ m(1) }}"},
        {"called itself", "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}"},
        {"memory", "{{ 'a' * 99999999999 }}"},
        {"memory", "{{ [0] * 99999999999 }}"},
        {"bytes", "{% set x = 'a' * 9000000 %}{{ x ~ x }}"},
        {"bytes", "{% for i in range(999) %}{{ 'x' * 99999 }}{% endfor %}"},
        {"memory",
         "{% set ns = namespace(s='a') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}"
         "{% endfor %}"},
        {NULL, "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}"
               "{% endfor %}"},
        {"nested",
         "{% set ns = namespace(s=[1]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}"
         "{% endfor %}{{ ns.s }}"},
        {"nested",
         "{% set ns = namespace(s=[1]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}"
         "{% endfor %}{{ ns.s|tojson }}"},
        {"nested",
         "{% set ns = namespace(s=[1], t=[1]) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}"
         "{% set ns.t = [ns.t] %}{% endfor %}{{ ns.s == ns.t }}"},
        {"nested",
         "{% set ns = namespace(s=(1,)) %}{% for i in range(9999) %}{% set ns.s = (ns.s,) %}"
         "{% endfor %}{{ {ns.s: 1} }}"},
        {"nested", "{% set ns = namespace(s=['a']) %}{% for i in range(9999) %}"
                   "{% set ns.s = ns.s|map('upper') %}{% endfor %}{{ ns.s|list }}"},
        {NULL,
         "{% set x = 'abc' * 300000 %}{% for i in range(9999) %}{% set y = x|upper %}{% endfor %}"},
        {NULL, "{% set x = 'ab' * 900000 %}{% for i in range(9999) %}{{ 'b' * 900000 in x }}{% "
               "endfor %}"},
        {NULL, "{% set x = ['a'] * 90000 %}{% for i in range(9999) %}{{ 'b' in x }}{% endfor %}"},
        {NULL,
         "{% set x = ['a'] * 90000 %}{% for i in range(9999) %}{% set y = x|sort %}{% endfor %}"},
        {NULL, "{% set x = 'a ' * 900000 %}{% for i in range(9999) %}{% set y = x.split() %}{% "
               "endfor %}"},
        {"200 ms", "{% set x = 'ab' * 900000 %}{% set y = 'a' ~ 'b' * 900000 %}"
                   "{% for i in range(9999) %}{% if y in x %}{% endif %}{% endfor %}"},
        {"memory", "{{ 'a'.ljust(9999999999) }}"},
        {"memory", "{{ 'a'|center(9999999999) }}"},
        {"memory", "{{ 'a'|indent(9999999999) }}"},
        {NULL, "{{ '%s'|format(['a' * 9000000] * 20) }}"},
        {NULL, "{{ ('a' * 3000000)|replace('', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb') }}"},
        {NULL, "{{ ('a' * 3000000)|list|length }}"},
        {NULL, "{{ (('a' * 4000).rfind('a' * 1999 ~ 'b' ~ 'a' * 1999) ~ '')|length }}{% for i in "
               "range(9999) %}{{ ('a' * 90000).rfind('a' * 20000 ~ 'b') }}{% endfor %}"},
        {NULL, "{{ [1]|batch(99999999999, 'x')|list }}"},
        {NULL, "{{ [1]|slice(99999999999)|list }}"},
        {NULL,
         "{{ dict.fromkeys(range(99999)|list + range(99999)|list + range(99999)|list)|length }}"
         "{% for i in range(99) %}{% set y = dict.fromkeys(range(99999)) %}{% endfor %}"},
        {NULL, "{% set ns = namespace(d={}) %}{% for i in range(99999) %}"
               "{% set ns.d = dict(ns.d, **{i|string: i}) %}{% endfor %}"},
        {NULL, "{% for i in range(99999) %}{{ 'a' * 99 }}{% endfor %}{% for i in range(99999) %}"
               "{{ 'a' * 99 }}{% endfor %}"},
    };
    for (size_t i = 0; i < sizeof templates / sizeof templates[0]; i++) {
        struct rendering r;
        int64_t begin = clock_thread_cpu_ns();
        render(&r, templates[i].template, "{}");
        int64_t ms = (clock_thread_cpu_ns() - begin) / 1000000;
        bool named =
            strstr(r.err.msg, templates[i].budget ? templates[i].budget : "chat template") ||
            (SLOW_BUILD && strstr(r.err.msg, "200 ms"));
        if (r.status != STATUS_LIMIT || !named)
            fail_msg("%s: status %d \"%s\" after %d ms", templates[i].template, r.status, r.err.msg,
                     (int)ms);
        /* the time budget, what one operation may take before it is looked at, and sanitizers */
        if (ms > 10 * LIMIT_TEMPLATE_TIME_MS)
            fail_msg("%s: %d ms", templates[i].template, (int)ms);
        rendering_free(&r);
    }
}

/* head, `n` times middle, tail */
static char *repeat(const char *head, const char *middle, size_t n, const char *tail)
{
    struct strbuf b;
    strbuf_init(&b, (size_t)16 << 20);
    strbuf_puts(&b, head);
    for (size_t i = 0; i < n; i++)
        strbuf_puts(&b, middle);
    strbuf_puts(&b, tail);
    char *text = strbuf_take(&b);
    assert_non_null(text);
    return text;
}

/* Sources that nest or go on and on: refused or rendered, never a crash. */
static void test_jinja_hostile_sources(void **state)
{
    (void)state;
    static const struct {
        const char *head, *middle, *tail;
        size_t n;
        enum status want;
    } cases[] = {
        {"{{ ", "(", "", 100000, STATUS_LIMIT},
        {"{{ ", "[", "", 100000, STATUS_LIMIT},
        {"{{ ", "{1:", "", 100000, STATUS_LIMIT},
        {"{{ ", "- ", "1 }}", 100000, STATUS_LIMIT},
        {"{{ ", "not ", "1 }}", 100000, STATUS_LIMIT},
        {"{{ a", ".a", " }}", 100000, STATUS_LIMIT},
        {"{{ a", "[0]", " }}", 100000, STATUS_LIMIT},
        {"{{ a", "()", " }}", 100000, STATUS_LIMIT},
        {"{{ a", "|trim", " }}", 100000, STATUS_LIMIT},
        {"{{ a", " is string()", " }}", 100000, STATUS_LIMIT},
        {"{{ 1", " if 1 else 1", " }}", 100000, STATUS_LIMIT},
        {"{{ 1", " if 1", " }}", 100000, STATUS_LIMIT},
        {"{{ f(", "f(", "", 100000, STATUS_LIMIT},
        {"", "{% if 1 %}", "", 50000, STATUS_LIMIT},
        {"", "{% for x in y %}", "", 50000, STATUS_LIMIT},
        {"", "{% macro m() %}", "", 50000, STATUS_LIMIT},
        {"", "{% set x %}", "", 50000, STATUS_LIMIT},
        {"{% set ", "(", "", 100000, STATUS_LIMIT},
        {"{% for ", "(", "", 100000, STATUS_LIMIT},
        {"{% set x", "|trim", " %}", 100000, STATUS_LIMIT},
        {"", "{{", "", 300000, STATUS_LIMIT},
        {"", "{%", "", 300000, STATUS_BAD_FILE},
        {"", "{#", "", 300000, STATUS_BAD_FILE},
        {"", "{% raw %}", "", 100000, STATUS_BAD_FILE},
        {"{{ ", "'a' ", "}}", 200000, STATUS_LIMIT},
        {"{{ 1", " + 1", " }}", 100000, STATUS_OK},
        {"{{ 1", " ~ 1", " }}", 100000, STATUS_OK},
        {"{{ 1", " and 1", " }}", 100000, STATUS_OK},
        {"{{ 1", " < 2", " }}", 100000, STATUS_OK},
        {"{% if 0 %}", "{% elif 0 %}", "{% endif %}", 50000, STATUS_OK},
        {"", "{{ 1 }}", "", 20000, STATUS_OK},
        {"", "{#-#}", "", 200000, STATUS_OK},
        {"{{ [", "1,", "] }}", 200000, STATUS_OK},
        {"{{ {", "1:1,", "} }}", 200000, STATUS_OK},
        {"", "a", "", LIMIT_TEMPLATE_SOURCE_BYTES + 1, STATUS_LIMIT},
        {"", " \n", "{%- set x = 1 -%}", 400000, STATUS_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rendering r;
        char *source = repeat(cases[i].head, cases[i].middle, cases[i].n, cases[i].tail);
        render(&r, source, "{\"a\":\"x\"}");
        if (r.status != cases[i].want)
            fail_msg("%s%s...: status %d \"%s\", want %d", cases[i].head, cases[i].middle, r.status,
                     r.err.msg, cases[i].want);
        rendering_free(&r);
        mem_free(source);
    }
}

static const char rich[] =
    "{%- macro field(k, v='-') -%}<{{ k }}={{ v|tojson }}>{%- endmacro -%}"
    "{%- set ns = namespace(text='', n=0) -%}"
    "{%- for m in messages -%}{%- set ns.text = ns.text ~ m.role|upper ~ ':' ~ m.content|trim -%}"
    "{%- set ns.n = ns.n + loop.index -%}{%- endfor -%}"
    "{{ ns.text }}{{ field('n', ns.n) }}{{ d|dictsort }}{{ l|map('upper')|sort|join('+') }}"
    "{{ '%5.1f|%s' % (one, s) }}{{ '{:>9}'.format(s) }}{% set x %}{{ s * 40 }}{% endset %}"
    "{{ x|replace('e', 'EE')|indent }}{% for k, v in d.items() %}{{ k }}{{ v }}{% endfor %}";

/* The k-th allocation fails, for every k: a clean error or the same text, and nothing leaks. */
static void test_jinja_failing_allocations(void **state)
{
    (void)state;
    struct rendering whole;
    render(&whole, rich, VARS);
    assert_int_equal(whole.status, STATUS_OK);
    cJSON *vars = parse(VARS);
    bool failed = true;
    int k = 0;
    while (failed) {
        struct chat_template *t = NULL;
        struct strbuf text;
        struct strbuf mask;
        struct err e = {0};
        strbuf_init(&text, LIMIT_TEMPLATE_OUTPUT_BYTES);
        strbuf_init(&mask, LIMIT_TEMPLATE_OUTPUT_BYTES);
        mem_fail_at(++k);
        enum status st = chat_template_compile(rich, sizeof rich - 1, &t, &e);
        if (st == STATUS_OK)
            st = chat_template_render(t, vars, &text, &mask, &e);
        mem_fail_at(0);
        failed = st != STATUS_OK;
        if (failed)
            assert_int_equal(st, STATUS_NO_MEMORY);
        else
            assert_string_equal(strbuf_str(&text), strbuf_str(&whole.text));
        chat_template_free(t);
        strbuf_deinit(&text);
        strbuf_deinit(&mask);
    }
    assert_true(k > 5);
    cJSON_Delete(vars);
    rendering_free(&whole);
}

struct job {
    const struct chat_template *t;
    const cJSON *vars;
    const char *want;
    bool same;
};

static void *render_often(void *arg)
{
    struct job *job = arg;
    job->same = true;
    for (int i = 0; i < 50; i++) {
        struct strbuf text;
        struct err e;
        strbuf_init(&text, LIMIT_TEMPLATE_OUTPUT_BYTES);
        enum status st = chat_template_render(job->t, job->vars, &text, NULL, &e);
        job->same = job->same && st == STATUS_OK && strcmp(strbuf_str(&text), job->want) == 0;
        strbuf_deinit(&text);
    }
    return NULL;
}

static void test_jinja_threads_share_a_template(void **state)
{
    (void)state;
    struct rendering whole;
    struct chat_template *t;
    struct err e;
    render(&whole, rich, VARS);
    cJSON *vars = parse(VARS);
    assert_int_equal(chat_template_compile(rich, sizeof rich - 1, &t, &e), STATUS_OK);
    struct job jobs[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        jobs[i] = (struct job){.t = t, .vars = vars, .want = strbuf_str(&whole.text)};
        assert_int_equal(pthread_create(&threads[i], NULL, render_often, &jobs[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_true(jobs[i].same);
    }
    chat_template_free(t);
    cJSON_Delete(vars);
    rendering_free(&whole);
}

/* A long conversation through a template that builds text piece by piece. */
static void test_jinja_long_conversations_fit(void **state)
{
    (void)state;
    static const char template[] =
        "{% set ns = namespace(t='') %}{% for m in messages %}"
        "{% set ns.t = ns.t + '<|im_start|>' + m.role + '\n' + m.content.strip() + '<|im_end|>\n' "
        "%}"
        "{% if '</think>' in m.content %}{% set c = m.content.split('</think>')[-1] %}{% endif %}"
        "{% endfor %}{{ ns.t }}";
    struct strbuf json;
    strbuf_init(&json, (size_t)16 << 20);
    strbuf_puts(&json, "{\"messages\":[");
    for (int i = 0; i < 2000; i++) {
        strbuf_printf(&json, "%s{\"role\":\"%s\",\"content\":\"", i ? "," : "",
                      i % 2 ? "assistant" : "user");
        for (int k = 0; k < 100; k++)
            strbuf_puts(&json, "some words ");
        strbuf_puts(&json, "\"}");
    }
    strbuf_puts(&json, "]}");
    struct rendering r;
    int64_t begin = clock_thread_cpu_ns();
    render(&r, template, strbuf_str(&json));
    printf("figure: jinja: %zu bytes of conversation in %.1f ms\n", r.text.len,
           (double)(clock_thread_cpu_ns() - begin) / 1e6);
    if (r.status != STATUS_OK)
        fail_msg("%s", r.err.msg);
    assert_true(r.text.len > 2000000);
    rendering_free(&r);
    strbuf_deinit(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jinja_text_and_provenance),
        cmocka_unit_test(test_jinja_input_is_always_marked),
        cmocka_unit_test(test_jinja_errors),
        cmocka_unit_test(test_jinja_budgets),
        cmocka_unit_test(test_jinja_hostile_sources),
        cmocka_unit_test(test_jinja_failing_allocations),
        cmocka_unit_test(test_jinja_threads_share_a_template),
        cmocka_unit_test(test_jinja_long_conversations_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
