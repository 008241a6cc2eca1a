/* schema_parts: what the files of the schema compiler share. Nobody else includes it.
 *
 * The unit of work is a set of schemas that all apply to one value (what $ref, allOf and
 * properties of several allOf members come to): a list of parts. Each different set becomes a
 * rule, made when it is first asked for and defined later from a queue, so neither recursive nor
 * deep schemas recurse here. schema.c keeps sets and combines; schema_object.c, schema_array.c,
 * schema_string.c and schema_number.c make the expression of one type from the plain schemas of a
 * set.
 */
#ifndef CHORUS_GRAMMAR_SCHEMA_PARTS_H
#define CHORUS_GRAMMAR_SCHEMA_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "engine/base/status.h"
#include "engine/grammar/grammar_build.h"
#include "engine/grammar/regular.h"
#include "engine/grammar/schema.h"

enum part_kind {
    PART_SCHEMA, /* all of this schema */
    PART_PLAIN,  /* its keywords but $ref, allOf, anyOf, oneOf */
    PART_CHOICE  /* one of the schemas of this array */
};

struct schema_part {
    const cJSON *node;
    enum part_kind kind;
};

struct schema_parts {
    struct schema_part *items; /* owned */
    size_t count, cap;
};

struct schema_set {
    size_t first, count; /* in schema_ctx.parts */
    int rule;
    uint32_t next; /* of the same hash + 1 */
};

#define SCHEMA_HASH 4096

struct schema_ctx {
    struct grammar_builder *b;
    struct regular *r; /* owned */
    const cJSON *root;
    struct schema_options o;
    int64_t deadline_cpu_ns;
    struct schema_parts parts; /* of all sets */
    struct schema_set *sets;   /* owned; also the queue */
    size_t sets_count, sets_cap, sets_done;
    uint32_t heads[SCHEMA_HASH];
    /* Rules that many share, -1 until asked for. */
    int value_rule, object_rule, array_rule, string_rule, char_rule, key_rule, number_rule,
        integer_rule, gap_rule;
};

/* Types of JSON values; a "number" is an integer or not. */
enum {
    TYPE_NULL = 1,
    TYPE_BOOLEAN = 2,
    TYPE_INTEGER = 4,
    TYPE_FRACTION = 8, /* numbers that are no integers */
    TYPE_STRING = 16,
    TYPE_ARRAY = 32,
    TYPE_OBJECT = 64,
    TYPE_NUMBER = TYPE_INTEGER | TYPE_FRACTION,
    TYPE_ALL = 127
};

/* Tells the builder what is wrong with `keyword` of the schema `node` (NULL: no keyword); -1. */
int schema_fail(struct schema_ctx *c, enum status code, const cJSON *node, const char *keyword,
                const char *fmt, ...) PRINTF_LIKE(5, 6);
/* Hands on an error whose message gets the place. */
int schema_fail_at(struct schema_ctx *c, const struct err *e, const cJSON *node,
                   const char *keyword);
/* False, and the builder failed, where memory is out. */
bool schema_parts_add(struct schema_ctx *c, struct schema_parts *p, const cJSON *node,
                      enum part_kind kind);
/* The reference to the rule of this set of schemas. None at all: any value. */
int schema_value(struct schema_ctx *c, const struct schema_part *parts, size_t n);
/* A whole number from 0 to `max` under this keyword; larger ones become max. False: not there
 * (or bad, which the builder was told). */
bool schema_count(struct schema_ctx *c, const cJSON *node, const char *keyword, int max, int *out);
/* A schema that is false. */
bool schema_is_never(const cJSON *schema);
/* The expression of a string with its quotes, or of one JSON value, spelled as REGULAR_JSON. */
int schema_text(struct schema_ctx *c, const char *text);
int schema_literal(struct schema_ctx *c, const cJSON *value);

/* Expressions of one type. `plain`: PART_PLAIN parts only. */
int schema_object(struct schema_ctx *c, const struct schema_part *plain, size_t n);
int schema_array(struct schema_ctx *c, const struct schema_part *plain, size_t n);
int schema_string(struct schema_ctx *c, const struct schema_part *plain, size_t n);
/* `types`: TYPE_INTEGER or TYPE_NUMBER. */
int schema_number(struct schema_ctx *c, const struct schema_part *plain, size_t n, int types);

/* Values of an enum against the other keywords. */
bool schema_string_allows(struct schema_ctx *c, const struct schema_part *plain, size_t n,
                          const char *text);
bool schema_number_allows(struct schema_ctx *c, const struct schema_part *plain, size_t n,
                          const cJSON *value);
/* A number as JSON that reads back the same. */
void schema_number_text(const cJSON *value, char out[64]);

/* Shared expressions. */
int schema_any(struct schema_ctx *c);        /* any value */
int schema_any_object(struct schema_ctx *c); /* any object */
int schema_any_string(struct schema_ctx *c); /* any string with its quotes */
int schema_char(struct schema_ctx *c);       /* one character of a string, in any spelling */
int schema_gap(struct schema_ctx *c);        /* white space behind { [ , and before } ] */
int schema_comma(struct schema_ctx *c);      /* a comma and its gap */
int schema_colon(struct schema_ctx *c);      /* a colon and its space */
/* A string of a framed language, with its quotes; `node` and `keyword` say where it is from. */
int schema_quoted(struct schema_ctx *c, uint32_t lang, int anything, const cJSON *node,
                  const char *keyword);

#endif
