/* jinja_str: text of the template language: UTF-8 bytes, and for each byte whether it came from
 * input.
 *
 * Strings are immutable; slices share the bytes. The mask has two constant forms (all from the
 * template, all from input), so only a string that mixes both pays for one byte a byte. Everything
 * lives in the arena of its owner: of the template (constants, fully measured, shared by threads)
 * or of one render (one thread).
 *
 * Lengths and indices that templates see count code points.
 */
#ifndef CHORUS_TEXT_JINJA_STR_H
#define CHORUS_TEXT_JINJA_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

struct jinja_run;
struct jinja_grow;

#define JINJA_CPS_UNKNOWN SIZE_MAX

struct jinja_str {
    const char *data;       /* shared, not terminated */
    const uint8_t *mask;    /* [len] 0/1; JINJA_FROM_TEMPLATE or JINJA_FROM_INPUT */
    size_t len;             /* bytes */
    size_t cps;             /* code points, or JINJA_CPS_UNKNOWN */
    struct jinja_grow *own; /* block whose used part ends where this string ends; or NULL */
    bool markup;            /* made by safe or escape: escapes what is added to it */
};

#define JINJA_FROM_TEMPLATE ((const uint8_t *)0)
extern const uint8_t jinja_from_input[1];
#define JINJA_FROM_INPUT (jinja_from_input)

/* A string under construction in the arena of a render. Errors are raised in `run` and sticky. */
struct jinja_buf {
    struct jinja_run *run;
    struct jinja_grow *grow;
    size_t len;
    bool failed;
};

void jinja_buf_init(struct jinja_buf *b, struct jinja_run *run);
/* n bytes with their mask (either constant or n bytes). */
void jinja_buf_add(struct jinja_buf *b, const char *s, size_t n, const uint8_t *mask);
void jinja_buf_str(struct jinja_buf *b, const struct jinja_str *s);
/* Text of the implementation (counts as template text). */
void jinja_buf_puts(struct jinja_buf *b, const char *s);
void jinja_buf_fill(struct jinja_buf *b, char c, size_t n);
void jinja_buf_cp(struct jinja_buf *b, uint32_t cp, bool input);
/* False when an append failed (then run->err is filled). */
WARN_UNUSED bool jinja_buf_finish(struct jinja_buf *b, const struct jinja_str **out);

/* Borrows data. NULL: out of memory, raised in run. */
const struct jinja_str *jinja_str_wrap(struct jinja_run *run, const char *data, size_t n,
                                       const uint8_t *mask);
/* A terminated string that outlives the render. */
const struct jinja_str *jinja_str_static(struct jinja_run *run, const char *s);
/* Bytes [from, to) of s, sharing them. */
const struct jinja_str *jinja_str_sub(struct jinja_run *run, const struct jinja_str *s, size_t from,
                                      size_t to);
/* The same text with or without the markup property. */
const struct jinja_str *jinja_str_markup(struct jinja_run *run, const struct jinja_str *s,
                                         bool markup);
/* a + b. Appends in place when a is the end of its own block, so that building a text piece by
 * piece costs its length. */
const struct jinja_str *jinja_str_concat(struct jinja_run *run, const struct jinja_str *a,
                                         const struct jinja_str *b);
/* s n times (n <= 0: empty); over the memory budget it raises before allocating. */
const struct jinja_str *jinja_str_repeat(struct jinja_run *run, const struct jinja_str *s,
                                         int64_t n);

size_t jinja_str_cps(const struct jinja_str *s);
/* Byte offset of code point `index` (<= cps). */
size_t jinja_str_offset(const struct jinja_str *s, size_t index);
/* Code points in the first `bytes` bytes. */
size_t jinja_str_index(const struct jinja_str *s, size_t bytes);
/* The code point at a byte offset, *len bytes long. */
uint32_t jinja_str_cp(const struct jinja_str *s, size_t at, size_t *len);
/* 1 when byte `at` came from input. */
bool jinja_str_is_input(const struct jinja_str *s, size_t at);
/* Mask of the bytes from `at` on. */
const uint8_t *jinja_str_mask_at(const struct jinja_str *s, size_t at);
bool jinja_str_eq(const struct jinja_str *a, const struct jinja_str *b);
bool jinja_str_is(const struct jinja_str *s, const char *text);
int jinja_str_cmp(const struct jinja_str *a, const struct jinja_str *b);
/* Byte offset of needle at or behind `from`, or -1. */
int64_t jinja_str_find(const struct jinja_str *s, const struct jinja_str *needle, size_t from);
/* Byte offset of the last needle that ends at or before `end`, or -1. */
WARN_UNUSED bool jinja_str_rfind(struct jinja_run *run, const struct jinja_str *s,
                                 const struct jinja_str *needle, size_t end, int64_t *out);

#endif
