/* regex_parse: a regular expression (what ECMA 262 and RE2 have in common) as a regular language.
 *
 * Classes, escapes (\d \w \s \D \W \S over ASCII, but \s as ECMA; \t \n \r \f \v \0 \xHH \uHHHH
 * \u{...} \cX, \p{L} and the other general categories), groups (capturing, named or not), | * + ?
 * {m,n} (lazy ones too, which are the same language), dot (no line break), anchors anywhere,
 * lookaheads outside of groups. What looks around elsewhere, refers back, or sets flags is
 * STATUS_UNSUPPORTED and named.
 */
#ifndef CHORUS_GRAMMAR_REGEX_PARSE_H
#define CHORUS_GRAMMAR_REGEX_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"
#include "engine/grammar/regular.h"

/* The framed language (regular.h) of texts that the pattern matches: the whole of them, or (not
 * `whole`) any part. STATUS_UNSUPPORTED, STATUS_INVALID with the byte offset, or what regular.h
 * says. */
WARN_UNUSED enum status regex_parse(struct regular *r, const char *pattern, size_t n, bool whole,
                                    uint32_t *out, struct err *e);

#endif
