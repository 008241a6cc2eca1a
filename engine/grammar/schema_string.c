/* Strings: length, pattern and format are regular languages, and all at once their intersection.
 * Without pattern or format a length is counted by the matcher, which costs nothing. */
#include "engine/grammar/schema_parts.h"

#include <limits.h>
#include <string.h>

#include "engine/base/limits.h"
#include "engine/base/strbuf.h"
#include "engine/grammar/regex_parse.h"
#include "engine/grammar/regular_build.h"

#define LENGTH_MAX 1000000

/* Formats as patterns of the whole text. `but`: no text that this one matches. */
struct format {
    const char *name, *pattern, *but;
};

#define DATE                                                                                       \
    "([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|"      \
    "02-(0[1-9]|1[0-9]|2[0-8]))|"                                                                  \
    "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)"
#define TIME                                                                                       \
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?"                                     \
    "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define LABEL "[A-Za-z0-9]+(-+[A-Za-z0-9]+)*"
#define H16   "[0-9A-Fa-f]{1,4}"
#define OCTET "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define PCHAR "([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"

static const struct format formats[] = {
    {"date", DATE, "0000-.*"},
    {"time", TIME, NULL},
    {"date-time", DATE "T" TIME, "0000-.*"},
    {"duration",
     "P([0-9]+W|([0-9]+Y([0-9]+M([0-9]+D)?)?|[0-9]+M([0-9]+D)?|[0-9]+D)?"
     "(T([0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)?|[0-9]+S))?)",
     "P"},
    {"uuid", "[0-9A-Fa-f]{8}-([0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}", NULL},
    {"email", "[A-Za-z0-9_+-]+(\\.[A-Za-z0-9_+-]+)*@(" LABEL "\\.)+[A-Za-z]{2,}", NULL},
    {"hostname", LABEL "(\\." LABEL ")*", ".{64}.*"},
    {"ipv4", OCTET "(\\." OCTET "){3}", NULL},
    {"ipv6",
     "(" H16 ":){7}" H16 "|(" H16 ":){1,7}:|(" H16 ":){1,6}:" H16 "|(" H16 ":){1,5}(:" H16
     "){1,2}|(" H16 ":){1,4}(:" H16 "){1,3}|(" H16 ":){1,3}(:" H16 "){1,4}|(" H16 ":){1,2}(:" H16
     "){1,5}|" H16 ":(:" H16 "){1,6}|:((:" H16 "){1,7}|:)",
     NULL},
    {"uri",
     "[A-Za-z][A-Za-z0-9+.-]*:(//" LABEL "(\\." LABEL ")*(:[0-9]{1,5})?(/" PCHAR "*)*|" PCHAR
     "+(/" PCHAR "*)*)(\\?(" PCHAR "|[/?])*)?(#(" PCHAR "|[/?])*)?",
     NULL},
    {"uri-reference",
     "([A-Za-z][A-Za-z0-9+.-]*://" LABEL "(\\." LABEL ")*(:[0-9]{1,5})?)?(/|(/?" PCHAR
     "+))?(/" PCHAR "*)*(\\?(" PCHAR "|[/?])*)?(#(" PCHAR "|[/?])*)?",
     "//.*|[^/?#]*:([^/].*|/[^/].*|/)?"},
    {"json-pointer", "(/([^/~]|~[01])*)*", NULL},
};

/* What a schema says of strings. */
struct text_bounds {
    int min, max;  /* characters; max REGULAR_NO_MAX: none */
    uint32_t lang; /* of patterns and formats, framed; REGULAR_ALL: none */
};

static uint32_t whole(struct schema_ctx *c, const char *pattern)
{
    uint32_t lang = REGULAR_NONE;
    struct err e;
    if (regex_parse(c->r, pattern, strlen(pattern), true, &lang, &e) != STATUS_OK)
        grammar_build_fail(c->b, &e);
    return lang;
}

static void add_format(struct schema_ctx *c, const char *name, struct text_bounds *t)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const struct format *f = &formats[i];
        if (strcmp(f->name, name) != 0)
            continue;
        t->lang = regular_and(c->r, t->lang, whole(c, f->pattern));
        if (f->but)
            t->lang = regular_and(c->r, t->lang, regular_not(c->r, whole(c, f->but)));
    }
}

static bool bounds_of(struct schema_ctx *c, const struct schema_part *plain, size_t n,
                      struct text_bounds *t)
{
    *t = (struct text_bounds){.max = REGULAR_NO_MAX, .lang = REGULAR_ALL};
    for (size_t i = 0; i < n; i++) {
        const cJSON *node = plain[i].node;
        int v;
        if (schema_count(c, node, "minLength", LENGTH_MAX, &v) && v > t->min)
            t->min = v;
        if (schema_count(c, node, "maxLength", INT_MAX, &v) && v <= LENGTH_MAX &&
            (t->max == REGULAR_NO_MAX || v < t->max))
            t->max = v;
        const cJSON *p = cJSON_GetObjectItemCaseSensitive(node, "pattern");
        if (p && !cJSON_IsString(p)) {
            schema_fail(c, STATUS_INVALID, node, "pattern", "must be a string");
        } else if (p) {
            struct err e;
            uint32_t lang = REGULAR_NONE;
            if (regex_parse(c->r, p->valuestring, strlen(p->valuestring), false, &lang, &e) !=
                STATUS_OK)
                schema_fail_at(c, &e, node, "pattern");
            t->lang = regular_and(c->r, t->lang, lang);
        }
        const cJSON *f = cJSON_GetObjectItemCaseSensitive(node, "format");
        if (f && !cJSON_IsString(f))
            schema_fail(c, STATUS_INVALID, node, "format", "must be a string");
        else if (f)
            add_format(c, f->valuestring, t);
    }
    return !grammar_build_failed(c->b);
}

static uint32_t length_lang(struct schema_ctx *c, const struct text_bounds *t)
{
    return regular_frame(c->r, regular_repeat(c->r, REGULAR_ANY, t->min, t->max));
}

int schema_quoted(struct schema_ctx *c, uint32_t lang, int anything, const cJSON *node,
                  const char *keyword)
{
    int text, quote = grammar_build_text(c->b, "\"");
    struct err e;
    if (regular_build(c->b, c->r, lang, REGULAR_JSON, anything, "string", &text, &e) != STATUS_OK)
        return schema_fail_at(c, &e, node, keyword);
    return grammar_build_seq3(c->b, quote, text, quote);
}

/* The first of these keywords that is there; for messages. */
static const cJSON *where(const struct schema_part *plain, size_t n, const char **keyword)
{
    static const char *const known[] = {"pattern", "format"};
    for (size_t k = 0; k < sizeof known / sizeof *known; k++)
        for (size_t i = 0; i < n; i++) {
            *keyword = known[k];
            if (cJSON_GetObjectItemCaseSensitive(plain[i].node, known[k]))
                return plain[i].node;
        }
    return NULL;
}

int schema_text(struct schema_ctx *c, const char *text)
{
    static const char codes[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
    struct strbuf out;
    strbuf_init(&out, LIMIT_HTTP_BODY_BYTES);
    strbuf_putc(&out, '"');
    for (const char *p = text; *p; p++) {
        const char *at = strchr(codes, *p);
        if (at) {
            strbuf_putc(&out, '\\');
            strbuf_putc(&out, names[at - codes]);
        } else if ((uint8_t)*p < 0x20) {
            strbuf_printf(&out, "\\u%04x", (unsigned)*p);
        } else {
            strbuf_putc(&out, *p);
        }
    }
    strbuf_putc(&out, '"');
    int expr = out.failed ? schema_fail(c, STATUS_NO_MEMORY, NULL, NULL, "out of memory")
                          : grammar_build_literal(c->b, strbuf_str(&out), out.len);
    strbuf_deinit(&out);
    return expr;
}

int schema_string(struct schema_ctx *c, const struct schema_part *plain, size_t n)
{
    struct text_bounds t;
    if (!bounds_of(c, plain, n, &t))
        return -1;
    if (t.max != REGULAR_NO_MAX && t.min > t.max)
        return grammar_build_never(c->b);
    if (t.lang != REGULAR_ALL) {
        if (t.min || t.max != REGULAR_NO_MAX)
            t.lang = regular_and(c->r, t.lang, length_lang(c, &t));
        const char *keyword = NULL;
        const cJSON *node = where(plain, n, &keyword);
        return schema_quoted(c, t.lang, schema_char(c), node, keyword);
    }
    if (!t.min && t.max == REGULAR_NO_MAX)
        return schema_any_string(c);
    int quote = grammar_build_text(c->b, "\"");
    return grammar_build_seq3(
        c->b, quote,
        grammar_build_repeat(c->b, schema_char(c), t.min,
                             t.max == REGULAR_NO_MAX ? GRAMMAR_NO_MAX : t.max),
        quote);
}

bool schema_string_allows(struct schema_ctx *c, const struct schema_part *plain, size_t n,
                          const char *text)
{
    struct text_bounds t;
    if (!bounds_of(c, plain, n, &t))
        return false;
    int length = 0;
    for (const char *p = text; *p; p++)
        length += (*p & 0xC0) != 0x80;
    if (length < t.min || (t.max != REGULAR_NO_MAX && length > t.max))
        return false;
    return t.lang == REGULAR_ALL || regular_matches(c->r, t.lang, text, strlen(text));
}
