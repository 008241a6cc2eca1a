/* grammar_build: writes a grammar, expression by expression. One owner, one thread.
 *
 * Two kinds of numbers: an expression (what grammar_build_literal, _seq, ... return) and a rule.
 * Expressions form a tree or a DAG: one may be used in several places, each use is a copy of its
 * code; what is large, recursive or used often should be a rule, which exists once. A rule may be
 * referred to before it is defined, and may refer to itself in any position, left recursion too.
 *
 * Errors are sticky: after the first failure every call returns -1 and does nothing, arguments of
 * -1 are accepted, and grammar_build_finish tells the first error. So a compiler on top of this
 * checks once at its end. Limits: LIMIT_GRAMMAR_RULES, _DEPTH (expressions inside each other),
 * _CODE (copies included); over them: STATUS_LIMIT with the rule's name.
 */
#ifndef CHORUS_GRAMMAR_GRAMMAR_BUILD_H
#define CHORUS_GRAMMAR_GRAMMAR_BUILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/grammar/grammar.h"

struct grammar_builder;

/* Code points first .. last, both included; surrogates in between are left out. */
struct grammar_range {
    uint32_t first;
    uint32_t last;
};

#define GRAMMAR_NO_MAX (-1)

WARN_UNUSED enum status grammar_builder_create(struct grammar_builder **out);
/* NULL is allowed. */
void grammar_builder_destroy(struct grammar_builder *b);

/* The first failure, given from outside too (a compiler's own error, so that everything stops). Its
 * parameter and message are copied; later ones are ignored. Returns -1. */
int grammar_build_fail(struct grammar_builder *b, const struct err *e);
bool grammar_build_failed(const struct grammar_builder *b);

/* ---- rules ---- */

/* A new rule. The name is copied, for messages; NULL: none. */
int grammar_build_rule(struct grammar_builder *b, const char *name);
/* The rule of this name, made where there is none (len bytes of name). */
int grammar_build_rule_named(struct grammar_builder *b, const char *name, size_t len);
/* Once for each rule. A rule that was defined already is STATUS_INVALID. */
void grammar_build_define(struct grammar_builder *b, int rule, int expr);
bool grammar_build_defined(const struct grammar_builder *b, int rule);
/* Wraps an expression into a rule of its own and returns a reference to it. */
int grammar_build_as_rule(struct grammar_builder *b, const char *name, int expr);

/* ---- expressions ---- */

int grammar_build_ref(struct grammar_builder *b, int rule);
/* Matches nothing but the empty string / no string at all. */
int grammar_build_empty(struct grammar_builder *b);
int grammar_build_never(struct grammar_builder *b);
/* These bytes, any bytes; n may be 0. */
int grammar_build_literal(struct grammar_builder *b, const char *bytes, size_t n);
int grammar_build_text(struct grammar_builder *b, const char *text);
/* One byte of first .. last. */
int grammar_build_byte(struct grammar_builder *b, uint8_t first, uint8_t last);
/* One code point in UTF-8 out of the ranges (any order, may overlap); `negated`: out of all others.
 * No ranges: never, or negated any code point. */
int grammar_build_chars(struct grammar_builder *b, const struct grammar_range *ranges, size_t count,
                        bool negated);
int grammar_build_seq(struct grammar_builder *b, const int *parts, size_t count); /* 0: empty */
int grammar_build_seq2(struct grammar_builder *b, int first, int second);
int grammar_build_seq3(struct grammar_builder *b, int first, int second, int third);
int grammar_build_alt(struct grammar_builder *b, const int *parts, size_t count); /* 0: never */
int grammar_build_alt2(struct grammar_builder *b, int one, int other);
int grammar_build_optional(struct grammar_builder *b, int part);
/* min .. max times, max GRAMMAR_NO_MAX: without bound. Large bounds cost no copies: they are
 * counted while matching. min > max: never. */
int grammar_build_repeat(struct grammar_builder *b, int part, int min, int max);

/* ---- the end ---- */

/* Compiles what `root` reaches. The builder is only good for destroy afterwards. STATUS_INVALID (a
 * rule is referred to but not defined; no string at all matches), STATUS_LIMIT, STATUS_NO_MEMORY,
 * or what grammar_build_fail was told. */
WARN_UNUSED enum status grammar_build_finish(struct grammar_builder *b, int root,
                                             struct grammar **out, struct err *e);

#endif
