/* jinja_value: values of the template language, as Python has them.
 *
 * Plain data in the arena of one render (constants: in that of the template). All values are
 * immutable except namespaces, iterators, loops, cyclers and joiners, so copies share. One thread.
 */
#ifndef CHORUS_TEXT_JINJA_VALUE_H
#define CHORUS_TEXT_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "engine/base/status.h"
#include "engine/text/jinja_str.h"

enum jinja_type {
    JINJA_MISSING, /* no value: an argument that was not given, a name that is not bound */
    JINJA_UNDEFINED,
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_BIG, /* an integer of the input beyond 64 bits: digits that can be printed and compared */
    JINJA_FLOAT,
    JINJA_STR,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_DICT,
    JINJA_RANGE,
    JINJA_VIEW, /* dict.keys() ... */
    JINJA_ITER, /* consumed as it is read: generators, reversed */
    JINJA_NAMESPACE,
    JINJA_MACRO,
    JINJA_FUNCTION,
    JINJA_METHOD,
    JINJA_LOOP,
    JINJA_CYCLER,
    JINJA_JOINER,
};

struct jinja_value {
    uint8_t type;  /* enum jinja_type */
    uint8_t input; /* number, bool or none of the input: its text counts as input */
    union {
        bool b;
        int64_t i;
        double f;
        const struct jinja_str *s; /* STR, BIG */
        const struct jinja_undefined *undefined;
        const struct jinja_seq *seq; /* LIST, TUPLE */
        const struct jinja_dict *dict;
        const struct jinja_range *range;
        const struct jinja_view *view;
        struct jinja_iter *iter;
        struct jinja_dict *ns; /* NAMESPACE, and a dict under construction */
        const struct jinja_macro *macro;
        const struct jinja_builtin *function;
        const struct jinja_method *method;
        struct jinja_loop *loop;
        struct jinja_cycler *cycler;
        struct jinja_joiner *joiner;
    };
};

struct jinja_undefined {
    const char *hint; /* terminated; or NULL: built from obj and name */
    const struct jinja_str *name;
    struct jinja_value obj;   /* MISSING: a plain name */
    struct jinja_value index; /* MISSING: name is meant */
    bool unsafe;              /* the sandbox hid an attribute */
};

struct jinja_seq {
    const struct jinja_value *items; /* [count] */
    size_t count;
    bool input; /* came from input: brackets and commas of its text count as input */
    bool group; /* a tuple of groupby: has the attributes grouper and list */
};

struct jinja_entry {
    struct jinja_value key;
    struct jinja_value value;
    uint64_t hash;
};

/* Keeps insertion order; an index is built once it is worth it. */
struct jinja_dict {
    struct jinja_entry *entries; /* [count] */
    size_t count;
    size_t cap;
    uint32_t *index; /* [index_cap], entry + 1 or 0; open addressing */
    size_t index_cap;
    bool input;
};

struct jinja_range {
    int64_t start;
    int64_t stop;
    int64_t step;
    int64_t count; /* start + (count - 1) * step is its last value and fits */
};

enum jinja_view_kind { JINJA_VIEW_KEYS, JINJA_VIEW_VALUES, JINJA_VIEW_ITEMS };
struct jinja_view {
    enum jinja_view_kind kind;
    const struct jinja_dict *dict;
};

struct jinja_method {
    const struct jinja_builtin *fn; /* shared, static */
    struct jinja_value self;
};

struct jinja_cycler {
    const struct jinja_value *items;
    size_t count;
    size_t pos;
};

struct jinja_joiner {
    struct jinja_value sep;
    bool used;
};

static inline struct jinja_value jinja_none(void)
{
    return (struct jinja_value){.type = JINJA_NONE};
}
static inline struct jinja_value jinja_bool(bool b)
{
    return (struct jinja_value){.type = JINJA_BOOL, .b = b};
}
static inline struct jinja_value jinja_int(int64_t i)
{
    return (struct jinja_value){.type = JINJA_INT, .i = i};
}
static inline struct jinja_value jinja_float(double f)
{
    return (struct jinja_value){.type = JINJA_FLOAT, .f = f};
}
/* s must not be NULL. */
static inline struct jinja_value jinja_of_str(const struct jinja_str *s)
{
    return (struct jinja_value){.type = JINJA_STR, .s = s};
}

#endif
